//! What a host answers, as far as the network can tell it from Linux.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use etherparse::{Icmpv4Type, PacketBuilder, icmpv4};
use minivpc_packet::{Frame, Kind, parse, tcp_flags};

use crate::frame::Seen;

/// Linux keeps an error within 576 bytes.
const MOST_QUOTED: usize = 576 - 28;

/// A simulated host behind one interface.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// Its addresses, the primary one first.
    pub ips: Vec<Ipv4Addr>,
    /// It has every address.
    pub everybody: bool,
    pub mac: [u8; 6],
    pub ttl: u8,
    /// TCP ports that somebody listens on, and UDP ports that echo.
    pub open: BTreeSet<u16>,
}

impl Host {
    /// Its answer to a packet for it: the frame goes back to where the packet came from by its MAC address.
    pub fn answer(&self, seen: &Seen) -> Option<Vec<u8>> {
        let flow = seen.headers.flow;
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (flow.src, flow.dst) else { return None };
        // A fragment alone is answered by nobody.
        if !(self.everybody || self.ips.contains(&dst)) || seen.headers.fragment.is_some() {
            return None;
        }
        let reply = PacketBuilder::ethernet2(self.mac, seen.headers.src_mac).ipv4(dst.octets(), src.octets(), self.ttl);
        let open = self.open.contains(&flow.dst_port);
        let payload = seen.payload();
        let mut frame = Vec::new();
        match seen.headers.kind {
            Kind::EchoRequest => {
                let seq = u16::from_be_bytes([payload[6], payload[7]]);
                reply.icmpv4_echo_reply(flow.src_port, seq).write(&mut frame, &payload[8..])
            }
            Kind::Udp if open => reply.udp(flow.dst_port, flow.src_port).write(&mut frame, &payload[8..]),
            Kind::Udp => {
                let Frame::Ipv4(parsed) = parse(&seen.vnet, &seen.frame).ok()? else { return None };
                let unreachable = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
                reply.icmpv4(unreachable).write(&mut frame, &seen.frame[14..parsed.end.min(14 + MOST_QUOTED)])
            }
            Kind::Tcp(tcp_flags::SYN) if open => {
                let tcp = reply.tcp(flow.dst_port, flow.src_port, 5000, 1024).syn().ack(1001);
                tcp.write(&mut frame, &[])
            }
            Kind::Tcp(tcp_flags::SYN) => reply.tcp(flow.dst_port, flow.src_port, 1, 0).rst().write(&mut frame, &[]),
            _ => return None,
        }
        .ok()?;
        Some(frame)
    }
}
