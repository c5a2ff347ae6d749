//! The fields of a packet that hops see; the flow among them is the key of all flow state.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A MAC address.
pub type Mac = [u8; 6];

/// TCP's flag bits as they stand in the header's fourteenth byte.
pub mod tcp_flags {
    #![allow(missing_docs)]
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

/// Who talks to whom, in the direction in which one packet goes: the key of all flow state, wide enough for IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; the id of an echo request; else 0.
    pub src_port: u16,
    /// Destination port; the id of an echo reply; else 0.
    pub dst_port: u16,
}

const _: () = assert!(size_of::<Flow>() == 40);

impl Flow {
    /// The flow of the answers.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, protocol: self.protocol, src_port: self.dst_port, dst_port: self.src_port }
    }

    /// The same for both directions.
    #[must_use]
    pub fn canonical(self) -> Self {
        let back = self.reversed();
        if (self.src, self.src_port) <= (back.src, back.src_port) { self } else { back }
    }
}

/// What kind of packet it is beyond its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TCP with these [`tcp_flags`].
    Tcp(u8),
    /// UDP.
    Udp,
    /// ICMP echo request.
    EchoRequest,
    /// ICMP echo reply.
    EchoReply,
    /// An ICMP error with the flow of the packet that it quotes, as that packet was sent.
    IcmpError {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// The quoted packet's flow.
        quoted: Flow,
    },
    /// Another ICMP message.
    Icmp {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
    },
    /// Another protocol, or what isn't known of a later fragment.
    Other,
}

impl Kind {
    /// ICMP type and code.
    #[must_use]
    pub fn icmp(self) -> Option<(u8, u8)> {
        match self {
            Self::EchoRequest => Some((8, 0)),
            Self::EchoReply => Some((0, 0)),
            Self::IcmpError { kind, code, .. } | Self::Icmp { kind, code } => Some((kind, code)),
            Self::Tcp(_) | Self::Udp | Self::Other => None,
        }
    }

    /// The same; an error quotes another flow.
    #[must_use]
    pub fn map_quoted(self, change: impl FnOnce(Flow) -> Flow) -> Self {
        match self {
            Self::IcmpError { kind, code, quoted } => Self::IcmpError { kind, code, quoted: change(quoted) },
            kind => kind,
        }
    }
}

/// The fields of an IP packet that a hop reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Headers {
    /// Source MAC address.
    pub src_mac: Mac,
    /// Destination MAC address.
    pub dst_mac: Mac,
    /// Time to live.
    pub ttl: u8,
    /// Addresses, protocol and ports.
    pub flow: Flow,
    /// The rest.
    pub kind: Kind,
    /// Length of the IP packet, bytes; of a super-segment that of the packets that it will be cut into.
    pub size: u16,
    /// The DF bit.
    pub dont_fragment: bool,
    /// Which piece of a datagram it is, if it is one.
    pub fragment: Option<Fragment>,
    /// Largest MSS that its SYN may leave with, bytes.
    pub mss_limit: Option<u16>,
}

/// A piece of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// The datagram's identification.
    pub id: u16,
    /// It begins the datagram: only this piece has an L4 header.
    pub first: bool,
    /// It ends the datagram.
    pub last: bool,
}

impl Headers {
    /// Does the L4 header stand in it?
    #[must_use]
    pub fn has_l4(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.first)
    }

    /// May an ICMP error be sent about it? Not about another error, or a later fragment (RFC 1122 §3.2.2).
    #[must_use]
    pub fn admits_icmp_error(&self) -> bool {
        !matches!(self.kind, Kind::IcmpError { .. }) && self.has_l4()
    }
}

impl fmt::Display for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flow { src, dst, protocol, src_port, dst_port } = self.flow;
        if self.fragment.is_some() {
            f.write_str("fragment of ")?;
        }
        match self.kind {
            Kind::Tcp(flags) => {
                let names =
                    [(tcp_flags::SYN, "S"), (tcp_flags::FIN, "F"), (tcp_flags::RST, "R"), (tcp_flags::ACK, ".")];
                let flags: String = names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
                write!(f, "tcp {src}:{src_port} → {dst}:{dst_port} [{flags}]")
            }
            Kind::Udp => write!(f, "udp {src}:{src_port} → {dst}:{dst_port}"),
            Kind::EchoRequest => write!(f, "icmp echo-request {src} → {dst} id {src_port}"),
            Kind::EchoReply => write!(f, "icmp echo-reply {src} → {dst} id {dst_port}"),
            Kind::IcmpError { kind, code, .. } | Kind::Icmp { kind, code } => {
                write!(f, "icmp type {kind} code {code} {src} → {dst}")
            }
            Kind::Other => write!(f, "protocol {protocol} {src} → {dst}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_one_canonical_flow() {
        let flow = Flow {
            src: "10.0.0.11".parse().unwrap(),
            dst: "10.0.1.55".parse().unwrap(),
            protocol: 1,
            src_port: 4711,
            dst_port: 0,
        };
        assert_eq!(flow.canonical(), flow.reversed().canonical());
        assert_eq!(flow.reversed().reversed(), flow);
        let to_self = Flow { dst: flow.src, ..flow };
        assert_eq!(to_self.canonical(), to_self.reversed().canonical());
    }
}
