//! The functions of `wasi_snapshot_preview1`, a file for each family. Source: WASI preview 1,
//! `wasi_snapshot_preview1.witx`; and `wasi_unstable.witx` for the layouts in which `wasi_unstable`
//! differs.

mod buffers;
mod call;
mod clock;
mod descriptor;
mod environment;
mod file;
mod io;
mod path;
mod poll;
mod process;
mod random;
mod readdir;
mod socket;
mod stat;

use awsm_sandbox::Linker;

use crate::ctx::WasiCtx;

/// The module names under which guests import the functions.
const SNAPSHOT: &str = "wasi_snapshot_preview1";
const UNSTABLE: &str = "wasi_unstable";

/// Provides every function of `wasi_snapshot_preview1`, and of `wasi_unstable`, its predecessor.
pub fn add_to_linker(linker: &mut Linker<WasiCtx>) {
    for module in [SNAPSHOT, UNSTABLE] {
        linker
            .func(module, "args_get", environment::args_get)
            .func(module, "args_sizes_get", environment::args_sizes_get)
            .func(module, "environ_get", environment::environ_get)
            .func(module, "environ_sizes_get", environment::environ_sizes_get)
            .func(module, "clock_res_get", clock::clock_res_get)
            .func(module, "clock_time_get", clock::clock_time_get)
            .func(module, "fd_advise", file::fd_advise)
            .func(module, "fd_allocate", file::fd_allocate)
            .func(module, "fd_close", descriptor::fd_close)
            .func(module, "fd_datasync", file::fd_datasync)
            .func(module, "fd_fdstat_get", descriptor::fd_fdstat_get)
            .func(module, "fd_fdstat_set_flags", descriptor::fd_fdstat_set_flags)
            .func(module, "fd_fdstat_set_rights", descriptor::fd_fdstat_set_rights)
            .func(module, "fd_filestat_set_size", file::fd_filestat_set_size)
            .func(module, "fd_filestat_set_times", file::fd_filestat_set_times)
            .func(module, "fd_pread", io::fd_pread)
            .func(module, "fd_prestat_get", descriptor::fd_prestat_get)
            .func(module, "fd_prestat_dir_name", descriptor::fd_prestat_dir_name)
            .func(module, "fd_pwrite", io::fd_pwrite)
            .func(module, "fd_read", io::fd_read)
            .func(module, "fd_readdir", readdir::fd_readdir)
            .func(module, "fd_renumber", descriptor::fd_renumber)
            .func(module, "fd_sync", file::fd_sync)
            .func(module, "fd_tell", file::fd_tell)
            .func(module, "fd_write", io::fd_write)
            .func(module, "path_create_directory", path::path_create_directory)
            .func(module, "path_filestat_set_times", path::path_filestat_set_times)
            .func(module, "path_link", path::path_link)
            .func(module, "path_open", path::path_open)
            .func(module, "path_readlink", path::path_readlink)
            .func(module, "path_remove_directory", path::path_remove_directory)
            .func(module, "path_rename", path::path_rename)
            .func(module, "path_symlink", path::path_symlink)
            .func(module, "path_unlink_file", path::path_unlink_file)
            .func(module, "proc_exit", process::proc_exit)
            .func(module, "proc_raise", process::proc_raise)
            .func(module, "random_get", random::random_get)
            .func(module, "sched_yield", process::sched_yield)
            .func(module, "sock_accept", socket::sock_accept)
            .func(module, "sock_recv", socket::sock_recv)
            .func(module, "sock_send", socket::sock_send)
            .func(module, "sock_shutdown", socket::sock_shutdown);
    }
    linker
        .func(SNAPSHOT, "fd_filestat_get", file::fd_filestat_get)
        .func(SNAPSHOT, "fd_seek", file::fd_seek)
        .func(SNAPSHOT, "path_filestat_get", path::path_filestat_get)
        .func(SNAPSHOT, "poll_oneoff", poll::poll_oneoff)
        .func(UNSTABLE, "fd_filestat_get", file::unstable_fd_filestat_get)
        .func(UNSTABLE, "fd_seek", file::unstable_fd_seek)
        .func(UNSTABLE, "path_filestat_get", path::unstable_path_filestat_get)
        .func(UNSTABLE, "poll_oneoff", poll::unstable_poll_oneoff);
}
