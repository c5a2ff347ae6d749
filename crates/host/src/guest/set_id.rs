//! Programs that give up root's id, where there is no other one.
//!
//! An ordinary user may have one id only in his user namespace. `tcpdump`, `dhclient` and others end when they can't
//! become somebody else; for them these system calls do nothing, and succeed.

use crate::error::{Context, HostError};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

const PRETENDED: &[libc::c_long] = &[
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
];

/// From now on they do nothing, for this process and all that it starts.
pub(super) fn pretend() -> Result<(), HostError> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // linux/seccomp.h: `struct seccomp_data` begins with the number of the call, then the architecture.
    const NUMBER: u32 = 0;
    const ARCHITECTURE_OF_CALL: u32 = 4;
    let instruction = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let count = PRETENDED.len() as u8;
    let mut filter = vec![
        instruction(LOAD, ARCHITECTURE_OF_CALL, 0, 0),
        // Other architectures' calls have other numbers.
        instruction(EQUAL, ARCHITECTURE, 0, count + 1),
        instruction(LOAD, NUMBER, 0, 0),
    ];
    for (left, call) in (0..count).rev().zip(PRETENDED) {
        filter.push(instruction(EQUAL, *call as u32, left + 1, 0));
    }
    filter.push(instruction(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    // An error number of 0 is success.
    filter.push(instruction(RETURN, libc::SECCOMP_RET_ERRNO, 0, 0));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: both take their arguments by value but the program, which lives across the call with its filter.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if installed { Ok(()) } else { Err(std::io::Error::last_os_error()).context("seccomp") }
}
