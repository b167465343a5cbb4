//! Bounds of atoms that follow from what they are: low bits of a sum, something shifted, a variable
//! of a loop.
//!
//! What is put in an atom's place is a sum that is not less, or not more, than it as an integer.
//! Machine numbers turn round and integers do not, so for most of these it is shown first that
//! nothing did.

use crate::flow::BlockId;
use crate::function::Analysis;
use crate::function::prove::Goal;
use crate::value::{Atom, AtomId, Range, Value};

impl Analysis<'_> {
    /// Puts bounds in an atom's place that follow from what it is.
    pub(crate) fn by_structure(&mut self, goal: Goal, block: BlockId, depth: u32) -> bool {
        let terms = self.arena.terms(Value { lin: goal.lin, k: 0 }).to_vec();
        for (atom, factor) in terms.iter().copied() {
            if let Some(counted) = self.bound_by_rounds(atom, factor > 0, block, depth)
                && self.with_bound(goal, (atom, factor), (1, counted), block, depth)
            {
                return true;
            }
        }
        for (atom, factor) in terms.iter().copied() {
            let data = *self.arena.atom(atom);
            // Each pair is a multiple of the goal, and a sum that may stand for as many atoms.
            let mut bounds: Vec<(i64, Value)> = Vec::new();
            match data.atom {
                Atom::Low { bits, of } => {
                    for (other, opposite) in &terms {
                        if (*opposite > 0) != (factor > 0)
                            && let Some(near) =
                                self.beside_low(bits, of, factor > 0, *other, block, depth)
                        {
                            bounds.push((1, near));
                        }
                    }
                    if self.has_not_turned(atom, (bits, of), factor > 0, block, depth) {
                        bounds.push((1, of));
                    }
                }
                Atom::Signed { bits, of } => {
                    let most = Range::signed_bits(bits).hi;
                    if factor > 0
                        || self.arena.range(of).hi <= most
                        || self.holds_at_most(of, most, block, depth)
                    {
                        bounds.push((1, of));
                    }
                }
                Atom::Right { of, by }
                    if by < 40 && self.arena.range(of).within(Range::bits(64)) =>
                {
                    let unit = 1_i64 << by;
                    // Exactly, if what is lost is met as well.
                    let lost = self.arena.low(by, of);
                    if terms.iter().any(|(other, _)| Some(*other) == self.arena.single(lost)) {
                        let kept = self.arena.sub(of, lost);
                        bounds.push((unit, kept));
                    }
                    bounds.extend(self.beside_shifted((of, by), &terms));
                    let of = if factor > 0 { of } else { of.plus(1 - unit) };
                    bounds.push((unit, of));
                }
                // Not all of them, if there is a bit.
                Atom::Zeros { bits, of }
                    if factor > 0
                        && self.arena.range(of).within(Range::bits(bits))
                        && self.holds_at_least(of, 1, block, depth) =>
                {
                    bounds.push((1, Value::number(i64::from(bits) - 1)));
                }
                Atom::And(a, b) if factor > 0 => {
                    for value in [a, b] {
                        if self.arena.range(value).lo >= 0 {
                            bounds.push((1, value));
                        }
                    }
                }
                Atom::Or(a, b) => {
                    let both = [a, b].into_iter().all(|value| self.arena.range(value).lo >= 0);
                    if both && factor > 0 {
                        let sum = self.arena.add(a, b);
                        bounds.push((1, sum));
                    } else if both && data.range.lo >= 0 {
                        bounds.extend([(1, a), (1, b)]);
                    }
                }
                _ => {}
            }
            for bound in bounds {
                if self.with_bound(goal, (atom, factor), bound, block, depth) {
                    return true;
                }
            }
        }
        false
    }

    /// Shows a goal with a bound in an atom's place: a sum that stands for `unit` atoms.
    pub(crate) fn with_bound(
        &mut self,
        goal: Goal,
        (atom, factor): (AtomId, i64),
        (unit, value): (i64, Value),
        block: BlockId,
        depth: u32,
    ) -> bool {
        let own = Goal { lin: self.arena.atom(atom).lin, k: 0 };
        // unit * goal - unit * factor * atom + factor * value
        let stands = Goal { lin: value.lin, k: value.k.into() };
        let (scale, without, with) = match factor % unit {
            0 => (1, -factor, factor / unit),
            _ => (unit, factor.saturating_mul(-unit), factor),
        };
        let Some(rest) = self.combine(goal, scale, own, without) else { return false };
        let Some(left) = self.combine(rest, 1, stands, with) else { return false };
        let left = Goal { k: left.k - i128::from(scale - 1), ..left };
        left != goal && self.step_goal(left, block, depth - 1)
    }

    /// What a multiple of something shifted is, where the same is met shifted by less.
    fn beside_shifted(
        &mut self,
        (of, by): (Value, u8),
        terms: &[(AtomId, i64)],
    ) -> Option<(i64, Value)> {
        let shorter = |term: &(AtomId, i64)| match self.arena.atom(term.0).atom {
            Atom::Right { of: same, by: less } if same == of && less < by => Some((term.0, less)),
            _ => None,
        };
        let (shifted, less) = terms.iter().find_map(shorter)?;
        // Without the bits that only the other has.
        let lost = self.arena.low(by, of);
        let lost = self.arena.right(64, lost, less);
        let shifted = self.arena.value_of(shifted);
        Some((1 << (by - less), self.arena.sub(shifted, lost)))
    }

    /// Are the low bits of a sum at least (if `upper`) or at most the sum itself? They are if it is
    /// not negative, or has no more bits. A sum that lies near, and is negative or too large, shows
    /// in them.
    pub(crate) fn has_not_turned(
        &mut self,
        atom: AtomId,
        (bits, of): (u8, Value),
        upper: bool,
        block: BlockId,
        depth: u32,
    ) -> bool {
        let (range, most) = (self.arena.range(of), Range::bits(bits).hi);
        let low = self.arena.value_of(atom);
        if upper {
            let near = range.lo > -most;
            range.lo >= 0
                || near && self.holds_at_most(low, most + range.lo, block, depth)
                || self.holds_at_least(of, 0, block, depth)
        } else {
            let near = range.hi < 2 * most;
            range.hi <= most
                || near && self.holds_at_least(low, range.hi - most, block, depth)
                || self.holds_at_most(of, most, block, depth)
        }
    }

    /// A bound of a variable of a loop, or of its low bits: what it is by the number of rounds,
    /// unless that turned round. `upper` says which bound.
    fn bound_by_rounds(
        &mut self,
        atom: AtomId,
        upper: bool,
        block: BlockId,
        depth: u32,
    ) -> Option<Value> {
        let (counted, window) = self.counted_atom(atom)?;
        let holds = match upper {
            true => self.holds_at_least(counted, window.lo, block, depth),
            false => self.holds_at_most(counted, window.hi, block, depth),
        };
        holds.then_some(counted)
    }

    /// A bound of a sum's low bits by those of another sum, at a constant distance from it: they
    /// are as far from each other, or one of them turned round. `upper` says which bound.
    fn beside_low(
        &mut self,
        bits: u8,
        of: Value,
        upper: bool,
        other: AtomId,
        block: BlockId,
        depth: u32,
    ) -> Option<Value> {
        let Atom::Low { bits: same, of: from } = self.arena.atom(other).atom else { return None };
        let distance = (bits == same).then(|| self.arena.sub(of, from).constant()).flatten()?;
        let most = Range::bits(bits).hi;
        if i128::from(distance).abs() > most {
            return None;
        }
        let near = self.arena.value_of(other).plus(distance);
        let holds = match (distance > 0, upper) {
            (true, true) | (false, false) => true,
            (true, false) => self.holds_at_most(near, most, block, depth),
            (false, true) => self.holds_at_least(near, 0, block, depth),
        };
        holds.then_some(near)
    }

    pub(crate) fn holds_at_least(
        &mut self,
        value: Value,
        limit: i128,
        block: BlockId,
        depth: u32,
    ) -> bool {
        let negative = self.arena.times(value, -1);
        let goal = Goal { lin: negative.lin, k: limit - i128::from(value.k) };
        self.step_goal(goal, block, depth - 1)
    }

    pub(crate) fn holds_at_most(
        &mut self,
        value: Value,
        limit: i128,
        block: BlockId,
        depth: u32,
    ) -> bool {
        let goal = Goal { lin: value.lin, k: i128::from(value.k) - limit };
        self.step_goal(goal, block, depth - 1)
    }
}
