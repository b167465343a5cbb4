//! Tables: growth, bulk operations, reset.
//!
//! Isolation rests on this file: what a reset leaves behind, the next invocation can reach.
//!
//! Guests copy and fill whole tables with one instruction. What is done here is done in pieces,
//! with the guest able to be preempted between two of them: see `builtins`. So these functions take
//! the table's record each time, and hold nothing from one piece to the next.

use std::ops::Range;
use std::ptr;

use awsm_abi::context::Table;

use crate::slot::budget::Account;
use crate::slot::planted::{self, Planted};

/// Bytes of an element.
pub(crate) const ELEMENT_BYTES: u64 = size_of::<usize>() as u64;

/// Elements of a block: what is noted of a table is which of its blocks were written.
const BLOCK: usize = 512;

/// The elements of an own table.
pub(crate) struct TableStore {
    elements: Vec<usize>,
    /// How many there are after each reset; the elements behind them go.
    first: usize,
    /// What these begin with; behind it they are null.
    head: Box<[usize]>,
    /// A guest may have written to these of the first ones.
    written: Blocks,
    /// The instance's, which never moves.
    account: *mut Account,
}

/// Some blocks of a table.
struct Blocks {
    /// A bit for each block.
    words: Box<[u64]>,
    /// Words that may have bits.
    some: Range<usize>,
}

impl Blocks {
    /// None, of a table with so many elements.
    fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(BLOCK * 64)].into(), some: 0..0 }
    }

    fn add(&mut self, elements: Range<usize>) {
        if elements.is_empty() {
            return;
        }
        let (first, last) = (elements.start / BLOCK, (elements.end - 1) / BLOCK);
        let words = first / 64..last / 64 + 1;
        for word in words.clone() {
            let from = first.saturating_sub(word * 64);
            let to = (last - word * 64).min(63);
            self.words[word] |= u64::MAX << from & u64::MAX >> (63 - to);
        }
        self.some = match self.some.is_empty() {
            true => words,
            false => self.some.start.min(words.start)..self.some.end.max(words.end),
        };
    }

    /// Takes the first out: its elements, in a table of so many.
    fn take(&mut self, len: usize) -> Option<Range<usize>> {
        while let Some(word) = self.words.get_mut(self.some.start).filter(|_| !self.some.is_empty())
        {
            if *word != 0 {
                let block = self.some.start * 64 + word.trailing_zeros() as usize;
                *word &= *word - 1;
                return Some(block * BLOCK..((block + 1) * BLOCK).min(len));
            }
            self.some.start += 1;
        }
        None
    }

    /// The elements of each, in a table of so many.
    fn each(&self, len: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let blocks = self.some.clone().flat_map(move |word| {
            let bits = (0..64).filter(move |bit| self.words[word] >> bit & 1 == 1);
            bits.map(move |bit| word * 64 + bit)
        });
        blocks.map(move |block| block * BLOCK..((block + 1) * BLOCK).min(len))
    }
}

impl TableStore {
    /// A table with so many elements, all null.
    pub(crate) fn new(len: u64) -> Self {
        let first = len as usize;
        Self {
            elements: vec![0; first],
            first,
            head: Box::default(),
            written: Blocks::none(first),
            account: ptr::null_mut(),
        }
    }

    /// Fills a table before its first use.
    pub(crate) fn fill(&mut self, value: usize) {
        if value != 0 {
            self.elements.fill(value);
            self.written.add(0..self.first);
        }
    }

    pub(crate) fn elements(&self) -> &[usize] {
        &self.elements
    }

    /// The elements after each reset.
    pub(crate) fn at_start(&self) -> Vec<usize> {
        let mut elements = self.head.to_vec();
        elements.resize(self.first, 0);
        elements
    }

    /// Addresses of the elements that may be others than at the start.
    pub(crate) fn changed(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let grown = self.first..self.elements.len();
        self.written.each(self.first).chain([grown]).map(|part| {
            let part = self.elements[part].as_ptr_range();
            part.start as usize..part.end as usize
        })
    }

    /// What it is now is what it will be after each reset.
    pub(crate) fn keep(&mut self) {
        let last = |part: Range<usize>| {
            let last = self.elements[part.clone()].iter().rposition(|element| *element != 0)?;
            Some(part.start + last + 1)
        };
        let end = self.written.each(self.first).filter_map(last).max().unwrap_or(0);
        self.head = self.elements[..end].into();
        self.written = Blocks::none(self.first);
    }

    /// Writes what compiled code sees, and remembers who pays for growth.
    ///
    /// # Safety
    /// `owner` is where this is, and `place` the table's in the context. Both, and `account`, stay
    /// where they are as long as the instance lives.
    pub(crate) unsafe fn write_record(
        &mut self,
        owner: *mut Self,
        place: *mut Table,
        max_len: u64,
        account: *mut Account,
    ) {
        self.account = account;
        let (base, len) = (self.elements.as_mut_ptr(), self.elements.len() as u64);
        let owner = owner.cast();
        // SAFETY: the caller's duty.
        unsafe { place.write(Table { base, len, max_len: max_len.max(len), owner }) };
    }

