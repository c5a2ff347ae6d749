//! Lab files as people write them, right and wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use minivpc_config::{Lab, Mistake, load, printable};
use minivpc_model::{Connectivity, NatGatewayId, Op, Peer, RouteState, RouteTarget, Traffic};
use proptest::prelude::*;

const ARTICLE: &str = include_str!("../../../configs/nat-gateway-east-west/lab.yaml");
const NOW: &str = "2026-01-01T00:00:00Z";

fn loaded(text: &str) -> Lab {
    load(text, NOW, None).unwrap_or_else(|mistake| panic!("{}:{}: {mistake}", mistake.place.line, mistake.place.column))
}

fn refused(text: &str) -> Mistake {
    load(text, NOW, None).expect_err("a mistake")
}

/// The article's file with one thing changed.
fn changed(from: &str, to: &str) -> String {
    assert!(ARTICLE.contains(from), "{from}");
    ARTICLE.replacen(from, to, 1)
}

/// What stands at the place of the mistake, and what is said of it.
fn at_fault<'a>(text: &'a str, mistake: &Mistake) -> (&'a str, String) {
    let line = text.lines().nth(mistake.place.line as usize - 1).unwrap_or_default();
    let column = mistake.place.column as usize - 1;
    let before: usize = line.chars().take(column).map(char::len_utf8).sum();
    let start = text.lines().take(mistake.place.line as usize - 1).map(|l| l.len() + 1).sum::<usize>() + before;
    assert_eq!(start, mistake.span.start, "line and column say the same as the bytes");
    (&text[mistake.span.clone()], mistake.to_string())
}

#[test]
fn the_articles_lab_has_the_ids_of_its_transcripts() {
    let lab = loaded(ARTICLE);
    assert_eq!(lab.name, "nat-gateway-east-west");
    let nat = lab.world.nat_gateway("nat-0efd1351c899a1d4b".parse::<NatGatewayId>().unwrap()).unwrap();
    assert_eq!(nat.connectivity, Connectivity::Private);
    assert_eq!(nat.network_interface.to_string(), "eni-0f62ab5dbbe7cffb5");
    assert_eq!(nat.create_time, "2021-09-25T10:50:53Z");
    let table = lab.world.route_table("rtb-0c4b26d537894d810".parse().unwrap()).unwrap();
    let routes: Vec<_> = table.routes.iter().map(|route| (route.destination.to_string(), route.target)).collect();
    assert_eq!(routes[0], ("10.0.0.0/16".to_owned(), RouteTarget::Local));
    assert_eq!(routes[1], ("10.0.1.0/24".to_owned(), RouteTarget::NatGateway(nat.id)));
    assert_eq!(routes[2].0, "0.0.0.0/0");
    let place = lab.place(table.routes[1].origin).unwrap();
    assert!(ARTICLE.lines().nth(place.line as usize - 1).unwrap().contains("10.0.1.0/24: osaka-NAT"));
    assert_eq!(lab.place(table.routes[0].origin), None, "AWS made the local route");
}

#[test]
fn ids_that_the_file_does_not_give_stay_the_same() {
    let ids = |lab: &Lab| lab.world.instances().map(|instance| instance.id).collect::<Vec<_>>();
    assert_eq!(ids(&loaded(ARTICLE)), ids(&loaded(ARTICLE)));
    let more = loaded(&format!("{ARTICLE}  third: {{ subnet: source }}\n"));
    assert!(ids(&loaded(ARTICLE)).iter().all(|id| ids(&more).contains(id)), "and don't depend on the others");
}

#[test]
fn sg_1_a_missing_egress_allows_all_and_an_empty_one_nothing() {
    let lab = loaded(
        "lab: x\nvpcs: { v: { cidr: 10.0.0.0/16, subnets: , security_groups: { open: {}, closed: { egress: [] }, nothing: } } }",
    );
    let group = |name| lab.world.security_group(lab.world.find_security_group(None, name).unwrap()).unwrap();
    assert_eq!((group("open").ingress.len(), group("open").egress.len()), (0, 1), "as CreateSecurityGroup does");
    assert_eq!(group("nothing").egress.len(), 1);
    assert!(group("closed").egress.is_empty());
}

