//! From one world to another: the operations that lead there, in an order in which AWS accepts each.
//!
//! What can't be changed in place (a subnet's block, an instance's address) is deleted and made again, and with it
//! what lies in it. Interfaces beyond an instance's primary one come and go while it runs. What AWS keeps is kept: an
//! interface that stays keeps its [`Serial`], and so the flows that are tracked at it; a route whose target goes stays as
//! a blackhole if it is wanted still.
//!
//! `stays.rs`: what can stay; `take_away.rs`: what goes; `make.rs`: what comes.

mod make;
mod stays;
mod take_away;

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::id::*;
use crate::op::Op;
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
    planner.take_away_names()?;
    planner.delete_homes()?;
    planner.create_homes()?;
    planner.add_names()?;
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
            dhcp_options: tags, origin;
            hosted_zones: record_sets, tags, origin;
            subnets: tags, origin;
            route_tables: tags, origin;
            security_groups: name, description, ingress, egress, tags, origin;
            network_acls: ingress, egress, tags, origin;
            internet_gateways: tags, origin;
            vpn_gateways: tags, origin;
            vpn_connections: tags, origin;
            addresses: tags, origin;
            network_interfaces: tags, origin;
            nat_gateways: tags, origin;
            instances: tags, origin;
            hosts: origin;
        }
        for (id, eni) in &mut self.world.network_interfaces {
            let Some(wanted) = self.wanted.network_interfaces.get(id) else { continue };
            in_order(&mut eni.secondary_private_ips, &wanted.secondary_private_ips);
            // Whether it goes with its instance, no operation says.
            if let (
                Some(Attachment::Instance { delete_on_termination: has, .. }),
                Some(Attachment::Instance { delete_on_termination, .. }),
            ) = (&mut eni.attachment, wanted.attachment)
            {
                *has = delete_on_termination;
            }
        }
        for (id, connection) in &mut self.world.vpn_connections {
            let Some(wanted) = self.wanted.vpn_connections.get(id) else { continue };
            in_order(&mut connection.static_routes, &wanted.static_routes);
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

/// What is the same in another order.
fn in_order<T: PartialEq>(has: &mut [T], wanted: &[T]) {
    has.sort_by_key(|one| wanted.iter().position(|other| other == one));
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
