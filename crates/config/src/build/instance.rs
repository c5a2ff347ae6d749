//! Instances, and interfaces: theirs, and those that outlive them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use minivpc_model::*;
use serde_saphyr::{Location, Spanned};

use super::{Address, Builder, Turn, addresses, at, found, tags};
use crate::Guest;
use crate::file::{self, Ami, HttpTokens, Switch};
use crate::mistake::Mistake;

/// Most instances of one entry.
const MOST_INSTANCES: u16 = 1000;

/// An interface as its author writes it: the first in its instance, others in `network_interfaces`.
pub(super) struct Interface<'a> {
    pub id: Option<&'a Spanned<String>>,
    subnet: &'a Spanned<String>,
    private_ip: Option<&'a Address>,
    more_private_ips: &'a [Address],
    security_groups: &'a [Spanned<String>],
    source_dest_check: bool,
    pub elastic_ip: Option<&'a Spanned<String>>,
    pub more_elastic_ips: &'a [Spanned<String>],
}

impl<'a> Interface<'a> {
    pub(super) fn of(written: &'a file::NetworkInterface) -> Self {
        Self {
            id: written.id.as_ref(),
            subnet: &written.subnet,
            private_ip: written.private_ip.as_ref(),
            more_private_ips: &written.secondary_private_ips,
            security_groups: &written.security_groups,
            source_dest_check: written.source_dest_check,
            elastic_ip: written.elastic_ip.as_ref(),
            more_elastic_ips: &written.secondary_elastic_ips,
        }
    }

    /// What only one interface can have.
    fn fixed(&self) -> impl Iterator<Item = Location> {
        let addresses = self.private_ip.into_iter().chain(self.more_private_ips).map(at);
        let elastic = self.elastic_ip.into_iter().chain(self.more_elastic_ips).map(at);
        self.id.into_iter().map(at).chain(addresses).chain(elastic)
    }
}

/// All interfaces of an instance, by device index.
pub(super) fn interfaces_of<'a>(
    name: &Spanned<String>,
    instance: &'a file::Instance,
) -> Result<Vec<(u8, Interface<'a>)>, Mistake> {
    let primary = Interface {
        id: instance.network_interface_id.as_ref(),
        subnet: &instance.subnet,
        private_ip: instance.private_ip.as_ref(),
        more_private_ips: &instance.secondary_private_ips,
        security_groups: &instance.security_groups,
        source_dest_check: instance.source_dest_check,
        elastic_ip: instance.elastic_ip.as_ref(),
        more_elastic_ips: &instance.secondary_elastic_ips,
    };
    let mut all = vec![(0, primary)];
    for (key, more) in &instance.network_interfaces.0 {
        let Some(index) = link_number(&key.value).filter(|index| *index > 0) else {
            let message = format!("'{}' isn't a further interface of '{}': eth1, eth2 …", key.value, name.value);
            return Err(Mistake::new(at(key), message).help("eth0 is written in the instance itself"));
        };
        let tagged = (!more.tags.is_empty()).then(|| at(key));
        if let Some(place) = more.attachment.as_ref().map(at).or(more.load_balancer.as_ref().map(at)).or(tagged) {
            let message = format!("'{}' is made along with '{}'", key.value, name.value);
            let help = "write an interface that can be moved under `network_interfaces:` at the top of the file";
            return Err(Mistake::new(place, message).help(help));
        }
        all.push((index, Interface::of(more)));
    }
    Ok(all)
}

