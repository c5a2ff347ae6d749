//! What a process of a lab sheds and takes when it starts.

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
