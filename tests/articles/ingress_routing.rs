//! The slides on VPC ingress routing: who sees which addresses, and what must be right for it to work.

use crate::lab::{Lab, lab_or_skip};

const INGRESS: &str = include_str!("../../configs/ingress-routing/lab.yaml");

fn changed(from: &str, to: &str) -> String {
    let text = INGRESS.replacen(from, to, 1);
    assert_ne!(text, INGRESS);
    text
}

const INBOUND_ONLY: [&str; 2] =
    ["application: { routes: { 0.0.0.0/0: appliance } }", "application: { routes: { 0.0.0.0/0: igw } }"];

#[test]
fn r_36_the_appliance_sees_the_internets_source_and_the_private_destination_both_ways() {
    let lab = lab_or_skip!(INGRESS);
    let mut at_appliance = lab.tcpdump("appliance", &["-n", "icmp"]);
    let mut at_application = lab.tcpdump("application", &["-n", "icmp"]);
    let printed = lab.exec("client", &["ping", "-c", "1", "-W", "2", "203.0.113.20"]);
    assert!(printed.contains("64 bytes from 203.0.113.20"), "{printed}");
    // In and out again.
    at_appliance.until_count(2, |line| line.contains("192.0.2.10 > 10.0.1.20: ICMP echo request"));
    at_appliance.until_count(2, |line| line.contains("10.0.1.20 > 192.0.2.10: ICMP echo reply"));
    at_application.until("the request", |line| line.contains("192.0.2.10 > 10.0.1.20: ICMP echo request"));
    lab.until_listening("application", 80);
    assert_eq!(lab.exec("client", &["curl", "-sS", "-m", "5", "http://203.0.113.20/"]), "application\n");
}

#[test]
fn igw_17_the_appliance_is_a_hop_by_its_public_address() {
    let lab = lab_or_skip!(INGRESS);
    assert_eq!(lab.hops("client", "203.0.113.20"), ["198.18.0.1", "203.0.113.10", "203.0.113.20"]);
    assert_eq!(lab.hops("client", "203.0.113.30"), ["198.18.0.1", "203.0.113.30"], "R-33: of another subnet");
}

#[test]
fn r_37_answers_that_pass_by_the_appliance_are_refused() {
    let [both, inbound] = INBOUND_ONLY;
    let lab = lab_or_skip!(&changed(both, inbound));
    let mut at_application = lab.tcpdump("application", &["-n", "icmp"]);
    lab.loses_all("client", "203.0.113.20");
    at_application.until("its answer", |line| line.contains("10.0.1.20 > 192.0.2.10: ICMP echo reply"));
    lab.drops_only_for("INGRESS_RTB_TRAFFIC_REDIRECTION");
}

#[test]
fn r_37_by_the_switch_they_pass() {
    let [both, inbound] = INBOUND_ONLY;
    let text = changed(both, inbound).replace("    subnets:\n", "    igw_asymmetric_return: pass\n    subnets:\n");
    let lab = lab_or_skip!(&text);
    let capture = lab.tcpdump("appliance", &["-n", "icmp[icmptype] = icmp-echoreply"]);
    lab.exec("client", &["ping", "-c", "1", "-W", "2", "203.0.113.20"]);
    assert!(capture.interrupt().iter().any(|line| line == "0 packets captured"), "it sees no answer");
}

#[test]
fn r_35_an_appliance_without_a_public_address_gets_nothing() {
    let lab = lab_or_skip!(&changed("    elastic_ip: appliance\n", ""));
    lab.loses_all("client", "203.0.113.20");
    lab.drops_only_for("INGRESS_RTB_NO_PUBLIC_IP");
}

#[test]
fn r_35_sdc_2_an_appliance_with_the_check_on_gets_nothing() {
    let lab = lab_or_skip!(&changed("source_dest_check: false", "source_dest_check: true"));
    lab.loses_all("client", "203.0.113.20");
    lab.drops_only_for("ENI_SOURCE_DEST_CHECK_RESTRICTION");
}

#[test]
fn r_23_fo_5_a_stopped_appliance_is_a_blackhole() {
    let lab = lab_or_skip!(INGRESS);
    lab.ask(&["stop", "appliance"]);
    lab.loses_all("client", "203.0.113.20");
    lab.drops_only_for("BAD_STATE_ROUTE");
}

#[test]
fn r_33_r_34_wrong_tables_are_refused_with_their_line() {
    crate::lab::can_run_or_skip!();
    let destination = |destination: &str| {
        format!(
            "Route destination {destination} is not supported in a gateway route table: it must be the whole CIDR block of the VPC, 10.0.0.0/16, or of one of its subnets."
        )
    };
    let target = "Route target is not supported. A gateway route table only supports local, network interface and Gateway Load Balancer endpoint targets.";
    let main = " is the main route table, which cannot be associated with a gateway";
    let cases = [
        ("10.0.1.0/24: appliance", "8.8.8.8/32: appliance", "14:32", destination("8.8.8.8/32")),
        ("10.0.1.0/24: appliance", "0.0.0.0/0: appliance", "14:32", destination("0.0.0.0/0")),
        ("10.0.1.0/24: appliance", "10.0.1.0/25: appliance", "14:32", destination("10.0.1.0/25")),
        ("10.0.1.0/24: appliance", "10.0.1.0/24: igw", "14:45", target.to_owned()),
        ("route_table: ingress }", "route_table: application }", "16:32", destination("0.0.0.0/0")),
        ("ingress:     { routes", "ingress:     { main: true, routes", "8:49", main.to_owned()),
        (
            "10.0.1.0/24: appliance",
            "10.0.1.0/24: network",
            "14:45",
            "is the interface of a Network Load Balancer.".to_owned(),
        ),
        (
            "ingress:     {",
            "ingress:     { propagating_vgws: [vgw],",
            "14:41",
            "no routes are propagated into it".to_owned(),
        ),
    ];
    let more = "network_interfaces: { network: { subnet: other, load_balancer: network } }\nelastic_ips:";
    for (from, to, place, words) in cases {
        let text = changed(from, to).replace("elastic_ips:", more);
        let text = text
            .replace("    cidr: 10.0.0.0/16\n", "    virtual_private_gateway: { name: vgw }\n    cidr: 10.0.0.0/16\n");
        let lab = Lab::write(&text);
        let validate = lab.minivpc(&["validate", lab.file.to_str().unwrap()]);
        let printed = String::from_utf8_lossy(&validate.stderr).into_owned();
        let refusal = printed.lines().next().unwrap_or_default();
        let coded = refusal.contains(&format!("lab.yaml:{place}: InvalidParameterValue: "));
        assert!(!validate.status.success() && coded && refusal.ends_with(&words), "{to}: {printed}");
    }
}

#[test]
fn seed_17_a_classic_load_balancer_is_taken_as_a_target_and_gets_nothing() {
    let text = changed("10.0.1.0/24: appliance", "10.0.1.0/24: classic");
    let classic = "network_interfaces: { classic: { subnet: other, load_balancer: classic, elastic_ip: classic } }";
    let text =
        text.replace("elastic_ips:\n", &format!("{classic}\nelastic_ips:\n  classic: {{ address: 203.0.113.40 }}\n"));
    let lab = lab_or_skip!(&text);
    lab.loses_all("client", "203.0.113.20");
    lab.drops_only_for("ENI_SOURCE_DEST_CHECK_RESTRICTION");
    let off = lab.minivpc(&["set", "--lab", &lab.name, "source-dest-check", "classic", "off"]);
    assert!(String::from_utf8_lossy(&off.stderr).contains("OperationNotPermitted"), "nobody can switch it off");
}
