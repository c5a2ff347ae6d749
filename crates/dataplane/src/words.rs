//! The words of what the hops decided.

use std::net::IpAddr;

use minivpc_model::{Origin, RuleAction};
use minivpc_packet::{Flow, Headers, Kind};

use crate::drop::DropReason;
use crate::explain::{Check, HostAct, IgwAct, Miss, NatAct, Recorded, RouterAct, Ruling, Step, VgwAct};
use crate::snapshot::{Direction, EniKind, Route, SecurityGroup, SecurityGroupRule, Snapshot, Target};

/// A step in words, in columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `eni`, `sg`, `rtr`, `svc`, `rtb`, `acl`, `nat`, `igw`, `vgw`, `site`, `net`, `host`.
    pub hop: &'static str,
    /// The component's name.
    pub name: String,
    /// The component's id; of several groups all.
    pub id: String,
    /// The subnet that a network ACL or route table served.
    pub subnet: Option<String>,
    /// What was asked: `source check`, `egress #100`, `10.0.1.0/24`.
    pub subject: String,
    /// What was decided: `pass`, `allow`, `→ nat-…`.
    pub decision: String,
    /// Why.
    pub note: String,
    /// Where the rule came from.
    pub origin: Option<Origin>,
}

/// What a hop saw, for words that speak of the packet.
#[derive(Clone, Copy)]
struct Seen<'a> {
    before: &'a Headers,
    after: &'a Headers,
    misses: &'a [Miss],
}

impl Recorded {
    /// The step in words. `reason` is given for the step that dropped the packet.
    #[must_use]
    pub fn line(&self, snapshot: &Snapshot, reason: Option<DropReason>) -> Line {
        let seen = Seen { before: &self.before, after: &self.after, misses: &self.misses };
        let mut line = self.step.words(snapshot, Some(seen));
        if let Some(reason) = reason {
            line.decision = "drop".to_owned();
            line.note = match line.note.as_str() {
                "" => reason.text().to_owned(),
                note => format!("{} ({note})", reason.text()),
            };
        }
        line
    }
}

impl Step {
    /// The step in words, as far as it can be told without the packet.
    #[must_use]
    pub fn line(&self, snapshot: &Snapshot) -> Line {
        self.words(snapshot, None)
    }

    fn words(&self, snapshot: &Snapshot, seen: Option<Seen<'_>>) -> Line {
        match *self {
            Self::SourceCheck { eni, check } => {
                check_line(snapshot, eni, "source check", check, seen.map(|seen| seen.before.flow.src))
            }
            Self::DestinationCheck { eni, check } => {
                check_line(snapshot, eni, "destination check", check, seen.map(|seen| seen.before.flow.dst))
            }
            Self::SecurityGroup { eni, direction, ruling } => security_group(snapshot, eni, direction, ruling, seen),
            Self::Router { subnet, answers } => {
                let subnet = snapshot.subnet(subnet);
                let decision = if answers { "answer" } else { "drop" };
                let subject = format!("router {}", subnet.router);
                line("rtr", &subnet.name, subnet.id, subject, decision.to_owned(), String::new(), None)
            }
            Self::SubnetService { eni, service } => {
                let subnet = snapshot.subnet(snapshot.eni(eni).subnet);
                let subject = format!("{} service", service.as_str());
                line("svc", &subnet.name, subnet.id, subject, "answer".to_owned(), String::new(), None)
            }
            Self::Route { table, route } => route_line(snapshot, table, route, seen),
            Self::NetworkAcl { subnet, direction, entry } => network_acl(snapshot, subnet, direction, entry),
            Self::Nat { nat, act } => nat_line(snapshot, nat, act, seen),
            Self::InternetGateway { igw, act } => igw_line(snapshot, igw, act, seen),
            Self::VpnGateway { vgw, act } => vgw_line(snapshot, vgw, act, seen),
            Self::CustomerRouter { site, act } => {
                let site = snapshot.site(site);
                router_line(("site", &site.name, &site.id.to_string(), Some(site.origin)), act, seen)
            }
            Self::Host { host, act } => host_line(snapshot, host, act, seen),
            Self::Internet { act } => router_line(("net", "internet", "", None), act, seen),
        }
    }
}

