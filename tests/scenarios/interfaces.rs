//! Instances with several interfaces and addresses, NAT gateways with several addresses, and commands at the start.

use crate::crashes::kill_engine;
use crate::lab::{Lab, lab_or_skip, said, until};

const LAB: &str = r#"
lab: x
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets:
      a: { cidr: 10.0.0.0/24 }
      b: { cidr: 10.0.1.0/24, route_table: b }
      c: { cidr: 10.0.2.0/24, route_table: c }
    nat_gateways:
      gateway: { subnet: a, connectivity_type: private, private_ip: 10.0.0.100, secondary_private_ips: [10.0.0.101] }
    route_tables:
      b: { routes: { 10.0.2.0/24: firewall/eth1 } }
      c: { routes: { 10.0.1.0/24: firewall } }
    security_groups:
      all: { ingress: [ { protocol: all, cidr: 0.0.0.0/0 } ] }
instances:
  firewall:
    subnet: a
    private_ip: 10.0.0.10
    secondary_private_ips: [10.0.0.11]
    security_groups: [all]
    source_dest_check: false
    sysctls: { net.ipv4.ip_forward: 1 }
    network_interfaces:
      eth1:
        subnet: a
        private_ip: 10.0.0.20
        secondary_private_ips: [10.0.0.21]
        security_groups: [all]
        source_dest_check: false
    run: [ "cd /root", "pwd", "touch first && ls", "false", "echo last; sleep 1000" ]
  b: { subnet: b, private_ip: 10.0.1.10, security_groups: [all] }
  c: { subnet: c, private_ip: 10.0.2.10, security_groups: [all] }
"#;

#[test]
fn every_address_answers_by_the_interface_that_has_it() {
    let lab = lab_or_skip!(LAB);
    let received = || -> Vec<u64> {
        let status = lab.json(&["status"]);
        let firewall = status["instances"].as_array().unwrap().iter().find(|i| i["name"] == "firewall").unwrap();
        firewall["interfaces"].as_array().unwrap().iter().map(|i| i["link"]["tx_packets"].as_u64().unwrap()).collect()
    };
    for (address, interface) in [("10.0.0.10", 0), ("10.0.0.11", 0), ("10.0.0.20", 1), ("10.0.0.21", 1)] {
        let before = received();
        lab.exec("b", &["ping", "-c", "1", address]);
        let after = received();
        assert!(after[interface] > before[interface], "{address}: {before:?} {after:?}");
        assert_eq!(after[1 - interface], before[1 - interface], "{address} answers by its own interface only");
    }
    let flows = lab.json(&["flows"]);
    let of_firewall = flows["flows"].as_array().unwrap().iter().filter(|flow| flow["direction"] == "ingress");
    let ends: Vec<_> = of_firewall.map(|flow| flow["local"].as_str().unwrap().split(' ').next().unwrap()).collect();
    assert_eq!(ends, ["10.0.0.10", "10.0.0.11", "10.0.0.20", "10.0.0.21"], "its own end is the local one");
}

#[test]
fn an_interface_has_the_routing_table_of_its_number_whichever_there_are_before_it() {
    let lab = lab_or_skip!(&LAB.replace("eth1", "eth3"));
    lab.exec("b", &["ping", "-c", "1", "10.0.0.21"]);
    let rules = lab.exec("firewall", &["ip", "rule"]);
    assert!(rules.contains("from 10.0.0.20 lookup 10003") && rules.contains("from 10.0.0.21 lookup 10003"), "{rules}");
}

