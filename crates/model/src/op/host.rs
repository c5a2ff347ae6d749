//! Hosts outside all VPCs. AWS knows no such resource: they are the lab's.

use std::net::Ipv4Addr;

use crate::id::HostId;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::{Host, MacAddress, Origin, Service};
use crate::world::World;

/// Parameters of [`Op::CreateHost`](super::Op::CreateHost).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateHost {
    /// Its id.
    pub id: HostId,
    /// Its name in DNS.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its MAC address.
    pub mac: MacAddress,
    /// What it answers by itself.
    pub serve: Vec<Service>,
    /// Where it came from.
    pub origin: Origin,
}

/// Longest name of a host, as in DNS (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 253;

/// Letters, digits and hyphens between dots.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= LONGEST_NAME && name.split('.').all(label)
}

impl World {
    pub(super) fn create_host(&mut self, new: CreateHost) -> Result<(), Refusal> {
        let CreateHost { id, name, address, mac, serve, origin } = new;
        self.unused(self.hosts.contains_key(&id), id)?;
        if !is_host_name(&name) {
            let message = format!("'{name}' can't be the name of a host: letters, digits and '-' between dots");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "Name", message));
        }
        self.check_public(address)?;
        let serial = self.next_serial();
        self.hosts.insert(id, Host { id, serial, name, address, mac, serve, origin });
        Ok(())
    }

    pub(super) fn delete_host(&mut self, id: HostId) -> Result<(), Refusal> {
        self.host(id)?;
        self.hosts.remove(&id);
        Ok(())
    }
}
