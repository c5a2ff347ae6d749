//! What a lab answers: plain data, printed as it is by `--json`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use minivpc_config::Lab;
use minivpc_dataplane::state::{CONNECTIONS_PER_INTERFACE, NatMetrics, Tracking};
use minivpc_dataplane::{CacheMetrics, Headers, Kind};
use minivpc_host::LinkStats;
use serde::{Deserialize, Serialize};

/// How much there is in a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs)] // Counts.
pub struct Summary {
    pub lab: String,
    pub vpcs: usize,
    pub subnets: usize,
    pub instances: usize,
    pub nat_gateways: usize,
    pub internet_gateways: usize,
    pub vpn_gateways: usize,
    pub customer_sites: usize,
    /// Those of the internet.
    pub hosts: usize,
    pub site_hosts: usize,
}

impl Summary {
    pub(crate) fn of(lab: &Lab) -> Self {
        let world = &lab.world;
        Self {
            lab: lab.name.clone(),
            vpcs: world.vpcs().count(),
            subnets: world.subnets().count(),
            instances: world.instances().count(),
            nat_gateways: world.nat_gateways().count(),
            internet_gateways: world.internet_gateways().count(),
            vpn_gateways: world.vpn_gateways().count(),
            customer_sites: world.vpn_connections().count(),
            hosts: world.internet_hosts().count(),
            site_hosts: world.hosts().count() - world.internet_hosts().count(),
        }
    }
}

/// A running lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub lab: String,
    /// Seconds since it came up.
    pub up_seconds: u64,
    /// Engines that have died since then; flows younger than the last checkpoint, at most a second, were lost each time.
    #[serde(default)]
    pub engine_deaths: u32,
    /// Seconds since the engine that runs took over.
    #[serde(default)]
    pub engine_seconds: u64,
    /// Its instances.
    pub instances: Vec<InstanceStatus>,
    /// Interfaces that are neither an instance's nor a NAT gateway's.
    pub network_interfaces: Vec<InterfaceStatus>,
    /// Its NAT gateways.
    pub nat_gateways: Vec<NatGatewayStatus>,
    /// Its internet gateways.
    pub internet_gateways: Vec<GatewayStatus>,
    /// Its virtual private gateways.
    pub vpn_gateways: Vec<GatewayStatus>,
    /// What is at the far end of its VPN connections.
    pub customer_sites: Vec<SiteStatus>,
    /// The hosts of its internet and of its customers' sites.
    pub hosts: Vec<HostStatus>,
    /// Tracked connections of all interfaces.
    pub connections: usize,
    /// Packets dropped.
    pub drops: u64,
    /// How full the lab's tables are. When one is full, what is new is dropped (`MINIVPC_TABLE_FULL`), but for what an
    /// unanswered TCP connection has to go for.
    pub tables: Tables,
    /// What was forwarded without being judged again.
    pub flow_cache: FlowCache,
}

/// How full a lab's tables are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs)] // Their names.
pub struct Tables {
    pub connections: Table,
    pub sessions: Table,
    pub fragmented_datagrams: Table,
}

/// How full a table is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Table {
    /// Records, also of flows that have just ended.
    pub used: u64,
    /// Most of them.
    pub limit: u64,
}

/// The flow caches of all workers together.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FlowCache {
    /// Threads that forward packets, each with a cache of its own.
    pub workers: usize,
    /// Flows in them, one for each direction.
    pub entries: u64,
    /// Packets that were forwarded by an entry.
    pub hits: u64,
    /// Packets of flows that may have an entry which had none that held.
    pub misses: u64,
    /// Entries that had to go for others.
    pub evictions: u64,
}

impl FlowCache {
    pub(crate) fn sum<'a>(workers: impl Iterator<Item = &'a CacheMetrics>) -> Self {
        workers.fold(Self::default(), |sum, worker| Self {
            workers: sum.workers + 1,
            entries: sum.entries + worker.entries.load(Relaxed),
            hits: sum.hits + worker.hits.load(Relaxed),
            misses: sum.misses + worker.misses.load(Relaxed),
            evictions: sum.evictions + worker.evictions.load(Relaxed),
        })
    }
}

/// An instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs)] // AWS's names.
pub struct InstanceStatus {
    pub name: String,
    pub id: String,
    pub vpc: String,
    pub subnet: String,
    pub availability_zone: String,
    pub state: String,
    pub interfaces: Vec<InterfaceStatus>,
}

