//! Fibers: guests on stacks of their own, entered, suspended, resumed, abandoned.
//!
//! Isolation rests on this file. A guest leaves for good in one of three ways: its entry function
//! returns; host code on its stack suspends for the last time (`leave`); or the fault handler
//! redirects it to the end of its coroutine. In the last two, guest frames are abandoned and never
//! unwound. Host frames below them hold nothing that needs dropping: host functions have returned
//! to `call.rs` by then. A guest that is preempted (`preempt.rs`) suspends as one that is blocked
//! does.

use std::cell::Cell;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};

use corosensei::stack::Stack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::current::{Active, CURRENT, Finish, Pause};
use super::entry::Entry;
use super::reach::Reach;
use super::{arch, preempt};
use crate::clock;
use crate::cpu::registers::Registers;
use crate::slot::exceptions::{Exceptions, exceptions_of};
use crate::slot::stack::GuestStack;
use crate::slot::words::GuestWords;

/// A guest's execution.
pub(crate) struct Fiber {
    coroutine: Coroutine<(), Pause, Finish, GuestStack>,
    yielder: *const Yielder<(), Pause>,
    guard: Range<usize>,
    /// One more than the highest address of its stack.
    stack_end: usize,
    save_area: Range<usize>,
    /// The registers at its fault.
    fault: Option<Box<Registers>>,
}

impl Fiber {
    /// A fiber that will run what is in `before` (without arguments) and then `entry` with
    /// `values`.
    ///
    /// # Safety
    /// The entries belong to a living instance of a loaded module, and both, as well as `values`
    /// with room for arguments and results, outlive the fiber's execution.
    pub(crate) unsafe fn new(
        stack: GuestStack,
        before: [Option<Entry>; 2],
        entry: Entry,
        values: *mut [u8; 16],
    ) -> Self {
        let (guard, stack_end) = (stack.guard(), stack.base().get());
        let save_area = stack.save_area();
        let coroutine = Coroutine::with_stack(stack, move |yielder, ()| {
            // SAFETY: the coroutine is only resumed by `resume`, which has set CURRENT.
            let active = unsafe { &*CURRENT.get() };
            active.yielder.set(yielder);
            active.entered.set(clock::ticks());
            // SAFETY: thunks of loaded modules, called as their contract says; see the caller's
            // duty.
            unsafe {
                for entry in before.into_iter().flatten().chain([entry]) {
                    arch::enter(entry.code, entry.ctx, values, entry.thunk);
                    let exceptions = exceptions_of(entry.ctx);
                    if exceptions.as_ref().is_some_and(Exceptions::is_pending) {
                        return Finish::Threw;
                    }
                }
            }
            Finish::Returned
        });
        Self { coroutine, yielder: ptr::null(), guard, stack_end, save_area, fault: None }
    }

    /// Runs the guest until it pauses or ends, and interrupts it at `until` (monotonic clock). The
    /// first time, also answers the counter reading just before its first instruction. `reach` is
    /// that of the guest's instance: a fault that it does not explain ends the process.
    pub(crate) fn resume(
        &mut self,
        reach: &Reach,
        until: u64,
    ) -> (CoroutineResult<Pause, Finish>, u64) {
        let active = Active {
            trap_handler: self.coroutine.trap_handler(),
            yielder: Cell::new(self.yielder),
            entered: Cell::new(0),
            guard: self.guard.clone(),
            stack_end: self.stack_end,
            save_area: self.save_area.clone(),
            fault: Cell::new(None),
            reach,
        };
        // A handler must find all of it as soon as it can find it, and nothing of it afterwards.
        compiler_fence(Ordering::SeqCst);
        let outer = CURRENT.replace(&raw const active);
        let outer_due = preempt::begin(until);
        let result = self.coroutine.resume(());
        preempt::end(outer_due);
        CURRENT.set(outer);
        compiler_fence(Ordering::SeqCst);
        self.yielder = active.yielder.get();
        if let CoroutineResult::Return(Finish::Faulted { .. }) = result {
            self.fault = active.fault.get().map(Box::new);
        }
        (result, active.entered.get())
    }

    /// What the processor held when the guest faulted, if it has, and the words of its stack.
    pub(crate) fn fault(&self) -> Option<(&Registers, GuestWords<'_>)> {
        let registers = self.fault.as_deref()?;
        // SAFETY: the stack is this fiber's, whose guest does not run.
        let stack = unsafe { GuestWords::new(self.guard.end..self.stack_end) };
        Some((registers, stack))
    }

    /// Ends the fiber wherever it is and takes its stack back.
    pub(crate) fn into_stack(self) -> GuestStack {
        let mut coroutine = self.coroutine;
        // SAFETY: nothing on a guest's stack needs dropping, see the head of this file.
        unsafe { coroutine.force_reset() };
        let stack = coroutine.into_stack();
        #[cfg(feature = "sanitize")]
        stack.forget_frames();
        stack
    }
}
