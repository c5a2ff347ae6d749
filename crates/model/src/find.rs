//! Resources by the names that people type: `Name` tag, `vpc/name`, id; of an instance also a private address.

use std::net::Ipv4Addr;

use crate::id::*;
use crate::resource::{Attachment, Host, Instance, NetworkInterface, RouteTarget};
use crate::world::World;

/// Kinds of resources that can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // The names are AWS's.
pub enum ResourceKind {
    Vpc,
    DhcpOptions,
    HostedZone,
    Subnet,
    RouteTable,
    SecurityGroup,
    NetworkAcl,
    InternetGateway,
    VpnGateway,
    VpnConnection,
    NatGateway,
    NetworkInterface,
    ElasticIp,
    Instance,
    Host,
}

impl ResourceKind {
    /// As lab files write it: `nat_gateway`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vpc => "vpc",
            Self::DhcpOptions => "dhcp_options",
            Self::HostedZone => "hosted_zone",
            Self::Subnet => "subnet",
            Self::RouteTable => "route_table",
            Self::SecurityGroup => "security_group",
            Self::NetworkAcl => "network_acl",
            Self::InternetGateway => "internet_gateway",
            Self::VpnGateway => "virtual_private_gateway",
            Self::VpnConnection => "customer_site",
            Self::NatGateway => "nat_gateway",
            Self::NetworkInterface => "network_interface",
            Self::ElasticIp => "elastic_ip",
            Self::Instance => "instance",
            Self::Host => "host",
        }
    }
}

/// Why a name names nothing, or too much.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// Nothing is called so.
    #[error("no {kinds} is called '{text}'")]
    None {
        /// What was looked for: `subnet`.
        kinds: String,
        /// The name.
        text: String,
        /// What there is.
        names: Vec<String>,
    },
    /// Several are.
    #[error("'{text}' can be {}", candidates.join(" or "))]
    Several {
        /// The name.
        text: String,
        /// How to name each of them.
        candidates: Vec<String>,
    },
}

/// Something that a text could name.
struct Candidate<T> {
    kind: ResourceKind,
    id: String,
    /// The first is the one that people are told.
    names: Vec<String>,
    vpc: Option<VpcId>,
    value: T,
}

impl<T> Candidate<T> {
    fn map<U>(self, with: impl FnOnce(T) -> U) -> Candidate<U> {
        let Self { kind, id, names, vpc, value } = self;
        Candidate { kind, id, names, vpc, value: with(value) }
    }

    fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.id)
    }
}

fn names(name: Option<&str>) -> Vec<String> {
    name.map(str::to_owned).into_iter().collect()
}

/// A private address is a name, too, also behind a VPC's.
fn address(text: &str) -> Option<Ipv4Addr> {
    text.rsplit('/').next().and_then(|last| last.parse().ok())
}

/// The device index of what a guest calls `eth1`.
#[must_use]
pub fn link_number(link: &str) -> Option<u8> {
    let number = link.strip_prefix("eth")?.parse().ok()?;
    (format!("eth{number}") == link).then_some(number)
}

/// What a route may lead to.
const TARGETS: [ResourceKind; 5] = [
    ResourceKind::NatGateway,
    ResourceKind::InternetGateway,
    ResourceKind::VpnGateway,
    ResourceKind::Instance,
    ResourceKind::NetworkInterface,
];

macro_rules! finders {
    ($($find:ident: $all:ident, $kind:ident => $id:ident, |$x:ident, $world:ident| ($name:expr, $vpc:expr);)*) => {
        impl World {$(
            /// The one that `text` names, looked up in the VPC `home` first, then in all.
            ///
            /// # Errors
            /// When there is none, or more than one.
            pub fn $find(&self, home: Option<VpcId>, text: &str) -> Result<$id, FindError> {
                let $world = self;
                let candidates = self.$all().map(|$x| Candidate {
                    kind: ResourceKind::$kind,
                    id: $x.id.to_string(),
                    names: names($name),
                    vpc: $vpc,
                    value: $x.id,
                });
                self.choose(&[ResourceKind::$kind], home, text, candidates.collect())
            }
        )*}
    };
}

