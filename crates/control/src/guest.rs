//! Instances as guests: what the keeper is asked to make of them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use minivpc_config::Lab;
use minivpc_host::{Backend, GuestSpec, InterfaceSpec};
use minivpc_model::{Attachment, Instance, NetworkInterfaceId, Refusal};

/// MTU of every interface.
const MTU: u32 = 9001;

/// A guest that runs.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// What the keeper made. Its name is the instance's id and the number of the start.
    pub spec: GuestSpec,
    /// The TAP of each interface.
    pub taps: BTreeMap<NetworkInterfaceId, Arc<OwnedFd>>,
    /// The commands of its start.
    pub run: Vec<String>,
}

impl Guest {
    /// Is what it should be only a matter of secondary addresses?
    pub fn can_stay(&self, wanted: &GuestSpec, run: &[String]) -> bool {
        let lasting = |spec: &GuestSpec| {
            let mut spec = GuestSpec { name: String::new(), ..spec.clone() };
            spec.interfaces.iter_mut().for_each(|interface| interface.secondary.clear());
            spec
        };
        lasting(&self.spec) == lasting(wanted) && self.run == run
    }
}

/// An instance as a guest, still without a name; its interfaces are in the order of the instance's.
pub(crate) fn spec(lab: &Lab, instance: &Instance, backend: Backend) -> Result<GuestSpec, Refusal> {
    let world = &lab.world;
    let mut interfaces = Vec::new();
    let mut hostname = String::from("localhost");
    for id in &instance.network_interfaces {
        let eni = world.network_interface(*id)?;
        let subnet = world.subnet(eni.subnet)?;
        let Attachment::Instance { device_index, .. } = eni.attachment else { continue };
        if device_index == 0 {
            hostname = private_dns_name(eni.private_ip, &world.vpc(subnet.vpc)?.region);
        }
        interfaces.push(InterfaceSpec {
            name: format!("eth{device_index}"),
            mac: eni.mac.0,
            address: eni.private_ip,
            secondary: eni.secondary_private_ips.clone(),
            prefix: subnet.cidr.prefix_len(),
            gateway: subnet.router(),
            mtu: MTU,
        });
    }
    let settings = lab.guests.get(&instance.id).cloned().unwrap_or_default();
    Ok(GuestSpec {
        name: String::new(),
        hostname,
        default_ttl: instance.image.default_ttl(),
        sysctls: settings.sysctls,
        interfaces,
        backend,
        plain_network: settings.plain_network,
    })
}

/// SEED-11. The oldest region has a name of its own.
fn private_dns_name(address: std::net::Ipv4Addr, region: &str) -> String {
    let host = address.to_string().replace('.', "-");
    match region {
        "us-east-1" => format!("ip-{host}.ec2.internal"),
        _ => format!("ip-{host}.{region}.compute.internal"),
    }
}
