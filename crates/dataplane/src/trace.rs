//! The journey of a packet that isn't sent: the same walk, everything recorded, nothing changed.

use std::net::IpAddr;

use minivpc_packet::{Flow, Headers, Kind, tcp_flags};

use crate::drop::DropReason;
use crate::explain::{Full, Line, NatAct, Recorded, Step};
use crate::snapshot::{EniKind, Snapshot};
use crate::state::{Change, Connection, Endpoint, Lease, SessionKey, Txn, View};
use crate::walk::{At, Verdict, Walk};
use crate::{Engine, Now};

/// A packet to ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The interface whose guest sends it, index.
    pub from: u16,
    /// Where to.
    pub to: IpAddr,
    /// What kind: an echo request, UDP or TCP.
    pub kind: Kind,
    /// Source port, or ICMP id.
    pub source_port: u16,
    /// Destination port; 0 for ICMP.
    pub port: u16,
    /// TTL; the guest's default one if none is given.
    pub ttl: Option<u8>,
    /// Length of the IP packet, bytes. It is sent with the DF bit, as Linux does.
    pub size: u16,
}

/// What became of a packet.
#[derive(Debug, Clone)]
pub struct Journey {
    /// The packet as it was sent.
    pub sent: Headers,
    /// The packet as it arrived, or as it was when it was dropped.
    pub last: Headers,
    /// The end.
    pub verdict: Verdict,
    /// The hops.
    pub steps: Vec<Recorded>,
    changes: Txn,
}

impl Engine {
    /// What would become of a packet now, and of the answer to it.
    #[must_use]
    pub fn trace(&self, snapshot: &Snapshot, now: Now, probe: &Probe) -> (Journey, Option<Journey>) {
        let eni = snapshot.eni(probe.from);
        let (src, dst) = (eni.ip, probe.to);
        let protocol = match probe.kind {
            Kind::Tcp(_) => 6,
            Kind::Udp => 17,
            _ => 1,
        };
        let flow = Flow { src, dst, protocol, src_port: probe.source_port, dst_port: probe.port };
        let there = self.journey(snapshot, now, probe.from, flow, probe, &[]);
        let back = match (there.verdict, answer(probe.kind)) {
            // An appliance answers nothing that it forwards.
            (Verdict::Deliver { eni, .. }, Some(kind)) if snapshot.eni(eni).has(there.last.flow.dst) => {
                let answer = Probe { kind, ttl: None, ..*probe };
                let flow = there.last.flow.reversed();
                let by = leaves_by(snapshot, eni, flow.dst);
                Some(self.journey(snapshot, now, by, flow, &answer, &there.changes))
            }
            _ => None,
        };
        (there, back)
    }

    fn journey(
        &self,
        snapshot: &Snapshot,
        now: Now,
        from: u16,
        flow: Flow,
        probe: &Probe,
        pending: &[Change],
    ) -> Journey {
        let eni = snapshot.eni(from);
        let default_ttl = match eni.kind {
            EniKind::Guest { default_ttl, .. } => default_ttl,
            EniKind::Nat(_) => u8::MAX,
        };
        let src_mac = eni.mac.0;
        let dst_mac = next_hop_mac(snapshot, eni.subnet, flow.dst);
        let ttl = probe.ttl.unwrap_or(default_ttl);
        let sent = Headers { src_mac, dst_mac, ttl, size: probe.size, ..whole(flow, probe.kind) };
        let mut recorder = Full::default();
        let view = View::new(&self.state, pending, now.tick());
        let mut walk = Walk::new(snapshot, view, &self.key, now.tick(), sent, &mut recorder);
        let verdict = walk.run(At::Sent { eni: from });
        let (last, changes) = (walk.packet, walk.txn.clone());
        Journey { sent, last, verdict, steps: recorder.steps, changes }
    }
}

impl Engine {
    /// The way that a connection's packets take, in words; empty if its interface has sent none since the last change
    /// of the world.
    #[must_use]
    pub fn recall(&self, snapshot: &Snapshot, now: Now, connection: &Connection) -> Vec<Line> {
        let way = connection.way().filter(|way| way.generation == snapshot.generation);
        let Some(way) = way else { return Vec::new() };
        let flow = if way.reversed { connection.key.flow.reversed() } else { connection.key.flow };
        let kind = match flow.protocol {
            1 if flow.src_port != 0 => Kind::EchoRequest,
            1 => Kind::EchoReply,
            6 => Kind::Tcp(0),
            17 => Kind::Udp,
            _ => Kind::Other,
        };
        let view = View::new(&self.state, &[], now.tick());
        let mut packet = Some(Headers { ttl: way.ttl, ..whole(flow, kind) });
        let line = |step: &Step| {
            let before = packet;
            if let Step::Nat { nat, act } = *step {
                packet = before.and_then(|before| retranslate(snapshot, view, nat, act, before));
            }
            match (before, packet) {
                (Some(before), Some(after)) => {
                    Recorded { step: *step, before, after, misses: Vec::new() }.line(snapshot, None)
                }
                // The NAT session has ended since: what the packet looked like is forgotten.
                _ => step.line(snapshot),
            }
        };
        way.steps.iter().map(line).collect()
    }
}

