//! What a process of a lab sheds and takes when it starts, and how one of its user's ends in order.

use std::thread;

use rustix::process::{Resource, Rlimit, getpriority_process, getrlimit, nice, setpriority_process, setrlimit};

/// Closes the descriptors that the caller's shell had open, else a lock or a pipe of his would stay open as long as the
/// lab; and takes as many descriptors as the machine grants. Call it before anything else is opened.
pub fn detach() {
    // SAFETY: nothing of this process owns a descriptor above the standard ones yet.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // A refusal shows when descriptors run out.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// How far who moves frames goes before those that wait for them (`man 2 nice`).
const FIRST: i32 = -10;

/// This thread, and those that it starts, go before guests that are busy: beside a bulk transfer on two processors a
/// ping takes a tenth of the time. Only root may; without it all else is well.
pub(crate) fn go_first() {
    let _ = nice(FIRST);
}

/// This thread, and those that it starts, wait like all others again.
pub fn wait_like_others() {
    if getpriority_process(None).is_ok_and(|priority| priority < 0) {
        let _ = setpriority_process(None, 0);
    }
}

/// Calls `then`, on a thread of its own, instead of ending when somebody interrupts this process. A second time ends it.
/// Call it before there are other threads.
pub fn on_interrupt(then: impl FnOnce() + Send + 'static) {
    // SAFETY: local sets and actions, filled before they are read; only this process's own signals are asked for.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &mut action);
            // As `nohup` wants it.
            if action.sa_sigaction != libc::SIG_IGN || signal != libc::SIGHUP {
                libc::sigaddset(&mut set, signal);
            }
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    };
    thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: the set is blocked in all threads, and written by none.
        unsafe { libc::sigwait(&set, &mut signal) };
        then();
        // A shell has what it starts in the background ignore the terminal's.
        // SAFETY: as above; no handler is installed.
        unsafe {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        }
        loop {
            thread::park();
        }
    });
}

/// Gives memory that was freed back to the kernel, as far as whole pages of it are free. Takes a tenth of a second after
/// a flood, in which threads may wait for memory; those that forward known flows need none.
pub fn give_back() {
    // SAFETY: looks for free pages in the allocator's own heaps, which it locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use std::fs;

    use super::give_back;

    /// MiB of this process that are in memory.
    #[allow(clippy::unwrap_used)]
    fn resident() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    #[test]
    fn what_lies_freed_below_something_that_lives_goes_back_too() {
        let mut many: Vec<_> = (0..1 << 20).map(|number| Box::new([number; 16])).collect();
        let lives = many.pop();
        drop(many);
        let kept = resident();
        give_back();
        assert!(kept > 64 && resident() < kept - 48, "{kept} MiB, then {} MiB", resident());
        assert!(lives.is_some());
    }
}
