//! What the hops decided: a [`Step`] each, small enough to be kept with every flow.

use minivpc_model::{
    HostId, InternetGatewayId, NatGatewayId, NetworkAclId, NetworkInterfaceId, RouteTableId, SubnetId, VpnConnectionId,
    VpnGatewayId,
};
use minivpc_packet::Headers;

use crate::services::Service;
use crate::snapshot::{Direction, Port, Snapshot};

/// What one hop decided, in the indices of one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A guest's packet passed, or not, the check of its MAC and IP source (R-11, SDC-1).
    SourceCheck {
        /// The interface.
        eni: u16,
        /// How it went.
        check: Check,
    },
    /// Security groups of an interface.
    SecurityGroup {
        /// The interface.
        eni: u16,
        /// Out of or into the interface.
        direction: Direction,
        /// How it went.
        ruling: Ruling,
    },
    /// A route table, and the route that won.
    Route {
        /// The table.
        table: u16,
        /// Index of the route in the table.
        route: Option<u16>,
    },
    /// The router itself was spoken to.
    Router {
        /// Its subnet.
        subnet: u16,
        /// Whether it answers.
        answers: bool,
    },
    /// A service that the interface's subnet offers was asked (SG-25).
    SubnetService {
        /// Who asks.
        eni: u16,
        /// Which.
        service: Service,
    },
    /// A network ACL.
    NetworkAcl {
        /// The subnet that is left or entered.
        subnet: u16,
        /// Out of or into the subnet.
        direction: Direction,
        /// Index of the entry in the list; none is the `*`.
        entry: Option<u16>,
    },
    /// A NAT gateway.
    Nat {
        /// The gateway.
        nat: u16,
        /// What it did.
        act: NatAct,
    },
    /// An internet gateway.
    InternetGateway {
        /// The gateway.
        igw: u16,
        /// What it did.
        act: IgwAct,
    },
    /// A virtual private gateway.
    VpnGateway {
        /// The gateway.
        vgw: u16,
        /// What it did.
        act: VgwAct,
    },
    /// The router of a customer's site.
    CustomerRouter {
        /// The site.
        site: u16,
        /// What it did.
        act: RouterAct,
    },
    /// A host outside all VPCs.
    Host {
        /// The host.
        host: u16,
        /// What it did.
        act: HostAct,
    },
    /// The internet's router.
    Internet {
        /// What it did.
        act: RouterAct,
    },
    /// A packet arrived at its interface (SDC-2).
    DestinationCheck {
        /// The interface.
        eni: u16,
        /// How it went.
        check: Check,
    },
}

const _: () = assert!(size_of::<Step>() <= 16);

/// How a source/destination check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Check {
    /// The address is the interface's own.
    Own,
    /// It isn't, and the check is off.
    Off,
    /// The packet is dropped.
    Failed,
}

/// What security groups said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ruling {
    /// A rule allows it.
    Rule {
        /// The group.
        group: u16,
        /// Index of the rule in the group's direction.
        rule: u16,
    },
    /// A rule for everybody allows it, and another one its answers: the connection isn't tracked (SG-13).
    Untracked {
        /// The group.
        group: u16,
        /// Index of the rule in the group's direction.
        rule: u16,
    },
    /// It belongs to a tracked connection that the interface opened that way round (SG-12).
    Tracked(Direction),
    /// It is an ICMP error about a tracked connection (SG-21).
    Related,
    /// Nothing allows it.
    Denied,
}

impl Ruling {
    /// The same where the connection is tracked.
    #[must_use]
    pub fn tracked(self) -> Self {
        match self {
            Self::Untracked { group, rule } => Self::Rule { group, rule },
            other => other,
        }
    }
}

/// What a NAT gateway did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatAct {
    /// Put its address in the source's place.
    Source,
    /// Put the client's address back.
    Destination,
    /// Answered that the TTL ran out (NAT-15).
    TimeExceeded,
    /// Answered that the packet is too large.
    FragmentationNeeded,
    /// Answered that there is no such connection (NAT-18).
    Reset,
    /// Dropped the packet.
    Dropped,
}

/// What an internet gateway did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IgwAct {
    /// Put the public address in the source's place.
    Out,
    /// Put the private address in the destination's place.
    In,
    /// Had the subnet's router answer that the packet is too large.
    FragmentationNeeded,
    /// Dropped the packet.
    Dropped,
}

/// What a virtual private gateway did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VgwAct {
    /// Sent the packet to a site.
    Out,
    /// Let the packet into the VPC.
    In,
    /// Dropped the packet.
    Dropped,
}

/// What a host did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostAct {
    /// Sent the packet.
    Sends,
    /// Sent what nobody takes.
    Refused,
    /// Got the packet.
    Receives,
}

/// What a router outside all VPCs did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouterAct {
    /// Forwarded the packet.
    Forwarded,
    /// Answered an echo request.
    Echo,
    /// Answered that the TTL ran out.
    TimeExceeded,
    /// Answered that the packet is too large.
    FragmentationNeeded,
    /// Dropped the packet.
    Dropped,
}

/// The first field of a rule that a packet doesn't match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mismatch {
    /// The protocol.
    Protocol,
    /// The destination port.
    Port,
    /// ICMP type or code.
    IcmpType,
    /// The address of the other side.
    Address,
    /// A referenced group of which the other side isn't, or isn't any more behind a middlebox (SG-7).
    Group,
}

