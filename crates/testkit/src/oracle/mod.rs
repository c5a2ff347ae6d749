//! What AWS does with a packet, straight from the model.
//!
//! Naive on purpose: every question is a scan over the world's lists, every rule quotes its id, and nothing here is
//! shared with what it judges. It keeps only what an observer could know: which flows each interface tracks, and which
//! port a NAT gateway was seen to use for a session.
//!
//! `nat.rs`: NAT gateways and their answers; `internet.rs` and `vpn.rs`: the gateways on a VPC's edge and what is behind
//! them; `rules.rs`: security groups and network ACLs.

mod internet;
mod nat;
mod rules;
mod vpn;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use ipnet::IpNet;
use minivpc_model::*;

/// A packet as an observer writes it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Datum {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// What it is.
    pub what: What,
    /// TTL.
    pub ttl: u8,
}

/// The part of a packet behind its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// Echo request with its id.
    Echo(u16),
    /// Echo reply with its id.
    EchoReply(u16),
    /// UDP, source and destination port.
    Udp(u16, u16),
    /// TCP, source and destination port, and which of these.
    Tcp(u16, u16, Tcp),
    /// An error about a packet that was sent so.
    Error {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// Source and destination of the quoted packet, and what it was.
        quoted: (Ipv4Addr, Ipv4Addr, Flowing),
    },
    /// Another protocol.
    Other(u8),
}

/// TCP segments that the network tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // TCP's names.
pub enum Tcp {
    Syn,
    SynAck,
    Ack,
    Rst,
}

/// What makes a flow besides its addresses: protocol and two numbers, of which an echo has one.
pub type Flowing = (u8, u16, u16);

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It arrives there, so.
    Delivered(Party, Datum),
    /// It ends with an answer to its sender, and this becomes of the answer.
    Answered(Box<Fate>),
    /// A service of its sender's subnet takes it (SG-25).
    Served,
    /// It is dropped.
    Dropped(Place),
}

/// Who sends and receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The ids say it.
pub enum Party {
    Interface(NetworkInterfaceId),
    Host(HostId),
}

impl Party {
    /// Its number in flow state.
    #[must_use]
    pub fn serial(self, world: &World) -> Serial {
        match self {
            Self::Interface(eni) => world.network_interface(eni).unwrap().serial,
            Self::Host(host) => world.host(host).unwrap().serial,
        }
    }
}

/// Who drops, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The ids say it.
pub enum Place {
    /// SDC-1.
    SourceCheck(NetworkInterfaceId),
    ///
    NotUnicast(NetworkInterfaceId),
    /// SG-1.
    SecurityGroups(NetworkInterfaceId),
    ///
    NoRoute(RouteTableId),
    /// A local route to nobody.
    NoSuchAddress(RouteTableId),
    /// R-15, to the router of another subnet.
    OtherRouter(RouteTableId),
    /// R-15, what isn't an echo request.
    Router(SubnetId),
    /// NACL-2.
    NetworkAcl(NetworkAclId),
    /// IGW-15, IGW-18.
    PrivateDestination(InternetGatewayId),
    /// IGW-3.
    NoPublicAddress(InternetGatewayId),
    ///
    Redirected(InternetGatewayId),
    ///
    NoPublicMiddlebox(RouteTableId),
    /// IGW-15.
    PrivateSource(InternetGatewayId),
    /// IGW-15.
    Spoofed(InternetGatewayId),
    /// R-40a: the public address of an interface that is nobody's.
    NobodysPublicAddress(InternetGatewayId),
    /// VPN-1, of what leaves.
    VpnSource(VpnGatewayId),
    /// VPN-1.
    VpnNoRoute(VpnGatewayId),
    /// A site's packet in the name of somebody of the VPC.
    VpnSpoofed(VpnGatewayId),
    /// VPN-1, of what enters.
    VpnDestination(VpnGatewayId),
    /// A site's router knows nobody there, or has nothing to say.
    Site(VpnConnectionId),
    ///
    Blackhole(RouteTableId),
    /// FO-2: the interface is nobody's.
    Unattached(NetworkInterfaceId),
    /// R-7, of what a host sends.
    HostSends(HostId),
    /// The internet's router knows nobody there, or has nothing to say.
    Internet,
    /// NAT-21.
    NoSession(NatGatewayId),
    /// NAT-8.
    NatProtocol(NatGatewayId),
    /// NAT-22, NAT-24.
    Loop(NatGatewayId),
    /// gateways that send to each other.
    Endless,
    /// RFC 1122 §3.2.2.
    NoErrorAboutAnError(NatGatewayId),
    /// SDC-2.
    DestinationCheck(NetworkInterfaceId),
}

