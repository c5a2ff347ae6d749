//! What a guest expects of its subnet, whatever groups and lists say.

use crate::crashes::kill_engine;
use crate::lab::{Lab, lab_or_skip, until};

const SERVICES: &str = include_str!("../../configs/subnet-services/lab.yaml");

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
    assert!(lab.exec("two", &["ip", "link", "show", "eth0"]).contains("mtu 1500"));
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

#[test]
fn sg_26_dns_8_a_dns_server_of_ones_own_is_filtered_and_the_subnets_services_are_not() {
    let lab = lab_or_skip!(SERVICES);
    assert!(lab.exec("shut", &["dig", "nobody.example"]).contains("status: NXDOMAIN"));
    let instance = lab.exec("shut", &["curl", "-s", "http://169.254.169.254/latest/meta-data/instance-id"]);
    until("its user data have run", || lab.ask(&["logs", "shut"]).contains(&format!("first start of {instance}")));
    lab.exec("shut", &["ntpdig", "169.254.169.123"]);
    lab.exec("bare", &["udhcpc", "-i", "eth0", "-n", "-q", "-f"]);
    lab.loses_all("shut", "10.0.0.11");
    lab.loses_all("bare", "10.0.0.10");

    let resolver = lab.exec("client", &["cat", "/etc/resolv.conf"]);
    assert!(resolver.contains("nameserver 10.1.0.53") && resolver.contains("search corp.example"), "{resolver}");
    until("it listens", || lab.exec("dns", &["ss", "-Hlun"]).contains(":53 "));
    assert!(lab.exec("client", &["getent", "hosts", "intranet"]).starts_with("10.1.0.80 "));
    let before = lab.dropped("ENI_SG_RULES_MISMATCH");
    let refused = lab.run("guest", &["dig", "+tries=1", "+time=1", "intranet.corp.example"]);
    assert_eq!((refused.status.code(), lab.dropped("ENI_SG_RULES_MISMATCH")), (Some(9), before + 1), "no answer");
    let own = lab.exec("guest", &["dig", "+short", "@169.254.169.253", "intranet.corp.example"]);
    assert_eq!(own, "10.1.0.80\n", "the VPC's resolver is there beside it");
}

#[test]
fn dhcp_1_dhcp_3_another_set_is_heard_of_by_who_asks_again_or_starts_again() {
    let lab = lab_or_skip!(SERVICES);
    let resolver = |instance| lab.exec(instance, &["cat", "/etc/resolv.conf"]);
    let name = |instance| {
        let told = lab.exec(instance, &["curl", "-s", "http://169.254.169.254/latest/meta-data/local-hostname"]);
        (lab.exec(instance, &["hostname"]).trim_end().to_owned(), told)
    };
    let is = |name: &str| (name.to_owned(), name.to_owned());
    assert_eq!(name("client"), is("ip-10-1-0-10.corp.example"));
    let shown = lab.json(&["show", "dhcp-options", "corp"]);
    let told = &shown["DhcpOptions"][0]["DhcpConfigurations"];
    assert_eq!((&told[0]["Key"], &told[0]["Values"][0]["Value"]), (&"domain-name".into(), &"corp.example".into()));
    assert_eq!((&told[1]["Key"], &told[1]["Values"][0]["Value"]), (&"domain-name-servers".into(), &"10.1.0.53".into()));
    let pid = lab.exec("client", &["readlink", "/proc/self/ns/net"]);
    let said = lab.apply(&SERVICES.replace("    dhcp_options: corp\n", ""));
    assert!(said.contains("AssociateDhcpOptions") && said.contains("1 change"), "{said}");
    assert_eq!(lab.exec("client", &["readlink", "/proc/self/ns/net"]), pid, "it runs on");
    assert!(resolver("client").contains("10.1.0.53"), "as it was");
    lab.ask(&["restart", "client"]);
    let told = resolver("client");
    assert!(told.contains("nameserver 10.1.0.2") && told.contains("search ap-northeast-1.compute.internal"), "{told}");
    assert_eq!(name("client"), is("ip-10-1-0-10.ap-northeast-1.compute.internal"));

    let nobody = SERVICES.replace("    domain_name_servers: [10.1.0.53]\n", "");
    lab.apply(&(nobody + "internet: { hosts: { example.com: { address: 93.184.216.34 } } }\n"));
    lab.ask(&["restart", "client"]);
    let told = resolver("client");
    assert!(told.contains("search corp.example") && !told.contains("nameserver"), "{told}");
    let unknown = lab.run("client", &["getent", "hosts", "example.com"]);
    assert_eq!(unknown.status.code(), Some(2), "nobody tells it names");
    let unknown = lab.run("bare", &["getent", "hosts", "example.com"]);
    assert_eq!(unknown.status.code(), Some(2), "nor one that hasn't asked by DHCP yet");
}

