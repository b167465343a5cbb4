//! What branches tell: inequalities between values that hold in the blocks behind them.
//!
//! A fact is about the integer sum of a value (see `value`). A comparison is about what the machine
//! has, so it makes a fact only if the two are the same: values of 32 bits and fewer always, wider
//! ones if their ranges leave no doubt. Facts are kept with the block behind an edge and hold in
//! all that it dominates; where ways meet, those hold that every way brings.

use crate::flow::{BlockId, Edge, Flow};
use crate::function::Analysis;
use crate::op::Condition;
use crate::state::{About, Known};
use crate::value::{Arena, Atom, AtomId, Kind, LinId, Range, Value};

/// What is said of a sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Relation {
    /// At most zero.
    AtMostZero,
    /// Zero, modulo 2^64.
    Zero,
    /// Not zero, modulo 2^64.
    NotZero,
    /// At most a size of this kind that there was at some time. Sizes never become less, so it does
    /// not matter which: comparisons with several of them meet.
    AtMostSize(Kind),
}

/// A fact: `lin + k` is as the relation says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fact {
    /// The combination.
    pub lin: LinId,
    /// The constant.
    pub k: i128,
    /// What is said.
    pub relation: Relation,
    /// It is said only if this value is not negative.
    pub given: Option<Value>,
}

impl Fact {
    /// `lin + k` is as the relation says.
    pub(crate) fn new(lin: LinId, k: i128, relation: Relation) -> Self {
        Self { lin, k, relation, given: None }
    }
}

/// A fact, where it holds, and where others like it are.
#[derive(Clone, Copy, Debug)]
struct Link {
    fact: Fact,
    /// It holds in all blocks that this one dominates.
    block: BlockId,
    /// The next one of the block's chain.
    next: u32,
    /// The one before of the same combination.
    alike: u32,
}

/// Facts of all blocks: each block's are a chain that leads to its dominator's. They are found by
/// what they are about as well.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    links: Vec<Link>,
    of: Vec<u32>,
    /// The latest fact of each combination.
    by_lin: Vec<u32>,
    /// The latest use of each atom.
    by_atom: Vec<u32>,
    /// Uses of atoms: the one before, and the fact.
    uses: Vec<(u32, u32)>,
    /// Facts about sizes.
    sizes: Vec<u32>,
}

/// The end of a chain.
const NONE: u32 = u32::MAX;

/// Facts that are looked through where ways meet, at most.
const MEETING: usize = 48;

/// Facts about the same thing that are looked through, at most.
const ALIKE: usize = 4096;

impl Facts {
    /// Forgets everything.
    pub(crate) fn clear(&mut self, blocks: usize) {
        self.links.clear();
        self.of.clear();
        self.of.resize(blocks, NONE);
        self.by_lin.clear();
        self.by_atom.clear();
        self.uses.clear();
        self.sizes.clear();
    }

    /// A block's facts, the latest first, back to those of `until` and without them.
    pub(crate) fn chain(
        &self,
        block: BlockId,
        until: Option<BlockId>,
    ) -> impl Iterator<Item = Fact> {
        let end = until.map_or(NONE, |block| self.of[block as usize]);
        let mut at = self.of[block as usize];
        std::iter::from_fn(move || {
            if at == end || at == NONE {
                return None;
            }
            let Link { next, fact, .. } = self.links[at as usize];
            at = next;
            Some(fact)
        })
    }

    /// Facts of a combination that hold in a block.
    pub(crate) fn alike(
        &self,
        flow: &Flow,
        block: BlockId,
        lin: LinId,
    ) -> impl Iterator<Item = Fact> {
        let mut at = self.by_lin.get(lin as usize).copied().unwrap_or(NONE);
        let links = std::iter::from_fn(move || {
            let link = self.links.get(at as usize)?;
            at = link.alike;
            Some(link)
        });
        links.take(ALIKE).filter(move |link| flow.dominates(link.block, block)).map(|l| l.fact)
    }

