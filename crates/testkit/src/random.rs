//! Random worlds and packets: valid by construction, nasty on purpose, and the same for the same seed.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use minivpc_model::*;
use minivpc_packet::tcp_flags;

use crate::frame::{Body, Packet};
use crate::oracle::{Datum, NextHop, Oracle, Party, Tcp, What};
use crate::worlds::Builder;

/// A small generator with a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 to `count` − 1.
    pub fn below(&mut self, count: usize) -> usize {
        (self.number() % count as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Asks about the worlds of so many seeds, one after the other, and says which seed fails; how many there were. The
/// environment may ask for another number by `MINIVPC_WORLDS`, and for one seed by `MINIVPC_SEED`.
pub fn each_seed(worlds: u64, mut ask: impl FnMut(u64)) -> u64 {
    let number = |variable: &str| std::env::var(variable).ok()?.parse().ok();
    let seeds = match number("MINIVPC_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MINIVPC_WORLDS").unwrap_or(worlds),
    };
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(seed)));
        if let Err(panic) = asked {
            println!("MINIVPC_SEED={seed} repeats it");
            std::panic::resume_unwind(panic);
        }
    }
    count
}

/// Ports that rules and packets have in common, so that they often meet.
const PORTS: [u16; 5] = [22, 53, 80, 443, 40_000];

/// TTLs of packets: most survive every gateway.
pub const TTLS: [u8; 6] = [255, 255, 255, 64, 2, 1];

/// Hosts of the internet, some behind each of those routes.
const HOSTS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 200), Ipv4Addr::new(198, 51, 100, 7)];

/// Destinations of routes out of the VPC, one inside the other.
const OUTSIDE: [&str; 6] = ["0.0.0.0/0", "0.0.0.0/0", "10.0.0.0/8", "192.0.0.0/16", "192.0.2.0/24", "192.0.2.128/25"];

/// Blocks of sites, the same behind each gateway.
const SITES: [&str; 2] = ["192.168.0.0/24", "192.168.1.0/24"];

/// A world with one or two VPCs, which may have the same addresses.
pub fn world(random: &mut Random) -> World {
    let mut b = Builder::default();
    let vpcs = 1 + usize::from(random.one_in(3));
    for number in 0..vpcs {
        let block = if random.one_in(2) { 0 } else { number };
        vpc(random, &mut b, number, block);
    }
    for (number, address) in HOSTS.iter().enumerate() {
        b.host(&format!("host-{number}"), &address.to_string());
    }
    make_public(random, &mut b);
    names(random, &mut b);
    b.world
}

/// Who knows names, and which.
fn names(random: &mut Random, b: &mut Builder) {
    let vpcs: Vec<_> = b.world.vpcs().map(|vpc| vpc.id).collect();
    for n in 0..random.below(3) {
        let servers = [DomainNameServer::AmazonProvided, DomainNameServer::Address(HOSTS[0])];
        let configuration = DhcpConfiguration {
            domain_name_servers: servers[random.below(2)..].to_vec(),
            domain_name: random.one_in(2).then(|| "corp.example".to_owned()),
            ..DhcpConfiguration::default()
        };
        let (id, tags) = (DhcpOptionsId::from_seed(n as u64), Tags::default());
        b.apply(Op::CreateDhcpOptions(DhcpOptions { id, configuration, tags, origin: Origin::default() }));
        b.apply(Op::AssociateDhcpOptions { vpc: random.of(&vpcs), set: Some(id) });
    }
    for (n, domain) in (0..).zip(["corp.example", "corp.example", "0.10.in-addr.arpa"]) {
        let id = HostedZoneId::from_seed(n);
        let known = vpcs.iter().copied().filter(|vpc| {
            let rival = |zone: &HostedZone| zone.name == domain && zone.vpcs.contains(vpc);
            random.one_in(2) && !b.world.hosted_zones().any(rival)
        });
        let known: Vec<_> = known.collect();
        let mut known = known.into_iter();
        let Some(vpc) = known.next() else { continue };
        let (name, tags, origin) = (domain.to_owned(), Tags::default(), Origin::default());
        b.apply(Op::CreateHostedZone(CreateHostedZone { id, name, vpc, tags, origin }));
        known.for_each(|vpc| b.apply(Op::AssociateVpcWithHostedZone { zone: id, vpc }));
        for label in ["a", "b.c", "*"] {
            if random.one_in(2) {
                continue;
            }
            let (kind, value) = random.of(&[(RecordType::A, "10.0.0.10"), (RecordType::Cname, "a.corp.example")]);
            let set = ResourceRecordSet { ttl: 60, values: vec![value.to_owned()], origin: Origin::default() };
            let (name, change) = (format!("{label}.{domain}"), RecordChange::Create(set));
            b.apply(Op::ChangeResourceRecordSets { zone: id, name, kind, change });
        }
    }
}

