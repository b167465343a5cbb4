//! Threads that run guests: signal stack, handlers, timer, nudges from other threads.

use std::io;

use super::{preempt, signal};

/// Makes this thread fit to run guests: handlers in place, a stack for them, a timer. Doing it
/// twice is harmless.
pub(crate) fn prepare() -> io::Result<()> {
    signal::prepare_thread()?;
    preempt::prepare_thread()
}

/// Asks the guest that runs on a thread to give the core back, from another thread.
#[derive(Clone, Copy, Debug)]
pub struct Nudge {
    thread: libc::pid_t,
}

impl Nudge {
    /// For the guests of this thread, which is made fit to run them.
    ///
    /// # Errors
    /// If the system has no timer or no memory for a signal stack left.
    pub fn of_this_thread() -> io::Result<Self> {
        prepare()?;
        // SAFETY: asks for the caller's own number.
        Ok(Self { thread: unsafe { libc::gettid() } })
    }

    /// Interrupts the thread. Its guest stops as if its time were up; without one nothing happens.
    /// If the thread has ended, nothing happens either.
    pub fn nudge(&self) {
        // SAFETY: a signal to a thread of this process, or to none. Whichever thread has the
        // number: its handler is `on_tick`, which does nothing on threads that run no guest.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.thread, preempt::signal()) };
    }
}
