//! What a guest expects of its subnet, whatever groups and lists say.

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