    fn wrote(&mut self, start: u64, len: u64) {
        let (start, end) = (start as usize, (start + len) as usize);
        self.written.add(start.min(self.first)..end.min(self.first));
    }

    /// Makes the table what it was at the start, as far as a guest has changed it and for `left`
    /// bytes' worth of work. Says whether all of it is. Its account is settled by the instance.
    ///
    /// # Safety
    /// `place` is the table's in the context, and no guest runs.
    pub(crate) unsafe fn reset_some(&mut self, place: *mut Table, left: &mut usize) -> bool {
        if planted::has(Planted::Table) {
            return true;
        }
        let first = self.first;
        while self.elements.capacity() > first {
            if *left == 0 {
                return false;
            }
            let count = self.elements.capacity() - first;
            let count = count.min(left.div_ceil(ELEMENT_BYTES as usize));
            let kept = self.elements.capacity() - count;
            self.elements.truncate(kept);
            self.elements.shrink_to(kept);
            *left = left.saturating_sub(count * ELEMENT_BYTES as usize);
            // SAFETY: the caller's duty.
            unsafe {
                (*place).base = self.elements.as_mut_ptr();
                (*place).len = self.elements.len() as u64;
            }
        }
        while *left > 0 {
            let Some(block) = self.written.take(first) else { return true };
            *left = left.saturating_sub(block.len() * ELEMENT_BYTES as usize);
            let (start, end) = (block.start, block.end);
            let kept = self.head.len().clamp(start, end);
            if start < kept {
                self.elements[start..kept].copy_from_slice(&self.head[start..kept]);
            }
            self.elements[kept..end].fill(0);
        }
        false
    }
}

/// The part of a table from `start` on with `len` elements, to be written, if it has one.
///
/// # Safety
/// `table` is a living table, and nobody else refers to its elements meanwhile.
pub(crate) unsafe fn part_mut<'a>(
    table: *mut Table,
    start: u64,
    len: u64,
) -> Option<&'a mut [usize]> {
    // SAFETY: base and length describe the store's vector, and the part lies in it; an empty one is
    // at its beginning, where an empty vector has a pointer that is good for nothing else.
    unsafe {
        let table = &mut *table;
        start.checked_add(len).filter(|end| *end <= table.len)?;
        if len == 0 {
            return Some(&mut []);
        }
        (*table.owner.cast::<TableStore>()).wrote(start, len);
        Some(std::slice::from_raw_parts_mut(table.base.add(start as usize), len as usize))
    }
}

/// Begins `table.grow`: makes room for `delta` more elements, to be added by [`extend`]. The old
/// length, or `None`. Source: core specification, section 4.4.6.
///
/// # Safety
/// As for [`part_mut`].
pub(crate) unsafe fn reserve(table: *mut Table, delta: u64) -> Option<u64> {
    // SAFETY: `owner` is the store of the table, as `write_record` wrote it, and the account is its
    // instance's.
    unsafe {
        let table = &mut *table;
        let store = &mut *table.owner.cast::<TableStore>();
        let account = &mut *store.account;
        let old = table.len;
        let new = old.checked_add(delta).filter(|new| *new <= table.max_len)?;
        let capacity = store.elements.capacity() as u64;
        if new > capacity {
            // Twice as much, so that a table that grows by one is not copied each time; if there is
            // not so much left, what it needs.
            let doubled = (2 * capacity).min(table.max_len).max(new);
            let wanted = [doubled, new].into_iter().find(|wanted| {
                let bytes = (wanted - capacity) * ELEMENT_BYTES;
                account.take(bytes)
            })?;
            let more = (wanted - old) as usize;
            if store.elements.try_reserve_exact(more).is_err() {
                account.give((wanted - capacity) * ELEMENT_BYTES);
                return None;
            }
            table.base = store.elements.as_mut_ptr();
        }
        Some(old)
    }
}

/// Adds `count` elements, for which there is room.
///
/// # Safety
/// As for [`part_mut`].
pub(crate) unsafe fn extend(table: *mut Table, value: usize, count: u64) {
    // SAFETY: `owner` is the store of the table, as `write_record` wrote it.
    unsafe {
        let table = &mut *table;
        let store = &mut *table.owner.cast::<TableStore>();
        let new = store.elements.len() + count as usize;
        debug_assert!(new <= store.elements.capacity(), "room was made");
        store.elements.resize(new, value);
        table.base = store.elements.as_mut_ptr();
        table.len = new as u64;
    }
}

#[cfg(test)]
mod tests {
    use awsm_abi::context::Table;

