//! A plan leads from any world to any other, and keeps what need not change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use minivpc_model::*;
use minivpc_testkit::Builder;
use minivpc_testkit::random::{self, Random};

const PAIRS: u64 = 400;

/// All that is alive, without what a change of worlds may give anew.
fn alive(world: &World) -> impl PartialEq + std::fmt::Debug {
    let interfaces = world.network_interfaces().cloned().map(|eni| NetworkInterface { serial: Serial(0), ..eni });
    (
        world.vpcs().cloned().collect::<Vec<_>>(),
        (world.dhcp_options().cloned().collect::<Vec<_>>(), world.hosted_zones().cloned().collect::<Vec<_>>()),
        world.subnets().cloned().collect::<Vec<_>>(),
        world.route_tables().cloned().collect::<Vec<_>>(),
        world.security_groups().cloned().collect::<Vec<_>>(),
        world.network_acls().cloned().collect::<Vec<_>>(),
        (
            world.internet_gateways().cloned().collect::<Vec<_>>(),
            world.vpn_gateways().cloned().collect::<Vec<_>>(),
            world.vpn_connections().cloned().collect::<Vec<_>>(),
        ),
        world.addresses().cloned().collect::<Vec<_>>(),
        interfaces.collect::<Vec<_>>(),
        world.nat_gateways().filter(|nat| nat.is_available()).cloned().collect::<Vec<_>>(),
        world.instances().filter(|instance| !instance.is_terminated()).cloned().collect::<Vec<_>>(),
        world.hosts().cloned().map(|host| Host { serial: Serial(0), ..host }).collect::<Vec<_>>(),
    )
}

/// Each of some VPCs knows one of two zones of one name, or none.
fn zones_of(vpcs: &[VpcId], base: &World, knows: usize) -> World {
    let mut world = base.clone();
    for (n, vpc) in vpcs.iter().enumerate() {
        let Some(seed) = (knows / 3_usize.pow(n as u32) % 3).checked_sub(1) else { continue };
        let (id, vpc) = (HostedZoneId::from_seed(seed as u64), *vpc);
        let op = match world.hosted_zone(id) {
            Ok(_) => Op::AssociateVpcWithHostedZone { zone: id, vpc },
            Err(_) => Op::CreateHostedZone(CreateHostedZone {
                id,
                name: "corp.example".to_owned(),
                vpc,
                tags: Tags::default(),
                origin: Origin::default(),
            }),
        };
        world.apply(op).unwrap();
    }
    world
}

#[test]
fn zones_of_one_name_change_places_in_every_way() {
    let mut b = Builder::default();
    let vpcs = ["a", "b", "c"].map(|name| b.vpc(name, "10.0.0.0/16"));
    let all: Vec<_> = (0..27).map(|knows| zones_of(&vpcs, &b.world, knows)).collect();
    for (n, from) in all.iter().enumerate() {
        for (m, to) in all.iter().enumerate() {
            let plan = plan(from, to, &keep_nothing()).unwrap_or_else(|refusal| panic!("{n} to {m}: {refusal}"));
            assert_same(&plan.world, to, (27 * n + m) as u64);
            for op in &plan.ops {
                let Op::DeleteHostedZone(id) = op else { continue };
                let [had, has] = [from, to].map(|world| world.hosted_zone(*id).map(|zone| zone.vpcs.clone()));
                let Ok(has) = has else { continue };
                assert!(had.unwrap().is_disjoint(&has), "{n} to {m}: it keeps a VPC, and so itself");
                assert!(
                    from.hosted_zones().count() + to.hosted_zones().count() > 2,
                    "{n} to {m}: nobody is in its way"
                );
            }
        }
    }
}

fn keep_nothing() -> KeptRoutes {
    KeptRoutes::new()
}

fn assert_same(is: &World, wanted: &World, pair: u64) {
    let (is, wanted) = (format!("{:#?}", alive(is)), format!("{:#?}", alive(wanted)));
    let line = is.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    let around =
        |text: &str, at: usize| text.lines().skip(at.saturating_sub(12)).take(16).collect::<Vec<_>>().join("\n");
    if let Some(at) = line {
        panic!("pair {pair}: is\n{}\nwanted\n{}", around(&is, at), around(&wanted, at));
    }
    assert_eq!(is.len(), wanted.len(), "pair {pair}");
}

