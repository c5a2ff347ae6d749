//! Services of the subnet's, before groups, lists and routes (SG-25, NACL-9).

use std::net::IpAddr;

use minivpc_packet::Kind;

use crate::drop::DropReason;
use crate::explain::{Recorder, Step};
use crate::services::{Service, port};
use crate::walk::{Answer, At, Next, Verdict, Walk};

/// A service is asked: it answers a datagram at once, and TCP from behind its port.
pub fn ask<R: Recorder>(walk: &mut Walk<'_, R>, index: u16, service: Service) -> Next {
    walk.pass(Step::SubnetService { eni: index, service });
    let eni = walk.snapshot.eni(index);
    let vpc = walk.snapshot.subnet(eni.subnet).vpc;
    if service == Service::Resolver && !walk.snapshot.vpc(vpc).dns_support {
        return Next::End(Verdict::Drop(DropReason::NoDnsSupport));
    }
    if walk.packet.kind == Kind::Udp {
        return Next::End(Verdict::Answer { answer: Answer::Service(service), from: At::Deliver { eni: index } });
    }
    let Some(called) = port::called(eni.serial, &walk.packet.flow) else {
        return Next::End(Verdict::Drop(DropReason::TableFull));
    };
    walk.packet.flow.dst = called.into();
    (walk.packet.dst_mac, walk.packet.src_mac) = (port::MACS.0.0, port::MACS.1.0);
    Next::End(walk.deliver(walk.snapshot.port_of_services()))
}

/// A service says something by TCP. Behind its port nobody else is.
pub fn say<R: Recorder>(walk: &mut Walk<'_, R>) -> Next {
    let caller = match walk.packet.flow.src {
        IpAddr::V4(called) => port::caller(called).and_then(|serial| walk.snapshot.port_of(serial)),
        IpAddr::V6(_) => None,
    };
    let caller = caller.filter(|eni| walk.snapshot.enis.get(usize::from(*eni)).is_some_and(|eni| eni.in_service));
    let Some(index) = caller else { return Next::End(Verdict::Drop(DropReason::NoSuchAddress)) };
    let subnet = walk.snapshot.subnet(walk.snapshot.eni(index).subnet);
    let known = port::known_as(&walk.packet.flow, subnet.resolver).filter(|_| matches!(walk.packet.kind, Kind::Tcp(_)));
    let Some((service, address)) = known else { return Next::End(Verdict::Drop(DropReason::NoSuchAddress)) };
    walk.packet.flow.src = address.into();
    walk.pass(Step::SubnetService { eni: index, service });
    Next::Go(At::Deliver { eni: index })
}
