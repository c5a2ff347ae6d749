//! What the user can type.

use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use ipnet::IpNet;
use minivpc_control::{Described, Lab, Moving, Question, TracePacket, view};
use serde_json::Value;

/// An AWS VPC on one Linux machine, with real packets.
///
/// Instances are network namespaces, and every packet between them is forwarded by AWS's rules: route tables, security
/// groups, network ACLs, NAT gateways. Use ping, traceroute, tcpdump, curl and iperf3 inside as you would on AWS.
#[derive(Debug, Parser)]
#[command(
    name = "minivpc",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  minivpc up configs/nat-gateway-east-west/lab.yaml
  minivpc exec source -- traceroute 10.0.1.55
  minivpc trace source destination
  minivpc capture source destination -- icmp
  minivpc down

Completion: source <(COMPLETE=bash minivpc)      Man pages: minivpc man DIRECTORY"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// For completion: the instances of the labs that are up.
fn instances(typed: &OsStr) -> Vec<CompletionCandidate> {
    let instances = statuses().into_iter().flat_map(|status| status.instances);
    beginning_with(typed, instances.map(|instance| instance.name))
}

/// For completion: where packets can be captured.
fn points(typed: &OsStr) -> Vec<CompletionCandidate> {
    let points = statuses().into_iter().flat_map(|status| {
        let instances = status.instances.into_iter().map(|instance| instance.name);
        let nats = status.nat_gateways.into_iter().map(|nat| nat.name);
        let nats = nats.flat_map(|nat| ["", "/inside", "/outside"].map(|side| format!("{nat}{side}")));
        let gateways = status.internet_gateways.into_iter().chain(status.vpn_gateways).map(|gateway| gateway.name);
        instances.chain(nats).chain(gateways)
    });
    beginning_with(typed, points.chain(["drops".to_owned()]))
}

fn statuses() -> Vec<view::Status> {
    let labs = Lab::all().unwrap_or_default();
    let answers = labs.iter().filter_map(|lab| lab.ask(&Question::Status).ok());
    answers.filter_map(|status| serde_json::from_value(status).ok()).collect()
}

/// For completion: the labs.
fn labs(typed: &OsStr) -> Vec<CompletionCandidate> {
    beginning_with(typed, Lab::all().unwrap_or_default().iter().map(|lab| lab.name().to_owned()))
}

