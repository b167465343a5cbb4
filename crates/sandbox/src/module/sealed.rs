//! The bytes of a shared object, read once into memory that nobody can change. Isolation rests on
//! this file: what is checked is what runs only because nothing can change it in between or later.
//!
//! ```text
//!   file --one read--> private memory --read only--> digest, checks --text executable--> runs
//! ```
//!
//! The memory is anonymous and private: there is no file behind it, so whatever is done to the file
//! from which it was read (written over, cut off, replaced, removed) changes nothing. From the read
//! on it is never writable again, in no process and through no descriptor; and no page of it is
//! ever both writable and executable.
//!
//! Some systems never let memory become executable that was once written (`MemoryDenyWriteExecute=`
//! of systemd, prctl(2) PR_SET_MDWE). There the text goes through a file in memory that is sealed
//! against every change (memfd_create(2)), compared with what was read after it was sealed, and
//! mapped in its place.
//!
//! Roads not taken: mapping the file (lazily, and shared between processes: a loaded module cost no
//! memory that another process had not paid already, and an object of 85 KB was there after 9 us
//! instead of 10, but its page faults were still to come; and `cp new.so live.so` ended the node);
//! the sealed file in memory always (memory of modules would have a name in perf; 2 us a page: 60
//! us for 100 KB, 38 ms instead of 12 for 50 MB); mseal(2) (nothing sealed by it can be unmapped
//! before the process ends).

use std::ffi::CString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::arena::Memory;
use super::elf;
use crate::cpu;
use crate::error::LoadError;
use crate::limits::MODULE_FILE_MAX_BYTES;
use crate::slot::mapping::Access;
use crate::slot::sealed_file::sealed_file;

/// Larger files are looked at before they are read.
const LARGE_BYTES: usize = 256 << 10;

/// Names of mappings have 79 characters at most.
const NAME_CHARS: usize = 60;

/// What may be a module, in memory. Nobody has checked it yet; nobody can change it any more.
pub struct SealedObject {
    memory: Memory,
    /// Bytes of the object from the memory's start on.
    bytes: usize,
}

// SAFETY: nobody writes to the memory, and the value owns it.
unsafe impl Send for SealedObject {}
// SAFETY: as above.
unsafe impl Sync for SealedObject {}

