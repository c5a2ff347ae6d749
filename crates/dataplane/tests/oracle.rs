//! The walk and the oracle agree on random worlds and packets: on the end, the place, and every rewritten field.
//!
//! A failure prints the seed of its world: `MINIVPC_SEED=N cargo test -p minivpc-dataplane --test oracle` repeats it.
//! `MINIVPC_WORLDS=N` asks about more worlds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use minivpc_dataplane::state::SessionKey;
use minivpc_dataplane::{Component, DropReason, Dropped, Eni, EniKind, Headers, Kind, tcp_flags};
use minivpc_model::{NetworkInterface, NetworkInterfaceId, World};
use minivpc_packet::Flow;
use minivpc_testkit::oracle::{Datum, Fate, Judgement, NextHop, Oracle, Party, Place, Session, Tcp, What};
use minivpc_testkit::random::{self, Random, body};
use minivpc_testkit::{Packet, Seen, Sim};

/// Worlds, and packets in each.
const WORLDS: u64 = 1000;
const PACKETS: usize = 30;

/// A packet as an observer writes it down.
fn observed(headers: &Headers) -> Datum {
    let Flow { src: IpAddr::V4(src), dst: IpAddr::V4(dst), protocol, src_port, dst_port } = headers.flow else {
        panic!("IPv6")
    };
    let what = match headers.kind {
        Kind::EchoRequest => What::Echo(src_port),
        Kind::EchoReply => What::EchoReply(dst_port),
        Kind::Udp => What::Udp(src_port, dst_port),
        Kind::Tcp(flags) if flags & tcp_flags::RST != 0 => What::Tcp(src_port, dst_port, Tcp::Rst),
        Kind::Tcp(flags) => {
            let tcp = match (flags & tcp_flags::SYN != 0, flags & tcp_flags::ACK != 0) {
                (true, false) => Tcp::Syn,
                (true, true) => Tcp::SynAck,
                _ => Tcp::Ack,
            };
            What::Tcp(src_port, dst_port, tcp)
        }
        Kind::IcmpError { kind, code, quoted } => {
            let (IpAddr::V4(from), IpAddr::V4(to)) = (quoted.src, quoted.dst) else { panic!("IPv6") };
            What::Error { kind, code, quoted: (from, to, (quoted.protocol, quoted.src_port, quoted.dst_port)) }
        }
        Kind::Icmp { .. } | Kind::Other => What::Other(protocol),
    };
    Datum { src, dst, what, ttl: headers.ttl }
}

/// The port that a NAT gateway uses for a session, which only an observer can tell.
fn seen_port(sim: &Sim, (nat, src, dst, flow): Session) -> Option<u16> {
    let gateway = sim.snapshot.nats.iter().find(|gateway| gateway.id == nat)?;
    let (protocol, src_port, dst_port) = flow;
    let flow = Flow { src: src.into(), dst: dst.into(), protocol, src_port, dst_port };
    let key = SessionKey { nat: sim.snapshot.eni(gateway.eni).serial, flow };
    sim.engine
        .state()
        .sessions(sim.now.tick())
        .into_iter()
        .find(|session| session.key == key)
        .map(|session| session.endpoint.port)
}

