//! A customer's site behind a VPN connection.

use crate::lab::{lab_or_skip, said};

const LAB: &str = include_str!("../../configs/site-to-site-vpn/lab.yaml");

#[test]
fn vpn_1_both_sides_reach_each_other_by_propagated_and_by_written_routes() {
    let lab = lab_or_skip!(LAB);
    for (from, to) in
        [("pc", "10.0.0.10"), ("app", "192.168.10.20"), ("office/pc", "10.0.1.10"), ("db", "192.168.10.20")]
    {
        lab.exec(from, &["ping", "-c", "1", "-W", "5", to]);
    }
    let routes = lab.ask(&["show", "route-table", "app"]);
    assert!(routes.contains("EnableVgwRoutePropagation") && routes.contains("192.168.0.0/16"), "{routes}");
    assert_eq!(
        lab.hops("app", "192.168.10.20"),
        ["192.168.0.1", "192.168.10.20"],
        "the customer's router shows itself"
    );
    assert_eq!(lab.hops("pc", "10.0.0.10"), ["192.168.0.1", "10.0.0.10"]);
    for from in ["app", "pc"] {
        lab.exec(from, &["ping", "-c", "1", "-W", "5", "192.168.0.1"]);
    }
    lab.loses_all("app", "192.168.99.1");
    lab.drops_only_for("MINIVPC_NO_SUCH_HOST");
}

/// Acceptance: 10.0.1.0/24 is propagated into a table of a VPC with 10.0.0.0/16.
#[test]
fn r_19_vpn_3_a_propagated_route_inside_the_vpc_stays_local() {
    let lab = lab_or_skip!(LAB);
    lab.exec("app", &["ping", "-c", "1", "-W", "5", "10.0.1.10"]);
    let trace = lab.json(&["trace", "app", "db"]);
    let route = trace["there"]["steps"].as_array().unwrap().iter().find(|step| step["hop"] == "rtb").unwrap();
    assert_eq!(route["decision"], "→ local");
    assert!(route["note"].as_str().unwrap().starts_with("beats propagated 10.0.1.0/24"), "{route}");
    // Without propagation it isn't even there.
    lab.apply(&LAB.replace("{ propagating_vgws: [vgw] }", "{}"));
    assert!(!lab.ask(&["show", "route-table", "app"]).contains("10.0.1.0/24"));
    lab.loses_all("app", "192.168.10.20");
    lab.drops_only_for("NO_ROUTE_TO_DESTINATION");
}

#[test]
fn vpn_6_r_32_the_gateways_table_leads_one_subnet_to_the_firewall_and_the_answers_too() {
    let lab = lab_or_skip!(LAB);
    assert_eq!(lab.hops("pc", "10.0.1.10"), ["192.168.0.1", "10.0.9.10", "10.0.1.10"]);
    assert_eq!(lab.hops("db", "192.168.10.20"), ["10.0.9.10", "192.168.0.1", "192.168.10.20"]);
    lab.ask(&["stop", "firewall"]);
    lab.loses_all("pc", "10.0.1.10");
    lab.drops_only_for("BAD_STATE_ROUTE");
    lab.exec("pc", &["ping", "-c", "1", "-W", "5", "10.0.0.10"]);
}

/// Whatever the target was, the file can be applied again, and comes back with it.
#[test]
fn r_23_a_route_stays_when_its_gateway_goes_and_the_file_is_as_it_was_applied() {
    let lab = lab_or_skip!(LAB);
    let without = LAB
        .replace("    virtual_private_gateway: { name: vgw, route_table: edge }\n", "")
        .replace("{ propagating_vgws: [vgw] }", "{}")
        .split_once("customer_sites:")
        .map(|(before, after)| before.to_owned() + &after[after.find("instances:").unwrap()..])
        .unwrap();
    assert!(lab.apply(&without).contains("becomes a blackhole"));
    for _ in 0..2 {
        assert!(lab.apply(&without).contains("nothing has changed"));
    }
    lab.ask(&["reset"]);
    lab.rewrite(&without.replace("192.168.0.0/16: vgw", "192.168.0.0/16: another"));
    let refused = String::from_utf8_lossy(&lab.minivpc(&["apply"]).stderr).into_owned();
    assert!(refused.contains("is called 'another'"), "{refused}");
    assert!(lab.apply(LAB).contains("is active again"));
    lab.exec("pc", &["ping", "-c", "1", "-W", "5", "10.0.0.10"]);
}

#[test]
fn vpn_4_a_tunnel_carries_1446_bytes_and_tcp_fits_in() {
    let lab = lab_or_skip!(LAB);
    let ping = |from: &str, to: &str, size: &str| {
        said(&lab.run(from, &["ping", "-c", "1", "-W", "1", "-M", "do", "-s", size, to]))
    };
    assert!(ping("app", "192.168.10.20", "1418").contains("1 received"));
    let silence = ping("app", "192.168.10.20", "1419");
    assert!(silence.contains("0 received") && !silence.contains("Frag needed"), "{silence}");
    lab.drops_only_for("MINIVPC_VPN_TOO_LARGE");
    assert!(
        ping("pc", "10.0.0.10", "1419").contains("From 192.168.0.1 icmp_seq=1 Frag needed and DF set (mtu = 1446)")
    );
    // Without the DF bit it is cut.
    lab.exec("app", &["ping", "-c", "1", "-W", "5", "-M", "dont", "-s", "4000", "192.168.10.20"]);
    lab.until_listening("office/pc", 5201);
    let mut capture = lab.tcpdump("office/pc", &["-n", "-v", "tcp[tcpflags] & tcp-syn != 0 and port 5201"]);
    lab.exec("app", &["iperf3", "-c", "192.168.10.20", "-n", "10M"]);
    capture.until("the largest segment", |line| line.contains("mss 1406"));
}

#[test]
fn sites_come_change_and_go_while_the_lab_runs() {
    let lab = lab_or_skip!(LAB);
    let branch =
        "  branch: { virtual_private_gateway: vgw, cidrs: [172.16.0.0/24], hosts: { pc: { address: 172.16.0.9 } } }\n";
    let more = LAB.replace("instances:\n", &format!("{branch}instances:\n"));
    let actions = lab.apply(&more);
    assert!(actions.contains("CreateVpnConnection") && !actions.contains("RunInstances"), "{actions}");
    // `office` is as it was, and two hosts are called pc.
    assert!(String::from_utf8_lossy(&lab.run("pc", &["true"]).stderr).contains("branch/pc"));
    lab.loses_all("branch/pc", "10.0.0.10");
    lab.drops_only_for("ENI_SG_RULES_MISMATCH");
    lab.exec("app", &["ping", "-c", "1", "-W", "5", "172.16.0.9"]);
    let actions = lab.apply(LAB);
    assert!(actions.contains("DeleteVpnConnection") && !actions.contains("office"), "{actions}");
    lab.exec("pc", &["ping", "-c", "1", "-W", "5", "10.0.0.10"]);
}
