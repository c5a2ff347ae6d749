//! The slides on IP headers: who forwards, who translates and who answers for another is told by the addresses that a
//! client, a gateway, what stands in the middle and a server see.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::lab::{Lab, lab_or_skip, said};

const NAT: &str = include_str!("../../configs/nat-instance/lab.yaml");
const PUBLIC_NAT: &str = include_str!("../../configs/public-nat-gateway/lab.yaml");
const FORWARD_PROXY: &str = include_str!("../../configs/forward-proxy/lab.yaml");
const REVERSE_PROXY: &str = include_str!("../../configs/reverse-proxy/lab.yaml");

/// Brings up a lab whose commands read files beside it.
fn up(name: &str, text: &str) -> Lab {
    let lab = Lab::write(text);
    let beside = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs")).join(name);
    for file in fs::read_dir(beside).unwrap().flatten() {
        let name = file.file_name();
        if !["lab.yaml", "README.md"].contains(&name.to_str().unwrap()) {
            fs::copy(file.path(), lab.file.with_file_name(name)).unwrap();
        }
    }
    let up = lab.minivpc(&["up"]);
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    lab
}

/// Source and destination address of what passed each point while `act` was done: `client Out 10.0.1.10 > 10.0.0.10`.
fn seen(lab: &Lab, points: &[&str], filter: &str, act: impl FnOnce(&Lab)) -> BTreeSet<String> {
    let capture = lab.capture(&[points, &["--", filter]].concat());
    act(lab);
    let address = |text: &str| {
        let parts: Vec<_> = text.trim_end_matches(':').split('.').take(4).collect();
        parts.join(".")
    };
    let line = |line: &String| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, point, bound, "IP", src, ">", dst, ..] => {
                Some(format!("{point} {bound} {} > {}", address(src), address(dst)))
            }
            _ => None,
        }
    };
    capture.interrupt().iter().filter_map(line).collect()
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn ping(lab: &Lab, from: &str, to: &str) {
    lab.exec(from, &["ping", "-c", "1", "-W", "5", to]);
}

#[test]
fn nat_34_a_nat_instance_puts_its_own_address_in_the_clients_place() {
    crate::lab::can_run_or_skip!();
    let lab = up("nat-instance", NAT);
    crate::lab::until("its rules", || {
        said(&lab.run("nat-instance", &["nft", "list", "ruleset"])).contains("masquerade")
    });
    let seen = seen(&lab, &["a", "nat-instance", "igw", "example.com"], "icmp", |lab| ping(lab, "a", "93.184.216.34"));
    let expected = [
        "a/eth0 Out 10.0.1.10 > 93.184.216.34",
        "nat-instance/eth0 In 10.0.1.10 > 93.184.216.34",
        "nat-instance/eth0 Out 10.0.0.10 > 93.184.216.34",
        "igw In 10.0.0.10 > 93.184.216.34",
        "igw Out 203.0.113.10 > 93.184.216.34",
        "example.com In 203.0.113.10 > 93.184.216.34",
        "example.com Out 93.184.216.34 > 203.0.113.10",
        "igw In 93.184.216.34 > 203.0.113.10",
        "igw Out 93.184.216.34 > 10.0.0.10",
        "nat-instance/eth0 In 93.184.216.34 > 10.0.0.10",
        "nat-instance/eth0 Out 93.184.216.34 > 10.0.1.10",
        "a/eth0 In 93.184.216.34 > 10.0.1.10",
    ];
    assert_eq!(seen, set(&expected));
}

#[test]
fn nat_2_a_nat_gateway_does_the_same_without_a_guest() {
    crate::lab::can_run_or_skip!();
    let lab = up("nat-instance", NAT);
    let points = ["b", "nat/inside", "nat/outside", "igw", "example.com"];
    let seen = seen(&lab, &points, "icmp", |lab| ping(lab, "b", "93.184.216.34"));
    let expected = [
        "b/eth0 Out 10.0.2.10 > 93.184.216.34",
        "nat/inside In 10.0.2.10 > 93.184.216.34",
        "nat/outside Out 10.0.0.200 > 93.184.216.34",
        "igw In 10.0.0.200 > 93.184.216.34",
        "igw Out 203.0.113.20 > 93.184.216.34",
        "example.com In 203.0.113.20 > 93.184.216.34",
        "example.com Out 93.184.216.34 > 203.0.113.20",
        "igw In 93.184.216.34 > 203.0.113.20",
        "igw Out 93.184.216.34 > 10.0.0.200",
        "nat/outside In 93.184.216.34 > 10.0.0.200",
        "nat/inside Out 93.184.216.34 > 10.0.2.10",
        "b/eth0 In 93.184.216.34 > 10.0.2.10",
    ];
    assert_eq!(seen, set(&expected));
}

