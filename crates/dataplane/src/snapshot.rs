//! Everything that a packet needs, immutable and densely numbered.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use minivpc_model::{
    DhcpConfiguration, HostId, InstanceId, InternetGatewayId, MacAddress, NatGatewayId, NetworkAclId,
    NetworkInterfaceId, Origin, Peer, RouteTableId, RuleAction, SecurityGroupId, Serial, SubnetId, Traffic,
    VpnConnectionId, VpnGatewayId,
};
use minivpc_packet::Mac;
use prefix_trie::PrefixMap;

use crate::capture::Armed;
use crate::rules::Rules;
use crate::services::{HostedZone, port};

/// A world as packets see it. Made by [`compile`](crate::compile).
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Which world it shows; each publish counts one up.
    pub generation: u64,
    /// Interfaces. Each is also the **port** of that number; behind them all hosts are ports, and the last one is that of
    /// the subnets' services.
    pub enis: Vec<Eni>,
    /// VPCs.
    pub vpcs: Vec<Vpc>,
    /// Subnets.
    pub subnets: Vec<Subnet>,
    /// Route tables.
    pub route_tables: Vec<RouteTable>,
    /// Security groups.
    pub groups: Vec<SecurityGroup>,
    /// Network ACLs.
    pub acls: Vec<NetworkAcl>,
    /// NAT gateways.
    pub nats: Vec<NatGateway>,
    /// Internet gateways.
    pub igws: Vec<InternetGateway>,
    /// Virtual private gateways.
    pub vgws: Vec<VpnGateway>,
    /// Customers' sites.
    pub sites: Vec<Site>,
    /// Hosts of the internet and of sites.
    pub hosts: Vec<Host>,
    /// Where packets are looked at, and by whom; none, and no hop asks.
    pub armed: Option<Armed>,
    /// Ports by numbers in flow state.
    pub(crate) ports: HashMap<Serial, u16, foldhash::fast::FixedState>,
    /// Interface of an address, by VPC and address.
    pub(crate) owners: HashMap<(u16, IpAddr), u16, foldhash::fast::FixedState>,
    /// Interface of a MAC address, by subnet and address.
    pub(crate) neighbours: HashMap<(u16, MacAddress), u16, foldhash::fast::FixedState>,
    /// Host by address, on the internet or in a site.
    pub(crate) hosts_at: HashMap<(Option<u16>, IpAddr), u16, foldhash::fast::FixedState>,
    /// What public addresses of VPCs with an internet gateway stand for.
    pub(crate) publics: HashMap<IpAddr, Public, foldhash::fast::FixedState>,
    /// The same the other way round: by VPC and private address.
    pub(crate) publics_of: HashMap<(u16, IpAddr), IpAddr, foldhash::fast::FixedState>,
}

/// What a public address stands for (IGW-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Public {
    /// By which internet gateway.
    pub igw: u16,
    /// Whose.
    pub eni: u16,
    /// For which of its addresses.
    pub private: IpAddr,
}

/// Largest IP packet on the link of an instance's interface, bytes.
pub const INTERFACE_MTU: u16 = 9001;

/// TTL of what hosts outside all VPCs send, as of most.
pub const HOST_TTL: u8 = 64;

/// A host outside all VPCs.
#[derive(Debug)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Its number in flow state.
    pub serial: Serial,
    /// Its name.
    pub name: String,
    /// In which customer's site it is, index; none is the internet.
    pub site: Option<u16>,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC address.
    pub mac: MacAddress,
    /// The MAC address of the router that it sees.
    pub router_mac: MacAddress,
    /// Where it came from.
    pub origin: Origin,
}

/// Where frames enter and leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// An interface, index.
    Eni(u16),
    /// A host, index.
    Host(u16),
    /// The servers of what subnets offer by TCP.
    Services,
}

/// An interface.
#[derive(Debug)]
pub struct Eni {
    /// Its id.
    pub id: NetworkInterfaceId,
    /// Its number in flow state.
    pub serial: Serial,
    /// What people call it: `source/eth0`, `osaka-NAT`.
    pub name: String,
    /// Its subnet, index.
    pub subnet: u16,
    /// Its MAC address.
    pub mac: MacAddress,
    /// Its primary private address.
    pub ip: IpAddr,
    /// Its further private addresses.
    pub secondary_ips: Vec<IpAddr>,
    /// Does somebody stand behind it? A stopped instance doesn't, and an interface may be nobody's.
    pub in_service: bool,
    /// SDC-0.
    pub source_dest_check: bool,
    /// Its groups, indices.
    pub groups: Vec<u16>,
    /// What stands behind it.
    pub kind: EniKind,
    /// Where it came from.
    pub origin: Origin,
}

