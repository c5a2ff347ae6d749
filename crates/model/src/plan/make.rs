//! What comes, and what is another now.

use std::collections::{BTreeMap, BTreeSet};

use super::stays::at;
use super::{Planner, has_rule, revoke};
use crate::id::*;
use crate::op::{
    CreateHost, CreateHostedZone, CreateNatGateway, CreateSubnet, CreateVpc, NewInterface, Op, RecordChange,
    RunInstance,
};
use crate::refusal::Refusal;
use crate::resource::*;

impl Planner<'_> {
    pub(super) fn create_homes(&mut self) -> Result<(), Refusal> {
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

    /// Zones with their record sets, and who knows them; sets of DHCP options.
    pub(super) fn add_names(&mut self) -> Result<(), Refusal> {
        let (world, wanted, mut ops) = (&self.world, self.wanted, Vec::new());
        let new = wanted.dhcp_options().filter(|set| !world.dhcp_options.contains_key(&set.id));
        ops.extend(new.map(|set| Op::CreateDhcpOptions(set.clone())));
        for vpc in wanted.vpcs() {
            let set = vpc.dhcp_options;
            if world.vpc(vpc.id)?.dhcp_options != set {
                ops.push(Op::AssociateDhcpOptions { vpc: vpc.id, set });
            }
        }
        for zone in wanted.hosted_zones() {
            let (has, mut known) = (world.hosted_zones.get(&zone.id), BTreeSet::new());
            match has {
                None => {
                    let HostedZone { id, name, vpcs, tags, origin, .. } = zone.clone();
                    let Some(vpc) = vpcs.first().copied() else { continue };
                    ops.push(Op::CreateHostedZone(CreateHostedZone { id, name, vpc, tags, origin }));
                    known.insert(vpc);
                }
                Some(has) => known.clone_from(&has.vpcs),
            }
            let new = zone.vpcs.difference(&known);
            ops.extend(new.map(|vpc| Op::AssociateVpcWithHostedZone { zone: zone.id, vpc: *vpc }));
            for (name, kind, set) in zone.all_record_sets().filter(|(_, kind, _)| !kind.is_required()) {
                let has = has.and_then(|zone| zone.record_set(name, kind));
                let meaning = |set: &ResourceRecordSet| (set.ttl, set.values.clone());
                if has.map(meaning) != Some(meaning(set)) {
                    let set = set.clone();
                    let change = if has.is_some() { RecordChange::Upsert(set) } else { RecordChange::Create(set) };
                    let name = name.to_owned();
                    ops.push(Op::ChangeResourceRecordSets { zone: zone.id, name, kind, change });
                }
            }
        }
        self.push_all(ops)?;
        self.push_all(self.disassociations(|_| true))
    }

    pub(super) fn associate(&mut self) -> Result<(), Refusal> {
        let mut ops = Vec::new();
        for vpc in self.wanted.vpcs() {
            if self.world.vpc(vpc.id)?.main_route_table != vpc.main_route_table {
                ops.push(Op::ReplaceMainRouteTable { vpc: vpc.id, route_table: vpc.main_route_table });
            }
            let has = self.world.vpc(vpc.id)?;
            for (attribute, has, value) in [
                (VpcAttribute::DnsSupport, has.dns_support, vpc.dns_support),
                (VpcAttribute::DnsHostnames, has.dns_hostnames, vpc.dns_hostnames),
            ] {
                if has != value {
                    ops.push(Op::ModifyVpcAttribute { vpc: vpc.id, attribute, value });
                }
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

    pub(super) fn add_rules(&mut self) -> Result<(), Refusal> {
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

    pub(super) fn create_what_lies_in_subnets(&mut self) -> Result<(), Refusal> {
        let mut ops = Vec::new();
        for nat in self.wanted.nat_gateways().filter(|nat| nat.is_available()) {
            if !self.world.nat_gateways.get(&nat.id).is_some_and(NatGateway::is_available) {
                ops.push(Op::CreateNatGateway(self.create_nat_gateway(nat)?));
            }
        }
        for instance in self.wanted.instances().filter(|instance| !instance.is_terminated()) {
            // Options are judged by them.
            if let Some(has) = self.world.instances.get_mut(&instance.id) {
                has.tags.clone_from(&instance.tags);
            }
            match self.world.instances.get(&instance.id).filter(|instance| !instance.is_terminated()) {
                None => ops.push(Op::RunInstance(self.run_instance(instance)?)),
                Some(has) => {
                    if has.associate_public_ip != instance.associate_public_ip {
                        let (instance, associate) = (instance.id, instance.associate_public_ip);
                        ops.push(Op::ModifyAssociatePublicIp { instance, associate });
                    }
                    if has.user_data != instance.user_data {
                        let (instance, user_data) = (instance.id, instance.user_data.clone());
                        ops.push(Op::ModifyUserData { instance, user_data });
                    }
                    if has.metadata_options != instance.metadata_options {
                        let (instance, options) = (instance.id, instance.metadata_options);
                        ops.push(Op::ModifyInstanceMetadataOptions { instance, options });
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
        let Instance { id, associate_public_ip, image, metadata_options, .. } = *instance;
        Ok(RunInstance {
            id,
            interfaces,
            associate_public_ip,
            image,
            metadata_options,
            user_data: instance.user_data.clone(),
            launch_time: instance.launch_time.clone(),
            tags: instance.tags.clone(),
            origin: instance.origin,
        })
    }

    pub(super) fn add_routes(&mut self) -> Result<(), Refusal> {
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

    pub(super) fn associate_addresses(&mut self) -> Result<(), Refusal> {
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

    pub(super) fn associate_gateways(&mut self) -> Result<(), Refusal> {
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

fn authorize(group: SecurityGroupId, egress: bool, rule: SecurityGroupRule) -> Op {
    match egress {
        true => Op::AuthorizeSecurityGroupEgress { group, rule },
        false => Op::AuthorizeSecurityGroupIngress { group, rule },
    }
}