fn agrees(place: Place, dropped: &Dropped) -> bool {
    use Component as At;
    use DropReason as Why;
    match (place, dropped.component, dropped.reason) {
        (Place::SourceCheck(eni), At::NetworkInterface(by), Why::SourceCheck)
        | (Place::NotUnicast(eni), At::NetworkInterface(by), Why::NotUnicast)
        | (Place::DestinationCheck(eni), At::NetworkInterface(by), Why::DestinationCheck)
        | (Place::SecurityGroups(eni), At::SecurityGroups(by), Why::SecurityGroup) => eni == by,
        (Place::NoRoute(table), At::RouteTable(by), Why::NoRoute)
        | (Place::NoSuchAddress(table), At::RouteTable(by), Why::NoSuchAddress)
        | (Place::OtherRouter(table), At::RouteTable(by), Why::RouterAddress)
        | (Place::NoPublicMiddlebox(table), At::RouteTable(by), Why::MiddleboxWithoutPublicAddress) => table == by,
        (Place::Router(subnet), At::Subnet(by), Why::RouterAddress) => subnet == by,
        (Place::NetworkAcl(acl), At::NetworkAcl(by), Why::NetworkAcl) => acl == by,
        (Place::PrivateDestination(igw), At::InternetGateway(by), Why::PrivateDestination | Why::SharedDestination)
        | (Place::NoPublicAddress(igw), At::InternetGateway(by), Why::NoPublicAddress)
        | (Place::PrivateSource(igw), At::InternetGateway(by), Why::PrivateSource | Why::SharedSource)
        | (Place::Redirected(igw), At::InternetGateway(by), Why::Redirected)
        | (Place::NobodysPublicAddress(igw), At::InternetGateway(by), Why::NoSuchPublicAddress)
        | (Place::Spoofed(igw), At::InternetGateway(by), Why::Spoofed) => igw == by,
        (Place::VpnSource(vgw), At::VpnGateway(by), Why::VpnSource)
        | (Place::VpnNoRoute(vgw), At::VpnGateway(by), Why::VpnNoRoute)
        | (Place::VpnSpoofed(vgw), At::VpnGateway(by), Why::Spoofed)
        | (Place::VpnDestination(vgw), At::VpnGateway(by), Why::VpnDestination) => vgw == by,
        (Place::Site(site), At::VpnConnection(by), Why::NoSuchHost | Why::CustomerRouter | Why::TtlExpired) => {
            site == by
        }
        (Place::Blackhole(table), At::RouteTable(by), Why::Blackhole) => table == by,
        (Place::Unattached(eni), At::NetworkInterface(by), Why::NotInService) => eni == by,
        (Place::HostSends(host), At::Host(by), Why::NotUnicast) => host == by,
        (Place::Internet, At::Internet, Why::NoSuchHost | Why::TtlExpired) => true,
        (Place::NoSession(nat), At::NatGateway(by), Why::NatNoSession)
        | (Place::NatProtocol(nat), At::NatGateway(by), Why::NatProtocol)
        | (Place::Loop(nat), At::NatGateway(by), Why::RouteLoop)
        | (Place::NoErrorAboutAnError(nat), At::NatGateway(by), Why::TtlExpired) => nat == by,
        (Place::Endless, _, Why::RouteLoop) => true,
        _ => false,
    }
}

