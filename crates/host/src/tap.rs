//! TAP devices, with a virtio-net header before each frame where the kernel grants it.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use minivpc_packet::VnetHeader;
use serde::{Deserialize, Serialize};

use crate::error::{Context, HostError};

/// Where the tun driver is, unless [`TUN`] says otherwise: on some machines only root may open it.
const DEVICE: &str = "/dev/net/tun";
/// The environment variable that names another node of the driver.
pub const TUN: &str = "MINIVPC_TUN";

/// The node of the tun driver.
pub(crate) fn device() -> PathBuf {
    std::env::var_os(TUN).map_or_else(|| PathBuf::from(DEVICE), PathBuf::from)
}

/// What a guest may leave to the link: checksums, and cutting TCP and UDP super-segments.
const OFFLOADS: libc::c_uint =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN | libc::TUN_F_USO4 | libc::TUN_F_USO6;
/// For kernels before 6.2, which don't cut UDP.
const OFFLOADS_WITHOUT_USO: libc::c_uint = OFFLOADS & !(libc::TUN_F_USO4 | libc::TUN_F_USO6);

/// Which TAPs a lab has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Backend {
    /// With the header: super-segments and unfinished checksums cross them.
    #[default]
    VirtioNet,
    /// Those of the crate `tun-tap`, without it: several times slower, and for machines that refuse the header.
    TunTap,
}

/// Makes a TAP called `name` in the network namespace of this thread. It stays when its descriptors are closed, and
/// goes with its namespace: closing hundreds of devices one by one takes seconds.
pub(crate) fn create(name: &str, backend: Backend) -> Result<OwnedFd, HostError> {
    let tap = match backend {
        Backend::VirtioNet => with_header(name)?,
        Backend::TunTap => plain(name)?,
    };
    // SAFETY: TUNSETPERSIST takes its argument by value.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETPERSIST, 1 as libc::c_ulong) }, "TUNSETPERSIST")?;
    Ok(tap)
}

fn plain(name: &str) -> Result<OwnedFd, HostError> {
    let tap = tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tap);
    let tap = tap.map_err(|source| HostError::NoTun { path: DEVICE.into(), source })?;
    // SAFETY: the descriptor is open, and nobody else owns it any more.
    let tap = unsafe { OwnedFd::from_raw_fd(tap.into_raw_fd()) };
    rustix::io::ioctl_fionbio(&tap, true).context("FIONBIO")?;
    Ok(tap)
}

/// Opens the driver and makes it a TAP that has the header; the kernel names one without a name.
fn open(name: &str) -> Result<OwnedFd, HostError> {
    let tun = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(device());
    let tun = tun.map_err(|source| HostError::NoTun { path: device(), source })?;
    // SAFETY: all-zero bytes are a valid `ifreq`, a plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives across the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &mut request) }, "TUNSETIFF")?;
    Ok(tun.into())
}

fn with_header(name: &str) -> Result<OwnedFd, HostError> {
    let tun = open(name)?;
    let header = VnetHeader::LEN as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads one int.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ, &header) }, "TUNSETVNETHDRSZ")?;
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    if unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(OFFLOADS)) } < 0 {
        let fewer = libc::c_ulong::from(OFFLOADS_WITHOUT_USO);
        // SAFETY: as above.
        check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, fewer) }, "TUNSETOFFLOAD")?;
    }
    Ok(tun)
}

/// Can this kernel's TAPs cut UDP super-segments?
pub(crate) fn cuts_udp() -> bool {
    // The device is gone with its descriptor.
    let Ok(tun) = open("") else { return false };
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(OFFLOADS)) >= 0 }
}

fn check(result: libc::c_int, what: &str) -> Result<(), HostError> {
    if result < 0 { Err(std::io::Error::last_os_error()).context(what) } else { Ok(()) }
}
