//! Instances: run, stopped, started, terminated.

use std::collections::BTreeMap;

use super::NewInterface;
use super::attachment::check_interfaces;
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// Parameters of [`Op::RunInstance`](super::Op::RunInstance).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInstance {
    /// Its id.
    pub id: InstanceId,
    /// Its interfaces by device index: the primary one is 0.
    pub interfaces: BTreeMap<u8, NewInterface>,
    /// Asked for a public address.
    pub associate_public_ip: bool,
    /// What its guest looks like.
    pub image: Image,
    /// How it may ask for its metadata.
    pub metadata_options: MetadataOptions,
    /// What it gets for its first start.
    pub user_data: Option<String>,
    /// When, in RFC 3339.
    pub launch_time: String,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl World {
    pub(super) fn run_instance(&mut self, request: RunInstance) -> Result<(), Refusal> {
        let RunInstance { id, interfaces, associate_public_ip, image, metadata_options, .. } = request;
        let RunInstance { user_data, launch_time, tags, origin, .. } = request;
        check_metadata_options(metadata_options, &tags)?;
        check_user_data(user_data.as_deref())?;
        self.unused(self.instances.get(&id).is_some_and(|instance| !instance.is_terminated()), id)?;
        self.check_new_interfaces(&interfaces)?;
        check_public_ip(associate_public_ip, interfaces.len())?;
        for (&device_index, interface) in &interfaces {
            let attachment = Attachment::Instance { instance: id, device_index, delete_on_termination: true };
            if let Err(refusal) = self.create_interface(interface, Some(attachment)) {
                interfaces.range(..device_index).for_each(|(_, made)| self.remove_interface(made.id));
                return Err(refusal);
            }
        }
        let network_interfaces = interfaces.values().map(|interface| interface.id).collect();
        let state = InstanceState::Running;
        let instance = Instance {
            id,
            state,
            image,
            network_interfaces,
            associate_public_ip,
            metadata_options,
            user_data,
            launch_time,
            tags,
            origin,
        };
        self.instances.insert(id, instance);
        self.renew_public_ips(id);
        Ok(())
    }

    fn check_new_interfaces(&self, interfaces: &BTreeMap<u8, NewInterface>) -> Result<(), Refusal> {
        let refuse = |code, message: String| Err(Refusal::new(code, "NetworkInterface", message));
        check_interfaces(interfaces.len())?;
        let Some(primary) = interfaces.get(&0) else {
            return refuse(
                ErrorCode::InvalidParameterValue,
                "An instance needs an interface with device index 0".into(),
            );
        };
        let home = self.subnet(primary.subnet)?;
        for interface in interfaces.values() {
            let subnet = self.subnet(interface.subnet)?;
            if subnet.availability_zone != home.availability_zone || subnet.vpc != home.vpc {
                let message = format!(
                    "All network interfaces of an instance lie in one VPC and one availability zone; {} is in {}, {} in {}.",
                    home.id, home.availability_zone, subnet.id, subnet.availability_zone
                );
                return refuse(ErrorCode::InvalidParameterCombination, message);
            }
        }
        Ok(())
    }

    pub(super) fn stop_instance(&mut self, id: InstanceId) -> Result<(), Refusal> {
        self.change_state(id, InstanceState::Running, InstanceState::Stopped)
    }

    pub(super) fn start_instance(&mut self, id: InstanceId, launch_time: String) -> Result<(), Refusal> {
        let runs = self.instance(id)?.is_running();
        self.change_state(id, InstanceState::Stopped, InstanceState::Running)?;
        if let Some(instance) = self.instances.get_mut(&id).filter(|_| !runs) {
            instance.launch_time = launch_time;
        }
        Ok(())
    }

    fn change_state(&mut self, id: InstanceId, from: InstanceState, to: InstanceState) -> Result<(), Refusal> {
        let state = self.instance(id)?.state;
        // As on AWS, stopping what has stopped is no mistake.
        if state != from && state != to {
            let message = format!("The instance '{id}' is not in a state from which it can be {}.", to.as_str());
            return Err(Refusal::new(ErrorCode::IncorrectInstanceState, "InstanceId", message));
        }
        if let Some(instance) = self.instances.get_mut(&id).filter(|_| state != to) {
            instance.state = to;
            self.renew_public_ips(id);
        }
        Ok(())
    }

    fn renew_public_ips(&mut self, id: InstanceId) {
        let interfaces = self.instances.get(&id).map(|instance| instance.network_interfaces.clone());
        interfaces.into_iter().flatten().for_each(|eni| self.renew_public_ip(eni));
    }

    /// AWS: ModifyNetworkInterfaceAttribute of the primary interface. With further interfaces it gets none (IGW-8).
    pub(super) fn modify_associate_public_ip(&mut self, id: InstanceId, associate: bool) -> Result<(), Refusal> {
        self.instance(id)?;
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.associate_public_ip = associate;
        }
        self.renew_public_ips(id);
        Ok(())
    }

    pub(super) fn modify_user_data(&mut self, id: InstanceId, user_data: Option<String>) -> Result<(), Refusal> {
        if self.instance(id)?.state != InstanceState::Stopped {
            let message = format!("The instance '{id}' is not in the 'stopped' state.");
            return Err(Refusal::new(ErrorCode::IncorrectInstanceState, "InstanceId", message));
        }
        check_user_data(user_data.as_deref())?;
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.user_data = user_data;
        }
        Ok(())
    }

    pub(super) fn modify_metadata_options(&mut self, id: InstanceId, options: MetadataOptions) -> Result<(), Refusal> {
        check_metadata_options(options, &self.instance(id)?.tags)?;
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.metadata_options = options;
        }
        Ok(())
    }

    pub(super) fn terminate_instance(&mut self, id: InstanceId) -> Result<(), Refusal> {
        for interface in self.instance(id)?.network_interfaces.clone() {
            match self.network_interface(interface)?.attachment {
                Some(Attachment::Instance { delete_on_termination: false, .. }) => {
                    self.release_interface(interface, id)
                }
                _ => self.remove_interface(interface),
            }
        }
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.state = InstanceState::Terminated;
        }
        Ok(())
    }
}

