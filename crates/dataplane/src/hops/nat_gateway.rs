//! NAT gateways: put their own private address in the source's place, and the client's back into replies.

use std::net::IpAddr;

use minivpc_packet::{Flow, Headers, Kind, tcp_flags};

use super::security_group;
use crate::drop::DropReason;
use crate::explain::{NatAct, Recorder, Step};
use crate::snapshot::Eni;
use crate::state::{Change, Destination, Endpoint, Lease, SessionKey, Sight};
use crate::walk::{Answer, At, Next, Verdict, Walk};

/// Sessions of one address towards one destination (NAT-10).
const MOST_SESSIONS: u32 = 55_000;
/// So many ports are tried for a new session: with 55,000 of 64,512 taken, all of them are once in 10⁹ times.
const ATTEMPTS: u16 = 128;

/// Largest IP packet that a gateway carries, bytes (§0.2).
const MTU: u16 = 8500;
/// Largest MSS that leaves a gateway (NAT-17): without IPv4 and TCP header.
const MSS: u16 = MTU - 40;

/// What becomes of a packet.
#[allow(clippy::large_enum_variant)] // It lives on the stack between two functions.
enum Act {
    Translate(NatAct, Headers, Option<Change>),
    Answer(NatAct, Answer),
    Drop(DropReason),
}

pub fn translate<R: Recorder>(walk: &mut Walk<'_, R>, nat: u16) -> Next {
    let eni = walk.snapshot.eni(walk.snapshot.nat(nat).eni);
    let before = walk.packet;
    let act = if eni.has(before.flow.src) {
        // NAT-22, NAT-24.
        Act::Drop(DropReason::RouteLoop)
    } else if eni.has(before.flow.dst) {
        inward(walk, eni)
    } else {
        outward(walk, eni)
    };
    let end = |walk: &mut Walk<'_, R>, act, verdict| {
        walk.pass(Step::Nat { nat, act });
        Next::End(verdict)
    };
    match act {
        Act::Drop(reason) => end(walk, NatAct::Dropped, Verdict::Drop(reason)),
        Act::Answer(act, _) if !before.admits_icmp_error() => {
            let too_large = act == NatAct::FragmentationNeeded;
            let reason = if too_large { DropReason::TooLarge } else { DropReason::TtlExpired };
            end(walk, NatAct::Dropped, Verdict::Drop(reason))
        }
        Act::Answer(act, answer) => end(walk, act, Verdict::Answer { answer, from: At::Router { subnet: eni.subnet } }),
        Act::Translate(act, after, change) => {
            let tracked = security_group::track_by_path(walk);
            if let Err(reason) = tracked.and_then(|()| change.map_or(Ok(()), |change| walk.change(change))) {
                return end(walk, NatAct::Dropped, Verdict::Drop(reason));
            }
            let mss_limit = matches!(before.kind, Kind::Tcp(_)).then_some(MSS);
            walk.packet = Headers { ttl: before.ttl - 1, mss_limit, ..after };
            walk.meta.middlebox = true;
            walk.limit(MTU);
            walk.step(Step::Nat { nat, act }, &before);
            Next::Go(At::Router { subnet: eni.subnet })
        }
    }
}

/// What every packet that a gateway translates must be, both ways.
fn check(packet: &Headers, own: IpAddr) -> Option<Act> {
    let udp = packet.flow.protocol == 17;
    if packet.ttl <= 1 {
        return Some(Act::Answer(NatAct::TimeExceeded, Answer::TimeExceeded { from: own }));
    }
    // NAT-16: of fragments only those of UDP are carried.
    if packet.fragment.is_some() && !udp {
        return Some(Act::Drop(DropReason::NatFragment));
    }
    match (packet.size > MTU, packet.dont_fragment) {
        (true, true) => {
            let answer = Answer::FragmentationNeeded { from: own, mtu: MTU };
            Some(Act::Answer(NatAct::FragmentationNeeded, answer))
        }
        (true, false) if !udp => Some(Act::Drop(DropReason::NatFragment)),
        _ => None,
    }
}

