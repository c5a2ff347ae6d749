//! The engine process: builds the guests, publishes the snapshot, forwards, and answers questions.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use minivpc_config::Lab;
use minivpc_dataplane::state::{Connection, ConnectionKey, NatKey};
use minivpc_dataplane::{Engine, Kind, Now, Probe, compile, tcp_flags};
use minivpc_host::{GuestSpec, HostError, InterfaceSpec, Keeper, LinkStats, Ports, Worker};
use minivpc_model::{Attachment, FindError, Instance, NetworkInterface, Refusal};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::describe;
use crate::protocol::{Answer, Described, Question, TracePacket};
use crate::view::{self, Views};

/// MTU of every interface.
const MTU: u32 = 9001;
/// Longest question, bytes.
const LONGEST: u64 = 64 * 1024;

/// Why an engine can't run.
#[derive(Debug, thiserror::Error)]
enum EngineError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("{0}")]
    Mistake(#[from] minivpc_config::Mistake),
    #[error(transparent)]
    TooMany(#[from] minivpc_dataplane::TooMany),
    #[error(transparent)]
    Refusal(#[from] Refusal),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One running lab.
struct Running {
    lab: Lab,
    /// What the lab file was called, for messages.
    file_name: String,
    engine: Arc<Engine>,
    ports: Arc<ArcSwap<Ports>>,
    keeper: Keeper,
    clock: Instant,
}

fn log_to_stderr() {
    tracing_subscriber::fmt().with_ansi(false).with_writer(io::stderr).init();
}

/// Runs a keeper whose standard input is its listening socket; see [`minivpc_host::run_keeper`].
///
/// # Errors
/// What the machine refuses.
pub fn run_keeper() -> Result<(), HostError> {
    minivpc_host::detach();
    log_to_stderr();
    let listener = io::stdin().as_fd().try_clone_to_owned();
    minivpc_host::run_keeper(
        listener.map_err(|source| HostError::System { what: "standard input".to_owned(), source })?,
    )
}

/// Runs the engine of the lab in `directory` until its keeper ends. Closes standard output when the lab is up; what
/// stands there before is why it isn't.
///
/// # Errors
/// When the lab can't come up.
pub fn run_engine(directory: &Path, file_name: String) -> Result<(), Box<dyn std::error::Error>> {
    match start(directory, file_name) {
        Ok((running, socket)) => {
            end_with_keeper(directory)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve(running, socket))?;
            Ok(())
        }
        Err(error) => {
            // `up` waits for it.
            println!("{error}");
            Err(error.into())
        }
    }
}

fn start(directory: &Path, file_name: String) -> Result<(Running, PathBuf), EngineError> {
    minivpc_host::detach();
    rustix::process::setsid().map_err(io::Error::from)?;
    log_to_stderr();
    let text = fs::read_to_string(directory.join("lab.yaml"))?;
    let lab = minivpc_config::load(&text, &crate::lab::now())?;
    let keeper = Keeper::connect(&directory.join("keeper.sock"))?;
    let snapshot = compile(&lab.world, 1)?;
    let mut taps = vec![None; snapshot.enis.len()];
    for instance in lab.world.instances() {
        let (spec, interfaces) = guest(&lab, instance)?;
        for (eni, tap) in interfaces.iter().zip(keeper.create_guest(&spec)?) {
            if let Some(port) = snapshot.eni_of(eni.id) {
                taps[usize::from(port)] = Some(Arc::new(tap));
            }
        }
    }
    // Two `up`s have different keys, so a NAT gateway's ports differ too.
    let random = RandomState::new();
    let key = (u128::from(random.hash_one(1)) << 64 | u128::from(random.hash_one(2))).to_ne_bytes();
    let engine = Arc::new(Engine::new(NatKey(key)));
    let ports = Arc::new(ArcSwap::from_pointee(Ports { snapshot, taps }));
    let clock = Instant::now();
    let worker = Worker::new(Arc::clone(&engine), Arc::clone(&ports), clock)?;
    std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
        // However it ends, a lab whose packets nobody moves must not look as if it were up.
        let _end = EndProcess;
        let failed = worker.run();
        tracing::error!(?failed, "the worker ended");
    })?;
    tracing::info!(lab = lab.name, guests = lab.world.instances().count(), "up");
    Ok((Running { lab, file_name, engine, ports, keeper, clock }, directory.join("control.sock")))
}

