//! The walk and the oracle agree on random worlds and packets: on the end, the place, and every rewritten field.
//!
//! A failure prints the seed of its world: `MINIVPC_SEED=N cargo test -p minivpc-dataplane --test oracle` repeats it.
//! `MINIVPC_WORLDS=N` asks about more worlds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use minivpc_dataplane::{Component, DropReason, Dropped, Headers, Kind, Snapshot, tcp_flags};
use minivpc_model::{Attachment, World};
use minivpc_packet::Flow;
use minivpc_testkit::oracle::{Datum, Fate, NextHop, Oracle, Place, Tcp, What};
use minivpc_testkit::random::{self, Random};
use minivpc_testkit::{Body, Packet, Seen, Sim};

/// Worlds, and packets in each.
const WORLDS: u64 = 1500;
const PACKETS: usize = 40;

fn body(what: What) -> Body {
    match what {
        What::Echo(id) => Body::Echo { id, seq: 1 },
        What::EchoReply(id) => Body::EchoReply { id },
        What::Udp(from, to) => Body::Udp { from, to, length: 8 },
        What::Tcp(from, to, tcp) => {
            let flags = match tcp {
                Tcp::Syn => tcp_flags::SYN,
                Tcp::SynAck => tcp_flags::SYN | tcp_flags::ACK,
                Tcp::Ack => tcp_flags::ACK,
            };
            Body::Tcp { from, to, flags }
        }
        What::Other(protocol) => Body::Other { protocol, bytes: vec![0; 16] },
        What::Error { .. } => panic!("guests of this test send no errors"),
    }
}

/// A packet as an observer writes it down; none for a reset, which the oracle doesn't follow.
fn observed(headers: &Headers) -> Option<Datum> {
    let Flow { src: IpAddr::V4(src), dst: IpAddr::V4(dst), protocol, src_port, dst_port } = headers.flow else {
        panic!("IPv6")
    };
    let what = match headers.kind {
        Kind::EchoRequest => What::Echo(src_port),
        Kind::EchoReply => What::EchoReply(dst_port),
        Kind::Udp => What::Udp(src_port, dst_port),
        Kind::Tcp(flags) if flags & tcp_flags::RST != 0 => return None,
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
    Some(Datum { src, dst, what, ttl: headers.ttl })
}

/// The port that a NAT gateway put in on the way, which only an observer can tell.
fn port_of(what: What) -> u16 {
    match what {
        What::Echo(id) => id,
        What::Udp(from, _) | What::Tcp(from, _, _) => from,
        What::Error { quoted, .. } => quoted.2.1,
        What::EchoReply(_) | What::Other(_) => 0,
    }
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
        | (Place::OtherRouter(table), At::RouteTable(by), Why::RouterAddress) => table == by,
        (Place::Router(subnet), At::Subnet(by), Why::RouterAddress) => subnet == by,
        (Place::NetworkAcl(acl), At::NetworkAcl(by), Why::NetworkAcl) => acl == by,
        (Place::InternetGateway(igw), At::InternetGateway(by), Why::InternetGateway) => igw == by,
        (Place::NoSession(nat), At::NatGateway(by), Why::NatNoSession)
        | (Place::NatProtocol(nat), At::NatGateway(by), Why::NatProtocol)
        | (Place::Loop(nat), At::NatGateway(by), Why::RouteLoop)
        | (Place::NoErrorAboutAnError(nat), At::NatGateway(by), Why::TtlExpired) => nat == by,
        _ => false,
    }
}

/// What came of one packet.
struct Outcome {
    arrived: Vec<(String, Seen)>,
    dropped: Vec<Dropped>,
}

