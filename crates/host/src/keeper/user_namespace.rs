//! The user namespace of a lab, with the ids of the one around it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustix::thread::UnshareFlags;

use crate::error::{Context, HostError};

/// Moves this process, which must have one thread, into a new user namespace. Every id there is that of outside.
pub(super) fn enter() -> Result<(), HostError> {
    let (mut ours, mut theirs) = UnixStream::pair().context("socket pair")?;
    let me = std::process::id();
    // SAFETY: the process has one thread, so the child may go on in Rust; it ends in `exit`.
    match unsafe { libc::fork() } {
        0 => {
            drop(ours);
            // Only somebody outside may map more than one id.
            let written = theirs.read_exact(&mut [0]).and_then(|()| {
                ["uid_map", "gid_map"].iter().try_for_each(|map| {
                    let outside = fs::read_to_string(format!("/proc/self/{map}"))?;
                    fs::write(format!("/proc/{me}/{map}"), identity(&outside))
                })
            });
            std::process::exit(i32::from(written.is_err()))
        }
        pid if pid > 0 => {
            drop(theirs);
            // SAFETY: one thread; the descriptor table stays shared with nobody.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }.context("making a user namespace")?;
            ours.write_all(&[0]).context("mapping ids")?;
            let mut status = 0;
            // SAFETY: waits for our own child, status is a local.
            if unsafe { libc::waitpid(pid, &mut status, 0) } < 0 || status != 0 {
                return Err(HostError::Keeper("the ids of the user namespace could not be mapped".to_owned()));
            }
            Ok(())
        }
        _ => Err(std::io::Error::last_os_error()).context("fork"),
    }
}

/// Of `inside outside count` lines, the ids that exist inside, mapped to themselves.
fn identity(map: &str) -> String {
    let lines = map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (inside, count) = (fields.next()?, fields.nth(1)?);
        Some(format!("{inside} {inside} {count}\n"))
    });
    lines.collect()
}
