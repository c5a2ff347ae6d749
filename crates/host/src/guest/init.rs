//! PID 1 of a guest: sets up its file system and host name, then reaps.

use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::{GuestSpec, Outside, file_system};
use crate::error::{Context, HostError};
use crate::process::wait_like_others;

const READY: u8 = b'r';

/// Starts PID 1 in new mount, PID, UTS and IPC namespaces; the network is that of this thread. Returns when the guest
/// is ready. It ends when this process does.
///
/// Must be called in a single-threaded process: the child goes on in a copy of it.
pub(crate) fn start(spec: &GuestSpec, outside: &Outside) -> Result<OwnedFd, HostError> {
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().context("socket pair")?;
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero bytes are a valid `clone_args`.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    let name_spaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    arguments.flags = (name_spaces | libc::CLONE_PIDFD) as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM and with no stack this is fork(2); the process has one thread, so the child may go on
    // in Rust. `arguments` lives across the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match pid {
        0 => {
            drop(ours);
            init(spec, outside, theirs)
        }
        pid if pid > 0 => {
            drop(theirs);
            // SAFETY: the kernel has just put a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let mut answer = Vec::new();
            ours.read_to_end(&mut answer).context("waiting for a guest")?;
            match answer.split_first() {
                Some((&READY, _)) => Ok(pidfd),
                _ => Err(HostError::Keeper(format!(
                    "setting up guest {}: {}",
                    spec.name,
                    String::from_utf8_lossy(&answer)
                ))),
            }
        }
        _ => Err(std::io::Error::last_os_error()).context("starting a guest"),
    }
}

/// Never returns, also not by panic: this is a copy of the keeper.
fn init(spec: &GuestSpec, outside: &Outside, mut keeper: std::os::unix::net::UnixStream) -> ! {
    wait_like_others();
    if let Err(error) = prepare(spec, outside) {
        let _ = write!(keeper, "{error}");
        std::process::exit(1);
    }
    // A keeper that can't be told may have died before it was sure to take this process along.
    if keeper.write_all(&[READY]).is_err() {
        std::process::exit(1);
    }
    drop(keeper);
    close_all();
    reap()
}

fn prepare(spec: &GuestSpec, outside: &Outside) -> Result<(), HostError> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")?;
    rustix::process::setsid().context("setsid")?;
    rustix::system::sethostname(spec.hostname.as_bytes()).context("sethostname")?;
    // It keeps its capabilities: whoever has fewer can't look through /proc/1/root, where the host's tree is.
    file_system::build(spec, outside)
}

/// The keeper's descriptors, other guests' TAPs among them, are not for this process.
fn close_all() {
    // SAFETY: closes descriptors that only values of the keeper's copy own, and nothing of that copy runs any more.
    unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
}

fn reap() -> ! {
    // SAFETY: a local set of signals. SIGCHLD is blocked before the first wait, so none is missed between two.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        loop {
            while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {}
            libc::sigwaitinfo(&set, std::ptr::null_mut());
        }
    }
}
