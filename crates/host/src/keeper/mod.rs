//! The keeper: a small process with one thread that makes and holds a lab's namespaces, and a descriptor of each TAP, so
//! that engines may come and go. No packet passes it.
//!
//! Nothing that it makes is pinned in the file system: when it ends, however it ends, the kernel takes all back.

mod client;
mod engine;
mod protocol;
pub(crate) mod user_namespace;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal, waitid};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

pub use client::{Keeper, Process};
use engine::Engine;
use protocol::{Reply, Request, receive, send};

use crate::error::{Context, HostError};
use crate::guest::network::GuestNetwork;
use crate::guest::{GuestSpec, GuestState, Outside, init, network};
use crate::process::go_first;

struct Guest {
    spec: GuestSpec,
    network: GuestNetwork,
    /// PID 1, from the first command on.
    init: Option<OwnedFd>,
}

/// What the keeper keeps.
#[derive(Default)]
struct Lab {
    guests: BTreeMap<String, Guest>,
    outside: Outside,
    engine: Option<Engine>,
    /// The lab is up, and outlives who made it.
    committed: bool,
    end: Option<End>,
}

/// Why a keeper has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody asked it to.
    Asked,
    /// Who made the lab went before it was up, and nobody clears up after it.
    Abandoned,
    /// The engine died again and again.
    NoEngine,
}

