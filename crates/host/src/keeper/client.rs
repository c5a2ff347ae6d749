//! Talking to a keeper.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use rustix::process::{PidfdFlags, pidfd_open};

use super::protocol::{Reply, Request, receive, send};
use crate::error::{Context, HostError};
use crate::guest::{GuestSpec, GuestState, InterfaceSpec, LinkStats, Outside};

/// A connection to a lab's keeper.
pub struct Keeper {
    socket: OwnedFd,
}

impl Keeper {
    /// Starts a keeper that listens at `path`: `command` must end up in [`run_keeper`](super::run_keeper) with its
    /// standard input as the listening socket.
    ///
    /// # Errors
    /// When the socket can't be made, or `path` is taken, or the command can't be started.
    pub fn spawn(mut command: Command, path: &Path) -> Result<Self, HostError> {
        let what = || path.display().to_string();
        if path.metadata().is_ok_and(|meta| meta.file_type().is_socket()) {
            std::fs::remove_file(path).context(what())?;
        }
        let listener = seqpacket()?;
        bind(&listener, &SocketAddrUnix::new(path).context(what())?).context(what())?;
        listen(&listener, 64).context(what())?;
        command.stdin(Stdio::from(listener)).spawn().context("starting the keeper")?;
        // Its copy of the listening socket goes with it, so that a keeper that doesn't come up is noticed.
        drop(command);
        let keeper = Self::connect(path)?;
        keeper.ask(&Request::Hello)?;
        Ok(keeper)
    }

    /// Connects to the keeper that listens at `path`.
    ///
    /// # Errors
    /// When there is none.
    pub fn connect(path: &Path) -> Result<Self, HostError> {
        let what = || path.display().to_string();
        let socket = seqpacket()?;
        connect(&socket, &SocketAddrUnix::new(path).context(what())?).context(what())?;
        Ok(Self { socket })
    }

