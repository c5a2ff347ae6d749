//! The operations: one per EC2 action, with AWS's rules.
//!
//! An operation first checks everything and then changes the world, so a refused one leaves no trace.

mod instance;
mod nat_gateway;
mod network_acl;
mod route;
mod security_group;
mod vpc;

pub use security_group::default_egress;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::traffic::Traffic;
use crate::world::{AddressOwner, World};

/// One change of the world.
#[derive(Debug, Clone)]
pub enum Op {
    /// A VPC with its main route table, default network ACL and default security group.
    CreateVpc(CreateVpc),
    /// A subnet.
    CreateSubnet(CreateSubnet),
    /// An internet gateway, attached at once.
    AttachInternetGateway(InternetGateway),
    /// A route table with its local route.
    CreateRouteTable {
        /// Its id.
        id: RouteTableId,
        /// Its VPC.
        vpc: VpcId,
        /// Tags.
        tags: Tags,
        /// Where it came from.
        origin: Origin,
    },
    /// One more route.
    CreateRoute {
        /// The table.
        route_table: RouteTableId,
        /// What it matches.
        destination: IpNet,
        /// Where it leads.
        target: RouteTarget,
        /// Where it came from.
        origin: Origin,
    },
    /// The table of a subnet.
    AssociateRouteTable {
        /// The table.
        route_table: RouteTableId,
        /// The subnet.
        subnet: SubnetId,
    },
    /// Another main table (AWS: ReplaceRouteTableAssociation of the main association).
    ReplaceMainRouteTable {
        /// The VPC.
        vpc: VpcId,
        /// The table.
        route_table: RouteTableId,
    },
    /// A security group, with AWS's default egress rule.
    CreateSecurityGroup {
        /// Its id.
        id: SecurityGroupId,
        /// Its VPC.
        vpc: VpcId,
        /// Its group name.
        name: String,
        /// Its description.
        description: String,
        /// Tags.
        tags: Tags,
        /// Where it came from.
        origin: Origin,
    },
    /// One more ingress rule.
    AuthorizeSecurityGroupIngress {
        /// The group.
        group: SecurityGroupId,
        /// The rule.
        rule: SecurityGroupRule,
    },
    /// One more egress rule.
    AuthorizeSecurityGroupEgress {
        /// The group.
        group: SecurityGroupId,
        /// The rule.
        rule: SecurityGroupRule,
    },
    /// One ingress rule less.
    RevokeSecurityGroupIngress {
        /// The group.
        group: SecurityGroupId,
        /// The rule's packets.
        traffic: Traffic,
        /// The rule's other side.
        peer: Peer,
    },
    /// One egress rule less.
    RevokeSecurityGroupEgress {
        /// The group.
        group: SecurityGroupId,
        /// The rule's packets.
        traffic: Traffic,
        /// The rule's other side.
        peer: Peer,
    },
    /// A network ACL that denies everything.
    CreateNetworkAcl {
        /// Its id.
        id: NetworkAclId,
        /// Its VPC.
        vpc: VpcId,
        /// Tags.
        tags: Tags,
        /// Where it came from.
        origin: Origin,
    },
    /// One more entry.
    CreateNetworkAclEntry {
        /// The network ACL.
        network_acl: NetworkAclId,
        /// For what leaves the subnet.
        egress: bool,
        /// Rule number, 1–32766.
        rule_number: u16,
        /// The entry.
        entry: NetworkAclEntry,
    },
    /// The network ACL of a subnet.
    ReplaceNetworkAclAssociation {
        /// The network ACL.
        network_acl: NetworkAclId,
        /// The subnet.
        subnet: SubnetId,
    },
    /// An Elastic IP address.
    AllocateAddress {
        /// Its id.
        id: AllocationId,
        /// The public address.
        public_ip: Ipv4Addr,
        /// Tags.
        tags: Tags,
        /// Where it came from.
        origin: Origin,
    },
    /// A NAT gateway.
    CreateNatGateway(CreateNatGateway),
    /// An instance with its primary interface.
    RunInstance(RunInstance),
}

/// Parameters of [`Op::CreateVpc`].
#[derive(Debug, Clone)]
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

/// Parameters of [`Op::CreateSubnet`].
#[derive(Debug, Clone)]
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

