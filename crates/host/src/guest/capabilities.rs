//! What a guest's root may do: all that belongs to its own network and processes, nothing that belongs to the machine.
//!
//! A guest's root has the host's user id, so what keeps it from the host's files is the guest's mounts. Whoever may
//! mount could undo them: that right and its like are taken away. They come back in a user namespace that a guest
//! makes itself, where the kernel locks the mounts.

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::error::{Context, HostError};

const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_BROADCAST)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::IPC_OWNER)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::AUDIT_WRITE);

/// Takes everything else from this process and from all that it will execute.
pub(super) fn shed() -> Result<(), HostError> {
    for number in 0..u64::BITS {
        if KEPT.bits() & 1 << number == 0 {
            // SAFETY: PR_CAPBSET_DROP takes its argument by value. The kernel refuses numbers that it doesn't know.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        }
    }
    let sets = CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("capabilities")
}
