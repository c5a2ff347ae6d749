//! Gateway route tables: for what enters a VPC by its internet gateway or its virtual private gateway.

use ipnet::{IpNet, Ipv4Net};

use super::route::same_network;
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

impl World {
    pub(super) fn associate_gateway_route_table(
        &mut self,
        id: RouteTableId,
        gateway: GatewayId,
    ) -> Result<(), Refusal> {
        let table = self.route_table(id)?;
        let vpc = self.vpc(table.vpc)?;
        let home = match gateway {
            GatewayId::Internet(id) => self.internet_gateway(id)?.vpc,
            GatewayId::Vpn(id) => self.vpn_gateway(id)?.vpc,
        };
        same_network("route table", id, table.vpc, "gateway", gateway, home)?;
        if vpc.main_route_table == id {
            let message = format!("{id} is the main route table, which cannot be associated with a gateway");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "RouteTableId", message));
        }
        if !table.propagating_vgws.is_empty() {
            let message = format!("{id} has route propagation enabled, and cannot be associated with a gateway");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "RouteTableId", message));
        }
        for route in &table.routes {
            self.check_gateway_route(vpc, route.destination, route.target)?;
        }
        self.set_gateway_route_table(gateway, Some(id));
        Ok(())
    }

    pub(super) fn disassociate_gateway_route_table(&mut self, gateway: GatewayId) -> Result<(), Refusal> {
        if !self.edge_associations().any(|(other, _)| other == gateway) {
            let message = format!("the gateway {gateway} has no route table");
            return Err(Refusal::new(ErrorCode::InvalidAssociationIdNotFound, "GatewayId", message));
        }
        self.set_gateway_route_table(gateway, None);
        Ok(())
    }

    fn set_gateway_route_table(&mut self, gateway: GatewayId, table: Option<RouteTableId>) {
        let place = match gateway {
            GatewayId::Internet(id) => self.internet_gateways.get_mut(&id).map(|gateway| &mut gateway.route_table),
            GatewayId::Vpn(id) => self.vpn_gateways.get_mut(&id).map(|gateway| &mut gateway.route_table),
        };
        if let Some(place) = place {
            *place = table;
        }
    }

    pub(super) fn modify_asymmetric_return(&mut self, id: InternetGatewayId, passes: bool) -> Result<(), Refusal> {
        self.internet_gateway(id)?;
        if let Some(gateway) = self.internet_gateways.get_mut(&id) {
            gateway.passes_asymmetric_return = passes;
        }
        Ok(())
    }

    /// The gateway that a table is for.
    pub(super) fn gateway_of(&self, table: RouteTableId) -> Option<GatewayId> {
        self.edge_associations().find(|(_, other)| *other == table).map(|(gateway, _)| gateway)
    }

    /// the whole VPC or a whole subnet, and led to an interface or nowhere else.
    pub(super) fn check_gateway_route(
        &self,
        vpc: &Vpc,
        destination: IpNet,
        target: RouteTarget,
    ) -> Result<(), Refusal> {
        let refuse =
            |parameter, message: String| Err(Refusal::new(ErrorCode::InvalidParameterValue, parameter, message));
        let is_whole = |v4: Ipv4Net| {
            v4 == vpc.cidr || self.subnets.values().any(|subnet| subnet.vpc == vpc.id && subnet.cidr == v4)
        };
        match destination {
            IpNet::V4(v4) if is_whole(v4) => {}
            _ => {
                let message = format!(
                    "Route destination {destination} is not supported in a gateway route table: it must be the whole CIDR block of the VPC, {}, or of one of its subnets.",
                    vpc.cidr
                );
                return refuse("DestinationCidrBlock", message);
            }
        }
        match target {
            // SEED-17: a Classic Load Balancer's is taken, and of no use.
            RouteTarget::NetworkInterface(id) => {
                let attachment = self.network_interfaces.get(&id).and_then(|eni| eni.attachment);
                let manager = match attachment {
                    Some(Attachment::NatGateway(_)) => "NAT gateway",
                    Some(Attachment::LoadBalancer(LoadBalancer::Network)) => "Network Load Balancer",
                    _ => return Ok(()),
                };
                refuse("Target", format!("Route target is not supported. {id} is the interface of a {manager}."))
            }
            RouteTarget::Local => Ok(()),
            RouteTarget::NatGateway(_) | RouteTarget::InternetGateway(_) | RouteTarget::VpnGateway(_) => refuse(
                "Target",
                "Route target is not supported. A gateway route table only supports local, network interface and Gateway Load Balancer endpoint targets."
                    .to_owned(),
            ),
        }
    }
}