    /// From now on the lab outlives this connection. A keeper whose maker goes before that ends, and the lab with it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn commit(&self) -> Result<(), HostError> {
        self.ask(&Request::Commit).map(drop)
    }

    /// Starts the lab's engine, this program with these arguments. It dies with the keeper, and is started again when it
    /// dies alone.
    ///
    /// # Errors
    /// What the machine refuses.
    pub fn start_engine(&self, arguments: Vec<OsString>, output: OwnedFd, log: OwnedFd) -> Result<(), HostError> {
        let request = Request::StartEngine { arguments };
        send(&self.socket, &request, &[output, log]).context("asking the keeper")?;
        self.answer().map(drop)
    }

    /// Said by the engine: it works, and shall be started again when it dies.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn serving(&self) -> Result<(), HostError> {
        self.ask(&Request::Serving).map(drop)
    }

    /// All guests.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn guests(&self) -> Result<Vec<GuestState>, HostError> {
        match self.ask(&Request::Guests)?.0 {
            Reply::Guests(guests) => Ok(guests),
            _ => Err(HostError::Keeper("sent no guests".to_owned())),
        }
    }

    /// The TAPs of a guest, one per interface.
    ///
    /// # Errors
    /// When there is no such guest.
    pub fn taps(&self, guest: &str) -> Result<Vec<OwnedFd>, HostError> {
        self.ask(&Request::Taps { guest: guest.to_owned() }).map(|(_, taps)| taps)
    }

    /// What guests know of the lab's internet, from their first command on; those that had one know what they knew.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn outside(&self, outside: Outside) -> Result<(), HostError> {
        self.ask(&Request::Outside(outside)).map(drop)
    }

    /// Makes a guest's network; its TAPs, one per interface.
    ///
    /// # Errors
    /// What the machine refuses.
    pub fn create_guest(&self, spec: &GuestSpec) -> Result<Vec<OwnedFd>, HostError> {
        self.ask(&Request::CreateGuest(spec.clone())).map(|(_, taps)| taps)
    }

    /// Ends all processes of a guest, and takes its network away once the last descriptor of its TAPs is closed.
    ///
    /// # Errors
    /// When there is no such guest.
    pub fn remove_guest(&self, guest: &str) -> Result<(), HostError> {
        self.ask(&Request::RemoveGuest { guest: guest.to_owned() }).map(drop)
    }

    /// Gives a guest these interfaces with these secondary addresses, and takes others away; the TAPs of those that it
    /// has not had. An interface that has another one's name works once a list is without the other.
    ///
    /// # Errors
    /// When there is no such guest, or what the machine refuses; what was done before stays.
    pub fn assign(&self, guest: &str, interfaces: &[InterfaceSpec]) -> Result<Vec<OwnedFd>, HostError> {
        let request = Request::Assign { guest: guest.to_owned(), interfaces: interfaces.to_vec() };
        self.ask(&request).map(|(_, taps)| taps)
    }

    /// Sockets that listen in a guest on all of its addresses, one for each TCP port.
    ///
    /// # Errors
    /// When there is no such guest, or a port is taken.
    pub fn listen(&self, guest: &str, ports: &[u16]) -> Result<Vec<TcpListener>, HostError> {
        let request = Request::Listen { guest: guest.to_owned(), ports: ports.to_vec() };
        self.ask(&request).map(|(_, sockets)| sockets.into_iter().map(TcpListener::from).collect())
    }

    /// A pidfd of the guest's PID 1, for [`exec`](crate::guest::exec::exec).
    ///
    /// # Errors
    /// When there is no such guest, or what the machine refuses.
    pub fn enter(&self, guest: &str) -> Result<OwnedFd, HostError> {
        let (_, descriptors) = self.ask(&Request::Enter { guest: guest.to_owned() })?;
        descriptors.into_iter().next().ok_or_else(|| HostError::Keeper("sent no descriptor".to_owned()))
    }

    /// Statistics of a guest's links.
    ///
    /// # Errors
    /// When there is no such guest.
    pub fn link_stats(&self, guest: &str) -> Result<Vec<LinkStats>, HostError> {
        match self.ask(&Request::LinkStats { guest: guest.to_owned() })?.0 {
            Reply::LinkStats(stats) => Ok(stats),
            _ => Err(HostError::Keeper("sent no statistics".to_owned())),
        }
    }

    /// Ends the keeper, and with it every guest; returns when all of them are gone.
    ///
    /// # Errors
    /// When it refuses; a keeper that is gone already is none.
    pub fn shutdown(self) -> Result<(), HostError> {
        if send(&self.socket, &Request::Shutdown, &[]).is_err() {
            return Ok(());
        }
        match receive::<Reply>(self.socket.as_fd()) {
            Ok(Some((Reply::Done, descriptors))) => descriptors.iter().for_each(wait_for_end_of),
            Ok(Some((Reply::Failed(why), _))) => return Err(HostError::Keeper(why)),
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }

    fn ask(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), HostError> {
        send(&self.socket, request, &[]).context("asking the keeper")?;
        self.answer()
    }

    fn answer(&self) -> Result<(Reply, Vec<OwnedFd>), HostError> {
        match receive::<Reply>(self.socket.as_fd()).context("the keeper's answer")? {
            Some((Reply::Failed(why), _)) => Err(HostError::Keeper(why)),
            Some(answer) => Ok(answer),
            None => Err(HostError::Keeper("is gone".to_owned())),
        }
    }
}

/// Blocks until the process of a pidfd has ended.
fn wait_for_end_of(process: &OwnedFd) {
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    while matches!(poll(&mut ended, None), Err(rustix::io::Errno::INTR)) {}
}

/// A process of a lab that isn't the keeper, so that its end can be waited for.
pub struct Process(OwnedFd);

impl Process {
    /// The process that listens on the other side of a Unix socket; none if it has ended.
    #[must_use]
    pub fn behind(socket: impl AsFd) -> Option<Self> {
        let peer = rustix::net::sockopt::socket_peercred(socket).ok()?;
        pidfd_open(peer.pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// Blocks until it has ended.
    pub fn wait_for_end(&self) {
        wait_for_end_of(&self.0);
    }
}

fn seqpacket() -> Result<OwnedFd, HostError> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context("unix socket")
}
