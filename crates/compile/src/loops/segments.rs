//! Isomorphism of the segments of an unrolled loop body.
//!
//! Everything that has an effect or is handed on is compared backwards from there: what segment `i`
//! computes with what the first one does. Sums of counters have to lie `i` strides apart. A value
//! that is handed on from segment to segment is not known beforehand: what stands in its place is
//! written down when it is met, and has to be confirmed in the end.

use std::collections::{HashMap, HashSet};

use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::values::{
    AsValueRef, BasicValue, BasicValueEnum, InstructionOpcode, InstructionValue, IntValue,
};

use super::body::{Loop, Phi};
use crate::ir::walk::{callee, operands, value_of};

/// Comparisons of two values before the search is given up.
const WORK_MAX: u32 = 40_000;

/// A body of `k` segments that are alike.
pub(super) struct Segments<'l, 'ctx> {
    body: &'l Loop<'ctx>,
    pub(super) k: i64,
    /// What segment `i` hands on in place of a phi.
    handed: HashMap<(LLVMValueRef, i64), BasicValueEnum<'ctx>>,
    /// In the order they were written, to take them back.
    written: Vec<(LLVMValueRef, i64)>,
    /// Values of a segment and of the first one that were found alike.
    alike: HashSet<(LLVMValueRef, LLVMValueRef, i64)>,
    /// What of the first segment a value of the last one is alike to.
    firsts: HashMap<LLVMValueRef, BasicValueEnum<'ctx>>,
    work: u32,
}

impl<'l, 'ctx> Segments<'l, 'ctx> {
    pub(super) fn find(body: &'l Loop<'ctx>, k: i64) -> Option<Self> {
        let mut segments = Self {
            body,
            k,
            handed: HashMap::new(),
            written: Vec::new(),
            alike: HashSet::new(),
            firsts: HashMap::new(),
            work: WORK_MAX,
        };
        let carried: Vec<_> = body.phis.iter().filter(|phi| !body.counts(phi)).collect();
        for phi in &carried {
            segments.handed.insert((phi.phi.as_value_ref(), k - 1), phi.next);
        }
        let found = segments.effects_are_alike() && segments.carried_are_alike(&carried);
        found.then_some(segments)
    }

    /// What the first segment hands on in place of a phi.
    pub(super) fn first_next(&self, phi: &Phi<'ctx>) -> BasicValueEnum<'ctx> {
        self.handed[&(phi.phi.as_value_ref(), 0)]
    }

    /// What the first segment has where the last one has `value`.
    pub(super) fn first_of_last(
        &self,
        value: BasicValueEnum<'ctx>,
    ) -> Option<BasicValueEnum<'ctx>> {
        self.firsts.get(&value.as_value_ref()).copied()
    }

    fn in_a_segment(&self) -> usize {
        self.body.effects.len() / self.k as usize
    }

    fn effects_are_alike(&mut self) -> bool {
        let effects = &self.body.effects;
        let each = self.in_a_segment();
        (each..effects.len()).all(|index| {
            let (first, segment) = (effects[index % each], (index / each) as i64);
            same_access(effects[index], first, self.body.tbaa)
                && self.operands_are_alike(effects[index], first, segment)
        })
    }

