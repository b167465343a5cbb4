//! Probes of the system: whether the assumptions of the reset hold here.
//!
//! Isolation rests on this file: it says which way of cleaning is sure here. See `residency` for
//! what rests on which answer.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

use crate::limits::Cleaning;
use crate::slot::mapping::{Access, Mapping, PAGE_BYTES};
use crate::slot::residency::Faults;
use crate::slot::sealed_file::sealed_file;

/// The result of the probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The quickest way that is sure here.
    pub cleaning: Cleaning,
    /// What is not as the quickest way needs it, if anything: a line for the log.
    pub reason: Option<&'static str>,
}

/// The reason why this system cannot run guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Its pages have this size in bytes.
    PageBytes(u64),
    /// It gives no memory for the trial.
    NoMemory,
    /// Memory that was given back does not read as zeroes.
    Discard,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageBytes(bytes) => write!(
                f,
                "this system has pages of {bytes} bytes, and sandboxes need pages of {PAGE_BYTES}: \
                 start a kernel with such pages"
            ),
            Self::NoMemory => {
                f.write_str("the system gives no memory for sandboxes: look at `ulimit -v`")
            }
            Self::Discard => f.write_str(
                "memory that was given back to this system still has its contents: sandboxes cannot \
                 be cleaned here",
            ),
        }
    }
}

impl std::error::Error for Unfit {}

/// Tries the system, the first time that it is asked.
///
/// # Errors
/// If no sandbox could be isolated here.
pub fn probe() -> Result<Findings, Unfit> {
    static FOUND: OnceLock<Result<Findings, Unfit>> = OnceLock::new();
    FOUND.get_or_init(try_system).clone()
}

impl Cleaning {
    /// The quickest way that is sure here; the slowest where none is.
    #[must_use]
    pub fn probed() -> Self {
        probe().map_or(Self::Discarded, |findings| findings.cleaning)
    }
}

fn try_system() -> Result<Findings, Unfit> {
    // SAFETY: asks for a number.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if page_bytes != PAGE_BYTES as libc::c_long {
        return Err(Unfit::PageBytes(page_bytes.cast_unsigned()));
    }
    let trial = Trial::new().ok_or(Unfit::NoMemory)?;
    let found = |cleaning, reason| Ok(Findings { cleaning, reason: Some(reason) });
    if !trial.discards() {
        return Err(Unfit::Discard);
    }
    if !trial.map_tells_own_pages() {
        return found(
            Cleaning::Discarded,
            "/proc/self/pagemap does not tell which pages are written: all memory of a sandbox is \
             given back to the system after each invocation, which is slow",
        );
    }
    if !trial.pages_stay_small() {
        return found(
            Cleaning::Scanned,
            "huge pages cannot be switched off: the system is asked for written pages after each \
             invocation, which is slower",
        );
    }
    if !trial.faults_are_counted() {
        return found(
            Cleaning::Scanned,
            "the system does not count each page fault of a thread: it is asked for written pages \
             after each invocation, which is slower",
        );
    }
    Ok(Findings { cleaning: Cleaning::Counted, reason: None })
}

/// Memory to try things with: some pages that are nobody's, and some of a file.
struct Trial {
    plain: Mapping,
    filed: Mapping,
    _file: File,
}

/// Room for a huge page at any alignment.
const PLAIN_BYTES: usize = 4 << 20;
const FILED_PAGES: usize = 8;

impl Trial {
    fn new() -> Option<Self> {
        let plain = Mapping::reserve(PLAIN_BYTES).ok()?;
        plain.without_huge_pages();
        plain.protect(0, PLAIN_BYTES, Access::ReadWrite).ok()?;
        let bytes = [0x5a; FILED_PAGES * PAGE_BYTES];
        let file = sealed_file(c"awsm-probe", &bytes).ok()?.0;
        let filed = Mapping::reserve(bytes.len()).ok()?;
        filed.map_sealed(0, bytes.len(), &file, 0).ok()?;
        filed.without_huge_pages();
        Some(Self { plain, filed, _file: file })
    }

