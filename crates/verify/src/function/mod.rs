//! One function: its states, found by going through its blocks until nothing changes.
//!
//! What is assumed on the way (a variable keeps its value around a loop, it stays below 2^32, an
//! indirect call does not come back, a jump has these targets) is given up as soon as it turns out
//! not to hold, and never taken back; what is left in the end has held everywhere. Then the
//! function is gone through once more, and everything that it does is checked (see `check`).

pub(crate) mod facts;
pub(crate) mod loops;
pub(crate) mod prove;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use awsm_abi::context::{Builtins, below};
use std::mem::offset_of;

use crate::contract;
use crate::convention::{ARGUMENTS, RETURN_BYTES, STACK_POINTER, Spot};
use crate::decode::Code;
use crate::flow::{self, BlockId, Flow, Guesses};
use crate::module::{Module, RangeRoutine, Role};
use crate::op::{Op, REGISTERS, TEMPORARIES};
use crate::report::{Counts, Rule, Unshown};
use crate::state::{
    ALIGNED, About, CALLEE, CALLEE_CELLS, Copied, Known, OWN_CELLS, PENDING, RESULT_CELLS, Sizes,
    Slot, State, argument_cell,
};
use crate::summary::{Gifts, Given, Summary};
use crate::value::{AT_BLOCK, Arena, Atom, AtomId, Kind, Range, RefType, Value, weaker};
use facts::Facts;
use prove::Prover;

/// Ranges that routines for them get are no longer than this.
pub(crate) const RANGE_MAX: i128 = contract::SIZE_MAX;

/// Bytes of arguments on the stack that are followed from the beginning, at most.
pub(crate) const INCOMING_NAMED: i64 = 512;

/// What was found about a function.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The first thing that is not as it must be: an operation, and what.
    pub problem: Option<(u32, String)>,
    /// What was shown.
    pub counts: Counts,
    /// Accesses to linear memory that were not.
    pub unshown: Vec<Unshown>,
    /// What it gives to functions that it calls.
    pub gifts: HashMap<usize, Gifts>,
    /// Can it return?
    pub returns: bool,
    /// Bytes behind the return address that it reads or writes.
    pub incoming: i64,
    /// Bytes of the cells for several results that it reads or writes.
    pub cells: i64,
    /// Are the results of each return what the type says?
    pub typed_results: bool,
    /// What its result is never above, if that is a small number.
    pub most: Option<u32>,
}

/// What is assumed of a variable at the head of a loop. Nothing noted means: it keeps its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Varies {
    /// The pointer that it is so far from.
    pointer: Option<AtomId>,
    /// How many bits it has without sign, or 64 with.
    bits: u8,
    /// What it is.
    kind: Kind,
}

/// Variables by number: registers, time, words of the stack.
pub(crate) const TIME: u32 = REGISTERS as u32;

/// The first number of the variables of words that are followed, and where these are counted from;
/// by ascending number, 2^29 of each.
const FOLLOWED: [(u32, i64); 5] = [
    (2 << 29, 0),
    (3 << 29, RESULT_CELLS),
    (4 << 29, ALIGNED),
    (5 << 29, OWN_CELLS),
    (6 << 29, CALLEE_CELLS),
];

/// The number of the variable of a word of the stack, if it is one that loops are followed through.
fn slot_variable(key: i64) -> Option<u32> {
    match key {
        PENDING => return Some(TIME + 1),
        CALLEE => return Some(TIME + 2),
        _ => {}
    }
    let near = 1 << 28;
    let of = |(base, start): &(u32, i64)| {
        let offset = key - start;
        (-near..near).contains(&offset).then(|| base + (offset + near) as u32)
    };
    FOLLOWED.iter().find_map(of)
}

fn slot_key(variable: u32) -> i64 {
    let near = 1 << 28;
    match variable {
        _ if variable == TIME + 1 => return PENDING,
        _ if variable == TIME + 2 => return CALLEE,
        _ => {}
    }
    let of =
        |(base, start): &(u32, i64)| Some(i64::from(variable.checked_sub(*base)?) - near + start);
    FOLLOWED.iter().rev().find_map(of).expect("the number of a variable")
}