impl Eni {
    /// All its private addresses, the primary one first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + Clone {
        std::iter::once(self.ip).chain(self.secondary_ips.iter().copied())
    }

    /// Is `address` one of its own?
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.ip == address || self.secondary_ips.contains(&address)
    }
}

/// What stands behind an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EniKind {
    /// A guest.
    Guest {
        /// The instance.
        instance: InstanceId,
        /// TTL of its packets, `net.ipv4.ip_default_ttl`.
        default_ttl: u8,
    },
    /// A NAT gateway, index.
    Nat(u16),
    /// A load balancer, which isn't built.
    LoadBalancer,
    /// Nobody.
    Unattached,
}

/// A VPC.
#[derive(Debug)]
pub struct Vpc {
    /// Its block.
    pub cidr: Ipv4Net,
    /// The domain of its instances' names.
    pub domain: String,
    /// The domain of their public addresses' names.
    pub public_domain: String,
    /// DNS-5.
    pub dns_support: bool,
    /// DNS-5.
    pub dns_hostnames: bool,
    /// What its subnets tell by DHCP beside addresses; what is empty they don't tell (DHCP-1).
    pub dhcp: DhcpConfiguration,
    /// The private hosted zones that its resolver knows; of two that hold a name, the more specific one comes first.
    pub hosted_zones: Vec<Arc<HostedZone>>,
}

/// A subnet.
#[derive(Debug)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Its name.
    pub name: String,
    /// Its VPC, a number.
    pub vpc: u16,
    /// Its block.
    pub cidr: Ipv4Net,
    /// The router's address.
    pub router: Ipv4Addr,
    /// AWS's resolver, which is in the VPC's first subnet.
    pub resolver: Ipv4Addr,
    /// The router's MAC address in this subnet.
    pub router_mac: MacAddress,
    /// Its route table, index.
    pub route_table: u16,
    /// Its network ACL, index.
    pub acl: u16,
}

/// A route table.
#[derive(Debug)]
pub struct RouteTable {
    /// Its id.
    pub id: RouteTableId,
    /// Its name.
    pub name: String,
    /// All routes.
    pub routes: Vec<Route>,
    /// Route indices by destination.
    pub(crate) v4: PrefixMap<Ipv4Net, u16>,
}

/// A route.
#[derive(Debug)]
pub struct Route {
    /// What it matches.
    pub destination: IpNet,
    /// Where it leads.
    pub target: Target,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To whoever has the destination address in this VPC.
    Local,
    /// To this interface: an appliance's or a NAT gateway's.
    Eni(u16),
    /// To this internet gateway.
    InternetGateway(u16),
    /// To this virtual private gateway.
    VpnGateway(u16),
    /// To nowhere.
    Blackhole,
}

/// A security group.
#[derive(Debug)]
pub struct SecurityGroup {
    /// Its id.
    pub id: SecurityGroupId,
    /// Its name.
    pub name: String,
    /// What may come in.
    pub ingress: Vec<SecurityGroupRule>,
    /// What may go out.
    pub egress: Vec<SecurityGroupRule>,
    pub(crate) ingress_rules: Rules,
    pub(crate) egress_rules: Rules,
}

/// A rule of a security group.
#[derive(Debug)]
pub struct SecurityGroupRule {
    /// Which packets.
    pub traffic: Traffic,
    /// Whose packets.
    pub peer: Peer,
    /// The group of `peer`, index.
    pub(crate) peer_group: Option<u16>,
    /// Where it came from.
    pub origin: Origin,
}

/// A network ACL.
#[derive(Debug)]
pub struct NetworkAcl {
    /// Its id.
    pub id: NetworkAclId,
    /// Its name.
    pub name: String,
    /// For what enters the subnet, by rule number.
    pub ingress: Vec<NetworkAclEntry>,
    /// For what leaves the subnet, by rule number.
    pub egress: Vec<NetworkAclEntry>,
    pub(crate) ingress_rules: Rules,
    pub(crate) egress_rules: Rules,
}

/// An entry of a network ACL.
#[derive(Debug)]
pub struct NetworkAclEntry {
    /// Its number.
    pub number: u16,
    /// What happens to matching packets.
    pub action: RuleAction,
    /// Which packets.
    pub traffic: Traffic,
    /// Source of ingress, destination of egress.
    pub cidr: IpNet,
    /// Where it came from.
    pub origin: Origin,
}

/// A NAT gateway.
#[derive(Debug)]
pub struct NatGateway {
    /// Its id.
    pub id: NatGatewayId,
    /// Its name.
    pub name: String,
    /// Its interface, index.
    pub eni: u16,
    /// Where it came from.
    pub origin: Origin,
}