    /// Writes to a page as a guest does.
    fn write(mapping: &Mapping, page: usize) {
        // SAFETY: both mappings are open for reading and writing, have such a page, and are this
        // value's own.
        unsafe { mapping.start().add(page * PAGE_BYTES).write_volatile(1) };
    }

    fn read(mapping: &Mapping, page: usize) -> u8 {
        // SAFETY: as above.
        unsafe { mapping.start().add(page * PAGE_BYTES).read_volatile() }
    }

    /// Has the system write to a page for this thread.
    fn write_by_system(mapping: &Mapping, page: usize) -> bool {
        // SAFETY: as above; nobody else refers to the page.
        let target = unsafe {
            std::slice::from_raw_parts_mut(mapping.start().add(page * PAGE_BYTES), PAGE_BYTES)
        };
        File::open("/dev/zero").and_then(|mut file| file.read(target)).is_ok()
    }

    fn own(mapping: &Mapping) -> Vec<usize> {
        let mut pages = Vec::new();
        mapping.own_pages(0, mapping.bytes(), |page| pages.push(page));
        pages
    }

    fn clear(&self) -> bool {
        [&self.plain, &self.filed].into_iter().all(|all| all.discard(0, all.bytes()).is_ok())
    }

    /// Discarded pages read as their backing.
    fn discards(&self) -> bool {
        Self::write(&self.plain, 1);
        Self::write(&self.filed, 1);
        self.clear() && Self::read(&self.plain, 1) == 0 && Self::read(&self.filed, 1) == 0x5a
    }

    /// The page map says which pages are own, however they came to be so, and of no other one; it
    /// forgets what is given back.
    fn map_tells_own_pages(&self) -> bool {
        if !self.clear() || !Self::own(&self.plain).is_empty() || !Self::own(&self.filed).is_empty()
        {
            return false;
        }
        let read_only = Self::read(&self.filed, 0) == 0x5a;
        Self::write(&self.filed, 2);
        Self::write(&self.plain, 3);
        let by_system = Self::write_by_system(&self.plain, 5)
            && Self::write_by_system(&self.filed, 4)
            && Self::read(&self.plain, 9) == 0;
        Self::write(&self.plain, 9);
        let found = Self::own(&self.plain) == [3, 5, 9] && Self::own(&self.filed) == [2, 4];
        let given_back = self.clear() && Self::own(&self.plain).is_empty();
        read_only && by_system && found && given_back && Self::own(&self.filed).is_empty()
    }

    /// No touch of a page makes others own.
    fn pages_stay_small(&self) -> bool {
        if !self.clear() {
            return false;
        }
        let middle = PLAIN_BYTES / PAGE_BYTES / 2;
        Self::write(&self.plain, middle);
        Self::own(&self.plain) == [middle]
    }

    /// Each way in which a page comes to be own raises the thread's count.
    fn faults_are_counted(&self) -> bool {
        if !self.clear() {
            return false;
        }
        let counts = |step: &dyn Fn() -> bool| {
            let before = Faults::now();
            step() && Faults::now() != before
        };
        counts(&|| {
            Self::write(&self.plain, 0);
            true
        }) && counts(&|| Self::write_by_system(&self.plain, 1))
            && counts(&|| Self::read(&self.plain, 2) == 0)
            && counts(&|| {
                Self::write(&self.plain, 2);
                true
            })
            && counts(&|| Self::read(&self.filed, 0) == 0x5a)
            && counts(&|| {
                Self::write(&self.filed, 0);
                true
            })
            && counts(&|| Self::write_by_system(&self.filed, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_system_is_as_believed() {
        assert_eq!(probe(), Ok(Findings { cleaning: Cleaning::Counted, reason: None }));
    }

    #[test]
    fn a_trial_may_be_repeated() {
        let trial = Trial::new().expect("memory");
        for _ in 0..3 {
            assert!(trial.discards() && trial.map_tells_own_pages());
            assert!(trial.pages_stay_small() && trial.faults_are_counted());
        }
    }
}
