//! A VPC's resolver: which names it knows, and how it says so.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use minivpc_dataplane::{DropReason, services};
use minivpc_model::{self as model, HostedZoneId, Op, VpcAttribute, VpcId};
use minivpc_testkit::{Builder, Sim};

use super::assert_drops;
use super::subnet_service::{RESOLVER, closed, datagram, payload};

/// Two VPCs on the internet, with the same addresses, the first with host names.
fn named() -> (Builder, VpcId) {
    let mut b = Builder::default();
    let mut first = None;
    for (name, public) in [("here", "203.0.113.10"), ("there", "203.0.113.20")] {
        let vpc = b.vpc(name, "10.0.0.0/16");
        b.internet_gateway(vpc);
        let subnet = b.subnet(vpc, &format!("{name}-subnet"), "10.0.0.0/24");
        let eni = b.instance(subnet, name, "10.0.0.10", &[], true);
        b.public(eni, public);
        b.apply(Op::ModifyVpcAttribute { vpc, attribute: VpcAttribute::DnsHostnames, value: true });
        first.get_or_insert(vpc);
    }
    b.host("Example.com", "93.184.216.34");
    (b, first.unwrap())
}

fn asked(name: &str, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.metadata.id = 77;
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    question
}

/// What a resolver says: its code, and the records in words.
fn says(sim: &mut Sim, from: &str, name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    sim.received(from);
    sim.send(from, &datagram(RESOLVER, 53, &asked(name, kind).to_vec().unwrap()));
    let answer = Message::from_vec(payload(&sim.received(from)[0])).unwrap();
    assert_eq!(answer.metadata.id, 77);
    assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
    (answer.metadata.response_code, answer.answers.iter().map(|record| record.data.to_string()).collect())
}

fn is(record: &str) -> (ResponseCode, Vec<String>) {
    (ResponseCode::NoError, vec![record.to_owned()])
}

const NOTHING: (ResponseCode, Vec<String>) = (ResponseCode::NXDomain, Vec::new());
const NO_DATA: (ResponseCode, Vec<String>) = (ResponseCode::NoError, Vec::new());

#[test]
fn dns_1_dns_3_dns_4_dns_7_names_of_instances_are_made_of_addresses_both_ways() {
    let mut sim = Sim::new(&named().0.world);
    sim.silence();
    let mut ask = |name: &str, kind| says(&mut sim, "here", name, kind);
    let name = "ip-10-0-0-10.ap-northeast-3.compute.internal";
    assert_eq!(ask(name, RecordType::A), is("10.0.0.10"));
    assert_eq!(ask(&name.to_uppercase(), RecordType::A), is("10.0.0.10"));
    assert_eq!(ask(name, RecordType::AAAA), NO_DATA);
    assert_eq!(ask("10.0.0.10.in-addr.arpa", RecordType::PTR), is(&format!("{name}.")));
    // Nobody has this address, in no VPC of this lab's.
    assert_eq!(ask("ip-192-168-9-9.ap-northeast-3.compute.internal", RecordType::A), is("192.168.9.9"));
    for unknown in [
        "ip-10-0-0-10.ap-northeast-1.compute.internal",
        "ip-8-8-8-8.ap-northeast-3.compute.internal",
        "ip-10-0-0.ap-northeast-3.compute.internal",
        "ip-010-0-0-10.ap-northeast-3.compute.internal",
        "nobody.example",
    ] {
        assert_eq!(ask(unknown, RecordType::A), NOTHING, "{unknown}");
    }
    assert_eq!(ask("8.8.8.8.in-addr.arpa", RecordType::PTR), NOTHING);
    let metadata = "instance-data.ap-northeast-3.compute.internal";
    assert_eq!(ask(metadata, RecordType::A), is("169.254.169.254"));
    assert_eq!(ask("254.169.254.169.in-addr.arpa", RecordType::PTR), is(&format!("{metadata}.")));
    assert_eq!(ask("example.com", RecordType::AXFR).0, ResponseCode::Refused);
    // RFC 8020: there is nothing below what there isn't, so what others are below of is there.
    for above in
        ["ap-northeast-3.compute.internal", "compute.internal", "10.in-addr.arpa", "0.0.10.in-addr.arpa", "com"]
    {
        assert_eq!(ask(above, RecordType::A), NO_DATA, "{above}");
    }
}