/// One function being analysed.
pub(crate) struct Analysis<'m> {
    /// The module.
    pub module: &'m Module<'m>,
    /// Which function.
    pub number: usize,
    /// Its code.
    pub code: &'m Code,
    /// What is assumed of all functions.
    pub summaries: &'m [Summary],
    /// Its blocks.
    pub flow: Flow,
    /// Its values.
    pub arena: Arena,
    /// States at the ends of blocks.
    pub outs: Vec<Option<Rc<State>>>,
    /// What branches tell.
    pub facts: Facts,
    /// Blocks that nothing reaches, by what branches tell.
    pub never_reached: Vec<bool>,
    /// What proofs work with.
    pub prover: Prover,
    /// Types that indirect calls are found to be of, by operation.
    pub call_types: HashMap<u32, u32>,
    /// Where entries of jump tables were loaded from, by operation.
    pub entries: HashMap<u32, (Value, u32)>,
    /// Tags of one of which the exceptions are that it makes, by operation.
    pub new_exceptions: HashMap<u32, Vec<u32>>,
    /// What references among the values of exceptions are, by the operation that loads them: taken
    /// to be so until that is checked.
    pub caught: HashMap<u32, Kind>,
    /// Results that are not null unless an exception is under way: which one that is then.
    pub promised: HashMap<AtomId, Value>,
    /// What was found.
    pub outcome: Outcome,
    guesses: Guesses,
    /// Jumps through tables that were taken to go too far, and are not any more.
    pub narrowed: HashSet<usize>,
    /// Is it time to assume no more of what changes?
    hurry: bool,
    heads: HashMap<(BlockId, u32), Varies>,
    /// Vector registers that are not the same around a loop.
    lost_vectors: HashSet<(BlockId, u8)>,
    /// The block of each operation.
    pub block_of: Vec<BlockId>,
    /// What guesses turned out to be wrong.
    pub corrections: Guesses,
    /// Was a type of a call wrong?
    pub again: bool,
}

/// How often a function is begun anew because a guess was wrong, at most.
const ATTEMPTS: usize = 12;

/// Values that are looked at until nothing changes, at most: so many, and more for each operation.
/// Nearly all functions need a hundredth of that.
const VALUES: usize = 1 << 20;
const VALUES_OF_OP: usize = 4096;

impl<'m> Analysis<'m> {
    /// Makes ready to analyse functions one after another.
    pub(crate) fn new(module: &'m Module<'m>, summaries: &'m [Summary]) -> Self {
        Self {
            module,
            number: 0,
            code: &module.functions[0].code,
            summaries,
            flow: Flow::new(&Code::default(), 0, &Guesses::default(), |_| true),
            arena: Arena::default(),
            outs: Vec::new(),
            facts: Facts::default(),
            never_reached: Vec::new(),
            prover: Prover::default(),
            again: false,
            call_types: HashMap::new(),
            entries: HashMap::new(),
            new_exceptions: HashMap::new(),
            promised: HashMap::new(),
            caught: HashMap::new(),
            outcome: Outcome::default(),
            guesses: Guesses::default(),
            narrowed: HashSet::new(),
            hurry: false,
            heads: HashMap::new(),
            lost_vectors: HashSet::new(),
            block_of: Vec::new(),
            corrections: Guesses::default(),
        }
    }

    /// Analyses one function.
    pub(crate) fn run(&mut self, number: usize) -> Outcome {
        self.number = number;
        self.code = &self.module.functions[number].code;
        self.call_types.clear();
        self.caught.clear();
        self.narrowed.clear();
        let builtins = -i64::from(below::BUILTINS);
        let trap = offset_of!(Builtins, trap) as i64;
        self.guesses = Guesses {
            returns: flow::guess_returns(self.code, builtins, trap),
            tables: self.guess_tables(),
        };
        for _ in 0..ATTEMPTS {
            self.attempt();
            let corrections = std::mem::take(&mut self.corrections);
            if corrections == Guesses::default() && !std::mem::take(&mut self.again) {
                return std::mem::take(&mut self.outcome);
            }
            self.guesses.returns.extend(corrections.returns);
            self.guesses.tables.extend(corrections.tables);
        }
        self.problem(0, "its control flow does not settle");
        std::mem::take(&mut self.outcome)
    }

