//! Sealed files in memory, which nobody can change.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};

use super::mapping::{Access, Mapping};

/// A file in memory with these bytes that nobody can change any more, and a view of it.
/// Source: memfd_create(2).
pub(crate) fn sealed_file(name: &CStr, bytes: &[u8]) -> io::Result<(File, Mapping)> {
    let mut file = memory_file(name)?;
    file.write_all(bytes)?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: adds seals to a file of this function's own; no memory is involved.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let view = Mapping::reserve(bytes.len())?;
    view.map_file(0, bytes.len(), file.as_raw_fd(), 0, Access::Read)?;
    Ok((file, view))
}

/// An empty file in memory that can be sealed.
fn memory_file(name: &CStr) -> io::Result<File> {
    // It is no program, though parts of it may be mapped executable. Kernels before 6.3 do not know
    // this; later ones may insist on it (`vm.memfd_noexec`).
    for no_program in [libc::MFD_NOEXEC_SEAL, 0] {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | no_program;
        // SAFETY: the name ends with a zero; the call touches no other memory.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: a new descriptor that nobody else has.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
    }
    Err(io::ErrorKind::Unsupported.into())
}