/// Who says that there is nothing, and for how many seconds.
fn denies(sim: &mut Sim, name: &str) -> (ResponseCode, Vec<(String, u32)>) {
    sim.received("here");
    sim.send("here", &datagram(RESOLVER, 53, &asked(name, RecordType::MX).to_vec().unwrap()));
    let answer = Message::from_vec(payload(&sim.received("here")[0])).unwrap();
    assert!(answer.answers.is_empty());
    let authority = answer.authorities.iter().map(|record| {
        assert_eq!(record.record_type(), RecordType::SOA);
        (record.name.to_string(), record.ttl)
    });
    (answer.metadata.response_code, authority.collect())
}

#[test]
fn who_knows_that_there_is_nothing_says_for_how_long() {
    let (mut b, _) = named();
    zone(&mut b, "corp.example", &[("app.corp.example", model::RecordType::A, &["10.0.0.10"])]);
    let mut sim = Sim::new(&b.world);
    sim.silence();
    let by = |zone: &str, ttl| vec![(format!("{zone}."), ttl)];
    for (name, code, authority) in [
        ("app.corp.example", ResponseCode::NoError, by("corp.example", 900)),
        ("nobody.corp.example", ResponseCode::NXDomain, by("corp.example", 900)),
        (
            "ip-10-0-0-10.ap-northeast-3.compute.internal",
            ResponseCode::NoError,
            by("ap-northeast-3.compute.internal", 60),
        ),
        ("nobody.ap-northeast-3.compute.internal", ResponseCode::NXDomain, by("ap-northeast-3.compute.internal", 60)),
        ("x.10.in-addr.arpa", ResponseCode::NXDomain, by("10.in-addr.arpa", 60)),
        ("nobody.example", ResponseCode::NXDomain, Vec::new()),
    ] {
        assert_eq!(denies(&mut sim, name), (code, authority), "{name}");
    }
    let soa = says(&mut sim, "here", "ap-northeast-3.compute.internal", RecordType::SOA).1;
    assert!(soa[0].contains("hostmaster.amazon.com."), "{soa:?}");
}

#[test]
fn a_label_may_be_any_bytes_and_a_dot_in_one_separates_nothing() {
    let (mut b, _) = named();
    let [any, dash] = [("*.corp.example", &["10.0.0.99"]), ("-a.corp.example", &["10.0.0.98"])];
    let records = [any, dash].map(|(name, values)| (name, model::RecordType::A, &values[..]));
    zone(&mut b, "corp.example", &records);
    let mut sim = Sim::new(&b.world);
    sim.silence();
    let cases: [(&[&[u8]], _); 6] = [
        (&[b"x.corp", b"example"], None),
        (&[b"ip-10-0-0-10.ap-northeast-3", b"compute", b"internal"], None),
        (&[b"-A", b"corp", b"Example"], Some("10.0.0.98")),
        // RFC 4592: a `*` stands for any label.
        (&[b"a.b", b"corp", b"example"], Some("10.0.0.99")),
        (&[b"a b", b"corp", b"example"], Some("10.0.0.99")),
        (&[b"\xff\0", b"x/", b"corp", b"example"], Some("10.0.0.99")),
    ];
    for (labels, expected) in cases {
        let mut question = asked("x", RecordType::A);
        question.queries[0].set_name(Name::from_labels(labels.iter().copied()).unwrap());
        sim.send("here", &datagram(RESOLVER, 53, &question.to_vec().unwrap()));
        let answer = Message::from_vec(payload(&sim.received("here")[0])).unwrap();
        let found = answer.answers.first().map(|record| record.data.to_string());
        assert_eq!(found.as_deref(), expected, "{labels:?}");
        assert_eq!(answer.metadata.response_code == ResponseCode::NXDomain, expected.is_none());
    }
}

#[test]
fn dns_6_igw_14_a_public_name_is_the_private_address_inside_and_the_public_one_outside() {
    let mut sim = Sim::new(&named().0.world);
    sim.silence();
    let name = "ec2-203-0-113-10.ap-northeast-3.compute.amazonaws.com";
    assert_eq!(says(&mut sim, "here", name, RecordType::A), is("10.0.0.10"));
    assert_eq!(says(&mut sim, "there", name, RecordType::A), is("203.0.113.10"));
    assert_eq!(says(&mut sim, "there", "10.113.0.203.in-addr.arpa", RecordType::PTR), is(&format!("{name}.")));
    assert_eq!(says(&mut sim, "here", "ec2-203-0-113-99.ap-northeast-3.compute.amazonaws.com", RecordType::A), NOTHING);
}