    /// Was an indirect call taken to come back?
    pub(crate) fn guessed_return(&self, instruction: usize) -> bool {
        self.guesses.returns.get(&instruction).copied().unwrap_or(true)
    }

    /// Where an indirect jump was taken to go.
    pub(crate) fn guessed_table(&self, instruction: usize) -> &[flow::Entry] {
        self.guesses.tables.get(&instruction).map_or(&[], Vec::as_slice)
    }

    /// Guesses from the looks of it where indirect jumps go.
    fn guess_tables(&self) -> HashMap<usize, Vec<flow::Entry>> {
        let function = &self.module.functions[self.number];
        flow::guess_tables(self.code, function.range.start, self.module.object)
    }

    /// Notes what is wrong, if nothing was before.
    pub(crate) fn problem(&mut self, op: u32, what: impl Into<String>) {
        if self.outcome.problem.is_none() {
            self.outcome.problem = Some((op, what.into()));
        }
    }

    /// Counts what was shown.
    pub(crate) fn shown(&mut self, rule: Rule) {
        *self.outcome.counts.entry(rule).or_default() += 1;
    }

    /// What is assumed of this function.
    pub(crate) fn summary(&self) -> &Summary {
        &self.summaries[self.number]
    }

    fn attempt(&mut self) {
        let function = &self.module.functions[self.number];
        self.outcome = Outcome { typed_results: true, most: Some(0), ..Outcome::default() };
        self.arena.clear();
        self.prover.clear(self.code.ops.len());
        self.facts.clear(0);
        self.heads.clear();
        self.lost_vectors.clear();
        self.entries.clear();
        self.new_exceptions.clear();
        self.promised.clear();
        let (code, module, summaries) = (self.code, self.module, self.summaries);
        let guesses = &self.guesses;
        let falls_through = |number: usize| match code.ops[code.ops_of(number)].last() {
            Some(Op::Call { to }) => {
                module.function_at(*to).is_none_or(|callee| summaries[callee].returns)
            }
            _ => guesses.returns.get(&number).copied().unwrap_or(true),
        };
        self.flow = Flow::new(code, function.range.start, guesses, falls_through);
        self.block_of.clear();
        self.block_of.resize(code.ops.len(), 0);
        for (block, data) in self.flow.blocks.iter().enumerate() {
            let first = data.instructions.start;
            let ops = code.ops_of(first).start..code.ops_of(data.instructions.end - 1).end;
            self.block_of[ops].fill(block as BlockId);
        }
        if !self.settle() {
            self.problem(0, "its values do not settle");
            return;
        }
        if self.corrections != Guesses::default() {
            return;
        }
        self.learn_all();
        for block in 0..self.flow.blocks.len() as BlockId {
            let reached = !self.is_never_reached(block);
            let mut state = self.merge(block);
            for op in self.ops_of(block) {
                match reached {
                    true => self.check(&mut state, op as u32),
                    // What comes behind it was looked at as if it came from here.
                    false => self.check_guess(&mut state, op as u32),
                }
                self.step(&mut state, op as u32);
            }
            if reached {
                self.check_end(block);
            }
        }
    }

    /// The operations of a block.
    pub(crate) fn ops_of(&self, block: BlockId) -> std::ops::Range<usize> {
        let instructions = &self.flow.blocks[block as usize].instructions;
        self.code.ops_of(instructions.start).start..self.code.ops_of(instructions.end - 1).end
    }

    /// Goes through the blocks until no state changes.
    fn settle(&mut self) -> bool {
        let count = self.flow.blocks.len();
        self.outs.clear();
        self.outs.resize(count, None);
        let mut work: BTreeSet<BlockId> = BTreeSet::from([0]);
        let all = VALUES + VALUES_OF_OP * self.code.ops.len();
        let mut left = all;
        self.hurry = false;
        while let Some(block) = work.pop_first() {
            let mut state = self.merge(block);
            let ways = self.flow.blocks[block as usize].from.len() + 1;
            let values = ways * (REGISTERS + state.slots.len()) + self.ops_of(block).len();
            match left.checked_sub(values) {
                Some(values) => left = values,
                None => return false,
            }
            self.hurry = left < all / 2;
            for op in self.ops_of(block) {
                self.step(&mut state, op as u32);
            }
            let temporaries = &mut state.registers[REGISTERS..];
            temporaries.fill(Value::number(0));
            let changed = self.outs[block as usize].as_deref() != Some(&state);
            if changed {
                self.outs[block as usize] = Some(Rc::new(state));
                work.extend(self.flow.blocks[block as usize].to.iter().map(|(to, _)| *to));
            }
        }
        true
    }

