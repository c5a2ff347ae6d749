//! The order of hops, on one screen.

use std::net::IpAddr;

use minivpc_packet::Headers;

use crate::Tick;
use crate::drop::DropReason;
use crate::explain::{MOST_STEPS, Recorder, Step};
use crate::hops::{
    customer_site, eni, internet, internet_gateway, nat_gateway, network_acl, outside, router, security_group,
    subnet_service, vpn_gateway,
};
use crate::services::Service;
use crate::snapshot::{Direction, Snapshot};
use crate::state::{Change, NatKey, Txn, View};

/// Where a packet is. The next hop is decided by the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Left the guest.
    Sent { eni: u16 },
    /// Passed the source check.
    SentRules { eni: u16 },
    /// Sent to the router's own address.
    RouterItself { sender: u16 },
    /// Sent to a service of the subnet's.
    SubnetService { eni: u16, service: Service },
    /// Said by such a service, by TCP.
    ServiceSays,
    /// Passed the sender's groups; goes to the router or to a neighbour.
    Forward { eni: u16 },
    /// At the router of a subnet.
    Router { subnet: u16 },
    /// Routed; leaves the subnet for `to`.
    Leave { subnet: u16, to: To },
    /// Enters the subnet of an interface.
    Enter { eni: u16 },
    /// At an interface.
    Arrived { eni: u16 },
    /// Passed the destination check.
    ArrivedRules { eni: u16 },
    /// Passed the receiver's groups.
    Deliver { eni: u16 },
    /// At a NAT gateway.
    Nat { nat: u16 },
    /// At an internet gateway, from a subnet.
    OutOfVpc { igw: u16, subnet: u16 },
    /// At the internet gateway of whoever has the public address that it is for.
    IntoVpc,
    /// At a virtual private gateway, from a subnet.
    OutByVpn { vgw: u16 },
    /// At a virtual private gateway, from a site.
    IntoVpcByVpn { vgw: u16 },
    /// Left a host outside all VPCs.
    HostSent { host: u16 },
    /// On the internet.
    Internet,
    /// At the router of a customer's site.
    CustomerRouter { site: u16 },
    /// At a host outside all VPCs.
    HostArrived { host: u16 },
}

/// What a route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Eni(u16),
    InternetGateway(u16),
    VpnGateway(u16),
}

/// What earlier hops tell later ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meta {
    /// Not on the direct path from whose address it carries: references to groups no longer match (SG-7).
    pub middlebox: bool,
    /// Went through what makes security groups track, whatever their rules (SG-15).
    pub tracked_by_path: bool,
    /// Largest IP packet that the path carries, bytes; none if it is that of the interfaces.
    pub mtu: Option<u16>,
    /// Sent by a host outside all VPCs, in whosever name.
    pub by_a_host: bool,
}

/// What a hop wants.
pub enum Next {
    Go(At),
    End(Verdict),
}

/// How a walk ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Handed to the guest at this port.
    Deliver {
        /// The port.
        port: u16,
        /// Cut into fragments of this many bytes first.
        cut: Option<u16>,
    },
    /// The packet ends here, and its sender is answered.
    Answer {
        /// What is said.
        answer: Answer,
        /// Where the answer starts.
        from: At,
    },
    /// Dropped by the hop of the last step.
    Drop(DropReason),
}

/// What the network says to the sender of a packet that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its TTL ran out.
    TimeExceeded {
        /// Who says so.
        from: IpAddr,
    },
    /// It is too large and may not be cut.
    FragmentationNeeded {
        /// Who says so.
        from: IpAddr,
        /// What fits, bytes.
        mtu: u16,
    },
    /// There is no such TCP connection.
    Reset,
    /// To an echo request.
    Echo,
    /// What a service of the subnet's says.
    Service(Service),
}

/// What a walk read and wants.
pub struct Walk<'a, R> {
    pub snapshot: &'a Snapshot,
    pub view: View<'a>,
    pub key: &'a NatKey,
    pub now: Tick,
    pub recorder: &'a mut R,
    pub packet: Headers,
    pub meta: Meta,
    /// Number of the step in which the sender's groups have said that they need not track the packet's connection
    /// unless the path wants it.
    pub untracked: Option<usize>,
    pub txn: Txn,
    steps: usize,
}

