//! VPCs, internet gateways.

use ipnet::Ipv4Net;

use super::address::is_nobodys;
use super::dependency;
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::traffic::Traffic;
use crate::world::World;

/// Parameters of [`Op::CreateVpc`](super::Op::CreateVpc).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVpc {
    /// Its id.
    pub id: VpcId,
    /// The primary block.
    pub cidr: Ipv4Net,
    /// The region.
    pub region: String,
    /// Id for its main route table.
    pub main_route_table: RouteTableId,
    /// Id for its default network ACL.
    pub default_network_acl: NetworkAclId,
    /// Id for its default security group.
    pub default_security_group: SecurityGroupId,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// blocks are /16 to /28, and without bits behind the mask.
pub(super) fn allowed_size(cidr: Ipv4Net) -> bool {
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
        if is_nobodys(cidr.addr()) {
            let message = format!("The CIDR '{cidr}' is invalid: no machine has such addresses.");
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
                dns_support: true,
                dns_hostnames: false,
                dhcp_options: None,
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

    pub(super) fn detach_internet_gateway(&mut self, id: InternetGatewayId) -> Result<(), Refusal> {
        let vpc = self.internet_gateway(id)?.vpc;
        let in_vpc = |eni: &NetworkInterfaceId| {
            self.network_interfaces.get(eni).and_then(|eni| self.subnets.get(&eni.subnet)).is_some_and(|s| s.vpc == vpc)
        };
        let mapped = self.public_addresses().map(|public| public.network_interface).find(in_vpc);
        if let Some(eni) = mapped {
            let holder = self.holder_name(eni);
            let message = format!(
                "Network {vpc} has some mapped public address(es), as that of {holder}. Please unmap those public address(es) before detaching the gateway."
            );
            return Err(Refusal::new(ErrorCode::DependencyViolation, "InternetGatewayId", message));
        }
        self.internet_gateways.remove(&id);
        if let Some(vpc) = self.vpcs.get_mut(&vpc) {
            vpc.internet_gateway = None;
        }
        Ok(())
    }

    pub(super) fn modify_vpc(&mut self, id: VpcId, attribute: VpcAttribute, value: bool) -> Result<(), Refusal> {
        self.vpc(id)?;
        if let Some(vpc) = self.vpcs.get_mut(&id) {
            match attribute {
                VpcAttribute::DnsSupport => vpc.dns_support = value,
                VpcAttribute::DnsHostnames => vpc.dns_hostnames = value,
            }
        }
        Ok(())
    }

    pub(super) fn delete_vpc(&mut self, id: VpcId) -> Result<(), Refusal> {
        let vpc = self.vpc(id)?;
        let (table, acl, group) = (vpc.main_route_table, vpc.default_network_acl, vpc.default_security_group);
        let gateway = vpc.internet_gateway.map(|igw| format!("internet gateway {igw}"));
        let gateway = gateway.or(self.vpn_gateway_of(id).map(|vgw| format!("virtual private gateway {}", vgw.id)));
        let subnet = self.subnets.values().find(|s| s.vpc == id).map(|s| format!("subnet {}", s.id));
        let other_table = self.route_tables.values().find(|t| t.vpc == id && t.id != table);
        let other_acl = self.network_acls.values().find(|a| a.vpc == id && a.id != acl);
        let other_group = self.security_groups.values().find(|g| g.vpc == id && g.id != group);
        let held_by = gateway
            .or(subnet)
            .or(other_table.map(|t| format!("route table {}", t.id)))
            .or(other_acl.map(|a| format!("network ACL {}", a.id)))
            .or(other_group.map(|g| format!("security group {}", g.id)));
        dependency("vpc", id, held_by)?;
        self.vpcs.remove(&id);
        // These keep nobody's VPC alive.
        for zone in self.hosted_zones.values_mut() {
            zone.vpcs.remove(&id);
        }
        self.route_tables.remove(&table);
        self.network_acls.remove(&acl);
        self.security_groups.remove(&group);
        Ok(())
    }
}
