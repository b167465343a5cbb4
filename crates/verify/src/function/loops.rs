//! Loops: variables that go up or down by a constant, and how often a loop goes round.
//!
//! A variable that each round changes by the same amount is what it began with plus that amount
//! times the number of rounds, modulo 2^64 (or 2^32, if only its low half is kept). So all such
//! variables of a loop are told by one atom, [`Atom::Rounds`], and a comparison that ends the loop,
//! whichever of them it is of, bounds that atom: a loop that goes on only while `rounds` is not
//! `n`, and begins with no more than `n`, never has more than `n`.

use crate::flow::BlockId;
use crate::function::Analysis;
use crate::function::facts::{Fact, Relation};
use crate::function::prove::Goal;
use crate::value::{Atom, AtomId, Kind, Range, Value};

/// Nobody waits for a loop to go round that often.
const ROUNDS_MAX: i128 = 1 << 62;

/// Facts of a round that are looked at for its end, at most.
const FACTS: usize = 256;

/// What a variable is at first is cut to its bits if it does not lie here.
const FIRST: Range = Range::new(-(1 << 40), 1 << 40);

/// How a variable at the head of a loop changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steady {
    /// What it is at first.
    first: Value,
    /// What each round adds.
    step: i64,
    /// Modulo how many bits.
    bits: u8,
}

