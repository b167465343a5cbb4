//! A guest on a stack of its own: entered, suspended, resumed, abandoned.
//!
//! Isolation rests on this file. A guest leaves for good in one of three ways: its entry function
//! returns; host code on its stack suspends for the last time (`leave`); or the fault handler
//! redirects it to the end of its coroutine. In the last two, guest frames are abandoned and never
//! unwound. Host frames below them hold nothing that needs dropping: host functions have returned to
//! `call.rs` by then. A guest that is preempted (`preempt.rs`) suspends as one that is blocked does.

use std::cell::Cell;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};

use awsm_abi::trap::TrapKind;
use corosensei::stack::Stack;
use corosensei::trap::CoroutineTrapHandler;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::exceptions::Exceptions;
use crate::module::{FuncIdx, Module};
use crate::reach::Reach;
use crate::sandbox::Wait;
use crate::stack::GuestStack;
use crate::trace::{self, GuestWords, Registers};
use crate::{arch, preempt};

/// Entry thunk of a function type, see [`awsm_abi::desc::TypeDesc::entry`].
pub(crate) type Thunk = unsafe extern "C" fn(code: *const (), ctx: *mut u8, values: *mut [u8; 16]);

/// A function to enter: its type's thunk, its code, its instance's context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub thunk: Thunk,
    pub code: *const (),
    pub ctx: *mut u8,
    /// Code for calls in tail position, or null.
    pub tail: *const (),
}

/// Why a guest suspended.
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

/// How a guest's entry function ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finish {
    /// It returned.
    Returned,
    /// An exception came out of it.
    Threw,
    /// The fault handler ended it: why, the offending address, and the program counter.
    Faulted { kind: TrapKind, address: usize, pc: usize },
}

/// A guest's execution.
pub(crate) struct Fiber {
    coroutine: Coroutine<(), Pause, Finish, GuestStack>,
    yielder: *const Yielder<(), Pause>,
    guard: Range<usize>,
    /// One more than the highest address of its stack.
    stack_end: usize,
    save_area: Range<usize>,
    /// What the processor held when it faulted.
    fault: Option<Box<Registers>>,
}

/// What signal handlers and host calls need to know of the guest that is running on this thread. Nothing
/// else refers to it mutably, and nothing that a host function changes is part of it.
pub(crate) struct Active {
    trap_handler: CoroutineTrapHandler<Finish>,
    yielder: Cell<*const Yielder<(), Pause>>,
    /// Counter reading just before the first guest instruction.
    entered: Cell<u64>,
    guard: Range<usize>,
    /// One more than the highest address of its stack.
    stack_end: usize,
    /// Where its registers are kept when it is preempted.
    save_area: Range<usize>,
    /// Written by the handler that ends the guest.
    fault: Cell<Option<Registers>>,
    /// Outlives this.
    reach: *const Reach,
}

thread_local! {
    /// The running guest, or null. Constant-initialised and without a destructor: a plain access in
    /// a signal handler.
    static CURRENT: Cell<*const Active> = const { Cell::new(ptr::null()) };
}

impl Fiber {
    /// A fiber that will run what is in `before` (without arguments) and then `entry` with `values`.
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
            active.entered.set(crate::clock::ticks());
            // SAFETY: thunks of loaded modules, called as their contract says; see the caller's duty.
            unsafe {
                for entry in before.into_iter().flatten().chain([entry]) {
                    arch::enter(entry.code, entry.ctx, values, entry.thunk);
                    let exceptions = crate::builtins::exceptions_of(entry.ctx);
                    if exceptions.as_ref().is_some_and(Exceptions::is_pending) {
                        return Finish::Threw;
                    }
                }
            }
            Finish::Returned
        });
        Self { coroutine, yielder: ptr::null(), guard, stack_end, save_area, fault: None }
    }

    /// Runs the guest until it pauses or ends, and interrupts it at `until` (monotonic clock). The first
    /// time, also answers the counter reading just before its first instruction. `reach` is that of the
    /// guest's instance: a fault that it does not explain ends the process.
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

    /// The functions of `module` that were running when the guest faulted, innermost first.
    pub(crate) fn trace(&self, module: &Module) -> Vec<FuncIdx> {
        let Some(registers) = &self.fault else { return Vec::new() };
        // SAFETY: the stack is this fiber's, whose guest does not run.
        let stack = unsafe { GuestWords::new(self.guard.end..self.stack_end) };
        trace::walk(module, registers, &stack)
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

/// Suspends the running guest, from a host function on its stack, until it is resumed.
pub(crate) fn suspend(pause: Pause) {
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
    /// What the guest may do.
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
    /// The interrupted code runs on this guest's stack in guest code or in one of `arch`'s faults on
    /// purpose, and the registers are put into the interrupted context.
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
