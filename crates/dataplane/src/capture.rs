//! Copies of packets for whoever looks at them, also inside. A snapshot says at which points somebody looks; where it
//! says nothing, no hop is looked at.
//!
//! The walk is watched by a [`Recorder`], so there is no second implementation of forwarding: what a packet looks like
//! at an inner point is its frame with the edit that the walk has made of it until then. An interface sees whole frames
//! instead, also those that aren't packets.
//!
//! MAC addresses inside are those of the link on which the packet is: at a NAT gateway those of its own interface and
//! of its subnet's router. An internet gateway has no interface, and a hop that drops has none either: there the packet
//! has the addresses of the link that it was on last. A packet that a gateway cuts into fragments is whole at the
//! gateway, and cut where it is delivered.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use minivpc_model::{HostId, InternetGatewayId, NatGatewayId, NetworkInterfaceId, VpnGatewayId};
use minivpc_packet::{Edit, Frame, Headers, Mac, Malformed, Parsed};

use crate::drop::DropReason;
use crate::explain::{Component, IgwAct, NatAct, Quiet, Recorder, Step, VgwAct};
use crate::snapshot::{Port, Snapshot};
use crate::walk::{At, Verdict};
use crate::{Engine, Now, Sent, Walked};

/// Where packets are looked at. By id: it outlives snapshots, and one whose resource is gone sees nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// What a guest sends by an interface, and what is delivered to it.
    Interface(NetworkInterfaceId),
    /// The same of a host of the internet.
    Host(HostId),
    /// One side of a NAT gateway.
    NatGateway(NatGatewayId, Side),
    /// What comes to an internet gateway, and what leaves it.
    InternetGateway(InternetGatewayId),
    /// What comes to a virtual private gateway, and what leaves it.
    VpnGateway(VpnGatewayId),
    /// What is dropped, wherever that is, as it came to the hop that dropped it.
    Drops,
}

impl Point {
    /// The subnets' services aren't to be looked at: what they say is seen where it arrives.
    fn at(snapshot: &Snapshot, port: u16) -> Option<Self> {
        match snapshot.port(port) {
            Port::Eni(eni) => Some(Self::Interface(snapshot.eni(eni).id)),
            Port::Host(host) => Some(Self::Host(snapshot.host(host).id)),
            Port::Services => None,
        }
    }
}

/// A side of a NAT gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// What comes from and goes to clients.
    Inside,
    /// What goes to and comes from destinations: all that carries an address of the gateway's.
    Outside,
}

/// Which way a packet passes a point: an interface as its guest sees it, a gateway as it does itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Into it.
    In,
    /// Out of it.
    Out,
}

/// A packet at a point.
#[derive(Debug, Clone, Copy)]
pub struct Captured<'a> {
    /// Where.
    pub point: Point,
    /// Which way; of drops none.
    pub bound: Option<Bound>,
    /// Of drops why, and by whom.
    pub dropped: Option<(DropReason, Component)>,
    /// From the Ethernet header on. Checksums are complete if it isn't a super-segment.
    pub frame: &'a [u8],
}

/// Who looks. Called by the workers between two packets: it must not wait.
pub trait Sink: Send + Sync + fmt::Debug {
    /// A packet is at a point where somebody looks, though maybe not this one.
    fn take(&self, captured: &Captured<'_>);
}

/// Where somebody looks, and who.
#[derive(Debug, Clone)]
pub struct Armed {
    points: HashSet<Point>,
    sinks: Vec<Arc<dyn Sink>>,
}

impl Armed {
    /// All of `sinks` get what passes any of `points`.
    #[must_use]
    pub fn new(points: impl IntoIterator<Item = Point>, sinks: Vec<Arc<dyn Sink>>) -> Self {
        Self { points: points.into_iter().collect(), sinks }
    }

    fn at(&self, point: Point) -> bool {
        self.points.contains(&point)
    }

