//! Linear expressions: a constant plus multiples of opaque values, modulo a power of two.

use std::collections::BTreeMap;

use inkwell::builder::Builder;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::types::IntType;
use inkwell::values::{AsValueRef, InstructionOpcode, InstructionValue, IntValue};

use crate::error::CompileError;
use crate::ir::walk::{both, constant_operand};

/// Longer sums are not sums.
const TERMS_MAX: usize = 16;

/// How far values from before a loop are taken apart.
const DEPTH: u32 = 8;

/// A sum modulo 2^bits. Coefficients are kept as if they had 64 bits and compared with fewer.
#[derive(Clone, Debug)]
pub(super) struct Linear<'ctx> {
    terms: BTreeMap<LLVMValueRef, (IntValue<'ctx>, u64)>,
    constant: u64,
    ty: IntType<'ctx>,
}

impl<'ctx> Linear<'ctx> {
    fn constant(constant: u64, ty: IntType<'ctx>) -> Self {
        Self { terms: BTreeMap::new(), constant, ty }
    }

    fn bits(&self) -> u32 {
        self.ty.get_bit_width()
    }

    /// A value as itself.
    pub(super) fn term(value: IntValue<'ctx>) -> Self {
        let ty = value.get_type();
        if let Some(constant) = value.get_zero_extended_constant() {
            return Self::constant(constant, ty);
        }
        Self { terms: BTreeMap::from([(value.as_value_ref(), (value, 1))]), constant: 0, ty }
    }

    /// What an instruction computes, if that is a sum of what `of` says of its operands.
    pub(super) fn computed(
        instruction: InstructionValue<'ctx>,
        of: impl Fn(IntValue<'ctx>) -> Option<Self>,
    ) -> Option<Self> {
        let sum = match instruction.get_opcode() {
            InstructionOpcode::Add => {
                let (a, b) = both(instruction)?;
                of(a)?.plus(&of(b)?, 1)
            }
            InstructionOpcode::Sub => {
                let (a, b) = both(instruction)?;
                of(a)?.plus(&of(b)?, u64::MAX)
            }
            InstructionOpcode::Mul => {
                let (a, factor) = constant_operand(instruction)?;
                of(a)?.times(factor)
            }
            InstructionOpcode::Shl => {
                let (a, by) = constant_operand(instruction)?;
                let a = of(a)?;
                if by >= u64::from(a.bits()) {
                    return None;
                }
                a.times(1 << by)
            }
            _ => return None,
        };
        (sum.bits() <= 64 && sum.terms.len() <= TERMS_MAX).then_some(sum)
    }

    /// A value as the sum of whatever it is the sum of.
    pub(super) fn anywhere(value: IntValue<'ctx>) -> Self {
        Self::at_depth(value, DEPTH)
    }

    fn at_depth(value: IntValue<'ctx>, depth: u32) -> Self {
        let sum = value.as_instruction().filter(|_| depth > 0).and_then(|instruction| {
            Self::computed(instruction, |value| Some(Self::at_depth(value, depth - 1)))
        });
        sum.unwrap_or_else(|| Self::term(value))
    }

    /// The sum plus `factor` times another.
    pub(super) fn plus(mut self, other: &Self, factor: u64) -> Self {
        self.constant = self.constant.wrapping_add(other.constant.wrapping_mul(factor));
        for (term, (value, coefficient)) in &other.terms {
            let sum = &mut self.terms.entry(*term).or_insert((*value, 0)).1;
            *sum = sum.wrapping_add(coefficient.wrapping_mul(factor));
        }
        self
    }

    fn times(self, factor: u64) -> Self {
        Self::constant(0, self.ty).plus(&self, factor)
    }

    fn reduced(&self, number: u64) -> u64 {
        number & (u64::MAX >> (64 - self.bits()))
    }

    /// The sum, if it is a constant.
    pub(super) fn as_constant(&self) -> Option<u64> {
        let constant = self.terms.values().all(|(_, factor)| self.reduced(*factor) == 0);
        constant.then(|| self.reduced(self.constant))
    }

    /// Is this `distance` more than `other`?
    pub(super) fn is_beyond(&self, other: &Self, distance: u64) -> bool {
        self.ty == other.ty
            && self.clone().plus(other, u64::MAX).as_constant() == Some(self.reduced(distance))
    }

    /// By what constant this is more than a value.
    pub(super) fn beyond(&self, value: IntValue<'ctx>) -> Option<i64> {
        let constant = self.clone().plus(&Self::term(value), u64::MAX).as_constant()?;
        let unused = 64 - self.bits();
        Some((constant << unused).cast_signed() >> unused)
    }

    /// Is a value one of the terms?
    pub(super) fn contains(&self, term: LLVMValueRef) -> bool {
        self.terms.contains_key(&term)
    }

    /// By how much the sum changes when each term changes by what `step` says.
    pub(super) fn change(&self, step: impl Fn(LLVMValueRef) -> i64) -> i64 {
        let change = |(term, (_, factor)): (&LLVMValueRef, &(IntValue<'ctx>, u64))| {
            factor.cast_signed().wrapping_mul(step(*term))
        };
        self.terms.iter().map(change).fold(0, i64::wrapping_add)
    }

    /// The same sum of other terms.
    pub(super) fn replace(&self, by: impl Fn(IntValue<'ctx>) -> Self) -> Self {
        let start = Self::constant(self.constant, self.ty);
        self.terms.values().fold(start, |sum, (value, factor)| sum.plus(&by(*value), *factor))
    }

    /// Computes the sum.
    pub(super) fn build(&self, b: &Builder<'ctx>) -> Result<IntValue<'ctx>, CompileError> {
        let ty = self.ty;
        let mut sum = ty.const_int(self.reduced(self.constant), false);
        for (value, factor) in self.terms.values() {
            let factor = ty.const_int(self.reduced(*factor), false);
            sum = b.build_int_add(sum, b.build_int_mul(*value, factor, "")?, "")?;
        }
        Ok(sum)
    }

    /// How many of the lowest bits are surely zero; `of` tells it of a term.
    pub(super) fn trailing_zeros(&self, of: impl Fn(IntValue<'ctx>) -> u32) -> u32 {
        let terms = self.terms.values().filter(|(_, factor)| self.reduced(*factor) != 0);
        let terms = terms.map(|(value, factor)| of(*value) + factor.trailing_zeros());
        terms.fold(self.constant.trailing_zeros(), u32::min)
    }
}
