//! Whose a network interface is: attached to an instance, and detached (FO-2).

use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// Interfaces per instance: what AWS grants depends on the type, and is at most this.
const INTERFACES_PER_INSTANCE: usize = 15;

impl World {
    /// FO-2: an instance and its interfaces are in one availability zone; they need not be in one VPC.
    pub(super) fn attach_network_interface(
        &mut self,
        id: NetworkInterfaceId,
        instance: InstanceId,
        device_index: u8,
    ) -> Result<(), Refusal> {
        let eni = self.network_interface(id)?;
        self.refuse_requester_managed(eni)?;
        if eni.attachment.is_some() {
            let message = format!("Interface: [{id}] in use by {}.", self.holder_name(id));
            return Err(Refusal::new(ErrorCode::InvalidNetworkInterfaceInUse, "NetworkInterfaceId", message));
        }
        let holder = self.instance(instance)?;
        if holder.is_terminated() {
            let message = format!("Instance '{instance}' is terminated.");
            return Err(Refusal::new(ErrorCode::IncorrectInstanceState, "InstanceId", message));
        }
        if self.interface_at(holder, device_index).is_some() {
            let message =
                format!("Instance '{instance}' already has an interface attached at device index '{device_index}'.");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "DeviceIndex", message));
        }
        check_interfaces(holder.network_interfaces.len() + 1)?;
        let zone = |eni: &NetworkInterface| self.subnet(eni.subnet).map(|subnet| &subnet.availability_zone);
        let primary = holder.network_interfaces.first().map(|primary| self.network_interface(*primary));
        if let Some(primary) = primary.transpose()?
            && zone(primary)? != zone(eni)?
        {
            let message = format!(
                "You may not attach a network interface to an instance if they are not in the same availability zone: {id} is in {}, {instance} in {}.",
                zone(eni)?,
                zone(primary)?
            );
            return Err(Refusal::new(ErrorCode::InvalidParameterCombination, "InstanceId", message));
        }
        let mut all = holder.network_interfaces.clone();
        let before = all.iter().take_while(|other| self.device_index(**other) < Some(device_index)).count();
        all.insert(before, id);
        if let Some(holder) = self.instances.get_mut(&instance) {
            holder.network_interfaces = all;
        }
        if let Some(eni) = self.network_interfaces.get_mut(&id) {
            eni.attachment = Some(Attachment::Instance { instance, device_index, delete_on_termination: false });
        }
        Ok(())
    }

    pub(super) fn detach_network_interface(&mut self, id: NetworkInterfaceId) -> Result<(), Refusal> {
        let eni = self.network_interface(id)?;
        self.refuse_requester_managed(eni)?;
        let instance = match eni.attachment {
            Some(Attachment::Instance { device_index: 0, .. }) => {
                let message = "The network interface at device index 0 cannot be detached.";
                return Err(Refusal::new(ErrorCode::OperationNotPermitted, "NetworkInterfaceId", message));
            }
            Some(Attachment::Instance { instance, .. }) => instance,
            _ => {
                let message = format!("The network interface '{id}' is attached to nothing.");
                return Err(Refusal::new(ErrorCode::InvalidAttachmentIdNotFound, "NetworkInterfaceId", message));
            }
        };
        self.release_interface(id, instance);
        Ok(())
    }

    /// From now on it is nobody's.
    pub(super) fn release_interface(&mut self, id: NetworkInterfaceId, instance: InstanceId) {
        if let Some(holder) = self.instances.get_mut(&instance) {
            holder.network_interfaces.retain(|other| *other != id);
        }
        if let Some(eni) = self.network_interfaces.get_mut(&id) {
            eni.attachment = None;
        }
    }

    fn device_index(&self, id: NetworkInterfaceId) -> Option<u8> {
        self.network_interfaces.get(&id)?.device_index()
    }

    /// An instance's interface of this device index.
    #[must_use]
    pub fn interface_at(&self, instance: &Instance, device_index: u8) -> Option<NetworkInterfaceId> {
        let is_it = |id: &&NetworkInterfaceId| self.device_index(**id) == Some(device_index);
        instance.network_interfaces.iter().find(is_it).copied()
    }
}

/// Interfaces per instance.
pub(super) fn check_interfaces(count: usize) -> Result<(), Refusal> {
    if count <= INTERFACES_PER_INSTANCE {
        return Ok(());
    }
    let message = format!("The number of network interfaces exceeds {INTERFACES_PER_INSTANCE}");
    Err(Refusal::new(ErrorCode::AttachmentLimitExceeded, "NetworkInterface", message))
}
