//! Security groups: stateful, allow only, at every guest's interface.

use minivpc_model::Peer;
use minivpc_packet::{Flow, Headers, Kind, tcp_flags};

use super::covers;
use crate::drop::DropReason;
use crate::explain::{Mismatch, Miss, Recorder, Ruling, Step};
use crate::snapshot::{Direction, Eni, Snapshot};
use crate::state::{Change, Connection, ConnectionKey, Phase, Sight};
use crate::walk::{At, Next, Verdict, Walk};

pub fn check<R: Recorder>(walk: &mut Walk<'_, R>, index: u16, direction: Direction) -> Next {
    let eni = walk.snapshot.eni(index);
    let key = ConnectionKey::new(eni.serial, walk.packet.flow);
    let connection = walk.view.connection(&key).filter(|connection| carries(connection, walk.packet.kind));
    let mut ruling = match &connection {
        Some(connection) => Ruling::Tracked(connection.direction),
        None => rule(walk, eni, direction),
    };
    if walk.meta.tracked_by_path {
        ruling = ruling.tracked();
    }
    walk.pass(Step::SecurityGroup { eni: index, direction, ruling });
    let tracked = match (ruling, connection) {
        (Ruling::Denied, _) => Err(DropReason::SecurityGroup),
        (_, Some(connection)) => {
            let sight = Sight::of(&walk.packet, walk.now, connection.direction == direction);
            walk.change(Change::SeeConnection(connection, sight))
        }
        (Ruling::Rule { .. } | Ruling::Untracked { .. }, None) if opens_nothing(walk.packet.kind) => Ok(()),
        (Ruling::Rule { .. }, None) => walk.change(Change::OpenConnection(key, direction)),
        // Whether it stays so depends on the path, which isn't known yet on the way out.
        (Ruling::Untracked { .. }, None) => {
            walk.untracked = Some(walk.last_step());
            walk.change(Change::LeaveUntracked(key, direction))
        }
        (Ruling::Related | Ruling::Tracked(_), None) => Ok(()),
    };
    match (tracked, direction) {
        (Err(reason), _) => Next::End(Verdict::Drop(reason)),
        (Ok(()), Direction::Egress) => Next::Go(At::Forward { eni: index }),
        (Ok(()), Direction::Ingress) => Next::Go(At::Deliver { eni: index }),
    }
}

/// Does a packet belong to the connection of its flow? An ICMP error is about another flow; a SYN on a connection that
/// is closing opens another one with the same ports.
fn carries(connection: &Connection, kind: Kind) -> bool {
    match kind {
        Kind::IcmpError { .. } => false,
        Kind::Tcp(flags) => !(is_syn(flags) && connection.phase() == Phase::Closing),
        _ => true,
    }
}

/// SG-15: what goes through a NAT gateway is tracked at both ends, whatever the rules are.
pub fn track_by_path<R: Recorder>(walk: &mut Walk<'_, R>) -> Result<(), DropReason> {
    walk.meta.tracked_by_path = true;
    let Some(step) = walk.untracked.take() else { return Ok(()) };
    walk.recorder.amend(step, |step| {
        if let Step::SecurityGroup { ruling, .. } = step {
            *ruling = ruling.tracked();
        }
    });
    let left = walk.txn.iter().position(|change| matches!(change, Change::LeaveUntracked(..)));
    match left.map(|left| walk.txn.remove(left)) {
        Some(Change::LeaveUntracked(key, direction)) => walk.change(Change::OpenConnection(key, direction)),
        _ => Ok(()),
    }
}

/// What the rules say of a packet of no tracked connection.
fn rule<R: Recorder>(walk: &mut Walk<'_, R>, eni: &Eni, direction: Direction) -> Ruling {
    if let Kind::IcmpError { quoted, .. } = walk.packet.kind
        && is_related(walk, eni, quoted, direction)
    {
        return Ruling::Related;
    }
    // SG-14: ICMP is always tracked.
    let untracked = matches!(walk.packet.kind, Kind::Tcp(_) | Kind::Udp)
        && is_untracked(walk.snapshot, eni, &walk.packet, direction);
    let other = match direction {
        Direction::Egress => walk.packet.flow.dst,
        Direction::Ingress => walk.packet.flow.src,
    };
    let mut allowed = Ruling::Denied;
    for &group in &eni.groups {
        let rules = walk.snapshot.group(group).at_once(direction);
        if untracked && let Some(rule) = rules.first_for_everybody(&walk.packet) {
            return Ruling::Untracked { group, rule };
        }
        match rules.first(&walk.packet, other, !walk.meta.middlebox) {
            Some(rule) if allowed == Ruling::Denied => allowed = Ruling::Rule { group, rule },
            Some(_) => {}
            None => note_misses(walk, group, direction),
        }
        if allowed != Ruling::Denied && !untracked {
            break;
        }
    }
    allowed
}

/// None of a group's rules speaks of the packet.
fn note_misses<R: Recorder>(walk: &mut Walk<'_, R>, group: u16, direction: Direction) {
    let rules = walk.snapshot.group(group).rules(direction);
    walk.recorder.misses(rules.iter().zip(0..).map(|(rule, number)| {
        let whose = match rule.peer {
            Peer::Cidr(_) => Mismatch::Address,
            Peer::SecurityGroup(_) => Mismatch::Group,
        };
        let mismatch = covers(rule.traffic, &walk.packet).err().unwrap_or(whose);
        Miss { rule: number, group: Some(group), mismatch }
    }));
}

/// An error belongs to the flow that it is about; all errors between two hosts would be one connection. A reset ends
/// one (SG-19).
fn opens_nothing(kind: Kind) -> bool {
    matches!(kind, Kind::IcmpError { .. }) || matches!(kind, Kind::Tcp(flags) if flags & tcp_flags::RST != 0)
}

fn is_syn(flags: u8) -> bool {
    flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN
}

/// SG-21: an error about a packet of a connection that passes belongs to it, tracked or not.
fn is_related<R>(walk: &Walk<'_, R>, eni: &Eni, quoted: Flow, direction: Direction) -> bool {
    if walk.view.connection(&ConnectionKey::new(eni.serial, quoted)).is_some() {
        return true;
    }
    let kind = match quoted.protocol {
        6 => Kind::Tcp(0),
        17 => Kind::Udp,
        _ => return false,
    };
    let packet = Headers { flow: quoted, kind, ..walk.packet };
    is_untracked(walk.snapshot, eni, &packet, direction.opposite())
}

/// SG-13: a flow that a rule for everybody allows needs no tracking when another one lets all its answers pass. The
/// packet may be of the side that opened the flow or of the other.
fn is_untracked(snapshot: &Snapshot, eni: &Eni, packet: &Headers, direction: Direction) -> bool {
    let back = Headers { flow: packet.flow.reversed(), ..*packet };
    let rules = |direction| eni.groups.iter().map(move |group| snapshot.group(*group).at_once(direction));
    [(packet, direction), (&back, direction.opposite())].into_iter().any(|(packet, direction)| {
        rules(direction.opposite()).any(|rules| rules.pass_all(packet.flow.protocol))
            && rules(direction).any(|rules| rules.first_for_everybody(packet).is_some())
    })
}