fn check_public_ip(associate: bool, interfaces: usize) -> Result<(), Refusal> {
    if associate && interfaces > 1 {
        let message = "The associatePublicIPAddress parameter cannot be specified when launching with multiple network interfaces.";
        return Err(Refusal::new(ErrorCode::InvalidParameterCombination, "AssociatePublicIpAddress", message));
    }
    Ok(())
}

/// IMDS-3. Tags that are told are parts of paths.
fn check_metadata_options(options: MetadataOptions, tags: &Tags) -> Result<(), Refusal> {
    let refuse = |parameter, message| Err(Refusal::new(ErrorCode::InvalidParameterValue, parameter, message));
    if !(1..=64).contains(&options.http_put_response_hop_limit) {
        let message = format!("{} isn't a hop limit: 1 to 64", options.http_put_response_hop_limit);
        return refuse("HttpPutResponseHopLimit", message);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_+=,.@:".contains(c);
    let fits = |key: &&String| key.chars().all(allowed) && !matches!(key.as_str(), "." | ".." | "_index");
    if let Some(key) = tags.0.keys().find(|key| options.instance_metadata_tags && !fits(key)) {
        let message = format!(
            "'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{{1,255}}), and must not \
             be a reserved name ('.', '..', '_index')"
        );
        return refuse("TagSpecification", message);
    }
    Ok(())
}

/// Longest user data, bytes, before AWS's API encodes them.
const LONGEST_USER_DATA: usize = 16 << 10;

fn check_user_data(user_data: Option<&str>) -> Result<(), Refusal> {
    if user_data.is_none_or(|data| data.len() <= LONGEST_USER_DATA) {
        return Ok(());
    }
    let message = format!("User data is limited to {LONGEST_USER_DATA} bytes");
    Err(Refusal::new(ErrorCode::InvalidParameterValue, "UserData", message))
}
