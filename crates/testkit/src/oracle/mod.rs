//! What AWS does with a packet, straight from the model.
//!
//! Naive on purpose: every question is a scan over the world's lists, every rule quotes its id, and nothing here is
//! shared with what it judges. It keeps only what an observer could know: which flows each interface tracks, and which
//! port a NAT gateway was seen to use for a session.

use std::collections::{HashMap, HashSet};
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
    /// TCP, source and destination port, and whether it is a first SYN, its answer, or neither.
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
}

/// What makes a flow besides its addresses: protocol and two numbers, of which an echo has one.
pub type Flowing = (u8, u16, u16);

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at this interface, so.
    Delivered(NetworkInterfaceId, Datum),
    /// It ends with an answer to its sender, and this becomes of the answer.
    Answered(Box<Fate>),
    /// It is dropped.
    Dropped(Place),
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
    /// Not built yet.
    InternetGateway(InternetGatewayId),
    /// NAT-21.
    NoSession(NatGatewayId),
    /// NAT-8.
    NatProtocol(NatGatewayId),
    /// NAT-22, NAT-24.
    Loop(NatGatewayId),
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

type Session = (NatGatewayId, Ipv4Addr, Ipv4Addr, Flowing);

/// The observer.
#[derive(Debug, Clone)]
pub struct Oracle<'a> {
    world: &'a World,
    /// Flows that an interface tracks, by both directions.
    tracked: HashSet<(NetworkInterfaceId, Ipv4Addr, Ipv4Addr, Flowing)>,
    /// Port of a client's session.
    ports: HashMap<Session, u16>,
}

/// What one packet's way adds to what the observer knows.
#[derive(Debug, Default, Clone)]
struct News {
    tracked: Vec<(NetworkInterfaceId, Ipv4Addr, Ipv4Addr, Flowing)>,
    maybe: Option<(NetworkInterfaceId, Ipv4Addr, Ipv4Addr, Flowing)>,
    session: Option<Session>,
    middlebox: bool,
    by_nat: bool,
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

fn back((protocol, a, b): Flowing) -> Flowing {
    (protocol, b, a)
}

impl<'a> Oracle<'a> {
    /// An observer who has seen nothing.
    #[must_use]
    pub fn new(world: &'a World) -> Self {
        Self { world, tracked: HashSet::new(), ports: HashMap::new() }
    }

    /// What becomes of a packet that an interface sends. `seen_port` is the port that a NAT gateway was seen to put in,
    /// which nobody can foretell (NAT-9).
    pub fn judge(&mut self, sender: NetworkInterfaceId, next: NextHop, sent: Datum, seen_port: Option<u16>) -> Fate {
        let mut news = News::default();
        let fate = self.sent(sender, next, sent, seen_port, &mut news);
        if !matches!(fate, Fate::Dropped(_)) {
            for (eni, a, b, flow) in news.tracked {
                self.tracked.insert((eni, a, b, flow));
                self.tracked.insert((eni, b, a, back(flow)));
            }
            if let (Some(session), Some(port)) = (news.session, seen_port) {
                self.ports.insert(session, port);
            }
        }
        fate
    }