/// Ends the process when it is dropped, also by a panic.
struct EndProcess;

impl Drop for EndProcess {
    fn drop(&mut self) {
        std::process::exit(1);
    }
}

/// An instance as a guest, and its interfaces in the order of the guest's.
fn guest<'a>(lab: &'a Lab, instance: &Instance) -> Result<(GuestSpec, Vec<&'a NetworkInterface>), Refusal> {
    let world = &lab.world;
    let all: Vec<_> =
        instance.network_interfaces.iter().map(|id| world.network_interface(*id)).collect::<Result<_, _>>()?;
    let mut interfaces = Vec::new();
    let mut hostname = String::from("localhost");
    for eni in &all {
        let subnet = world.subnet(eni.subnet)?;
        let Attachment::Instance { device_index, .. } = eni.attachment else { continue };
        if device_index == 0 {
            hostname = private_dns_name(eni.private_ip, &world.vpc(subnet.vpc)?.region);
        }
        interfaces.push(InterfaceSpec {
            name: format!("eth{device_index}"),
            mac: eni.mac.0,
            address: eni.private_ip,
            prefix: subnet.cidr.prefix_len(),
            gateway: subnet.router(),
            mtu: MTU,
        });
    }
    let spec = GuestSpec {
        name: instance.id.to_string(),
        hostname,
        default_ttl: instance.image.default_ttl(),
        sysctls: lab.guests.get(&instance.id).map(|guest| guest.sysctls.clone()).unwrap_or_default(),
        interfaces,
    };
    Ok((spec, all))
}

/// SEED-11. The oldest region has a name of its own.
fn private_dns_name(address: std::net::Ipv4Addr, region: &str) -> String {
    let host = address.to_string().replace('.', "-");
    match region {
        "us-east-1" => format!("ip-{host}.ec2.internal"),
        _ => format!("ip-{host}.{region}.compute.internal"),
    }
}

/// Guests die with their keeper; an engine without guests has nothing to do.
fn end_with_keeper(directory: &Path) -> Result<(), EngineError> {
    let keeper = Keeper::connect(&directory.join("keeper.sock"))?;
    std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
        keeper.wait_for_end();
        std::process::exit(0);
    })?;
    Ok(())
}

async fn serve(running: Running, socket: PathBuf) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    let running = Arc::new(running);
    let swept = Arc::clone(&running);
    tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            every.tick().await;
            swept.engine.state().sweep(swept.now());
        }
    });
    // `up` reads our standard output to its end.
    rustix::stdio::dup2_stdout(fs::File::options().write(true).open("/dev/null")?)?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many descriptors, or a client that has gone: the lab goes on.
                tracing::warn!(%error, "control socket");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let running = Arc::clone(&running);
        tokio::spawn(async move {
            if let Err(error) = converse(&running, stream).await {
                tracing::warn!(%error, "control socket");
            }
        });
    }
}

async fn converse(running: &Running, stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(tokio::io::AsyncReadExt::take(reader, LONGEST)).read_line(&mut line).await?;
    if line.is_empty() {
        return Ok(());
    }
    let answer = match serde_json::from_str(&line) {
        Ok(question) => running.answer(question),
        Err(error) => Err(format!("not a question: {error}")),
    };
    let mut answer = serde_json::to_vec(&answer)?;
    answer.push(b'\n');
    writer.write_all(&answer).await
}

impl Running {
    fn now(&self) -> Now {
        Now(self.clock.elapsed().as_nanos() as u64)
    }

