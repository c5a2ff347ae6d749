//! What goes: before anything new comes, so that addresses and names are free, and in the end what nobody uses any more.

use std::net::Ipv4Addr;

use super::stays::at;
use super::{Planner, has_rule, revoke};
use crate::id::*;
use crate::op::{Op, RecordChange};
use crate::refusal::Refusal;
use crate::resource::*;
use crate::world::World;

impl Planner<'_> {
    /// What is associated otherwise is free first, so that addresses can change places; a NAT gateway's are its own.
    pub(super) fn take_away_addresses(&mut self) -> Result<(), Refusal> {
        let (world, wanted) = (&self.world, self.wanted);
        let goes = |address: &&Address| {
            let other = wanted.addresses.get(&address.id).and_then(|other| other.association);
            let changes = address.association.filter(|held| other != Some(*held) || !self.address_stays(address.id));
            let eni = changes.and_then(|held| world.network_interfaces.get(&held.network_interface));
            eni.is_some_and(|eni| !matches!(eni.attachment, Some(Attachment::NatGateway(_))))
        };
        let mut ops: Vec<_> = world.addresses().filter(goes).map(|a| Op::DisassociateAddress(a.id)).collect();
        ops.extend(world.hosts().filter(|host| !self.host_stays(host.id)).map(|host| Op::DeleteHost(host.id)));
        self.push_all(ops)
    }

    /// Also what a gateway keeps in the end: meanwhile its table may hold routes that it may not have.
    pub(super) fn disassociate_gateways(&mut self) -> Result<(), Refusal> {
        let changes = |association: &(GatewayId, RouteTableId)| {
            let routes =
                |world: &World| world.route_table(association.1).map(|table| table.routes.clone()).unwrap_or_default();
            let meaning = |mut routes: Vec<Route>| {
                routes.retain(|route| !self.kept.contains_key(&(association.1, route.destination)));
                routes.sort_by_key(|route| route.destination);
                routes.iter().map(|route| (route.destination, route.target)).collect::<Vec<_>>()
            };
            let stays = self.wanted.edge_associations().any(|wanted| wanted == *association);
            !stays || meaning(routes(&self.world)) != meaning(routes(self.wanted))
        };
        let gone = self.world.edge_associations().filter(changes);
        self.push_all(gone.map(|(gateway, _)| Op::DisassociateGatewayRouteTable(gateway)).collect())
    }

    pub(super) fn delete_what_lies_in_subnets(&mut self) -> Result<(), Refusal> {
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

    /// Routes, rules and entries that aren't wanted any more. A group that goes loses its references to others, which
    /// would keep those alive.
    pub(super) fn take_away_rules(&mut self) -> Result<(), Refusal> {
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

    /// Record sets, zones, and who knows them; sets of DHCP options.
    pub(super) fn take_away_names(&mut self) -> Result<(), Refusal> {
        let (world, mut ops) = (&self.world, Vec::new());
        for zone in world.hosted_zones() {
            let wanted = self.wanted.hosted_zones.get(&zone.id).filter(|_| self.hosted_zone_stays(zone.id));
            let stays = |name, kind| wanted.is_some_and(|zone| zone.record_set(name, kind).is_some());
            let gone = zone.all_record_sets().filter(|(name, kind, _)| !kind.is_required() && !stays(name, *kind));
            for (name, kind, _) in gone {
                let (name, change) = (name.to_owned(), RecordChange::Delete);
                ops.push(Op::ChangeResourceRecordSets { zone: zone.id, name, kind, change });
            }
            if wanted.is_none() {
                ops.push(Op::DeleteHostedZone(zone.id));
            }
        }
        // A zone that loses all that it has keeps one until others come.
        ops.extend(self.disassociations(|zone| self.keeps_a_vpc(zone)));
        // Sets don't change: another one takes the place of one that says something else now.
        let changes = |id| self.wanted.dhcp_options.contains_key(&id) && !self.dhcp_options_stay(id);
        for vpc in world.vpcs().filter(|vpc| vpc.dhcp_options.is_some_and(changes)) {
            ops.push(Op::AssociateDhcpOptions { vpc: vpc.id, set: None });
        }
        let changed = world.dhcp_options().filter(|set| changes(set.id));
        ops.extend(changed.map(|set| Op::DeleteDhcpOptions(set.id)));
        self.push_all(ops)
    }

    /// From whom zones go that stay, of which `which` are asked about.
    pub(super) fn disassociations(&self, which: impl Fn(&HostedZone) -> bool) -> Vec<Op> {
        let stay = self.world.hosted_zones().filter(|zone| self.hosted_zone_stays(zone.id) && which(zone));
        let gone = stay.flat_map(|zone| {
            let wanted = self.wanted.hosted_zones.get(&zone.id).map(|wanted| &wanted.vpcs);
            let gone = zone.vpcs.iter().filter(move |vpc| !wanted.is_some_and(|wanted| wanted.contains(vpc)));
            gone.map(|vpc| Op::DisassociateVpcFromHostedZone { zone: zone.id, vpc: *vpc })
        });
        gone.collect()
    }

    /// Subnets, VPCs with all that is in them, gateways on their edge, Elastic IP addresses.
    pub(super) fn delete_homes(&mut self) -> Result<(), Refusal> {
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

    pub(super) fn delete_what_nobody_uses(&mut self) -> Result<(), Refusal> {
        let (world, wanted, mut ops) = (&self.world, self.wanted, Vec::new());
        let gone = world.route_tables().filter(|table| !wanted.route_tables.contains_key(&table.id));
        ops.extend(gone.map(|table| Op::DeleteRouteTable(table.id)));
        let gone = world.network_acls().filter(|acl| !wanted.network_acls.contains_key(&acl.id));
        ops.extend(gone.map(|acl| Op::DeleteNetworkAcl(acl.id)));
        let gone = world.security_groups().filter(|group| !wanted.security_groups.contains_key(&group.id));
        ops.extend(gone.map(|group| Op::DeleteSecurityGroup(group.id)));
        let gone = world.dhcp_options().filter(|set| !wanted.dhcp_options.contains_key(&set.id));
        ops.extend(gone.map(|set| Op::DeleteDhcpOptions(set.id)));
        self.push_all(ops)
    }
}
