//! What is one running lab, and how does one talk to it?
//!
//! ```text
//!   up ─ reads lab.yaml ─ starts ─ keeper  (host)
//!                                    └─ engine ─ World → Snapshot → Worker
//!                                       ↑ control.sock: one JSON line asks or orders, one answers
//!   status, trace, plan, apply, stop … ─┘
//! ```
//!
//! A lab lives in one directory under [`runtime`]: its sockets, a copy of its file, the output of its processes. `up`
//! makes the directory and starts both processes; `down` ends the keeper, with which everything ends, and removes the
//! directory. Nothing else on the machine belongs to a lab.
//!
//! - `lab.rs`: the directory, up, down, which labs there are.
//! - `engine.rs`: the engine process, its threads and its socket; `protocol.rs`: what is said there.
//! - `running.rs`: what runs, and how it changes, all at once or not at all; `guest.rs`: instances as guests;
//!   `commands.rs`: what they run at their start.
//! - `subnet_services.rs`: what subnets answer by TCP.
//! - `capture.rs`: packets on their way to whoever looks at them.
//! - `saved.rs`: what the next engine takes over when one dies.
//! - `answer.rs`: questions answered; `views.rs` and `view.rs`: what is answered, which is also what `--json` prints.
//! - `describe.rs`: resources as AWS's describe calls answer; `change.rs`: changes as the EC2 actions they consist of.
//!
//! The packet path is not here: the engine's worker is a plain thread of `minivpc_host`, and nothing in this crate
//! runs between two packets.

mod answer;
mod capture;
mod change;
mod commands;
mod describe;
mod engine;
mod guest;
mod lab;
mod protocol;
mod running;
mod saved;
mod set;
mod subnet_services;
pub mod view;
mod views;

pub use commands::{keep_log, run_commands, serve};
pub use engine::{run_engine, run_keeper};
pub use lab::{Lab, LabError, Started, runtime, validate};
pub use minivpc_config::{LONGEST, Mistake, Place, printable};
pub use minivpc_host::doctor::{Finding, Health, examine};
pub use minivpc_host::guest::exec::{Directory, exec};
pub use minivpc_host::{Backend, HostError, LinkStats, Moving, TUN, capture as capture_file, on_interrupt};
pub use protocol::{CaptureRequest, Change, Described, LabFile, Question, Setting, TracePacket};