    use super::*;
    use crate::own::Own;

    /// What an instance has of a table: its store, its record, who pays.
    struct Instance {
        store: Own<TableStore>,
        account: Own<Account>,
        record: Own<Table>,
    }

    /// A table of three elements that may have six.
    fn instance() -> Instance {
        let account = Account::open(24, 1 << 20, 0, None).expect("room for it");
        let none = Table { base: ptr::null_mut(), len: 0, max_len: 0, owner: ptr::null_mut() };
        let (store, account, record) =
            (Own::new(TableStore::new(3)), Own::new(account), Own::new(none));
        let mut instance = Instance { store, account, record };
        let owner = instance.store.as_ptr();
        let (record, account) = (instance.record.as_ptr(), instance.account.as_ptr());
        instance.store.fill(7);
        // SAFETY: all three stay where they are as long as the instance lives.
        unsafe { instance.store.write_record(owner, record, 6, account) };
        instance.store.keep();
        instance
    }

    /// Compiled code reads and writes elements by the record alone.
    fn seen(record: *mut Table) -> Vec<usize> {
        // SAFETY: base and length of a living table.
        unsafe {
            (0..(*record).len as usize).map(|index| (*record).base.add(index).read()).collect()
        }
    }

    #[test]
    fn what_was_written_is_reset_in_pieces_and_nothing_else() {
        const LEN: usize = 100_000;
        const HEAD: usize = 1000;
        let bytes = (8 * LEN) as u64;
        let account = Account::open(bytes, 1 << 30, 0, None).expect("room for it");
        let none = Table { base: ptr::null_mut(), len: 0, max_len: 0, owner: ptr::null_mut() };
        let (mut store, account, record) =
            (Own::new(TableStore::new(LEN as u64)), Own::new(account), Own::new(none));
        let (owner, record, account) = (store.as_ptr(), record.as_ptr(), account.as_ptr());
        // SAFETY: all three stay where they are as long as this does.
        unsafe {
            store.write_record(owner, record, 2 * LEN as u64, account);
            part_mut(record, 0, HEAD as u64).expect("it lies inside").fill(7);
        }
        store.keep();
        let mut random = 1_u64;
        let mut below = |end: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % end
        };
        for round in 0..300 {
            let grows = round % 3 == 0;
            // SAFETY: a living table; each reference is gone before the next is made.
            unsafe {
                if grows {
                    assert_eq!(reserve(record, 1000 + round), Some(LEN as u64));
                    extend(record, 1, 1000 + round);
                }
                for _ in 0..round % 5 {
                    let len = (*record).len;
                    let start = below(len);
                    let most = (len - start).min(1 << (round % 17));
                    let part = part_mut(record, start, below(most + 1));
                    part.expect("it lies inside").fill(2);
                }
            }
            let blocks = store.written.each(LEN).count();
            let grown = (8 * (store.elements.capacity() - LEN)).div_ceil(BLOCK * 8);
            let mut done = 0;
            // SAFETY: no guest runs.
            while unsafe { !store.reset_some(record, &mut (BLOCK * 8)) } {
                done += 1;
            }
            assert!(done <= blocks + grown && done + 2 > blocks, "{done} for {blocks} and {grown}");
            assert_eq!(seen(record), store.at_start());
            assert!(store.at_start()[..HEAD].iter().all(|element| *element == 7));
            assert!(store.at_start()[HEAD..].iter().all(|element| *element == 0));
            assert_eq!((store.elements.capacity(), store.written.each(LEN).count()), (LEN, 0));
        }
    }

    #[test]
    fn what_records_refer_to_is_what_the_store_has() {
        let mut instance = instance();
        let record = instance.record.as_ptr();
        for _ in 0..3 {
            assert_eq!(seen(record), [7, 7, 7]);
            // SAFETY: a living table; each reference is gone before the next is made.
            unsafe {
                part_mut(record, 1, 2).expect("two elements").copy_from_slice(&[1, 2]);
                assert_eq!(seen(record), [7, 1, 2]);
                part_mut(record, 0, 2).expect("two elements").fill(9);
                assert!(
                    part_mut(record, 2, 2).is_none() && part_mut(record, u64::MAX, 1).is_none()
                );
                assert_eq!((reserve(record, 4), reserve(record, u64::MAX)), (None, None));
                assert_eq!(reserve(record, 2), Some(3));
                extend(record, 5, 1);
                extend(record, 6, 1);
            }
            assert_eq!(seen(record), [9, 9, 2, 5, 6]);
            assert!(!instance.account.is_at_start());
            // SAFETY: no guest runs.
            unsafe { while !instance.store.reset_some(record, &mut 8) {} };
            instance.account.reset();
            assert!(instance.account.is_at_start());
            assert_eq!(instance.store.elements(), [7, 7, 7]);
        }
    }
}
