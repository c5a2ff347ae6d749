//! The article on internet connections: routing tables of guests, the internet gateway as static NAT, Elastic IPs.

use crate::lab::{Lab, lab_or_skip, said, until};

const INTERNET: &str = include_str!("../../configs/internet-gateway/lab.yaml");

/// What the site says that it sees.
fn seen_by(lab: &Lab, instance: &str, url: &str) -> String {
    lab.exec(instance, &["curl", "-sS", "-m", "10", url])
}

fn public_ips(lab: &Lab, instance: &str) -> Vec<String> {
    let status = lab.json(&["status"]);
    let instances = status["instances"].as_array().unwrap();
    let found = instances.iter().find(|other| other["name"] == instance).unwrap();
    let ips = found["interfaces"][0]["public_ips"].as_array().cloned().unwrap_or_default();
    ips.iter().map(|ip| ip.as_str().unwrap().to_owned()).collect()
}

#[test]
fn seed_16_a_guest_knows_its_subnet_and_the_router_and_not_its_public_address() {
    let lab = lab_or_skip!(INTERNET);
    let routes = lab.exec("web", &["ip", "route"]);
    let routes: Vec<_> = routes.lines().map(str::trim).collect();
    assert_eq!(
        routes,
        ["default via 192.168.1.1 dev eth0", "192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.10"]
    );
    assert!(!lab.exec("web", &["ip", "addr"]).contains("203.0.113"));
}

#[test]
fn igw_2_the_internet_sees_the_elastic_ip_with_the_guests_own_port() {
    let lab = lab_or_skip!(INTERNET);
    let answer = lab.exec("web", &["curl", "-sS", "-m", "10", "--local-port", "40404", "http://example.com/page"]);
    assert_eq!(answer, "This is example.com.\nYou are 203.0.113.21 port 40404, and asked for GET /page\n");
    let answer = seen_by(&lab, "web", "https://s3.ap-northeast-1.amazonaws.com/");
    assert!(answer.contains("You are 203.0.113.21 port"), "TLS, with the lab's own authority: {answer}");
    lab.until_listening("web", 80);
    assert_eq!(seen_by(&lab, "client", "http://203.0.113.21/"), "web\n", "inbound");
}

#[test]
fn igw_3_without_a_public_address_nothing_gets_out() {
    let lab = lab_or_skip!(INTERNET);
    for instance in ["bare", "inside"] {
        let curl = lab.run(instance, &["curl", "-sS", "-m", "1", "http://example.com/"]);
        assert_eq!(curl.status.code(), Some(28), "{instance}: a timeout, not a refusal");
    }
    let drops = lab.drops();
    let reasons: Vec<_> = drops.keys().collect();
    assert_eq!(reasons, ["IGW_PUBLIC_IP_ASSOCIATION_FOR_EGRESS", "NO_ROUTE_TO_DESTINATION"]);
}

#[test]
fn igw_12_igw_17_a_traceroute_from_the_internet_ends_at_the_public_address() {
    let lab = lab_or_skip!(INTERNET);
    assert_eq!(lab.hops("client", "203.0.113.21"), ["198.18.0.1", "203.0.113.21"]);
    assert_eq!(lab.hops("web", "93.184.216.34"), ["198.18.0.1", "93.184.216.34"]);
}

#[test]
fn r_42_igw_11_the_subnets_router_says_that_1500_bytes_fit() {
    let lab = lab_or_skip!(INTERNET);
    // What the VPC itself carries, too: 9001 bytes. To another host, as a guest remembers what it was told of one.
    for (size, host) in [("1473", "example.com"), ("8973", "client")] {
        let printed = said(&lab.run("web", &["ping", "-c", "1", "-W", "1", "-M", "do", "-s", size, host]));
        assert!(
            printed.contains("From 192.168.1.1") && printed.contains("Frag needed and DF set (mtu = 1500)"),
            "{printed}"
        );
    }
    lab.exec("web", &["ping", "-c", "1", "-W", "2", "-M", "do", "-s", "1472", "example.com"]);
}

#[test]
fn igw_7_igw_9_a_moved_elastic_ip_moves_the_traffic_at_once() {
    let lab = lab_or_skip!(INTERNET);
    for server in ["web", "standby"] {
        lab.until_listening(server, 80);
    }
    assert_eq!(seen_by(&lab, "client", "http://203.0.113.21/"), "web\n");
    let web = "security_groups: [open]\n    elastic_ip: web\n";
    let standby = "private_ip: 192.168.1.11\n    security_groups: [open]\n";
    let moved = INTERNET.replacen(web, "security_groups: [open]\n", 1).replacen(
        standby,
        &format!("{standby}    elastic_ip: web\n"),
        1,
    );
    let done = lab.apply(&moved);
    assert!(done.contains("DisassociateAddress") && done.contains("AssociateAddress"), "{done}");
    assert_eq!(seen_by(&lab, "client", "http://203.0.113.21/"), "standby\n");
    let curl = lab.run("web", &["curl", "-sS", "-m", "1", "http://example.com/"]);
    assert_eq!(curl.status.code(), Some(28), "its old holder has none any more");
}