fn beginning_with(typed: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    names.filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

/// Which lab.
#[derive(Debug, Args)]
pub struct Scope {
    /// Name of the lab, when several are up.
    #[arg(long, global = true, value_name = "NAME", add = ArgValueCompleter::new(labs))]
    pub lab: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a lab and leave it running in the background.
    #[command(after_help = "Example:\n  minivpc up lab.yaml")]
    Up {
        /// The lab file.
        #[arg(value_name = "LAB.yaml", default_value = "lab.yaml")]
        file: PathBuf,
        /// Node of the tun driver, where /dev/net/tun can't be used.
        #[arg(long, value_name = "PATH", env = minivpc_control::TUN)]
        tun: Option<PathBuf>,
        #[command(flatten)]
        path: PacketPath,
    },
    /// Show what `apply` would change.
    #[command(after_help = "Example:\n  minivpc plan lab.yaml")]
    Plan {
        /// The lab file; the lab that it names must be up.
        #[arg(value_name = "LAB.yaml", default_value = "lab.yaml")]
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a running lab to what its file says now, all at once or not at all. What AWS wouldn't disturb goes on.
    #[command(after_help = "Example:\n  minivpc apply lab.yaml")]
    Apply {
        /// The lab file; the lab that it names must be up.
        #[arg(value_name = "LAB.yaml", default_value = "lab.yaml")]
        file: PathBuf,
    },
    /// Stop an instance: its processes end, its addresses stay, and routes to it become blackholes.
    #[command(after_help = "Example:\n  minivpc stop web-a")]
    Stop {
        #[command(flatten)]
        scope: Scope,
        /// Name, vpc/name, id or private address of the instance.
        #[arg(add = ArgValueCompleter::new(instances))]
        instance: String,
    },
    /// Start a stopped instance.
    Start {
        #[command(flatten)]
        scope: Scope,
        /// Name, vpc/name, id or private address of the instance.
        #[arg(add = ArgValueCompleter::new(instances))]
        instance: String,
    },
    /// Restart an instance, as a reboot does.
    Restart {
        #[command(flatten)]
        scope: Scope,
        /// Name, vpc/name, id or private address of the instance.
        #[arg(add = ArgValueCompleter::new(instances))]
        instance: String,
    },
    /// Bring a lab back to its file as it was applied last, with new instances and without flows.
    Reset {
        #[command(flatten)]
        scope: Scope,
    },
    /// Change one thing of a running lab at once, whatever its file says; the next `apply` brings back what the file says.
    #[command(
        after_help = "Examples:\n  minivpc set route application 0.0.0.0/0 appliance-b\n  minivpc set eip web standby\n  minivpc set address 10.0.0.100 standby\n  minivpc set eni service standby\n  minivpc set security-groups web open\n  minivpc set source-dest-check appliance off"
    )]
    Set {
        #[command(flatten)]
        scope: Scope,
        #[command(subcommand)]
        what: Setting,
    },
    /// Show what the `run` commands of an instance have printed since its start.
    #[command(after_help = "Example:\n  minivpc logs web-a")]
    Logs {
        #[command(flatten)]
        scope: Scope,
        /// Name, vpc/name, id or private address of the instance.
        #[arg(add = ArgValueCompleter::new(instances))]
        instance: String,
    },
    /// Run a command inside an instance; its exit status is the command's.
    #[command(
        after_help = "Example:\n  minivpc exec source -- ping -c 3 10.0.1.55\n  minivpc exec source -- sh -c 'tcpdump -i eth0 icmp & ping -c 3 10.0.1.55'"
    )]
    Exec {
        #[command(flatten)]
        scope: Scope,
        /// Name, vpc/name, id or private address of the instance.
        #[arg(add = ArgValueCompleter::new(instances))]
        instance: String,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Open an interactive shell inside an instance.
    #[command(after_help = "Example:\n  minivpc shell source")]
    Shell {
        #[command(flatten)]
        scope: Scope,
        /// Name, vpc/name, id or private address of the instance.
        #[arg(add = ArgValueCompleter::new(instances))]
        instance: String,
    },
    /// Show what runs: instances, interfaces, gateways, counters.
    Status {
        #[command(flatten)]
        scope: Scope,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a resource as AWS's tables print it.
    #[command(
        after_help = "Example:\n  minivpc show route-table source\n  minivpc show nat-gateway osaka-NAT --metrics"
    )]
    Show {
        #[command(flatten)]
        scope: Scope,
        /// What kind of resource.
        kind: Kind,
        /// Name, vpc/name or id; of an interface, INSTANCE, INSTANCE/eth1 or its private address.
        name: String,
        /// Of a nat-gateway or network-interface: what it has counted, by the names of AWS's metrics.
        #[arg(long)]
        metrics: bool,
        /// Print JSON, in the shape of AWS's describe call.
        #[arg(long)]
        json: bool,
    },
    /// Show what was dropped, where and why.
    #[command(after_help = "Example:\n  minivpc drops --json | jq '.drops[].reason'")]
    Drops {
        #[command(flatten)]
        scope: Scope,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show live connections at the instances' interfaces.
    #[command(after_help = "Example:\n  minivpc flows --why")]
    Flows {
        #[command(flatten)]
        scope: Scope,
        /// Also the way of the packets that each interface sends, hop by hop.
        #[arg(long)]
        why: bool,
        /// Go on, and show what comes, changes its phase and ends; it looks twice a second. JSON is a line for each.
        #[arg(long)]
        follow: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the journey of a packet, hop by hop, without sending it.
    #[command(
        after_help = "Example:\n  minivpc trace source destination --reply\n  minivpc trace web-a db-a --protocol tcp --port 5432"
    )]
    Trace {
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        packet: Packet,
        /// Also every hop of the answer. Shown anyway when the answer is lost or takes another way.
        #[arg(long)]
        reply: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show packets as they pass points of the lab, also inside, or write them into one pcapng file.
    ///
    /// Points: an instance, INSTANCE/eth1, an interface's id or private address: what it sends and what is delivered to
    /// it. A NAT gateway: both its sides, or one as NAME/inside (from and to clients) or NAME/outside (to and from
    /// destinations). An internet gateway, a virtual private gateway. The word drops: whatever is dropped, as it came to the hop that dropped it,
    /// with the reason as the packet's comment.
    ///
    /// Any number of points; each is an interface of the file. What a full buffer loses is counted, and said at the end.
    /// Inside, MAC addresses are those of the link that the packet is on, or was on last.
    #[command(
        after_help = "Examples:\n  minivpc capture source -- icmp or port 80\n  minivpc capture source osaka-NAT destination -w nat.pcapng\n  minivpc capture drops -c 10\n  minivpc capture osaka-NAT/outside -w - | tshark -r -"
    )]
    Capture {
        #[command(flatten)]
        scope: Scope,
        /// Where.
        #[arg(required = true, value_name = "POINT", add = ArgValueCompleter::new(points))]
        points: Vec<String>,
        /// Write the packets into this file instead of printing them; - is standard output.
        #[arg(short, long, value_name = "FILE.pcapng")]
        write: Option<PathBuf>,
        /// End after so many packets.
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// Which packets, in tcpdump's language.
        #[arg(last = true, value_name = "FILTER")]
        filter: Vec<String>,
    },
    /// Check a lab file without building anything.
    #[command(after_help = "Example:\n  minivpc validate lab.yaml")]
    Validate {
        /// The lab file.
        #[arg(value_name = "LAB.yaml", default_value = "lab.yaml")]
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Find out what this machine lacks for labs, and how to mend it.
    #[command(after_help = "Example:\n  minivpc doctor")]
    Doctor {
        /// Node of the tun driver, where /dev/net/tun can't be used.
        #[arg(long, value_name = "PATH", env = minivpc_control::TUN)]
        tun: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the labs that are up.
    Labs {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a lab and remove all that it had.
    Down {
        #[command(flatten)]
        scope: Scope,
    },
    /// Write a man page for each command into a directory.
    Man {
        /// The directory; it must exist.
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
    /// Tries what a lab needs; started by `doctor`.
    #[command(hide = true)]
    Examine,
    /// Holds a lab's namespaces; started by `up`.
    #[command(hide = true)]
    Keeper {
        /// The lab's directory; it shows in `ps`.
        directory: PathBuf,
    },
    /// Forwards a lab's packets; started by `up`.
    #[command(hide = true)]
    Engine {
        /// The lab's directory.
        directory: PathBuf,
        /// Where the lab file was read.
        #[arg(long)]
        file: PathBuf,
        #[command(flatten)]
        path: PacketPath,
    },
    /// Keeps the end of what it reads; started by `commands`.
    #[command(hide = true)]
    KeepLog {
        /// Where.
        log: PathBuf,
    },
    /// Answers for a host of the internet, in it; started by `commands`.
    #[command(hide = true)]
    Serve,
    /// Runs the `run` commands of an instance; started by the engine.
    #[command(hide = true)]
    Commands {
        /// The lab's directory.
        directory: PathBuf,
        /// The guest.
        guest: String,
        /// Where their output is kept.
        log: PathBuf,
        /// Its own server starts first, as standard input says.
        #[arg(long)]
        serve: bool,
        /// The commands.
        #[arg(last = true)]
        commands: Vec<String>,
    },
}

/// What can be changed alone.
#[derive(Debug, Subcommand)]
pub enum Setting {
    /// Lead a route elsewhere, make one, or with `none` delete it.
    Route {
        /// Name, vpc/name or id of the route table.
        table: String,
        /// What it matches: 0.0.0.0/0.
        destination: IpNet,
        /// As in a lab file: a gateway, an instance, INSTANCE/eth1, local; or none.
        target: String,
    },
    /// Move an Elastic IP address to another interface, or with `none` take it away.
    Eip {
        /// Its name or id.
        name: String,
        /// Instance, INSTANCE/eth1 or id of an interface; or none.
        #[arg(add = ArgValueCompleter::new(instances))]
        holder: String,
        /// For which of the interface's private addresses; the primary one if none is given.
        #[arg(long, value_name = "ADDRESS")]
        private_ip: Option<Ipv4Addr>,
    },
    /// Move a secondary private address to another interface of its subnet, with its Elastic IP; or with `none` take it
    /// away.
    Address {
        /// The address.
        address: Ipv4Addr,
        /// Instance, INSTANCE/eth1 or id of an interface; or none.
        #[arg(add = ArgValueCompleter::new(instances))]
        holder: String,
    },
    /// Attach an interface to another instance, with its addresses and groups; or with `none` to none.
    Eni {
        /// Its name, INSTANCE/eth1, id or private address; an instance's primary interface can't move.
        name: String,
        /// Instance or INSTANCE/eth1; or none.
        #[arg(add = ArgValueCompleter::new(instances))]
        holder: String,
    },
    /// Give an interface other security groups.
    SecurityGroups {
        /// Instance, INSTANCE/eth1 or id of an interface.
        #[arg(add = ArgValueCompleter::new(instances))]
        interface: String,
        /// Name, vpc/name or id of each.
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Switch the source/destination check of an interface.
    SourceDestCheck {
        /// Instance, INSTANCE/eth1 or id of an interface.
        #[arg(add = ArgValueCompleter::new(instances))]
        interface: String,
        /// Whether it is on.
        check: Switch,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

impl From<Setting> for minivpc_control::Setting {
    fn from(setting: Setting) -> Self {
        match setting {
            Setting::Route { table, destination, target } => Self::Route { table, destination, target },
            Setting::Eip { name, holder, private_ip } => Self::ElasticIp { name, holder, private_ip },
            Setting::Address { address, holder } => Self::Address { address, holder },
            Setting::Eni { name, holder } => Self::NetworkInterface { name, holder },
            Setting::SecurityGroups { interface, groups } => Self::SecurityGroups { interface, groups },
            Setting::SourceDestCheck { interface, check } => {
                Self::SourceDestCheck { interface, on: check == Switch::On }
            }
        }
    }
}

/// The packet to trace.
#[derive(Debug, Args)]
pub struct Packet {
    /// The sending instance, or INSTANCE/eth1.
    #[arg(add = ArgValueCompleter::new(instances))]
    from: String,
    /// An instance, INSTANCE/eth1 or an address.
    #[arg(add = ArgValueCompleter::new(instances))]
    to: String,
    /// The protocol.
    #[arg(long, default_value = "icmp")]
    protocol: Protocol,
    /// Destination port, for TCP and UDP.
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Source port, or ICMP id.
    #[arg(long, value_name = "N")]
    source_port: Option<u16>,
    /// TTL; the instance's default if it isn't given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    ttl: Option<u8>,
    /// Length of the IP packet, bytes; it may not be cut into fragments.
    #[arg(long, value_name = "N")]
    size: Option<u16>,
    /// TCP: the first packet of a connection, or one of an open connection.
    #[arg(long, default_value = "syn")]
    flags: Flags,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Protocol {
    Icmp,
    Tcp,
    Udp,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Flags {
    Syn,
    Ack,
}

impl From<Packet> for TracePacket {
    fn from(packet: Packet) -> Self {
        let Packet { from, to, protocol, port, source_port, ttl, size, flags } = packet;
        let protocol = match protocol {
            Protocol::Icmp => "icmp",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        Self { from, to, protocol: protocol.to_owned(), port, source_port, ttl, size, ack: matches!(flags, Flags::Ack) }
    }
}

/// How packets are moved.
#[derive(Debug, Clone, Copy, Args)]
pub struct PacketPath {
    /// The instances' links: `tun-tap` is several times slower, for machines that refuse the virtio-net header.
    #[arg(long, value_name = "NAME", default_value = "virtio-net")]
    backend: Backend,
    /// Threads that forward packets; each reads its own share of the instances' links.
    #[arg(long, value_name = "N", default_value_t = Moving::sensible_workers(), value_parser = value_parser!(u16).range(1..=64))]
    workers: u16,
}

/// What the instances' links are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Backend {
    VirtioNet,
    TunTap,
}

impl From<PacketPath> for Moving {
    fn from(PacketPath { backend, workers }: PacketPath) -> Self {
        let backend = match backend {
            Backend::VirtioNet => minivpc_control::Backend::VirtioNet,
            Backend::TunTap => minivpc_control::Backend::TunTap,
        };
        Self { backend, workers }
    }
}

/// What `show` shows.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
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

impl Kind {
    /// The API action whose answer it is.
    pub fn action(self) -> &'static str {
        match self {
            Self::RouteTable => "DescribeRouteTables",
            Self::NetworkAcl => "DescribeNetworkAcls",
            Self::SecurityGroup => "DescribeSecurityGroups",
            Self::NatGateway => "DescribeNatGateways",
            Self::NetworkInterface => "DescribeNetworkInterfaces",
            Self::InternetGateway => "DescribeInternetGateways",
            Self::VpnGateway => "DescribeVpnGateways",
            Self::VpnConnection => "DescribeVpnConnections",
            Self::ElasticIp => "DescribeAddresses",
            Self::DhcpOptions => "DescribeDhcpOptions",
            Self::HostedZone => "ListResourceRecordSets",
        }
    }
}

impl Kind {
    /// The part of the answer that the table shows: of a route table its routes, as
    /// `--query 'RouteTables[].Routes'` does.
    pub fn part(self, described: &Value) -> &Value {
        match self {
            Self::RouteTable => &described["RouteTables"][0]["Routes"],
            _ => described,
        }
    }
}

impl From<Kind> for Described {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::RouteTable => Self::RouteTable,
            Kind::NetworkAcl => Self::NetworkAcl,
            Kind::SecurityGroup => Self::SecurityGroup,
            Kind::NatGateway => Self::NatGateway,
            Kind::NetworkInterface => Self::NetworkInterface,
            Kind::InternetGateway => Self::InternetGateway,
            Kind::VpnGateway => Self::VpnGateway,
            Kind::VpnConnection => Self::VpnConnection,
            Kind::ElasticIp => Self::ElasticIp,
            Kind::DhcpOptions => Self::DhcpOptions,
            Kind::HostedZone => Self::HostedZone,
        }
    }
}
