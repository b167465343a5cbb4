//! What the whole process shares: which addresses are guest code, and the numbers of function types.
//!
//! Isolation rests on this file: a fault counts as a guest's only at an address that stands here, and
//! `call_indirect` compares the numbers that are given out here.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::MODULES_MAX;

/// Text of every loaded module. Read by the fault handler, so without a lock; an end of zero marks a
/// free place. Written only under `TEXTS_WRITER`.
static TEXTS: [Text; MODULES_MAX] = [const { Text::free() }; MODULES_MAX];
/// One more than the highest place ever used.
static TEXTS_USED: AtomicUsize = AtomicUsize::new(0);
static TEXTS_WRITER: Mutex<()> = Mutex::new(());

struct Text {
    start: AtomicUsize,
    end: AtomicUsize,
}

impl Text {
    const fn free() -> Self {
        Self { start: AtomicUsize::new(0), end: AtomicUsize::new(0) }
    }
}

/// A registered range of guest code; forgotten when dropped.
#[derive(Debug)]
pub(crate) struct TextEntry(usize);

/// Makes `text` known as guest code; `None` when [`MODULES_MAX`] modules are loaded.
pub(crate) fn register_text(text: Range<usize>) -> Option<TextEntry> {
    let _writer = TEXTS_WRITER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let place = TEXTS.iter().position(|place| place.end.load(Ordering::Relaxed) == 0)?;
    TEXTS[place].start.store(text.start, Ordering::Relaxed);
    TEXTS[place].end.store(text.end, Ordering::Release);
    TEXTS_USED.fetch_max(place + 1, Ordering::Release);
    Some(TextEntry(place))
}

impl Drop for TextEntry {
    fn drop(&mut self) {
        let _writer = TEXTS_WRITER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        TEXTS[self.0].end.store(0, Ordering::Release);
    }
}

/// Is `pc` in a loaded module's code? Safe in a signal handler.
pub(crate) fn is_guest_code(pc: usize) -> bool {
    let used = TEXTS_USED.load(Ordering::Acquire);
    TEXTS[..used].iter().any(|text| {
        let end = text.end.load(Ordering::Acquire);
        let inside = pc < end && text.start.load(Ordering::Acquire) <= pc;
        // Else the place was given to another module in between, and start and end are not of the same one.
        inside && text.end.load(Ordering::Relaxed) == end
    })
}

/// The process-wide number of a structural function type, given its parameters' and results' codes, in
/// which types of functions are their process-wide numbers.
pub(crate) fn type_id(params: &[u32], results: &[u32]) -> u32 {
    type Ids = HashMap<(Box<[u32]>, Box<[u32]>), u32>;
    static IDS: Mutex<Option<Ids>> = Mutex::new(None);
    let mut ids = IDS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let ids = ids.get_or_insert_default();
    let next = u32::try_from(ids.len()).expect("types are limited by memory") + 1;
    *ids.entry((params.into(), results.into())).or_insert(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_known_while_it_is_registered() {
        let entry = register_text(0x10_0000..0x10_1000).expect("a free place");
        assert!(is_guest_code(0x10_0000) && is_guest_code(0x10_0fff) && !is_guest_code(0x10_1000));
        drop(entry);
        assert!(!is_guest_code(0x10_0000));
    }

    #[test]
    fn types_are_numbered_by_structure() {
        assert_eq!(type_id(&[0x7f], &[]), type_id(&[0x7f], &[]));
        assert_ne!(type_id(&[0x7f], &[]), type_id(&[], &[0x7f]));
        assert_ne!(type_id(&[], &[]), 0);
    }
}
