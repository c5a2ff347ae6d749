//! Model to [`Snapshot`]: ids become dense indices, references become indices, rules keep where they came from.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use minivpc_model as model;
use minivpc_model::{Attachment, Peer, RouteTarget, Tags, World};
use prefix_trie::PrefixMap;

use crate::rules::{Rules, Whose};
use crate::services::HostedZone;
use crate::snapshot::*;

/// More resources of one kind than a snapshot can number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a lab can have at most {} {kind}", u16::MAX)]
pub struct TooMany {
    kind: &'static str,
}

/// Dense numbers for ids, in the order of the ids.
struct Index<Id>(BTreeMap<Id, u16>);

impl<Id: Ord> Index<Id> {
    fn new(kind: &'static str, ids: impl Iterator<Item = Id>) -> Result<Self, TooMany> {
        let numbered = ids.enumerate().map(|(n, id)| Ok((id, u16::try_from(n).map_err(|_| TooMany { kind })?)));
        numbered.collect::<Result<_, _>>().map(Self)
    }

    /// A world's references resolve (see the head of `minivpc_model`), so this finds.
    fn of(&self, id: Id) -> u16 {
        self.0.get(&id).copied().unwrap_or_default()
    }
}

struct Compiler<'a> {
    world: &'a World,
    vpcs: Index<model::VpcId>,
    subnets: Index<model::SubnetId>,
    route_tables: Index<model::RouteTableId>,
    groups: Index<model::SecurityGroupId>,
    acls: Index<model::NetworkAclId>,
    nats: Index<model::NatGatewayId>,
    igws: Index<model::InternetGatewayId>,
    vgws: Index<model::VpnGatewayId>,
    sites: Index<model::VpnConnectionId>,
    enis: Index<model::NetworkInterfaceId>,
    /// Private addresses of the interfaces that carry a group, sorted (SG-5).
    members: HashMap<model::SecurityGroupId, Vec<IpAddr>>,
    /// Several VPCs may know the same.
    hosted_zones: HashMap<model::HostedZoneId, Arc<HostedZone>>,
}

/// Compiles a world.
///
/// # Errors
/// When there is more of a kind than 16 bits can number.
pub fn compile(world: &World, generation: u64) -> Result<Snapshot, TooMany> {
    let compiler = Compiler {
        world,
        vpcs: Index::new("VPCs", world.vpcs().map(|x| x.id))?,
        subnets: Index::new("subnets", world.subnets().map(|x| x.id))?,
        route_tables: Index::new("route tables", world.route_tables().map(|x| x.id))?,
        groups: Index::new("security groups", world.security_groups().map(|x| x.id))?,
        acls: Index::new("network ACLs", world.network_acls().map(|x| x.id))?,
        nats: Index::new("NAT gateways", available(world).map(|x| x.id))?,
        igws: Index::new("internet gateways", world.internet_gateways().map(|x| x.id))?,
        vgws: Index::new("virtual private gateways", world.vpn_gateways().map(|x| x.id))?,
        sites: Index::new("VPN connections", world.vpn_connections().map(|x| x.id))?,
        enis: Index::new("network interfaces", world.network_interfaces().map(|x| x.id))?,
        members: members(world),
        hosted_zones: world.hosted_zones().map(|zone| (zone.id, Arc::new(HostedZone::new(zone)))).collect(),
    };
    let c = &compiler;
    let subnets: Vec<_> = world.subnets().map(|subnet| c.subnet(subnet)).collect();
    let enis: Vec<_> = world.network_interfaces().map(|eni| c.eni(eni)).collect();
    let owners = enis.iter().zip(0..).flat_map(|(eni, n)| {
        let vpc = subnets[usize::from(eni.subnet)].vpc;
        eni.addresses().map(move |address| ((vpc, address), n))
    });
    let owners = owners.collect();
    // Hosts are ports, too.
    let ports = enis.len() + world.hosts().count() + 1;
    u16::try_from(ports).map_err(|_| TooMany { kind: "network interfaces and hosts" })?;
    let hosts: Vec<_> = world.hosts().map(|host| c.host(host)).collect();
    let hosts_at = hosts.iter().zip(0..).map(|(host, n)| ((host.site, host.ip), n)).collect();
    let publics: Vec<_> = world.public_addresses().filter_map(|public| c.public(&public)).collect();
    let vpc_of = |eni: u16| subnets[usize::from(enis[usize::from(eni)].subnet)].vpc;
    let publics_of = publics.iter().map(|(ip, public)| ((vpc_of(public.eni), public.private), *ip)).collect();
    let neighbours = enis.iter().zip(0..).map(|(eni, n)| ((eni.subnet, eni.mac), n)).collect();
    let mut snapshot = Snapshot {
        generation,
        ports: HashMap::default(),
        vpcs: world.vpcs().map(|vpc| c.vpc(vpc)).collect(),
        subnets,
        enis,
        armed: None,
        owners,
        neighbours,
        hosts,
        hosts_at,
        publics: publics.into_iter().collect(),
        publics_of,
        route_tables: world.route_tables().map(|table| c.route_table(table)).collect(),
        groups: world.security_groups().map(|group| c.group(group)).collect(),
        acls: world.network_acls().map(acl).collect(),
        nats: available(world).map(|nat| c.nat(nat)).collect(),
        igws: world.internet_gateways().map(|igw| c.igw(igw)).collect(),
        vgws: world.vpn_gateways().map(|vgw| c.vgw(vgw)).collect(),
        sites: world.vpn_connections().map(|connection| c.site(connection)).collect(),
    };
    snapshot.ports = snapshot.serials().zip(0..).collect();
    Ok(snapshot)
}

