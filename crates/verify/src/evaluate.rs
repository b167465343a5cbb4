//! What operations do to a state.
//!
//! Nothing is checked here, and nothing is believed either that `check` does not check afterwards:
//! that stores through pointers other than the stack's do not change the stack is what its rules
//! are for.

use std::mem::offset_of;

use awsm_abi::context::{CONTEXT_MAX_BYTES, Exception, FuncRef, GlobalCell};
use awsm_abi::desc::val_type;

use crate::contract::{self, Changes, Meaning};
use crate::convention::{ARGUMENTS, CLOBBERED, RESULTS, RETURN_BYTES, STACK_POINTER, Spot};
use crate::function::{Analysis, TIME};
use crate::module::Role;
use crate::op::{Base, Binary, Bytes, Condition, Extension, Flags, Op, Place, Reg, Source};
use crate::state::{
    ALIGNED, About, CALLEE, CALLEE_CELLS, Known, OWN_CELLS, PENDING, RESULT_CELLS, SlotKey, State,
};
use crate::summary::Given;
use crate::value::{Atom, Choice, Kind, Range, Value};

/// Whom a call calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Callee {
    /// A function of the object.
    Function(usize),
    /// A function of the runtime.
    Builtin(u16),
    /// What a reference names: its code is loaded from there.
    Reference { base: Value, tail: bool },
    /// What an entry thunk was given.
    Thunk,
    /// Nobody knows.
    Unknown,
}

