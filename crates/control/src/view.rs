//! What a lab answers: plain data, printed as it is by `--json`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use minivpc_config::Lab;
use minivpc_dataplane::state::{NatMetrics, State};
use minivpc_dataplane::{Component, Dropped, Headers, Journey, Kind, Line, Now, Snapshot, Subject, Verdict};
use minivpc_host::LinkStats;
use minivpc_model::{Attachment, Connectivity, Origin, Serial};
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
    /// Its instances.
    pub instances: Vec<InstanceStatus>,
    /// Its NAT gateways.
    pub nat_gateways: Vec<NatGatewayStatus>,
    /// Its internet gateways.
    pub internet_gateways: Vec<InternetGatewayStatus>,
    /// Tracked connections of all interfaces.
    pub connections: usize,
    /// Packets dropped.
    pub drops: u64,
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

/// An interface of an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// `eth0`.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its MAC address.
    pub mac: String,
    /// Its private address.
    pub private_ip: String,
    /// The link's own counters, seen from the guest.
    pub link: Option<LinkStats>,
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

/// An internet gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[allow(missing_docs)] // AWS's names.
pub struct InternetGatewayStatus {
    pub name: String,
    pub id: String,
    pub vpc: String,
}

/// An AWS resource.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    pub age_seconds: f64,
    /// Seconds since its last packet.
    pub idle_seconds: f64,
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
    /// `delivered`, `dropped`, or `answered` by the network.
    pub verdict: String,
    /// Why it was dropped.
    pub reason: Option<String>,
    /// Middleboxes on the way, by name.
    pub through: Vec<String>,
}

/// One hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// `eni`, `sg`, `rtr`, `rtb`, `acl`, `nat`, `igw`.
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

/// Turns the dataplane's answers into views.
pub(crate) struct Views<'a> {
    pub lab: &'a Lab,
    pub file: &'a str,
    pub snapshot: &'a Snapshot,
}

