//! Keeps a load ahead of what comes after it.
//!
//! To LLVM a load may happen late, or only on the path that needs its value. Under guard isolation a
//! guest can tell: another trap comes first, or a call that should never have been made is made. So
//! a guest's load whose value has not been put to use when the next trap, call or return is due is
//! fed to an empty piece of assembly, in front of which it has to happen. To be put to use means:
//! stored, passed on, returned, or part of an address, by way of nothing that LLVM could fold.
//!
//! In an innermost loop without calls and traps a load may wait for a later block, because an obstacle would
//! end vectorisation. [`keep`](crate::keep) sees to it that such a load does not vanish altogether.

use std::collections::{HashMap, HashSet};

use inkwell::basic_block::BasicBlock;
use inkwell::context::Context;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::values::{AsValueRef, BasicValue, FunctionValue, InstructionOpcode, InstructionValue};

use crate::error::CompileError;
use crate::keep::{Linear, consume, has_effect, operands};
use crate::target::Processor;

/// Keeps the loads of one function in order.
pub(crate) fn keep_order<'ctx>(
    context: &'ctx Context,
    function: FunctionValue<'ctx>,
    linear: Linear<'ctx>,
    processor: &Processor,
) -> Result<(), CompileError> {
    let blocks: Vec<_> = function.get_basic_block_iter().collect();
    for (block, may_wait) in blocks.iter().zip(may_wait(&blocks)) {
        for load in unsettled(*block, may_wait, linear) {
            consume(context, load, processor)?;
        }
    }
    Ok(())
}

/// Loads of a block whose value is not put to use in time.
fn unsettled<'ctx>(
    block: BasicBlock<'ctx>,
    may_wait: bool,
    linear: Linear<'ctx>,
) -> Vec<InstructionValue<'ctx>> {
    let mut settled = HashSet::new();
    let (mut pending, mut late) = (Vec::new(), Vec::new());
    for instruction in block.get_instructions() {
        if linear.is_read_by(instruction) {
            pending.push(instruction);
        }
        if !has_effect(instruction) {
            continue;
        }
        settle(instruction, &mut settled);
        if tells(instruction, may_wait) {
            // The later one settles what its address is made of.
            while let Some(load) = pending.pop() {
                if !settled.contains(&load.as_value_ref()) {
                    settle(load, &mut settled);
                    late.push(load);
                }
            }
        }
    }
    late
}

/// Could the guest's observer tell by this instruction that a load before it has not happened?
fn tells(instruction: InstructionValue<'_>, may_wait: bool) -> bool {
    match instruction.get_opcode() {
        InstructionOpcode::Store => false,
        InstructionOpcode::Call => true,
        _ if !may_wait => true,
        _ => successors(instruction).any(ends_in_trap),
    }
}

/// Is a block, or the one behind an empty block, for a call that does not return?
fn ends_in_trap(block: BasicBlock<'_>) -> bool {
    let traps = |block: BasicBlock<'_>| {
        let last = block.get_terminator();
        last.is_some_and(|last| last.get_opcode() == InstructionOpcode::Unreachable)
    };
    let first = block.get_first_instruction();
    traps(block) || first.is_some_and(|first| first.is_terminator() && successors(first).all(traps))
}

fn successors(terminator: InstructionValue<'_>) -> impl Iterator<Item = BasicBlock<'_>> {
    (0..terminator.get_num_operands())
        .filter_map(move |index| terminator.get_operand(index)?.block())
}

/// Marks everything that surely has to be computed for `user`.
fn settle<'ctx>(user: InstructionValue<'ctx>, settled: &mut HashSet<LLVMValueRef>) {
    let mut pending = vec![user];
    while let Some(user) = pending.pop() {
        for operand in operands(user).filter_map(|operand| operand.as_instruction_value()) {
            if settled.insert(operand.as_value_ref()) && passes_on(operand) {
                pending.push(operand);
            }
        }
    }
}