/// Some interfaces of VPCs on the internet get a public address.
fn make_public(random: &mut Random, b: &mut Builder) {
    let on_the_internet = |eni: &NetworkInterface| {
        let vpc = b.world.subnet(eni.subnet).unwrap().vpc;
        b.world.vpc(vpc).unwrap().internet_gateway.is_some()
    };
    let guests: Vec<_> = b.world.network_interfaces().filter(|eni| is_guest(eni) && on_the_internet(eni)).collect();
    let chosen: Vec<_> = guests.into_iter().map(|eni| eni.id).filter(|_| random.one_in(2)).collect();
    for (number, eni) in (1..).zip(chosen) {
        b.public(eni, &format!("203.0.113.{number}"));
    }
}

fn vpc(random: &mut Random, b: &mut Builder, number: usize, block: usize) {
    let vpc = b.vpc(&format!("vpc-{number}"), &format!("10.{block}.0.0/16"));
    let igw = (!random.one_in(4)).then(|| b.internet_gateway(vpc));
    let mut groups = Vec::new();
    for n in 0..1 + random.below(3) {
        let references = groups.clone();
        let everything = (Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()));
        let mut unique = if random.one_in(2) { Vec::new() } else { vec![everything] };
        for _ in 0..random.below(3) {
            let rule = (traffic(random), peer(random, block, &references));
            if !unique.contains(&rule) {
                unique.push(rule);
            }
        }
        let group = b.group(vpc, &format!("group-{n}"), &unique);
        // As the default group does.
        if !unique.contains(&everything) && !random.one_in(4) {
            b.ingress(group, (Traffic::All, Peer::SecurityGroup(group)));
        }
        if random.one_in(12) {
            let egress: Vec<_> =
                (0..random.below(2)).map(|_| (traffic(random), peer(random, block, &references))).collect();
            b.egress(group, &egress);
        }
        groups.push(group);
    }
    let mut subnets = Vec::new();
    for n in 0..2 + random.below(4) {
        let subnet = b.subnet(vpc, &format!("subnet-{number}-{n}"), &format!("10.{block}.{n}.0/24"));
        if random.one_in(5) {
            let mut entries = Vec::new();
            for egress in [false, true] {
                for entry in 0..random.below(4) {
                    let action = if random.one_in(4) { RuleAction::Deny } else { RuleAction::Allow };
                    // 100 and 101 of one traffic and overlapping blocks contradict each other now and then.
                    entries.push((egress, 100 + entry as u16, action, traffic(random), block_text(random, block)));
                }
                if !random.one_in(4) {
                    entries.push((egress, 200, RuleAction::Allow, Traffic::All, "0.0.0.0/0".to_owned()));
                }
            }
            let entries: Vec<_> = entries.iter().map(|(e, n, a, t, c)| (*e, *n, *a, *t, c.as_str())).collect();
            b.acl(vpc, subnet, &entries);
        }
        subnets.push(subnet);
    }
    let mut targets: Vec<RouteTarget> = igw.map(RouteTarget::InternetGateway).into_iter().collect();
    let mut gateways = Vec::new();
    for (n, subnet) in subnets.iter().enumerate() {
        if random.one_in(2) {
            let connectivity = match igw {
                Some(_) if random.one_in(2) => {
                    Connectivity::Public(vec![b.elastic_ip(&format!("203.0.113.{}", 100 + 10 * number + n))])
                }
                _ => Connectivity::Private,
            };
            let (name, ip) = (format!("nat-{number}-{n}"), format!("10.{block}.{n}.200"));
            let nat = b.nat_gateway_of_kind(*subnet, &name, &ip, connectivity);
            gateways.push((n, RouteTarget::NatGateway(nat)));
        }
        for host in 0..1 + random.below(2) {
            let mut carried = vec![random.of(&groups)];
            if random.one_in(3) {
                carried.push(random.of(&groups));
                carried.dedup();
            }
            let check = !random.one_in(3);
            let name = format!("i-{number}-{n}-{host}");
            let eni = b.instance(*subnet, &name, &format!("10.{block}.{n}.{}", 10 + host), &carried, check);
            if !check {
                targets.push(RouteTarget::NetworkInterface(eni));
            }
        }
    }
    if let Some(igw) = igw.filter(|_| random.one_in(2)) {
        gateway_route_table(random, b, (vpc, GatewayId::Internet(igw)), &subnets, &targets);
        b.apply(Op::ModifyAsymmetricReturn { gateway: igw, passes: random.one_in(2) });
    }
    for (n, subnet) in subnets.iter().enumerate() {
        if !random.one_in(6) {
            continue;
        }
        let eni = b.network_interface(*subnet, &format!("eni-{number}-{n}"), &format!("10.{block}.{n}.60"));
        targets.push(RouteTarget::NetworkInterface(eni));
        // Another one is nobody's.
        if random.one_in(2) {
            let instance = b.world.find_instance(&format!("i-{number}-{n}-0")).unwrap();
            b.apply(Op::AttachNetworkInterface { network_interface: eni, instance, device_index: 1 });
        }
    }
    let vgw = random.one_in(2).then(|| vpn(random, b, (vpc, block, number), &subnets, &targets));
    // Twice, so that they are as usual as on AWS.
    targets.extend(gateways.iter().chain(&gateways).map(|(_, gateway)| *gateway));
    let chain = chain(random, subnets.len(), &gateways);
    for (n, subnet) in subnets.iter().enumerate() {
        let chained: Vec<_> = chain.iter().filter(|(from, ..)| *from == n).collect();
        if chained.is_empty() && (targets.is_empty() || random.one_in(8)) {
            continue;
        }
        let table = b.route_table(vpc, *subnet);
        if let Some(gateway) = vgw.filter(|_| random.one_in(2)) {
            b.apply(Op::EnableVgwRoutePropagation { route_table: table, gateway });
        }
        for (_, to, gateway) in &chained {
            b.route(table, &format!("10.{block}.{to}.0/24"), *gateway);
        }
        for _ in 0..random.below(5) {
            // What AWS refuses, as a more specific route to an internet gateway or a second route, is left out.
            let inside = !random.one_in(3);
            let destination = match inside {
                true => format!("10.{block}.{}.0/24", random.below(subnets.len())),
                false if vgw.is_some() && random.one_in(2) => random.of(&SITES).to_owned(),
                false => random.of(&OUTSIDE).to_owned(),
            };
            let destination = destination.parse().unwrap();
            let target = match igw {
                Some(igw) if !inside && random.one_in(2) => RouteTarget::InternetGateway(igw),
                _ if !inside && vgw.is_some() && random.one_in(2) => RouteTarget::VpnGateway(vgw.unwrap()),
                _ => random.of(&targets),
            };
            let _ =
                b.world.apply(Op::CreateRoute { route_table: table, destination, target, origin: Origin::default() });
        }
    }
}

