//! The resources, as plain data under AWS's names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::id::*;
use crate::traffic::Traffic;

/// Where a resource or a rule came from; opaque here. 0 is nowhere (made by AWS itself, as a local route).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Origin(pub u32);

/// A number that names a network interface for the whole life of a lab and is never given out twice.
/// Flow state is keyed by it, so it survives every change of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Serial(pub u32);

/// Tags by key; `Name` is the one that people read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tags(pub BTreeMap<String, String>);

impl Tags {
    /// Only a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(BTreeMap::from([("Name".to_owned(), name.to_owned())]))
    }

    /// The `Name` tag.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.get("Name").map(String::as_str)
    }
}

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// A locally administered unicast address made of `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let b = seed.to_be_bytes();
        Self([0x06, b[3], b[4], b[5], b[6], b[7]])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A VPC with what AWS makes along with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    /// Its id.
    pub id: VpcId,
    /// The primary block.
    pub cidr: Ipv4Net,
    /// The region, as `ap-northeast-3`.
    pub region: String,
    /// Serves subnets without an association of their own.
    pub main_route_table: RouteTableId,
    /// Serves subnets that name none.
    pub default_network_acl: NetworkAclId,
    /// Serves interfaces that name none.
    pub default_security_group: SecurityGroupId,
    /// At most one is attached (IGW-1).
    pub internet_gateway: Option<InternetGatewayId>,
    /// Does its resolver answer (DNS-5)?
    pub dns_support: bool,
    /// Have its instances names in DNS (DNS-5)?
    pub dns_hostnames: bool,
    /// The set of DHCP options that is its own; none is the region's default one (DHCP-1).
    pub dhcp_options: Option<DhcpOptionsId>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl Vpc {
    /// The resolver's address, base + 2 of the primary block.
    #[must_use]
    pub fn resolver(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + 2)
    }

    /// The domain of its instances' names (DNS-3, DHCP-3). The oldest region has a name of its own.
    #[must_use]
    pub fn domain(&self) -> String {
        match self.region.as_str() {
            "us-east-1" => "ec2.internal".to_owned(),
            region => format!("{region}.compute.internal"),
        }
    }

    /// What an instance with this address is called (SEED-11).
    #[must_use]
    pub fn private_dns_name(&self, address: Ipv4Addr) -> String {
        format!("{}.{}", host_name(address), self.domain())
    }

    /// The domain of public addresses' names (DNS-6).
    #[must_use]
    pub fn public_domain(&self) -> String {
        match self.region.as_str() {
            "us-east-1" => "compute-1.amazonaws.com".to_owned(),
            region => format!("{region}.compute.amazonaws.com"),
        }
    }

    /// What a public address of its instances is called, if such names are on (DNS-5, DNS-6).
    #[must_use]
    pub fn public_dns_name(&self, address: Ipv4Addr) -> Option<String> {
        let named = self.dns_support && self.dns_hostnames;
        named.then(|| format!("ec2-{}.{}", dashed(address), self.public_domain()))
    }
}

/// What an instance with this address is called in whichever domain (DHCP-3): `ip-10-0-1-55`.
#[must_use]
pub fn host_name(address: Ipv4Addr) -> String {
    format!("ip-{}", dashed(address))
}

fn dashed(address: Ipv4Addr) -> String {
    address.to_string().replace('.', "-")
}

/// An attribute of a VPC that can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VpcAttribute {
    /// AWS's `enableDnsSupport`.
    DnsSupport,
    /// AWS's `enableDnsHostnames`.
    DnsHostnames,
}

/// A set of DHCP options. AWS changes none, only which one a VPC has (DHCP-1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOptions {
    /// Its id.
    pub id: DhcpOptionsId,
    /// What it hands out.
    pub configuration: DhcpConfiguration,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// What DHCP tells beside addresses, under AWS's names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DhcpConfiguration {
    /// Who knows names, up to four.
    pub domain_name_servers: Vec<DomainNameServer>,
    /// What completes a name, several between spaces.
    pub domain_name: Option<String>,
    /// Who knows the time, up to four.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// Who knows Windows' names, up to four.
    pub netbios_name_servers: Vec<Ipv4Addr>,
    /// How Windows asks for names: 1, 2, 4 or 8 (RFC 2132 §8.7).
    pub netbios_node_type: Option<u8>,
}

impl DhcpConfiguration {
    /// What a VPC has that was given none (DHCP-1, DHCP-3).
    #[must_use]
    pub fn default_of(vpc: &Vpc) -> Self {
        let domain_name_servers = vec![DomainNameServer::AmazonProvided];
        Self { domain_name_servers, domain_name: Some(vpc.domain()), ..Self::default() }
    }
}

/// Who knows names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DomainNameServer {
    /// `AmazonProvidedDNS`, each VPC's own resolver (DHCP-2).
    AmazonProvided,
    /// Somebody.
    Address(Ipv4Addr),
}

