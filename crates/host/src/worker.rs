//! The packet loop: a plain thread that owns some TAPs' reading sides, and the clock.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Cache};
use minivpc_dataplane::{Engine, Now, Snapshot};
use minivpc_packet::VnetHeader;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;

use crate::clock::Clock;
use crate::error::{Context, HostError};
use crate::tap::Backend;

/// Longest frame: a 64 KiB packet behind its Ethernet and virtio-net headers.
const LONGEST: usize = VnetHeader::LEN + 14 + 65_535;
/// Frames per TAP and turn, so that no guest starves another.
const BURST: usize = 64;

/// What is published at once: a snapshot, and the TAPs of its ports. A descriptor lives as long as a snapshot that
/// names it, so its number can't be used again under a worker.
pub struct Ports {
    /// The world.
    pub snapshot: Snapshot,
    /// The TAP of each interface; none where no guest stands behind.
    taps: Vec<Option<Arc<OwnedFd>>>,
    /// What they are.
    backend: Backend,
    /// The number that an interface has in this snapshot, by the number that it always has.
    ports: HashMap<u32, u16>,
}

impl Ports {
    /// `taps` are in the order of the snapshot's interfaces.
    #[must_use]
    pub fn new(snapshot: Snapshot, taps: Vec<Option<Arc<OwnedFd>>>, backend: Backend) -> Self {
        let ports = snapshot.enis.iter().zip(0..).map(|(eni, port)| (eni.serial.0, port)).collect();
        Self { snapshot, taps, backend, ports }
    }

    fn taps(&self) -> impl Iterator<Item = (u32, &Arc<OwnedFd>)> {
        let enis = self.snapshot.enis.iter().zip(&self.taps);
        enis.filter_map(|(eni, tap)| Some((eni.serial.0, tap.as_ref()?)))
    }

    fn has(&self, tap: &Arc<OwnedFd>) -> bool {
        self.taps.iter().flatten().any(|other| Arc::ptr_eq(other, tap))
    }
}

/// What epoll says when somebody has published; interfaces are named by their serials, which are shorter.
const WAKE: u64 = u64::MAX;

/// Moves the frames of a lab.
pub struct Worker {
    engine: Arc<Engine>,
    ports: Arc<ArcSwap<Ports>>,
    clock: Clock,
    epoll: Arc<OwnedFd>,
    wake: Arc<OwnedFd>,
    turned: Sender<u64>,
    asleep: Arc<AtomicBool>,
    woken: Box<dyn Fn() + Send>,
}

/// Changes the world under a worker.
pub struct Publisher {
    ports: Arc<ArcSwap<Ports>>,
    epoll: Arc<OwnedFd>,
    wake: Arc<OwnedFd>,
    turned: Mutex<Receiver<u64>>,
    asleep: Arc<AtomicBool>,
}

impl Publisher {
    /// Asks to be told, by the worker's `woken`, when packets move again.
    pub fn wake_me(&self) {
        self.asleep.store(true, SeqCst);
    }

    /// What is published now.
    #[must_use]
    pub fn load(&self) -> Arc<Ports> {
        self.ports.load_full()
    }

    /// Publishes `next`, and returns when no frame is forwarded by what was published before.
    ///
    /// # Errors
    /// What epoll refuses; nothing is published then.
    pub fn publish(&self, next: Ports) -> Result<(), HostError> {
        let turned = self.turned.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, generation) = (self.load(), next.snapshot.generation);
        let mut added: Vec<&Arc<OwnedFd>> = Vec::new();
        // Not an error of anybody's: a guest's link may be gone, and its TAP with it.
        let forget = |tap: &Arc<OwnedFd>| {
            let _ = epoll::delete(&self.epoll, tap);
        };
        for (serial, tap) in next.taps().filter(|(_, tap)| !before.has(tap)) {
            let data = epoll::EventData::new_u64(serial.into());
            if let Err(error) = epoll::add(&self.epoll, tap, data, epoll::EventFlags::IN) {
                added.into_iter().for_each(forget);
                return Err(error).context("epoll");
            }
            added.push(tap);
        }
        before.taps().filter(|(_, tap)| !next.has(tap)).for_each(|(_, tap)| forget(tap));
        self.ports.store(Arc::new(next));
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).context("waking the worker")?;
        while turned.recv().is_ok_and(|seen| seen != generation) {}
        Ok(())
    }
}

