//! A guest's files: the host's tree, read-only, with private layers where a machine keeps what is its own.

use std::collections::hash_map::RandomState;
use std::ffi::CStr;
use std::fs::{self, Permissions};
use std::hash::BuildHasher;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Access, CWD, FileType, Mode, OFlags, access, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind, mount_change, mount_remount,
    move_mount, open_tree,
};

use super::{GuestSpec, Outside, Resolver};
use crate::error::{Context, HostError};
use crate::tap;

/// Directories that each guest has for itself, on top of the host's. /tmp comes last: the layers lie in it meanwhile.
const PRIVATE: &[&str] = &["/etc", "/var", "/srv", "/root", "/tmp"];
/// Most directories that are made beforehand in one layer.
const MOST_DIRECTORIES: usize = 4096;
/// Where PID 1 sees the host's whole tree, for commands whose caller's directory is shown.
pub(super) const HOST: &str = "/run/minivpc-guest/host";
/// Where the guest's own commands are; first in PATH.
pub(crate) const COMMANDS: &str = "/run/minivpc-guest/bin";

/// Where a command sees its caller's terminal.
pub(crate) const CONSOLE: &str = "/dev/console";

/// A guest is root already, and its commands are often copied from pages that say `sudo`.
const SUDO: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in
    --) shift; break ;;
    -u|-g|-p|-C|-h|-r|-t|-T|-U|-D|-R) shift; [ $# -gt 0 ] && shift ;;
    -i|-s) shift; [ $# -gt 0 ] || exec "${SHELL:-/bin/sh}" ;;
    -*) shift ;;
    [A-Za-z_]*=*) export "$1"; shift ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || { echo "usage: sudo COMMAND" >&2; exit 1; }
exec "$@"
"#;

/// Builds it in the mount namespace of this process, which is PID 1 of the guest.
pub(super) fn build(spec: &GuestSpec, outside: &Outside) -> Result<(), HostError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("private mounts")?;
    set_read_only(CWD, c"/", 0, true).context("making mounts read-only")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let host = open_tree(CWD, c"/", flags).context("the host's tree")?;
    layers()?;
    fresh("/run", "tmpfs", c"mode=755")?;
    fs::create_dir_all(HOST).context(HOST)?;
    move_mount(host.as_fd(), c"", CWD, HOST, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).context(HOST)?;
    processes()?;
    // Without it, /sys/class/net shows the host's links; some sandboxes forbid the mount.
    let _ = mount("sysfs", "/sys", "sysfs", MountFlags::RDONLY, None::<&CStr>);
    devices()?;
    files(spec, outside)?;
    trust(&outside.authority)?;
    spec.control.as_deref().map_or(Ok(()), control)
}

fn fresh(target: &str, kind: &str, options: &CStr) -> Result<(), HostError> {
    mount(kind, target, kind, MountFlags::empty(), Some(options)).context(format!("mounting {target}"))
}

/// A mount with all below it.
pub(super) fn set_read_only(directory: BorrowedFd<'_>, path: &CStr, flags: libc::c_int, on: bool) -> io::Result<()> {
    let (attr_set, attr_clr) = if on { (libc::MOUNT_ATTR_RDONLY, 0) } else { (0, libc::MOUNT_ATTR_RDONLY) };
    let attributes = libc::mount_attr { attr_set, attr_clr, propagation: 0, userns_fd: 0 };
    // SAFETY: reads one `mount_attr` of the size given, and a C string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            libc::AT_RECURSIVE | flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A layer's directories are those of the host below it, and for an ordinary user their owners don't exist here: the
/// kernel couldn't copy them up when something is written in one. So they are made beforehand, and what can't even be
/// read is taken away, so that a daemon makes its own log or key instead of failing at the host's.
fn skeleton(lower: &Path, upper: &Path, left: &mut usize) {
    for entry in fs::read_dir(lower).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let copy = upper.join(entry.file_name());
        if kind.is_file() && access(entry.path(), Access::READ_OK).is_err() {
            // Overlayfs's sign for a file that is gone.
            let _ = mknodat(CWD, &copy, FileType::CharacterDevice, Mode::empty(), 0);
        }
        if !kind.is_dir() || *left == 0 {
            continue;
        }
        *left -= 1;
        if fs::create_dir(&copy).is_ok() {
            skeleton(&entry.path(), &copy, left);
        }
    }
}