    fn answer(&self, question: Question) -> Answer {
        let ports = self.ports.load();
        let views = Views { lab: &self.lab, file: &self.file_name, snapshot: &ports.snapshot };
        match question {
            Question::Status => json(&self.status(&views)),
            Question::Drops => json(&self.drops(&views)),
            Question::Flows => json(&self.flows(&views)),
            Question::Trace(packet) => self.trace(&views, &packet).and_then(|trace| json(&trace)),
            Question::Describe { kind, name } => self.describe(kind, &name),
            Question::Guest { instance } => {
                let id = self.lab.world.find_instance(&instance).map_err(not_found)?;
                Ok(Value::String(id.to_string()))
            }
        }
    }

    fn links(&self) -> HashMap<String, Vec<LinkStats>> {
        let guests = self.lab.world.instances().map(|instance| instance.id.to_string());
        guests.filter_map(|guest| Some((guest.clone(), self.keeper.link_stats(&guest).ok()?))).collect()
    }

    fn status(&self, views: &Views<'_>) -> view::Status {
        let (state, now) = (self.engine.state(), self.now());
        view::Status {
            lab: self.lab.name.clone(),
            up_seconds: self.clock.elapsed().as_secs(),
            instances: views.instances(&self.links()),
            nat_gateways: views.nat_gateways(state, now),
            internet_gateways: views.internet_gateways(),
            connections: state.connections(now).len(),
            drops: self.engine.drops().list().iter().map(|dropped| dropped.count).sum(),
        }
    }

    fn drops(&self, views: &Views<'_>) -> view::Drops {
        let mut drops: Vec<_> = self.engine.drops().list().iter().map(|dropped| views.drop(dropped)).collect();
        for link in self.links().into_values().flatten().filter(|link| link.engine_too_slow > 0) {
            drops.push(self.too_slow(views, &link));
        }
        view::Drops { drops }
    }

    /// What the kernel dropped because nobody read it in time.
    fn too_slow(&self, views: &Views<'_>, link: &LinkStats) -> view::Drop {
        let instance = link.guest.parse().ok().and_then(|id| self.lab.world.instance(id).ok());
        let eni = instance.and_then(|instance| instance.network_interfaces.first());
        let sender = eni.map(|eni| views.interface(*eni));
        let now = self.now().0 as f64 / 1e9;
        view::Drop {
            reason: "MINIVPC_ENGINE_TOO_SLOW".to_owned(),
            text: "the guest sent faster than the engine read; AWS would have forwarded it".to_owned(),
            resources: sender.clone().into_iter().collect(),
            sender: sender.unwrap_or_else(|| view::Resource {
                kind: "instance".to_owned(),
                id: link.guest.clone(),
                name: String::new(),
            }),
            packet: "frames".to_owned(),
            fields: None,
            count: link.engine_too_slow,
            first_seconds: 0.0,
            last_seconds: now,
        }
    }

    fn flows(&self, views: &Views<'_>) -> view::Flows {
        let now = self.now();
        let serials: HashMap<_, _> = self.lab.world.network_interfaces().map(|eni| (eni.serial, eni)).collect();
        let flow = |(key, connection): (ConnectionKey, Connection)| {
            let eni = serials.get(&key.eni)?;
            let own = IpAddr::from(eni.private_ip);
            let flow = if key.flow.src == own { key.flow } else { key.flow.reversed() };
            let end = |address: IpAddr, port: u16| match flow.protocol {
                6 | 17 => format!("{address}:{port}"),
                _ if port != 0 => format!("{address} id {port}"),
                _ => address.to_string(),
            };
            let steps = self.engine.recall(views.snapshot, now, &key, &connection);
            Some(view::FlowView {
                interface: views.interface(eni.id),
                direction: connection.direction.as_str().to_owned(),
                protocol: flow.protocol,
                local: end(flow.src, flow.src_port),
                remote: end(flow.dst, flow.dst_port),
                phase: format!("{:?}", connection.phase).to_lowercase(),
                age_seconds: now.since(connection.opened).0 as f64 / 1e9,
                idle_seconds: now.since(connection.last_seen).0 as f64 / 1e9,
                steps: steps.into_iter().map(|line| views.step(line)).collect(),
            })
        };
        let mut flows: Vec<_> = self.engine.state().connections(now).into_iter().filter_map(flow).collect();
        flows.sort_by(|a, b| (&a.interface.name, &a.remote, &a.local).cmp(&(&b.interface.name, &b.remote, &b.local)));
        view::Flows { flows }
    }

