//! A function's control flow: blocks, the order in which they are looked at, which dominate which.

use std::collections::HashMap;

use crate::convention::ARGUMENTS;
use crate::decode::Code;
use crate::op::{Base, Condition, Op, Place, Reg};

/// Number of a block, in reverse postorder; 0 is where the function is entered.
pub(crate) type BlockId = u32;

/// How control gets from one block to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Edge {
    /// Always, or in more than one way.
    Always,
    /// If the condition holds.
    If(Condition),
    /// Through a table of jumps, by an entry that lies between these addresses of the object.
    Table { least: i64, most: i64 },
}

/// Instructions that follow each other.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Its instructions.
    pub instructions: std::ops::Range<usize>,
    /// Where it comes from.
    pub from: Vec<(BlockId, Edge)>,
    /// Where it goes.
    pub to: Vec<(BlockId, Edge)>,
    /// The block that dominates it most closely; of the first, itself.
    pub dominator: BlockId,
    /// Places in a walk around the dominator tree.
    walk: (u32, u32),
    /// Does anything come back to it?
    pub is_head: bool,
}

/// What is assumed about transfers before anything is known of values; checked afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guesses {
    /// Indirect calls, by instruction, that do not come back, or that do.
    pub returns: HashMap<usize, bool>,
    /// Where indirect jumps go, by instruction.
    pub tables: HashMap<usize, Vec<Entry>>,
}

/// An entry of a table of jumps: its address, and the instruction that it leads to. Tables ascend.
pub(crate) type Entry = (i64, usize);

/// The control flow of one function.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Blocks that can be reached.
    pub blocks: Vec<Block>,
}

const UNREACHED: BlockId = u32::MAX;

/// Where a transfer goes that stays in the function.
pub(crate) fn inside(code: &Code, start: u64, to: u64) -> Option<usize> {
    let offset = to.checked_sub(start).filter(|offset| *offset > 0 && *offset < code.bytes.into());
    code.instruction_at(offset? as u32)
}

impl Flow {
    /// Finds the blocks of a function at `start`. `falls_through` says for an instruction that is a
    /// call whether it comes back.
    pub(crate) fn new(
        code: &Code,
        start: u64,
        guesses: &Guesses,
        falls_through: impl Fn(usize) -> bool,
    ) -> Self {
        let count = code.instructions.len();
        let mut leads = vec![false; count + 1];
        leads[0] = true;
        // Where each instruction that transfers control goes, and whether the next follows.
        let mut targets: HashMap<usize, Vec<(usize, Edge)>> = HashMap::new();
        for number in 0..count {
            let Some(op) = code.ops[code.ops_of(number)].last() else { continue };
            let mut to = Vec::new();
            let mut goes_on = false;
            match op {
                Op::Jump { to: address } => {
                    to.extend(inside(code, start, *address).map(|to| (to, Edge::Always)));
                }
                Op::Branch { condition, to: address } => {
                    let taken = inside(code, start, *address).map(|to| (to, Edge::If(*condition)));
                    to.extend(taken);
                    if number + 1 < count {
                        to.push((number + 1, Edge::If(condition.opposite())));
                    }
                }
                Op::JumpTo { .. } => {
                    let table = guesses.tables.get(&number).into_iter().flatten();
                    let edge = |at: i64| Edge::Table { least: at, most: at };
                    to.extend(table.map(|(at, to)| (*to, edge(*at))));
                }
                Op::Return { .. } | Op::Fault => {}
                Op::Call { .. } | Op::CallTo { .. } if falls_through(number) => continue,
                Op::Call { .. } | Op::CallTo { .. } => {}
                _ => goes_on = true,
            }
            if goes_on {
                continue;
            }
            for (target, _) in &to {
                leads[*target] = true;
            }
            leads[number + 1] = true;
            targets.insert(number, to);
        }
        Self::order(count, &leads, &targets)
    }

