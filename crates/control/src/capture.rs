//! Captures: who looks at packets, from the request to the last byte of the file.
//!
//! ```text
//!   worker ─ filter → buffer, or counted as lost │ the capture's task ─ batch → control socket → minivpc capture
//! ```
//!
//! The worker never waits: it appends to a buffer of a fixed size, which the task takes away as a whole. A capture ends
//! when its client closes its side, or dies, or has what it wanted; then nothing is looked at any more.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minivpc_dataplane::{Armed, Bound, Captured, Component, DropReason, Point, Side, Sink, Snapshot};
use minivpc_host::capture::Program;
use minivpc_host::capture::pcapng::{self, Counts, Flow};
use minivpc_model::{FindError, GuestId, NatGatewayId, RouteTarget, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use crate::answer::{json, not_found};
use crate::protocol::{CaptureRequest, Failure, VERSION, answer_line};
use crate::running::Running;

/// Captures of one lab at once.
const MOST: usize = 16;
/// What may wait for a client, bytes; as much again may be on its way to him.
const BUFFER: usize = 4 << 20;
/// What the point of all drops is called.
const DROPS: &str = "drops";

/// A capture that runs.
#[derive(Debug)]
pub(crate) struct Capture {
    /// In the order of the file's interfaces.
    points: Vec<Place>,
    interfaces: HashMap<Point, u32>,
    filter: Option<Program>,
    buffer: Mutex<Buffer>,
    more: Notify,
}

#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    /// Of each interface.
    counts: Vec<Counts>,
    /// Packets that are still wanted, if not all are.
    left: Option<u64>,
    /// Nothing is added any more.
    over: bool,
}

/// A point, for people.
#[derive(Debug)]
struct Place {
    point: Point,
    name: String,
    id: String,
}

impl Sink for Capture {
    fn take(&self, captured: &Captured<'_>) {
        let Some(&interface) = self.interfaces.get(&captured.point) else { return };
        let wanted = self.filter.as_ref().is_none_or(|filter| filter.wants(captured.frame));
        let comment = captured.dropped.filter(|_| wanted).map(|(reason, by)| words(reason, by));
        let flow = match captured.bound {
            None => Flow::Unknown,
            Some(Bound::In) => Flow::Inbound,
            Some(Bound::Out) => Flow::Outbound,
        };
        let mut buffer = self.buffer();
        let Buffer { bytes, counts, left, over } = &mut *buffer;
        let Some(counts) = counts.get_mut(interface as usize).filter(|_| !*over) else { return };
        counts.received += 1;
        if !wanted {
            return;
        }
        counts.accepted += 1;
        if bytes.len() + captured.frame.len() > BUFFER {
            counts.dropped += 1;
            return;
        }
        pcapng::packet(bytes, interface, flow, captured.frame, comment.as_deref());
        if let Some(left) = left {
            *left = left.saturating_sub(1);
            *over = *left == 0;
        }
        drop(buffer);
        self.more.notify_one();
    }
}

/// Why a packet was dropped, and by whom; the code comes first.
fn words(reason: DropReason, by: Component) -> String {
    let by = match by {
        Component::NetworkInterface(id) => id.to_string(),
        Component::Subnet(id) => format!("the router of {id}"),
        Component::SecurityGroups(id) => format!("the security groups of {id}"),
        Component::RouteTable(id) => id.to_string(),
        Component::NetworkAcl(id) => id.to_string(),
        Component::NatGateway(id) => id.to_string(),
        Component::InternetGateway(id) => id.to_string(),
        Component::VpnGateway(id) => id.to_string(),
        Component::VpnConnection(id) => format!("the router at the far end of {id}"),
        Component::Host(id) => id.to_string(),
        Component::Internet => "the internet".to_owned(),
        Component::Services => "the subnets' services".to_owned(),
    };
    format!("{} by {by}: {}", reason.code(), reason.text())
}