impl Builder<'_> {
    /// The address that an interface had in the lab that runs, if it is free still.
    pub(super) fn kept_address(&self, eni: NetworkInterfaceId, subnet: SubnetId) -> Option<Ipv4Addr> {
        let had = self.running?.world.network_interface(eni).ok()?;
        let subnet = self.world().subnet(subnet).ok()?;
        let free = had.subnet == subnet.id
            && subnet.cidr.contains(&had.private_ip)
            && self.world().address_owner(subnet, had.private_ip).is_none();
        free.then_some(had.private_ip)
    }

    /// When an interface gets its address.
    pub(super) fn turn(&self, given: Option<&Address>, eni: NetworkInterfaceId) -> Turn {
        match given {
            Some(_) => Turn::Named,
            None if self.running.is_some_and(|lab| lab.world.network_interface(eni).is_ok()) => Turn::Kept,
            None => Turn::Free,
        }
    }

    /// `count: N` makes `name-1` to `name-N`.
    pub(super) fn instances(
        &mut self,
        turn: Turn,
        name: &Spanned<String>,
        instance: &file::Instance,
    ) -> Result<(), Mistake> {
        let Some(count) = &instance.count else { return self.instance(turn, name, instance) };
        let interfaces = interfaces_of(name, instance)?;
        let mut fixed =
            instance.id.iter().map(at).chain(interfaces.iter().flat_map(|(_, interface)| interface.fixed()));
        if let Some(place) = fixed.next() {
            return Err(Mistake::new(place, "only one instance can have this").help("remove it, or `count`"));
        }
        if !(1..=MOST_INSTANCES).contains(&count.value.0) {
            return Err(Mistake::new(at(count), format!("count is 1 to {MOST_INSTANCES}")));
        }
        for number in 1..=count.value.0 {
            let numbered = Spanned { value: format!("{}-{number}", name.value), ..name.clone() };
            self.instance(turn, &numbered, instance)?;
        }
        Ok(())
    }

    fn instance(&mut self, turn: Turn, name: &Spanned<String>, instance: &file::Instance) -> Result<(), Mistake> {
        let written = interfaces_of(name, instance)?;
        let mut ids = Vec::new();
        for (index, interface) in &written {
            let path = path(&name.value, *index);
            let mac = MacAddress::from_seed(self.seed(&[&["mac".to_owned()], &path[..]].concat()));
            ids.push((self.interface_id(interface.id, &path)?, mac));
        }
        // Its interfaces are made together: the last one that is ready decides when.
        let turns = written.iter().zip(&ids).map(|((_, interface), (eni, _))| self.turn(interface.private_ip, *eni));
        if turns.max() != Some(turn) {
            return Ok(());
        }
        let mut interfaces = BTreeMap::new();
        for ((device_index, interface), (eni, mac)) in written.iter().zip(ids) {
            interfaces.insert(*device_index, self.interface(interface, eni, mac, Tags::default(), at(name))?);
        }
        let id = self.id(instance.id.as_ref(), InstanceId::from_seed, &["i", &name.value])?;
        let guest = Guest {
            sysctls: sysctls(&instance.sysctls)?,
            run: instance.run.clone(),
            network: instance.guest_network,
            control: instance.control,
        };
        self.lab.guests.insert(GuestId::Instance(id), guest);
        let image = match instance.ami {
            Ami::Al2 => Image::AmazonLinux2,
            Ami::Al2023 => Image::AmazonLinux2023,
            Ami::Ubuntu => Image::Ubuntu,
        };
        let request = RunInstance {
            id,
            interfaces,
            associate_public_ip: instance.public_ip.as_ref().is_some_and(|asked| asked.value),
            image,
            metadata_options: metadata_options(image, &instance.metadata_options),
            user_data: instance.user_data.as_ref().map(user_data).transpose()?,
            launch_time: self.now.to_owned(),
            tags: tags(name, &instance.tags)?,
            origin: self.origin(at(name)),
        };
        let given = written.iter().find_map(|(_, i)| i.private_ip.or(i.more_private_ips.first()));
        let parameters = [
            ("PrivateIpAddress", given.map(at)),
            ("SubnetId", Some(at(&instance.subnet))),
            ("SecurityGroupId", written.iter().find_map(|(_, interface)| interface.security_groups.first()).map(at)),
            ("AssociatePublicIpAddress", instance.public_ip.as_ref().map(at)),
            ("HttpPutResponseHopLimit", instance.metadata_options.http_put_response_hop_limit.as_ref().map(at)),
            ("UserData", instance.user_data.as_ref().map(at)),
            ("NetworkInterface", instance.network_interfaces.0.first().map(|(name, _)| at(name))),
        ];
        self.apply(Op::RunInstance(request), at(name), &parameters)
    }

    /// An interface of its own.
    pub(super) fn network_interface(
        &mut self,
        turn: Turn,
        name: &Spanned<String>,
        written: &file::NetworkInterface,
    ) -> Result<(), Mistake> {
        let interface = Interface::of(written);
        if let (Some(_), Some(kind)) = (&written.attachment, &written.load_balancer) {
            let message = format!("'{}' is attached to an instance, and can't be a load balancer's", name.value);
            return Err(Mistake::new(at(kind), message).help("remove `attachment` or `load_balancer`"));
        }
        let id = self.standalone_id(name, written)?;
        if self.turn(interface.private_ip, id) != turn {
            return Ok(());
        }
        let mac = MacAddress::from_seed(self.seed(&["mac", "lab", "network_interfaces", &name.value]));
        let op = Op::CreateNetworkInterface {
            interface: self.interface(&interface, id, mac, tags(name, &written.tags)?, at(name))?,
            load_balancer: written.load_balancer.as_ref().map(|kind| kind.value),
        };
        let given = interface.private_ip.or(interface.more_private_ips.first());
        let parameters = [
            ("PrivateIpAddress", given.map(at)),
            ("SubnetId", Some(at(interface.subnet))),
            ("SecurityGroupId", interface.security_groups.first().map(at)),
        ];
        self.apply(op, at(name), &parameters)
    }

    pub(super) fn standalone_id(
        &self,
        name: &Spanned<String>,
        written: &file::NetworkInterface,
    ) -> Result<NetworkInterfaceId, Mistake> {
        self.interface_id(written.id.as_ref(), &["lab", "network_interfaces", &name.value])
    }

    /// FO-2.
    pub(super) fn attach(&mut self, name: &Spanned<String>, written: &file::NetworkInterface) -> Result<(), Mistake> {
        let Some(place) = &written.attachment else { return Ok(()) };
        let (instance, device_index) = found(place, self.world().find_place(&place.value))?;
        let network_interface = self.standalone_id(name, written)?;
        self.apply(Op::AttachNetworkInterface { network_interface, instance, device_index }, at(place), &[])
    }

    fn interface(
        &mut self,
        written: &Interface<'_>,
        id: NetworkInterfaceId,
        mac: MacAddress,
        tags: Tags,
        place: Location,
    ) -> Result<NewInterface, Mistake> {
        let subnet = found(written.subnet, self.world().find_subnet(None, &written.subnet.value))?;
        let home = self.world().subnet(subnet).ok().map(|subnet| subnet.vpc);
        let groups = written.security_groups.iter();
        let groups = groups.map(|group| found(group, self.world().find_security_group(home, &group.value)));
        let given = written.private_ip.map(|address| address.value.0);
        Ok(NewInterface {
            id,
            subnet,
            private_ip: given.or_else(|| self.kept_address(id, subnet)),
            secondary_private_ips: addresses(written.more_private_ips),
            mac,
            groups: groups.collect::<Result<_, _>>()?,
            source_dest_check: written.source_dest_check,
            tags,
            origin: self.origin(place),
        })
    }
}

