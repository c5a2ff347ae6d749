//! Hosts outside all VPCs, on the internet and in customers' sites. AWS knows no such resource: they are the lab's.

use std::net::Ipv4Addr;

use super::vpn::is_ones;
use crate::id::{HostId, VpnConnectionId};
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::{Host, MacAddress, Origin, Service};
use crate::world::World;

/// Parameters of [`Op::CreateHost`](super::Op::CreateHost).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateHost {
    /// Its id.
    pub id: HostId,
    /// Its name, on the internet that in DNS.
    pub name: String,
    /// At the far end of which VPN connection it is; none is the internet.
    pub site: Option<VpnConnectionId>,
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
        let CreateHost { id, name, site, address, mac, serve, origin } = new;
        self.unused(self.hosts.contains_key(&id), id)?;
        if !is_host_name(&name) {
            let message = format!("'{name}' can't be the name of a host: letters, digits and '-' between dots");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "Name", message));
        }
        match site {
            None => self.check_public(address)?,
            Some(site) => self.check_in_site(site, address)?,
        }
        let serial = self.next_serial();
        self.hosts.insert(id, Host { id, serial, name, site, address, mac, serve, origin });
        Ok(())
    }

    fn check_in_site(&self, id: VpnConnectionId, address: Ipv4Addr) -> Result<(), Refusal> {
        let refuse = |code, message| Err(Refusal::new(code, "Address", message));
        let site = self.vpn_connection(id)?;
        if !site.static_routes.iter().any(|block| is_ones(*block, address)) {
            let message = format!("Address {address} is none of the site's");
            return refuse(ErrorCode::InvalidParameterValue, message);
        }
        let holder = self.hosts.values().find(|host| host.site == Some(id) && host.address == address);
        let holder = holder.map(|host| host.name.as_str()).or((site.router == address).then_some("the site's router"));
        match holder {
            Some(holder) => {
                refuse(ErrorCode::InvalidIpAddressInUse, format!("Address {address} is in use by {holder}"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn delete_host(&mut self, id: HostId) -> Result<(), Refusal> {
        self.host(id)?;
        self.hosts.remove(&id);
        Ok(())
    }
}
