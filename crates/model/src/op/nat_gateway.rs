//! NAT gateways.

use super::CreateNatGateway;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

impl World {
    pub(super) fn create_nat_gateway(&mut self, request: CreateNatGateway) -> Result<(), Refusal> {
        let CreateNatGateway {
            id,
            subnet,
            connectivity,
            private_ip,
            network_interface,
            mac,
            create_time,
            tags,
            origin,
        } = request;
        self.unused(self.nat_gateways.contains_key(&id), id)?;
        self.unused(self.network_interfaces.contains_key(&network_interface), network_interface)?;
        let subnet = self.subnet(subnet)?;
        if let Connectivity::Public(allocation) = connectivity {
            if self.vpc(subnet.vpc)?.internet_gateway.is_none() {
                let message = format!("Network {} has no Internet gateway attached", subnet.vpc);
                return Err(Refusal::new(ErrorCode::GatewayNotAttached, "SubnetId", message));
            }
            if let Some(holder) = self.address(allocation)?.network_interface {
                let message = format!("Elastic IP address [{allocation}] is already associated with {holder}");
                return Err(Refusal::new(ErrorCode::ResourceAlreadyAssociated, "AllocationId", message));
            }
        }
        let private_ip = self.pick_address(subnet, private_ip)?;
        let subnet = subnet.id;
        let eni = NetworkInterface {
            id: network_interface,
            serial: self.next_serial(),
            subnet,
            mac,
            private_ip,
            groups: Vec::new(),
            source_dest_check: false,
            attachment: Attachment::NatGateway(id),
            tags: Tags::default(),
            origin,
        };
        self.network_interfaces.insert(eni.id, eni);
        if let Connectivity::Public(allocation) = connectivity
            && let Some(address) = self.addresses.get_mut(&allocation)
        {
            address.network_interface = Some(network_interface);
        }
        let state = NatGatewayState::Available;
        self.nat_gateways
            .insert(id, NatGateway { id, subnet, network_interface, connectivity, state, create_time, tags, origin });
        Ok(())
    }
}