/// Which kinds of cases were met, so that a generator that has become tame is noticed.
#[derive(Default)]
struct Met(BTreeMap<&'static str, usize>);

impl Met {
    fn count(&mut self, what: &'static str, met: bool) {
        *self.0.entry(what).or_default() += usize::from(met);
    }

    fn judged(&mut self, (sender, next, sent): Sent, fate: &Fate, kinds: &BTreeSet<&'static str>) {
        let arrived = match fate {
            Fate::Delivered(_, arrived) => Some(arrived),
            _ => None,
        };
        self.count("packets", true);
        self.count("delivered", arrived.is_some());
        self.count("answered", matches!(fate, Fate::Answered(_)));
        self.count("served", *fate == Fate::Served);
        self.count("translated", arrived.is_some_and(|arrived| arrived.src != sent.src));
        self.count("through two gateways", arrived.is_some() && kinds.contains("two gateways"));
        self.count("same subnet", matches!(next, NextHop::Neighbour(_)));
        kinds.iter().for_each(|kind| self.count(kind, true));
        if let Fate::Dropped(place) = fate {
            self.count(kind_of(*place), true);
            self.count("denied on the way out", Some(*place) == by(sender, Place::SecurityGroups));
        }
    }
}

fn names(arrived: &[(String, Seen)]) -> Vec<(&str, String)> {
    arrived.iter().map(|(name, seen)| (name.as_str(), seen.headers.to_string())).collect()
}

fn kind_of(place: Place) -> &'static str {
    match place {
        Place::SourceCheck(_) => "source check",
        Place::NotUnicast(_) => "not unicast",
        Place::SecurityGroups(_) => "security group",
        Place::NoRoute(_) => "no route",
        Place::NoSuchAddress(_) => "no such address",
        Place::OtherRouter(_) | Place::Router(_) => "router",
        Place::NetworkAcl(_) => "network acl",
        Place::PrivateDestination(_) => "private destination",
        Place::NoPublicAddress(_) => "no public address",
        Place::Redirected(_) => "redirected",
        Place::NoPublicMiddlebox(_) => "middlebox without a public address",
        Place::PrivateSource(_) => "private source",
        Place::Spoofed(_) => "spoofed",
        Place::NobodysPublicAddress(_) => "nobody's public address",
        Place::VpnSource(_) => "not for a site",
        Place::VpnNoRoute(_) => "no such site",
        Place::VpnSpoofed(_) => "spoofed by a site",
        Place::VpnDestination(_) => "no such interface",
        Place::Site(_) => "site",
        Place::Blackhole(_) => "blackhole",
        Place::Unattached(_) => "unattached",
        Place::HostSends(_) => "not unicast, by a host",
        Place::Internet => "internet",
        Place::NoSession(_) => "no session",
        Place::NatProtocol(_) => "nat protocol",
        Place::Loop(_) => "loop",
        Place::Endless => "endless loop",
        Place::NoErrorAboutAnError(_) => "error about an error",
        Place::DestinationCheck(_) => "destination check",
    }
}

fn new_drops(before: &[Dropped], after: &[Dropped]) -> Vec<Dropped> {
    let count = |all: &[Dropped], like: &Dropped| {
        let same = all.iter().filter(|other| {
            (other.reason, other.component, other.sender) == (like.reason, like.component, like.sender)
        });
        same.map(|other| other.count).sum::<u64>()
    };
    let more = after.iter().filter(|dropped| count(after, dropped) > count(before, dropped));
    let mut new: Vec<Dropped> = more.copied().collect();
    // The one that changed last, of those that differ in their packets only.
    new.sort_by_key(|dropped| std::cmp::Reverse(dropped.last));
    new.dedup_by_key(|dropped| (dropped.reason, dropped.component, dropped.sender));
    new
}

/// Who sends what, and to whom on its link.
type Sent = (Party, NextHop, Datum);

fn by(sender: Party, place: impl Fn(NetworkInterfaceId) -> Place) -> Option<Place> {
    match sender {
        Party::Interface(eni) => Some(place(eni)),
        Party::Host(_) => None,
    }
}

/// An engine and an oracle of one world.
struct Lab<'a> {
    world: &'a World,
    sim: Sim,
    oracle: Oracle<'a>,
    met: &'a mut Met,
    /// What has arrived, in order.
    passed: Vec<Sent>,
}

impl<'a> Lab<'a> {
    fn new(world: &'a World, met: &'a mut Met) -> Self {
        let mut sim = Sim::new(world);
        sim.silence();
        Self { world, sim, oracle: Oracle::new(world), met, passed: Vec::new() }
    }

    /// The world changes under its flows.
    fn after(mut self, world: &'a World) -> Self {
        self.sim.publish(world);
        Self { world, oracle: self.oracle.after(world), ..self }
    }

