//! Security groups: stateful, allow only, at every guest's interface.

use minivpc_model::Peer;
use minivpc_packet::Kind;

use super::{covers, eni};
use crate::drop::DropReason;
use crate::explain::{Mismatch, Miss, Recorder, Ruling, Step};
use crate::snapshot::{Direction, Eni, SecurityGroupRule};
use crate::state::{Change, ConnectionKey, Sight};
use crate::walk::{Next, Verdict, Walk};

pub fn check<R: Recorder>(walk: &mut Walk<'_, R>, index: u16, direction: Direction) -> Next {
    let snapshot = walk.snapshot;
    let eni = snapshot.eni(index);
    let ruling = rule(walk, eni, direction);
    walk.pass(Step::SecurityGroup { eni: index, direction, ruling });
    let key = ConnectionKey::new(eni.serial, walk.packet.flow);
    let tracked = match ruling {
        Ruling::Denied => Err(DropReason::SecurityGroup),
        Ruling::Related => Ok(()),
        Ruling::Tracked(opened) => {
            let sight = Sight::of(&walk.packet, walk.now, opened == direction);
            walk.change(Change::SeeConnection(key, sight))
        }
        Ruling::Rule { .. } => walk.change(Change::OpenConnection(key, direction)),
    };
    match (tracked, direction) {
        (Err(reason), _) => Next::End(Verdict::Drop(reason)),
        (Ok(()), Direction::Egress) => eni::forward(walk, index),
        (Ok(()), Direction::Ingress) => eni::deliver(walk, index),
    }
}

fn rule<R: Recorder>(walk: &mut Walk<'_, R>, eni: &Eni, direction: Direction) -> Ruling {
    if let Some(opened) = walk.view.connection(&ConnectionKey::new(eni.serial, walk.packet.flow)) {
        return Ruling::Tracked(opened);
    }
    // SG-21.
    if let Kind::IcmpError { quoted, .. } = walk.packet.kind
        && walk.view.connection(&ConnectionKey::new(eni.serial, quoted)).is_some()
    {
        return Ruling::Related;
    }
    for &group in &eni.groups {
        for (rule, number) in walk.snapshot.group(group).rules(direction).iter().zip(0..) {
            match matches(walk, rule, direction) {
                Ok(()) => return Ruling::Rule { group, rule: number },
                Err(mismatch) => walk.recorder.miss(Miss { rule: number, group: Some(group), mismatch }),
            }
        }
    }
    Ruling::Denied
}

fn matches<R>(walk: &Walk<'_, R>, rule: &SecurityGroupRule, direction: Direction) -> Result<(), Mismatch> {
    covers(rule.traffic, &walk.packet)?;
    let other = match direction {
        Direction::Egress => walk.packet.flow.dst,
        Direction::Ingress => walk.packet.flow.src,
    };
    match (rule.peer, rule.peer_group) {
        (Peer::Cidr(net), _) if net.contains(&other) => Ok(()),
        (Peer::Cidr(_), _) => Err(Mismatch::Address),
        (Peer::SecurityGroup(_), Some(group))
            if !walk.meta.middlebox && walk.snapshot.group(group).members.binary_search(&other).is_ok() =>
        {
            Ok(())
        }
        (Peer::SecurityGroup(_), _) => Err(Mismatch::Group),
    }
}