    /// Facts about sizes that hold in a block, the latest first.
    pub(crate) fn sizes(&self, flow: &Flow, block: BlockId) -> impl Iterator<Item = Fact> {
        let links = self.sizes.iter().rev().map(|link| &self.links[*link as usize]);
        links.take(ALIKE).filter(move |link| flow.dominates(link.block, block)).map(|l| l.fact)
    }

    /// Facts about an atom, or about its low bits, that hold in a block, the latest first.
    pub(crate) fn about(&self, flow: &Flow, block: BlockId, atom: AtomId, into: &mut Vec<Fact>) {
        let mut at = self.by_atom.get(atom as usize).copied().unwrap_or(NONE);
        for _ in 0..ALIKE {
            let Some((before, link)) = self.uses.get(at as usize) else { return };
            let link = &self.links[*link as usize];
            if flow.dominates(link.block, block) {
                into.push(link.fact);
            }
            at = *before;
        }
    }

    /// Notes a fact that holds wherever a block is reached, besides the block's chain.
    pub(crate) fn note(&mut self, arena: &Arena, block: BlockId, fact: Fact) {
        self.add(arena, block, NONE, fact);
    }

    fn add(&mut self, arena: &Arena, block: BlockId, chain: u32, fact: Fact) -> u32 {
        let number = self.links.len() as u32;
        let lin = fact.lin as usize;
        if self.by_lin.len() <= lin {
            self.by_lin.resize(lin + 1, NONE);
        }
        let alike = std::mem::replace(&mut self.by_lin[lin], number);
        self.links.push(Link { fact, block, next: chain, alike });
        match fact.relation {
            Relation::AtMostSize(_) => {
                self.sizes.push(number);
                return number;
            }
            Relation::NotZero if is_size(arena.kind_of(Value { lin: fact.lin, k: 0 })) => {
                self.sizes.push(number)
            }
            _ => {}
        }
        for (atom, _) in arena.terms(Value { lin: fact.lin, k: 0 }) {
            self.add_use(*atom, number);
            parts(arena, *atom, &mut |part| self.add_use(part, number));
        }
        number
    }

    fn add_use(&mut self, atom: AtomId, link: u32) {
        let atom = atom as usize;
        if self.by_atom.len() <= atom {
            self.by_atom.resize(atom + 1, NONE);
        }
        let number = self.uses.len() as u32;
        let before = std::mem::replace(&mut self.by_atom[atom], number);
        self.uses.push((before, link));
    }
}

