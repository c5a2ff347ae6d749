use std::net::Ipv4Addr;

use minivpc_dataplane::state::ConnectionKey;
use minivpc_dataplane::{DropReason, Kind, Step, Verdict, tcp_flags};
use minivpc_testkit::{Sim, article};

use crate::{DESTINATION, NAT, SOURCE, answers, ping, tcp};

fn hops(steps: &[Step], sim: &Sim) -> Vec<&'static str> {
    steps.iter().map(|step| step.line(&sim.snapshot).hop).collect()
}

const ARTICLE: [&str; 11] = ["eni", "sg", "rtb", "acl", "acl", "nat", "rtb", "acl", "acl", "eni", "sg"];

#[test]
fn seed_12b_eleven_steps_each_way_with_four_network_acls() {
    let sim = Sim::new(&article("10.0.0.0/16").builder.world);
    let (there, back) = sim.trace("source", DESTINATION, Kind::EchoRequest, (4711, 0));
    let back = back.unwrap();
    for journey in [&there, &back] {
        assert_eq!(hops(&journey.way(), &sim), ARTICLE);
        assert!(matches!(journey.verdict, Verdict::Deliver { .. }));
        assert_eq!((journey.sent.ttl, journey.last.ttl), (255, 254));
    }
    assert_eq!(there.last.flow.src, NAT);
    assert_eq!((back.last.flow.dst, back.last.flow.dst_port), (SOURCE.into(), 4711));
}

#[test]
fn a_trace_changes_nothing() {
    let mut sim = Sim::new(&article("10.0.0.0/16").builder.world);
    let _ = sim.trace("source", DESTINATION, Kind::EchoRequest, (4711, 0));
    assert!(sim.engine.state().connections(sim.now.tick()).is_empty());
    assert!(sim.engine.state().sessions(sim.now.tick()).is_empty());
    assert!(sim.drops().is_empty());
    assert!(answers(&mut sim, "source", DESTINATION, 4711));
}

#[test]
fn a_trace_is_what_the_flow_of_a_real_packet_keeps() {
    let mut sim = Sim::new(&article("10.0.0.0/16").builder.world);
    let (there, back) = sim.trace("source", DESTINATION, Kind::EchoRequest, (4711, 0));
    let back = back.unwrap();
    for _ in 0..3 {
        assert!(answers(&mut sim, "source", DESTINATION, 4711));
    }
    for (instance, journey) in [("source", there), ("destination", back)] {
        let eni = sim.snapshot.eni(sim.port(instance)).serial;
        let key = ConnectionKey::new(eni, journey.sent.flow);
        let connections = sim.engine.state().connections(sim.now.tick());
        let connection = connections.iter().find(|connection| connection.key == key).unwrap();
        let kept = connection.way().unwrap();
        assert_eq!(kept.steps.to_vec(), journey.way());
        let words = sim.engine.recall(&sim.snapshot, sim.now, connection);
        assert_eq!(words, journey.lines(&sim.snapshot), "in words too");
    }
}

#[test]
fn seed_12a_a_trace_shows_the_two_different_ways() {
    let sim = Sim::new(&article("10.0.0.0/16").builder.world);
    let (there, back) = sim.trace("destination", SOURCE, Kind::EchoRequest, (4711, 0));
    assert_eq!(hops(&there.way(), &sim), ["eni", "sg", "rtb", "acl", "acl", "eni", "sg"]);
    let back = back.unwrap();
    assert_eq!(hops(&back.way(), &sim), ["eni", "sg", "rtb", "acl", "acl", "nat"]);
    assert_eq!(back.reason(), Some(DropReason::NatNoSession));
}

#[test]
fn a_refused_packet_names_the_rules_that_were_tried() {
    let sim = Sim::new(&article("10.0.0.0/24").builder.world);
    let (there, back) = sim.trace("source", DESTINATION, Kind::Tcp(tcp_flags::SYN), (40_000, 80));
    assert_eq!(there.reason(), Some(DropReason::SecurityGroup));
    assert!(back.is_none());
    let line = there.lines(&sim.snapshot).pop().unwrap();
    assert_eq!((line.hop, line.name.as_str(), line.decision.as_str()), ("sg", "destination", "drop"));
    assert!(line.note.contains("from 10.0.2.149"), "{}", line.note);
    assert!(line.note.contains("10.0.0.0/24: another address"), "{}", line.note);
}

#[test]
fn a_drop_leaves_no_state() {
    let mut sim = Sim::new(&article("10.0.0.0/24").builder.world);
    sim.send("source", &ping(DESTINATION, 7));
    sim.send("source", &tcp(Ipv4Addr::new(10, 0, 1, 99), 40_000, 80, tcp_flags::SYN));
    assert!(sim.engine.state().connections(sim.now.tick()).is_empty());
    assert!(sim.engine.state().sessions(sim.now.tick()).is_empty());
}
