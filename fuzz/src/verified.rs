//! What was shown of the objects that this process has compiled.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use awsm_verify::{Options, Refusal};

static OBJECTS: AtomicU64 = AtomicU64::new(0);
static FUNCTIONS: AtomicU64 = AtomicU64::new(0);
static ACCESSES: AtomicU64 = AtomicU64::new(0);
static SHOWN: AtomicU64 = AtomicU64::new(0);
static AGAIN: AtomicU64 = AtomicU64::new(0);
static UNSHOWN: AtomicU64 = AtomicU64::new(0);
static REFUSED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Sums over objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Objects.
    pub objects: u64,
    /// Their functions.
    pub functions: u64,
    /// Their accesses to linear memory.
    pub accesses: u64,
    /// Those that are shown to stay inside.
    pub shown: u64,
    /// Objects that had to be compiled anew since an access was not.
    pub again: u64,
    /// Those of which something is not shown even then.
    pub unshown: u64,
}

impl Verified {
    /// What this process has verified since this was asked the last time.
    #[must_use]
    pub fn take() -> Self {
        let [objects, functions, accesses, shown, again, unshown] =
            [&OBJECTS, &FUNCTIONS, &ACCESSES, &SHOWN, &AGAIN, &UNSHOWN]
                .map(|count| count.swap(0, Ordering::Relaxed));
        Self { objects, functions, accesses, shown, again, unshown }
    }

    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.functions += other.functions;
        self.accesses += other.accesses;
        self.shown += other.shown;
        self.again += other.again;
        self.unshown += other.unshown;
    }

    /// Numbers separated by spaces, as [`fmt::Display`] of a child is read by its parent.
    #[must_use]
    pub fn to_line(self) -> String {
        let Self { objects, functions, accesses, shown, again, unshown } = self;
        format!("{objects} {functions} {accesses} {shown} {again} {unshown}")
    }

    /// Reads these.
    #[must_use]
    pub fn of_line(line: &str) -> Option<Self> {
        let numbers: Option<Vec<u64>> = line.split(' ').map(|word| word.parse().ok()).collect();
        let [objects, functions, accesses, shown, again, unshown] = numbers?[..] else {
            return None;
        };
        Some(Self { objects, functions, accesses, shown, again, unshown })
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, functions, accesses, shown, again, unshown } = self;
        write!(
            f,
            "verified {objects} objects, {functions} functions, {shown} of {accesses} accesses shown, \
             {again} compiled again, {unshown} with something unshown"
        )
    }
}

/// Verifies an object: is everything shown?
///
/// # Errors
/// If it is refused.
pub(crate) fn count(object: &[u8]) -> Result<bool, Refusal> {
    let report = awsm_verify::verify_with(
        object,
        Options { threads: NonZeroUsize::MIN, ..awsm_verify::Options::default() },
    )?;
    let add = |count: &AtomicU64, by: u64| _ = count.fetch_add(by, Ordering::Relaxed);
    let (accesses, shown) = report.memory_accesses();
    add(&OBJECTS, 1);
    add(&FUNCTIONS, report.functions.len() as u64);
    add(&ACCESSES, accesses);
    add(&SHOWN, shown);
    Ok(accesses == shown)
}

/// Verifies one that was compiled anew.
pub(crate) fn count_again(object: &[u8]) {
    AGAIN.fetch_add(1, Ordering::Relaxed);
    if !count(object).is_ok_and(|shown| shown) {
        UNSHOWN.fetch_add(1, Ordering::Relaxed);
    }
}

/// Notes that an object is refused, and why.
pub(crate) fn refused(why: String) {
    REFUSED.lock().expect("no panic with it").push(why);
}

/// Why objects were refused since this was asked the last time.
#[must_use]
pub fn take_refusals() -> Vec<String> {
    std::mem::take(&mut REFUSED.lock().expect("no panic with it"))
}