finders! {
    find_vpc: vpcs, Vpc => VpcId, |x, _w| (x.tags.name(), None);
    find_hosted_zone: hosted_zones, HostedZone => HostedZoneId, |x, _w| (x.tags.name(), None);
    find_dhcp_options: dhcp_options, DhcpOptions => DhcpOptionsId, |x, _w| (x.tags.name(), None);
    find_subnet: subnets, Subnet => SubnetId, |x, _w| (x.tags.name(), Some(x.vpc));
    find_route_table: route_tables, RouteTable => RouteTableId, |x, w| (x.tags.name().or(w.main_name(x.id)), Some(x.vpc));
    find_security_group: security_groups, SecurityGroup => SecurityGroupId, |x, _w| (Some(x.name.as_str()), Some(x.vpc));
    find_network_acl: network_acls, NetworkAcl => NetworkAclId, |x, _w| (x.tags.name(), Some(x.vpc));
    find_nat_gateway: nat_gateways, NatGateway => NatGatewayId, |x, w| (x.tags.name(), w.vpc_of(x.subnet));
    find_internet_gateway: internet_gateways, InternetGateway => InternetGatewayId, |x, _w| (x.tags.name(), Some(x.vpc));
    find_vpn_gateway: vpn_gateways, VpnGateway => VpnGatewayId, |x, _w| (x.tags.name(), Some(x.vpc));
    find_vpn_connection: vpn_connections, VpnConnection => VpnConnectionId, |x, _w| (x.tags.name(), None);
    find_elastic_ip: addresses, ElasticIp => AllocationId, |x, _w| (x.tags.name(), None);
}

