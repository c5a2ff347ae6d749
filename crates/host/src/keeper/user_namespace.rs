//! The user namespace of a lab. Root's has the ids of the one around it. An ordinary user is root in his, and has his
//! subordinate ids beside, if the machine grants him some and has `newuidmap`.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

use crate::error::{Context, HostError};

/// Moves this process, which must have one thread, into a new user namespace.
pub(crate) fn enter() -> Result<(), HostError> {
    let (mut ours, mut theirs) = UnixStream::pair().context("socket pair")?;
    let me = std::process::id();
    // SAFETY: the process has one thread, so the child may go on in Rust; it ends in `exit`.
    match unsafe { libc::fork() } {
        0 => {
            drop(ours);
            // Only somebody outside may map more than one id.
            let mapped = theirs.read_exact(&mut [0]).and_then(|()| map_from_outside(me));
            std::process::exit(i32::from(mapped.is_err()))
        }
        pid if pid > 0 => {
            drop(theirs);
            let (user, group) = (geteuid(), getegid());
            // SAFETY: one thread; the descriptor table stays shared with nobody.
            let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) };
            unshared.map_err(|source| HostError::NoUserNamespace { source: source.into() })?;
            ours.write_all(&[0]).context("mapping ids")?;
            let mut status = 0;
            // SAFETY: waits for our own child, status is a local.
            let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
            if waited >= 0 && status == 0 {
                return Ok(());
            }
            if user.is_root() {
                return Err(HostError::Keeper("the ids of the user namespace could not be mapped".to_owned()));
            }
            map_one(user.as_raw(), group.as_raw()).context("mapping ids")
        }
        _ => Err(io::Error::last_os_error()).context("fork"),
    }
}

fn map_from_outside(process: u32) -> io::Result<()> {
    if geteuid().is_root() {
        return ["uid_map", "gid_map"].iter().try_for_each(|map| {
            let outside = fs::read_to_string(format!("/proc/self/{map}"))?;
            fs::write(format!("/proc/{process}/{map}"), identity(&outside))
        });
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    // Both are looked up first: a process whose ids are mapped half can't be mapped otherwise any more.
    let maps = [
        ("newuidmap", user, subordinate("/etc/subuid", user)?),
        ("newgidmap", group, subordinate("/etc/subgid", user)?),
    ];
    for (program, own, (first, count)) in maps {
        let numbers = [process, 0, own, 1, 1, first, count].map(|number| number.to_string());
        if !Command::new(program).args(numbers).output()?.status.success() {
            return Err(io::Error::other(program));
        }
    }
    Ok(())
}

/// The user's own ids alone, as root's.
fn map_one(user: u32, group: u32) -> io::Result<()> {
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// The first range of ids that `file` grants to a user: where it begins, and how many there are.
pub(crate) fn subordinate(file: &str, user: u32) -> io::Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let is_his = |line: &&str| line.split(':').nth(2).is_some_and(|id| id.parse() == Ok(user));
    let name = passwd.lines().find(is_his).and_then(|line| line.split(':').next());
    let ranges = fs::read_to_string(file)?;
    let range = ranges.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let own = Some(owner) == name || owner.parse() == Ok(user);
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        own.then_some((first, count))
    });
    range.ok_or_else(|| io::Error::other("no subordinate ids"))
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
