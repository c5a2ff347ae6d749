//! NAT gateways.

use std::net::Ipv4Addr;

use super::NewInterface;
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// Private addresses of one gateway (NAT-5).
const ADDRESSES_PER_GATEWAY: usize = 8;

/// Parameters of [`Op::CreateNatGateway`](super::Op::CreateNatGateway).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateNatGateway {
    /// Its id.
    pub id: NatGatewayId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Public or private.
    pub connectivity: Connectivity,
    /// Its address; the lowest free one if none is given.
    pub private_ip: Option<Ipv4Addr>,
    /// Further addresses (NAT-5). A public gateway has one for each Elastic IP address beyond the first; those that
    /// aren't given are the lowest free ones.
    pub secondary_private_ips: Vec<Ipv4Addr>,
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

impl World {
    pub(super) fn create_nat_gateway(&mut self, request: CreateNatGateway) -> Result<(), Refusal> {
        let CreateNatGateway { id, subnet, connectivity, network_interface, mac, create_time, tags, origin, .. } =
            &request;
        self.unused(self.nat_gateways.get(id).is_some_and(NatGateway::is_available), id)?;
        self.unused(self.network_interfaces.contains_key(network_interface), network_interface)?;
        let home = self.subnet(*subnet)?;
        let addresses = self.gateway_addresses(&request, home)?;
        let interface = NewInterface {
            id: *network_interface,
            subnet: *subnet,
            private_ip: None,
            secondary_private_ips: Vec::new(),
            mac: *mac,
            groups: Vec::new(),
            source_dest_check: false,
            tags: Tags::default(),
            origin: *origin,
        };
        self.insert_interface(interface, addresses.clone(), Some(Attachment::NatGateway(*id)));
        if let Connectivity::Public(allocations) = connectivity {
            for (allocation, private_ip) in allocations.iter().zip(addresses) {
                if let Some(address) = self.addresses.get_mut(allocation) {
                    address.association = Some(Association { network_interface: *network_interface, private_ip });
                }
            }
        }
        let gateway = NatGateway {
            id: *id,
            subnet: *subnet,
            network_interface: *network_interface,
            connectivity: connectivity.clone(),
            state: NatGatewayState::Available,
            create_time: create_time.clone(),
            tags: tags.clone(),
            origin: *origin,
        };
        self.nat_gateways.insert(*id, gateway);
        Ok(())
    }

    fn gateway_addresses(&self, request: &CreateNatGateway, subnet: &Subnet) -> Result<Vec<Ipv4Addr>, Refusal> {
        let mut wanted = 1 + request.secondary_private_ips.len();
        if let Connectivity::Public(allocations) = &request.connectivity {
            self.check_allocations(allocations, subnet)?;
            if wanted > allocations.len() {
                let message = format!("{wanted} private addresses need as many Elastic IP addresses");
                return Err(Refusal::new(ErrorCode::InvalidParameterCombination, "SecondaryAllocationId", message));
            }
            wanted = allocations.len();
        }
        if wanted > ADDRESSES_PER_GATEWAY {
            let message = format!("A NAT gateway has at most {ADDRESSES_PER_GATEWAY} private addresses");
            return Err(Refusal::new(ErrorCode::PrivateIpAddressLimitExceeded, "PrivateIpAddress", message));
        }
        let mut addresses = self.pick_addresses(subnet, request.private_ip, &request.secondary_private_ips)?;
        while addresses.len() < wanted {
            let taken = addresses.iter().copied().collect();
            addresses.push(self.lowest_free(subnet, &taken)?);
        }
        Ok(addresses)
    }

    fn check_allocations(&self, allocations: &[AllocationId], subnet: &Subnet) -> Result<(), Refusal> {
        if self.vpc(subnet.vpc)?.internet_gateway.is_none() {
            let message = format!("Network {} has no Internet gateway attached", subnet.vpc);
            return Err(Refusal::new(ErrorCode::GatewayNotAttached, "SubnetId", message));
        }
        for (at, allocation) in allocations.iter().enumerate() {
            let held = self.address(*allocation)?.association.map(|held| held.network_interface.to_string());
            let twice = allocations[..at].contains(allocation).then(|| "this NAT gateway".to_owned());
            if let Some(holder) = held.or(twice) {
                let message = format!("Elastic IP address [{allocation}] is already associated with {holder}");
                return Err(Refusal::new(ErrorCode::ResourceAlreadyAssociated, "AllocationId", message));
            }
        }
        Ok(())
    }

    pub(super) fn delete_nat_gateway(&mut self, id: NatGatewayId) -> Result<(), Refusal> {
        let gateway = self.nat_gateway(id)?;
        if !gateway.is_available() {
            let message = format!("The NAT gateway {id} was deleted already");
            return Err(Refusal::new(ErrorCode::NatGatewayNotFound, "NatGatewayId", message));
        }
        let interface = gateway.network_interface;
        self.remove_interface(interface);
        if let Some(gateway) = self.nat_gateways.get_mut(&id) {
            gateway.state = NatGatewayState::Deleted;
        }
        Ok(())
    }
}
