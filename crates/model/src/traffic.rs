//! Which packets a rule of a security group or a network ACL speaks of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An inclusive range of ports, host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The lowest port.
    pub from: u16,
    /// The highest port.
    pub to: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { from: 0, to: u16::MAX };

    /// Is `port` inside?
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        self.from <= port && port <= self.to
    }
}

/// Protocol with the ports or the ICMP type that belong to it (SG-3, NACL-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Traffic {
    /// Everything (AWS's protocol −1).
    All,
    /// TCP to these destination ports.
    Tcp(PortRange),
    /// UDP to these destination ports.
    Udp(PortRange),
    /// ICMP of this type and code; `None` is AWS's −1, any.
    Icmp {
        /// The ICMP type.
        kind: Option<u8>,
        /// The ICMP code.
        code: Option<u8>,
    },
    /// Another IP protocol, by number.
    Protocol(u8),
}

impl Traffic {
    /// The IP protocol number, `None` for all.
    #[must_use]
    pub fn protocol(self) -> Option<u8> {
        match self {
            Self::All => None,
            Self::Tcp(_) => Some(6),
            Self::Udp(_) => Some(17),
            Self::Icmp { .. } => Some(1),
            Self::Protocol(number) => Some(number),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}-{}", self.from, self.to) }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Tcp(PortRange::ALL) => f.write_str("tcp"),
            Self::Udp(PortRange::ALL) => f.write_str("udp"),
            Self::Tcp(ports) => write!(f, "tcp {ports}"),
            Self::Udp(ports) => write!(f, "udp {ports}"),
            Self::Icmp { kind: None, .. } => f.write_str("icmp"),
            Self::Icmp { kind: Some(kind), code: None } => write!(f, "icmp type {kind}"),
            Self::Icmp { kind: Some(kind), code: Some(code) } => write!(f, "icmp type {kind} code {code}"),
            Self::Protocol(number) => write!(f, "protocol {number}"),
        }
    }
}
