//! Instances and hosts as guests: what the keeper is asked to make of them.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use minivpc_config::{GuestNetwork, Lab};
use minivpc_dataplane::{HOST_TTL, INTERFACE_MTU};
use minivpc_host::{Backend, GuestSpec, InterfaceSpec, Resolver, Setup};
use minivpc_model::{DhcpConfiguration, GuestId, Host, Instance, Op, Refusal, Serial, Vpc, World};
use serde::{Deserialize, Serialize};

/// The same on the internet.
const INTERNET_MTU: u32 = 1500;
const HOST_PREFIX: u8 = 31;

/// A guest that runs.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// What the keeper made. Its name is its id and the number of the start.
    pub spec: GuestSpec,
    /// The TAP of each interface with its number in flow state, in the order of the interfaces.
    pub taps: Vec<(Serial, Arc<OwnedFd>)>,
    /// The commands of its start.
    pub run: Vec<String>,
    /// Which start this is.
    pub start: Start,
}

/// Which start of a guest: its user data are for the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Start {
    First,
    Later,
}

impl Guest {
    /// Is what it should be only a matter of interfaces beyond its first, and of secondary addresses? What its subnet
    /// tells of names it hears when it starts again, as one that asks by DHCP hears when it asks again.
    pub fn can_stay(&self, wanted: &GuestSpec, run: &[String]) -> bool {
        let lasting = |spec: &GuestSpec| {
            let (name, hostname) = (String::new(), String::new());
            let mut spec = GuestSpec { name, hostname, resolver: None, ..spec.clone() };
            spec.interfaces.truncate(1);
            spec.interfaces.iter_mut().for_each(|primary| primary.secondary.clear());
            spec
        };
        lasting(&self.spec) == lasting(wanted) && self.run == run
    }

    /// The TAP of an interface that it has.
    fn tap(&self, interface: &InterfaceSpec) -> Option<Arc<OwnedFd>> {
        let mut all = self.spec.interfaces.iter().zip(&self.taps);
        all.find(|(has, _)| has.is_link(interface)).map(|(_, (_, tap))| Arc::clone(tap))
    }

    /// The interfaces of `wanted`, and those that it has beside them.
    pub fn interfaces_with(&self, wanted: &GuestSpec) -> Vec<InterfaceSpec> {
        let goes = |has: &&InterfaceSpec| !wanted.interfaces.iter().any(|other| other.is_link(has));
        wanted.interfaces.iter().chain(self.spec.interfaces.iter().filter(goes)).cloned().collect()
    }

    /// The guest with the interfaces of `wanted`, of which `added` are the TAPs that it has not had.
    pub fn with(&self, wanted: GuestSpec, serials: Vec<Serial>, added: Vec<OwnedFd>) -> Self {
        let mut added = added.into_iter().map(Arc::new);
        let taps = wanted.interfaces.iter().zip(serials).filter_map(|(interface, serial)| {
            let tap = self.tap(interface).or_else(|| added.next())?;
            Some((serial, tap))
        });
        Self { taps: taps.collect(), spec: wanted, run: self.run.clone(), start: self.start }
    }
}

/// All that run, or should, with the ports behind their interfaces.
pub(crate) fn wanted(world: &World) -> impl Iterator<Item = GuestId> {
    let instances = world.instances().filter(|instance| instance.is_running());
    let hosts = world.hosts().map(|host| GuestId::Host(host.id));
    instances.map(|instance| GuestId::Instance(instance.id)).chain(hosts)
}

/// Who is made, or made anew, by an operation.
pub(crate) fn made_by(op: &Op) -> Option<GuestId> {
    match op {
        Op::RunInstance(request) => Some(GuestId::Instance(request.id)),
        Op::CreateHost(request) => Some(GuestId::Host(request.id)),
        _ => None,
    }
}

/// The numbers in flow state of a guest's interfaces, in their order.
pub(crate) fn serials(world: &World, id: GuestId) -> Vec<Serial> {
    match id {
        GuestId::Instance(id) => {
            let enis = world.instance(id).map(|instance| instance.network_interfaces.as_slice()).unwrap_or_default();
            enis.iter().filter_map(|eni| Some(world.network_interface(*eni).ok()?.serial)).collect()
        }
        GuestId::Host(id) => world.host(id).map(|host| host.serial).into_iter().collect(),
    }
}