    fn trace(&self, views: &Views<'_>, packet: &TracePacket) -> Result<view::Trace, String> {
        let world = &self.lab.world;
        let instance = |name: &str| world.find_instance(name).map_err(not_found);
        let primary = |id| {
            let eni = *world.instance(id).ok()?.network_interfaces.first()?;
            views.snapshot.eni_of(eni)
        };
        let from = primary(instance(&packet.from)?).ok_or("the instance has no interface")?;
        let to = match packet.to.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => {
                let eni = primary(instance(&packet.to)?).ok_or("the instance has no interface")?;
                views.snapshot.eni(eni).ip
            }
        };
        let (kind, source_port, port) = match (packet.protocol.as_str(), packet.port) {
            ("icmp", None) => (Kind::EchoRequest, packet.source_port.unwrap_or(ICMP_ID), 0),
            ("icmp", Some(_)) => return Err("ICMP has no ports: leave --port out".to_owned()),
            ("tcp", Some(port)) => {
                let flags = if packet.ack { tcp_flags::ACK } else { tcp_flags::SYN };
                (Kind::Tcp(flags), packet.source_port.unwrap_or(SOURCE_PORT), port)
            }
            ("udp", Some(port)) => (Kind::Udp, packet.source_port.unwrap_or(SOURCE_PORT), port),
            ("tcp" | "udp", None) => return Err(format!("--protocol {} needs --port N", packet.protocol)),
            (other, _) => return Err(format!("protocol '{other}' can't be traced: icmp, tcp or udp")),
        };
        let size = packet.size.unwrap_or(SIZE);
        let probe = Probe { from, to, kind, source_port, port, ttl: packet.ttl, size };
        let (there, back) = self.engine.trace(views.snapshot, self.now(), &probe);
        let name_of = |address: IpAddr| {
            let vpc = views.snapshot.subnet(views.snapshot.eni(from).subnet).vpc;
            let eni = views.snapshot.owner(vpc, address).map(|index| views.snapshot.eni(index).name.as_str());
            eni.map_or_else(|| address.to_string(), |name| name.split('/').next().unwrap_or(name).to_owned())
        };
        Ok(view::Trace {
            from: name_of(views.snapshot.eni(from).ip),
            to: name_of(to),
            there: views.journey(&there),
            back: back.as_ref().map(|back| views.journey(back)),
        })
    }

    fn describe(&self, kind: Described, name: &str) -> Answer {
        let world = &self.lab.world;
        let described = match kind {
            Described::RouteTable => {
                describe::route_table(world, world.find_route_table(None, name).map_err(not_found)?)
            }
            Described::NetworkAcl => {
                describe::network_acl(world, world.find_network_acl(None, name).map_err(not_found)?)
            }
            Described::SecurityGroup => {
                describe::security_group(world, world.find_security_group(None, name).map_err(not_found)?)
            }
            Described::NatGateway => {
                describe::nat_gateway(world, world.find_nat_gateway(None, name).map_err(not_found)?)
            }
        };
        described.map_err(said)
    }
}

/// A name that names nothing, with what there is.
fn not_found(error: FindError) -> String {
    match &error {
        FindError::None { names, .. } if !names.is_empty() => format!("{error}; these are: {}", names.join(", ")),
        FindError::None { .. } | FindError::Several { .. } => error.to_string(),
    }
}

/// An error as an answer.
fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What a trace takes for a length (that of a `ping`), an echo id and a source port.
const SIZE: u16 = 84;
const ICMP_ID: u16 = 4711;
const SOURCE_PORT: u16 = 49_152;

fn json(value: &impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map_err(said)
}
