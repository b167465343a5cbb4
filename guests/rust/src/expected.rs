//! Written by `expected.py`: what the built-in workloads must answer.

pub const SHA_PATTERN: &str = "9c004c0c991f72f0b7304889e3e8b4b3051cfeef";
pub const CRC32_PATTERN: u32 = 0x4b575c08;
pub const SUSAN_IMAGE: u32 = 0x36e76b8a;
pub const SUSAN_SMOOTH: u32 = 0x63d8091c;
pub const SUSAN_EDGES: u32 = 0x56230f45;
pub const SUSAN_CORNERS: u32 = 0x1d21cb6c;
pub const BASICMATH_ROOT_SUM: u32 = 0x140ebae;
pub const BITCOUNT_RANDOM: u32 = 0x40044f;
pub const QSORT_RANDOM: u32 = 0x4b4d642b;
pub const QSORT_PATTERNED: u32 = 0x9f2f2815;
pub const STRINGSEARCH_COUNT: u32 = 0x1da5;
pub const STRINGSEARCH_SUM: u32 = 0x7403fa81;
pub const SPIN: u64 = 0xe591aa22a1553a81;
