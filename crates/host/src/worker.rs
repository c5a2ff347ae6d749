//! The packet loop: plain threads, each of which owns the reading sides of some TAPs and the flows that come from them.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use arrayvec::ArrayVec;
use foldhash::fast::FixedState;
use minivpc_dataplane::{CAPACITY, Cache, CacheMetrics, Engine, Now, Sent, Snapshot};
use minivpc_packet::VnetHeader;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::error::{Context, HostError};
use crate::tap::Backend;

/// Longest frame: a 64 KiB packet behind its Ethernet and virtio-net headers.
const LONGEST: usize = VnetHeader::LEN + 14 + 65_535;
/// Frames that are read together: one that is long, or many that are short, so that they stay in the processor's cache.
const BUFFER: usize = 2 * LONGEST;
/// Frames per TAP and turn, so that no guest starves another.
const TURN: usize = 64;
/// What a frame of no known flow counts for: whoever opens flows as fast as he can shall not keep up who has some.
const UNKNOWN: usize = 8;
/// Frames of a turn that are read when nobody knows yet what they are.
const FIRST: usize = TURN / UNKNOWN;

/// How a lab's frames are moved.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Moving {
    /// Over which TAPs.
    pub backend: Backend,
    /// By so many threads, at least one.
    pub workers: u16,
}

impl Moving {
    /// Workers for this machine: half of its processors are left to the guests, and more than four would wait for
    /// each other at a guest's link.
    #[must_use]
    pub fn sensible_workers() -> u16 {
        const MOST: usize = 4;
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        (processors / 2).clamp(1, MOST) as u16
    }
}

/// What is published at once: a snapshot, and the TAPs of its ports. A descriptor lives as long as a snapshot that
/// names it, so its number can't be used again under a worker.
pub struct Ports {
    /// The world.
    pub snapshot: Snapshot,
    /// The TAP of each port; none where no guest stands behind.
    taps: Vec<Option<Arc<OwnedFd>>>,
    /// What they are.
    backend: Backend,
    /// The number of a port in this snapshot, by the number that it always has.
    ports: HashMap<u32, u16, FixedState>,
}

impl Ports {
    /// `taps` are in the order of the snapshot's ports.
    #[must_use]
    pub fn new(snapshot: Snapshot, taps: Vec<Option<Arc<OwnedFd>>>, backend: Backend) -> Self {
        let ports = snapshot.serials().zip(0..).map(|(serial, port)| (serial.0, port)).collect();
        Self { snapshot, taps, backend, ports }
    }

    fn taps(&self) -> impl Iterator<Item = (u32, &Arc<OwnedFd>)> {
        self.snapshot.serials().zip(&self.taps).filter_map(|(serial, tap)| Some((serial.0, tap.as_ref()?)))
    }

    fn has(&self, tap: &Arc<OwnedFd>) -> bool {
        self.taps.iter().flatten().any(|other| Arc::ptr_eq(other, tap))
    }
}

/// What epoll says when somebody has published, or wants unused flows forgotten; ports are named by their serials,
/// which are shorter.
const WAKE: u64 = u64::MAX;

/// Moves the frames of some TAPs of a lab.
pub struct Worker {
    number: usize,
    engine: Arc<Engine>,
    ports: Arc<ArcSwap<Ports>>,
    clock: Clock,
    ears: Arc<Ears>,
    turned: Sender<(usize, u64)>,
    asleep: Arc<AtomicBool>,
    woken: Arc<dyn Fn() + Send + Sync>,
    flows: Cache,
}

/// What a worker listens with.
struct Ears {
    epoll: OwnedFd,
    wake: OwnedFd,
}

impl Ears {
    fn new() -> Result<Self, HostError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("eventfd")?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN).context("epoll")?;
        Ok(Self { epoll, wake })
    }
}

/// Changes the world under the workers.
pub struct Publisher {
    ports: Arc<ArcSwap<Ports>>,
    workers: Vec<Arc<Ears>>,
    turned: Mutex<Receiver<(usize, u64)>>,
    asleep: Arc<AtomicBool>,
    flows: Vec<Arc<CacheMetrics>>,
}

impl Publisher {
    /// Asks to be told, by the workers' `woken`, when packets move again.
    pub fn wake_me(&self) {
        self.asleep.store(true, SeqCst);
    }

    /// What is published now.
    #[must_use]
    pub fn load(&self) -> Arc<Ports> {
        self.ports.load_full()
    }

    /// What the workers' flow caches count.
    pub fn flows(&self) -> impl Iterator<Item = &CacheMetrics> {
        self.flows.iter().map(AsRef::as_ref)
    }

    /// Has the workers forget the flows that are unused: for about once a second. False if they have none at all.
    pub fn tidy(&self) -> bool {
        let flows = self.flows.iter().map(|flows| flows.entries.load(Relaxed));
        let have: Vec<_> = self.workers.iter().zip(flows).filter(|(_, entries)| *entries > 0).collect();
        // Full, it wakes as well.
        have.iter().for_each(|(worker, _)| _ = rustix::io::write(&worker.wake, &1_u64.to_ne_bytes()));
        !have.is_empty()
    }

