//! Answers as text for people.

use std::fmt::Write;

use comfy_table::{Table, presets};
use minivpc_control::view::{
    Action, Drops, Fields, FlowView, Flows, InterfaceStatus, JourneyView, Plan, Status, StepView, Summary, Trace,
};
use minivpc_control::{Finding, Health};

/// One line of counts.
pub fn summary(summary: &Summary) -> String {
    let Summary { vpcs, subnets, instances, nat_gateways, internet_gateways, hosts, .. } = *summary;
    let Summary { vpn_gateways, customer_sites, site_hosts, .. } = *summary;
    let counts = [
        (vpcs, "VPC"),
        (subnets, "subnet"),
        (instances, "instance"),
        (nat_gateways, "NAT gateway"),
        (internet_gateways, "internet gateway"),
        (hosts, "internet host"),
        (vpn_gateways, "virtual private gateway"),
        (customer_sites, "customer site"),
        (site_hosts, "site host"),
    ];
    let words = counts.iter().filter(|(count, _)| *count > 0).map(|(count, thing)| {
        let plural = if *count == 1 { "" } else { "s" };
        format!("{count} {thing}{plural}")
    });
    words.collect::<Vec<_>>().join(", ")
}

fn columns(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// All addresses of an interface.
fn addresses(primary: &str, secondary: &[String]) -> String {
    std::iter::once(primary).chain(secondary.iter().map(String::as_str)).collect::<Vec<_>>().join(", ")
}

fn public_ips(interface: &InterfaceStatus) -> String {
    if interface.public_ips.is_empty() { "-".to_owned() } else { interface.public_ips.join(", ") }
}

/// What runs.
pub fn status(status: &Status) -> String {
    let mut text = String::new();
    let interfaces = status.instances.iter().flat_map(|instance| {
        instance.interfaces.iter().map(move |interface| {
            let link = interface.link.as_ref();
            let count = |part: fn(&minivpc_control::LinkStats) -> u64| {
                link.map_or_else(|| "-".to_owned(), |l| part(l).to_string())
            };
            vec![
                instance.name.clone(),
                instance.state.clone(),
                addresses(&interface.private_ip, &interface.secondary_private_ips),
                public_ips(interface),
                format!("{}/{} ({})", interface.vpc, interface.subnet, instance.availability_zone),
                format!("{} {}", interface.name, interface.id),
                count(|link| link.rx_packets),
                count(|link| link.tx_packets),
                count(|link| link.engine_too_slow),
            ]
        })
    });
    let header =
        ["INSTANCE", "STATE", "PRIVATE IP", "PUBLIC IP", "SUBNET", "INTERFACE", "RECEIVED", "SENT", "ENGINE TOO SLOW"];
    text += &columns(&header, interfaces);
    if !status.network_interfaces.is_empty() {
        let rows = status.network_interfaces.iter().map(|interface| {
            vec![
                interface.name.clone(),
                interface.status.clone(),
                addresses(&interface.private_ip, &interface.secondary_private_ips),
                public_ips(interface),
                format!("{}/{}", interface.vpc, interface.subnet),
                interface.id.clone(),
            ]
        });
        let header = ["NETWORK INTERFACE", "STATUS", "PRIVATE IP", "PUBLIC IP", "SUBNET", "ID"];
        let _ = write!(text, "\n{}", columns(&header, rows));
    }
    if !status.nat_gateways.is_empty() {
        let rows = status.nat_gateways.iter().map(|nat| {
            vec![
                nat.name.clone(),
                nat.state.clone(),
                addresses(&nat.private_ip, &nat.secondary_private_ips),
                nat.public_ip.clone().unwrap_or_else(|| "-".to_owned()),
                nat.connectivity_type.clone(),
                nat.subnet.clone(),
                nat.id.clone(),
                nat.sessions.to_string(),
            ]
        });
        let header = ["NAT GATEWAY", "STATE", "PRIVATE IP", "PUBLIC IP", "TYPE", "SUBNET", "ID", "SESSIONS"];
        let _ = write!(text, "\n{}", columns(&header, rows));
    }
    if !status.internet_gateways.is_empty() {
        let rows = status.internet_gateways.iter().map(|igw| vec![igw.name.clone(), igw.vpc.clone(), igw.id.clone()]);
        let _ = write!(text, "\n{}", columns(&["INTERNET GATEWAY", "VPC", "ID"], rows));
    }
    if !status.vpn_gateways.is_empty() {
        let rows = status.vpn_gateways.iter().map(|vgw| vec![vgw.name.clone(), vgw.vpc.clone(), vgw.id.clone()]);
        let _ = write!(text, "\n{}", columns(&["VIRTUAL PRIVATE GATEWAY", "VPC", "ID"], rows));
    }
    if !status.customer_sites.is_empty() {
        let rows = status.customer_sites.iter().map(|site| {
            let blocks = site.static_routes.join(", ");
            vec![site.name.clone(), blocks, site.router.clone(), site.vpn_gateway.clone(), site.id.clone()]
        });
        let header = ["CUSTOMER SITE", "BLOCKS", "ROUTER", "VIRTUAL PRIVATE GATEWAY", "ID"];
        let _ = write!(text, "\n{}", columns(&header, rows));
    }
    if !status.hosts.is_empty() {
        let count = |link: Option<u64>| link.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let rows = status.hosts.iter().map(|host| {
            let link = host.link.as_ref();
            vec![
                host.name.clone(),
                host.address.clone(),
                count(link.map(|link| link.rx_packets)),
                count(link.map(|link| link.tx_packets)),
                count(link.map(|link| link.engine_too_slow)),
            ]
        });
        let header = ["HOST OUTSIDE", "ADDRESS", "RECEIVED", "SENT", "ENGINE TOO SLOW"];
        let _ = write!(text, "\n{}", columns(&header, rows));
    }
    let Status { lab, up_seconds, connections, drops, engine_deaths, engine_seconds, .. } = status;
    let _ = write!(text, "\nlab {lab}, up {up_seconds} s, {connections} connections, {drops} packets dropped");
    if *engine_deaths > 0 {
        let times = if *engine_deaths == 1 { "once".to_owned() } else { format!("{engine_deaths} times") };
        let _ = write!(
            text,
            "\nits engine died {times}, the last time {engine_seconds} s ago; what began in the second before was lost"
        );
    }
    text
}

/// What `apply` would do.
pub fn plan(plan: &Plan) -> String {
    match count(plan) {
        0 => format!("nothing to change: {} is as {} says", plan.lab, plan.file),
        count => format!("{}\n{count}; `minivpc apply` makes them", actions(plan), count = changes(count)),
    }
}

/// What `apply` has done.
pub fn applied(lab: &str, plan: &Plan) -> String {
    match count(plan) {
        0 => format!("nothing has changed: {lab} is as {} says", plan.file),
        count => format!("{}\n{} made: {lab} is as {} says", actions(plan), changes(count), plan.file),
    }
}

fn count(plan: &Plan) -> usize {
    plan.actions.iter().filter(|action| !action.action.is_empty()).count()
}

fn changes(count: usize) -> String {
    if count == 1 { "1 change".to_owned() } else { format!("{count} changes") }
}

/// Each action of a plan.
pub fn actions(plan: &Plan) -> String {
    let row = |action: &Action| {
        let Action { sign, action, resource, what } = action;
        let resource = format!("{} {} {}", resource.kind, resource.name, resource.id).replace("  ", " ");
        vec![format!(" {sign}"), action.clone(), resource, what.clone()]
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_rows(plan.actions.iter().map(row));
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// What a machine lacks.
pub fn findings(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { what, state, words } in findings {
        let mark = match state {
            Health::Good => "ok",
            Health::Lacking => "lacking",
            Health::Broken => "BROKEN",
        };
        let _ = writeln!(text, "{mark:8} {what:18} {words}");
    }
    let broken = findings.iter().any(|finding| finding.state == Health::Broken);
    text += if broken { "\nno lab can come up here until what is broken is mended" } else { "\nlabs work here" };
    text
}

/// What was dropped.
pub fn drops(drops: &Drops) -> String {
    if drops.drops.is_empty() {
        return "nothing was dropped".to_owned();
    }
    let rows = drops.drops.iter().map(|drop| {
        let by: Vec<_> = drop.resources.iter().map(|r| format!("{} {} {}", r.kind, r.name, r.id)).collect();
        vec![drop.count.to_string(), drop.packet.clone(), by.join(", "), drop.reason.clone()]
    });
    let mut text = columns(&["COUNT", "PACKET", "DROPPED BY", "REASON"], rows);
    let mut told: Vec<_> = drops.drops.iter().map(|drop| (&drop.reason, &drop.text)).collect();
    told.sort();
    told.dedup();
    text.push('\n');
    for (reason, words) in told {
        let _ = writeln!(text, "{reason}: {words}");
    }
    text
}

fn flow_row(flow: &FlowView) -> Vec<String> {
    let arrow = if flow.direction == "egress" { "→" } else { "←" };
    vec![
        flow.interface.name.clone(),
        protocol_name(flow.protocol),
        format!("{} {arrow} {}", flow.local, flow.remote),
        flow.phase.clone(),
        format!("{} s", flow.age_seconds),
        format!("{} s", flow.idle_seconds),
    ]
}

/// Live connections.
pub fn flows(flows: &Flows, why: bool) -> String {
    if !why {
        let header = ["INTERFACE", "PROTOCOL", "FLOW", "PHASE", "AGE", "IDLE"];
        return columns(&header, flows.flows.iter().map(flow_row));
    }
    flows.flows.iter().map(|each| flow(each, true) + "\n").collect()
}

/// One connection, with the decisions that made it.
pub fn flow(flow: &FlowView, why: bool) -> String {
    let way = match flow.steps.as_slice() {
        _ if !why => String::new(),
        [] => "\n   its interface has sent nothing since the lab was changed last, or never\n".to_owned(),
        way => format!("\n{}", steps(way)),
    };
    format!("{}{way}", flow_row(flow).join("  "))
}

/// A packet's journey, and that of the answer.
pub fn trace(trace: &Trace, reply: bool) -> String {
    let there = &trace.there;
    let mut text = format!("{} → {}   {}\n{}", trace.from, trace.to, packet(&there.sent), steps(&there.steps));
    let _ = write!(text, "   {}", ending(there));
    let Some(back) = &trace.back else { return text };
    let through = match back.through.as_slice() {
        [] => String::new(),
        names => format!(", back through {}", names.join(", ")),
    };
    let another_way =
        back.verdict != "delivered" || back.through != there.through.iter().rev().cloned().collect::<Vec<_>>();
    let shown = reply || another_way;
    let hint = if shown { "" } else { "   (--reply shows them)" };
    let _ = write!(text, "{:11}reply: {} steps{through}, {}{hint}", "", back.steps.len(), short_ending(back));
    if shown {
        let _ = write!(text, "\n\n{} → {}   {}\n{}", trace.to, trace.from, packet(&back.sent), steps(&back.steps));
        let _ = write!(text, "   {}", ending(back));
    }
    text
}

fn ending(journey: &JourneyView) -> String {
    if let Some(appliance) = &journey.handed_to {
        return format!("handed to {appliance}, ttl {}; what it forwards is sent anew", journey.last.ttl);
    }
    match (journey.verdict.as_str(), &journey.reason) {
        ("delivered", _) => format!("delivered, ttl {}", journey.last.ttl),
        ("answered", _) => "answered by the network".to_owned(),
        (_, Some(reason)) => format!("dropped: {reason}, source {}", journey.last.source),
        (verdict, None) => verdict.to_owned(),
    }
}

fn short_ending(journey: &JourneyView) -> String {
    match (&journey.reason, &journey.handed_to) {
        (Some(reason), _) => format!("dropped: {reason}"),
        (None, Some(appliance)) => format!("handed to {appliance}"),
        (None, None) => format!("ttl {}", journey.last.ttl),
    }
}

/// Decisions of hops that judge are short; longer ones speak for themselves.
const DECISION: usize = 6;
/// Longer lines, which tell why a packet was dropped, push no others' places to the right.
const ALIGNED: usize = 80;

/// One line per hop, in columns.
fn steps(steps: &[StepView]) -> String {
    let name = |step: &StepView| match &step.subnet {
        Some(subnet) => format!("{} {} ({subnet})", step.name, step.id),
        None => format!("{} {}", step.name, step.id),
    };
    let hops = steps.iter().map(|step| length(&step.hop)).max().unwrap_or_default();
    let names = steps.iter().map(|step| length(&name(step))).max().unwrap_or_default();
    let translates = |step: &&StepView| matches!(step.hop.as_str(), "nat" | "igw");
    let subjects = steps.iter().filter(|step| !translates(step)).map(|step| length(&step.subject)).max();
    let said = |step: &StepView| {
        let StepView { hop, subject, decision, note, .. } = step;
        match hop.as_str() {
            "igw" if note.is_empty() && decision != "drop" => subject.clone(),
            "nat" | "igw" if !subject.is_empty() && decision != "drop" => format!("{subject}, {note}"),
            "rtb" if !note.is_empty() && decision != "drop" => {
                format!("{subject:0$}  {decision} ({note})", subjects.unwrap_or_default())
            }
            _ => format!("{subject:0$}  {decision:DECISION$} {note}", subjects.unwrap_or_default()),
        }
    };
    let widths = steps.iter().map(|step| length(said(step).trim_end()));
    let widest = widths.filter(|width| *width <= ALIGNED).max().unwrap_or_default();
    let mut text = String::new();
    for (number, step) in (1..).zip(steps) {
        let line = format!(
            "{number:2} {:hops$}  {:names$}  {:widest$}  {}",
            step.hop,
            name(step),
            said(step).trim_end(),
            step.place.as_deref().unwrap_or_default()
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// A packet as the head of its journey.
fn packet(fields: &Fields) -> String {
    let Fields { source, destination, source_port, destination_port, .. } = fields;
    match (fields.protocol, fields.icmp_type, source_port, destination_port) {
        (1, Some(8), ..) => format!("icmp echo-request   {source} → {destination}"),
        (1, Some(0), ..) => format!("icmp echo-reply   {source} → {destination}"),
        (protocol, _, Some(from), Some(to)) => {
            format!("{}   {source}:{from} → {destination}:{to}", protocol_name(protocol))
        }
        (protocol, ..) => format!("{}   {source} → {destination}", protocol_name(protocol)),
    }
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    }
}