impl DomainNameServer {
    /// Its address, for instances whose VPC's own resolver has this one.
    #[must_use]
    pub fn address(self, resolver: Ipv4Addr) -> Ipv4Addr {
        match self {
            Self::AmazonProvided => resolver,
            Self::Address(address) => address,
        }
    }
}

/// A private hosted zone of Route 53: names that the resolvers of some VPCs know (DNS-9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedZone {
    /// Its id.
    pub id: HostedZoneId,
    /// Its domain, in lower case and without a dot at its end.
    pub name: String,
    /// Whose resolvers know it.
    pub vpcs: BTreeSet<VpcId>,
    /// By name, written as the zone's, and type.
    pub record_sets: BTreeMap<String, BTreeMap<RecordType, ResourceRecordSet>>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl HostedZone {
    /// Its record sets with their names and types.
    pub fn all_record_sets(&self) -> impl Iterator<Item = (&str, RecordType, &ResourceRecordSet)> {
        let names = self.record_sets.iter();
        names.flat_map(|(name, sets)| sets.iter().map(move |(kind, set)| (name.as_str(), *kind, set)))
    }

    /// What a name has of one type.
    #[must_use]
    pub fn record_set(&self, name: &str, kind: RecordType) -> Option<&ResourceRecordSet> {
        self.record_sets.get(name)?.get(&kind)
    }
}

/// What a name has of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRecordSet {
    /// For how long answers may be kept, seconds.
    pub ttl: u32,
    /// At least one, as they are written in master files (RFC 1035 §5): `10 mail.example.com`.
    pub values: Vec<String>,
    /// Where it came from.
    pub origin: Origin,
}

/// Types of records, as far as they are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)] // The names are DNS's.
pub enum RecordType {
    A,
    Aaaa,
    Cname,
    Mx,
    Ns,
    Ptr,
    Soa,
    Srv,
    Txt,
}

impl RecordType {
    /// As DNS writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Ns => "NS",
            Self::Ptr => "PTR",
            Self::Soa => "SOA",
            Self::Srv => "SRV",
            Self::Txt => "TXT",
        }
    }

    /// Does Route 53 make one along with each zone, which stays as it is?
    #[must_use]
    pub fn is_required(self) -> bool {
        matches!(self, Self::Ns | Self::Soa)
    }
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its block.
    pub cidr: Ipv4Net,
    /// As `ap-northeast-3a`.
    pub availability_zone: String,
    /// An explicit association; none means the VPC's main table.
    pub route_table: Option<RouteTableId>,
    /// Exactly one.
    pub network_acl: NetworkAclId,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl Subnet {
    /// The router's address, base + 1.
    #[must_use]
    pub fn router(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + 1)
    }

    /// The router's MAC address as this subnet sees it.
    #[must_use]
    pub fn router_mac(&self) -> MacAddress {
        // Any stable mix does; 0x02 keeps it apart from every interface's (`MacAddress::from_seed`).
        let id = self.id.to_string();
        let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let b = hash.to_be_bytes();
        MacAddress([0x02, b[0], b[1], b[2], b[3], b[4]])
    }

    /// Is `address` one of the five that nobody can have?
    #[must_use]
    pub fn is_reserved(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.cidr.network()));
        offset < 4 || address == self.cidr.broadcast()
    }
}

/// A route table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Its id.
    pub id: RouteTableId,
    /// Its VPC.
    pub vpc: VpcId,
    /// At most one per destination; the local route first. [`World::routes`](crate::World::routes) has those that are
    /// propagated, too.
    pub routes: Vec<Route>,
    /// Virtual private gateways that propagate their routes into it.
    pub propagating_vgws: Vec<VpnGatewayId>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// What it matches.
    pub destination: IpNet,
    /// Where it leads.
    pub target: RouteTarget,
    /// How it came about, as AWS prints it (SEED-13).
    pub route_origin: RouteOrigin,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RouteTarget {
    /// Inside the VPC.
    Local,
    /// The internet gateway.
    InternetGateway(InternetGatewayId),
    /// A NAT gateway.
    NatGateway(NatGatewayId),
    /// A network interface: an appliance.
    NetworkInterface(NetworkInterfaceId),
    /// The virtual private gateway.
    VpnGateway(VpnGatewayId),
}

/// AWS's `Origin` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RouteOrigin {
    /// Made with its table: the local route.
    CreateRouteTable,
    /// Added.
    CreateRoute,
    /// Propagated by a virtual private gateway.
    EnableVgwRoutePropagation,
}