/// A gateway with one or two sites, whose routes overlap with what is near.
fn vpn(
    random: &mut Random,
    b: &mut Builder,
    (vpc, block, number): (VpcId, usize, usize),
    subnets: &[SubnetId],
    targets: &[RouteTarget],
) -> VpnGatewayId {
    let gateway = b.vpn_gateway(vpc, &format!("vgw-{number}"));
    let inside = format!("10.{block}.{}.0/24", random.below(4));
    let more = [&inside, "10.200.0.0/16", "192.0.2.0/24", "172.16.0.0/12"];
    for (n, home) in SITES.iter().enumerate().take(1 + random.below(2)) {
        let mut blocks = vec![*home];
        blocks.extend(more.iter().skip(n).step_by(2).filter(|_| random.one_in(2)));
        let site = b.site(gateway, &format!("site-{number}-{n}"), &blocks);
        for block in &blocks {
            let address = block.replace(".0.0/1", ".0.9/1").replace(".0/24", ".9/24");
            b.host_in(
                Some(site),
                &format!("host-{}", address.replace(['.', '/'], "-")),
                address.split('/').next().unwrap(),
            );
        }
    }
    if random.one_in(2) {
        gateway_route_table(random, b, (vpc, GatewayId::Vpn(gateway)), subnets, targets);
    }
    gateway
}