/// From the client side: source becomes the gateway's (NAT-2).
fn outward<R: Recorder>(walk: &Walk<'_, R>, eni: &Eni) -> Act {
    let packet = &walk.packet;
    if let Some(act) = check(packet, eni.ip) {
        return act;
    }
    if let Kind::IcmpError { kind, code, quoted } = packet.kind {
        // NAT-14, from a client about something that it received.
        let Some(used) = walk.view.session(&SessionKey { nat: eni.serial, flow: quoted.reversed() }) else {
            return Act::Drop(DropReason::NatNoSession);
        };
        let quoted = Flow { dst: used.endpoint.address, dst_port: used.endpoint.port, ..quoted };
        let flow = Flow { src: used.endpoint.address, ..packet.flow };
        return Act::Translate(
            NatAct::Source,
            Headers { flow, kind: Kind::IcmpError { kind, code, quoted }, ..*packet },
            None,
        );
    }
    let opens = match packet.kind {
        Kind::Tcp(flags) => flags & (tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST) == tcp_flags::SYN,
        Kind::Udp | Kind::EchoRequest => true,
        // Nobody reaches a client by the gateway to ask it; one of id 0 would be taken for the client's own request.
        Kind::EchoReply => return Act::Drop(DropReason::NatNoSession),
        Kind::IcmpError { .. } | Kind::Icmp { .. } | Kind::Other => {
            return Act::Drop(DropReason::NatProtocol);
        }
    };
    let key = SessionKey { nat: eni.serial, flow: packet.flow };
    let (used, change) = match walk.view.session(&key) {
        Some(session) => (session.endpoint, Change::SeeSession(session, Sight::of(packet, walk.now, true))),
        // NAT-18: whatever the session was, it is over. An answer to a SYN has never had one.
        None if !opens && ends_with_reset(packet.kind) => return Act::Answer(NatAct::Reset, Answer::Reset),
        None if !opens => return Act::Drop(DropReason::NatNoSession),
        None => match free_endpoint(walk, eni, &key) {
            Some(free) => (free, Change::OpenSession(key, free)),
            None => return Act::Drop(DropReason::NatPortAllocation),
        },
    };
    let flow = Flow { src: used.address, src_port: used.port, ..packet.flow };
    Act::Translate(NatAct::Source, Headers { flow, ..*packet }, Some(change))
}

fn ends_with_reset(kind: Kind) -> bool {
    matches!(kind, Kind::Tcp(flags) if flags & (tcp_flags::SYN | tcp_flags::RST) == 0)
}

/// Each address of the gateway has its own ports towards a destination (NAT-10).
fn free_endpoint<R>(walk: &Walk<'_, R>, eni: &Eni, key: &SessionKey) -> Option<Endpoint> {
    let count = 1 + eni.secondary_ips.len();
    let first = walk.key.address(key, count);
    let mut addresses = eni.addresses().cycle().skip(first).take(count);
    addresses.find_map(|address| {
        let lease = |port| Lease::of(key, Endpoint { address, port });
        if walk.view.sessions_towards(&lease(0).to) >= MOST_SESSIONS {
            return None;
        }
        let mut tries = (0..ATTEMPTS).map(|attempt| walk.key.port(key, attempt));
        let port = tries.find(|port| walk.view.lease(&lease(*port)).is_none())?;
        Some(Endpoint { address, port })
    })
}

/// Addressed to the gateway: a reply of one of its sessions, or nothing (NAT-21).
fn inward<R: Recorder>(walk: &Walk<'_, R>, eni: &Eni) -> Act {
    let packet = &walk.packet;
    // What the far side has sent, seen as what the gateway sent to it.
    let sent = match packet.kind {
        Kind::IcmpError { quoted, .. } => quoted,
        _ => packet.flow.reversed(),
    };
    let Flow { src, dst, protocol, src_port, dst_port } = sent;
    let to = Destination { nat: eni.serial, from: src, protocol, peer: dst, peer_port: dst_port };
    let lease = Lease { to, port: src_port };
    let session = Some(lease).filter(|_| src == packet.flow.dst).and_then(|lease| walk.view.lease(&lease));
    let Some(session) = session else { return Act::Drop(DropReason::NatNoSession) };
    if let Some(act) = check(packet, packet.flow.dst) {
        return act;
    }
    let client = session.key.flow;
    let (after, change) = match packet.kind {
        Kind::IcmpError { kind, code, .. } => {
            let flow = Flow { dst: client.src, ..packet.flow };
            (Headers { flow, kind: Kind::IcmpError { kind, code, quoted: client }, ..*packet }, None)
        }
        _ => {
            let sight = Sight::of(packet, walk.now, false);
            (Headers { flow: client.reversed(), ..*packet }, Some(Change::SeeSession(session, sight)))
        }
    };
    Act::Translate(NatAct::Destination, after, change)
}