/// A security group (SG-1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Its id.
    pub id: SecurityGroupId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its group name, unique in the VPC.
    pub name: String,
    /// Its description.
    pub description: String,
    /// What may come in.
    pub ingress: Vec<SecurityGroupRule>,
    /// What may go out.
    pub egress: Vec<SecurityGroupRule>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// One rule of a security group; rules only allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    /// Which packets.
    pub traffic: Traffic,
    /// Whose packets.
    pub peer: Peer,
    /// Its description.
    pub description: String,
    /// Where it came from.
    pub origin: Origin,
}

/// The other side of a security group's rule: source of ingress, destination of egress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// A block of addresses.
    Cidr(IpNet),
    /// The private addresses of the interfaces that carry this group (SG-5).
    SecurityGroup(SecurityGroupId),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cidr(net) => net.fmt(f),
            Self::SecurityGroup(id) => id.fmt(f),
        }
    }
}

/// A network ACL (NACL-1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAcl {
    /// Its id.
    pub id: NetworkAclId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Entries for what enters a subnet, by rule number.
    pub ingress: BTreeMap<u16, NetworkAclEntry>,
    /// Entries for what leaves a subnet, by rule number.
    pub egress: BTreeMap<u16, NetworkAclEntry>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// One entry of a network ACL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAclEntry {
    /// What happens to matching packets.
    pub action: RuleAction,
    /// Which packets.
    pub traffic: Traffic,
    /// Source of ingress, destination of egress.
    pub cidr: IpNet,
    /// Where it came from.
    pub origin: Origin,
}

/// What a network ACL's entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RuleAction {
    /// Lets the packet pass.
    Allow,
    /// Drops it silently (NACL-17).
    Deny,
}

/// An internet gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternetGateway {
    /// Its id.
    pub id: InternetGatewayId,
    /// The VPC it is attached to.
    pub vpc: VpcId,
    /// Its edge association: the table for what comes in by it.
    pub route_table: Option<RouteTableId>,
    /// The switch of R-37: what its table leads to a middlebox may be answered past that.
    pub passes_asymmetric_return: bool,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// A virtual private gateway: where VPN connections end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnGateway {
    /// Its id.
    pub id: VpnGatewayId,
    /// The VPC it is attached to.
    pub vpc: VpcId,
    /// Its edge association: the table for what comes in by it.
    pub route_table: Option<RouteTableId>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// A VPN connection with static routes, and the customer's site at its far end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnConnection {
    /// Its id.
    pub id: VpnConnectionId,
    /// Where it ends on AWS.
    pub vpn_gateway: VpnGatewayId,
    /// The blocks of the site, which the gateway sends there and propagates (VPN-1).
    pub static_routes: Vec<Ipv4Net>,
    /// The address that the customer's router has in the site.
    pub router: Ipv4Addr,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// An Elastic IP address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Its id.
    pub id: AllocationId,
    /// The public address.
    pub public_ip: Ipv4Addr,
    /// What it stands for.
    pub association: Option<Association>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// What an Elastic IP address stands for: one private address of one interface (IGW-7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Association {
    /// The interface.
    pub network_interface: NetworkInterfaceId,
    /// Its address.
    pub private_ip: Ipv4Addr,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    /// Its id.
    pub id: NetworkInterfaceId,
    /// Its number in flow state.
    pub serial: Serial,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its MAC address.
    pub mac: MacAddress,
    /// Its primary private address.
    pub private_ip: Ipv4Addr,
    /// Further private addresses, in the order in which they were given.
    pub secondary_private_ips: Vec<Ipv4Addr>,
    /// What Amazon's pool has lent for the primary address (IGW-8).
    pub public_ip: Option<Ipv4Addr>,
    /// Its groups; none for a NAT gateway's (NAT-4).
    pub groups: Vec<SecurityGroupId>,
    /// SDC-0.
    pub source_dest_check: bool,
    /// Whose it is; an interface of its own may be nobody's.
    pub attachment: Option<Attachment>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl NetworkInterface {
    /// All private addresses, the primary one first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        std::iter::once(self.private_ip).chain(self.secondary_private_ips.iter().copied())
    }

    /// AWS's `Status`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if self.attachment.is_some() { "in-use" } else { "available" }
    }

    /// Which of its instance's interfaces it is, if it is one's.
    #[must_use]
    pub fn device_index(&self) -> Option<u8> {
        match self.attachment {
            Some(Attachment::Instance { device_index, .. }) => Some(device_index),
            _ => None,
        }
    }

    /// Is it managed by what AWS made it for, and not by the customer (SDC-0, NAT-4)?
    #[must_use]
    pub fn is_requester_managed(&self) -> bool {
        matches!(self.attachment, Some(Attachment::NatGateway(_) | Attachment::LoadBalancer(_)))
    }

    /// The instance that it is attached to.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        match self.attachment {
            Some(Attachment::Instance { instance, .. }) => Some(instance),
            _ => None,
        }
    }
}

