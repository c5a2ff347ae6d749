//! Route tables and routes.

use ipnet::{IpNet, Ipv4Net};

use super::dependency;
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// no route may lead into the link-local service range.
const LINK_LOCAL_SERVICES: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(169, 254, 168, 0), 22);

/// Routes per table, the local one among them.
const ROUTES_PER_TABLE: usize = 500;

impl World {
    pub(super) fn create_route_table(
        &mut self,
        id: RouteTableId,
        vpc: VpcId,
        tags: Tags,
        origin: Origin,
    ) -> Result<(), Refusal> {
        self.unused(self.route_tables.contains_key(&id), id)?;
        let local = Route {
            destination: self.vpc(vpc)?.cidr.into(),
            target: RouteTarget::Local,
            route_origin: RouteOrigin::CreateRouteTable,
            origin: Origin::default(),
        };
        self.route_tables
            .insert(id, RouteTable { id, vpc, routes: vec![local], propagating_vgws: Vec::new(), tags, origin });
        Ok(())
    }

    pub(super) fn create_route(
        &mut self,
        route_table: RouteTableId,
        destination: IpNet,
        target: RouteTarget,
        origin: Origin,
    ) -> Result<(), Refusal> {
        let refuse = |code, message| Err(Refusal::new(code, "DestinationCidrBlock", message));
        let table = self.route_table(route_table)?;
        let vpc = self.vpc(table.vpc)?;
        let IpNet::V4(v4) = destination else {
            let message = format!("{destination}: IPv6 routes aren't supported yet");
            return refuse(ErrorCode::InvalidParameterValue, message);
        };
        if v4.addr() != v4.network() {
            let message = format!("The destination CIDR block {v4} is not valid. Did you mean {}?", v4.trunc());
            return refuse(ErrorCode::InvalidParameterValue, message);
        }
        if LINK_LOCAL_SERVICES.contains(&v4) {
            let message = format!("{v4} lies in 169.254.168.0/22, which is reserved for AWS services.");
            return refuse(ErrorCode::InvalidParameterValue, message);
        }
        if table.routes.iter().any(|route| route.destination == destination) {
            return refuse(ErrorCode::RouteAlreadyExists, format!("The route identified by {v4} already exists."));
        }
        if table.routes.len() >= ROUTES_PER_TABLE {
            let message = format!("The maximum number of routes has been reached for the route table {route_table}.");
            return refuse(ErrorCode::RouteLimitExceeded, message);
        }
        self.check_target(vpc.id, target)?;
        if target == RouteTarget::Local && !vpc.cidr.contains(&v4) {
            let message = format!("{v4}: a local route leads inside the VPC, {}", vpc.cidr);
            return refuse(ErrorCode::InvalidParameterValue, message);
        }
        if self.gateway_of(route_table).is_some() {
            self.check_gateway_route(vpc, destination, target)?;
        }
        if vpc.cidr.contains(&v4) {
            self.check_more_specific(vpc.id, v4, target)?;
        }
        let route = Route { destination, target, route_origin: RouteOrigin::CreateRoute, origin };
        if let Some(table) = self.route_tables.get_mut(&route_table) {
            table.routes.push(route);
        }
        Ok(())
    }

    /// also the local route may lead elsewhere, and back.
    pub(super) fn replace_route(
        &mut self,
        route_table: RouteTableId,
        destination: IpNet,
        target: RouteTarget,
        origin: Origin,
    ) -> Result<(), Refusal> {
        let table = self.route_table(route_table)?;
        let vpc = self.vpc(table.vpc)?;
        let at = find_route(table, destination)?;
        self.check_target(vpc.id, target)?;
        if self.gateway_of(route_table).is_some() {
            self.check_gateway_route(vpc, destination, target)?;
        }
        match destination {
            IpNet::V4(v4) if v4 == vpc.cidr => check_middlebox(target, true)?,
            IpNet::V4(v4) if vpc.cidr.contains(&v4) => self.check_more_specific(vpc.id, v4, target)?,
            _ if target == RouteTarget::Local => {
                let message = format!("{destination}: a local route leads inside the VPC, {}", vpc.cidr);
                return Err(Refusal::new(ErrorCode::InvalidParameterValue, "Target", message));
            }
            _ => {}
        }
        if let Some(route) = self.route_tables.get_mut(&route_table).and_then(|table| table.routes.get_mut(at)) {
            route.target = target;
            route.origin = origin;
        }
        Ok(())
    }