    // Entry.

    fn entry_state(&mut self) -> State {
        let stack = self.arena.make(Atom::Stack, Kind::Stack, Range::ANY, 0);
        let returns = self.arena.make(Atom::Return, Kind::Return, Range::ANY, 0);
        let mut registers = [Value::number(0); REGISTERS + TEMPORARIES];
        for (number, register) in registers[..REGISTERS].iter_mut().enumerate() {
            *register = self.arena.make(Atom::Entry(number as u8), Kind::Number, Range::ANY, 0);
        }
        registers[STACK_POINTER as usize] = stack;
        let time = self.time_at_entry();
        let mut state = State {
            registers,
            time,
            flags: Known::NOTHING,
            slots: vec![Slot { key: 0, bytes: 8, value: returns }],
            vectors: Vec::new(),
            copies: Vec::new(),
            touched: 0,
            aligned: None,
            restored: false,
        };
        if self.module.descriptor.exceptions {
            let pending = self.pending(AT_BLOCK);
            state.put(PENDING, 8, pending);
        }
        self.enter(&mut state);
        state
    }

    /// The name for the time from the entry to the first call.
    pub(crate) fn time_at_entry(&mut self) -> Value {
        self.opaque(AT_BLOCK, TIME as u8, u64::MAX, Kind::Number)
    }

    /// What the role says of registers and stack at entry.
    fn enter(&mut self, state: &mut State) {
        match self.module.functions[self.number].role {
            Role::Range(routine) => return self.enter_range(state, routine),
            Role::Entry { .. } => {
                for (number, register) in ARGUMENTS[..3].iter().enumerate() {
                    let (atom, kind) = (Atom::Thunk(number as u8), Kind::Thunk(number as u8));
                    state.registers[*register as usize] =
                        self.arena.make(atom, kind, Range::ANY, 0);
                }
                return;
            }
            _ => {}
        }
        let gifts = self.summary().gifts.clone().unwrap_or_default();
        for (spot, given) in gifts {
            let value = self.given(spot, given);
            match spot {
                Spot::Register(register) => state.registers[register as usize] = value,
                Spot::Stack(at) => state.put(RETURN_BYTES + at, 8, value),
                Spot::Cell(number) => state.put(argument_cell(OWN_CELLS, number), 8, value),
                Spot::Vector => {}
            }
        }
        // Other arguments on the stack have names, too.
        for at in (0..self.summary().incoming.min(INCOMING_NAMED)).step_by(8) {
            let key = RETURN_BYTES + at;
            if state.is_free(key, 8) {
                let atom = Atom::Incoming(at as i32);
                let value = self.arena.make(atom, Kind::Number, Range::ANY, 0);
                state.put(key, 8, value);
            }
        }
    }

    /// What is given at a place.
    fn given(&mut self, spot: Spot, given: Given) -> Value {
        let kind = match (given, spot) {
            (Given::Null, _) => return Value::number(0),
            (Given::Of(kind), _) => kind,
            (Given::Small(most), Spot::Register(n)) => {
                return self.opaque(AT_BLOCK, n, most.into(), Kind::Number);
            }
            // It is told of registers only.
            (Given::Small(_), _) => Kind::Number,
        };
        let atom = match (kind, spot) {
            (Kind::Context, _) => return self.context(),
            (Kind::Cells, _) => Atom::Cells,
            (_, Spot::Stack(at)) => Atom::Incoming(at as i32),
            (_, Spot::Cell(number)) => Atom::Cell(number),
            (_, Spot::Register(n)) => Atom::Opaque { at: AT_BLOCK, n, most: u64::MAX, kind },
            (_, Spot::Vector) => return Value::number(0),
        };
        let range = match kind {
            Kind::MemoryBytes(memory) => {
                let least = self.module.descriptor.memories[memory as usize].least_bytes;
                Range::new(least.into(), contract::SIZE_MAX)
            }
            Kind::TableLength(_) => Range::new(0, contract::SIZE_MAX),
            Kind::TypeId(_) => Range::bits(32),
            _ => Range::ANY,
        };
        self.arena.make(atom, kind, range, 0)
    }

