//! The lab's engine, as the keeper has it: started once, and again whenever it dies.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Context, HostError};

/// An engine that dies so often within [`SHORT`] of its start isn't started any more.
const ATTEMPTS: u32 = 5;
const SHORT: Duration = Duration::from_millis(250);

pub(super) struct Engine {
    arguments: Vec<OsString>,
    log: OwnedFd,
    child: Child,
    /// Readable when it has died.
    pub process: OwnedFd,
    started: Instant,
    /// It has come up once.
    pub serving: bool,
    short_lives: u32,
}

impl Engine {
    pub fn start(arguments: Vec<OsString>, output: OwnedFd, log: OwnedFd) -> Result<Self, HostError> {
        let (child, process) = spawn(&arguments, output.into(), &log)?;
        Ok(Self { arguments, log, child, process, started: Instant::now(), serving: false, short_lives: 0 })
    }

    /// Ends it, so that it writes into no directory that is about to go.
    pub fn end(mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// It has died: starts it again, unless it never came up, or dies all the time.
    pub fn revive(mut self) -> Option<Self> {
        let status = self.child.wait().ok()?;
        if !self.serving {
            return None;
        }
        tracing::warn!(code = status.code(), signal = status.signal(), "the engine died");
        self.short_lives = if self.started.elapsed() < SHORT { self.short_lives + 1 } else { 0 };
        if self.short_lives == ATTEMPTS {
            tracing::error!("it dies all the time: the lab ends");
            return None;
        }
        match spawn(&self.arguments, Stdio::null(), &self.log) {
            Ok((child, process)) => Some(Self { child, process, started: Instant::now(), ..self }),
            Err(error) => {
                tracing::error!(%error, "starting the engine again");
                None
            }
        }
    }
}

fn spawn(arguments: &[OsString], output: Stdio, log: &OwnedFd) -> Result<(Child, OwnedFd), HostError> {
    let what = "starting the engine";
    let keeper = std::process::id() as libc::pid_t;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("minivpc").args(arguments).stdin(Stdio::null()).stdout(output);
    command.stderr(File::from(log.try_clone().context(what)?));
    // SAFETY: between fork and exec only async-signal-safe calls are made.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // The keeper may have died before that.
            if libc::getppid() == keeper { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
        });
    }
    let child = command.spawn().context(what)?;
    let pid = Pid::from_child(&child);
    Ok((child, pidfd_open(pid, PidfdFlags::empty()).context(what)?))
}