impl Analysis<'_> {
    /// A value in which variables of loops are told by rounds, if there are any such in it.
    pub(crate) fn counted(&mut self, value: Value) -> Option<Value> {
        let counted = self.counted_modulo(value, 64, 4)?;
        (counted != value).then_some(counted)
    }

    /// The same, congruent modulo so many bits.
    fn counted_modulo(&mut self, value: Value, bits: u8, depth: u32) -> Option<Value> {
        let mut sum = Value::number(value.k);
        for (atom, factor) in self.arena.terms(value).to_vec() {
            let part = match self.arena.atom(atom).atom {
                Atom::Phi { block, .. } if depth > 0 => match self.steady(atom) {
                    Some(steady) if steady.bits >= bits => {
                        let rounds = self.rounds(block);
                        let first = self.counted_modulo(steady.first, bits, depth - 1)?;
                        let small = self.arena.range(first).within(FIRST);
                        let first = if small { first } else { self.arena.low(bits, first) };
                        self.arena.add_times(first, rounds, steady.step)
                    }
                    _ => self.arena.value_of(atom),
                },
                Atom::Low { bits: has, of } | Atom::Signed { bits: has, of }
                    if has >= bits && depth > 0 =>
                {
                    self.counted_modulo(of, bits, depth - 1)?
                }
                _ => self.arena.value_of(atom),
            };
            sum = self.arena.add_times(sum, part, factor);
        }
        Some(sum)
    }

    /// What an atom is congruent to, told by rounds, and where that must lie to be the same
    /// integer: for variables of loops, and for low bits of sums of them.
    pub(crate) fn counted_atom(&mut self, atom: AtomId) -> Option<(Value, Range)> {
        if let Some(known) = self.prover.by_rounds.get(&atom) {
            return *known;
        }
        // Nothing is known while it is being found.
        self.prover.by_rounds.insert(atom, None);
        let own = self.arena.value_of(atom);
        let found = match self.arena.atom(atom).atom {
            Atom::Phi { bits: 64, .. } => self.counted_modulo(own, 64, 4).zip(Some(Range::ANY)),
            Atom::Phi { .. } => self.counted_modulo(own, 32, 4).zip(Some(Range::bits(32))),
            Atom::Low { bits, of } => self.counted_modulo(of, bits, 4).zip(Some(Range::bits(bits))),
            _ => None,
        };
        let is_counted = |value: Value| {
            let terms = self.arena.terms(value);
            terms.iter().any(|term| matches!(self.arena.atom(term.0).atom, Atom::Rounds { .. }))
        };
        let found = found.filter(|(value, _)| is_counted(*value));
        self.prover.by_rounds.insert(atom, found);
        found
    }

    /// How a variable at the head of a loop changes, if by a constant.
    fn steady(&mut self, phi: AtomId) -> Option<Steady> {
        if let Some(known) = self.prover.steady.get(&phi) {
            return *known;
        }
        let steady = self.find_steady(phi);
        self.prover.steady.insert(phi, steady);
        steady
    }

    fn find_steady(&mut self, phi: AtomId) -> Option<Steady> {
        let Atom::Phi { block, var, .. } = self.arena.atom(phi).atom else { return None };
        let own = self.arena.value_of(phi);
        let (mut first, mut step) = (None, None);
        let mut modulo = 64;
        for (from, _) in self.flow.blocks[block as usize].from.clone() {
            let argument = self.argument(block, var, from)?;
            if !self.flow.dominates(block, from) {
                let same = *first.get_or_insert(argument) == argument;
                if !same || !self.outlives(self.arena.home(argument), block) {
                    return None;
                }
                continue;
            }
            let (sum, bits) =
                match self.arena.single(argument).map(|atom| self.arena.atom(atom).atom) {
                    Some(Atom::Low { bits, of }) => (of, bits),
                    _ => (argument, 64),
                };
            modulo = modulo.min(bits);
            let sum = if bits < 64 { self.unfolded(bits, sum) } else { sum };
            let change = self.arena.sub(sum, own).constant()?;
            if *step.get_or_insert(change) != change {
                return None;
            }
        }
        Some(Steady { first: first?, step: step.filter(|step| *step != 0)?, bits: modulo })
    }

    /// A sum that is like another as far as nothing turned round.
    pub(crate) fn plain(&mut self, value: Value) -> Value {
        let mut sum = Value::number(value.k);
        for (atom, factor) in self.arena.terms(value).to_vec() {
            let own = self.arena.value_of(atom);
            let part = self.counted_atom(atom).map_or(own, |(counted, _)| counted);
            sum = self.arena.add_times(sum, part, factor);
        }
        self.unfolded(32, sum)
    }

    /// A sum with the same low bits, whose atoms are not low bits of anything themselves.
    fn unfolded(&mut self, bits: u8, value: Value) -> Value {
        let mut sum = Value::number(value.k);
        for (atom, factor) in self.arena.terms(value).to_vec() {
            let part = match self.arena.atom(atom).atom {
                Atom::Low { bits: has, of } | Atom::Signed { bits: has, of } if has >= bits => of,
                _ => self.arena.value_of(atom),
            };
            sum = self.arena.add_times(sum, part, factor);
        }
        sum
    }

    /// How often a loop has gone round when its head is reached.
    fn rounds(&mut self, head: BlockId) -> Value {
        let range = Range::new(0, ROUNDS_MAX);
        let rounds = self.arena.make(Atom::Rounds { block: head }, Kind::Number, range, head);
        if self.prover.counted.insert(head) {
            for limit in self.limits(head, rounds) {
                let over = self.arena.sub(rounds, limit);
                let fact = Fact::new(over.lin, over.k.into(), Relation::AtMostZero);
                self.note_shown(head, fact);
            }
        }
        rounds
    }

    /// Numbers of rounds that a loop does not go beyond.
    fn limits(&mut self, head: BlockId, rounds: Value) -> Vec<Value> {
        let ways = self.flow.blocks[head as usize].from.clone();
        let mut common: Option<Vec<(Value, u8)>> = None;
        for (from, edge) in &ways {
            if !self.flow.dominates(head, *from) {
                continue;
            }
            let mut facts = self.edge_facts(*from, *edge);
            facts.extend(self.facts.chain(*from, Some(head)).take(FACTS));
            let mut here = Vec::new();
            for fact in facts {
                here.extend(self.limit(fact, head, rounds));
            }
            common = Some(match common {
                None => here,
                Some(common) => common.into_iter().filter(|other| here.contains(other)).collect(),
            });
        }
        let mut limits = Vec::new();
        for (limit, bits) in common.unwrap_or_default() {
            // Not `limit` modulo so many bits: then not the least number that is congruent either.
            let most = Range::bits(bits).hi;
            if self.arena.range(limit).hi <= most && self.is_at_least_on_entry(limit, head) {
                limits.push(limit);
            } else if bits < 64 {
                limits.push(self.arena.low(bits, limit));
            }
        }
        limits
    }

    /// The number that rounds are not when a fact holds, and modulo how many bits they are not.
    fn limit(&mut self, fact: Fact, head: BlockId, rounds: Value) -> Option<(Value, u8)> {
        if fact.relation != Relation::NotZero {
            return None;
        }
        let sum = Value { lin: fact.lin, k: i64::try_from(fact.k).ok()? };
        let range = self.arena.range(sum);
        // Of values of few bits, a sum is zero only if it is modulo as many.
        let bits = [32, 64].into_iter().find(|bits| {
            let most = 1_i128 << bits;
            range.lo > -most && range.hi < most
        })?;
        let sum = self.counted_modulo(sum, bits, 4)?;
        let atom = self.arena.single(rounds)?;
        let (_, factor) = *self.arena.terms(sum).iter().find(|term| term.0 == atom)?;
        // `factor * rounds + rest` is not zero.
        let rest = self.arena.add_times(sum, rounds, factor.wrapping_neg());
        if !self.outlives(self.arena.home(rest), head) {
            return None;
        }
        let limit = self.quotient(rest, factor).or_else(|| {
            let folded = self.folded(rest);
            self.quotient(folded, factor)
        })?;
        Some((self.arena.times(limit, -1), bits))
    }

    /// `value / by`, if that leaves no rest.
    fn quotient(&mut self, value: Value, by: i64) -> Option<Value> {
        let terms = self.arena.terms(value).iter();
        let terms = terms.map(|(atom, has)| Some((*atom, exact_quotient(*has, by)?)));
        let terms: Option<Vec<_>> = terms.collect();
        let k = exact_quotient(value.k, by)?;
        Some(self.arena.sum(terms?, k))
    }

    /// The same sum: what was shifted is what it was shifted from without the bits that were lost;
    /// and what has lost bits then is a multiple of something shifted.
    fn folded(&mut self, value: Value) -> Value {
        let mut sum = Value::number(value.k);
        for (atom, factor) in self.arena.terms(value).to_vec() {
            let own = self.arena.value_of(atom);
            let (part, times) = match self.arena.atom(atom).atom {
                Atom::Right { of, by }
                    if by < 32
                        && factor % (1 << by) == 0
                        && self.arena.range(of).within(Range::bits(63)) =>
                {
                    let lost = self.arena.low(by, of);
                    (self.arena.sub(of, lost), factor >> by)
                }
                _ => (own, factor),
            };
            sum = self.arena.add_times(sum, part, times);
        }
        for (low, factor) in self.arena.terms(sum).to_vec() {
            let Atom::Low { bits, .. } = self.arena.atom(low).atom else { continue };
            let low = self.arena.value_of(low);
            for (whole, times) in self.arena.terms(sum).to_vec() {
                let whole = self.arena.value_of(whole);
                if bits < 32 && times == -factor && self.arena.low(bits, whole) == low {
                    // `times * (whole - low)` is `times * (whole >> bits << bits)`.
                    let high = self.arena.right(64, whole, bits);
                    let high = self.arena.left(high, bits);
                    let kept = self.arena.sub(whole, low);
                    sum = self.arena.add_times(sum, kept, -times);
                    sum = self.arena.add_times(sum, high, times);
                    break;
                }
            }
        }
        sum
    }

    /// Is a value not negative on every way into a loop from outside?
    fn is_at_least_on_entry(&mut self, value: Value, head: BlockId) -> bool {
        let negative = self.arena.times(value, -1);
        let goal = Goal { lin: negative.lin, k: -i128::from(value.k) };
        let ways = self.flow.blocks[head as usize].from.clone();
        for (from, edge) in ways {
            if !self.flow.dominates(head, from) && !self.prove_on_edge(goal, from, edge) {
                return false;
            }
        }
        true
    }
}

/// `a / b`, if that leaves no rest.
fn exact_quotient(a: i64, b: i64) -> Option<i64> {
    (a.checked_rem(b)? == 0).then(|| a / b)
}
