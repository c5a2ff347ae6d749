//! Ways out of a VPC, and what is at their far ends.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{Origin, Tags};
use crate::id::*;

/// An internet gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternetGateway {
    /// Its id.
    pub id: InternetGatewayId,
    /// The VPC it is attached to.
    pub vpc: VpcId,
    /// Its edge association: the table for what comes in by it.
    pub route_table: Option<RouteTableId>,
    /// The switch of R-37: what its table leads to a middlebox may be answered past that.
    pub passes_asymmetric_return: bool,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// A virtual private gateway: where VPN connections end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnGateway {
    /// Its id.
    pub id: VpnGatewayId,
    /// The VPC it is attached to.
    pub vpc: VpcId,
    /// Its edge association: the table for what comes in by it.
    pub route_table: Option<RouteTableId>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// A VPN connection with static routes, and the customer's site at its far end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnConnection {
    /// Its id.
    pub id: VpnConnectionId,
    /// Where it ends on AWS.
    pub vpn_gateway: VpnGatewayId,
    /// The blocks of the site, which the gateway sends there and propagates (VPN-1).
    pub static_routes: Vec<Ipv4Net>,
    /// The address that the customer's router has in the site.
    pub router: Ipv4Addr,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// A NAT gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatGateway {
    /// Its id.
    pub id: NatGatewayId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its interface, which holds its private addresses (NAT-5); gone when the gateway is deleted.
    pub network_interface: NetworkInterfaceId,
    /// Public or private (NAT-1).
    pub connectivity: Connectivity,
    /// NAT-33.
    pub state: NatGatewayState,
    /// When it was created, in RFC 3339.
    pub create_time: String,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl NatGateway {
    /// Does it serve?
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.state == NatGatewayState::Available
    }
}

/// AWS's `ConnectivityType`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Connectivity {
    /// No Elastic IP.
    Private,
    /// With an Elastic IP for each of its private addresses, in their order, which only the internet gateway uses
    /// (NAT-2).
    Public(Vec<AllocationId>),
}

/// NAT-33. Creating and deleting take no time here, so nobody sees `pending` and `deleting`, and nothing fails later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NatGatewayState {
    /// In service.
    Available,
    /// Gone, but still shown.
    Deleted,
}

impl NatGatewayState {
    /// As AWS prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Deleted => "deleted",
        }
    }
}
