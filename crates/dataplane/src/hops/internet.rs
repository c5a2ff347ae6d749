//! The internet, as far as a lab has one: a router that all hosts are behind. Nothing of it is AWS's.

use std::net::{IpAddr, Ipv4Addr};

use super::eni::{pin_fragment, unicast};
use crate::drop::DropReason;
use crate::explain::{HostAct, InternetAct, Recorder, Step};
use crate::walk::{Answer, At, Next, Verdict, Walk};

/// The router's address, which a traceroute shows between a gateway and a host (IGW-12).
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
/// Largest IP packet that the internet carries, bytes.
pub const MTU: u16 = 1500;

/// From a host. Any may send in another one's name: who doesn't want that must refuse it himself.
pub fn sent<R: Recorder>(walk: &mut Walk<'_, R>, index: u16) -> Next {
    let host = walk.snapshot.host(index);
    let packet = &walk.packet;
    let reason = if packet.src_mac != host.mac.0 {
        Some(DropReason::SourceMac)
    } else if packet.dst_mac != host.router_mac.0 {
        Some(DropReason::DestinationMac)
    } else if !unicast(packet.flow.dst) || !unicast(packet.flow.src) {
        Some(DropReason::NotUnicast)
    } else {
        pin_fragment(walk, host.serial).err()
    };
    let act = if reason.is_some() { HostAct::Refused } else { HostAct::Sends };
    walk.pass(Step::Host { host: index, act });
    reason.map_or(Next::Go(At::Internet), |reason| Next::End(Verdict::Drop(reason)))
}

/// To a host, or to whom a gateway has given a public address.
pub fn route<R: Recorder>(walk: &mut Walk<'_, R>) -> Next {
    let drop = |walk: &mut Walk<'_, R>, reason| {
        walk.pass(Step::Internet { act: InternetAct::Dropped });
        Next::End(Verdict::Drop(reason))
    };
    let before = walk.packet;
    let destination = before.flow.dst;
    let next = match (walk.snapshot.host_at(destination), walk.snapshot.public(destination)) {
        (Some(host), _) => At::HostArrived { host },
        (None, Some(_)) => At::IntoVpc,
        (None, None) => return drop(walk, DropReason::NoSuchHost),
    };
    if before.ttl <= 1 {
        if !before.admits_icmp_error() {
            return drop(walk, DropReason::TtlExpired);
        }
        walk.pass(Step::Internet { act: InternetAct::TimeExceeded });
        return Next::End(Verdict::Answer { answer: Answer::TimeExceeded { from: ROUTER }, from: At::Internet });
    }
    walk.packet.ttl -= 1;
    walk.step(Step::Internet { act: InternetAct::Forwarded }, &before);
    Next::Go(next)
}

pub fn arrive<R: Recorder>(walk: &mut Walk<'_, R>, index: u16) -> Next {
    let host = walk.snapshot.host(index);
    walk.packet.src_mac = host.router_mac.0;
    walk.packet.dst_mac = host.mac.0;
    walk.limit(MTU);
    walk.pass(Step::Host { host: index, act: HostAct::Receives });
    Next::End(walk.deliver(walk.snapshot.port_of_host(index)))
}