    fn give(&self, captured: &Captured<'_>) {
        for sink in &self.sinks {
            sink.take(captured);
        }
    }

    /// What a guest sends, whatever it is.
    pub(crate) fn sent(&self, snapshot: &Snapshot, sent: &Sent<'_>, read: &Result<Frame, Malformed>) {
        let Some(point) = Point::at(snapshot, sent.port).filter(|point| self.at(*point)) else { return };
        let give = |frame: &[u8]| self.give(&Captured { point, bound: Some(Bound::Out), dropped: None, frame });
        match read {
            Ok(Frame::Ipv4(packet)) => give(&edited(&packet.headers, packet, sent)),
            _ => give(sent.frame),
        }
    }

    /// What a guest gets, as it gets it.
    pub(crate) fn delivered(&self, snapshot: &Snapshot, port: u16, frame: &[u8]) {
        if let Some(point) = Point::at(snapshot, port).filter(|point| self.at(*point)) {
            self.give(&Captured { point, bound: Some(Bound::In), dropped: None, frame });
        }
    }

    /// A frame that is dropped as it is.
    pub(crate) fn dropped(&self, reason: DropReason, component: Component, frame: &[u8]) {
        if self.at(Point::Drops) {
            let dropped = Some((reason, component));
            self.give(&Captured { point: Point::Drops, bound: None, dropped, frame });
        }
    }

    /// A packet that is dropped with these headers.
    pub(crate) fn dropped_packet(
        &self,
        reason: DropReason,
        component: Component,
        headers: &Headers,
        (packet, sent): (&Parsed, &Sent<'_>),
    ) {
        if self.at(Point::Drops) {
            self.dropped(reason, component, &edited(headers, packet, sent));
        }
    }

    /// What a NAT gateway says to the sender of a packet that `arrived` at it, on its way out by its interface.
    pub(crate) fn said(&self, snapshot: &Snapshot, by: Option<Step>, arrived: &Headers, reply: &mut [u8]) {
        let (Some(Step::Nat { nat, .. }), Some(macs)) = (by, reply.first_chunk_mut::<12>()) else { return };
        let gateway = Gateway::of(snapshot, nat);
        macs[..6].copy_from_slice(&gateway.router);
        macs[6..].copy_from_slice(&gateway.mac);
        let point = Point::NatGateway(gateway.id, gateway.side_of(snapshot, arrived));
        if self.at(point) {
            self.give(&Captured { point, bound: Some(Bound::Out), dropped: None, frame: reply });
        }
    }
}

/// The frame as it is where its packet has these headers.
fn edited(headers: &Headers, packet: &Parsed, sent: &Sent<'_>) -> Vec<u8> {
    let mut copy = sent.frame.to_vec();
    Edit::between(&packet.headers, headers).apply(packet, &mut { sent.vnet }, &mut copy);
    copy
}

/// A NAT gateway on its own link.
struct Gateway {
    id: NatGatewayId,
    eni: u16,
    mac: Mac,
    router: Mac,
}

impl Gateway {
    fn of(snapshot: &Snapshot, nat: u16) -> Self {
        let nat = snapshot.nat(nat);
        let eni = snapshot.eni(nat.eni);
        let router = snapshot.subnet(eni.subnet).router_mac.0;
        Self { id: nat.id, eni: nat.eni, mac: eni.mac.0, router }
    }

