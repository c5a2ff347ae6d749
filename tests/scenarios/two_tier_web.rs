//! Groups that name each other, and stateless lists on every tier, with the servers that the lab starts itself.

use crate::lab::{Lab, said};

const WEB: &str = include_str!("../../configs/two-tier-web/lab.yaml");

fn up() -> Option<Lab> {
    if let Some(why) = crate::lab::cannot_run() {
        println!("skipped: {why}");
        return None;
    }
    let lab = Lab::up(WEB);
    for (server, port) in [("web-a", 80), ("app-a", 8080), ("app-c", 8080), ("db-a", 5432)] {
        lab.until_listening(server, port);
    }
    Some(lab)
}

#[test]
fn sg_5_groups_that_name_each_other_admit_each_tier_to_the_next() {
    let Some(lab) = up() else { return };
    assert_eq!(lab.exec("web-a", &["curl", "-s", "10.20.10.10:8080"]), "app-a\n");
    assert_eq!(lab.exec("web-a", &["curl", "-s", "10.20.11.10:8080"]), "app-c\n");
    let echo = "echo hello | nc -N 10.20.10.20 5432";
    assert_eq!(lab.exec("app-c", &["sh", "-c", echo]), "hello\n", "SG-12: the answer passes without an egress rule");
    for (from, to, port) in [("web-a", "10.20.10.20", "5432"), ("db-a", "10.20.10.10", "8080")] {
        let before = lab.dropped("ENI_SG_RULES_MISMATCH");
        assert!(!lab.run(from, &["nc", "-z", "-w", "1", to, port]).status.success(), "SG-1: nothing new");
        lab.drops_only_for("ENI_SG_RULES_MISMATCH");
        assert!(lab.dropped("ENI_SG_RULES_MISMATCH") > before, "{from} → {to}");
    }
}

#[test]
fn nacl_3_the_private_list_lets_no_port_80_out() {
    let Some(lab) = up() else { return };
    assert!(!lab.run("app-a", &["curl", "-s", "-m", "1", "10.20.0.10"]).status.success());
    lab.drops_only_for("SUBNET_ACL_RESTRICTION");
}

#[test]
fn sg_12_a_session_works_where_nothing_new_goes_out() {
    // Egress empty, ingress from one address.
    let text = WEB.replace(
        "ingress: [ { protocol: tcp, ports: 5432, security_group: app } ]",
        "ingress: [ { protocol: tcp, ports: 5432, cidr: 10.20.10.10/32 } ]",
    );
    assert_ne!(text, WEB);
    let Some(lab) = up() else { return };
    lab.apply(&text);
    let echo = "echo hello | nc -N -w 2 10.20.10.20 5432";
    assert_eq!(lab.exec("app-a", &["sh", "-c", echo]), "hello\n");
    assert_eq!(said(&lab.run("app-c", &["sh", "-c", echo])), "", "another address");
    assert!(!lab.run("db-a", &["curl", "-s", "-m", "1", "10.20.10.10:8080"]).status.success());
    lab.drops_only_for("ENI_SG_RULES_MISMATCH");
}

#[test]
fn nacl_10_the_private_tier_reaches_the_internet_by_the_nat_gateway_of_its_zone() {
    let Some(lab) = up() else { return };
    let site = |instance: &str| {
        lab.exec(instance, &["curl", "-sS", "-m", "10", "--local-port", "65535", "https://example.com/"])
    };
    for (instance, address) in [("app-a", "203.0.113.11"), ("app-c", "203.0.113.12")] {
        let answer = site(instance);
        let port = answer.split_once(&format!("You are {address} port ")).and_then(|(_, rest)| rest.split(',').next());
        let port: u16 = port.unwrap_or_else(|| panic!("{answer}")).parse().unwrap();
        assert!(port >= 1024, "NAT-9: {answer}");
    }
    assert_eq!(lab.exec("client", &["curl", "-sS", "-m", "10", "http://203.0.113.21/"]), "web-a\n");
}

#[test]
fn nacl_8_a_list_judges_the_internets_packets_by_the_private_address() {
    let denied = WEB.replace(
        "          100: { allow: tcp, ports: 80,         cidr: 0.0.0.0/0 }\n          110: { allow: tcp, ports: 443,        cidr: 0.0.0.0/0 }\n          120: { allow: tcp, ports: 1024-65535, cidr: 0.0.0.0/0 }      #",
        "          90:  { deny: all, cidr: 198.51.100.0/24 }\n          100: { allow: tcp, ports: 80,         cidr: 0.0.0.0/0 }\n          110: { allow: tcp, ports: 443,        cidr: 0.0.0.0/0 }\n          120: { allow: tcp, ports: 1024-65535, cidr: 0.0.0.0/0 }      #",
    );
    assert_ne!(denied, WEB);
    let Some(lab) = up() else { return };
    assert_eq!(lab.exec("blocked", &["curl", "-sS", "-m", "10", "http://203.0.113.21/"]), "web-a\n");
    lab.apply(&denied);
    assert!(!lab.run("blocked", &["curl", "-sS", "-m", "1", "http://203.0.113.21/"]).status.success());
    lab.drops_only_for("SUBNET_ACL_RESTRICTION");
    assert_eq!(lab.exec("client", &["curl", "-sS", "-m", "10", "http://203.0.113.21/"]), "web-a\n", "others still may");
}