/// An interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// `eth0`; of one that is no instance's, its own name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// AWS's `Status`: `in-use` or `available`.
    pub status: String,
    /// Its MAC address.
    pub mac: String,
    /// Its VPC, which may be another one than its instance's.
    pub vpc: String,
    /// Its subnet.
    pub subnet: String,
    /// Its primary private address.
    pub private_ip: String,
    /// Its further private addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary_private_ips: Vec<String>,
    /// The public addresses that stand for them (IGW-2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_ips: Vec<String>,
    /// The link's own counters, seen from the guest.
    pub link: Option<LinkStats>,
    /// What the network counts of it.
    pub metrics: InterfaceMetrics,
}

/// What the network counts of an interface; the first three are metrics of AWS's ENA driver (SG-20).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InterfaceMetrics {
    /// Connections that could be tracked beside those that are.
    pub conntrack_allowance_available: u64,
    /// Packets of new connections that were dropped because there was no room.
    pub conntrack_allowance_exceeded: u64,
    /// Packets to services of the subnet that were dropped because there were too many (DNS-2).
    pub linklocal_allowance_exceeded: u64,
    /// Connections that are tracked.
    pub tracked_connections: u64,
    /// Packets that the interface's guest sent and that were dropped somewhere.
    pub packets_dropped: u64,
}

impl InterfaceMetrics {
    pub(crate) fn new(tracking: &Tracking, packets_dropped: u64) -> Self {
        let tracked_connections = tracking.connections.load(Relaxed);
        Self {
            conntrack_allowance_available: CONNECTIONS_PER_INTERFACE.saturating_sub(tracked_connections),
            conntrack_allowance_exceeded: tracking.refused.load(Relaxed),
            linklocal_allowance_exceeded: tracking.services_refused.load(Relaxed),
            tracked_connections,
            packets_dropped,
        }
    }
}

/// A NAT gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs)] // AWS's names.
pub struct NatGatewayStatus {
    pub name: String,
    pub id: String,
    pub subnet: String,
    pub state: String,
    pub connectivity_type: String,
    pub private_ip: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary_private_ips: Vec<String>,
    pub public_ip: Option<String>,
    /// Live sessions.
    pub sessions: usize,
    /// What it has counted since the lab came up, by the names of AWS/NATGateway.
    pub metrics: NatGatewayMetrics,
}

/// The metrics of AWS/NATGateway. Of those that a gateway only has at a time it is now, of the others the sum.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // AWS's names.
pub struct NatGatewayMetrics {
    pub active_connection_count: u64,
    pub connection_attempt_count: u64,
    pub connection_established_count: u64,
    pub error_port_allocation: u64,
    pub idle_timeout_count: u64,
    pub packets_drop_count: u64,
    pub packets_in_from_source: u64,
    pub packets_out_to_destination: u64,
    pub packets_in_from_destination: u64,
    pub packets_out_to_source: u64,
    pub bytes_in_from_source: u64,
    pub bytes_out_to_destination: u64,
    pub bytes_in_from_destination: u64,
    pub bytes_out_to_source: u64,
}

impl NatGatewayMetrics {
    pub(crate) fn new(counted: &NatMetrics, active: u64) -> Self {
        let value = |counter: &AtomicU64| counter.load(Relaxed);
        Self {
            active_connection_count: active,
            connection_attempt_count: value(&counted.connection_attempts),
            connection_established_count: value(&counted.connections_established),
            error_port_allocation: value(&counted.port_allocation_errors),
            idle_timeout_count: value(&counted.idle_timeouts),
            packets_drop_count: value(&counted.packets_dropped),
            packets_in_from_source: value(&counted.in_from_source.packets),
            packets_out_to_destination: value(&counted.out_to_destination.packets),
            packets_in_from_destination: value(&counted.in_from_destination.packets),
            packets_out_to_source: value(&counted.out_to_source.packets),
            bytes_in_from_source: value(&counted.in_from_source.bytes),
            bytes_out_to_destination: value(&counted.out_to_destination.bytes),
            bytes_in_from_destination: value(&counted.in_from_destination.bytes),
            bytes_out_to_source: value(&counted.out_to_source.bytes),
        }
    }
}

/// An internet gateway or a virtual private gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs)] // AWS's names.
pub struct GatewayStatus {
    pub name: String,
    pub id: String,
    pub vpc: String,
}

/// A customer's site with its VPN connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SiteStatus {
    /// Its name.
    pub name: String,
    /// The VPN connection's id.
    pub id: String,
    /// The virtual private gateway at the other end.
    pub vpn_gateway: String,
    /// Its blocks, which are the connection's static routes.
    pub static_routes: Vec<String>,
    /// The address of its router.
    pub router: String,
}