#[test]
fn sdc_0_the_check_is_on_unless_the_file_takes_it_off() {
    for (key, expected) in [("", true), (", source_dest_check: true", true), (", source_dest_check: false", false)] {
        let lab = loaded(&changed("public_ip: true", &format!("public_ip: true{key}")));
        let source = lab.world.instance(lab.world.find_instance("source").unwrap()).unwrap();
        let eni = lab.world.network_interface(source.network_interfaces[0]).unwrap();
        assert_eq!(eni.source_dest_check, expected, "{key}");
    }
}

#[test]
fn anchors_merges_counts_and_the_authors_own_keys_work() {
    let lab = loaded(
        "\
lab: x
x-shared: &shared { subnet: a, security_groups: [open] }
vpcs:
  one: { cidr: 10.0.0.0/16, subnets: { a: { cidr: 10.0.0.0/24 } }, security_groups: &open { open: { ingress: [ { protocol: -1, cidr: 0.0.0.0/0 } ] } } }
  two: { cidr: 10.0.0.0/16, subnets: { b: { cidr: 10.0.0.0/24 } }, security_groups: *open }
instances:
  web: { <<: *shared, count: 3 }
  other: { <<: *shared, subnet: two/b }
  fixed: { <<: *shared, private_ip: 10.0.0.4 }
",
    );
    let mut names: Vec<_> = lab.world.instances().map(|i| i.tags.name().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["fixed", "other", "web-1", "web-2", "web-3"]);
    let mut addresses: Vec<_> = lab.world.network_interfaces().map(|eni| eni.private_ip.to_string()).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["10.0.0.4", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"], "named addresses go first");
    let other = lab.world.instance(lab.world.find_instance("other").unwrap()).unwrap();
    let groups = &lab.world.network_interface(other.network_interfaces[0]).unwrap().groups;
    let vpc = lab.world.security_group(groups[0]).unwrap().vpc;
    assert_eq!(
        lab.world.vpc(vpc).unwrap().tags.name(),
        Some("two"),
        "a group is looked up in the instance's VPC first"
    );
}

#[test]
fn names_that_can_be_several_things_are_told_apart() {
    let text = |subnet: &str, target: &str| {
        format!(
            "\
lab: x
vpcs:
  one:
    cidr: 10.0.0.0/16
    subnets: {{ a: {{ cidr: 10.0.0.0/24 }}, b: {{ cidr: 10.0.1.0/24, route_table: r }} }}
    nat_gateways: {{ box: {{ subnet: b, connectivity_type: private }} }}
    route_tables: {{ r: {{ routes: {{ 192.168.0.0/16: {target} }} }} }}
  two: {{ cidr: 10.0.0.0/16, subnets: {{ a: {{ cidr: 10.0.0.0/24 }} }} }}
instances:
  box: {{ subnet: {subnet} }}
"
        )
    };
    let ambiguous = refused(&text("a", "nat_gateway:box"));
    assert_eq!(ambiguous.to_string(), "'a' can be one/a or two/a");
    let ambiguous = refused(&text("one/a", "box"));
    assert_eq!(ambiguous.to_string(), "'box' can be instance:box or nat_gateway:box");
    let lab = loaded(&text("one/a", "instance:box"));
    let route = lab
        .world
        .route_tables()
        .flat_map(|table| &table.routes)
        .find(|r| r.destination.to_string() == "192.168.0.0/16");
    assert!(matches!(route.unwrap().target, RouteTarget::NetworkInterface(_)), "its primary interface");
    loaded(&text("one/a", "box/eth0"));
}

#[test]
fn nat_1_a_public_gateway_needs_an_elastic_ip_and_a_private_one_has_none() {
    let public = changed("connectivity_type: private", "connectivity_type: public");
    assert!(refused(&public).to_string().starts_with("MissingParameter"));
    let with_address = format!("{}elastic_ips: {{ nat: {{ address: 203.0.113.9 }} }}\n", public)
        .replace("subnet: nat\n", "subnet: nat\n        elastic_ip: nat\n");
    let lab = loaded(&with_address);
    assert!(matches!(lab.world.nat_gateways().next().unwrap().connectivity, Connectivity::Public(_)));
    let private = with_address.replace("connectivity_type: public", "connectivity_type: private");
    assert!(refused(&private).to_string().contains("NAT-1"));
}

#[test]
fn aws_refusals_show_the_value_at_fault() {
    let long = format!("'{}'", "x".repeat(16_385));
    let cases = [
        (
            changed("cidr: 10.0.1.0/24", "cidr: 10.0.0.128/25"),
            "10.0.0.128/25",
            "InvalidSubnet.Conflict: The CIDR '10.0.0.128/25' conflicts with another subnet",
        ),
        (changed("cidr: 10.0.1.0/24", "cidr: 10.1.1.0/24"), "10.1.1.0/24", "InvalidSubnet.Range"),
        (changed("cidr: 10.0.0.0/16", "cidr: 10.0.0.0/15"), "10.0.0.0/15", "InvalidVpc.Range"),
        (
            changed("private_ip: 10.0.0.11", "private_ip: 10.0.0.3"),
            "10.0.0.3",
            "InvalidParameterValue: Address 10.0.0.3",
        ),
        (
            changed("private_ip: 10.0.1.55", "private_ip: 10.0.0.11"),
            "10.0.0.11",
            "InvalidParameterValue: Address 10.0.0.11",
        ),
        (
            changed("subnet: destination, private_ip: 10.0.1.55", "subnet: source, private_ip: 10.0.0.11"),
            "10.0.0.11",
            "InvalidIPAddress.InUse: Address 10.0.0.11 is in use by instance source",
        ),
        (
            changed("10.0.1.0/24: osaka-NAT", "10.0.1.0/25: osaka-NAT"),
            "10.0.1.0/25",
            "InvalidParameterValue: Route destination doesn't match any subnet CIDR blocks.",
        ),
        (
            changed("10.0.1.0/24: osaka-NAT", "10.0.1.0/24: osaka-IGW"),
            "osaka-IGW",
            "InvalidParameterValue: Route target is not supported. This route only supports",
        ),
        (
            changed("az: a, route_table: source", "az: z, route_table: source"),
            "z",
            "InvalidParameterValue: Value (ap-northeast-3z)",
        ),
        (
            changed("0.0.0.0/0: osaka-IGW", "169.254.169.254/32: osaka-IGW"),
            "169.254.169.254/32",
            "InvalidParameterValue",
        ),
        (
            changed("public_ip: true", "metadata_options: { http_put_response_hop_limit: 65 }"),
            "65",
            "InvalidParameterValue: 65 isn't a hop limit",
        ),
        (
            changed(
                "public_ip: true",
                "metadata_options: { instance_metadata_tags: enabled }, tags: { 'cost center': a }",
            ),
            "source",
            "InvalidParameterValue: 'cost center' is not a valid tag key.",
        ),
        (
            changed("public_ip: true", &format!("user_data: '{}'", "x".repeat(16_385))),
            &long,
            "InvalidParameterValue: User data is limited to 16384 bytes",
        ),
    ];
    for (text, value, message) in cases {
        let mistake = refused(&text);
        let (shown, said) = at_fault(&text, &mistake);
        assert_eq!(shown, value, "{said}");
        assert!(said.starts_with(message), "{said}");
    }
}

#[test]
fn awss_quotas_are_kept() {
    let routes: String = (0..500).map(|n| format!(", 192.{}.{}.0/24: osaka-IGW", n / 250, n % 250)).collect();
    let text = changed("0.0.0.0/0: osaka-IGW", &format!("0.0.0.0/0: osaka-IGW{routes}"));
    assert!(refused(&text).to_string().starts_with("RouteLimitExceeded"));
    let entries: String = (1..=20).map(|n| format!("{n}: {{ allow: all, cidr: 0.0.0.0/0 }}, ")).collect();
    let text =
        format!("lab: x\nvpcs: {{ v: {{ cidr: 10.0.0.0/16, network_acls: {{ n: {{ egress: {{ {entries} }} }} }} }} }}");
    assert!(refused(&text).to_string().starts_with("NetworkAclEntryLimitExceeded"));
}

#[test]
fn mistakes_of_writing_show_their_place_and_a_way_out() {
    let cases = [
        (
            changed("route_table: source }", "route_table: sorce }"),
            "sorce",
            "no route table is called",
            "did you mean 'source'?",
        ),
        (changed("security_groups: [source]", "security_groups: [web]"), "web", "no security group", "these are: "),
        (changed("subnets:", "subnts:"), "subnts", "there is no key 'subnts'", "did you mean 'subnets'?"),
        (changed("public_ip: true", "elastic_ip: web"), "web", "no elastic ip is called 'web'", ""),
        (ARTICLE.replace("source", "so/urce"), "so/urce", "'so/urce' can't be the name", "without '/'"),
        (
            changed("public_ip: true", "prefix_list: x"),
            "prefix_list",
            "'prefix_list' isn't supported here yet",
            "remove it",
        ),
        (
            changed("public_ip: true", "user_data: '#cloud-config'"),
            "'#cloud-config'",
            "user data that begin with '#cloud-config' aren't supported here",
            "write a script",
        ),
        (changed("public_ip: true", "user_data: \"#!\\0\""), "\"#!\\0\"", "user data are text", "without"),
        (
            changed("lab: nat", "internet: { hosts: { a: { address: 10.1.1.1 } } }\nlab: nat"),
            "10.1.1.1",
            "InvalidParameterValue: Address 10.1.1.1 isn't a public one",
            "",
        ),
        (
            changed("lab: nat", "internet: { hosts: { a_b: { address: 192.0.2.1 } } }\nlab: nat"),
            "a_b",
            "InvalidParameterValue: 'a_b' can't be the name of a host",
            "",
        ),
        (
            changed("lab: nat", "transit_gateways: {}\nlab: nat"),
            "transit_gateways",
            "'transit_gateways' isn't supported",
            "remove it",
        ),
        (changed("lab: nat-gateway-east-west", "lab: ../etc"), "../etc", "'../etc' can't be the name", "letters"),
        (changed("{ protocol: all,", "{ protocol: tpc,"), "tpc", "'tpc' isn't a protocol", ""),
        (changed("protocol: all, cidr", "protocol: all, ports: 80, cidr"), "80", "only tcp and udp have ports", ""),
        (changed("protocol: all, cidr", "protocol: tcp, ports: 22:10, cidr"), "22:10", "'22:10' isn't a port", ""),
        (changed("protocol: all, cidr", "protocol: tcp, ports: 90-80, cidr"), "90-80", "'90-80' isn't a port", ""),
        (changed("private_ip: 10.0.0.11", "private_ip: 10.0.0"), "10.0.0", "'10.0.0' isn't an IPv4 address", ""),
        (changed("private_ip: 10.0.0.11", "count: -1"), "-1", "'-1' isn't a number", ""),
        (changed("cidr: 10.0.0.0/16\n", "cidr: 127.0.0.0/16\n"), "127.0.0.0/16", "InvalidVpc.Range", ""),
        (
            changed("lab: nat", "elastic_ips: { a: { address: 10.1.1.1 } }\nlab: nat"),
            "10.1.1.1",
            "InvalidParameterValue: Address 10.1.1.1 isn't a public one",
            "",
        ),
        (
            changed("public_ip: true", "network_interfaces: { eth0: { subnet: source } }"),
            "eth0",
            "'eth0' isn't a further interface of 'source'",
            "eth0 is written in the instance itself",
        ),
        (
            changed("instances:", "network_interfaces: { x: { subnet: source, attachment: nobody/eth1 } }\ninstances:"),
            "nobody/eth1",
            "no instance is called 'nobody'",
            "",
        ),
        (
            changed("instances:", "network_interfaces: { x: { subnet: source, attachment: source/eth0 } }\ninstances:"),
            "source/eth0",
            "InvalidParameterValue: Instance",
            "",
        ),
        (
            changed("public_ip: true", "network_interfaces: { eth1: { subnet: source, attachment: source } }"),
            "source",
            "'eth1' is made along with 'source'",
            "at the top of the file",
        ),
        // The lexer's own: the character behind which it understood nothing.
        (changed("10.0.0.0/16 } ] }", "10.0.0.0/16 } ] "), "d", "while parsing a flow mapping", ""),
        (
            changed("id: igw-09e9571aa689c8066", "id: nat-09e9571aa689c8066"),
            "nat-09e9571aa689c8066",
            "'nat-09e9571aa689c8066' isn't an id",
            "",
        ),
        (changed("connectivity_type: private", "connectivity_type: hidden"), "hidden", "'hidden' isn't one of", ""),
        (
            changed("public_ip: true", "sysctls: { kernel.panic: 1 }"),
            "kernel.panic",
            "'kernel.panic' can't be set",
            "net.ipv4",
        ),
        (
            changed("public_ip: true", "sysctls: { net.ipv4/../x: 1 }"),
            "net.ipv4/../x",
            "'net.ipv4/../x' can't be set",
            "",
        ),
        (changed("public_ip: true", "count: 2"), "10.0.0.11", "only one instance", "count"),
    ];
    for (text, value, message, help) in cases {
        let mistake = refused(&text);
        let (shown, said) = at_fault(&text, &mistake);
        assert_eq!(shown, value, "{said}");
        assert!(said.starts_with(message), "{said}");
        assert!(mistake.help.clone().unwrap_or_default().contains(help), "{:?}", mistake.help);
    }
}

#[test]
fn control_characters_reach_no_terminal() {
    for (from, to) in [
        ("lab: nat", "\"l\\e[31m\": 1\nlab: nat"),
        ("cidr: 10.0.0.0/16\n", "cidr: \"10\\e[31m\"\n"),
        ("instances:\n", "instances:\n  \"i\\e[31m\": { subnet: source }\n"),
        ("instances:\n", "instances:\n  i: { subnet: source, tags: { a: \"b\\nc\" } }\n"),
    ] {
        let mistake = refused(&changed(from, to));
        let said = format!("{mistake} {:?}", mistake.help);
        assert!(!said.contains(char::is_control), "{said:?}");
    }
    let file = "lab: \u{1b}[31m \u{9b}31m";
    assert_eq!((printable(file).as_str(), printable(file).len()), ("lab: ?[31m ¿31m", file.len()));
}

#[test]
fn an_unquoted_ipv6_key_gets_a_hint() {
    let flow = changed("0.0.0.0/0: osaka-IGW }", "0.0.0.0/0: osaka-IGW, ::/0: osaka-IGW }");
    let mistake = refused(&flow);
    assert!(mistake.to_string().contains("IPv6") || mistake.help.is_some_and(|help| help.contains("quoted")));
}

#[test]
fn network_acls_are_read_with_ports_types_and_numbers() {
    let text = |entry: &str| {
        format!("lab: x\nvpcs: {{ v: {{ cidr: 10.0.0.0/16, network_acls: {{ n: {{ ingress: {{ {entry} }} }} }} }} }}")
    };
    let lab =
        loaded(&text("100: { allow: icmp, type: 3, code: 4, cidr: 0.0.0.0/0 }, 90: { deny: all, cidr: 10.1.0.0/16 }"));
    let acl = lab.world.network_acl(lab.world.find_network_acl(None, "n").unwrap()).unwrap();
    assert_eq!(acl.ingress[&100].traffic, Traffic::Icmp { kind: Some(3), code: Some(4) });
    assert_eq!(acl.ingress.keys().collect::<Vec<_>>(), [&90, &100]);
    for (entry, message) in [
        ("0: { allow: all, cidr: 0.0.0.0/0 }", "InvalidParameterValue: Value (0) for parameter ruleNumber"),
        ("32767: { allow: all, cidr: 0.0.0.0/0 }", "InvalidParameterValue: Value (32767)"),
        ("x: { allow: all, cidr: 0.0.0.0/0 }", "'x' isn't a rule number"),
        ("100: { cidr: 0.0.0.0/0 }", "rule 100 needs either"),
        ("100: { allow: tcp, deny: tcp, cidr: 0.0.0.0/0 }", "rule 100 needs either"),
        ("100: { allow: icmp, code: 4, cidr: 0.0.0.0/0 }", "a code needs a type"),
        ("100: { allow: icmp, type: 300, cidr: 0.0.0.0/0 }", "300 isn't 0 to 255"),
    ] {
        assert!(refused(&text(entry)).to_string().starts_with(message), "{entry}: {}", refused(&text(entry)));
    }
}

#[test]
fn what_aws_makes_with_a_vpc_cannot_be_written_beside_it() {
    for (key, name, help) in [("route_tables", "main", "main: true"), ("network_acls", "default", "network_acl: NAME")]
    {
        let text = format!("lab: x\nvpcs: {{ v: {{ cidr: 10.0.0.0/16, {key}: {{ {name}: {{}} }} }} }}");
        let mistake = refused(&text);
        assert_eq!(at_fault(&text, &mistake).0, name, "it would serve no subnet");
        assert!(mistake.help.unwrap().contains(help));
    }
}

#[test]
fn group_references_resolve_across_the_file() {
    let lab = loaded(
        "lab: x\nvpcs: { v: { cidr: 10.0.0.0/16, security_groups: { db: { ingress: [ { protocol: tcp, ports: 5432, security_group: app } ] }, app: {} } } }",
    );
    let db = lab.world.security_group(lab.world.find_security_group(None, "db").unwrap()).unwrap();
    let app = lab.world.find_security_group(None, "app").unwrap();
    assert_eq!(db.ingress[0].peer, Peer::SecurityGroup(app), "also forward");
}

#[test]
fn what_is_no_lab_file_is_refused_with_a_place() {
    let mistake = refused("lab: x\nvpcs: { a: { cidr: 10.0.0.0/16, subnets: { s: } } }");
    assert_eq!(mistake.to_string(), "'cidr' is missing here");
    assert_eq!(mistake.place.line, 2);
    for text in ["", "\n", "- a", "42", "lab: [x]", "\u{0}\u{1}", "lab: x\n\tvpcs: {}", "{{{{", "lab: &a [*a]"] {
        let mistake = refused(text);
        assert!(mistake.place.line >= 1 && !mistake.to_string().is_empty());
    }
    let bomb = (1..30).fold("x-0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
        let line = [format!("*a{}", n - 1).as_str(); 9].join(",");
        text + &format!("x-{n}: &a{n} [{line}]\n")
    });
    refused(&(bomb + "lab: x\n"));
    assert!(refused(&" ".repeat(5 << 20)).to_string().contains("bytes"));
}

