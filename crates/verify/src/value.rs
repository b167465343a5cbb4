//! Abstract values: sums of named things, modulo 2^64.
//!
//! A [`Value`] is a constant plus a linear combination of *atoms*. An atom stands for one 64-bit
//! number that the machine computed somewhere and that is not looked into as a sum: what a register
//! held at entry, what a load found, what meets at a join, or the result of an operation that is not
//! linear, such as the low 32 bits of a value. Equal values have equal names (the arena gives each
//! combination one number), so whatever is learned of a value holds for all its copies, in registers
//! and on the stack.
//!
//! What is known of an atom, its range and kind, follows from its name alone: the analysis makes the
//! same atoms again and again, and what was assumed on the way must not stick to them.
//!
//! Each atom stands for an integer that is congruent to the machine's number: the signed one, unless
//! its range says otherwise. A combination then stands for the integer sum, which is congruent to
//! what the machine computed. If that sum can be shown to lie between 0 and 2^64, it *is* what the
//! machine has.
//!
//! An atom is named by where it comes to be, so in a loop the name means what was computed last. The
//! block where it comes to be is its *home*; a value lives only where the homes of its atoms dominate
//! (see `state` on what happens at joins).

use crate::contract::RefType;

/// Number of an atom.
pub(crate) type AtomId = u32;

/// Number of a linear combination without constant; 0 is the empty one.
pub(crate) type LinId = u32;

/// A linear combination and a constant, or [`Value::UNKNOWN`] and where it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Value {
    /// The combination.
    pub lin: LinId,
    /// The constant.
    pub k: i64,
}

impl Value {
    /// Nothing is known, and nobody has looked yet: `k` says where it was made.
    const NAMELESS: LinId = u32::MAX;

    /// A constant.
    pub(crate) const fn number(k: i64) -> Self {
        Self { lin: 0, k }
    }

    /// A number that gets its name when it is first read: made at this place.
    pub(crate) fn nameless(place: u32) -> Self {
        Self { lin: Self::NAMELESS, k: i64::from(place) }
    }

    /// Where a value without a name was made.
    pub(crate) fn nameless_place(self) -> Option<u32> {
        (self.lin == Self::NAMELESS).then_some(self.k as u32)
    }

    /// The constant that it is.
    pub(crate) fn constant(self) -> Option<i64> {
        (self.lin == 0).then_some(self.k)
    }

    /// The value `by` further on.
    pub(crate) fn plus(self, by: i64) -> Self {
        debug_assert_ne!(self.lin, Self::NAMELESS);
        Self { lin: self.lin, k: self.k.wrapping_add(by) }
    }
}

/// Places at which atoms come to be: operations, and with this bit blocks.
pub(crate) const AT_BLOCK: u32 = 1 << 31;

/// A number that the machine computed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Atom {
    /// A register's value at entry.
    Entry(u8),
    /// A word of the stack at entry, so many bytes above the stack pointer.
    Incoming(i32),
    /// The argument cell with this number at entry.
    Cell(u32),
    /// The result number `number` of the call at an operation, of those that go through memory.
    Result { at: u32, number: u32, kind: Kind },
    /// The context pointer.
    Context,
    /// The stack pointer at entry.
    Stack,
    /// The stack pointer after it was rounded down, at an operation, from so far above the one at
    /// entry.
    Aligned { op: u32, from: i64 },
    /// The return address.
    Return,
    /// Where the object is loaded.
    Image,
    /// Where several results go.
    Cells,
    /// What an entry thunk gets: code, its context, values.
    Thunk(u8),
    /// The start of a range that a support routine gets.
    Range(u8),
    /// The unknown result number `n` of what is at this place, not above `most`.
    Opaque { at: u32, n: u8, most: u64, kind: Kind },
    /// A variable at the head of a loop, of so many bits without sign, or of 64 with.
    Phi { block: u32, var: u32, bits: u8, kind: Kind },
    /// How often a loop has gone round when its head is reached.
    Rounds { block: u32 },
    /// What the values of a list are where they meet.
    Join { block: u32, list: u32 },
    /// The low bits of a value.
    Low { bits: u8, of: Value },
    /// The low bits of a value, with sign.
    Signed { bits: u8, of: Value },
    /// A value that has so many bits, shifted to the right.
    Right { of: Value, by: u8 },
    /// The same of a signed value.
    RightSigned { of: Value, by: u8 },
    /// Common bits.
    And(Value, Value),
    /// Bits of either.
    Or(Value, Value),
    /// Bits that differ.
    Xor(Value, Value),
    /// Product.
    Product(Value, Value),
    /// One of two values, by a condition: see [`Arena::select`].
    Select(u32),
    /// A field of the context, `at` bytes from it. Those that change carry the time of the load.
    Field { at: i32, bytes: u8, time: Value },
    /// What a pointer of the contract points to. What changes carries the time of the load.
    Deref { base: Value, at: i32, bytes: u8, time: Value },
}

