//! What a guest does on its link that no VPC knows: the network answers ARP itself and believes nobody.

use crate::lab::{Lab, lab_or_skip, said};

const LAB: &str = r#"
lab: x
x-forwards: &forwards # R-27: without redirects, which would tell the client of the way without it.
  { net.ipv4.ip_forward: 1, net.ipv4.conf.all.send_redirects: 0, net.ipv4.conf.eth0.send_redirects: 0 }
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets:
      a: { cidr: 10.0.0.0/24 }
      b: { cidr: 10.0.1.0/24 }
    security_groups: { all: { ingress: [ { protocol: all, cidr: 0.0.0.0/0 } ] } }
instances:
  client: { subnet: a, private_ip: 10.0.0.10, security_groups: [all] }
  other:  { subnet: a, private_ip: 10.0.0.11, security_groups: [all] }
  router: { subnet: a, private_ip: 10.0.0.12, security_groups: [all], sysctls: *forwards }
  far:    { subnet: b, private_ip: 10.0.1.10, security_groups: [all] }
"#;

/// The lab with the check of `router` on or off.
fn with_check(on: bool) -> String {
    let router = "private_ip: 10.0.0.12, security_groups: [all]";
    LAB.replace(router, &format!("{router}, source_dest_check: {on}"))
}

fn ping(lab: &Lab, from: &str, arguments: &[&str]) -> String {
    said(&lab.run(from, &[&["ping", "-c", "1", "-W", "1"], arguments].concat()))
}

/// Sends one frame as it is: `hex`, from the guest's eth0.
fn send(lab: &Lab, from: &str, hex: &str) {
    let script = "import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
s.send(bytes.fromhex(sys.argv[1]))";
    lab.exec(from, &["python3", "-c", script, hex]);
}

fn mac(lab: &Lab, instance: &str) -> String {
    lab.exec(instance, &["cat", "/sys/class/net/eth0/address"]).trim().replace(':', "")
}

#[test]
fn r_8_sdc_1_an_address_that_aws_does_not_know_is_nobodys() {
    for check in [true, false] {
        let lab = lab_or_skip!(&with_check(check));
        lab.exec("router", &["ip", "address", "add", "10.0.0.99/24", "dev", "eth0"]);
        assert!(ping(&lab, "client", &["-w", "4", "10.0.0.99"]).contains("Destination Host Unreachable"), "R-8");
        let mut at_other = lab.tcpdump("other", &["-n", "icmp"]);
        assert!(ping(&lab, "router", &["-I", "10.0.0.99", "10.0.0.11"]).contains("0 received"));
        if check {
            assert_eq!(lab.dropped("ENI_SOURCE_DEST_CHECK_RESTRICTION"), 1);
        } else {
            at_other.until("the request", |line| line.contains("10.0.0.99 > 10.0.0.11: ICMP echo request"));
            assert_eq!(lab.dropped("ENI_SOURCE_DEST_CHECK_RESTRICTION"), 0);
        }
        drop(at_other);
    }
}

#[test]
fn r_11_another_mac_address_is_dropped_with_the_check_on_and_off() {
    for check in [true, false] {
        let lab = lab_or_skip!(&with_check(check));
        assert!(ping(&lab, "router", &["10.0.0.11"]).contains("1 received"));
        lab.exec("router", &["ip", "link", "set", "eth0", "address", "02:11:22:33:44:55"]);
        assert!(ping(&lab, "router", &["10.0.0.11"]).contains("0 received"));
        assert!(lab.dropped("MINIVPC_SOURCE_MAC") > 0);
    }
}

#[test]
fn r_10_gratuitous_arp_moves_no_address() {
    let lab = lab_or_skip!(&with_check(false));
    let thief = mac(&lab, "router");
    // 10.0.0.11 is at router, says router to everybody, as VRRP does.
    let announcement = format!("ffffffffffff{thief}080600010800060400{{}}{thief}0a00000b{thief}0a00000b");
    for kind in ["01", "02"] {
        send(&lab, "router", &announcement.replace("{}", kind));
    }
    let mut at_thief = lab.tcpdump("router", &["-n", "icmp"]);
    assert!(ping(&lab, "client", &["10.0.0.11"]).contains("1 received"));
    assert_eq!(lab.dropped("MINIVPC_ARP_ANNOUNCEMENT"), 2);
    // What arrives there is its own.
    assert!(ping(&lab, "router", &["10.0.0.10"]).contains("1 received"));
    at_thief.until_count(2, |line| line.contains("ICMP echo"));
    let seen = at_thief.interrupt();
    assert!(!seen.iter().any(|line| line.contains("10.0.0.11")), "{seen:#?}");
}