impl Capture {
    /// What `request` wants of a lab.
    pub fn new(request: CaptureRequest, world: &World, snapshot: &Snapshot) -> Result<Self, Failure> {
        let mut points: Vec<Place> = Vec::new();
        let mut interfaces = HashMap::new();
        for name in &request.points {
            for place in find(world, snapshot, name)? {
                interfaces.entry(place.point).or_insert_with(|| {
                    points.push(place);
                    points.len() as u32 - 1
                });
            }
        }
        if points.is_empty() {
            return Err("say where to capture: an interface, a gateway, or drops".into());
        }
        tell_apart(&mut points);
        let counts = vec![Counts::default(); points.len()];
        let buffer = Mutex::new(Buffer { bytes: Vec::new(), counts, left: request.count, over: false });
        Ok(Self { points, interfaces, filter: request.filter, buffer, more: Notify::new() })
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is added from now on.
    fn end(&self) {
        self.buffer().over = true;
        self.more.notify_one();
    }

    /// Exchanges what was captured for an empty buffer; true if there will be no more.
    fn swap(&self, empty: &mut Vec<u8>) -> bool {
        let mut buffer = self.buffer();
        std::mem::swap(&mut buffer.bytes, empty);
        buffer.over
    }

    /// Writes the whole file, as it comes.
    async fn write(&self, to: &mut OwnedWriteHalf) -> io::Result<()> {
        let interfaces = self.points.iter().map(|place| (place.name.as_str(), place.id.as_str()));
        let mut batch = pcapng::header(&format!("minivpc {VERSION}"), interfaces);
        loop {
            to.write_all(&batch).await?;
            batch.clear();
            let over = self.swap(&mut batch);
            match (batch.is_empty(), over) {
                (true, true) => break,
                (true, false) => self.more.notified().await,
                (false, _) => {}
            }
        }
        for (counts, interface) in self.buffer().counts.iter().zip(0..) {
            pcapng::statistics(&mut batch, interface, counts);
        }
        to.write_all(&batch).await
    }
}

/// All captures of a lab.
#[derive(Default)]
pub(crate) struct Captures(Mutex<Vec<Arc<Capture>>>);

impl Captures {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Capture>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, capture: &Arc<Capture>) -> Result<(), Failure> {
        let mut all = self.all();
        if all.len() >= MOST {
            return Err(format!("{MOST} captures of this lab run, and no more can at once: end one of them").into());
        }
        all.push(Arc::clone(capture));
        Ok(())
    }

    /// False if it had gone before.
    pub fn remove(&self, capture: &Arc<Capture>) -> bool {
        let mut all = self.all();
        let before = all.len();
        all.retain(|other| !Arc::ptr_eq(other, capture));
        all.len() < before
    }

    /// What a snapshot has to say of them.
    pub fn armed(&self) -> Option<Armed> {
        let all = self.all();
        let points = all.iter().flat_map(|capture| capture.interfaces.keys().copied());
        let sinks = all.iter().map(|capture| Arc::clone(capture) as Arc<dyn Sink>);
        (!all.is_empty()).then(|| Armed::new(points, sinks.collect()))
    }
}

/// A capture that is looked after. However that ends, so does the capture.
struct Looking<'a> {
    running: &'a Running,
    capture: Arc<Capture>,
}