/// What a guest has at the end that only a client of DHCP has told it: address, route, MTU.
fn assert_configured(lab: &Lab, instance: &str, address: &str) {
    assert!(lab.exec(instance, &["ip", "-br", "-4", "addr"]).contains(&format!("{address}/24")));
    assert!(lab.exec(instance, &["ip", "route"]).contains("default via 10.0.0.1 dev eth0"));
    assert!(lab.exec(instance, &["ip", "link", "show", "eth0"]).contains("mtu 9001"));
}

#[test]
fn dhcp_2_dhcp_3_dhcp_4_three_clients_are_told_the_same() {
    let by_itself = CLOSED.replace("security_groups: [closed] }", "security_groups: [closed], guest_network: dhcp }");
    let lab = lab_or_skip!(
        &by_itself.replace("far: { subnet: b, private_ip: 10.0.1.10", "far: { subnet: a, private_ip: 10.0.0.12")
    );
    let domain = "ap-northeast-1.compute.internal";

    let script = "#!/bin/sh\n[ \"$1\" = bound ] && env > /run/told\nexec /etc/udhcpc/default.script \"$@\"\n";
    lab.exec("one", &["sh", "-c", "printf '%s' \"$1\" > /run/script && chmod +x /run/script", "sh", script]);
    lab.exec("one", &["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", "/run/script"]);
    assert_configured(&lab, "one", "10.0.0.10");
    let told = lab.exec("one", &["cat", "/run/told"]);
    for line in ["dns=10.0.0.2", &format!("domain={domain}"), "hostname=ip-10-0-0-10", "lease=3600"] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }

    lab.exec("two", &["dhclient", "-1", "eth0"]);
    assert_configured(&lab, "two", "10.0.0.11");
    let told = lab.exec("two", &["sh", "-c", "cat /var/lib/dhcp/*.leases /etc/resolv.conf"]);
    for line in [
        "option host-name \"ip-10-0-0-11\";",
        "option dhcp-lease-time 3600;",
        "nameserver 10.0.0.2",
        &format!("search {domain}"),
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(lab.exec("two", &["dig", "nobody.example"]).contains("status: NXDOMAIN"), "and the resolver answers");

    let network = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n[DHCPv4]\nUseMTU=yes\nUseDomains=yes\n";
    let prepare = "mkdir -p /etc/systemd/network /run/systemd/netif/links /run/systemd/netif/leases && \
                   chown -R systemd-network: /run/systemd/netif && printf '%s' \"$1\" > /etc/systemd/network/eth0.network";
    lab.exec("far", &["sh", "-c", prepare, "sh", network]);
    let _networkd = lab.start("far", &["/lib/systemd/systemd-networkd"]);
    until("it is configured", || lab.exec("far", &["ip", "route"]).contains("default via 10.0.0.1 dev eth0"));
    assert_configured(&lab, "far", "10.0.0.12");
    let told = || lab.exec("far", &["sh", "-c", "cat /run/systemd/netif/leases/* 2>/dev/null || true"]);
    until("it has written down its lease", || told().contains("HOSTNAME="));
    for line in ["DNS=10.0.0.2", &format!("DOMAINNAME={domain}"), "HOSTNAME=ip-10-0-0-12", "MTU=9001", "LIFETIME=3600"]
    {
        assert!(told().contains(line), "{line}: {}", told());
    }
    // This client looks for routers of IPv6, too.
    lab.drops_only_for("MINIVPC_IPV6");
}

#[test]
fn dns_6_igw_14_a_public_name_is_another_address_inside_and_outside() {
    let lab = lab_or_skip!(
        "
lab: x
region: ap-northeast-1
vpcs:
  v:
    cidr: 10.0.0.0/16
    dns_hostnames: true
    internet_gateway: { name: igw }
    subnets: { a: { cidr: 10.0.0.0/24, route_table: public } }
    route_tables: { public: { routes: { 0.0.0.0/0: igw } } }
    security_groups: { web: { ingress: [ { protocol: icmp, cidr: 0.0.0.0/0 } ] } }
elastic_ips: { web: { address: 203.0.113.21 } }
instances:
  web: { subnet: a, private_ip: 10.0.0.10, elastic_ip: web, security_groups: [web] }
internet: { hosts: { client: { address: 192.0.2.10 } } }
"
    );
    let name = "ec2-203-0-113-21.ap-northeast-1.compute.amazonaws.com";
    assert!(lab.exec("web", &["getent", "hosts", name]).starts_with("10.0.0.10 "));
    assert!(lab.exec("client", &["getent", "hosts", name]).starts_with("203.0.113.21 "));
    let ping = lab.exec("client", &["ping", "-c", "1", name]);
    assert!(ping.contains(&format!("64 bytes from {name} (203.0.113.21)")), "{ping}");
}
