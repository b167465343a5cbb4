//! Dead stores: those that LLVM may eliminate, so that they prove no use of their value.
//!
//! LLVM drops a store that is overwritten on every path before a call or a return could see it, a
//! store of what lies at that place already, and all but the last one of those that a loop makes to
//! one place. Doubts are cheap and certainty is not, so what is found here is a little more than
//! that: places are equal if they are computed alike, whatever was stored in between.

use std::collections::{HashMap, HashSet};

use inkwell::basic_block::BasicBlock;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::types::BasicTypeEnum;
use inkwell::values::{AsValueRef, BasicValueEnum, InstructionOpcode, InstructionValue};

use super::value_numbers::{Numbers, Place};
use crate::ir::walk::{ends_in_trap, successors};
use crate::ir::walk::{has_effect, operands};

/// The doubtful stores among `blocks`, those of one function. `in_silent_loop` says of each block
/// whether it is in a loop that neither calls nor traps.
pub(crate) fn doubtful_stores(
    blocks: &[BasicBlock<'_>],
    in_silent_loop: &[bool],
    places: &Numbers,
) -> HashSet<LLVMValueRef> {
    let mut doubtful = HashSet::new();
    let mut events = Vec::new();
    for (block, in_silent_loop) in blocks.iter().zip(in_silent_loop) {
        let mut of_block = Vec::new();
        for instruction in block.get_instructions() {
            match instruction.get_opcode() {
                InstructionOpcode::Store => {
                    let store = Store::of(instruction, places);
                    if places.is_copy_of(store.value, store.place)
                        || (*in_silent_loop && places.is_repeated(store.value, store.place))
                    {
                        doubtful.insert(instruction.as_value_ref());
                    }
                    of_block.push(Event::Overwrites(instruction.as_value_ref(), store.place));
                }
                _ if has_effect(instruction) && !instruction.is_terminator() => {
                    of_block.push(Event::Looks);
                }
                _ => {}
            }
        }
        events.push(of_block);
    }
    if find_overwritten(blocks, &events, &mut doubtful).is_none() {
        doubtful.extend(events.iter().flatten().filter_map(|event| match event {
            Event::Overwrites(store, _) => Some(*store),
            Event::Looks => None,
        }));
    }
    doubtful
}

/// Bytes that are remembered as overwritten at a time, and rounds through a function until nothing
/// changes. Beyond that all stores are doubtful.
const BYTES_AHEAD_MAX: usize = 4096;
const ROUNDS_MAX: u32 = 64;
/// An event of a block for the analysis: a store, or a read of anything.
enum Event {
    Overwrites(LLVMValueRef, Place),
    /// Whatever was stored may be read.
    Looks,
}

/// Bytes that are overwritten on all paths from here; `None` is the top of the lattice.
type Ahead = Option<HashSet<(u32, i64)>>;

fn find_overwritten(
    blocks: &[BasicBlock<'_>],
    events: &[Vec<Event>],
    doubtful: &mut HashSet<LLVMValueRef>,
) -> Option<()> {
    let numbers: HashMap<_, _> =
        blocks.iter().enumerate().map(|(number, block)| (block.as_mut_ptr(), number)).collect();
    let next: Vec<Vec<usize>> = blocks
        .iter()
        .map(|block| block.get_terminator().into_iter().flat_map(successors))
        // Nobody looks after a trap, as far as LLVM knows.
        .map(|next| next.filter(|next| !ends_in_trap(*next)))
        .map(|next| next.map(|next| numbers[&next.as_mut_ptr()]).collect())
        .collect();
    let mut ahead: Vec<Ahead> = vec![None; blocks.len()];
    let mut changed = true;
    let mut rounds = ROUNDS_MAX;
    while changed {
        changed = false;
        rounds = rounds.checked_sub(1)?;
        for number in (0..blocks.len()).rev() {
            let Some(mut bytes) = common(&next[number], &ahead) else { continue };
            for event in events[number].iter().rev() {
                match event {
                    Event::Overwrites(_, place) => bytes.extend(place.bytes()),
                    Event::Looks => bytes.clear(),
                }
            }
            if bytes.len() > BYTES_AHEAD_MAX {
                return None;
            }
            if ahead[number].as_ref().is_none_or(|old| old.len() != bytes.len()) {
                ahead[number] = Some(bytes);
                changed = true;
            }
        }
    }
    for number in 0..blocks.len() {
        let mut bytes = common(&next[number], &ahead).unwrap_or_default();
        for event in events[number].iter().rev() {
            match event {
                Event::Overwrites(store, place) => {
                    if place.len > 0 && place.bytes().all(|byte| bytes.contains(&byte)) {
                        doubtful.insert(*store);
                    }
                    bytes.extend(place.bytes());
                }
                Event::Looks => bytes.clear(),
            }
        }
    }
    Some(())
}

/// The meet over the successors; `None` while all of them are at the top.
fn common(next: &[usize], ahead: &[Ahead]) -> Ahead {
    if next.is_empty() {
        return Some(HashSet::new());
    }
    let mut known = next.iter().filter_map(|next| ahead[*next].as_ref());
    let mut bytes = known.next()?.clone();
    for other in known {
        bytes.retain(|byte| other.contains(byte));
    }
    Some(bytes)
}

struct Store<'ctx> {
    value: BasicValueEnum<'ctx>,
    place: Place,
}

impl<'ctx> Store<'ctx> {
    fn of(store: InstructionValue<'ctx>, places: &Numbers) -> Self {
        let mut operands = operands(store);
        let (value, pointer) = operands.next().zip(operands.next()).expect("a store has two");
        let (root, distance) = places.find(pointer);
        Self { value, place: Place { root, distance, len: bytes(value.get_type()) } }
    }
}

/// Bytes that a value takes; 0 for what is never stored.
fn bytes(ty: BasicTypeEnum<'_>) -> i64 {
    match ty {
        BasicTypeEnum::IntType(ty) => i64::from(ty.get_bit_width() / 8),
        BasicTypeEnum::FloatType(ty) => i64::from(ty.get_bit_width() / 8),
        BasicTypeEnum::VectorType(ty) => bytes(ty.get_element_type()) * i64::from(ty.get_size()),
        BasicTypeEnum::PointerType(_) => 8,
        _ => 0,
    }
}
