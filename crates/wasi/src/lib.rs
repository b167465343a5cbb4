//! WASI preview 1 over a sandbox's guest memory.
//!
//! [`WasiCtx`] is what an invocation carries: its arguments, environment, standard streams, and what it
//! is granted beyond them ([`Grants`]: directories, connections, how much of it). [`add_to_linker`]
//! provides all functions of `wasi_snapshot_preview1` and `wasi_unstable`; each family has its file under
//! `p1`. Descriptors are in `table`, waiting is in `wait`.
//!
//! Invariants: no host function keeps anything across a suspension except in [`WasiCtx`]; every
//! pointer and length from a guest is checked by `awsm_sandbox::guest` and answers `EFAULT`.
#![forbid(unsafe_code)]

mod ctx;
mod errno;
mod grants;
mod p1;
mod rights;
mod socket;
mod strings;
mod table;
mod wait;

pub use ctx::{Output, Stdin, WasiCtx};
pub use errno::Errno;
pub use grants::{FileLimits, Grants, Mount, Socket};
pub use p1::add_to_linker;
pub use strings::StringList;
pub use wait::{Helpers, Interest, Job, Source};
