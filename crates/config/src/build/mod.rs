//! From a lab file to a world: names to ids, and the operations in an order in which each finds what it needs.

mod instance;
mod internet;
mod names;
mod rule;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use minivpc_model::*;
use serde_saphyr::{Location, Spanned};
use siphasher::sip::SipHasher13;

use crate::file::{self, AsymmetricReturn, ConnectivityType, LabFile};
use crate::mistake::{Mistake, Place};
use crate::scalar::{Cidr, Value};
use crate::{KeptRoute, Lab};
use instance::{Interface, interfaces_of, path};
use rule::acl_entry;

/// What AWS's own tools take when nobody names a region.
const DEFAULT_REGION: &str = "us-east-1";
/// Where Elastic IP addresses without an address come from (RFC 5737).
const ELASTIC_IPS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24);
/// An address in the file.
type Address = Spanned<Value<Ipv4Addr>>;

pub(crate) fn build(file: LabFile, now: &str, running: Option<&Lab>) -> Result<Lab, Mistake> {
    if let Some(key) = &file.unknown {
        return Err(Mistake::unknown_key(at(key), &key.value, LabFile::KEYS));
    }
    let mut builder = Builder::new(lab_name(file.lab.as_ref())?, file.region.as_ref(), now, running);
    for (name, set) in &file.dhcp_options.0 {
        builder.dhcp_options(name, set)?;
    }
    for (name, vpc) in &file.vpcs.0 {
        builder.vpc(name, vpc, file.region.as_ref())?;
    }
    for (name, zone) in &file.private_hosted_zones.0 {
        builder.private_hosted_zone(name, zone)?;
    }
    for (name, vpc) in &file.vpcs.0 {
        builder.parts_of_vpc(name, vpc)?;
    }
    for (name, host) in &file.internet.hosts.0 {
        builder.host(None, name, host)?;
    }
    for (name, site) in &file.customer_sites.0 {
        builder.customer_site(name, site)?;
    }
    const TURNS: [Turn; 3] = [Turn::Named, Turn::Kept, Turn::Free];
    for turn in TURNS {
        for (name, address) in &file.elastic_ips.0 {
            builder.elastic_ip(turn, name, address)?;
        }
    }
    for turn in TURNS {
        for (vpc_name, vpc) in &file.vpcs.0 {
            for (name, nat) in &vpc.nat_gateways.0 {
                builder.nat_gateway(turn, vpc_name, vpc, name, nat)?;
            }
        }
        for (name, interface) in &file.network_interfaces.0 {
            builder.network_interface(turn, name, interface)?;
        }
        for (name, instance) in &file.instances.0 {
            builder.instances(turn, name, instance)?;
        }
    }
    for (name, instance) in &file.instances.0 {
        for (index, interface) in interfaces_of(name, instance)? {
            let id = builder.interface_id(interface.id, &path(&name.value, index))?;
            builder.associate(id, &interface)?;
        }
    }
    for (name, written) in &file.network_interfaces.0 {
        builder.attach(name, written)?;
        let id = builder.standalone_id(name, written)?;
        builder.associate(id, &Interface::of(written))?;
    }
    // Routes come last: their targets are there now.
    for (vpc_name, vpc) in &file.vpcs.0 {
        // Before its routes, so that a route that such a table can't have is refused where it stands.
        builder.gateway_route_tables(vpc_name, vpc)?;
        builder.routes(vpc_name, vpc)?;
    }
    Ok(builder.lab)
}

/// Where the value was written; behind an alias, where its anchor stands.
fn at<T>(value: &Spanned<T>) -> Location {
    value.defined
}

pub(crate) fn lab_name(name: Option<&Spanned<String>>) -> Result<String, Mistake> {
    let Some(name) = name else {
        let mistake = Mistake::new(Location::UNKNOWN, "'lab' is missing: the lab's name");
        return Err(mistake.help("begin the file with `lab: NAME`"));
    };
    let text = &name.value;
    let fits = (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if fits {
        return Ok(text.clone());
    }
    let message = format!("'{text}' can't be the name of a lab");
    Err(Mistake::new(at(name), message).help("letters, digits, '-', '_' and '.', a letter or digit first, at most 64"))
}

/// Whoever names its addresses gets them first; then who had one before keeps it; others take the lowest free ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Named,
    Kept,
    Free,
}

struct Builder<'a> {
    lab: Lab,
    region: String,
    now: &'a str,
    running: Option<&'a Lab>,
}

