//! The functions of `wasi_snapshot_preview1`, a file for each family.
//! Source: WASI preview 1, `wasi_snapshot_preview1.witx`.

mod absent;
mod clock;
mod environment;
mod poll;
mod process;
mod random;
mod stdio;

use awsm_sandbox::{HostResult, Linker};

use crate::ctx::WasiCtx;
use crate::errno::Errno;

/// The module name under which guests import the functions.
const MODULE: &str = "wasi_snapshot_preview1";

/// Provides every function of `wasi_snapshot_preview1`.
pub fn add_to_linker(linker: &mut Linker<WasiCtx>) {
    linker
        .func(MODULE, "args_get", environment::args_get)
        .func(MODULE, "args_sizes_get", environment::args_sizes_get)
        .func(MODULE, "environ_get", environment::environ_get)
        .func(MODULE, "environ_sizes_get", environment::environ_sizes_get)
        .func(MODULE, "clock_res_get", clock::clock_res_get)
        .func(MODULE, "clock_time_get", clock::clock_time_get)
        .func(MODULE, "fd_close", stdio::fd_close)
        .func(MODULE, "fd_fdstat_get", stdio::fd_fdstat_get)
        .func(MODULE, "fd_prestat_get", stdio::fd_prestat_get)
        .func(MODULE, "fd_prestat_dir_name", stdio::fd_prestat_dir_name)
        .func(MODULE, "fd_read", stdio::fd_read)
        .func(MODULE, "fd_seek", stdio::fd_seek)
        .func(MODULE, "fd_tell", stdio::fd_tell)
        .func(MODULE, "fd_write", stdio::fd_write)
        .func(MODULE, "poll_oneoff", poll::poll_oneoff)
        .func(MODULE, "proc_exit", process::proc_exit)
        .func(MODULE, "sched_yield", process::sched_yield)
        .func(MODULE, "random_get", random::random_get);
    absent::add_to_linker(linker);
}

/// What a guest gets for a result.
fn errno(result: Result<(), Errno>) -> HostResult<u32> {
    Ok(result.map_or_else(|errno| errno as u32, |()| 0))
}
