//! The port of the services that need TCP: behind it are ordinary servers, in a namespace of their own.
//!
//! Each interface calls them by addresses of its own, which are made of its number in flow state. So servers know who
//! asks, guests with equal addresses in two VPCs don't meet, clients keep their address and port, and nothing needs to be
//! remembered.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use minivpc_model::{MacAddress, Serial};
use minivpc_packet::Flow;

use super::{METADATA, RESOLVER, Service};

/// All addresses by which the servers are called. Nobody else has one of these: they are reserved (RFC 1112 §4).
pub const CALLED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4);
/// The servers' own address, of which no packet tells.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 2);
/// Their router's.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);
/// The MAC addresses of both.
pub const MACS: (MacAddress, MacAddress) = (MacAddress([2, 0, 0, 0, 0, 2]), MacAddress([2, 0, 0, 0, 0, 1]));
/// The port's number in flow state, which no interface and no host has.
pub const SERIAL: Serial = Serial(u32::MAX);

/// In an address by which the servers are called: the client calls the resolver by its address in the VPC.
const IN_VPC: u32 = 1 << 27;

/// The address by which servers are called for an interface, of what it has sent; none for more interfaces than there
/// ever were.
pub(crate) fn called(interface: Serial, sent: &Flow) -> Option<Ipv4Addr> {
    let by_link = [METADATA, RESOLVER].map(IpAddr::V4).contains(&sent.dst);
    let in_vpc = if by_link { 0 } else { IN_VPC };
    (interface.0 < IN_VPC).then(|| Ipv4Addr::from(u32::from(CALLED.network()) | in_vpc | interface.0))
}

/// The number in flow state of the interface for which servers are called by `address`.
#[must_use]
pub fn caller(address: Ipv4Addr) -> Option<Serial> {
    CALLED.contains(&address).then(|| Serial(u32::from(address) & (IN_VPC - 1)))
}

/// Which service has sent this, under which address its client knows it: `resolver` is that of the client's VPC.
pub(crate) fn known_as(sent: &Flow, resolver: Ipv4Addr) -> Option<(Service, Ipv4Addr)> {
    let IpAddr::V4(called) = sent.src else { return None };
    match sent.src_port {
        80 => Some((Service::Metadata, METADATA)),
        53 if u32::from(called) & IN_VPC == 0 => Some((Service::Resolver, RESOLVER)),
        53 => Some((Service::Resolver, resolver)),
        _ => None,
    }
}
