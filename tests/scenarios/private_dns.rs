//! Names that only VPCs know.

use crate::crashes::kill_engine;
use crate::lab::{Lab, lab_or_skip, until};

const PRIVATE: &str = include_str!("../../configs/private-dns/lab.yaml");

/// What `dig` says, without what it says of itself.
fn dig(lab: &Lab, from: &str, arguments: &[&str]) -> String {
    lab.exec(from, &[&["dig", "+short"], arguments].concat()).trim_end().to_owned()
}

fn status(lab: &Lab, from: &str, name: &str) -> String {
    let said = lab.exec(from, &["dig", name]);
    let status = said.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    status.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn dns_9_real_tools_read_every_kind_of_record_by_both_transports() {
    let lab = lab_or_skip!(PRIVATE);
    for transport in ["+notcp", "+tcp"] {
        for (arguments, records) in [
            (&["app.internal.example"][..], "10.0.1.10"),
            (&["six.internal.example", "AAAA"], "2001:db8::10"),
            (&["www.internal.example"], "app.internal.example.\n10.0.1.10"),
            (&["site.internal.example"], "www.example.com.\n93.184.216.34"),
            (&["internal.example", "MX"], "10 mail.internal.example."),
            (&["internal.example", "TXT"], "\"v=spf1 -all\""),
            (&["_http._tcp.internal.example", "SRV"], "0 5 80 app.internal.example."),
            (&["any.dev.internal.example"], "10.0.1.10"),
            (&["dev.internal.example"], ""),
            (&["-x", "10.0.1.10"], "app.internal.example."),
            (&["-x", "10.0.1.50"], ""),
            (&["-x", "10.0.2.50"], "ip-10-0-2-50.ap-northeast-1.compute.internal."),
        ] {
            assert_eq!(dig(&lab, "client", &[&[transport], arguments].concat()), records, "{transport} {arguments:?}");
        }
    }
    assert_eq!(status(&lab, "client", "nobody.internal.example"), "NXDOMAIN");
    assert_eq!(status(&lab, "client", "dev.internal.example"), "NOERROR");
    assert!(lab.exec("client", &["getent", "hosts", "www.internal.example"]).contains("10.0.1.10"));
    let shown = lab.json(&["show", "hosted-zone", "internal.example"]);
    let sets = shown["ResourceRecordSets"].as_array().unwrap();
    let names: Vec<_> = sets.iter().map(|set| format!("{} {}", set["Name"], set["Type"]).replace('"', "")).collect();
    assert!(names.contains(&"\\\\052.dev.internal.example. A".to_owned()), "{names:?}");
    for kind in ["MX", "NS", "SOA", "TXT"] {
        assert!(names.contains(&format!("internal.example. {kind}")), "{names:?}");
    }
    assert!(lab.ask(&["show", "hosted-zone", "internal.example"]).contains("10 mail.internal.example"));
    assert!(lab.drops().is_empty());
}

#[test]
fn dns_8_of_vpcs_with_the_same_addresses_each_has_its_own_answers() {
    let lab = lab_or_skip!(PRIVATE);
    let metadata = "http://169.254.169.254/latest/meta-data/network/interfaces/macs/";
    let both = |command: &[&str]| ["client", "staging-client"].map(|from| lab.exec(from, command));
    let own = |command: &[&str]| {
        let [one, other] = both(command);
        assert_ne!(one, other, "{command:?}");
    };
    let [one, other] = both(&["hostname"]);
    assert_eq!(one, other, "they have the same address");
    for _ in 0..3 {
        let addresses = ["10.0.1.10", "10.0.1.20"].map(|address| format!("{address}\n"));
        assert_eq!(both(&["dig", "+short", "app.internal.example"]), addresses);
        assert_eq!(both(&["dig", "+short", "+tcp", "@169.254.169.253", "app.internal.example"]), addresses);
        own(&["curl", "-s", metadata]);
        own(&["curl", "-s", "http://instance-data/latest/meta-data/instance-id"]);
        kill_engine(&lab);
    }
    ["app", "staging-app"].iter().for_each(|app| lab.until_listening(app, 80));
    assert_eq!(both(&["curl", "-s", "http://app.internal.example/"]), ["production\n", "staging\n"]);
    assert_eq!(status(&lab, "staging-client", "www.internal.example"), "NXDOMAIN");
}

#[test]
fn dns_5_dns_9_a_change_is_seen_at_once_and_both_attributes_are_needed() {
    let lab = lab_or_skip!(PRIVATE);
    assert_eq!(dig(&lab, "client", &["app.internal.example"]), "10.0.1.10");
    lab.until_listening("app", 80);
    let mut connected = lab.converse("client", &["nc", "10.0.1.10", "80"]);
    let said = lab.apply(&PRIVATE.replace("app:   { A: [10.0.1.10], ttl: 60 }", "app: { A: [10.0.1.11] }"));
    assert!(said.contains("ChangeResourceRecordSets") && said.contains("1 change"), "{said}");
    assert_eq!(dig(&lab, "client", &["app.internal.example"]), "10.0.1.11");
    assert!(!connected.has_ended(), "nothing else is touched");
    let moved = lab.apply(
        &PRIVATE.replace("1.0.10.in-addr.arpa:\n    vpcs: [production]", "1.0.10.in-addr.arpa:\n    vpcs: [staging]"),
    );
    let first = moved.find("AssociateVPCWithHostedZone").unwrap_or_else(|| panic!("{moved}"));
    assert!(moved.find("DisassociateVPCFromHostedZone").unwrap() > first, "it is always somebody's: {moved}");
    assert!(!moved.contains("DeleteHostedZone"), "{moved}");
    assert_eq!(dig(&lab, "staging-client", &["-x", "10.0.1.10"]), "app.internal.example.");
    lab.apply(&PRIVATE.replacen("dns_hostnames: true", "dns_hostnames: false", 1));
    for name in ["app.internal.example", "ip-10-0-1-50.ap-northeast-1.compute.internal"] {
        assert_eq!(status(&lab, "client", name), "NXDOMAIN");
    }
    assert_eq!(dig(&lab, "client", &["www.example.com"]), "93.184.216.34", "the internet's names stay");
    assert_eq!(dig(&lab, "staging-client", &["app.internal.example"]), "10.0.1.20");
    lab.apply(&PRIVATE.replacen("dns_hostnames: true", "dns_hostnames: true\n    dns_support: false", 1));
    let silence = lab.run("client", &["dig", "+tries=1", "+time=1", "www.example.com"]);
    assert_eq!(silence.status.code(), Some(9), "no answer");
    let refused = lab.run("client", &["dig", "+tcp", "+tries=1", "+time=1", "www.example.com"]);
    assert_eq!(refused.status.code(), Some(9), "nor by TCP");
}

#[test]
fn an_answer_that_is_too_long_comes_by_tcp() {
    let many: Vec<_> = (1..=250).map(|n| format!("10.0.9.{n}")).collect();
    let zone = format!("records:\n      many: {{ A: [{}] }}", many.join(", "));
    let lab = lab_or_skip!(&PRIVATE.replacen("records:", &zone, 1));
    let addresses = dig(&lab, "client", &["many.internal.example"]);
    assert_eq!(addresses.lines().count(), 250);
    let cut = lab.exec("client", &["dig", "+ignore", "many.internal.example"]);
    assert!(cut.contains(" tc ") && cut.contains("ANSWER: 0"), "{cut}");
    until("the C library asks by TCP", || {
        lab.exec("client", &["getent", "ahostsv4", "many.internal.example"]).contains("10.0.9.250")
    });
}
