//! A customer's site: the router between its hosts and the VPN connection. It is not AWS's.

use minivpc_packet::Kind;

use super::outside::{self, Router};
use super::vpn_gateway::MTU;
use crate::drop::DropReason;
use crate::explain::{Recorder, RouterAct, Step};
use crate::walk::{Answer, At, Next, Verdict, Walk};

/// To a host of the site, or through the tunnel to its VPC.
pub fn route<R: Recorder>(walk: &mut Walk<'_, R>, index: u16) -> Next {
    let site = walk.snapshot.site(index);
    let router = Router { address: site.router, at: At::CustomerRouter { site: index } };
    let step = |act| Step::CustomerRouter { site: index, act };
    let packet = walk.packet;
    if packet.flow.dst == router.address {
        if packet.kind != Kind::EchoRequest || packet.fragment.is_some() {
            return outside::drop(walk, step, DropReason::CustomerRouter);
        }
        walk.pass(step(RouterAct::Echo));
        return Next::End(Verdict::Answer { answer: Answer::Echo, from: router.at });
    }
    let next = match walk.snapshot.host_at(Some(index), packet.flow.dst) {
        Some(host) => At::HostArrived { host },
        None if walk.snapshot.vgw(site.vgw).has(packet.flow.dst) => At::IntoVpcByVpn { vgw: site.vgw },
        None => return outside::drop(walk, step, DropReason::NoSuchHost),
    };
    // An ordinary router says what its tunnel carries; AWS's end doesn't (VPN-4).
    if let At::IntoVpcByVpn { .. } = next
        && packet.ttl > 1
        && packet.size > MTU
        && packet.dont_fragment
    {
        if !packet.admits_icmp_error() {
            return outside::drop(walk, step, DropReason::TooLarge);
        }
        walk.pass(step(RouterAct::FragmentationNeeded));
        let answer = Answer::FragmentationNeeded { from: router.address, mtu: MTU };
        return Next::End(Verdict::Answer { answer, from: router.at });
    }
    outside::forward(walk, &router, step, next)
}
