//! Virtual private gateways, the VPN connections that end there, and what they tell route tables.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::address::is_nobodys;
use super::dependency;
use super::route::same_network;
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// Static routes of one VPN connection.
const ROUTES_PER_CONNECTION: usize = 100;

impl World {
    pub(super) fn attach_vpn_gateway(&mut self, gateway: VpnGateway) -> Result<(), Refusal> {
        self.unused(self.vpn_gateways.contains_key(&gateway.id), gateway.id)?;
        let vpc = self.vpc(gateway.vpc)?.id;
        if let Some(other) = self.vpn_gateway_of(vpc) {
            let message = format!("Network {vpc} already has virtual private gateway {} attached", other.id);
            return Err(Refusal::new(ErrorCode::ResourceAlreadyAssociated, "VpcId", message));
        }
        self.vpn_gateways.insert(gateway.id, gateway);
        Ok(())
    }

    pub(super) fn detach_vpn_gateway(&mut self, id: VpnGatewayId) -> Result<(), Refusal> {
        self.vpn_gateway(id)?;
        let connection = self.vpn_connections.values().find(|connection| connection.vpn_gateway == id);
        dependency("vpnGateway", id, connection.map(|connection| format!("VPN connection {}", connection.id)))?;
        self.vpn_gateways.remove(&id);
        for table in self.route_tables.values_mut() {
            table.propagating_vgws.retain(|gateway| *gateway != id);
        }
        Ok(())
    }

    /// The block that its router is in is among its routes from the beginning.
    pub(super) fn create_vpn_connection(&mut self, new: VpnConnection) -> Result<(), Refusal> {
        self.unused(self.vpn_connections.contains_key(&new.id), new.id)?;
        self.vpn_gateway(new.vpn_gateway)?;
        let VpnConnection { id, router, static_routes, .. } = &new;
        for (number, destination) in static_routes.iter().enumerate() {
            self.check_static_route(new.vpn_gateway, *destination, &static_routes[..number])?;
        }
        check_router(*id, *router, static_routes)?;
        self.vpn_connections.insert(new.id, new);
        Ok(())
    }

    pub(super) fn delete_vpn_connection(&mut self, id: VpnConnectionId) -> Result<(), Refusal> {
        self.vpn_connection(id)?;
        let host = self.hosts.values().find(|host| host.site == Some(id));
        dependency("vpnConnection", id, host.map(|host| format!("host {}", host.name)))?;
        self.vpn_connections.remove(&id);
        Ok(())
    }

    pub(super) fn create_vpn_connection_route(
        &mut self,
        id: VpnConnectionId,
        destination: Ipv4Net,
    ) -> Result<(), Refusal> {
        let connection = self.vpn_connection(id)?;
        self.check_static_route(connection.vpn_gateway, destination, &connection.static_routes)?;
        if let Some(connection) = self.vpn_connections.get_mut(&id) {
            connection.static_routes.push(destination);
        }
        Ok(())
    }

    pub(super) fn delete_vpn_connection_route(
        &mut self,
        id: VpnConnectionId,
        destination: Ipv4Net,
    ) -> Result<(), Refusal> {
        let connection = self.vpn_connection(id)?;
        let rest: Vec<_> = connection.static_routes.iter().copied().filter(|route| *route != destination).collect();
        if rest.len() == connection.static_routes.len() {
            let message = format!("The VPN connection '{id}' has no route for '{destination}'");
            return Err(Refusal::new(ErrorCode::InvalidRouteNotFound, "DestinationCidrBlock", message));
        }
        check_router(id, connection.router, &rest)?;
        let stranded = |host: &&Host| host.site == Some(id) && !rest.iter().any(|block| block.contains(&host.address));
        let host = self.hosts.values().find(stranded).map(|host| format!("host {}", host.name));
        dependency("vpnConnectionRoute", destination, host)?;
        if let Some(connection) = self.vpn_connections.get_mut(&id) {
            connection.static_routes = rest;
        }
        Ok(())
    }

    /// AWS would take one of two that are equal (VPN-2); which one, nobody says.
    fn check_static_route(
        &self,
        gateway: VpnGatewayId,
        destination: Ipv4Net,
        before: &[Ipv4Net],
    ) -> Result<(), Refusal> {
        let refuse = |message: String| Refusal::new(ErrorCode::InvalidParameterValue, "DestinationCidrBlock", message);
        let nobodys = destination.prefix_len() > 0 && is_nobodys(destination.addr());
        if destination.addr() != destination.network() || nobodys {
            return Err(refuse(format!("Value ({destination}) for parameter destinationCidrBlock is invalid.")));
        }
        if before.len() >= ROUTES_PER_CONNECTION {
            let message = format!("A VPN connection has at most {ROUTES_PER_CONNECTION} routes");
            return Err(Refusal::new(ErrorCode::RouteLimitExceeded, "DestinationCidrBlock", message));
        }
        let at_gateway = self.vpn_connections.values().filter(|connection| connection.vpn_gateway == gateway);
        let mut taken = at_gateway.flat_map(|connection| &connection.static_routes).chain(before);
        match taken.any(|other| *other == destination) {
            true => {
                Err(refuse(format!("The virtual private gateway '{gateway}' has a route for {destination} already")))
            }
            false => Ok(()),
        }
    }

    pub(super) fn enable_propagation(&mut self, id: RouteTableId, gateway: VpnGatewayId) -> Result<(), Refusal> {
        let table = self.route_table(id)?;
        let home = self.vpn_gateway(gateway)?.vpc;
        same_network("route table", id, table.vpc, "gateway", gateway, home)
            .map_err(|refusal| Refusal { code: ErrorCode::GatewayNotAttached, ..refusal })?;
        if let Some(edge) = self.gateway_of(id) {
            let message = format!("{id} is associated with gateway {edge}: no routes are propagated into it");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "GatewayId", message));
        }
        if let Some(table) = self.route_tables.get_mut(&id).filter(|table| !table.propagating_vgws.contains(&gateway)) {
            table.propagating_vgws.push(gateway);
        }
        Ok(())
    }

    pub(super) fn disable_propagation(&mut self, id: RouteTableId, gateway: VpnGatewayId) -> Result<(), Refusal> {
        self.route_table(id)?;
        if let Some(table) = self.route_tables.get_mut(&id) {
            table.propagating_vgws.retain(|other| *other != gateway);
        }
        Ok(())
    }

    /// A VPC has at most one attached.
    #[must_use]
    pub fn vpn_gateway_of(&self, vpc: VpcId) -> Option<&VpnGateway> {
        self.vpn_gateways.values().find(|gateway| gateway.vpc == vpc)
    }
}

/// Can a machine in the block have the address?
pub(super) fn is_ones(block: Ipv4Net, address: Ipv4Addr) -> bool {
    block.contains(&address) && (block.prefix_len() > 30 || ![block.network(), block.broadcast()].contains(&address))
}

/// The customer's router is in the site that it serves.
fn check_router(id: VpnConnectionId, router: Ipv4Addr, blocks: &[Ipv4Net]) -> Result<(), Refusal> {
    if blocks.iter().any(|block| is_ones(*block, router)) {
        return Ok(());
    }
    let message = format!("The router of '{id}' has the address {router}, which is no host's in one of its blocks");
    Err(Refusal::new(ErrorCode::InvalidParameterValue, "Router", message))
}