impl<'a> Builder<'a> {
    fn new(name: String, region: Option<&Spanned<String>>, now: &'a str, running: Option<&'a Lab>) -> Self {
        let region = region.map_or_else(|| DEFAULT_REGION.to_owned(), |region| region.value.clone());
        let (world, guests, kept_routes) = (World::default(), BTreeMap::new(), BTreeMap::new());
        let lab = Lab { name, world, guests, kept_routes, places: Vec::new() };
        Self { lab, region, now, running }
    }

    fn world(&self) -> &World {
        &self.lab.world
    }

    fn origin(&mut self, at: Location) -> Origin {
        self.lab.places.push(Place::from(at));
        Origin(u32::try_from(self.lab.places.len()).unwrap_or_default())
    }

    /// `parameters` are the places of the request's parameters, by AWS's names; a refusal shows the one at fault.
    fn apply(&mut self, op: Op, request: Location, parameters: &[(&str, Option<Location>)]) -> Result<(), Mistake> {
        self.lab.world.apply(op).map_err(|refusal| {
            let named = parameters.iter().find(|(name, _)| *name == refusal.parameter);
            Mistake::refused(named.and_then(|(_, at)| *at).unwrap_or(request), &refusal)
        })
    }

    /// The id that the file gives, else one made of the resource's path in the lab.
    fn id<Id: FromStr<Err = IdError>>(
        &self,
        given: Option<&Spanned<String>>,
        from_seed: fn(u64) -> Id,
        path: &[&str],
    ) -> Result<Id, Mistake> {
        match given {
            Some(id) => id.value.parse().map_err(|error| Mistake::id(at(id), &error)),
            None => Ok(from_seed(self.seed(path))),
        }
    }

    fn seed(&self, path: &[impl AsRef<str>]) -> u64 {
        let mut hasher = SipHasher13::new();
        let path: Vec<_> = path.iter().map(AsRef::as_ref).collect();
        (&self.lab.name, path).hash(&mut hasher);
        hasher.finish()
    }

    fn vpc_id(&self, name: &Spanned<String>, vpc: &file::Vpc) -> Result<VpcId, Mistake> {
        self.id(vpc.id.as_ref(), VpcId::from_seed, &["vpc", &name.value])
    }

    /// A VPC with all that can be named in it, but not yet what names something else.
    fn vpc(
        &mut self,
        name: &Spanned<String>,
        vpc: &file::Vpc,
        region_of_lab: Option<&Spanned<String>>,
    ) -> Result<(), Mistake> {
        let id = self.vpc_id(name, vpc)?;
        let seed = |kind: &str| self.seed(&[kind, &name.value]);
        let request = CreateVpc {
            id,
            cidr: v4(&vpc.cidr)?,
            region: vpc.region.as_ref().map_or_else(|| self.region.clone(), |region| region.value.clone()),
            main_route_table: RouteTableId::from_seed(seed("main")),
            default_network_acl: NetworkAclId::from_seed(seed("default-acl")),
            default_security_group: SecurityGroupId::from_seed(seed("default-sg")),
            tags: tags(name, &vpc.tags)?,
            origin: self.origin(at(name)),
        };
        let region = vpc.region.as_ref().or(region_of_lab).map(at);
        let parameters = [("CidrBlock", Some(at(&vpc.cidr))), ("Region", region)];
        self.apply(Op::CreateVpc(request), at(name), &parameters)?;
        for (attribute, default, value) in
            [(VpcAttribute::DnsSupport, true, vpc.dns_support), (VpcAttribute::DnsHostnames, false, vpc.dns_hostnames)]
        {
            if value != default {
                self.apply(Op::ModifyVpcAttribute { vpc: id, attribute, value }, at(name), &[])?;
            }
        }
        if let Some(set) = &vpc.dhcp_options {
            let found = found(set, self.world().find_dhcp_options(None, &set.value))?;
            self.apply(Op::AssociateDhcpOptions { vpc: id, set: Some(found) }, at(set), &[])?;
        }
        if let Some(igw) = &vpc.internet_gateway {
            let gateway = InternetGateway {
                id: self.id(igw.id.as_ref(), InternetGatewayId::from_seed, &["igw", &name.value, &igw.name.value])?,
                vpc: id,
                route_table: None,
                passes_asymmetric_return: vpc.igw_asymmetric_return == AsymmetricReturn::Pass,
                tags: tags(&igw.name, &igw.tags)?,
                origin: self.origin(at(&igw.name)),
            };
            self.apply(Op::AttachInternetGateway(gateway), at(&igw.name), &[])?;
        }
        if let Some(vgw) = &vpc.virtual_private_gateway {
            let gateway = VpnGateway {
                id: self.id(vgw.id.as_ref(), VpnGatewayId::from_seed, &["vgw", &name.value, &vgw.name.value])?,
                vpc: id,
                route_table: None,
                tags: tags(&vgw.name, &vgw.tags)?,
                origin: self.origin(at(&vgw.name)),
            };
            self.apply(Op::AttachVpnGateway(gateway), at(&vgw.name), &[])?;
        }
        for (key, subnet) in &vpc.subnets.0 {
            self.subnet(id, name, key, subnet)?;
        }
        for (key, table) in &vpc.route_tables.0 {
            self.route_table(id, name, key, table)?;
        }
        for (key, group) in &vpc.security_groups.0 {
            let op = Op::CreateSecurityGroup {
                id: self.id(group.id.as_ref(), SecurityGroupId::from_seed, &["sg", &name.value, &key.value])?,
                vpc: id,
                name: key.value.clone(),
                description: plain(at(key), group.description.as_ref().unwrap_or(&key.value))?,
                tags: tags(key, &group.tags)?,
                origin: self.origin(at(key)),
            };
            self.apply(op, at(key), &[])?;
        }
        for (key, acl) in &vpc.network_acls.0 {
            self.network_acl(id, name, key, acl)?;
        }
        Ok(())
    }