    /// A reset reached the sender of a packet: its interface tracks the flow no longer (SG-19).
    pub fn reset(&mut self, sender: NetworkInterfaceId, sent: &Datum) {
        let flow = flowing(sent.what);
        self.tracked.remove(&(sender, sent.src, sent.dst, flow));
        self.tracked.remove(&(sender, sent.dst, sent.src, back(flow)));
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

    fn sent(
        &self,
        sender: NetworkInterfaceId,
        next: NextHop,
        packet: Datum,
        seen_port: Option<u16>,
        news: &mut News,
    ) -> Fate {
        let eni = self.eni(sender);
        if packet.src != eni.private_ip {
            if eni.source_dest_check {
                return Fate::Dropped(Place::SourceCheck(sender)); // SDC-1
            }
            news.middlebox = true; // SG-7
        }
        if packet.dst.is_multicast() || packet.dst.is_broadcast() || packet.dst.octets()[0] == 0 {
            return Fate::Dropped(Place::NotUnicast(sender));
        }
        let home = self.world.subnet(eni.subnet).unwrap();
        if next == NextHop::Router && packet.dst == home.router() {
            // R-15, SG-25.
            return match packet.what {
                What::Echo(id) => {
                    let (src, dst, what) = (packet.dst, packet.src, What::EchoReply(id));
                    Fate::Answered(Box::new(Fate::Delivered(sender, Datum { src, dst, what, ttl: 255 })))
                }
                _ => Fate::Dropped(Place::Router(home.id)),
            };
        }
        if !self.groups_allow(eni, &packet, true, news) {
            return Fate::Dropped(Place::SecurityGroups(sender));
        }
        match next {
            NextHop::Router => self.route(eni.subnet, packet, seen_port, news),
            NextHop::Neighbour(other) => self.arrive(self.eni(other), packet, seen_port, news),
        }
    }

    fn route(&self, subnet: SubnetId, packet: Datum, seen_port: Option<u16>, news: &mut News) -> Fate {
        let home = self.world.subnet(subnet).unwrap();
        let table = self.world.route_table_of(home).unwrap();
        //
        let covering = table.routes.iter().filter(|route| route.destination.contains(&IpNet::V4(packet.dst.into())));
        let reserved: IpNet = "169.254.168.0/22".parse().unwrap();
        let covering = covering.filter(|_| !reserved.contains(&IpNet::V4(packet.dst.into())));
        let Some(route) = covering.max_by_key(|route| route.destination.prefix_len()) else {
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
                return match self.acl_denies(subnet, true, &packet) {
                    Some(acl) => Fate::Dropped(Place::NetworkAcl(acl)),
                    None => Fate::Dropped(Place::InternetGateway(igw)),
                };
            }
            RouteTarget::NatGateway(nat) => self.eni(self.world.nat_gateway(nat).unwrap().network_interface),
            RouteTarget::NetworkInterface(eni) => self.eni(eni),
        };
        if let Attachment::NatGateway(nat) = target.attachment
            && packet.src == target.private_ip
        {
            return Fate::Dropped(Place::Loop(nat)); // NAT-24
        }
        // NACL-5, NACL-6.
        if target.subnet != subnet {
            if let Some(acl) = self.acl_denies(subnet, true, &packet) {
                return Fate::Dropped(Place::NetworkAcl(acl));
            }
            if let Some(acl) = self.acl_denies(target.subnet, false, &packet) {
                return Fate::Dropped(Place::NetworkAcl(acl));
            }
        }
        self.arrive(target, packet, seen_port, news)
    }

    fn arrive(&self, eni: &NetworkInterface, packet: Datum, seen_port: Option<u16>, news: &mut News) -> Fate {
        if let Attachment::NatGateway(nat) = eni.attachment {
            return self.nat(nat, eni, packet, seen_port, news);
        }
        if eni.source_dest_check && packet.dst != eni.private_ip {
            return Fate::Dropped(Place::DestinationCheck(eni.id)); // SDC-2
        }
        if !self.groups_allow(eni, &packet, false, news) {
            return Fate::Dropped(Place::SecurityGroups(eni.id));
        }
        Fate::Delivered(eni.id, packet)
    }

    fn nat(
        &self,
        nat: NatGatewayId,
        eni: &NetworkInterface,
        packet: Datum,
        seen_port: Option<u16>,
        news: &mut News,
    ) -> Fate {
        let own = eni.private_ip;
        let no_session = Fate::Dropped(Place::NoSession(nat));
        if packet.src == own {
            return Fate::Dropped(Place::Loop(nat)); // NAT-22
        }
        let (after, opens) = if packet.dst == own {
            match self.translate_back(nat, own, &packet) {
                Some(after) => (after, None),
                None => return no_session, // NAT-21
            }
        } else {
            if packet.ttl <= 1 {
                return self.time_exceeded(nat, eni, packet, news);
            }
            match self.translate(nat, own, &packet, seen_port) {
                Ok(translated) => translated,
                Err(fate) => return fate,
            }
        };
        if packet.ttl <= 1 {
            return self.time_exceeded(nat, eni, packet, news); // NAT-15
        }
        news.session = opens.or(news.session);
        news.middlebox = true;
        news.by_nat = true; // SG-15
        news.tracked.extend(news.maybe.take());
        self.route(eni.subnet, Datum { ttl: packet.ttl - 1, ..after }, seen_port, news)
    }

