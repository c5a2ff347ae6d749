//! From one world to another: the operations that lead there, in an order in which AWS accepts each.
//!
//! What can't be changed in place (a subnet's block, an instance's address) is deleted and made again, and with it
//! what lies in it. Interfaces beyond an instance's primary one come and go while it runs. What AWS keeps is kept: an interface that stays keeps its [`Serial`], and so the flows that are
//! tracked at it; a route whose target goes stays as a blackhole if it is wanted still.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::IpNet;

use crate::id::*;
use crate::op::{CreateHost, CreateNatGateway, CreateSubnet, CreateVpc, NewInterface, Op, RunInstance};
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// Routes that stay although their target goes, or is gone, and where they are written.
pub type KeptRoutes = BTreeMap<(RouteTableId, IpNet), Origin>;

/// How to get from one world to another.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The operations, in order.
    pub ops: Vec<Op>,
    /// The world after them.
    pub world: World,
}

/// Plans the change from `running` to `wanted`. Stopped instances stay so.
///
/// # Errors
/// What AWS refuses on the way.
pub fn plan(running: &World, wanted: &World, kept: &KeptRoutes) -> Result<Plan, Refusal> {
    stay_at_home(running, wanted)?;
    let mut planner = Planner { world: running.clone(), ops: Vec::new(), wanted, kept };
    planner.delete_what_lies_in_subnets()?;
    planner.take_away_addresses()?;
    planner.disassociate_gateways()?;
    planner.take_away_rules()?;
    planner.delete_homes()?;
    planner.create_homes()?;
    planner.associate()?;
    planner.add_rules()?;
    planner.create_what_lies_in_subnets()?;
    planner.associate_addresses()?;
    planner.add_routes()?;
    planner.associate_gateways()?;
    planner.delete_what_nobody_uses()?;
    planner.label();
    Ok(Plan { ops: planner.ops, world: planner.world })
}

/// An id that the file fixes names one thing, and AWS moves nothing from VPC to VPC.
fn stay_at_home(running: &World, wanted: &World) -> Result<(), Refusal> {
    let refuse = |id: String| {
        let message = format!("{id} is in another VPC, and nothing moves between VPCs: give it another id");
        Err(Refusal::new(ErrorCode::InvalidParameterValue, "Id", message))
    };
    macro_rules! check {
        ($($all:ident)+) => {$(
            for (id, resource) in &wanted.$all {
                if running.$all.get(id).is_some_and(|other| other.vpc != resource.vpc) {
                    return refuse(id.to_string());
                }
            }
        )+};
    }
    check!(route_tables security_groups network_acls);
    Ok(())
}

struct Planner<'a> {
    /// The running world with the operations so far.
    world: World,
    ops: Vec<Op>,
    wanted: &'a World,
    kept: &'a KeptRoutes,
}

