//! Abstract values: sums of named things, modulo 2^64.
//!
//! A [`Value`] is a constant plus a linear combination of *atoms*. An atom stands for one 64-bit
//! number that the machine computed somewhere and that is not looked into as a sum: what a register
//! held at entry, what a load found, what meets at a join, or the result of an operation that is
//! not linear, such as the low 32 bits of a value. Equal values have equal names (the arena gives
//! each combination one number), so whatever is learned of a value holds for all its copies, in
//! registers and on the stack.
//!
//! What is known of an atom, its range and kind, follows from its name alone: the analysis makes
//! the same atoms again and again, and what was assumed on the way must not stick to them.
//!
//! Each atom stands for an integer that is congruent to the machine's number: the signed one,
//! unless its range says otherwise. A combination then stands for the integer sum, which is
//! congruent to what the machine computed. If that sum can be shown to lie between 0 and 2^64, it
//! *is* what the machine has.
//!
//! An atom is named by where it comes to be, so in a loop the name means what was computed last.
//! The block where it comes to be is its *home*; a value lives only where the homes of its atoms
//! dominate (see `state` on what happens at joins).

mod bits;
mod compared;
mod table;

pub(crate) use compared::{About, Known};
use table::{Table, hash_atom, hash_terms, hash_values};

/// Number of an atom.
pub(crate) type AtomId = u32;

/// Number of a linear combination without constant; 0 is the empty one.
pub(crate) type LinId = u32;

/// A linear combination and a constant, or no name yet ([`Value::nameless`]) and where it was made.
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
    /// How many of the highest of so many bits are zero.
    Zeros { bits: u8, of: Value },
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

/// What is known of a reference to a function that is not null: how far its type is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct RefType {
    /// The type of the function, if it is one particular of this module.
    pub ty: Option<u32>,
    /// Is it surely not null?
    pub non_null: bool,
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

/// What is true of both.
pub(crate) fn weaker(a: Kind, b: Kind) -> Kind {
    match (a, b) {
        _ if a == b => a,
        (Kind::Ref(a), Kind::Ref(b)) => Kind::Ref(RefType {
            ty: if a.ty == b.ty { a.ty } else { None },
            non_null: a.non_null && b.non_null,
        }),
        (Kind::Exception { non_null: a }, Kind::Exception { non_null: b }) => {
            Kind::Exception { non_null: a && b }
        }
        (Kind::Extern { non_null: a }, Kind::Extern { non_null: b }) => {
            Kind::Extern { non_null: a && b }
        }
        _ => Kind::Number,
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
    pub on: Known,
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
        if choice.on.about != About::Nothing {
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