/// An internet gateway.
#[derive(Debug)]
pub struct InternetGateway {
    /// Its id.
    pub id: InternetGatewayId,
    /// Its name.
    pub name: String,
    /// Its VPC, a number.
    pub vpc: u16,
    /// Its edge association: for what comes from the internet.
    pub route_table: Option<u16>,
    ///
    pub refuses_asymmetric_return: bool,
    /// Where it came from.
    pub origin: Origin,
}

/// A virtual private gateway.
#[derive(Debug)]
pub struct VpnGateway {
    /// Its id.
    pub id: VpnGatewayId,
    /// Its name.
    pub name: String,
    /// Its VPC, a number.
    pub vpc: u16,
    /// That VPC's block.
    pub cidr: Ipv4Net,
    /// Its edge association: for what comes from sites.
    pub route_table: Option<u16>,
    /// Where it came from.
    pub origin: Origin,
    /// Sites by their blocks.
    pub(crate) sites: PrefixMap<Ipv4Net, u16>,
}

impl VpnGateway {
    /// Is it an address of its VPC's?
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if self.cidr.contains(&v4))
    }

    /// The site that it sends this to.
    #[must_use]
    pub fn site_of(&self, destination: IpAddr) -> Option<u16> {
        match destination {
            IpAddr::V4(v4) => self.sites.get_lpm(&Ipv4Net::from(v4)).map(|(_, site)| *site),
            IpAddr::V6(_) => None,
        }
    }
}

/// A customer's site.
#[derive(Debug)]
pub struct Site {
    /// Its VPN connection.
    pub id: VpnConnectionId,
    /// Its name.
    pub name: String,
    /// The virtual private gateway at the other end, index.
    pub vgw: u16,
    /// The address of its router.
    pub router: IpAddr,
    /// Where it came from.
    pub origin: Origin,
}

/// Which way a packet crosses a security group or a network ACL, seen from the interface or subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Direction {
    /// Out of it.
    Egress,
    /// Into it.
    Ingress,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Egress => Self::Ingress,
            Self::Ingress => Self::Egress,
        }
    }

    /// As AWS writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

impl Snapshot {
    /// The interface, by index; indices come from this snapshot only.
    #[must_use]
    pub fn eni(&self, index: u16) -> &Eni {
        &self.enis[usize::from(index)]
    }

    /// The VPC, by number.
    #[must_use]
    pub fn vpc(&self, number: u16) -> &Vpc {
        &self.vpcs[usize::from(number)]
    }

    /// The subnet, by index.
    #[must_use]
    pub fn subnet(&self, index: u16) -> &Subnet {
        &self.subnets[usize::from(index)]
    }

    /// The route table, by index.
    #[must_use]
    pub fn route_table(&self, index: u16) -> &RouteTable {
        &self.route_tables[usize::from(index)]
    }

    /// The security group, by index.
    #[must_use]
    pub fn group(&self, index: u16) -> &SecurityGroup {
        &self.groups[usize::from(index)]
    }

    /// The network ACL, by index.
    #[must_use]
    pub fn acl(&self, index: u16) -> &NetworkAcl {
        &self.acls[usize::from(index)]
    }

    /// The NAT gateway, by index.
    #[must_use]
    pub fn nat(&self, index: u16) -> &NatGateway {
        &self.nats[usize::from(index)]
    }

    /// The internet gateway, by index.
    #[must_use]
    pub fn igw(&self, index: u16) -> &InternetGateway {
        &self.igws[usize::from(index)]
    }

    /// The virtual private gateway, by index.
    #[must_use]
    pub fn vgw(&self, index: u16) -> &VpnGateway {
        &self.vgws[usize::from(index)]
    }

    /// The customer's site, by index.
    #[must_use]
    pub fn site(&self, index: u16) -> &Site {
        &self.sites[usize::from(index)]
    }

    /// The host, by index.
    #[must_use]
    pub fn host(&self, index: u16) -> &Host {
        &self.hosts[usize::from(index)]
    }

    /// What is at a port.
    #[must_use]
    pub fn port(&self, number: u16) -> Port {
        let enis = self.enis.len() as u16;
        match number {
            _ if number < enis => Port::Eni(number),
            _ if number == self.port_of_services() => Port::Services,
            _ => Port::Host(number - enis),
        }
    }

    /// The primary address of what is at a port.
    #[must_use]
    pub fn ip(&self, port: u16) -> IpAddr {
        match self.port(port) {
            Port::Eni(eni) => self.eni(eni).ip,
            Port::Host(host) => self.host(host).ip,
            Port::Services => port::ADDRESS.into(),
        }
    }

    /// What people call what is at a port.
    #[must_use]
    pub fn name(&self, port: u16) -> &str {
        match self.port(port) {
            Port::Eni(eni) => &self.eni(eni).name,
            Port::Host(host) => &self.host(host).name,
            Port::Services => "services",
        }
    }