    /// A reply, or an error about what the gateway sent; none if it is for no session.
    fn translate_back(&self, nat: NatGatewayId, own: Ipv4Addr, packet: &Datum) -> Option<Datum> {
        // What the gateway had sent, and to whom.
        let (peer, (protocol, port, peer_port)) = match packet.what {
            What::Error { quoted: (src, dst, flow), .. } if src == own => (dst, flow),
            What::Error { .. } => return None,
            what => (packet.src, back(flowing(what))),
        };
        let (session, _) = self.ports.iter().find(|((gateway, _, dst, flow), leased)| {
            *gateway == nat && *dst == peer && flow.0 == protocol && flow.2 == peer_port && **leased == port
        })?;
        let (_, client, dst, flow) = *session;
        let what = match packet.what {
            What::EchoReply(_) => What::EchoReply(flow.1),
            What::Echo(_) => return None,
            What::Udp(..) => What::Udp(flow.2, flow.1),
            What::Tcp(_, _, tcp) => What::Tcp(flow.2, flow.1, tcp),
            What::Error { kind, code, .. } => What::Error { kind, code, quoted: (client, dst, flow) },
            What::Other(_) => return None,
        };
        Some(Datum { dst: client, what, ..*packet })
    }

    fn translate(
        &self,
        nat: NatGatewayId,
        own: Ipv4Addr,
        packet: &Datum,
        seen_port: Option<u16>,
    ) -> Result<(Datum, Option<Session>), Fate> {
        let no_session = Fate::Dropped(Place::NoSession(nat));
        if let What::Error { kind, code, quoted: (src, dst, flow) } = packet.what {
            // NAT-14: about a packet that this client had received through the gateway.
            let port = self.ports.get(&(nat, dst, src, back(flow))).ok_or(no_session)?;
            let quoted = (src, own, (flow.0, flow.1, *port));
            return Ok((Datum { src: own, what: What::Error { kind, code, quoted }, ..*packet }, None));
        }
        let session = (nat, packet.src, packet.dst, flowing(packet.what));
        let known = self.ports.get(&session).copied();
        let opens = match packet.what {
            What::Other(_) => return Err(Fate::Dropped(Place::NatProtocol(nat))), // NAT-8
            What::Echo(_) | What::Udp(..) | What::Tcp(_, _, Tcp::Syn) => true,
            _ => false,
        };
        if known.is_none() && !opens {
            return Err(match packet.what {
                What::Tcp(_, _, Tcp::Ack) => Fate::Answered(Box::new(no_session)), // NAT-18; a reset isn't judged here
                _ => no_session,
            });
        }
        let port = known.or(seen_port).unwrap_or_default();
        let what = match packet.what {
            What::Echo(_) => What::Echo(port),
            What::EchoReply(id) => What::EchoReply(id),
            What::Udp(_, to) => What::Udp(port, to),
            What::Tcp(_, to, tcp) => What::Tcp(port, to, tcp),
            other => other,
        };
        Ok((Datum { src: own, what, ..*packet }, known.is_none().then_some(session)))
    }

    fn time_exceeded(&self, nat: NatGatewayId, eni: &NetworkInterface, packet: Datum, news: &News) -> Fate {
        if matches!(packet.what, What::Error { .. }) {
            return Fate::Dropped(Place::NoErrorAboutAnError(nat));
        }
        let quoted = (packet.src, packet.dst, flowing(packet.what));
        let what = What::Error { kind: 11, code: 0, quoted };
        let answer = Datum { src: eni.private_ip, dst: packet.src, what, ttl: 255 };
        // The sender's groups know by then what it has sent.
        let mut known = self.clone();
        for &(eni, a, b, flow) in &news.tracked {
            known.tracked.insert((eni, a, b, flow));
            known.tracked.insert((eni, b, a, back(flow)));
        }
        Fate::Answered(Box::new(known.route(eni.subnet, answer, None, &mut News::default())))
    }

