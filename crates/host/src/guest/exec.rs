//! Running a command inside a guest, from a single-threaded process that becomes part of it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree};
use rustix::thread::UnshareFlags;

use super::capabilities;
use super::file_system::{COMMANDS, CONSOLE, read_only};
use crate::error::{Context, HostError};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is the guest's own: a host's directory that contains one of these would hide it.
const OWN: &[&str] = &["/etc", "/var", "/root", "/tmp", "/run", "/proc", "/sys", "/dev"];
/// What belongs to the whole machine: no directory in here is shown, for a command could write to it.
const SYSTEM: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/boot", "/etc", "/run", "/proc", "/sys", "/dev"];

/// What a shell answers for a command that isn't there.
const NOT_FOUND: i32 = 127;
/// What a shell answers for a command that can't be run.
const NOT_EXECUTABLE: i32 = 126;

/// What a command may do with its caller's working directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directory {
    /// The user has typed the command.
    Writable,
    /// Somebody else may have written it.
    ReadOnly,
}

/// Runs a command in the guest whose PID 1 `guest` is, in the caller's working directory. Returns its exit status:
/// 127 and 126 as a shell's, 128 + signal if it was killed.
///
/// # Errors
/// When the guest can't be entered.
pub fn exec(guest: &OwnedFd, command: &[OsString], directory: Directory) -> Result<i32, HostError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(0) };
    let directory = enter(guest, directory)?;
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", format!("{COMMANDS}:{PATH}")).env_remove("HOSTNAME").env("HOME", "/root");
    command.current_dir(&directory).env("PWD", &directory);
    forward_signals_with(command, program)
}

/// Joins the guest's namespaces and takes the working directory along.
fn enter(guest: &OwnedFd, directory: Directory) -> Result<PathBuf, HostError> {
    if fs::read_dir("/proc/self/task").context("/proc/self/task")?.count() != 1 {
        return Err(HostError::Keeper("only a process with one thread can enter a guest".to_owned()));
    }
    let here = env::current_dir().context("the working directory")?;
    // The guest has terminals of its own; the caller's is shown to this command beside them.
    let terminal = rustix::termios::ttyname(io::stdin(), Vec::new()).ok();
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let terminal = terminal.and_then(|path| open_tree(CWD, path.as_c_str(), clone).ok());
    let hides = OWN.iter().any(|own| Path::new(own).starts_with(&here));
    let system = SYSTEM.iter().any(|system| here.starts_with(system));
    let tree = (!hides && !system).then(|| open_tree(CWD, &here, clone));
    if let (Some(Ok(tree)), Directory::ReadOnly) = (&tree, directory) {
        read_only(tree.as_fd(), c"", libc::AT_EMPTY_PATH)?;
    }
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET;
    // SAFETY: setns takes a descriptor and flags; this process has one thread, checked above.
    if unsafe { libc::setns(guest.as_raw_fd(), flags) } < 0 {
        return Err(io::Error::last_os_error()).context("entering the guest");
    }
    // The directory is seen by this command alone.
    // SAFETY: the mount namespace is shared with no other thread; no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.context("a mount namespace for the command")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("mounts of the command")?;
    if let Some(terminal) = terminal {
        // Without it, `tty` says that there is none.
        let _ = show(&terminal, Path::new(CONSOLE));
    }
    let shown = tree.and_then(Result::ok).is_some_and(|tree| show(&tree, &here).is_ok());
    capabilities::shed()?;
    if shown || fs::metadata(&here).is_ok_and(|meta| meta.is_dir()) {
        return Ok(here);
    }
    tell(&format!("{} isn't visible in the guest; running in /root", here.display()));
    Ok(PathBuf::from("/root"))
}

fn show(tree: &OwnedFd, at: &Path) -> io::Result<()> {
    Ok(move_mount(tree.as_fd(), c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Says something beside what the command says. Not with `eprintln!`, which panics when nobody reads any more.
fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "minivpc: {text}");
}

/// Signals that somebody sends to this process are meant for the command. Those of the terminal reach it anyway.
const FORWARDED: [libc::c_int; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

fn forward_signals_with(mut command: Command, program: &OsStr) -> Result<i32, HostError> {
    let set = block_signals();
    // SAFETY: between fork and exec only async-signal-safe calls are made.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
            Ok(())
        });
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            tell(&format!("{}: {error}", program.display()));
            return Ok(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE });
        }
    };
    wait(child, &set)
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: a local set, filled before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in FORWARDED.into_iter().chain([libc::SIGCHLD]) {
            libc::sigaddset(&mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    }
}

fn wait(mut child: Child, set: &libc::sigset_t) -> Result<i32, HostError> {
    loop {
        if let Some(status) = child.try_wait().context("waiting for the command")? {
            return Ok(code(status));
        }
        // SAFETY: reads a signal of the blocked set into a local; kill goes to our own unreaped child.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let signal = libc::sigwaitinfo(set, &mut info);
            if FORWARDED.contains(&signal) && info.si_code == libc::SI_USER {
                libc::kill(child.id() as libc::pid_t, signal);
            }
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
