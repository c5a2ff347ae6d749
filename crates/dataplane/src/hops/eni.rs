//! Interfaces: who may send as whom (R-11, SDC-1), and for whom a packet is (SDC-2).

use std::net::IpAddr;

use minivpc_model::Serial;

use crate::drop::DropReason;
use crate::explain::{Check, Recorder, Step};
use crate::services::Service;
use crate::snapshot::EniKind;
use crate::state::{Change, Datagram, DatagramKey};
use crate::walk::{At, Next, Verdict, Walk};

pub fn source_check<R: Recorder>(walk: &mut Walk<'_, R>, index: u16) -> Next {
    let eni = walk.snapshot.eni(index);
    let subnet = walk.snapshot.subnet(eni.subnet);
    let packet = &walk.packet;
    let service = Service::of(packet, subnet.router, subnet.resolver);
    // Who asks for an address has none yet.
    if service == Some(Service::Dhcp) && packet.src_mac == eni.mac.0 {
        return Next::Go(At::SubnetService { eni: index, service: Service::Dhcp });
    }
    let own = eni.has(packet.flow.src);
    let reason = if packet.src_mac != eni.mac.0 {
        Some(DropReason::SourceMac)
    } else if !own && eni.source_dest_check {
        Some(DropReason::SourceCheck)
    } else if packet.dst_mac[0] & 1 != 0 || !unicast(packet.flow.dst) || !unicast(packet.flow.src) {
        Some(DropReason::NotUnicast)
    } else {
        None
    };
    let check = match (own, reason) {
        (_, Some(DropReason::SourceCheck)) => Check::Failed,
        (true, _) => Check::Own,
        (false, _) => Check::Off,
    };
    // SG-7: what an appliance forwards is no longer on the direct path of whose address it carries.
    walk.meta.middlebox |= !own;
    walk.pass(Step::SourceCheck { eni: index, check });
    if let Some(reason) = reason {
        return Next::End(Verdict::Drop(reason));
    }
    // What is sent to a neighbour is for him, whatever its address says: he may forward it (SDC-6).
    if walk.packet.dst_mac == subnet.router_mac.0 {
        if walk.packet.flow.dst == IpAddr::V4(subnet.router) {
            return Next::Go(At::RouterItself { sender: index });
        }
        if let Some(service) = service {
            return Next::Go(At::SubnetService { eni: index, service });
        }
    }
    match pin_fragment(walk, eni.serial) {
        Err(reason) => Next::End(Verdict::Drop(reason)),
        Ok(()) => Next::Go(At::SentRules { eni: index }),
    }
}

/// only the first fragment of a datagram has ports. The later ones are judged as it was.
pub fn pin_fragment<R: Recorder>(walk: &mut Walk<'_, R>, sender: Serial) -> Result<(), DropReason> {
    let Some(fragment) = walk.packet.fragment else { return Ok(()) };
    let key = DatagramKey::new(sender, &walk.packet.flow, fragment.id);
    if fragment.first {
        return walk.change(Change::PinDatagram(Datagram::of(key, &walk.packet, walk.now)));
    }
    let datagram = walk.view.datagram(&key).ok_or(DropReason::Fragment)?;
    walk.packet = datagram.complete(&walk.packet);
    if fragment.last { walk.change(Change::UnpinDatagram(key)) } else { Ok(()) }
}

/// Of a source too: whoever answers would send to a group, to nobody, or to himself (RFC 1122 §3.2.1.3, §3.2.2).
pub fn unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast() && ![0, 127].contains(&v4.octets()[0]),
        IpAddr::V6(v6) => !v6.is_multicast(),
    }
}

/// To the router, or to a neighbour by its MAC address without any router.
pub fn forward<R: Recorder>(walk: &mut Walk<'_, R>, index: u16) -> Next {
    let subnet = walk.snapshot.eni(index).subnet;
    let to = walk.packet.dst_mac;
    if to == walk.snapshot.subnet(subnet).router_mac.0 {
        return Next::Go(At::Router { subnet });
    }
    match walk.snapshot.neighbour(subnet, to) {
        Some(eni) => Next::Go(At::Arrived { eni }),
        None => Next::End(Verdict::Drop(DropReason::DestinationMac)),
    }
}

pub fn arrive<R: Recorder>(walk: &mut Walk<'_, R>, index: u16) -> Next {
    let eni = walk.snapshot.eni(index);
    if let EniKind::Nat(nat) = eni.kind {
        return Next::Go(At::Nat { nat });
    }
    let check = match (eni.has(walk.packet.flow.dst), eni.source_dest_check) {
        (true, _) => Check::Own,
        (false, false) => Check::Off,
        (false, true) => Check::Failed,
    };
    walk.pass(Step::DestinationCheck { eni: index, check });
    match check {
        _ if !eni.in_service => Next::End(Verdict::Drop(DropReason::NotInService)),
        Check::Failed => Next::End(Verdict::Drop(DropReason::DestinationCheck)),
        _ if eni.kind == EniKind::LoadBalancer => Next::End(Verdict::Drop(DropReason::LoadBalancer)),
        Check::Own | Check::Off => Next::Go(At::ArrivedRules { eni: index }),
    }
}

/// The packet goes into the guest, from the router or the neighbour that sent it.
pub fn deliver<R: Recorder>(walk: &mut Walk<'_, R>, index: u16) -> Next {
    let eni = walk.snapshot.eni(index);
    if walk.packet.dst_mac != eni.mac.0 {
        walk.packet.src_mac = walk.snapshot.subnet(eni.subnet).router_mac.0;
        walk.packet.dst_mac = eni.mac.0;
    }
    Next::End(walk.deliver(index))
}
