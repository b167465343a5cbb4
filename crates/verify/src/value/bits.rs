//! What is not linear: low bits, shifts, operations bit by bit, products.
//!
//! Isolation rests on this file: a range that is too narrow here bounds an address that is not.

use super::{Arena, Atom, Range, Value};

impl Arena {
    /// The low bits, zero-extended.
    pub(crate) fn low(&mut self, bits: u8, value: Value) -> Value {
        if bits >= 64 || self.range(value).within(Range::bits(bits)) {
            return value;
        }
        let content = self.modulo(bits, value);
        if let Some(number) = content.constant() {
            return Value::number(number & ((1 << bits) - 1));
        }
        if self.range(content).within(Range::bits(bits)) {
            return content;
        }
        self.derive(Atom::Low { bits, of: content }, Range::bits(bits), &[content])
    }

    /// A value that is the same in its low bits, of atoms that have no more, with small numbers.
    fn modulo(&mut self, bits: u8, value: Value) -> Value {
        // The same number next to zero; of two, the positive one.
        let cut = |number: i64| {
            let shift = 64 - u32::from(bits);
            let near = (number << shift) >> shift;
            if near == -1 << (bits - 1) { -near } else { near }
        };
        let whole = Range::bits(bits);
        let plain = self
            .terms(value)
            .iter()
            .all(|(atom, factor)| cut(*factor) == *factor && self.atom(*atom).range.within(whole));
        if plain {
            return Value { lin: value.lin, k: cut(value.k) };
        }
        // A term that is nothing but one atom's low bits stays as it is: it has a name already.
        if let [(atom, 1)] = *self.terms(value)
            && cut(value.k) == 0
        {
            let longer = match self.atom(atom).atom {
                Atom::Low { bits: has, .. } | Atom::Signed { bits: has, .. } => has >= bits,
                _ => false,
            };
            if !longer {
                return Value { lin: value.lin, k: 0 };
            }
        }
        let mut sum = Value::number(cut(value.k));
        for (atom, factor) in self.terms(value).to_vec() {
            let factor = cut(factor);
            if factor == 0 {
                continue;
            }
            let data = *self.atom(atom);
            let inner = match data.atom {
                Atom::Low { bits: has, of } | Atom::Signed { bits: has, of } if has >= bits => {
                    self.modulo(bits, of)
                }
                _ => self.value_of(atom),
            };
            let inner = match self.terms(inner) {
                // One atom with more bits: its low bits have a name.
                [(atom, 1)] if inner.k == 0 && !self.atom(*atom).range.within(whole) => {
                    self.low(bits, inner)
                }
                _ => inner,
            };
            sum = self.add_times(sum, inner, factor);
        }
        let terms: Vec<_> =
            self.terms(sum).iter().map(|(atom, factor)| (*atom, cut(*factor))).collect();
        let k = cut(sum.k);
        self.sum(terms, k)
    }

    /// The low bits, sign-extended.
    pub(crate) fn signed(&mut self, bits: u8, value: Value) -> Value {
        let whole = Range::signed_bits(bits);
        if bits >= 64 || self.range(value).within(whole) {
            return value;
        }
        // Of low bits, what they are of may have no more, with sign.
        if let Some(atom) = self.single(value)
            && let Atom::Low { bits: has, of } = self.atom(atom).atom
            && has >= bits
            && self.range(of).within(whole)
        {
            return of;
        }
        let content = self.low(bits, value);
        if self.range(content).within(whole) {
            return content;
        }
        if let Some(number) = content.constant() {
            let shift = 64 - u32::from(bits);
            return Value::number((number << shift) >> shift);
        }
        self.derive(Atom::Signed { bits, of: content }, whole, &[content])
    }

    /// `value << by`, of which the caller takes the low bits.
    pub(crate) fn left(&mut self, value: Value, by: u8) -> Value {
        if by >= 64 { Value::number(0) } else { self.times(value, 1_i64.wrapping_shl(by.into())) }
    }

