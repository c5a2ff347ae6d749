//! What is one running lab, and how does one talk to it?
//!
//! ```text
//!   up ─ reads lab.yaml ─ starts ─┬─ keeper  (host)
//!                                 └─ engine ─ World → Snapshot → Worker
//!                                       ↑ control.sock: one JSON line asks, one answers
//!   status, show, drops, flows, trace ──┘
//! ```
//!
//! A lab lives in one directory under [`RUNTIME`]: its sockets, a copy of its file, the output of its processes. `up`
//! makes the directory and starts both processes; `down` ends the keeper, with which everything ends, and removes the
//! directory. Nothing else on the machine belongs to a lab.
//!
//! - `lab.rs`: the directory, up, down, which labs there are.
//! - `engine.rs`: the engine process: desired state, publishing, answering questions.
//! - `protocol.rs`: the questions; `view.rs`: the answers, which are also what `--json` prints.
//! - `describe.rs`: resources as AWS's describe calls answer.
//!
//! The packet path is not here: the engine's worker is a plain thread of `minivpc_host`, and nothing in this crate
//! runs between two packets.

mod describe;
mod engine;
mod lab;
mod protocol;
pub mod view;

pub use engine::{run_engine, run_keeper};
pub use lab::{Lab, LabError, RUNTIME, Started, validate};
pub use minivpc_config::{Mistake, Place};
pub use minivpc_host::{HostError, LinkStats, guest::exec::exec};
pub use protocol::{Described, Question, TracePacket};