/// What is known of an atom besides its range: what may be done with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    /// A number.
    Number,
    /// The context pointer.
    Context,
    /// A pointer into the frame.
    Stack,
    /// The return address.
    Return,
    /// The object's first byte.
    Image,
    /// The cells for several results.
    Cells,
    /// An entry thunk's code, context, values.
    Thunk(u8),
    /// The range that a support routine may write, and the ones that it may read.
    Range(u8),
    /// The table of builtins.
    Builtins,
    /// The address of the builtin at this offset.
    Builtin(u16),
    /// The record of an imported or further memory.
    MemoryRecord(u32),
    /// The first byte of a memory.
    MemoryBase(u32),
    /// A memory's size: a number.
    MemoryBytes(u32),
    /// The record of a table.
    TableRecord(u32),
    /// A table's first element.
    TableBase(u32),
    /// A table's length: a number.
    TableLength(u32),
    /// An imported global's cell.
    Global(u32),
    /// The place of a tag.
    Tag(u32),
    /// The record of exceptions.
    Exceptions,
    /// An exception or null, or surely not null.
    Exception { non_null: bool },
    /// A reference to a function or null.
    Ref(RefType),
    /// A reference to something of the host or null, or surely not null.
    Extern { non_null: bool },
    /// The code of a function that a reference names, for ordinary or for tail calls.
    Code { tail: bool },
    /// The context of a function that a reference names.
    RefContext,
    /// The type's number of a function that a reference names: a number.
    RefType,
    /// The number of a type: a number.
    TypeId(u32),
    /// An entry of a table of jumps: a number.
    JumpEntry,
}

impl Kind {
    /// Is it an address or such, that sums with numbers keep their meaning of?
    pub(crate) fn is_pointer(self) -> bool {
        !matches!(
            self,
            Self::Number
                | Self::MemoryBytes(_)
                | Self::TableLength(_)
                | Self::RefType
                | Self::TypeId(_)
                | Self::JumpEntry
        )
    }
}

/// A range of integers, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    /// The least.
    pub lo: i128,
    /// The greatest.
    pub hi: i128,
}

impl Range {
    /// Every signed 64-bit number.
    pub(crate) const ANY: Self = Self { lo: i64::MIN as i128, hi: i64::MAX as i128 };

    /// From `lo` to `hi`.
    pub(crate) const fn new(lo: i128, hi: i128) -> Self {
        Self { lo, hi }
    }

    /// All numbers of so many bits without sign.
    pub(crate) const fn bits(bits: u8) -> Self {
        Self { lo: 0, hi: (1 << bits) - 1 }
    }

    /// All numbers of so many bits with sign.
    pub(crate) const fn signed_bits(bits: u8) -> Self {
        Self { lo: -(1 << (bits - 1)), hi: (1 << (bits - 1)) - 1 }
    }

    /// Is all of it in the other?
    pub(crate) fn within(self, other: Self) -> bool {
        self.lo >= other.lo && self.hi <= other.hi
    }

    /// The least range with both.
    pub(crate) fn hull(self, other: Self) -> Self {
        Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }

    fn times(self, by: i64) -> Self {
        let by = i128::from(by);
        let (a, b) = (self.lo.saturating_mul(by), self.hi.saturating_mul(by));
        Self { lo: a.min(b), hi: a.max(b) }
    }

    fn plus(self, other: Self) -> Self {
        let (lo, hi) = (self.lo.saturating_add(other.lo), self.hi.saturating_add(other.hi));
        Self { lo, hi }
    }

    fn shifted(self, by: i64) -> Self {
        self.plus(Self::new(by.into(), by.into()))
    }
}

/// What the arena knows of an atom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtomData {
    /// What it is.
    pub atom: Atom,
    /// What may be done with it.
    pub kind: Kind,
    /// The block where it comes to be.
    pub home: u32,
    /// The combination that is only this.
    pub lin: LinId,
    /// Where it lies.
    pub range: Range,
}

#[derive(Clone, Copy, Debug)]
struct LinData {
    first: u32,
    count: u32,
    home: u32,
    pointers: u32,
    range: Range,
}