    fn order(count: usize, leads: &[bool], targets: &HashMap<usize, Vec<(usize, Edge)>>) -> Self {
        // Blocks in the order in which they lie.
        let starts: Vec<usize> = (0..count).filter(|number| leads[*number]).collect();
        let end = |block: usize| starts.get(block + 1).copied().unwrap_or(count);
        let block_at =
            |instruction: usize| starts.partition_point(|start| *start <= instruction) - 1;
        let successors = |block: usize| -> Vec<(usize, Edge)> {
            match targets.get(&(end(block) - 1)) {
                Some(targets) => targets.iter().map(|(to, edge)| (block_at(*to), *edge)).collect(),
                None if end(block) < count => vec![(block + 1, Edge::Always)],
                None => Vec::new(),
            }
        };
        let all: Vec<_> = (0..starts.len()).map(successors).collect();
        let mut postorder = Vec::new();
        let mut seen = vec![false; starts.len()];
        let mut open = Vec::new();
        if !starts.is_empty() {
            seen[0] = true;
            open.push((0, 0));
        }
        while let Some((block, next)) = open.last_mut() {
            match all[*block].get(*next) {
                Some((to, _)) => {
                    *next += 1;
                    if !seen[*to] {
                        seen[*to] = true;
                        open.push((*to, 0));
                    }
                }
                None => {
                    postorder.push(*block);
                    open.pop();
                }
            }
        }
        let mut number = vec![UNREACHED; starts.len()];
        for (place, block) in postorder.iter().rev().enumerate() {
            number[*block] = place as BlockId;
        }
        let mut blocks: Vec<Block> = postorder
            .iter()
            .rev()
            .map(|block| Block {
                instructions: starts[*block]..end(*block),
                from: Vec::new(),
                to: merged(all[*block].iter().map(|(to, edge)| (number[*to], *edge))),
                dominator: 0,
                walk: (0, 0),
                is_head: false,
            })
            .collect();
        for block in 0..blocks.len() {
            for (to, edge) in blocks[block].to.clone() {
                blocks[to as usize].from.push((block as BlockId, edge));
                blocks[to as usize].is_head |= to <= block as BlockId;
            }
        }
        let mut flow = Self { blocks };
        flow.dominators();
        flow
    }

    /// Source: Cooper, Harvey, Kennedy, "A Simple, Fast Dominance Algorithm".
    fn dominators(&mut self) {
        let count = self.blocks.len();
        let mut dominator = vec![UNREACHED; count];
        if count == 0 {
            return;
        }
        dominator[0] = 0;
        let mut changed = true;
        while std::mem::take(&mut changed) {
            for block in 1..count {
                let mut common = UNREACHED;
                for (from, _) in &self.blocks[block].from {
                    if dominator[*from as usize] == UNREACHED {
                        continue;
                    }
                    common = match common {
                        UNREACHED => *from,
                        other => {
                            let (mut a, mut b) = (other, *from);
                            while a != b {
                                while a > b {
                                    a = dominator[a as usize];
                                }
                                while b > a {
                                    b = dominator[b as usize];
                                }
                            }
                            a
                        }
                    };
                }
                if dominator[block] != common {
                    dominator[block] = common;
                    changed = true;
                }
            }
        }
        let mut below = vec![Vec::new(); count];
        for block in 1..count {
            below[dominator[block] as usize].push(block);
        }
        let mut clock = 0;
        let mut open = vec![(0, 0)];
        while let Some((block, next)) = open.last_mut() {
            if *next == 0 {
                self.blocks[*block].walk.0 = clock;
                self.blocks[*block].dominator = dominator[*block];
                clock += 1;
            }
            match below[*block].get(*next) {
                Some(child) => {
                    *next += 1;
                    open.push((*child, 0));
                }
                None => {
                    self.blocks[*block].walk.1 = clock;
                    open.pop();
                }
            }
        }
    }

    /// Does every way to `b` lead through `a`?
    pub(crate) fn dominates(&self, a: BlockId, b: BlockId) -> bool {
        let (a, b) = (self.blocks[a as usize].walk, self.blocks[b as usize].walk);
        a.0 <= b.0 && b.0 < a.1
    }
}

