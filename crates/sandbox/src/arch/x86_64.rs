//! x86-64: registers in a signal frame, the counter, the stack check before host calls, features.
//!
//! Isolation rests on this file: `stack_checked` is what keeps a guest from running the host off
//! the end of its stack.

use awsm_abi::context::below;
use awsm_abi::cpu::{Arch, CpuFeatures};
use corosensei::trap::TrapHandlerRegs;

/// The time-stamp counter.
#[inline]
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the counter and Linux lets programs read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Program counter and stack pointer of the interrupted code.
pub(crate) fn pc_and_sp(context: &libc::ucontext_t) -> (usize, usize) {
    let registers = &context.uc_mcontext.gregs;
    let register = |index: libc::c_int| registers[index as usize].cast_unsigned() as usize;
    (register(libc::REG_RIP), register(libc::REG_RSP))
}

/// Makes the interrupted code go on where the coroutine's trap handler says.
pub(crate) fn redirect(context: &mut libc::ucontext_t, to: &TrapHandlerRegs) {
    let registers = &mut context.uc_mcontext.gregs;
    let mut set = |index: libc::c_int, value: u64| registers[index as usize] = value.cast_signed();
    set(libc::REG_RIP, to.rip);
    set(libc::REG_RSP, to.rsp);
    set(libc::REG_RBP, to.rbp);
    set(libc::REG_RDI, to.rdi);
    set(libc::REG_RSI, to.rsi);
}

/// Where a host call ends up that finds too little stack: one instruction that faults, recognised by
/// its address. Nothing can be pushed any more at this point.
#[unsafe(naked)]
pub(crate) extern "C" fn stack_exhausted() {
    core::arch::naked_asm!("ud2")
}

/// Defines `$name`, which goes to `$target` if the stack has room for a host call, without touching
/// the stack. The first argument is the context pointer in both.
macro_rules! stack_checked {
    ($(#[$meta:meta])* $vis:vis fn $name:ident [$($generics:tt)*] => $target:expr) => {
        $(#[$meta])*
        #[unsafe(naked)]
        $vis unsafe extern "C" fn $name $($generics)* {
            core::arch::naked_asm!(
                "cmp rsp, qword ptr [rdi - {limit}]",
                "jb {exhausted}",
                "jmp {target}",
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
            [$(($llvm, std::arch::is_x86_feature_detected!($rust))),*]
        };
    }
    let features = present![
        "cx16" is "cmpxchg16b", "popcnt" is "popcnt", "sse3" is "sse3", "ssse3" is "ssse3",
        "sse4.1" is "sse4.1", "sse4.2" is "sse4.2", "avx" is "avx", "avx2" is "avx2",
        "bmi" is "bmi1", "bmi2" is "bmi2", "f16c" is "f16c", "fma" is "fma", "lzcnt" is "lzcnt",
        "movbe" is "movbe", "xsave" is "xsave", "avx512f" is "avx512f", "avx512bw" is "avx512bw",
        "avx512cd" is "avx512cd", "avx512dq" is "avx512dq", "avx512vl" is "avx512vl",
        "adx" is "adx", "aes" is "aes", "avx512ifma" is "avx512ifma",
        "avx512vbmi" is "avx512vbmi", "avx512vpopcntdq" is "avx512vpopcntdq",
        "gfni" is "gfni", "pclmul" is "pclmulqdq", "sha" is "sha",
    ];
    let present = features.iter().filter(|(_, present)| *present).map(|(name, _)| *name);
    // Every x86-64 processor of this century has LAHF and SAHF in 64-bit mode; std has no name for it.
    CpuFeatures::from_names(Arch::X86_64, present.chain(["sahf"]))
}
