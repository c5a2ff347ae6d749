//! Private hosted zones and sets of DHCP options in lab files, right and wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use minivpc_config::{Lab, load};
use minivpc_model::{DomainNameServer, RecordType};

const NOW: &str = "2026-01-01T00:00:00Z";

const LAB: &str = "
lab: names
region: ap-northeast-1
dhcp_options:
  corp: { domain_name_servers: [ AmazonProvidedDNS, 10.0.0.53 ], domain_name: corp.example, netbios_node_type: 2 }
vpcs:
  blue: { cidr: 10.0.0.0/16, dns_hostnames: true, dhcp_options: corp }
  green: { cidr: 10.0.0.0/16, dns_hostnames: true }
private_hosted_zones:
  Corp.Example.:
    id: Z1D633PJN98FT9
    vpcs: [ blue ]
    records:
      '@': { TXT: [ '\"hello\"' ] }
      octal: { TXT: [ '\"caf\\303\\251\" \"\\\"\\\\\"' ] }
      app: { A: [ 10.0.0.10, 10.0.0.11 ], AAAA: [ '2001:db8::1' ], ttl: 60 }
      WWW.corp.example: { CNAME: [ app.corp.example ] }
      out.corp.example.: { CNAME: [ www.example.com. ] }
      '*.dev': { MX: [ 10 mail.corp.example ] }
      nobody: { MX: [ 0 . ], SRV: [ 0 0 0 . ] }
  green: { name: corp.example, vpcs: [ green ] }
";

fn loaded(text: &str) -> Lab {
    load(text, NOW, None).unwrap_or_else(|mistake| panic!("{}:{}: {mistake}", mistake.place.line, mistake.place.column))
}

#[test]
fn names_of_records_are_the_zones_own_or_completed_by_it() {
    let lab = loaded(LAB);
    let zone = lab.world.hosted_zone("Z1D633PJN98FT9".parse().unwrap()).unwrap();
    assert_eq!((zone.name.as_str(), zone.tags.name()), ("corp.example", Some("Corp.Example.")));
    let names: Vec<_> = zone.record_sets.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "*.dev.corp.example",
            "app.corp.example",
            "corp.example",
            "nobody.corp.example",
            "octal.corp.example",
            "out.corp.example",
            "www.corp.example"
        ]
    );
    assert_eq!(zone.record_set("app.corp.example", RecordType::Aaaa).unwrap().ttl, 60);
    assert_eq!(zone.record_set("www.corp.example", RecordType::Cname).unwrap().ttl, 300);
    let place = lab.place(zone.record_set("app.corp.example", RecordType::A).unwrap().origin).unwrap();
    assert_eq!(place.line, 16);
    let octal = &zone.record_set("octal.corp.example", RecordType::Txt).unwrap().values[0];
    assert_eq!(RecordType::Txt.parse(octal).unwrap().to_string(), "café\"\\", "as Route 53 reads it");
}

#[test]
fn dhcp_1_a_vpc_has_a_set_of_its_own_or_the_regions() {
    let lab = loaded(LAB);
    let told = |name| {
        let vpc = lab.world.vpc(lab.world.find_vpc(None, name).unwrap()).unwrap();
        lab.world.dhcp_configuration(vpc)
    };
    let (blue, green) = (told("blue"), told("green"));
    let own = DomainNameServer::AmazonProvided;
    assert_eq!(blue.domain_name_servers, [own, DomainNameServer::Address([10, 0, 0, 53].into())]);
    assert_eq!((blue.domain_name.as_deref(), blue.netbios_node_type), (Some("corp.example"), Some(2)));
    assert_eq!(green.domain_name_servers, [own]);
    assert_eq!(green.domain_name.as_deref(), Some("ap-northeast-1.compute.internal"));
}

