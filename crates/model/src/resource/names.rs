//! Who knows names: sets of DHCP options, private hosted zones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Origin, Tags, Vpc};
use crate::id::*;

/// A set of DHCP options. AWS changes none, only which one a VPC has (DHCP-1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOptions {
    /// Its id.
    pub id: DhcpOptionsId,
    /// What it hands out.
    pub configuration: DhcpConfiguration,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// What DHCP tells beside addresses, under AWS's names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DhcpConfiguration {
    /// Who knows names, up to four.
    pub domain_name_servers: Vec<DomainNameServer>,
    /// What completes a name, several between spaces.
    pub domain_name: Option<String>,
    /// Who knows the time, up to four.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// Who knows Windows' names, up to four.
    pub netbios_name_servers: Vec<Ipv4Addr>,
    /// How Windows asks for names: 1, 2, 4 or 8 (RFC 2132 §8.7).
    pub netbios_node_type: Option<u8>,
}

impl DhcpConfiguration {
    /// What a VPC has that was given none (DHCP-1, DHCP-3).
    #[must_use]
    pub fn default_of(vpc: &Vpc) -> Self {
        let domain_name_servers = vec![DomainNameServer::AmazonProvided];
        Self { domain_name_servers, domain_name: Some(vpc.domain()), ..Self::default() }
    }
}

/// Who knows names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DomainNameServer {
    /// `AmazonProvidedDNS`, each VPC's own resolver (DHCP-2).
    AmazonProvided,
    /// Somebody.
    Address(Ipv4Addr),
}

impl DomainNameServer {
    /// Its address, for instances whose VPC's own resolver has this one.
    #[must_use]
    pub fn address(self, resolver: Ipv4Addr) -> Ipv4Addr {
        match self {
            Self::AmazonProvided => resolver,
            Self::Address(address) => address,
        }
    }
}

/// A private hosted zone of Route 53: names that the resolvers of some VPCs know (DNS-9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedZone {
    /// Its id.
    pub id: HostedZoneId,
    /// Its domain, in lower case and without a dot at its end.
    pub name: String,
    /// Whose resolvers know it.
    pub vpcs: BTreeSet<VpcId>,
    /// By name, written as the zone's, and type.
    pub record_sets: BTreeMap<String, BTreeMap<RecordType, ResourceRecordSet>>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl HostedZone {
    /// Its record sets with their names and types.
    pub fn all_record_sets(&self) -> impl Iterator<Item = (&str, RecordType, &ResourceRecordSet)> {
        let names = self.record_sets.iter();
        names.flat_map(|(name, sets)| sets.iter().map(move |(kind, set)| (name.as_str(), *kind, set)))
    }

    /// What a name has of one type.
    #[must_use]
    pub fn record_set(&self, name: &str, kind: RecordType) -> Option<&ResourceRecordSet> {
        self.record_sets.get(name)?.get(&kind)
    }
}

/// What a name has of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRecordSet {
    /// For how long answers may be kept, seconds.
    pub ttl: u32,
    /// At least one, as they are written in master files (RFC 1035 §5): `10 mail.example.com`.
    pub values: Vec<String>,
    /// Where it came from.
    pub origin: Origin,
}

/// Types of records, as far as they are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)] // The names are DNS's.
pub enum RecordType {
    A,
    Aaaa,
    Cname,
    Mx,
    Ns,
    Ptr,
    Soa,
    Srv,
    Txt,
}

impl RecordType {
    /// As DNS writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Ns => "NS",
            Self::Ptr => "PTR",
            Self::Soa => "SOA",
            Self::Srv => "SRV",
            Self::Txt => "TXT",
        }
    }

    /// Does Route 53 make one along with each zone, which stays as it is?
    #[must_use]
    pub fn is_required(self) -> bool {
        matches!(self, Self::Ns | Self::Soa)
    }
}
