//! A running lab changes under traffic: what AWS would disturb is disturbed, and nothing else.

use std::time::Instant;

use serde_json::Value;

use crate::lab::{Lab, Running, can_run_or_skip, lab_or_skip, said, until};

const LAB: &str = r#"
lab: x
vpcs:
  v:
    cidr: 10.0.0.0/16
    internet_gateway: { name: igw }
    subnets:
      a:   { cidr: 10.0.0.0/24, route_table: a }
      b:   { cidr: 10.0.1.0/24, route_table: b, network_acl: b }
      nat: { cidr: 10.0.2.0/24 }
    nat_gateways:
      gateway: { subnet: nat, connectivity_type: private, private_ip: 10.0.2.149 }
    route_tables:
      a: { routes: { 0.0.0.0/0: igw } }
      b: {}
    network_acls:
      b:
        ingress: { 100: { allow: all, cidr: 0.0.0.0/0 } }
        egress:  { 100: { allow: all, cidr: 0.0.0.0/0 } }
    security_groups:
      client: { ingress: [ { protocol: all, cidr: 10.0.0.0/16 } ] }
      server: { ingress: [ { protocol: tcp, ports: 7, cidr: 10.0.0.0/24 } ] }
      other:  { ingress: [ { protocol: udp, ports: 7, cidr: 10.0.0.0/24 } ] }
instances:
  client: { subnet: a, private_ip: 10.0.0.10, security_groups: [client] }
  peer:   { subnet: b, private_ip: 10.0.1.10, security_groups: [client] }
  server: { subnet: b, private_ip: 10.0.1.20, security_groups: [server] }
"#;

const RULE: &str = "{ protocol: tcp, ports: 7, cidr: 10.0.0.0/24 }";

