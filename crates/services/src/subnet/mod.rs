//! What subnets offer their interfaces by TCP: names, and metadata.
//!
//! All interfaces of a lab come to the same two listening sockets. Each calls by an address of its own, which tells who
//! asks; see `minivpc_dataplane::services::port`.

mod dns;
mod metadata;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use minivpc_model::{Serial, World};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Connections at once to a service, of all interfaces and of one. Further ones of all wait; of one are closed at once (IMDS-5).
const MOST: usize = 1024;
const MOST_OF_ONE: u16 = 32;
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lab, as far as these servers have to know it.
pub trait Lab: Send + Sync {
    /// The interface that calls them by this address, by its number in flow state.
    fn caller(&self, called: Ipv4Addr) -> Option<Serial>;
    /// What the resolver answers to a message of an interface; none to nonsense.
    fn resolve(&self, caller: Serial, question: &[u8]) -> Option<Vec<u8>>;
    /// The world as it is now.
    fn world(&self) -> Arc<World>;
    /// The signature of a text by the lab's key.
    fn sign(&self, text: &[u8]) -> Vec<u8>;
    /// Makes tokens that nobody else can make.
    fn key(&self) -> [u8; 16];
}

/// Where they listen.
pub struct Listeners {
    /// For names, on port 53.
    pub resolver: std::net::TcpListener,
    /// For metadata, on port 80.
    pub metadata: std::net::TcpListener,
}

/// Answers, until the process ends.
///
/// # Errors
/// When a listener can't be used.
pub fn serve(lab: &Arc<dyn Lab>, listeners: Listeners) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let [resolver, metadata] = [listener(listeners.resolver)?, listener(listeners.metadata)?];
        let names = each(resolver, lab, dns::converse);
        tokio::try_join!(names, each(metadata, lab, metadata::converse)).map(drop)
    })
}

fn listener(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Accepts connections, and serves each for a bounded time.
async fn each<F>(
    listener: TcpListener,
    lab: &Arc<dyn Lab>,
    serve: impl Fn(Arc<dyn Lab>, Serial, TcpStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MOST));
    let callers = Arc::new(Callers::default());
    loop {
        let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Too many descriptors, or a client that has gone: others are served on.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let caller = match stream.local_addr() {
            Ok(SocketAddr::V4(called)) => lab.caller(*called.ip()),
            _ => None,
        };
        let Some(busy) = caller.and_then(|caller| Callers::admit(&callers, caller)) else { continue };
        let served = serve(Arc::clone(lab), busy.caller, stream);
        tokio::spawn(async move {
            let _ = timeout(PATIENCE, served).await;
            drop((permit, busy));
        });
    }
}

/// How many connections each interface has, of those that have any.
#[derive(Default)]
struct Callers(Mutex<HashMap<Serial, u16>>);

/// A connection that counts.
struct Busy {
    caller: Serial,
    all: Arc<Callers>,
}

impl Callers {
    /// None if it has as many as it may.
    fn admit(all: &Arc<Self>, caller: Serial) -> Option<Busy> {
        let mut counts = all.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(caller).or_default();
        if *count == MOST_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Busy { caller, all: Arc::clone(all) })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.caller);
            }
        }
    }
}