    /// Is `address` an own one of what is at a port?
    #[must_use]
    pub fn has(&self, port: u16, address: IpAddr) -> bool {
        match self.port(port) {
            Port::Eni(eni) => self.eni(eni).has(address),
            Port::Host(host) => self.host(host).ip == address,
            Port::Services => matches!(address, IpAddr::V4(v4) if port::CALLED.contains(&v4)),
        }
    }

    /// The port of a host.
    #[must_use]
    pub fn port_of_host(&self, index: u16) -> u16 {
        self.enis.len() as u16 + index
    }

    /// The port of the subnets' services.
    #[must_use]
    pub fn port_of_services(&self) -> u16 {
        (self.enis.len() + self.hosts.len()) as u16
    }

    /// The numbers in flow state of what is at the ports, in their order.
    pub fn serials(&self) -> impl Iterator<Item = Serial> {
        let all = self.enis.iter().map(|eni| eni.serial).chain(self.hosts.iter().map(|host| host.serial));
        all.chain(std::iter::once(port::SERIAL))
    }

    /// The number in flow state of what is at a port.
    #[must_use]
    pub fn serial(&self, port: u16) -> Serial {
        match self.port(port) {
            Port::Eni(eni) => self.eni(eni).serial,
            Port::Host(host) => self.host(host).serial,
            Port::Services => port::SERIAL,
        }
    }

    /// The port of what has this number in flow state.
    #[must_use]
    pub fn port_of(&self, serial: Serial) -> Option<u16> {
        self.ports.get(&serial).copied()
    }

    /// The MAC address of what is at a port, and of the router that it sees.
    #[must_use]
    pub fn macs(&self, port: u16) -> (MacAddress, MacAddress) {
        match self.port(port) {
            Port::Eni(eni) => (self.eni(eni).mac, self.subnet(self.eni(eni).subnet).router_mac),
            Port::Host(host) => (self.host(host).mac, self.host(host).router_mac),
            Port::Services => port::MACS,
        }
    }

    /// The host with this address, on the internet or in a site.
    #[must_use]
    pub fn host_at(&self, site: Option<u16>, address: IpAddr) -> Option<u16> {
        self.hosts_at.get(&(site, address)).copied()
    }

    /// What a public address stands for.
    #[must_use]
    pub fn public(&self, address: IpAddr) -> Option<&Public> {
        self.publics.get(&address)
    }

    /// The public address of a private one.
    #[must_use]
    pub fn public_of(&self, vpc: u16, private: IpAddr) -> Option<IpAddr> {
        self.publics_of.get(&(vpc, private)).copied()
    }

    /// The interface with this address in the VPC.
    #[must_use]
    pub fn owner(&self, vpc: u16, address: IpAddr) -> Option<u16> {
        self.owners.get(&(vpc, address)).copied()
    }

    /// The same, if the interface isn't nobody's.
    #[must_use]
    pub fn attached_owner(&self, vpc: u16, address: IpAddr) -> Option<u16> {
        self.owner(vpc, address).filter(|eni| self.eni(*eni).kind != EniKind::Unattached)
    }

    /// Is it the address of a subnet's router?
    #[must_use]
    pub fn is_router(&self, vpc: u16, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.vpc == vpc && address == IpAddr::V4(subnet.router))
    }

    /// The interface with this MAC address in the subnet.
    #[must_use]
    pub fn neighbour(&self, subnet: u16, mac: Mac) -> Option<u16> {
        self.neighbours.get(&(subnet, MacAddress(mac))).copied()
    }

    /// The interface with this id.
    #[must_use]
    pub fn eni_of(&self, id: NetworkInterfaceId) -> Option<u16> {
        self.enis.iter().position(|eni| eni.id == id).map(|index| index as u16)
    }
}

impl RouteTable {
    /// Longest prefix match: the route's index.
    #[must_use]
    pub fn lookup(&self, destination: IpAddr) -> Option<u16> {
        match destination {
            IpAddr::V4(v4) => self.v4.get_lpm(&Ipv4Net::from(v4)).map(|(_, route)| *route),
            IpAddr::V6(_) => None,
        }
    }
}

impl SecurityGroup {
    /// The rules of one direction.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[SecurityGroupRule] {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }

    /// The same, to ask all of them at once.
    pub(crate) fn at_once(&self, direction: Direction) -> &Rules {
        match direction {
            Direction::Egress => &self.egress_rules,
            Direction::Ingress => &self.ingress_rules,
        }
    }
}

impl NetworkAcl {
    /// The entries of one direction, without the `*`.
    #[must_use]
    pub fn entries(&self, direction: Direction) -> &[NetworkAclEntry] {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }

    /// The same, to ask all of them at once.
    pub(crate) fn at_once(&self, direction: Direction) -> &Rules {
        match direction {
            Direction::Egress => &self.egress_rules,
            Direction::Ingress => &self.ingress_rules,
        }
    }
}