impl fmt::Debug for SealedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedObject").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl SealedObject {
    /// Reads the file at `path`, named after it.
    ///
    /// # Errors
    /// As [`Self::of_file`].
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        // Opening a pipe would wait for its other end.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let name = path.file_name().unwrap_or_default();
        Self::of_file(&file, &name.to_string_lossy())
    }

    /// Reads a file from its beginning to where its end is now. `name` is what the memory will be
    /// called in `/proc/self/maps`.
    ///
    /// # Errors
    /// [`LoadError::NotAFile`] if it is not a regular file, [`LoadError::TooLarge`] if it has more
    /// than [`MODULE_FILE_MAX_BYTES`], [`LoadError::Io`] if it cannot be read or there is no memory
    /// for it; what is wrong with its headers.
    pub fn of_file(file: &File, name: &str) -> Result<Self, LoadError> {
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(LoadError::NotAFile);
        }
        if about.len() > MODULE_FILE_MAX_BYTES {
            return Err(LoadError::TooLarge(about.len()));
        }
        let bytes = about.len() as usize;
        if bytes > LARGE_BYTES {
            // Most of what is no module is refused before there is memory for it. What is loaded is
            // looked at once more when it is in memory.
            let mut head = [0; elf::HEADERS_BYTES];
            let head_bytes = read_at(file, &mut head, 0)?;
            elf::check_headers(&head[..head_bytes], bytes as u64)?;
        }
        // The file may be cut off right now: then that is what is loaded.
        Self::fill(bytes, name, |memory| Ok(read_at(file, memory, 0)?))
    }

    /// Takes these bytes.
    ///
    /// # Errors
    /// As [`Self::of_file`].
    pub fn of_bytes(bytes: &[u8], name: &str) -> Result<Self, LoadError> {
        if bytes.len() as u64 > MODULE_FILE_MAX_BYTES {
            return Err(LoadError::TooLarge(bytes.len() as u64));
        }
        Self::fill(bytes.len(), name, |memory| {
            memory.copy_from_slice(bytes);
            Ok(bytes.len())
        })
    }

    /// Memory of `bytes` bytes as `fill` leaves it, which says how many of them count.
    fn fill(
        bytes: usize,
        name: &str,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, LoadError>,
    ) -> Result<Self, LoadError> {
        let memory = Memory::to_be_filled(bytes)?;
        // SAFETY: the memory is writable and so large; nobody else has it, and the slice is gone
        // before anybody gets it.
        let all = unsafe { std::slice::from_raw_parts_mut(memory.start(), memory.bytes()) };
        let bytes = fill(&mut all[..bytes])?;
        // Nothing of an earlier object is executable beside this one.
        all[bytes..].fill(0);
        memory.protect(0, memory.bytes(), Access::Read)?;
        memory.set_name(&mapping_name(name));
        Ok(Self { memory, bytes })
    }

    /// The bytes, the same ones at any time.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory has so many readable bytes, which nobody can write to, for as long as
        // this value lives.
        unsafe { std::slice::from_raw_parts(self.memory.start(), self.bytes) }
    }

    /// Makes parts of the memory, whole pages, executable besides readable, and gives back what
    /// lies from `end` on. The bytes below `end` stay what they are.
    pub(crate) fn into_executable(
        self,
        text: impl Iterator<Item = Range<usize>>,
        end: usize,
    ) -> Result<Memory, LoadError> {
        let memory = self.memory;
        for range in text {
            let (start, bytes) = (range.start, range.len());
            match memory.protect(start, bytes, Access::Execute) {
                Ok(()) => {}
                Err(error) if is_forbidden(&error) => {
                    execute_sealed_copy(&memory, range).map_err(LoadError::NotExecutable)?;
                }
                Err(error) => return Err(LoadError::NotExecutable(error)),
            }
            // SAFETY: the range was just made readable, and nobody can write to it.
            let code = unsafe { std::slice::from_raw_parts(memory.start().add(start), bytes) };
            cpu::publish_code(code);
        }
        memory.discard_from(end)?;
        Ok(memory)
    }
}

/// Reads until the memory is full or the file ends: how many bytes.
fn read_at(file: &File, memory: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < memory.len() {
        match file.read_at(&mut memory[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(bytes) => done += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The kernel takes printable ASCII without some characters. Source: prctl(2),
/// PR_SET_VMA_ANON_NAME.
fn mapping_name(name: &str) -> CString {
    let printable = |c: char| match c {
        '\\' | '`' | '$' | '[' | ']' => '_',
        ' '..='~' => c,
        _ => '_',
    };
    let name: String = name.chars().take(NAME_CHARS).map(printable).collect();
    CString::new(format!("awsm:{name}")).expect("no zero is printable")
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// Maps over a range of the memory what it contains already, executable, from a sealed file in
/// memory.
fn execute_sealed_copy(memory: &Memory, range: Range<usize>) -> io::Result<()> {
    assert!(range.end <= memory.bytes(), "a range of it");
    // SAFETY: the range lies in the memory, which is readable, and nobody can write to it.
    let text = unsafe { std::slice::from_raw_parts(memory.start().add(range.start), range.len()) };
    let (file, view) = sealed_file(c"awsm-text", text)?;
    // SAFETY: the view is readable, and a sealed file does not change.
    let written = unsafe { std::slice::from_raw_parts(view.start(), range.len()) };
    // Until it was sealed, another process of this user could open it through /proc.
    if written != text {
        return Err(io::Error::other("somebody has changed it"));
    }
    memory.map_file(range.start, range.len(), &file, Access::Execute)
}
