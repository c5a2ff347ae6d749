//! What is outside all VPCs: hosts, and the routers that they are behind. Nothing of it is AWS's.

use std::net::IpAddr;

use super::eni::{pin_fragment, unicast};
use crate::drop::DropReason;
use crate::explain::{HostAct, Recorder, RouterAct, Step};
use crate::walk::{Answer, At, Next, Verdict, Walk};

/// Largest IP packet on a host's link, bytes.
pub const MTU: u16 = 1500;

/// A router that shows itself.
pub struct Router {
    /// What it is called in a traceroute.
    pub address: IpAddr,
    /// Where what it says itself starts.
    pub at: At,
}

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
    match (reason, host.site) {
        (Some(reason), _) => Next::End(Verdict::Drop(reason)),
        (None, Some(site)) => Next::Go(At::CustomerRouter { site }),
        (None, None) => Next::Go(At::Internet),
    }
}

/// To a host.
pub fn arrive<R: Recorder>(walk: &mut Walk<'_, R>, index: u16) -> Next {
    let host = walk.snapshot.host(index);
    walk.packet.src_mac = host.router_mac.0;
    walk.packet.dst_mac = host.mac.0;
    walk.limit(MTU);
    walk.pass(Step::Host { host: index, act: HostAct::Receives });
    Next::End(walk.deliver(walk.snapshot.port_of_host(index)))
}

/// A router takes one from the TTL, and says so when there is none left.
pub fn forward<R: Recorder>(
    walk: &mut Walk<'_, R>,
    router: &Router,
    step: impl Fn(RouterAct) -> Step,
    next: At,
) -> Next {
    let before = walk.packet;
    if before.ttl <= 1 {
        if !before.admits_icmp_error() {
            return drop(walk, step, DropReason::TtlExpired);
        }
        walk.pass(step(RouterAct::TimeExceeded));
        let answer = Answer::TimeExceeded { from: router.address };
        return Next::End(Verdict::Answer { answer, from: router.at });
    }
    walk.packet.ttl -= 1;
    walk.step(step(RouterAct::Forwarded), &before);
    Next::Go(next)
}

/// A router leads nowhere.
pub fn drop<R: Recorder>(walk: &mut Walk<'_, R>, step: impl Fn(RouterAct) -> Step, reason: DropReason) -> Next {
    walk.pass(step(RouterAct::Dropped));
    Next::End(Verdict::Drop(reason))
}
