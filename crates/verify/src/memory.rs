//! Linear memory: every access lies between its beginning and what its isolation allows.
//!
//! Isolation rests on this file. In `guard` mode that is the end of the reservation; below the
//! memory at the context pointer there is a guard as well, so an access may also begin there. In
//! `checked` mode, and for memories that are compared in every mode, an access must end below a
//! size that the memory had at some time: memories never shrink.

use awsm_abi::context::CONTEXT_GUARD_BYTES;
use awsm_abi::{GUARD_RESERVE_BYTES, Isolation};

use crate::flow::BlockId;
use crate::function::Analysis;
use crate::function::facts::{Fact, Relation};
use crate::function::prove::Goal;
use crate::report::{Rule, Unshown};
use crate::value::{AT_BLOCK, Atom, AtomId, Kind, Range, Value};

/// Comparisons with a memory's size that are tried for one access, at most.
const BOUNDS: usize = 6;

/// Facts about sizes that are looked at for one access, at most.
const SIZES: usize = 64;

/// Joins that are looked through for them.
pub(crate) const WAYS: u32 = 3;

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
        // Without isolation there is nothing to be shown.
        if self.module.descriptor.isolation == Isolation::None {
            return;
        }
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
        if compared {
            // Variables of loops told by rounds, if there are any, or as they are.
            let counted = self.counted(rest).zip(self.counted(end));
            let size = Kind::MemoryBytes(memory);
            for (rest, end) in counted.into_iter().chain([(rest, end)]) {
                if self.is_at_least(rest, least, block)
                    && self.is_below_size(block, size, end, WAYS)
                {
                    return Some(Rule::MemoryCompared);
                }
            }
        }
        if self.is_between((least, rest), (end, reserve), block) {
            let induction = self.prover.induction;
            return Some(if induction { Rule::MemoryLoop } else { Rule::MemoryBranch });
        }
        None
    }

    /// Is a number at most a size of this kind that there was at some time? What it was compared
    /// with can be another one on each way.
    pub(crate) fn is_below_size(
        &mut self,
        block: BlockId,
        kind: Kind,
        end: Value,
        depth: u32,
    ) -> bool {
        let relation = Relation::AtMostSize(kind);
        let says = |fact: &Fact| fact.relation == relation;
        let assumed: Vec<Fact> = self.assumed().filter(says).collect();
        // `x + k` is at most the size, and `end` is no more than that.
        let suffices = |fact: Fact| fact.lin == end.lin && fact.k >= end.k.into() && says(&fact);
        let mut alike = self.facts.alike(&self.flow, block, end.lin);
        if alike.any(suffices) || assumed.iter().any(|fact| suffices(*fact)) {
            return true;
        }
        drop(alike);
        let known = self.facts.sizes(&self.flow, block).take(SIZES);
        let facts: Vec<Fact> = assumed.into_iter().chain(known).collect();
        let mut bounds: Vec<Goal> = Vec::new();
        for fact in facts {
            let k = match fact.relation {
                _ if says(&fact) => fact.k,
                // A size that is not so much: more, if it cannot be less.
                Relation::NotZero if self.arena.kind_of(Value { lin: fact.lin, k: 0 }) == kind => 0,
                _ => continue,
            };
            let left = self.arena.sub(Value { lin: end.lin, k: 0 }, Value { lin: fact.lin, k: 0 });
            let goal = Goal { lin: left.lin, k: i128::from(end.k) - k };
            // Of goals that differ in their constants, the easiest.
            match bounds.iter_mut().find(|other| other.lin == goal.lin) {
                Some(other) => other.k = other.k.min(goal.k),
                None => bounds.push(goal),
            }
        }
        let excess = |this: &Self, goal: &Goal| this.arena.lin_range(goal.lin).hi + goal.k;
        if bounds.iter().any(|goal| excess(self, goal) <= 0) {
            return true;
        }
        // Those that have most in common with it.
        let atoms = self.arena.terms(end).len();
        bounds.retain(|goal| self.arena.terms(Value { lin: goal.lin, k: 0 }).len() <= atoms + 2);
        bounds.sort_by_cached_key(|goal| {
            let plain = self.plain(Value { lin: goal.lin, k: 0 });
            let terms = self.arena.terms(Value { lin: goal.lin, k: 0 }).len();
            (self.arena.terms(plain).len(), terms)
        });
        bounds.truncate(BOUNDS);
        if bounds.into_iter().any(|goal| self.prove_here(goal, block)) {
            return true;
        }
        depth > 0
            && self.on_each_way(end, &mut |this, end, from| {
                this.is_below_size(from, kind, end, depth - 1)
            })
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