/// A host outside all VPCs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its name; `SITE/NAME` in a site.
    pub name: String,
    /// Its id.
    pub id: String,
    /// In which customer's site it is; none is the internet.
    pub site: Option<String>,
    /// Its address.
    pub address: String,
    /// Its link's counters, seen from the host.
    pub link: Option<LinkStats>,
}

/// An AWS resource.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Resource {
    /// `nat-gateway`, `security-group` …
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What a lab has dropped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Drops {
    /// By kind, oldest first.
    pub drops: Vec<Drop>,
}

/// Drops of one kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Drop {
    /// Reachability Analyzer's code, or ours.
    pub reason: String,
    /// In words.
    pub text: String,
    /// Who dropped: one resource, or all security groups of an interface.
    pub resources: Vec<Resource>,
    /// The interface whose guest sent the packet.
    pub sender: Resource,
    /// The packet in words, as it came to whom dropped it.
    pub packet: String,
    /// Its fields, if it was an IP packet.
    pub fields: Option<Fields>,
    /// How many.
    pub count: u64,
    /// Seconds after the lab came up.
    pub first_seconds: f64,
    /// Seconds after the lab came up.
    pub last_seconds: f64,
}

/// The fields of a packet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs)] // As in its headers.
pub struct Fields {
    pub protocol: u8,
    pub source: String,
    pub destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_id: Option<u16>,
    pub ttl: u8,
}

impl From<&Headers> for Fields {
    fn from(packet: &Headers) -> Self {
        let flow = packet.flow;
        let ports = matches!(packet.kind, Kind::Tcp(_) | Kind::Udp);
        let icmp_id = match packet.kind {
            Kind::EchoRequest => Some(flow.src_port),
            Kind::EchoReply => Some(flow.dst_port),
            _ => None,
        };
        Self {
            protocol: flow.protocol,
            source: flow.src.to_string(),
            destination: flow.dst.to_string(),
            source_port: ports.then_some(flow.src_port),
            destination_port: ports.then_some(flow.dst_port),
            icmp_type: packet.kind.icmp().map(|(kind, _)| kind),
            icmp_code: packet.kind.icmp().map(|(_, code)| code),
            icmp_id,
            ttl: packet.ttl,
        }
    }
}

/// What would be changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The lab.
    pub lab: String,
    /// The file that says so.
    pub file: String,
    /// In the order in which it is done.
    pub actions: Vec<Action>,
}

/// One change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Action {
    /// `+` adds, `-` takes away, `~` changes, `!` happens by it.
    pub sign: String,
    /// The EC2 action; empty for what happens by itself.
    pub action: String,
    /// What is changed.
    pub resource: Resource,
    /// How.
    pub what: String,
}

/// Live connections at interfaces.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flows {
    /// By interface and flow.
    pub flows: Vec<FlowView>,
}

/// A tracked connection at one interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FlowView {
    /// The interface.
    pub interface: Resource,
    /// `egress` if the interface opened it.
    pub direction: String,
    /// IP protocol number.
    pub protocol: u8,
    /// One end: address, and port or ICMP id.
    pub local: String,
    /// The other end.
    pub remote: String,
    /// How far it is.
    pub phase: String,
    /// Seconds since its first packet.
    pub age_seconds: u32,
    /// Seconds since its last packet.
    pub idle_seconds: u32,
    /// The way of what the interface sends.
    pub steps: Vec<StepView>,
}

/// A packet's journey, and that of the answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trace {
    /// Who sends.
    pub from: String,
    /// For whom.
    pub to: String,
    /// The way there.
    pub there: JourneyView,
    /// The way back; none if nobody was reached.
    pub back: Option<JourneyView>,
}

/// One way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JourneyView {
    /// The packet in words, as it was sent.
    pub packet: String,
    /// Its fields as it was sent.
    pub sent: Fields,
    /// Its fields at the end.
    pub last: Fields,
    /// The hops.
    pub steps: Vec<StepView>,
    /// `delivered`, `dropped`, `answered` by the network, or `handed over` to an appliance.
    pub verdict: String,
    /// The appliance's interface. What it forwards is another packet's journey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_to: Option<String>,
    /// Why it was dropped.
    pub reason: Option<String>,
    /// Middleboxes on the way, by name.
    pub through: Vec<String>,
}

/// One hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// `eni`, `sg`, `rtr`, `rtb`, `acl`, `nat`, `igw`, `vgw`, `site`, `net`, `host`.
    pub hop: String,
    /// The component's name.
    pub name: String,
    /// The component's id.
    pub id: String,
    /// The subnet of a network ACL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// What was asked.
    pub subject: String,
    /// What was decided.
    pub decision: String,
    /// Why.
    pub note: String,
    /// Where the rule stands: `lab.yaml:18`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}
