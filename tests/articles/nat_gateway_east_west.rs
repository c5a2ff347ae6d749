//! The NAT gateway article, experiment by experiment, with real tools and the built binary.

use std::collections::{BTreeSet, HashSet};

use crate::lab::{Lab, lab_or_skip, said};
use serde_json::Value;

const ARTICLE: &str = include_str!("../../configs/nat-gateway-east-west/lab.yaml");
const NAT: &str = "nat-0efd1351c899a1d4b";
const OWN_NAME: &str = "ip-10-0-1-55.ap-northeast-3.compute.internal";

fn without_time(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, rest)| rest)
}

#[test]
fn seed_1_seed_2_seed_4_seed_11_traceroute_shows_two_hops_and_the_destination_sees_the_gateway() {
    let lab = lab_or_skip!(ARTICLE);
    let mut capture = lab.tcpdump("destination", &["host", "10.0.2.149"]);
    let traceroute = lab.exec("source", &["traceroute", "10.0.1.55"]);
    let hops: Vec<_> = traceroute.lines().collect();
    assert_eq!(hops[0], "traceroute to 10.0.1.55 (10.0.1.55), 30 hops max, 60 byte packets");
    assert!(hops[1].starts_with(" 1  10.0.2.149 (10.0.2.149)  "), "{traceroute}");
    assert!(hops[2].starts_with(" 2  10.0.1.55 (10.0.1.55)  "), "{traceroute}");
    assert_eq!(hops.len(), 3, "{traceroute}");

    // Probes 4 to 16 of the first burst; the first three have died at the gateway (SEED-2).
    capture.until_count(13, |line| line.contains("UDP, length 32"));
    let lines = capture.interrupt();
    let probes: Vec<_> = lines.iter().filter(|line| line.contains("UDP, length 32")).collect();
    for line in &probes {
        let line = without_time(line);
        let port = line.strip_prefix("IP 10.0.2.149.").unwrap_or_else(|| panic!("{line}"));
        let (_, rest) = port.split_once(" > ").unwrap();
        let port = rest.strip_prefix(&format!("{OWN_NAME}.")).and_then(|rest| rest.strip_suffix(": UDP, length 32"));
        let port: u16 = port.unwrap_or_else(|| panic!("SEED-11: {line}")).parse().unwrap();
        assert!((33_437..33_470).contains(&port), "{line}");
    }
    let refusals: Vec<_> = lines.iter().filter(|line| line.contains("unreachable")).collect();
    assert!(!refusals.is_empty());
    for line in refusals {
        let line = without_time(line);
        assert!(line.starts_with(&format!("IP {OWN_NAME} > 10.0.2.149: ICMP {OWN_NAME} udp port 334")), "{line}");
        assert!(line.ends_with(" unreachable, length 68"), "SEED-4: {line}");
    }
}

#[test]
fn seed_11_dns_7_with_host_names_on_captures_and_traceroutes_print_them() {
    let named = ARTICLE.replacen("    cidr: 10.0.0.0/16", "    dns_hostnames: true\n    cidr: 10.0.0.0/16", 1);
    let lab = lab_or_skip!(&named);
    let name = |address: &str| format!("ip-{}.ap-northeast-3.compute.internal", address.replace('.', "-"));
    let mut capture = lab.tcpdump("destination", &["icmp"]);
    let (nat, own) = (name("10.0.2.149"), name("10.0.1.55"));
    let ping = lab.exec("source", &["ping", "-c", "1", &own]);
    assert!(ping.contains(&format!("64 bytes from {own} (10.0.1.55): icmp_seq=1")), "{ping}");
    capture.until_count(2, |line| line.contains("ICMP echo"));
    let lines: Vec<_> = capture.interrupt().into_iter().filter(|line| line.contains("ICMP echo")).collect();
    assert!(without_time(&lines[0]).starts_with(&format!("IP {nat} > {own}: ICMP echo request")), "{lines:#?}");
    assert!(without_time(&lines[1]).starts_with(&format!("IP {own} > {nat}: ICMP echo reply")), "{lines:#?}");
    let traceroute = lab.exec("source", &["traceroute", &own]);
    let hops: Vec<_> = traceroute.lines().skip(1).collect();
    assert!(hops[0].starts_with(&format!(" 1  {nat} (10.0.2.149)  ")), "{traceroute}");
    assert!(hops[1].starts_with(&format!(" 2  {own} (10.0.1.55)  ")), "{traceroute}");
}

