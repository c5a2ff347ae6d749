//! What a NAT gateway counts, under the names of the metrics in AWS/NATGateway (§5.3), and what an interface tracks.
//!
//! Format: totals since the lab came up, in packets and bytes of IP as they are on the wire. AWS publishes them by the
//! minute. Goal: each packet is counted where it passed, once. Limit: shared by all workers, so for the slow path.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::Tick;
use crate::explain::NatAct;

/// Packets and their bytes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// IP packets.
    pub packets: AtomicU64,
    /// Bytes of IP, headers included.
    pub bytes: AtomicU64,
}

impl Traffic {
    pub(crate) fn of(packets: u32, bytes: u32) -> Self {
        Self { packets: AtomicU64::new(packets.into()), bytes: AtomicU64::new(bytes.into()) }
    }

    /// For who is the only one that adds to it.
    pub(super) fn add_alone(&self, packets: u32, bytes: u32) {
        self.packets.store(self.packets.load(Relaxed) + u64::from(packets), Relaxed);
        self.bytes.store(self.bytes.load(Relaxed) + u64::from(bytes), Relaxed);
    }

    fn add_all(&self, more: &Self) {
        self.packets.fetch_add(more.packets.load(Relaxed), Relaxed);
        self.bytes.fetch_add(more.bytes.load(Relaxed), Relaxed);
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

impl NatMetrics {
    /// Counts what a gateway did.
    pub(crate) fn add(&self, act: NatAct, traffic: &Traffic) {
        match act {
            NatAct::Source => {
                self.in_from_source.add_all(traffic);
                self.out_to_destination.add_all(traffic);
            }
            NatAct::Destination => {
                self.in_from_destination.add_all(traffic);
                self.out_to_source.add_all(traffic);
            }
            NatAct::TimeExceeded | NatAct::FragmentationNeeded | NatAct::Reset => self.in_from_source.add_all(traffic),
            NatAct::Dropped => {
                self.packets_dropped.fetch_add(traffic.packets.load(Relaxed), Relaxed);
            }
        }
    }

    pub(super) fn copy(&self) -> Self {
        let traffic = |traffic: &Traffic| {
            let copy = Traffic::default();
            copy.add_all(traffic);
            copy
        };
        let count = |count: &AtomicU64| AtomicU64::new(count.load(Relaxed));
        Self {
            in_from_source: traffic(&self.in_from_source),
            out_to_destination: traffic(&self.out_to_destination),
            in_from_destination: traffic(&self.in_from_destination),
            out_to_source: traffic(&self.out_to_source),
            connection_attempts: count(&self.connection_attempts),
            connections_established: count(&self.connections_established),
            port_allocation_errors: count(&self.port_allocation_errors),
            idle_timeouts: count(&self.idle_timeouts),
            packets_dropped: count(&self.packets_dropped),
        }
    }
}

/// What an interface tracks (SG-20).
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tracking {
    /// Connections now.
    pub connections: AtomicU64,
    /// New ones for which there was no room: `conntrack_allowance_exceeded`.
    pub refused: AtomicU64,
    /// Packets to services of the subnet that were too many: `linklocal_allowance_exceeded`.
    pub services_refused: AtomicU64,
    /// Packets to these services in the current second, behind the second.
    services: AtomicU64,
}

/// DNS-2: packets of an interface to services of its subnet in a second.
const SERVICES_A_SECOND: u64 = 1024;

impl Tracking {
    /// Counts packets to a service of the subnet; false if that is too many in this second.
    pub(crate) fn asks(&self, now: Tick, packets: u32) -> bool {
        let second = u64::from(now.0) << 32;
        // Another worker may be a second ahead.
        let next = |counted: u64| counted.max(second).saturating_add(packets.into());
        let counted = self.services.fetch_update(Relaxed, Relaxed, |counted| Some(next(counted))).unwrap_or_default();
        let fits = next(counted) & u64::from(u32::MAX) <= SERVICES_A_SECOND;
        if !fits {
            self.services_refused.fetch_add(packets.into(), Relaxed);
        }
        fits
    }
}