/// Where a packet goes on leaving its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// To the subnet's router.
    Router,
    /// Straight to a neighbour's MAC address.
    Neighbour(NetworkInterfaceId),
}

/// A client's flow at a gateway.
pub type Session = (NatGatewayId, Ipv4Addr, Ipv4Addr, Flowing);

/// A flow at an interface, as one of its directions.
type Connection = (NetworkInterfaceId, Ipv4Addr, Ipv4Addr, Flowing);

/// The port that a gateway was seen to use for a session, which nobody can foretell (NAT-9).
pub type SeenPort<'s> = &'s dyn Fn(Session) -> Option<u16>;

/// The observer.
#[derive(Debug, Clone)]
pub struct Oracle<'a> {
    world: &'a World,
    /// Flows that an interface tracks, by both directions.
    tracked: HashSet<Connection>,
    /// Port of a client's session.
    ports: HashMap<Session, u16>,
}

///
const MOST_HOPS: usize = 32;

/// What becomes of a packet, and what there was to decide on its way.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// How it ends.
    pub fate: Fate,
    /// The interfaces that it came by, its sender's first.
    pub way: Vec<NetworkInterfaceId>,
    /// Rare cases that it met.
    pub kinds: BTreeSet<&'static str>,
}

/// One packet's way, and what it adds to what the observer knows.
struct Trip<'s> {
    seen_port: SeenPort<'s>,
    way: Vec<NetworkInterfaceId>,
    kinds: BTreeSet<&'static str>,
    tracked: Vec<Connection>,
    /// What the sender's groups track if the path wants it.
    maybe: Option<Connection>,
    opened: Vec<(Session, u16)>,
    /// Ended by a reset, after all else.
    untracked: Vec<Connection>,
    closed: Vec<Session>,
    middlebox: bool,
    by_nat: bool,
}

impl<'s> Trip<'s> {
    fn new(seen_port: SeenPort<'s>) -> Self {
        Self {
            seen_port,
            way: Vec::new(),
            kinds: BTreeSet::new(),
            tracked: Vec::new(),
            maybe: None,
            opened: Vec::new(),
            untracked: Vec::new(),
            closed: Vec::new(),
            middlebox: false,
            by_nat: false,
        }
    }
}

fn flowing(what: What) -> Flowing {
    match what {
        What::Echo(id) => (1, id, 0),
        What::EchoReply(id) => (1, 0, id),
        What::Udp(from, to) => (17, from, to),
        What::Tcp(from, to, _) => (6, from, to),
        What::Error { .. } => (1, 0, 0),
        What::Other(protocol) => (protocol, 0, 0),
    }
}

fn is_reset(what: What) -> bool {
    matches!(what, What::Tcp(_, _, Tcp::Rst))
}

fn back((protocol, a, b): Flowing) -> Flowing {
    (protocol, b, a)
}

impl<'a> Oracle<'a> {
    /// An observer who has seen nothing.
    #[must_use]
    pub fn new(world: &'a World) -> Self {
        Self { world, tracked: HashSet::new(), ports: HashMap::new() }
    }

    /// So much time passes that everything is forgotten.
    pub fn forget(&mut self) {
        *self = Self::new(self.world);
    }

