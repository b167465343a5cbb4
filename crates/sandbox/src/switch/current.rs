//! The current guest of a thread, as signal handlers and host calls find it.

use std::cell::Cell;
use std::ops::Range;
use std::ptr;

use awsm_abi::trap::TrapKind;
use corosensei::Yielder;
use corosensei::trap::CoroutineTrapHandler;

use super::arch;
use super::reach::Reach;
use crate::cpu::registers::Registers;
use crate::stop::Wait;

/// The reason of a suspension.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pause {
    /// It waits; resume it when that is over.
    Blocked(Wait),
    /// Its time was up; resume it when it is its turn again.
    Preempted,
    /// It will not be resumed: it ended itself.
    Exited(i32),
    /// It will not be resumed: a function of the host says that it faulted.
    Trapped(TrapKind),
}

/// The end of a guest's entry function.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finish {
    /// It returned.
    Returned,
    /// An exception came out of it.
    Threw,
    /// The fault handler ended it: why, the offending address, and the program counter.
    Faulted { kind: TrapKind, address: usize, pc: usize },
}

/// What signal handlers and host calls need to know of the guest that is running on this thread.
/// Nothing else refers to it mutably, and nothing that a host function changes is part of it.
pub(crate) struct Active {
    pub(super) trap_handler: CoroutineTrapHandler<Finish>,
    pub(super) yielder: Cell<*const Yielder<(), Pause>>,
    /// Counter reading just before the first guest instruction.
    pub(super) entered: Cell<u64>,
    pub(super) guard: Range<usize>,
    /// One more than the highest address of its stack.
    pub(super) stack_end: usize,
    /// Where its registers are kept when it is preempted.
    pub(super) save_area: Range<usize>,
    /// Written by the handler that ends the guest.
    pub(super) fault: Cell<Option<Registers>>,
    /// Outlives this.
    pub(super) reach: *const Reach,
}

thread_local! {
    /// The running guest, or null. Constant-initialised and without a destructor: a plain access in
    /// a signal handler.
    pub(super) static CURRENT: Cell<*const Active> = const { Cell::new(ptr::null()) };
}

/// The guest that runs on this thread, if one does. Safe in a signal handler.
///
/// # Safety
/// The caller does not use the reference once the guest has stopped: a signal handler lets go of it
/// before it returns, a host function before it suspends.
#[inline]
pub(crate) unsafe fn current<'a>() -> Option<&'a Active> {
    // SAFETY: non-null only during `Fiber::resume`, whose `Active` lives until the guest stops.
    unsafe { CURRENT.get().as_ref() }
}

/// Every address of the stack of the guest that runs on this thread, if one does.
pub(crate) fn current_stack() -> Option<Range<usize>> {
    // SAFETY: the reference is gone when this returns, and nothing suspends before.
    unsafe { current() }.map(|active| active.guard.end..active.stack_end)
}

/// Suspends the running guest, from a host function on its stack, until it is resumed. No register
/// holds then what was done for others meanwhile.
pub(crate) fn suspend(pause: Pause) {
    switch_away(pause);
    arch::forget();
}

/// Suspends the running guest until it is resumed.
fn switch_away(pause: Pause) {
    // SAFETY: the reference is gone before the guest suspends.
    let yielder = unsafe { current() }.map(|active| active.yielder.get());
    let yielder = yielder.expect("a guest is running");
    // SAFETY: set when the guest was entered; lives at the base of the stack this runs on.
    unsafe { (*yielder).suspend(pause) };
}

/// Suspends the running guest for good.
pub(crate) fn leave(pause: Pause) -> ! {
    suspend(pause);
    // A guest that has ended is not resumed: `Sandbox` sees to it. Aborts, as it cannot unwind.
    unreachable!("a guest that has left was resumed")
}

impl Active {
    /// The guest's reach.
    #[inline]
    pub(crate) fn reach(&self) -> &Reach {
        // SAFETY: `Fiber::resume` borrows it for longer than this value lives.
        unsafe { &*self.reach }
    }

    /// Where the guest's registers are kept when it is preempted.
    pub(crate) fn save_area(&self) -> &Range<usize> {
        &self.save_area
    }

    /// Addresses whose touch means that the stack is used up.
    pub(crate) fn guard(&self) -> &Range<usize> {
        &self.guard
    }

    /// One more than the highest address of the guest's stack.
    pub(crate) fn stack_end(&self) -> usize {
        self.stack_end
    }

    /// Registers that end the guest with `finish`, which happened where `at` says.
    ///
    /// # Safety
    /// The interrupted code runs on this guest's stack in guest code or in one of `arch`'s faults
    /// on purpose, and the registers are put into the interrupted context.
    pub(crate) unsafe fn end_with(
        &self,
        finish: Finish,
        at: Registers,
    ) -> corosensei::trap::TrapHandlerRegs {
        self.fault.set(Some(at));
        // SAFETY: the caller's duty; nothing on the stack needs dropping.
        unsafe { self.trap_handler.setup_trap_handler(move || finish) }
    }
}

/// Called by `arch::preempt` as an ordinary function, on the guest's stack; returns when the guest
/// is resumed. All registers are as they were afterwards.
pub(crate) extern "C" fn preempted() {
    switch_away(Pause::Preempted);
}
