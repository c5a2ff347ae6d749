//! The internet of a lab: its hosts, and the public addresses by which instances are known there.

use minivpc_model::*;
use serde_saphyr::Spanned;

use super::instance::{Interface, sysctls};
use super::{Builder, at, found};
use crate::Guest;
use crate::file;
use crate::mistake::Mistake;

impl Builder<'_> {
    pub(super) fn host(&mut self, name: &Spanned<String>, host: &file::Host) -> Result<(), Mistake> {
        let id = self.id(host.id.as_ref(), HostId::from_seed, &["host", &name.value])?;
        let (plain_network, control) = (false, false);
        let guest = Guest { sysctls: sysctls(&host.sysctls)?, run: host.run.clone(), plain_network, control };
        self.lab.guests.insert(GuestId::Host(id), guest);
        let request = CreateHost {
            id,
            name: name.value.clone(),
            address: host.address.value.0,
            mac: MacAddress::from_seed(self.seed(&["mac", "host", &name.value])),
            serve: host.serve.clone(),
            origin: self.origin(at(name)),
        };
        self.apply(Op::CreateHost(request), at(name), &[("Address", Some(at(&host.address)))])
    }

    /// Elastic IP addresses stand for an interface's private ones, in their order (IGW-7).
    pub(super) fn associate(
        &mut self,
        network_interface: NetworkInterfaceId,
        interface: &Interface<'_>,
    ) -> Result<(), Mistake> {
        let primary = interface.elastic_ip.map(|elastic_ip| (0, elastic_ip));
        let more = interface.more_elastic_ips.iter().zip(1..).map(|(more, n)| (n, more));
        for (at_address, elastic_ip) in primary.into_iter().chain(more) {
            let allocation = found(elastic_ip, self.world().find_elastic_ip(None, &elastic_ip.value))?;
            let held = self.world().network_interface(network_interface).ok();
            let Some(private_ip) = held.and_then(|eni| eni.addresses().nth(at_address)) else {
                let message = "there is no secondary private address for this one to stand for";
                return Err(Mistake::new(at(elastic_ip), message).help("add one to secondary_private_ips"));
            };
            let (private_ip, allow_reassociation) = (Some(private_ip), false);
            let op = Op::AssociateAddress { allocation, network_interface, private_ip, allow_reassociation };
            self.apply(op, at(elastic_ip), &[])?;
        }
        Ok(())
    }
}
