//! Route tables.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Origin, Tags};
use crate::id::*;

/// A route table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Its id.
    pub id: RouteTableId,
    /// Its VPC.
    pub vpc: VpcId,
    /// At most one per destination; the local route first. [`World::routes`](crate::World::routes) has those that are
    /// propagated, too.
    pub routes: Vec<Route>,
    /// Virtual private gateways that propagate their routes into it.
    pub propagating_vgws: Vec<VpnGatewayId>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// What it matches.
    pub destination: IpNet,
    /// Where it leads.
    pub target: RouteTarget,
    /// How it came about, as AWS prints it (SEED-13).
    pub route_origin: RouteOrigin,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RouteTarget {
    /// Inside the VPC.
    Local,
    /// The internet gateway.
    InternetGateway(InternetGatewayId),
    /// A NAT gateway.
    NatGateway(NatGatewayId),
    /// A network interface: an appliance.
    NetworkInterface(NetworkInterfaceId),
    /// The virtual private gateway.
    VpnGateway(VpnGatewayId),
}

/// AWS's `Origin` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RouteOrigin {
    /// Made with its table: the local route.
    CreateRouteTable,
    /// Added.
    CreateRoute,
    /// Propagated by a virtual private gateway.
    EnableVgwRoutePropagation,
}