#[test]
fn dns_5_seed_11_without_host_names_only_the_internets_are_known_and_without_support_nothing() {
    let (mut b, vpc) = named();
    b.apply(Op::ModifyVpcAttribute { vpc, attribute: VpcAttribute::DnsHostnames, value: false });
    let mut sim = Sim::new(&b.world);
    sim.silence();
    assert_eq!(says(&mut sim, "here", "example.com", RecordType::A), is("93.184.216.34"));
    assert_eq!(says(&mut sim, "here", "34.216.184.93.in-addr.arpa", RecordType::PTR), is("Example.com."));
    for (name, kind) in [
        ("ip-10-0-0-10.ap-northeast-3.compute.internal", RecordType::A),
        ("10.0.0.10.in-addr.arpa", RecordType::PTR),
        ("ec2-203-0-113-10.ap-northeast-3.compute.amazonaws.com", RecordType::A),
    ] {
        assert_eq!(says(&mut sim, "here", name, kind), NOTHING, "{name}");
    }
    b.apply(Op::ModifyVpcAttribute { vpc, attribute: VpcAttribute::DnsSupport, value: false });
    sim.publish(&b.world);
    sim.received("here");
    sim.send("here", &datagram(RESOLVER, 53, &asked("example.com", RecordType::A).to_vec().unwrap()));
    assert!(sim.received("here").is_empty());
    assert_drops(&sim, &[(DropReason::NoDnsSupport, 1)]);
    assert_eq!(says(&mut sim, "there", "example.com", RecordType::A), is("93.184.216.34"), "the other VPC's answers");
}

/// A zone that both VPCs know.
fn zone(b: &mut Builder, name: &str, records: &[(&str, model::RecordType, &[&str])]) -> HostedZoneId {
    let vpcs: Vec<_> = b.world.vpcs().map(|vpc| vpc.id).collect();
    b.hosted_zone(&vpcs, name, records)
}

#[test]
fn dns_9_a_private_zone_knows_all_kinds_of_records_and_where_it_ends() {
    use model::RecordType::*;
    let (mut b, _) = named();
    let all: [(&str, model::RecordType, &[&str]); 13] = [
        ("corp.example", Mx, &["10 mail.corp.example", "20 mail.example"]),
        ("corp.example", Txt, &["\"v=spf1 -all\""]),
        ("app.corp.example", A, &["10.0.0.10"]),
        ("app.corp.example", Aaaa, &["2001:db8::1"]),
        ("www.corp.example", Cname, &["app.corp.example."]),
        ("out.corp.example", Cname, &["Example.COM"]),
        ("gone.corp.example", Cname, &["nobody.corp.example"]),
        ("round.corp.example", Cname, &["about.corp.example"]),
        ("about.corp.example", Cname, &["round.corp.example"]),
        ("*.dev.corp.example", A, &["10.0.0.11"]),
        ("*.dev.corp.example", Txt, &["\"any\""]),
        ("a.b.dev.corp.example", A, &["10.0.0.12"]),
        ("_http._tcp.corp.example", Srv, &["0 5 80 app.corp.example"]),
    ];
    zone(&mut b, "corp.example", &all);
    let mut sim = Sim::new(&b.world);
    sim.silence();
    let mut ask = |name: &str, kind| {
        let (code, records) = says(&mut sim, "here", name, kind);
        (code, records.join(" | "))
    };
    let answers = |records: &str| (ResponseCode::NoError, records.to_owned());
    for (name, kind, records) in [
        ("corp.example", RecordType::TXT, "v=spf1 -all"),
        ("APP.corp.example", RecordType::A, "10.0.0.10"),
        ("app.corp.example", RecordType::AAAA, "2001:db8::1"),
        ("app.corp.example", RecordType::MX, ""),
        ("app.corp.example", RecordType::ANY, "2001:db8::1 | 10.0.0.10"),
        ("www.corp.example", RecordType::A, "app.corp.example. | 10.0.0.10"),
        ("www.corp.example", RecordType::CNAME, "app.corp.example."),
        ("www.corp.example", RecordType::MX, "app.corp.example."),
        ("out.corp.example", RecordType::A, "example.com. | 93.184.216.34"),
        ("_http._tcp.corp.example", RecordType::SRV, "0 5 80 app.corp.example."),
        ("_tcp.corp.example", RecordType::A, ""),
        // RFC 4592: a `*` stands for what there isn't, however deep, but not below a name that there is.
        ("x.dev.corp.example", RecordType::A, "10.0.0.11"),
        ("x.y.dev.corp.example", RecordType::TXT, "any"),
        ("x.dev.corp.example", RecordType::AAAA, ""),
        ("*.dev.corp.example", RecordType::A, "10.0.0.11"),
        ("dev.corp.example", RecordType::A, ""),
        ("b.dev.corp.example", RecordType::A, ""),
    ] {
        assert_eq!(ask(name, kind), answers(records), "{name} {kind}");
    }
    let (_, servers) = ask("corp.example", RecordType::NS);
    assert_eq!(servers.split(" | ").count(), 4);
    assert!(ask("corp.example", RecordType::SOA).1.contains("awsdns-hostmaster.amazon.com."));
    let both = ask("corp.example", RecordType::MX).1;
    assert!(both.contains("10 mail.corp.example.") && both.contains("20 mail.example."), "{both}");
    for name in ["nobody.corp.example", "x.b.dev.corp.example"] {
        assert_eq!(ask(name, RecordType::A), (ResponseCode::NXDomain, String::new()), "{name}");
    }
    assert_eq!(ask("gone.corp.example", RecordType::A), (ResponseCode::NXDomain, "nobody.corp.example.".to_owned()));
    assert_eq!(ask("round.corp.example", RecordType::A), (ResponseCode::ServFail, String::new()));
    assert_eq!(ask("notcorp.example", RecordType::A), (ResponseCode::NXDomain, String::new()));
}

