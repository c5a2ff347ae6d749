//! What happens inside one VPC, with real tools: appliances, network ACLs, fragments, path MTU.

use crate::lab::{Lab, lab_or_skip, said};

const APPLIANCE: &str = include_str!("../../configs/appliance-east-west/lab.yaml");
const NETWORK_ACLS: &str = include_str!("../../configs/network-acls/lab.yaml");
const NAT_GATEWAY: &str = include_str!("../../configs/nat-gateway-east-west/lab.yaml");

fn answers(lab: &Lab, from: &str, to: &str) -> String {
    lab.exec(from, &["ping", "-c", "1", to])
}

#[test]
fn r_16_without_a_middlebox_there_is_one_hop_and_no_ttl_is_lost() {
    let lab = lab_or_skip!(APPLIANCE);
    assert!(answers(&lab, "source", "10.0.2.10").contains(" ttl=255 "));
    let traceroute = lab.exec("source", &["traceroute", "-n", "10.0.2.10"]);
    assert_eq!(traceroute.lines().count(), 2, "{traceroute}");
}

#[test]
fn sdc_2_an_appliance_is_a_hop_with_the_check_off() {
    let lab = lab_or_skip!(APPLIANCE);
    let mut at_destination = lab.tcpdump("destination", &["-n", "icmp"]);
    let mut at_appliance = lab.tcpdump("appliance", &["-n", "icmp"]);
    assert_eq!(lab.hops("source", "10.0.1.55"), ["10.0.2.10", "10.0.1.55"]);
    assert!(answers(&lab, "source", "10.0.1.55").contains(" ttl=254 "), "its kernel takes 1");
    at_destination.until("the request", |line| line.contains("10.0.0.11 > 10.0.1.55: ICMP echo request"));
    at_appliance.until_count(2, |line| line.contains("10.0.1.55 > 10.0.0.11: ICMP echo reply"));
}

#[test]
fn sg_7_a_group_reference_does_not_match_behind_an_appliance() {
    let lab = lab_or_skip!(APPLIANCE);
    lab.loses_all("source", "10.0.1.66");
    lab.drops_only_for("ENI_SG_RULES_MISMATCH");
}

#[test]
fn sdc_2_with_the_check_on_the_appliance_sees_nothing() {
    let lab = lab_or_skip!(&APPLIANCE.replace("source_dest_check: false", "source_dest_check: true"));
    let capture = lab.tcpdump("appliance", &["-n", "icmp"]);
    lab.loses_all("source", "10.0.1.55");
    let lines = capture.interrupt();
    assert!(lines.iter().any(|line| line == "0 packets captured"), "{lines:#?}");
    lab.drops_only_for("ENI_SOURCE_DEST_CHECK_RESTRICTION");
}

#[test]
fn r_24_one_way_through_the_appliance_works_as_groups_are_stateful_at_each_interface() {
    let one_way = APPLIANCE.replace("routes: { 10.0.0.0/24: appliance }", "routes: {}");
    assert_ne!(one_way, APPLIANCE);
    let lab = lab_or_skip!(&one_way);
    assert!(answers(&lab, "source", "10.0.1.55").contains(" ttl=255 "), "the reply takes the local route");
}

#[test]
fn nacl_1_the_target_sees_its_own_answer_leave_and_the_sender_nothing() {
    let lab = lab_or_skip!(NETWORK_ACLS);
    let mut capture = lab.tcpdump("web", &["-n", "icmp"]);
    lab.loses_all("client", "10.0.1.20");
    capture.until_count(2, |line| line.contains("10.0.0.10 > 10.0.1.20: ICMP echo request"));
    capture.until_count(2, |line| line.contains("10.0.1.20 > 10.0.0.10: ICMP echo reply"));
    lab.drops_only_for("SUBNET_ACL_RESTRICTION");
    answers(&lab, "peer", "10.0.1.20");
}

