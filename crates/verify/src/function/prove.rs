//! Shows that a sum is at most zero wherever a block is reached.
//!
//! A goal is an integer sum of atoms. It is shown by the atoms' ranges; by taking away what is
//! known to be at most zero (facts of branches, induction hypotheses); by putting bounds in an
//! atom's place that follow from what the atom is; or where ways meet, by showing it for every way
//! in, with the values that come from there. At the head of a loop that is an induction: on the
//! ways back it may be assumed for the round before.
//!
//! Names mean what was computed last (see `value`), so a goal is carried back to a join only if all
//! its atoms come to be there or in blocks that dominate it; and what was assumed behind the join
//! is of use before it only if it is about atoms of the latter kind.

use std::collections::{HashMap, HashSet};

use crate::flow::{BlockId, Edge};
use crate::function::Analysis;
use crate::function::facts::{Fact, Relation, parts};
use crate::function::loops::Steady;
use crate::value::{Atom, AtomId, LinId, Range, Value};

/// What is to be shown: `lin + k` is at most zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Goal {
    /// The combination.
    pub lin: LinId,
    /// The constant.
    pub k: i128,
}

/// What holds besides the facts of blocks.
#[derive(Clone, Copy, Debug)]
enum Assumed {
    /// A fact.
    Fact(Fact),
    /// What is before was assumed behind this join.
    Join(BlockId),
}

/// What a proof has to work with.
#[derive(Debug, Default)]
pub(crate) struct Prover {
    assumed: Vec<Assumed>,
    /// Goals at heads of loops that are being shown.
    open: Vec<(BlockId, Goal)>,
    /// How many goals were shown for heads of loops, from nothing but facts: they are facts now.
    shown_count: u32,
    /// Goals of blocks that were shown, or failed with so many of those.
    decided: HashMap<(Goal, BlockId), Option<u32>>,
    /// How variables of loops change, as far as anybody asked.
    pub steady: HashMap<AtomId, Option<Steady>>,
    /// What atoms are by rounds of loops.
    pub by_rounds: HashMap<AtomId, Option<(Value, Range)>>,
    /// Loops whose rounds are bounded as far as can be.
    pub counted: HashSet<BlockId>,
    /// Steps that are left of this proof.
    steps: u32,
    /// Steps that are left of all proofs about this function.
    all_steps: usize,
    /// Did the last proof use induction?
    pub induction: bool,
    /// Did it use facts?
    pub branches: bool,
}

/// How deeply steps follow each other, and how many there are in one proof at most: short proofs
/// are looked for first.
const EFFORTS: [(u32, u32); 3] = [(2, 60), (4, 200), (DEPTH, STEPS)];

/// How many of these are left where that many accesses were not shown: the function is compiled
/// once more anyway.
const EFFORTS_LEFT: [(usize, usize); 3] = [(0, EFFORTS.len()), (8, 2), (usize::MAX, 1)];

/// The most of both.
const DEPTH: u32 = 7;
const STEPS: u32 = 600;

/// Steps of all proofs about a function, at most: so many, and more for each operation. What is not
/// shown by then is not shown.
const ALL_STEPS: usize = 1 << 16;
const ALL_STEPS_OF_OP: usize = 64;

/// Facts of a block that are looked at, at most.
const FACTS: usize = 160;

/// Factors that grow beyond this are given up.
const FACTOR_MAX: i64 = 1 << 44;

impl Prover {
    /// Forgets everything that was about another function than the one of so many operations.
    pub(crate) fn clear(&mut self, ops: usize) {
        self.all_steps = ALL_STEPS + ALL_STEPS_OF_OP * ops;
        self.assumed.clear();
        self.open.clear();
        self.shown_count = 0;
        self.decided.clear();
        self.steady.clear();
        self.by_rounds.clear();
        self.counted.clear();
    }
}

impl Prover {
    /// Takes steps, if there are so many left.
    pub(crate) fn has_steps(&mut self, steps: usize) -> bool {
        let left = self.all_steps.checked_sub(steps);
        self.all_steps = left.unwrap_or(0);
        left.is_some()
    }
}

