//! Process-wide numbers of function types.
//!
//! Isolation rests on this file: `call_indirect` compares the numbers that are given out here.

use std::collections::HashMap;
use std::sync::Mutex;

/// The process-wide number of a structural function type, given its parameters' and results' codes,
/// in which types of functions are their process-wide numbers.
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
    fn types_are_numbered_by_structure() {
        assert_eq!(type_id(&[0x7f], &[]), type_id(&[0x7f], &[]));
        assert_ne!(type_id(&[0x7f], &[]), type_id(&[], &[0x7f]));
        assert_ne!(type_id(&[], &[]), 0);
    }
}
