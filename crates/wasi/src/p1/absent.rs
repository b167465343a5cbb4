//! Functions that are not provided yet: each answers `ENOSYS`, so that modules which merely import
//! them load and run.

// The signatures are the specification's.
#![allow(clippy::too_many_arguments)]

use awsm_sandbox::{HostCall, HostResult, Linker};

use super::MODULE;
use crate::ctx::WasiCtx;
use crate::errno::Errno;

/// Defines a function that takes anything and answers `ENOSYS`, and links it under each name.
macro_rules! absent {
    ($linker:ident: $($name:literal ($($arg:ident: $ty:ty),*);)*) => {$({
        fn absent(_call: &mut HostCall<'_, WasiCtx>, $($arg: $ty),*) -> HostResult<u32> {
            let _ = ($($arg,)*);
            Ok(Errno::Nosys as u32)
        }
        $linker.func(MODULE, $name, absent);
    })*};
}

/// Provides them all.
pub(super) fn add_to_linker(linker: &mut Linker<WasiCtx>) {
    absent! { linker:
        "fd_advise" (fd: u32, offset: u64, len: u64, advice: u32);
        "fd_allocate" (fd: u32, offset: u64, len: u64);
        "fd_datasync" (fd: u32);
        "fd_fdstat_set_flags" (fd: u32, flags: u32);
        "fd_fdstat_set_rights" (fd: u32, base: u64, inheriting: u64);
        "fd_filestat_get" (fd: u32, out: u32);
        "fd_filestat_set_size" (fd: u32, size: u64);
        "fd_filestat_set_times" (fd: u32, atime: u64, mtime: u64, flags: u32);
        "fd_pread" (fd: u32, iovs: u32, count: u32, offset: u64, out: u32);
        "fd_pwrite" (fd: u32, iovs: u32, count: u32, offset: u64, out: u32);
        "fd_readdir" (fd: u32, buf: u32, len: u32, cookie: u64, out: u32);
        "fd_renumber" (from: u32, to: u32);
        "fd_sync" (fd: u32);
        "path_create_directory" (fd: u32, path: u32, len: u32);
        "path_filestat_get" (fd: u32, flags: u32, path: u32, len: u32, out: u32);
        "path_filestat_set_times"
            (fd: u32, flags: u32, path: u32, len: u32, atime: u64, mtime: u64, which: u32);
        "path_link" (fd: u32, flags: u32, path: u32, len: u32, to: u32, name: u32, name_len: u32);
        "path_open"
            (fd: u32, dirflags: u32, path: u32, len: u32, oflags: u32, base: u64, inheriting: u64,
             fdflags: u32, out: u32);
        "path_readlink" (fd: u32, path: u32, len: u32, buf: u32, buf_len: u32, out: u32);
        "path_remove_directory" (fd: u32, path: u32, len: u32);
        "path_rename" (fd: u32, path: u32, len: u32, to: u32, name: u32, name_len: u32);
        "path_symlink" (target: u32, target_len: u32, fd: u32, path: u32, len: u32);
        "path_unlink_file" (fd: u32, path: u32, len: u32);
        "proc_raise" (signal: u32);
        "sock_accept" (fd: u32, flags: u32, out: u32);
        "sock_recv" (fd: u32, iovs: u32, count: u32, flags: u32, len_out: u32, flags_out: u32);
        "sock_send" (fd: u32, iovs: u32, count: u32, flags: u32, out: u32);
        "sock_shutdown" (fd: u32, how: u32);
    }
}