/// Serves requests on a listening socket until somebody asks it to end.
///
/// Must be called in a process with one thread.
///
/// # Errors
/// When the user namespace can't be made or the socket fails. What a request needs and can't get is answered to it.
pub fn run_keeper(listener: OwnedFd) -> Result<End, HostError> {
    rustix::process::setsid().context("setsid")?;
    std::env::set_current_dir("/").context("/")?;
    // Inherited by the engine, which couldn't from inside the user namespace.
    go_first();
    user_namespace::enter()?;
    let home = Home::new()?;
    let mut lab = Lab::default();
    let mut clients: Vec<OwnedFd> = Vec::new();
    loop {
        let ready: Vec<bool> = {
            let engine = lab.engine.as_ref().map(|engine| &engine.process);
            let descriptors = std::iter::once(&listener).chain(&clients).chain(engine);
            let mut polled: Vec<_> = descriptors.map(|descriptor| PollFd::new(descriptor, PollFlags::IN)).collect();
            match poll(&mut polled, None) {
                Err(Errno::INTR) => continue,
                result => result.context("poll")?,
            };
            polled.iter().map(|descriptor| !descriptor.revents().is_empty()).collect()
        };
        if ready.get(1 + clients.len()) == Some(&true) {
            lab.engine = lab.engine.take().and_then(Engine::revive);
            if lab.engine.is_none() && lab.committed {
                lab.end.get_or_insert(End::NoEngine);
            }
        }
        let mut at = 0;
        clients.retain(|client| {
            at += 1;
            let stays = !ready[at] || serve(client, &mut lab);
            // Who made the lab has the first connection. Before it is up, it goes with him.
            if !stays && at == 1 && !lab.committed {
                lab.end.get_or_insert(End::Abandoned);
            }
            stays
        });
        home.go()?;
        if let Some(why) = lab.end {
            lab.engine.take().into_iter().for_each(Engine::end);
            lab.guests.values_mut().for_each(end);
            return Ok(why);
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

/// A network namespace where the keeper is when it is in no guest's: whoever is in one keeps it alive.
pub(crate) struct Home(OwnedFd);

impl Home {
    pub(crate) fn new() -> Result<Self, HostError> {
        // SAFETY: NEWNET leaves the descriptor table alone.
        let made = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
        made.map_err(|source| match source {
            Errno::PERM => HostError::Restricted { source: source.into() },
            other => HostError::System { what: "making a network namespace".to_owned(), source: other.into() },
        })?;
        Ok(Self(File::open("/proc/thread-self/ns/net").context("/proc/thread-self/ns/net")?.into()))
    }

    fn go(&self) -> Result<(), HostError> {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).context("leaving a guest's network")
    }
}

type Answer = Result<(Reply, Vec<OwnedFd>), HostError>;

/// One request. False when the client is done, or says what nobody understands.
fn serve(client: &OwnedFd, lab: &mut Lab) -> bool {
    let Ok(Some((request, descriptors))) = receive::<Request>(client.as_fd()) else { return false };
    let answer = answer(request, descriptors, lab);
    let (reply, descriptors) = answer.unwrap_or_else(|error| (Reply::Failed(error.to_string()), Vec::new()));
    send(client, &reply, &descriptors).is_ok()
}

fn answer(request: Request, descriptors: Vec<OwnedFd>, lab: &mut Lab) -> Answer {
    let done = Ok((Reply::Done, Vec::new()));
    match request {
        Request::Hello => done,
        Request::Commit => {
            lab.committed = true;
            done
        }
        Request::Shutdown => {
            lab.end = Some(End::Asked);
            lab.guests.values_mut().for_each(end);
            let own = pidfd_open(getpid(), PidfdFlags::empty()).context("pidfd_open")?;
            Ok((Reply::Done, vec![own]))
        }
        Request::StartEngine { arguments } => {
            let [output, log] = <[OwnedFd; 2]>::try_from(descriptors)
                .map_err(|_| HostError::Keeper("the engine needs an output and a log".to_owned()))?;
            lab.engine = Some(Engine::start(arguments, output, log)?);
            done
        }
        Request::Serving => {
            if let Some(engine) = &mut lab.engine {
                engine.serves();
            }
            done
        }
        Request::Outside(outside) => {
            lab.outside = outside;
            done
        }
        Request::CreateGuest(spec) => Ok((Reply::Done, create(&mut lab.guests, spec)?)),
        Request::Guests => {
            let state = |guest: &Guest| GuestState { name: guest.spec.name.clone(), entered: guest.init.is_some() };
            Ok((Reply::Guests(lab.guests.values().map(state).collect()), Vec::new()))
        }
        Request::Taps { guest } => Ok((Reply::Done, find(&mut lab.guests, &guest)?.network.taps()?)),
        Request::RemoveGuest { guest } => {
            end(find(&mut lab.guests, &guest)?);
            lab.guests.remove(&guest);
            done
        }
        Request::Assign { guest, interfaces } => {
            let guest = find(&mut lab.guests, &guest)?;
            guest.network.enter()?;
            let added = guest.network.assign(&interfaces)?;
            guest.spec.interfaces = interfaces;
            Ok((Reply::Done, added))
        }
        Request::Listen { guest, ports } => {
            find(&mut lab.guests, &guest)?.network.enter()?;
            Ok((Reply::Done, GuestNetwork::listen(&ports)?))
        }
        Request::Enter { guest } => Ok((Reply::Done, vec![enter(find(&mut lab.guests, &guest)?, &lab.outside)?])),
        Request::LinkStats { guest } => {
            Ok((Reply::LinkStats(find(&mut lab.guests, &guest)?.network.stats(&guest)?), Vec::new()))
        }
    }
}

fn find<'a>(guests: &'a mut BTreeMap<String, Guest>, name: &str) -> Result<&'a mut Guest, HostError> {
    guests.get_mut(name).ok_or_else(|| HostError::NoGuest(name.to_owned()))
}

fn create(guests: &mut BTreeMap<String, Guest>, spec: GuestSpec) -> Result<Vec<OwnedFd>, HostError> {
    if guests.contains_key(&spec.name) {
        return Err(HostError::Keeper(format!("there is a guest '{}' already", spec.name)));
    }
    let network = network::create(&spec)?;
    let taps = network.taps()?;
    guests.insert(spec.name.clone(), Guest { spec, network, init: None });
    Ok(taps)
}

fn enter(guest: &mut Guest, outside: &Outside) -> Result<OwnedFd, HostError> {
    let init = match guest.init.take() {
        Some(init) if lives(&init) => init,
        dead => {
            if let Some(dead) = dead {
                let _ = waitid(WaitId::PidFd(dead.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
            guest.network.enter()?;
            init::start(&guest.spec, outside)?
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
