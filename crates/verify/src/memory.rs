//! Linear memory: every access lies between its beginning and what its isolation allows.
//!
//! Isolation rests on this file. In `guard` mode that is the end of the reservation; below the memory
//! at the context pointer there is a guard as well, so an access may also begin there. In `checked`
//! mode, and for memories that are compared in every mode, an access must end below a size that the
//! memory had at some time: memories never shrink.

use awsm_abi::context::CONTEXT_GUARD_BYTES;
use awsm_abi::{GUARD_RESERVE_BYTES, Isolation};

use crate::flow::BlockId;
use crate::function::Analysis;
use crate::prove::Goal;
use crate::report::{Rule, Unshown};
use crate::value::{AT_BLOCK, Atom, AtomId, Kind, Range, Value};

impl Analysis<'_> {
    /// Checks that `bytes` bytes from `rest` on lie in a memory. `length` more may follow.
    pub(crate) fn check_memory(
        &mut self,
        block: BlockId,
        op: u32,
        memory: u32,
        rest: Value,
        bytes: Value,
    ) {
        match self.memory_rule(block, memory, rest, bytes) {
            Some(rule) => self.shown(rule),
            None => {
                let what = self.describe(rest);
                let offset = self.code.offset_of(op);
                self.outcome.unshown.push(Unshown { offset, what });
            }
        }
    }

    fn memory_rule(
        &mut self,
        block: BlockId,
        memory: u32,
        rest: Value,
        bytes: Value,
    ) -> Option<Rule> {
        let descriptor = self.module.descriptor;
        let data = descriptor.memories[memory as usize];
        let compared = data.compared || descriptor.isolation != Isolation::Guard;
        let least = match descriptor.first_own_memory() {
            Some(own) if own == memory => -i128::from(CONTEXT_GUARD_BYTES),
            _ => 0,
        };
        let end = self.arena.add(rest, bytes);
        // The constant of the sum can wrap only if it is far outside anyway.
        let (start_range, end_range) = (self.arena.range(rest), self.arena.range(end));
        let near = Range::new(-(1 << 60), 1 << 60);
        let constants = Range::new(rest.k.into(), end.k.into());
        if !constants.within(near) || !Range::new(bytes.k.into(), bytes.k.into()).within(near) {
            return None;
        }
        if start_range.lo >= least && end_range.hi <= i128::from(data.least_bytes) {
            let constant = rest.constant().is_some();
            return Some(if constant { Rule::MemoryConstant } else { Rule::MemoryRange });
        }
        let reserve = if compared { data.least_bytes } else { GUARD_RESERVE_BYTES };
        let reserve = i128::from(reserve);
        if start_range.lo >= least && end_range.hi <= reserve {
            return Some(Rule::MemoryRange);
        }
        if self.is_between((least, rest), (end, reserve), block) {
            let induction = self.prover.induction;
            return Some(if induction { Rule::MemoryLoop } else { Rule::MemoryBranch });
        }
        let lower = compared && self.is_at_least(rest, least, block);
        if lower && self.is_compared(block, memory, end) {
            return Some(Rule::MemoryCompared);
        }
        None
    }

    /// Does a range end below a size that the memory had at some time?
    fn is_compared(&mut self, block: BlockId, memory: u32, end: Value) -> bool {
        for size in self.sizes(block, memory) {
            let size = self.arena.value_of(size);
            let difference = self.arena.sub(end, size);
            let goal = Goal { lin: difference.lin, k: end.k.into() };
            if self.prove(goal, block) {
                return true;
            }
        }
        false
    }

    /// Names of a memory's size at times that have come when a block is reached.
    fn sizes(&self, block: BlockId, memory: u32) -> Vec<AtomId> {
        let is_size = |atom: &AtomId| self.arena.kind(*atom) == Kind::MemoryBytes(memory);
        let atoms = 0..self.arena.len() as AtomId;
        let known = |atom: &AtomId| self.flow.dominates(self.arena.atom(*atom).home, block);
        atoms.filter(is_size).filter(known).collect()
    }

    /// What is known of a value, for people.
    pub(crate) fn describe(&self, value: Value) -> String {
        let range = self.arena.range(value);
        let bound = |bound: i128| match bound {
            _ if bound.unsigned_abs() >= 1 << 62 => "?".to_owned(),
            _ => format!("{bound}"),
        };
        let text = self.text(value, 4);
        format!("an address between {} and {}: {text}", bound(range.lo), bound(range.hi))
    }

    /// A value as a sum, its atoms so deep.
    pub(crate) fn text(&self, value: Value, depth: u32) -> String {
        let term = |(atom, factor): &(AtomId, i64)| {
            let atom = self.atom_text(*atom, depth);
            if *factor == 1 { atom } else { format!("{factor}*{atom}") }
        };
        let mut sum: Vec<String> = self.arena.terms(value).iter().map(term).collect();
        if value.k != 0 || sum.is_empty() {
            sum.push(value.k.to_string());
        }
        sum.join(" + ")
    }

    fn atom_text(&self, atom: AtomId, depth: u32) -> String {
        if depth == 0 {
            return format!("a{atom}");
        }
        let text = |value: &Value| self.text(*value, depth - 1);
        match self.arena.atom(atom).atom {
            Atom::Opaque { at, n, .. } if at & AT_BLOCK == 0 => {
                format!("x{n}@{:#x}", self.code.offset_of(at))
            }
            Atom::Opaque { at, n, .. } => format!("x{n}@b{}", at & !AT_BLOCK),
            Atom::Phi { block, var, bits, .. } => {
                let from: Vec<_> = self.flow.blocks[block as usize]
                    .from
                    .iter()
                    .map(|from| {
                        let value = self.argument_now(block, var, from.0);
                        value.map_or("?".to_owned(), |value| text(&value))
                    })
                    .collect();
                format!("a{atom}=phi{bits}@b{block}({})", from.join(", "))
            }
            Atom::Join { block, list } => {
                let list: Vec<_> = self.arena.list(list).iter().map(text).collect();
                format!("a{atom}=join@b{block}({})", list.join(", "))
            }
            Atom::Low { bits, of } => format!("low{bits}({})", text(&of)),
            Atom::Signed { bits, of } => format!("signed{bits}({})", text(&of)),
            Atom::Right { of, by } => format!("({} >> {by})", text(&of)),
            Atom::Select(number) => {
                let choice = self.arena.choice(number);
                format!(
                    "({:?}? {} : {})",
                    choice.condition,
                    text(&choice.then),
                    text(&choice.otherwise)
                )
            }
            other => format!("{other:?}"),
        }
    }
}
