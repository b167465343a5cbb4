//! Preemption: a thread's timer, whose tick takes the core back from a guest.
//!
//! Isolation rests on this file. Each thread that runs guests has a timer whose real-time signal
//! comes to that thread only. It is set for the time that [`crate::Sandbox::resume_until`] names,
//! and only if it is not set for an earlier one already: a tick that comes too early sets it anew,
//! so a thousand short guests cost one tick a quantum, not a system call each. A [`crate::Nudge`]
//! is the same signal, sent by another thread, for which the time does not matter.
//!
//! What the handler does depends on what it has interrupted:
//!
//! ```text
//!   no guest is current                            nothing
//!   the guest's time is not up                     set the timer for it
//!   guest code                                     go on in `arch::preempt`, on the save area of the
//!                                                  guest's stack: it saves all registers and suspends
//!   anything else: host code on either stack       note it; the way back from a host call looks
//! ```
//!
//! Why that is sound at every instruction:
//! - *Guest code* means a program counter in the text of the current guest's module. That text
//!   holds compiled functions, entry thunks, and copies and fills: all run on the guest's stack,
//!   hold no lock and call nothing but each other and the host. Of the guest's stack nothing is
//!   read or written: the registers go to a place of their own (`stack.rs`), so it does not matter
//!   where its stack pointer is and what lies below it.
//! - *Before the first guest instruction and after the last*, from `Fiber::resume` to the thunk and
//!   back, the program counter is in the host: the note is made, and the next tick finds the guest
//!   or nobody.
//! - *In `arch::preempt` itself* the program counter is in the host. A note made while it saves is
//!   forgotten when the guest is resumed; one made while it restores is found by the next host call
//!   or the next tick.
//! - *In the checks before a host call* (`stack_checked`) and in host functions: as any host code.
//!   The note is looked at when the function has returned and holds nothing but the value that it
//!   answers. One that has much to do looks between two pieces of it, where it holds nothing either
//!   (`builtins::in_pieces`, [`is_due`]).
//! - *The fault handler* keeps the tick out while it runs (`signal.rs` masks it), so a tick finds
//!   either the guest before its fault, which then happens when it is resumed, or the way out of
//!   the guest, which is host code. This handler does not fault: what it writes lies in the save
//!   area, which is open as long as the guest lives. A page of it that is not there yet is the
//!   kernel's business.
//! - *The save area* is in use from the handler's return to the restored guest's first instruction.
//!   All that time the program counter is in the host, or the guest does not run, so no other tick
//!   writes there.
//! - *Two ticks at once* do not happen: the signal is masked in its own handler.
//! - *A system call of the host* goes on by itself (`SA_RESTART`); those that do not are made again
//!   where they are.
//!
//! The handler allocates, locks and logs nothing; it leaves `errno` as it was. What it reads are
//! thread-local values without destructor and with a constant beginning, which in a program are
//! part of each thread from its start; the guest's `Active` and `Reach`, complete before they can
//! be found. What it calls are `clock_gettime` and `timer_settime`, which signal handlers may.
//! Resuming is an ordinary switch of stacks: no system call.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, compiler_fence};

use super::arch;
use super::current::{current, preempted};
use crate::clock::monotonic_ns;
use crate::limits::TICK_RETRY_NS;

/// A time that does not come.
const NEVER: u64 = u64::MAX;

/// What the handler and the thread that it interrupts share.
struct Tick {
    /// The thread has a timer.
    ready: AtomicBool,
    timer: AtomicPtr<libc::c_void>,
    /// When the running guest is to be interrupted, on the monotonic clock.
    due: AtomicU64,
    /// When the timer rings; it may also be off although this says otherwise never.
    armed: AtomicU64,
    /// The guest's time was up while it was in the host.
    noted: AtomicBool,
    counts: [AtomicU64; 4],
}

/// Places in `Tick::counts`.
mod count {
    pub(super) const IDLE: usize = 0;
    pub(super) const EARLY: usize = 1;
    pub(super) const GUEST: usize = 2;
    pub(super) const HOST: usize = 3;
}

thread_local! {
    // Constant-initialised and without a destructor: a plain access in a signal handler.
    static TICK: Tick = const {
        Tick {
            ready: AtomicBool::new(false),
            timer: AtomicPtr::new(ptr::null_mut()),
            due: AtomicU64::new(NEVER),
            armed: AtomicU64::new(NEVER),
            noted: AtomicBool::new(false),
            counts: [const { AtomicU64::new(0) }; 4],
        }
    };
    static TIMER: RefCell<Option<Timer>> = const { RefCell::new(None) };
}

/// Counts of a thread's ticks, by what they interrupted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// No guest.
    pub idle: u64,
    /// A guest whose time was not up.
    pub early: u64,
    /// Guest code: it was preempted there.
    pub guest: u64,
    /// The host, at work for a guest.
    pub host: u64,
}

impl Ticks {
    /// The counts of this thread.
    #[must_use]
    pub fn of_this_thread() -> Self {
        TICK.with(|tick| {
            let read = |index: usize| tick.counts[index].load(Ordering::Relaxed);
            Self {
                idle: read(count::IDLE),
                early: read(count::EARLY),
                guest: read(count::GUEST),
                host: read(count::HOST),
            }
        })
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.idle + self.early + self.guest + self.host
    }
}

/// The tick's signal.
pub(crate) fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 6
}