    /// One packet: what the engine makes of it, and whether the oracle agrees. Its way, and what arrived where, if it
    /// did.
    fn check(&mut self, (sender, next, sent): Sent) -> (Vec<NetworkInterfaceId>, Option<(Party, Datum)>) {
        let before = self.sim.drops_in_full();
        let arrived = self.send(sender, next, sent);
        let dropped = new_drops(&before, &self.sim.drops_in_full());
        let seen_port = |session| seen_port(&self.sim, session);
        let Judgement { fate, way, kinds } = self.oracle.judge(sender, next, sent, &seen_port);
        let context = || format!("{sent:?} by {sender:?} {next:?}: {fate:?}, but {:?} {dropped:?}", names(&arrived));
        self.met.judged((sender, next, sent), &fate, &kinds);
        let last = match &fate {
            Fate::Answered(then) => then,
            fate => fate,
        };
        let received = match last {
            Fate::Dropped(place) => {
                assert!(arrived.is_empty() && dropped.len() == 1, "{}", context());
                assert!(agrees(*place, &dropped[0]), "{}", context());
                None
            }
            Fate::Delivered(receiver, expected) => {
                assert!(arrived.len() == 1 && dropped.is_empty(), "{}", context());
                let (name, seen) = &arrived[0];
                let port = self.port(*receiver);
                assert_eq!(name, self.sim.snapshot.name(port), "{}", context());
                assert_eq!(observed(&seen.headers), *expected, "{}", context());
                Some((*receiver, *expected))
            }
            Fate::Served => {
                assert!(arrived.is_empty() && dropped.is_empty(), "{}", context());
                None
            }
            Fate::Answered(_) => panic!("{}", context()),
        };
        if let Fate::Delivered(..) = fate {
            self.passed.push((sender, next, sent));
        }
        (way, received)
    }

    fn port(&self, party: Party) -> u16 {
        self.sim.snapshot.port_of(party.serial(self.world)).unwrap()
    }

    fn send(&mut self, sender: Party, next: NextHop, sent: Datum) -> Vec<(String, Seen)> {
        let snapshot = &self.sim.snapshot;
        let port = self.port(sender);
        let mac = match next {
            NextHop::Neighbour(eni) => self.world.network_interface(eni).unwrap().mac.0,
            NextHop::Router => snapshot.macs(port).1.0,
        };
        let is_guest = |eni: &&Eni| matches!(eni.kind, EniKind::Guest { .. });
        let enis = snapshot.enis.iter().filter(is_guest).map(|eni| &eni.name);
        let guests: Vec<_> = enis.chain(snapshot.hosts.iter().map(|host| &host.name)).cloned().collect();
        let from = snapshot.name(port).to_owned();
        let packet = Packet { src: Some(sent.src), dst: sent.dst, ttl: sent.ttl, body: body(sent.what) };
        // Each at a time of its own, so that the newest drop is the last packet's.
        self.sim.now = minivpc_dataplane::Now(self.sim.now.0 + 1);
        self.sim.send_to_mac(&from, &packet, mac);
        let received = guests.into_iter().map(|name| (self.sim.received(&name), name));
        received.flat_map(|(all, name)| all.into_iter().map(move |seen| (name.clone(), seen))).collect()
    }

    /// A packet, and perhaps its receiver's answer, by its router or straight.
    fn converse(&mut self, random: &mut Random, request: Sent) {
        let (way, arrived) = self.check(request);
        let Some((receiver, arrived)) = arrived else { return };
        let Some(what) = answer(random, &arrived) else { return };
        let ttl = random.of(&random::TTLS);
        let reply = Datum { src: arrived.dst, dst: arrived.src, what, ttl };
        let subnet_of = |party| match party {
            Party::Interface(eni) => Some(self.world.network_interface(eni).unwrap().subnet),
            Party::Host(_) => None,
        };
        let subnet = subnet_of(receiver);
        let is_near = |eni: &&NetworkInterface| Some(eni.subnet) == subnet && Party::Interface(eni.id) != receiver;
        let mut others = self.world.network_interfaces().filter(is_near);
        let neighbour = others.find(|eni| eni.private_ip == reply.dst);
        let next = neighbour.map_or(NextHop::Router, |eni| NextHop::Neighbour(eni.id));
        let (back, arrived) = self.check((receiver, next, reply));
        self.met.count("replied", true);
        self.met.count("replied with an error", matches!(what, What::Error { .. }));
        self.met.count("reply by another way", back.iter().rev().ne(&way));
        if arrived.is_some() {
            self.go_on(random, request);
        }
    }

