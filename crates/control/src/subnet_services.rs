//! What subnets offer by TCP: the guest behind their port, and the thread that answers there.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use minivpc_dataplane::services::{port, resolve};
use minivpc_dataplane::{HOST_TTL, INTERFACE_MTU};
use minivpc_host::guest::Setup;
use minivpc_host::{Backend, GuestSpec, HostError, InterfaceSpec, Keeper};
use minivpc_services::subnet::{Listeners, Subnets};

use crate::running::Running;

/// The guest's name, which no instance and no host has.
pub(crate) const GUEST: &str = "services";
const RESOLVER: u16 = 53;

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
    let mut sockets = running.keeper.listen(GUEST, &[RESOLVER])?.into_iter();
    let missing = || HostError::Keeper("sent too few sockets".to_owned());
    let listeners = Listeners { resolver: sockets.next().ok_or_else(missing)? };
    let knows = Arc::clone(running);
    let subnets = Subnets {
        caller: port::caller,
        resolve: Box::new(move |interface, question| resolve(&knows.publisher.load().snapshot, interface, question)),
    };
    let serve = move || {
        let failed = subnets.serve(listeners);
        tracing::error!(?failed, "the subnets' services ended");
    };
    let thread = std::thread::Builder::new().name("services".to_owned()).spawn(serve);
    thread.map(drop).map_err(|source| HostError::System { what: "starting a thread".to_owned(), source })
}