    fn subnet(
        &mut self,
        vpc: VpcId,
        vpc_name: &Spanned<String>,
        key: &Spanned<String>,
        subnet: &file::Subnet,
    ) -> Result<(), Mistake> {
        let region = self.world().vpc(vpc).map_or_else(|_| self.region.clone(), |vpc| vpc.region.clone());
        let zone = subnet.az.as_ref().map_or("a", |az| az.value.as_str());
        let availability_zone = if zone.len() == 1 { format!("{region}{zone}") } else { zone.to_owned() };
        let request = CreateSubnet {
            id: self.id(subnet.id.as_ref(), SubnetId::from_seed, &["subnet", &vpc_name.value, &key.value])?,
            vpc,
            cidr: v4(&subnet.cidr)?,
            availability_zone,
            tags: tags(key, &subnet.tags)?,
            origin: self.origin(at(key)),
        };
        let parameters = [("CidrBlock", Some(at(&subnet.cidr))), ("AvailabilityZone", subnet.az.as_ref().map(at))];
        self.apply(Op::CreateSubnet(request), at(key), &parameters)
    }

    fn route_table(
        &mut self,
        vpc: VpcId,
        vpc_name: &Spanned<String>,
        key: &Spanned<String>,
        table: &file::RouteTable,
    ) -> Result<(), Mistake> {
        refuse_name(key, "main", "give the table another name and write `main: true` in it")?;
        let id = self.id(table.id.as_ref(), RouteTableId::from_seed, &["rtb", &vpc_name.value, &key.value])?;
        let op = Op::CreateRouteTable { id, vpc, tags: tags(key, &table.tags)?, origin: self.origin(at(key)) };
        self.apply(op, at(key), &[])?;
        if table.main {
            self.apply(Op::ReplaceMainRouteTable { vpc, route_table: id }, at(key), &[])?;
        }
        Ok(())
    }

    fn network_acl(
        &mut self,
        vpc: VpcId,
        vpc_name: &Spanned<String>,
        key: &Spanned<String>,
        acl: &file::NetworkAcl,
    ) -> Result<(), Mistake> {
        refuse_name(key, "default", "give it another name and write `network_acl: NAME` in the subnets")?;
        let id = self.id(acl.id.as_ref(), NetworkAclId::from_seed, &["acl", &vpc_name.value, &key.value])?;
        let op = Op::CreateNetworkAcl { id, vpc, tags: tags(key, &acl.tags)?, origin: self.origin(at(key)) };
        self.apply(op, at(key), &[])?;
        for (egress, entries) in [(false, &acl.ingress), (true, &acl.egress)] {
            for (number, entry) in &entries.0 {
                let rule_number = number.value.parse().map_err(|_| {
                    Mistake::new(at(number), format!("'{}' isn't a rule number: 1 to 32766", number.value))
                })?;
                let entry = NetworkAclEntry { origin: self.origin(at(number)), ..acl_entry(number, entry)? };
                let op = Op::CreateNetworkAclEntry { network_acl: id, egress, rule_number, entry };
                self.apply(op, at(number), &[])?;
            }
        }
        Ok(())
    }

