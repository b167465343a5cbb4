//! AArch64: registers in a signal frame, the counter, the stack check before host calls, features.
//!
//! Isolation rests on this file: `stack_checked` is what keeps a guest from running the host off
//! the end of its stack.

use awsm_abi::context::below;
use awsm_abi::cpu::{Arch, CpuFeatures};
use corosensei::trap::TrapHandlerRegs;

/// The virtual counter.
#[inline]
pub(crate) fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reading the virtual counter has no side effect and Linux lets programs read it.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Program counter and stack pointer of the interrupted code.
pub(crate) fn pc_and_sp(context: &libc::ucontext_t) -> (usize, usize) {
    (context.uc_mcontext.pc as usize, context.uc_mcontext.sp as usize)
}

/// Makes the interrupted code go on where the coroutine's trap handler says.
pub(crate) fn redirect(context: &mut libc::ucontext_t, to: &TrapHandlerRegs) {
    let machine = &mut context.uc_mcontext;
    machine.pc = to.pc;
    machine.sp = to.sp;
    machine.regs[0] = to.x0;
    machine.regs[1] = to.x1;
    machine.regs[29] = to.x29;
    machine.regs[30] = to.lr;
}

/// Where a host call ends up that finds too little stack: one instruction that faults, recognised by
/// its address.
#[unsafe(naked)]
pub(crate) extern "C" fn stack_exhausted() {
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
                "ldur x16, [x0, #-{limit}]",
                "cmp sp, x16",
                "b.lo {exhausted}",
                "b {target}",
                limit = const $crate::arch::STACK_LIMIT_BELOW,
                exhausted = sym $crate::arch::stack_exhausted,
                target = sym $target,
            )
        }
    };
}
pub(crate) use stack_checked;

/// Distance of the stack limit below the context pointer.
pub(crate) const STACK_LIMIT_BELOW: u32 = below::STACK_LIMIT;

/// The features of this machine, as far as the contract names them.
pub(crate) fn cpu_features() -> CpuFeatures {
    macro_rules! present {
        ($($llvm:literal is $rust:tt),* $(,)?) => {
            [$(($llvm, std::arch::is_aarch64_feature_detected!($rust))),*]
        };
    }
    let features = present![
        "neon" is "neon", "crc" is "crc", "lse" is "lse", "rdm" is "rdm",
        "dotprod" is "dotprod", "fullfp16" is "fp16", "rcpc" is "rcpc", "sve" is "sve",
    ];
    let present = features.iter().filter(|(_, present)| *present).map(|(name, _)| *name);
    CpuFeatures::from_names(Arch::Aarch64, present)
}
