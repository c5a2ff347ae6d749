//! Network ACLs and their entries.

use super::dependency;
use super::route::same_network;
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// Entries per direction, of which the `*` rule is one.
const ENTRIES_PER_DIRECTION: usize = 20 - 1;

impl World {
    pub(super) fn create_network_acl(
        &mut self,
        id: NetworkAclId,
        vpc: VpcId,
        tags: Tags,
        origin: Origin,
    ) -> Result<(), Refusal> {
        self.unused(self.network_acls.contains_key(&id), id)?;
        let vpc = self.vpc(vpc)?.id;
        let acl = NetworkAcl { id, vpc, ingress: Default::default(), egress: Default::default(), tags, origin };
        self.network_acls.insert(id, acl);
        Ok(())
    }

    pub(super) fn create_network_acl_entry(
        &mut self,
        network_acl: NetworkAclId,
        egress: bool,
        rule_number: u16,
        mut entry: NetworkAclEntry,
    ) -> Result<(), Refusal> {
        self.network_acl(network_acl)?;
        // NACL-2: 32767 is the `*` rule.
        if !(1..=32766).contains(&rule_number) {
            let message = format!(
                "Value ({rule_number}) for parameter ruleNumber is invalid. The rule number must be between 1 and 32766."
            );
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "RuleNumber", message));
        }
        entry.cidr = entry.cidr.trunc(); // NACL-3
        let Some(acl) = self.network_acls.get_mut(&network_acl) else { return Ok(()) };
        let entries = if egress { &mut acl.egress } else { &mut acl.ingress };
        if entries.contains_key(&rule_number) {
            let message = format!("The network acl entry identified by {rule_number} already exists.");
            return Err(Refusal::new(ErrorCode::NetworkAclEntryAlreadyExists, "RuleNumber", message));
        }
        if entries.len() >= ENTRIES_PER_DIRECTION {
            let message = format!("The maximum number of network acl entries has been reached for {network_acl}.");
            return Err(Refusal::new(ErrorCode::NetworkAclEntryLimitExceeded, "RuleNumber", message));
        }
        entries.insert(rule_number, entry);
        Ok(())
    }

    pub(super) fn replace_network_acl_association(
        &mut self,
        network_acl: NetworkAclId,
        subnet: SubnetId,
    ) -> Result<(), Refusal> {
        let (home, vpc) = (self.network_acl(network_acl)?.vpc, self.subnet(subnet)?.vpc);
        same_network("network ACL", network_acl, home, "subnet", subnet, vpc)?;
        if let Some(subnet) = self.subnets.get_mut(&subnet) {
            subnet.network_acl = network_acl;
        }
        Ok(())
    }

    pub(super) fn replace_network_acl_entry(
        &mut self,
        network_acl: NetworkAclId,
        egress: bool,
        rule_number: u16,
        mut entry: NetworkAclEntry,
    ) -> Result<(), Refusal> {
        entry.cidr = entry.cidr.trunc(); // NACL-3
        *self.entry_mut(network_acl, egress, rule_number)? = entry;
        Ok(())
    }

    pub(super) fn delete_network_acl_entry(
        &mut self,
        network_acl: NetworkAclId,
        egress: bool,
        rule_number: u16,
    ) -> Result<(), Refusal> {
        self.entry_mut(network_acl, egress, rule_number)?;
        if let Some(acl) = self.network_acls.get_mut(&network_acl) {
            let entries = if egress { &mut acl.egress } else { &mut acl.ingress };
            entries.remove(&rule_number);
        }
        Ok(())
    }

    fn entry_mut(&mut self, id: NetworkAclId, egress: bool, number: u16) -> Result<&mut NetworkAclEntry, Refusal> {
        self.network_acl(id)?;
        let acl = self.network_acls.get_mut(&id);
        let entry = acl.and_then(|acl| if egress { &mut acl.egress } else { &mut acl.ingress }.get_mut(&number));
        entry.ok_or_else(|| {
            let message = format!("The network acl entry identified by {number} does not exist in {id}.");
            Refusal::new(ErrorCode::InvalidNetworkAclEntryNotFound, "RuleNumber", message)
        })
    }

    pub(super) fn delete_network_acl(&mut self, id: NetworkAclId) -> Result<(), Refusal> {
        let acl = self.network_acl(id)?;
        let default = self.vpc(acl.vpc)?.default_network_acl == id;
        let served = self.subnets.values().find(|subnet| subnet.network_acl == id);
        let held_by = default.then(|| "it is the default network ACL".to_owned());
        dependency("networkAcl", id, held_by.or(served.map(|subnet| format!("subnet {}", subnet.id))))?;
        self.network_acls.remove(&id);
        Ok(())
    }
}