#[test]
fn nat_34_nat_16_an_instance_carries_fragments_and_answers_pings_and_a_gateway_does_neither() {
    crate::lab::can_run_or_skip!();
    let lab = up("nat-instance", NAT);
    crate::lab::until("its rules", || {
        said(&lab.run("nat-instance", &["nft", "list", "ruleset"])).contains("masquerade")
    });
    let large = |from: &str| {
        let ping = ["ping", "-c", "1", "-W", "1", "-s", "3000", "-M", "dont", "93.184.216.34"];
        lab.run(from, &ping).status.success()
    };
    assert!(large("a"), "put together and cut again");
    assert!(!large("b"), "the answer comes in fragments");
    ping(&lab, "a", "10.0.0.10");
    assert!(!lab.run("b", &["ping", "-c", "1", "-W", "1", "10.0.0.200"]).status.success());
    // SDC-2: with its check on, it isn't even asked.
    lab.ask(&["set", "source-dest-check", "nat-instance", "on"]);
    assert!(!lab.run("a", &["ping", "-c", "1", "-W", "1", "93.184.216.34"]).status.success());
    // And by another route, another one does its job.
    lab.ask(&["set", "route", "by-instance", "0.0.0.0/0", "nat"]);
    let answer = lab.exec("a", &["curl", "-sS", "-m", "10", "http://example.com/"]);
    assert!(answer.contains("You are 203.0.113.20 port"), "{answer}");
}

#[test]
fn sdc_4_a_forward_proxy_ends_the_clients_connection_and_makes_another_with_its_check_on() {
    crate::lab::can_run_or_skip!();
    let lab = up("forward-proxy", FORWARD_PROXY);
    lab.until_listening("proxy", 8888);
    let direct = lab.run("client", &["curl", "-sS", "-m", "1", "http://example.com/"]);
    assert_eq!(direct.status.code(), Some(28), "no way of its own");
    let seen = seen(&lab, &["client", "proxy", "example.com"], "tcp", |lab| {
        let answer = lab.exec("client", &["curl", "-sS", "-m", "10", "-x", "10.0.0.10:8888", "https://example.com/"]);
        assert!(answer.contains("You are 203.0.113.10 port"), "{answer}");
    });
    let expected = [
        "client/eth0 Out 10.0.1.10 > 10.0.0.10",
        "client/eth0 In 10.0.0.10 > 10.0.1.10",
        "proxy/eth0 In 10.0.1.10 > 10.0.0.10",
        "proxy/eth0 Out 10.0.0.10 > 10.0.1.10",
        "proxy/eth0 Out 10.0.0.10 > 93.184.216.34",
        "proxy/eth0 In 93.184.216.34 > 10.0.0.10",
        "example.com In 203.0.113.10 > 93.184.216.34",
        "example.com Out 93.184.216.34 > 203.0.113.10",
    ];
    assert_eq!(seen, set(&expected));
}

#[test]
fn sg_5_behind_a_reverse_proxy_a_server_sees_the_proxy_and_admits_its_group() {
    crate::lab::can_run_or_skip!();
    let lab = up("reverse-proxy", REVERSE_PROXY);
    lab.until_listening("proxy", 80);
    lab.until_listening("server", 8080);
    let seen = seen(&lab, &["client", "proxy", "server"], "tcp", |lab| {
        assert_eq!(lab.exec("client", &["curl", "-sS", "-m", "10", "http://203.0.113.10/"]), "hello\n");
    });
    let expected = [
        "client Out 192.0.2.10 > 203.0.113.10",
        "client In 203.0.113.10 > 192.0.2.10",
        "proxy/eth0 In 192.0.2.10 > 10.0.0.10",
        "proxy/eth0 Out 10.0.0.10 > 192.0.2.10",
        "proxy/eth0 Out 10.0.0.10 > 10.0.1.10",
        "proxy/eth0 In 10.0.1.10 > 10.0.0.10",
        "server/eth0 In 10.0.0.10 > 10.0.1.10",
        "server/eth0 Out 10.0.1.10 > 10.0.0.10",
    ];
    assert_eq!(seen, set(&expected));
    assert!(!lab.run("client", &["curl", "-sS", "-m", "1", "http://203.0.113.10:8080/"]).status.success());
}

#[test]
fn nat_9_from_a_private_subnet_a_site_sees_the_elastic_ip_and_a_port_of_the_gateways() {
    let lab = lab_or_skip!(PUBLIC_NAT);
    let curl = ["curl", "-sS", "-m", "10", "--local-port", "65535", "https://example.com/"];
    let answer = lab.exec("client", &curl);
    let port = answer.split_once("You are 203.0.113.31 port ").and_then(|(_, rest)| rest.split(',').next());
    let port: u16 = port.unwrap_or_else(|| panic!("{answer}")).parse().unwrap();
    assert!(port >= 1024);
    let answer = lab.exec("client", &["curl", "-sS", "-m", "10", "https://s3.ap-northeast-1.amazonaws.com/"]);
    assert!(answer.contains("You are 203.0.113.31 port"), "{answer}");
    let large = lab.run("client", &["ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1473", "93.184.216.34"]);
    let printed = said(&large);
    assert!(printed.contains("From 10.0.0.1") && printed.contains("mtu = 1500"), "IGW-11: {printed}");
    // NAT-21.
    assert!(!lab.run("stranger", &["ping", "-c", "1", "-W", "1", "203.0.113.31"]).status.success());
    lab.drops_only_for("MINIVPC_NAT_NO_SESSION");
}
