//! What each subnet offers its guests at addresses of AWS's own, whatever groups, lists and routes say (SG-25, NACL-9).
//!
//! Each service is a pure function of a question, of who asks, and of the time. `dhcp.rs`, `dns.rs`; time is
//! `minivpc_packet`'s.

mod dhcp;
mod dns;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use minivpc_packet::{Flow, Headers, Kind, ntp};

use crate::drop::DropReason;
use crate::snapshot::Snapshot;

/// One of these services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// NTP-1.
    Time,
    /// DNS-1.
    Resolver,
    /// DHCP-4.
    Dhcp,
}

/// AWS's servers ask others, which have clocks.
const TIME: ntp::Server = ntp::Server { stratum: 3, reference: [169, 254, 169, 122] };

/// A datagram that a service sends.
pub struct Said {
    /// From where, address and port.
    pub from: (Ipv4Addr, u16),
    /// To where.
    pub to: (Ipv4Addr, u16),
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Service {
    /// The one that a packet is for; `router` and `resolver` are those of the sender's subnet and VPC. Nothing is sent in
    /// pieces to them.
    #[must_use]
    pub fn of(packet: &Headers, router: Ipv4Addr, resolver: Ipv4Addr) -> Option<Self> {
        let Flow { dst: IpAddr::V4(dst), src_port, dst_port, .. } = packet.flow else { return None };
        if packet.kind != Kind::Udp || packet.fragment.is_some() {
            return None;
        }
        match (dst_port, dst.octets()) {
            (123, [169, 254, 169, 123]) => Some(Self::Time),
            (53, [169, 254, 169, 253]) => Some(Self::Resolver),
            (53, _) if dst == resolver => Some(Self::Resolver),
            (dhcp::SERVER, _) if src_port == dhcp::CLIENT && (dst.is_broadcast() || dst == router) => Some(Self::Dhcp),
            _ => None,
        }
    }

    /// What people call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Resolver => "resolver",
            Self::Dhcp => "dhcp",
        }
    }

    /// Its answer to the payload of a packet that an interface, an index, has sent; `now` is since Unix's epoch. None
    /// where there is nothing to be said.
    pub(crate) fn answer(
        self,
        snapshot: &Snapshot,
        eni: u16,
        asked: &Headers,
        question: &[u8],
        now: Duration,
    ) -> Result<Option<Said>, DropReason> {
        let eni = snapshot.eni(eni);
        let vpc = snapshot.subnet(eni.subnet).vpc;
        let payload = match self {
            Self::Time => ntp::reply(question, TIME, now).map(|reply| reply.to_vec()),
            Self::Resolver if !snapshot.vpc(vpc).dns_support => return Err(DropReason::NoDnsSupport),
            Self::Resolver => dns::answer(snapshot, vpc, question),
            Self::Dhcp => return dhcp::answer(snapshot, eni, question),
        };
        let Flow { src: IpAddr::V4(src), dst: IpAddr::V4(dst), src_port, dst_port, .. } = asked.flow else {
            return Err(DropReason::ServiceNonsense);
        };
        let said = |payload| Some(Said { from: (dst, dst_port), to: (src, src_port), payload });
        payload.map(said).ok_or(DropReason::ServiceNonsense)
    }
}
