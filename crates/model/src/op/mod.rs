//! The operations: one per EC2 action, with AWS's rules.
//!
//! An operation first checks everything and then changes the world, so a refused one leaves no trace.

mod address;
mod attachment;
mod dhcp_options;
mod gateway_route_table;
mod host;
mod hosted_zone;
mod instance;
mod nat_gateway;
mod network_acl;
mod network_interface;
mod route;
mod security_group;
mod subnet;
mod vpc;
mod vpn;

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

pub use host::CreateHost;
pub use hosted_zone::{CreateHostedZone, RecordChange, domain_name, is_in_domain};
pub use instance::RunInstance;
pub use nat_gateway::CreateNatGateway;
pub use network_interface::NewInterface;
pub use security_group::default_egress;
pub use subnet::CreateSubnet;
pub use vpc::CreateVpc;

use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::traffic::Traffic;
use crate::world::World;

/// One change of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A VPC with its main route table, default network ACL and default security group.
    CreateVpc(CreateVpc),
    /// Another value for an attribute of a VPC.
    ModifyVpcAttribute {
        /// The VPC.
        vpc: VpcId,
        /// Which.
        attribute: VpcAttribute,
        /// Its value from now on.
        value: bool,
    },
    /// A set of DHCP options.
    CreateDhcpOptions(DhcpOptions),
    /// A set of DHCP options less; no VPC may have it.
    DeleteDhcpOptions(DhcpOptionsId),
    /// Another set of DHCP options for a VPC; its instances hear of it when they ask again.
    AssociateDhcpOptions {
        /// The VPC.
        vpc: VpcId,
        /// The set; none is the region's default one.
        set: Option<DhcpOptionsId>,
    },
    /// A private hosted zone.
    CreateHostedZone(CreateHostedZone),
    /// A private hosted zone less; it may have no record sets.
    DeleteHostedZone(HostedZoneId),
    /// One more VPC whose resolver knows a zone.
    AssociateVpcWithHostedZone {
        /// The zone.
        zone: HostedZoneId,
        /// The VPC.
        vpc: VpcId,
    },
    /// A VPC less whose resolver knows a zone; one must be left.
    DisassociateVpcFromHostedZone {
        /// The zone.
        zone: HostedZoneId,
        /// The VPC.
        vpc: VpcId,
    },
    /// A change of a zone's record sets.
    ChangeResourceRecordSets {
        /// The zone.
        zone: HostedZoneId,
        /// The name of what changes, as the zone's is written.
        name: String,
        /// The type of what changes.
        kind: RecordType,
        /// The change.
        change: RecordChange,
    },
    /// A VPC less, with what AWS made along with it; all else in it must be gone.
    DeleteVpc(VpcId),
    /// A subnet.
    CreateSubnet(CreateSubnet),
    /// A subnet less; no interface may be in it.
    DeleteSubnet(SubnetId),
    /// An internet gateway, attached at once.
    AttachInternetGateway(InternetGateway),
    /// An internet gateway less, detached at once; nothing in the VPC may have a public address.
    DetachInternetGateway(InternetGatewayId),
    /// A virtual private gateway, attached at once.
    AttachVpnGateway(VpnGateway),
    /// A virtual private gateway less, detached at once; no VPN connection may end there.
    DetachVpnGateway(VpnGatewayId),
    /// A VPN connection with its site.
    CreateVpnConnection(VpnConnection),
    /// A VPN connection less; no host may be in its site.
    DeleteVpnConnection(VpnConnectionId),
    /// One more block of a site.
    CreateVpnConnectionRoute {
        /// The connection.
        connection: VpnConnectionId,
        /// The block.
        destination: Ipv4Net,
    },
    /// A block of a site less; nobody may have an address in it.
    DeleteVpnConnectionRoute {
        /// The connection.
        connection: VpnConnectionId,
        /// The block.
        destination: Ipv4Net,
    },
    /// From now on a table has the routes of the gateway's VPN connections.
    EnableVgwRoutePropagation {
        /// The table.
        route_table: RouteTableId,
        /// The gateway.
        gateway: VpnGatewayId,
    },
    /// From now on it hasn't.
    DisableVgwRoutePropagation {
        /// The table.
        route_table: RouteTableId,
        /// The gateway.
        gateway: VpnGatewayId,
    },
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
    /// A route table less; it may serve no subnet, and not be the main one.
    DeleteRouteTable(RouteTableId),
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
    /// Another target for a route, also for the local one of the VPC.
    ReplaceRoute {
        /// The table.
        route_table: RouteTableId,
        /// Which route.
        destination: IpNet,
        /// Where it leads from now on.
        target: RouteTarget,
        /// Where that came from.
        origin: Origin,
    },
    /// A route less; the local one stays.
    DeleteRoute {
        /// The table.
        route_table: RouteTableId,
        /// Which route.
        destination: IpNet,
    },
    /// The table of a subnet that has none of its own.
    AssociateRouteTable {
        /// The table.
        route_table: RouteTableId,
        /// The subnet.
        subnet: SubnetId,
    },
    /// Another table for a subnet that has one of its own.
    ReplaceRouteTableAssociation {
        /// The table.
        route_table: RouteTableId,
        /// The subnet.
        subnet: SubnetId,
    },
    /// From now on the main table serves the subnet.
    DisassociateRouteTable(SubnetId),
    /// The table for what enters the VPC by a gateway, in place of one that it may have had.
    AssociateGatewayRouteTable {
        /// The table.
        route_table: RouteTableId,
        /// The gateway.
        gateway: GatewayId,
    },
    /// From now on the VPC's addresses alone decide about what enters by the gateway.
    DisassociateGatewayRouteTable(GatewayId),
    /// The switch of R-37.
    ModifyAsymmetricReturn {
        /// The gateway.
        gateway: InternetGatewayId,
        /// May answers pass by the middlebox that the questions had to pass?
        passes: bool,
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
    /// A security group less; no interface may carry it and no other group's rule name it.
    DeleteSecurityGroup(SecurityGroupId),
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
    /// A network ACL less; it may serve no subnet, and not be the default one.
    DeleteNetworkAcl(NetworkAclId),
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
    /// Another entry under a number that is taken.
    ReplaceNetworkAclEntry {
        /// The network ACL.
        network_acl: NetworkAclId,
        /// For what leaves the subnet.
        egress: bool,
        /// Rule number.
        rule_number: u16,
        /// The entry.
        entry: NetworkAclEntry,
    },
    /// One entry less.
    DeleteNetworkAclEntry {
        /// The network ACL.
        network_acl: NetworkAclId,
        /// For what leaves the subnet.
        egress: bool,
        /// Rule number.
        rule_number: u16,
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
    /// An Elastic IP address less; nothing may have it.
    ReleaseAddress(AllocationId),
    /// An Elastic IP address for a private address of an interface (IGW-7).
    AssociateAddress {
        /// The Elastic IP address.
        allocation: AllocationId,
        /// The interface.
        network_interface: NetworkInterfaceId,
        /// Which of its addresses; none is the primary one.
        private_ip: Option<Ipv4Addr>,
        /// Also if that takes it from another one, or another Elastic IP address from this one (IGW-9).
        allow_reassociation: bool,
    },
    /// An Elastic IP address that stands for nothing any more.
    DisassociateAddress(AllocationId),
    /// A host of the internet, or of a site.
    CreateHost(CreateHost),
    /// A host less.
    DeleteHost(HostId),
    /// A NAT gateway.
    CreateNatGateway(CreateNatGateway),
    /// A NAT gateway less. Its Elastic IP addresses stay (NAT-32), and routes to it.
    DeleteNatGateway(NatGatewayId),
    /// An instance with its interfaces.
    RunInstance(RunInstance),
    /// Its guest ends; interfaces and addresses stay.
    StopInstance(InstanceId),
    /// A stopped instance runs again.
    StartInstance {
        /// The instance.
        instance: InstanceId,
        /// When, in RFC 3339.
        launch_time: String,
    },
    /// An instance less, with the interfaces that were made along with it; others are nobody's then. Routes to them
    /// stay.
    TerminateInstance(InstanceId),
    /// An interface, nobody's yet, or a load balancer's.
    CreateNetworkInterface {
        /// The interface.
        interface: NewInterface,
        /// The load balancer that it is to be of.
        load_balancer: Option<LoadBalancer>,
    },
    /// An interface less; it may be attached to nothing.
    DeleteNetworkInterface(NetworkInterfaceId),
    /// An interface that is nobody's, for an instance (FO-2).
    AttachNetworkInterface {
        /// The interface.
        network_interface: NetworkInterfaceId,
        /// The instance.
        instance: InstanceId,
        /// `eth1` for 1.
        device_index: u8,
    },
    /// An instance's interface, but not its primary one, is nobody's from now on.
    DetachNetworkInterface(NetworkInterfaceId),
    /// Whether an instance wants a public address from Amazon's pool (AWS: ModifyNetworkInterfaceAttribute).
    ModifyAssociatePublicIp {
        /// The instance.
        instance: InstanceId,
        /// Whether it wants one from now on.
        associate: bool,
    },
    /// Other user data for a stopped instance, which has run its first ones (AWS: ModifyInstanceAttribute).
    ModifyUserData {
        /// The instance.
        instance: InstanceId,
        /// Its user data from now on.
        user_data: Option<String>,
    },
    /// How an instance may ask for its metadata (AWS: ModifyInstanceMetadataOptions).
    ModifyInstanceMetadataOptions {
        /// The instance.
        instance: InstanceId,
        /// How from now on.
        options: MetadataOptions,
    },
    /// Another set of groups for an interface (SG-23).
    ModifyNetworkInterfaceGroups {
        /// The interface.
        network_interface: NetworkInterfaceId,
        /// Its groups from now on.
        groups: Vec<SecurityGroupId>,
    },
    /// The source/destination check of an interface, on or off (SDC-0).
    ModifySourceDestCheck {
        /// The interface.
        network_interface: NetworkInterfaceId,
        /// Whether it is on from now on.
        source_dest_check: bool,
    },
    /// More secondary addresses for an interface.
    AssignPrivateIpAddresses {
        /// The interface.
        network_interface: NetworkInterfaceId,
        /// The new ones.
        addresses: Vec<Ipv4Addr>,
        /// Also those that are another interface's secondary ones; an Elastic IP address that stands for one stays so.
        allow_reassignment: bool,
    },
    /// Fewer secondary addresses for an interface.
    UnassignPrivateIpAddresses {
        /// The interface.
        network_interface: NetworkInterfaceId,
        /// Those that go.
        addresses: Vec<Ipv4Addr>,
    },
}

impl World {
    /// Makes one change, or none.
    ///
    /// # Errors
    /// What AWS would answer; the world is then as it was.
    pub fn apply(&mut self, op: Op) -> Result<(), Refusal> {
        match op {
            Op::CreateVpc(request) => self.create_vpc(request),
            Op::ModifyVpcAttribute { vpc, attribute, value } => self.modify_vpc(vpc, attribute, value),
            Op::CreateDhcpOptions(set) => self.create_dhcp_options(set),
            Op::DeleteDhcpOptions(id) => self.delete_dhcp_options(id),
            Op::AssociateDhcpOptions { vpc, set } => self.associate_dhcp_options(vpc, set),
            Op::CreateHostedZone(zone) => self.create_hosted_zone(zone),
            Op::DeleteHostedZone(id) => self.delete_hosted_zone(id),
            Op::AssociateVpcWithHostedZone { zone, vpc } => self.associate_hosted_zone(zone, vpc),
            Op::DisassociateVpcFromHostedZone { zone, vpc } => self.disassociate_hosted_zone(zone, vpc),
            Op::ChangeResourceRecordSets { zone, name, kind, change } => {
                self.change_record_set(zone, &name, kind, change)
            }
            Op::DeleteVpc(id) => self.delete_vpc(id),
            Op::CreateSubnet(request) => self.create_subnet(request),
            Op::DeleteSubnet(id) => self.delete_subnet(id),
            Op::AttachInternetGateway(gateway) => self.attach_internet_gateway(gateway),
            Op::DetachInternetGateway(id) => self.detach_internet_gateway(id),
            Op::AttachVpnGateway(gateway) => self.attach_vpn_gateway(gateway),
            Op::DetachVpnGateway(id) => self.detach_vpn_gateway(id),
            Op::CreateVpnConnection(connection) => self.create_vpn_connection(connection),
            Op::DeleteVpnConnection(id) => self.delete_vpn_connection(id),
            Op::CreateVpnConnectionRoute { connection, destination } => {
                self.create_vpn_connection_route(connection, destination)
            }
            Op::DeleteVpnConnectionRoute { connection, destination } => {
                self.delete_vpn_connection_route(connection, destination)
            }
            Op::EnableVgwRoutePropagation { route_table, gateway } => self.enable_propagation(route_table, gateway),
            Op::DisableVgwRoutePropagation { route_table, gateway } => self.disable_propagation(route_table, gateway),
            Op::CreateRouteTable { id, vpc, tags, origin } => self.create_route_table(id, vpc, tags, origin),
            Op::DeleteRouteTable(id) => self.delete_route_table(id),
            Op::CreateRoute { route_table, destination, target, origin } => {
                self.create_route(route_table, destination, target, origin)
            }
            Op::ReplaceRoute { route_table, destination, target, origin } => {
                self.replace_route(route_table, destination, target, origin)
            }
            Op::DeleteRoute { route_table, destination } => self.delete_route(route_table, destination),
            Op::AssociateRouteTable { route_table, subnet } => self.associate_route_table(route_table, subnet),
            Op::ReplaceRouteTableAssociation { route_table, subnet } => {
                self.replace_route_table_association(route_table, subnet)
            }
            Op::DisassociateRouteTable(subnet) => self.disassociate_route_table(subnet),
            Op::AssociateGatewayRouteTable { route_table, gateway } => {
                self.associate_gateway_route_table(route_table, gateway)
            }
            Op::DisassociateGatewayRouteTable(gateway) => self.disassociate_gateway_route_table(gateway),
            Op::ModifyAsymmetricReturn { gateway, passes } => self.modify_asymmetric_return(gateway, passes),
            Op::ReplaceMainRouteTable { vpc, route_table } => self.replace_main_route_table(vpc, route_table),
            Op::CreateSecurityGroup { id, vpc, name, description, tags, origin } => {
                self.create_security_group(id, vpc, name, description, tags, origin)
            }
            Op::DeleteSecurityGroup(id) => self.delete_security_group(id),
            Op::AuthorizeSecurityGroupIngress { group, rule } => self.authorize(group, rule, |g| &mut g.ingress),
            Op::AuthorizeSecurityGroupEgress { group, rule } => self.authorize(group, rule, |g| &mut g.egress),
            Op::RevokeSecurityGroupIngress { group, traffic, peer } => {
                self.revoke(group, traffic, peer, |g| &mut g.ingress)
            }
            Op::RevokeSecurityGroupEgress { group, traffic, peer } => {
                self.revoke(group, traffic, peer, |g| &mut g.egress)
            }
            Op::CreateNetworkAcl { id, vpc, tags, origin } => self.create_network_acl(id, vpc, tags, origin),
            Op::DeleteNetworkAcl(id) => self.delete_network_acl(id),
            Op::CreateNetworkAclEntry { network_acl, egress, rule_number, entry } => {
                self.create_network_acl_entry(network_acl, egress, rule_number, entry)
            }
            Op::ReplaceNetworkAclEntry { network_acl, egress, rule_number, entry } => {
                self.replace_network_acl_entry(network_acl, egress, rule_number, entry)
            }
            Op::DeleteNetworkAclEntry { network_acl, egress, rule_number } => {
                self.delete_network_acl_entry(network_acl, egress, rule_number)
            }
            Op::ReplaceNetworkAclAssociation { network_acl, subnet } => {
                self.replace_network_acl_association(network_acl, subnet)
            }
            Op::AllocateAddress { id, public_ip, tags, origin } => self.allocate_address(id, public_ip, tags, origin),
            Op::ReleaseAddress(id) => self.release_address(id),
            Op::AssociateAddress { allocation, network_interface, private_ip, allow_reassociation } => {
                self.associate_address(allocation, network_interface, private_ip, allow_reassociation)
            }
            Op::DisassociateAddress(id) => self.disassociate_address(id),
            Op::CreateHost(request) => self.create_host(request),
            Op::DeleteHost(id) => self.delete_host(id),
            Op::CreateNatGateway(request) => self.create_nat_gateway(request),
            Op::DeleteNatGateway(id) => self.delete_nat_gateway(id),
            Op::RunInstance(request) => self.run_instance(request),
            Op::StopInstance(id) => self.stop_instance(id),
            Op::StartInstance { instance, launch_time } => self.start_instance(instance, launch_time),
            Op::TerminateInstance(id) => self.terminate_instance(id),
            Op::CreateNetworkInterface { interface, load_balancer } => {
                self.create_network_interface(&interface, load_balancer)
            }
            Op::DeleteNetworkInterface(id) => self.delete_network_interface(id),
            Op::AttachNetworkInterface { network_interface, instance, device_index } => {
                self.attach_network_interface(network_interface, instance, device_index)
            }
            Op::DetachNetworkInterface(id) => self.detach_network_interface(id),
            Op::ModifyAssociatePublicIp { instance, associate } => self.modify_associate_public_ip(instance, associate),
            Op::ModifyUserData { instance, user_data } => self.modify_user_data(instance, user_data),
            Op::ModifyInstanceMetadataOptions { instance, options } => self.modify_metadata_options(instance, options),
            Op::ModifyNetworkInterfaceGroups { network_interface, groups } => {
                self.modify_groups(network_interface, groups)
            }
            Op::ModifySourceDestCheck { network_interface, source_dest_check } => {
                self.modify_source_dest_check(network_interface, source_dest_check)
            }
            Op::AssignPrivateIpAddresses { network_interface, addresses, allow_reassignment } => {
                self.assign_addresses(network_interface, &addresses, allow_reassignment)
            }
            Op::UnassignPrivateIpAddresses { network_interface, addresses } => {
                self.unassign_addresses(network_interface, &addresses)
            }
        }
    }

    /// An id may be given once only.
    fn unused(&self, taken: bool, id: impl std::fmt::Display) -> Result<(), Refusal> {
        if taken {
            let message = format!("The id '{id}' is used twice");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "Id", message));
        }
        Ok(())
    }
}

/// What still needs a resource keeps it from being deleted.
fn dependency(kind: &str, id: impl std::fmt::Display, held_by: Option<String>) -> Result<(), Refusal> {
    let Some(held_by) = held_by else { return Ok(()) };
    let message = format!("The {kind} '{id}' has dependencies and cannot be deleted: {held_by}.");
    Err(Refusal::new(ErrorCode::DependencyViolation, "", message))
}
