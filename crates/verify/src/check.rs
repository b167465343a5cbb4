//! What every operation is held against.
//!
//! Isolation rests on this file. An operation is checked in the state before it; whatever states
//! are made of was found without believing anything that is not checked here.

use std::mem::size_of;

use awsm_abi::context::GlobalCell;
use awsm_abi::desc::val_type;

use crate::contract;
use crate::convention::{ARGUMENTS, RED_ZONE, RETURN_BYTES, STACK_POINTER};
use crate::evaluate::Callee;
use crate::flow::{self, BlockId};
use crate::function::{Analysis, RANGE_MAX};
use crate::memory::WAYS;
use crate::module::{RangeRoutine, Role};
use crate::op::Op;
use crate::report::Rule;
use crate::state::{ALIGNED, State};
use crate::value::{AT_BLOCK, Atom, AtomId, Kind, Range, Value, weaker};

/// Bytes of the stack that may lie between two touches: less than the guard below any stack.
const UNTOUCHED_MAX: i64 = 8192;

/// Who goes further.
const FAR: &str = "a frame that reaches over the guard without touching it";

/// Arguments on the stack of a function that nobody outside calls take no more than this, and its
/// cells for several results.
const INCOMING_MAX: i64 = 1 << 16;

impl Analysis<'_> {
    /// Checks one operation.
    pub(crate) fn check(&mut self, state: &mut State, at: u32) {
        // What was guessed about control flow is looked at all the same: the problem may come from
        // that. So are loads: what is caught may be a reference.
        let guessed = match self.code.ops[at as usize] {
            Op::CallTo { .. } | Op::JumpTo { .. } => true,
            Op::Load { .. } => self.module.descriptor.exceptions,
            _ => false,
        };
        if self.outcome.problem.is_some() && !guessed {
            return;
        }
        let block = self.block_of[at as usize];
        self.check_stack_pointer(state, at);
        match self.code.ops[at as usize] {
            Op::Load { place, bytes, .. } => {
                let address = self.address(state, place);
                self.check_access(state, at, address, bytes.into(), None);
            }
            Op::Store { place, bytes, from } => {
                let address = self.address(state, place);
                let value = self.read(state, from, bytes);
                self.check_access(state, at, address, bytes.into(), Some(Some(value)));
            }
            Op::Touch { place, bytes, write } => {
                let address = self.address(state, place);
                let stored = write.then_some(None);
                self.check_access(state, at, address, bytes.into(), stored);
            }
            Op::Aligned { place, bytes } => {
                let address = self.address(state, place);
                self.check_aligned(at, address, bytes.into());
            }
            Op::Spill { place, bytes, .. } => {
                let address = self.address(state, place);
                self.check_access(state, at, address, bytes.into(), Some(None));
            }
            Op::Scatter { base, vector, scale, bytes, .. } => {
                self.check_scatter(state, at, base, vector.map(|vector| (vector, scale)), bytes);
            }
            Op::Bulk { to, from, length } => {
                let length = self.register(state, length);
                let to = self.register(state, to);
                self.check_range(block, at, to, length, true);
                if let Some(from) = from {
                    let from = self.register(state, from);
                    self.check_range(block, at, from, length, false);
                }
            }
            Op::Probe { step, .. } => {
                let first = self.register(state, STACK_POINTER).plus(-step);
                match self.frame_offset(first) {
                    Some(key) if self.is_near_touched(state, key) => self.shown(Rule::Frame),
                    _ => self.problem(at, FAR),
                }
            }
            Op::Call { to } => {
                let callee = self.module.function_at(to).map_or(Callee::Unknown, Callee::Function);
                self.check_call(state, at, callee);
            }
            Op::CallTo { to } => {
                let target = self.register(state, to);
                let callee = self.callee(target);
                self.check_call(state, at, callee);
            }
            Op::Jump { to } | Op::Branch { to, .. }
                if flow::inside(self.code, self.start(), to).is_none() =>
            {
                self.check_leaving(state, at, to);
            }
            Op::JumpTo { to } => {
                let target = self.register(state, to);
                match self.callee(target) {
                    Callee::Reference { base, tail } => {
                        self.check_leaving_by(state, at, base, tail);
                    }
                    _ => self.check_table(block, at, target),
                }
            }
            Op::Return { pops } => self.check_return(state, at, pops),
            Op::Fault if self.is_called() => self.problem(at, "a fault that nobody catches"),
            _ => {}
        }
    }

    pub(crate) fn start(&self) -> u64 {
        self.module.functions[self.number].range.start
    }

    /// Can anybody call this function?
    fn is_called(&self) -> bool {
        self.module.functions[self.number].outside || !self.module.callers[self.number].is_empty()
    }

    /// Where a block ends without a transfer, the next one of the function follows.
    pub(crate) fn check_end(&mut self, block: BlockId) {
        let last = self.ops_of(block).last();
        let Some(last) = last else {
            if self.flow.blocks[block as usize].to.is_empty() {
                self.problem(0, "runs off its end");
            }
            return;
        };
        let ends = match self.code.ops[last] {
            Op::Call { to } => {
                self.module.function_at(to).is_some_and(|callee| !self.summaries[callee].returns)
            }
            // Whether it comes back is checked with the call.
            Op::CallTo { .. } => {
                let end = self.flow.blocks[block as usize].instructions.end;
                end < self.code.instructions.len() || self.returns_not(end - 1)
            }
            op => op.transfers(),
        };
        let branches = matches!(self.code.ops[last], Op::Branch { .. });
        let to = self.flow.blocks[block as usize].to.len();
        let instruction = self.flow.blocks[block as usize].instructions.end;
        if to == 0 && !ends || branches && instruction == self.code.instructions.len() {
            self.problem(last as u32, "runs off its end");
        }
    }

    // The frame.

    /// The stack pointer is one at every instruction: signals arrive there.
    fn check_stack_pointer(&mut self, state: &mut State, at: u32) {
        let value = self.register(state, STACK_POINTER);
        let Some(key) = self.frame_offset(value) else {
            return self.problem(at, "a stack pointer of which nothing is known");
        };
        let aligned = key > ALIGNED / 2;
        let within = if aligned { key <= ALIGNED } else { key <= 0 };
        if !within || aligned != state.aligned.is_some() {
            return self.problem(at, "a stack pointer outside of the frame");
        }
        if !self.is_near_touched(state, key) {
            self.problem(at, FAR);
        }
    }

    /// Does a place of the stack lie so near below one that was touched that the guard is not
    /// stepped over?
    fn is_near_touched(&self, state: &State, key: i64) -> bool {
        let lowest = self.lowest_at(state, key);
        lowest.is_some_and(|lowest| lowest >= state.touched - UNTOUCHED_MAX)
    }

    /// Bytes of arguments behind the return address that this function may have.
    pub(crate) fn incoming_limit(&self) -> i64 {
        match self.module.convention(self.number) {
            Some(convention) if self.module.functions[self.number].outside => {
                convention.stack_bytes
            }
            _ => INCOMING_MAX,
        }
    }

    /// Bytes of cells for several results that this function may have.
    pub(crate) fn cells_limit(&self) -> i64 {
        match self.module.convention(self.number) {
            Some(convention) if self.module.functions[self.number].outside => {
                convention.result_bytes
            }
            _ => INCOMING_MAX,
        }
    }

    fn check_frame(&mut self, state: &mut State, at: u32, key: i64, bytes: i64, write: bool) {
        let sp = self.register(state, STACK_POINTER);
        let Some(sp) = self.frame_offset(sp) else { return };
        if !self.is_near_touched(state, key) {
            return self.problem(at, FAR);
        }
        let what = if write { "writes" } else { "reads" };
        if key > ALIGNED / 2 {
            let inside = sp > ALIGNED / 2 && key >= sp - RED_ZONE && key + bytes <= ALIGNED;
            return match inside {
                true => self.shown(Rule::Frame),
                false => self.problem(at, format!("{what} outside of its rounded frame")),
            };
        }
        let bottom = match state.aligned {
            Some(from) => from,
            None => sp - RED_ZONE,
        };
        if key >= bottom && key + bytes <= 0 {
            return self.shown(Rule::Frame);
        }
        let end = key + bytes - RETURN_BYTES;
        if key >= RETURN_BYTES && end <= self.incoming_limit() {
            self.outcome.incoming = self.outcome.incoming.max((end + 7) & !7);
            return self.shown(Rule::Frame);
        }
        self.problem(
            at,
            format!("{what} {key:+} from the stack pointer at entry, outside of its frame"),
        );
    }

    /// A place in the frame that a number decides.
    fn check_frame_at(&mut self, state: &mut State, at: u32, base: Value, rest: Value, bytes: i64) {
        let block = self.block_of[at as usize];
        let sp = self.register(state, STACK_POINTER);
        let (Some(sp), Some(base)) = (self.frame_offset(sp), self.frame_offset(base)) else {
            return;
        };
        let (bottom, top) = match base > ALIGNED / 2 {
            true => (sp - RED_ZONE - base, 0),
            false => (state.aligned.unwrap_or(sp - RED_ZONE) - base, -base),
        };
        let inside = (base > ALIGNED / 2) == state.aligned.is_some()
            && self.is_between((bottom.into(), rest), (rest, i128::from(top - bytes)), block);
        match inside {
            true => self.shown(Rule::Frame),
            false => self.problem(at, "a place in the frame that is not bounded"),
        }
    }

    // Accesses.

    /// Checks an access. `stored` says that it writes, and what if that is known.
    fn check_access(
        &mut self,
        state: &mut State,
        at: u32,
        address: Value,
        bytes: i64,
        stored: Option<Option<Value>>,
    ) {
        if let Some(key) = self.frame_offset(address) {
            return self.check_frame(state, at, key, bytes, stored.is_some());
        }
        let block = self.block_of[at as usize];
        let Some((atom, rest)) = self.arena.pointer(address) else {
            return self.problem(at, "an address that begins nowhere");
        };
        let data = *self.arena.atom(atom);
        let size = Value::number(bytes);
        match data.kind {
            Kind::Stack => {
                let base = self.arena.value_of(atom);
                self.check_frame_at(state, at, base, rest, bytes);
            }
            Kind::Context => {
                let guard = -i64::from(awsm_abi::context::CONTEXT_GUARD_BYTES);
                match (rest.constant(), self.module.descriptor.first_own_memory()) {
                    (Some(offset), _) if offset < guard => {
                        self.check_field(at, offset, bytes, stored);
                    }
                    (_, Some(memory)) => self.check_memory(block, at, memory, rest, size),
                    _ => self.problem(at, "an access to a memory that there is not"),
                }
            }
            Kind::MemoryBase(memory) => self.check_memory(block, at, memory, rest, size),
            Kind::TableBase(table) => {
                self.check_element(state, at, (atom, table), rest, bytes, stored.is_some());
            }
            Kind::Image => {
                let end = self.module.object.image.len() as i128;
                let inside = stored.is_none()
                    && self.is_between((0, rest), (rest, end - i128::from(bytes)), block);
                match inside {
                    true => self.shown(Rule::Constant),
                    false => self.problem(at, "a constant that is not shown to be the object's"),
                }
            }
            Kind::Cells => {
                let all = self.cells_limit();
                self.check_cells(at, rest, bytes, all);
                let end = rest.constant().and_then(|offset| offset.checked_add(bytes));
                self.outcome.cells = self.outcome.cells.max(end.unwrap_or(0).min(all));
            }
            Kind::Thunk(2) => {
                let Role::Entry { ty } = self.module.functions[self.number].role else { return };
                let ty = &self.module.descriptor.types[ty as usize];
                let cells = ty.params.len().max(ty.results.len());
                self.check_cells(at, rest, bytes, (cells * size_of::<GlobalCell>()) as i64);
            }
            Kind::Range(number) => {
                let length = self.range_length();
                let role = self.module.functions[self.number].role;
                let may =
                    stored.is_none() || number == 0 && role != Role::Range(RangeRoutine::Compare);
                self.check_in_range(block, at, rest, size, length, may);
            }
            _ => self.check_pointer(state, at, (atom, data.kind), rest, bytes, stored),
        }
    }

    /// Places that the words of a vector register decide.
    fn check_scatter(
        &mut self,
        state: &mut State,
        at: u32,
        base: crate::op::Place,
        added: Option<(u8, u8)>,
        bytes: u16,
    ) {
        let block = self.block_of[at as usize];
        let address = self.address(state, base);
        let pointer = self.arena.pointer(address);
        let memory = pointer.and_then(|(atom, rest)| match self.arena.kind(atom) {
            Kind::Context => Some((self.module.descriptor.first_own_memory()?, rest)),
            Kind::MemoryBase(memory) => Some((memory, rest)),
            _ => None,
        });
        let Some((memory, rest)) = memory else {
            return self.problem(at, "a vector of places of something that is no memory");
        };
        match added {
            Some((vector, scale)) => {
                let added = self.added(state, at, vector, scale);
                let rest = self.arena.add(rest, added);
                self.check_memory(block, at, memory, rest, Value::number(bytes.into()));
            }
            None => {
                let what = "a vector of places".to_owned();
                let offset = self.code.offset_of(at);
                self.outcome.unshown.push(crate::report::Unshown { offset, what });
            }
        }
    }

    fn check_cells(&mut self, at: u32, rest: Value, bytes: i64, all: i64) {
        match rest.constant() {
            Some(offset) if offset >= 0 && offset + bytes <= all => self.shown(Rule::Cells),
            _ => self.problem(at, "an access outside of the cells for results"),
        }
    }

    fn check_field(&mut self, at: u32, offset: i64, bytes: i64, stored: Option<Option<Value>>) {
        let descriptor = self.module.descriptor;
        if contract::is_in_argument_cell(offset, bytes, descriptor.counts.argument_cells) {
            return self.shown(Rule::Cells);
        }
        let Some(value) = stored else {
            let fields = u32::try_from(bytes).ok();
            let known = fields.and_then(|bytes| descriptor.field(offset, bytes));
            return match known {
                Some(_) => self.shown(Rule::Context),
                None => self.problem(at, format!("reads {offset} from the context")),
            };
        };
        let globals = u32::try_from(bytes).ok();
        let globals = globals.and_then(|bytes| descriptor.writable_globals(offset, bytes));
        let Some(globals) = globals else {
            return self.problem(at, format!("writes {offset} from the context"));
        };
        let block = self.block_of[at as usize];
        for (code, into) in globals {
            if contract::is_reference(code) {
                let whole = into == 0 && bytes == 8;
                let fits =
                    whole && value.is_some_and(|value| self.reference_fits(value, code, block));
                if !fits {
                    return self.problem(at, "writes what is no reference to a global of them");
                }
            }
        }
        self.shown(Rule::Context);
    }

    fn check_element(
        &mut self,
        state: &mut State,
        at: u32,
        (base, table): (u32, u32),
        rest: Value,
        bytes: i64,
        write: bool,
    ) {
        let block = self.block_of[at as usize];
        if write || bytes != 8 || !self.is_fresh(state, base) {
            return self.problem(at, "an access to a table that may have moved");
        }
        let index =
            self.arena.terms(rest).iter().map(|(atom, factor)| (*atom, factor / 8)).collect();
        let index = self.arena.sum(index, rest.k / 8);
        let exists = self.is_multiple(rest, 8)
            && self.is_at_least(index, 0, block)
            && self.is_below_size(block, Kind::TableLength(table), index.plus(1), WAYS);
        match exists {
            true => self.shown(Rule::TableElement),
            false => self.problem(at, "a table element that is not shown to exist"),
        }
    }

    /// Was a table's base loaded since the last call, here or by the caller?
    pub(crate) fn is_fresh(&mut self, state: &State, base: AtomId) -> bool {
        match self.arena.atom(base).atom {
            Atom::Field { time, .. } | Atom::Deref { time, .. } => time == state.time,
            Atom::Opaque { at: AT_BLOCK, .. } | Atom::Incoming(_) => {
                state.time == self.time_at_entry()
            }
            _ => false,
        }
    }

    pub(crate) fn is_multiple(&self, value: Value, of: i64) -> bool {
        value.k % of == 0 && self.arena.terms(value).iter().all(|(_, factor)| factor % of == 0)
    }

    /// Accesses by pointers that the contract knows, besides memories and tables.
    fn check_pointer(
        &mut self,
        state: &mut State,
        at: u32,
        (atom, kind): (u32, Kind),
        rest: Value,
        bytes: i64,
        stored: Option<Option<Value>>,
    ) {
        let block = self.block_of[at as usize];
        let base = self.arena.value_of(atom);
        let Some(offset) = rest.constant() else {
            return self.problem(at, "a place that a number decides, in something without numbers");
        };
        if let Kind::Exception { .. } = kind {
            return self.check_exception(at, base, offset, bytes, stored);
        }
        if let Kind::Ref(_) = kind
            && !self.is_not_null(base, block)
        {
            return self.problem(at, "a reference that may be null is looked into");
        }
        match stored {
            None => {
                let size = u32::try_from(bytes).unwrap_or(u32::MAX);
                match contract::pointed(self.module.descriptor, kind, offset, size) {
                    Some(_) => self.shown(Rule::Pointer),
                    None => self.problem(at, format!("reads {offset:+} from {}", name(kind))),
                }
            }
            Some(value) => {
                let fits = match kind {
                    Kind::Global(global) => {
                        let global = self.module.descriptor.globals[global as usize];
                        let inside =
                            offset >= 0 && offset + bytes <= size_of::<GlobalCell>() as i64;
                        let reference = contract::is_reference(global.ty);
                        global.mutable
                            && inside
                            && (!reference
                                || offset == 0
                                    && bytes == 8
                                    && value.is_some_and(|value| {
                                        self.reference_fits(value, global.ty, block)
                                    }))
                    }
                    Kind::RefContext => self.has_argument_cell(at, base, offset, bytes, block),
                    Kind::Exceptions => {
                        offset == 0
                            && bytes == 8
                            && value.is_some_and(|value| {
                                self.reference_fits(value, val_type::EXNREF, block)
                            })
                    }
                    _ => false,
                };
                match fits {
                    true if kind == Kind::Exceptions => self.shown(Rule::Exception),
                    true if kind == Kind::RefContext => self.shown(Rule::Cells),
                    true => self.shown(Rule::Pointer),
                    false => self.problem(at, format!("writes {offset:+} from {}", name(kind))),
                }
            }
        }
        let _ = state;
    }

    fn check_exception(
        &mut self,
        at: u32,
        exception: Value,
        offset: i64,
        bytes: i64,
        stored: Option<Option<Value>>,
    ) {
        let block = self.block_of[at as usize];
        if !self.is_not_null(exception, block) {
            return self.problem(at, "an exception that may be null is looked into");
        }
        let fits = if let Some((value, into)) = contract::exception_value(offset) {
            let cell = size_of::<GlobalCell>() as i64;
            let last = value + ((i64::from(into) + bytes - 1) / cell) as usize;
            let tags = self.exception_tags(exception, block);
            let mut kinds = Vec::new();
            let mut fits = !tags.is_empty();
            for tag in tags {
                let params = self.module.descriptor.tag_params(tag);
                fits &= match (params.get(value..=last), stored) {
                    (Some([code]), None) if into == 0 && bytes == 8 => {
                        kinds.push(contract::kind_of_type(*code));
                        true
                    }
                    (Some(_), None) => true,
                    (Some([code]), Some(Some(stored))) if into == 0 && bytes == 8 => {
                        !contract::is_reference(*code) || self.reference_fits(stored, *code, block)
                    }
                    (Some(codes), Some(_)) => {
                        !codes.iter().any(|code| contract::is_reference(*code))
                    }
                    (None, _) => false,
                };
            }
            if let Some(kind) = kinds.into_iter().reduce(weaker) {
                self.correct_caught(at, kind);
            }
            fits
        } else {
            match stored {
                Some(_) => offset == contract::EXCEPTION_REFERENCED && bytes == 4,
                None => offset == contract::EXCEPTION_TAG && bytes == 8,
            }
        };
        match fits {
            true => self.shown(Rule::Exception),
            false => self.problem(at, "an access outside of an exception's values"),
        }
    }

    /// A value of an exception is loaded: it was taken for something else before.
    fn correct_caught(&mut self, at: u32, kind: Kind) {
        let taken = self.caught.get(&at).copied().unwrap_or(Kind::Number);
        if taken != kind {
            self.caught.insert(at, kind);
            self.again = true;
        }
    }

    // Ranges.

    /// The length that a routine for ranges got.
    fn range_length(&mut self) -> Value {
        let atom = Atom::Opaque {
            at: crate::value::AT_BLOCK,
            n: ARGUMENTS[2],
            most: RANGE_MAX as u64,
            kind: Kind::Number,
        };
        self.arena.make(atom, Kind::Number, Range::new(0, RANGE_MAX), 0)
    }

    fn check_in_range(
        &mut self,
        block: BlockId,
        at: u32,
        rest: Value,
        size: Value,
        length: Value,
        may: bool,
    ) {
        let end = self.arena.add(rest, size);
        let beyond = self.arena.sub(end, length);
        let inside = may && self.is_between((0, rest), (beyond, 0), block);
        match inside {
            true => self.shown(Rule::MemoryCompared),
            false => self.problem(at, "an access outside of the range that it was given"),
        }
    }

    /// `length` bytes from an address on, by one instruction or by a routine for ranges.
    pub(crate) fn check_range(
        &mut self,
        block: BlockId,
        at: u32,
        start: Value,
        length: Value,
        write: bool,
    ) {
        let Some((atom, rest)) = self.arena.pointer(start) else {
            return self.problem(at, "a range that begins nowhere");
        };
        let fits = self.is_at_least(length, 0, block);
        match self.arena.kind(atom) {
            Kind::Range(number) => {
                let whole = self.range_length();
                let role = self.module.functions[self.number].role;
                let may = !write || number == 0 && role != Role::Range(RangeRoutine::Compare);
                self.check_in_range(block, at, rest, length, whole, may && fits);
            }
            kind @ (Kind::Context | Kind::MemoryBase(_)) => {
                let memory = match kind {
                    Kind::MemoryBase(memory) => Some(memory),
                    _ => self.module.descriptor.first_own_memory(),
                };
                match memory {
                    Some(memory) if fits => self.check_memory(block, at, memory, rest, length),
                    Some(_) => {
                        let what = "a length that may be negative".to_owned();
                        let offset = self.code.offset_of(at);
                        self.outcome.unshown.push(crate::report::Unshown { offset, what });
                    }
                    None => self.problem(at, "a range of a memory that there is not"),
                }
            }
            _ => self.problem(at, "a range of something that is no memory"),
        }
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Builtins => "the runtime's table",
        Kind::TableRecord(_) => "a table's record",
        Kind::MemoryRecord(_) => "a memory's record",
        Kind::Global(_) => "a global",
        Kind::Exceptions => "the record of exceptions",
        Kind::Ref(_) => "a reference",
        Kind::Code { .. } | Kind::Builtin(_) => "code",
        Kind::RefContext | Kind::Thunk(_) => "another context",
        Kind::Tag(_) => "a tag",
        Kind::Extern { .. } => "something of the host",
        Kind::Return => "a return address",
        _ => "something",
    }
}