/// The same Elastic IP address is another one, as a file may say: what is wanted is a world, not a way to it.
fn readdressed(next: &mut World) -> Option<Op> {
    let Address { id, association, tags, origin, .. } = next.addresses().next()?.clone();
    let (held, mut other) = (association?, next.clone());
    other.apply(Op::DisassociateAddress(id)).ok()?;
    other.apply(Op::ReleaseAddress(id)).ok()?;
    other.apply(Op::AllocateAddress { id, public_ip: [203, 0, 113, 250].into(), tags, origin }).ok()?;
    *next = other;
    let (network_interface, private_ip) = (held.network_interface, Some(held.private_ip));
    Some(Op::AssociateAddress { allocation: id, network_interface, private_ip, allow_reassociation: false })
}

/// The world after some changes that AWS accepts.
fn edited(random: &mut Random, world: &World) -> World {
    let mut next = world.clone();
    for _ in 0..6 {
        let op = match random.below(20) {
            0 => next.instances().next().map(|instance| Op::TerminateInstance(instance.id)),
            1 => next.nat_gateways().find(|nat| nat.is_available()).map(|nat| Op::DeleteNatGateway(nat.id)),
            2 => next.network_interfaces().last().map(|eni| Op::ModifySourceDestCheck {
                network_interface: eni.id,
                source_dest_check: !eni.source_dest_check,
            }),
            3 => next.network_interfaces().last().and_then(|eni| {
                let groups = vec![next.security_groups().last()?.id];
                Some(Op::ModifyNetworkInterfaceGroups { network_interface: eni.id, groups })
            }),
            4 => next.security_groups().find_map(|group| {
                let rule = group.ingress.last()?;
                Some(Op::RevokeSecurityGroupIngress { group: group.id, traffic: rule.traffic, peer: rule.peer })
            }),
            5 => next.route_tables().find_map(|table| {
                let destination =
                    table.routes.last().filter(|r| r.route_origin == RouteOrigin::CreateRoute)?.destination;
                Some(Op::DeleteRoute { route_table: table.id, destination })
            }),
            6 => next.subnets().find(|s| s.route_table.is_some()).map(|s| Op::DisassociateRouteTable(s.id)),
            7 => next.network_acls().find_map(|acl| {
                let rule_number = *acl.ingress.keys().last()?;
                Some(Op::DeleteNetworkAclEntry { network_acl: acl.id, egress: false, rule_number })
            }),
            8 => next.subnets().last().map(|subnet| Op::CreateNetworkInterface {
                interface: NewInterface {
                    id: NetworkInterfaceId::from_seed(random.number()),
                    subnet: subnet.id,
                    private_ip: None,
                    secondary_private_ips: Vec::new(),
                    mac: MacAddress::from_seed(random.number()),
                    groups: Vec::new(),
                    source_dest_check: true,
                    tags: Tags::named("standalone"),
                    origin: Origin::default(),
                },
                load_balancer: None,
            }),
            9 | 10 => next.network_interfaces().find(|eni| eni.attachment.is_none()).and_then(|eni| {
                let zone = |id| next.subnet(id).map(|subnet| subnet.availability_zone.clone());
                let home = |instance: &&Instance| {
                    let primary = instance.network_interfaces.first().and_then(|id| next.network_interface(*id).ok());
                    primary.is_some_and(|primary| zone(primary.subnet) == zone(eni.subnet))
                };
                let (network_interface, instance) = (eni.id, next.instances().find(home)?.id);
                Some(Op::AttachNetworkInterface { network_interface, instance, device_index: 1 })
            }),
            11 => next
                .network_interfaces()
                .find(|eni| eni.device_index().is_some_and(|index| index > 0))
                .map(|eni| Op::DetachNetworkInterface(eni.id)),
            13 => next.vpn_gateways().next().and_then(|vgw| {
                let table = next.route_tables().filter(|table| table.vpc == vgw.vpc).last()?;
                let (route_table, gateway) = (table.id, vgw.id);
                Some(match table.propagating_vgws.is_empty() {
                    true => Op::EnableVgwRoutePropagation { route_table, gateway },
                    false => Op::DisableVgwRoutePropagation { route_table, gateway },
                })
            }),
            14 => next.vpn_connections().next().and_then(|site| {
                let (connection, last) = (site.id, site.static_routes.last()?);
                Some(match random.one_in(2) {
                    true => Op::DeleteVpnConnectionRoute { connection, destination: *last },
                    false => Op::CreateVpnConnectionRoute { connection, destination: "10.77.0.0/16".parse().unwrap() },
                })
            }),
            15 => readdressed(&mut next),
            16 => next.vpcs().next().map(|vpc| {
                let set = next.dhcp_options().last().map(|set| set.id).filter(|_| random.one_in(2));
                Op::AssociateDhcpOptions { vpc: vpc.id, set }
            }),
            17 => next.hosted_zones().next().map(|zone| {
                let (zone, name, kind) = (zone.id, format!("b.{}", zone.name), RecordType::A);
                let value = format!("10.0.0.{}", random.below(250));
                let set = ResourceRecordSet { ttl: 60, values: vec![value], origin: Origin::default() };
                Op::ChangeResourceRecordSets { zone, name, kind, change: RecordChange::Upsert(set) }
            }),
            18 => next.hosted_zones().last().and_then(|zone| {
                let vpc = next.vpcs().last()?.id;
                Some(match zone.vpcs.contains(&vpc) {
                    true => Op::DisassociateVpcFromHostedZone { zone: zone.id, vpc },
                    false => Op::AssociateVpcWithHostedZone { zone: zone.id, vpc },
                })
            }),
            12 => next
                .network_interfaces()
                .find(|eni| eni.attachment.is_none())
                .map(|eni| Op::DeleteNetworkInterface(eni.id)),
            _ => next.network_interfaces().last().and_then(|eni| {
                let subnet = next.subnet(eni.subnet).ok()?;
                let address = subnet.cidr.hosts().nth(100 + random.below(100))?;
                Some(Op::AssignPrivateIpAddresses {
                    network_interface: eni.id,
                    addresses: vec![address],
                    allow_reassignment: false,
                })
            }),
        };
        // What AWS refuses is no change.
        let _ = op.map(|op| next.apply(op));
    }
    next
}

