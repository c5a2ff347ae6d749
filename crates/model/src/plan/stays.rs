//! What can stay as it is; all else is made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::Planner;
use crate::id::*;
use crate::resource::*;
use crate::world::World;

impl Planner<'_> {
    pub(super) fn vpc_stays(&self, id: VpcId) -> bool {
        let same = |a: &Vpc, b: &Vpc| (a.cidr, &a.region) == (b.cidr, &b.region);
        both(&self.world.vpcs, &self.wanted.vpcs, id).is_some_and(|(a, b)| same(a, b))
    }

    pub(super) fn dhcp_options_stay(&self, id: DhcpOptionsId) -> bool {
        let same = |(a, b): (&DhcpOptions, &DhcpOptions)| a.configuration == b.configuration;
        both(&self.world.dhcp_options, &self.wanted.dhcp_options, id).is_some_and(same)
    }

    /// One that loses all its VPCs loses the last when others have come; if one of these VPCs goes to another zone of its
    /// name, or comes from one, the zone is deleted and made anew.
    pub(super) fn hosted_zone_stays(&self, id: HostedZoneId) -> bool {
        let trades = |has: &HostedZone, wanted: &HostedZone| {
            let meets = |other: &HostedZone, vpcs: &BTreeSet<VpcId>| {
                other.id != id && other.name == has.name && !other.vpcs.is_disjoint(vpcs)
            };
            self.wanted.hosted_zones().any(|other| meets(other, &has.vpcs))
                || self.world.hosted_zones().any(|other| meets(other, &wanted.vpcs))
        };
        let stays = |(a, b): (&HostedZone, &HostedZone)| a.name == b.name && (self.keeps_a_vpc(a) || !trades(a, b));
        both(&self.world.hosted_zones, &self.wanted.hosted_zones, id).is_some_and(stays)
    }

    pub(super) fn keeps_a_vpc(&self, zone: &HostedZone) -> bool {
        let wanted = self.wanted.hosted_zones.get(&zone.id);
        wanted.is_some_and(|wanted| !wanted.vpcs.is_disjoint(&zone.vpcs))
    }

    pub(super) fn subnet_stays(&self, id: SubnetId) -> bool {
        let place = |s: &Subnet| (s.vpc, s.cidr, s.availability_zone.clone());
        let same = |(a, b)| place(a) == place(b) && self.vpc_stays(a.vpc);
        both(&self.world.subnets, &self.wanted.subnets, id).is_some_and(same)
    }

    pub(super) fn interface_stays(&self, id: NetworkInterfaceId) -> bool {
        let manager = |eni: &NetworkInterface| eni.attachment.filter(|_| eni.is_requester_managed());
        // A load balancer's nobody may change.
        let managed = |eni: &NetworkInterface| {
            let parts = (eni.groups.clone(), eni.source_dest_check, eni.secondary_private_ips.clone());
            matches!(eni.attachment, Some(Attachment::LoadBalancer(_))).then_some(parts)
        };
        let place = |eni: &NetworkInterface| (eni.subnet, eni.mac, eni.private_ip, manager(eni));
        let same = |(a, b)| place(a) == place(b) && managed(a) == managed(b) && self.subnet_stays(a.subnet);
        both(&self.world.network_interfaces, &self.wanted.network_interfaces, id).is_some_and(same)
    }

    pub(super) fn instance_stays(&self, instance: &Instance) -> bool {
        let primary = |instance: &Instance| instance.network_interfaces.first().copied();
        let parts = |instance: &Instance| (instance.image, primary(instance));
        // A running one has run those that it has.
        let same_data = |other: &Instance| !instance.is_running() || instance.user_data == other.user_data;
        let same = |other: &Instance| parts(instance) == parts(other) && same_data(other);
        let wanted = self.wanted.instances.get(&instance.id).filter(|wanted| !wanted.is_terminated());
        wanted.is_some_and(same) && primary(instance).is_some_and(|eni| self.interface_stays(eni))
    }

    pub(super) fn nat_gateway_stays(&self, gateway: &NatGateway) -> bool {
        let parts = |nat: &NatGateway| (nat.subnet, nat.network_interface, nat.connectivity.clone());
        let addresses = |world: &World| {
            let eni = world.network_interfaces.get(&gateway.network_interface);
            eni.map(|eni| eni.secondary_private_ips.clone())
        };
        let wanted = self.wanted.nat_gateways.get(&gateway.id).filter(|wanted| wanted.is_available());
        wanted.is_some_and(|other| parts(gateway) == parts(other))
            && addresses(&self.world) == addresses(self.wanted)
            && self.interface_stays(gateway.network_interface)
            && self.addresses_stay(&gateway.connectivity)
    }

    fn addresses_stay(&self, connectivity: &Connectivity) -> bool {
        match connectivity {
            Connectivity::Private => true,
            Connectivity::Public(allocations) => allocations.iter().all(|id| self.address_stays(*id)),
        }
    }

    pub(super) fn address_stays(&self, id: AllocationId) -> bool {
        both(&self.world.addresses, &self.wanted.addresses, id).is_some_and(|(a, b)| a.public_ip == b.public_ip)
    }

    pub(super) fn internet_gateway_stays(&self, id: InternetGatewayId) -> bool {
        let same = |(a, b): (&InternetGateway, &InternetGateway)| a.vpc == b.vpc && self.vpc_stays(a.vpc);
        both(&self.world.internet_gateways, &self.wanted.internet_gateways, id).is_some_and(same)
    }

    pub(super) fn vpn_gateway_stays(&self, id: VpnGatewayId) -> bool {
        let same = |(a, b): (&VpnGateway, &VpnGateway)| a.vpc == b.vpc && self.vpc_stays(a.vpc);
        both(&self.world.vpn_gateways, &self.wanted.vpn_gateways, id).is_some_and(same)
    }

    /// Old blocks go before new ones come, and its router is always in one.
    pub(super) fn vpn_connection_stays(&self, id: VpnConnectionId) -> bool {
        let parts = |connection: &VpnConnection| (connection.vpn_gateway, connection.router);
        let same = |(a, b): (&VpnConnection, &VpnConnection)| {
            parts(a) == parts(b) && self.vpn_gateway_stays(a.vpn_gateway) && self.block_stays(id, a.router)
        };
        both(&self.world.vpn_connections, &self.wanted.vpn_connections, id).is_some_and(same)
    }

    /// Is the address in a block that the site keeps?
    pub(super) fn block_stays(&self, id: VpnConnectionId, address: Ipv4Addr) -> bool {
        let kept = |(a, b): (&VpnConnection, &VpnConnection)| {
            a.static_routes.iter().any(|block| block.contains(&address) && b.static_routes.contains(block))
        };
        both(&self.world.vpn_connections, &self.wanted.vpn_connections, id).is_some_and(kept)
    }

    pub(super) fn host_stays(&self, id: HostId) -> bool {
        let parts = |host: &Host| (host.name.clone(), host.site, host.address, host.mac, host.serve.clone());
        let site_stays =
            |a: &Host| a.site.is_none_or(|site| self.vpn_connection_stays(site) && self.block_stays(site, a.address));
        let same = |(a, b)| parts(a) == parts(b) && site_stays(a);
        both(&self.world.hosts, &self.wanted.hosts, id).is_some_and(same)
    }

    /// Where an interface is to be attached.
    pub(super) fn place_at_instance(&self, id: NetworkInterfaceId) -> Option<(InstanceId, u8)> {
        self.wanted.network_interfaces.get(&id).and_then(at)
    }
}

/// Where an interface is attached.
pub(super) fn at(eni: &NetworkInterface) -> Option<(InstanceId, u8)> {
    eni.instance().zip(eni.device_index())
}

/// What both worlds have under an id.
fn both<'a, Id: Ord, T>(a: &'a BTreeMap<Id, T>, b: &'a BTreeMap<Id, T>, id: Id) -> Option<(&'a T, &'a T)> {
    Some((a.get(&id)?, b.get(&id)?))
}
