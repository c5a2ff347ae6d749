//! Internet gateways: public addresses for private ones, one to one and without any state (IGW-2).

use std::net::IpAddr;

use minivpc_packet::{Flow, Headers};

use super::edge;
use super::outside::MTU;
use crate::drop::DropReason;
use crate::explain::{IgwAct, Recorder, Step};
use crate::snapshot::{EniKind, Target};
use crate::walk::{Answer, At, Next, Verdict, Walk};

fn is_private(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_private())
}

/// RFC 6598.
fn is_shared(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64)
}

fn end<R: Recorder>(walk: &mut Walk<'_, R>, igw: u16, act: IgwAct, verdict: Verdict) -> Next {
    walk.pass(Step::InternetGateway { igw, act });
    Next::End(verdict)
}

/// To the internet, from `subnet`: the source's public address takes its place.
pub fn out<R: Recorder>(walk: &mut Walk<'_, R>, index: u16, subnet: u16) -> Next {
    let before = walk.packet;
    let vpc = walk.snapshot.subnet(subnet).vpc;
    let drop = |walk: &mut Walk<'_, R>, reason| end(walk, index, IgwAct::Dropped, Verdict::Drop(reason));
    if is_private(before.flow.dst) {
        return drop(walk, DropReason::PrivateDestination);
    }
    if is_shared(before.flow.dst) {
        return drop(walk, DropReason::SharedDestination);
    }
    let Some(src) = walk.snapshot.public_of(vpc, before.flow.src) else {
        return drop(walk, DropReason::NoPublicAddress);
    };
    if is_redirected(walk, index, subnet) {
        return drop(walk, DropReason::Redirected);
    }
    if before.size > MTU && before.dont_fragment {
        if !before.admits_icmp_error() {
            return drop(walk, DropReason::TooLarge);
        }
        // R-42, IGW-11.
        let from = IpAddr::V4(walk.snapshot.subnet(subnet).router);
        let answer = Answer::FragmentationNeeded { from, mtu: MTU };
        let verdict = Verdict::Answer { answer, from: At::Router { subnet } };
        return end(walk, index, IgwAct::FragmentationNeeded, verdict);
    }
    // IGW-17: what came to the public address is quoted with it.
    let kind = before
        .kind
        .map_quoted(|quoted| Flow { dst: walk.snapshot.public_of(vpc, quoted.dst).unwrap_or(quoted.dst), ..quoted });
    walk.packet = Headers { flow: Flow { src, ..before.flow }, kind, ..before };
    walk.limit(MTU);
    walk.step(Step::InternetGateway { igw: index, act: IgwAct::Out }, &before);
    // IGW-10: what AWS has given itself never gets as far as a router of the internet.
    Next::Go(if walk.snapshot.public(before.flow.dst).is_some() { At::IntoVpc } else { At::Internet })
}

/// what the internet's packets for a subnet are led to must see the answers too.
fn is_redirected<R>(walk: &Walk<'_, R>, igw: u16, subnet: u16) -> bool {
    let gateway = walk.snapshot.igw(igw);
    let source = walk.packet.flow.src;
    let sends_itself = || {
        let sender = walk.snapshot.owner(walk.snapshot.subnet(subnet).vpc, source);
        sender.is_some_and(|sender| walk.snapshot.eni(sender).subnet == subnet)
    };
    let target = gateway.route_table.and_then(|table| {
        let table = walk.snapshot.route_table(table);
        table.lookup(source).map(|route| table.routes[usize::from(route)].target)
    });
    let elsewhere = target.is_some_and(|target| target != Target::Local);
    gateway.refuses_asymmetric_return && elsewhere && sends_itself()
}

/// From the internet, or from another VPC by its gateway: to whom the public address belongs.
pub fn into_vpc<R: Recorder>(walk: &mut Walk<'_, R>) -> Next {
    let before = walk.packet;
    let Some(public) = walk.snapshot.public(before.flow.dst) else {
        return Next::End(Verdict::Drop(DropReason::NoSuchPublicAddress));
    };
    let igw = public.igw;
    let reason = if is_private(before.flow.src) {
        Some(DropReason::PrivateSource)
    } else if is_shared(before.flow.src) {
        Some(DropReason::SharedSource)
    } else if walk.meta.by_a_host && walk.snapshot.public(before.flow.src).is_some() {
        Some(DropReason::Spoofed)
    } else if walk.snapshot.eni(public.eni).kind == EniKind::Unattached {
        // R-40a.
        Some(DropReason::NoSuchPublicAddress)
    } else {
        None
    };
    if let Some(reason) = reason {
        return end(walk, igw, IgwAct::Dropped, Verdict::Drop(reason));
    }
    // IGW-17.
    let kind = before.kind.map_quoted(|quoted| Flow {
        src: walk.snapshot.public(quoted.src).map_or(quoted.src, |public| public.private),
        ..quoted
    });
    walk.packet = Headers { flow: Flow { dst: public.private, ..before.flow }, kind, ..before };
    walk.limit(MTU);
    walk.step(Step::InternetGateway { igw, act: IgwAct::In }, &before);
    let Some(table) = walk.snapshot.igw(igw).route_table else { return Next::Go(At::Enter { eni: public.eni }) };
    edge::route(walk, table, public.private, public.eni, has_public_address)
}

///
fn has_public_address<R: Recorder>(walk: &Walk<'_, R>, eni: u16) -> bool {
    let eni = walk.snapshot.eni(eni);
    let vpc = walk.snapshot.subnet(eni.subnet).vpc;
    eni.addresses().any(|address| walk.snapshot.public_of(vpc, address).is_some())
}