    /// What in a VPC names something else.
    fn parts_of_vpc(&mut self, name: &Spanned<String>, vpc: &file::Vpc) -> Result<(), Mistake> {
        let home = Some(self.vpc_id(name, vpc)?);
        for (key, subnet) in &vpc.subnets.0 {
            let id = found(key, self.world().find_subnet(home, &key.value))?;
            if let Some(table) = &subnet.route_table {
                let route_table = found(table, self.world().find_route_table(home, &table.value))?;
                self.apply(Op::AssociateRouteTable { route_table, subnet: id }, at(table), &[])?;
            }
            if let Some(acl) = &subnet.network_acl {
                let network_acl = found(acl, self.world().find_network_acl(home, &acl.value))?;
                self.apply(Op::ReplaceNetworkAclAssociation { network_acl, subnet: id }, at(acl), &[])?;
            }
        }
        for (key, group) in &vpc.security_groups.0 {
            let id = found(key, self.world().find_security_group(home, &key.value))?;
            for rule in &group.ingress {
                let rule = self.group_rule(home, rule)?;
                self.apply(Op::AuthorizeSecurityGroupIngress { group: id, rule: rule.1 }, rule.0, &[])?;
            }
            let Some(egress) = &group.egress else { continue };
            let (traffic, peer) = default_egress();
            self.apply(Op::RevokeSecurityGroupEgress { group: id, traffic, peer }, at(key), &[])?;
            for rule in egress {
                let rule = self.group_rule(home, rule)?;
                self.apply(Op::AuthorizeSecurityGroupEgress { group: id, rule: rule.1 }, rule.0, &[])?;
            }
        }
        Ok(())
    }

    fn elastic_ip(&mut self, turn: Turn, name: &Spanned<String>, address: &file::ElasticIp) -> Result<(), Mistake> {
        let place = address.address.as_ref().map_or(at(name), at);
        let id = self.id(address.id.as_ref(), AllocationId::from_seed, &["eipalloc", &name.value])?;
        let had = self.running.and_then(|lab| lab.world.address(id).ok()).map(|address| address.public_ip);
        let its_turn = match (&address.address, had) {
            (Some(_), _) => Turn::Named,
            (None, Some(_)) => Turn::Kept,
            (None, None) => Turn::Free,
        };
        if its_turn != turn {
            return Ok(());
        }
        let free = |ip: &Ipv4Addr| self.world().is_free(*ip);
        let given = address.address.as_ref().map(|given| given.value.0);
        let public_ip = given
            .or_else(|| had.filter(free).or_else(|| ELASTIC_IPS.hosts().find(free)))
            .ok_or_else(|| Mistake::new(at(name), format!("{ELASTIC_IPS} has no address left")))?;
        let op = Op::AllocateAddress { id, public_ip, tags: tags(name, &address.tags)?, origin: self.origin(at(name)) };
        self.apply(op, place, &[])
    }

    fn connectivity(&self, name: &Spanned<String>, nat: &file::NatGateway) -> Result<Connectivity, Mistake> {
        match (nat.connectivity_type, &nat.elastic_ip) {
            (ConnectivityType::Private, primary) => {
                let Some(address) = primary.as_ref().or(nat.secondary_elastic_ips.first()) else {
                    return Ok(Connectivity::Private);
                };
                let mistake = Mistake::new(at(address), "a private NAT gateway has no Elastic IP address (NAT-1)");
                Err(mistake.help("remove it, or write `connectivity_type: public`"))
            }
            (ConnectivityType::Public, Some(primary)) => {
                let all = std::iter::once(primary).chain(&nat.secondary_elastic_ips);
                let found = all.map(|address| found(address, self.world().find_elastic_ip(None, &address.value)));
                found.collect::<Result<_, _>>().map(Connectivity::Public)
            }
            (ConnectivityType::Public, None) => {
                let message = "MissingParameter: The request must contain the parameter AllocationId";
                let help = "add `elastic_ip: NAME` of one of elastic_ips, or write `connectivity_type: private`";
                Err(Mistake::new(at(name), message).help(help))
            }
        }
    }

