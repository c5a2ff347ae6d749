//! Sets of DHCP options.

use super::dependency;
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// Servers of one kind in a set (DHCP-1).
const SERVERS: usize = 4;

impl World {
    pub(super) fn create_dhcp_options(&mut self, new: DhcpOptions) -> Result<(), Refusal> {
        self.unused(self.dhcp_options.contains_key(&new.id), new.id)?;
        check(&new.configuration)?;
        self.dhcp_options.insert(new.id, new);
        Ok(())
    }

    pub(super) fn delete_dhcp_options(&mut self, id: DhcpOptionsId) -> Result<(), Refusal> {
        self.dhcp_options_set(id)?;
        let vpc = self.vpcs.values().find(|vpc| vpc.dhcp_options == Some(id));
        dependency("dhcpOptions", id, vpc.map(|vpc| format!("VPC {}", vpc.id)))?;
        self.dhcp_options.remove(&id);
        Ok(())
    }

    pub(super) fn associate_dhcp_options(&mut self, vpc: VpcId, set: Option<DhcpOptionsId>) -> Result<(), Refusal> {
        if let Some(set) = set {
            self.dhcp_options_set(set)?;
        }
        self.vpc(vpc)?;
        if let Some(vpc) = self.vpcs.get_mut(&vpc) {
            vpc.dhcp_options = set;
        }
        Ok(())
    }
}

fn check(told: &DhcpConfiguration) -> Result<(), Refusal> {
    let refuse = |parameter, message| Err(Refusal::new(ErrorCode::InvalidParameterValue, parameter, message));
    let counts = [
        ("domain-name-servers", told.domain_name_servers.len()),
        ("ntp-servers", told.ntp_servers.len()),
        ("netbios-name-servers", told.netbios_name_servers.len()),
    ];
    if let Some((option, count)) = counts.into_iter().find(|(_, count)| *count > SERVERS) {
        return refuse(option, format!("The option {option} has {count} values; up to {SERVERS} are allowed."));
    }
    if let Some(domains) = &told.domain_name {
        let domain = |text: &str| super::hosted_zone::domain_name(text).is_some();
        // RFC 2132 §3.17: its length is a byte.
        let fits = domains.len() <= 253 && domains.split(' ').all(domain);
        if !fits {
            let message = format!("'{domains}' isn't a domain name, nor several between spaces.");
            return refuse("domain-name", message);
        }
    }
    if let Some(kind) = told.netbios_node_type.filter(|kind| !matches!(kind, 1 | 2 | 4 | 8)) {
        return refuse("netbios-node-type", format!("'{kind}' isn't a NetBIOS node type: 1, 2, 4 or 8."));
    }
    if *told == DhcpConfiguration::default() {
        let message = "The request must contain at least one DHCP option.";
        return Err(Refusal::new(ErrorCode::MissingParameter, "DhcpConfiguration", message));
    }
    Ok(())
}
