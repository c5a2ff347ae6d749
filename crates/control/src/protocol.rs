//! What is asked at an engine's control socket: one JSON line, answered by one JSON line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A question about a running lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Question {
    /// Answered by [`view::Status`](crate::view::Status).
    Status,
    /// A resource as AWS describes it.
    Describe {
        /// What it is.
        kind: Described,
        /// Name, `vpc/name` or id.
        name: String,
    },
    /// Answered by [`view::Drops`](crate::view::Drops).
    Drops,
    /// Answered by [`view::Flows`](crate::view::Flows).
    Flows,
    /// Answered by [`view::Trace`](crate::view::Trace).
    Trace(TracePacket),
    /// The name of an instance's guest.
    Guest {
        /// Name, `vpc/name`, id or private address of the instance.
        instance: String,
    },
}

/// What can be described.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[allow(missing_docs)] // The names are AWS's.
pub enum Described {
    RouteTable,
    NetworkAcl,
    SecurityGroup,
    NatGateway,
}

/// A packet to trace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TracePacket {
    /// The sending instance.
    pub from: String,
    /// An instance or an address.
    pub to: String,
    /// `icmp`, `tcp` or `udp`.
    pub protocol: String,
    /// Destination port, for TCP and UDP.
    pub port: Option<u16>,
    /// Source port, or ICMP id.
    pub source_port: Option<u16>,
    /// TTL; the guest's default one if none is given.
    pub ttl: Option<u8>,
    /// Length of the IP packet, bytes; that of a `ping` if none is given.
    pub size: Option<u16>,
    /// TCP: an ACK in the middle of a connection, not a SYN.
    pub ack: bool,
}

/// An answer: what was asked for, or why not.
pub(crate) type Answer = Result<Value, String>;

/// Asks the engine that listens at `socket`.
pub(crate) fn ask(socket: &Path, question: &Question) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    let mut line = serde_json::to_string(question)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