    /// Who reads a port's TAP: one worker, always the same, so that its frames stay in order.
    fn epoll_of(&self, serial: u32) -> &OwnedFd {
        &self.workers[serial as usize % self.workers.len()].epoll
    }

    /// Publishes `next`, and returns when no frame is forwarded by what was published before.
    ///
    /// # Errors
    /// What epoll refuses; nothing is published then.
    pub fn publish(&self, next: Ports) -> Result<(), HostError> {
        let turned = self.turned.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, generation) = (self.load(), next.snapshot.generation);
        let mut added: Vec<(u32, &Arc<OwnedFd>)> = Vec::new();
        // Not an error of anybody's: a guest's link may be gone, and its TAP with it.
        let forget = |(serial, tap): (u32, &Arc<OwnedFd>)| {
            let _ = epoll::delete(self.epoll_of(serial), tap);
        };
        for (serial, tap) in next.taps().filter(|(_, tap)| !before.has(tap)) {
            let data = epoll::EventData::new_u64(serial.into());
            if let Err(error) = epoll::add(self.epoll_of(serial), tap, data, epoll::EventFlags::IN) {
                added.into_iter().for_each(forget);
                return Err(error).context("epoll");
            }
            added.push((serial, tap));
        }
        before.taps().filter(|(_, tap)| !next.has(tap)).for_each(forget);
        self.ports.store(Arc::new(next));
        for worker in &self.workers {
            rustix::io::write(&worker.wake, &1_u64.to_ne_bytes()).context("waking a worker")?;
        }
        let mut behind: Vec<_> = (0..self.workers.len()).collect();
        while !behind.is_empty() {
            // A worker that has ended forwards nothing, and takes the process with it.
            let Ok((worker, seen)) = turned.recv() else { break };
            behind.retain(|number| seen != generation || *number != worker);
        }
        Ok(())
    }
}

/// So many workers for a lab, and how to publish to them. `woken` is called when packets move after
/// [`Publisher::wake_me`].
///
/// # Errors
/// What epoll refuses.
pub fn workers(
    count: u16,
    engine: &Arc<Engine>,
    clock: Clock,
    woken: impl Fn() + Send + Sync + 'static,
) -> Result<(Vec<Worker>, Publisher), HostError> {
    let ports = Arc::new(ArcSwap::from_pointee(Ports::new(Snapshot::default(), Vec::new(), Backend::default())));
    let (turned, turns) = channel();
    let (asleep, woken): (Arc<AtomicBool>, Arc<dyn Fn() + Send + Sync>) = (Arc::default(), Arc::new(woken));
    let worker = |number| {
        Ok(Worker {
            number: usize::from(number),
            engine: Arc::clone(engine),
            ports: Arc::clone(&ports),
            clock,
            ears: Arc::new(Ears::new()?),
            turned: turned.clone(),
            asleep: Arc::clone(&asleep),
            woken: Arc::clone(&woken),
            flows: Cache::new(CAPACITY),
        })
    };
    let all: Vec<_> = (0..count.max(1)).map(worker).collect::<Result<_, HostError>>()?;
    let publisher = Publisher {
        workers: all.iter().map(|worker| Arc::clone(&worker.ears)).collect(),
        flows: all.iter().map(|worker| worker.flows.metrics()).collect(),
        turned: Mutex::new(turns),
        ports,
        asleep,
    };
    Ok((all, publisher))
}

impl Worker {
    /// Forwards until the process ends.
    ///
    /// # Errors
    /// When epoll fails.
    pub fn run(mut self) -> Result<(), HostError> {
        let mut published = arc_swap::Cache::new(Arc::clone(&self.ports));
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let mut buffer = vec![0; BUFFER];
        let mut generation = 0;
        // A part of the cache at a time, frames in between. Nobody sleeps for a time: to set a timer costs more than to
        // forward a frame.
        let mut tidying = false;
        loop {
            let at_once = tidying.then(Timespec::default);
            let ready = match epoll::wait(&self.ears.epoll, &mut events[..], at_once.as_ref()) {
                Err(Errno::INTR) => continue,
                result => result.context("epoll")?,
            };
            // Before the ports are looked at: somebody who publishes in between wakes again.
            if events[..ready].iter().any(|event| event.data.u64() == WAKE) {
                let _ = rustix::io::read(&self.ears.wake, &mut [0; 8]);
                tidying = true;
            }
            let now = self.clock.now();
            let ports = published.load();
            if ports.snapshot.generation != generation {
                generation = ports.snapshot.generation;
                // Nobody publishes any more when the other side is gone.
                let _ = self.turned.send((self.number, generation));
            }
            for event in &events[..ready] {
                // An interface that has just gone may still have been ready.
                let serial = u32::try_from(event.data.u64()).ok();
                let Some(&port) = serial.and_then(|serial| ports.ports.get(&serial)) else { continue };
                self.turn(ports, now, port, &mut buffer);
            }
            if tidying {
                tidying = !self.flows.tidy(now.tick());
            }
            // After the frames: whoever goes to sleep in between sees what they have changed.
            if self.asleep.load(SeqCst) && self.asleep.swap(false, SeqCst) {
                (self.woken)();
            }
        }
    }