/// The same edges, those to one block as one.
fn merged(edges: impl Iterator<Item = (BlockId, Edge)>) -> Vec<(BlockId, Edge)> {
    let mut merged: Vec<(BlockId, Edge)> = Vec::new();
    for (to, edge) in edges {
        match merged.iter_mut().find(|(other, _)| *other == to) {
            Some((_, other)) => {
                *other = match (*other, edge) {
                    (Edge::Table { least: a, most: b }, Edge::Table { least: c, most: d }) => {
                        Edge::Table { least: a.min(c), most: b.max(d) }
                    }
                    _ => Edge::Always,
                }
            }
            None => merged.push((to, edge)),
        }
    }
    merged
}

/// Guesses from the looks of it which indirect calls end the invocation: those of the first
/// function of the runtime's table.
pub(crate) fn guess_returns(code: &Code, builtins: i64, trap: i64) -> HashMap<usize, bool> {
    let loads = |op: &Op, offset: i64, base: &dyn Fn(Reg) -> bool| match *op {
        Op::Load {
            to, place: Place { base: Base::Reg(reg), index: None, offset: at, .. }, ..
        } if at == offset && base(reg) => Some(to),
        _ => None,
    };
    let mut guesses = HashMap::new();
    // Registers that hold the table, and the address of that function.
    let (mut table, mut address) = (0_u64, 0_u64);
    // Registers that came from others since the last transfer, and those that may hold that
    // address.
    let (mut moved, mut perhaps) = (0_u64, 0_u64);
    let arguments = 1 << ARGUMENTS[0] | 1 << ARGUMENTS[1];
    for number in 0..code.instructions.len() {
        for op in &code.ops[code.ops_of(number)] {
            if let Op::CallTo { to } = op {
                // Whoever calls a reference loads the context.
                let alike = perhaps >> to & 1 == 1 && moved & arguments == arguments;
                let ends = address >> to & 1 == 1 || alike;
                guesses.insert(number, !ends);
                (table, address) = (0, 0);
                (moved, perhaps) = (0, 0);
                continue;
            }
            match op {
                Op::Move { to, .. } => moved |= 1 << to,
                Op::Load { to, .. } => moved &= !(1 << to),
                _ => {}
            }
            if let Some(to) = loads(op, trap, &|_| true) {
                perhaps |= 1 << to;
            }
            if let Some(to) = loads(op, trap, &|reg| table >> reg & 1 == 1) {
                address |= 1 << to;
            } else if let Some(to) = loads(op, builtins, &|_| true) {
                (table, address) = (table | 1 << to, address & !(1 << to));
            } else if let Op::Load { to, .. } | Op::Move { to, .. } = op {
                (table, address) = (table & !(1 << to), address & !(1 << to));
            } else if op.transfers() {
                (table, address) = (0, 0);
                (moved, perhaps) = (0, 0);
            }
        }
    }
    guesses
}

/// Guesses from the looks of it where jumps through tables go: as many entries as the comparison
/// before allows, from the last table whose address was taken before.
pub(crate) fn guess_tables(
    code: &Code,
    start: u64,
    object: &crate::object::Object,
) -> HashMap<usize, Vec<Entry>> {
    let mut guesses = HashMap::new();
    let (mut table, mut entries) = (None, None);
    for number in 0..code.instructions.len() {
        for op in &code.ops[code.ops_of(number)] {
            match *op {
                Op::Address { place: Place { base: Base::Image, offset, .. }, .. } => {
                    table = Some(offset);
                }
                Op::Compare { b: crate::op::Source::Number(most), .. } => {
                    entries = usize::try_from(most).ok().map(|most| most + 1);
                }
                Op::JumpTo { .. } => {
                    let Some(table) = table else { continue };
                    let entry = |number: usize| {
                        let at = table.checked_add(4 * number as i64)?;
                        let word = object.bytes(at.cast_unsigned(), 4)?;
                        let distance = i32::from_le_bytes(word.try_into().ok()?);
                        let to = table.wrapping_add(distance.into());
                        Some((at, inside(code, start, to.cast_unsigned())?))
                    };
                    let most = entries.unwrap_or(1 << 10).min(1 << 14);
                    let targets: Vec<_> = (0..most).map_while(entry).collect();
                    if !targets.is_empty() {
                        guesses.insert(number, targets);
                    }
                }
                _ => {}
            }
        }
    }
    guesses
}
