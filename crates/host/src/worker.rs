//! The packet loop: a plain thread that owns some TAPs' reading sides, and the clock.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Cache};
use minivpc_dataplane::{Engine, Now, Snapshot};
use minivpc_packet::VnetHeader;
use rustix::event::epoll;
use rustix::io::Errno;

use crate::error::{Context, HostError};

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
    pub taps: Vec<Option<Arc<OwnedFd>>>,
}

/// Moves the frames of a lab.
pub struct Worker {
    engine: Arc<Engine>,
    ports: Arc<ArcSwap<Ports>>,
    clock: Instant,
    epoll: OwnedFd,
}

impl Worker {
    /// A worker for all ports that are published now. `clock` is when the lab came up.
    ///
    /// # Errors
    /// What epoll refuses.
    pub fn new(engine: Arc<Engine>, ports: Arc<ArcSwap<Ports>>, clock: Instant) -> Result<Self, HostError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?;
        for (port, tap) in (0_u64..).zip(&ports.load().taps) {
            if let Some(tap) = tap {
                epoll::add(&epoll, tap, epoll::EventData::new_u64(port), epoll::EventFlags::IN).context("epoll")?;
            }
        }
        Ok(Self { engine, ports, clock, epoll })
    }

    /// Forwards until the process ends.
    ///
    /// # Errors
    /// When epoll fails.
    pub fn run(self) -> Result<(), HostError> {
        let mut cache = Cache::new(Arc::clone(&self.ports));
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let mut buffer = vec![0; LONGEST];
        loop {
            let ready = match epoll::wait(&self.epoll, &mut events[..], None) {
                Err(Errno::INTR) => continue,
                result => result.context("epoll")?,
            };
            let now = Now(self.clock.elapsed().as_nanos() as u64);
            let ports = cache.load();
            for event in &events[..ready] {
                let port = event.data.u64() as u16;
                for _ in 0..BURST {
                    if !self.frame(ports, now, port, &mut buffer) {
                        break;
                    }
                }
            }
        }
    }

    /// Reads and forwards one frame; false when there is none.
    fn frame(&self, ports: &Ports, now: Now, port: u16, buffer: &mut [u8]) -> bool {
        let Some(Some(tap)) = ports.taps.get(usize::from(port)) else { return false };
        let length = match rustix::io::read(tap, &mut *buffer) {
            Ok(length) => length,
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
            Err(check) => self.engine.malformed(&ports.snapshot, now, port, check),
        }
        true
    }
}

/// A guest that is too slow loses frames, as on any link; the kernel counts them.
fn write(ports: &Ports, port: u16, vnet: &VnetHeader, frame: &[u8]) {
    let Some(Some(tap)) = ports.taps.get(usize::from(port)) else { return };
    let header = vnet.write();
    let parts = [std::io::IoSlice::new(&header), std::io::IoSlice::new(frame)];
    let _ = rustix::io::writev(tap.as_fd(), &parts);
}