#[test]
fn igw_8_a_stop_loses_the_address_from_amazons_pool_and_keeps_an_elastic_ip() {
    let lab = lab_or_skip!(INTERNET);
    let before = public_ips(&lab, "lent");
    for instance in ["lent", "web"] {
        lab.ask(&["stop", instance]);
    }
    assert!(public_ips(&lab, "lent").is_empty());
    assert_eq!(public_ips(&lab, "web"), ["203.0.113.21"]);
    for instance in ["lent", "web"] {
        lab.ask(&["start", instance]);
    }
    let after = public_ips(&lab, "lent");
    assert!(before.len() == 1 && after.len() == 1 && before != after, "{before:?}, then {after:?}");
    assert!(seen_by(&lab, "lent", "http://example.com/").contains(&after[0]));
}

#[test]
fn the_internets_clock_is_this_machines() {
    let lab = lab_or_skip!(INTERNET);
    const ASK: &str = "import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.sendto(b'\\x23' + 47 * b'\\0', ('ntp.example', 123))
answer = s.recv(100)
print(len(answer), abs(struct.unpack('>I', answer[40:44])[0] - 2208988800 - time.time()) < 2)";
    assert_eq!(lab.exec("web", &["python3", "-c", ASK]), "48 True\n");
}

#[test]
fn a_guest_that_floods_the_internet_with_nonsense_harms_nobody() {
    let lab = lab_or_skip!(INTERNET);
    // Spoofed, martian, private and broken packets, from the instance and from a host.
    const RAW: &str = "import random, socket, struct, sys
to = sys.argv[1]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for n in range(2000):
    src = random.choice(['10.9.9.9', '127.0.0.1', '0.0.0.0', '224.0.0.1', '255.255.255.255', '100.64.0.1', '203.0.113.21', '192.0.2.10'])
    dst = random.choice([to, '10.1.1.1', '100.64.0.1', '198.51.100.1'])
    body = bytes(random.randrange(256) for _ in range(random.randrange(40)))
    head = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(body), n, 0, 64, random.choice([1, 6, 17, 47]), 0, socket.inet_aton(src), socket.inet_aton(dst))
    try:
        s.sendto(head + body, (dst, 0))
    except OSError:
        pass";
    lab.exec("web", &["python3", "-c", RAW, "93.184.216.34"]);
    lab.exec("client", &["python3", "-c", RAW, "203.0.113.21"]);
    assert!(seen_by(&lab, "web", "http://example.com/").contains("203.0.113.21"), "all goes on");
    let drops = lab.drops();
    for reason in [
        "ENI_SOURCE_DEST_CHECK_RESTRICTION",
        "IGW_SOURCE_ADDRESS_NOT_IN_RFC1918_INGRESS",
        "IGW_SOURCE_ADDRESS_NOT_IN_RFC6598_INGRESS",
        "GATEWAY_REJECTS_SPOOFED_TRAFFIC",
        "MINIVPC_NO_SUCH_HOST",
    ] {
        assert!(drops.contains_key(reason), "{reason} of {drops:?}");
    }
}

#[test]
fn a_new_engine_keeps_the_internet_and_its_certificates() {
    let lab = lab_or_skip!(INTERNET);
    assert!(seen_by(&lab, "web", "https://example.com/").contains("203.0.113.21"));
    crate::life::kill(crate::life::process(&lab, "engine"));
    until("another engine", || lab.minivpc(&["status", "--lab", &lab.name]).status.success());
    assert!(seen_by(&lab, "web", "https://example.com/").contains("203.0.113.21"));
}

#[test]
fn a_host_that_serves_something_else_is_made_anew_and_others_notice_nothing() {
    let lab = lab_or_skip!(INTERNET);
    let changed = INTERNET.replace(
        "ntp.example: { address: 192.0.2.123, serve: [ntp] }",
        "ntp.example: { address: 192.0.2.123, serve: [ntp, http] }\n    new.example: { address: 192.0.2.55, serve: [http] }",
    );
    let mut pings = lab.start("web", &["ping", "-i", "0.2", "93.184.216.34"]);
    pings.until("an answer", |line| line.contains("ttl="));
    lab.apply(&changed);
    for address in ["192.0.2.123", "192.0.2.55"] {
        assert!(seen_by(&lab, "web", &format!("http://{address}/")).contains("203.0.113.21"));
    }
    let answered = pings.printed.len();
    pings.until_count(answered + 2, |_| true);
    assert!(pings.interrupt().iter().any(|line| line.contains(" 0% packet loss")), "no ping was lost");
}