impl<'a, R: Recorder> Walk<'a, R> {
    pub fn new(
        snapshot: &'a Snapshot,
        view: View<'a>,
        key: &'a NatKey,
        now: Tick,
        packet: Headers,
        recorder: &'a mut R,
    ) -> Self {
        let (meta, untracked, txn, steps) = (Meta::default(), None, Txn::new(), 0);
        Self { snapshot, view, key, now, recorder, packet, meta, untracked, txn, steps }
    }

    /// Walks from `at` to an end. Reads only what it was given; a drop asks for no change of state.
    pub fn run(&mut self, mut at: At) -> Verdict {
        // SG-7: what a hop itself says is on no direct path, whatever name it says it in.
        self.meta.middlebox |= !matches!(at, At::Sent { .. });
        self.meta.by_a_host = matches!(at, At::HostSent { .. });
        let verdict = loop {
            let next = match at {
                At::Sent { eni } => eni::source_check(self, eni),
                At::SentRules { eni } => security_group::check(self, eni, Direction::Egress),
                At::RouterItself { sender } => router::itself(self, sender),
                At::SubnetService { eni, service } => subnet_service::ask(self, eni, service),
                At::ServiceSays => subnet_service::say(self),
                At::Forward { eni } => eni::forward(self, eni),
                At::Router { subnet } => router::route(self, subnet),
                At::Leave { subnet, to } => network_acl::leave(self, subnet, to),
                At::Enter { eni } => network_acl::enter(self, eni),
                At::Arrived { eni } => eni::arrive(self, eni),
                At::ArrivedRules { eni } => security_group::check(self, eni, Direction::Ingress),
                At::Deliver { eni } => eni::deliver(self, eni),
                At::Nat { nat } => nat_gateway::translate(self, nat),
                At::OutOfVpc { igw, subnet } => internet_gateway::out(self, igw, subnet),
                At::IntoVpc => internet_gateway::into_vpc(self),
                At::OutByVpn { vgw } => vpn_gateway::out(self, vgw),
                At::IntoVpcByVpn { vgw } => vpn_gateway::into_vpc(self, vgw),
                At::HostSent { host } => outside::sent(self, host),
                At::Internet => internet::route(self),
                At::CustomerRouter { site } => customer_site::route(self, site),
                At::HostArrived { host } => outside::arrive(self, host),
            };
            match next {
                Next::End(verdict) => break verdict,
                Next::Go(_) if self.steps == MOST_STEPS => break Verdict::Drop(DropReason::RouteLoop),
                Next::Go(next) => at = next,
            }
        };
        if matches!(verdict, Verdict::Drop(_)) {
            self.txn.clear();
        }
        verdict
    }

    pub fn step(&mut self, step: Step, before: &Headers) {
        self.steps += 1;
        self.recorder.step(step, before, &self.packet);
    }

    /// Number of the last step.
    pub fn last_step(&self) -> usize {
        self.steps.saturating_sub(1)
    }

    /// A hop that leaves the packet as it is.
    pub fn pass(&mut self, step: Step) {
        let packet = self.packet;
        self.step(step, &packet);
    }

    /// The path carries no larger IP packet than one of `mtu` bytes.
    pub fn limit(&mut self, mtu: u16) {
        self.meta.mtu = Some(self.meta.mtu.map_or(mtu, |other| other.min(mtu)));
    }

    /// The end at a port.
    pub fn deliver(&self, port: u16) -> Verdict {
        Verdict::Deliver { port, cut: self.meta.mtu.filter(|mtu| self.packet.size > *mtu) }
    }

    /// A path meets few stateful hops; one that meets more than a transaction holds is dropped, not half tracked.
    pub fn change(&mut self, change: Change) -> Result<(), DropReason> {
        self.view.room_for(&change)?;
        self.txn.try_push(change).map_err(|_| DropReason::RouteLoop)
    }
}