#[test]
fn nat_16_a_datagram_of_4000_bytes_is_three_fragments_and_a_ping_of_4000_is_lost() {
    let lab = lab_or_skip!(NAT_GATEWAY);
    lab.exec("source", &["ip", "link", "set", "eth0", "mtu", "1500"]);
    let mut capture = lab.tcpdump("destination", &["-n", "-v", "udp"]);
    let mut receiver = lab.start("destination", &["nc", "-u", "-l", "-p", "9000"]);
    // /proc/net/udp shows the listener's port, 9000.
    let listening = |lab: &Lab| lab.exec("destination", &["cat", "/proc/net/udp"]).contains(":2328 ");
    while !listening(&lab) {}
    let send = "head -c 3999 /dev/zero | tr '\\0' x > data; echo >> data; nc -u -q 0 10.0.1.55 9000 < data";
    lab.exec("source", &["sh", "-c", send]);
    receiver.until("the whole datagram", |line| line == "x".repeat(3999));
    capture.until_count(3, |line| line.contains("proto UDP (17)"));
    let lines = capture.interrupt();
    let from_gateway = |line: &&String| line.trim_start().starts_with("10.0.2.149");
    assert_eq!(lines.iter().filter(from_gateway).count(), 3, "{lines:#?}");
    let ping = lab.run("source", &["ping", "-c", "1", "-W", "1", "-s", "4000", "10.0.1.55"]);
    assert!(said(&ping).contains("1 packets transmitted, 0 received"));
}

#[test]
fn r_40_r_41_nat_17_a_nat_gateway_carries_8500_bytes_and_the_vpc_9001() {
    let lab = lab_or_skip!(NAT_GATEWAY);
    let ping = |from, size, to| said(&lab.run(from, &["ping", "-c", "1", "-W", "1", "-M", "do", "-s", size, to]));
    assert!(ping("source", "8472", "10.0.1.55").contains("1 received"));
    let too_large = ping("source", "8473", "10.0.1.55");
    assert!(too_large.contains("From 10.0.2.149 icmp_seq=1 Frag needed and DF set (mtu = 8500)"), "{too_large}");
    let path = lab.exec("source", &["tracepath", "-n", "10.0.1.55"]);
    assert!(path.contains("10.0.2.149") && path.contains("pmtu 8500 hops 2 back 2"), "{path}");
    let mut capture = lab.tcpdump("destination", &["-n", "tcp[tcpflags] & tcp-syn != 0"]);
    let listener = lab.start("destination", &["nc", "-l", "-p", "7000"]);
    lab.until_listening("destination", 7000);
    lab.exec("source", &["sh", "-c", "echo x | nc -N 10.0.1.55 7000"]);
    capture.until("a SYN", |line| line.contains("10.0.2.149.") && line.contains("mss 8460"));
    drop(listener);
    let direct = lab_or_skip!(NETWORK_ACLS);
    let ping = direct.run("peer", &["ping", "-c", "1", "-W", "1", "-M", "do", "-s", "8973", "10.0.1.20"]);
    assert!(said(&ping).contains("1 received"), "9001 inside the VPC");
}

#[test]
fn nat_35_every_metric_of_a_gateway_and_an_interface_is_shown() {
    const METRICS: [&str; 14] = [
        "ActiveConnectionCount",
        "ConnectionAttemptCount",
        "ConnectionEstablishedCount",
        "ErrorPortAllocation",
        "IdleTimeoutCount",
        "PacketsDropCount",
        "PacketsInFromSource",
        "PacketsOutToDestination",
        "PacketsInFromDestination",
        "PacketsOutToSource",
        "BytesInFromSource",
        "BytesOutToDestination",
        "BytesInFromDestination",
        "BytesOutToSource",
    ];
    let lab = lab_or_skip!(NAT_GATEWAY);
    answers(&lab, "source", "10.0.1.55");
    let shown = lab.json(&["show", "nat-gateway", "osaka-NAT", "--metrics"]);
    let status = lab.json(&["status"]);
    for name in METRICS {
        assert!(shown["Metrics"][name].is_u64(), "{name}: {shown}");
        assert_eq!(shown["Metrics"][name], status["nat_gateways"][0]["metrics"][name]);
    }
    assert_eq!(shown["Metrics"]["BytesOutToSource"], 84);
    let eni = lab.json(&["show", "network-interface", "source", "--metrics"]);
    assert_eq!(eni["Metrics"]["tracked_connections"], 1);
    assert!(eni["Link"]["tx_packets"].as_u64() > Some(0));
    assert!(lab.ask(&["show", "network-interface", "10.0.0.11"]).contains("SourceDestCheck"));
}
