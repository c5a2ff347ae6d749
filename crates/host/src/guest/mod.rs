//! Guests: instances as namespaces.

mod capabilities;
pub mod exec;
mod file_system;
pub(crate) mod init;
pub(crate) mod network;
mod set_id;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::tap::Backend;

/// What a guest looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    /// Its name, unique in the lab.
    pub name: String,
    /// Its host name, fully qualified.
    pub hostname: String,
    /// `net.ipv4.ip_default_ttl`.
    pub default_ttl: u8,
    /// Network settings beside these, name and value: `net.ipv4.ip_forward`, `1`.
    pub sysctls: Vec<(String, String)>,
    /// Its interfaces; the default route goes through the first.
    pub interfaces: Vec<InterfaceSpec>,
    /// A block, address and length of its prefix, of which it has every address beside.
    pub block: Option<(Ipv4Addr, u8)>,
    /// Its TAPs.
    pub backend: Backend,
    /// Whom it asks for names; without one it knows those of [`Outside`].
    pub resolver: Option<Resolver>,
    /// What of its network is set up for it.
    pub setup: Setup,
    /// The directory of the lab, if the guest's commands may ask about it and change it; they find it and this program
    /// where root's labs are.
    pub control: Option<PathBuf>,
}

/// A guest as the keeper has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestState {
    /// Its name.
    pub name: String,
    /// Has a command ever run in it?
    pub entered: bool,
}

/// What of a guest's network is set up; the rest is left to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Setup {
    /// All addresses and routes.
    #[default]
    All,
    /// The first interface's address and default route.
    First,
    /// Links are up.
    Links,
}

/// Whom a guest asks for names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Addresses, in the order in which they are asked.
    pub servers: Vec<Ipv4Addr>,
    /// What is put behind names without a dot; several between spaces.
    pub search: Option<String>,
}

/// An interface of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceSpec {
    /// `eth0`.
    pub name: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its primary address.
    pub address: Ipv4Addr,
    /// Its further addresses.
    pub secondary: Vec<Ipv4Addr>,
    /// Length of its subnet's prefix.
    pub prefix: u8,
    /// The router.
    pub gateway: Ipv4Addr,
    /// Bytes.
    pub mtu: u32,
}

impl InterfaceSpec {
    /// Is it the same link, perhaps with other secondary addresses?
    #[must_use]
    pub fn is_link(&self, other: &Self) -> bool {
        let Self { name, mac, address, secondary: _, prefix, gateway, mtu } = self;
        (name, mac, address) == (&other.name, &other.mac, &other.address)
            && (prefix, gateway, mtu) == (&other.prefix, &other.gateway, &other.mtu)
    }
}

/// What guests know of the lab's internet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// The certificate authority that they trust, in PEM; empty for none.
    pub authority: String,
    /// Hosts and their names.
    pub names: Vec<(Ipv4Addr, String)>,
}

/// Statistics of a guest's link, seen from the guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkStats {
    /// The guest.
    pub guest: String,
    /// The interface.
    pub interface: String,
    /// Packets that the guest received.
    pub rx_packets: u64,
    /// Bytes that the guest received.
    pub rx_bytes: u64,
    /// Packets that the guest sent.
    pub tx_packets: u64,
    /// Bytes that the guest sent.
    pub tx_bytes: u64,
    /// Packets that the guest sent faster than the engine read them.
    pub engine_too_slow: u64,
}
