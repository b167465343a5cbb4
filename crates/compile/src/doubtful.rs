//! Stores that LLVM may leave out, so that nothing says that what they store is ever computed.
//!
//! LLVM drops a store that is overwritten on every path before a call or a return could see it, a store of
//! what lies at that place already, and all but the last one of those that a loop makes to one place.
//! Doubts are cheap and certainty is not, so what is found here is a little more than that: places are
//! equal if they are computed alike, whatever was stored in between.

use std::collections::{HashMap, HashSet};

use inkwell::basic_block::BasicBlock;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::types::BasicTypeEnum;
use inkwell::values::{
    AsValueRef, BasicValue, BasicValueEnum, InstructionOpcode, InstructionValue,
};

use crate::keep::{has_effect, operands};
use crate::order::{ends_in_trap, successors};

/// The doubtful stores among `blocks`, those of one function. `in_silent_loop` says of each block whether it is in a
/// loop that neither calls nor traps.
pub(crate) fn doubtful_stores(
    blocks: &[BasicBlock<'_>],
    in_silent_loop: &[bool],
) -> HashSet<LLVMValueRef> {
    let mut doubtful = HashSet::new();
    let mut places = Places::default();
    let mut events = Vec::new();
    for (block, in_silent_loop) in blocks.iter().zip(in_silent_loop) {
        let mut of_block = Vec::new();
        for instruction in block.get_instructions() {
            places.number(instruction);
            match instruction.get_opcode() {
                InstructionOpcode::Store => {
                    let store = Store::of(instruction, &mut places);
                    if places.is_copy_of(store.value, store.place)
                        || (*in_silent_loop && places.is_repeated(&store))
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

/// Bytes that are remembered as overwritten at a time, and rounds through a function until nothing changes.
/// Beyond that all stores are doubtful.
const BYTES_AHEAD_MAX: usize = 4096;
const ROUNDS_MAX: u32 = 64;
/// Values that a value is computed from; one with more counts as one that varies.
const PARTS_MAX: usize = 512;

/// What a block does, as far as overwriting is concerned.
enum Event {
    Overwrites(LLVMValueRef, Place),
    /// Whatever was stored may be read.
    Looks,
}

/// Bytes that will be overwritten; of a place that nothing is known of yet, `None`: all.
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

/// What is overwritten whichever way is taken; `None` as long as nothing is known of any.
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

/// Bytes at a constant distance from something.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    root: u32,
    distance: i64,
    len: i64,
}

impl Place {
    fn bytes(self) -> impl Iterator<Item = (u32, i64)> {
        (0..self.len).map(move |byte| (self.root, self.distance.wrapping_add(byte)))
    }
}

struct Store<'ctx> {
    value: BasicValueEnum<'ctx>,
    place: Place,
}

impl<'ctx> Store<'ctx> {
    fn of(store: InstructionValue<'ctx>, places: &mut Places) -> Self {
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

/// Numbers for values; equal ones for what is computed alike.
#[derive(Default)]
struct Places {
    numbers: HashMap<LLVMValueRef, u32>,
    alike: HashMap<(InstructionOpcode, Vec<u32>), u32>,
    /// Of each number: the numbers that it is computed from.
    made_of: Vec<Vec<u32>>,
    /// Of each number: where it was loaded from, and what a pointer points to.
    loaded: HashMap<u32, (u32, i64)>,
    pointers: HashMap<u32, (u32, i64)>,
    /// Joins of paths, as in loops.
    joins: HashSet<u32>,
}

impl Places {
    /// Gives an instruction its number; what it uses has one if it comes first.
    fn number(&mut self, instruction: InstructionValue<'_>) {
        use InstructionOpcode as Op;
        let opcode = instruction.get_opcode();
        let name = instruction.as_value_ref();
        let alike = matches!(
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
        );
        let values: Vec<_> = operands(instruction).collect();
        if opcode == Op::Phi {
            let number = self.of(name);
            self.joins.insert(number);
            return;
        }
        let parts: Vec<u32> = values.iter().map(|value| self.of(value.as_value_ref())).collect();
        let number = match alike {
            true => {
                let count = self.made_of.len() as u32;
                let number = *self.alike.entry((opcode, parts.clone())).or_insert(count);
                if number == count {
                    self.made_of.push(parts);
                }
                // A use that came first has numbered it already.
                *self.numbers.entry(name).or_insert(number)
            }
            false => {
                let number = self.of(name);
                self.made_of[number as usize] = parts;
                number
            }
        };
        match (opcode, &values[..]) {
            (Op::Load, [pointer]) => {
                let place = self.find(*pointer);
                self.loaded.insert(number, place);
            }
            (Op::GetElementPtr, [base, BasicValueEnum::IntValue(by)]) => {
                if let Some(by) = by.get_sign_extended_constant() {
                    let (root, distance) = self.find(*base);
                    self.pointers.insert(number, (root, distance.wrapping_add(by)));
                }
            }
            _ => {}
        }
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
    fn find(&mut self, pointer: BasicValueEnum<'_>) -> (u32, i64) {
        let number = self.of(pointer.as_value_ref());
        self.pointers.get(&number).copied().unwrap_or((number, 0))
    }

    /// Is a value nothing but what lies at a place, perhaps narrowed or widened?
    fn is_copy_of(&mut self, value: BasicValueEnum<'_>, place: Place) -> bool {
        let mut value = value;
        loop {
            let number = self.of(value.as_value_ref());
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
    fn is_made_of(&mut self, value: BasicValueEnum<'_>, place: Place) -> bool {
        let number = self.of(value.as_value_ref());
        self.any_part(number, |places, part| {
            places.loaded.get(&part) == Some(&(place.root, place.distance))
        })
    }

    /// Does a store in a loop go to the same place each time? Not if it adds to what lies there.
    fn is_repeated(&mut self, store: &Store<'_>) -> bool {
        let varies =
            |places: &Self, part| places.joins.contains(&part) || places.loaded.contains_key(&part);
        !self.any_part(store.place.root, varies) && !self.is_made_of(store.value, store.place)
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

fn is_cast(instruction: InstructionValue<'_>) -> bool {
    matches!(
        instruction.get_opcode(),
        InstructionOpcode::Trunc
            | InstructionOpcode::ZExt
            | InstructionOpcode::SExt
            | InstructionOpcode::BitCast
    )
}
