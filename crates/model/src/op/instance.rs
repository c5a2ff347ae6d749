//! Instances and their interfaces.

use super::RunInstance;
use super::route::same_network;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// Groups per interface.
const GROUPS_PER_INTERFACE: usize = 5;

impl World {
    pub(super) fn run_instance(&mut self, request: RunInstance) -> Result<(), Refusal> {
        let RunInstance {
            id,
            subnet,
            private_ip,
            network_interface,
            mac,
            mut groups,
            source_dest_check,
            associate_public_ip,
            image,
            tags,
            origin,
        } = request;
        self.unused(self.instances.contains_key(&id), id)?;
        self.unused(self.network_interfaces.contains_key(&network_interface), network_interface)?;
        let subnet = self.subnet(subnet)?;
        if groups.is_empty() {
            groups.push(self.vpc(subnet.vpc)?.default_security_group);
        }
        if groups.len() > GROUPS_PER_INTERFACE {
            let message =
                "You have reached the limit on the number of security groups you can add to a network interface.";
            return Err(Refusal::new(ErrorCode::SecurityGroupsPerInterfaceLimitExceeded, "SecurityGroupId", message));
        }
        for group in &groups {
            let home = self.security_group(*group)?.vpc;
            same_network("Security group", group, home, "subnet", subnet.id, subnet.vpc)
                .map_err(|refusal| Refusal { parameter: "SecurityGroupId", ..refusal })?;
        }
        let private_ip = self.pick_address(subnet, private_ip)?;
        let subnet = subnet.id;
        let eni = NetworkInterface {
            id: network_interface,
            serial: self.next_serial(),
            subnet,
            mac,
            private_ip,
            groups,
            source_dest_check,
            attachment: Attachment::Instance { instance: id, device_index: 0 },
            tags: Tags::default(),
            origin,
        };
        self.network_interfaces.insert(eni.id, eni);
        let network_interfaces = vec![network_interface];
        let state = InstanceState::Running;
        self.instances.insert(id, Instance { id, state, image, network_interfaces, associate_public_ip, tags, origin });
        Ok(())
    }
}