    /// Who has opened a TCP connection says more on it or resets it, perhaps after so long that nobody knows of it.
    fn go_on(&mut self, random: &mut Random, (sender, next, sent): Sent) {
        let What::Tcp(from, to, _) = sent.what else { return };
        if random.one_in(3) {
            self.sim.wait(500_000);
            self.oracle.forget();
            self.passed.clear();
        }
        for tcp in [random.of(&[Tcp::Ack, Tcp::Rst]), random.of(&[Tcp::Ack, Tcp::Syn])] {
            self.check((sender, next, Datum { what: What::Tcp(from, to, tcp), ..sent }));
        }
    }
}

fn ask(seed: u64, met: &mut Met) {
    let mut random = Random(seed);
    let world = random::world(&mut random);
    let after = random::revoked(&mut random, &world);
    let far = random::far(&world);
    let mut lab = Lab::new(&world, met);
    for _ in 0..PACKETS {
        let request = random::packet(&mut random, &world, &far);
        lab.converse(&mut random, request);
    }
    // What has passed is sent again when some rules are gone: what is tracked goes on (SG-17).
    let passed = std::mem::take(&mut lab.passed);
    let mut lab = lab.after(&after);
    for again in passed.into_iter().filter(|_| random.one_in(2)) {
        lab.check(again);
    }
    lab.met.count("worlds with a gateway", world.nat_gateways().count() > 0);
    let appliances = world.network_interfaces().filter(|eni| !eni.source_dest_check && eni.instance().is_some());
    lab.met.count("worlds with an appliance", appliances.count() > 0);
}

fn answer(random: &mut Random, arrived: &Datum) -> Option<What> {
    let (what, flow) = match arrived.what {
        What::Echo(id) => (What::EchoReply(id), (1, id, 0)),
        What::Udp(from, to) => (What::Udp(to, from), (17, from, to)),
        What::Tcp(from, to, Tcp::Syn) => {
            (What::Tcp(to, from, random.of(&[Tcp::SynAck, Tcp::SynAck, Tcp::Rst])), (6, from, to))
        }
        _ => return None,
    };
    let unreachable = What::Error { kind: 3, code: 3, quoted: (arrived.src, arrived.dst, flow) };
    random.of(&[None, None, Some(what), Some(what), Some(unreachable)])
}

#[test]
fn the_walk_and_the_oracle_agree() {
    let mut met = Met::default();
    let worlds = random::each_seed(WORLDS, |seed| ask(seed, &mut met));
    println!("{:#?}", met.0);
    if worlds >= WORLDS {
        let enough = |one_in: usize, cases: &[&str]| {
            for case in cases {
                assert!(met.0[*case] * one_in > met.0["packets"], "not one packet of {one_in} is a case of '{case}'");
            }
        };
        enough(2000, &["redirected", "asymmetric return", "led to a middlebox", "middlebox without a public address"]);
        enough(5000, &["not for a site", "served"]);
        enough(2000, &["no such interface", "no such site"]);
        enough(1000, &["blackhole", "unattached", "led to a middlebox from a site", "spoofed by a site", "site"]);
        enough(200, &["reference behind a middlebox"]);
        enough(100, &["to a site", "from a site"]);
        enough(400, &["private destination", "private source", "spoofed", "internet", "hairpin by public addresses"]);
        let usual = [
            "delivered",
            "answered",
            "translated",
            "through two gateways",
            "reset",
            "replied",
            "replied with an error",
            "reply by another way",
            "same subnet",
            "hairpin",
            "overlapping VPCs",
            "overlapping routes",
            "overlapping rules",
            "contradicting entries",
            "reference",
            "tracked by path",
            "tracked alone",
            "source check",
            "security group",
            "no route",
            "no such address",
            "network acl",
            "no public address",
            "out of the VPC",
            "into the VPC",
            "no session",
            "destination check",
        ];
        enough(100, &usual);
    }
}