/// A table that leads what enters by a gateway to some subnets through appliances.
fn gateway_route_table(
    random: &mut Random,
    b: &mut Builder,
    (vpc, gateway): (VpcId, GatewayId),
    subnets: &[SubnetId],
    targets: &[RouteTarget],
) {
    let route_table = b.gateway_route_table(vpc, gateway);
    let middleboxes: Vec<_> =
        targets.iter().filter(|target| matches!(target, RouteTarget::NetworkInterface(_))).copied().collect();
    for subnet in subnets {
        let destination = b.world.subnet(*subnet).unwrap().cidr.into();
        if !middleboxes.is_empty() && random.one_in(2) {
            let target = random.of(&middleboxes);
            b.apply(Op::CreateRoute { route_table, destination, target, origin: Origin::default() });
        }
    }
}

/// The same world without some rules of its security groups.
#[must_use]
pub fn revoked(random: &mut Random, world: &World) -> World {
    let mut after = world.clone();
    for group in world.security_groups() {
        for (rules, ingress) in [(&group.ingress, true), (&group.egress, false)] {
            for rule in rules.iter().filter(|_| random.one_in(2)) {
                let (group, traffic, peer) = (group.id, rule.traffic, rule.peer);
                let op = match ingress {
                    true => Op::RevokeSecurityGroupIngress { group, traffic, peer },
                    false => Op::RevokeSecurityGroupEgress { group, traffic, peer },
                };
                after.apply(op).unwrap();
            }
        }
    }
    after
}

