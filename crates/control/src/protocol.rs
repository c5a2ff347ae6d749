//! What is said at an engine's control socket: one JSON line asks or orders, one JSON line answers. A capture's file
//! follows its answer.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use minivpc_config::Mistake;
use minivpc_host::capture::Program;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Commands and engines of different versions don't understand each other.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The whole line: first of all who says it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    version: &'a str,
    request: &'a Request,
}

/// Reads a line.
pub(crate) fn understand(line: &str) -> Result<Request, Failure> {
    let mut said: Value = serde_json::from_str(line).map_err(|error| format!("not understood: {error}"))?;
    match said["version"].as_str() {
        Some(VERSION) => serde_json::from_value(said["request"].take())
            .map_err(|error| Failure::Refused(format!("not understood: {error}"))),
        other => Err(Failure::Refused(format!(
            "this command is minivpc {}, and the lab was brought up by minivpc {VERSION}: use that one, or end the lab \
             with `minivpc down` and bring it up again",
            other.unwrap_or("of another version")
        ))),
    }
}

/// What is said.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    Ask(Question),
    Change(Change),
    Capture(CaptureRequest),
}

/// What to capture.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaptureRequest {
    /// Where: names as elsewhere, of NAT gateways also `NAME/inside` and `NAME/outside`; `drops`.
    pub points: Vec<String>,
    /// Which frames; all if none is given.
    pub filter: Option<Program>,
    /// It ends after so many packets.
    pub count: Option<u64>,
}

/// A change of a running lab: all of it is done, or nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Change {
    /// To what the file says, without disturbing what AWS wouldn't disturb.
    Apply(LabFile),
    /// An instance, by name, `vpc/name`, id or private address: its processes end, its addresses stay.
    Stop(String),
    /// A stopped instance.
    Start(String),
    /// All processes of an instance end, and it starts again.
    Restart(String),
    /// One thing only, whatever the file says of it.
    Set(Setting),
    /// Back to the file, with new guests and without flows.
    Reset,
}

/// A single change. Names are those that lab files and `show` use; `none` is nobody.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Setting {
    /// A route leads there from now on, also one that wasn't there before; to `none` it goes.
    Route {
        /// The route table.
        table: String,
        /// What it matches.
        destination: IpNet,
        /// Where it leads.
        target: String,
    },
    /// An Elastic IP address stands for an interface from now on, whatever it stood for before.
    ElasticIp {
        /// The address's name.
        name: String,
        /// The interface.
        holder: String,
        /// Which of its private addresses; none is the primary one.
        private_ip: Option<Ipv4Addr>,
    },
    /// A secondary private address is this interface's from now on.
    Address {
        /// The address.
        address: Ipv4Addr,
        /// The interface.
        holder: String,
    },
    /// An interface, but not an instance's primary one, is attached there from now on.
    NetworkInterface {
        /// The interface.
        name: String,
        /// An instance, or `INSTANCE/eth1`.
        holder: String,
    },
    /// An interface carries these groups from now on.
    SecurityGroups {
        /// The interface.
        interface: String,
        /// The groups.
        groups: Vec<String>,
    },
    /// The source/destination check of an interface.
    SourceDestCheck {
        /// The interface.
        interface: String,
        /// Whether it is on from now on.
        on: bool,
    },
}

/// A lab file as it was read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LabFile {
    /// Where; absolute.
    pub path: PathBuf,
    /// What stands in it.
    pub text: String,
}

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
    /// What a NAT gateway or a network interface has counted, by AWS's names.
    Metrics {
        /// What it is.
        kind: Described,
        /// Name, `vpc/name` or id.
        name: String,
    },
    /// Answered by [`view::Drops`](crate::view::Drops).
    Drops,
    /// Answered by [`view::Flows`](crate::view::Flows).
    Flows {
        /// Also the way of each.
        why: bool,
    },
    /// Answered by [`view::Trace`](crate::view::Trace).
    Trace(TracePacket),
    /// The name of an instance's guest.
    Guest {
        /// Name, `vpc/name`, id or private address of the instance.
        instance: String,
    },
    /// What the `run` commands of an instance have printed since its start: a text.
    Logs {
        /// Name, `vpc/name`, id or private address of the instance.
        instance: String,
    },
    /// What [`Change::Apply`] would do; answered by [`view::Plan`](crate::view::Plan).
    Plan(LabFile),
}

/// What can be described.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[allow(missing_docs)] // The names are AWS's.
pub enum Described {
    RouteTable,
    NetworkAcl,
    SecurityGroup,
    NatGateway,
    NetworkInterface,
    InternetGateway,
    VpnGateway,
    VpnConnection,
    ElasticIp,
    DhcpOptions,
    HostedZone,
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

/// Why something wasn't done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// In words.
    Refused(String),
    /// In the lab file.
    Mistake(Box<Mistake>),
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        Self::Refused(words)
    }
}

impl From<&str> for Failure {
    fn from(words: &str) -> Self {
        Self::Refused(words.to_owned())
    }
}

/// An answer: what was asked for, or why not.
pub(crate) type Answer = Result<Value, Failure>;

/// An answer as it is sent.
pub(crate) fn answer_line(answer: &Answer) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    Ok(line)
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum SayError {
    /// Nobody heard it.
    Unheard(io::Error),
    /// The engine has died since.
    Unanswered,
}

/// Says it to the engine that listens at `socket`. What follows the answer can be read on.
pub(crate) fn say(socket: &Path, request: &Request) -> Result<(Answer, BufReader<UnixStream>), SayError> {
    let unheard = |error: io::Error| SayError::Unheard(error);
    let mut stream = UnixStream::connect(socket).map_err(unheard)?;
    let line = Line { version: VERSION, request };
    let mut line = serde_json::to_string(&line).map_err(io::Error::from).map_err(unheard)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(|_| SayError::Unanswered)?;
    let mut answer = String::new();
    let mut reader = BufReader::new(stream);
    reader.read_line(&mut answer).map_err(|_| SayError::Unanswered)?;
    Ok((serde_json::from_str(&answer).map_err(|_| SayError::Unanswered)?, reader))
}
