//! VPCs, subnets, internet gateways, Elastic IP addresses.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{CreateSubnet, CreateVpc};
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::traffic::Traffic;
use crate::world::World;

/// blocks are /16 to /28, and without bits behind the mask.
fn allowed_size(cidr: Ipv4Net) -> bool {
    (16..=28).contains(&cidr.prefix_len()) && cidr.addr() == cidr.network()
}

/// Guests' host names are made of it.
fn is_region(name: &str) -> bool {
    let parts = || name.split('-');
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= 32 && parts().count() >= 3 && parts().all(word)
}

impl World {
    pub(super) fn create_vpc(&mut self, request: CreateVpc) -> Result<(), Refusal> {
        let CreateVpc { id, cidr, region, main_route_table, default_network_acl, default_security_group, tags, origin } =
            request;
        self.unused(self.vpcs.contains_key(&id), id)?;
        self.unused(self.route_tables.contains_key(&main_route_table), main_route_table)?;
        self.unused(self.network_acls.contains_key(&default_network_acl), default_network_acl)?;
        self.unused(self.security_groups.contains_key(&default_security_group), default_security_group)?;
        if !allowed_size(cidr) {
            let message = format!(
                "The CIDR '{cidr}' is invalid: a VPC's block is /16 to /28, and its address the first of the block."
            );
            return Err(Refusal::new(ErrorCode::InvalidVpcRange, "CidrBlock", message));
        }
        if !is_region(&region) {
            let message = format!("'{region}' isn't the name of a region, as ap-northeast-1");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "Region", message));
        }
        let internet_gateway = None;
        self.vpcs.insert(
            id,
            Vpc {
                id,
                cidr,
                region,
                main_route_table,
                default_network_acl,
                default_security_group,
                internet_gateway,
                tags,
                origin,
            },
        );
        self.create_route_table(main_route_table, id, Tags::default(), origin)?;

        let allow_all = NetworkAclEntry {
            action: RuleAction::Allow,
            traffic: Traffic::All,
            cidr: Ipv4Net::default().into(),
            origin: Origin::default(),
        };
        let entries = std::collections::BTreeMap::from([(100, allow_all)]);
        let (ingress, egress) = (entries.clone(), entries);
        let acl =
            NetworkAcl { id: default_network_acl, vpc: id, ingress, egress, tags: Tags::named("default"), origin };
        self.network_acls.insert(default_network_acl, acl);

        // SG-2.
        let description = "default VPC security group".to_owned();
        self.create_security_group(
            default_security_group,
            id,
            "default".to_owned(),
            description,
            Tags::default(),
            origin,
        )?;
        let from_itself = SecurityGroupRule {
            traffic: Traffic::All,
            peer: Peer::SecurityGroup(default_security_group),
            description: String::new(),
            origin: Origin::default(),
        };
        self.authorize(default_security_group, from_itself, |g| &mut g.ingress)
    }

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

    pub(super) fn attach_internet_gateway(&mut self, gateway: InternetGateway) -> Result<(), Refusal> {
        self.unused(self.internet_gateways.contains_key(&gateway.id), gateway.id)?;
        if let Some(other) = self.vpc(gateway.vpc)?.internet_gateway {
            let message = format!("Network {} already has internet gateway {other} attached", gateway.vpc);
            return Err(Refusal::new(ErrorCode::ResourceAlreadyAssociated, "VpcId", message));
        }
        if let Some(vpc) = self.vpcs.get_mut(&gateway.vpc) {
            vpc.internet_gateway = Some(gateway.id);
        }
        self.internet_gateways.insert(gateway.id, gateway);
        Ok(())
    }

    pub(super) fn allocate_address(
        &mut self,
        id: AllocationId,
        public_ip: Ipv4Addr,
        tags: Tags,
        origin: Origin,
    ) -> Result<(), Refusal> {
        self.unused(self.addresses.contains_key(&id), id)?;
        if let Some(other) = self.addresses.values().find(|a| a.public_ip == public_ip) {
            let message = format!("Address {public_ip} is in use by {}", other.tags.name().unwrap_or_default());
            return Err(Refusal::new(ErrorCode::InvalidIpAddressInUse, "Address", message));
        }
        self.addresses.insert(id, Address { id, public_ip, network_interface: None, tags, origin });
        Ok(())
    }
}