    fn enter_range(&mut self, state: &mut State, routine: RangeRoutine) {
        let ranges = if routine == RangeRoutine::Fill { 1 } else { 2 };
        for number in 0..ranges {
            let (atom, kind) = (Atom::Range(number), Kind::Range(number));
            state.registers[ARGUMENTS[number as usize] as usize] =
                self.arena.make(atom, kind, Range::ANY, 0);
        }
        let length = Atom::Opaque {
            at: AT_BLOCK,
            n: ARGUMENTS[2],
            most: RANGE_MAX as u64,
            kind: Kind::Number,
        };
        let range = Range::new(0, RANGE_MAX);
        state.registers[ARGUMENTS[2] as usize] = self.arena.make(length, Kind::Number, range, 0);
    }

    /// The context pointer.
    pub(crate) fn context(&mut self) -> Value {
        self.arena.make(Atom::Context, Kind::Context, Range::ANY, 0)
    }

    /// The value of register `number` made at this place, of which nothing is known.
    pub(crate) fn opaque(&mut self, at: u32, n: u8, most: u64, kind: Kind) -> Value {
        let home = match at & AT_BLOCK {
            0 => self.block_of[at as usize],
            _ => at & !AT_BLOCK,
        };
        let range = match i64::try_from(most) {
            Ok(most) => Range::new(0, most.into()),
            Err(_) => Range::ANY,
        };
        self.arena.make(Atom::Opaque { at, n, most, kind }, kind, range, home)
    }

    // Joins.

    /// Is a value of this home the same on every way through a block?
    pub(crate) fn outlives(&self, home: BlockId, block: BlockId) -> bool {
        home != block && self.flow.dominates(home, block)
    }

    /// The state at the start of a block.
    pub(crate) fn merge(&mut self, block: BlockId) -> State {
        if block == 0 {
            return self.entry_state();
        }
        let from = &self.flow.blocks[block as usize].from;
        let sources: Vec<Rc<State>> =
            from.iter().filter_map(|(from, _)| self.outs[*from as usize].clone()).collect();
        let head = self.flow.blocks[block as usize].is_head;
        if let [one] = &sources[..]
            && !head
        {
            return one.as_ref().clone();
        }
        let mut join = Join { block, head, times: Vec::new(), time: Value::number(0) };
        let times: Vec<Value> = sources.iter().map(|state| state.time).collect();
        let time = self.meet(&mut join, TIME, &times);
        join.times = times;
        join.time = time;
        let mut registers = [Value::number(0); REGISTERS + TEMPORARIES];
        let mut values = Vec::with_capacity(sources.len());
        for (number, register) in registers[..REGISTERS].iter_mut().enumerate() {
            values.clear();
            values.extend(sources.iter().map(|state| state.registers[number]));
            *register = self.meet(&mut join, number as u32, &values);
        }
        let (first, others) = sources.split_first().expect("a block is looked at from another");
        let mut slots = Vec::with_capacity(first.slots.len());
        for slot in &first.slots {
            values.clear();
            values.push(slot.value);
            values.extend(
                others
                    .iter()
                    .filter_map(|state| {
                        state.slot(slot.key).filter(|other| other.bytes == slot.bytes)
                    })
                    .map(|slot| slot.value),
            );
            let Some(variable) = slot_variable(slot.key) else { continue };
            if values.len() < sources.len() {
                continue;
            }
            let value = self.meet(&mut join, variable, &values);
            if value.nameless_place().is_none() {
                slots.push(Slot { value, ..*slot });
            }
        }
        let flags = match sources.iter().all(|state| state.flags == first.flags) && !head {
            true => first.flags,
            false => Known::NOTHING,
        };
        let aligned = match sources.iter().all(|state| state.aligned == first.aligned) {
            true => first.aligned,
            // The stack pointer differs then, and is no good any more.
            false => None,
        };
        let vectors = self.meet_vectors(block, head, &sources);
        let touched = sources.iter().map(|state| state.touched).max().unwrap_or(0);
        let restored = sources.iter().any(|state| state.restored);
        let copies = self.meet_copies(block, &sources);
        State { registers, time, flags, slots, vectors, copies, touched, aligned, restored }
    }