/// The same world after a few changes of any kind that AWS accepts; its instances stay.
#[must_use]
pub fn changed(random: &mut Random, world: &World) -> World {
    if random.one_in(3) {
        return revoked(random, world);
    }
    let mut after = world.clone();
    let tables: Vec<_> = world.route_tables().collect();
    let interfaces: Vec<_> = world.network_interfaces().filter(|eni| is_guest(eni)).collect();
    let gateways: Vec<_> = world.nat_gateways().filter(|nat| nat.is_available()).collect();
    let groups: Vec<_> = world.security_groups().collect();
    let elastic: Vec<_> = world.addresses().collect();
    for _ in 0..1 + random.below(4) {
        let table = tables[random.below(tables.len())];
        let route = table.routes.get(random.below(table.routes.len() + 1));
        let eni = interfaces[random.below(interfaces.len())];
        let op = match (random.below(8), route) {
            (6, _) if !elastic.is_empty() => {
                let (allocation, network_interface) = (elastic[random.below(elastic.len())].id, eni.id);
                let (private_ip, allow_reassociation) = (None, true);
                Op::AssociateAddress { allocation, network_interface, private_ip, allow_reassociation }
            }
            (7, _) if !elastic.is_empty() => Op::DisassociateAddress(elastic[random.below(elastic.len())].id),
            (0, Some(route)) => Op::DeleteRoute { route_table: table.id, destination: route.destination },
            (1, Some(route)) => {
                let (route_table, destination) = (table.id, route.destination);
                let target = RouteTarget::NetworkInterface(eni.id);
                Op::ReplaceRoute { route_table, destination, target, origin: Origin::default() }
            }
            (2, _) => {
                let check = !eni.source_dest_check;
                Op::ModifySourceDestCheck { network_interface: eni.id, source_dest_check: check }
            }
            (3, _) if !gateways.is_empty() && random.one_in(3) => {
                Op::DeleteNatGateway(gateways[random.below(gateways.len())].id)
            }
            (4, _) => {
                let group = groups[random.below(groups.len())];
                let everything = (Traffic::All, Peer::Cidr("0.0.0.0/0".parse().unwrap()));
                let rule = SecurityGroupRule {
                    traffic: everything.0,
                    peer: everything.1,
                    description: String::new(),
                    origin: Origin::default(),
                };
                Op::AuthorizeSecurityGroupIngress { group: group.id, rule }
            }
            _ => continue,
        };
        // What AWS refuses is left out.
        let _ = after.apply(op);
    }
    after
}

/// Routes, as (from, to, target), that lead from one subnet to another through two gateways in a row; or none.
fn chain(random: &mut Random, subnets: usize, gateways: &[(usize, RouteTarget)]) -> Vec<(usize, usize, RouteTarget)> {
    if gateways.len() < 2 || subnets < 4 {
        return Vec::new();
    }
    let first = random.below(gateways.len());
    let second = (first + 1 + random.below(gateways.len() - 1)) % gateways.len();
    let (first, second) = (gateways[first], gateways[second]);
    let ends: Vec<_> = (0..subnets).filter(|n| *n != first.0 && *n != second.0).collect();
    let from = random.below(ends.len());
    let to = (from + 1 + random.below(ends.len() - 1)) % ends.len();
    vec![(ends[from], ends[to], first.1), (first.0, ends[to], second.1)]
}

fn traffic(random: &mut Random) -> Traffic {
    let port = random.of(&PORTS);
    let ports = match random.below(3) {
        0 => PortRange::ALL,
        1 => PortRange { from: port, to: port },
        _ => PortRange { from: 50, to: 50 + port },
    };
    match random.below(6) {
        0 | 1 => Traffic::All,
        2 => Traffic::Tcp(ports),
        3 => Traffic::Udp(ports),
        4 => Traffic::Icmp { kind: random.of(&[None, Some(8), Some(0), Some(11)]), code: None },
        _ => Traffic::Protocol(47),
    }
}

fn block_text(random: &mut Random, block: usize) -> String {
    match random.below(4) {
        0 => "0.0.0.0/0".to_owned(),
        1 => format!("10.{block}.0.0/16"),
        2 => format!("10.{block}.{}.0/24", random.below(4)),
        _ => format!("10.{block}.{}.10/32", random.below(4)),
    }
}

fn peer(random: &mut Random, block: usize, groups: &[SecurityGroupId]) -> Peer {
    if !groups.is_empty() && random.one_in(2) {
        return Peer::SecurityGroup(random.of(groups));
    }
    Peer::Cidr(block_text(random, block).parse::<IpNet>().unwrap())
}

/// Senders and addresses with NAT gateways between: two, or in a world without such at least one.
#[must_use]
pub fn far(world: &World) -> Vec<(NetworkInterfaceId, Ipv4Addr)> {
    let guests = || world.network_interfaces().filter(|eni| is_guest(eni));
    let between = |count| {
        let pairs = guests().flat_map(|from| guests().map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from.id != to.id && gateways_between(world, from, to) == count);
        pairs.map(|(from, to)| (from.id, to.private_ip)).collect::<Vec<_>>()
    };
    let two = between(2);
    if two.is_empty() { between(1) } else { two }
}