#[test]
fn sdc_5_a_two_armed_appliance_forwards_from_one_interface_to_the_other() {
    let lab = lab_or_skip!(LAB);
    assert_eq!(lab.hops("b", "10.0.2.10"), ["10.0.0.10", "10.0.2.10"]);
    let trace = lab.ask(&["trace", "b", "c"]);
    assert!(trace.contains("handed to firewall/eth1, ttl 255"), "{trace}");
    // With the check on at one leg nothing passes.
    let checked = LAB.replace(
        "        security_groups: [all]\n        source_dest_check: false",
        "        security_groups: [all]\n        source_dest_check: true",
    );
    assert_ne!(checked, LAB);
    lab.apply(&checked);
    let ping = lab.run("b", &["ping", "-c", "1", "-W", "1", "10.0.2.10"]);
    assert!(said(&ping).contains("0 received"));
    lab.drops_only_for("ENI_SOURCE_DEST_CHECK_RESTRICTION");
}

#[test]
fn secondary_addresses_come_and_go_while_the_guest_runs() {
    let lab = lab_or_skip!(LAB);
    lab.exec("firewall", &["touch", "/root/mine"]);
    let said_by_apply = lab.apply(&LAB.replace("[10.0.0.21]", "[10.0.0.22, 10.0.0.23]"));
    assert!(said_by_apply.contains("AssignPrivateIpAddresses"), "{said_by_apply}");
    lab.exec("b", &["ping", "-c", "1", "10.0.0.23"]);
    assert!(!lab.run("b", &["ping", "-c", "1", "-W", "1", "10.0.0.21"]).status.success());
    let rules = lab.exec("firewall", &["ip", "rule"]);
    assert!(rules.contains("from 10.0.0.22 lookup 10001") && !rules.contains("10.0.0.21"), "{rules}");
    lab.exec("firewall", &["ls", "/root/mine"]);
}

const MOVING: &str = r#"
lab: x
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets: { a: { cidr: 10.0.0.0/24 }, b: { cidr: 10.0.1.0/24 } }
    security_groups: { all: { ingress: [ { protocol: all, cidr: 0.0.0.0/0 } ] } }
network_interfaces:
  first:  { subnet: a, private_ip: 10.0.0.100, security_groups: [all], attachment: one/eth1 }
  second: { subnet: b, private_ip: 10.0.1.100, security_groups: [all], attachment: two/eth1 }
instances:
  one: { subnet: a, private_ip: 10.0.0.10, security_groups: [all] }
  two: { subnet: a, private_ip: 10.0.0.11, security_groups: [all] }
  asker: { subnet: b, private_ip: 10.0.1.99, security_groups: [all] }
"#;

/// Who has the address; it answers.
fn holder(lab: &Lab, address: &str) -> String {
    let has = |instance: &&&str| lab.exec(instance, &["ip", "-br", "addr"]).contains(&format!("{address}/24"));
    let holders: Vec<_> = ["one", "two"].iter().filter(has).copied().collect();
    lab.exec("asker", &["ping", "-c", "1", "-W", "5", address]);
    holders.join(" ")
}

#[test]
fn fo_2_two_interfaces_change_places_under_one_name_and_nobody_restarts() {
    let lab = lab_or_skip!(MOVING);
    for instance in ["one", "two"] {
        lab.exec(instance, &["touch", "/root/mine"]);
    }
    assert_eq!((holder(&lab, "10.0.0.100"), holder(&lab, "10.0.1.100")), ("one".into(), "two".into()));
    let turned = MOVING
        .replace("one/eth1", "x")
        .replace("two/eth1", "one/eth1")
        .replace("attachment: x", "attachment: two/eth1");
    let actions = lab.apply(&turned);
    assert!(!actions.contains("RunInstances"), "{actions}");
    assert_eq!((holder(&lab, "10.0.0.100"), holder(&lab, "10.0.1.100")), ("two".into(), "one".into()));
    let rules = lab.exec("one", &["ip", "rule"]);
    assert!(rules.contains("from 10.0.1.100 lookup 10001") && !rules.contains("10.0.0.100"), "{rules}");
    for instance in ["one", "two"] {
        lab.exec(instance, &["ls", "/root/mine"]);
        assert_eq!(lab.exec(instance, &["ip", "-br", "link"]).lines().count(), 3, "lo, eth0 and eth1");
    }
    // Further ones come and go in the same way, also those that are written in their instance.
    lab.apply(&MOVING.replace(
        "  one: { subnet: a, private_ip: 10.0.0.10,",
        "  one: { subnet: a, private_ip: 10.0.0.10, network_interfaces: { eth2: { subnet: b, private_ip: 10.0.1.7, security_groups: [all] } },",
    ));
    assert_eq!(holder(&lab, "10.0.1.7"), "one");
    lab.apply(MOVING);
    assert!(!lab.exec("one", &["ip", "-br", "link"]).contains("eth2"));
    lab.exec("one", &["ls", "/root/mine"]);
}

