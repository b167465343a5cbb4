//! Value numbering: values that are computed alike have the same number.
//!
//! LLVM finds out that two values are the same in more ways than are followed here: by order of
//! operands, by constants that add up, and through memory, whatever was stored in between. Numbers
//! that are equal too often do no harm where they are used: to find what LLVM might leave out.

use std::collections::{HashMap, HashSet};

use inkwell::basic_block::BasicBlock;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::values::{
    AsValueRef, BasicValue, BasicValueEnum, InstructionOpcode, InstructionValue,
};

use crate::ir::walk::operands;

/// Values that a value is computed from; one with more counts as one that varies.
const PARTS_MAX: usize = 512;

/// Bytes at a constant distance from something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) root: u32,
    pub(crate) distance: i64,
    pub(crate) len: i64,
}

impl Place {
    pub(crate) fn bytes(self) -> impl Iterator<Item = (u32, i64)> {
        (0..self.len).map(move |byte| (self.root, self.distance.wrapping_add(byte)))
    }
}

/// A value as a constant beyond another.
type Sum = (u32, i64);

/// The value numbering of a function.
#[derive(Default)]
pub(crate) struct Numbers {
    numbers: HashMap<LLVMValueRef, u32>,
    alike: HashMap<(InstructionOpcode, Vec<u32>), u32>,
    /// Of each number: the numbers of its operands.
    made_of: Vec<Vec<u32>>,
    /// Of each number: where it was loaded from, what a pointer points to, and what an integer adds
    /// up to.
    loaded: HashMap<u32, Sum>,
    sums: HashMap<u32, Sum>,
    /// Numbers of phis.
    joins: HashSet<u32>,
}

impl Numbers {
    /// Numbers the values of the function that consists of `blocks`.
    pub(crate) fn of_function(blocks: &[BasicBlock<'_>]) -> Self {
        let mut numbers = Self::default();
        for instruction in blocks.iter().flat_map(|block| block.get_instructions()) {
            numbers.enter(instruction);
        }
        numbers
    }

    /// Gives an instruction its number; what it uses has one if it comes first.
    fn enter(&mut self, instruction: InstructionValue<'_>) {
        use InstructionOpcode as Op;
        let opcode = instruction.get_opcode();
        let name = instruction.as_value_ref();
        if opcode == Op::Phi {
            let number = self.of(name);
            self.joins.insert(number);
            return;
        }
        let values: Vec<_> = operands(instruction).collect();
        let made: Vec<u32> = values.iter().map(|value| self.of(value.as_value_ref())).collect();
        let mut parts = made.clone();
        let constant = |value: &BasicValueEnum<'_>| match value {
            BasicValueEnum::IntValue(value) => value.get_sign_extended_constant(),
            _ => None,
        };
        let sum = match (opcode, &values[..]) {
            (Op::Add, [a, b]) => match (constant(a), constant(b)) {
                (_, Some(by)) => Some(self.beyond(parts[0], by)),
                (Some(by), _) => Some(self.beyond(parts[1], by)),
                _ => None,
            },
            (Op::Sub, [_, by]) => constant(by).map(|by| self.beyond(parts[0], by.wrapping_neg())),
            (Op::GetElementPtr, [_, by]) => {
                let (base, distance) = self.beyond(parts[0], 0);
                Some(match constant(by) {
                    Some(by) => (base, distance.wrapping_add(by)),
                    None => {
                        let (index, by) = self.beyond(parts[1], 0);
                        let root = self.number_alike(opcode, vec![base, index]);
                        (root, distance.wrapping_add(by))
                    }
                })
            }
            // Without a look at whether it wraps.
            (Op::ZExt, [_]) if self.sums.contains_key(&parts[0]) => {
                let (root, by) = self.beyond(parts[0], 0);
                Some((self.number_alike(opcode, vec![root]), by))
            }
            _ => None,
        };
        match opcode {
            Op::Load => parts = key(self.beyond(parts[0], 0)),
            Op::Add | Op::Mul | Op::And | Op::Or | Op::Xor => parts.sort_unstable(),
            _ => {}
        }
        if let Some(sum) = sum {
            parts = key(sum);
        }
        let number = if is_function_of_operands(opcode) {
            let number = self.number_alike(opcode, parts);
            // A use that came first has numbered it already.
            *self.numbers.entry(name).or_insert(number)
        } else {
            self.of(name)
        };
        self.made_of[number as usize] = made;
        if let Some(sum) = sum {
            self.sums.insert(number, sum);
        }
        if let (Op::Load, [pointer]) = (opcode, &values[..]) {
            let place = self.find(*pointer);
            self.loaded.insert(number, place);
        }
    }

