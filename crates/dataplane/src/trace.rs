//! The journey of a packet that isn't sent: the same walk, everything recorded, nothing changed.

use std::net::IpAddr;

use minivpc_packet::{Flow, Headers, Kind, tcp_flags};

use crate::drop::DropReason;
use crate::explain::{Full, IgwAct, NatAct, Recorded, RouterAct, Step};
use crate::snapshot::{EniKind, HOST_TTL, Port, Snapshot};
use crate::state::{Change, Connection, Endpoint, Lease, SessionKey, Txn, View};
use crate::walk::{Verdict, Walk};
use crate::words::Line;
use crate::{Engine, Now, begin};

/// A packet to ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The port of the guest that sends it.
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

/// TTL of what is sent at a port.
fn default_ttl(snapshot: &Snapshot, port: u16) -> u8 {
    match snapshot.port(port) {
        Port::Eni(eni) => match snapshot.eni(eni).kind {
            EniKind::Guest { default_ttl, .. } => default_ttl,
            EniKind::Nat(_) | EniKind::LoadBalancer | EniKind::Unattached => u8::MAX,
        },
        Port::Host(_) | Port::Services => HOST_TTL,
    }
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
        let (src, dst) = (snapshot.ip(probe.from), probe.to);
        let protocol = match probe.kind {
            Kind::Tcp(_) => 6,
            Kind::Udp => 17,
            _ => 1,
        };
        let flow = Flow { src, dst, protocol, src_port: probe.source_port, dst_port: probe.port };
        let there = self.journey(snapshot, now, probe.from, flow, probe, &[]);
        let back = match (there.verdict, answer(probe.kind)) {
            // An appliance answers nothing that it forwards.
            (Verdict::Deliver { port, .. }, Some(kind)) if snapshot.has(port, there.last.flow.dst) => {
                let answer = Probe { kind, ttl: None, ..*probe };
                let back = there.last.flow.reversed();
                let by = leaves_by(snapshot, port, back.dst);
                let mut back = self.journey(snapshot, now, by, back, &answer, &there.changes);
                if snapshot.port(port) == Port::Services {
                    // The address by which they were called is between them and the network.
                    back.sent.flow = flow.reversed();
                }
                Some(back)
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
        let (src_mac, dst_mac) = (snapshot.macs(from).0.0, next_hop_mac(snapshot, from, flow.dst));
        let ttl = probe.ttl.unwrap_or_else(|| default_ttl(snapshot, from));
        let sent = Headers { src_mac, dst_mac, ttl, size: probe.size, ..whole(flow, probe.kind) };
        let mut recorder = Full::default();
        let view = View::new(&self.state, pending, now.tick());
        let mut walk = Walk::new(snapshot, view, &self.key, now.tick(), sent, &mut recorder);
        let verdict = walk.run(begin(snapshot, from));
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
            packet = before.and_then(|before| again(snapshot, view, step, before));
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

/// What a hop made of a packet.
fn again(snapshot: &Snapshot, view: View<'_>, step: &Step, before: Headers) -> Option<Headers> {
    let Flow { src, dst, .. } = before.flow;
    let flow = match *step {
        Step::Nat { nat, act } => return retranslate(snapshot, view, nat, act, before),
        Step::InternetGateway { igw, act: IgwAct::Out } => {
            Flow { src: snapshot.public_of(snapshot.igw(igw).vpc, src)?, ..before.flow }
        }
        Step::InternetGateway { act: IgwAct::In, .. } => Flow { dst: snapshot.public(dst)?.private, ..before.flow },
        Step::Internet { act: RouterAct::Forwarded } | Step::CustomerRouter { act: RouterAct::Forwarded, .. } => {
            return Some(Headers { ttl: before.ttl.saturating_sub(1), ..before });
        }
        _ => before.flow,
    };
    Some(Headers { flow, ..before })
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
fn leaves_by(snapshot: &Snapshot, port: u16, destination: IpAddr) -> u16 {
    let Port::Eni(eni) = snapshot.port(port) else { return port };
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
fn next_hop_mac(snapshot: &Snapshot, port: u16, destination: IpAddr) -> [u8; 6] {
    let neighbour = match snapshot.port(port) {
        Port::Eni(eni) => {
            let subnet = snapshot.eni(eni).subnet;
            let owner = snapshot.owner(snapshot.subnet(subnet).vpc, destination).map(|owner| snapshot.eni(owner));
            owner.filter(|owner| owner.subnet == subnet)
        }
        Port::Host(_) | Port::Services => None,
    };
    neighbour.map_or(snapshot.macs(port).1.0, |neighbour| neighbour.mac.0)
}

impl Journey {
    /// The steps alone, as flows keep them.
    #[must_use]
    pub fn way(&self) -> Vec<Step> {
        self.steps.iter().map(|recorded| recorded.step).collect()
    }

    /// The port of an appliance that got a packet which isn't for it.
    #[must_use]
    pub fn handed_to(&self, snapshot: &Snapshot) -> Option<u16> {
        match self.verdict {
            Verdict::Deliver { port, .. } if !snapshot.has(port, self.last.flow.dst) => Some(port),
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