/// A guest, still without a name; its interfaces are in the order of the instance's.
pub(crate) fn spec(lab: &Lab, directory: &Path, id: GuestId, backend: Backend) -> Result<GuestSpec, Refusal> {
    let (hostname, default_ttl, mut interfaces, resolver) = match id {
        GuestId::Instance(id) => of_instance(&lab.world, lab.world.instance(id)?)?,
        GuestId::Host(id) => of_host(&lab.world, lab.world.host(id)?),
    };
    let guest = lab.guests.get(&id).cloned().unwrap_or_default();
    let minivpc_config::Guest { sysctls, network, control, .. } = guest;
    let (setup, resolver) = match network {
        GuestNetwork::Amazon => (Setup::All, resolver),
        GuestNetwork::Plain => (Setup::First, resolver),
        // Its client of DHCP writes down who knows names, and sets what fits.
        GuestNetwork::Dhcp => {
            interfaces.iter_mut().for_each(|interface| interface.mtu = INTERNET_MTU);
            (Setup::Links, Some(Resolver::default()))
        }
    };
    let (name, control) = (String::new(), control.then(|| directory.to_owned()));
    Ok(GuestSpec { name, hostname, default_ttl, sysctls, interfaces, backend, resolver, setup, control, block: None })
}

/// Host name, default TTL, interfaces, and who knows names.
type Parts = (String, u8, Vec<InterfaceSpec>, Option<Resolver>);

fn of_instance(world: &World, instance: &Instance) -> Result<Parts, Refusal> {
    let mut interfaces = Vec::new();
    let (mut hostname, mut resolver) = (String::from("localhost"), None);
    for id in &instance.network_interfaces {
        let eni = world.network_interface(*id)?;
        let subnet = world.subnet(eni.subnet)?;
        let Some(device_index) = eni.device_index() else { continue };
        if device_index == 0 {
            let vpc = world.vpc(subnet.vpc)?;
            hostname = world.name_of_instance_at(vpc, eni.private_ip);
            resolver = Some(resolver_of(vpc, world.dhcp_configuration(vpc)));
        }
        interfaces.push(InterfaceSpec {
            name: format!("eth{device_index}"),
            mac: eni.mac.0,
            address: eni.private_ip,
            secondary: eni.secondary_private_ips.clone(),
            prefix: subnet.cidr.prefix_len(),
            gateway: subnet.router(),
            mtu: INTERFACE_MTU.into(),
        });
    }
    Ok((hostname, instance.image.default_ttl(), interfaces, resolver))
}

/// What the internet calls instances (DNS-6).
pub(crate) fn public_names(world: &World) -> impl Iterator<Item = (Ipv4Addr, String)> {
    world.public_addresses().filter_map(|public| {
        let eni = world.network_interface(public.network_interface).ok()?;
        let vpc = world.vpc(world.subnet(eni.subnet).ok()?.vpc).ok()?;
        Some((public.public_ip, vpc.public_dns_name(public.public_ip)?))
    })
}

/// As a client of DHCP would write it down (DHCP-2, DHCP-3).
fn resolver_of(vpc: &Vpc, told: DhcpConfiguration) -> Resolver {
    let servers = told.domain_name_servers.iter().map(|server| server.address(vpc.resolver())).collect();
    Resolver { servers, search: told.domain_name }
}

/// A host is alone on its link. Its router has the next address in a block of two (RFC 3021), or in a site its own one,
/// and is between all hosts.
fn of_host(world: &World, host: &Host) -> Parts {
    let site = host.site.and_then(|site| world.vpn_connection(site).ok());
    let alone = (HOST_PREFIX, Ipv4Addr::from(u32::from(host.address) ^ 1));
    let (prefix, gateway) = site.map_or(alone, |site| (32, site.router));
    let interface = InterfaceSpec {
        name: "eth0".to_owned(),
        mac: host.mac.0,
        address: host.address,
        secondary: Vec::new(),
        prefix,
        gateway,
        mtu: INTERNET_MTU,
    };
    (host.name.clone(), HOST_TTL, vec![interface], None)
}