/// Does a value depend on its operands whatever these are?
fn passes_on(instruction: InstructionValue<'_>) -> bool {
    matches!(
        instruction.get_opcode(),
        InstructionOpcode::Load
            | InstructionOpcode::GetElementPtr
            | InstructionOpcode::ZExt
            | InstructionOpcode::SExt
            | InstructionOpcode::BitCast
            | InstructionOpcode::SIToFP
            | InstructionOpcode::UIToFP
            | InstructionOpcode::FPExt
            | InstructionOpcode::FNeg
            | InstructionOpcode::FAdd
            | InstructionOpcode::FSub
            | InstructionOpcode::FMul
            | InstructionOpcode::FDiv
    )
}

/// For each block: is it in a loop, and does the innermost one around it neither call nor trap? There a load may
/// wait for a later block.
fn may_wait(blocks: &[BasicBlock<'_>]) -> Vec<bool> {
    let numbers: HashMap<_, _> =
        blocks.iter().enumerate().map(|(number, block)| (block.as_mut_ptr(), number)).collect();
    let mut edges = Vec::new();
    for block in blocks {
        let next = block.get_terminator().into_iter().flat_map(successors);
        edges.push(next.map(|next| numbers[&next.as_mut_ptr()]).collect::<Vec<_>>());
    }
    let telling: Vec<bool> = blocks.iter().map(|block| tells_anything(*block)).collect();
    let mut may_wait = vec![false; blocks.len()];
    for _ in 0..LOOP_DEPTH {
        let mut outer = Vec::new();
        for component in loops(&edges) {
            let tells = component.iter().any(|block| telling[*block]);
            component.iter().for_each(|block| may_wait[*block] = !tells);
            if tells {
                outer.push(component);
            }
        }
        if outer.is_empty() {
            break;
        }
        // Without the way back to its first block, what is left of a loop are the loops in it.
        for component in outer {
            let first = component.iter().copied().min().expect("a loop has a block");
            component.iter().for_each(|block| edges[*block].retain(|next| *next != first));
        }
    }
    may_wait
}

fn tells_anything(block: BasicBlock<'_>) -> bool {
    let effects = block.get_instructions().filter(|instruction| has_effect(*instruction));
    effects.into_iter().any(|instruction| tells(instruction, true))
}

/// Loops in loops that are told apart; what is deeper counts as part of its outer loop.
const LOOP_DEPTH: usize = 12;

/// The components of a graph that control can go round in. Source: Tarjan: Depth-first search and linear graph
/// algorithms (1972).
fn loops(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const NEW: usize = usize::MAX;
    let mut loops = Vec::new();
    let (mut order, mut low) = (vec![NEW; edges.len()], vec![NEW; edges.len()]);
    let (mut open, mut is_open) = (Vec::new(), vec![false; edges.len()]);
    let mut count = 0;
    for root in 0..edges.len() {
        let mut path = if order[root] == NEW { vec![(root, 0)] } else { Vec::new() };
        while let Some((block, edge)) = path.last_mut() {
            let block = *block;
            if *edge == 0 {
                (order[block], low[block]) = (count, count);
                count += 1;
                open.push(block);
                is_open[block] = true;
            }
            if let Some(&next) = edges[block].get(*edge) {
                *edge += 1;
                if order[next] == NEW {
                    path.push((next, 0));
                } else if is_open[next] {
                    low[block] = low[block].min(order[next]);
                }
                continue;
            }
            path.pop();
            if let Some((above, _)) = path.last() {
                low[*above] = low[*above].min(low[block]);
            }
            if low[block] == order[block] {
                let first = open.iter().rposition(|other| *other == block).expect("it is open");
                let component = open.split_off(first);
                component.iter().for_each(|member| is_open[*member] = false);
                if component.len() > 1 || edges[block].contains(&block) {
                    loops.push(component);
                }
            }
        }
    }
    loops
}
