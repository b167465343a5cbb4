//! Listing directories. A cookie is a place of the host's listings.

use awsm_sandbox::{GuestPtr, HostResult};

use super::call::{Call, answer, begin};
use super::stat::filetype;
use crate::files::Entry;

/// Bytes of a `dirent` before its name.
const DIRENT_BYTES: usize = 24;
/// Most that one call gives, however large the guest's buffer is.
const GIVEN_BYTES: u32 = 64 << 10;

/// `fd_readdir`: entries from a cookie on, as many as the buffer holds. The last is cut off where
/// the buffer ends, which tells the guest that there is more.
pub(super) fn fd_readdir(
    call: &mut Call<'_>,
    fd: u32,
    buffer: GuestPtr<u8>,
    len: u32,
    cookie: u64,
    used: GuestPtr<u32>,
) -> HostResult<u32> {
    let (mut memory, ctx) = begin(call);
    answer((|| {
        memory.bytes(buffer.slice(len))?;
        memory.read(used)?;
        let bytes = ctx.list(fd, cookie, len.min(GIVEN_BYTES) as usize, append_dirent)?;
        memory.bytes_mut(buffer.slice(bytes.len() as u32))?.copy_from_slice(&bytes);
        memory.write(used, bytes.len() as u32)?;
        Ok(())
    })())
}

fn append_dirent(bytes: &mut Vec<u8>, entry: &Entry<'_>) {
    let mut dirent = [0; DIRENT_BYTES];
    dirent[..8].copy_from_slice(&entry.next.to_le_bytes());
    dirent[8..16].copy_from_slice(&entry.ino.to_le_bytes());
    dirent[16..20].copy_from_slice(&(entry.name.len() as u32).to_le_bytes());
    dirent[20] = filetype(entry.kind);
    bytes.extend_from_slice(&dirent);
    bytes.extend_from_slice(entry.name);
}