#[test]
fn dns_9_a_zone_is_known_to_its_vpcs_that_have_both_attributes() {
    let (mut b, here) = named();
    let id = zone(&mut b, "corp.example", &[("app.corp.example", model::RecordType::A, &["10.0.0.10"])]);
    let mut sim = Sim::new(&b.world);
    sim.silence();
    let mut both = |b: &Builder| {
        sim.publish(&b.world);
        ["here", "there"].map(|from| says(&mut sim, from, "app.corp.example", RecordType::A))
    };
    assert_eq!(both(&b), [is("10.0.0.10"), is("10.0.0.10")]);
    b.apply(Op::ModifyVpcAttribute { vpc: here, attribute: VpcAttribute::DnsHostnames, value: false });
    assert_eq!(both(&b), [NOTHING, is("10.0.0.10")]);
    b.apply(Op::ModifyVpcAttribute { vpc: here, attribute: VpcAttribute::DnsHostnames, value: true });
    b.apply(Op::DisassociateVpcFromHostedZone { zone: id, vpc: here });
    assert_eq!(both(&b), [NOTHING, is("10.0.0.10")]);
}

#[test]
fn dns_9_of_zones_that_hold_a_name_the_most_specific_one_counts() {
    use model::RecordType::{A, Ptr};
    let (mut b, _) = named();
    zone(&mut b, "example.com", &[("other.example.com", A, &["10.0.0.1"])]);
    zone(&mut b, "deep.example.com", &[("a.deep.example.com", A, &["10.0.0.2"])]);
    zone(&mut b, "amazonaws.com", &[]);
    zone(&mut b, "internal", &[("ip-10-0-0-10.ap-northeast-3.compute.internal", A, &["10.0.0.3"])]);
    zone(&mut b, "0.0.10.in-addr.arpa", &[("10.0.0.10.in-addr.arpa", Ptr, &["here.corp.example"])]);
    let mut sim = Sim::new(&b.world);
    sim.silence();
    let mut ask = |name: &str, kind| says(&mut sim, "here", name, kind);
    assert_eq!(ask("example.com", RecordType::A), NO_DATA, "the internet's host is hidden");
    assert_eq!(ask("other.example.com", RecordType::A), is("10.0.0.1"));
    assert_eq!(ask("a.deep.example.com", RecordType::A), is("10.0.0.2"));
    assert_eq!(ask("b.deep.example.com", RecordType::A), NOTHING);
    assert_eq!(ask("ip-10-0-0-10.ap-northeast-3.compute.internal", RecordType::A), is("10.0.0.10"), "AWS's own zone");
    assert_eq!(
        ask("ec2-203-0-113-10.ap-northeast-3.compute.amazonaws.com", RecordType::A),
        is("10.0.0.10"),
        "so is it"
    );
    assert_eq!(ask("s3.amazonaws.com", RecordType::A), NOTHING);
    assert_eq!(ask("x.internal", RecordType::A), NOTHING);
    assert_eq!(ask("10.0.0.10.in-addr.arpa", RecordType::PTR), is("here.corp.example."));
    assert_eq!(ask("11.0.0.10.in-addr.arpa", RecordType::PTR), NOTHING, "the zone hides AWS's names");
    let elsewhere = is("ip-10-0-1-10.ap-northeast-3.compute.internal.");
    assert_eq!(ask("10.1.0.10.in-addr.arpa", RecordType::PTR), elsewhere);
}

