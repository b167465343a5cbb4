//! Jumps through tables: each entry that may be used leads to an instruction of the function.
//!
//! Isolation rests on this file.

use crate::flow::{self, BlockId, Entry};
use crate::function::Analysis;
use crate::function::facts::{Fact, Relation};
use crate::op::Op;
use crate::report::Rule;
use crate::value::{Atom, Kind, Value};

impl Analysis<'_> {
    /// A jump through a table: each entry that may be used leads to an instruction of the function.
    pub(crate) fn check_table(&mut self, block: BlockId, at: u32, target: Value) {
        let instruction = self.code.instruction_of(at);
        let Some(entries) = self.table_entries(block, target) else {
            return self.problem(at, "a jump that is not through a bounded table");
        };
        let known = self.guessed_table(instruction);
        let all = entries.iter().all(|entry| known.binary_search(entry).is_ok());
        // What lies behind a table may look like more of it: ways that there are not are left out,
        // once.
        let more = known.len() > entries.len();
        if all && !(more && self.narrowed.insert(instruction)) {
            return self.shown(Rule::JumpTable);
        }
        self.corrections.tables.insert(instruction, entries);
    }

    /// The entries that may be used.
    fn table_entries(&mut self, block: BlockId, target: Value) -> Option<Vec<Entry>> {
        let (image, rest) = self.arena.pointer(target)?;
        if self.arena.kind(image) != Kind::Image {
            return None;
        }
        if let Some(to) = rest.constant() {
            return Some(vec![(0, flow::inside(self.code, self.start(), to.cast_unsigned())?)]);
        }
        let (index, first, unit) = self.table_index(target)?;
        let (least, most) = self.table_bounds(block, index)?;
        let mut entries = Vec::new();
        for number in least..=most {
            let at = first.checked_add(number.checked_mul(unit)?)?;
            let word = self.module.object.bytes(at.cast_unsigned(), 4)?;
            let distance = i32::from_le_bytes(word.try_into().ok()?);
            let to = rest.k.checked_add(distance.into())?;
            entries.push((at, flow::inside(self.code, self.start(), to.cast_unsigned())?));
        }
        Some(entries)
    }

    /// What decides on the entry that a jump to this place uses: an index, where the entry with
    /// number zero lies, and how far one is from the next.
    fn table_index(&mut self, target: Value) -> Option<(Value, i64, i64)> {
        let (_, rest) = self.arena.pointer(target)?;
        let [(entry, 1)] = *self.arena.terms(rest) else { return None };
        let Atom::Opaque { at, .. } = self.arena.atom(entry).atom else { return None };
        let (address, bytes) = *self.entries.get(&at)?;
        // The address is `first + bytes * index`.
        let unit = i64::from(bytes);
        let terms = self.arena.terms(address);
        if terms.iter().any(|(_, factor)| factor % unit != 0) {
            return None;
        }
        let terms: Vec<_> = terms.iter().map(|(atom, factor)| (*atom, factor / unit)).collect();
        Some((self.arena.sum(terms, 0), address.k, unit))
    }

    /// What it says of the index that a jump uses an entry between two addresses. That it uses no
    /// other is checked where it jumps.
    pub(crate) fn learn_entries(
        &mut self,
        from: BlockId,
        (least, most): (i64, i64),
        facts: &mut Vec<Fact>,
    ) {
        let Some(state) = self.outs[from as usize].clone() else { return };
        let Some(Op::JumpTo { to }) = self.ops_of(from).last().map(|op| self.code.ops[op]) else {
            return;
        };
        let target = state.registers[to as usize];
        if target.nameless_place().is_some() {
            return;
        }
        let Some((index, first, unit)) = self.table_index(target) else { return };
        let number = |at: i64| (i128::from(at) - i128::from(first)) / i128::from(unit);
        let negative = self.arena.times(index, -1);
        facts.push(Fact::new(index.lin, -number(most), Relation::AtMostZero));
        facts.push(Fact::new(negative.lin, number(least), Relation::AtMostZero));
    }

    /// Bounds of a table's index, as near as they are found.
    fn table_bounds(&mut self, block: BlockId, index: Value) -> Option<(i64, i64)> {
        const ENTRIES_MAX: i128 = 1 << 16;
        let range = self.arena.range(index);
        let mut uppers = vec![range.hi];
        let mut lowers = vec![range.lo];
        for fact in self.facts.chain(block, None) {
            let negative = self.arena.times(Value { lin: fact.lin, k: 0 }, -1).lin;
            if fact.lin == index.lin {
                uppers.push(-fact.k);
            } else if negative == index.lin {
                lowers.push(fact.k);
            }
        }
        // Bounds of what the index is made of.
        let inner: Vec<Value> = self
            .arena
            .terms(index)
            .iter()
            .filter_map(|(atom, _)| match self.arena.atom(*atom).atom {
                Atom::Low { of, .. } | Atom::Signed { of, .. } => Some(of),
                _ => None,
            })
            .collect();
        for of in inner {
            for fact in self.facts.chain(block, None) {
                if fact.lin == of.lin {
                    uppers.push(i128::from(of.k) - fact.k);
                }
            }
        }
        uppers.retain(|upper| (0..ENTRIES_MAX).contains(upper));
        uppers.sort_unstable();
        uppers.dedup();
        lowers.push(0);
        lowers.retain(|lower| (-ENTRIES_MAX..ENTRIES_MAX).contains(lower));
        lowers.sort_unstable_by(|a, b| b.cmp(a));
        let upper = uppers.into_iter().find(|upper| self.is_at_most(index, *upper, block));
        let upper = upper.or_else(|| self.least_bound(index, ENTRIES_MAX, block))?;
        let lower = lowers.into_iter().find(|lower| self.is_at_least(index, *lower, block))?;
        Some((lower as i64, upper as i64))
    }

    /// The least number that a value is shown not to exceed, below a limit: where ways meet that
    /// are bounded each by its own comparison, none of these says it.
    fn least_bound(&mut self, value: Value, limit: i128, block: BlockId) -> Option<i128> {
        let (mut low, mut high) = (0, limit - 1);
        if !self.is_at_most(value, high, block) {
            return None;
        }
        while low < high {
            let middle = low.midpoint(high);
            match self.is_at_most(value, middle, block) {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Some(high)
    }
}
