//! The lab's engine, as the keeper has it: started once, and again whenever it dies.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Context, HostError};

/// An engine that dies so often before it serves, or within [`SHORT`] of that, isn't started any more.
const ATTEMPTS: u32 = 5;
const SHORT: Duration = Duration::from_millis(250);

pub(super) struct Engine {
    arguments: Vec<OsString>,
    log: OwnedFd,
    child: Child,
    /// Readable when it has died.
    pub process: OwnedFd,
    /// Since when this one serves.
    serving: Option<Instant>,
    /// One has served before.
    came_up: bool,
    short_lives: u32,
}

impl Engine {
    pub fn start(arguments: Vec<OsString>, output: OwnedFd, log: OwnedFd) -> Result<Self, HostError> {
        let (child, process) = spawn(&arguments, output.into(), &log)?;
        Ok(Self { arguments, log, child, process, serving: None, came_up: false, short_lives: 0 })
    }

    /// Ends it, so that it writes into no directory that is about to go.
    pub fn end(mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// From now on it serves.
    pub fn serves(&mut self) {
        self.serving.get_or_insert_with(Instant::now);
        self.came_up = true;
    }

    /// It has died: starts it again, unless it never came up, or dies all the time.
    pub fn revive(mut self) -> Option<Self> {
        let status = self.child.wait().ok()?;
        if !self.came_up {
            return None;
        }
        tracing::warn!(code = status.code(), signal = status.signal(), "the engine died");
        let short = self.serving.is_none_or(|since| since.elapsed() < SHORT);
        self.short_lives = if short { self.short_lives + 1 } else { 0 };
        if self.short_lives == ATTEMPTS {
            tracing::error!("it dies all the time: the lab ends");
            return None;
        }
        match spawn(&self.arguments, Stdio::null(), &self.log) {
            Ok((child, process)) => Some(Self { child, process, serving: None, ..self }),
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