#[test]
fn what_aws_refuses_is_shown_where_it_stands() {
    let options = "domain_name_servers: [ AmazonProvidedDNS, 10.0.0.53 ]";
    let text = "'\"hello\"'";
    let long = format!("'\"{}\"'", "x".repeat(256));
    let cases: &[(&str, &str, &str, &str)] = &[
        ("vpcs: [ green ]", "vpcs: [ green, blue ]", "blue", "ConflictingDomainExists: The VPC vpc-"),
        ("{ name: corp.example", "{ name: corp..example", "corp..example", "InvalidDomainName"),
        ("vpcs: [ green ]", "vpcs: []", "green", "'green' is a private zone of no VPC"),
        ("vpcs: [ green ]", "vpcs: [ gren ]", "gren", "no vpc is called 'gren'"),
        (
            "'@': { TXT: [ '\"hello\"' ] }",
            "'@': { CNAME: [ app.corp.example ] }",
            "'@'",
            "InvalidChangeBatch: RRSet of type CNAME with DNS name corp.example. is not permitted at apex in zone corp.example.",
        ),
        (
            "out.corp.example.: { CNAME: [ www.example.com. ] }",
            "out: { CNAME: [ www.example.com. ], A: [ 10.0.0.1 ] }",
            "out",
            "InvalidChangeBatch: RRSet of type CNAME with DNS name out.corp.example. is not permitted as it conflicts",
        ),
        ("out.corp.example.:", "out.example.:", "out.example.", "InvalidChangeBatch: RRSet with DNS name out.example."),
        (
            "out.corp.example.:",
            "a.*.b:",
            "a.*.b",
            "InvalidChangeBatch: 'a.*.b.corp.example' isn't a name that is supported here",
        ),
        ("out.corp.example.:", "www:", "www", "InvalidChangeBatch: Tried to create resource record set"),
        ("[ www.example.com. ]", "[ a.example, b.example ]", "b.example", "InvalidChangeBatch: RRSet of type CNAME"),
        (
            "[ 10.0.0.10, 10.0.0.11 ]",
            "[ 10.0.0 ]",
            "10.0.0",
            "InvalidChangeBatch: Invalid Resource Record: Value is not a valid IPv4",
        ),
        ("[ 10.0.0.10, 10.0.0.11 ]", "[ '10.0.0.10 10.0.0.11' ]", "'10.0.0.10 10.0.0.11'", "InvalidChangeBatch"),
        (
            "[ 10.0.0.10, 10.0.0.11 ]",
            "[ 10.0.0.10, 10.0.0.10 ]",
            "10.0.0.10",
            "InvalidChangeBatch: Invalid Resource Record: Duplicate",
        ),
        (
            "[ 10.0.0.10, 10.0.0.11 ]",
            "[]",
            "app",
            "InvalidChangeBatch: RRSet of type A with DNS name app.corp.example. has 0 values",
        ),
        (
            "'2001:db8::1'",
            "10.0.0.1",
            "10.0.0.1",
            "InvalidChangeBatch: Invalid Resource Record: Value is not a valid IPv6",
        ),
        (
            "10 mail.corp.example",
            "mail.corp.example",
            "mail.corp.example",
            "InvalidChangeBatch: Invalid Resource Record: Value is not a priority and a domain name",
        ),
        (
            text,
            "hello",
            "hello",
            "InvalidChangeBatch: Invalid Resource Record: Value should be enclosed in quotation marks",
        ),
        (text, "'\"hello'", "'\"hello'", "InvalidChangeBatch"),
        (
            text,
            &long,
            &long,
            "InvalidChangeBatch: Invalid Resource Record: Value is not printable text between quotation marks, up to 255",
        ),
        ("{ TXT: [ '\"hello\"' ] }", "{ ttl: 5 }", "'@'", "'@' has no records"),
        ("ttl: 60", "ttl: 3000000000", "3000000000", "InvalidChangeBatch"),
        (text, "'\"a\" b'", "'\"a\" b'", "InvalidChangeBatch"),
        (text, "'\"\\9\"'", "'\"\\9\"'", "InvalidChangeBatch"),
        (text, "\"\\\"a\\n\\\"\"", "\"\\\"a\\n\\\"\"", "InvalidChangeBatch"),
        ("'2001:db8::1'", "'::1', '0::1'", "'0::1'", "InvalidChangeBatch: Invalid Resource Record: Duplicate"),
        (
            "10 mail.corp.example",
            "10 a.example, 10 A.example.",
            "10 A.example.",
            "InvalidChangeBatch: Invalid Resource",
        ),
        ("10 mail.corp.example", "+10 a.example", "+10 a.example", "InvalidChangeBatch: Invalid Resource Record"),
        ("[ 10.0.0.10, 10.0.0.11 ]", "[ 10.0.0.1;x ]", "10.0.0.1;x", "InvalidChangeBatch"),
        ("{ TXT: [ '\"hello\"' ] }", "{ NS: [ a ] }", "NS", "'NS' isn't supported here yet"),
        ("{ TXT: [ '\"hello\"' ] }", "{ text: [ a ] }", "text", "there is no key 'text' here"),
        (
            "Z1D633PJN98FT9",
            "zone-1",
            "zone-1",
            "'zone-1' isn't an id of this kind: expected 'Z' and up to 24 digits and capital letters",
        ),
        ("dhcp_options: corp }", "dhcp_options: crop }", "crop", "no dhcp options is called 'crop'"),
        (
            options,
            "domain_name_servers: [ 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5 ]",
            "10.0.0.1",
            "InvalidParameterValue: The option domain-name-servers has 5 values; up to 4 are allowed.",
        ),
        (
            options,
            "domain_name_servers: [ AmazonProvided ]",
            "AmazonProvided",
            "'AmazonProvided' isn't AmazonProvidedDNS or an IPv4",
        ),
        (
            "domain_name: corp.example",
            "domain_name: corp_/example",
            "corp_/example",
            "InvalidParameterValue: 'corp_/example'",
        ),
        ("netbios_node_type: 2", "netbios_node_type: 3", "3", "InvalidParameterValue: '3' isn't a NetBIOS node type"),
        ("dhcp_options:\n  corp: {", "dhcp_options:\n  none: {}\n  corp: {", "none", "MissingParameter"),
    ];
    for (from, to, value, message) in cases {
        assert!(LAB.contains(from), "{from}");
        let text = LAB.replacen(from, to, 1);
        let mistake = load(&text, NOW, None).expect_err(to);
        assert!(mistake.to_string().starts_with(message), "{to}: {mistake}");
        assert_eq!(&text[mistake.span.clone()], *value, "{to}: {mistake}");
    }
}
