//! How does a lab behave when nothing but its rules decides?
//!
//! [`Sim`] joins an engine with simulated hosts on virtual time: no kernel, no threads, no waiting, so a timeout of
//! minutes is a test of microseconds, and the same test always does the same.
//!
//! ```text
//!   Sim::send ─ frame → Engine::process ─ frame → Host (answers as Linux does) ─ frame → … until nobody answers
//! ```
//!
//! - `worlds.rs`: worlds to test in, made by the operations that lab files are made of.
//! - `frame.rs`: frames to send, and what is seen of those that arrive. Each arriving frame's checksums are verified.
//! - `host.rs`: a host's answers: echo, closed ports, open ports.
//! - `oracle/`: what AWS does with a packet, straight from the model; `random.rs`: worlds and packets to ask it about.
//! - `fuzz.rs`: conversations of any bytes, for the fuzzer (`fuzz/`) and for the test that replays its corpus.
//!
//! For tests only; it may panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod frame;
pub mod fuzz;
mod host;
pub mod oracle;
pub mod random;
mod sim;
mod worlds;

pub use frame::{Body, Packet, Seen, cut, reassemble};
pub use sim::Sim;
pub use worlds::{Article, Builder, article, everything};
