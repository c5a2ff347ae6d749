//! The keeper: a small process with one thread that makes and holds a lab's namespaces. No packet passes it.
//!
//! Nothing that it makes is pinned in the file system: when it ends, however it ends, the kernel takes all back.

mod client;
mod protocol;
mod user_namespace;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal, waitid};

pub use client::{Keeper, Process};
use protocol::{Reply, Request, receive, send};

use crate::error::{Context, HostError};
use crate::guest::network::GuestNetwork;
use crate::guest::{GuestSpec, InterfaceSpec, init, network};

struct Guest {
    spec: GuestSpec,
    network: GuestNetwork,
    /// PID 1, from the first command on.
    init: Option<OwnedFd>,
}

/// Serves requests on a listening socket until somebody asks it to end.
///
/// Must be called in a process with one thread.
///
/// # Errors
/// When the user namespace can't be made or the socket fails. What a request needs and can't get is answered to it.
pub fn run_keeper(listener: OwnedFd) -> Result<(), HostError> {
    rustix::process::setsid().context("setsid")?;
    std::env::set_current_dir("/").context("/")?;
    user_namespace::enter()?;
    let mut guests = BTreeMap::new();
    let mut clients: Vec<OwnedFd> = Vec::new();
    loop {
        let ready: Vec<bool> = {
            let sockets = std::iter::once(&listener).chain(&clients);
            let mut polled: Vec<_> = sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
            match poll(&mut polled, None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result.context("poll")?,
            };
            polled.iter().map(|socket| !socket.revents().is_empty()).collect()
        };
        let mut at = 0;
        let mut shutdown = false;
        clients.retain(|client| {
            at += 1;
            !ready[at] || serve(client, &mut guests, &mut shutdown)
        });
        if shutdown {
            return Ok(());
        }
        if ready[0] {
            match accept_with(&listener, SocketFlags::CLOEXEC) {
                Ok(client) => clients.push(client),
                // Too many descriptors, or a client that has gone: the guests go on.
                Err(error) => tracing::warn!(%error, "accept"),
            }
        }
    }
}

/// One request. False when the client is done, or says what nobody understands.
fn serve(client: &OwnedFd, guests: &mut BTreeMap<String, Guest>, shutdown: &mut bool) -> bool {
    let Ok(Some((request, _))) = receive::<Request>(client.as_fd()) else { return false };
    let (reply, descriptors) = match request {
        Request::Hello => (Reply::Done, Vec::new()),
        Request::Shutdown => {
            *shutdown = true;
            guests.values_mut().for_each(end);
            match pidfd_open(getpid(), PidfdFlags::empty()) {
                Ok(own) => (Reply::Done, vec![own]),
                Err(error) => (Reply::Failed(error.to_string()), Vec::new()),
            }
        }
        Request::CreateGuest(spec) => match create(guests, spec) {
            Ok(taps) => (Reply::Done, taps),
            Err(error) => (Reply::Failed(error.to_string()), Vec::new()),
        },
        Request::RemoveGuest { guest } => (done(remove(guests, &guest)), Vec::new()),
        Request::Assign { guest, interfaces } => (done(assign(guests, &guest, &interfaces)), Vec::new()),
        Request::Enter { guest } => match enter(guests, &guest) {
            Ok(init) => (Reply::Done, vec![init]),
            Err(error) => (Reply::Failed(error.to_string()), Vec::new()),
        },
        Request::LinkStats { guest } => match find(guests, &guest).and_then(|g| g.network.stats(&guest)) {
            Ok(stats) => (Reply::LinkStats(stats), Vec::new()),
            Err(error) => (Reply::Failed(error.to_string()), Vec::new()),
        },
    };
    send(client, &reply, &descriptors).is_ok()
}

fn find<'a>(guests: &'a mut BTreeMap<String, Guest>, name: &str) -> Result<&'a mut Guest, HostError> {
    guests.get_mut(name).ok_or_else(|| HostError::NoGuest(name.to_owned()))
}

fn create(guests: &mut BTreeMap<String, Guest>, spec: GuestSpec) -> Result<Vec<OwnedFd>, HostError> {
    if guests.contains_key(&spec.name) {
        return Err(HostError::Keeper(format!("there is a guest '{}' already", spec.name)));
    }
    let (network, taps) = network::create(&spec)?;
    guests.insert(spec.name.clone(), Guest { spec, network, init: None });
    Ok(taps)
}

fn done(result: Result<(), HostError>) -> Reply {
    result.map_or_else(|error| Reply::Failed(error.to_string()), |()| Reply::Done)
}

fn remove(guests: &mut BTreeMap<String, Guest>, name: &str) -> Result<(), HostError> {
    end(find(guests, name)?);
    guests.remove(name);
    Ok(())
}

fn assign(guests: &mut BTreeMap<String, Guest>, name: &str, interfaces: &[InterfaceSpec]) -> Result<(), HostError> {
    let guest = find(guests, name)?;
    interfaces.iter().try_for_each(|interface| guest.network.assign(interface))
}

fn enter(guests: &mut BTreeMap<String, Guest>, name: &str) -> Result<OwnedFd, HostError> {
    let guest = find(guests, name)?;
    let init = match guest.init.take() {
        Some(init) if lives(&init) => init,
        dead => {
            if let Some(dead) = dead {
                let _ = waitid(WaitId::PidFd(dead.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
            guest.network.enter()?;
            init::start(&guest.spec)?
        }
    };
    let copy = init.try_clone().context("duplicating a pidfd");
    guest.init = Some(init);
    copy
}

/// Kills all processes of a guest, and waits for the last: when PID 1 can be reaped, the others are gone. A command
/// whose `minivpc exec` is stopped can't be reaped; nobody waits for long for that.
fn end(guest: &mut Guest) {
    const PATIENCE: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 2, tv_nsec: 0 };
    let Some(init) = guest.init.take() else { return };
    let _ = pidfd_send_signal(&init, Signal::KILL);
    let _ = poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&PATIENCE));
    let _ = waitid(WaitId::PidFd(init.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
}

/// A pidfd becomes readable when its process ends.
fn lives(init: &OwnedFd) -> bool {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(init, PollFlags::IN)], Some(&now)), Ok(0))
}
