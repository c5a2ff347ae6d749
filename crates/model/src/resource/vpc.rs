//! VPCs and their subnets.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{MacAddress, Origin, Tags};
use crate::id::*;

/// A VPC with what AWS makes along with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    /// Its id.
    pub id: VpcId,
    /// The primary block.
    pub cidr: Ipv4Net,
    /// The region, as `ap-northeast-3`.
    pub region: String,
    /// Serves subnets without an association of their own.
    pub main_route_table: RouteTableId,
    /// Serves subnets that name none.
    pub default_network_acl: NetworkAclId,
    /// Serves interfaces that name none.
    pub default_security_group: SecurityGroupId,
    /// At most one is attached (IGW-1).
    pub internet_gateway: Option<InternetGatewayId>,
    /// Does its resolver answer (DNS-5)?
    pub dns_support: bool,
    /// Have its instances names in DNS (DNS-5)?
    pub dns_hostnames: bool,
    /// The set of DHCP options that is its own; none is the region's default one (DHCP-1).
    pub dhcp_options: Option<DhcpOptionsId>,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl Vpc {
    /// The resolver's address, base + 2 of the primary block.
    #[must_use]
    pub fn resolver(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + 2)
    }

    /// The domain of its instances' names (DNS-3, DHCP-3). The oldest region has a name of its own.
    #[must_use]
    pub fn domain(&self) -> String {
        match self.region.as_str() {
            "us-east-1" => "ec2.internal".to_owned(),
            region => format!("{region}.compute.internal"),
        }
    }

    /// What an instance with this address is called (SEED-11).
    #[must_use]
    pub fn private_dns_name(&self, address: Ipv4Addr) -> String {
        format!("{}.{}", host_name(address), self.domain())
    }

    /// The domain of public addresses' names (DNS-6).
    #[must_use]
    pub fn public_domain(&self) -> String {
        match self.region.as_str() {
            "us-east-1" => "compute-1.amazonaws.com".to_owned(),
            region => format!("{region}.compute.amazonaws.com"),
        }
    }

    /// What a public address of its instances is called, if such names are on (DNS-5, DNS-6).
    #[must_use]
    pub fn public_dns_name(&self, address: Ipv4Addr) -> Option<String> {
        let named = self.dns_support && self.dns_hostnames;
        named.then(|| format!("{}.{}", public_host_name(address), self.public_domain()))
    }
}

/// What an instance with this address is called in whichever domain (DHCP-3): `ip-10-0-1-55`.
#[must_use]
pub fn host_name(address: Ipv4Addr) -> String {
    format!("ip-{}", dashed(address))
}

/// The same for a public address (DNS-6): `ec2-203-0-113-10`.
#[must_use]
pub fn public_host_name(address: Ipv4Addr) -> String {
    format!("ec2-{}", dashed(address))
}

fn dashed(address: Ipv4Addr) -> String {
    address.to_string().replace('.', "-")
}

/// An attribute of a VPC that can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VpcAttribute {
    /// AWS's `enableDnsSupport`.
    DnsSupport,
    /// AWS's `enableDnsHostnames`.
    DnsHostnames,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its id.
    pub id: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its block.
    pub cidr: Ipv4Net,
    /// As `ap-northeast-3a`.
    pub availability_zone: String,
    /// An explicit association; none means the VPC's main table.
    pub route_table: Option<RouteTableId>,
    /// Exactly one.
    pub network_acl: NetworkAclId,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl Subnet {
    /// The router's address, base + 1.
    #[must_use]
    pub fn router(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + 1)
    }

    /// The router's MAC address as this subnet sees it.
    #[must_use]
    pub fn router_mac(&self) -> MacAddress {
        // Any stable mix does; 0x02 keeps it apart from every interface's (`MacAddress::from_seed`).
        let id = self.id.to_string();
        let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let b = hash.to_be_bytes();
        MacAddress([0x02, b[0], b[1], b[2], b[3], b[4]])
    }

    /// Is `address` one of the five that nobody can have?
    #[must_use]
    pub fn is_reserved(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.cidr.network()));
        offset < 4 || address == self.cidr.broadcast()
    }
}