    /// Vector registers: the larger of what comes, and nothing known of what grows around a loop.
    fn meet_vectors(&mut self, block: BlockId, head: bool, sources: &[Rc<State>]) -> Vec<Sizes> {
        let mut met = Vec::new();
        for first in &sources[0].vectors {
            let register = first.register;
            let all = || sources.iter().map(|state| state.sizes(register));
            let low = all().map(|sizes| sizes.low).max().unwrap_or(u64::MAX);
            let high = all().map(|sizes| sizes.high).max().unwrap_or(u64::MAX);
            let sizes = Sizes { register, low, high };
            if head {
                let lost = self.lost_vectors.contains(&(block, register));
                if lost || all().any(|other| other != sizes) {
                    self.lost_vectors.insert((block, register));
                    continue;
                }
            }
            if low.min(high) < u64::MAX {
                met.push(sizes);
            }
        }
        met
    }

    /// Words of vector registers that are the same on all ways.
    fn meet_copies(&self, block: BlockId, sources: &[Rc<State>]) -> Vec<(u8, Copied)> {
        let keeps = |value: &Value| self.outlives(self.arena.home(*value), block);
        let (first, others) = sources.split_first().expect("a block is looked at from another");
        let mut met = first.copies.clone();
        for (register, words) in &mut met {
            let others: Vec<_> = others.iter().map(|state| state.copied(*register)).collect();
            for (number, word) in words.iter_mut().enumerate() {
                let same = others.iter().all(|words| words[number] == *word);
                *word = word.filter(|word| same && (word.constant().is_some() || keeps(word)));
            }
        }
        met.retain(|(_, words)| words.iter().any(Option::is_some));
        met
    }

    fn meet(&mut self, join: &mut Join, variable: u32, values: &[Value]) -> Value {
        if !join.head {
            return self.join_values(join, values);
        }
        let nameless = Value::nameless(AT_BLOCK | join.block);
        if values.iter().any(|value| value.nameless_place().is_some()) {
            return nameless;
        }
        let key = (join.block, variable);
        let Some(varies) = self.heads.get(&key).copied() else {
            let same = values.iter().all(|value| *value == values[0]);
            if same && self.outlives(self.arena.home(values[0]), join.block) {
                return values[0];
            }
            if let Some(value) = self.join_loads(join, values) {
                return value;
            }
            let varies = self.vary(join.block, values, None);
            self.heads.insert(key, varies);
            return self.phi(join.block, variable, varies);
        };
        let mut now = self.vary(join.block, values, Some(varies));
        if self.hurry && now != varies {
            now = Varies { pointer: None, bits: 64, kind: Kind::Number };
        }
        self.heads.insert(key, now);
        self.phi(join.block, variable, now)
    }

    /// What can be assumed of a variable with these values, and not more than `before`.
    fn vary(&mut self, block: BlockId, values: &[Value], before: Option<Varies>) -> Varies {
        let mut pointers = Vec::new();
        for value in values {
            pointers.push(self.arena.pointer(*value));
        }
        let mut common = pointers[0].map(|(atom, _)| atom);
        if pointers.iter().any(|pointer| pointer.map(|(atom, _)| atom) != common) {
            common = None;
        }
        if let Some(before) = before
            && before.pointer != common
        {
            common = None;
        }
        common = common.filter(|atom| self.outlives(self.arena.atom(*atom).home, block));
        // References are pointers themselves, and no distance from one.
        let kind = self.common_kind(values);
        if kind != Kind::Number {
            common = None;
        }
        let rests: Vec<Value> = match common {
            Some(_) => pointers.iter().flatten().map(|(_, rest)| *rest).collect(),
            None => values.to_vec(),
        };
        let fits =
            |bits: &u8| rests.iter().all(|rest| self.arena.range(*rest).within(Range::bits(*bits)));
        let bits = [8, 32].into_iter().find(fits).unwrap_or(64);
        let before = before.unwrap_or(Varies { pointer: common, bits, kind });
        // Whoever loses its pointer begins again as a number of any size.
        let lost = before.pointer != common;
        Varies {
            pointer: common,
            bits: if lost { 64 } else { bits.max(before.bits) },
            kind: if lost { Kind::Number } else { weaker(kind, before.kind) },
        }
    }