    fn number_alike(&mut self, opcode: InstructionOpcode, parts: Vec<u32>) -> u32 {
        let count = self.made_of.len() as u32;
        let number = *self.alike.entry((opcode, parts.clone())).or_insert(count);
        if number == count {
            self.made_of.push(parts);
        }
        number
    }

    /// The sum of a value and a constant.
    fn beyond(&self, number: u32, by: i64) -> Sum {
        let (root, distance) = self.sums.get(&number).copied().unwrap_or((number, 0));
        (root, distance.wrapping_add(by))
    }

    /// The number of an instruction, or of what one other than a phi computes with.
    pub(crate) fn get(&self, value: impl AsValueRef) -> u32 {
        self.numbers[&value.as_value_ref()]
    }

    fn of(&mut self, value: LLVMValueRef) -> u32 {
        let count = self.made_of.len() as u32;
        let number = *self.numbers.entry(value).or_insert(count);
        if number == count {
            self.made_of.push(Vec::new());
        }
        number
    }

    /// What a pointer points to: something, and a distance from there.
    pub(crate) fn find(&self, pointer: BasicValueEnum<'_>) -> (u32, i64) {
        self.beyond(self.get(pointer), 0)
    }

    /// Is a value nothing but what lies at a place, perhaps narrowed or widened?
    pub(crate) fn is_copy_of(&self, value: BasicValueEnum<'_>, place: Place) -> bool {
        let mut value = value;
        loop {
            let number = self.get(value);
            if self.loaded.get(&number) == Some(&(place.root, place.distance)) {
                return true;
            }
            let Some(cast) = value.as_instruction_value().filter(|cast| is_cast(*cast)) else {
                return false;
            };
            let Some(operand) = operands(cast).next() else { return false };
            value = operand;
        }
    }

    /// Is what lies at a place part of a value?
    fn is_made_of(&self, value: BasicValueEnum<'_>, place: Place) -> bool {
        self.any_part(self.get(value), |places, part| {
            places.loaded.get(&part) == Some(&(place.root, place.distance))
        })
    }

    /// Does a store in a loop go to the same place each time? Not if it adds to what lies there.
    pub(crate) fn is_repeated(&self, value: BasicValueEnum<'_>, place: Place) -> bool {
        let varies =
            |places: &Self, part| places.joins.contains(&part) || places.loaded.contains_key(&part);
        !self.any_part(place.root, varies) && !self.is_made_of(value, place)
    }

    /// Does `wanted` hold for a value or one that it is computed from?
    fn any_part(&self, number: u32, wanted: impl Fn(&Self, u32) -> bool) -> bool {
        let (mut pending, mut seen) = (vec![number], HashSet::from([number]));
        while let Some(number) = pending.pop() {
            if wanted(self, number) || seen.len() > PARTS_MAX {
                return true;
            }
            pending.extend(self.made_of[number as usize].iter().filter(|part| seen.insert(**part)));
        }
        false
    }
}

/// What stands for a sum among the numbers that something is computed from.
fn key((root, distance): Sum) -> Vec<u32> {
    vec![root, distance as u32, (distance >> 32) as u32]
}

/// Does an instruction compute the same whenever its operands are the same?
fn is_function_of_operands(opcode: InstructionOpcode) -> bool {
    use InstructionOpcode as Op;
    matches!(
        opcode,
        Op::Add
            | Op::Sub
            | Op::Mul
            | Op::And
            | Op::Or
            | Op::Xor
            | Op::Shl
            | Op::LShr
            | Op::AShr
            | Op::ZExt
            | Op::SExt
            | Op::Trunc
            | Op::BitCast
            | Op::GetElementPtr
            | Op::Load
            | Op::FAdd
            | Op::FSub
            | Op::FMul
            | Op::FDiv
            | Op::FNeg
            | Op::FPExt
            | Op::FPTrunc
            | Op::SIToFP
            | Op::UIToFP
    )
}

fn is_cast(instruction: InstructionValue<'_>) -> bool {
    matches!(
        instruction.get_opcode(),
        InstructionOpcode::Trunc
            | InstructionOpcode::ZExt
            | InstructionOpcode::SExt
            | InstructionOpcode::BitCast
    )
}