/// Gives this thread its timer. Doing it twice is harmless.
pub(crate) fn prepare_thread() -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    arch::prepare_preemption().map_err(io::Error::other)?;
    INSTALLED.call_once(install);
    TIMER.with_borrow_mut(|timer| {
        if timer.is_none() {
            *timer = Some(Timer::new()?);
        }
        Ok(())
    })
}

fn install() {
    // SAFETY: all-zero is a valid sigaction; the handler has the signature that SA_SIGINFO asks for
    // and does only what a handler may do.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = on_tick as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        let failed = libc::sigaction(signal(), &raw const action, ptr::null_mut());
        assert_eq!(failed, 0, "the signal exists");
    }
}

/// A guest is about to run that is to be interrupted at `until`. Answers what [`end`] needs.
#[inline]
pub(crate) fn begin(until: u64) -> u64 {
    TICK.with(|tick| {
        let outer = tick.due.load(Ordering::Relaxed);
        tick.noted.store(false, Ordering::Relaxed);
        tick.due.store(until, Ordering::Relaxed);
        // The handler, too, sees to a timer for what `due` says. So: `due` first, then `armed`.
        compiler_fence(Ordering::SeqCst);
        if until < tick.armed.load(Ordering::Relaxed) {
            tick.arm(until);
        }
        outer
    })
}

/// The guest has stopped. The timer stays as it is: what it finds, it will see.
#[inline]
pub(crate) fn end(outer: u64) {
    TICK.with(|tick| tick.due.store(outer, Ordering::Relaxed));
}

/// Is the running guest's time up? A host function with much to do looks now and then, and if so
/// leaves with [`crate::Leave::Preempted`]. False where no guest runs.
#[inline]
#[must_use]
pub fn is_due() -> bool {
    TICK.with(|tick| tick.noted.load(Ordering::Relaxed))
}

/// Where host functions return to guest code: here a guest whose time was up meanwhile gives the
/// core back.
#[inline]
pub(crate) fn on_return() {
    if is_due() {
        preempted();
    }
}

impl Tick {
    /// Sets the timer. Safe in a signal handler.
    fn arm(&self, at: u64) {
        if !self.ready.load(Ordering::Relaxed) {
            // A thread that was not prepared, or ends: its number of a timer means nothing.
            return;
        }
        self.armed.store(at, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would disarm; whatever has passed rings at once.
        let at = at.max(1);
        let value = libc::itimerspec {
            it_interval: zero,
            it_value: libc::timespec {
                tv_sec: (at / 1_000_000_000) as libc::time_t,
                tv_nsec: (at % 1_000_000_000) as libc::c_long,
            },
        };
        // SAFETY: the thread's own timer, and a value that is valid for the call. The call is safe
        // in signal handlers by POSIX.
        unsafe {
            libc::timer_settime(
                self.timer.load(Ordering::Relaxed),
                libc::TIMER_ABSTIME,
                &raw const value,
                ptr::null_mut(),
            );
        }
    }

    fn count(&self, what: usize) {
        let counter = &self.counts[what];
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// What the picture at the head of this file says.
    fn ring(&self, code: libc::c_int, context: &mut libc::ucontext_t) {
        if code == libc::SI_TIMER {
            self.armed.store(NEVER, Ordering::Relaxed);
        } else if code != libc::SI_TKILL {
            return;
        }
        let due = self.due.load(Ordering::Relaxed);
        // SAFETY: the reference is gone when the handler returns.
        let active = unsafe { current() };
        let Some(active) = active else { return self.count(count::IDLE) };
        if code == libc::SI_TIMER {
            if due == NEVER {
                return self.count(count::IDLE);
            }
            if monotonic_ns() < due {
                self.count(count::EARLY);
                return self.arm(due);
            }
        }
        // Where it cannot be done now, the next tick comes for the same reason, a nudge's too.
        self.due.store(due.min(monotonic_ns()), Ordering::Relaxed);
        let (pc, _) = arch::pc_and_sp(context);
        if active.reach().is_code(pc) {
            self.count(count::GUEST);
            // SAFETY: guest code was interrupted, so the save area of its stack is not in use.
            return unsafe { arch::interrupt(context, active.save_area()) };
        }
        self.count(count::HOST);
        self.noted.store(true, Ordering::Relaxed);
        self.arm(monotonic_ns() + TICK_RETRY_NS);
    }
}

unsafe extern "C" fn on_tick(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes both structures, and nobody else refers to them; every thread has
    // an errno.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let context = &mut *context.cast::<libc::ucontext_t>();
        TICK.with(|tick| tick.ring((*info).si_code, context));
        *errno = before;
    }
}

/// A thread's timer; goes with the thread.
struct Timer {
    timer: libc::timer_t,
}

impl Timer {
    fn new() -> io::Result<Self> {
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: all-zero is a valid sigevent, and both pointers are valid for the call.
        let failed = unsafe {
            let mut event = MaybeUninit::<libc::sigevent>::zeroed().assume_init();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal();
            event.sigev_notify_thread_id = libc::gettid();
            libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer)
        };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        TICK.with(|tick| {
            tick.timer.store(timer, Ordering::Relaxed);
            tick.armed.store(NEVER, Ordering::Relaxed);
            tick.ready.store(true, Ordering::Relaxed);
        });
        Ok(Self { timer })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        TICK.with(|tick| tick.ready.store(false, Ordering::Relaxed));
        // SAFETY: the thread's own timer, which nobody sets any more: its guests are gone.
        unsafe { libc::timer_delete(self.timer) };
    }
}