impl World {
    /// The instance that `text` names.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find_instance(&self, text: &str) -> Result<InstanceId, FindError> {
        self.choose(&[ResourceKind::Instance], None, text, self.instance_candidates(text).collect())
    }

    /// The instance or host that `text` names, also by an address; `host:a` tells a host from an instance of that name.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find_guest(&self, text: &str) -> Result<GuestId, FindError> {
        let instances = self.instance_candidates(text).map(|candidate| candidate.map(GuestId::Instance));
        let hosts = self.hosts().map(|host| Candidate {
            kind: ResourceKind::Host,
            id: host.id.to_string(),
            names: [self.host_name(host), host.name.clone(), host.address.to_string()].into(),
            vpc: None,
            value: GuestId::Host(host.id),
        });
        self.choose(&[ResourceKind::Instance, ResourceKind::Host], None, text, instances.chain(hosts).collect())
    }

    /// What people call a host: `office/pc` in a site.
    #[must_use]
    pub fn host_name(&self, host: &Host) -> String {
        let site = host.site.and_then(|site| self.vpn_connections.get(&site));
        let site = site.and_then(|site| site.tags.name());
        site.map_or_else(|| host.name.clone(), |site| format!("{site}/{}", host.name))
    }

    /// An instance is also called by a private address that it has.
    fn instance_candidates(&self, text: &str) -> impl Iterator<Item = Candidate<InstanceId>> {
        let address = address(text);
        self.instances().filter(|instance| !instance.is_terminated()).map(move |instance| {
            let held =
                |address: &Ipv4Addr| self.interfaces_of(instance).any(|eni| eni.addresses().any(|a| a == *address));
            let mut candidate = self.instance_candidate(instance, instance.id);
            candidate.names.extend(address.filter(held).map(|address| address.to_string()));
            candidate
        })
    }

    /// Where an interface can be attached: `web/eth1`, or the lowest free device index of `web`.
    ///
    /// # Errors
    /// When there is no such instance, or more than one.
    pub fn find_place(&self, text: &str) -> Result<(InstanceId, u8), FindError> {
        let link = text.rsplit_once('/').and_then(|(instance, link)| Some((instance, link_number(link)?)));
        if let Some((instance, device_index)) = link {
            return Ok((self.find_instance(instance)?, device_index));
        }
        let id = self.find_instance(text)?;
        let is_free = |index: &u8| self.instances.get(&id).is_none_or(|i| self.interface_at(i, *index).is_none());
        Ok((id, (1..=u8::MAX).find(is_free).unwrap_or(u8::MAX)))
    }

    /// What a route to `text` leads to. An instance stands for its primary interface, and `instance/eth1` names
    /// another one; `nat_gateway:a` tells a NAT gateway from what else is called `a`.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find_route_target(&self, home: VpcId, text: &str) -> Result<RouteTarget, FindError> {
        self.choose(&TARGETS, Some(home), text, self.target_candidates().collect())
    }

    /// The gateway or interface that `text` names, whichever VPC it is in, for whoever looks at what passes it: as the
    /// target of a route is named, or by an interface's private address.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find_passed(&self, text: &str) -> Result<RouteTarget, FindError> {
        let candidates = self.target_candidates().map(|candidate| match candidate.value {
            RouteTarget::NetworkInterface(id) => self.also_by_address(candidate, id, text),
            _ => candidate,
        });
        self.choose(&TARGETS, None, text, candidates.collect())
    }

    fn target_candidates(&self) -> impl Iterator<Item = Candidate<RouteTarget>> {
        let nats = self.nat_gateways().map(|nat| Candidate {
            kind: ResourceKind::NatGateway,
            id: nat.id.to_string(),
            names: names(nat.tags.name()),
            vpc: self.vpc_of(nat.subnet),
            value: RouteTarget::NatGateway(nat.id),
        });
        let igws = self.internet_gateways().map(|igw| Candidate {
            kind: ResourceKind::InternetGateway,
            id: igw.id.to_string(),
            names: names(igw.tags.name()),
            vpc: Some(igw.vpc),
            value: RouteTarget::InternetGateway(igw.id),
        });
        let vgws = self.vpn_gateways().map(|vgw| Candidate {
            kind: ResourceKind::VpnGateway,
            id: vgw.id.to_string(),
            names: names(vgw.tags.name()),
            vpc: Some(vgw.vpc),
            value: RouteTarget::VpnGateway(vgw.id),
        });
        let interfaces = self.interface_candidates().map(|candidate| candidate.map(RouteTarget::NetworkInterface));
        nats.chain(igws).chain(vgws).chain(interfaces)
    }

    /// The interface that `text` names: an instance stands for its primary one, `instance/eth1` names another, and a
    /// private address the one that has it.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find_network_interface(&self, text: &str) -> Result<NetworkInterfaceId, FindError> {
        let kinds = [ResourceKind::Instance, ResourceKind::NetworkInterface];
        let candidates = self.interface_candidates().map(|candidate| {
            let id = candidate.value;
            self.also_by_address(candidate, id, text)
        });
        self.choose(&kinds, None, text, candidates.collect())
    }

    /// An interface is called by a private address that it has.
    fn also_by_address<T>(&self, mut candidate: Candidate<T>, id: NetworkInterfaceId, text: &str) -> Candidate<T> {
        let held = |address: &Ipv4Addr| {
            let eni = self.network_interfaces.get(&id).filter(|_| candidate.kind == ResourceKind::NetworkInterface);
            eni.is_some_and(|eni| eni.addresses().any(|held| held == *address))
        };
        candidate.names.extend(address(text).filter(held).map(|address| address.to_string()));
        candidate
    }

    /// All interfaces but those of gateways, and instances for their primary ones.
    fn interface_candidates(&self) -> impl Iterator<Item = Candidate<NetworkInterfaceId>> {
        let instances = self.instances().filter_map(|instance| {
            let primary = instance.network_interfaces.first()?;
            Some(self.instance_candidate(instance, *primary))
        });
        let is_gateways = |eni: &&NetworkInterface| matches!(eni.attachment, Some(Attachment::NatGateway(_)));
        let all = self.network_interfaces().filter(move |eni| !is_gateways(eni)).map(|eni| Candidate {
            kind: ResourceKind::NetworkInterface,
            id: eni.id.to_string(),
            names: self.name_at_instance(eni).into_iter().chain(names(eni.tags.name())).collect(),
            vpc: self.vpc_of(eni.subnet),
            value: eni.id,
        });
        instances.chain(all)
    }

    /// `web/eth1`, for an interface of an instance.
    #[must_use]
    pub fn name_at_instance(&self, eni: &NetworkInterface) -> Option<String> {
        let instance = self.instances.get(&eni.instance()?)?;
        let name = instance.tags.name().map_or_else(|| instance.id.to_string(), str::to_owned);
        Some(format!("{name}/eth{}", eni.device_index()?))
    }

    fn choose<T: Copy>(
        &self,
        kinds: &[ResourceKind],
        home: Option<VpcId>,
        text: &str,
        mut candidates: Vec<Candidate<T>>,
    ) -> Result<T, FindError> {
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kinds.iter().find(|k| k.as_str() == kind), name),
            None => (None, text),
        };
        // A text with a colon that names no kind is looked up as it is, and found nowhere.
        let name = kind.map_or(text, |kind| {
            candidates.retain(|candidate| candidate.kind == *kind);
            name
        });
        let vpc_name = |candidate: &Candidate<T>| self.vpcs.get(&candidate.vpc?).and_then(|vpc| vpc.tags.name());
        let in_vpc = |candidate: &Candidate<T>| {
            let qualified = name.split_once('/');
            qualified.is_some_and(|(vpc, name)| vpc_name(candidate) == Some(vpc) && candidate.is_called(name))
        };
        let is_called =
            |candidate: &&Candidate<T>| candidate.is_called(name) || candidate.id == name || in_vpc(candidate);
        let at_home = |candidate: &&Candidate<T>| home.is_some() && candidate.vpc == home && candidate.is_called(name);
        let mut found: Vec<_> = candidates.iter().filter(at_home).collect();
        if found.is_empty() {
            found = candidates.iter().filter(is_called).collect();
        }
        match found.as_slice() {
            [one] => Ok(one.value),
            [] => {
                let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str().replace('_', " ")).collect();
                let mut names: Vec<_> =
                    candidates.into_iter().filter_map(|candidate| candidate.names.into_iter().next()).collect();
                names.sort();
                Err(FindError::None { kinds: kinds.join(" or "), text: name.to_owned(), names })
            }
            [first, ..] => {
                let candidates = found.iter().map(|candidate| match vpc_name(candidate) {
                    _ if found.iter().any(|other| other.kind != first.kind) => {
                        format!("{}:{}", candidate.kind.as_str(), candidate.name())
                    }
                    Some(vpc) => format!("{vpc}/{}", candidate.name()),
                    None if candidate.name() != name => candidate.name().to_owned(),
                    None => candidate.id.clone(),
                });
                let mut candidates: Vec<_> = candidates.collect();
                candidates.sort();
                Err(FindError::Several { text: name.to_owned(), candidates })
            }
        }
    }

    fn instance_candidate<T>(&self, instance: &Instance, value: T) -> Candidate<T> {
        Candidate {
            kind: ResourceKind::Instance,
            id: instance.id.to_string(),
            names: names(instance.tags.name()),
            vpc: self.interfaces_of(instance).next().and_then(|eni| self.vpc_of(eni.subnet)),
            value,
        }
    }

    fn interfaces_of(&self, instance: &Instance) -> impl Iterator<Item = &NetworkInterface> {
        instance.network_interfaces.iter().filter_map(|id| self.network_interfaces.get(id))
    }

    /// A main table that nobody named is called `main`.
    fn main_name(&self, table: RouteTableId) -> Option<&'static str> {
        self.vpcs.values().any(|vpc| vpc.main_route_table == table).then_some("main")
    }

    fn vpc_of(&self, subnet: SubnetId) -> Option<VpcId> {
        self.subnets.get(&subnet).map(|subnet| subnet.vpc)
    }
}