impl Analysis<'_> {
    /// Gathers the facts of all blocks, once their states are final.
    pub(crate) fn learn_all(&mut self) {
        let count = self.flow.blocks.len();
        self.facts.clear(count);
        self.never_reached.clear();
        self.never_reached.resize(count, false);
        for block in 1..count as BlockId {
            let data = &self.flow.blocks[block as usize];
            let (dominator, head) = (data.dominator, data.is_head);
            let from = data.from.clone();
            let told = if let [(one, edge)] = from[..] {
                self.edge_facts(one, edge)
            } else if !head {
                self.meeting_facts(&from, dominator)
            } else {
                self.entering_facts(block, from, dominator)
            };
            self.never_reached[block as usize] = self.never_reached[dominator as usize]
                || told.iter().any(|fact| self.contradicts(dominator, *fact));
            let mut chain = self.facts.of[dominator as usize];
            for fact in told {
                chain = self.facts.add(&self.arena, block, chain, fact);
            }
            self.facts.of[block as usize] = chain;
        }
    }

    /// Do the conditions on the way to a block contradict each other, or what they are about? Then
    /// nothing reaches it.
    pub(crate) fn is_never_reached(&self, block: BlockId) -> bool {
        self.never_reached[block as usize]
    }

    /// Is a fact false, or is its opposite known at a block?
    fn contradicts(&mut self, block: BlockId, fact: Fact) -> bool {
        if fact.given.is_some() {
            return false;
        }
        let turn = 1_i128 << 64;
        let range = self.arena.lin_range(fact.lin);
        let (lo, hi) = (range.lo.saturating_add(fact.k), range.hi.saturating_add(fact.k));
        let opposite = match fact.relation {
            Relation::AtMostZero => return lo > 0,
            Relation::AtMostSize(_) => return false,
            // Between two numbers that are zero modulo 2^64.
            Relation::Zero
                if hi.div_euclid(turn) < lo.saturating_add(turn - 1).div_euclid(turn) =>
            {
                return true;
            }
            Relation::NotZero if lo == hi => return lo % turn == 0,
            Relation::Zero => Relation::NotZero,
            Relation::NotZero => Relation::Zero,
        };
        self.is_known(block, fact.lin, fact.k, opposite) || {
            let negative = self.arena.times(Value { lin: fact.lin, k: 0 }, -1).lin;
            self.is_known(block, negative, -fact.k, opposite)
        }
    }

    /// Is exactly this a fact of a block?
    fn is_known(&self, block: BlockId, lin: LinId, k: i128, relation: Relation) -> bool {
        let known = Fact::new(lin, k, relation);
        self.facts.alike(&self.flow, block, lin).any(|fact| fact == known)
    }

    /// What holds on every way into a block.
    fn meeting_facts(&mut self, from: &[(BlockId, Edge)], dominator: BlockId) -> Vec<Fact> {
        let mut common: Option<Vec<Fact>> = None;
        for (block, edge) in from {
            let mut here = self.edge_facts(*block, *edge);
            here.extend(self.facts.chain(*block, Some(dominator)).take(MEETING));
            common = Some(match common {
                None => here,
                Some(common) => common.iter().filter_map(|fact| weakest(*fact, &here)).collect(),
            });
            if common.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
        }
        common.unwrap_or_default()
    }

    /// What holds on every way into a loop, of what the loop does not change. Since the values were
    /// computed the loop was entered last by one of these ways: what comes back to its head has
    /// passed the head before.
    fn entering_facts(
        &mut self,
        head: BlockId,
        mut from: Vec<(BlockId, Edge)>,
        dominator: BlockId,
    ) -> Vec<Fact> {
        from.retain(|(block, _)| !self.flow.dominates(head, *block));
        let mut facts = self.meeting_facts(&from, dominator);
        facts.retain(|fact| {
            let about = [Some(Value { lin: fact.lin, k: 0 }), fact.given];
            about.into_iter().flatten().all(|value| self.outlives(self.arena.home(value), head))
        });
        facts
    }

    /// What an edge tells.
    pub(crate) fn edge_facts(&mut self, from: BlockId, edge: Edge) -> Vec<Fact> {
        let mut facts = Vec::new();
        if let Edge::If(condition) = edge
            && let Some(state) = self.outs[from as usize].clone()
        {
            self.learn(state.flags, condition, &mut facts);
            for number in 0..facts.len() {
                facts.extend(self.unshifted(facts[number]));
            }
            for number in 0..facts.len() {
                facts.extend(self.at_most_size(facts[number]));
            }
        }
        if let Edge::Table { least, most } = edge {
            self.learn_entries(from, (least, most), &mut facts);
        }
        facts
    }

    /// What a bound of something shifted says of what it was shifted from.
    fn unshifted(&mut self, fact: Fact) -> Option<Fact> {
        let [(atom, factor @ (1 | -1))] = *self.arena.terms(Value { lin: fact.lin, k: 0 }) else {
            return None;
        };
        let Atom::Right { of, by } = self.arena.atom(atom).atom else { return None };
        let fits =
            by < 40 && fact.k.abs() < 1 << 64 && self.arena.range(of).within(Range::bits(64));
        if fact.relation != Relation::AtMostZero || fact.given.is_some() || !fits {
            return None;
        }
        let lost = if factor > 0 { (1_i128 << by) - 1 } else { 0 };
        let sum = self.arena.times(of, factor);
        let k = i128::from(of.k) * i128::from(factor) + (fact.k << by) - lost;
        Some(Fact::new(sum.lin, k, Relation::AtMostZero))
    }

    /// What a fact says about a size that there was: `x - size <= 0`.
    fn at_most_size(&mut self, fact: Fact) -> Option<Fact> {
        if fact.relation != Relation::AtMostZero || fact.given.is_some() {
            return None;
        }
        let sizes = |term: &&(AtomId, i64)| term.1 == -1 && is_size(self.arena.kind(term.0));
        let lin = Value { lin: fact.lin, k: 0 };
        let (size, _) = *self.arena.terms(lin).iter().find(sizes)?;
        let kind = self.arena.kind(size);
        let size = self.arena.value_of(size);
        let below = self.arena.add(lin, size);
        Some(Fact::new(below.lin, fact.k, Relation::AtMostSize(kind)))
    }

    /// Does what an edge tells contradict what is known before it?
    pub(crate) fn is_impossible(&self, from: BlockId, told: &[Fact]) -> bool {
        told.iter().any(|fact| {
            let opposite = match fact.relation {
                Relation::Zero => Relation::NotZero,
                Relation::NotZero => Relation::Zero,
                _ => return false,
            };
            self.is_known(from, fact.lin, fact.k, opposite)
        })
    }

    /// What it means that a condition holds.
    pub(crate) fn learn(&mut self, known: Known, condition: Condition, facts: &mut Vec<Fact>) {
        use Condition as C;
        let bits = known.bytes * 8;
        let (a, b) = (known.a, known.b);
        match known.about {
            About::Nothing => {}
            About::Difference => match condition {
                C::Equal | C::NotEqual => {
                    let (x, y) = self.same_bits(bits, a, b);
                    let difference = self.arena.sub(x, y);
                    self.learn_zero(difference, condition == C::Equal, facts);
                }
                C::Below => self.unsigned(bits, a, b, 1, facts),
                C::BelowOrEqual => self.unsigned(bits, a, b, 0, facts),
                C::Above => self.unsigned(bits, b, a, 1, facts),
                C::AboveOrEqual => self.unsigned(bits, b, a, 0, facts),
                C::Less => self.with_sign(bits, a, b, 1, facts),
                C::LessOrEqual => self.with_sign(bits, a, b, 0, facts),
                C::Greater => self.with_sign(bits, b, a, 1, facts),
                C::GreaterOrEqual => self.with_sign(bits, b, a, 0, facts),
                C::Negative | C::NotNegative => {
                    let difference = self.arena.sub(a, b);
                    self.learn_sign(bits, difference, condition == C::Negative, facts);
                }
                C::Other => {}
            },
            About::Common => {
                let value = self.arena.and(bits, a, b);
                let zero = Value::number(0);
                match condition {
                    C::Equal | C::BelowOrEqual => self.learn_zero(value, true, facts),
                    C::NotEqual | C::Above => self.learn_zero(value, false, facts),
                    C::Less | C::Negative => self.learn_sign(bits, value, true, facts),
                    C::GreaterOrEqual | C::NotNegative => {
                        self.learn_sign(bits, value, false, facts);
                    }
                    C::Greater => self.with_sign(bits, zero, value, 1, facts),
                    C::LessOrEqual => self.with_sign(bits, value, zero, 0, facts),
                    C::Below | C::AboveOrEqual | C::Other => {}
                }
            }
            About::Sum => {
                let sum = self.arena.add(a, b);
                match condition {
                    C::Equal | C::NotEqual => {
                        let sum = self.arena.low(bits, sum);
                        self.learn_zero(sum, condition == C::Equal, facts);
                    }
                    C::Negative | C::NotNegative => {
                        self.learn_sign(bits, sum, condition == C::Negative, facts);
                    }
                    C::Below | C::AboveOrEqual => {
                        self.learn_carry(bits, a, b, condition == C::Below, facts);
                    }
                    _ => {}
                }
            }
            About::Result => match condition {
                C::Equal | C::NotEqual => {
                    let value = self.arena.low(bits, a);
                    self.learn_zero(value, condition == C::Equal, facts);
                }
                C::Negative | C::NotNegative => {
                    self.learn_sign(bits, a, condition == C::Negative, facts);
                }
                _ => {}
            },
        }
    }

    /// Two values of so many bits, cut to them if they are fewer than 64.
    fn same_bits(&mut self, bits: u8, a: Value, b: Value) -> (Value, Value) {
        (self.arena.low(bits, a), self.arena.low(bits, b))
    }

    pub(crate) fn learn_zero(&mut self, value: Value, zero: bool, facts: &mut Vec<Fact>) {
        let relation = if zero { Relation::Zero } else { Relation::NotZero };
        facts.push(Fact::new(value.lin, value.k.into(), relation));
        let Some(atom) = self.arena.single(value) else { return };
        // A size that is not zero is at least one.
        if let (false, Kind::TableLength(_) | Kind::MemoryBytes(_)) = (zero, self.arena.kind(atom))
        {
            let negative = self.arena.times(value, -1);
            facts.push(Fact::new(negative.lin, 1, Relation::AtMostZero));
        }
        match self.arena.atom(atom).atom {
            // A multiple that is not zero is that number at least.
            Atom::Low { bits, of } if !zero => {
                let zeros = self.arena.trailing_zeros(of);
                if (1..bits.into()).contains(&zeros) {
                    self.at_most(Value::number(1 << zeros), value, 0, facts);
                }
            }
            // A truth value tells what it is of.
            Atom::Select(number) => {
                let choice = *self.arena.choice(number);
                let truth = (choice.then.constant(), choice.otherwise.constant());
                let holds = match truth {
                    (Some(then), Some(0)) if then != 0 => !zero,
                    (Some(0), Some(otherwise)) if otherwise != 0 => zero,
                    _ => return,
                };
                let condition = if holds { choice.condition } else { choice.condition.opposite() };
                if choice.on.about != About::Nothing {
                    self.learn(choice.on, condition, facts);
                }
            }
            Atom::And(a, b) if !zero => {
                self.learn_zero(a, false, facts);
                self.learn_zero(b, false, facts);
            }
            Atom::Or(a, b) if zero => {
                self.learn_zero(a, true, facts);
                self.learn_zero(b, true, facts);
            }
            Atom::Right { of, by } if zero => self.learn_small(of, (1 << by) - 1, facts),
            // A bit that is not shifted out is there.
            Atom::Right { of, by } if by < 62 && self.arena.range(of).within(Range::bits(63)) => {
                self.at_most(Value::number(1 << by), of, 0, facts);
            }
            _ => {}
        }
    }

    /// What the machine has is not larger than this, without sign.
    fn learn_small(&mut self, value: Value, most: i128, facts: &mut Vec<Fact>) {
        if let Some(atom) = self.arena.single(value)
            && let Atom::Or(a, b) = self.arena.atom(atom).atom
        {
            self.learn_small(a, most, facts);
            self.learn_small(b, most, facts);
        }
        let range = self.arena.range(value);
        let turn = 1_i128 << 64;
        if range.lo > most - turn && range.hi < turn {
            self.at_most(Value::number(0), value, 0, facts);
            facts.push(Fact::new(value.lin, i128::from(value.k) - most, Relation::AtMostZero));
        }
    }

    fn learn_sign(&mut self, bits: u8, value: Value, negative: bool, facts: &mut Vec<Fact>) {
        let value = self.arena.signed(bits, value);
        if !self.arena.range(value).within(Range::ANY) {
            return;
        }
        match negative {
            true => self.at_most(value, Value::number(0), 1, facts),
            false => {
                self.at_most(Value::number(0), value, 0, facts);
                self.learn_positive(value, facts);
            }
        }
    }

    /// Whether a sum without signs is too large for its bits.
    fn learn_carry(&mut self, bits: u8, a: Value, b: Value, carry: bool, facts: &mut Vec<Fact>) {
        // A negative constant was meant as a large number.
        let large = |value: Value| match value.constant() {
            Some(k) if k < 0 && bits == 64 => None,
            _ => Some(value),
        };
        let (Some(a), Some(b)) = (large(a), large(b)) else { return };
        let (x, y) = self.same_bits(bits, a, b);
        let whole = Range::bits(bits);
        let sum = self.arena.add(x, y);
        // The constant of a sum can wrap: then nothing is said.
        if i128::from(sum.k) != i128::from(x.k) + i128::from(y.k) {
            return;
        }
        if !self.arena.range(x).within(whole) || !self.arena.range(y).within(whole) {
            // A negative number and one that leads to zero or beyond carry.
            for (x, y) in [(x, y), (y, x)] {
                let near = Range::ANY;
                if !carry && self.arena.range(x).within(near) && self.arena.range(y).within(whole) {
                    self.at_most(Value::number(0), x, 0, facts);
                    facts.last_mut().expect("just added").given = Some(sum);
                }
            }
            return;
        }
        let (lin, limit) = (sum.lin, 1_i128 << bits);
        if carry {
            let negative = self.arena.times(sum, -1);
            let k = limit - i128::from(sum.k);
            facts.push(Fact::new(negative.lin, k, Relation::AtMostZero));
        } else {
            let k = i128::from(sum.k) - (limit - 1);
            facts.push(Fact::new(lin, k, Relation::AtMostZero));
        }
    }

    /// `a + by <= b` of integer sums.
    fn at_most(&mut self, a: Value, b: Value, by: i128, facts: &mut Vec<Fact>) {
        let difference = self.arena.sub(a, b);
        let k = i128::from(a.k) - i128::from(b.k) + by;
        facts.push(Fact::new(difference.lin, k, Relation::AtMostZero));
    }

    /// `a + by <= b` of what the machine has, without signs.
    fn unsigned(&mut self, bits: u8, a: Value, b: Value, by: i128, facts: &mut Vec<Fact>) {
        let (x, y) = self.same_bits(bits, a, b);
        let (x, y) = match bits {
            64 => self.without_pointer(x, y),
            _ => (x, y),
        };
        let (range_x, range_y) = (self.arena.range(x), self.arena.range(y));
        let whole = Range::bits(bits);
        let turn = 1_i128 << 64;
        // What the machine has is the integer only if that is not negative.
        let given = match range_y.within(whole) {
            true => None,
            false if range_y.hi < turn => Some(y),
            false => return,
        };
        // The lesser one is not negative either, if it is not so far below that multiples of 2^64
        // come between.
        let small = range_x.within(whole);
        if !small && (range_x.lo <= range_y.hi - turn || range_x.hi >= turn) {
            return;
        }
        if bits == 64 && !small {
            self.learn_choice((x, y), by, range_y.hi, facts);
        }
        let before = facts.len();
        self.at_most(x, y, by, facts);
        if !small {
            self.at_most(Value::number(0), x, 0, facts);
        }
        for fact in &mut facts[before..] {
            fact.given = given;
        }
    }

    /// A value is at most another, which is small: of a choice between two, the one that is not
    /// large was chosen. So sums that stop at the largest number are told.
    fn learn_choice(
        &mut self,
        (x, y): (Value, Value),
        by: i128,
        most: i128,
        facts: &mut Vec<Fact>,
    ) {
        let Some(atom) = self.arena.single(x) else { return };
        let Atom::Select(number) = self.arena.atom(atom).atom else { return };
        let choice = *self.arena.choice(number);
        let large = |value: Value| value.constant().is_some_and(|number| number < 0);
        let (chosen, condition) = match (large(choice.then), large(choice.otherwise)) {
            (true, false) => (choice.otherwise, choice.condition.opposite()),
            (false, true) => (choice.then, choice.condition),
            _ => return,
        };
        if choice.on.about == About::Nothing {
            return;
        }
        self.unsigned(64, chosen, y, by, facts);
        self.learn(choice.on, condition, facts);
        // Parts of a sum without carry are not larger than the sum.
        let Known { about, bytes, a, b } = choice.on;
        let sum = self.arena.add(a, b);
        if about == About::Sum
            && bytes == 8
            && condition == Condition::AboveOrEqual
            && sum == chosen
        {
            self.learn_small(a, most, facts);
            self.learn_small(b, most, facts);
            // They are small, so their sum is no other as an integer.
            let exact = i128::from(sum.k) == i128::from(a.k) + i128::from(b.k);
            if exact && most < 1 << 62 && self.arena.range(y).within(Range::bits(64)) {
                self.at_most(sum, y, by, facts);
            }
        }
    }

    /// Two addresses in the same memory as distances from its beginning, if no sum of theirs wraps.
    fn without_pointer(&mut self, a: Value, b: Value) -> (Value, Value) {
        let (Some((p, x)), Some((q, y))) = (self.arena.pointer(a), self.arena.pointer(b)) else {
            return (a, b);
        };
        let memory =
            matches!(self.arena.kind(p), Kind::Context | Kind::MemoryBase(_) | Kind::Range(_));
        let near = Range::new(0, 1 << 46);
        let inside = [x, y].into_iter().all(|rest| self.arena.range(rest).within(near));
        if p == q && memory && inside { (x, y) } else { (a, b) }
    }

    /// `a + by <= b` of what the machine has, with signs.
    fn with_sign(&mut self, bits: u8, a: Value, b: Value, by: i128, facts: &mut Vec<Fact>) {
        let (x, y) = (self.arena.signed(bits, a), self.arena.signed(bits, b));
        let ranges = [self.arena.range(x), self.arena.range(y)];
        if ranges.iter().all(|range| range.within(Range::ANY)) {
            self.at_most(x, y, by, facts);
            if ranges[0].lo + by >= 0 {
                self.learn_positive(y, facts);
            }
        }
    }

    /// The low bits of a value are not negative: then they are the same without sign.
    fn learn_positive(&mut self, value: Value, facts: &mut Vec<Fact>) {
        let Some(atom) = self.arena.single(value) else { return };
        if let Atom::Signed { bits, of } = self.arena.atom(atom).atom {
            let most = Range::signed_bits(bits).hi;
            facts.push(Fact::new(of.lin, i128::from(of.k) - most, Relation::AtMostZero));
            self.at_most(of, value, 0, facts);
        }
    }
}