    fn carried_are_alike(&mut self, carried: &[&Phi<'ctx>]) -> bool {
        carried.iter().all(|phi| self.knows_first(phi) || self.guess_first(phi))
            && carried.iter().all(|phi| self.confirm(phi))
    }

    fn knows_first(&self, phi: &Phi<'ctx>) -> bool {
        self.handed.contains_key(&(phi.phi.as_value_ref(), 0))
    }

    /// Tries each instruction that could be what the first segment hands on.
    fn guess_first(&mut self, phi: &Phi<'ctx>) -> bool {
        let Some(next) = phi.next.as_instruction_value() else { return false };
        let name = phi.phi.as_value_ref();
        for candidate in &self.body.instructions {
            if candidate.get_opcode() != next.get_opcode() || *candidate == next {
                continue;
            }
            let Some(candidate) = value_of(*candidate) else { continue };
            if candidate.get_type() != phi.next.get_type() {
                continue;
            }
            let mark = self.written.len();
            self.hand((name, 0), candidate);
            if self.confirm(phi) {
                return true;
            }
            self.take_back(mark);
        }
        false
    }

    /// Does each segment hand on in place of a phi what is alike to what the first one hands on?
    fn confirm(&mut self, phi: &Phi<'ctx>) -> bool {
        let name = phi.phi.as_value_ref();
        let Some(first) = self.handed.get(&(name, 0)).copied() else { return false };
        // Backwards: comparing a segment's value tells what the one before handed on.
        (1..self.k).rev().all(|segment| match self.handed.get(&(name, segment)).copied() {
            Some(value) => self.is_alike(value, first, segment),
            None => false,
        })
    }

    fn hand(&mut self, key: (LLVMValueRef, i64), value: BasicValueEnum<'ctx>) {
        self.handed.insert(key, value);
        self.written.push(key);
    }

    fn take_back(&mut self, mark: usize) {
        if self.written.len() == mark {
            return;
        }
        for key in self.written.drain(mark..) {
            self.handed.remove(&key);
        }
        // What was found alike may have relied on it.
        self.alike.clear();
        self.firsts.clear();
    }

    /// Is `value` for a segment what `first` is for the first one?
    fn is_alike(
        &mut self,
        value: BasicValueEnum<'ctx>,
        first: BasicValueEnum<'ctx>,
        segment: i64,
    ) -> bool {
        let Some(work) = self.work.checked_sub(1) else { return false };
        self.work = work;
        let key = (value.as_value_ref(), first.as_value_ref(), segment);
        if self.alike.contains(&key) {
            return true;
        }
        let alike = self.compare(value, first, segment);
        if alike {
            self.alike.insert(key);
            if segment == self.k - 1 {
                self.firsts.insert(value.as_value_ref(), first);
            }
        }
        alike
    }

    fn compare(
        &mut self,
        value: BasicValueEnum<'ctx>,
        first: BasicValueEnum<'ctx>,
        segment: i64,
    ) -> bool {
        if !self.body.contains(first) {
            return value == first;
        }
        if let (BasicValueEnum::IntValue(value), BasicValueEnum::IntValue(first)) = (value, first)
            && let Some(alike) = self.compare_sums(value, first, segment)
        {
            return alike;
        }
        let Some(a) = first.as_instruction_value() else { return false };
        if a.get_opcode() == InstructionOpcode::Phi {
            return self.compare_handed(value, a.as_value_ref(), segment);
        }
        match value.as_instruction_value() {
            Some(b) if self.body.contains(value) => {
                self.same_operation(b, a, segment) && self.operands_are_alike(b, a, segment)
            }
            _ => false,
        }
    }

    fn compare_sums(
        &self,
        value: IntValue<'ctx>,
        first: IntValue<'ctx>,
        segment: i64,
    ) -> Option<bool> {
        let (value, first) = (self.body.sum(value)?, self.body.sum(first)?);
        let stride = self.body.stride(&first, self.k);
        Some(value.is_beyond(&first, stride.wrapping_mul(segment.cast_unsigned())))
    }

    fn compare_handed(
        &mut self,
        value: BasicValueEnum<'ctx>,
        phi: LLVMValueRef,
        segment: i64,
    ) -> bool {
        match self.handed.get(&(phi, segment - 1)) {
            Some(known) => *known == value,
            None => {
                self.hand((phi, segment - 1), value);
                true
            }
        }
    }

    fn same_operation(
        &self,
        b: InstructionValue<'ctx>,
        a: InstructionValue<'ctx>,
        segment: i64,
    ) -> bool {
        if a.get_opcode() != b.get_opcode() || a.get_type() != b.get_type() {
            return false;
        }
        match a.get_opcode() {
            InstructionOpcode::Load => {
                let each = self.in_a_segment();
                let before = |load: InstructionValue<'ctx>| self.body.effects_before(load);
                before(a) <= each
                    && before(b) == before(a) + segment as usize * each
                    && same_access(b, a, self.body.tbaa)
            }
            InstructionOpcode::ICmp => a.get_icmp_predicate() == b.get_icmp_predicate(),
            InstructionOpcode::FCmp => a.get_fcmp_predicate() == b.get_fcmp_predicate(),
            InstructionOpcode::Call => callee(a) == callee(b),
            opcode => is_plain(opcode),
        }
    }

    fn operands_are_alike(
        &mut self,
        b: InstructionValue<'ctx>,
        a: InstructionValue<'ctx>,
        segment: i64,
    ) -> bool {
        let (of_a, of_b): (Vec<_>, Vec<_>) = (operands(a).collect(), operands(b).collect());
        if of_a.len() != of_b.len() {
            return false;
        }
        let mark = self.written.len();
        if of_b.iter().zip(&of_a).all(|(b, a)| self.is_alike(*b, *a, segment)) {
            return true;
        }
        self.take_back(mark);
        commutes(a.get_opcode())
            && self.is_alike(of_b[1], of_a[0], segment)
            && self.is_alike(of_b[0], of_a[1], segment)
    }
}

/// Do two loads or stores access as much in the same way?
fn same_access(b: InstructionValue<'_>, a: InstructionValue<'_>, tbaa: u32) -> bool {
    a.get_alignment() == b.get_alignment()
        && a.get_volatile() == b.get_volatile()
        && a.get_metadata(tbaa) == b.get_metadata(tbaa)
}

fn commutes(opcode: InstructionOpcode) -> bool {
    use InstructionOpcode as I;
    matches!(opcode, I::Add | I::Mul | I::And | I::Or | I::Xor | I::FAdd | I::FMul)
}

/// Instructions that their operands and type say all about.
fn is_plain(opcode: InstructionOpcode) -> bool {
    use InstructionOpcode as I;
    commutes(opcode)
        || matches!(
            opcode,
            I::Sub | I::Shl | I::LShr | I::AShr | I::FSub | I::FDiv | I::FNeg | I::Select
        )
        || matches!(
            opcode,
            I::ZExt | I::SExt | I::Trunc | I::BitCast | I::FPExt | I::FPTrunc | I::GetElementPtr
        )
        || matches!(opcode, I::SIToFP | I::UIToFP | I::FPToSI | I::FPToUI)
}
