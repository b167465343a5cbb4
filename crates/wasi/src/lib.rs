//! WASI preview 1 over a sandbox's guest memory.
//!
//! [`WasiCtx`] is what an invocation carries: its arguments, environment and standard streams.
//! [`add_to_linker`] provides all functions of `wasi_snapshot_preview1`; each family has its file
//! under `p1`. Functions that need files or sockets answer `ENOSYS` and stand together in
//! `p1/absent.rs`, until each moves to the file of its family.
//!
//! Invariants: no host function keeps anything across a suspension except in [`WasiCtx`]; every
//! pointer and length from a guest is checked by `awsm_sandbox::guest` and answers `EFAULT`.
#![forbid(unsafe_code)]

mod ctx;
mod errno;
mod p1;
mod strings;

pub use ctx::{Output, Stdin, WasiCtx};
pub use errno::Errno;
pub use p1::add_to_linker;
pub use strings::StringList;
