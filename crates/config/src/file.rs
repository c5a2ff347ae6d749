//! The shape of a lab file, as its author writes it. Names are still texts; [`build`](crate::build) resolves them.

use std::collections::BTreeMap;

use minivpc_model::{DomainNameServer, LoadBalancer, Service};
use serde::de::value::MapDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::scalar::{Cidr, Ports, Protocol, Value};

/// The resources of one kind by name, in the order of the file.
#[derive(Debug)]
pub struct Entries<T>(pub Vec<(Spanned<String>, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((name, value)) = map.next_entry::<_, Option<T>>()? {
                    // A name with nothing behind it, `nat:`, says as much as `nat: {}`.
                    let empty = || T::deserialize(MapDeserializer::new(std::iter::empty::<((), ())>()));
                    entries.push((name, value.map_or_else(empty, Ok)?));
                }
                Ok(Entries(entries))
            }

            fn visit_none<E>(self) -> Result<Self::Value, E> {
                Ok(Entries::default())
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Entries::default())
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.deserialize_map(self)
            }
        }
        deserializer.deserialize_option(Map(std::marker::PhantomData))
    }
}

/// Tags besides the name.
pub type Tags = BTreeMap<String, String>;

/// A whole lab file. Keys that begin with `x-` are the author's own.
#[derive(Debug, Default)]
pub struct LabFile {
    pub lab: Option<Spanned<String>>,
    pub region: Option<Spanned<String>>,
    pub vpcs: Entries<Vpc>,
    pub dhcp_options: Entries<DhcpOptions>,
    pub private_hosted_zones: Entries<PrivateHostedZone>,
    pub elastic_ips: Entries<ElasticIp>,
    /// Those that outlive the instances that they are attached to.
    pub network_interfaces: Entries<NetworkInterface>,
    pub instances: Entries<Instance>,
    pub internet: Internet,
    pub customer_sites: Entries<CustomerSite>,
    /// The first key that isn't one of these.
    pub unknown: Option<Spanned<String>>,
}

impl LabFile {
    pub const KEYS: &'static [&'static str] = &[
        "lab",
        "region",
        "vpcs",
        "dhcp_options",
        "private_hosted_zones",
        "elastic_ips",
        "network_interfaces",
        "instances",
        "internet",
        "customer_sites",
    ];
}

