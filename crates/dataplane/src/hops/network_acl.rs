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
        To::InternetGateway(igw) => At::InternetGateway { igw },
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
    let entries = walk.snapshot.acl(walk.snapshot.subnet(subnet).acl).entries(direction);
    let mut found = None;
    for (entry, index) in entries.iter().zip(0..) {
        let matched = covers(entry.traffic, &walk.packet);
        match matched.and_then(|()| if entry.cidr.contains(&peer) { Ok(()) } else { Err(Mismatch::Address) }) {
            Ok(()) => {
                found = Some((index, entry.action));
                break;
            }
            Err(mismatch) => walk.recorder.miss(Miss { rule: index, group: None, mismatch }),
        }
    }
    walk.pass(Step::NetworkAcl { subnet, direction, entry: found.map(|(index, _)| index) });
    match found {
        Some((_, RuleAction::Allow)) => Next::Go(next),
        // NACL-2: what no entry matches is denied by the `*`.
        Some((_, RuleAction::Deny)) | None => Next::End(Verdict::Drop(DropReason::NetworkAcl)),
    }
}
