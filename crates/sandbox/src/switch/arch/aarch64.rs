//! AArch64: registers in a signal frame, the stack check before host calls.
//!
//! Isolation rests on this file: `stack_checked` is what keeps a guest from running the host off
//! the end of its stack, and `preempt` is what an interrupted guest must not notice.
//!
//! ```text
//!   end of the stack's save area
//!     interrupted pc and sp       written by `interrupt`, in the signal handler
//!     q0 .. q31                   saved by `preempt`
//!     nzcv, fpcr, fpsr
//!     x0 .. x30
//!     frames of `preempted`       until the guest is resumed
//! ```
//!
//! A jump needs a register, so guest code does without x18 (`awsmc` tells LLVM); it is the way
//! back. SVE registers are not saved: no code for SVE is made, and the loader refuses what asks for
//! it.

use std::ops::Range;

use awsm_abi::context::below;
use corosensei::trap::TrapHandlerRegs;

use crate::cpu::registers::Registers;
use crate::cpu::{RETURN_ADDRESS, STACK_POINTER};
use crate::switch::entry::Thunk;

/// Program counter and stack pointer of the interrupted code.
pub(crate) fn pc_and_sp(context: &libc::ucontext_t) -> (usize, usize) {
    (context.uc_mcontext.pc as usize, context.uc_mcontext.sp as usize)
}

/// Registers of the interrupted code; with `called`, of the code that has just called it.
///
/// # Safety
/// With `called`, a call was the last thing that happened to the stack.
pub(crate) unsafe fn registers(context: &libc::ucontext_t, called: bool) -> Registers {
    let machine = &context.uc_mcontext;
    let mut words = [0; 32];
    for (word, register) in words.iter_mut().zip(machine.regs) {
        *word = register as usize;
    }
    words[STACK_POINTER] = machine.sp as usize;
    let pc = if called { words[RETURN_ADDRESS] } else { machine.pc as usize };
    Registers { words, pc, called }
}

/// The second argument of the function whose first instruction was interrupted.
pub(crate) fn second_argument(context: &libc::ucontext_t) -> u64 {
    context.uc_mcontext.regs[1]
}

/// Makes the interrupted code go on where the coroutine's trap handler says.
///
/// # Safety
/// What was interrupted is the running guest of that coroutine, and `to` was made for this.
pub(crate) unsafe fn redirect(context: &mut libc::ucontext_t, to: &TrapHandlerRegs) {
    let machine = &mut context.uc_mcontext;
    machine.pc = to.pc;
    machine.sp = to.sp;
    machine.regs[0] = to.x0;
    machine.regs[1] = to.x1;
    machine.regs[29] = to.x29;
    machine.regs[30] = to.lr;
}

/// How far behind a breakpoint's first byte its program counter is reported.
pub(crate) const BREAKPOINT_BYTES: usize = 0;

/// Nothing to find out: all that is saved is always there.
///
/// # Errors
/// None.
pub(crate) fn prepare_preemption() -> Result<(), &'static str> {
    Ok(())
}

/// Makes interrupted guest code go on in `preempt`, on the save area of its stack.
///
/// # Safety
/// Guest code was interrupted, and nothing else uses the area, which has `PREEMPT_STACK_BYTES`.
pub(crate) unsafe fn interrupt(context: &mut libc::ucontext_t, save_area: &Range<usize>) {
    let (pc, sp) = pc_and_sp(context);
    let frame = save_area.end - 2 * size_of::<usize>();
    // SAFETY: the caller's duty: the area is open and not in use.
    unsafe { (frame as *mut [usize; 2]).write([pc, sp]) };
    context.uc_mcontext.pc = preempt as *const () as u64;
    context.uc_mcontext.sp = frame as u64;
}