/// Which kinds of cases were met, so that a generator that has become tame is noticed.
#[derive(Default)]
struct Met(BTreeMap<&'static str, usize>);

impl Met {
    fn count(&mut self, what: &'static str, met: bool) {
        *self.0.entry(what).or_default() += usize::from(met);
    }
}

/// One packet: what the engine makes of it, and whether the oracle agrees. What arrived, if it did.
fn check(
    sim: &mut Sim,
    oracle: &mut Oracle<'_>,
    world: &World,
    sender: minivpc_model::NetworkInterfaceId,
    next: NextHop,
    sent: Datum,
    met: &mut Met,
) -> Option<(minivpc_model::NetworkInterfaceId, Datum)> {
    let before = sim.drops_in_full();
    let outcome = send(sim, world, sender, next, sent);
    let dropped = new_drops(&before, &sim.drops_in_full());
    let outcome = Outcome { dropped, arrived: outcome };
    let seen_port =
        outcome.arrived.first().and_then(|(_, seen)| observed(&seen.headers)).map(|seen| port_of(seen.what));
    // A reset is for a session that isn't there; the oracle says only that it is answered.
    let is_reset = outcome.arrived.iter().any(|(_, seen)| observed(&seen.headers).is_none());
    let guess = seen_port.or_else(|| outcome.dropped.first().and_then(port_in));
    let fate = oracle.judge(sender, next, sent, guess);
    let context =
        || format!("{sent:?} by {sender} {next:?}: {fate:?}, but {:?} {:?}", names(&outcome.arrived), outcome.dropped);
    met.count("delivered", matches!(fate, Fate::Delivered(..)));
    met.count("answered", matches!(fate, Fate::Answered(_)));
    met.count("translated", matches!(&fate, Fate::Delivered(_, arrived) if arrived.src != sent.src));
    met.count("hop counted", matches!(&fate, Fate::Delivered(_, arrived) if arrived.ttl != sent.ttl));
    met.count("same subnet", matches!(next, NextHop::Neighbour(_)));
    if let Fate::Dropped(place) = fate {
        met.count(kind_of(place), true);
        met.count("denied on the way out", place == Place::SecurityGroups(sender));
    }
    let mut last = &fate;
    if let Fate::Answered(then) = last {
        last = then;
        if is_reset || matches!(**then, Fate::Dropped(Place::NoSession(_))) {
            // Whether the reset arrives is the walk's word alone.
            if is_reset {
                oracle.reset(sender, &sent);
            }
            return None;
        }
    }
    match last {
        Fate::Dropped(place) => {
            assert!(outcome.arrived.is_empty() && outcome.dropped.len() == 1, "{}", context());
            assert!(agrees(*place, &outcome.dropped[0]), "{}", context());
            None
        }
        Fate::Delivered(eni, expected) => {
            assert!(outcome.arrived.len() == 1 && outcome.dropped.is_empty(), "{}", context());
            let (name, seen) = &outcome.arrived[0];
            let port = sim.snapshot.eni_of(*eni).unwrap();
            assert_eq!(*name, sim.snapshot.eni(port).name, "{}", context());
            let arrived = observed(&seen.headers).unwrap();
            assert_eq!(arrived, *expected, "{}", context());
            Some((*eni, arrived))
        }
        Fate::Answered(_) => panic!("{}", context()),
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
        Place::InternetGateway(_) => "internet gateway",
        Place::NoSession(_) => "no session",
        Place::NatProtocol(_) => "nat protocol",
        Place::Loop(_) => "loop",
        Place::NoErrorAboutAnError(_) => "error about an error",
        Place::DestinationCheck(_) => "destination check",
    }
}

/// The gateway's port in a packet that was dropped behind it.
fn port_in(dropped: &Dropped) -> Option<u16> {
    match dropped.subject {
        minivpc_dataplane::Subject::Packet(headers) => observed(&headers).map(|seen| port_of(seen.what)),
        _ => None,
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

fn send(
    sim: &mut Sim,
    world: &World,
    sender: minivpc_model::NetworkInterfaceId,
    next: NextHop,
    sent: Datum,
) -> Vec<(String, Seen)> {
    let snapshot: &Snapshot = &sim.snapshot;
    let port = snapshot.eni_of(sender).unwrap();
    let from = snapshot.eni(port).name.trim_end_matches("/eth0").to_owned();
    let mac = match next {
        NextHop::Router => snapshot.subnet(snapshot.eni(port).subnet).router_mac.0,
        NextHop::Neighbour(eni) => world.network_interface(eni).unwrap().mac.0,
    };
    let packet = Packet { src: Some(sent.src), dst: sent.dst, ttl: sent.ttl, body: body(sent.what) };
    // Each at a time of its own, so that the newest drop is the last packet's.
    sim.now = minivpc_dataplane::Now(sim.now.0 + 1);
    sim.send_to_mac(&from, &packet, mac);
    let guests: Vec<_> = snapshot_names(sim);
    guests
        .into_iter()
        .flat_map(|name| sim.received(name.trim_end_matches("/eth0")).into_iter().map(move |seen| (name.clone(), seen)))
        .collect()
}

fn snapshot_names(sim: &Sim) -> Vec<String> {
    sim.snapshot.enis.iter().filter(|eni| eni.name.ends_with("/eth0")).map(|eni| eni.name.clone()).collect()
}

fn ask(seed: u64, met: &mut Met) {
    let mut random = Random(seed);
    let world = random::world(&mut random);
    let mut sim = Sim::new(&world);
    sim.silence();
    let mut oracle = Oracle::new(&world);
    for _ in 0..PACKETS {
        let (sender, next, sent) = random::packet(&mut random, &world);
        let arrived = check(&mut sim, &mut oracle, &world, sender, next, sent, met);
        // Now and then the receiver answers, by its router or straight.
        if let Some((eni, arrived)) = arrived
            && let Some(what) = answer(arrived.what)
            && random.one_in(2)
        {
            let receiver = world.network_interface(eni).unwrap();
            let reply = Datum { src: arrived.dst, dst: arrived.src, what, ttl: 255 };
            let neighbour = world.network_interfaces().find(|other| {
                other.subnet == receiver.subnet && other.private_ip == reply.dst && other.id != receiver.id
            });
            let next = neighbour.map_or(NextHop::Router, |other| NextHop::Neighbour(other.id));
            met.count("replied", true);
            check(&mut sim, &mut oracle, &world, eni, next, reply, met);
        }
        met.count("packets", true);
    }
    met.count("worlds with a gateway", world.nat_gateways().count() > 0);
    let appliances = world
        .network_interfaces()
        .filter(|eni| !eni.source_dest_check && matches!(eni.attachment, Attachment::Instance { .. }));
    met.count("worlds with an appliance", appliances.count() > 0);
}

fn answer(what: What) -> Option<What> {
    Some(match what {
        What::Echo(id) => What::EchoReply(id),
        What::Udp(from, to) => What::Udp(to, from),
        What::Tcp(from, to, Tcp::Syn) => What::Tcp(to, from, Tcp::SynAck),
        _ => return None,
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn the_walk_and_the_oracle_agree() {
    let mut met = Met::default();
    let seeds: Vec<u64> = match number("MINIVPC_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("MINIVPC_WORLDS").unwrap_or(WORLDS)).collect(),
    };
    for &seed in &seeds {
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(seed, &mut met)));
        if let Err(panic) = asked {
            println!("MINIVPC_SEED={seed} repeats it");
            std::panic::resume_unwind(panic);
        }
    }
    println!("{:#?}", met.0);
    if seeds.len() as u64 >= WORLDS {
        let packets = met.0["packets"];
        for rare in [
            "delivered",
            "answered",
            "translated",
            "replied",
            "same subnet",
            "source check",
            "security group",
            "no route",
            "no such address",
            "network acl",
            "internet gateway",
            "no session",
            "destination check",
        ] {
            assert!(met.0[rare] * 100 > packets, "{rare} is less than 1 % of the packets");
        }
    }
}