/// What a network interface belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Attachment {
    /// An instance's interface number `device_index`, `eth0` in the guest for 0.
    Instance {
        /// The instance.
        instance: InstanceId,
        /// AWS's device index.
        device_index: u8,
        /// Does it go with the instance, as one that was made along with it does?
        delete_on_termination: bool,
    },
    /// Requester-managed, of a NAT gateway.
    NatGateway(NatGatewayId),
    /// Requester-managed, of a load balancer.
    LoadBalancer(LoadBalancer),
}

/// A load balancer, as far as it is built: routes may lead to its interface, and nobody is behind it (SEED-17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadBalancer {
    /// A Classic Load Balancer.
    Classic,
    /// A Network Load Balancer.
    Network,
}

/// A NAT gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatGateway {
    /// Its id.
    pub id: NatGatewayId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its interface, which holds its private addresses (NAT-5); gone when the gateway is deleted.
    pub network_interface: NetworkInterfaceId,
    /// Public or private (NAT-1).
    pub connectivity: Connectivity,
    /// NAT-33.
    pub state: NatGatewayState,
    /// When it was created, in RFC 3339.
    pub create_time: String,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl NatGateway {
    /// Does it serve?
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.state == NatGatewayState::Available
    }
}

/// AWS's `ConnectivityType`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Connectivity {
    /// No Elastic IP.
    Private,
    /// With an Elastic IP for each of its private addresses, in their order, which only the internet gateway uses
    /// (NAT-2).
    Public(Vec<AllocationId>),
}

/// NAT-33. Creating and deleting take no time here, so nobody sees `pending` and `deleting`, and nothing fails later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NatGatewayState {
    /// In service.
    Available,
    /// Gone, but still shown.
    Deleted,
}

impl NatGatewayState {
    /// As AWS prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Deleted => "deleted",
        }
    }
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Whether it runs.
    pub state: InstanceState,
    /// What its guest looks like.
    pub image: Image,
    /// Its interfaces, by device index; gone when it is terminated.
    pub network_interfaces: Vec<NetworkInterfaceId>,
    /// Asked for a public address from Amazon's pool (IGW-8).
    pub associate_public_ip: bool,
    /// How it may ask for its metadata.
    pub metadata_options: MetadataOptions,
    /// What it was given for its first start, if anything; as it was written.
    pub user_data: Option<String>,
    /// When it was run, or started again, in RFC 3339.
    pub launch_time: String,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// AWS's instance metadata options (IMDS-2, IMDS-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetadataOptions {
    /// `HttpEndpoint`: does the service answer it at all?
    pub http_endpoint: bool,
    /// `HttpTokens` is `required`: only who has a token is answered.
    pub http_tokens_required: bool,
    /// `HttpPutResponseHopLimit`: TTL of the packets that carry a token, 1 to 64.
    pub http_put_response_hop_limit: u8,
    /// `InstanceMetadataTags`: are tags told?
    pub instance_metadata_tags: bool,
}

impl Instance {
    /// Does its guest run?
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == InstanceState::Running
    }

    /// Is it gone, and only still shown?
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state == InstanceState::Terminated
    }
}

/// AWS's instance state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InstanceState {
    /// Running.
    Running,
    /// Without a guest, but with its interfaces and addresses.
    Stopped,
    /// Gone, but still shown.
    Terminated,
}

impl InstanceState {
    /// As AWS prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Terminated => "terminated",
        }
    }
}

/// The part of a machine image that packets can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Image {
    /// Amazon Linux 2: TTL 255 (SEED-6).
    #[default]
    AmazonLinux2,
    /// Amazon Linux 2023: TTL 127.
    AmazonLinux2023,
    /// Ubuntu: TTL 64.
    Ubuntu,
}

impl Image {
    /// `net.ipv4.ip_default_ttl` in the guest.
    #[must_use]
    pub fn default_ttl(self) -> u8 {
        match self {
            Self::AmazonLinux2 => 255,
            Self::AmazonLinux2023 => 127,
            Self::Ubuntu => 64,
        }
    }

    /// The metadata options of instances that say nothing of them (IMDS-3).
    #[must_use]
    pub fn metadata_options(self) -> MetadataOptions {
        let v2 = self == Self::AmazonLinux2023;
        MetadataOptions {
            http_endpoint: true,
            http_tokens_required: v2,
            http_put_response_hop_limit: if v2 { 2 } else { 1 },
            instance_metadata_tags: false,
        }
    }
}

/// A host outside all VPCs, on the internet or in a customer's site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Its number in flow state.
    pub serial: Serial,
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

/// What a host can answer without commands of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// HTTP on TCP port 80.
    Http,
    /// HTTP over TLS on TCP port 443, with a certificate of the lab's own authority.
    Https,
    /// Time, by NTP on UDP port 123.
    Ntp,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Ntp];

    /// As lab files write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ntp => "ntp",
        }
    }
}
