//! All resources of a lab, and how to find them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;

/// All resources of a lab. Reading is free; changing goes through [`World::apply`](crate::World::apply).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct World {
    pub(crate) vpcs: BTreeMap<VpcId, Vpc>,
    pub(crate) dhcp_options: BTreeMap<DhcpOptionsId, DhcpOptions>,
    pub(crate) hosted_zones: BTreeMap<HostedZoneId, HostedZone>,
    pub(crate) subnets: BTreeMap<SubnetId, Subnet>,
    pub(crate) route_tables: BTreeMap<RouteTableId, RouteTable>,
    pub(crate) security_groups: BTreeMap<SecurityGroupId, SecurityGroup>,
    pub(crate) network_acls: BTreeMap<NetworkAclId, NetworkAcl>,
    pub(crate) internet_gateways: BTreeMap<InternetGatewayId, InternetGateway>,
    pub(crate) vpn_gateways: BTreeMap<VpnGatewayId, VpnGateway>,
    pub(crate) vpn_connections: BTreeMap<VpnConnectionId, VpnConnection>,
    pub(crate) addresses: BTreeMap<AllocationId, Address>,
    pub(crate) network_interfaces: BTreeMap<NetworkInterfaceId, NetworkInterface>,
    pub(crate) nat_gateways: BTreeMap<NatGatewayId, NatGateway>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) hosts: BTreeMap<HostId, Host>,
    pub(crate) last_serial: u32,
    /// Addresses of Amazon's pool that were lent so far.
    pub(crate) last_public: u32,
}

/// AWS's `State` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteState {
    /// Its target is there.
    Active,
    /// Its target is gone.
    Blackhole,
}

/// Who holds a private address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressOwner {
    /// Nobody can: one of the subnet's five.
    Reserved,
    /// An interface.
    NetworkInterface(NetworkInterfaceId),
}

/// A public address that stands for a private one (IGW-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicAddress {
    /// The public one.
    pub public_ip: Ipv4Addr,
    /// Whose.
    pub network_interface: NetworkInterfaceId,
    /// The private one.
    pub private_ip: Ipv4Addr,
}

