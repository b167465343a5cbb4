//! Where a function is left: by a return, or by a jump to another that returns in its place.
//!
//! Isolation rests on this file: behind a return the caller goes on with the stack, the registers
//! and the references that it counts on.

use awsm_abi::tail::BYTES_POPPED;

use crate::call::word_at;
use crate::contract;
use crate::convention::{Convention, RESULTS, SAVED, STACK_POINTER, Spot};
use crate::function::Analysis;
use crate::module::Role;
use crate::report::Rule;
use crate::state::{PENDING, RESULT_CELLS, State};
use crate::summary::SMALL_MAX;
use crate::value::{Atom, Kind, Value};

impl Analysis<'_> {
    /// The frame is gone, and all that the caller counts on is there.
    fn check_exit(&mut self, state: &mut State, at: u32) -> bool {
        let sp = self.register(state, STACK_POINTER);
        if self.frame_offset(sp) != Some(0) {
            self.problem(at, "leaves with a stack pointer that is not the one at entry");
            return false;
        }
        let address = state.slot(0).map(|slot| self.arena.kind_of(slot.value));
        if address != Some(Kind::Return) {
            self.problem(at, "leaves with another return address");
            return false;
        }
        for register in SAVED {
            let value = self.register(state, register);
            let entry = self.arena.single(value).map(|atom| self.arena.atom(atom).atom);
            if entry != Some(Atom::Entry(register)) {
                self.problem(at, format!("leaves without restoring saved register {register}"));
                return false;
            }
        }
        true
    }

    pub(crate) fn check_return(&mut self, state: &mut State, at: u32, pops: u16) {
        if !self.check_exit(state, at) {
            return;
        }
        if u32::from(pops) != BYTES_POPPED {
            return self.problem(at, "a return that takes arguments off the stack");
        }
        self.outcome.returns = true;
        self.shown(Rule::Exit);
        self.check_results(state, at);
        let result = self.register(state, RESULTS[0]);
        let most = self.outcome.most.zip(self.small(result));
        self.outcome.most = most.map(|(a, b)| a.max(b));
    }

    /// What a value is never above, if that is a small number.
    pub(crate) fn small(&self, value: Value) -> Option<u32> {
        let range = self.arena.range(value);
        let most = u32::try_from(range.hi).ok()?;
        (range.lo >= 0 && most <= SMALL_MAX).then_some(most)
    }

    /// References among the results.
    fn check_results(&mut self, state: &mut State, at: u32) {
        let block = self.block_of[at as usize];
        let (Some(convention), Some(ty)) =
            (self.module.convention(self.number), self.module.type_of(self.number))
        else {
            return;
        };
        let codes = self.module.descriptor.types[ty as usize].results.clone();
        let convention = convention.clone();
        let pending = word_at(state, PENDING);
        for (number, code) in codes.into_iter().enumerate() {
            if !contract::is_reference(code) {
                continue;
            }
            let value =
                match (convention.results.get(number), convention.result_offsets.get(number)) {
                    (Some(Spot::Register(register)), _) => Some(self.register(state, *register)),
                    (_, Some(offset)) => word_at(state, RESULT_CELLS + offset),
                    _ => None,
                };
            let fits = value.is_some_and(|value| self.result_fits(value, code, pending, block));
            if !fits {
                self.results_do_not_fit(at, "a result that is no reference");
            }
        }
    }

    fn results_do_not_fit(&mut self, at: u32, what: &str) {
        self.outcome.typed_results = false;
        if self.module.functions[self.number].outside {
            self.problem(at, what);
        }
    }

    /// A jump to another function, which returns in this one's place.
    pub(crate) fn check_leaving(&mut self, state: &mut State, at: u32, to: u64) {
        let Some(number) = self.module.function_at(to) else {
            return self.problem(at, "a jump to where no function begins");
        };
        let callee = &self.module.functions[number];
        if matches!(callee.role, Role::Entry { .. } | Role::Range(_)) {
            return self.problem(at, "a jump to a routine that is only called");
        }
        let other = &self.summaries[number];
        if !self.check_exit(state, at) {
            return;
        }
        // Its arguments lie in place of this function's.
        if other.incoming > self.incoming_limit() {
            return self.problem(at, "a jump with more arguments than there is room for");
        }
        self.outcome.incoming = self.outcome.incoming.max(other.incoming);
        self.give(state, at, number, true);
        let module = self.module;
        let returns = module.type_of(number).zip(module.convention(number));
        self.check_same_results(at, returns.filter(|_| other.typed_results));
        self.outcome.returns |= other.returns;
        self.outcome.most = None;
        self.shown(Rule::Exit);
    }

    /// Does what returns in this function's place, of this type and in this convention, have its
    /// results?
    fn check_same_results(&mut self, at: u32, other: Option<(u32, &Convention)>) {
        let module = self.module;
        let types = |ty: u32| module.descriptor.types[ty as usize].results.as_slice();
        let (Some(own), Some(convention)) =
            (module.type_of(self.number).map(types), module.convention(self.number))
        else {
            return;
        };
        let same = other.is_some_and(|(ty, other)| {
            own == types(ty)
                && convention.results_at.is_some() == other.results_at.is_some()
                && convention.results == other.results
                && convention.result_offsets == other.result_offsets
        });
        if !same && own.iter().any(|code| contract::is_reference(*code)) {
            self.results_do_not_fit(at, "a jump to a function with other results");
        }
    }

    /// The same through a reference.
    pub(crate) fn check_leaving_by(&mut self, state: &mut State, at: u32, base: Value, tail: bool) {
        let block = self.block_of[at as usize];
        let Some(ty) = self.check_reference(at, base, block) else { return };
        if tail && !self.has_tail_code(base, block) {
            return self.problem(at, "a jump to code that there may not be");
        }
        if !self.check_exit(state, at) {
            return;
        }
        let module = self.module;
        let convention = module.by_reference(ty, tail);
        if convention.stack_bytes > self.incoming_limit() {
            return self.problem(at, "a jump with more arguments than there is room for");
        }
        self.outcome.incoming = self.outcome.incoming.max(convention.stack_bytes);
        let context = self.register(state, convention.context);
        if !self.is_context_of(context, base) {
            return self.problem(at, "a jump with the context of something else");
        }
        if !self.arguments_fit(state, block, convention, ty, true) {
            return self.problem(at, "a jump with an argument that is no reference");
        }
        self.check_same_results(at, Some((ty, convention)));
        self.outcome.returns = true;
        self.outcome.most = None;
        self.shown(Rule::Exit);
        self.shown(Rule::ReferenceCall);
    }
}