    /// Asks an interface's groups, and notes what they will track.
    fn groups_allow(&self, eni: &NetworkInterface, packet: &Datum, egress: bool, news: &mut News) -> bool {
        let key = |flow: (Ipv4Addr, Ipv4Addr, Flowing)| (eni.id, flow.0, flow.1, flow.2);
        let flow = (packet.src, packet.dst, flowing(packet.what));
        if !matches!(packet.what, What::Error { .. }) && self.tracked.contains(&key(flow)) {
            return true; // SG-12
        }
        if let What::Error { quoted, .. } = packet.what {
            // SG-21.
            let (src, dst, flow) = quoted;
            let sent = Datum { src, dst, what: sent_as(flow), ttl: 0 };
            if self.tracked.contains(&key(quoted)) || self.untracked(eni, &sent, !egress) {
                return true;
            }
        }
        let other = if egress { packet.dst } else { packet.src };
        let allowed = self.rules(eni, egress).any(|rule| {
            covers(rule.traffic, packet)
                && match rule.peer {
                    Peer::Cidr(net) => net.contains(&IpNet::V4(other.into())),
                    // SG-5, SG-7.
                    Peer::SecurityGroup(group) => {
                        !news.middlebox
                            && self
                                .world
                                .network_interfaces()
                                .any(|member| member.groups.contains(&group) && member.private_ip == other)
                    }
                }
        });
        if allowed && !matches!(packet.what, What::Error { .. }) {
            let untracked = matches!(packet.what, What::Udp(..) | What::Tcp(..)) && self.untracked(eni, packet, egress);
            match (untracked, news.by_nat) {
                (true, false) => news.maybe = Some(key(flow)),
                _ => news.tracked.push(key(flow)),
            }
        }
        allowed
    }

    fn rules(&self, eni: &NetworkInterface, egress: bool) -> impl Iterator<Item = &'a SecurityGroupRule> {
        let groups: Vec<_> = eni.groups.iter().map(|id| self.world.security_group(*id).unwrap()).collect();
        groups.into_iter().flat_map(move |group| if egress { &group.egress } else { &group.ingress })
    }

    /// SG-13, for a packet of either side.
    fn untracked(&self, eni: &NetworkInterface, packet: &Datum, egress: bool) -> bool {
        let turned = Datum { src: packet.dst, dst: packet.src, what: turned(packet.what), ttl: 0 };
        [(*packet, egress), (turned, !egress)].into_iter().any(|(packet, egress)| {
            let everybody = |rule: &&SecurityGroupRule| rule.peer == Peer::Cidr("0.0.0.0/0".parse().unwrap());
            let opens = self.rules(eni, egress).filter(everybody).any(|rule| covers(rule.traffic, &packet));
            let every_port = PortRange { from: 0, to: u16::MAX };
            let any_port = |rule: &SecurityGroupRule| {
                rule.traffic == Traffic::All
                    || rule.traffic == Traffic::Tcp(every_port) && matches!(packet.what, What::Tcp(..))
                    || rule.traffic == Traffic::Udp(every_port) && matches!(packet.what, What::Udp(..))
            };
            let about_ports = matches!(packet.what, What::Tcp(..) | What::Udp(..));
            about_ports && opens && self.rules(eni, !egress).filter(everybody).any(any_port)
        })
    }

    /// The list that denies, if it does (NACL-2).
    fn acl_denies(&self, subnet: SubnetId, egress: bool, packet: &Datum) -> Option<NetworkAclId> {
        let acl = self.world.network_acl(self.world.subnet(subnet).unwrap().network_acl).unwrap();
        let other = if egress { packet.dst } else { packet.src };
        let entries = if egress { &acl.egress } else { &acl.ingress };
        let mut numbers: Vec<_> = entries.keys().collect();
        numbers.sort_unstable();
        let decides = numbers
            .into_iter()
            .map(|number| &entries[number])
            .find(|entry| covers(entry.traffic, packet) && entry.cidr.contains(&IpNet::V4(other.into())));
        match decides.map(|entry| entry.action) {
            Some(RuleAction::Allow) => None,
            Some(RuleAction::Deny) | None => Some(acl.id),
        }
    }
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

fn sent_as((protocol, from, to): Flowing) -> What {
    match protocol {
        17 => What::Udp(from, to),
        6 => What::Tcp(from, to, Tcp::Ack),
        other => What::Other(other),
    }
}

/// SG-3, NACL-3, NACL-4.
fn covers(traffic: Traffic, packet: &Datum) -> bool {
    let icmp = match packet.what {
        What::Echo(_) => Some((8, 0)),
        What::EchoReply(_) => Some((0, 0)),
        What::Error { kind, code, .. } => Some((kind, code)),
        _ => None,
    };
    match (traffic, packet.what) {
        (Traffic::All, _) => true,
        (Traffic::Tcp(ports), What::Tcp(_, to, _)) | (Traffic::Udp(ports), What::Udp(_, to)) => {
            ports.from <= to && to <= ports.to
        }
        (Traffic::Icmp { kind, code }, _) => {
            icmp.is_some_and(|(k, c)| kind.is_none_or(|kind| kind == k) && code.is_none_or(|code| code == c))
        }
        (Traffic::Protocol(number), what) => number == flowing(what).0,
        _ => false,
    }
}
