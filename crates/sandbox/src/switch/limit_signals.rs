//! Signals that the system sends at a process's own limits, made harmless.
//!
//! By default they end the process, and guests can bring them about: one that may write files
//! writes beyond the largest size that files of this process may have (`SIGXFSZ`), or to a pipe
//! that nobody reads (`SIGPIPE`); one that computes uses the process's time up (`SIGXCPU`). Without
//! the signal the call fails (`EFBIG`, `EPIPE`), which is the guest's affair. A limit of time that
//! is hard still ends the process.
//!
//! They get a handler that does nothing, and are not ignored: what is executed inherits that a
//! signal is ignored, and a compiler is to end at its limits.

use std::mem::MaybeUninit;

const SIGNALS: [libc::c_int; 3] = [libc::SIGXFSZ, libc::SIGXCPU, libc::SIGPIPE];

/// From now on no limit that the system sets this process ends it by a signal. Who handles such a
/// signal already, or ignores it, goes on doing so.
pub fn withstand_limit_signals() {
    SIGNALS.into_iter().for_each(withstand);
}

extern "C" fn do_nothing(_: libc::c_int) {}

fn withstand(signal: libc::c_int) {
    // SAFETY: all-zero is a valid sigaction (the default action, an empty mask, no flags), the
    // signal exists, and the handler does nothing.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        let failed = libc::sigaction(signal, std::ptr::null(), &raw mut action);
        assert_eq!(failed, 0, "the signal exists");
        if action.sa_sigaction == libc::SIG_DFL {
            action.sa_sigaction = do_nothing as *const () as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            let failed = libc::sigaction(signal, &raw const action, std::ptr::null_mut());
            assert_eq!(failed, 0, "the signal exists");
        }
    }
}
