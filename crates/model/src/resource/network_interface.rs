//! Network interfaces and their public addresses.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{MacAddress, Origin, Serial, Tags};
use crate::id::*;

/// An Elastic IP address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Its id.
    pub id: AllocationId,
    /// The public address.
    pub public_ip: Ipv4Addr,
    /// What it stands for.
    pub association: Option<Association>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// What an Elastic IP address stands for: one private address of one interface (IGW-7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Association {
    /// The interface.
    pub network_interface: NetworkInterfaceId,
    /// Its address.
    pub private_ip: Ipv4Addr,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    /// Its id.
    pub id: NetworkInterfaceId,
    /// Its number in flow state.
    pub serial: Serial,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its MAC address.
    pub mac: MacAddress,
    /// Its primary private address.
    pub private_ip: Ipv4Addr,
    /// Further private addresses, in the order in which they were given.
    pub secondary_private_ips: Vec<Ipv4Addr>,
    /// What Amazon's pool has lent for the primary address (IGW-8).
    pub public_ip: Option<Ipv4Addr>,
    /// Its groups; none for a NAT gateway's (NAT-4).
    pub groups: Vec<SecurityGroupId>,
    /// SDC-0.
    pub source_dest_check: bool,
    /// Whose it is; an interface of its own may be nobody's.
    pub attachment: Option<Attachment>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl NetworkInterface {
    /// All private addresses, the primary one first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        std::iter::once(self.private_ip).chain(self.secondary_private_ips.iter().copied())
    }

    /// AWS's `Status`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if self.attachment.is_some() { "in-use" } else { "available" }
    }

    /// Which of its instance's interfaces it is, if it is one's.
    #[must_use]
    pub fn device_index(&self) -> Option<u8> {
        match self.attachment {
            Some(Attachment::Instance { device_index, .. }) => Some(device_index),
            _ => None,
        }
    }

    /// Is it managed by what AWS made it for, and not by the customer (SDC-0, NAT-4)?
    #[must_use]
    pub fn is_requester_managed(&self) -> bool {
        matches!(self.attachment, Some(Attachment::NatGateway(_) | Attachment::LoadBalancer(_)))
    }

    /// The instance that it is attached to.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        match self.attachment {
            Some(Attachment::Instance { instance, .. }) => Some(instance),
            _ => None,
        }
    }
}

/// What a network interface belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Attachment {
    /// An instance's interface number `device_index`, `eth0` in the guest for 0.
    Instance {
        /// The instance.
        instance: InstanceId,
        /// AWS's device index.
        device_index: u8,
        /// Does it go with the instance, as one that was made along with it does?
        delete_on_termination: bool,
    },
    /// Requester-managed, of a NAT gateway.
    NatGateway(NatGatewayId),
    /// Requester-managed, of a load balancer.
    LoadBalancer(LoadBalancer),
}

/// A load balancer, as far as it is built: routes may lead to its interface, and nobody is behind it (SEED-17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadBalancer {
    /// A Classic Load Balancer.
    Classic,
    /// A Network Load Balancer.
    Network,
}