    fn phi(&mut self, block: BlockId, var: u32, varies: Varies) -> Value {
        let Varies { pointer, bits, kind } = varies;
        let range = match kind {
            Kind::MemoryBytes(_) | Kind::TableLength(_) => Range::new(0, contract::SIZE_MAX),
            _ if bits < 64 => Range::bits(bits),
            _ => Range::ANY,
        };
        let phi = self.arena.make(Atom::Phi { block, var, bits, kind }, kind, range, block);
        match pointer {
            Some(atom) => {
                let pointer = self.arena.value_of(atom);
                self.arena.add(pointer, phi)
            }
            None => phi,
        }
    }

    /// What a variable at the head of a loop is where a block ends that leads there, as far from
    /// its pointer.
    pub(crate) fn argument(
        &mut self,
        head: BlockId,
        variable: u32,
        from: BlockId,
    ) -> Option<Value> {
        let value = self.argument_now(head, variable, from)?;
        match self.heads.get(&(head, variable))?.pointer {
            None => Some(value),
            Some(pointer) => {
                let pointer = self.arena.value_of(pointer);
                Some(self.arena.sub(value, pointer))
            }
        }
    }

    /// The same as it is.
    pub(crate) fn argument_now(&self, _: BlockId, variable: u32, from: BlockId) -> Option<Value> {
        let state = self.outs[from as usize].as_ref()?;
        let value = match variable {
            TIME => state.time,
            _ if (variable as usize) < REGISTERS => state.registers[variable as usize],
            _ => state.slot(slot_key(variable))?.value,
        };
        value.nameless_place().is_none().then_some(value)
    }

    fn join_values(&mut self, join: &Join, values: &[Value]) -> Value {
        let first = values[0];
        if values.iter().all(|value| *value == first) {
            return first;
        }
        if values.iter().any(|value| value.nameless_place().is_some()) {
            return Value::nameless(AT_BLOCK | join.block);
        }
        if let Some(value) = self.join_loads(join, values) {
            return value;
        }
        let kind = self.common_kind(values);
        if kind == Kind::Number {
            let mut rests = Vec::with_capacity(values.len());
            let mut common = None;
            for value in values {
                let Some((atom, rest)) = self.arena.pointer(*value) else { break };
                if *common.get_or_insert(atom) != atom {
                    break;
                }
                rests.push(rest);
            }
            if let Some(atom) = common
                && rests.len() == values.len()
            {
                let rest = self.join_values(join, &rests);
                let pointer = self.arena.value_of(atom);
                return self.arena.add(pointer, rest);
            }
            // Multiples of a number meet as what they are multiples of.
            let zeros = values.iter().map(|value| self.arena.trailing_zeros(*value)).min();
            if let Some(by @ 1..) = zeros.filter(|zeros| *zeros < 63) {
                let parts: Vec<_> =
                    values.iter().map(|value| self.divided(*value, by as u8)).collect();
                let part = self.join_values(join, &parts);
                return self.arena.left(part, by as u8);
            }
            if first.lin != 0 && values.iter().all(|value| value.lin == first.lin) {
                let constants: Vec<_> = values.iter().map(|value| Value::number(value.k)).collect();
                let constant = self.arena.join(join.block, &constants, Kind::Number);
                return self.arena.add(Value { lin: first.lin, k: 0 }, constant);
            }
        }
        self.arena.join(join.block, values, kind)
    }

    /// What a sum is this multiple of, all of whose factors are.
    fn divided(&mut self, value: Value, by: u8) -> Value {
        let terms = self.arena.terms(value).iter();
        let terms = terms.map(|(atom, factor)| (*atom, factor >> by)).collect();
        self.arena.sum(terms, value.k >> by)
    }

