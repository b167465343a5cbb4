//! The contract between compiled modules and the runtime.
//!
//! `awsmc` writes shared objects; the node loads them. Whatever the two must agree on is written
//! here once: how a module describes itself ([`desc`]), how an instance looks to compiled code
//! ([`context`]), what it may call in the runtime
//! ([`builtin`]), where arguments of calls in tail position travel ([`tail`]), how guests fault
//! ([`trap`]) and throw ([`exception`]), which processor features the code needs ([`cpu`]), and how
//! both show names that a module's maker chose ([`visible`]).
//! No code runs here: plain data, constants, and what both sides would otherwise do in two ways.
//!
//! Changing anything that compiled code can see means raising [`ABI_VERSION`]; the loader refuses
//! every other version by name.
#![forbid(unsafe_code)]

pub mod builtin;
pub mod context;
pub mod cpu;
pub mod desc;
pub mod exception;
pub mod tail;
pub mod trap;
pub mod visible;

/// Version of everything in this crate that a compiled module depends on.
pub const ABI_VERSION: u32 = 5;

/// First bytes of every [`desc::ModuleDesc`].
pub const MAGIC: [u8; 8] = *b"aWsm\0so\x01";

/// The one dynamic symbol that a module exports: its [`desc::ModuleDesc`].
pub const DESC_SYMBOL: &str = "awsm_module";

/// Bytes in a page of linear memory.
/// Source: WebAssembly core specification, section 2.5.5 (memories).
pub const WASM_PAGE_BYTES: u64 = 65_536;

/// Bytes that a `guard` mode memory keeps reserved: any 32-bit address plus any 32-bit offset plus
/// the widest access stays inside, so code needs no bounds check.
pub const GUARD_RESERVE_BYTES: u64 = (8 << 30) + WASM_PAGE_BYTES;

/// How loads and stores are kept inside linear memory; recorded in the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Isolation {
    /// Reserved address space catches what misses: no check in the code.
    Guard = 0,
    /// An explicit comparison before each access: small reservations.
    Checked = 1,
    /// No isolation at all, only to measure what it costs: the runtime refuses to load it.
    None = 2,
}

impl Isolation {
    /// The mode that a descriptor's number stands for.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Self> {
        [Self::Guard, Self::Checked, Self::None].into_iter().find(|mode| *mode as u32 == raw)
    }

    /// The name that the command line uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Checked => "checked",
            Self::None => "none",
        }
    }
}