#[test]
fn fo_2_an_interface_outlives_its_instance_and_an_engine() {
    let lab = lab_or_skip!(MOVING);
    lab.ask(&["set", "eni", "first", "two/eth5"]);
    assert_eq!(holder(&lab, "10.0.0.100"), "two");
    kill_engine(&lab);
    assert_eq!(holder(&lab, "10.0.0.100"), "two");
    let without = MOVING
        .replace("two/eth1", "one/eth2")
        .replace("  two: { subnet: a, private_ip: 10.0.0.11, security_groups: [all] }\n", "");
    lab.apply(&without);
    lab.exec("asker", &["ping", "-c", "1", "-W", "5", "10.0.0.100"]);
    lab.exec("asker", &["ping", "-c", "1", "-W", "5", "10.0.1.100"]);
}

#[test]
fn fo_2_what_an_instance_has_it_need_not_be_given_again() {
    let lab = lab_or_skip!(MOVING);
    for there in ["one", "one/eth1"] {
        assert_eq!(lab.ask(&["set", "eni", "first", there]).trim(), "", "nothing is changed");
    }
    assert!(lab.ask(&["set", "eni", "first", "one/eth2"]).contains("is one/eth2"));
    assert_eq!(lab.ask(&["set", "eni", "first", "one"]).trim(), "", "whichever it is");
    // The way out of a further interface can be asked for.
    let trace = lab.ask(&["trace", "one/eth2", "10.0.1.99"]);
    assert!(trace.contains("10.0.0.100 is this ENI's") && trace.contains("delivered"), "{trace}");
}

#[test]
fn a_plain_guest_network_leaves_further_interfaces_to_the_guest() {
    let lab = lab_or_skip!(&LAB.replace("    run:", "    guest_network: plain\n    run:"));
    let addresses = lab.exec("firewall", &["ip", "-br", "-4", "addr"]);
    assert!(addresses.contains("10.0.0.10/24") && !addresses.contains("10.0.0.11"), "{addresses}");
    assert!(!addresses.contains("eth1"), "{addresses}");
    assert!(lab.exec("firewall", &["ip", "-br", "link"]).contains("eth1"));
}

#[test]
fn nat_5_a_gateway_uses_all_of_its_addresses() {
    let through =
        LAB.replace("b: { routes: { 10.0.2.0/24: firewall/eth1 } }", "b: { routes: { 10.0.2.0/24: gateway } }");
    let lab = lab_or_skip!(&through.replace("c: { routes: { 10.0.1.0/24: firewall } }", "c: {}"));
    let mut capture = lab.tcpdump("c", &["-n", "icmp[icmptype] == icmp-echo"]);
    for id in 0..40 {
        lab.exec("b", &["ping", "-c", "1", "-e", &id.to_string(), "10.0.2.10"]);
    }
    capture.until("one address", |line| line.contains("IP 10.0.0.100 > 10.0.2.10"));
    capture.until("the other", |line| line.contains("IP 10.0.0.101 > 10.0.2.10"));
}