    pub(super) fn delete_route(&mut self, route_table: RouteTableId, destination: IpNet) -> Result<(), Refusal> {
        let table = self.route_table(route_table)?;
        let at = find_route(table, destination)?;
        if table.routes[at].route_origin == RouteOrigin::CreateRouteTable {
            let message = format!("cannot remove local route {destination} in route table {route_table}");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "DestinationCidrBlock", message));
        }
        if let Some(table) = self.route_tables.get_mut(&route_table) {
            table.routes.remove(at);
        }
        Ok(())
    }

    /// The target is there, and in the table's VPC.
    fn check_target(&self, vpc: VpcId, target: RouteTarget) -> Result<(), Refusal> {
        let (id, home) = match target {
            RouteTarget::Local => (String::from("local"), vpc),
            RouteTarget::InternetGateway(id) => (id.to_string(), self.internet_gateway(id)?.vpc),
            RouteTarget::VpnGateway(id) => (id.to_string(), self.vpn_gateway(id)?.vpc),
            RouteTarget::NatGateway(id) => (id.to_string(), self.subnet(self.nat_gateway(id)?.subnet)?.vpc),
            RouteTarget::NetworkInterface(id) => (id.to_string(), self.subnet(self.network_interface(id)?.subnet)?.vpc),
        };
        if home != vpc {
            let message = format!("route table and route target {id} belong to different networks ({vpc} and {home})");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "Target", message));
        }
        Ok(())
    }

    /// more specific than local means a whole subnet, and only some targets.
    fn check_more_specific(&self, vpc: VpcId, destination: Ipv4Net, target: RouteTarget) -> Result<(), Refusal> {
        let code = ErrorCode::InvalidParameterValue;
        if !self.subnets.values().any(|subnet| subnet.vpc == vpc && subnet.cidr == destination) {
            let message = "Route destination doesn't match any subnet CIDR blocks.";
            return Err(Refusal::new(code, "DestinationCidrBlock", message));
        }
        check_middlebox(target, false)
    }

    pub(super) fn associate_route_table(&mut self, table: RouteTableId, subnet: SubnetId) -> Result<(), Refusal> {
        let (home, vpc) = (self.route_table(table)?.vpc, self.subnet(subnet)?.vpc);
        same_network("route table", table, home, "subnet", subnet, vpc)?;
        if let Some(other) = self.subnet(subnet)?.route_table {
            let message = format!("the subnet {subnet} is already associated with {other}");
            return Err(Refusal::new(ErrorCode::ResourceAlreadyAssociated, "RouteTableId", message));
        }
        if let Some(subnet) = self.subnets.get_mut(&subnet) {
            subnet.route_table = Some(table);
        }
        Ok(())
    }

    pub(super) fn replace_route_table_association(
        &mut self,
        table: RouteTableId,
        subnet: SubnetId,
    ) -> Result<(), Refusal> {
        let (home, vpc) = (self.route_table(table)?.vpc, self.subnet(subnet)?.vpc);
        same_network("route table", table, home, "subnet", subnet, vpc)?;
        self.check_associated(subnet)?;
        if let Some(subnet) = self.subnets.get_mut(&subnet) {
            subnet.route_table = Some(table);
        }
        Ok(())
    }

    pub(super) fn disassociate_route_table(&mut self, subnet: SubnetId) -> Result<(), Refusal> {
        self.check_associated(subnet)?;
        if let Some(subnet) = self.subnets.get_mut(&subnet) {
            subnet.route_table = None;
        }
        Ok(())
    }

    fn check_associated(&self, subnet: SubnetId) -> Result<(), Refusal> {
        if self.subnet(subnet)?.route_table.is_none() {
            let message = format!("the subnet {subnet} has no route table of its own");
            return Err(Refusal::new(ErrorCode::InvalidAssociationIdNotFound, "SubnetId", message));
        }
        Ok(())
    }

    pub(super) fn delete_route_table(&mut self, id: RouteTableId) -> Result<(), Refusal> {
        let table = self.route_table(id)?;
        let main = self.vpc(table.vpc)?.main_route_table == id;
        let served = self.subnets.values().find(|subnet| subnet.route_table == Some(id));
        let held_by = main.then(|| "it is the main route table".to_owned());
        let gateway = self.gateway_of(id).map(|gateway| format!("gateway {gateway}"));
        let held_by = held_by.or(served.map(|subnet| format!("subnet {}", subnet.id))).or(gateway);
        dependency("routeTable", id, held_by)?;
        self.route_tables.remove(&id);
        Ok(())
    }

    pub(super) fn replace_main_route_table(&mut self, vpc: VpcId, table: RouteTableId) -> Result<(), Refusal> {
        same_network("route table", table, self.route_table(table)?.vpc, "network", vpc, vpc)?;
        if let Some(gateway) = self.gateway_of(table) {
            let message = format!("{table} is associated with gateway {gateway}, and cannot be the main route table");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "RouteTableId", message));
        }
        if let Some(vpc) = self.vpcs.get_mut(&vpc) {
            vpc.main_route_table = table;
        }
        Ok(())
    }
}

fn find_route(table: &RouteTable, destination: IpNet) -> Result<usize, Refusal> {
    table.routes.iter().position(|route| route.destination == destination).ok_or_else(|| {
        let message = format!("There is no route defined for '{destination}' in the route table {}", table.id);
        Refusal::new(ErrorCode::InvalidRouteNotFound, "DestinationCidrBlock", message)
    })
}

/// traffic inside the VPC is led to what forwards it, or stays local where it was.
fn check_middlebox(target: RouteTarget, may_be_local: bool) -> Result<(), Refusal> {
    match target {
        RouteTarget::NatGateway(_) | RouteTarget::NetworkInterface(_) => Ok(()),
        RouteTarget::Local if may_be_local => Ok(()),
        RouteTarget::Local | RouteTarget::InternetGateway(_) | RouteTarget::VpnGateway(_) => {
            let message = "Route target is not supported. This route only supports NAT gateways, network interfaces and Gateway Load Balancer endpoints as targets.";
            Err(Refusal::new(ErrorCode::InvalidParameterValue, "Target", message))
        }
    }
}

/// Two resources that work together are of one VPC.
pub(super) fn same_network(
    what: &str,
    id: impl std::fmt::Display,
    home: VpcId,
    with: &str,
    other: impl std::fmt::Display,
    other_home: VpcId,
) -> Result<(), Refusal> {
    if home == other_home {
        return Ok(());
    }
    let message = format!("{what} {id} and {with} {other} belong to different networks.");
    Err(Refusal::new(ErrorCode::InvalidParameterValue, "", message))
}