proptest! {
    #[test]
    fn a_damaged_file_is_read_or_refused(at in 0..ARTICLE.len(), with in "[ -~\n]{0,4}", cut in 0..40_usize) {
        let at = (0..=at).rev().find(|at| ARTICLE.is_char_boundary(*at)).unwrap();
        let end = (at + cut..).find(|end| *end >= ARTICLE.len() || ARTICLE.is_char_boundary(*end)).unwrap();
        let text = format!("{}{with}{}", &ARTICLE[..at], ARTICLE.get(end..).unwrap_or_default());
        if let Err(mistake) = load(&text, NOW, None) {
            prop_assert!(mistake.span.end <= text.len());
        }
    }
}

#[test]
fn what_the_running_lab_has_stays_where_the_file_leaves_it_open() {
    let text = "lab: x\nvpcs: { v: { cidr: 10.0.0.0/16, internet_gateway: { name: igw }, \
                subnets: { a: { cidr: 10.0.0.0/24 }, b: { cidr: 10.0.1.0/24 } }, \
                nat_gateways: { n: { subnet: b, connectivity_type: private } }, \
                route_tables: { r: { routes: { 10.0.1.0/24: n } } } } }\n\
                elastic_ips: { e: {} }\ninstances: { one: { subnet: a }, two: { subnet: a } }\n";
    let running = loaded(text);
    let addresses = |lab: &Lab| -> Vec<_> {
        let instances = ["one", "two"].map(|name| lab.world.find_instance(name).unwrap());
        instances
            .map(|id| lab.world.network_interfaces().find(|eni| eni.instance() == Some(id)).unwrap().private_ip)
            .to_vec()
    };
    let before = addresses(&running);
    let more = text
        .replace("{ one:", "{ zero: { subnet: a, private_ip: 10.0.0.6 }, first: { subnet: a }, one:")
        .replace("{ e: {} }", "{ d: {}, e: {} }");
    let next = load(&more, NOW, Some(&running)).unwrap();
    assert_eq!(addresses(&next), before, "though others stand before them");
    let public = |lab: &Lab| lab.world.addresses().find(|a| a.tags.name() == Some("e")).unwrap().public_ip;
    assert_eq!(public(&next), public(&running));
    let (ops, next) = next.succeed(&running).unwrap();
    assert_eq!(ops.len(), 3, "two instances and an address: {ops:#?}");

    let without = more.replace("nat_gateways: { n: { subnet: b, connectivity_type: private } }, ", "");
    assert!(refused(&without).to_string().contains("is called 'n'"), "nobody has ever had it");
    let (ops, last) = load(&without, NOW, Some(&next)).unwrap().succeed(&next).unwrap();
    assert!(matches!(ops.as_slice(), [Op::DeleteNatGateway(_)]), "{ops:#?}");
    let table = last.world.route_tables().find(|table| table.tags.name() == Some("r")).unwrap();
    assert_eq!(last.world.route_state(&table.routes[1]), RouteState::Blackhole);
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = String::from("lab: x\nx-a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (before, next) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        let nine = vec![format!("*{before}"); 9].join(",");
        text += &format!("x-{next}: &{next} [{nine}]\n");
    }
    assert!(refused(&text).to_string().contains("its aliases make it too large"));
}
