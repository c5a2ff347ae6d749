//! What each subnet offers its guests at addresses of AWS's own, whatever groups, lists and routes say (SG-25, NACL-9).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use minivpc_packet::{Flow, Headers, Kind, ntp};

use crate::dns;
use crate::drop::DropReason;
use crate::explain::{Recorder, Step};
use crate::snapshot::Snapshot;
use crate::walk::{Answer, At, Next, Verdict, Walk};

/// One of these services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// NTP-1.
    Time,
    /// DNS-1.
    Resolver,
}

impl Service {
    /// The one that a packet is for; `resolver` is that of the sender's VPC. Nothing is sent in pieces to them.
    #[must_use]
    pub fn of(packet: &Headers, resolver: Ipv4Addr) -> Option<Self> {
        let Flow { dst: IpAddr::V4(dst), dst_port, .. } = packet.flow else { return None };
        if packet.kind != Kind::Udp || packet.fragment.is_some() {
            return None;
        }
        match (dst_port, dst.octets()) {
            (123, [169, 254, 169, 123]) => Some(Self::Time),
            (53, [169, 254, 169, 253]) => Some(Self::Resolver),
            (53, _) if dst == resolver => Some(Self::Resolver),
            _ => None,
        }
    }

    /// What people call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Resolver => "resolver",
        }
    }

    /// Its answer to a datagram's payload, in a VPC, a number; `now` is since Unix's epoch.
    pub fn answer(self, snapshot: &Snapshot, vpc: u16, question: &[u8], now: Duration) -> Result<Vec<u8>, DropReason> {
        let said = match self {
            Self::Time => ntp::reply(question, TIME, now).map(|reply| reply.to_vec()),
            Self::Resolver if !snapshot.vpc(vpc).dns_support => return Err(DropReason::NoDnsSupport),
            Self::Resolver => dns::answer(snapshot, vpc, question),
        };
        said.ok_or(DropReason::ServiceNonsense)
    }
}

/// AWS's servers ask others, which have clocks.
const TIME: ntp::Server = ntp::Server { stratum: 3, reference: [169, 254, 169, 122] };

pub fn ask<R: Recorder>(walk: &mut Walk<'_, R>, eni: u16, service: Service) -> Next {
    walk.pass(Step::SubnetService { eni, service });
    Next::End(Verdict::Answer { answer: Answer::Service(service), from: At::Deliver { eni } })
}