fn layers() -> Result<(), HostError> {
    let owners_exist = Ids::here() == Ids::Hosts;
    let below = rustix::fs::open("/tmp", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let below = below.context("/tmp")?;
    fresh("/tmp", "tmpfs", c"mode=755")?;
    for &path in PRIVATE.iter().filter(|path| fs::exists(path).unwrap_or(false)) {
        let layer = format!("/tmp{path}");
        let lower = if path == "/tmp" { format!("/proc/self/fd/{}", below.as_raw_fd()) } else { path.to_owned() };
        if path != "/tmp" && fs::read_dir(path).is_err() {
            // An ordinary user's guest has no /root to build on.
            fresh(path, "tmpfs", c"mode=700")?;
            continue;
        }
        let mode = fs::metadata(&lower).context(lower.clone())?.permissions();
        for part in ["upper", "work"] {
            fs::create_dir_all(format!("{layer}/{part}")).context("a private layer")?;
        }
        fs::set_permissions(format!("{layer}/upper"), mode).context("a private layer")?;
        if !owners_exist {
            skeleton(Path::new(&lower), Path::new(&format!("{layer}/upper")), &mut MOST_DIRECTORIES.clone());
        }
        let options = format!("lowerdir={lower},upperdir={layer}/upper,workdir={layer}/work,userxattr");
        let options = std::ffi::CString::new(options).context("overlay options")?;
        mount("overlay", path, "overlay", MountFlags::empty(), Some(options.as_c_str()))
            .context(format!("a private layer over {path}"))?;
    }
    Ok(())
}

/// /proc of the guest's own processes. What belongs to the whole machine can't be changed through it: a guest's root
/// is the host's root as far as file permissions go.
fn processes() -> Result<(), HostError> {
    mount("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None::<&CStr>)
        .context("mounting /proc")?;
    // `ping` takes its echo id from its process id: equal ids would belong to the flow of the ping before.
    let random = RandomState::new().hash_one(0) % 30_000;
    let _ = fs::write("/proc/sys/kernel/ns_last_pid", (300 + random).to_string());
    for path in ["/proc/sys", "/proc/sysrq-trigger"] {
        if fs::exists(path).unwrap_or(false) {
            mount_bind(path, path).context(path)?;
        }
    }
    mount_bind("/proc/sys/net", "/proc/sys/net").context("/proc/sys/net")?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for path in ["/proc/sys", "/proc/sysrq-trigger"] {
        if fs::exists(path).unwrap_or(false) {
            mount_remount(path, flags, "").context(path)?;
        }
    }
    Ok(())
}

/// Only devices that belong to nobody: the host's disks, too, would open to a root of the host's id.
fn devices() -> Result<(), HostError> {
    const DEVICES: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "net/tun"];
    let open = |name: &'static str| {
        let path = if name == "net/tun" { tap::device() } else { Path::new("/dev").join(name) };
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok().map(|device| (name, device))
    };
    let devices: Vec<_> = DEVICES.into_iter().filter_map(open).collect();
    fresh("/dev", "tmpfs", c"mode=755")?;
    for directory in ["/dev/net", "/dev/pts", "/dev/shm"] {
        fs::create_dir(directory).context(directory)?;
    }
    for (name, device) in devices {
        let path = format!("/dev/{name}");
        fs::write(&path, "").context(path.clone())?;
        mount_bind(format!("/proc/self/fd/{}", device.as_raw_fd()), &path).context(path.clone())?;
    }
    fs::write(CONSOLE, "").context(CONSOLE)?;
    fresh("/dev/shm", "tmpfs", c"mode=1777")?;
    // A sandbox may forbid terminals of one's own; only programs that make some miss them.
    let _ = fresh("/dev/pts", "devpts", c"newinstance,ptmxmode=0666,mode=620");
    for (target, link) in [
        ("pts/ptmx", "/dev/ptmx"),
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ] {
        std::os::unix::fs::symlink(target, link).context(link)?;
    }
    Ok(())
}