/// Sums with more atoms are not looked into.
const PARTS: usize = 3;

/// Atoms that tell of an atom: those that it is the low bits of, and those that it, or one of
/// these, is shifted from.
pub(crate) fn parts(arena: &Arena, atom: AtomId, each: &mut dyn FnMut(AtomId)) {
    let shifted = |atom: AtomId, each: &mut dyn FnMut(AtomId)| {
        if let Atom::Right { of, .. } = arena.atom(atom).atom
            && let Some(from) = arena.single(of)
        {
            each(from);
        }
    };
    shifted(atom, each);
    if let Atom::Low { of, .. } = arena.atom(atom).atom {
        for (inner, _) in arena.terms(of).iter().take(PARTS) {
            each(*inner);
            shifted(*inner, each);
        }
    }
}

fn is_size(kind: Kind) -> bool {
    matches!(kind, Kind::MemoryBytes(_) | Kind::TableLength(_))
}

/// Does a fact with a greater constant say more?
fn is_bound(relation: Relation) -> bool {
    matches!(relation, Relation::AtMostZero | Relation::AtMostSize(_))
}

/// What is left of a fact if one of these holds instead.
fn weakest(fact: Fact, others: &[Fact]) -> Option<Fact> {
    let mut best: Option<Fact> = None;
    for other in others {
        if other.lin != fact.lin || other.given != fact.given {
            continue;
        }
        let left = match (fact.relation, other.relation) {
            (a, b) if a == b && is_bound(a) => Some(Fact { k: fact.k.min(other.k), ..fact }),
            (a, b) if a == b && fact.k == other.k => Some(fact),
            _ => None,
        };
        best = match (best, left) {
            (Some(a), Some(b)) if is_bound(a.relation) && b.k > a.k => Some(b),
            (None, left) => left,
            (best, _) => best,
        };
    }
    best
}
