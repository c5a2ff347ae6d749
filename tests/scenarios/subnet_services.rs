//! What a guest expects of its subnet, whatever groups and lists say.

use crate::crashes::kill_engine;
use crate::lab::lab_or_skip;

/// A group without rules, and a list that denies everything.
const CLOSED: &str = "
lab: x
region: ap-northeast-1
vpcs:
  v:
    cidr: 10.0.0.0/16
    subnets:
      a: { cidr: 10.0.0.0/24, network_acl: closed }
      b: { cidr: 10.0.1.0/24 }
    network_acls: { closed: {} }
    security_groups: { closed: { egress: [] } }
instances:
  one: { subnet: a, private_ip: 10.0.0.10, security_groups: [closed] }
  two: { subnet: a, private_ip: 10.0.0.11, security_groups: [closed] }
  far: { subnet: b, private_ip: 10.0.1.10, security_groups: [closed] }
";

#[test]
fn dhcp_4_sg_25_sg_26_nacl_9_a_client_configures_all_that_its_guest_has() {
    let by_itself = CLOSED.replace("two: { subnet: a,", "two: { subnet: a, guest_network: dhcp,");
    let lab = lab_or_skip!(&by_itself);
    assert!(!lab.exec("two", &["ip", "-br", "-4", "addr"]).contains("eth0"), "nothing is configured yet");
    lab.exec("two", &["udhcpc", "-i", "eth0", "-n", "-q", "-f"]);
    assert!(lab.exec("two", &["ip", "-br", "-4", "addr"]).contains("10.0.0.11/24"));
    assert!(lab.exec("two", &["ip", "link", "show", "eth0"]).contains("mtu 9001"));
    assert!(lab.exec("two", &["ip", "route"]).contains("default via 10.0.0.1 dev eth0"));
    let resolver = lab.exec("two", &["cat", "/etc/resolv.conf"]);
    assert!(resolver.contains("10.0.0.2") && resolver.contains("ap-northeast-1.compute.internal"), "{resolver}");
    assert!(lab.exec("two", &["dig", "nobody.example"]).contains("status: NXDOMAIN"), "and it works");
    lab.loses_all("two", "10.0.0.10");
}

#[test]
fn dns_1_sg_25_nacl_9_names_are_known_and_nothing_else_works() {
    let internet = "internet: { hosts: { example.com: { address: 93.184.216.34, serve: [http] } } }\n";
    let lab = lab_or_skip!(
        &(CLOSED.replace("    cidr: 10.0.0.0/16", "    dns_hostnames: true\n    cidr: 10.0.0.0/16") + internet)
    );
    let dig = |arguments: &[&str]| lab.exec("one", &[&["dig", "+short"], arguments].concat());
    let name = "ip-10-0-1-10.ap-northeast-1.compute.internal";
    assert_eq!(dig(&[name]), "10.0.1.10\n");
    assert_eq!(dig(&["-x", "10.0.1.10"]), format!("{name}.\n"));
    for resolver in ["@169.254.169.253", "@10.0.0.2"] {
        for transport in ["+notcp", "+tcp"] {
            assert_eq!(dig(&[resolver, transport, "example.com"]), "93.184.216.34\n");
        }
    }
    kill_engine(&lab);
    assert_eq!(dig(&["+tcp", "example.com"]), "93.184.216.34\n", "also of another engine");
    assert!(lab.exec("one", &["dig", "nobody.example"]).contains("status: NXDOMAIN"));
    assert!(lab.exec("one", &["getent", "hosts", "ip-10-0-1-10"]).contains(name), "by its domain, too");
    lab.loses_all("one", "10.0.1.10");
    lab.drops_only_for("ENI_SG_RULES_MISMATCH");
    // SEED-11: without host names the numbers have none.
    lab.apply(&(CLOSED.to_owned() + internet));
    assert_eq!((dig(&["-x", "10.0.1.10"]), dig(&[name])), (String::new(), String::new()));
    assert_eq!(dig(&["example.com"]), "93.184.216.34\n");
    lab.apply(&(CLOSED.replace("    cidr: 10.0.0.0/16", "    dns_support: false\n    cidr: 10.0.0.0/16") + internet));
    let silence = lab.run("one", &["dig", "+tries=1", "+time=1", "example.com"]);
    assert_eq!(silence.status.code(), Some(9), "no answer");
    assert_eq!(lab.dropped("MINIVPC_NO_DNS_SUPPORT"), 1);
}

#[test]
fn ntp_1_sg_25_nacl_9_real_clients_get_the_time_and_nothing_else_works() {
    let lab = lab_or_skip!(CLOSED);
    let told: serde_json::Value = serde_json::from_str(&lab.exec("one", &["ntpdig", "-j", "169.254.169.123"])).unwrap();
    assert_eq!(told["stratum"], 3, "{told}");
    assert!(told["offset"].as_f64().unwrap().abs() < 5.0, "it is the machine's: {told}");
    for to in ["10.0.0.11", "10.0.1.10", "169.254.169.123"] {
        lab.loses_all("one", to);
    }
    lab.drops_only_for("ENI_SG_RULES_MISMATCH");
}
