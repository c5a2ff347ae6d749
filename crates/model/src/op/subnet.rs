//! Subnets.

use ipnet::Ipv4Net;

use super::dependency;
use super::vpc::allowed_size;
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// Parameters of [`Op::CreateSubnet`](super::Op::CreateSubnet).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSubnet {
    /// Its id.
    pub id: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its block.
    pub cidr: Ipv4Net,
    /// As `ap-northeast-3a`.
    pub availability_zone: String,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl World {
    pub(super) fn create_subnet(&mut self, request: CreateSubnet) -> Result<(), Refusal> {
        let CreateSubnet { id, vpc, cidr, availability_zone, tags, origin } = request;
        self.unused(self.subnets.contains_key(&id), id)?;
        let vpc = self.vpc(vpc)?;
        if !allowed_size(cidr) || !vpc.cidr.contains(&cidr) {
            let message = format!("The CIDR '{cidr}' is invalid.");
            return Err(Refusal::new(ErrorCode::InvalidSubnetRange, "CidrBlock", message));
        }
        let overlaps =
            |other: &&Subnet| other.vpc == vpc.id && (other.cidr.contains(&cidr) || cidr.contains(&other.cidr));
        if let Some(other) = self.subnets.values().find(overlaps) {
            let message = format!(
                "The CIDR '{cidr}' conflicts with another subnet ({}, {})",
                other.cidr,
                other.tags.name().unwrap_or(&other.id.to_string())
            );
            return Err(Refusal::new(ErrorCode::InvalidSubnetConflict, "CidrBlock", message));
        }
        let in_region = availability_zone.strip_prefix(&vpc.region);
        if !in_region.is_some_and(|zone| matches!(zone.as_bytes(), [b'a'..=b'f'])) {
            let message = format!(
                "Value ({availability_zone}) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: {r}a, {r}b, {r}c, {r}d, {r}e, {r}f.",
                r = vpc.region
            );
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "AvailabilityZone", message));
        }
        let (vpc, network_acl) = (vpc.id, vpc.default_network_acl);
        self.subnets
            .insert(id, Subnet { id, vpc, cidr, availability_zone, route_table: None, network_acl, tags, origin });
        Ok(())
    }

    pub(super) fn delete_subnet(&mut self, id: SubnetId) -> Result<(), Refusal> {
        self.subnet(id)?;
        let holder = self.network_interfaces.values().find(|eni| eni.subnet == id);
        dependency("subnet", id, holder.map(|eni| self.holder_name(eni.id)))?;
        self.subnets.remove(&id);
        Ok(())
    }
}
