//! What each subnet offers its guests at addresses of AWS's own, whatever groups, lists and routes say (SG-25, NACL-9).

use std::net::Ipv4Addr;
use std::time::Duration;

use minivpc_packet::{Flow, Headers, Kind, ntp};

use crate::explain::{Recorder, Step};
use crate::walk::{Answer, At, Next, Verdict, Walk};

/// One of these services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// NTP-1.
    Time,
}

impl Service {
    /// The one that a packet is for. Nothing is sent in pieces to them.
    #[must_use]
    pub fn of(packet: &Headers) -> Option<Self> {
        let Flow { dst, dst_port, .. } = packet.flow;
        match (packet.kind, dst_port) {
            (Kind::Udp, 123) if dst == Ipv4Addr::new(169, 254, 169, 123) && packet.fragment.is_none() => {
                Some(Self::Time)
            }
            _ => None,
        }
    }

    /// What people call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
        }
    }

    /// Its answer to a datagram's payload; none to what it doesn't understand. `now` is since Unix's epoch.
    pub fn answer(self, question: &[u8], now: Duration) -> Option<Vec<u8>> {
        match self {
            Self::Time => ntp::reply(question, TIME, now).map(|reply| reply.to_vec()),
        }
    }
}

/// AWS's servers ask others, which have clocks.
const TIME: ntp::Server = ntp::Server { stratum: 3, reference: [169, 254, 169, 122] };

pub fn ask<R: Recorder>(walk: &mut Walk<'_, R>, eni: u16, service: Service) -> Next {
    walk.pass(Step::SubnetService { eni, service });
    Next::End(Verdict::Answer { answer: Answer::Service(service), from: At::Deliver { eni } })
}