/// `LAB` with something else in the place of something that is in it.
fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(LAB.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

/// A server that prints the lines that come in, and a client that says them.
struct Lines {
    server: Running,
    client: Running,
}

impl Lines {
    fn open(lab: &Lab) -> Self {
        let server = lab.start("server", &["nc", "-l", "-k", "-p", "7"]);
        lab.until_listening("server", 7);
        let client = lab.converse("client", &["nc", "10.0.1.20", "7"]);
        let mut lines = Self { server, client };
        lines.arrives("the first line");
        lines
    }

    fn arrives(&mut self, line: &str) {
        self.client.say(line);
        self.server.until(line, |seen| seen == line);
    }

    /// The line is dropped for this reason, and doesn't arrive.
    fn is_lost(&mut self, lab: &Lab, line: &str, reason: &str) {
        let before = lab.dropped(reason);
        self.client.say(line);
        until("a drop", || lab.dropped(reason) > before);
        self.server.arrived();
        assert!(!self.server.printed.iter().any(|seen| seen == line));
    }
}

fn second_connection_is_refused(lab: &Lab) {
    let nc = lab.run("client", &["nc", "-z", "-w", "1", "10.0.1.20", "7"]);
    assert!(!nc.status.success(), "a new connection");
}

#[test]
fn sg_17_a_tracked_connection_outlives_its_rule_and_no_new_one_comes_in() {
    let lab = lab_or_skip!(LAB);
    let mut lines = Lines::open(&lab);
    let said = lab.apply(&with(&[(RULE, "")]));
    assert!(said.contains("RevokeSecurityGroupIngress") && said.contains("tcp 7 from 10.0.0.0/24"), "{said}");
    lines.arrives("after the change");
    second_connection_is_refused(&lab);
    lines.arrives("still");
}

#[test]
fn sg_17_an_untracked_connection_stops_with_its_rule() {
    let open = RULE.replace("10.0.0.0/24", "0.0.0.0/0");
    let lab = lab_or_skip!(&with(&[(RULE, &open)]));
    let mut lines = Lines::open(&lab);
    lab.apply(&with(&[(RULE, "")]));
    lines.is_lost(&lab, "lost", "ENI_SG_RULES_MISMATCH");
}

#[test]
fn sg_15_behind_a_nat_gateway_the_same_connection_is_tracked_and_lives_on() {
    let open = RULE.replace("10.0.0.0/24", "0.0.0.0/0");
    let through = ("routes: { 0.0.0.0/0: igw }", "routes: { 0.0.0.0/0: igw, 10.0.1.0/24: gateway }");
    let lab = lab_or_skip!(&with(&[(RULE, &open), through]));
    let mut lines = Lines::open(&lab);
    lab.apply(&with(&[(RULE, ""), through]));
    lines.arrives("after the change");
    second_connection_is_refused(&lab);
}

#[test]
fn sg_23_another_set_of_groups_is_as_other_rules() {
    let lab = lab_or_skip!(LAB);
    let mut lines = Lines::open(&lab);
    lab.apply(&with(&[("security_groups: [server]", "security_groups: [other]")]));
    lines.arrives("after the change");
    second_connection_is_refused(&lab);
}

#[test]
fn nacl_16_a_network_acl_breaks_a_tracked_connection_at_once() {
    let lab = lab_or_skip!(LAB);
    let mut lines = Lines::open(&lab);
    lab.apply(&with(&[("ingress: { 100", "ingress: { 90: { deny: tcp, cidr: 10.0.0.0/24 }, 100")]));
    lines.is_lost(&lab, "lost", "SUBNET_ACL_RESTRICTION");
    lab.apply(LAB);
    // Its kernel sends it again.
    lines.server.until("the lost line", |seen| seen == "lost");
}

#[test]
fn r_23_a_deleted_nat_gateway_leaves_a_blackhole_and_nothing_falls_through() {
    let through = ("routes: { 0.0.0.0/0: igw }", "routes: { 0.0.0.0/0: igw, 10.0.1.0/24: gateway }");
    let lab = lab_or_skip!(&with(&[through]));
    let ping = |count: &str| lab.run("client", &["ping", "-c", count, "-i", "0.2", "-W", "1", "10.0.1.10"]);
    assert!(said(&ping("1")).contains(" ttl=254 "));
    let gone = with(&[
        through,
        ("gateway: { subnet: nat, connectivity_type: private, private_ip: 10.0.2.149 }", "{}"),
        ("    nat_gateways:\n      {}", "    nat_gateways: {}"),
    ]);
    let said_by_apply = lab.apply(&gone);
    assert!(said_by_apply.contains("10.0.1.0/24 → nat-"), "{said_by_apply}");
    assert!(said(&ping("2")).contains("2 packets transmitted, 0 received"));
    let table = lab.json(&["show", "route-table", "a"]);
    let routes = table["RouteTables"][0]["Routes"].as_array().unwrap();
    let state = |block: &str| routes.iter().find(|r| r["DestinationCidrBlock"] == block).unwrap()["State"].clone();
    assert_eq!((state("10.0.1.0/24"), state("10.0.0.0/16")), ("blackhole".into(), "active".into()));
    assert_eq!(lab.dropped("BAD_STATE_ROUTE"), 2, "not one packet took the local route");
    assert_eq!(lab.json(&["show", "nat-gateway", "gateway"])["NatGateways"][0]["State"], "deleted");
    // The route goes on as it is, however often the file is applied.
    assert!(lab.apply(&gone).contains("nothing has changed"));
    assert!(lab.apply(&with(&[through])).contains("is active again"));
    assert!(said(&ping("1")).contains(" ttl=254 "));
}

#[test]
fn r_23_a_stopped_instance_is_a_blackhole_until_it_starts() {
    let appliance = "  peer:   { subnet: b, private_ip: 10.0.1.10, security_groups: [client], source_dest_check: false, sysctls: { net.ipv4.ip_forward: 1 } }";
    let peer = "  peer:   { subnet: b, private_ip: 10.0.1.10, security_groups: [client] }";
    let text = with(&[(peer, appliance), ("routes: { 0.0.0.0/0: igw }", "routes: { 10.0.2.0/24: peer }")]);
    let lab = lab_or_skip!(&text);
    let state = || lab.json(&["show", "route-table", "a"])["RouteTables"][0]["Routes"][0]["State"].clone();
    assert_eq!(state(), "active");
    lab.ask(&["stop", "peer"]);
    assert_eq!(state(), "blackhole");
    let exec = lab.run("peer", &["true"]);
    assert!(String::from_utf8_lossy(&exec.stderr).contains("`minivpc start peer` starts it"));
    assert!(said(&lab.run("client", &["ping", "-c", "1", "-W", "1", "10.0.1.10"])).contains("0 received"));
    assert_eq!(lab.dropped("BAD_STATE"), 1);
    lab.ask(&["start", "peer"]);
    assert_eq!(state(), "active");
    lab.exec("client", &["ping", "-c", "1", "10.0.1.10"]);
    assert_eq!(lab.exec("peer", &["cat", "/proc/sys/net/ipv4/ip_forward"]).trim(), "1");
}

#[test]
fn r_29_a_moved_route_loses_nothing() {
    let lab = lab_or_skip!(LAB);
    let through = with(&[("routes: { 0.0.0.0/0: igw }", "routes: { 0.0.0.0/0: igw, 10.0.1.0/24: gateway }")]);
    let mut pings = lab.start("client", &["ping", "-i", "0.002", "-c", "1000", "10.0.1.10"]);
    pings.until("the first answer", |line| line.contains(" ttl=255 "));
    lab.apply(&through);
    pings.until("an answer by the gateway", |line| line.contains(" ttl=254 "));
    lab.apply(LAB);
    let printed = pings.wait();
    assert!(printed.iter().any(|line| line.contains("1000 received, 0% packet loss")), "{:#?}", printed.last());
}

#[test]
fn nothing_else_notices_a_change() {
    let lab = lab_or_skip!(LAB);
    let server = lab.start("peer", &["iperf3", "-s", "-1", "-p", "5201"]);
    lab.until_listening("peer", 5201);
    let client = lab.start("client", &["iperf3", "-c", "10.0.1.10", "-t", "3", "-J"]);
    let mut changes = 0;
    let start = Instant::now();
    while start.elapsed().as_secs() < 2 {
        let more = with(&[("instances:\n", &format!("instances:\n  more-{changes}: {{ subnet: b }}\n"))]);
        lab.apply(&with(&[(RULE, "")]));
        lab.apply(&more);
        changes += 1;
    }
    let result: Value = serde_json::from_str(&client.wait().join("\n")).unwrap();
    drop(server);
    let intervals = result["intervals"].as_array().unwrap();
    let moved = |interval: &Value| interval["sum"]["bytes"].as_u64().unwrap();
    assert!(intervals.iter().all(|interval| moved(interval) > 0), "{changes} changes: {result:#}");
    assert!(lab.json(&["status"])["instances"].as_array().unwrap().len() == 4, "each run but the last was terminated");
}

/// All that a lab says of itself, without what traffic and time change.
fn picture(lab: &Lab) -> Value {
    let mut status = lab.json(&["status"]);
    status["up_seconds"] = 0.into();
    status["engine_seconds"] = 0.into();
    status["flow_cache"] = Value::Null;
    for instance in status["instances"].as_array_mut().unwrap() {
        instance["interfaces"][0]["link"] = Value::Null;
    }
    let table = lab.json(&["show", "route-table", "a"]);
    let groups = lab.json(&["show", "security-group", "server"]);
    serde_json::json!([status, table, groups])
}

#[test]
fn a_refused_change_changes_nothing() {
    let lab = lab_or_skip!(LAB);
    let mut lines = Lines::open(&lab);
    let before = picture(&lab);
    let refused = |text: &str, why: &str| {
        lab.rewrite(text);
        let apply = lab.minivpc(&["apply"]);
        assert_eq!(apply.status.code(), Some(1));
        let words = String::from_utf8_lossy(&apply.stderr);
        assert!(words.contains(why), "{words}");
    };
    refused(
        &with(&[(RULE, ""), ("subnet: b, private_ip: 10.0.1.20", "subnet: c, private_ip: 10.0.1.20")]),
        "no subnet is called",
    );
    // The machine refuses this one, when other guests are made already.
    let unknown = "instances:\n  first: { subnet: a }\n  zz: { subnet: a, sysctls: { net.ipv4.no_such: 1 } }\n";
    refused(&with(&[(RULE, ""), ("instances:\n", unknown)]), "net.ipv4.no_such");
    lines.arrives("after two refusals");
    assert_eq!(before, picture(&lab));
}

#[test]
fn a_plan_says_what_apply_does() {
    let lab = lab_or_skip!(LAB);
    lab.rewrite(&with(&[(RULE, "")]));
    let plan = said(&lab.minivpc(&["plan"]));
    assert!(plan.contains("1 change; `minivpc apply` makes them"), "{plan}");
    let apply = said(&lab.minivpc(&["apply"]));
    assert_eq!(plan.lines().next(), apply.lines().next());
    assert!(said(&lab.minivpc(&["plan"])).contains("nothing to change"));
}

#[test]
fn reset_gives_new_guests_and_forgets_flows() {
    let lab = lab_or_skip!(LAB);
    lab.exec("client", &["ping", "-c", "1", "10.0.1.10"]);
    lab.exec("client", &["touch", "/root/mine"]);
    lab.ask(&["stop", "server"]);
    lab.ask(&["reset"]);
    let status = lab.json(&["status"]);
    assert_eq!(status["connections"], 0);
    assert!(status["instances"].as_array().unwrap().iter().all(|instance| instance["state"] == "running"));
    assert!(!lab.run("client", &["ls", "/root/mine"]).status.success());
    lab.exec("client", &["touch", "/root/mine"]);
    lab.ask(&["restart", "client"]);
    assert!(!lab.run("client", &["ls", "/root/mine"]).status.success());
    lab.exec("client", &["ping", "-c", "1", "10.0.1.10"]);
}

#[test]
fn several_workers_forward_as_one_does_and_forget_what_is_unused() {
    can_run_or_skip!();
    let lab = Lab::write(LAB);
    let up = lab.minivpc(&["up", "--workers", "3"]);
    assert!(up.status.success(), "{}", said(&up));
    let hits = |lab: &Lab| lab.json(&["status"])["flow_cache"]["hits"].as_u64().unwrap();
    let ping = |from: &str, to: &str| lab.exec(from, &["ping", "-c", "5", "-i", "0.2", to]);
    for (from, to) in [("client", "10.0.1.10"), ("peer", "10.0.0.10")] {
        assert!(ping(from, to).contains(" 0% packet loss"));
    }
    let before = hits(&lab);
    assert!(before > 0, "packets after the first are forwarded by the cache");
    // A change reaches each worker: the cache of none forwards by what was before.
    lab.apply(&with(&[("100: { allow: all, cidr: 0.0.0.0/0 }", "100: { deny: all, cidr: 0.0.0.0/0 }")]));
    let lost = lab.run("client", &["ping", "-c", "2", "-W", "1", "-i", "0.1", "10.0.1.10"]);
    assert!(said(&lost).contains("100% packet loss"), "{}", said(&lost));
    assert_eq!(lab.json(&["status"])["flow_cache"]["workers"], 3);
    let entries = |lab: &Lab| lab.json(&["status"])["flow_cache"]["entries"].as_u64().unwrap();
    until("unused flows to leave the cache", || entries(&lab) == 0);
}
