//! Datagrams whose fragments are on their way.

use std::net::IpAddr;

use minivpc_model::Serial;
use minivpc_packet::{Flow, Headers, Kind};

use crate::Tick;

/// As long as a host waits for the rest of a datagram (RFC 1122 §3.3.2 asks for 60 to 120 s; Linux takes 30), seconds.
const IDLE: u32 = 30;

/// A datagram by what each of its fragments says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatagramKey {
    /// The interface that sends it.
    pub eni: Serial,
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    id: u16,
}

impl DatagramKey {
    /// The datagram that `eni` sends with this identification.
    #[must_use]
    pub fn new(eni: Serial, flow: &Flow, id: u16) -> Self {
        Self { eni, src: flow.src, dst: flow.dst, protocol: flow.protocol, id }
    }
}

/// What only the first fragment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Its name.
    pub key: DatagramKey,
    /// Source port, or id of an echo request.
    pub src_port: u16,
    /// Destination port, or id of an echo reply.
    pub dst_port: u16,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
    /// When the first fragment passed.
    pub seen: Tick,
}

impl Datagram {
    /// The datagram of which `first` is the first fragment.
    #[must_use]
    pub fn of(key: DatagramKey, first: &Headers, now: Tick) -> Self {
        let Flow { src_port, dst_port, .. } = first.flow;
        Self { key, src_port, dst_port, icmp: first.kind.icmp(), seen: now }
    }

    /// What a later fragment would say if it had an L4 header.
    #[must_use]
    pub fn complete(&self, later: &Headers) -> Headers {
        let flow = Flow { src_port: self.src_port, dst_port: self.dst_port, ..later.flow };
        let kind = match (flow.protocol, self.icmp) {
            (6, _) => Kind::Tcp(0),
            (17, _) => Kind::Udp,
            (_, Some((8, _))) => Kind::EchoRequest,
            (_, Some((0, _))) => Kind::EchoReply,
            (_, Some((kind, code))) => Kind::Icmp { kind, code },
            (_, None) => Kind::Other,
        };
        Headers { flow, kind, ..*later }
    }

    /// May more fragments come?
    #[must_use]
    pub fn lives(&self, now: Tick) -> bool {
        now.since(self.seen) <= IDLE
    }
}
