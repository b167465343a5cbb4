//! Calls: of functions of the object, through references, of the runtime.
//!
//! Isolation rests on this file: whoever is called counts on its context, its arguments, and room
//! for its results.

use awsm_abi::desc::val_type;

use crate::align::VECTOR_BYTES;
use crate::contract::{self, Wants};
use crate::convention::{ARGUMENTS, Convention, RETURN_BYTES, STACK_POINTER, Spot};
use crate::evaluate::Callee;
use crate::flow::BlockId;
use crate::function::{Analysis, INCOMING_NAMED, RANGE_MAX};
use crate::module::{RangeRoutine, Role};
use crate::op::Op;
use crate::report::Rule;
use crate::state::{ALIGNED, CALLEE, CALLEE_CELLS, OWN_CELLS, SlotKey, State, argument_cell};
use crate::summary::{self, Gifts, Given, Summary};
use crate::value::{Kind, Value, weaker};

impl Analysis<'_> {
    pub(crate) fn check_call(&mut self, state: &mut State, at: u32, callee: Callee) {
        let block = self.block_of[at as usize];
        let sp = self.register(state, STACK_POINTER);
        let Some(sp) = self.frame_offset(sp) else { return };
        // The return address goes below the stack pointer.
        let (round, top) = if sp > ALIGNED / 2 { (0, ALIGNED) } else { (8, 0) };
        if sp.rem_euclid(16) != round {
            return self.problem(at, "a call from a stack pointer that is not rounded");
        }
        let room = top - sp;
        let instruction = self.code.instruction_of(at);
        match callee {
            Callee::Function(number) => self.check_direct_call(state, at, number, room),
            Callee::Builtin(offset) => {
                let Some(builtin) = contract::builtin(offset) else {
                    return self.problem(at, "a call of a function that the runtime does not have");
                };
                self.correct_return(instruction, builtin.returns);
                self.check_builtin(state, at, &builtin);
            }
            Callee::Reference { base, tail } => {
                self.correct_return(instruction, true);
                let Some(ty) = self.check_reference(at, base, block) else { return };
                if tail && !self.has_tail_code(base, block) {
                    return self.problem(at, "a call of code that there may not be");
                }
                let convention = self.module.by_reference(ty, tail).clone();
                let context = self.register(state, convention.context);
                if !self.is_context_of(context, base) {
                    return self.problem(at, "a call with the context of something else");
                }
                if convention.stack_bytes > room {
                    return self.problem(at, "a call whose arguments are not in the frame");
                }
                if !self.arguments_fit(state, block, &convention, ty, false) {
                    return self.problem(at, "a call with an argument that is no reference");
                }
                self.shown(Rule::ReferenceCall);
            }
            Callee::Thunk => {
                self.correct_return(instruction, true);
                let Role::Entry { ty } = self.module.functions[self.number].role else { return };
                let convention = self.module.ordinary(ty).clone();
                let context = self.register(state, convention.context);
                let given = self.arena.kind_of(context) == Kind::Thunk(1);
                if !given
                    || convention.stack_bytes > room
                    || !self.arguments_fit(state, block, &convention, ty, false)
                {
                    return self.problem(at, "a call that is not what the thunk is for");
                }
                self.shown(Rule::ReferenceCall);
            }
            Callee::Unknown => self.problem(at, "a call of code that is not known"),
        }
    }

    pub(crate) fn returns_not(&self, instruction: usize) -> bool {
        !self.guessed_return(instruction)
    }

    /// Corrects what was guessed about a call that is never reached.
    pub(crate) fn check_guess(&mut self, state: &mut State, at: u32) {
        let Op::CallTo { to } = self.code.ops[at as usize] else { return };
        let target = self.register(state, to);
        if let Callee::Builtin(offset) = self.callee(target)
            && let Some(builtin) = contract::builtin(offset)
        {
            self.correct_return(self.code.instruction_of(at), builtin.returns);
        }
    }

    fn correct_return(&mut self, instruction: usize, returns: bool) {
        if self.guessed_return(instruction) != returns {
            self.corrections.returns.insert(instruction, returns);
        }
    }

    fn check_direct_call(&mut self, state: &mut State, at: u32, number: usize, room: i64) {
        let block = self.block_of[at as usize];
        let callee = &self.module.functions[number];
        if let Role::Range(routine) = callee.role {
            let [to, from, length] =
                [0, 1, 2].map(|argument| self.register(state, ARGUMENTS[argument]));
            self.shown(Rule::DirectCall);
            if !self.is_at_most(length, RANGE_MAX, block) {
                let what = "a length that is not bounded".to_owned();
                let offset = self.code.offset_of(at);
                self.outcome.unshown.push(crate::report::Unshown { offset, what });
                return;
            }
            self.check_range(block, at, to, length, routine != RangeRoutine::Compare);
            if routine != RangeRoutine::Fill {
                self.check_range(block, at, from, length, false);
            }
            return;
        }
        if let Role::Entry { .. } = callee.role {
            return self.problem(at, "a call of an entry thunk");
        }
        if self.summaries[number].incoming > room {
            return self.problem(at, "a call whose arguments are not in the frame");
        }
        self.give(state, at, number, false);
        self.shown(Rule::DirectCall);
    }

    /// Gives a function of the object its arguments, at a call or where it is jumped to
    /// (`leaving`).
    pub(crate) fn give(&mut self, state: &mut State, at: u32, number: usize, leaving: bool) {
        let block = self.block_of[at as usize];
        let gifts = self.gifts(state, block, number, leaving);
        match self.outcome.gifts.get_mut(&number) {
            Some(known) => *known = summary::common(known, &gifts),
            None => _ = self.outcome.gifts.insert(number, gifts),
        }
    }

    /// What a function of the object is given at a call, or where it is jumped to.
    fn gifts(&mut self, state: &mut State, block: BlockId, number: usize, leaving: bool) -> Gifts {
        let mut values = Vec::new();
        for register in ARGUMENTS {
            values.push((Spot::Register(register), self.register(state, register)));
        }
        let above = if leaving { RETURN_BYTES } else { 0 };
        let stack = self.register(state, STACK_POINTER).plus(above);
        let incoming = self.summaries[number].incoming.min(INCOMING_NAMED);
        let cells = self.module.convention(number).into_iter().flat_map(|own| &own.arguments);
        let cells = cells.filter(|spot| matches!(spot, Spot::Cell(_)));
        for spot in (0..incoming).step_by(8).map(Spot::Stack).chain(cells.copied()) {
            let key = match spot {
                Spot::Stack(at) => self.frame_offset(stack.plus(at)),
                Spot::Cell(number) => Some(argument_cell(OWN_CELLS, number)),
                _ => None,
            };
            values.extend(key.and_then(|key| word_at(state, key)).map(|value| (spot, value)));
        }
        let mut gifts = Gifts::new();
        for (spot, value) in values {
            let given = match self.cells_are_given(state, number, spot, value, leaving) {
                true => Some(Given::Of(Kind::Cells)),
                false => self.gift(state, block, number, value),
            };
            let curious = self.summaries[number].curious && matches!(spot, Spot::Register(_));
            let small = |this: &Self| this.small(value).filter(|_| curious).map(Given::Small);
            let given = given.or_else(|| small(self));
            gifts.extend(given.map(|given| (spot, given)));
        }
        gifts
    }

    /// Is this the address of cells for the results of a function of the object?
    fn cells_are_given(
        &mut self,
        state: &mut State,
        number: usize,
        spot: Spot,
        value: Value,
        leaving: bool,
    ) -> bool {
        let Some(convention) = self.module.convention(number) else { return false };
        let Summary { cells, incoming, .. } = self.summaries[number];
        convention.results_at.map(Spot::Register) == Some(spot)
            && self.has_cells(state, value, (cells, convention.rounded), incoming, leaving)
    }

    /// What a value is to a function that it is given to, if it is more than a number.
    fn gift(
        &mut self,
        state: &State,
        block: BlockId,
        number: usize,
        value: Value,
    ) -> Option<Given> {
        let descriptor = self.module.descriptor;
        let params = self.module.type_of(number).map(|ty| &descriptor.types[ty as usize].params);
        let references =
            || params.into_iter().flatten().filter(|code| contract::is_reference(**code));
        if value == Value::number(0) {
            return (params.is_none() || references().next().is_some()).then_some(Given::Null);
        }
        match self.arena.kind_of(value) {
            kind @ (Kind::Context
            | Kind::Builtins
            | Kind::Exceptions
            | Kind::Global(_)
            | Kind::MemoryBase(_)
            | Kind::MemoryBytes(_)
            | Kind::MemoryRecord(_)
            | Kind::TableLength(_)
            | Kind::TableRecord(_)
            | Kind::Tag(_)
            | Kind::TypeId(_)) => return Some(Given::Of(kind)),
            kind @ Kind::TableBase(_) => {
                let atom = self.arena.single(value)?;
                return self.is_fresh(state, atom).then_some(Given::Of(kind));
            }
            _ => {}
        }
        let kind = match self.reference_kind(value) {
            Kind::Number => return None,
            kind => kind,
        };
        // What comparisons tell, where that is asked for.
        for code in references() {
            let wanted = contract::kind_of_type(*code);
            if weaker(kind, wanted) != wanted && self.reference_fits(value, *code, block) {
                return Some(Given::Of(wanted));
            }
        }
        Some(Given::Of(kind))
    }

    /// Are references among the arguments what the type says, and is there room for results?
    /// `leaving` says that it is no call but a jump, above whose stack pointer there is a return
    /// address already, and below it nothing of this function any more.
    pub(crate) fn arguments_fit(
        &mut self,
        state: &mut State,
        block: BlockId,
        convention: &Convention,
        ty: u32,
        leaving: bool,
    ) -> bool {
        if let Some(register) = convention.results_at {
            let cells = self.register(state, register);
            let wanted = (convention.result_bytes, convention.rounded);
            if !self.has_cells(state, cells, wanted, convention.stack_bytes, leaving) {
                return false;
            }
        }
        let params = &self.module.descriptor.types[ty as usize].params;
        for (code, spot) in params.iter().zip(&convention.arguments) {
            if !contract::is_reference(*code) {
                continue;
            }
            let value = match *spot {
                Spot::Register(register) => Some(self.register(state, register)),
                Spot::Stack(offset) => {
                    let above = if leaving { RETURN_BYTES } else { 0 };
                    let sp = self.register(state, STACK_POINTER);
                    let key = self.frame_offset(sp.plus(above + offset));
                    key.and_then(|key| word_at(state, key))
                }
                Spot::Cell(number) => {
                    let context = self.register(state, convention.context);
                    let cells = self.cells_of(state, context);
                    cells.and_then(|cells| word_at(state, argument_cell(cells, number)))
                }
                Spot::Vector => None,
            };
            if !value.is_some_and(|value| self.reference_fits(value, *code, block)) {
                return false;
            }
        }
        true
    }

    /// Where the argument cells of a context are followed, if it is this function's or the one that
    /// such cells were last written of.
    fn cells_of(&self, state: &State, context: Value) -> Option<SlotKey> {
        match self.arena.kind_of(context) {
            Kind::Context => Some(OWN_CELLS),
            _ => state.slot(CALLEE).filter(|slot| slot.value == context).map(|_| CALLEE_CELLS),
        }
    }

    /// Is there room for so many bytes of a call's results at an address, which is rounded if they
    /// must be? The call has so many bytes of arguments on the stack.
    fn has_cells(
        &mut self,
        state: &mut State,
        cells: Value,
        (bytes, rounded): (i64, bool),
        stack_bytes: i64,
        leaving: bool,
    ) -> bool {
        if rounded && !self.is_rounded(cells, VECTOR_BYTES) {
            return false;
        }
        if let Some(key) = self.frame_offset(cells) {
            let sp = self.register(state, STACK_POINTER);
            let Some(sp) = self.frame_offset(sp) else { return false };
            let aligned = key > ALIGNED / 2;
            let (bottom, top) = match aligned {
                true => (sp + stack_bytes, ALIGNED),
                false => (state.aligned.unwrap_or(sp + stack_bytes), 0),
            };
            let inside = key >= bottom && key + bytes <= top;
            return !leaving && inside && aligned == state.aligned.is_some();
        }
        // Its own, handed on.
        let own = self.arena.kind_of(cells) == Kind::Cells && bytes <= self.cells_limit();
        if own {
            self.outcome.cells = self.outcome.cells.max(bytes);
        }
        own
    }

    fn check_builtin(&mut self, state: &mut State, at: u32, builtin: &contract::Builtin) {
        let block = self.block_of[at as usize];
        let context = self.register(state, ARGUMENTS[0]);
        if self.arena.kind_of(context) != Kind::Context {
            return self.problem(at, "a call of the runtime without the context");
        }
        let descriptor = self.module.descriptor;
        let (mut element, mut tags) = (None, Vec::new());
        for (wants, register) in builtin.wants.iter().zip(&ARGUMENTS[1..]) {
            let value = self.register(state, *register);
            // Numbers of things are of 32 bits.
            let number = self.arena.low(32, value).constant();
            let number = number.and_then(|number| u32::try_from(number).ok());
            let within = |count: usize| number.filter(|number| (*number as usize) < count);
            let fits = match wants {
                Wants::Any => true,
                Wants::Memory => within(descriptor.memories.len()).is_some(),
                Wants::Table => {
                    element = within(descriptor.tables.len())
                        .map(|table| descriptor.tables[table as usize]);
                    element.is_some()
                }
                Wants::SourceTable => within(descriptor.tables.len()).is_some_and(|table| {
                    element.is_some_and(|to| subtype(descriptor.tables[table as usize], to))
                }),
                Wants::Data => within(descriptor.data as usize).is_some(),
                Wants::Element => within(descriptor.elements.len()).is_some_and(|segment| {
                    element.is_none_or(|to| subtype(descriptor.elements[segment as usize], to))
                }),
                Wants::TableValue => {
                    element.is_some_and(|code| self.reference_fits(value, code, block))
                }
                Wants::Tag => {
                    tags = self.tags_at(value);
                    !tags.is_empty()
                }
                Wants::TagValues => {
                    tags.iter().all(|tag| number == Some(descriptor.tag_params(*tag).len() as u32))
                }
                Wants::Exception => {
                    self.reference_fits(value, val_type::EXNREF, block)
                        && self.is_not_null(value, block)
                }
            };
            if !fits {
                let what = format!("a call of the runtime with the wrong argument ({wants:?})");
                return self.problem(at, what.to_lowercase());
            }
        }
        self.shown(Rule::BuiltinCall);
    }
}

/// What is known of a word that is followed.
pub(crate) fn word_at(state: &State, key: SlotKey) -> Option<Value> {
    state.slot(key).filter(|slot| slot.bytes == 8).map(|slot| slot.value)
}

/// May a reference of the first type stand where one of the second is wanted?
pub(crate) fn subtype(a: u32, b: u32) -> bool {
    let null = a & val_type::NON_NULL != 0 || b & val_type::NON_NULL == 0;
    let ty = val_type::function_type(b).is_none()
        || val_type::function_type(a) == val_type::function_type(b);
    val_type::kind(a) == val_type::kind(b) && null && ty
}
