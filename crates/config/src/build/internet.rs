//! What is outside all VPCs: the internet's hosts, and the public addresses by which instances are known there;
//! customers' sites.

use std::net::Ipv4Addr;

use minivpc_model::*;
use serde_saphyr::Spanned;

use super::instance::{Interface, sysctls};
use super::{Builder, at, found, tags, v4};
use crate::Guest;
use crate::file::{self, GuestNetwork};
use crate::mistake::Mistake;

impl Builder<'_> {
    /// At the far end of its VPN connection, a customer's network.
    pub(super) fn customer_site(&mut self, name: &Spanned<String>, site: &file::CustomerSite) -> Result<(), Mistake> {
        let vpn_gateway = &site.virtual_private_gateway;
        let [first, ..] = site.cidrs.as_slice() else {
            let mistake = Mistake::new(at(name), format!("'{}' has no addresses", name.value));
            return Err(mistake.help("add `cidrs: [ 192.168.0.0/16 ]`"));
        };
        let router = site.router.as_ref().map(|router| router.value.0);
        let connection = VpnConnection {
            id: self.id(site.id.as_ref(), VpnConnectionId::from_seed, &["vpn", &name.value])?,
            vpn_gateway: found(vpn_gateway, self.world().find_vpn_gateway(None, &vpn_gateway.value))?,
            static_routes: Vec::new(),
            router: router.or(v4(first)?.hosts().next()).unwrap_or(Ipv4Addr::UNSPECIFIED),
            tags: tags(name, &site.tags)?,
            origin: self.origin(at(name)),
        };
        let id = connection.id;
        let router = ("Router", site.router.as_ref().map(at));
        // With its first block, in which its router is if none is given, and the others one by one: each has a place.
        let all = site.cidrs.iter().map(|cidr| Ok((at(cidr), v4(cidr)?))).collect::<Result<Vec<_>, Mistake>>()?;
        let with_router = all.iter().position(|(_, block)| block.contains(&connection.router)).unwrap_or_default();
        let home = all[with_router];
        let op = Op::CreateVpnConnection(VpnConnection { static_routes: vec![home.1], ..connection });
        self.apply(op, at(name), &[("DestinationCidrBlock", Some(home.0)), router])?;
        for (place, destination) in all.iter().enumerate().filter(|(n, _)| *n != with_router).map(|(_, block)| block) {
            let op = Op::CreateVpnConnectionRoute { connection: id, destination: *destination };
            self.apply(op, *place, &[])?;
        }
        for (host_name, host) in &site.hosts.0 {
            self.host(Some((id, &name.value)), host_name, host)?;
        }
        Ok(())
    }

    /// On the internet, or in a site.
    pub(super) fn host(
        &mut self,
        site: Option<(VpnConnectionId, &str)>,
        name: &Spanned<String>,
        host: &file::Host,
    ) -> Result<(), Mistake> {
        let path: Vec<_> =
            ["host"].into_iter().chain(site.map(|(_, site)| site)).chain([name.value.as_str()]).collect();
        let id = self.id(host.id.as_ref(), HostId::from_seed, &path)?;
        let (network, control) = (GuestNetwork::Amazon, false);
        let guest = Guest { sysctls: sysctls(&host.sysctls)?, run: host.run.clone(), network, control };
        self.lab.guests.insert(GuestId::Host(id), guest);
        let request = CreateHost {
            id,
            name: name.value.clone(),
            site: site.map(|(id, _)| id),
            address: host.address.value.0,
            mac: MacAddress::from_seed(self.seed(&[&["mac"], &path[..]].concat())),
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
