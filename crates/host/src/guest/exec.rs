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
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount, open_tree, unmount,
};
use rustix::thread::UnshareFlags;

use super::file_system::{COMMANDS, CONSOLE, HOST, Ids, TRUSTED, set_read_only};
use super::{capabilities, set_id};
use crate::error::{Context, HostError};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is the guest's own: a host's directory that contains one of these would hide it.
const OWN: &[&str] = &["/etc", "/var", "/srv", "/root", "/tmp", "/run", "/proc", "/sys", "/dev"];
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
    command.env("SSL_CERT_FILE", TRUSTED);
    command.current_dir(&directory).env("PWD", &directory);
    forward_signals_with(command, program)
}

/// Joins the guest's namespaces and takes the working directory along.
fn enter(guest: &OwnedFd, directory: Directory) -> Result<PathBuf, HostError> {
    if fs::read_dir("/proc/self/task").context("/proc/self/task")?.count() != 1 {
        return Err(HostError::Keeper("only a process with one thread can enter a guest".to_owned()));
    }
    let here = env::current_dir().context("the working directory")?;
    let terminal = rustix::termios::ttyname(io::stdin(), Vec::new()).ok();
    match join(guest, libc::CLONE_NEWUSER) {
        // What the lab itself starts is there already.
        Err(HostError::System { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {}
        result => result?,
    }
    // The guest's /proc knows nothing of this process.
    let ids = Ids::here();
    let others = libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET;
    join(guest, libc::CLONE_NEWNS | others)?;
    // The directory is seen by this command alone.
    // SAFETY: the mount namespace is shared with no other thread; no descriptor table is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.context("a mount namespace for the command")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("mounts of the command")?;
    // The guest has terminals of its own; the caller's is shown to this command beside them. Without it, `tty` says that
    // there is none.
    if let Some(terminal) = terminal.as_ref().and_then(|path| path.to_str().ok()) {
        let _ = of_host(Path::new(terminal)).and_then(|tree| show(&tree, Path::new(CONSOLE)));
    }
    let hides = OWN.iter().any(|own| Path::new(own).starts_with(&here));
    let system = SYSTEM.iter().any(|system| here.starts_with(system));
    let shown = !hides && !system && show_directory(&here, directory).is_ok();
    // With the host's sockets, it is for nobody else.
    unmount(HOST, UnmountFlags::DETACH).context("the host's tree")?;
    capabilities::shed()?;
    if ids == Ids::One {
        set_id::pretend()?;
    }
    if shown || fs::metadata(&here).is_ok_and(|meta| meta.is_dir()) {
        return Ok(here);
    }
    tell(&format!("{} isn't visible in the guest; running in /root", here.display()));
    Ok(PathBuf::from("/root"))
}

/// Joins some of the namespaces of a guest's PID 1.
fn join(guest: &OwnedFd, name_spaces: libc::c_int) -> Result<(), HostError> {
    // SAFETY: setns takes a descriptor and flags; whoever calls this has one thread.
    if unsafe { libc::setns(guest.as_raw_fd(), name_spaces) } < 0 {
        return Err(io::Error::last_os_error()).context("entering the guest");
    }
    Ok(())
}

/// A copy of one of the host's mounts, from this place on.
fn of_host(path: &Path) -> io::Result<OwnedFd> {
    let path = Path::new(HOST).join(path.strip_prefix("/").unwrap_or(path));
    Ok(open_tree(CWD, &path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

fn show_directory(here: &Path, directory: Directory) -> io::Result<()> {
    let tree = of_host(here)?;
    if directory == Directory::Writable {
        // One that the host has mounted read-only stays so.
        let _ = set_read_only(tree.as_fd(), c"", libc::AT_EMPTY_PATH, false);
    }
    show(&tree, here)
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
