//! What this machine may refuse.

use std::io;
use std::path::PathBuf;

/// The machine did not do what a lab needs.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The machine grants no user namespace.
    #[error(
        "a lab needs a user namespace, and the kernel grants none ({source}); as root: \
         sysctl -w user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1"
    )]
    NoUserNamespace {
        /// What the kernel answered.
        source: io::Error,
    },
    /// The user namespace that the machine grants has no rights.
    #[error(
        "the kernel grants a user namespace, but no rights in it ({source}), as AppArmor does on Ubuntu; as root: \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    )]
    Restricted {
        /// What the kernel answered.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{what}: {source}{}", hint(source))]
    System {
        /// What was tried.
        what: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// No TAP device.
    #[error("{}: {source}; {}", path.display(), tun_hint(source))]
    NoTun {
        /// Where it was looked for.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The keeper refused or is gone.
    #[error("the keeper of the lab: {0}")]
    Keeper(String),
    /// No such guest.
    #[error("no guest is called '{0}'")]
    NoGuest(String),
}

fn hint(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
            let limit = limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
            format!(" (the hard limit is {limit}; as root: ulimit -Hn 1048576, in the shell that starts the lab)")
        }
        Some(libc::ENOSPC) => " (a lab needs some megabytes in its runtime directory)".to_owned(),
        _ => String::new(),
    }
}

fn tun_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "as root: chmod 0666 /dev/net/tun; or make a node of your own, mknod -m 0666 /tmp/tun c 10 200, and say \
             --tun /tmp/tun"
        }
        _ => {
            "a lab needs the tun driver; as root: modprobe tun; mkdir -p /dev/net; mknod -m 0666 /dev/net/tun c 10 200"
        }
    }
}

/// Names what was tried when a system call fails.
pub(crate) trait Context<T> {
    fn context(self, what: impl Into<String>) -> Result<T, HostError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T, HostError> {
        self.map_err(|source| HostError::System { what: what.into(), source: source.into() })
    }
}