    /// Forwards what a port has sent, or as much of it as a turn may take. Frames are read before they are forwarded: a
    /// few, and if those are of known flows as many as the buffer has room for.
    fn turn(&mut self, ports: &Ports, now: Now, port: u16, buffer: &mut [u8]) {
        let mut left = TURN;
        let mut at_once = FIRST;
        let mut more = true;
        while more && left > 0 {
            let (mut sent, mut free) = (ArrayVec::<_, TURN>::new(), &mut *buffer);
            for _ in 0..at_once.min(left) {
                if free.len() < LONGEST {
                    break;
                }
                let length = self.read(ports, port, free);
                more = length.is_some();
                let Some(length) = length else { break };
                left -= 1;
                let (frame, rest) = std::mem::take(&mut free).split_at_mut(length);
                free = rest;
                let Some((header, frame)) = frame.split_first_chunk_mut::<{ VnetHeader::LEN }>() else { continue };
                match VnetHeader::read(header) {
                    Ok(vnet) => sent.push(Sent { port, vnet, frame }),
                    Err(check) => self.engine.malformed(&ports.snapshot, now, port, check, frame),
                }
            }
            let emit = &mut |to, vnet: &VnetHeader, frame: &[u8]| write(ports, to, vnet, frame);
            let unknown = self.engine.process(&mut self.flows, &ports.snapshot, now, &mut sent, emit);
            left = left.saturating_sub(unknown * (UNKNOWN - 1));
            at_once = if unknown == 0 { TURN } else { FIRST };
        }
    }

    /// Reads a frame behind its header; how long both are together, or none if there is no frame.
    fn read(&self, ports: &Ports, port: u16, buffer: &mut [u8]) -> Option<usize> {
        let tap = ports.taps.get(usize::from(port))?.as_ref()?;
        // Without the kernel's, a header of zeros says that there is nothing to be said.
        let start = match ports.backend {
            Backend::VirtioNet => 0,
            Backend::TunTap => VnetHeader::LEN,
        };
        buffer[..start].fill(0);
        match rustix::io::read(tap, &mut buffer[start..]) {
            Ok(length) => Some(start + length),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(error) => {
                // Somebody has deleted the link in the guest: it would be ready, and fail, for ever.
                tracing::warn!(port, %error, "a TAP is gone");
                let _ = epoll::delete(&self.ears.epoll, tap);
                None
            }
        }
    }
}

/// A guest that is too slow loses frames, as on any link; the kernel counts them.
fn write(ports: &Ports, port: u16, vnet: &VnetHeader, frame: &[u8]) {
    let Some(Some(tap)) = ports.taps.get(usize::from(port)) else { return };
    let header = vnet.write();
    let parts = [std::io::IoSlice::new(&header), std::io::IoSlice::new(frame)];
    let parts = match ports.backend {
        Backend::VirtioNet => &parts[..],
        Backend::TunTap => &parts[1..],
    };
    let _ = rustix::io::writev(tap.as_fd(), parts);
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    use minivpc_dataplane::compile;
    use minivpc_dataplane::state::NatKey;
    use minivpc_testkit::random::{Random, world};

    use super::*;

    /// A wake for something else comes just before, behind frames that keep the worker busy.
    #[test]
    fn what_is_published_is_seen_whoever_else_wakes_the_worker() {
        const TIMES: u64 = 2_000;
        let engine = Arc::new(Engine::new(NatKey([0; 16])));
        let (workers, publisher) = workers(1, &engine, Clock::start(), || ()).unwrap();
        let wake = Arc::clone(&publisher.workers[0]);
        // They end with the process.
        workers.into_iter().for_each(|worker| _ = thread::spawn(|| worker.run()));
        let (guest, tap) = UnixDatagram::pair().unwrap();
        tap.set_nonblocking(true).unwrap();
        let tap = Arc::new(OwnedFd::from(tap));
        let world = world(&mut Random(1));
        let together = Arc::new(Barrier::new(2));
        let other = Arc::clone(&together);
        thread::spawn(move || {
            for time in 0..TIMES {
                other.wait();
                (0..time % 8).for_each(|_| _ = guest.send(&[0; 64]).unwrap());
                rustix::io::write(&wake.wake, &1_u64.to_ne_bytes()).unwrap();
            }
        });
        let (seen, all) = channel();
        thread::spawn(move || {
            for generation in 1..=TIMES {
                let snapshot = compile(&world, generation).unwrap();
                let ports = Ports::new(snapshot, vec![Some(Arc::clone(&tap))], Backend::default());
                together.wait();
                (0..generation % 61 * 16).for_each(|_| std::hint::spin_loop());
                publisher.publish(ports).unwrap();
                seen.send(generation).unwrap();
            }
        });
        for generation in 1..=TIMES {
            let seen = all.recv_timeout(Duration::from_secs(60));
            assert_eq!(seen, Ok(generation), "the worker hasn't seen what was published");
        }
    }
}
