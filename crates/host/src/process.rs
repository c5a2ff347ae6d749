//! What a process of a lab sheds when it starts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Closes the descriptors that the caller's shell had open, else a lock or a pipe of his would stay open as long as the
/// lab; and takes as many descriptors as the machine grants. Call it before anything else is opened.
pub fn detach() {
    // SAFETY: nothing of this process owns a descriptor above the standard ones yet.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // A refusal shows when descriptors run out.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
