//! One file per AWS component. Each hop looks at the packet, writes one [`Step`](crate::explain::Step) and says what
//! comes next.

pub mod customer_site;
mod edge;
pub mod eni;
pub mod internet;
pub mod internet_gateway;
pub mod nat_gateway;
pub mod network_acl;
pub mod outside;
pub mod router;
pub mod security_group;
pub mod subnet_service;
pub mod vpn_gateway;

use minivpc_model::Traffic;
use minivpc_packet::Headers;

use crate::explain::Mismatch;

/// Does a rule's traffic cover the packet? Ports are always the packet's destination port (NACL-4).
fn covers(traffic: Traffic, packet: &Headers) -> Result<(), Mismatch> {
    if traffic.protocol().is_some_and(|protocol| protocol != packet.flow.protocol) {
        return Err(Mismatch::Protocol);
    }
    match traffic {
        Traffic::Tcp(ports) | Traffic::Udp(ports) if !ports.contains(packet.flow.dst_port) => Err(Mismatch::Port),
        Traffic::Icmp { kind, code } => match packet.kind.icmp() {
            Some((k, c)) if kind.is_none_or(|kind| kind == k) && code.is_none_or(|code| code == c) => Ok(()),
            _ => Err(Mismatch::IcmpType),
        },
        Traffic::All | Traffic::Tcp(_) | Traffic::Udp(_) | Traffic::Protocol(_) => Ok(()),
    }
}
