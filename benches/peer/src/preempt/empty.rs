//! A timer whose handler does nothing: what a tick costs at least.
//!
//! The same kind of timer, signal and stack as the sandbox crate's. The unsafe code is the system's
//! interface.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

static TICKS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_tick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

/// How many there were so far.
pub(super) fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

/// The timer; rings until it is dropped.
pub(super) struct Empty(libc::timer_t);

impl Empty {
    /// Rings on this thread every so many nanoseconds. The thread has a signal stack: its pool's.
    pub(super) fn every(period_ns: u64) -> io::Result<Self> {
        let signal = libc::SIGRTMIN() + 7;
        let mut timer: libc::timer_t = ptr::null_mut();
        let period =
            libc::timespec { tv_sec: 0, tv_nsec: period_ns.min(999_999_999) as libc::c_long };
        let value = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: all-zero is a valid sigaction and a valid sigevent; the handler has the signature
        // that SA_SIGINFO asks for and touches an atomic only; all pointers are valid for the
        // calls.
        unsafe {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            action.sa_sigaction = on_tick as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            let mut event = MaybeUninit::<libc::sigevent>::zeroed().assume_init();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            event.sigev_notify_thread_id = libc::gettid();
            if libc::sigaction(signal, &raw const action, ptr::null_mut()) != 0
                || libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) != 0
            {
                return Err(io::Error::last_os_error());
            }
            let timer = Self(timer);
            if libc::timer_settime(timer.0, 0, &raw const value, ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(timer)
        }
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        // SAFETY: made by `every`, and deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}