fn security_group(snapshot: &Snapshot, eni: u16, direction: Direction, ruling: Ruling, seen: Option<Seen<'_>>) -> Line {
    let groups = || snapshot.eni(eni).groups.iter().map(|group| snapshot.group(*group));
    let all = |part: fn(&SecurityGroup) -> String| groups().map(part).collect::<Vec<_>>().join(",");
    let everything = || (all(|group| group.name.clone()), all(|group| group.id.to_string()));
    let ((name, id), decision, note, origin) = match ruling {
        Ruling::Rule { group, rule } | Ruling::Untracked { group, rule } => {
            let group = snapshot.group(group);
            let rule = &group.rules(direction)[usize::from(rule)];
            let untracked = if matches!(ruling, Ruling::Untracked { .. }) { ", untracked" } else { "" };
            let peer = peer_name(snapshot, rule);
            let note = match direction {
                Direction::Egress => format!("{} → {peer}{untracked}", rule.traffic),
                Direction::Ingress => format!("{} from {peer}{untracked}", rule.traffic),
            };
            ((group.name.clone(), group.id.to_string()), "allow", note, Some(rule.origin))
        }
        Ruling::Tracked(opened) => {
            let note = match opened {
                Direction::Egress => "tracked: the interface opened the connection",
                Direction::Ingress => "tracked: the connection was let in",
            };
            (everything(), "allow", note.to_owned(), None)
        }
        Ruling::Related => (everything(), "allow", "an ICMP error about a tracked connection".to_owned(), None),
        Ruling::Denied => {
            let note = seen.map_or_else(String::new, |seen| tried_rules(snapshot, direction, seen));
            (everything(), "deny", note, None)
        }
    };
    line("sg", &name, id, direction.as_str().to_owned(), decision.to_owned(), note, origin)
}

fn peer_name(snapshot: &Snapshot, rule: &SecurityGroupRule) -> String {
    let group = rule.peer_group.map(|group| snapshot.group(group));
    group.map_or_else(|| rule.peer.to_string(), |group| format!("{} {}", group.name, group.id))
}

/// What each tried rule wanted.
fn tried_rules(snapshot: &Snapshot, direction: Direction, seen: Seen<'_>) -> String {
    let tried = seen.misses.iter().filter_map(|miss| {
        let rule = snapshot.group(miss.group?).rules(direction).get(usize::from(miss.rule))?;
        Some(format!("{} {}: {}", rule.traffic, peer_name(snapshot, rule), miss.mismatch.text()))
    });
    let tried: Vec<_> = tried.collect();
    let side = match direction {
        Direction::Egress => format!("to {}", seen.before.flow.dst),
        Direction::Ingress => format!("from {}", seen.before.flow.src),
    };
    if tried.is_empty() { format!("{side}; no rules") } else { format!("{side}; {}", tried.join("; ")) }
}

fn target_name(snapshot: &Snapshot, target: Target) -> String {
    match target {
        Target::Local => "local".to_owned(),
        Target::Eni(eni) => match snapshot.eni(eni).kind {
            EniKind::Nat(nat) => snapshot.nat(nat).id.to_string(),
            EniKind::Guest { .. } | EniKind::LoadBalancer | EniKind::Unattached => snapshot.eni(eni).id.to_string(),
        },
        Target::InternetGateway(igw) => snapshot.igw(igw).id.to_string(),
        Target::VpnGateway(vgw) => snapshot.vgw(vgw).id.to_string(),
        Target::Blackhole => "blackhole".to_owned(),
    }
}

fn route_line(snapshot: &Snapshot, table: u16, route: Option<u16>, seen: Option<Seen<'_>>) -> Line {
    let table = snapshot.route_table(table);
    let Some(index) = route else {
        let subject = seen.map_or_else(String::new, |seen| seen.before.flow.dst.to_string());
        return line("rtb", &table.name, table.id, subject, "no route".to_owned(), String::new(), None);
    };
    let route = &table.routes[usize::from(index)];
    let wider = table
        .routes
        .iter()
        .filter(|other| other.destination != route.destination && other.destination.contains(&route.destination));
    let beaten = wider.max_by_key(|other| other.destination.prefix_len());
    // what is more specific and wasn't taken was propagated.
    let is_narrower = |other: &&Route| {
        let reaches = seen.is_some_and(|seen| other.destination.contains(&seen.before.flow.dst));
        reaches && other.destination.prefix_len() > route.destination.prefix_len()
    };
    let propagated = table.routes.iter().find(is_narrower);
    let kind = if propagated.is_some() { "propagated " } else { "" };
    let note = propagated
        .or(beaten)
        .map_or_else(String::new, |b| format!("beats {kind}{} {}", b.destination, target_name(snapshot, b.target)));
    let decision = format!("→ {}", target_name(snapshot, route.target));
    line("rtb", &table.name, table.id, route.destination.to_string(), decision, note, Some(route.origin))
}