/// A choice between two values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Choice {
    /// What is compared, and when the first value is chosen.
    pub on: crate::state::Known,
    /// When.
    pub condition: crate::op::Condition,
    /// If it holds.
    pub then: Value,
    /// If not.
    pub otherwise: Value,
}

/// All atoms and combinations of one function.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    atoms: Vec<AtomData>,
    atom_table: Table,
    lins: Vec<LinData>,
    terms: Vec<(AtomId, i64)>,
    lin_table: Table,
    lists: Vec<(u32, u32)>,
    list_values: Vec<Value>,
    list_table: Table,
    choices: Vec<Choice>,
    choice_table: Table,
    scratch: Vec<(AtomId, i64)>,
}

/// An open table of numbers whose keys lie elsewhere.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<u32>,
    used: usize,
}

impl Table {
    fn clear(&mut self) {
        self.slots.clear();
        self.used = 0;
    }

    /// The number whose key fits, or the slot where it belongs.
    fn find(&self, hash: u64, fits: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            match self.slots[at] {
                0 => return Err(at),
                number if fits(number - 1) => return Ok(number - 1),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Makes room for one more; `hash` tells where the others belong.
    fn reserve(&mut self, hash: impl Fn(u32) -> u64) {
        if self.used * 2 < self.slots.len() {
            return;
        }
        let size = (self.slots.len() * 2).max(256);
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        for number in old.into_iter().filter(|number| *number != 0) {
            let mut at = hash(number - 1) as usize & (size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = number;
        }
    }

    fn put(&mut self, slot: usize, number: u32) {
        self.slots[slot] = number + 1;
        self.used += 1;
    }
}

/// Mixes numbers into a hash. Hashes decide where to look and nothing else.
#[derive(Default)]
struct Mixer(u64);

impl Mixer {
    fn add(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn done(self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

impl std::hash::Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.add(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.add(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.add(number as u64);
    }
}

fn hash_atom(atom: &Atom) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut mixer = Mixer::default();
    atom.hash(&mut mixer);
    mixer.finish()
}

fn hash_terms(terms: &[(AtomId, i64)]) -> u64 {
    let mut mixer = Mixer::default();
    for (atom, factor) in terms {
        mixer.add(u64::from(*atom) ^ factor.cast_unsigned().rotate_left(32));
    }
    mixer.done()
}

fn hash_values(block: u32, values: &[Value]) -> u64 {
    let mut mixer = Mixer::default();
    mixer.add(block.into());
    for value in values {
        mixer.add(u64::from(value.lin));
        mixer.add(value.k.cast_unsigned());
    }
    mixer.done()
}

impl Arena {
    /// Forgets everything, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.atoms.clear();
        self.atom_table.clear();
        self.lins.clear();
        self.terms.clear();
        self.lin_table.clear();
        self.lists.clear();
        self.list_values.clear();
        self.list_table.clear();
        self.choices.clear();
        self.choice_table.clear();
        self.lins.push(LinData {
            first: 0,
            count: 0,
            home: 0,
            pointers: 0,
            range: Range::new(0, 0),
        });
    }

    /// What is known of an atom.
    pub(crate) fn atom(&self, atom: AtomId) -> &AtomData {
        &self.atoms[atom as usize]
    }

    /// How many atoms there are.
    pub(crate) fn len(&self) -> usize {
        self.atoms.len()
    }

    /// The atoms of a value and their factors, by ascending number.
    pub(crate) fn terms(&self, value: Value) -> &[(AtomId, i64)] {
        let lin = &self.lins[value.lin as usize];
        &self.terms[lin.first as usize..(lin.first + lin.count) as usize]
    }

    /// The only atom of a value that is one and nothing else.
    pub(crate) fn single(&self, value: Value) -> Option<AtomId> {
        match self.terms(value) {
            [(atom, 1)] if value.k == 0 => Some(*atom),
            _ => None,
        }
    }

    /// The value of an atom.
    pub(crate) fn value_of(&self, atom: AtomId) -> Value {
        Value { lin: self.atoms[atom as usize].lin, k: 0 }
    }

    /// The home that lies deepest.
    pub(crate) fn home(&self, value: Value) -> u32 {
        self.lins[value.lin as usize].home
    }

    /// Where the integer sum of a combination lies.
    pub(crate) fn lin_range(&self, lin: LinId) -> Range {
        self.lins[lin as usize].range
    }

    /// Where the integer sum lies.
    pub(crate) fn range(&self, value: Value) -> Range {
        self.lins[value.lin as usize].range.shifted(value.k)
    }

    /// Are there pointers among the atoms?
    pub(crate) fn has_pointers(&self, value: Value) -> bool {
        self.lins[value.lin as usize].pointers > 0
    }

    /// The pointer that a value is so far from, if it is one pointer and numbers.
    pub(crate) fn pointer(&mut self, value: Value) -> Option<(AtomId, Value)> {
        if self.lins[value.lin as usize].pointers != 1 {
            return None;
        }
        let found = self.terms(value).iter().find(|(atom, _)| self.kind(*atom).is_pointer());
        let (atom, factor) = *found?;
        if factor != 1 {
            return None;
        }
        let rest = self.sub(value, self.value_of(atom));
        Some((atom, rest))
    }

    /// What may be done with an atom.
    pub(crate) fn kind(&self, atom: AtomId) -> Kind {
        self.atoms[atom as usize].kind
    }

    /// The kind of a value that is one atom, else a number.
    pub(crate) fn kind_of(&self, value: Value) -> Kind {
        self.single(value).map_or(Kind::Number, |atom| self.kind(atom))
    }

    /// The atom with this meaning, made if it is new.
    pub(crate) fn make(&mut self, atom: Atom, kind: Kind, range: Range, home: u32) -> Value {
        let atoms = &self.atoms;
        self.atom_table.reserve(|number| hash_atom(&atoms[number as usize].atom));
        let fits = |number: u32| atoms[number as usize].atom == atom;
        match self.atom_table.find(hash_atom(&atom), fits) {
            Ok(known) => self.value_of(known),
            Err(slot) => {
                let number = self.atoms.len() as u32;
                self.atom_table.put(slot, number);
                self.atoms.push(AtomData { atom, kind, home, lin: 0, range });
                let lin = self.combination(&[(number, 1)]);
                self.atoms[number as usize].lin = lin;
                Value { lin, k: 0 }
            }
        }
    }

    /// The same for what is made of other values: the deepest home of theirs.
    fn derive(&mut self, atom: Atom, range: Range, of: &[Value]) -> Value {
        let home = of.iter().map(|value| self.home(*value)).max().unwrap_or(0);
        self.make(atom, Kind::Number, range, home)
    }

    fn combination(&mut self, terms: &[(AtomId, i64)]) -> LinId {
        if terms.is_empty() {
            return 0;
        }
        let (lins, pool) = (&self.lins, &self.terms);
        let of = |number: u32| {
            let lin = &lins[number as usize];
            &pool[lin.first as usize..(lin.first + lin.count) as usize]
        };
        self.lin_table.reserve(|number| hash_terms(of(number)));
        match self.lin_table.find(hash_terms(terms), |number| of(number) == terms) {
            Ok(known) => known,
            Err(slot) => {
                let number = self.lins.len() as u32;
                self.lin_table.put(slot, number);
                let (mut home, mut pointers, mut range) = (0, 0, Range::new(0, 0));
                for (atom, factor) in terms {
                    let data = &self.atoms[*atom as usize];
                    home = home.max(data.home);
                    pointers += u32::from(data.kind.is_pointer());
                    range = range.plus(data.range.times(*factor));
                }
                let first = self.terms.len() as u32;
                self.terms.extend_from_slice(terms);
                let count = terms.len() as u32;
                self.lins.push(LinData { first, count, home, pointers, range });
                number
            }
        }
    }

    // Sums.

    /// `a + factor * b`.
    pub(crate) fn add_times(&mut self, a: Value, b: Value, factor: i64) -> Value {
        let k = a.k.wrapping_add(b.k.wrapping_mul(factor));
        if b.lin == 0 || factor == 0 {
            return Value { lin: a.lin, k };
        }
        if a.lin == 0 && factor == 1 {
            return Value { lin: b.lin, k };
        }
        let mut sum = std::mem::take(&mut self.scratch);
        sum.clear();
        {
            // Both lists ascend.
            let (mut left, mut right) = (self.terms(a), self.terms(b));
            while let (Some((x, p)), Some((y, q))) = (left.first(), right.first()) {
                if x < y {
                    sum.push((*x, *p));
                    left = &left[1..];
                } else if y < x {
                    sum.push((*y, q.wrapping_mul(factor)));
                    right = &right[1..];
                } else {
                    let both = p.wrapping_add(q.wrapping_mul(factor));
                    if both != 0 {
                        sum.push((*x, both));
                    }
                    (left, right) = (&left[1..], &right[1..]);
                }
            }
            sum.extend_from_slice(left);
            sum.extend(right.iter().map(|(atom, p)| (*atom, p.wrapping_mul(factor))));
            sum.retain(|(_, factor)| *factor != 0);
        }
        let lin = self.combination(&sum);
        self.scratch = sum;
        Value { lin, k }
    }

    /// `a + b`.
    pub(crate) fn add(&mut self, a: Value, b: Value) -> Value {
        if b.lin == 0 {
            return a.plus(b.k);
        }
        self.add_times(a, b, 1)
    }

    /// `a - b`.
    pub(crate) fn sub(&mut self, a: Value, b: Value) -> Value {
        if b.lin == 0 {
            return a.plus(b.k.wrapping_neg());
        }
        self.add_times(a, b, -1)
    }

    /// `factor * a`.
    pub(crate) fn times(&mut self, a: Value, factor: i64) -> Value {
        self.add_times(Value::number(0), a, factor)
    }

    /// The combination of these terms, in any order, and a constant.
    pub(crate) fn sum(&mut self, mut terms: Vec<(AtomId, i64)>, k: i64) -> Value {
        terms.sort_unstable_by_key(|term| term.0);
        let mut merged: Vec<(AtomId, i64)> = Vec::with_capacity(terms.len());
        for (atom, factor) in terms {
            match merged.last_mut() {
                Some(last) if last.0 == atom => last.1 = last.1.wrapping_add(factor),
                _ => merged.push((atom, factor)),
            }
        }
        merged.retain(|(_, factor)| *factor != 0);
        Value { lin: self.combination(&merged), k }
    }

    // What is not linear.

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
        let cut = |number: i64| {
            let shift = 64 - u32::from(bits);
            (number << shift) >> shift
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

    /// Zeros that the value surely ends with.
    fn trailing_zeros(&self, value: Value) -> u32 {
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

    /// One of two values.
    pub(crate) fn select(&mut self, choice: Choice, kind: Kind) -> Value {
        let hash = |choice: &Choice| {
            let known = choice.on;
            let values = [known.a, known.b, choice.then, choice.otherwise];
            let what = choice.condition as u32 | u32::from(known.bytes) << 8;
            hash_values(what | (known.about as u32) << 16, &values)
        };
        let choices = &self.choices;
        self.choice_table.reserve(|number| hash(&choices[number as usize]));
        let fits = |number: u32| choices[number as usize] == choice;
        let number = match self.choice_table.find(hash(&choice), fits) {
            Ok(known) => known,
            Err(slot) => {
                let number = self.choices.len() as u32;
                self.choice_table.put(slot, number);
                self.choices.push(choice);
                number
            }
        };
        let mut of = vec![choice.then, choice.otherwise];
        if choice.on.about != crate::state::About::Nothing {
            of.extend([choice.on.a, choice.on.b]);
        }
        let range = self.range(choice.then).hull(self.range(choice.otherwise));
        let range = if range.within(Range::ANY) { range } else { Range::ANY };
        let home = of.iter().map(|value| self.home(*value)).max().unwrap_or(0);
        self.make(Atom::Select(number), kind, range, home)
    }

    /// The choice with this number.
    pub(crate) fn choice(&self, number: u32) -> &Choice {
        &self.choices[number as usize]
    }

    /// The values that meet in a join, one for each way in.
    pub(crate) fn join(&mut self, block: u32, values: &[Value], kind: Kind) -> Value {
        let (lists, pool) = (&self.lists, &self.list_values);
        let of = |number: u32| {
            let (first, count) = lists[number as usize];
            &pool[first as usize..(first + count) as usize]
        };
        self.list_table.reserve(|number| hash_values(0, of(number)));
        let list = match self.list_table.find(hash_values(0, values), |list| of(list) == values) {
            Ok(known) => known,
            Err(slot) => {
                let number = self.lists.len() as u32;
                self.list_table.put(slot, number);
                self.lists.push((self.list_values.len() as u32, values.len() as u32));
                self.list_values.extend_from_slice(values);
                number
            }
        };
        let ranges = values.iter().map(|value| self.range(*value));
        let range = ranges.reduce(Range::hull).unwrap_or(Range::ANY);
        let range = if range.within(Range::ANY) { range } else { Range::ANY };
        self.make(Atom::Join { block, list }, kind, range, block)
    }

    /// The values of a join.
    pub(crate) fn list(&self, list: u32) -> &[Value] {
        let (first, count) = self.lists[list as usize];
        &self.list_values[first as usize..(first + count) as usize]
    }
}

fn ordered(a: Value, b: Value) -> (Value, Value) {
    if (a.lin, a.k) <= (b.lin, b.k) { (a, b) } else { (b, a) }
}

/// The greatest number with as many bits.
fn ones(number: i128) -> i128 {
    (1_i128 << (128 - number.max(0).leading_zeros())) - 1
}