/// Saves everything that guest code may hold, calls `preempted`, restores everything, and returns
/// to the interrupted instruction and stack. Entered by `interrupt` with the stack pointer at the
/// interrupted pc.
#[unsafe(naked)]
extern "C" fn preempt() {
    core::arch::naked_asm!(
        "sub sp, sp, #784",
        "stp x0, x1, [sp, #0]", "stp x2, x3, [sp, #16]", "stp x4, x5, [sp, #32]",
        "stp x6, x7, [sp, #48]", "stp x8, x9, [sp, #64]", "stp x10, x11, [sp, #80]",
        "stp x12, x13, [sp, #96]", "stp x14, x15, [sp, #112]", "stp x16, x17, [sp, #128]",
        "stp x18, x19, [sp, #144]", "stp x20, x21, [sp, #160]", "stp x22, x23, [sp, #176]",
        "stp x24, x25, [sp, #192]", "stp x26, x27, [sp, #208]", "stp x28, x29, [sp, #224]",
        "mrs x0, nzcv", "mrs x1, fpcr", "mrs x2, fpsr",
        "stp x30, x0, [sp, #240]", "stp x1, x2, [sp, #256]",
        "stp q0, q1, [sp, #272]", "stp q2, q3, [sp, #304]", "stp q4, q5, [sp, #336]",
        "stp q6, q7, [sp, #368]", "stp q8, q9, [sp, #400]", "stp q10, q11, [sp, #432]",
        "stp q12, q13, [sp, #464]", "stp q14, q15, [sp, #496]", "stp q16, q17, [sp, #528]",
        "stp q18, q19, [sp, #560]", "stp q20, q21, [sp, #592]", "stp q22, q23, [sp, #624]",
        "stp q24, q25, [sp, #656]", "stp q26, q27, [sp, #688]", "stp q28, q29, [sp, #720]",
        "stp q30, q31, [sp, #752]",
        "bl {preempted}",
        "ldp q0, q1, [sp, #272]", "ldp q2, q3, [sp, #304]", "ldp q4, q5, [sp, #336]",
        "ldp q6, q7, [sp, #368]", "ldp q8, q9, [sp, #400]", "ldp q10, q11, [sp, #432]",
        "ldp q12, q13, [sp, #464]", "ldp q14, q15, [sp, #496]", "ldp q16, q17, [sp, #528]",
        "ldp q18, q19, [sp, #560]", "ldp q20, q21, [sp, #592]", "ldp q22, q23, [sp, #624]",
        "ldp q24, q25, [sp, #656]", "ldp q26, q27, [sp, #688]", "ldp q28, q29, [sp, #720]",
        "ldp q30, q31, [sp, #752]",
        "ldp x1, x2, [sp, #256]", "ldp x30, x0, [sp, #240]",
        "msr nzcv, x0", "msr fpcr, x1", "msr fpsr, x2",
        "mov x18, sp",
        "ldp x0, x1, [x18, #0]", "ldp x2, x3, [x18, #16]", "ldp x4, x5, [x18, #32]",
        "ldp x6, x7, [x18, #48]", "ldp x8, x9, [x18, #64]", "ldp x10, x11, [x18, #80]",
        "ldp x12, x13, [x18, #96]", "ldp x14, x15, [x18, #112]", "ldr x16, [x18, #128]",
        "ldr x19, [x18, #152]", "ldp x20, x21, [x18, #160]", "ldp x22, x23, [x18, #176]",
        "ldp x24, x25, [x18, #192]", "ldp x26, x27, [x18, #208]", "ldp x28, x29, [x18, #224]",
        // The guest's stack pointer by way of x17, then x17; the guest does without x18.
        "ldr x17, [x18, #792]",
        "mov sp, x17",
        "ldr x17, [x18, #136]",
        "ldr x18, [x18, #784]",
        "br x18",
        preempted = sym crate::switch::current::preempted,
    )
}

/// Where a host call ends up that finds too little stack: one instruction that faults, recognised
/// by its address.
#[unsafe(naked)]
pub(crate) extern "C" fn stack_exhausted() {
    core::arch::naked_asm!("udf #0")
}

/// Empties all vectors but the lower halves of eight, which are the caller's.
macro_rules! empty_vectors {
    () => {
        concat!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, \
             29, 30, 31\n",
            "movi v\\n\\().2d, #0\n",
            ".endr\n",
            ".irp n, 8, 9, 10, 11, 12, 13, 14, 15\n",
            "mov v\\n\\().d[1], xzr\n",
            ".endr",
        )
    };
}