/// Does its subnet's default route lead to an internet gateway?
fn is_near_the_internet(world: &World, eni: &NetworkInterface) -> bool {
    let table = world.route_table_of(world.subnet(eni.subnet).unwrap()).unwrap();
    let leads_out =
        |route: &Route| route.destination.prefix_len() == 0 && matches!(route.target, RouteTarget::InternetGateway(_));
    is_guest(eni) && table.routes.iter().any(leads_out)
}

fn is_guest(eni: &NetworkInterface) -> bool {
    eni.instance().is_some()
}

/// How many gateways the routes lead through; a loop counts three.
fn gateways_between(world: &World, from: &NetworkInterface, to: &NetworkInterface) -> usize {
    let next = |subnet: &SubnetId| {
        let table = world.route_table_of(world.subnet(*subnet).unwrap()).unwrap();
        match Oracle::new(world).longest(table.id, to.private_ip)?.target {
            RouteTarget::NatGateway(nat) => Some(world.nat_gateway(nat).unwrap().subnet),
            _ => None,
        }
    };
    std::iter::successors(next(&from.subnet), next).take(3).count()
}

/// A packet that somebody of the world sends, and its next hop. `far` are [`far`]'s pairs.
pub fn packet(random: &mut Random, world: &World, far: &[(NetworkInterfaceId, Ipv4Addr)]) -> (Party, NextHop, Datum) {
    let (from, to) = (random.of(&PORTS), random.of(&PORTS));
    let what = match random.below(10) {
        0 | 1 => What::Echo(from),
        2 => What::EchoReply(from),
        3 | 4 => What::Udp(from, to),
        5 | 6 => What::Tcp(from, to, Tcp::Syn),
        7 | 8 => What::Tcp(from, to, random.of(&[Tcp::Ack, Tcp::Ack, Tcp::SynAck, Tcp::Rst])),
        _ => What::Other(47),
    };
    let ttl = random.of(&TTLS);
    if !far.is_empty() && random.one_in(3) {
        let (sender, dst) = random.of(far);
        let src = world.network_interface(sender).unwrap().private_ip;
        return (Party::Interface(sender), NextHop::Router, Datum { src, dst, what, ttl });
    }
    let publics: Vec<_> = world.public_addresses().map(|public| public.public_ip).collect();
    let outside = |random: &mut Random| match publics.is_empty() || random.one_in(3) {
        true => random.of(&HOSTS),
        false => random.of(&publics),
    };
    let near_the_internet: Vec<_> = world.network_interfaces().filter(|eni| is_near_the_internet(world, eni)).collect();
    if !near_the_internet.is_empty() && random.one_in(5) {
        let sender = near_the_internet[random.below(near_the_internet.len())];
        let dst = match random.below(8) {
            0 => random.of(&[Ipv4Addr::new(172, 16, 0, 1), Ipv4Addr::new(100, 64, 0, 1)]),
            1 => Ipv4Addr::new(203, 0, 113, 250),
            _ => outside(random),
        };
        return (Party::Interface(sender.id), NextHop::Router, Datum { src: sender.private_ip, dst, what, ttl });
    }
    let (hosts, enis): (Vec<_>, Vec<_>) = (world.hosts().collect(), world.network_interfaces().collect());
    if !hosts.is_empty() && random.one_in(5) {
        let sender = hosts[random.below(hosts.len())];
        let src = match random.below(12) {
            0 => random.of(&[Ipv4Addr::new(10, 0, 0, 10), Ipv4Addr::new(100, 64, 0, 1)]),
            1 | 2 => outside(random),
            3 => Ipv4Addr::new(224, 0, 0, 5),
            _ => sender.address,
        };
        let dst = match random.of(&[sender.site.is_some(), sender.site.is_some(), false]) {
            true => enis[random.below(enis.len())].private_ip,
            false => outside(random),
        };
        return (Party::Host(sender.id), NextHop::Router, Datum { src, dst, what, ttl });
    }
    let all: Vec<_> = world.network_interfaces().collect();
    let guests: Vec<_> = all.iter().filter(|eni| is_guest(eni)).collect();
    let sender = guests[random.below(guests.len())];
    let vpc_of = |eni: &NetworkInterface| world.subnet(eni.subnet).unwrap().vpc;
    let near: Vec<_> = all.iter().filter(|eni| vpc_of(eni) == vpc_of(sender)).collect();
    let other = if random.one_in(10) { all[random.below(all.len())] } else { near[random.below(near.len())] };
    let groups_and_nobody = [Ipv4Addr::new(224, 0, 0, 5), Ipv4Addr::BROADCAST, Ipv4Addr::new(0, 0, 0, 9)];
    let dst = match random.below(30) {
        0 | 4 | 5 | 7 => Ipv4Addr::new(192, 0, 2, random.of(&[1, 200, 77])),
        1 => Ipv4Addr::new(10, 0, 3, 77),
        2 | 6 => {
            random.of(&[Ipv4Addr::new(10, 200, 0, 1), Ipv4Addr::new(10, 0, 1, 1), Ipv4Addr::new(169, 254, 169, 254)])
        }
        3 => random.of(&groups_and_nobody),
        8..12 if !hosts.is_empty() => hosts[random.below(hosts.len())].address,
        _ => other.private_ip,
    };
    // Appliances forward what others have sent.
    let foreign = random.one_in(if sender.source_dest_check { 16 } else { 2 });
    let src = match foreign {
        true if random.one_in(20) => random.of(&groups_and_nobody),
        true if !hosts.is_empty() && random.one_in(8) => hosts[random.below(hosts.len())].address,
        true => near[random.below(near.len())].private_ip,
        false => sender.private_ip,
    };
    let neighbours: Vec<_> = all.iter().filter(|eni| eni.subnet == sender.subnet && eni.id != sender.id).collect();
    let next = match neighbours.iter().find(|eni| eni.private_ip == dst) {
        Some(neighbour) if !random.one_in(3) => NextHop::Neighbour(neighbour.id),
        _ if !neighbours.is_empty() && random.one_in(8) => {
            NextHop::Neighbour(neighbours[random.below(neighbours.len())].id)
        }
        _ => NextHop::Router,
    };
    (Party::Interface(sender.id), next, Datum { src, dst, what, ttl })
}

/// What the packet is made of.
#[must_use]
pub fn body(what: What) -> Body {
    match what {
        What::Echo(id) => Body::Echo { id, seq: 1 },
        What::EchoReply(id) => Body::EchoReply { id },
        What::Udp(from, to) => Body::Udp { from, to, length: 8 },
        What::Tcp(from, to, tcp) => {
            let flags = match tcp {
                Tcp::Syn => tcp_flags::SYN,
                Tcp::SynAck => tcp_flags::SYN | tcp_flags::ACK,
                Tcp::Ack => tcp_flags::ACK,
                Tcp::Rst => tcp_flags::RST,
            };
            Body::Tcp { from, to, flags }
        }
        What::Other(protocol) => Body::Other { protocol, bytes: vec![0; 16] },
        What::Error { kind, code, quoted: (src, dst, (protocol, from, to)) } => {
            let what = match protocol {
                1 => What::Echo(from),
                6 => What::Tcp(from, to, Tcp::Syn),
                _ => What::Udp(from, to),
            };
            let about = Packet { src: Some(src), dst, ttl: 1, body: body(what) };
            Body::Error { kind, code, quoted: about.frame(src, [0; 6], [0; 6])[14..].to_vec() }
        }
    }
}
