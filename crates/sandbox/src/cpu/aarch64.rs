//! AArch64: virtual counter, cache maintenance after writes, CPU features.

use std::ops::Range;

use awsm_abi::cpu::{Arch, CpuFeatures};

/// The virtual counter.
#[inline]
pub(crate) fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reading the virtual counter has no side effect and Linux lets programs read it.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Lets instructions be fetched from memory that was just written. Nobody has run code there since.
/// Source: Arm Architecture Reference Manual, B2.4.4 (data caches to the point of unification, then
/// instruction caches).
pub(crate) fn publish_code(code: &[u8]) {
    let Range { start, end } = code.as_ptr_range();
    let (start, end) = (start as usize, end as usize);
    let sizes: usize;
    // SAFETY: Linux lets programs read the sizes of cache lines.
    unsafe { core::arch::asm!("mrs {}, ctr_el0", out(reg) sizes, options(nomem, nostack)) };
    let (data_line, code_line) = (4_usize << (sizes >> 16 & 15), 4_usize << (sizes & 15));
    for line in (start / data_line * data_line..end).step_by(data_line) {
        // SAFETY: cleans a line of readable memory; its contents stay.
        unsafe { core::arch::asm!("dc cvau, {}", in(reg) line, options(nostack)) };
    }
    // SAFETY: barriers change nothing.
    unsafe { core::arch::asm!("dsb ish", options(nostack)) };
    for line in (start / code_line * code_line..end).step_by(code_line) {
        // SAFETY: drops a line of the instruction caches, which is fetched anew.
        unsafe { core::arch::asm!("ic ivau, {}", in(reg) line, options(nostack)) };
    }
    // SAFETY: as above.
    unsafe { core::arch::asm!("dsb ish", "isb", options(nostack)) };
}

/// The features of this machine, as far as the contract names them.
pub(crate) fn cpu_features() -> CpuFeatures {
    macro_rules! present {
        ($($llvm:literal is $rust:tt),* $(,)?) => {
            [$(($llvm, std::arch::is_aarch64_feature_detected!($rust))),*]
        };
    }
    let features = present![
        "neon" is "neon", "crc" is "crc", "lse" is "lse", "rdm" is "rdm",
        "dotprod" is "dotprod", "fullfp16" is "fp16", "rcpc" is "rcpc",
    ];
    let present = features.iter().filter(|(_, present)| *present).map(|(name, _)| *name);
    CpuFeatures::from_names(Arch::Aarch64, present)
}

/// DWARF's number of the stack pointer. Source: DWARF for the Arm 64-bit architecture, table 1.
pub(crate) const STACK_POINTER: usize = 31;
/// DWARF's number of the return address.
pub(crate) const RETURN_ADDRESS: usize = 30;