    /// `value >> by` of a value of so many bits, zeros coming in.
    pub(crate) fn right(&mut self, bits: u8, value: Value, by: u8) -> Value {
        let of = self.low(bits, value);
        if by == 0 {
            return of;
        }
        if let Some(number) = of.constant() {
            return Value::number((number.cast_unsigned() >> by).cast_signed());
        }
        let range = self.range(of);
        if !range.within(Range::bits(64)) {
            return self.derive(Atom::Right { of, by }, Range::bits(64 - by), &[of]);
        }
        // Multiples that come out whole.
        let unit = 1_i64.checked_shl(by.into()).filter(|unit| *unit > 0);
        if let Some(unit) = unit
            && self.terms(of).iter().all(|(_, factor)| factor % unit == 0)
        {
            let terms: Vec<_> =
                self.terms(of).iter().map(|(atom, factor)| (*atom, factor / unit)).collect();
            return self.sum(terms, of.k.div_euclid(unit));
        }
        let range = Range::new(range.lo >> by, range.hi >> by);
        self.derive(Atom::Right { of, by }, range, &[of])
    }

    /// The same, copies of the sign coming in.
    pub(crate) fn right_signed(&mut self, bits: u8, value: Value, by: u8) -> Value {
        let of = self.signed(bits, value);
        if by == 0 {
            return of;
        }
        if let Some(number) = of.constant() {
            return Value::number(number >> by);
        }
        let range = self.range(of);
        if range.within(Range::new(0, i64::MAX.into())) {
            return self.right(64, of, by);
        }
        let range = if range.within(Range::ANY) { range } else { Range::ANY };
        let range = Range::new(range.lo >> by, range.hi >> by);
        self.derive(Atom::RightSigned { of, by }, range, &[of])
    }

    /// How many of the highest of so many bits are zero.
    pub(crate) fn zeros(&mut self, bits: u8, value: Value) -> Value {
        let of = self.low(bits, value);
        if let Some(number) = of.constant() {
            let unused = 64 - u32::from(bits);
            return Value::number(i64::from(number.leading_zeros() - unused));
        }
        self.derive(Atom::Zeros { bits, of }, Range::new(0, bits.into()), &[of])
    }

    /// Zeros that the value surely ends with.
    pub(crate) fn trailing_zeros(&self, value: Value) -> u32 {
        let own = if value.k == 0 { 64 } else { value.k.trailing_zeros() };
        self.terms(value).iter().map(|(_, factor)| factor.trailing_zeros()).fold(own, u32::min)
    }

    /// Common bits of two values of so many bits.
    pub(crate) fn and(&mut self, bits: u8, a: Value, b: Value) -> Value {
        let (a, b) = if a.constant().is_some() { (b, a) } else { (a, b) };
        if a == b {
            return self.low(bits, a);
        }
        if let Some(mask) = b.constant() {
            let mask = if bits >= 64 { mask } else { mask & ((1 << bits) - 1) };
            if let Some(number) = a.constant() {
                return Value::number(number & mask);
            }
            if mask == 0 {
                return Value::number(0);
            }
            let start = mask.trailing_zeros() as u8;
            let run = (mask.cast_unsigned() >> start).trailing_ones() as u8;
            if run as u32 + start as u32 == 64 || mask.cast_unsigned() >> (start + run) == 0 {
                // One run of bits: cut off at both ends.
                let top = (start + run).min(bits);
                let above = if start == 0 {
                    return self.low(top, a);
                } else if top >= 64 {
                    self.right(64, a, start)
                } else {
                    let low = self.low(top, a);
                    self.right(64, low, start)
                };
                return self.left(above, start);
            }
            let a = self.low(bits, a);
            let range = match mask >= 0 {
                true => Range::new(0, mask.into()),
                false => Range::ANY,
            };
            return self.derive(Atom::And(a, b), range, &[a, b]);
        }
        let (a, b) = (self.low(bits, a), self.low(bits, b));
        let hi = [a, b].into_iter().filter_map(|value| {
            let range = self.range(value);
            (range.lo >= 0 && range.hi <= i64::MAX.into()).then_some(range.hi)
        });
        let range = hi.min().map_or(Range::ANY, |hi| Range::new(0, hi));
        let (a, b) = ordered(a, b);
        self.derive(Atom::And(a, b), range, &[a, b])
    }

