//! What this machine may refuse.

use std::io;

/// The machine did not do what a lab needs.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The lab's owner isn't root.
    #[error("labs need root for now: run minivpc as root")]
    NotRoot,
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// No TAP device.
    #[error("{path}: {source}; a lab needs the tun driver (`modprobe tun`, or `mknod {path} c 10 200`)")]
    NoTun {
        /// Where it was looked for.
        path: &'static str,
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

/// Names what was tried when a system call fails.
pub(crate) trait Context<T> {
    fn context(self, what: impl Into<String>) -> Result<T, HostError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl Into<String>) -> Result<T, HostError> {
        self.map_err(|source| HostError::System { what: what.into(), source: source.into() })
    }
}
