//! What filters: security groups and network ACLs.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Origin, Tags};
use crate::id::*;
use crate::traffic::Traffic;

/// A security group (SG-1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Its id.
    pub id: SecurityGroupId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its group name, unique in the VPC.
    pub name: String,
    /// Its description.
    pub description: String,
    /// What may come in.
    pub ingress: Vec<SecurityGroupRule>,
    /// What may go out.
    pub egress: Vec<SecurityGroupRule>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// One rule of a security group; rules only allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    /// Which packets.
    pub traffic: Traffic,
    /// Whose packets.
    pub peer: Peer,
    /// Its description.
    pub description: String,
    /// Where it came from.
    pub origin: Origin,
}

/// The other side of a security group's rule: source of ingress, destination of egress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// A block of addresses.
    Cidr(IpNet),
    /// The private addresses of the interfaces that carry this group (SG-5).
    SecurityGroup(SecurityGroupId),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cidr(net) => net.fmt(f),
            Self::SecurityGroup(id) => id.fmt(f),
        }
    }
}

/// A network ACL (NACL-1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAcl {
    /// Its id.
    pub id: NetworkAclId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Entries for what enters a subnet, by rule number.
    pub ingress: BTreeMap<u16, NetworkAclEntry>,
    /// Entries for what leaves a subnet, by rule number.
    pub egress: BTreeMap<u16, NetworkAclEntry>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// One entry of a network ACL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAclEntry {
    /// What happens to matching packets.
    pub action: RuleAction,
    /// Which packets.
    pub traffic: Traffic,
    /// Source of ingress, destination of egress.
    pub cidr: IpNet,
    /// Where it came from.
    pub origin: Origin,
}

/// What a network ACL's entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RuleAction {
    /// Lets the packet pass.
    Allow,
    /// Drops it silently (NACL-17).
    Deny,
}