/// Calls an entry thunk, given as the last argument, with all vectors empty: the guest before may
/// have left something there. (The lower halves of eight are the caller's. Like the general
/// registers they hold what is the host's, which compiled code only keeps for its caller.)
///
/// # Safety
/// The thunk's contract, see [`Thunk`].
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn enter(
    code: *const (),
    ctx: *mut u8,
    values: *mut [u8; 16],
    thunk: Thunk,
) {
    core::arch::naked_asm!(empty_vectors!(), "br x3")
}

/// Empties every register that a function need not keep: a guest that has waited in a host call
/// finds nothing there of those that this thread has worked for meanwhile.
#[unsafe(naked)]
pub(crate) extern "C" fn forget() {
    core::arch::naked_asm!(
        empty_vectors!(),
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17",
        "mov x\\n, xzr",
        ".endr",
        "ret",
    )
}

/// Where a guest ends that traps: the same, with the trap's number as second argument. (Not taken:
/// suspending for the last time, which is a microsecond quicker but loses the guest's registers.)
#[unsafe(naked)]
pub(crate) extern "C" fn trapped() {
    core::arch::naked_asm!("udf #0")
}

/// Defines `$name`, which goes to `$target` if the stack has room for a host call, without touching
/// the stack. The first argument is the context pointer in both.
macro_rules! stack_checked {
    ($(#[$meta:meta])* $vis:vis fn $name:ident [$($generics:tt)*] => $target:expr) => {
        $(#[$meta])*
        #[unsafe(naked)]
        $vis unsafe extern "C" fn $name $($generics)* {
            core::arch::naked_asm!(
                // The distance is more than one instruction holds.
                "sub x16, x0, #{pages}, lsl #12",
                "ldur x16, [x16, #-{rest}]",
                "cmp sp, x16",
                "b.hs 2f",
                // A conditional branch reaches a mebibyte only.
                "b {exhausted}",
                "2: b {target}",
                pages = const $crate::switch::arch::STACK_LIMIT_BELOW >> 12,
                rest = const $crate::switch::arch::STACK_LIMIT_BELOW & 0xfff,
                exhausted = sym $crate::switch::arch::stack_exhausted,
                target = sym $target,
            )
        }
    };
}
pub(crate) use stack_checked;

/// As `stack_checked`, for a function of three arguments: all registers that a function keeps for
/// its caller are stored first, before any compiled prologue can have moved one, and `$target`'s
/// fourth argument is the address of the lowest.
macro_rules! stack_checked_with_registers {
    ($vis:vis fn $name:ident => $target:expr) => {
        #[unsafe(naked)]
        $vis unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                "sub x16, x0, #{pages}, lsl #12",
                "ldur x16, [x16, #-{rest}]",
                "cmp sp, x16",
                "b.hs 2f",
                // A conditional branch reaches a mebibyte only.
                "b {exhausted}",
                "2: stp x29, x30, [sp, #-160]!",
                "stp x19, x20, [sp, #16]", "stp x21, x22, [sp, #32]", "stp x23, x24, [sp, #48]",
                "stp x25, x26, [sp, #64]", "stp x27, x28, [sp, #80]",
                "stp d8, d9, [sp, #96]", "stp d10, d11, [sp, #112]",
                "stp d12, d13, [sp, #128]", "stp d14, d15, [sp, #144]",
                "mov x3, sp",
                "bl {target}",
                // The target has kept the other registers as they were.
                "ldp x29, x30, [sp], #160",
                "ret",
                pages = const $crate::switch::arch::STACK_LIMIT_BELOW >> 12,
                rest = const $crate::switch::arch::STACK_LIMIT_BELOW & 0xfff,
                exhausted = sym $crate::switch::arch::stack_exhausted,
                target = sym $target,
            )
        }
    };
}
pub(crate) use stack_checked_with_registers;

/// Distance of the stack limit below the context pointer.
pub(crate) const STACK_LIMIT_BELOW: u32 = below::STACK_LIMIT;