#[test]
fn commands_run_one_after_the_other_at_each_start_and_their_output_is_kept() {
    // What no other start prints tells one start's output from another's.
    let once = "cat /proc/sys/kernel/random/uuid";
    let lab = lab_or_skip!(&LAB.replace("\"false\"", &format!("\"{once}\", \"false\"")));
    let mut seen = String::new();
    let mut printed = || {
        let mut logs = String::new();
        until("the last command of this start", || {
            logs = lab.ask(&["logs", "firewall"]);
            logs.ends_with("last\n") && logs != seen
        });
        seen.clone_from(&logs);
        let (before, after) = logs.split_once(&format!("$ {once}\n")).unwrap();
        let (uuid, after) = after.split_once('\n').unwrap();
        assert_eq!(uuid.len(), 36, "{logs}");
        format!("{before}{after}")
    };
    let expected = "$ cd /root\n$ pwd\n/root\n$ touch first && ls\nfirst\n$ false\n(exit status 1)\n$ echo last; sleep 1000\nlast\n";
    assert_eq!(printed(), expected);
    assert!(lab.exec("firewall", &["ps", "ax"]).contains("sleep 1000"), "it goes on");
    lab.ask(&["restart", "firewall"]);
    assert_eq!(printed(), expected);
    assert_eq!(lab.ask(&["logs", "b"]).trim(), "");
}

#[test]
fn commands_of_a_lab_cannot_write_to_its_users_files() {
    let lab = lab_or_skip!(&LAB.replace("\"cd /root\"", "\"ls lab.yaml; echo x > lab.yaml; touch here\""));
    until("the last command", || lab.ask(&["logs", "firewall"]).contains("last"));
    let logs = lab.ask(&["logs", "firewall"]);
    assert!(logs.contains("\nlab.yaml\n"), "they see them: {logs}");
    assert!(std::fs::read_to_string(&lab.file).unwrap().contains("vpcs:"));
    assert!(!lab.file.with_file_name("here").exists(), "{logs}");
}

#[test]
fn a_command_that_floods_its_output_keeps_the_end_of_it() {
    let flood = LAB.replace("echo last; sleep 1000", "seq 1000000; echo last");
    let lab = lab_or_skip!(&flood);
    until("its end", || lab.ask(&["logs", "firewall"]).ends_with("1000000\nlast\n"));
    let logs = lab.ask(&["logs", "firewall"]);
    assert!(logs.starts_with("[what was printed before is cut]\n") && logs.len() <= 1 << 20, "{} bytes", logs.len());
}

#[test]
fn a_trace_answers_by_the_interface_that_the_guest_would_use() {
    // The answer to an address of eth0 leaves by eth1, on whose subnet the asker is; eth1 hasn't the address.
    let text = r#"
lab: x
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets: { a: { cidr: 10.0.0.0/24 }, b: { cidr: 10.0.1.0/24 } }
    security_groups: { all: { ingress: [ { protocol: all, cidr: 0.0.0.0/0 } ] } }
instances:
  two:
    subnet: a
    private_ip: 10.0.0.10
    security_groups: [all]
    network_interfaces: { eth1: { subnet: b, private_ip: 10.0.1.10, security_groups: [all] } }
  asker: { subnet: b, private_ip: 10.0.1.99, security_groups: [all] }
"#;
    let lab = lab_or_skip!(text);
    let trace = lab.json(&["trace", "asker", "10.0.0.10"]);
    assert_eq!(trace["back"]["reason"], "ENI_SOURCE_DEST_CHECK_RESTRICTION");
    assert!(said(&lab.run("asker", &["ping", "-c", "1", "-W", "1", "10.0.0.10"])).contains("0 received"));
    assert_eq!(lab.json(&["drops"])["drops"][0]["sender"]["name"], "two/eth1");
    let status = lab.json(&["status"]);
    let two = status["instances"].as_array().unwrap().iter().find(|i| i["name"] == "two").unwrap();
    assert_eq!(two["interfaces"][1]["subnet"], "b");
}
