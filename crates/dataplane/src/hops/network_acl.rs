//! Network ACLs: stateless, first match, wherever a packet leaves or enters a subnet.

use std::net::IpAddr;

use minivpc_model::RuleAction;

use super::covers;
use crate::drop::DropReason;
use crate::explain::{Mismatch, Miss, Recorder, Step};
use crate::snapshot::Direction;
use crate::walk::{At, Next, To, Verdict, Walk};

pub fn leave<R: Recorder>(walk: &mut Walk<'_, R>, subnet: u16, to: To) -> Next {
    let next = match to {
        To::Eni(eni) => At::Enter { eni },
        To::InternetGateway(igw) => At::OutOfVpc { igw, subnet },
        To::VpnGateway(vgw) => At::OutByVpn { vgw },
    };
    let destination = walk.packet.flow.dst;
    evaluate(walk, subnet, Direction::Egress, destination, next)
}

pub fn enter<R: Recorder>(walk: &mut Walk<'_, R>, eni: u16) -> Next {
    let subnet = walk.snapshot.eni(eni).subnet;
    let source = walk.packet.flow.src;
    evaluate(walk, subnet, Direction::Ingress, source, At::Arrived { eni })
}

fn evaluate<R: Recorder>(walk: &mut Walk<'_, R>, subnet: u16, direction: Direction, peer: IpAddr, next: At) -> Next {
    let acl = walk.snapshot.acl(walk.snapshot.subnet(subnet).acl);
    let entries = acl.entries(direction);
    let found = acl.at_once(direction).first(&walk.packet, peer, false);
    let before = found.map_or(entries, |found| &entries[..usize::from(found)]);
    walk.recorder.misses(before.iter().zip(0..).map(|(entry, rule)| {
        let mismatch = covers(entry.traffic, &walk.packet).err().unwrap_or(Mismatch::Address);
        Miss { rule, group: None, mismatch }
    }));
    walk.pass(Step::NetworkAcl { subnet, direction, entry: found });
    match found.map(|found| entries[usize::from(found)].action) {
        Some(RuleAction::Allow) => Next::Go(next),
        // NACL-2: what no entry matches is denied by the `*`.
        Some(RuleAction::Deny) | None => Next::End(Verdict::Drop(DropReason::NetworkAcl)),
    }
}
