//! What a guest may call: files, streams, clocks, sockets and waiting, over a sandbox's guest
//! memory.
//!
//! [`WasiCtx`] is what an invocation carries: its arguments, environment, standard streams, and
//! what it is granted beyond them ([`Grants`]: directories, connections, how much of it). There is
//! one implementation of what can be done with these (`files`, `streams`, `sockets`, `clocks`,
//! `readiness`); the `faces` on top of it are the interfaces by which guests reach it.
//! [`add_to_linker`] provides all functions of `wasi_snapshot_preview1` and `wasi_unstable`.
//!
//! Invariants: no host function keeps anything across a suspension except in [`WasiCtx`]; every
//! pointer and length from a guest is checked by `awsm_sandbox::guest` and answers `EFAULT`.
#![forbid(unsafe_code)]

mod faces;

mod files;
mod readiness;
mod sockets;

mod ctx;

mod clocks;
mod connect;
mod devices;
mod grants;
mod streams;
mod table;
mod waiting;

mod errno;
mod rights;
mod strings;

pub use ctx::WasiCtx;
pub use errno::Errno;
pub use faces::preview1::add_to_linker;
pub use grants::{FileLimits, Grants, Mount, Socket};
pub use streams::{Output, Stdin};
pub use strings::StringList;
pub use waiting::{Helpers, Interest, Job, Source};