fn metadata_options(image: Image, written: &file::MetadataOptions) -> MetadataOptions {
    let default = image.metadata_options();
    let is_on = |switch: Option<Switch>, default| switch.map_or(default, |switch| switch == Switch::Enabled);
    let required = |tokens| tokens == HttpTokens::Required;
    let hops = written.http_put_response_hop_limit.as_ref();
    MetadataOptions {
        http_endpoint: is_on(written.http_endpoint, default.http_endpoint),
        http_tokens_required: written.http_tokens.map_or(default.http_tokens_required, required),
        http_put_response_hop_limit: hops.map_or(default.http_put_response_hop_limit, |hops| hops.value.0),
        instance_metadata_tags: is_on(written.instance_metadata_tags, default.instance_metadata_tags),
    }
}

/// What `cloud-init` would do something with that nobody does here.
const NOT_RUN: [&str; 7] = [
    "#cloud-config",
    "#cloud-boothook",
    "#include",
    "#part-handler",
    "## template:",
    "Content-Type: multipart/",
    "MIME-Version:",
];

fn user_data(written: &Spanned<String>) -> Result<String, Mistake> {
    if let Some(kind) = NOT_RUN.into_iter().find(|kind| written.value.starts_with(kind)) {
        let message = format!("user data that begin with '{kind}' aren't supported here");
        return Err(Mistake::new(at(written), message).help("write a script: its first line begins with `#!`"));
    }
    if written.value.contains('\0') {
        return Err(Mistake::new(at(written), "user data are text: they hold a NUL byte").help("write it without"));
    }
    Ok(written.value.clone())
}

/// An interface's path in the lab, of which its id is made.
pub(super) fn path(instance: &str, index: u8) -> Vec<String> {
    let index = Some(index).filter(|index| *index > 0).map(|index| index.to_string());
    std::iter::once(instance.to_owned()).chain(index).collect()
}

pub(super) fn sysctls(written: &file::Entries<Spanned<String>>) -> Result<Vec<(String, String)>, Mistake> {
    written.0.iter().map(|(name, value)| sysctl(name, value)).collect()
}

/// Only a guest's own network can be set in a guest.
fn sysctl(name: &Spanned<String>, value: &Spanned<String>) -> Result<(String, String), Mistake> {
    let parts = || name.value.split('.');
    let fits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if parts().next() != Some("net") || parts().count() < 3 || !parts().all(fits) {
        let message = format!("'{}' can't be set in an instance", name.value);
        return Err(Mistake::new(at(name), message).help("settings of the network can, as net.ipv4.ip_forward"));
    }
    Ok((name.value.clone(), value.value.clone()))
}