macro_rules! tables {
    ($($(#[doc = $doc:literal])* $all:ident, $get:ident: $id:ident => $resource:ident, $code:ident, $parameter:literal, $kind:literal;)*) => {
        impl World {$(
            $(#[doc = $doc])*
            pub fn $all(&self) -> impl Iterator<Item = &$resource> {
                self.$all.values()
            }

            /// The one with this id.
            ///
            /// # Errors
            /// AWS's code for an id that names nothing.
            pub fn $get(&self, id: $id) -> Result<&$resource, Refusal> {
                self.$all.get(&id).ok_or_else(|| Refusal::not_found(ErrorCode::$code, $parameter, $kind, id))
            }
        )*}
    };
}

tables! {
    /// All VPCs, by id.
    vpcs, vpc: VpcId => Vpc, InvalidVpcIdNotFound, "VpcId", "vpc";
    /// All sets of DHCP options but the default ones, by id.
    dhcp_options, dhcp_options_set: DhcpOptionsId => DhcpOptions, InvalidDhcpOptionIdNotFound, "DhcpOptionsId", "dhcpOption";
    /// All private hosted zones, by id.
    hosted_zones, hosted_zone: HostedZoneId => HostedZone, NoSuchHostedZone, "HostedZoneId", "hosted zone";
    /// All subnets, by id.
    subnets, subnet: SubnetId => Subnet, InvalidSubnetIdNotFound, "SubnetId", "subnet";
    /// All route tables, by id.
    route_tables, route_table: RouteTableId => RouteTable, InvalidRouteTableIdNotFound, "RouteTableId", "routeTable";
    /// All security groups, by id.
    security_groups, security_group: SecurityGroupId => SecurityGroup, InvalidGroupNotFound, "GroupId", "security group";
    /// All network ACLs, by id.
    network_acls, network_acl: NetworkAclId => NetworkAcl, InvalidNetworkAclIdNotFound, "NetworkAclId", "networkAcl";
    /// All internet gateways, by id.
    internet_gateways, internet_gateway: InternetGatewayId => InternetGateway, InvalidInternetGatewayIdNotFound, "GatewayId", "internetGateway";
    /// All virtual private gateways, by id.
    vpn_gateways, vpn_gateway: VpnGatewayId => VpnGateway, InvalidVpnGatewayIdNotFound, "VpnGatewayId", "vpnGateway";
    /// All VPN connections, by id.
    vpn_connections, vpn_connection: VpnConnectionId => VpnConnection, InvalidVpnConnectionIdNotFound, "VpnConnectionId", "vpnConnection";
    /// All Elastic IP addresses, by id.
    addresses, address: AllocationId => Address, InvalidAllocationIdNotFound, "AllocationId", "allocation";
    /// All network interfaces, by id.
    network_interfaces, network_interface: NetworkInterfaceId => NetworkInterface, InvalidNetworkInterfaceIdNotFound, "NetworkInterfaceId", "networkInterface";
    /// All NAT gateways, by id.
    nat_gateways, nat_gateway: NatGatewayId => NatGateway, NatGatewayNotFound, "NatGatewayId", "natGateway";
    /// All instances, by id.
    instances, instance: InstanceId => Instance, InvalidInstanceIdNotFound, "InstanceId", "instance";
    /// All hosts outside the VPCs, by id.
    hosts, host: HostId => Host, InvalidHostIdNotFound, "HostId", "host";
}

impl World {
    /// What a VPC's subnets tell by DHCP (DHCP-1 to DHCP-3).
    #[must_use]
    pub fn dhcp_configuration(&self, vpc: &Vpc) -> DhcpConfiguration {
        let own = vpc.dhcp_options.and_then(|id| self.dhcp_options.get(&id));
        own.map_or_else(|| DhcpConfiguration::default_of(vpc), |set| set.configuration.clone())
    }

    /// What an instance with this address calls itself: in the first domain that its VPC's subnets tell, be that one in
    /// DNS or not.
    #[must_use]
    pub fn name_of_instance_at(&self, vpc: &Vpc, address: Ipv4Addr) -> String {
        let told = self.dhcp_configuration(vpc).domain_name;
        match told.as_deref().and_then(|domains| domains.split_whitespace().next()) {
            Some(domain) => format!("{}.{domain}", host_name(address)),
            None => vpc.private_dns_name(address),
        }
    }

    /// The private hosted zones that a VPC's resolver knows; it knows none if it has no names at all (DNS-9).
    pub fn hosted_zones_of(&self, vpc: &Vpc) -> impl Iterator<Item = &HostedZone> {
        let (id, knows) = (vpc.id, vpc.dns_support && vpc.dns_hostnames);
        self.hosted_zones.values().filter(move |zone| knows && zone.vpcs.contains(&id))
    }

    /// The table that serves a subnet: its own association, else the VPC's main table.
    ///
    /// # Errors
    /// When the subnet isn't of this world.
    pub fn route_table_of(&self, subnet: &Subnet) -> Result<&RouteTable, Refusal> {
        match subnet.route_table {
            Some(id) => self.route_table(id),
            None => self.route_table(self.vpc(subnet.vpc)?.main_route_table),
        }
    }

    /// All routes of a table: its own, and those propagated into it. Of equal ones its own win.
    #[must_use]
    pub fn routes(&self, table: &RouteTable) -> Vec<Route> {
        let mut all = table.routes.clone();
        for connection in self.vpn_connections.values() {
            if !table.propagating_vgws.contains(&connection.vpn_gateway) {
                continue;
            }
            let new = connection.static_routes.iter().map(|destination| Route {
                destination: (*destination).into(),
                target: RouteTarget::VpnGateway(connection.vpn_gateway),
                route_origin: RouteOrigin::EnableVgwRoutePropagation,
                origin: connection.origin,
            });
            let new: Vec<_> = new.filter(|new| !all.iter().any(|own| own.destination == new.destination)).collect();
            all.extend(new);
        }
        all
    }

    /// a propagated route never wins over the local one, however specific it is.
    #[must_use]
    pub fn loses_to_local(&self, table: &RouteTable, route: &Route) -> bool {
        let vpc = self.vpcs.get(&table.vpc).map(|vpc| IpNet::V4(vpc.cidr));
        route.route_origin == RouteOrigin::EnableVgwRoutePropagation
            && vpc.is_some_and(|vpc| vpc.contains(&route.destination))
    }

    /// The route tables of gateways.
    pub fn edge_associations(&self) -> impl Iterator<Item = (GatewayId, RouteTableId)> {
        let internet = self.internet_gateways.values().map(|igw| (GatewayId::Internet(igw.id), igw.route_table));
        let vpn = self.vpn_gateways.values().map(|vgw| (GatewayId::Vpn(vgw.id), vgw.route_table));
        internet.chain(vpn).filter_map(|(gateway, table)| Some((gateway, table?)))
    }

    /// The hosts that are in no site.
    pub fn internet_hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values().filter(|host| host.site.is_none())
    }

    /// Is the route's target there?
    #[must_use]
    pub fn route_state(&self, route: &Route) -> RouteState {
        let there = match route.target {
            RouteTarget::Local => true,
            RouteTarget::InternetGateway(id) => self.internet_gateways.contains_key(&id),
            RouteTarget::VpnGateway(id) => self.vpn_gateways.contains_key(&id),
            RouteTarget::NatGateway(id) => self.nat_gateways.get(&id).is_some_and(NatGateway::is_available),
            RouteTarget::NetworkInterface(id) => {
                self.network_interfaces.get(&id).is_some_and(|eni| self.is_in_service(eni))
            }
        };
        if there { RouteState::Active } else { RouteState::Blackhole }
    }

    /// All public addresses that stand for private ones: Elastic IPs, and those from Amazon's pool.
    pub fn public_addresses(&self) -> impl Iterator<Item = PublicAddress> {
        let elastic = self.addresses.values().filter_map(|address| {
            let Association { network_interface, private_ip } = address.association?;
            Some(PublicAddress { public_ip: address.public_ip, network_interface, private_ip })
        });
        let lent = self.network_interfaces.values().filter_map(|eni| {
            let (network_interface, private_ip) = (eni.id, eni.private_ip);
            Some(PublicAddress { public_ip: eni.public_ip?, network_interface, private_ip })
        });
        elastic.chain(lent)
    }

    /// The public address that stands for an interface's private one.
    #[must_use]
    pub fn public_address_of(&self, eni: NetworkInterfaceId, private_ip: Ipv4Addr) -> Option<Ipv4Addr> {
        let is_it = |public: &PublicAddress| (public.network_interface, public.private_ip) == (eni, private_ip);
        self.public_addresses().find(is_it).map(|public| public.public_ip)
    }

    /// Who holds `address` in `subnet`; `None` if it is free.
    #[must_use]
    pub fn address_owner(&self, subnet: &Subnet, address: Ipv4Addr) -> Option<AddressOwner> {
        if subnet.is_reserved(address) {
            return Some(AddressOwner::Reserved);
        }
        let holds = |eni: &&NetworkInterface| eni.subnet == subnet.id && eni.addresses().any(|held| held == address);
        self.network_interfaces.values().find(holds).map(|eni| AddressOwner::NetworkInterface(eni.id))
    }

    /// Does a route to the interface lead anywhere? To one of a stopped instance, or of none, it doesn't (FO-2, FO-5).
    #[must_use]
    pub fn is_in_service(&self, eni: &NetworkInterface) -> bool {
        match eni.attachment {
            Some(Attachment::Instance { instance, .. }) => {
                self.instances.get(&instance).is_some_and(Instance::is_running)
            }
            Some(Attachment::NatGateway(_) | Attachment::LoadBalancer(_)) => true,
            None => false,
        }
    }

    pub(crate) fn next_serial(&mut self) -> Serial {
        self.last_serial += 1;
        Serial(self.last_serial)
    }
}