    /// Bits of either of two values of so many bits.
    pub(crate) fn or(&mut self, bits: u8, a: Value, b: Value) -> Value {
        let (a, b) = (self.low(bits, a), self.low(bits, b));
        if a == b || b == Value::number(0) {
            return a;
        }
        if a == Value::number(0) {
            return b;
        }
        if let (Some(x), Some(y)) = (a.constant(), b.constant()) {
            return Value::number(x | y);
        }
        // Nothing to carry: a sum.
        for (high, low) in [(a, b), (b, a)] {
            let zeros = self.trailing_zeros(high).min(63) as u8;
            if zeros > 0 && self.range(low).within(Range::bits(zeros)) {
                return self.add(high, low);
            }
        }
        let (range_a, range_b) = (self.range(a), self.range(b));
        let range = match range_a.lo >= 0 && range_b.lo >= 0 {
            true => Range::new(range_a.lo.max(range_b.lo), ones(range_a.hi.max(range_b.hi))),
            false => Range::ANY,
        };
        let range = if range.hi > i64::MAX.into() { Range::ANY } else { range };
        let (a, b) = ordered(a, b);
        self.derive(Atom::Or(a, b), range, &[a, b])
    }

    /// Bits that differ between two values of so many bits.
    pub(crate) fn xor(&mut self, bits: u8, a: Value, b: Value) -> Value {
        let (a, b) = if a.constant().is_some() { (b, a) } else { (a, b) };
        if let (Some(x), Some(y)) = (a.constant(), b.constant()) {
            return Value::number(x ^ y);
        }
        if b == Value::number(-1) {
            let negative = self.times(a, -1);
            return self.low(bits, negative.plus(-1));
        }
        let (a, b) = (self.low(bits, a), self.low(bits, b));
        if a == b {
            return Value::number(0);
        }
        if b == Value::number(0) {
            return a;
        }
        let (range_a, range_b) = (self.range(a), self.range(b));
        let range = match range_a.lo >= 0 && range_b.lo >= 0 {
            true => Range::new(0, ones(range_a.hi.max(range_b.hi))),
            false => Range::ANY,
        };
        let range = if range.hi > i64::MAX.into() { Range::ANY } else { range };
        let (a, b) = ordered(a, b);
        self.derive(Atom::Xor(a, b), range, &[a, b])
    }

    /// The product, of which the caller takes the low bits.
    pub(crate) fn product(&mut self, a: Value, b: Value) -> Value {
        if let Some(factor) = a.constant() {
            return self.times(b, factor);
        }
        if let Some(factor) = b.constant() {
            return self.times(a, factor);
        }
        let (x, y) = (self.range(a), self.range(b));
        let corners = [(x.lo, y.lo), (x.lo, y.hi), (x.hi, y.lo), (x.hi, y.hi)];
        let corners = corners.map(|(x, y)| x.saturating_mul(y));
        let lo = corners.into_iter().min().unwrap_or(i128::MIN);
        let hi = corners.into_iter().max().unwrap_or(i128::MAX);
        let range = Range::new(lo, hi);
        let range = if range.within(Range::ANY) { range } else { Range::ANY };
        let (a, b) = ordered(a, b);
        self.derive(Atom::Product(a, b), range, &[a, b])
    }
}

fn ordered(a: Value, b: Value) -> (Value, Value) {
    if (a.lin, a.k) <= (b.lin, b.k) { (a, b) } else { (b, a) }
}

/// The greatest number with as many bits.
fn ones(number: i128) -> i128 {
    (1_i128 << (128 - number.max(0).leading_zeros())) - 1
}