    /// From where a packet comes to it.
    fn side_of(&self, snapshot: &Snapshot, arrived: &Headers) -> Side {
        let eni = snapshot.eni(self.eni);
        let is_its = eni.has(arrived.flow.src) || eni.has(arrived.flow.dst);
        if is_its { Side::Outside } else { Side::Inside }
    }
}

/// Source and destination MAC address on the link where a packet is.
#[derive(Clone, Copy)]
struct Link {
    src: Mac,
    dst: Mac,
}

impl Link {
    fn of(self, packet: &Headers) -> Headers {
        Headers { src_mac: self.src, dst_mac: self.dst, ..*packet }
    }
}

/// Keeps the steps, and what passes points where somebody looks.
struct Watch<'a> {
    steps: Quiet,
    armed: &'a Armed,
    snapshot: &'a Snapshot,
    link: Link,
    seen: Vec<(Point, Bound, Headers)>,
}

impl Watch<'_> {
    fn see(&mut self, point: Point, bound: Bound, packet: &Headers) {
        if self.armed.at(point) {
            self.seen.push((point, bound, self.link.of(packet)));
        }
    }
}

impl Recorder for Watch<'_> {
    fn step(&mut self, step: Step, before: &Headers, after: &Headers) {
        self.steps.step(step, before, after);
        match step {
            Step::Nat { nat, act } => {
                let gateway = Gateway::of(self.snapshot, nat);
                let came = gateway.side_of(self.snapshot, before);
                // A neighbour may have sent it there directly.
                if self.link.dst != gateway.mac {
                    self.link = Link { src: gateway.router, dst: gateway.mac };
                }
                self.see(Point::NatGateway(gateway.id, came), Bound::In, before);
                let goes = match act {
                    NatAct::Source => Side::Outside,
                    NatAct::Destination => Side::Inside,
                    NatAct::TimeExceeded | NatAct::FragmentationNeeded | NatAct::Reset | NatAct::Dropped => return,
                };
                self.link = Link { src: gateway.mac, dst: gateway.router };
                self.see(Point::NatGateway(gateway.id, goes), Bound::Out, after);
            }
            Step::InternetGateway { igw, act } => {
                let point = Point::InternetGateway(self.snapshot.igw(igw).id);
                self.see(point, Bound::In, before);
                if matches!(act, IgwAct::Out | IgwAct::In) {
                    self.see(point, Bound::Out, after);
                }
            }
            Step::VpnGateway { vgw, act } => {
                let point = Point::VpnGateway(self.snapshot.vgw(vgw).id);
                self.see(point, Bound::In, before);
                if matches!(act, VgwAct::Out | VgwAct::In) {
                    self.see(point, Bound::Out, after);
                }
            }
            Step::SourceCheck { .. }
            | Step::SecurityGroup { .. }
            | Step::Route { .. }
            | Step::Router { .. }
            | Step::SubnetService { .. }
            | Step::NetworkAcl { .. }
            | Step::DestinationCheck { .. }
            | Step::Host { .. }
            | Step::CustomerRouter { .. }
            | Step::Internet { .. } => {}
        }
    }

    fn amend(&mut self, number: usize, change: impl FnOnce(&mut Step)) {
        self.steps.amend(number, change);
    }
}

impl Engine {
    /// A walk, and what is seen of it.
    pub(crate) fn walk_watched(
        &self,
        (snapshot, armed, now): (&Snapshot, &Armed, Now),
        at: At,
        packet: &Parsed,
        sent: &Sent<'_>,
    ) -> Walked<Quiet> {
        let link = Link { src: packet.headers.src_mac, dst: packet.headers.dst_mac };
        let watch = || Watch { steps: Quiet::default(), armed, snapshot, link, seen: Vec::new() };
        let Walked { verdict, after, recorder: watch, txn, mtu, version } =
            self.walk_and_commit(snapshot, now, at, packet.headers, watch);
        for (point, bound, headers) in &watch.seen {
            let frame = &edited(headers, packet, sent);
            armed.give(&Captured { point: *point, bound: Some(*bound), dropped: None, frame });
        }
        if let Verdict::Drop(reason) = verdict {
            let dropper = watch.steps.dropper(snapshot, sent.port);
            armed.dropped_packet(reason, dropper, &watch.link.of(&after), (packet, sent));
        }
        Walked { verdict, after, recorder: watch.steps, txn, mtu, version }
    }
}