impl Analysis<'_> {
    /// Notes what holds whenever the head of a loop is reached.
    pub(crate) fn note_shown(&mut self, head: BlockId, fact: Fact) {
        self.facts.note(&self.arena, head, fact);
        self.prover.shown_count += 1;
    }

    /// Is `value <= limit`, as integers, wherever the block is reached?
    pub(crate) fn is_at_most(&mut self, value: Value, limit: i128, block: BlockId) -> bool {
        self.prove(Goal { lin: value.lin, k: i128::from(value.k) - limit }, block)
    }

    /// Is `value >= limit`?
    pub(crate) fn is_at_least(&mut self, value: Value, limit: i128, block: BlockId) -> bool {
        let negative = self.arena.times(value, -1);
        self.prove(Goal { lin: negative.lin, k: limit - i128::from(value.k) }, block)
    }

    /// Is `least <= low`, and `high <= most`, of what the machine has? The two are so far apart as
    /// they seem.
    pub(crate) fn is_between(
        &mut self,
        (least, low): (i128, Value),
        (high, most): (Value, i128),
        block: BlockId,
    ) -> bool {
        // Another sum that is congruent: both bounds must be of the same.
        if let (Some(low), Some(high)) = (self.counted(low), self.counted(high))
            && self.is_between_as_sum((least, low), (high, most), block)
        {
            self.prover.induction = true;
            return true;
        }
        self.is_between_as_sum((least, low), (high, most), block)
    }

    fn is_between_as_sum(
        &mut self,
        (least, low): (i128, Value),
        (high, most): (Value, i128),
        block: BlockId,
    ) -> bool {
        let mut induction = false;
        let (mut lower, mut upper) = (false, false);
        // Each side may help the other: a bound around a loop is known once it is shown.
        for _ in 0..2 {
            if !lower {
                lower = self.is_at_least(low, least, block);
                induction |= self.prover.induction;
            }
            if !upper {
                upper = self.is_at_most(high, most, block);
                induction |= self.prover.induction;
            }
            if lower && upper {
                break;
            }
        }
        self.prover.induction = induction;
        lower && upper
    }

    /// Is the goal met in a block, with what is assumed now?
    pub(crate) fn prove_here(&mut self, goal: Goal, block: BlockId) -> bool {
        if self.prover.assumed.is_empty() {
            return self.prove(goal, block);
        }
        self.prover.steps = STEPS / 4;
        self.step_goal(goal, block, DEPTH)
    }

    /// Holds something of a value on every way into the deepest join that it is made of? On ways
    /// back into a loop that leave it as it is, it holds if it did before.
    pub(crate) fn on_each_way(
        &mut self,
        value: Value,
        holds: &mut dyn FnMut(&mut Self, Value, BlockId) -> bool,
    ) -> bool {
        let terms = self.arena.terms(value).to_vec();
        let joins = terms.iter().filter_map(|(atom, _)| match self.arena.atom(*atom).atom {
            Atom::Phi { block, .. } | Atom::Join { block, .. } => Some(block),
            _ => None,
        });
        let Some(join) = joins.max() else { return false };
        let before = self.prover.assumed.len();
        self.prover.assumed.push(Assumed::Join(join));
        let ways = self.flow.blocks[join as usize].from.clone();
        let mut all = true;
        for (number, (from, edge)) in ways.into_iter().enumerate() {
            self.prover.assumed.truncate(before + 1);
            let told = self.edge_facts(from, edge);
            if self.is_impossible(from, &told) {
                continue;
            }
            self.prover.assumed.extend(told.into_iter().map(Assumed::Fact));
            let Some(there) = self.on_way(value, (join, number, from)) else {
                all = false;
                break;
            };
            let back = self.flow.dominates(join, from);
            let around = back && there == value;
            if !around && !holds(self, there, from) {
                all = false;
                break;
            }
        }
        self.prover.assumed.truncate(before);
        all
    }

    /// What a value is on a way into a join, as an integer.
    fn on_way(&mut self, value: Value, way: (BlockId, usize, BlockId)) -> Option<Value> {
        self.substituted(value, way, true)
    }

    /// The same modulo 2^64.
    pub(crate) fn congruent_on_way(
        &mut self,
        value: Value,
        way: (BlockId, usize, BlockId),
    ) -> Option<Value> {
        self.substituted(value, way, false)
    }

    fn substituted(
        &mut self,
        value: Value,
        (join, number, from): (BlockId, usize, BlockId),
        exact: bool,
    ) -> Option<Value> {
        let mut there = value;
        for (atom, factor) in self.arena.terms(value).to_vec() {
            let data = *self.arena.atom(atom);
            let argument = match data.atom {
                Atom::Join { block, list } if block == join => {
                    self.arena.list(list).get(number).copied()
                }
                Atom::Phi { block, var, .. } if block == join => self.argument(join, var, from),
                _ if self.outlives(data.home, join) => continue,
                _ => None,
            }?;
            if exact && !self.arena.range(argument).within(Range::ANY) {
                return None;
            }
            let own = self.arena.value_of(atom);
            let difference = self.arena.sub(argument, own);
            there = self.arena.add_times(there, difference, factor);
        }
        Some(there)
    }

    /// Is the goal met where an edge leads from a block?
    pub(crate) fn prove_on_edge(&mut self, goal: Goal, from: BlockId, edge: Edge) -> bool {
        let (assumed, steps) = (std::mem::take(&mut self.prover.assumed), self.prover.steps);
        let open = std::mem::take(&mut self.prover.open);
        let facts = self.edge_facts(from, edge);
        self.prover.assumed.extend(facts.into_iter().map(Assumed::Fact));
        self.prover.steps = STEPS;
        let shown = self.step_goal(goal, from, DEPTH);
        self.prover.steps = steps;
        self.prover.assumed = assumed;
        self.prover.open = open;
        shown
    }

    /// Is the goal met wherever the block is reached?
    pub(crate) fn prove(&mut self, goal: Goal, block: BlockId) -> bool {
        (self.prover.induction, self.prover.branches) = (false, false);
        if self.arena.lin_range(goal.lin).hi + goal.k <= 0 {
            return true;
        }
        match self.prover.decided.get(&(goal, block)) {
            Some(None) => return true,
            Some(Some(count)) if *count == self.prover.shown_count => return false,
            _ => {}
        }
        let not_shown = self.outcome.unshown.len();
        let left = EFFORTS_LEFT.iter().find(|(most, _)| not_shown <= *most);
        let efforts = left.map_or(1, |(_, efforts)| *efforts);
        let shown = EFFORTS[..efforts].iter().any(|(depth, steps)| {
            self.prover.steps = *steps;
            self.step_goal(goal, block, *depth)
        });
        debug_assert!(self.prover.assumed.is_empty() && self.prover.open.is_empty());
        let count = self.prover.shown_count;
        self.prover.decided.insert((goal, block), (!shown).then_some(count));
        shown
    }

    pub(crate) fn step_goal(&mut self, goal: Goal, block: BlockId, depth: u32) -> bool {
        let goal = self.in_lowest_terms(goal);
        let range = self.arena.lin_range(goal.lin);
        if range.hi.saturating_add(goal.k) <= 0 {
            return true;
        }
        if depth == 0 || self.prover.steps == 0 || goal.lin == 0 || !self.is_handy(goal.lin) {
            return false;
        }
        self.prover.steps -= 1;
        if !self.prover.has_steps(1) {
            return false;
        }
        if let Some(shown) = self.by_limits(goal, block, depth) {
            return shown;
        }
        let mut others = Vec::new();
        if self.by_facts(goal, block, depth, &mut others) {
            return true;
        }
        if self.by_structure(goal, block, depth) || self.by_cases(goal, block, depth) {
            return true;
        }
        others.sort_by_key(|goal: &Goal| {
            (self.arena.terms(Value { lin: goal.lin, k: 0 }).len(), self.excess(*goal))
        });
        others.dedup();
        others.truncate(6);
        others.into_iter().any(|goal| self.step_goal(goal, block, depth - 1))
    }

    /// Where a goal grows with the rounds of a loop, as many as there can be are put in their
    /// place. There is no better way then.
    fn by_limits(&mut self, goal: Goal, block: BlockId, depth: u32) -> Option<bool> {
        let terms = self.arena.terms(Value { lin: goal.lin, k: 0 });
        let is_count = |term: &&(AtomId, i64)| {
            term.1 > 0 && matches!(self.arena.atom(term.0).atom, Atom::Rounds { .. })
        };
        let (atom, factor) = *terms.iter().rev().find(is_count)?;
        let mut facts = Vec::new();
        self.facts_about(block, atom, &mut facts);
        let mut any = None;
        for fact in facts {
            let has = self.factor(fact.lin, atom).filter(|has| *has > 0);
            if fact.relation != Relation::AtMostZero || fact.given.is_some() {
                continue;
            }
            let Some(left) = has.and_then(|has| self.without(goal, fact, factor, has)) else {
                continue;
            };
            if self.step_goal(left, block, depth) {
                return Some(true);
            }
            any = Some(false);
        }
        any
    }

    /// The same goal, its factors without a common divisor: what is left of the constant is rounded
    /// up.
    fn in_lowest_terms(&mut self, goal: Goal) -> Goal {
        let terms = self.arena.terms(Value { lin: goal.lin, k: 0 });
        let divisor = terms.iter().fold(0, |divisor, (_, factor)| {
            if divisor == 1 { 1 } else { greatest_divisor(divisor, factor.unsigned_abs().into()) }
        });
        let Some(unit) = i64::try_from(divisor).ok().filter(|unit| *unit > 1) else { return goal };
        let terms = terms.iter().map(|(atom, factor)| (*atom, factor / unit)).collect();
        let k = -(-goal.k).div_euclid(unit.into());
        Goal { lin: self.arena.sum(terms, 0).lin, k }
    }

    /// Are all factors small enough to be worked with?
    fn is_handy(&self, lin: LinId) -> bool {
        let terms = self.arena.terms(Value { lin, k: 0 });
        terms.iter().all(|(_, factor)| factor.unsigned_abs() < FACTOR_MAX.unsigned_abs())
    }

    /// By how much the ranges miss a goal.
    fn excess(&self, goal: Goal) -> i128 {
        self.arena.lin_range(goal.lin).hi.saturating_add(goal.k)
    }

    // Facts.

    /// What is assumed besides the facts of blocks, and may be used before the joins that it is
    /// from.
    pub(crate) fn assumed(&self) -> impl Iterator<Item = Fact> {
        let mut joins = Vec::new();
        self.prover.assumed.iter().rev().filter_map(move |assumed| match *assumed {
            Assumed::Join(join) => {
                joins.push(join);
                None
            }
            Assumed::Fact(fact) => {
                let home = self.arena.home(Value { lin: fact.lin, k: 0 });
                joins.iter().all(|join| self.outlives(home, *join)).then_some(fact)
            }
        })
    }

    /// Facts about an atom, or about its low bits, that hold in a block.
    fn facts_about(&self, block: BlockId, atom: AtomId, facts: &mut Vec<Fact>) {
        facts.extend(self.assumed().filter(|fact| self.concerns(*fact, atom)));
        self.facts.about(&self.flow, block, atom, facts);
        facts.truncate(FACTS);
    }

    fn concerns(&self, fact: Fact, atom: AtomId) -> bool {
        self.arena.terms(Value { lin: fact.lin, k: 0 }).iter().any(|(other, _)| {
            let mut found = *other == atom;
            parts(&self.arena, *other, &mut |part| found |= part == atom);
            found
        })
    }

    /// Takes away what is at most zero; what is left to be shown otherwise goes to `others`.
    fn by_facts(&mut self, goal: Goal, block: BlockId, depth: u32, others: &mut Vec<Goal>) -> bool {
        let terms = self.arena.terms(Value { lin: goal.lin, k: 0 }).to_vec();
        let (mut facts, mut lows) = (Vec::new(), Vec::new());
        for (number, (atom, factor)) in terms.iter().enumerate() {
            facts.clear();
            self.facts_about(block, *atom, &mut facts);
            let steps = facts.len() as u32 / 16;
            self.prover.steps = self.prover.steps.saturating_sub(steps);
            self.prover.all_steps = self.prover.all_steps.saturating_sub(steps as usize);
            for fact in &facts {
                if !self.is_handy(fact.lin) {
                    continue;
                }
                let shown = match fact.relation {
                    Relation::AtMostSize(_) => false,
                    // Once for all atoms of the goal.
                    Relation::NotZero if number > 0 => false,
                    Relation::NotZero => match self.beside(goal, *fact) {
                        Some(goal) => self.step_goal(goal, block, depth - 1),
                        None => false,
                    },
                    _ => {
                        let size = terms.len();
                        let of = (*atom, *factor, size);
                        self.by_fact(goal, block, depth, of, *fact, others)
                            || self.by_low_bits(goal, block, depth, *atom, (*fact, &mut lows))
                            || self.by_high_bits(
                                goal,
                                block,
                                depth,
                                (*atom, *factor),
                                (*fact, &mut lows),
                            )
                    }
                };
                if shown {
                    self.prover.branches = true;
                    return true;
                }
            }
        }
        false
    }

    /// Takes away as much of a fact as makes an atom vanish, which the goal has with this factor.
    fn by_fact(
        &mut self,
        goal: Goal,
        block: BlockId,
        depth: u32,
        (atom, factor, size): (AtomId, i64, usize),
        fact: Fact,
        others: &mut Vec<Goal>,
    ) -> bool {
        let Some(has) = self.factor(fact.lin, atom) else { return false };
        let signs_fit = (factor > 0) == (has > 0);
        if !signs_fit && fact.relation != Relation::Zero {
            return false;
        }
        let fact_range = self.arena.lin_range(fact.lin);
        let turn = 1_i128 << 64;
        let exact = fact_range.hi + fact.k < turn && fact_range.lo + fact.k > -turn;
        if fact.relation == Relation::Zero && !exact {
            return false;
        }
        let Some(left) = self.without(goal, fact, factor, has) else { return false };
        let settles = self.excess(left) <= 0;
        if let Some(given) = fact.given
            && !(settles && self.holds_at_least(given, 0, block, depth))
        {
            return false;
        }
        if !settles && self.arena.terms(Value { lin: left.lin, k: 0 }).len() <= size + 1 {
            others.push(left);
        }
        settles
    }

    /// Where a fact is about the low bits of an atom that the goal has: a value is its low bits if
    /// it has no more.
    fn by_low_bits(
        &mut self,
        goal: Goal,
        block: BlockId,
        depth: u32,
        inner: AtomId,
        (fact, tried): (Fact, &mut Vec<AtomId>),
    ) -> bool {
        let Some(in_goal) = self.factor(goal.lin, inner) else { return false };
        for (atom, in_fact) in self.arena.terms(Value { lin: fact.lin, k: 0 }).to_vec() {
            let Atom::Low { bits, of } = self.arena.atom(atom).atom else { continue };
            let Some(in_sum) = self.factor(of.lin, inner) else { continue };
            let signs_fit = (in_goal > 0) == (in_fact > 0) && in_sum > 0;
            if !signs_fit || tried.contains(&atom) {
                continue;
            }
            tried.push(atom);
            // `of - low <= 0` or `low - of <= 0`, if it has not turned round.
            let upper = in_goal < 0;
            let low = self.arena.value_of(atom);
            let (above, in_fact) = match upper {
                true => (self.arena.sub(low, of), -in_sum),
                false => (self.arena.sub(of, low), in_sum),
            };
            let fact = Fact::new(above.lin, above.k.into(), Relation::AtMostZero);
            let Some(left) = self.without(goal, fact, in_goal, in_fact) else { continue };
            if self.step_goal(left, block, depth.min(2) - 1)
                && self.has_not_turned(atom, (bits, of), upper, block, depth)
            {
                return true;
            }
        }
        false
    }

    /// Where a fact is about an atom that is shifted from one that the goal has: that is a multiple
    /// of it, and what was lost.
    fn by_high_bits(
        &mut self,
        goal: Goal,
        block: BlockId,
        depth: u32,
        (from, factor): (AtomId, i64),
        (fact, tried): (Fact, &mut Vec<AtomId>),
    ) -> bool {
        let mut shifted = Vec::new();
        for (atom, _) in self.arena.terms(Value { lin: fact.lin, k: 0 }) {
            shifted.push(*atom);
            if let Atom::Low { of, .. } = self.arena.atom(*atom).atom {
                shifted.extend(self.arena.terms(of).iter().map(|(inner, _)| *inner));
            }
        }
        for atom in shifted {
            let Atom::Right { of, by } = self.arena.atom(atom).atom else { continue };
            let fits = by < 40 && self.arena.range(of).within(Range::bits(63));
            if !fits || self.arena.single(of) != Some(from) || tried.contains(&atom) {
                continue;
            }
            tried.push(atom);
            let unit = 1_i64 << by;
            let high = self.arena.value_of(atom);
            let high = self.arena.left(high, by).plus(if factor > 0 { unit - 1 } else { 0 });
            if self.with_bound(goal, (from, factor), (1, high), block, depth) {
                return true;
            }
        }
        false
    }

    pub(crate) fn factor(&self, lin: LinId, atom: AtomId) -> Option<i64> {
        let terms = self.arena.terms(Value { lin, k: 0 });
        terms.iter().find(|(other, _)| *other == atom).map(|(_, factor)| *factor)
    }

    /// The goal, multiplied if need be, without as much of the fact as makes an atom vanish that
    /// has these factors in the two.
    fn without(&mut self, goal: Goal, fact: Fact, in_goal: i64, in_fact: i64) -> Option<Goal> {
        let (times_goal, times_fact) = if in_goal % in_fact == 0 {
            (1, in_goal / in_fact)
        } else if in_fact % in_goal == 0 && in_fact / in_goal > 0 {
            (in_fact / in_goal, 1)
        } else {
            return None;
        };
        let left =
            self.combine(goal, times_goal, Goal { lin: fact.lin, k: fact.k }, -times_fact)?;
        // An integer of which a multiple is less than that multiple of one is not above zero.
        Some(Goal { k: left.k - i128::from(times_goal - 1), ..left })
    }

    /// `a * x + b * y`, if no factor grows too large.
    pub(crate) fn combine(&mut self, x: Goal, a: i64, y: Goal, b: i64) -> Option<Goal> {
        let fits = |arena: &crate::value::Arena, lin: LinId, by: i64| {
            arena.terms(Value { lin, k: 0 }).iter().all(|(_, factor)| {
                let product = factor.checked_mul(by);
                product.is_some_and(|factor| factor.unsigned_abs() < FACTOR_MAX.unsigned_abs())
            })
        };
        if !fits(&self.arena, x.lin, a) || !fits(&self.arena, y.lin, b) {
            return None;
        }
        let scaled = self.arena.times(Value { lin: x.lin, k: 0 }, a);
        let sum = self.arena.add_times(scaled, Value { lin: y.lin, k: 0 }, b);
        let k = x.k.checked_mul(a.into())?.checked_add(y.k.checked_mul(b.into())?)?;
        Some(Goal { lin: sum.lin, k })
    }

    /// What suffices for a goal since a sum is not zero: the same with the sum at zero.
    fn beside(&mut self, goal: Goal, fact: Fact) -> Option<Goal> {
        // What is not zero is not zero either if it is divided, and what leaves a rest is not zero
        // anyway.
        let divided = self.in_lowest_terms(Goal { lin: fact.lin, k: fact.k });
        let unit = match self.arena.terms(Value { lin: divided.lin, k: 0 }).first() {
            Some((atom, factor)) => self.factor(fact.lin, *atom)? / factor,
            None => return None,
        };
        if fact.k % i128::from(unit) != 0 {
            return None;
        }
        let fact = Fact { lin: divided.lin, k: fact.k / i128::from(unit), ..fact };
        let negative = self.arena.times(Value { lin: fact.lin, k: 0 }, -1).lin;
        let fact_k = match goal.lin {
            lin if lin == fact.lin => fact.k,
            lin if lin == negative => -fact.k,
            _ => return None,
        };
        // The goal is `v + missing <= 0` with `v`, the sum or its negative, not zero.
        let missing = goal.k - fact_k;
        let terms = self.arena.terms(Value { lin: fact.lin, k: 0 });
        let unit = terms.iter().fold(fact.k.unsigned_abs(), |unit, (_, factor)| {
            greatest_divisor(unit, factor.unsigned_abs().into())
        });
        if missing <= 0 || missing.unsigned_abs() > unit {
            return None;
        }
        // It is not zero modulo 2^64, so it is not zero.
        Some(Goal { lin: goal.lin, k: fact_k })
    }

    // Cases.

    /// One case for each way into a join, or for each side of a choice.
    fn by_cases(&mut self, goal: Goal, block: BlockId, depth: u32) -> bool {
        let terms = self.arena.terms(Value { lin: goal.lin, k: 0 }).to_vec();
        let home = self.arena.home(Value { lin: goal.lin, k: 0 });
        for (atom, factor) in &terms {
            if let Atom::Select(number) = self.arena.atom(*atom).atom
                && self.arena.atom(*atom).home == home
            {
                return self.by_choice(goal, block, depth, (*atom, *factor, number));
            }
        }
        let mut joins: Vec<BlockId> = terms
            .iter()
            .filter_map(|(atom, _)| match self.arena.atom(*atom).atom {
                Atom::Phi { block, .. } | Atom::Join { block, .. } | Atom::Rounds { block } => {
                    Some(block)
                }
                _ => None,
            })
            .collect();
        joins.sort_unstable();
        joins.dedup();
        joins.into_iter().rev().any(|join| self.by_join(goal, join, depth))
    }

    /// Shows a goal at a join; what comes to be behind it is as large as it can be.
    fn by_join(&mut self, goal: Goal, join: BlockId, depth: u32) -> bool {
        let mut goal = goal;
        let mut parts = Vec::new();
        for (atom, factor) in self.arena.terms(Value { lin: goal.lin, k: 0 }).to_vec() {
            let data = *self.arena.atom(atom);
            let here = match data.atom {
                Atom::Phi { block, .. } | Atom::Join { block, .. } | Atom::Rounds { block } => {
                    block == join
                }
                _ => false,
            };
            if here {
                parts.push((atom, factor, data.atom));
            } else if !self.outlives(data.home, join) {
                let bound = if factor > 0 { data.range.hi } else { data.range.lo };
                let own = Goal { lin: data.lin, k: -bound };
                let Some(left) = self.combine(goal, 1, own, -factor) else { return false };
                goal = left;
            }
        }
        if parts.is_empty() || self.prover.open.contains(&(join, goal)) {
            return false;
        }
        self.by_ways(goal, join, depth, &parts)
    }

    /// Shows a goal at a join for every way in.
    fn by_ways(
        &mut self,
        goal: Goal,
        join: BlockId,
        depth: u32,
        parts: &[(AtomId, i64, Atom)],
    ) -> bool {
        let ways = self.flow.blocks[join as usize].from.clone();
        let (assumed, open) = (self.prover.assumed.len(), self.prover.open.len());
        self.prover.assumed.push(Assumed::Join(join));
        self.prover.open.push((join, goal));
        let before = self.prover.assumed.len();
        let mut all = true;
        for (number, (from, edge)) in ways.iter().enumerate() {
            self.prover.assumed.truncate(before);
            let told = self.edge_facts(*from, *edge);
            if self.is_impossible(*from, &told) {
                continue;
            }
            self.prover.assumed.extend(told.into_iter().map(Assumed::Fact));
            if self.flow.dominates(join, *from) {
                let fact = Fact::new(goal.lin, goal.k, Relation::AtMostZero);
                self.prover.assumed.push(Assumed::Fact(fact));
            }
            if !self.by_way(goal, (join, number, *from), depth, parts) {
                all = false;
                break;
            }
        }
        self.prover.assumed.truncate(assumed);
        self.prover.open.truncate(open);
        if all && self.flow.blocks[join as usize].is_head {
            self.prover.induction = true;
            if !self.prover.assumed.iter().any(|assumed| matches!(assumed, Assumed::Fact(..))) {
                let fact = Fact::new(goal.lin, goal.k, Relation::AtMostZero);
                self.note_shown(join, fact);
            }
        }
        all
    }

    fn by_way(
        &mut self,
        goal: Goal,
        (join, number, from): (BlockId, usize, BlockId),
        depth: u32,
        parts: &[(AtomId, i64, Atom)],
    ) -> bool {
        let mut left = goal;
        for (atom, factor, what) in parts {
            let argument = match what {
                Atom::Join { list, .. } => self.arena.list(*list).get(number).copied(),
                Atom::Phi { var, .. } => self.argument(join, *var, from),
                Atom::Rounds { .. } => Some(match self.flow.dominates(join, from) {
                    true => self.arena.value_of(*atom).plus(1),
                    false => Value::number(0),
                }),
                _ => None,
            };
            let Some(argument) = argument else { return false };
            let range = self.arena.range(argument);
            // The atom is the signed number: so must be the sum that stands for it.
            let fits = (range.hi <= Range::ANY.hi
                || self.holds_at_most(argument, Range::ANY.hi, from, depth))
                && (range.lo >= Range::ANY.lo
                    || self.holds_at_least(argument, Range::ANY.lo, from, depth));
            if !fits {
                return false;
            }
            let own = Goal { lin: self.arena.atom(*atom).lin, k: 0 };
            let stands = Goal { lin: argument.lin, k: argument.k.into() };
            let Some(rest) = self.combine(left, 1, own, -factor) else { return false };
            let Some(next) = self.combine(rest, 1, stands, *factor) else { return false };
            left = next;
        }
        self.step_goal(left, from, depth - 1)
    }

    fn by_choice(
        &mut self,
        goal: Goal,
        block: BlockId,
        depth: u32,
        (atom, factor, number): (AtomId, i64, u32),
    ) -> bool {
        let choice = *self.arena.choice(number);
        let own = Goal { lin: self.arena.atom(atom).lin, k: 0 };
        let sides =
            [(choice.then, choice.condition), (choice.otherwise, choice.condition.opposite())];
        for (value, condition) in sides {
            if !self.arena.range(value).within(Range::ANY) {
                return false;
            }
            let stands = Goal { lin: value.lin, k: value.k.into() };
            let Some(rest) = self.combine(goal, 1, own, -factor) else { return false };
            let Some(left) = self.combine(rest, 1, stands, factor) else { return false };
            let mut facts = Vec::new();
            self.learn(choice.on, condition, &mut facts);
            let before = self.prover.assumed.len();
            self.prover.assumed.extend(facts.into_iter().map(Assumed::Fact));
            let shown = self.step_goal(left, block, depth - 1);
            self.prover.assumed.truncate(before);
            if !shown {
                return false;
            }
        }
        true
    }
}

fn greatest_divisor(a: u128, b: u128) -> u128 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