impl Looking<'_> {
    fn end(&self) {
        self.running.end_capture(&self.capture);
        self.capture.end();
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Answers with the points' names, and then with a file, until the client closes his side or has all that he wanted.
pub(crate) async fn stream(
    running: &Running,
    request: CaptureRequest,
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
) -> io::Result<()> {
    let capture = match running.start_capture(request) {
        Ok(capture) => capture,
        Err(failure) => return writer.write_all(&answer_line(&Err(failure))?).await,
    };
    let looking = Looking { running, capture };
    let names: Vec<_> = looking.capture.points.iter().map(|place| place.name.as_str()).collect();
    writer.write_all(&answer_line(&json(&names))?).await?;
    let closed = async {
        // He has nothing to say any more.
        while reader.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
        looking.end();
        pending().await
    };
    tokio::select! {
        written = looking.capture.write(&mut writer) => match written {
            // Gone, or killed: nobody misses what wasn't written.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            other => other,
        },
        never = closed => never,
    }
}

/// The points that `text` names: of a NAT gateway both sides, if it doesn't say which.
fn find(world: &World, snapshot: &Snapshot, text: &str) -> Result<Vec<Place>, Failure> {
    if text == DROPS {
        return Ok(vec![Place { point: Point::Drops, name: DROPS.to_owned(), id: "every hop".to_owned() }]);
    }
    let side = match text.rsplit_once('/') {
        Some((gateway, "inside")) => Some((gateway, Side::Inside)),
        Some((gateway, "outside")) => Some((gateway, Side::Outside)),
        _ => None,
    };
    if let Some(gateway) = world.nat_gateways().find(|nat| nat.network_interface.to_string() == text) {
        return sides(snapshot, gateway.id, &[Side::Inside, Side::Outside]);
    }
    let gone = || Failure::Refused(format!("'{text}' was deleted"));
    if let Ok(GuestId::Host(id)) = world.find_guest(text) {
        let name = world.host(id).map_or_else(|_| id.to_string(), |host| world.host_name(host));
        return Ok(vec![Place { point: Point::Host(id), name, id: id.to_string() }]);
    }
    match (world.find_passed(text), side) {
        (Err(FindError::None { .. }), Some((gateway, side))) => {
            sides(snapshot, world.find_nat_gateway(None, gateway).map_err(unknown)?, &[side])
        }
        (found, _) => match found.map_err(unknown)? {
            RouteTarget::NatGateway(id) => sides(snapshot, id, &[Side::Inside, Side::Outside]),
            RouteTarget::NetworkInterface(id) => {
                let name = snapshot.eni_of(id).map(|index| snapshot.eni(index).name.clone()).ok_or_else(gone)?;
                Ok(vec![Place { point: Point::Interface(id), name, id: id.to_string() }])
            }
            RouteTarget::InternetGateway(id) => {
                let igw = snapshot.igws.iter().find(|igw| igw.id == id).ok_or_else(gone)?;
                let (point, name) = (Point::InternetGateway(id), igw.name.clone());
                Ok(vec![Place { point, name, id: id.to_string() }])
            }
            RouteTarget::VpnGateway(id) => {
                let vgw = snapshot.vgws.iter().find(|vgw| vgw.id == id).ok_or_else(gone)?;
                let (point, name) = (Point::VpnGateway(id), vgw.name.clone());
                Ok(vec![Place { point, name, id: id.to_string() }])
            }
            // No name names it.
            RouteTarget::Local => Err(gone()),
        },
    }
}

fn sides(snapshot: &Snapshot, id: NatGatewayId, sides: &[Side]) -> Result<Vec<Place>, Failure> {
    let gateway = snapshot.nats.iter().find(|nat| nat.id == id);
    let gateway = gateway.ok_or_else(|| Failure::Refused(format!("NAT gateway {id} was deleted")))?;
    let place = |side: &Side| {
        let word = match side {
            Side::Inside => "inside",
            Side::Outside => "outside",
        };
        Place { point: Point::NatGateway(id, *side), name: format!("{}/{word}", gateway.name), id: id.to_string() }
    };
    Ok(sides.iter().map(place).collect())
}

fn unknown(error: FindError) -> Failure {
    let words = match error {
        FindError::None { .. } => {
            format!(
                "{}; `{DROPS}` is a point, and of a NAT gateway NAME/inside and NAME/outside; a filter stands behind --",
                not_found(error)
            )
        }
        FindError::Several { .. } => not_found(error),
    };
    words.into()
}

/// Names that several points have, as in several VPCs, get their ids behind them.
fn tell_apart(points: &mut [Place]) {
    let mut count: HashMap<String, usize> = HashMap::new();
    for place in points.iter() {
        *count.entry(place.name.clone()).or_default() += 1;
    }
    for place in points.iter_mut().filter(|place| count[&place.name] > 1) {
        place.name = format!("{} {}", place.name, place.id);
    }
}