    fn nat_gateway(
        &mut self,
        turn: Turn,
        vpc_name: &Spanned<String>,
        vpc: &file::Vpc,
        name: &Spanned<String>,
        nat: &file::NatGateway,
    ) -> Result<(), Mistake> {
        let path = [&*vpc_name.value, &*name.value];
        let network_interface = self.interface_id(nat.network_interface_id.as_ref(), &path)?;
        if self.turn(nat.private_ip.as_ref(), network_interface) != turn {
            return Ok(());
        }
        let home = Some(self.vpc_id(vpc_name, vpc)?);
        let subnet = found(&nat.subnet, self.world().find_subnet(home, &nat.subnet.value))?;
        let given = nat.private_ip.as_ref().map(|address| address.value.0);
        let request = CreateNatGateway {
            id: self.id(nat.id.as_ref(), NatGatewayId::from_seed, &["nat", path[0], path[1]])?,
            subnet,
            connectivity: self.connectivity(name, nat)?,
            private_ip: given.or_else(|| self.kept_address(network_interface, subnet)),
            secondary_private_ips: addresses(&nat.secondary_private_ips),
            network_interface,
            mac: MacAddress::from_seed(self.seed(&["mac", path[0], path[1]])),
            create_time: nat.create_time.as_ref().map_or_else(|| self.now.to_owned(), |time| time.value.clone()),
            tags: tags(name, &nat.tags)?,
            origin: self.origin(at(name)),
        };
        let parameters = [
            ("PrivateIpAddress", nat.private_ip.as_ref().or(nat.secondary_private_ips.first()).map(at)),
            ("SubnetId", Some(at(&nat.subnet))),
            ("AllocationId", nat.elastic_ip.as_ref().map(at)),
            ("SecondaryAllocationId", nat.secondary_private_ips.first().map(at)),
        ];
        self.apply(Op::CreateNatGateway(request), at(name), &parameters)
    }

    fn interface_id(
        &self,
        given: Option<&Spanned<String>>,
        path: &[impl AsRef<str>],
    ) -> Result<NetworkInterfaceId, Mistake> {
        let path: Vec<_> = std::iter::once("eni").chain(path.iter().map(AsRef::as_ref)).collect();
        self.id(given, NetworkInterfaceId::from_seed, &path)
    }

    fn routes(&mut self, vpc_name: &Spanned<String>, vpc: &file::Vpc) -> Result<(), Mistake> {
        let home = self.vpc_id(vpc_name, vpc)?;
        for (key, table) in &vpc.route_tables.0 {
            let route_table = found(key, self.world().find_route_table(Some(home), &key.value))?;
            for vgw in &table.propagating_vgws {
                let gateway = found(vgw, self.world().find_vpn_gateway(Some(home), &vgw.value))?;
                self.apply(Op::EnableVgwRoutePropagation { route_table, gateway }, at(vgw), &[])?;
            }
            for (destination, target) in &table.routes.0 {
                let net = destination.value.parse::<IpNet>().map_err(|_| {
                    let message = format!("'{}' isn't a block of addresses such as 10.0.1.0/24", destination.value);
                    Mistake::new(at(destination), message)
                })?;
                if let IpNet::V6(net) = net {
                    return Err(Mistake::new(at(destination), format!("{net}: IPv6 isn't supported yet")));
                }
                let local = target.value == "local";
                let is_local_route = net == IpNet::V4(v4(&vpc.cidr)?);
                if local && is_local_route {
                    continue; // Every table has this route from the start.
                }
                let origin = self.origin(at(destination));
                let target_id = match self.world().find_route_target(home, &target.value) {
                    _ if local => RouteTarget::Local,
                    Err(FindError::None { .. }) if self.is_kept(home, route_table, net, &target.value) => {
                        let kept = KeptRoute { origin, target: target.value.clone() };
                        self.lab.kept_routes.insert((route_table, net), kept);
                        continue;
                    }
                    result => found(target, result)?,
                };
                let op = match is_local_route {
                    //
                    true => Op::ReplaceRoute { route_table, destination: net, target: target_id, origin },
                    false => Op::CreateRoute { route_table, destination: net, target: target_id, origin },
                };
                let parameters = [("DestinationCidrBlock", Some(at(destination))), ("Target", Some(at(target)))];
                self.apply(op, at(destination), &parameters)?;
            }
        }
        Ok(())
    }
}

