//! Virtual private gateways: they send to the sites that they know, and to whom an address of the VPC belongs (VPN-1).

use minivpc_packet::{Headers, Kind};

use super::edge;
use crate::drop::DropReason;
use crate::explain::{Recorder, Step, VgwAct};
use crate::walk::{At, Next, Verdict, Walk};

/// Largest IP packet that a tunnel carries, bytes (VPN-4).
pub const MTU: u16 = 1446;
/// Largest TCP segment that fits into it.
const MSS: u16 = MTU - 40;

fn drop<R: Recorder>(walk: &mut Walk<'_, R>, vgw: u16, reason: DropReason) -> Next {
    walk.pass(Step::VpnGateway { vgw, act: VgwAct::Dropped });
    Next::End(Verdict::Drop(reason))
}

/// Through the tunnel what is too large is cut, if it may be, and TCP is told what fits.
fn pass<R: Recorder>(walk: &mut Walk<'_, R>, vgw: u16, act: VgwAct) {
    let before = walk.packet;
    if let Kind::Tcp(_) = before.kind {
        let limit = before.mss_limit.map_or(MSS, |limit| limit.min(MSS));
        walk.packet = Headers { mss_limit: Some(limit), ..before };
    }
    walk.limit(MTU);
    walk.step(Step::VpnGateway { vgw, act }, &before);
}

/// To a site, from a subnet.
pub fn out<R: Recorder>(walk: &mut Walk<'_, R>, index: u16) -> Next {
    let gateway = walk.snapshot.vgw(index);
    let packet = &walk.packet;
    if walk.snapshot.attached_owner(gateway.vpc, packet.flow.src).is_none() {
        return drop(walk, index, DropReason::VpnSource);
    }
    let Some(site) = gateway.site_of(packet.flow.dst) else { return drop(walk, index, DropReason::VpnNoRoute) };
    // VPN-4: nobody says so.
    if packet.size > MTU && packet.dont_fragment {
        return drop(walk, index, DropReason::VpnTooLarge);
    }
    pass(walk, index, VgwAct::Out);
    Next::Go(At::CustomerRouter { site })
}

/// From a site.
pub fn into_vpc<R: Recorder>(walk: &mut Walk<'_, R>, index: u16) -> Next {
    let gateway = walk.snapshot.vgw(index);
    let destination = walk.packet.flow.dst;
    if gateway.has(walk.packet.flow.src) {
        return drop(walk, index, DropReason::Spoofed);
    }
    let Some(owner) = walk.snapshot.attached_owner(gateway.vpc, destination) else {
        return drop(walk, index, DropReason::VpnDestination);
    };
    pass(walk, index, VgwAct::In);
    match gateway.route_table {
        None => Next::Go(At::Enter { eni: owner }),
        // VPN-6.
        Some(table) => edge::route(walk, table, destination, owner, |_, _| true),
    }
}