fn nat_line(snapshot: &Snapshot, nat: u16, act: NatAct, seen: Option<Seen<'_>>) -> Line {
    let nat = snapshot.nat(nat);
    let decision = match act {
        NatAct::Source => "translate",
        NatAct::Destination => "translate back",
        NatAct::TimeExceeded | NatAct::FragmentationNeeded | NatAct::Reset => "answer",
        NatAct::Dropped => "drop",
    };
    let words = |Seen { before, after, .. }: Seen<'_>| {
        let ttl = format!("ttl {} → {}", before.ttl, after.ttl);
        let eni = snapshot.eni(nat.eni);
        // What a session's far end has sent is answered by the address that it was sent to.
        let own = if eni.has(before.flow.dst) { before.flow.dst } else { eni.ip };
        match act {
            NatAct::Source => (format!("{} → {}", source(before), source(after)), ttl),
            NatAct::Destination => (format!("{} → {}", source(&turned(before)), source(&turned(after))), ttl),
            NatAct::TimeExceeded => {
                (format!("ttl {}", before.ttl), format!("icmp time exceeded from {own} to {}", before.flow.src))
            }
            NatAct::FragmentationNeeded => (
                format!("{} bytes", before.size),
                format!("icmp fragmentation needed from {own} to {}", before.flow.src),
            ),
            NatAct::Reset => (before.to_string(), format!("tcp reset to {}, no session", before.flow.src)),
            NatAct::Dropped => (before.to_string(), String::new()),
        }
    };
    let (subject, note) = seen.map(words).unwrap_or_default();
    line("nat", &nat.name, nat.id, subject, decision.to_owned(), note, Some(nat.origin))
}

fn igw_line(snapshot: &Snapshot, igw: u16, act: IgwAct, seen: Option<Seen<'_>>) -> Line {
    let igw = snapshot.igw(igw);
    let decision = match act {
        IgwAct::Out | IgwAct::In => "translate",
        IgwAct::FragmentationNeeded => "answer",
        IgwAct::Dropped => "drop",
    };
    let words = |Seen { before, after, .. }: Seen<'_>| match act {
        IgwAct::Out => (format!("{} → {}", before.flow.src, after.flow.src), String::new()),
        IgwAct::In => (format!("{} → {}", before.flow.dst, after.flow.dst), String::new()),
        IgwAct::FragmentationNeeded => {
            (format!("{} bytes", before.size), format!("icmp fragmentation needed to {}", before.flow.src))
        }
        IgwAct::Dropped => (before.to_string(), String::new()),
    };
    let (subject, note) = seen.map(words).unwrap_or_default();
    line("igw", &igw.name, igw.id, subject, decision.to_owned(), note, Some(igw.origin))
}

fn host_line(snapshot: &Snapshot, host: u16, act: HostAct, seen: Option<Seen<'_>>) -> Line {
    let host = snapshot.host(host);
    let (decision, note) = match act {
        HostAct::Sends => ("send", String::new()),
        HostAct::Refused => ("drop", String::new()),
        HostAct::Receives => ("receive", seen.map_or_else(String::new, |seen| format!("from {}", source(seen.after)))),
    };
    let subject = host.ip.to_string();
    line("host", &host.name, host.id, subject, decision.to_owned(), note, Some(host.origin))
}