impl Views<'_> {
    fn place(&self, origin: Option<Origin>) -> Option<String> {
        let place = self.lab.place(origin?)?;
        Some(format!("{}:{}", self.file, place.line))
    }

    pub fn step(&self, line: Line) -> StepView {
        let place = self.place(line.origin);
        let Line { hop, name, id, subnet, subject, decision, note, .. } = line;
        StepView { hop: hop.to_owned(), name, id, subnet, subject, decision, note, place }
    }

    pub fn journey(&self, journey: &Journey) -> JourneyView {
        let verdict = match journey.verdict {
            Verdict::Deliver { .. } => "delivered",
            Verdict::Answer { .. } => "answered",
            Verdict::Drop(_) => "dropped",
        };
        let lines = journey.lines(self.snapshot);
        let through = lines.iter().filter(|line| line.hop == "nat").map(|line| line.name.clone()).collect();
        JourneyView {
            packet: journey.sent.to_string(),
            sent: (&journey.sent).into(),
            last: (&journey.last).into(),
            steps: lines.into_iter().map(|line| self.step(line)).collect(),
            verdict: verdict.to_owned(),
            reason: journey.reason().map(|reason| reason.code().to_owned()),
            through,
        }
    }

    pub fn drop(&self, dropped: &Dropped) -> Drop {
        let (packet, fields) = match dropped.subject {
            Subject::Packet(packet) => (packet.to_string(), Some(Fields::from(&packet))),
            Subject::Arp(target) => (format!("arp who-has {target}"), None),
            Subject::EtherType(number) => (format!("ethertype 0x{number:04x}"), None),
            Subject::Frame => ("frame".to_owned(), None),
            Subject::Folded => ("earlier packets".to_owned(), None),
        };
        let seconds = |at: Now| at.0 as f64 / 1e9;
        Drop {
            reason: dropped.reason.code().to_owned(),
            text: dropped.reason.text().to_owned(),
            resources: self.resources(dropped.component),
            sender: self.interface(dropped.sender),
            packet,
            fields,
            count: dropped.count,
            first_seconds: seconds(dropped.first),
            last_seconds: seconds(dropped.last),
        }
    }

    pub fn interface(&self, id: minivpc_model::NetworkInterfaceId) -> Resource {
        let name = self.snapshot.eni_of(id).map_or_else(String::new, |index| self.snapshot.eni(index).name.clone());
        Resource { kind: "network-interface".to_owned(), id: id.to_string(), name }
    }

    fn resources(&self, component: Component) -> Vec<Resource> {
        let world = &self.lab.world;
        let named = |kind: &str, id: String, tags: Option<&minivpc_model::Tags>| {
            let name = tags.and_then(minivpc_model::Tags::name).unwrap_or_default().to_owned();
            vec![Resource { kind: kind.to_owned(), id, name }]
        };
        match component {
            Component::NetworkInterface(id) => vec![self.interface(id)],
            Component::SecurityGroups(eni) => {
                let groups = world.network_interface(eni).map(|eni| eni.groups.clone()).unwrap_or_default();
                let group = |id: &minivpc_model::SecurityGroupId| {
                    named("security-group", id.to_string(), world.security_group(*id).ok().map(|group| &group.tags))
                };
                groups.iter().flat_map(group).collect()
            }
            Component::Subnet(id) => named("subnet", id.to_string(), world.subnet(id).ok().map(|subnet| &subnet.tags)),
            Component::RouteTable(id) => {
                named("route-table", id.to_string(), world.route_table(id).ok().map(|table| &table.tags))
            }
            Component::NetworkAcl(id) => {
                named("network-acl", id.to_string(), world.network_acl(id).ok().map(|acl| &acl.tags))
            }
            Component::NatGateway(id) => {
                named("nat-gateway", id.to_string(), world.nat_gateway(id).ok().map(|nat| &nat.tags))
            }
            Component::InternetGateway(id) => {
                named("internet-gateway", id.to_string(), world.internet_gateway(id).ok().map(|igw| &igw.tags))
            }
        }
    }

    /// All instances; `links` are the counters by guest.
    pub fn instances(&self, links: &HashMap<String, Vec<LinkStats>>) -> Vec<InstanceStatus> {
        let world = &self.lab.world;
        let instance = |instance: &minivpc_model::Instance| {
            let guest = instance.id.to_string();
            let enis = instance.network_interfaces.iter().filter_map(|id| world.network_interface(*id).ok());
            let subnet = enis.clone().next().and_then(|eni| world.subnet(eni.subnet).ok());
            let vpc = subnet.and_then(|subnet| world.vpc(subnet.vpc).ok());
            let interfaces = enis.map(|eni| {
                let name = match eni.attachment {
                    Attachment::Instance { device_index, .. } => format!("eth{device_index}"),
                    Attachment::NatGateway(_) => String::new(),
                };
                let link = links.get(&guest).and_then(|links| links.iter().find(|link| link.interface == name));
                InterfaceStatus {
                    id: eni.id.to_string(),
                    mac: eni.mac.to_string(),
                    private_ip: eni.private_ip.to_string(),
                    link: link.cloned(),
                    name,
                }
            });
            InstanceStatus {
                name: instance.tags.name().unwrap_or_default().to_owned(),
                id: instance.id.to_string(),
                vpc: vpc.map_or_else(String::new, |vpc| name(&vpc.tags)),
                subnet: subnet.map_or_else(String::new, |subnet| name(&subnet.tags)),
                availability_zone: subnet.map_or_else(String::new, |subnet| subnet.availability_zone.clone()),
                state: instance.state.as_str().to_owned(),
                interfaces: interfaces.collect(),
            }
        };
        let mut all: Vec<_> = world.instances().map(instance).collect();
        all.sort_by(|a, b| (&a.vpc, &a.name).cmp(&(&b.vpc, &b.name)));
        all
    }

    pub fn nat_gateways(&self, state: &State, now: Now) -> Vec<NatGatewayStatus> {
        let live = state.sessions(now);
        let sessions = |serial: Serial| live.iter().filter(move |(key, _)| key.nat == serial);
        let world = &self.lab.world;
        let gateway = |nat: &minivpc_model::NatGateway| {
            let eni = world.network_interface(nat.network_interface).ok();
            let (connectivity_type, public_ip) = match nat.connectivity {
                Connectivity::Private => ("private", None),
                Connectivity::Public(id) => ("public", world.address(id).ok().map(|a| a.public_ip.to_string())),
            };
            NatGatewayStatus {
                name: name(&nat.tags),
                id: nat.id.to_string(),
                subnet: world.subnet(nat.subnet).map_or_else(|_| String::new(), |subnet| name(&subnet.tags)),
                state: nat.state.as_str().to_owned(),
                connectivity_type: connectivity_type.to_owned(),
                private_ip: eni.map_or_else(String::new, |eni| eni.private_ip.to_string()),
                public_ip,
                sessions: eni.map_or(0, |eni| sessions(eni.serial).count()),
                metrics: eni.map_or_else(NatGatewayMetrics::default, |eni| {
                    // NAT-35: only TCP counts as a connection.
                    let active = sessions(eni.serial)
                        .filter(|(_, session)| session.established && !session.is_finished())
                        .count();
                    NatGatewayMetrics::new(&state.metrics(eni.serial), active as u64)
                }),
            }
        };
        world.nat_gateways().map(gateway).collect()
    }

    pub fn internet_gateways(&self) -> Vec<InternetGatewayStatus> {
        let world = &self.lab.world;
        let gateway = |igw: &minivpc_model::InternetGateway| InternetGatewayStatus {
            name: name(&igw.tags),
            id: igw.id.to_string(),
            vpc: world.vpc(igw.vpc).map_or_else(|_| String::new(), |vpc| name(&vpc.tags)),
        };
        world.internet_gateways().map(gateway).collect()
    }
}

fn name(tags: &minivpc_model::Tags) -> String {
    tags.name().unwrap_or_default().to_owned()
}
