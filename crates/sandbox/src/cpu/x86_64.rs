//! x86-64: time-stamp counter, instruction fetch after writes, CPU features.

use awsm_abi::cpu::{Arch, CpuFeatures};

/// The time-stamp counter.
#[inline]
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the counter and Linux lets programs read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Lets instructions be fetched from memory that was just written: here they can be anyway. Source:
/// Intel's Software Developer's Manual, volume 3, 11.6 (self-modifying code).
pub(crate) fn publish_code(_code: &[u8]) {}

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
    // Every x86-64 processor of this century has LAHF and SAHF in 64-bit mode; std has no name for
    // it.
    CpuFeatures::from_names(Arch::X86_64, present.chain(["sahf"]))
}

/// DWARF's number of the stack pointer. Source: System V psABI for AMD64, figure 3.36.
pub(crate) const STACK_POINTER: usize = 7;
/// DWARF's number of the return address.
pub(crate) const RETURN_ADDRESS: usize = 16;
