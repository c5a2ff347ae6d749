//! Security groups and their rules.

use ipnet::Ipv4Net;

use super::dependency;
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::traffic::Traffic;
use crate::world::World;

/// Rules per group and direction.
const RULES_PER_DIRECTION: usize = 60;

impl World {
    pub(super) fn create_security_group(
        &mut self,
        id: SecurityGroupId,
        vpc: VpcId,
        name: String,
        description: String,
        tags: Tags,
        origin: Origin,
    ) -> Result<(), Refusal> {
        self.unused(self.security_groups.contains_key(&id), id)?;
        let vpc = self.vpc(vpc)?.id;
        if self.security_groups.values().any(|group| group.vpc == vpc && group.name == name) {
            let message = format!("The security group '{name}' already exists for VPC '{vpc}'");
            return Err(Refusal::new(ErrorCode::InvalidGroupDuplicate, "GroupName", message));
        }
        // SG-1: a new group lets nothing in and everything out.
        let (traffic, peer) = default_egress();
        let egress = vec![SecurityGroupRule { traffic, peer, description: String::new(), origin }];
        let group = SecurityGroup { id, vpc, name, description, ingress: Vec::new(), egress, tags, origin };
        self.security_groups.insert(id, group);
        Ok(())
    }

    pub(super) fn authorize(
        &mut self,
        group: SecurityGroupId,
        rule: SecurityGroupRule,
        direction: fn(&mut SecurityGroup) -> &mut Vec<SecurityGroupRule>,
    ) -> Result<(), Refusal> {
        let vpc = self.security_group(group)?.vpc;
        if let Peer::SecurityGroup(peer) = rule.peer {
            let home = self.security_group(peer)?.vpc;
            if home != vpc {
                let message =
                    format!("You have specified two resources that belong to different networks: {group} and {peer}.");
                return Err(Refusal::new(ErrorCode::InvalidGroupNotFound, "GroupId", message));
            }
        }
        let Some(group) = self.security_groups.get_mut(&group) else { return Ok(()) };
        let rules = direction(group);
        if rules.iter().any(|r| r.traffic == rule.traffic && r.peer == rule.peer) {
            let message = format!("the specified rule \"peer: {}, {}, ALLOW\" already exists", rule.peer, rule.traffic);
            return Err(Refusal::new(ErrorCode::InvalidPermissionDuplicate, "IpPermissions", message));
        }
        if rules.len() == RULES_PER_DIRECTION {
            let message = "The maximum number of rules per security group has been reached.";
            return Err(Refusal::new(ErrorCode::RulesPerSecurityGroupLimitExceeded, "IpPermissions", message));
        }
        rules.push(rule);
        Ok(())
    }

    pub(super) fn revoke(
        &mut self,
        group: SecurityGroupId,
        traffic: Traffic,
        peer: Peer,
        direction: fn(&mut SecurityGroup) -> &mut Vec<SecurityGroupRule>,
    ) -> Result<(), Refusal> {
        self.security_group(group)?;
        let Some(group) = self.security_groups.get_mut(&group) else { return Ok(()) };
        let rules = direction(group);
        let Some(at) = rules.iter().position(|rule| rule.traffic == traffic && rule.peer == peer) else {
            let message = "The specified rule does not exist in this security group.";
            return Err(Refusal::new(ErrorCode::InvalidPermissionNotFound, "IpPermissions", message));
        };
        rules.remove(at);
        Ok(())
    }
}

impl World {
    pub(super) fn delete_security_group(&mut self, id: SecurityGroupId) -> Result<(), Refusal> {
        let vpc = self.security_group(id)?.vpc;
        if self.vpc(vpc)?.default_security_group == id {
            let message = "the specified group cannot be deleted by a user: it is the VPC's default one";
            return Err(Refusal::new(ErrorCode::CannotDelete, "GroupId", message));
        }
        let carrier = self.network_interfaces.values().find(|eni| eni.groups.contains(&id));
        let names = |group: &&SecurityGroup| {
            let mut rules = group.ingress.iter().chain(&group.egress);
            group.id != id && rules.any(|rule| rule.peer == Peer::SecurityGroup(id))
        };
        let named_by = self.security_groups.values().find(names);
        let held_by = carrier.map(|eni| self.holder_name(eni.id));
        let held_by = held_by.or(named_by.map(|group| format!("a rule of security group {}", group.id)));
        dependency("security group", id, held_by)?;
        self.security_groups.remove(&id);
        Ok(())
    }
}

/// What a new group lets out (SG-1).
#[must_use]
pub fn default_egress() -> (Traffic, Peer) {
    (Traffic::All, Peer::Cidr(Ipv4Net::default().into()))
}