#[test]
fn what_is_too_long_for_a_datagram_is_cut_and_the_client_asks_by_tcp() {
    let (mut b, _) = named();
    let many: Vec<_> = (1..=90).map(|n| format!("10.0.9.{n}")).collect();
    let values: Vec<_> = many.iter().map(String::as_str).collect();
    zone(&mut b, "corp.example", &[("many.corp.example", model::RecordType::A, &values)]);
    let mut sim = Sim::new(&b.world);
    sim.silence();
    let plain = asked("many.corp.example", RecordType::A);
    for (takes, whole, most) in [(None, false, 512), (Some(1232), false, 1232), (Some(4096), true, 4096)] {
        let mut question = plain.clone();
        if let Some(takes) = takes {
            question.set_edns(Edns::new().set_max_payload(takes).clone());
        }
        sim.send("here", &datagram(RESOLVER, 53, &question.to_vec().unwrap()));
        let seen = sim.received("here").remove(0);
        let answer = Message::from_vec(payload(&seen)).unwrap();
        assert!(payload(&seen).len() <= most, "{}", payload(&seen).len());
        assert_eq!(
            (answer.metadata.truncation, answer.answers.len()),
            (!whole, if whole { 90 } else { 0 }),
            "{takes:?}"
        );
    }
    let caller = sim.snapshot.eni(sim.port("here")).serial;
    let answer = services::resolve(&sim.snapshot, caller, &plain.to_vec().unwrap()).unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 90);
    // Who asks again begins with another one.
    let first = |id| {
        let mut question = plain.clone();
        question.metadata.id = id;
        let answer = services::resolve(&sim.snapshot, caller, &question.to_vec().unwrap()).unwrap();
        Message::from_vec(&answer).unwrap().answers[0].data.to_string()
    };
    assert_ne!(first(1), first(2));
}

#[test]
fn r_3_dns_1_dns_10_the_resolver_has_two_addresses_and_answers_questions_only() {
    let mut sim = closed();
    let question = asked("example.com", RecordType::A);
    let mut with_edns = question.clone();
    with_edns.set_edns(Edns::new());
    for to in [RESOLVER, Ipv4Addr::new(169, 254, 169, 253)] {
        for question in [&question, &with_edns] {
            sim.send("one", &datagram(to, 53, &question.to_vec().unwrap()));
            let seen = sim.received("one").remove(0);
            let answer = Message::from_vec(payload(&seen)).unwrap();
            assert_eq!((seen.src(), answer.edns.is_some()), (to.into(), question.edns.is_some()));
        }
        sim.send("one", &super::ping(to, 1));
        assert!(sim.received("one").is_empty(), "no ping");
    }
    let mut newer = question.clone();
    newer.set_edns(Edns::new().set_version(1).set_dnssec_ok(true).clone());
    sim.send("one", &datagram(RESOLVER, 53, &newer.to_vec().unwrap()));
    let answer = Message::from_vec(payload(&sim.received("one")[0])).unwrap();
    assert_eq!(answer.metadata.response_code.low(), ResponseCode::BADVERS.low());
    assert!(answer.edns.unwrap().flags().dnssec_ok, "as it was asked (RFC 3225)");
    let (mut twice, mut said) = (question.clone(), question.clone());
    twice.add_query(Query::query(Name::root(), RecordType::NS));
    said.metadata.message_type = hickory_proto::op::MessageType::Response;
    sim.send("one", &datagram(RESOLVER, 53, &twice.to_vec().unwrap()));
    let answer = Message::from_vec(payload(&sim.received("one")[0])).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    for nonsense in [said.to_vec().unwrap(), vec![0; 5], vec![0xff; 300]] {
        sim.send("one", &datagram(RESOLVER, 53, &nonsense));
        assert!(sim.received("one").is_empty());
    }
    assert_drops(&sim, &[(DropReason::SecurityGroup, 2), (DropReason::ServiceNonsense, 3)]);
}