impl Builder<'_> {
    fn gateway_route_tables(&mut self, vpc_name: &Spanned<String>, vpc: &file::Vpc) -> Result<(), Mistake> {
        let home = self.vpc_id(vpc_name, vpc)?;
        let world = self.world();
        let igw = world.vpc(home).ok().and_then(|vpc| vpc.internet_gateway).map(GatewayId::Internet);
        let vgw = world.vpn_gateway_of(home).map(|vgw| GatewayId::Vpn(vgw.id));
        let of_igw = vpc.internet_gateway.as_ref().and_then(|igw| igw.route_table.as_ref());
        let of_vgw = vpc.virtual_private_gateway.as_ref().and_then(|vgw| vgw.route_table.as_ref());
        for (gateway, table) in [(igw, of_igw), (vgw, of_vgw)] {
            let (Some(gateway), Some(table)) = (gateway, table) else { continue };
            let route_table = found(table, self.world().find_route_table(Some(home), &table.value))?;
            self.apply(Op::AssociateGatewayRouteTable { route_table, gateway }, at(table), &[])?;
        }
        Ok(())
    }

    /// Has the lab that runs a route to a target of this name, which the file has no more? It stays, as a blackhole.
    fn is_kept(&self, home: VpcId, table: RouteTableId, destination: IpNet, target: &str) -> bool {
        let Some(running) = self.running else { return false };
        let routes = running.world.route_table(table).map(|table| table.routes.as_slice()).unwrap_or_default();
        let Some(route) = routes.iter().find(|route| route.destination == destination) else { return false };
        let was_kept = running.kept_routes.get(&(table, destination)).is_some_and(|kept| kept.target == target);
        was_kept || running.world.find_route_target(home, target).is_ok_and(|target| target == route.target)
    }
}

/// AWS makes a main route table and a default network ACL with each VPC: a second one of that name would serve no
/// subnet, though it looks as if it did.
fn refuse_name(key: &Spanned<String>, taken: &str, help: &str) -> Result<(), Mistake> {
    if key.value == taken {
        let message = format!("'{taken}' is what AWS has made with the VPC; it can't be written here");
        return Err(Mistake::new(at(key), message).help(help));
    }
    Ok(())
}

fn found<T, F>(name: &Spanned<T>, found: Result<F, FindError>) -> Result<F, Mistake> {
    found.map_err(|error| Mistake::not_found(at(name), error))
}

fn v4(cidr: &Spanned<Cidr>) -> Result<Ipv4Net, Mistake> {
    match cidr.value.0 {
        IpNet::V4(net) => Ok(net),
        IpNet::V6(net) => Err(Mistake::new(at(cidr), format!("{net}: IPv6 isn't supported yet"))),
    }
}

/// A resource's tags. Its name is a part of paths, such as `instance/eth1`.
fn tags(name: &Spanned<String>, more: &file::Tags) -> Result<Tags, Mistake> {
    if name.value.is_empty() || name.value.contains('/') {
        let message = format!("'{}' can't be the name of a resource", name.value);
        return Err(Mistake::new(at(name), message).help("a name is a text without '/'"));
    }
    if more.contains_key("Name") {
        let message = format!("'{}' has a Name tag beside its name", name.value);
        return Err(Mistake::new(at(name), message).help("remove the tag: the key in the file is the name"));
    }
    let mut tags = Tags::named(&name.value);
    tags.0.extend(more.clone());
    for (key, value) in &tags.0 {
        plain(at(name), key)?;
        plain(at(name), value)?;
        let wrong = match (key.chars().count(), value.chars().count()) {
            _ if key.starts_with("aws:") => "Tag keys starting with 'aws:' are reserved for system use",
            (0, _) => "Tag keys can't be empty",
            (129.., _) => "Tag keys have up to 128 characters",
            (_, 257..) => "Tag values have up to 256 characters",
            _ => continue,
        };
        return Err(Mistake::new(at(name), format!("InvalidParameterValue: {wrong}")).help(format!("tag '{key}'")));
    }
    Ok(tags)
}

/// Names, tags and descriptions are printed in tables, line by line; AWS takes no control characters there either.
fn plain(at: Location, text: &str) -> Result<String, Mistake> {
    if text.contains(char::is_control) {
        return Err(Mistake::new(at, format!("{text:?} holds a control character")).help("write it without"));
    }
    Ok(text.to_owned())
}

fn addresses(written: &[Address]) -> Vec<Ipv4Addr> {
    written.iter().map(|address| address.value.0).collect()
}
