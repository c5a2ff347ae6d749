//! What each subnet offers its guests at addresses of AWS's own, whatever groups, lists and routes say (SG-25, NACL-9).
//!
//! What is asked by a datagram is answered here: each service is a pure function of a question, of who asks, and of the
//! time. `dhcp.rs`; `dns.rs` with `hosted_zone.rs`; time is `minivpc_packet`'s. What is asked by TCP goes to `port.rs`.

mod dhcp;
mod dns;
mod hosted_zone;
pub mod port;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use minivpc_model::Serial;
use minivpc_packet::{Flow, Headers, Kind, ntp};

use crate::drop::DropReason;
use crate::snapshot::{Port, Snapshot};
use dns::Transport;
pub use hosted_zone::HostedZone;

/// One of these services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// NTP-1.
    Time,
    /// DNS-1.
    Resolver,
    /// DHCP-4.
    Dhcp,
    /// IMDS-1.
    Metadata,
}

/// The metadata service's address.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The resolver's, on each link.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);

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
        if packet.fragment.is_some() {
            return None;
        }
        match (packet.kind, dst_port) {
            (Kind::Udp | Kind::Tcp(_), 53) if dst == RESOLVER || dst == resolver => Some(Self::Resolver),
            (Kind::Tcp(_), 80) if dst == METADATA => Some(Self::Metadata),
            (Kind::Udp, 123) if dst.octets() == [169, 254, 169, 123] => Some(Self::Time),
            (Kind::Udp, dhcp::SERVER) if src_port == dhcp::CLIENT && (dst.is_broadcast() || dst == router) => {
                Some(Self::Dhcp)
            }
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
            Self::Metadata => "metadata",
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
            Self::Resolver => dns::answer(snapshot, vpc, question, Transport::Udp),
            Self::Dhcp => return dhcp::answer(snapshot, eni, question),
            // By TCP only.
            Self::Metadata => None,
        };
        let Flow { src: IpAddr::V4(src), dst: IpAddr::V4(dst), src_port, dst_port, .. } = asked.flow else {
            return Err(DropReason::ServiceNonsense);
        };
        let said = |payload| Some(Said { from: (dst, dst_port), to: (src, src_port), payload });
        payload.map(said).ok_or(DropReason::ServiceNonsense)
    }
}

/// The resolver's answer to a question that the interface of this number has sent by TCP; none to nonsense, and where the
/// resolver is off (DNS-5).
#[must_use]
pub fn resolve(snapshot: &Snapshot, interface: Serial, question: &[u8]) -> Option<Vec<u8>> {
    let Port::Eni(eni) = snapshot.port(snapshot.port_of(interface)?) else { return None };
    let vpc = snapshot.subnet(snapshot.eni(eni).subnet).vpc;
    snapshot.vpc(vpc).dns_support.then(|| dns::answer(snapshot, vpc, question, Transport::Tcp))?
}
