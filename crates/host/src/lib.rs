//! What does this machine do for a lab?
//!
//! Two processes carry a lab. The **keeper** ([`run_keeper`]) has one thread, makes the namespaces and holds them; no
//! packet passes it. The engine gets a TAP descriptor per interface from it and moves frames between them in
//! [`Worker`]. Whoever runs a command in a guest ([`guest::exec`]) asks the keeper for the guest's PID 1 and joins its
//! namespaces.
//!
//! ```text
//!   up ── spawns ─→ keeper ── user namespace, guests' namespaces, TAPs; starts the engine, again and again
//!                     ↑ SEQPACKET socket: JSON and descriptors
//!   engine ─ Keeper ──┤            frames: TAP ─ Worker ─ dataplane ─ TAP
//!   exec ─── Keeper ──┘            setns → command
//! ```
//!
//! - `tap.rs`, `netlink.rs`, `netfilter.rs`: the kernel's interfaces, as much of them as a guest needs.
//! - `guest/`: network, file system, PID 1, and running commands.
//! - `keeper/`: the process, its protocol, its client.
//! - `capture/`: capture files and filters.
//! - `doctor.rs`: what the machine lacks.
//! - `worker.rs`: the packet loop; `clock.rs`: its time; `process.rs`: how processes begin and end.
//!
//! Nothing is pinned in the file system. When the keeper ends, the kernel takes back all that a lab has: guests' first
//! processes die with it, and namespaces and TAPs with their last descriptors.
//!
//! This crate knows no VPC: it sees frames, ports and guests. It is the only one with unsafe code.

#![allow(unsafe_code)]

pub mod capture;
mod clock;
pub mod doctor;
mod error;
pub mod guest;
mod keeper;
mod netfilter;
mod netlink;
mod process;
mod tap;
mod worker;

pub use clock::Clock;
pub use error::HostError;
pub use guest::{GuestSpec, InterfaceSpec, LinkStats, Outside, Resolver, Setup};
pub use keeper::{End, Keeper, Process, run_keeper};
pub use process::{detach, give_back, on_interrupt, wait_like_others};
pub use tap::{Backend, TUN};
pub use worker::{Moving, Ports, Publisher, Worker, workers};
