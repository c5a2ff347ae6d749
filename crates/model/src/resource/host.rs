//! Hosts outside all VPCs, the lab's own.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{MacAddress, Origin, Serial};
use crate::id::*;

/// A host outside all VPCs, on the internet or in a customer's site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Its number in flow state.
    pub serial: Serial,
    /// Its name, on the internet that in DNS.
    pub name: String,
    /// At the far end of which VPN connection it is; none is the internet.
    pub site: Option<VpnConnectionId>,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its MAC address.
    pub mac: MacAddress,
    /// What it answers by itself.
    pub serve: Vec<Service>,
    /// Where it came from.
    pub origin: Origin,
}

/// What a host can answer without commands of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// HTTP on TCP port 80.
    Http,
    /// HTTP over TLS on TCP port 443, with a certificate of the lab's own authority.
    Https,
    /// Time, by NTP on UDP port 123.
    Ntp,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Ntp];

    /// As lab files write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ntp => "ntp",
        }
    }
}