fn files(spec: &GuestSpec, outside: &Outside) -> Result<(), HostError> {
    let short = spec.hostname.split('.').next().unwrap_or(&spec.hostname);
    let mut hosts = String::from("127.0.0.1 localhost\n");
    for interface in spec.interfaces.iter().take(1) {
        hosts += &format!("{} {} {short}\n", interface.address, spec.hostname);
    }
    let resolver = match &spec.resolver {
        // As Amazon Linux asks.
        Some(Resolver { servers, search }) => {
            let search = search.iter().map(|domains| format!("search {domains}\n"));
            let options = std::iter::once("options timeout:2 attempts:5\n".to_owned());
            let servers = servers.iter().map(|address| format!("nameserver {address}\n"));
            search.chain(options).chain(servers).collect()
        }
        None => {
            hosts.extend(outside.names.iter().map(|(address, name)| format!("{address} {name}\n")));
            // Without a name server here, a resolver asks this machine, where nothing listens: it is refused at once.
            "options timeout:1 attempts:1\n".to_owned()
        }
    };
    let lock = "/run/lock";
    fs::create_dir_all(lock).context(lock)?;
    fs::set_permissions(lock, Permissions::from_mode(0o1777)).context(lock)?;
    fs::create_dir_all(COMMANDS).context(COMMANDS)?;
    if fs::File::open("/etc/shadow").is_err() {
        shadow()?;
    }
    let sudo = format!("{COMMANDS}/sudo");
    let files: &[(&str, &str)] = &[
        ("/etc/hosts", &hosts),
        ("/etc/hostname", &format!("{}\n", spec.hostname)),
        ("/etc/resolv.conf", &resolver),
        (
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nprotocols: files\nservices: files\n",
        ),
        (&sudo, SUDO),
    ];
    for (path, text) in files {
        // Often a link into /run.
        let _ = fs::remove_file(path);
        fs::write(path, text).context(*path)?;
    }
    fs::set_permissions(&sudo, Permissions::from_mode(0o755)).context(sudo.clone())?;
    Ok(())
}

/// Where a program of this distribution or another one looks for the authorities that it trusts.
const BUNDLES: [&str; 4] = [TRUSTED, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];
/// Where OpenSSL is told to look (`SSL_CERT_FILE`).
pub(super) const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The lab's own authority beside the host's.
fn trust(authority: &str) -> Result<(), HostError> {
    if authority.is_empty() {
        return Ok(());
    }
    fs::create_dir_all("/etc/ssl/certs").context("/etc/ssl/certs")?;
    for path in BUNDLES.into_iter().filter(|path| *path == TRUSTED || fs::exists(path).unwrap_or(false)) {
        let others = fs::read_to_string(path).unwrap_or_default();
        // May be a link into what can't be written.
        let _ = fs::remove_file(path);
        fs::write(path, others + authority).context(path)?;
    }
    Ok(())
}

/// Where root's labs are.
const LABS: &str = "/run/minivpc";

/// The lab's directory with its sockets, and this program to speak to them.
fn control(lab: &Path) -> Result<(), HostError> {
    let shown = Path::new(LABS).join(lab.file_name().unwrap_or_default());
    fs::create_dir_all(&shown).context(LABS)?;
    bind(lab, &shown)?;
    let program = fs::read_link("/proc/self/exe").context("/proc/self/exe")?;
    let command = Path::new(COMMANDS).join("minivpc");
    fs::write(&command, "").context(COMMANDS)?;
    bind(&program, &command)
}

/// Shows a file or directory of the host's in another place too.
fn bind(host: &Path, at: &Path) -> Result<(), HostError> {
    let path = Path::new(HOST).join(host.strip_prefix("/").unwrap_or(host));
    mount_bind(&path, at).context(format!("showing {} in a guest", host.display()))
}

/// An ordinary user can't read the host's, and `su` asks whether an account has expired: none has, and none a password.
fn shadow() -> Result<(), HostError> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let users = users.lines().filter_map(|line| line.split(':').next());
    let text: String = users.map(|user| format!("{user}:*:1::::::\n")).collect();
    let _ = fs::remove_file("/etc/shadow");
    fs::write("/etc/shadow", text).context("/etc/shadow")
}

/// Which user ids exist in a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// Those of the host: the lab is root's.
    Hosts,
    /// An ordinary user's and his subordinate ones.
    Several,
    /// Only an ordinary user's.
    One,
}

impl Ids {
    /// Those of this process's.
    pub fn here() -> Self {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let numbers = |line: &str| line.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>();
        match map.lines().map(numbers).collect::<Result<Vec<_>, _>>().as_deref() {
            Ok([one]) if one.last() == Some(&1) => Self::One,
            Ok(lines) if lines.iter().all(|line| line.first() == line.get(1)) => Self::Hosts,
            _ => Self::Several,
        }
    }
}