/// Parameters of [`Op::CreateNatGateway`].
#[derive(Debug, Clone)]
pub struct CreateNatGateway {
    /// Its id.
    pub id: NatGatewayId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Public or private.
    pub connectivity: Connectivity,
    /// Its address; the lowest free one if none is given.
    pub private_ip: Option<Ipv4Addr>,
    /// Id for its interface.
    pub network_interface: NetworkInterfaceId,
    /// MAC address of its interface.
    pub mac: MacAddress,
    /// When, in RFC 3339.
    pub create_time: String,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// Parameters of [`Op::RunInstance`].
#[derive(Debug, Clone)]
pub struct RunInstance {
    /// Its id.
    pub id: InstanceId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its address; the lowest free one if none is given.
    pub private_ip: Option<Ipv4Addr>,
    /// Id for its primary interface.
    pub network_interface: NetworkInterfaceId,
    /// MAC address of its primary interface.
    pub mac: MacAddress,
    /// Its groups; empty for the VPC's default one.
    pub groups: Vec<SecurityGroupId>,
    /// SDC-0.
    pub source_dest_check: bool,
    /// Asked for a public address.
    pub associate_public_ip: bool,
    /// What its guest looks like.
    pub image: Image,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl World {
    /// Makes one change, or none.
    ///
    /// # Errors
    /// What AWS would answer; the world is then as it was.
    pub fn apply(&mut self, op: Op) -> Result<(), Refusal> {
        match op {
            Op::CreateVpc(request) => self.create_vpc(request),
            Op::CreateSubnet(request) => self.create_subnet(request),
            Op::AttachInternetGateway(gateway) => self.attach_internet_gateway(gateway),
            Op::CreateRouteTable { id, vpc, tags, origin } => self.create_route_table(id, vpc, tags, origin),
            Op::CreateRoute { route_table, destination, target, origin } => {
                self.create_route(route_table, destination, target, origin)
            }
            Op::AssociateRouteTable { route_table, subnet } => self.associate_route_table(route_table, subnet),
            Op::ReplaceMainRouteTable { vpc, route_table } => self.replace_main_route_table(vpc, route_table),
            Op::CreateSecurityGroup { id, vpc, name, description, tags, origin } => {
                self.create_security_group(id, vpc, name, description, tags, origin)
            }
            Op::AuthorizeSecurityGroupIngress { group, rule } => self.authorize(group, rule, |g| &mut g.ingress),
            Op::AuthorizeSecurityGroupEgress { group, rule } => self.authorize(group, rule, |g| &mut g.egress),
            Op::RevokeSecurityGroupIngress { group, traffic, peer } => {
                self.revoke(group, traffic, peer, |g| &mut g.ingress)
            }
            Op::RevokeSecurityGroupEgress { group, traffic, peer } => {
                self.revoke(group, traffic, peer, |g| &mut g.egress)
            }
            Op::CreateNetworkAcl { id, vpc, tags, origin } => self.create_network_acl(id, vpc, tags, origin),
            Op::CreateNetworkAclEntry { network_acl, egress, rule_number, entry } => {
                self.create_network_acl_entry(network_acl, egress, rule_number, entry)
            }
            Op::ReplaceNetworkAclAssociation { network_acl, subnet } => {
                self.replace_network_acl_association(network_acl, subnet)
            }
            Op::AllocateAddress { id, public_ip, tags, origin } => self.allocate_address(id, public_ip, tags, origin),
            Op::CreateNatGateway(request) => self.create_nat_gateway(request),
            Op::RunInstance(request) => self.run_instance(request),
        }
    }

    /// The address that a new interface in `subnet` gets: the wanted one if it is free, else the lowest free one.
    pub(crate) fn pick_address(&self, subnet: &Subnet, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, Refusal> {
        let refuse = |code, message| Err(Refusal::new(code, "PrivateIpAddress", message));
        let Some(address) = wanted else {
            let holders = self.network_interfaces.values().filter(|eni| eni.subnet == subnet.id);
            let taken: BTreeSet<_> = holders.map(|eni| eni.private_ip).collect();
            let mut hosts = subnet.cidr.hosts();
            return hosts.find(|a| !subnet.is_reserved(*a) && !taken.contains(a)).ok_or_else(|| {
                let message = format!("Subnet {} has no free addresses", subnet.id);
                Refusal::new(ErrorCode::InsufficientFreeAddressesInSubnet, "SubnetId", message)
            });
        };
        if !subnet.cidr.contains(&address) {
            let message = format!("Address {address} does not fall within the subnet's address range {}", subnet.cidr);
            return refuse(ErrorCode::InvalidParameterValue, message);
        }
        match self.address_owner(subnet, address) {
            None => Ok(address),
            Some(AddressOwner::Reserved) => {
                let message = format!("Address {address} is in subnet's reserved address range");
                refuse(ErrorCode::InvalidParameterValue, message)
            }
            Some(AddressOwner::NetworkInterface(holder)) => {
                let message = format!("Address {address} is in use by {}", self.holder_name(holder));
                refuse(ErrorCode::InvalidIpAddressInUse, message)
            }
        }
    }

    /// How to call the owner of an interface in a message.
    fn holder_name(&self, eni: NetworkInterfaceId) -> String {
        let Some(eni) = self.network_interfaces.get(&eni) else { return eni.to_string() };
        let (kind, id, tags) = match eni.attachment {
            Attachment::Instance { instance, .. } => {
                ("instance", instance.to_string(), self.instances.get(&instance).map(|i| &i.tags))
            }
            Attachment::NatGateway(nat) => {
                ("NAT gateway", nat.to_string(), self.nat_gateways.get(&nat).map(|n| &n.tags))
            }
        };
        match tags.and_then(Tags::name) {
            Some(name) => format!("{kind} {name} ({id})"),
            None => format!("{kind} {id}"),
        }
    }

    /// An id may be given once only.
    pub(crate) fn unused(&self, taken: bool, id: impl std::fmt::Display) -> Result<(), Refusal> {
        if taken {
            let message = format!("The id '{id}' is used twice");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "Id", message));
        }
        Ok(())
    }
}
