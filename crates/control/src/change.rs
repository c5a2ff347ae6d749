//! A change in words: the EC2 actions that it consists of, in the order in which they are done.

use minivpc_config::Lab;
use minivpc_model::*;

use crate::guest;
use crate::protocol::LabFile;
use crate::running::Current;
use crate::view::{Action, Plan, Resource};

/// What `ops` do to the lab that runs; `next` is the lab after them.
pub(crate) fn plan(ops: &[Op], current: &Current, next: &Lab, file: &LabFile) -> Plan {
    let (before, after) = (&current.lab.world, &next.world);
    let mut actions: Vec<_> = ops.iter().map(|op| Words { before, after }.action(op)).collect();
    actions.extend(routes_that_change_state(before, after));
    for (id, guest) in &next.guests {
        let stays = !ops.iter().any(|op| guest::made_by(op) == Some(*id));
        let runs = current.guests.contains_key(id);
        if stays && runs && current.lab.guests.get(id).is_some_and(|other| other != guest) {
            let what = "its `sysctls`, `run` or `guest_network` changed".to_owned();
            let words = Words { before, after };
            actions.push(match id {
                GuestId::Instance(id) => words.line("~", "RebootInstances", id, what),
                GuestId::Host(id) => words.line("~", "restart", id, what),
            });
        }
    }
    Plan { lab: next.name.clone(), file: file.path.display().to_string(), actions }
}

/// routes that lose their target, or have it back.
fn routes_that_change_state(before: &World, after: &World) -> Vec<Action> {
    let mut actions = Vec::new();
    for table in after.route_tables() {
        let had = before.route_table(table.id).map(|table| table.routes.as_slice()).unwrap_or_default();
        for route in &table.routes {
            let same = had.iter().find(|old| (old.destination, old.target) == (route.destination, route.target));
            let what = match (same.map(|old| before.route_state(old)), after.route_state(route)) {
                (Some(RouteState::Active), RouteState::Blackhole) => "becomes a blackhole",
                (Some(RouteState::Blackhole), RouteState::Active) => "is active again",
                _ => continue,
            };
            let what = format!("{} → {} {what}", route.destination, target(route.target));
            actions.push(Words { before, after }.line("!", "", &table.id, what));
        }
    }
    actions
}

fn target(target: RouteTarget) -> String {
    match target {
        RouteTarget::Local => "local".to_owned(),
        RouteTarget::InternetGateway(id) => id.to_string(),
        RouteTarget::VpnGateway(id) => id.to_string(),
        RouteTarget::NatGateway(id) => id.to_string(),
        RouteTarget::NetworkInterface(id) => id.to_string(),
    }
}

/// Names are looked up after the change, and what is gone then before it.
struct Words<'a> {
    before: &'a World,
    after: &'a World,
}

/// A resource by its kind and name.
trait Named: std::fmt::Display {
    const KIND: &'static str;
    fn name(&self, world: &World) -> Option<String>;
}

macro_rules! named {
    ($($id:ident, $kind:literal, $get:ident;)*) => {$(
        impl Named for $id {
            const KIND: &'static str = $kind;
            fn name(&self, world: &World) -> Option<String> {
                world.$get(*self).ok()?.tags.name().map(str::to_owned)
            }
        }
    )*};
}

named! {
    VpcId, "vpc", vpc;
    DhcpOptionsId, "dhcp-options", dhcp_options_set;
    HostedZoneId, "hosted-zone", hosted_zone;
    SubnetId, "subnet", subnet;
    InternetGatewayId, "internet-gateway", internet_gateway;
    VpnGatewayId, "vpn-gateway", vpn_gateway;
    VpnConnectionId, "customer-site", vpn_connection;
    RouteTableId, "route-table", route_table;
    NetworkAclId, "network-acl", network_acl;
    AllocationId, "elastic-ip", address;
    NatGatewayId, "nat-gateway", nat_gateway;
    InstanceId, "instance", instance;
}

impl Named for SecurityGroupId {
    const KIND: &'static str = "security-group";
    fn name(&self, world: &World) -> Option<String> {
        Some(world.security_group(*self).ok()?.name.clone())
    }
}