#[test]
fn r_6_no_question_reaches_a_guest_so_none_can_answer_for_another() {
    let lab = lab_or_skip!(&with_check(false));
    lab.exec("router", &["sysctl", "-qw", "net.ipv4.conf.eth0.proxy_arp=1"]);
    let mut at_router = lab.tcpdump("router", &["-n"]);
    assert!(ping(&lab, "client", &["-w", "4", "10.0.0.77"]).contains("Destination Host Unreachable"));
    assert!(ping(&lab, "client", &["10.0.0.11"]).contains("1 received"));
    assert!(ping(&lab, "client", &["10.0.0.12"]).contains("1 received"));
    at_router.until("an answer", |line| line.contains("10.0.0.12 > 10.0.0.10: ICMP echo reply"));
    let seen = at_router.interrupt();
    assert!(
        !seen.iter().any(|line| line.contains("who-has 10.0.0.77") || line.contains("who-has 10.0.0.11")),
        "{seen:#?}"
    );
}

#[test]
fn r_12_a_neighbour_as_gateway_forwards_only_with_its_check_off() {
    for check in [true, false] {
        let lab = lab_or_skip!(&with_check(check));
        lab.exec("client", &["ip", "route", "add", "10.0.1.0/24", "via", "10.0.0.12"]);
        let answer = ping(&lab, "client", &["10.0.1.10"]);
        if check {
            assert!(answer.contains("0 received"), "{answer}");
            assert_eq!(lab.dropped("ENI_SOURCE_DEST_CHECK_RESTRICTION"), 1);
        } else {
            assert!(answer.contains("1 received"), "{answer}");
            assert_eq!(lab.hops("client", "10.0.1.10"), ["10.0.0.12", "10.0.1.10"]);
        }
    }
}

#[test]
fn r_13_what_is_sent_to_the_router_for_a_neighbour_is_routed_to_it() {
    let lab = lab_or_skip!(LAB);
    lab.exec("client", &["ip", "route", "replace", "10.0.0.11", "via", "10.0.0.1", "dev", "eth0"]);
    let answer = ping(&lab, "client", &["10.0.0.11"]);
    assert!(answer.contains(" ttl=255 "), "{answer}");
}

#[test]
fn r_7_what_is_no_unicast_ip_is_not_carried() {
    let lab = lab_or_skip!(LAB);
    lab.run("client", &["ping", "-c", "1", "-W", "1", "-b", "10.0.0.255"]);
    lab.run("client", &["ping", "-c", "1", "-W", "1", "224.0.0.1"]);
    assert_eq!(lab.dropped("MINIVPC_NOT_UNICAST"), 2);
    let from = mac(&lab, "client");
    send(&lab, "client", &format!("{}{from}88cc0000", mac(&lab, "other")));
    assert_eq!(lab.dropped("MINIVPC_NOT_IP"), 1);
}

#[test]
fn r_9_arp_for_awss_own_services_is_answered() {
    let lab = lab_or_skip!(LAB);
    lab.exec("client", &["ip", "route", "add", "169.254.0.0/16", "dev", "eth0"]);
    lab.run("client", &["ping", "-c", "1", "-W", "1", "169.254.169.254"]);
    lab.run("client", &["ping", "-c", "1", "-W", "1", "10.0.0.2"]);
    let neighbours = lab.exec("client", &["ip", "neighbour"]);
    for service in ["169.254.169.254", "10.0.0.2"] {
        let line = neighbours.lines().find(|line| line.starts_with(service));
        assert!(line.is_some_and(|line| line.contains("lladdr 02:")), "{neighbours}");
    }
}