    /// The world changes; what is tracked is tracked on (SG-17).
    #[must_use]
    pub fn after<'b>(self, world: &'b World) -> Oracle<'b> {
        Oracle { world, tracked: self.tracked, ports: self.ports }
    }

    /// What becomes of a packet that somebody sends; `next` is an interface's.
    pub fn judge(&mut self, sender: Party, next: NextHop, sent: Datum, seen_port: SeenPort<'_>) -> Judgement {
        let mut trip = Trip::new(seen_port);
        let fate = match sender {
            Party::Interface(eni) => self.sent(eni, next, sent, &mut trip),
            Party::Host(host) => self.host_sent(host, sent, &mut trip),
        };
        if !matches!(fate, Fate::Dropped(_)) {
            self.learn(&trip);
        }
        Judgement { fate, way: trip.way, kinds: trip.kinds }
    }

    fn learn(&mut self, trip: &Trip<'_>) {
        let both = |&(eni, a, b, flow): &Connection| [(eni, a, b, flow), (eni, b, a, back(flow))];
        self.tracked.extend(trip.tracked.iter().flat_map(both));
        self.ports.extend(trip.opened.iter().copied());
        for connection in trip.untracked.iter().flat_map(both) {
            self.tracked.remove(&connection); // SG-19
        }
        for session in &trip.closed {
            self.ports.remove(session);
        }
    }

    fn eni(&self, id: NetworkInterfaceId) -> &'a NetworkInterface {
        self.world.network_interface(id).unwrap()
    }

    fn vpc_of(&self, subnet: SubnetId) -> VpcId {
        self.world.subnet(subnet).unwrap().vpc
    }

    /// Who has an address in a VPC.
    fn owner(&self, vpc: VpcId, address: Ipv4Addr) -> Option<&'a NetworkInterface> {
        self.world.network_interfaces().find(|eni| eni.private_ip == address && self.vpc_of(eni.subnet) == vpc)
    }

    fn is_router(&self, vpc: VpcId, address: Ipv4Addr) -> bool {
        self.world.subnets().any(|subnet| subnet.vpc == vpc && subnet.router() == address)
    }

    fn sent(&self, sender: NetworkInterfaceId, next: NextHop, packet: Datum, trip: &mut Trip<'_>) -> Fate {
        let eni = self.eni(sender);
        trip.way.push(sender);
        if packet.src != eni.private_ip {
            if eni.source_dest_check {
                return Fate::Dropped(Place::SourceCheck(sender)); // SDC-1
            }
            trip.middlebox = true; // SG-7
        }
        if is_nobodys(packet.src) || is_nobodys(packet.dst) {
            return Fate::Dropped(Place::NotUnicast(sender));
        }
        let home = self.world.subnet(eni.subnet).unwrap();
        if self.world.network_interfaces().any(|e| e.private_ip == packet.dst && self.vpc_of(e.subnet) != home.vpc) {
            trip.kinds.insert("overlapping VPCs");
        }
        if next == NextHop::Router && self.owner(home.vpc, packet.dst).is_some_and(|e| e.subnet == home.id) {
            trip.kinds.insert("hairpin");
        }
        if next == NextHop::Router && packet.dst == home.router() {
            // R-15, SG-25.
            return match packet.what {
                What::Echo(id) => {
                    let (src, dst, what) = (packet.dst, packet.src, What::EchoReply(id));
                    let answer = Datum { src, dst, what, ttl: 255 };
                    Fate::Answered(Box::new(Fate::Delivered(Party::Interface(sender), answer)))
                }
                _ => Fate::Dropped(Place::Router(home.id)),
            };
        }
        let metadata = packet.dst == Ipv4Addr::new(169, 254, 169, 254) && matches!(packet.what, What::Tcp(_, 80, _));
        if next == NextHop::Router && metadata {
            return Fate::Served; // SG-25
        }
        if !self.groups_allow(eni, &packet, true, trip) {
            return Fate::Dropped(Place::SecurityGroups(sender));
        }
        match next {
            NextHop::Router => self.route(eni.subnet, packet, trip),
            NextHop::Neighbour(other) => self.arrive(self.eni(other), packet, trip),
        }
    }

    fn route(&self, subnet: SubnetId, packet: Datum, trip: &mut Trip<'_>) -> Fate {
        let home = self.world.subnet(subnet).unwrap();
        let table = self.world.route_table_of(home).unwrap();
        let reserved: IpNet = "169.254.168.0/22".parse().unwrap();
        let is_reserved = reserved.contains(&IpNet::V4(packet.dst.into()));
        let all = self.routes(table);
        let mut covering = all.iter().filter(|route| route.destination.contains(&IpNet::V4(packet.dst.into())));
        let first = covering.next().map(|route| route.target);
        if covering.any(|route| Some(route.target) != first) {
            trip.kinds.insert("overlapping routes");
        }
        let Some(route) = self.longest(table.id, packet.dst).filter(|_| !is_reserved) else {
            return Fate::Dropped(Place::NoRoute(table.id));
        };
        let direct = self.owner(home.vpc, packet.dst);
        let target = match route.target {
            RouteTarget::Local => match direct {
                Some(eni) => eni,
                None if self.is_router(home.vpc, packet.dst) => return Fate::Dropped(Place::OtherRouter(table.id)),
                None => return Fate::Dropped(Place::NoSuchAddress(table.id)),
            },
            RouteTarget::InternetGateway(igw) => {
                return match self.acl_denies(subnet, true, &packet, trip) {
                    Some(acl) => Fate::Dropped(Place::NetworkAcl(acl)),
                    None => self.out_of_vpc(igw, home, packet, trip),
                };
            }
            RouteTarget::VpnGateway(vgw) => {
                return match self.acl_denies(subnet, true, &packet, trip) {
                    Some(acl) => Fate::Dropped(Place::NetworkAcl(acl)),
                    None => self.out_by_vpn(vgw, packet, trip),
                };
            }
            RouteTarget::NatGateway(nat) => self.eni(self.world.nat_gateway(nat).unwrap().network_interface),
            RouteTarget::NetworkInterface(eni) if self.eni(eni).attachment.is_none() => {
                return Fate::Dropped(Place::Blackhole(table.id)); // R-23, FO-2
            }
            RouteTarget::NetworkInterface(eni) => self.eni(eni),
        };
        if let Some(Attachment::NatGateway(nat)) = target.attachment
            && packet.src == target.private_ip
        {
            return Fate::Dropped(Place::Loop(nat)); // NAT-24
        }
        // NACL-5, NACL-6.
        if target.subnet != subnet {
            if let Some(acl) = self.acl_denies(subnet, true, &packet, trip) {
                return Fate::Dropped(Place::NetworkAcl(acl));
            }
            if let Some(acl) = self.acl_denies(target.subnet, false, &packet, trip) {
                return Fate::Dropped(Place::NetworkAcl(acl));
            }
        }
        self.arrive(target, packet, trip)
    }

    ///
    pub(crate) fn longest(&self, table: RouteTableId, address: Ipv4Addr) -> Option<Route> {
        let all = self.routes(self.world.route_table(table).unwrap()).into_iter();
        let covering = all.filter(|route| route.destination.contains(&IpNet::V4(address.into())));
        covering.max_by_key(|route| route.destination.prefix_len())
    }

    /// From a gateway on the VPC's edge into a subnet.
    fn enter(&self, eni: &NetworkInterface, packet: Datum, trip: &mut Trip<'_>) -> Fate {
        if let Some(acl) = self.acl_denies(eni.subnet, false, &packet, trip) {
            return Fate::Dropped(Place::NetworkAcl(acl)); // NACL-8
        }
        self.arrive(eni, packet, trip)
    }

    fn arrive(&self, eni: &NetworkInterface, packet: Datum, trip: &mut Trip<'_>) -> Fate {
        trip.way.push(eni.id);
        if trip.way.len() > MOST_HOPS {
            return Fate::Dropped(Place::Endless);
        }
        if let Some(Attachment::NatGateway(nat)) = eni.attachment {
            return self.nat(nat, eni, packet, trip);
        }
        if eni.attachment.is_none() {
            return Fate::Dropped(Place::Unattached(eni.id)); // FO-2
        }
        if eni.source_dest_check && packet.dst != eni.private_ip {
            return Fate::Dropped(Place::DestinationCheck(eni.id)); // SDC-2
        }
        if !self.groups_allow(eni, &packet, false, trip) {
            return Fate::Dropped(Place::SecurityGroups(eni.id));
        }
        Fate::Delivered(Party::Interface(eni.id), packet)
    }
}

///
fn is_nobodys(address: Ipv4Addr) -> bool {
    address.is_multicast() || address.is_broadcast() || address.is_loopback() || address.octets()[0] == 0
}

fn turned(what: What) -> What {
    match what {
        What::Echo(id) => What::EchoReply(id),
        What::EchoReply(id) => What::Echo(id),
        What::Udp(from, to) => What::Udp(to, from),
        What::Tcp(from, to, tcp) => What::Tcp(to, from, tcp),
        other => other,
    }
}