impl Analysis<'_> {
    /// Does one operation.
    pub(crate) fn step(&mut self, state: &mut State, at: u32) {
        match self.code.ops[at as usize] {
            Op::Move { to, bytes, from } => {
                let value = self.read(state, from, bytes);
                self.write(state, to, bytes, value);
            }
            Op::Extend { to, bytes, from, has, extension } => {
                let value = self.read(state, from, has);
                let value = self.extended(value, has, extension);
                self.write(state, to, bytes, value);
            }
            Op::Compute { op, to, bytes, a, b, flags } => {
                let (a, b) = (self.read(state, a, bytes), self.read(state, b, bytes));
                self.compute(state, at, (op, to, bytes), (a, b), flags);
            }
            Op::Address { to, bytes, place } => {
                let address = self.address(state, place);
                self.write(state, to, bytes, address);
            }
            Op::Load { to, place, bytes, extension } => {
                let value = self.load(state, at, place, bytes, extension);
                self.write(state, to, 8, value);
            }
            Op::Store { place, bytes, from } => {
                let value = self.read(state, from, bytes);
                let value = self.arena.low(bytes * 8, value);
                let address = self.address(state, place);
                self.store(state, address, bytes.into(), Some(value));
            }
            Op::Touch { place, bytes, write } => {
                let address = self.address(state, place);
                if write {
                    self.store(state, address, bytes.into(), None);
                }
                self.touch(state, address);
            }
            // Checked to be about memory, whose contents are not followed.
            // Gathering also changes the register that says what is gathered.
            Op::Scatter { .. } => state.copies.clear(),
            Op::Vector { to, extent, words } => self.vector(state, to, extent, words),
            Op::Spill { place, from, bytes } => {
                let address = self.address(state, place);
                self.store(state, address, bytes.into(), None);
                self.touch(state, address);
                if let Some(key) = self.followed(address, bytes.into()) {
                    self.spill(state, at, key, from, bytes);
                }
            }
            Op::Word { to, from } => {
                let value = self.word(state, at, to, from);
                self.write(state, to, 8, value);
            }
            Op::Unknown { to, bytes, bits } => {
                let most = if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
                let value = match (bits, bytes) {
                    (64.., 8) => Value::nameless(at),
                    _ => self.opaque(at, to, most, Kind::Number),
                };
                self.write(state, to, bytes, value);
            }
            Op::Zeros { to, bytes, from } => {
                let value = self.read(state, from, bytes);
                let value = self.arena.zeros(bytes * 8, value);
                self.write(state, to, bytes, value);
            }
            Op::Compare { test, bytes, a, b } => {
                let (a, b) = (self.read(state, a, bytes), self.read(state, b, bytes));
                let about = match test {
                    crate::op::Test::Difference => About::Difference,
                    crate::op::Test::Common => About::Common,
                };
                state.flags = Known { about, bytes, a, b };
            }
            Op::Forget => state.forget_flags(),
            Op::Select { to, bytes, condition, then, otherwise } => {
                let then = self.read(state, then, bytes);
                let otherwise = self.read(state, otherwise, bytes);
                let value = self.choose(state.flags, condition, bytes, then, otherwise);
                self.write(state, to, bytes, value);
            }
            Op::Bulk { to, .. } => {
                let start = self.register(state, to);
                if self.arena.has_pointers(start) && self.is_stack(start) {
                    state.forget(i64::MIN, PENDING);
                }
            }
            Op::Probe { bytes, .. } => {
                let stack = self.register(state, STACK_POINTER).plus(-bytes);
                if let Some(key) = self.frame_offset(stack) {
                    state.forget(key, key + bytes);
                }
                state.registers[STACK_POINTER as usize] = stack;
                self.touch(state, stack);
            }
            Op::Call { to } => {
                let callee = self.module.function_at(to).map_or(Callee::Unknown, Callee::Function);
                self.call(state, at, callee);
            }
            Op::CallTo { to } => {
                let target = self.register(state, to);
                let callee = self.callee(target);
                self.call(state, at, callee);
            }
            Op::Aligned { .. }
            | Op::Jump { .. }
            | Op::Branch { .. }
            | Op::JumpTo { .. }
            | Op::Return { .. }
            | Op::Fault => {}
        }
    }

    // Registers.

    /// A register's value, named if it was not.
    pub(crate) fn register(&mut self, state: &mut State, register: Reg) -> Value {
        let value = state.registers[register as usize];
        match value.nameless_place() {
            None => value,
            Some(place) => {
                let value = self.opaque(place, register, u64::MAX, Kind::Number);
                state.registers[register as usize] = value;
                value
            }
        }
    }

    /// A value whose low bytes are meant; what is above means nothing if it is a whole register.
    pub(crate) fn read(&mut self, state: &mut State, source: Source, bytes: Bytes) -> Value {
        match source {
            Source::Reg(register) => self.register(state, register),
            Source::Second(register) => {
                let value = self.register(state, register);
                let shifted = self.arena.right(64, value, 8);
                self.arena.low(8, shifted)
            }
            Source::Number(number) => {
                let shift = 64 - 8 * u32::from(bytes);
                Value::number((number << shift) >> shift)
            }
        }
    }

    fn write(&mut self, state: &mut State, to: Reg, bytes: Bytes, value: Value) {
        let value = match bytes {
            8 => value,
            _ if value.nameless_place().is_some() => value,
            4 => self.arena.low(32, value),
            _ => {
                let bits = bytes * 8;
                let old = self.register(state, to);
                let above = self.arena.right(64, old, bits);
                let above = self.arena.left(above, bits);
                let below = self.arena.low(bits, value);
                self.arena.add(above, below)
            }
        };
        state.registers[to as usize] = value;
        if to == STACK_POINTER && state.aligned.is_some() {
            self.restore(state, value);
        }
    }

    /// The stack pointer has another value: if that is not counted from the rounded one any more,
    /// the rounded frame is gone, and there is no other after it.
    fn restore(&mut self, state: &mut State, value: Value) {
        if self.frame_offset(value).is_some_and(|key| key < ALIGNED / 2) {
            state.aligned = None;
            state.restored = true;
            state.forget(ALIGNED / 2, ALIGNED + ALIGNED / 2);
        }
    }

    fn extended(&mut self, value: Value, has: Bytes, extension: Extension) -> Value {
        match extension {
            Extension::Zero => self.arena.low(has * 8, value),
            Extension::Sign => self.arena.signed(has * 8, value),
        }
    }

    /// The address that a place stands for.
    pub(crate) fn address(&mut self, state: &mut State, place: Place) -> Value {
        let mut sum = match place.base {
            Base::Zero => Value::number(0),
            Base::Reg(register) => self.register(state, register),
            Base::Image => self.image(),
        };
        if let Some((register, scale)) = place.index {
            let index = self.register(state, register);
            sum = self.arena.add_times(sum, index, scale.into());
        }
        sum = sum.plus(place.offset);
        if place.narrow { self.arena.low(32, sum) } else { sum }
    }

    /// Where the object is loaded.
    pub(crate) fn image(&mut self) -> Value {
        self.arena.make(Atom::Image, Kind::Image, Range::ANY, 0)
    }

    // Arithmetic.

    fn compute(
        &mut self,
        state: &mut State,
        at: u32,
        (op, to, bytes): (Binary, Reg, Bytes),
        (a, b): (Value, Value),
        flags: Flags,
    ) {
        let bits = bytes * 8;
        if op == Binary::And
            && to == STACK_POINTER
            && let Some(aligned) = self.align(state, at, a, b)
        {
            state.registers[to as usize] = aligned;
            return state.forget_flags();
        }
        let carry = match op {
            Binary::AddCarry | Binary::SubBorrow => {
                self.opaque(at, TIME as u8 + 4, 1, Kind::Number)
            }
            _ => Value::number(0),
        };
        let arena = &mut self.arena;
        let result = match op {
            Binary::AddCarry => {
                let sum = arena.add(a, b);
                arena.add(sum, carry)
            }
            Binary::SubBorrow => {
                let difference = arena.sub(a, b);
                arena.sub(difference, carry)
            }
            Binary::Add => arena.add(a, b),
            Binary::Sub => arena.sub(a, b),
            Binary::And => arena.and(bits, a, b),
            Binary::Or => arena.or(bits, a, b),
            Binary::Xor => arena.xor(bits, a, b),
            Binary::Mul => {
                let (a, b) = match (a.constant(), b.constant()) {
                    (None, None) => (arena.low(bits, a), arena.low(bits, b)),
                    _ => (a, b),
                };
                arena.product(a, b)
            }
            Binary::ShiftLeft | Binary::ShiftRight | Binary::ShiftSigned => {
                self.shift(at, op, bits, a, b)
            }
            Binary::Extract => match b.constant() {
                Some(range) => {
                    let (from, count) = (range as u8, (range >> 8) as u8);
                    let above =
                        if from < bits { arena.right(bits, a, from) } else { Value::number(0) };
                    arena.low(count.min(64), above)
                }
                None => Value::nameless(at),
            },
        };
        let result = match result.nameless_place() {
            Some(_) => self.any(at, bytes),
            None => result,
        };
        self.write(state, to, bytes, result);
        let known = |about, a, b| Known { about, bytes, a, b };
        match flags {
            Flags::Keep => {}
            Flags::Forget => state.forget_flags(),
            Flags::Set => {
                state.flags = match op {
                    Binary::Sub => known(About::Difference, a, b),
                    Binary::Add => known(About::Sum, a, b),
                    // No carry and no overflow: as if it had been tested.
                    _ => known(About::Common, result, result),
                }
            }
            Flags::Result => state.flags = known(About::Result, result, result),
        }
    }

    fn shift(&mut self, at: u32, op: Binary, bits: u8, a: Value, b: Value) -> Value {
        let amounts = if bits == 64 { 6 } else { 5 };
        let by = self.arena.low(amounts, b);
        let Some(by) = by.constant() else {
            let value = self.arena.low(bits, a);
            let whole = self.arena.range(value);
            if op == Binary::ShiftRight && whole.within(Range::new(0, i64::MAX.into())) {
                return self.opaque(at, TIME as u8 + 1, whole.hi as u64, Kind::Number);
            }
            let most = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            return self.opaque(at, TIME as u8 + 1, most, Kind::Number);
        };
        let by = by as u8;
        match op {
            Binary::ShiftLeft => self.arena.left(a, by),
            Binary::ShiftRight => self.arena.right(bits, a, by),
            _ => self.arena.right_signed(bits, a, by),
        }
    }

    /// The stack pointer rounded down, if this is what happens: once in a function.
    fn align(&mut self, state: &mut State, at: u32, a: Value, b: Value) -> Option<Value> {
        let mask = b.constant().or(a.constant())?;
        let value = if b.constant().is_some() { a } else { b };
        let from = self.frame_offset(value)?;
        let block = self.block_of[at as usize];
        let rounds = (-4096..=-16).contains(&mask) && (-mask).count_ones() == 1;
        if !rounds || from >= ALIGNED / 2 || state.aligned.is_some() || state.restored {
            return None;
        }
        state.aligned = Some(from);
        let atom = Atom::Aligned { op: at, from };
        Some(self.arena.make(atom, Kind::Stack, Range::ANY, block))
    }

    fn choose(
        &mut self,
        flags: Known,
        condition: Condition,
        bytes: Bytes,
        then: Value,
        otherwise: Value,
    ) -> Value {
        let then = self.arena.low(bytes * 8, then);
        let otherwise = self.arena.low(bytes * 8, otherwise);
        if then == otherwise {
            return then;
        }
        let on = if condition == Condition::Other { Known::NOTHING } else { flags };
        let kind = self.common_kind(&[then, otherwise]);
        if kind == Kind::Number
            && let (Some((p, x)), Some((q, y))) =
                (self.arena.pointer(then), self.arena.pointer(otherwise))
            && p == q
        {
            let choice = Choice { on, condition, then: x, otherwise: y };
            let rest = self.arena.select(choice, kind);
            let pointer = self.arena.value_of(p);
            return self.arena.add(pointer, rest);
        }
        self.arena.select(Choice { on, condition, then, otherwise }, kind)
    }

    // Memory.

    /// How far a value is from the stack pointer at entry, or from the rounded one.
    pub(crate) fn frame_offset(&self, value: Value) -> Option<i64> {
        let [(atom, 1)] = self.arena.terms(value) else { return None };
        match self.arena.atom(*atom).atom {
            Atom::Stack => Some(value.k),
            Atom::Aligned { .. } => Some(ALIGNED + value.k),
            _ => None,
        }
    }

    fn is_stack(&self, value: Value) -> bool {
        self.arena.terms(value).iter().any(|(atom, _)| self.arena.kind(*atom) == Kind::Stack)
    }

    fn load(
        &mut self,
        state: &mut State,
        at: u32,
        place: Place,
        bytes: Bytes,
        extension: Extension,
    ) -> Value {
        let address = self.address(state, place);
        if let Some(key) = self.frame_offset(address) {
            self.touch(state, address);
            let found = state.slot(key).filter(|slot| slot.bytes >= bytes);
            let value = match found {
                Some(slot) => slot.value,
                None => {
                    let value = self.any(at, bytes);
                    // It has a name from now on.
                    if state.is_free(key, bytes) {
                        state.put(key, bytes, value);
                    }
                    value
                }
            };
            return self.extended(value, bytes, extension);
        }
        if let Some((_, key)) = self.cell(address, bytes.into()) {
            let found = state.slot(key).filter(|slot| slot.bytes >= bytes);
            let value = found.map_or_else(|| self.any(at, bytes), |slot| slot.value);
            return self.extended(value, bytes, extension);
        }
        if let Some((atom, rest)) = self.arena.pointer(address)
            && self.arena.kind(atom) == Kind::Image
        {
            return self.load_constant(at, rest, bytes, extension);
        }
        if let Some(kind) = self.caught.get(&at).copied()
            && bytes == 8
            && self.is_exception_value(address)
        {
            return self.opaque(at, TIME as u8 + 2, u64::MAX, kind);
        }
        match self.meaning(address, bytes.into()) {
            Some((base, offset, meaning)) => {
                let value = self.found(state, at, base, offset, bytes, meaning);
                self.extended(value, bytes, extension)
            }
            None => {
                let value = self.any(at, bytes);
                self.extended(value, bytes, extension)
            }
        }
    }

    /// Is an address the start of one of an exception's values?
    fn is_exception_value(&mut self, address: Value) -> bool {
        let Some((atom, rest)) = self.arena.pointer(address) else { return false };
        let value = rest.constant().and_then(contract::exception_value);
        matches!(self.arena.kind(atom), Kind::Exception { .. })
            && value.is_some_and(|(_, into)| into == 0)
    }

    /// The cell for an argument or a result that an address leads to: the pointer that it is
    /// reached by, and where it is followed.
    fn cell(&mut self, address: Value, bytes: i64) -> Option<(Value, SlotKey)> {
        let (atom, rest) = self.arena.pointer(address)?;
        let offset = rest.constant()?;
        let descriptor = self.module.descriptor;
        let in_cells = |cells| contract::is_in_argument_cell(offset, bytes, cells);
        let first = match self.arena.kind(atom) {
            Kind::Context if in_cells(descriptor.counts.argument_cells) => OWN_CELLS,
            // How many there are is checked.
            Kind::RefContext if in_cells(CELLS_MAX) => CALLEE_CELLS,
            Kind::Cells if (0..i64::from(CELLS_MAX)).contains(&offset) => RESULT_CELLS,
            _ => return None,
        };
        Some((self.arena.value_of(atom), first + offset))
    }

    /// Where a word of the frame or a cell is followed.
    pub(crate) fn followed(&mut self, address: Value, bytes: i64) -> Option<SlotKey> {
        let cell = |this: &mut Self| this.cell(address, bytes).map(|(_, key)| key);
        self.frame_offset(address).or_else(|| cell(self))
    }

    /// Any number of so many bytes.
    fn any(&mut self, at: u32, bytes: Bytes) -> Value {
        let most = if bytes >= 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 };
        self.opaque(at, TIME as u8 + 2, most, Kind::Number)
    }

    /// What lies at an address that the contract gives a meaning: relative to which pointer, and
    /// where.
    pub(crate) fn meaning(&mut self, address: Value, bytes: u32) -> Option<(Value, i64, Meaning)> {
        let descriptor = self.module.descriptor;
        let [(atom, 1)] = self.arena.terms(address) else {
            let (atom, _) = self.arena.pointer(address)?;
            let Kind::TableBase(table) = self.arena.kind(atom) else { return None };
            let element =
                contract::value(descriptor.tables[table as usize], 0, bytes, Changes::Always);
            return Some((address, 0, element?));
        };
        let (atom, offset) = (*atom, address.k);
        let base = self.arena.value_of(atom);
        match self.arena.kind(atom) {
            Kind::Context => {
                let meaning = descriptor.field(offset, bytes)?;
                let start = -i64::from(descriptor.layout.func_refs);
                let into = offset - start;
                let size = size_of::<FuncRef>() as i64;
                if (0..i64::from(descriptor.counts.func_refs) * size).contains(&into) {
                    let number = into / size;
                    return Some((base.plus(start + number * size), into % size, meaning));
                }
                Some((base, offset, meaning))
            }
            Kind::TableBase(table) => {
                let code = descriptor.tables[table as usize];
                let element = contract::value(code, 0, bytes, Changes::Always)?;
                Some((address, 0, element))
            }
            Kind::Exception { .. } if offset == contract::EXCEPTION_TAG && bytes == 8 => {
                let meaning =
                    Meaning { kind: Kind::Number, range: Range::ANY, changes: Changes::Never };
                Some((base, offset, meaning))
            }
            Kind::Thunk(2) => {
                let Role::Entry { ty } = self.module.functions[self.number].role else {
                    return None;
                };
                let params = &descriptor.types[ty as usize].params;
                let code = params.get(usize::try_from(offset / 16).ok()?)?;
                let into = u32::try_from(offset % 16).ok()?;
                Some((base, offset, contract::value(*code, into, bytes, Changes::Always)?))
            }
            kind => {
                let meaning = contract::pointed(descriptor, kind, offset, bytes)?;
                Some((base, offset, meaning))
            }
        }
    }

    /// The name of what was found at a place with a meaning.
    fn found(
        &mut self,
        state: &mut State,
        at: u32,
        base: Value,
        offset: i64,
        bytes: Bytes,
        meaning: Meaning,
    ) -> Value {
        let Meaning { kind, range, changes } = meaning;
        if let Kind::MemoryBase(memory) = kind
            && self.module.descriptor.first_own_memory() == Some(memory)
        {
            return self.context();
        }
        let time = match changes {
            Changes::Never => Value::number(0),
            Changes::ByCalls => state.time,
            Changes::Always => {
                let pending = self.arena.kind_of(base) == Kind::Exceptions;
                if pending && let Some(slot) = state.slot(PENDING) {
                    return slot.value;
                }
                let most = if bytes >= 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 };
                let value = self.opaque(at, TIME as u8 + 2, most, kind);
                if pending {
                    state.put(PENDING, 8, value);
                }
                return value;
            }
        };
        let home = self.arena.home(base).max(self.arena.home(time));
        let context = self.context();
        let atom = match base == context {
            true => Atom::Field { at: offset as i32, bytes, time },
            false => Atom::Deref { base, at: offset as i32, bytes, time },
        };
        self.arena.make(atom, kind, range, home)
    }

    fn load_constant(&mut self, at: u32, rest: Value, bytes: Bytes, extension: Extension) -> Value {
        if let Some(address) = rest.constant()
            && let Some(found) = self.module.object.bytes(address.cast_unsigned(), bytes.into())
        {
            let mut word = [0; 8];
            word[..found.len()].copy_from_slice(found);
            let number = Value::number(i64::from_le_bytes(word));
            return self.extended(number, bytes, extension);
        }
        if bytes == 4 && extension == Extension::Sign {
            self.entries.insert(at, (rest, bytes.into()));
            return self.opaque(at, TIME as u8 + 3, u64::MAX, Kind::JumpEntry);
        }
        let value = self.any(at, bytes);
        self.extended(value, bytes, extension)
    }

    /// What a store changes of what is followed.
    fn store(&mut self, state: &mut State, address: Value, bytes: u32, value: Option<Value>) {
        if let Some(key) = self.frame_offset(address) {
            self.touch(state, address);
            match (value, u8::try_from(bytes)) {
                (Some(value), Ok(bytes)) => state.put(key, bytes, value),
                _ => state.forget(key, key + i64::from(bytes)),
            }
            return;
        }
        if let Some((base, key)) = self.cell(address, bytes.into()) {
            return self.store_to_cell(state, base, key, bytes, value);
        }
        let Some((atom, rest)) = self.arena.pointer(address) else { return };
        match self.arena.kind(atom) {
            Kind::Stack => {
                let base = self.arena.value_of(atom);
                let base = self.frame_offset(base).unwrap_or(0);
                let range = self.arena.range(rest);
                let end = i128::from(base) + range.hi + i128::from(bytes);
                let clamp = |at: i128| at.clamp((i64::MIN).into(), (PENDING - 1).into()) as i64;
                state.forget(clamp(i128::from(base) + range.lo), clamp(end));
            }
            Kind::Exceptions => match value {
                Some(value) if bytes == 8 => state.put(PENDING, 8, value),
                _ => state.forget(PENDING, PENDING + 8),
            },
            _ => {}
        }
    }

    /// What a store to a cell changes: of the own context's and a callee's, which may be the same
    /// one, the other is not known any more.
    fn store_to_cell(
        &mut self,
        state: &mut State,
        base: Value,
        key: SlotKey,
        bytes: u32,
        value: Option<Value>,
    ) {
        let size = i64::from(bytes);
        match self.arena.kind_of(base) {
            Kind::Context => {
                let same = key - OWN_CELLS + CALLEE_CELLS;
                state.forget(same, same + size);
            }
            Kind::RefContext => {
                let same = key - CALLEE_CELLS + OWN_CELLS;
                state.forget(same, same + size);
                if state.slot(CALLEE).is_none_or(|slot| slot.value != base) {
                    state.forget(CALLEE_CELLS - RESULT_CELLS, SlotKey::MAX);
                    state.put(CALLEE, 8, base);
                }
            }
            _ => {}
        }
        match (value, u8::try_from(bytes)) {
            (Some(value), Ok(bytes)) => state.put(key, bytes, value),
            _ => state.forget(key, key + size),
        }
    }

    /// A place of the frame is touched.
    pub(crate) fn touch(&mut self, state: &mut State, address: Value) {
        if let Some(key) = self.frame_offset(address)
            && let Some(lowest) = self.lowest_at(state, key)
        {
            state.touched = state.touched.min(lowest);
        }
    }

    /// The place that a word of the frame lies at or below, relative to the stack pointer at entry.
    pub(crate) fn lowest_at(&self, state: &State, key: i64) -> Option<i64> {
        match key > ALIGNED / 2 {
            true => Some(state.aligned? + (key - ALIGNED)),
            false => Some(key),
        }
    }

    // Calls.

    /// Whom a call to this address calls.
    pub(crate) fn callee(&self, target: Value) -> Callee {
        let Some(atom) = self.arena.single(target) else { return Callee::Unknown };
        let data = self.arena.atom(atom);
        match (data.kind, data.atom) {
            (Kind::Builtin(offset), _) => Callee::Builtin(offset),
            (Kind::Code { tail }, Atom::Deref { base, .. }) => Callee::Reference { base, tail },
            (Kind::Thunk(0), _) => Callee::Thunk,
            _ => Callee::Unknown,
        }
    }

    /// The type that a call through a reference is taken to be of, until that is checked.
    pub(crate) fn assumed_type(&self, at: u32, base: Value) -> Option<u32> {
        if let Some(ty) = self.call_types.get(&at) {
            return Some(*ty);
        }
        match self.reference_kind(base) {
            Kind::Ref(ty) if ty.ty.is_some() => return ty.ty,
            _ => {}
        }
        // A comparison on the way here.
        let (mut block, home) = (self.block_of[at as usize], self.arena.home(base));
        for _ in 0..16 {
            if block == home {
                break;
            }
            block = self.flow.blocks[block as usize].dominator;
            let Some(state) = &self.outs[block as usize] else { break };
            let Known { about: About::Difference, a, b, .. } = state.flags else { continue };
            for (a, b) in [(a, b), (b, a)] {
                if let (Kind::RefType, Kind::TypeId(ty)) =
                    (self.arena.kind_of(a), self.arena.kind_of(b))
                {
                    return Some(ty);
                }
            }
        }
        None
    }

    /// Where a function of the object gets the address of cells for its results, if it does.
    pub(crate) fn cells_at(&self, number: usize) -> Option<Reg> {
        let at = self.module.convention(number)?.results_at?;
        let cells = (Spot::Register(at), Given::Of(Kind::Cells));
        let gifts = self.summaries[number].gifts.as_ref();
        gifts.is_none_or(|gifts| gifts.contains(&cells)).then_some(at)
    }

    /// What a call does to the state.
    fn call(&mut self, state: &mut State, at: u32, callee: Callee) {
        let (mut stack_bytes, mut results) = (0, None);
        let mut cells = None;
        match callee {
            Callee::Function(number) => {
                let summary = &self.summaries[number];
                stack_bytes = summary.incoming;
                cells = self.cells_at(number).map(|at| (at, summary.cells));
                if summary.typed_results {
                    results = self.module.type_of(number);
                }
            }
            Callee::Reference { base, tail } => {
                if let Some(ty) = self.assumed_type(at, base) {
                    let convention = self.module.by_reference(ty, tail);
                    stack_bytes = convention.stack_bytes;
                    cells = convention.results_at.map(|at| (at, convention.result_bytes));
                    results = Some(ty);
                }
            }
            Callee::Thunk => {
                if let Role::Entry { ty } = self.module.functions[self.number].role {
                    let convention = self.module.ordinary(ty);
                    stack_bytes = convention.stack_bytes;
                    cells = convention.results_at.map(|at| (at, convention.result_bytes));
                    results = Some(ty);
                }
            }
            Callee::Builtin(_) | Callee::Unknown => {}
        }
        let cells = cells.map(|(at, bytes)| (self.register(state, at), bytes));
        let tags = match callee {
            Callee::Builtin(_) => {
                let value = self.register(state, ARGUMENTS[1]);
                self.tags_at(value)
            }
            _ => Vec::new(),
        };
        // What the callee has for its own, from its frame to its arguments.
        let stack = self.register(state, STACK_POINTER);
        let pushed = stack.plus(-RETURN_BYTES);
        self.touch(state, pushed);
        if let Some(key) = self.frame_offset(stack) {
            let bottom = if key > ALIGNED / 2 { ALIGNED / 2 } else { i64::MIN };
            state.forget(bottom, key + stack_bytes);
        }
        let cells = cells.and_then(|(cells, bytes)| {
            let own = self.arena.kind_of(cells) == Kind::Cells;
            let key = if own { Some(RESULT_CELLS) } else { self.frame_offset(cells) }?;
            state.forget(key, key + bytes);
            Some(key)
        });
        if self.module.descriptor.exceptions {
            let pending = self.pending(at);
            state.put(PENDING, 8, pending);
        }
        state.forget_argument_cells();
        state.registers[STACK_POINTER as usize] = stack;
        for register in CLOBBERED {
            state.registers[register as usize] = Value::nameless(at);
        }
        if self.module.descriptor.exceptions {
            self.forget_hidden_exceptions(state, at);
        }
        state.vectors.clear();
        state.copies.clear();
        state.time = self.opaque(at, TIME as u8, u64::MAX, Kind::Number);
        state.forget_flags();
        if let Callee::Builtin(offset) = callee
            && let Some(kind) = contract::builtin(offset).and_then(|builtin| builtin.result)
        {
            self.new_exceptions.insert(at, tags);
            state.registers[RESULTS[0] as usize] = self.opaque(at, RESULTS[0], u64::MAX, kind);
        }
        if let Callee::Function(number) = callee
            && let Some(most) = self.summaries[number].most
        {
            state.registers[RESULTS[0] as usize] =
                self.opaque(at, RESULTS[0], most.into(), Kind::Number);
        }
        if let Some(ty) = results {
            self.results(state, at, callee, ty, cells);
        }
    }

    /// A call may give exceptions back whose addresses are nowhere: a number that one could be
    /// computed from is only a number then.
    fn forget_hidden_exceptions(&self, state: &mut State, at: u32) {
        for register in &mut state.registers {
            if self.hides_exception(*register) {
                *register = Value::nameless(at);
            }
        }
        state.slots.retain(|slot| !self.hides_exception(slot.value));
    }

    /// Is a value made of an exception's address, but no address in its head?
    fn hides_exception(&self, value: Value) -> bool {
        if value.nameless_place().is_some() {
            return false;
        }
        let terms = self.arena.terms(value);
        let is_exception = |atom: u32| matches!(self.arena.kind(atom), Kind::Exception { .. });
        match *terms {
            [(atom, 1)] if is_exception(atom) => !(0..=EXCEPTION_HEAD).contains(&value.k),
            _ => terms.iter().any(|(atom, _)| is_exception(*atom)),
        }
    }

    /// The exception that is under way behind a call, or at the entry of the function.
    pub(crate) fn pending(&mut self, at: u32) -> Value {
        let kind = Kind::Exception { non_null: false };
        self.opaque(at, TIME as u8 + 5, u64::MAX, kind)
    }

    /// What a result of this type is behind a call. With an exception under way it may be null.
    fn result_kind(&self, code: u32) -> (Kind, bool) {
        let promised = self.module.descriptor.exceptions && code & val_type::NON_NULL != 0;
        let code = if promised { code & !val_type::NON_NULL } else { code };
        (contract::kind_of_type(code), promised)
    }

    /// A result is never null if no exception is under way behind the call.
    fn promise(&mut self, at: u32, result: Value, promised: bool) {
        if promised && let Some(atom) = self.arena.single(result) {
            let pending = self.pending(at);
            self.promised.insert(atom, pending);
        }
    }

    /// References among the results of a call, of which those in memory are in `cells`.
    fn results(
        &mut self,
        state: &mut State,
        at: u32,
        callee: Callee,
        ty: u32,
        cells: Option<SlotKey>,
    ) {
        let convention = match callee {
            Callee::Function(number) => self.module.convention(number),
            Callee::Reference { tail, .. } => Some(self.module.by_reference(ty, tail)),
            _ => Some(self.module.ordinary(ty)),
        };
        let Some(convention) = convention else { return };
        let codes = &self.module.descriptor.types[ty as usize].results;
        for (code, spot) in codes.iter().zip(&convention.results) {
            let (kind, promised) = self.result_kind(*code);
            if let (Spot::Register(register), true) = (*spot, kind != Kind::Number) {
                let value = self.opaque(at, register, u64::MAX, kind);
                self.promise(at, value, promised);
                state.registers[register as usize] = value;
            }
        }
        let Some(cells) = cells else { return };
        for (number, (code, offset)) in codes.iter().zip(&convention.result_offsets).enumerate() {
            let (kind, promised) = self.result_kind(*code);
            if kind != Kind::Number {
                let atom = Atom::Result { at, number: number as u32, kind };
                let value = self.arena.make(atom, kind, Range::ANY, self.block_of[at as usize]);
                self.promise(at, value, promised);
                state.put(cells + offset, 8, value);
            }
        }
    }
}

/// Bytes of an exception that each has.
const EXCEPTION_HEAD: i64 = size_of::<Exception>() as i64;

/// More than any context or list of results has.
const CELLS_MAX: u32 = (CONTEXT_MAX_BYTES / size_of::<GlobalCell>() as u64) as u32;

// Offsets that fit the atoms' fields.
const _: () = assert!(offset_of!(FuncRef, tail) < 32);