/// A whole packet, with the DF bit.
fn whole(flow: Flow, kind: Kind) -> Headers {
    let (src_mac, dst_mac) = ([0; 6], [0; 6]);
    Headers { src_mac, dst_mac, ttl: 0, flow, kind, size: 0, dont_fragment: true, fragment: None, mss_limit: None }
}

/// What a NAT gateway made of a packet, by the session that it still has for it.
fn retranslate(snapshot: &Snapshot, view: View<'_>, nat: u16, act: NatAct, before: Headers) -> Option<Headers> {
    let eni = snapshot.eni(snapshot.nat(nat).eni);
    let flow = match act {
        NatAct::Source => {
            let used = view.session(&SessionKey { nat: eni.serial, flow: before.flow })?.endpoint;
            Flow { src: used.address, src_port: used.port, ..before.flow }
        }
        NatAct::Destination => {
            let sent = SessionKey { nat: eni.serial, flow: before.flow.reversed() };
            let Flow { src: address, src_port: port, .. } = sent.flow;
            view.lease(&Lease::of(&sent, Endpoint { address, port }))?.key.flow.reversed()
        }
        NatAct::TimeExceeded | NatAct::FragmentationNeeded | NatAct::Reset | NatAct::Dropped => before.flow,
    };
    Some(Headers { flow, ttl: before.ttl.saturating_sub(1), ..before })
}

/// The answer of a host that listens.
fn answer(kind: Kind) -> Option<Kind> {
    match kind {
        Kind::EchoRequest => Some(Kind::EchoReply),
        Kind::Udp => Some(Kind::Udp),
        Kind::Tcp(tcp_flags::SYN) => Some(Kind::Tcp(tcp_flags::SYN | tcp_flags::ACK)),
        Kind::Tcp(_) => Some(Kind::Tcp(tcp_flags::ACK)),
        _ => None,
    }
}

/// The interface by which a guest sends from an address of `eni`, as it is configured: what has an address of `eth1` or a
/// further one leaves by that; what has one of `eth0` by the interface on whose subnet the destination is, else by `eth0`.
fn leaves_by(snapshot: &Snapshot, eni: u16, destination: IpAddr) -> u16 {
    let (EniKind::Guest { instance, .. }, IpAddr::V4(to)) = (snapshot.eni(eni).kind, destination) else { return eni };
    let on_link = |index: u16| snapshot.subnet(snapshot.eni(index).subnet).cidr.contains(&to);
    if !snapshot.eni(eni).name.ends_with("/eth0") || on_link(eni) {
        return eni;
    }
    let is_its = |index: &u16| matches!(snapshot.eni(*index).kind, EniKind::Guest { instance: i, .. } if i == instance);
    let all = (0..snapshot.enis.len() as u16).filter(is_its);
    all.into_iter().find(|index| on_link(*index)).unwrap_or(eni)
}

/// A guest asks by ARP for what is on its subnet, and sends all else to the router.
fn next_hop_mac(snapshot: &Snapshot, subnet: u16, destination: IpAddr) -> [u8; 6] {
    let home = snapshot.subnet(subnet);
    let neighbour = snapshot.owner(home.vpc, destination).map(|index| snapshot.eni(index));
    neighbour.filter(|eni| eni.subnet == subnet).map_or(home.router_mac.0, |eni| eni.mac.0)
}

impl Journey {
    /// The steps alone, as flows keep them.
    #[must_use]
    pub fn way(&self) -> Vec<Step> {
        self.steps.iter().map(|recorded| recorded.step).collect()
    }

    /// The interface of an appliance that got a packet which isn't for it.
    #[must_use]
    pub fn handed_to(&self, snapshot: &Snapshot) -> Option<u16> {
        match self.verdict {
            Verdict::Deliver { eni, .. } if !snapshot.eni(eni).has(self.last.flow.dst) => Some(eni),
            _ => None,
        }
    }

    /// Why it was dropped, if it was.
    #[must_use]
    pub fn reason(&self) -> Option<DropReason> {
        match self.verdict {
            Verdict::Drop(reason) => Some(reason),
            Verdict::Deliver { .. } | Verdict::Answer { .. } => None,
        }
    }

    /// The steps in words.
    #[must_use]
    pub fn lines(&self, snapshot: &Snapshot) -> Vec<Line> {
        let last = self.steps.len().saturating_sub(1);
        let reason = |at: usize| self.reason().filter(|_| at == last);
        self.steps.iter().enumerate().map(|(at, step)| step.line(snapshot, reason(at))).collect()
    }
}