#[test]
fn a_plan_leads_to_the_world_that_is_wanted() {
    let seed = std::env::var("MINIVPC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("MINIVPC_SEED={seed}");
    let mut planned = 0;
    for pair in 0..PAIRS {
        let mut random = Random(seed << 32 | pair);
        let (from, to) = (random::world(&mut random), random::world(&mut random));
        match plan(&from, &to, &keep_nothing()) {
            Ok(plan) => {
                assert_same(&plan.world, &to, pair);
                planned += 1;
            }
            // AWS has no way to another group of the same name while an interface carries the first, and none from
            // VPC to VPC.
            Err(refusal) => {
                let known =
                    refusal.code == ErrorCode::InvalidGroupDuplicate || refusal.message.contains("between VPCs");
                assert!(known, "pair {pair}: {refusal}");
            }
        }
        let edited = edited(&mut random, &from);
        assert_same(&plan(&from, &edited, &keep_nothing()).unwrap().world, &edited, pair);
        assert_same(&plan(&edited, &from, &keep_nothing()).unwrap().world, &from, pair);
        let again = plan(&to, &to, &keep_nothing()).unwrap();
        assert_eq!(again.ops, [], "pair {pair}: nothing changes");
        let back = plan(&from, &World::default(), &keep_nothing()).unwrap();
        assert_eq!(back.world.vpcs().count() + back.world.network_interfaces().count(), 0, "pair {pair}");
    }
    assert!(planned > PAIRS / 4, "{planned} of {PAIRS} were planned");
}

#[test]
fn what_stays_keeps_its_serial() {
    let (mut kept, mut given) = (0, 0);
    for pair in 0..PAIRS {
        let mut random = Random(pair);
        let from = random::world(&mut random);
        let to = edited(&mut random, &from);
        let plan = plan(&to, &from, &keep_nothing()).unwrap();
        let run: Vec<_> = plan
            .ops
            .iter()
            .flat_map(|op| match op {
                Op::RunInstance(request) => request.interfaces.values().map(|interface| interface.id).collect(),
                Op::CreateNetworkInterface { interface, .. } => vec![interface.id],
                Op::CreateNatGateway(request) => vec![request.network_interface],
                _ => Vec::new(),
            })
            .collect();
        for eni in plan.world.network_interfaces() {
            let before = to.network_interface(eni.id).map(|eni| eni.serial);
            if run.contains(&eni.id) {
                given += 1;
                assert!(to.network_interfaces().all(|other| other.serial != eni.serial), "a serial is given once");
            } else {
                kept += 1;
                assert_eq!(before, Ok(eni.serial));
            }
        }
    }
    assert!(kept > 100 && given > 100, "{kept} kept, {given} given");
}
