//! What a NAT gateway counts, under the names of the metrics in AWS/NATGateway (§5.3), and what an interface tracks.
//!
//! Format: totals since the lab came up, in packets and bytes of IP as they are on the wire. AWS publishes them by the
//! minute. Goal: each packet is counted where it passed, once. Limit: shared by all workers, so for the slow path.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// Packets and their bytes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// IP packets.
    pub packets: AtomicU64,
    /// Bytes of IP, headers included.
    pub bytes: AtomicU64,
}

impl Traffic {
    pub(crate) fn add(&self, packets: u32, bytes: u32) {
        self.packets.fetch_add(packets.into(), Relaxed);
        self.bytes.fetch_add(bytes.into(), Relaxed);
    }
}

/// The counters of one NAT gateway.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct NatMetrics {
    /// From clients: `InFromSource`.
    pub in_from_source: Traffic,
    /// To destinations: `OutToDestination`.
    pub out_to_destination: Traffic,
    /// From destinations: `InFromDestination`.
    pub in_from_destination: Traffic,
    /// To clients: `OutToSource`.
    pub out_to_source: Traffic,
    /// TCP connections that a client tried to open: `ConnectionAttemptCount`.
    pub connection_attempts: AtomicU64,
    /// TCP connections that were answered (NAT-35): `ConnectionEstablishedCount`.
    pub connections_established: AtomicU64,
    /// New sessions for which there was no port (NAT-12): `ErrorPortAllocation`.
    pub port_allocation_errors: AtomicU64,
    /// Sessions that ended because they were idle (NAT-18): `IdleTimeoutCount`.
    pub idle_timeouts: AtomicU64,
    /// Packets that the gateway dropped: `PacketsDropCount`.
    pub packets_dropped: AtomicU64,
}

/// What an interface tracks (SG-20).
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tracking {
    /// Connections now.
    pub connections: AtomicU64,
    /// New ones for which there was no room: `conntrack_allowance_exceeded`.
    pub refused: AtomicU64,
}
