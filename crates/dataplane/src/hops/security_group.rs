//! Security groups: stateful, allow only, at every guest's interface.

use minivpc_model::{Peer, PortRange, Traffic};
use minivpc_packet::{Flow, Headers, Kind, tcp_flags};

use super::covers;
use crate::drop::DropReason;
use crate::explain::{Mismatch, Miss, Recorder, Ruling, Step};
use crate::snapshot::{Direction, Eni, SecurityGroupRule, Snapshot};
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
    let mut allowed = Ruling::Denied;
    for &group in &eni.groups {
        for (rule, number) in walk.snapshot.group(group).rules(direction).iter().zip(0..) {
            match matches(walk, rule, direction) {
                Ok(()) if untracked && rule.is_for_everybody() => return Ruling::Untracked { group, rule: number },
                Ok(()) if allowed == Ruling::Denied => allowed = Ruling::Rule { group, rule: number },
                Ok(()) => {}
                Err(mismatch) => walk.recorder.miss(Miss { rule: number, group: Some(group), mismatch }),
            }
            if allowed != Ruling::Denied && !untracked {
                return allowed;
            }
        }
    }
    allowed
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
    [(*packet, direction), (back, direction.opposite())].into_iter().any(|(packet, direction)| {
        let mut rules = eni.groups.iter().flat_map(|group| snapshot.group(*group).rules(direction));
        answers_pass(snapshot, eni, packet.flow.protocol, direction.opposite())
            && rules.any(|rule| rule.is_for_everybody() && covers(rule.traffic, &packet).is_ok())
    })
}

/// Does a rule let packets of a protocol through in this direction, from or to anybody, whatever the port?
fn answers_pass(snapshot: &Snapshot, eni: &Eni, protocol: u8, direction: Direction) -> bool {
    let mut rules = eni.groups.iter().flat_map(|group| snapshot.group(*group).rules(direction));
    rules.any(|rule| {
        let every_port = match rule.traffic {
            Traffic::All => true,
            Traffic::Tcp(ports) => protocol == 6 && ports == PortRange::ALL,
            Traffic::Udp(ports) => protocol == 17 && ports == PortRange::ALL,
            Traffic::Icmp { .. } | Traffic::Protocol(_) => false,
        };
        every_port && rule.is_for_everybody()
    })
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