fn vgw_line(snapshot: &Snapshot, vgw: u16, act: VgwAct, seen: Option<Seen<'_>>) -> Line {
    let vgw = snapshot.vgw(vgw);
    let decision = match act {
        VgwAct::Out => "to the site",
        VgwAct::In => "into the VPC",
        VgwAct::Dropped => "drop",
    };
    let subject = seen.map_or_else(String::new, |seen| match act {
        VgwAct::Dropped => seen.before.to_string(),
        VgwAct::Out | VgwAct::In => seen.before.flow.dst.to_string(),
    });
    line("vgw", &vgw.name, vgw.id, subject, decision.to_owned(), String::new(), Some(vgw.origin))
}

/// Of a router outside all VPCs: hop, name, id, and where it came from.
fn router_line(
    (hop, name, id, origin): (&'static str, &str, &str, Option<Origin>),
    act: RouterAct,
    seen: Option<Seen<'_>>,
) -> Line {
    let (decision, note) = match (act, seen) {
        (RouterAct::Forwarded, Some(seen)) => ("forward", format!("ttl {} → {}", seen.before.ttl, seen.after.ttl)),
        (RouterAct::Forwarded, None) => ("forward", String::new()),
        (RouterAct::Echo, _) => ("answer", "icmp echo reply".to_owned()),
        (RouterAct::FragmentationNeeded, seen) => (
            "answer",
            seen.map_or_else(String::new, |seen| format!("icmp fragmentation needed to {}", seen.before.flow.src)),
        ),
        (RouterAct::TimeExceeded, seen) => {
            ("answer", seen.map_or_else(String::new, |seen| format!("icmp time exceeded to {}", seen.before.flow.src)))
        }
        (RouterAct::Dropped, _) => ("drop", String::new()),
    };
    let subject = seen.map_or_else(String::new, |seen| seen.before.flow.dst.to_string());
    line(hop, name, id, subject, decision.to_owned(), note, origin)
}

fn turned(packet: &Headers) -> Headers {
    let kind = match packet.kind {
        Kind::EchoRequest => Kind::EchoReply,
        Kind::EchoReply => Kind::EchoRequest,
        kind => kind,
    };
    Headers { flow: packet.flow.reversed(), kind, ..*packet }
}

/// Source address with port or ICMP id.
fn source(packet: &Headers) -> String {
    let Flow { src, src_port, .. } = packet.flow;
    match packet.kind {
        Kind::EchoRequest | Kind::EchoReply => format!("{src} id {src_port}"),
        Kind::Tcp(_) | Kind::Udp => format!("{src}:{src_port}"),
        _ => src.to_string(),
    }
}

fn check_line(snapshot: &Snapshot, eni: u16, subject: &str, check: Check, address: Option<IpAddr>) -> Line {
    let eni = snapshot.eni(eni);
    let address = address.map_or_else(|| "the address".to_owned(), |address| address.to_string());
    let (decision, note) = match check {
        Check::Own => ("pass", format!("{address} is this ENI's")),
        Check::Off => ("pass", format!("{address} isn't this ENI's, but the check is off")),
        Check::Failed => {
            let own: Vec<_> = eni.addresses().map(|address| address.to_string()).collect();
            ("drop", format!("this ENI has {}", own.join(", ")))
        }
    };
    line("eni", &eni.name, eni.id, subject.to_owned(), decision.to_owned(), note, None)
}

fn network_acl(snapshot: &Snapshot, subnet: u16, direction: Direction, entry: Option<u16>) -> Line {
    let subnet = snapshot.subnet(subnet);
    let acl = snapshot.acl(subnet.acl);
    let entry = entry.map(|index| &acl.entries(direction)[usize::from(index)]);
    let number = entry.map_or_else(|| "*".to_owned(), |entry| format!("#{}", entry.number));
    let allowed = entry.is_some_and(|entry| entry.action == RuleAction::Allow);
    let decision = if allowed { "allow" } else { "deny" };
    let origin = entry.map(|entry| entry.origin);
    let subject = format!("{} {number}", direction.as_str());
    let words = line("acl", &acl.name, acl.id, subject, decision.to_owned(), String::new(), origin);
    Line { subnet: Some(subnet.name.clone()), ..words }
}

fn line(
    hop: &'static str,
    name: &str,
    id: impl ToString,
    subject: String,
    decision: String,
    note: String,
    origin: Option<Origin>,
) -> Line {
    let origin = origin.filter(|origin| *origin != Origin::default());
    Line { hop, name: name.to_owned(), id: id.to_string(), subnet: None, subject, decision, note, origin }
}