impl Mismatch {
    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Protocol => "another protocol",
            Self::Port => "another port",
            Self::IcmpType => "another ICMP type",
            Self::Address => "another address",
            Self::Group => "the other side isn't in the group, or something in between forwards for it",
        }
    }
}

/// What a walk tells while it goes. The quiet recorder keeps the steps; the full one keeps all.
pub trait Recorder {
    /// A hop decided.
    fn step(&mut self, step: Step, before: &Headers, after: &Headers);
    /// A later hop changes what an earlier one, by its number, has decided.
    fn amend(&mut self, number: usize, change: impl FnOnce(&mut Step));
    /// A rule doesn't speak of the packet, though it stands before the one that does; the step that follows is that of
    /// its hop. The rules are asked only if somebody wants to know.
    fn misses(&mut self, _all: impl Iterator<Item = Miss>) {}
}

/// A rule that didn't match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Miss {
    /// Its place in its list.
    pub rule: u16,
    /// Its group, for security groups.
    pub group: Option<u16>,
    /// Why.
    pub mismatch: Mismatch,
}

/// Longest way that is recorded. Loops end long before.
pub const MOST_STEPS: usize = 96;

/// Keeps only the steps.
#[derive(Debug, Default)]
pub struct Quiet(pub arrayvec::ArrayVec<Step, MOST_STEPS>);

impl Recorder for Quiet {
    fn step(&mut self, step: Step, _before: &Headers, _after: &Headers) {
        // The walk ends at this many steps.
        let _ = self.0.try_push(step);
    }

    fn amend(&mut self, number: usize, change: impl FnOnce(&mut Step)) {
        if let Some(step) = self.0.get_mut(number) {
            change(step);
        }
    }
}

impl Quiet {
    /// Who dropped the packet that went this way: the last hop, or without any the interface that sent it.
    pub(crate) fn dropper(&self, snapshot: &Snapshot, sender: u16) -> Component {
        let last = self.0.last().map(|step| step.component(snapshot));
        last.unwrap_or_else(|| Component::at(snapshot, sender))
    }
}

/// Keeps everything.
#[derive(Debug, Default)]
pub struct Full {
    /// The steps with all that led to them.
    pub steps: Vec<Recorded>,
    misses: Vec<Miss>,
}

/// A step with all that led to it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The step.
    pub step: Step,
    /// The packet as it came to the hop.
    pub before: Headers,
    /// The packet as it left the hop.
    pub after: Headers,
    /// Rules that were tried before.
    pub misses: Vec<Miss>,
}

impl Recorder for Full {
    fn step(&mut self, step: Step, before: &Headers, after: &Headers) {
        let misses = std::mem::take(&mut self.misses);
        self.steps.push(Recorded { step, before: *before, after: *after, misses });
    }

    fn amend(&mut self, number: usize, change: impl FnOnce(&mut Step)) {
        if let Some(recorded) = self.steps.get_mut(number) {
            change(&mut recorded.step);
        }
    }

    fn misses(&mut self, all: impl Iterator<Item = Miss>) {
        self.misses.extend(all);
    }
}

/// The AWS component that a step names, by id: this outlives snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // The ids say it.
pub enum Component {
    NetworkInterface(NetworkInterfaceId),
    /// A subnet, for its router.
    Subnet(SubnetId),
    /// All security groups of this interface.
    SecurityGroups(NetworkInterfaceId),
    RouteTable(RouteTableId),
    NetworkAcl(NetworkAclId),
    NatGateway(NatGatewayId),
    InternetGateway(InternetGatewayId),
    VpnGateway(VpnGatewayId),
    /// The router at the far end.
    VpnConnection(VpnConnectionId),
    /// A host outside all VPCs.
    Host(HostId),
    /// The internet's router.
    Internet,
    /// What stands behind the port of the subnets' services.
    Services,
}

impl Component {
    /// What is at a port.
    pub(crate) fn at(snapshot: &Snapshot, port: u16) -> Self {
        match snapshot.port(port) {
            Port::Eni(eni) => Self::NetworkInterface(snapshot.eni(eni).id),
            Port::Host(host) => Self::Host(snapshot.host(host).id),
            Port::Services => Self::Services,
        }
    }
}

impl Step {
    /// The component, by id.
    #[must_use]
    pub fn component(&self, snapshot: &Snapshot) -> Component {
        match *self {
            Self::SourceCheck { eni, .. } | Self::DestinationCheck { eni, .. } => {
                Component::NetworkInterface(snapshot.eni(eni).id)
            }
            Self::SecurityGroup { eni, .. } => Component::SecurityGroups(snapshot.eni(eni).id),
            Self::SubnetService { eni, .. } => Component::Subnet(snapshot.subnet(snapshot.eni(eni).subnet).id),
            Self::Router { subnet, .. } => Component::Subnet(snapshot.subnet(subnet).id),
            Self::Route { table, .. } => Component::RouteTable(snapshot.route_table(table).id),
            Self::NetworkAcl { subnet, .. } => Component::NetworkAcl(snapshot.acl(snapshot.subnet(subnet).acl).id),
            Self::Nat { nat, .. } => Component::NatGateway(snapshot.nat(nat).id),
            Self::InternetGateway { igw, .. } => Component::InternetGateway(snapshot.igw(igw).id),
            Self::VpnGateway { vgw, .. } => Component::VpnGateway(snapshot.vgw(vgw).id),
            Self::CustomerRouter { site, .. } => Component::VpnConnection(snapshot.site(site).id),
            Self::Host { host, .. } => Component::Host(snapshot.host(host).id),
            Self::Internet { .. } => Component::Internet,
        }
    }
}