impl Planner<'_> {
    fn push(&mut self, op: Op) -> Result<(), Refusal> {
        self.world.apply(op.clone())?;
        self.ops.push(op);
        Ok(())
    }

    fn push_all(&mut self, ops: Vec<Op>) -> Result<(), Refusal> {
        ops.into_iter().try_for_each(|op| self.push(op))
    }

    fn vpc_stays(&self, id: VpcId) -> bool {
        let same = |a: &Vpc, b: &Vpc| (a.cidr, &a.region) == (b.cidr, &b.region);
        both(&self.world.vpcs, &self.wanted.vpcs, id).is_some_and(|(a, b)| same(a, b))
    }

    fn subnet_stays(&self, id: SubnetId) -> bool {
        let place = |s: &Subnet| (s.vpc, s.cidr, s.availability_zone.clone());
        let same = |(a, b)| place(a) == place(b) && self.vpc_stays(a.vpc);
        both(&self.world.subnets, &self.wanted.subnets, id).is_some_and(same)
    }

    fn interface_stays(&self, id: NetworkInterfaceId) -> bool {
        let manager = |eni: &NetworkInterface| eni.attachment.filter(|_| eni.is_requester_managed());
        let place = |eni: &NetworkInterface| (eni.subnet, eni.mac, eni.private_ip, manager(eni));
        let same = |(a, b)| place(a) == place(b) && self.subnet_stays(a.subnet);
        both(&self.world.network_interfaces, &self.wanted.network_interfaces, id).is_some_and(same)
    }

    fn instance_stays(&self, instance: &Instance) -> bool {
        let primary = |instance: &Instance| instance.network_interfaces.first().copied();
        let same = |other: &Instance| (instance.image, primary(instance)) == (other.image, primary(other));
        let wanted = self.wanted.instances.get(&instance.id).filter(|wanted| !wanted.is_terminated());
        wanted.is_some_and(same) && primary(instance).is_some_and(|eni| self.interface_stays(eni))
    }

    fn nat_gateway_stays(&self, gateway: &NatGateway) -> bool {
        let parts = |nat: &NatGateway| (nat.subnet, nat.network_interface, nat.connectivity.clone());
        let addresses = |world: &World| {
            let eni = world.network_interfaces.get(&gateway.network_interface);
            eni.map(|eni| eni.secondary_private_ips.clone())
        };
        let wanted = self.wanted.nat_gateways.get(&gateway.id).filter(|wanted| wanted.is_available());
        wanted.is_some_and(|other| parts(gateway) == parts(other))
            && addresses(&self.world) == addresses(self.wanted)
            && self.interface_stays(gateway.network_interface)
            && self.addresses_stay(&gateway.connectivity)
    }

    fn addresses_stay(&self, connectivity: &Connectivity) -> bool {
        match connectivity {
            Connectivity::Private => true,
            Connectivity::Public(allocations) => allocations.iter().all(|id| self.address_stays(*id)),
        }
    }

    fn address_stays(&self, id: AllocationId) -> bool {
        both(&self.world.addresses, &self.wanted.addresses, id).is_some_and(|(a, b)| a.public_ip == b.public_ip)
    }

    fn internet_gateway_stays(&self, id: InternetGatewayId) -> bool {
        let same = |(a, b): (&InternetGateway, &InternetGateway)| a.vpc == b.vpc && self.vpc_stays(a.vpc);
        both(&self.world.internet_gateways, &self.wanted.internet_gateways, id).is_some_and(same)
    }

    fn vpn_gateway_stays(&self, id: VpnGatewayId) -> bool {
        let same = |(a, b): (&VpnGateway, &VpnGateway)| a.vpc == b.vpc && self.vpc_stays(a.vpc);
        both(&self.world.vpn_gateways, &self.wanted.vpn_gateways, id).is_some_and(same)
    }

    /// Old blocks go before new ones come, and its router is always in one.
    fn vpn_connection_stays(&self, id: VpnConnectionId) -> bool {
        let parts = |connection: &VpnConnection| (connection.vpn_gateway, connection.router);
        let same = |(a, b): (&VpnConnection, &VpnConnection)| {
            parts(a) == parts(b) && self.vpn_gateway_stays(a.vpn_gateway) && self.block_stays(id, a.router)
        };
        both(&self.world.vpn_connections, &self.wanted.vpn_connections, id).is_some_and(same)
    }

    /// Is the address in a block that the site keeps?
    fn block_stays(&self, id: VpnConnectionId, address: Ipv4Addr) -> bool {
        let kept = |(a, b): (&VpnConnection, &VpnConnection)| {
            a.static_routes.iter().any(|block| block.contains(&address) && b.static_routes.contains(block))
        };
        both(&self.world.vpn_connections, &self.wanted.vpn_connections, id).is_some_and(kept)
    }

    fn host_stays(&self, id: HostId) -> bool {
        let parts = |host: &Host| (host.name.clone(), host.site, host.address, host.mac, host.serve.clone());
        let site_stays =
            |a: &Host| a.site.is_none_or(|site| self.vpn_connection_stays(site) && self.block_stays(site, a.address));
        let same = |(a, b)| parts(a) == parts(b) && site_stays(a);
        both(&self.world.hosts, &self.wanted.hosts, id).is_some_and(same)
    }

    /// What is associated otherwise is free first, so that addresses can change places; a NAT gateway's are its own.
    fn take_away_addresses(&mut self) -> Result<(), Refusal> {
        let (world, wanted) = (&self.world, self.wanted);
        let goes = |address: &&Address| {
            let other = wanted.addresses.get(&address.id).and_then(|other| other.association);
            let changes = address.association.filter(|held| other != Some(*held));
            let eni = changes.and_then(|held| world.network_interfaces.get(&held.network_interface));
            eni.is_some_and(|eni| !matches!(eni.attachment, Some(Attachment::NatGateway(_))))
        };
        let mut ops: Vec<_> = world.addresses().filter(goes).map(|a| Op::DisassociateAddress(a.id)).collect();
        ops.extend(world.hosts().filter(|host| !self.host_stays(host.id)).map(|host| Op::DeleteHost(host.id)));
        self.push_all(ops)
    }

    fn associate_addresses(&mut self) -> Result<(), Refusal> {
        let mut ops = Vec::new();
        for wanted in self.wanted.addresses() {
            let Some(Association { network_interface, private_ip }) = wanted.association else { continue };
            if self.world.address(wanted.id)?.association.is_none() {
                let (allocation, private_ip) = (wanted.id, Some(private_ip));
                let allow_reassociation = false;
                ops.push(Op::AssociateAddress { allocation, network_interface, private_ip, allow_reassociation });
            }
        }
        self.push_all(ops)
    }

    /// Also what a gateway keeps in the end: meanwhile its table may hold routes that it may not have.
    fn disassociate_gateways(&mut self) -> Result<(), Refusal> {
        let changes = |association: &(GatewayId, RouteTableId)| {
            let routes =
                |world: &World| world.route_table(association.1).map(|table| table.routes.clone()).unwrap_or_default();
            let meaning = |routes: Vec<Route>| routes.iter().map(|r| (r.destination, r.target)).collect::<Vec<_>>();
            let stays = self.wanted.edge_associations().any(|wanted| wanted == *association);
            !stays || meaning(routes(&self.world)) != meaning(routes(self.wanted))
        };
        let gone = self.world.edge_associations().filter(changes);
        self.push_all(gone.map(|(gateway, _)| Op::DisassociateGatewayRouteTable(gateway)).collect())
    }

    fn associate_gateways(&mut self) -> Result<(), Refusal> {
        let new = self.wanted.edge_associations().filter(|new| !self.world.edge_associations().any(|has| has == *new));
        let mut ops: Vec<_> =
            new.map(|(gateway, route_table)| Op::AssociateGatewayRouteTable { route_table, gateway }).collect();
        for wanted in self.wanted.internet_gateways() {
            let (has, gateway) = (self.world.internet_gateway(wanted.id)?, wanted.id);
            if has.passes_asymmetric_return != wanted.passes_asymmetric_return {
                ops.push(Op::ModifyAsymmetricReturn { gateway, passes: wanted.passes_asymmetric_return });
            }
        }
        self.push_all(ops)
    }

    fn delete_what_lies_in_subnets(&mut self) -> Result<(), Refusal> {
        let gone = self.world.instances().filter(|i| !i.is_terminated() && !self.instance_stays(i));
        let mut ops: Vec<_> = gone.map(|instance| Op::TerminateInstance(instance.id)).collect();
        let gone = self.world.nat_gateways().filter(|nat| nat.is_available() && !self.nat_gateway_stays(nat));
        ops.extend(gone.map(|nat| Op::DeleteNatGateway(nat.id)));
        self.push_all(ops)?;
        let secondary = self.world.network_interfaces().filter(|eni| eni.device_index().is_some_and(|index| index > 0));
        let moves = secondary.filter(|eni| !self.interface_stays(eni.id) || self.place_at_instance(eni.id) != at(eni));
        self.push_all(moves.map(|eni| Op::DetachNetworkInterface(eni.id)).collect())?;
        let free = self.world.network_interfaces().filter(|eni| eni.instance().is_none());
        let becomes_primary =
            |eni: &NetworkInterface| self.place_at_instance(eni.id).is_some_and(|(_, index)| index == 0);
        let gone = free.filter(|eni| !self.interface_stays(eni.id) || becomes_primary(eni));
        let gone = gone.filter(|eni| !matches!(eni.attachment, Some(Attachment::NatGateway(_))));
        self.push_all(gone.map(|eni| Op::DeleteNetworkInterface(eni.id)).collect())?;
        let mut ops = Vec::new();
        for eni in self.world.network_interfaces() {
            let Ok(wanted) = self.wanted.network_interface(eni.id) else { continue };
            let gone = |address: &&Ipv4Addr| !wanted.secondary_private_ips.contains(address);
            let addresses: Vec<_> = eni.secondary_private_ips.iter().filter(gone).copied().collect();
            if !addresses.is_empty() {
                ops.push(Op::UnassignPrivateIpAddresses { network_interface: eni.id, addresses });
            }
        }
        self.push_all(ops)
    }

    /// Where an interface is to be attached.
    fn place_at_instance(&self, id: NetworkInterfaceId) -> Option<(InstanceId, u8)> {
        self.wanted.network_interfaces.get(&id).and_then(at)
    }

    /// Routes, rules and entries that aren't wanted any more. A group that goes loses its references to others, which
    /// would keep those alive.
    fn take_away_rules(&mut self) -> Result<(), Refusal> {
        let mut ops = Vec::new();
        for table in self.world.route_tables().filter(|table| self.vpc_stays(table.vpc)) {
            let Ok(wanted) = self.wanted.route_table(table.id) else { continue };
            for route in table.routes.iter().filter(|route| route.route_origin == RouteOrigin::CreateRoute) {
                let key = (table.id, route.destination);
                let stays = wanted.routes.iter().any(|other| other.destination == route.destination);
                if !stays && !self.kept.contains_key(&key) {
                    ops.push(Op::DeleteRoute { route_table: table.id, destination: route.destination });
                }
            }
        }
        for table in self.world.route_tables() {
            let wanted = self.wanted.route_table(table.id).ok().filter(|_| self.vpc_stays(table.vpc));
            let gone =
                table.propagating_vgws.iter().filter(|vgw| !wanted.is_some_and(|w| w.propagating_vgws.contains(vgw)));
            let route_table = table.id;
            ops.extend(gone.map(|vgw| Op::DisableVgwRoutePropagation { route_table, gateway: *vgw }));
        }
        for group in self.world.security_groups() {
            let wanted = self.wanted.security_groups.get(&group.id).filter(|_| self.vpc_stays(group.vpc));
            for (egress, rules) in [(false, &group.ingress), (true, &group.egress)] {
                let goes = |rule: &&SecurityGroupRule| match wanted {
                    Some(wanted) => !has_rule(if egress { &wanted.egress } else { &wanted.ingress }, rule),
                    None => matches!(rule.peer, Peer::SecurityGroup(_)),
                };
                ops.extend(rules.iter().filter(goes).map(|rule| revoke(group.id, egress, rule)));
            }
        }
        for acl in self.world.network_acls().filter(|acl| self.vpc_stays(acl.vpc)) {
            let Ok(wanted) = self.wanted.network_acl(acl.id) else { continue };
            for (egress, entries, wanted) in
                [(false, &acl.ingress, &wanted.ingress), (true, &acl.egress, &wanted.egress)]
            {
                let gone = entries.keys().filter(|number| !wanted.contains_key(number));
                let network_acl = acl.id;
                ops.extend(gone.map(|n| Op::DeleteNetworkAclEntry { network_acl, egress, rule_number: *n }));
            }
        }
        self.push_all(ops)
    }

    /// Subnets, VPCs with all that is in them, gateways on their edge, Elastic IP addresses.
    fn delete_homes(&mut self) -> Result<(), Refusal> {
        let (world, mut ops) = (&self.world, Vec::new());
        ops.extend(world.subnets().filter(|s| !self.subnet_stays(s.id)).map(|s| Op::DeleteSubnet(s.id)));
        let igws = world.internet_gateways().filter(|igw| !self.internet_gateway_stays(igw.id));
        ops.extend(igws.map(|igw| Op::DetachInternetGateway(igw.id)));
        for connection in world.vpn_connections() {
            if !self.vpn_connection_stays(connection.id) {
                ops.push(Op::DeleteVpnConnection(connection.id));
            } else if let Ok(wanted) = self.wanted.vpn_connection(connection.id) {
                let gone = connection.static_routes.iter().filter(|route| !wanted.static_routes.contains(route));
                let connection = connection.id;
                ops.extend(gone.map(|route| Op::DeleteVpnConnectionRoute { connection, destination: *route }));
            }
        }
        let vgws = world.vpn_gateways().filter(|vgw| !self.vpn_gateway_stays(vgw.id));
        ops.extend(vgws.map(|vgw| Op::DetachVpnGateway(vgw.id)));
        ops.extend(world.addresses().filter(|a| !self.address_stays(a.id)).map(|a| Op::ReleaseAddress(a.id)));
        for vpc in world.vpcs().filter(|vpc| !self.vpc_stays(vpc.id)) {
            let groups = world.security_groups().filter(|g| g.vpc == vpc.id && g.id != vpc.default_security_group);
            ops.extend(groups.map(|group| Op::DeleteSecurityGroup(group.id)));
            let tables = world.route_tables().filter(|t| t.vpc == vpc.id && t.id != vpc.main_route_table);
            ops.extend(tables.map(|table| Op::DeleteRouteTable(table.id)));
            let acls = world.network_acls().filter(|a| a.vpc == vpc.id && a.id != vpc.default_network_acl);
            ops.extend(acls.map(|acl| Op::DeleteNetworkAcl(acl.id)));
            ops.push(Op::DeleteVpc(vpc.id));
        }
        self.push_all(ops)
    }

    fn create_homes(&mut self) -> Result<(), Refusal> {
        let wanted = self.wanted;
        for vpc in wanted.vpcs().filter(|vpc| !self.world.vpcs.contains_key(&vpc.id)).collect::<Vec<_>>() {
            // The main table that AWS makes may not be the one that the VPC has in the end: it is the one that the
            // wanted world made with it.
            let made = wanted.route_tables().find(|table| table.vpc == vpc.id && table.tags == Tags::default());
            self.push(Op::CreateVpc(CreateVpc {
                id: vpc.id,
                cidr: vpc.cidr,
                region: vpc.region.clone(),
                main_route_table: made.map_or(vpc.main_route_table, |table| table.id),
                default_network_acl: vpc.default_network_acl,
                default_security_group: vpc.default_security_group,
                tags: vpc.tags.clone(),
                origin: vpc.origin,
            }))?;
        }
        let (world, mut ops) = (&self.world, Vec::new());
        let igws = wanted.internet_gateways().filter(|igw| !world.internet_gateways.contains_key(&igw.id));
        // Its table comes when its routes are there.
        ops.extend(igws.map(|igw| Op::AttachInternetGateway(InternetGateway { route_table: None, ..igw.clone() })));
        let vgws = wanted.vpn_gateways().filter(|vgw| !world.vpn_gateways.contains_key(&vgw.id));
        ops.extend(vgws.map(|vgw| Op::AttachVpnGateway(VpnGateway { route_table: None, ..vgw.clone() })));
        for connection in wanted.vpn_connections() {
            let Ok(has) = world.vpn_connection(connection.id) else {
                ops.push(Op::CreateVpnConnection(connection.clone()));
                continue;
            };
            let new = connection.static_routes.iter().filter(|route| !has.static_routes.contains(route));
            let connection = connection.id;
            ops.extend(new.map(|route| Op::CreateVpnConnectionRoute { connection, destination: *route }));
        }
        for Subnet { id, vpc, cidr, availability_zone, tags, origin, .. } in wanted.subnets().cloned() {
            if !world.subnets.contains_key(&id) {
                ops.push(Op::CreateSubnet(CreateSubnet { id, vpc, cidr, availability_zone, tags, origin }));
            }
        }
        for RouteTable { id, vpc, tags, origin, .. } in wanted.route_tables().cloned() {
            if !world.route_tables.contains_key(&id) {
                ops.push(Op::CreateRouteTable { id, vpc, tags, origin });
            }
        }
        for SecurityGroup { id, vpc, name, description, tags, origin, .. } in wanted.security_groups().cloned() {
            if !world.security_groups.contains_key(&id) {
                ops.push(Op::CreateSecurityGroup { id, vpc, name, description, tags, origin });
            }
        }
        for NetworkAcl { id, vpc, tags, origin, .. } in wanted.network_acls().cloned() {
            if !world.network_acls.contains_key(&id) {
                ops.push(Op::CreateNetworkAcl { id, vpc, tags, origin });
            }
        }
        for Address { id, public_ip, tags, origin, .. } in wanted.addresses().cloned() {
            if !world.addresses.contains_key(&id) {
                ops.push(Op::AllocateAddress { id, public_ip, tags, origin });
            }
        }
        for Host { id, name, site, address, mac, serve, origin, .. } in wanted.hosts().cloned() {
            if !world.hosts.contains_key(&id) {
                ops.push(Op::CreateHost(CreateHost { id, name, site, address, mac, serve, origin }));
            }
        }
        self.push_all(ops)
    }

    fn associate(&mut self) -> Result<(), Refusal> {
        let mut ops = Vec::new();
        for vpc in self.wanted.vpcs() {
            if self.world.vpc(vpc.id)?.main_route_table != vpc.main_route_table {
                ops.push(Op::ReplaceMainRouteTable { vpc: vpc.id, route_table: vpc.main_route_table });
            }
        }
        for wanted in self.wanted.route_tables() {
            let has = &self.world.route_table(wanted.id)?.propagating_vgws;
            let new = wanted.propagating_vgws.iter().filter(|vgw| !has.contains(vgw));
            let route_table = wanted.id;
            ops.extend(new.map(|vgw| Op::EnableVgwRoutePropagation { route_table, gateway: *vgw }));
        }
        for wanted in self.wanted.subnets() {
            let (has, subnet) = (self.world.subnet(wanted.id)?, wanted.id);
            match (has.route_table, wanted.route_table) {
                (a, b) if a == b => {}
                (None, Some(route_table)) => ops.push(Op::AssociateRouteTable { route_table, subnet }),
                (Some(_), Some(route_table)) => ops.push(Op::ReplaceRouteTableAssociation { route_table, subnet }),
                (_, None) => ops.push(Op::DisassociateRouteTable(subnet)),
            }
            if has.network_acl != wanted.network_acl {
                ops.push(Op::ReplaceNetworkAclAssociation { network_acl: wanted.network_acl, subnet });
            }
        }
        self.push_all(ops)
    }

    fn add_rules(&mut self) -> Result<(), Refusal> {
        let mut ops = Vec::new();
        for wanted in self.wanted.security_groups() {
            let has = self.world.security_group(wanted.id)?;
            for (egress, has, wanted_rules) in
                [(false, &has.ingress, &wanted.ingress), (true, &has.egress, &wanted.egress)]
            {
                // The rule that AWS gives a new group.
                let unwanted = has.iter().filter(|rule| !has_rule(wanted_rules, rule));
                ops.extend(unwanted.map(|rule| revoke(wanted.id, egress, rule)));
                let new = wanted_rules.iter().filter(|rule| !has_rule(has, rule));
                ops.extend(new.map(|rule| authorize(wanted.id, egress, rule.clone())));
            }
        }
        for wanted in self.wanted.network_acls() {
            let has = self.world.network_acl(wanted.id)?;
            for (egress, has, wanted_entries) in
                [(false, &has.ingress, &wanted.ingress), (true, &has.egress, &wanted.egress)]
            {
                for (&rule_number, entry) in wanted_entries {
                    let (network_acl, entry) = (wanted.id, entry.clone());
                    let meaning = |e: &NetworkAclEntry| (e.action, e.traffic, e.cidr);
                    match has.get(&rule_number) {
                        None => ops.push(Op::CreateNetworkAclEntry { network_acl, egress, rule_number, entry }),
                        Some(other) if meaning(other) != meaning(&entry) => {
                            ops.push(Op::ReplaceNetworkAclEntry { network_acl, egress, rule_number, entry });
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        self.push_all(ops)
    }

    fn create_what_lies_in_subnets(&mut self) -> Result<(), Refusal> {
        let mut ops = Vec::new();
        for nat in self.wanted.nat_gateways().filter(|nat| nat.is_available()) {
            if !self.world.nat_gateways.get(&nat.id).is_some_and(NatGateway::is_available) {
                ops.push(Op::CreateNatGateway(self.create_nat_gateway(nat)?));
            }
        }
        for instance in self.wanted.instances().filter(|instance| !instance.is_terminated()) {
            match self.world.instances.get(&instance.id).filter(|instance| !instance.is_terminated()) {
                None => ops.push(Op::RunInstance(self.run_instance(instance)?)),
                Some(has) => {
                    if has.associate_public_ip != instance.associate_public_ip {
                        let (instance, associate) = (instance.id, instance.associate_public_ip);
                        ops.push(Op::ModifyAssociatePublicIp { instance, associate });
                    }
                }
            }
        }
        self.push_all(ops)?;
        let mut ops = Vec::new();
        for wanted in self.wanted.network_interfaces() {
            let network_interface = wanted.id;
            let has = self.world.network_interfaces.get(&network_interface);
            match has {
                Some(has) if !has.is_requester_managed() => modify_interface(has, wanted, &mut ops),
                Some(_) => {}
                None => ops.push(Op::CreateNetworkInterface {
                    interface: new_interface(wanted),
                    load_balancer: match wanted.attachment {
                        Some(Attachment::LoadBalancer(kind)) => Some(kind),
                        _ => None,
                    },
                }),
            }
            if let Some((instance, device_index)) = at(wanted).filter(|place| has.and_then(at) != Some(*place)) {
                ops.push(Op::AttachNetworkInterface { network_interface, instance, device_index });
            }
        }
        self.push_all(ops)
    }

    fn create_nat_gateway(&self, nat: &NatGateway) -> Result<CreateNatGateway, Refusal> {
        let eni = self.wanted.network_interface(nat.network_interface)?;
        Ok(CreateNatGateway {
            id: nat.id,
            subnet: nat.subnet,
            connectivity: nat.connectivity.clone(),
            private_ip: Some(eni.private_ip),
            secondary_private_ips: eni.secondary_private_ips.clone(),
            network_interface: eni.id,
            mac: eni.mac,
            create_time: nat.create_time.clone(),
            tags: nat.tags.clone(),
            origin: nat.origin,
        })
    }

    /// With the interfaces that are made along with it.
    fn run_instance(&self, instance: &Instance) -> Result<RunInstance, Refusal> {
        let mut interfaces = BTreeMap::new();
        for id in &instance.network_interfaces {
            let eni = self.wanted.network_interface(*id)?;
            if let Some(Attachment::Instance { device_index, delete_on_termination: true, .. }) = eni.attachment
                && !self.world.network_interfaces.contains_key(id)
            {
                interfaces.insert(device_index, new_interface(eni));
            }
        }
        let Instance { id, associate_public_ip, image, tags, origin, .. } = instance.clone();
        Ok(RunInstance { id, interfaces, associate_public_ip, image, tags, origin })
    }

    fn add_routes(&mut self) -> Result<(), Refusal> {
        let mut ops = Vec::new();
        for table in self.wanted.route_tables() {
            let has = &self.world.route_table(table.id)?.routes;
            for &Route { destination, target, origin, .. } in &table.routes {
                let route_table = table.id;
                match has.iter().find(|route| route.destination == destination) {
                    None => ops.push(Op::CreateRoute { route_table, destination, target, origin }),
                    Some(other) if other.target != target => {
                        ops.push(Op::ReplaceRoute { route_table, destination, target, origin });
                    }
                    Some(_) => {}
                }
            }
        }
        self.push_all(ops)
    }

    fn delete_what_nobody_uses(&mut self) -> Result<(), Refusal> {
        let (world, wanted, mut ops) = (&self.world, self.wanted, Vec::new());
        let gone = world.route_tables().filter(|table| !wanted.route_tables.contains_key(&table.id));
        ops.extend(gone.map(|table| Op::DeleteRouteTable(table.id)));
        let gone = world.network_acls().filter(|acl| !wanted.network_acls.contains_key(&acl.id));
        ops.extend(gone.map(|acl| Op::DeleteNetworkAcl(acl.id)));
        let gone = world.security_groups().filter(|group| !wanted.security_groups.contains_key(&group.id));
        ops.extend(gone.map(|group| Op::DeleteSecurityGroup(group.id)));
        self.push_all(ops)
    }

    /// What no packet can tell is taken from the wanted world as it is: names, tags, descriptions, where things are
    /// written, and the order of rules.
    fn label(&mut self) {
        macro_rules! label {
            ($($all:ident: $($field:ident),+;)*) => {$(
                for (id, wanted) in &self.wanted.$all {
                    let Some(has) = self.world.$all.get_mut(id) else { continue };
                    $(has.$field.clone_from(&wanted.$field);)+
                }
            )*};
        }
        label! {
            vpcs: tags, origin;
            subnets: tags, origin;
            route_tables: propagating_vgws, tags, origin;
            security_groups: name, description, ingress, egress, tags, origin;
            network_acls: ingress, egress, tags, origin;
            internet_gateways: tags, origin;
            vpn_gateways: tags, origin;
            vpn_connections: static_routes, tags, origin;
            addresses: tags, origin;
            network_interfaces: secondary_private_ips, tags, origin;
            nat_gateways: tags, origin;
            instances: tags, origin;
            hosts: origin;
        }
        for (id, eni) in &mut self.world.network_interfaces {
            // Where it is attached is the same now; whether it goes with its instance, no operation says.
            eni.attachment = self.wanted.network_interfaces.get(id).map_or(eni.attachment, |wanted| wanted.attachment);
        }
        for (id, table) in &mut self.world.route_tables {
            let Some(wanted) = self.wanted.route_tables.get(id) else { continue };
            let place = |route: &Route| wanted.routes.iter().position(|other| other.destination == route.destination);
            table.routes.sort_by_key(|route| place(route).unwrap_or(usize::MAX));
            for route in &mut table.routes {
                let written = place(route).map(|at| wanted.routes[at].origin);
                let kept = || self.kept.get(&(*id, route.destination)).copied();
                if let Some(origin) = written.or_else(kept) {
                    route.origin = origin;
                }
            }
        }
    }
}

/// Where an interface is attached.
fn at(eni: &NetworkInterface) -> Option<(InstanceId, u8)> {
    eni.instance().zip(eni.device_index())
}

fn new_interface(eni: &NetworkInterface) -> NewInterface {
    NewInterface {
        id: eni.id,
        subnet: eni.subnet,
        private_ip: Some(eni.private_ip),
        secondary_private_ips: eni.secondary_private_ips.clone(),
        mac: eni.mac,
        groups: eni.groups.clone(),
        source_dest_check: eni.source_dest_check,
        tags: eni.tags.clone(),
        origin: eni.origin,
    }
}

fn modify_interface(has: &NetworkInterface, wanted: &NetworkInterface, ops: &mut Vec<Op>) {
    let network_interface = has.id;
    if has.groups != wanted.groups {
        ops.push(Op::ModifyNetworkInterfaceGroups { network_interface, groups: wanted.groups.clone() });
    }
    if has.source_dest_check != wanted.source_dest_check {
        let source_dest_check = wanted.source_dest_check;
        ops.push(Op::ModifySourceDestCheck { network_interface, source_dest_check });
    }
    let new = wanted.secondary_private_ips.iter().filter(|a| !has.secondary_private_ips.contains(a));
    let addresses: Vec<_> = new.copied().collect();
    if !addresses.is_empty() {
        ops.push(Op::AssignPrivateIpAddresses { network_interface, addresses, allow_reassignment: false });
    }
}

/// What both worlds have under an id.
fn both<'a, Id: Ord, T>(a: &'a BTreeMap<Id, T>, b: &'a BTreeMap<Id, T>, id: Id) -> Option<(&'a T, &'a T)> {
    Some((a.get(&id)?, b.get(&id)?))
}

fn has_rule(rules: &[SecurityGroupRule], rule: &SecurityGroupRule) -> bool {
    rules.iter().any(|other| (other.traffic, other.peer) == (rule.traffic, rule.peer))
}

fn revoke(group: SecurityGroupId, egress: bool, rule: &SecurityGroupRule) -> Op {
    let (traffic, peer) = (rule.traffic, rule.peer);
    match egress {
        true => Op::RevokeSecurityGroupEgress { group, traffic, peer },
        false => Op::RevokeSecurityGroupIngress { group, traffic, peer },
    }
}

fn authorize(group: SecurityGroupId, egress: bool, rule: SecurityGroupRule) -> Op {
    match egress {
        true => Op::AuthorizeSecurityGroupEgress { group, rule },
        false => Op::AuthorizeSecurityGroupIngress { group, rule },
    }
}