impl Worker {
    /// A worker for a lab, and how to publish to it. `woken` is called when packets move after [`Publisher::wake_me`].
    ///
    /// # Errors
    /// What epoll refuses.
    pub fn new(
        engine: Arc<Engine>,
        clock: Clock,
        woken: impl Fn() + Send + 'static,
    ) -> Result<(Self, Publisher), HostError> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("eventfd")?;
        let wake = Arc::new(wake);
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN).context("epoll")?;
        let ports = Arc::new(ArcSwap::from_pointee(Ports::new(Snapshot::default(), Vec::new(), Backend::default())));
        let (turned, turns) = channel();
        let publisher = Publisher {
            ports: Arc::clone(&ports),
            epoll: Arc::clone(&epoll),
            wake: Arc::clone(&wake),
            turned: Mutex::new(turns),
            asleep: Arc::default(),
        };
        let (asleep, woken) = (Arc::clone(&publisher.asleep), Box::new(woken));
        Ok((Self { engine, ports, clock, epoll, wake, turned, asleep, woken }, publisher))
    }

    /// Forwards until the process ends.
    ///
    /// # Errors
    /// When epoll fails.
    pub fn run(self) -> Result<(), HostError> {
        let mut cache = Cache::new(Arc::clone(&self.ports));
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let mut buffer = vec![0; LONGEST];
        let mut generation = 0;
        loop {
            let ready = match epoll::wait(&self.epoll, &mut events[..], None) {
                Err(Errno::INTR) => continue,
                result => result.context("epoll")?,
            };
            let now = self.clock.now();
            let ports = cache.load();
            if ports.snapshot.generation != generation {
                generation = ports.snapshot.generation;
                // Nobody publishes any more when the other side is gone.
                let _ = self.turned.send(generation);
            }
            for event in &events[..ready] {
                let token = event.data.u64();
                if token == WAKE {
                    let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                }
                // An interface that has just gone may still have been ready.
                let serial = u32::try_from(token).ok();
                let Some(&port) = serial.and_then(|serial| ports.ports.get(&serial)) else { continue };
                for _ in 0..BURST {
                    if !self.frame(ports, now, port, &mut buffer) {
                        break;
                    }
                }
            }
            // After the frames: whoever goes to sleep in between sees what they have changed.
            if self.asleep.load(SeqCst) && self.asleep.swap(false, SeqCst) {
                (self.woken)();
            }
        }
    }

    /// Reads and forwards one frame; false when there is none.
    fn frame(&self, ports: &Ports, now: Now, port: u16, buffer: &mut [u8]) -> bool {
        let Some(Some(tap)) = ports.taps.get(usize::from(port)) else { return false };
        // Without the kernel's, a header of zeros says that there is nothing to be said.
        let start = match ports.backend {
            Backend::VirtioNet => 0,
            Backend::TunTap => VnetHeader::LEN,
        };
        buffer[..start].fill(0);
        let length = match rustix::io::read(tap, &mut buffer[start..]) {
            Ok(length) => start + length,
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Err(error) => {
                // Somebody has deleted the link in the guest: it would be ready, and fail, for ever.
                tracing::warn!(port, %error, "a TAP is gone");
                let _ = epoll::delete(&self.epoll, tap);
                return false;
            }
        };
        let Some((header, frame)) = buffer[..length].split_first_chunk_mut::<{ VnetHeader::LEN }>() else {
            return true;
        };
        match VnetHeader::read(header) {
            Ok(mut vnet) => {
                self.engine.process(&ports.snapshot, now, port, &mut vnet, frame, &mut |to, vnet, frame| {
                    write(ports, to, vnet, frame);
                })
            }
            Err(check) => self.engine.malformed(&ports.snapshot, now, port, check, frame),
        }
        true
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