fn members(world: &World) -> HashMap<model::SecurityGroupId, Vec<IpAddr>> {
    let mut members: HashMap<_, Vec<IpAddr>> = HashMap::new();
    for eni in world.network_interfaces() {
        for group in &eni.groups {
            members.entry(*group).or_default().extend(eni.addresses().map(IpAddr::from));
        }
    }
    members.values_mut().for_each(|addresses| addresses.sort_unstable());
    members
}

fn available(world: &World) -> impl Iterator<Item = &model::NatGateway> {
    world.nat_gateways().filter(|nat| nat.is_available())
}

fn name(tags: &Tags, id: impl ToString) -> String {
    tags.name().map_or_else(|| id.to_string(), str::to_owned)
}

impl Compiler<'_> {
    fn vpc(&self, vpc: &model::Vpc) -> Vpc {
        let known = self.world.hosted_zones_of(vpc).filter_map(|zone| self.hosted_zones.get(&zone.id));
        let mut hosted_zones: Vec<_> = known.cloned().collect();
        hosted_zones.sort_by_key(|zone| std::cmp::Reverse(zone.labels()));
        Vpc {
            cidr: vpc.cidr,
            public_domain: vpc.public_domain(),
            domain: vpc.domain(),
            dns_support: vpc.dns_support,
            dns_hostnames: vpc.dns_hostnames,
            dhcp: self.world.dhcp_configuration(vpc),
            hosted_zones,
        }
    }

    fn subnet(&self, subnet: &model::Subnet) -> Subnet {
        let route_table = self.world.route_table_of(subnet).map(|table| self.route_tables.of(table.id));
        Subnet {
            id: subnet.id,
            name: name(&subnet.tags, subnet.id),
            vpc: self.vpcs.of(subnet.vpc),
            cidr: subnet.cidr,
            router: subnet.router(),
            resolver: self.world.vpc(subnet.vpc).map_or(subnet.router(), model::Vpc::resolver),
            router_mac: subnet.router_mac(),
            route_table: route_table.unwrap_or_default(),
            acl: self.acls.of(subnet.network_acl),
        }
    }

    fn eni(&self, eni: &model::NetworkInterface) -> Eni {
        let named = || name(&eni.tags, eni.id);
        let (name, kind) = match eni.attachment {
            Some(Attachment::Instance { instance, .. }) => {
                let image = self.world.instance(instance).map_or(model::Image::default(), |i| i.image);
                let kind = EniKind::Guest { instance, default_ttl: image.default_ttl() };
                (self.world.name_at_instance(eni).unwrap_or_else(named), kind)
            }
            Some(Attachment::NatGateway(id)) => {
                let owner = self.world.nat_gateway(id).map_or_else(|_| id.to_string(), |nat| name(&nat.tags, id));
                (owner, EniKind::Nat(self.nats.of(id)))
            }
            Some(Attachment::LoadBalancer(_)) => (named(), EniKind::LoadBalancer),
            None => (named(), EniKind::Unattached),
        };
        Eni {
            id: eni.id,
            serial: eni.serial,
            name,
            subnet: self.subnets.of(eni.subnet),
            mac: eni.mac,
            ip: eni.private_ip.into(),
            secondary_ips: eni.secondary_private_ips.iter().copied().map(IpAddr::from).collect(),
            in_service: self.world.is_in_service(eni),
            source_dest_check: eni.source_dest_check,
            groups: eni.groups.iter().map(|group| self.groups.of(*group)).collect(),
            kind,
            origin: eni.origin,
        }
    }

    fn route_table(&self, table: &model::RouteTable) -> RouteTable {
        let vpc = self.world.vpc(table.vpc).ok();
        let main = vpc.filter(|vpc| vpc.main_route_table == table.id && table.tags.name().is_none());
        let name = main.map_or_else(|| name(&table.tags, table.id), |_| "main".to_owned());
        let all = self.world.routes(table);
        let v4 = all.iter().zip(0..).filter_map(|(route, n)| match route.destination {
            IpNet::V4(v4) if !self.world.loses_to_local(table, route) => Some((v4, n)),
            IpNet::V4(_) | IpNet::V6(_) => None,
        });
        let v4 = v4.collect::<PrefixMap<_, _>>();
        RouteTable { id: table.id, name, v4, routes: all.iter().map(|route| self.route(route)).collect() }
    }

    fn route(&self, route: &model::Route) -> Route {
        let target = match (self.world.route_state(route), route.target) {
            (model::RouteState::Blackhole, _) => Target::Blackhole,
            (model::RouteState::Active, RouteTarget::Local) => Target::Local,
            (model::RouteState::Active, RouteTarget::InternetGateway(id)) => Target::InternetGateway(self.igws.of(id)),
            (model::RouteState::Active, RouteTarget::VpnGateway(id)) => Target::VpnGateway(self.vgws.of(id)),
            (model::RouteState::Active, RouteTarget::NetworkInterface(id)) => Target::Eni(self.enis.of(id)),
            (model::RouteState::Active, RouteTarget::NatGateway(id)) => self
                .world
                .nat_gateway(id)
                .map_or(Target::Blackhole, |nat| Target::Eni(self.enis.of(nat.network_interface))),
        };
        Route { destination: route.destination, target, origin: route.origin }
    }

    fn group(&self, group: &model::SecurityGroup) -> SecurityGroup {
        let rules = |rules: &[model::SecurityGroupRule]| rules.iter().map(|rule| self.rule(rule)).collect();
        let at_once = |rules: &[model::SecurityGroupRule]| {
            let whose = |rule: &model::SecurityGroupRule| match rule.peer {
                Peer::Cidr(block) => Whose::Block(block),
                Peer::SecurityGroup(id) => Whose::Members(self.members.get(&id).map_or(&[], Vec::as_slice)),
            };
            Rules::new(&rules.iter().map(|rule| (rule.traffic, whose(rule))).collect::<Vec<_>>())
        };
        SecurityGroup {
            id: group.id,
            name: group.name.clone(),
            ingress: rules(&group.ingress),
            egress: rules(&group.egress),
            ingress_rules: at_once(&group.ingress),
            egress_rules: at_once(&group.egress),
        }
    }

    fn rule(&self, rule: &model::SecurityGroupRule) -> SecurityGroupRule {
        let peer_group = match rule.peer {
            Peer::Cidr(_) => None,
            Peer::SecurityGroup(id) => Some(self.groups.of(id)),
        };
        SecurityGroupRule { traffic: rule.traffic, peer: rule.peer, peer_group, origin: rule.origin }
    }

    /// Without an internet gateway it stands for nothing.
    fn public(&self, public: &model::PublicAddress) -> Option<(IpAddr, Public)> {
        let eni = self.world.network_interface(public.network_interface).ok()?;
        let vpc = self.world.vpc(self.world.subnet(eni.subnet).ok()?.vpc).ok()?;
        let igw = self.igws.of(vpc.internet_gateway?);
        Some((public.public_ip.into(), Public { igw, eni: self.enis.of(eni.id), private: public.private_ip.into() }))
    }

    fn igw(&self, igw: &model::InternetGateway) -> InternetGateway {
        InternetGateway {
            id: igw.id,
            name: name(&igw.tags, igw.id),
            vpc: self.vpcs.of(igw.vpc),
            route_table: igw.route_table.map(|table| self.route_tables.of(table)),
            refuses_asymmetric_return: !igw.passes_asymmetric_return,
            origin: igw.origin,
        }
    }

    fn vgw(&self, vgw: &model::VpnGateway) -> VpnGateway {
        let connections = self.world.vpn_connections().filter(|connection| connection.vpn_gateway == vgw.id);
        let blocks = connections.flat_map(|connection| {
            let site = self.sites.of(connection.id);
            connection.static_routes.iter().map(move |block| (*block, site))
        });
        VpnGateway {
            id: vgw.id,
            name: name(&vgw.tags, vgw.id),
            vpc: self.vpcs.of(vgw.vpc),
            cidr: self.world.vpc(vgw.vpc).map_or_else(|_| Ipv4Net::default(), |vpc| vpc.cidr),
            route_table: vgw.route_table.map(|table| self.route_tables.of(table)),
            origin: vgw.origin,
            sites: blocks.collect(),
        }
    }

    fn site(&self, connection: &model::VpnConnection) -> Site {
        Site {
            id: connection.id,
            name: name(&connection.tags, connection.id),
            vgw: self.vgws.of(connection.vpn_gateway),
            router: connection.router.into(),
            origin: connection.origin,
        }
    }

    fn host(&self, host: &model::Host) -> Host {
        let [_, rest @ ..] = host.mac.0;
        let [a, b, c, d, e] = rest;
        Host {
            id: host.id,
            serial: host.serial,
            name: self.world.host_name(host),
            site: host.site.map(|site| self.sites.of(site)),
            ip: host.address.into(),
            mac: host.mac,
            // 0x02 keeps it apart from every host's, as a subnet's router's from every interface's.
            router_mac: model::MacAddress([0x02, a, b, c, d, e]),
            origin: host.origin,
        }
    }

    fn nat(&self, nat: &model::NatGateway) -> NatGateway {
        let eni = self.enis.of(nat.network_interface);
        NatGateway { id: nat.id, name: name(&nat.tags, nat.id), eni, origin: nat.origin }
    }
}

fn acl(acl: &model::NetworkAcl) -> NetworkAcl {
    let entries = |entries: &BTreeMap<u16, model::NetworkAclEntry>| {
        let compiled = entries.iter().map(|(number, entry)| NetworkAclEntry {
            number: *number,
            action: entry.action,
            traffic: entry.traffic,
            cidr: entry.cidr,
            origin: entry.origin,
        });
        compiled.collect()
    };
    let at_once = |entries: &BTreeMap<u16, model::NetworkAclEntry>| {
        Rules::new(&entries.values().map(|entry| (entry.traffic, Whose::Block(entry.cidr))).collect::<Vec<_>>())
    };
    NetworkAcl {
        id: acl.id,
        name: name(&acl.tags, acl.id),
        ingress: entries(&acl.ingress),
        egress: entries(&acl.egress),
        ingress_rules: at_once(&acl.ingress),
        egress_rules: at_once(&acl.egress),
    }
}