impl Named for HostId {
    const KIND: &'static str = "host";
    fn name(&self, world: &World) -> Option<String> {
        Some(world.host_name(world.host(*self).ok()?))
    }
}

impl Named for GatewayId {
    const KIND: &'static str = "gateway";
    fn name(&self, world: &World) -> Option<String> {
        match self {
            Self::Internet(id) => id.name(world),
            Self::Vpn(id) => id.name(world),
        }
    }
}

impl Named for NetworkInterfaceId {
    const KIND: &'static str = "network-interface";
    fn name(&self, world: &World) -> Option<String> {
        let eni = world.network_interface(*self).ok()?;
        match eni.attachment {
            Some(Attachment::NatGateway(id)) => id.name(world),
            _ => eni.tags.name().map(str::to_owned).or_else(|| world.name_at_instance(eni)),
        }
    }
}

impl Words<'_> {
    fn line<Id: Named>(&self, sign: &str, action: &str, id: &Id, what: String) -> Action {
        let name = id.name(self.after).or_else(|| id.name(self.before)).unwrap_or_default();
        let resource = Resource { kind: Id::KIND.to_owned(), id: id.to_string(), name };
        Action { sign: sign.to_owned(), action: action.to_owned(), resource, what }
    }

    fn peer(&self, peer: Peer) -> String {
        match peer {
            Peer::Cidr(cidr) => cidr.to_string(),
            Peer::SecurityGroup(id) => {
                let group = self.after.security_group(id).or_else(|_| self.before.security_group(id));
                group.map_or_else(|_| id.to_string(), |group| format!("{} {id}", group.name))
            }
        }
    }

    fn name(&self, id: &impl Named) -> String {
        id.name(self.after).or_else(|| id.name(self.before)).unwrap_or_else(|| id.to_string())
    }

    /// What of an instance that is made anew can't be changed in place.
    fn why_replaced(&self, id: InstanceId) -> String {
        let alive = |world: &World| world.instance(id).ok().filter(|instance| !instance.is_terminated()).cloned();
        let (Some(old), Some(new)) = (alive(self.before), alive(self.after)) else { return String::new() };
        let primary = |world: &World, instance: &Instance| {
            let eni = instance.network_interfaces.first().and_then(|id| world.network_interface(*id).ok());
            eni.map(|eni| (eni.id, eni.private_ip, eni.mac))
        };
        if old.image != new.image {
            "made anew: another image".to_owned()
        } else if old.user_data != new.user_data {
            "made anew: other user data".to_owned()
        } else if primary(self.before, &old) != primary(self.after, &new) {
            "made anew: another primary interface or address".to_owned()
        } else {
            "made anew with its subnet".to_owned()
        }
    }

    fn action(&self, op: &Op) -> Action {
        let none = String::new;
        match op {
            Op::CreateVpc(new) => self.line("+", "CreateVpc", &new.id, new.cidr.to_string()),
            Op::ModifyVpcAttribute { vpc, attribute, value } => {
                let attribute = match attribute {
                    VpcAttribute::DnsSupport => "enableDnsSupport",
                    VpcAttribute::DnsHostnames => "enableDnsHostnames",
                };
                self.line("~", "ModifyVpcAttribute", vpc, format!("{attribute}: {value}"))
            }
            Op::CreateDhcpOptions(new) => self.line("+", "CreateDhcpOptions", &new.id, none()),
            Op::DeleteDhcpOptions(id) => self.line("-", "DeleteDhcpOptions", id, none()),
            Op::AssociateDhcpOptions { vpc, set } => {
                let set = set.map_or_else(|| "the default one".to_owned(), |set| self.name(&set));
                let what = format!("{set}, for who asks again: a client of DHCP, or an instance that starts");
                self.line("~", "AssociateDhcpOptions", vpc, what)
            }
            Op::CreateHostedZone(new) => {
                self.line("+", "CreateHostedZone", &new.id, format!("{} for {}", new.name, self.name(&new.vpc)))
            }
            Op::DeleteHostedZone(id) => self.line("-", "DeleteHostedZone", id, none()),
            Op::AssociateVpcWithHostedZone { zone, vpc } => {
                self.line("~", "AssociateVPCWithHostedZone", zone, format!("for {}", self.name(vpc)))
            }
            Op::DisassociateVpcFromHostedZone { zone, vpc } => {
                self.line("~", "DisassociateVPCFromHostedZone", zone, format!("for {}", self.name(vpc)))
            }
            Op::ChangeResourceRecordSets { zone, name, kind, change } => {
                let kind = kind.as_str();
                let (sign, what) = match change {
                    RecordChange::Create(set) => ("+", format!("{name} {kind} {}", set.values.join(", "))),
                    RecordChange::Upsert(set) => ("~", format!("{name} {kind} {}", set.values.join(", "))),
                    RecordChange::Delete => ("-", format!("{name} {kind}")),
                };
                self.line(sign, "ChangeResourceRecordSets", zone, what)
            }
            Op::DeleteVpc(id) => self.line("-", "DeleteVpc", id, none()),
            Op::CreateSubnet(new) => {
                self.line("+", "CreateSubnet", &new.id, format!("{} {}", new.cidr, new.availability_zone))
            }
            Op::DeleteSubnet(id) => self.line("-", "DeleteSubnet", id, none()),
            Op::AttachInternetGateway(new) => self.line("+", "AttachInternetGateway", &new.id, none()),
            Op::DetachInternetGateway(id) => self.line("-", "DetachInternetGateway", id, none()),
            Op::AttachVpnGateway(new) => self.line("+", "AttachVpnGateway", &new.id, none()),
            Op::DetachVpnGateway(id) => self.line("-", "DetachVpnGateway", id, none()),
            Op::CreateVpnConnection(new) => {
                let blocks: Vec<_> = new.static_routes.iter().map(ToString::to_string).collect();
                self.line("+", "CreateVpnConnection", &new.id, blocks.join(", "))
            }
            Op::DeleteVpnConnection(id) => self.line("-", "DeleteVpnConnection", id, none()),
            Op::CreateVpnConnectionRoute { connection, destination } => {
                self.line("+", "CreateVpnConnectionRoute", connection, destination.to_string())
            }
            Op::DeleteVpnConnectionRoute { connection, destination } => {
                self.line("-", "DeleteVpnConnectionRoute", connection, destination.to_string())
            }
            Op::EnableVgwRoutePropagation { route_table, gateway } => {
                self.line("~", "EnableVgwRoutePropagation", route_table, format!("from {}", self.name(gateway)))
            }
            Op::DisableVgwRoutePropagation { route_table, gateway } => {
                self.line("~", "DisableVgwRoutePropagation", route_table, format!("from {}", self.name(gateway)))
            }
            Op::CreateRouteTable { id, .. } => self.line("+", "CreateRouteTable", id, none()),
            Op::DeleteRouteTable(id) => self.line("-", "DeleteRouteTable", id, none()),
            Op::CreateRoute { route_table, destination, target: to, .. } => {
                self.line("+", "CreateRoute", route_table, format!("{destination} → {}", target(*to)))
            }
            Op::ReplaceRoute { route_table, destination, target: to, .. } => {
                let table = self.before.route_table(*route_table).ok();
                let old = table.and_then(|table| table.routes.iter().find(|route| route.destination == *destination));
                let old = old.map_or_else(String::new, |old| format!(", before → {}", target(old.target)));
                self.line("~", "ReplaceRoute", route_table, format!("{destination} → {}{old}", target(*to)))
            }
            Op::DeleteRoute { route_table, destination } => {
                self.line("-", "DeleteRoute", route_table, destination.to_string())
            }
            Op::AssociateRouteTable { route_table, subnet } => {
                self.line("~", "AssociateRouteTable", route_table, format!("serves {}", self.name(subnet)))
            }
            Op::ReplaceRouteTableAssociation { route_table, subnet } => {
                self.line("~", "ReplaceRouteTableAssociation", route_table, format!("serves {}", self.name(subnet)))
            }
            Op::DisassociateRouteTable(subnet) => {
                self.line("~", "DisassociateRouteTable", subnet, "the main table serves it".to_owned())
            }
            Op::AssociateGatewayRouteTable { route_table, gateway } => {
                self.line("~", "AssociateRouteTable", route_table, format!("for what enters by {}", self.name(gateway)))
            }
            Op::DisassociateGatewayRouteTable(gateway) => {
                self.line("~", "DisassociateRouteTable", gateway, "what enters goes to its address".to_owned())
            }
            Op::ModifyAsymmetricReturn { gateway, passes } => {
                let what = format!("asymmetric return {}", if *passes { "passes" } else { "is refused" });
                self.line("~", "switch", gateway, what)
            }
            Op::ReplaceMainRouteTable { route_table, .. } => {
                self.line("~", "ReplaceRouteTableAssociation", route_table, "is the main table".to_owned())
            }
            Op::CreateSecurityGroup { id, .. } => self.line("+", "CreateSecurityGroup", id, none()),
            Op::DeleteSecurityGroup(id) => self.line("-", "DeleteSecurityGroup", id, none()),
            Op::AuthorizeSecurityGroupIngress { group, rule } => {
                let what = format!("{} from {}", rule.traffic, self.peer(rule.peer));
                self.line("+", "AuthorizeSecurityGroupIngress", group, what)
            }
            Op::AuthorizeSecurityGroupEgress { group, rule } => {
                let what = format!("{} to {}", rule.traffic, self.peer(rule.peer));
                self.line("+", "AuthorizeSecurityGroupEgress", group, what)
            }
            Op::RevokeSecurityGroupIngress { group, traffic, peer } => {
                let what = format!("{traffic} from {}", self.peer(*peer));
                self.line("-", "RevokeSecurityGroupIngress", group, what)
            }
            Op::RevokeSecurityGroupEgress { group, traffic, peer } => {
                let what = format!("{traffic} to {}", self.peer(*peer));
                self.line("-", "RevokeSecurityGroupEgress", group, what)
            }
            Op::CreateNetworkAcl { id, .. } => self.line("+", "CreateNetworkAcl", id, none()),
            Op::DeleteNetworkAcl(id) => self.line("-", "DeleteNetworkAcl", id, none()),
            Op::CreateNetworkAclEntry { network_acl, egress, rule_number, entry } => {
                self.line("+", "CreateNetworkAclEntry", network_acl, acl_entry(*egress, *rule_number, entry))
            }
            Op::ReplaceNetworkAclEntry { network_acl, egress, rule_number, entry } => {
                self.line("~", "ReplaceNetworkAclEntry", network_acl, acl_entry(*egress, *rule_number, entry))
            }
            Op::DeleteNetworkAclEntry { network_acl, egress, rule_number } => {
                let what = format!("{} #{rule_number}", direction(*egress));
                self.line("-", "DeleteNetworkAclEntry", network_acl, what)
            }
            Op::ReplaceNetworkAclAssociation { network_acl, subnet } => {
                self.line("~", "ReplaceNetworkAclAssociation", network_acl, format!("serves {}", self.name(subnet)))
            }
            Op::AllocateAddress { id, public_ip, .. } => self.line("+", "AllocateAddress", id, public_ip.to_string()),
            Op::AssociateAddress { allocation, network_interface, private_ip, .. } => {
                let address = private_ip.map_or_else(String::new, |address| format!(" {address}"));
                let what = format!("stands for {}{address}", self.name(network_interface));
                self.line("~", "AssociateAddress", allocation, what)
            }
            Op::DisassociateAddress(id) => self.line("~", "DisassociateAddress", id, none()),
            Op::CreateHost(new) => self.line("+", "host", &new.id, new.address.to_string()),
            Op::DeleteHost(id) => self.line("-", "host", id, none()),
            Op::ModifyAssociatePublicIp { instance, associate } => {
                let what = format!("public address {}", if *associate { "wanted" } else { "not wanted" });
                self.line("~", "ModifyNetworkInterfaceAttribute", instance, what)
            }
            Op::ModifyUserData { instance, .. } => {
                let what = "other user data, which are not run: its first start is over".to_owned();
                self.line("~", "ModifyInstanceAttribute", instance, what)
            }
            Op::ModifyInstanceMetadataOptions { instance, options } => {
                let word = |on: bool| if on { "enabled" } else { "disabled" };
                let what = format!(
                    "endpoint {}, tokens {}, hop limit {}, tags {}",
                    word(options.http_endpoint),
                    if options.http_tokens_required { "required" } else { "optional" },
                    options.http_put_response_hop_limit,
                    word(options.instance_metadata_tags)
                );
                self.line("~", "ModifyInstanceMetadataOptions", instance, what)
            }
            Op::ReleaseAddress(id) => self.line("-", "ReleaseAddress", id, none()),
            Op::CreateNatGateway(new) => {
                let address = new.private_ip.map(|address| address.to_string()).unwrap_or_default();
                self.line("+", "CreateNatGateway", &new.id, address)
            }
            Op::DeleteNatGateway(id) => self.line("-", "DeleteNatGateway", id, none()),
            Op::RunInstance(new) => {
                let addresses = new.interfaces.values().filter_map(|interface| interface.private_ip);
                let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
                self.line("+", "RunInstances", &new.id, addresses.join(", "))
            }
            Op::StopInstance(id) => self.line("~", "StopInstances", id, none()),
            Op::StartInstance { instance, .. } => self.line("~", "StartInstances", instance, none()),
            Op::TerminateInstance(id) => self.line("-", "TerminateInstances", id, self.why_replaced(*id)),
            Op::CreateNetworkInterface { interface, .. } => {
                let address = interface.private_ip.map(|address| address.to_string()).unwrap_or_default();
                self.line("+", "CreateNetworkInterface", &interface.id, address)
            }
            Op::DeleteNetworkInterface(id) => self.line("-", "DeleteNetworkInterface", id, none()),
            Op::AttachNetworkInterface { network_interface, instance, device_index } => {
                let what = format!("is {}/eth{device_index}", self.name(instance));
                self.line("~", "AttachNetworkInterface", network_interface, what)
            }
            Op::DetachNetworkInterface(id) => {
                let eni = self.before.network_interface(*id).ok();
                let place = eni.and_then(|eni| self.before.name_at_instance(eni));
                let what = place.map_or_else(none, |place| format!("is {place} no more"));
                self.line("~", "DetachNetworkInterface", id, what)
            }
            Op::ModifyNetworkInterfaceGroups { network_interface, groups } => {
                let names = groups.iter().map(|id| self.peer(Peer::SecurityGroup(*id)));
                let what = format!("groups: {}", names.collect::<Vec<_>>().join(", "));
                self.line("~", "ModifyNetworkInterfaceAttribute", network_interface, what)
            }
            Op::ModifySourceDestCheck { network_interface, source_dest_check } => {
                let what = format!("source/destination check {}", if *source_dest_check { "on" } else { "off" });
                self.line("~", "ModifyNetworkInterfaceAttribute", network_interface, what)
            }
            Op::AssignPrivateIpAddresses { network_interface, addresses, .. } => {
                self.line("+", "AssignPrivateIpAddresses", network_interface, join(addresses))
            }
            Op::UnassignPrivateIpAddresses { network_interface, addresses } => {
                self.line("-", "UnassignPrivateIpAddresses", network_interface, join(addresses))
            }
        }
    }
}

fn join(addresses: &[std::net::Ipv4Addr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn direction(egress: bool) -> &'static str {
    if egress { "egress" } else { "ingress" }
}

fn acl_entry(egress: bool, number: u16, entry: &NetworkAclEntry) -> String {
    let action = match entry.action {
        RuleAction::Allow => "allow",
        RuleAction::Deny => "deny",
    };
    let side = if egress { "to" } else { "from" };
    format!("{} #{number} {action} {} {side} {}", direction(egress), entry.traffic, entry.cidr)
}
