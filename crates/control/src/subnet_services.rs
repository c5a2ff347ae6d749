//! What subnets offer by TCP: the guest behind their port, and the thread that answers there.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use minivpc_dataplane::services::{port, resolve};
use minivpc_dataplane::{HOST_TTL, INTERFACE_MTU};
use minivpc_host::guest::Setup;
use minivpc_host::{Backend, GuestSpec, HostError, InterfaceSpec, Keeper};
use minivpc_model::{Serial, World};
use minivpc_services::subnet::{Lab, Listeners, serve as serve_subnets};

use crate::running::Running;

/// The guest's name, which no instance and no host has.
pub(crate) const GUEST: &str = "services";
/// Where servers listen there: for names, and for metadata.
const PORTS: [u16; 2] = [53, 80];

/// The TAP of the port, of the guest that an engine before has left or of a new one.
pub(crate) fn tap(keeper: &Keeper, backend: Backend) -> Result<Arc<OwnedFd>, HostError> {
    let has = keeper.guests()?.iter().any(|guest| guest.name == GUEST);
    let taps = if has { keeper.taps(GUEST)? } else { keeper.create_guest(&spec(backend))? };
    let tap = taps.into_iter().next().ok_or_else(|| HostError::Keeper("sent no TAP".to_owned()))?;
    Ok(Arc::new(tap))
}

fn spec(backend: Backend) -> GuestSpec {
    let interface = InterfaceSpec {
        name: "eth0".to_owned(),
        mac: port::MACS.0.0,
        address: port::ADDRESS,
        secondary: Vec::new(),
        prefix: 32,
        gateway: port::ROUTER,
        mtu: INTERFACE_MTU.into(),
    };
    GuestSpec {
        name: GUEST.to_owned(),
        hostname: GUEST.to_owned(),
        default_ttl: HOST_TTL,
        sysctls: Vec::new(),
        interfaces: vec![interface],
        block: Some((port::CALLED.network(), port::CALLED.prefix_len())),
        backend,
        resolver: None,
        setup: Setup::First,
        control: None,
    }
}

/// Answers from now on, in a thread of its own.
pub(crate) fn serve(running: &Arc<Running>) -> Result<(), HostError> {
    let sockets = running.keeper.listen(GUEST, &PORTS)?;
    let [resolver, metadata] =
        <[TcpListener; 2]>::try_from(sockets).map_err(|_| HostError::Keeper("sent too few sockets".to_owned()))?;
    let lab: Arc<dyn Lab> = Arc::clone(running) as _;
    let listeners = Listeners { resolver, metadata };
    let serve = move || {
        let failed = serve_subnets(&lab, listeners);
        tracing::error!(?failed, "the subnets' services ended");
        // The keeper starts an engine that has them.
        std::process::exit(1);
    };
    let thread = std::thread::Builder::new().name("services".to_owned()).spawn(serve);
    thread.map(drop).map_err(|source| HostError::System { what: "starting a thread".to_owned(), source })
}

impl Lab for Running {
    fn caller(&self, called: Ipv4Addr) -> Option<Serial> {
        port::caller(called)
    }

    fn resolve(&self, caller: Serial, question: &[u8]) -> Option<Vec<u8>> {
        resolve(&self.publisher.load().snapshot, caller, question)
    }

    fn world(&self) -> Arc<World> {
        self.published.load_full()
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        let signature = self.authority.sign(text);
        signature.inspect_err(|error| tracing::error!(%error, "signing")).unwrap_or_default()
    }

    fn key(&self) -> [u8; 16] {
        self.base.key.0
    }
}