/// The gateway's ports for 500 flows, in the order of the flows.
fn ports_of_500_flows(lab: &Lab) -> Vec<u16> {
    let mut capture = lab.tcpdump("destination", &["-n", "udp", "and", "host", "10.0.2.149"]);
    // A source port each, else two of them are one flow.
    let script = "for port in $(seq 20001 20500); do echo x | nc -u -q 0 -p $port 10.0.1.55 9; done";
    // The destination refuses some of them, which the senders say.
    lab.run("source", &["sh", "-c", script]);
    let probe = |line: &str| line.contains(" > 10.0.1.55.9: ");
    capture.until_count(500, probe);
    let port = |line: &str| line.split("IP 10.0.2.149.").nth(1)?.split(' ').next()?.parse().ok();
    let lines = capture.interrupt();
    let probes = lines.iter().filter(|line| probe(line));
    probes.map(|line| port(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

#[test]
fn seed_3_nat_9_the_gateways_ports_look_random_and_differ_from_run_to_run() {
    let ports = ports_of_500_flows(&lab_or_skip!(ARTICLE));
    assert!(ports.iter().all(|port| *port >= 1024));
    assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 500, "distinct towards one destination");
    let outside = ports.iter().filter(|port| !(32_768..=60_999).contains(*port)).count();
    assert!(outside >= 125, "{outside} outside the client's own range");
    assert!(!ports.windows(3).any(|w| w[1] == w[0].wrapping_add(1) && w[2] == w[1].wrapping_add(1)));
    let again = ports_of_500_flows(&Lab::up(ARTICLE));
    let both = ports.iter().filter(|port| again.contains(port)).count();
    assert!(both < 50, "two runs of 500 among 64,512 have about 4 in common: {both}");
    assert_ne!(ports, again);
}

fn assert_pings_as_in_the_article(lab: &Lab) {
    let mut capture = lab.tcpdump("destination", &["icmp"]);
    let mut silent = lab.tcpdump("destination", &["host", "10.0.0.11"]);
    let ping = lab.exec("source", &["ping", "-c", "3", "10.0.1.55"]);
    assert!(ping.contains("3 packets transmitted, 3 received, 0% packet loss"), "{ping}");
    assert_eq!(ping.matches("64 bytes from 10.0.1.55: icmp_seq=").count(), 3, "{ping}");
    assert_eq!(ping.matches(" ttl=254 ").count(), 3, "SEED-6: {ping}");

    capture.until_count(6, |line| line.contains("ICMP echo"));
    let lines = capture.interrupt();
    let requests: Vec<_> = lines.iter().filter(|line| line.contains("ICMP echo request")).collect();
    let mut ids = BTreeSet::new();
    for (line, seq) in requests.iter().zip(1..) {
        let line = without_time(line);
        let id = line.strip_prefix(&format!("IP 10.0.2.149 > {OWN_NAME}: ICMP echo request, id ")).unwrap();
        let (id, rest) = id.split_once(", ").unwrap();
        ids.insert(id.parse::<u16>().unwrap());
        assert_eq!(rest, format!("seq {seq}, length 64"));
    }
    assert_eq!((requests.len(), ids.len()), (3, 1), "SEED-7: {lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("203.0.113")), "NAT-2: the Elastic IP appears nowhere");

    // SEED-8. A packet for nobody but this filter ends the wait: it comes after all of the ping's.
    lab.exec("source", &["true"]);
    silent.printed.clear();
    let rest = silent.interrupt();
    assert!(rest.iter().any(|line| line == "0 packets captured"), "{rest:#?}");
}

#[test]
fn seed_6_seed_7_seed_8_seed_11_ping_through_the_private_gateway() {
    assert_pings_as_in_the_article(&lab_or_skip!(ARTICLE));
}

#[test]
fn seed_12_nat_2_ping_through_a_public_gateway_is_the_same() {
    let public = ARTICLE
        .replace("connectivity_type: private", "connectivity_type: public\n        elastic_ip: osaka")
        .replace("\ninstances:", "\nelastic_ips: { osaka: { address: 203.0.113.7 } }\ninstances:");
    let lab = lab_or_skip!(&public);
    assert_pings_as_in_the_article(&lab);
    assert_eq!(lab.json(&["status"])["nat_gateways"][0]["public_ip"], "203.0.113.7");
}

/// All drops by reason.
fn drops(lab: &Lab, reason: &str) -> Vec<Value> {
    let all = lab.json(&["drops"])["drops"].as_array().unwrap().clone();
    all.into_iter().filter(|drop| drop["reason"] == reason).collect()
}

#[test]
fn seed_10_nat_21_the_gateway_answers_no_ping() {
    let lab = lab_or_skip!(ARTICLE);
    let ping = lab.run("source", &["ping", "-c", "3", "-W", "1", "10.0.2.149"]);
    assert!(said(&ping).contains("3 packets transmitted, 0 received, 100% packet loss"), "{}", said(&ping));
    assert_eq!(ping.status.code(), Some(1), "the command's own exit status");
    let drops = drops(&lab, "MINIVPC_NAT_NO_SESSION");
    assert_eq!(drops.len(), 1, "{drops:#?}");
    assert_eq!(drops[0]["count"], 3);
    assert_eq!(drops[0]["resources"][0]["id"], NAT);
    assert_eq!(drops[0]["fields"]["source"], "10.0.0.11");
    assert_eq!(drops[0]["fields"]["destination"], "10.0.2.149");
    assert_eq!(drops[0]["fields"]["icmp_type"], 8);
}

#[test]
fn seed_12a_the_other_direction_is_lost_at_the_gateway() {
    let lab = lab_or_skip!(ARTICLE);
    let mut capture = lab.tcpdump("source", &["-n", "icmp"]);
    let ping = lab.run("destination", &["ping", "-c", "3", "-W", "1", "10.0.0.11"]);
    assert!(said(&ping).contains("3 packets transmitted, 0 received, 100% packet loss"), "{}", said(&ping));
    capture.until_count(6, |line| line.contains("ICMP echo"));
    let lines = capture.interrupt();
    let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(count("10.0.1.55 > 10.0.0.11: ICMP echo request"), 3, "source sees the requests");
    assert_eq!(count("10.0.0.11 > 10.0.1.55: ICMP echo reply"), 3, "and answers");
    let drops = drops(&lab, "MINIVPC_NAT_NO_SESSION");
    assert_eq!((drops.len(), &drops[0]["count"]), (1, &Value::from(3)));
    assert_eq!(drops[0]["resources"][0]["id"], NAT);
    let trace = lab.ask(&["trace", "destination", "source"]);
    let hops: Vec<_> = trace.lines().filter_map(|line| line.get(3..6)).collect();
    assert!(trace.contains("→ local (beats 0.0.0.0/0"), "there by the local route:\n{trace}");
    assert!(trace.contains(&format!("→ {NAT} (beats 10.0.0.0/16 local)")), "back by the gateway:\n{trace}");
    assert!(trace.trim_end().ends_with("dropped: MINIVPC_NAT_NO_SESSION, source 10.0.0.11"), "{trace}");
    assert_eq!(hops.iter().filter(|hop| **hop == "nat").count(), 1);
}

#[test]
fn seed_12b_a_trace_is_the_page_of_a_real_ping() {
    let lab = lab_or_skip!(ARTICLE);
    let trace = lab.json(&["trace", "source", "10.0.1.55", "--protocol", "icmp", "--source-port", "4711", "--reply"]);
    let page = lab.ask(&["trace", "source", "10.0.1.55", "--protocol", "icmp", "--reply"]);
    lab.exec("source", &["ping", "-e", "4711", "-c", "1", "10.0.1.55"]);
    let flows = lab.json(&["flows", "--why"]);
    let steps = |of: &Value| of["steps"].as_array().unwrap().clone();
    for (way, interface) in [("there", "source/eth0"), ("back", "destination/eth0")] {
        assert_eq!(steps(&trace[way]).len(), 11, "{way}");
        assert_eq!(steps(&trace[way]).iter().filter(|step| step["hop"] == "acl").count(), 4, "SEED-12b");
        assert_eq!((&trace[way]["sent"]["ttl"], &trace[way]["last"]["ttl"]), (&255.into(), &254.into()));
        let flow = flows["flows"].as_array().unwrap().iter().find(|flow| flow["interface"]["name"] == interface);
        assert_eq!(steps(flow.unwrap()), steps(&trace[way]), "{way}");
    }
    assert!(page.starts_with("source → destination   icmp echo-request   10.0.0.11 → 10.0.1.55\n 1 eni  source/eth0 "));
    for part in [
        "source check       pass   10.0.0.11 is this ENI's",
        "egress             allow  all → 0.0.0.0/0",
        &format!("10.0.1.0/24        → {NAT} (beats 10.0.0.0/16 local)"),
        "10.0.0.11 id 4711 → 10.0.2.149 id ",
        ", ttl 255 → 254",
        "ingress            allow  all from 10.0.0.0/16",
        "   delivered, ttl 254           reply: 11 steps, back through osaka-NAT, ttl 254",
        "lab.yaml:",
    ] {
        assert!(page.contains(part), "{part}:\n{page}");
    }
}

#[test]
fn seed_9_a_group_for_the_clients_subnet_loses_everything() {
    let narrowed = ARTICLE.replacen(
        "destination: { ingress: [ { protocol: all, cidr: 10.0.0.0/16 } ] }",
        "destination: { ingress: [ { protocol: all, cidr: 10.0.0.0/24 } ] }",
        1,
    );
    assert_ne!(narrowed, ARTICLE);
    let lab = lab_or_skip!(&narrowed);
    let ping = lab.run("source", &["ping", "-c", "3", "-W", "1", "10.0.1.55"]);
    assert!(said(&ping).contains("3 packets transmitted, 0 received, 100% packet loss"), "{}", said(&ping));
    let drops = drops(&lab, "ENI_SG_RULES_MISMATCH");
    assert_eq!((drops.len(), &drops[0]["count"]), (1, &Value::from(3)));
    assert_eq!(drops[0]["resources"][0]["name"], "destination");
    assert_eq!(drops[0]["fields"]["source"], "10.0.2.149");
    let trace = lab.json(&["trace", "source", "destination"]);
    let last = trace["there"]["steps"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["hop"], &last["name"]), (&"sg".into(), &"destination".into()));
    assert_eq!(trace["there"]["last"]["source"], "10.0.2.149");
    assert_eq!(trace["there"]["reason"], "ENI_SG_RULES_MISMATCH");
}

#[test]
fn two_hundred_megabytes_arrive_as_they_were_sent() {
    let lab = lab_or_skip!(ARTICLE);
    let receiver = lab.start("destination", &["sh", "-c", "nc -l -p 5000 | sha256sum"]);
    lab.until_listening("destination", 5000);
    // A stream that both sides can make: numbers.
    let sent = lab.exec(
        "source",
        &["bash", "-c", "seq 100000000 | head -c 200000000 | tee >(sha256sum >&2) | nc -N 10.0.1.55 5000 2>&1"],
    );
    let received = receiver.wait();
    let expected = lab.exec("source", &["sh", "-c", "seq 100000000 | head -c 200000000 | sha256sum"]);
    assert_eq!(received.join("\n").trim(), expected.trim(), "{sent}");
}

#[test]
fn curl_iperf3_and_nc_work_and_no_checksum_is_bad() {
    let lab = lab_or_skip!(ARTICLE);
    let captures = ["source", "destination"].map(|instance| lab.tcpdump(instance, &["-vv", "-n"]));

    let answer = "printf 'HTTP/1.0 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nhello\\n' | nc -l -N -p 8080";
    let server = lab.start("destination", &["sh", "-c", answer]);
    lab.until_listening("destination", 8080);
    assert_eq!(lab.exec("source", &["curl", "-s", "http://10.0.1.55:8080/"]), "hello\n");
    drop(server);

    let mut listener = lab.start("destination", &["nc", "-l", "-p", "9000"]);
    lab.until_listening("destination", 9000);
    lab.exec("source", &["sh", "-c", "echo over nc | nc -N 10.0.1.55 9000"]);
    listener.until("the line", |line| line == "over nc");
    lab.exec("source", &["ping", "-c", "1", "10.0.1.55"]);
    lab.exec("source", &["traceroute", "-q", "1", "10.0.1.55"]);

    for mut capture in captures {
        // What traceroute is answered comes last.
        capture.until("an unreachable", |line| line.contains("unreachable"));
        let lines = capture.interrupt();
        assert!(lines.iter().any(|line| line.contains("cksum")));
        // tcpdump's words for TCP and ICMP, UDP, and IP; 0xbad1 is a checksum as good as any. Nothing here is large
        // enough for a super-segment, whose checksum is summed only when it is cut.
        let wrong = ["incorrect", "bad udp cksum", "bad cksum", "wrong icmp cksum"];
        let bad: Vec<_> = lines.iter().filter(|line| wrong.iter().any(|words| line.contains(words))).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }

    let server = lab.start("destination", &["iperf3", "-s", "-1"]);
    lab.until_listening("destination", 5201);
    let report: Value =
        serde_json::from_str(&lab.exec("source", &["iperf3", "-J", "-c", "10.0.1.55", "-n", "100M"])).unwrap();
    assert!(report["end"]["sum_sent"]["bytes"].as_u64().unwrap() >= 100 << 20);
    server.wait();
}

#[test]
fn two_labs_with_the_same_addresses_do_not_meet() {
    let one = lab_or_skip!(ARTICLE);
    let two = Lab::up(ARTICLE);
    let mut capture = two.tcpdump("destination", &["-n", "icmp"]);
    one.exec("source", &["ping", "-c", "2", "-i", "0.2", "10.0.1.55"]);
    two.exec("source", &["ping", "-c", "1", "-s", "100", "10.0.1.55"]);
    capture.until_count(2, |line| line.contains("length 108"));
    let lines = capture.interrupt();
    assert!(!lines.iter().any(|line| line.contains("length 64")), "{lines:#?}");
    let both = one.minivpc(&["status"]);
    assert_eq!(both.status.code(), Some(1), "which one?");
    assert!(String::from_utf8_lossy(&both.stderr).contains("--lab"));
}

#[test]
fn down_leaves_nothing() {
    let lab = lab_or_skip!(ARTICLE);
    let sleeper = lab.start("source", &["sleep", "1000"]);
    lab.exec("destination", &["true"]);
    let before = processes(&lab.name);
    assert!(before.len() >= 3, "keeper, engine, sleeper: {before:?}");
    let down = lab.down();
    assert!(down.status.success());
    assert_eq!(processes(&lab.name), Vec::<String>::new());
    assert!(!crate::lab::runtime().join(&lab.name).exists());
    drop(sleeper);
    let again = lab.down();
    assert_eq!(again.status.code(), Some(1), "it isn't up any more");
}

/// Processes with the lab's name in their command line; those that have ended and only wait to be reaped have none.
fn processes(name: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(name) && !line.contains("sleep\0")).collect()
}

#[test]
fn a_wrong_file_builds_nothing() {
    let lab = Lab::write(&ARTICLE.replace("10.0.1.0/24: osaka-NAT", "10.0.1.0/25: osaka-NAT"));
    for command in ["validate", "up"] {
        let refused = lab.minivpc(&[command, "lab.yaml"]);
        assert_eq!(refused.status.code(), Some(1));
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        let wanted = "InvalidParameterValue: Route destination doesn't match any subnet CIDR blocks.";
        assert!(error.contains("lab.yaml:") && error.contains(wanted), "{error}");
    }
    assert!(!crate::lab::runtime().join(&lab.name).exists());
}

#[test]
fn show_prints_the_tables_of_the_article() {
    let lab = lab_or_skip!(ARTICLE);
    let table = lab.ask(&["show", "route-table", "source"]);
    assert_eq!(table, include_str!("expected/route-table-source.txt"));
    assert_eq!(lab.ask(&["show", "route-table", "destination"]), include_str!("expected/route-table-destination.txt"));
    assert_eq!(lab.ask(&["show", "route-table", "nat"]), include_str!("expected/route-table-nat.txt"));
    assert_eq!(lab.ask(&["show", "nat-gateway", "osaka-NAT"]), include_str!("expected/nat-gateway.txt"));
}