// Derived, `deny_unknown_fields` would refuse the author's own keys, and without it a misspelt one would be ignored.
impl<'de> Deserialize<'de> for LabFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = LabFile;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a lab: a map with the keys lab, vpcs and instances")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut file = LabFile::default();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    match key.value.as_str() {
                        "lab" => file.lab = Some(map.next_value()?),
                        "region" => file.region = Some(map.next_value()?),
                        "vpcs" => file.vpcs = map.next_value()?,
                        "dhcp_options" => file.dhcp_options = map.next_value()?,
                        "private_hosted_zones" => file.private_hosted_zones = map.next_value()?,
                        "elastic_ips" => file.elastic_ips = map.next_value()?,
                        "network_interfaces" => file.network_interfaces = map.next_value()?,
                        "instances" => file.instances = map.next_value()?,
                        "customer_sites" => file.customer_sites = map.next_value()?,
                        "internet" => file.internet = map.next_value::<Option<_>>()?.unwrap_or_default(),
                        own => {
                            if !own.starts_with("x-") && file.unknown.is_none() {
                                file.unknown = Some(key);
                            }
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(file)
            }
        }
        deserializer.deserialize_map(Map)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vpc {
    pub id: Option<Spanned<String>>,
    pub cidr: Spanned<Cidr>,
    pub region: Option<Spanned<String>>,
    pub internet_gateway: Option<EdgeGateway>,
    #[serde(default = "yes")]
    pub dns_support: bool,
    #[serde(default)]
    pub dns_hostnames: bool,
    /// One of the lab's sets; the region's default one if none is named.
    pub dhcp_options: Option<Spanned<String>>,
    /// R-37, which nobody could try on AWS.
    #[serde(default)]
    pub igw_asymmetric_return: AsymmetricReturn,
    pub virtual_private_gateway: Option<EdgeGateway>,
    #[serde(default)]
    pub subnets: Entries<Subnet>,
    #[serde(default)]
    pub nat_gateways: Entries<NatGateway>,
    #[serde(default)]
    pub route_tables: Entries<RouteTable>,
    #[serde(default)]
    pub network_acls: Entries<NetworkAcl>,
    #[serde(default)]
    pub security_groups: Entries<SecurityGroup>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DhcpOptions {
    pub id: Option<Spanned<String>>,
    /// `AmazonProvidedDNS` and addresses.
    #[serde(default)]
    pub domain_name_servers: Vec<Spanned<Value<DomainNameServer>>>,
    pub domain_name: Option<Spanned<String>>,
    #[serde(default)]
    pub ntp_servers: Vec<Spanned<Value<std::net::Ipv4Addr>>>,
    #[serde(default)]
    pub netbios_name_servers: Vec<Spanned<Value<std::net::Ipv4Addr>>>,
    pub netbios_node_type: Option<Spanned<Value<u8>>>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivateHostedZone {
    pub id: Option<Spanned<String>>,
    /// Its domain, if that isn't its key: two zones may have the same.
    pub name: Option<Spanned<String>>,
    /// Whose resolvers know it.
    pub vpcs: Vec<Spanned<String>>,
    /// By names in the zone, `@` for the zone's own.
    #[serde(default)]
    pub records: Entries<Records>,
    #[serde(default)]
    pub tags: Tags,
}

/// What a name has, each value as Route 53 takes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "UPPERCASE")]
pub struct Records {
    /// Seconds.
    #[serde(rename = "ttl")]
    pub ttl: Option<Spanned<Value<u32>>>,
    pub a: Option<Vec<Spanned<String>>>,
    pub aaaa: Option<Vec<Spanned<String>>>,
    pub cname: Option<Vec<Spanned<String>>>,
    pub mx: Option<Vec<Spanned<String>>>,
    pub ptr: Option<Vec<Spanned<String>>>,
    pub srv: Option<Vec<Spanned<String>>>,
    pub txt: Option<Vec<Spanned<String>>>,
}

/// An internet gateway or a virtual private gateway.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeGateway {
    pub name: Spanned<String>,
    pub id: Option<Spanned<String>>,
    /// Its edge association.
    pub route_table: Option<Spanned<String>>,
    #[serde(default)]
    pub tags: Tags,
}

/// What becomes of answers that pass by the middlebox that the questions had to pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AsymmetricReturn {
    #[default]
    Refuse,
    Pass,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    pub id: Option<Spanned<String>>,
    pub cidr: Spanned<Cidr>,
    pub az: Option<Spanned<String>>,
    pub route_table: Option<Spanned<String>>,
    pub network_acl: Option<Spanned<String>>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatGateway {
    pub id: Option<Spanned<String>>,
    pub subnet: Spanned<String>,
    #[serde(default)]
    pub connectivity_type: ConnectivityType,
    pub elastic_ip: Option<Spanned<String>>,
    pub private_ip: Option<Spanned<Value<std::net::Ipv4Addr>>>,
    #[serde(default)]
    pub secondary_private_ips: Vec<Spanned<Value<std::net::Ipv4Addr>>>,
    #[serde(default)]
    pub secondary_elastic_ips: Vec<Spanned<String>>,
    pub network_interface_id: Option<Spanned<String>>,
    pub create_time: Option<Spanned<String>>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectivityType {
    #[default]
    Public,
    Private,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    pub id: Option<Spanned<String>>,
    #[serde(default)]
    pub main: bool,
    #[serde(default)]
    pub routes: Routes,
    /// Virtual private gateways whose routes it has, too.
    #[serde(default)]
    pub propagating_vgws: Vec<Spanned<String>>,
    #[serde(default)]
    pub tags: Tags,
}

/// Targets by destination.
#[derive(Debug, Default)]
pub struct Routes(pub Vec<(Spanned<String>, Spanned<String>)>);

impl<'de> Deserialize<'de> for Routes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Entries::<Spanned<String>>::deserialize(deserializer).map(|entries| Self(entries.0))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkAcl {
    pub id: Option<Spanned<String>>,
    #[serde(default)]
    pub ingress: Entries<NetworkAclEntry>,
    #[serde(default)]
    pub egress: Entries<NetworkAclEntry>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkAclEntry {
    pub allow: Option<Spanned<Protocol>>,
    pub deny: Option<Spanned<Protocol>>,
    pub ports: Option<Spanned<Ports>>,
    #[serde(rename = "type")]
    pub icmp_type: Option<Spanned<i16>>,
    pub code: Option<Spanned<i16>>,
    pub cidr: Spanned<Cidr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroup {
    pub id: Option<Spanned<String>>,
    pub description: Option<String>,
    #[serde(default)]
    pub ingress: Vec<Spanned<SecurityGroupRule>>,
    /// Missing means AWS's default rule; empty means none.
    pub egress: Option<Vec<Spanned<SecurityGroupRule>>>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroupRule {
    pub protocol: Spanned<Protocol>,
    pub ports: Option<Spanned<Ports>>,
    #[serde(rename = "type")]
    pub icmp_type: Option<Spanned<i16>>,
    pub code: Option<Spanned<i16>>,
    pub cidr: Option<Spanned<Cidr>>,
    pub security_group: Option<Spanned<String>>,
    pub description: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElasticIp {
    pub id: Option<Spanned<String>>,
    pub address: Option<Spanned<Value<std::net::Ipv4Addr>>>,
    #[serde(default)]
    pub tags: Tags,
}

/// What is outside all VPCs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Internet {
    #[serde(default)]
    pub hosts: Entries<Host>,
}

/// A network of a customer's at the far end of a VPN connection with static routes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomerSite {
    /// Of the VPN connection.
    pub id: Option<Spanned<String>>,
    /// Where that ends on AWS.
    pub virtual_private_gateway: Spanned<String>,
    /// Its blocks: the connection's static routes.
    pub cidrs: Vec<Spanned<Cidr>>,
    /// The customer's router; the first address of the first block if none is given.
    pub router: Option<Spanned<Value<std::net::Ipv4Addr>>>,
    #[serde(default)]
    pub hosts: Entries<Host>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub id: Option<Spanned<String>>,
    pub address: Spanned<Value<std::net::Ipv4Addr>>,
    /// What it answers by itself.
    #[serde(default)]
    pub serve: Vec<Service>,
    #[serde(default)]
    pub sysctls: Entries<Spanned<String>>,
    /// Shell commands at each start.
    #[serde(default)]
    pub run: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    pub id: Option<Spanned<String>>,
    pub subnet: Spanned<String>,
    pub private_ip: Option<Spanned<Value<std::net::Ipv4Addr>>>,
    #[serde(default)]
    pub secondary_private_ips: Vec<Spanned<Value<std::net::Ipv4Addr>>>,
    pub network_interface_id: Option<Spanned<String>>,
    #[serde(default)]
    pub security_groups: Vec<Spanned<String>>,
    #[serde(default = "yes")]
    pub source_dest_check: bool,
    pub elastic_ip: Option<Spanned<String>>,
    /// Of the secondary private addresses, in their order.
    #[serde(default)]
    pub secondary_elastic_ips: Vec<Spanned<String>>,
    /// All but the first, by the name of the link in the guest: `eth1`.
    #[serde(default)]
    pub network_interfaces: Entries<NetworkInterface>,
    pub public_ip: Option<Spanned<bool>>,
    #[serde(default)]
    pub ami: Ami,
    #[serde(default)]
    pub metadata_options: MetadataOptions,
    /// A script is run at the first start.
    pub user_data: Option<Spanned<String>>,
    pub count: Option<Spanned<Value<u16>>>,
    #[serde(default)]
    pub sysctls: Entries<Spanned<String>>,
    /// Shell commands at each start.
    #[serde(default)]
    pub run: Vec<String>,
    #[serde(default)]
    pub guest_network: GuestNetwork,
    /// As a role that may call EC2 does, it lets the instance's commands change the lab.
    #[serde(default)]
    pub control: bool,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkInterface {
    pub id: Option<Spanned<String>>,
    pub subnet: Spanned<String>,
    pub private_ip: Option<Spanned<Value<std::net::Ipv4Addr>>>,
    #[serde(default)]
    pub secondary_private_ips: Vec<Spanned<Value<std::net::Ipv4Addr>>>,
    #[serde(default)]
    pub security_groups: Vec<Spanned<String>>,
    #[serde(default = "yes")]
    pub source_dest_check: bool,
    pub elastic_ip: Option<Spanned<String>>,
    #[serde(default)]
    pub secondary_elastic_ips: Vec<Spanned<String>>,
    /// `INSTANCE/eth1`. This and what follows is of an interface that isn't written in its instance.
    pub attachment: Option<Spanned<String>>,
    /// It is managed by one.
    pub load_balancer: Option<Spanned<LoadBalancer>>,
    #[serde(default)]
    pub tags: Tags,
}

/// What isn't said is as the image has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetadataOptions {
    pub http_endpoint: Option<Switch>,
    pub http_tokens: Option<HttpTokens>,
    pub http_put_response_hop_limit: Option<Spanned<Value<u8>>>,
    pub instance_metadata_tags: Option<Switch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    Enabled,
    Disabled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpTokens {
    Optional,
    Required,
}

/// Who configures a guest's network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestNetwork {
    /// As Amazon Linux does it: every address is set, and answers leave by the interface that has the address.
    #[default]
    Amazon,
    /// The guest's owner: links are up, only the first has its address and the default route.
    Plain,
    /// Nobody: links are up, and a client of DHCP does the rest.
    Dhcp,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ami {
    #[default]
    Al2,
    Al2023,
    Ubuntu,
}
