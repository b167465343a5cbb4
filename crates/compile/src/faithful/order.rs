//! The order of loads and what follows them: a load that may fault is not delayed past a trap.
//!
//! To LLVM a load may happen late, or only on the path that needs its value, or not at all. Under
//! guard isolation a guest can tell: another trap comes first, or none. So a guest's load whose
//! value has not surely been put to use when the next trap, call, return or block is due is fed to
//! an empty piece of assembly, in front of which it has to happen. To be put to use means: stored,
//! passed on, returned, or part of an address, by way of nothing that LLVM could fold
//! ([`demand`](super::demand)). Stores that LLVM may leave out do not count
//! ([`stores`](super::stores)), nor do branches, whose ways may turn out to be the same.
//!
//! In a loop of one block, what one iteration adds to for the next one counts as used, and is fed
//! to such a piece of assembly behind the loop. So loops that LLVM could vectorise stay as they
//! are, unless they load what they do not need.

use std::collections::{HashMap, HashSet};

use inkwell::basic_block::BasicBlock;
use inkwell::context::Context;
use inkwell::llvm_sys::prelude::{LLVMBasicBlockRef, LLVMValueRef};
use inkwell::values::{
    AsValueRef, BasicValueEnum, FunctionValue, InstructionOpcode, InstructionValue, PhiValue,
};

use super::demand::Demand;
use super::stores::doubtful_stores;
use super::value_numbers::Numbers;
use crate::error::CompileError;
use crate::ir::alias::LinearLoads;
use crate::ir::branch::Branch;
use crate::ir::consume::{consume, consume_behind};
use crate::ir::walk::{callee, ends_in_trap, has_effect, is_defined, successors};
use crate::target::Processor;

/// Keeps the loads of one function in order.
pub(crate) fn keep_order<'ctx>(
    context: &'ctx Context,
    function: FunctionValue<'ctx>,
    linear: LinearLoads<'ctx>,
    processor: &Processor,
) -> Result<(), CompileError> {
    let blocks: Vec<_> = function.get_basic_block_iter().collect();
    let numbers = Numbers::of_function(&blocks);
    let doubtful = doubtful_stores(&blocks, &in_silent_loop(&blocks), &numbers);
    let returning = returning(&blocks);
    let mut found = Vec::new();
    for block in &blocks {
        let late = unsettled(*block, &doubtful, &numbers, &returning, linear);
        found.push((late, accumulated(*block, &numbers, linear).collect::<Vec<_>>()));
    }
    for (block, (late, sums)) in blocks.iter().zip(found) {
        for load in late {
            consume(context, load, processor)?;
        }
        // LLVM leaves out a sum that nobody looks at.
        consume_behind(context, *block, &sums, processor)?;
    }
    Ok(())
}

/// Loads of a block whose value has no certain use before the next effect.
fn unsettled<'ctx>(
    block: BasicBlock<'ctx>,
    doubtful: &HashSet<LLVMValueRef>,
    numbers: &Numbers,
    returning: &HashSet<LLVMBasicBlockRef>,
    linear: LinearLoads<'ctx>,
) -> Vec<InstructionValue<'ctx>> {
    // If the other way traps, too, LLVM may find that both are the same.
    let decides_on_trap = |instruction| {
        successors(instruction).any(ends_in_trap)
            && successors(instruction).any(|next| returning.contains(&next.as_mut_ptr()))
    };
    let mut demand = Demand::new(numbers);
    let (mut pending, mut late) = (Vec::new(), Vec::new());
    for instruction in block.get_instructions() {
        if linear.is_read_by(instruction) {
            pending.push(instruction);
        }
        match instruction.get_opcode() {
            _ if !has_effect(instruction) => continue,
            InstructionOpcode::Store => {
                if !doubtful.contains(&instruction.as_value_ref()) {
                    demand.operands_of(instruction);
                }
                continue;
            }
            // A function of the module may ignore what it is given, and LLVM finds out.
            InstructionOpcode::Call if callee(instruction).is_some_and(is_defined) => {}
            InstructionOpcode::Return | InstructionOpcode::Call => demand.operands_of(instruction),
            _ if decides_on_trap(instruction) => demand.operands_of(instruction),
            _ if successors(instruction).any(|next| next == block) => {
                demand.operands_of(instruction);
                accumulated(block, numbers, linear).for_each(|value| demand.value(value));
            }
            _ => {}
        }
        // The later one settles what its address is made of.
        while let Some(load) = pending.pop() {
            if !demand.settles(load) {
                demand.operands_of(load);
                late.push(load);
            }
        }
    }
    late
}