    /// Loads of the same thing, each as fresh as can be, or from references that meet as well.
    fn join_loads(&mut self, join: &Join, values: &[Value]) -> Option<Value> {
        let mut atoms = Vec::with_capacity(values.len());
        for value in values {
            atoms.push(self.arena.single(*value)?);
        }
        let first = *self.arena.atom(atoms[0]);
        let (atoms, kind) = (&atoms, first.kind);
        let data = |arena: &Arena, number: usize| arena.atom(atoms[number]).atom;
        let fresh = |time: Value, number: usize| join.times.get(number) == Some(&time);
        match first.atom {
            Atom::Field { at, bytes, time } if time != Value::number(0) => {
                for number in 0..values.len() {
                    match data(&self.arena, number) {
                        Atom::Field { at: other, bytes: size, time }
                            if other == at && size == bytes && fresh(time, number) => {}
                        _ => return None,
                    }
                }
                let atom = Atom::Field { at, bytes, time: join.time };
                let home = self.arena.home(join.time);
                Some(self.arena.make(atom, kind, first.range, home))
            }
            Atom::Deref { at, bytes, time: first_time, .. } => {
                let mut bases = Vec::with_capacity(values.len());
                let changes = first_time != Value::number(0);
                for (number, atom) in atoms.iter().enumerate() {
                    match data(&self.arena, number) {
                        Atom::Deref { base, at: other, bytes: size, time }
                            if other == at
                                && size == bytes
                                && self.arena.kind(*atom) == kind
                                && (time == first_time && !changes
                                    || changes && fresh(time, number)) =>
                        {
                            bases.push(base);
                        }
                        _ => return None,
                    }
                }
                let base = self.join_values(join, &bases);
                base.nameless_place().is_none().then_some(())?;
                let time = if changes { join.time } else { first_time };
                let home = self.arena.home(base).max(self.arena.home(time));
                let atom = Atom::Deref { base, at, bytes, time };
                Some(self.arena.make(atom, kind, first.range, home))
            }
            _ => None,
        }
    }

    /// What a value is that is one of these: references of a kind, or a number.
    pub(crate) fn common_kind(&self, values: &[Value]) -> Kind {
        let mut common: Option<Kind> = None;
        let mut null = false;
        for value in values {
            if *value == Value::number(0) {
                null = true;
                continue;
            }
            let kind = match self.arena.kind_of(*value) {
                // A size that there was once, whichever: none becomes smaller.
                kind @ (Kind::MemoryBytes(_) | Kind::TableLength(_)) => kind,
                _ => self.reference_kind(*value),
            };
            common = Some(match common {
                None => kind,
                Some(other) => weaker(kind, other),
            });
        }
        match common {
            Some(Kind::Ref(ty)) if null => Kind::Ref(RefType { non_null: false, ..ty }),
            Some(Kind::Exception { .. }) if null => Kind::Exception { non_null: false },
            Some(Kind::Extern { .. }) if null => Kind::Extern { non_null: false },
            Some(kind @ (Kind::Ref(_) | Kind::Exception { .. } | Kind::Extern { .. })) => kind,
            Some(kind @ (Kind::MemoryBytes(_) | Kind::TableLength(_))) if !null => kind,
            _ => Kind::Number,
        }
    }

    /// What kind of reference a value is, else a number.
    pub(crate) fn reference_kind(&self, value: Value) -> Kind {
        match self.arena.kind_of(value) {
            kind @ (Kind::Ref(_) | Kind::Exception { .. } | Kind::Extern { .. }) => kind,
            _ => match self.func_ref(value) {
                Some(number) => {
                    let ty = Some(self.module.descriptor.func_refs[number as usize]);
                    Kind::Ref(RefType { ty, non_null: true })
                }
                None => Kind::Number,
            },
        }
    }

    /// The number of the context's reference that a value leads to.
    pub(crate) fn func_ref(&self, value: Value) -> Option<u32> {
        match self.arena.terms(value) {
            [(atom, 1)] if self.arena.kind(*atom) == Kind::Context => {
                self.module.descriptor.func_ref_at(value.k)
            }
            _ => None,
        }
    }
}

/// Where ways meet.
struct Join {
    block: BlockId,
    head: bool,
    /// Times at the ends of the ways.
    times: Vec<Value>,
    /// The time from here on.
    time: Value,
}

impl State {
    /// Nothing is known of conditions any more.
    pub(crate) fn forget_flags(&mut self) {
        self.flags = Known { about: About::Nothing, ..Known::NOTHING };
    }
}
