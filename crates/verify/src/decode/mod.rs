//! From bytes of code to neutral operations: one decoder for each processor.

pub(crate) mod x86_64;
mod x86_64_vector;

use crate::op::Op;

/// An instruction: where it begins and where its operations do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    /// Bytes from the function's start.
    pub at: u32,
    /// Its first operation.
    pub op: u32,
}

/// A function's instructions, in the order in which they lie.
#[derive(Debug, Default)]
pub(crate) struct Code {
    /// The instructions.
    pub instructions: Vec<Instruction>,
    /// The operations of all of them.
    pub ops: Vec<Op>,
    /// Bytes of code.
    pub bytes: u32,
}

impl Code {
    /// The instruction that an operation belongs to.
    pub(crate) fn instruction_of(&self, op: u32) -> usize {
        self.instructions.partition_point(|instruction| instruction.op <= op).saturating_sub(1)
    }

    /// Where that instruction begins, from the function's start.
    pub(crate) fn offset_of(&self, op: u32) -> u32 {
        self.instructions.get(self.instruction_of(op)).map_or(0, |instruction| instruction.at)
    }

    /// The instruction that begins so many bytes from the function's start.
    pub(crate) fn instruction_at(&self, offset: u32) -> Option<usize> {
        self.instructions.binary_search_by_key(&offset, |instruction| instruction.at).ok()
    }

    /// The operations of an instruction.
    pub(crate) fn ops_of(&self, instruction: usize) -> std::ops::Range<usize> {
        let end = self.instructions.get(instruction + 1).map_or(self.ops.len(), |i| i.op as usize);
        self.instructions[instruction].op as usize..end
    }
}

/// Why code could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undecodable {
    /// Bytes from the function's start.
    pub at: u32,
    /// What is there.
    pub what: String,
}