/// What a loop of one block adds loads to in each iteration: all that was added matters in the end.
fn accumulated<'ctx>(
    block: BasicBlock<'ctx>,
    numbers: &Numbers,
    linear: LinearLoads<'ctx>,
) -> impl Iterator<Item = BasicValueEnum<'ctx>> {
    let loops = Branch::at_the_end_of(block).is_some_and(|branch| branch.repeats(block));
    let phis =
        block.get_instructions().map_while(|instruction| PhiValue::try_from(instruction).ok());
    phis.filter(move |_| loops).filter_map(move |phi| {
        let (next, _) = phi.get_incomings().find(|(_, from)| *from == block)?;
        let mut demand = Demand::new(numbers);
        demand.value(next);
        let mut instructions = block.get_instructions();
        let adds = demand.settles(phi.as_instruction())
            && instructions.any(|it| linear.is_read_by(it) && demand.settles(it));
        adds.then_some(next)
    })
}

/// The blocks from which the function may come to its end.
fn returning(blocks: &[BasicBlock<'_>]) -> HashSet<LLVMBasicBlockRef> {
    let mut before: HashMap<LLVMBasicBlockRef, Vec<LLVMBasicBlockRef>> = HashMap::new();
    let mut pending = Vec::new();
    for block in blocks {
        let Some(last) = block.get_terminator() else { continue };
        if last.get_opcode() == InstructionOpcode::Return {
            pending.push(block.as_mut_ptr());
        }
        for next in successors(last) {
            before.entry(next.as_mut_ptr()).or_default().push(block.as_mut_ptr());
        }
    }
    let mut returning: HashSet<_> = pending.iter().copied().collect();
    while let Some(block) = pending.pop() {
        for earlier in before.get(&block).into_iter().flatten() {
            if returning.insert(*earlier) {
                pending.push(*earlier);
            }
        }
    }
    returning
}

/// For each block: is it in a loop, and does the innermost one around it neither call nor trap?
fn in_silent_loop(blocks: &[BasicBlock<'_>]) -> Vec<bool> {
    let numbers: HashMap<_, _> =
        blocks.iter().enumerate().map(|(number, block)| (block.as_mut_ptr(), number)).collect();
    let mut edges = Vec::new();
    for block in blocks {
        let next = block.get_terminator().into_iter().flat_map(successors);
        edges.push(next.map(|next| numbers[&next.as_mut_ptr()]).collect::<Vec<_>>());
    }
    let telling: Vec<bool> = blocks.iter().map(|block| tells_anything(*block)).collect();
    let mut silent = vec![false; blocks.len()];
    for _ in 0..LOOP_DEPTH {
        let mut outer = Vec::new();
        for component in loops(&edges) {
            let tells = component.iter().any(|block| telling[*block]);
            component.iter().for_each(|block| silent[*block] = !tells);
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
    silent
}

/// Could the guest's observer tell by this block that a load before it has not happened?
fn tells_anything(block: BasicBlock<'_>) -> bool {
    let tells = |instruction: InstructionValue<'_>| match instruction.get_opcode() {
        InstructionOpcode::Call => has_effect(instruction),
        _ => instruction.is_terminator() && successors(instruction).any(ends_in_trap),
    };
    block.get_instructions().any(tells)
}

/// Loops in loops that are told apart; what is deeper counts as part of its outer loop.
const LOOP_DEPTH: usize = 12;

/// The components of a graph that control can go round in. Source: Tarjan: Depth-first search and
/// linear graph algorithms (1972).
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
