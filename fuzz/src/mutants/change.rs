//! Changes of finished machine code, each of a kind that a fault of a compiler could be, or of no
//! kind.
//!
//! A change replaces bytes in place and keeps all lengths: what follows lies where it did.

use std::fmt;
use std::mem::{offset_of, size_of};
use std::ops::Range;

use awsm_abi::MAGIC;
use awsm_abi::context::{Builtins, Counts, FuncRef, Layout, Memory, Table, below};
use awsm_abi::desc::ModuleDesc;
use iced_x86::{
    ConditionCode, ConstantOffsets, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic,
    OpKind, Register,
};
use object::{Object, ObjectSymbol, SymbolKind};

use crate::random::Random;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// How much a frame has.
    FrameSize,
    /// Which register is saved or restored.
    SavedRegister,
    /// The constant of an address.
    Displacement,
    /// The place of a spill.
    Spill,
    /// A branch behind a comparison with a table's length is dropped.
    LengthCheck,
    /// A branch behind a test for null.
    NullCheck,
    /// A branch behind a comparison of types.
    TypeCheck,
    /// A branch behind a comparison with a memory's size.
    MemoryCheck,
    /// Any other branch.
    OtherCheck,
    /// An extension is dropped, or made one of all bits.
    Extension,
    /// Where a branch goes.
    Target,
    /// Whom a call calls.
    Callee,
    /// Which field of the context is meant: another table, another global.
    Field,
    /// Which function of the runtime is called, or which field of a reference is read.
    Builtin,
    /// A constant.
    Immediate,
    /// A condition.
    Condition,
    /// 64 bits instead of 32, or the other way round.
    Width,
    /// A register.
    Register,
    /// An entry of a table of jumps.
    JumpTable,
    /// Any bytes of the code.
    Bytes,
    /// Two of the others, in one function.
    Two,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::FrameSize,
        Self::SavedRegister,
        Self::Displacement,
        Self::Spill,
        Self::LengthCheck,
        Self::NullCheck,
        Self::TypeCheck,
        Self::MemoryCheck,
        Self::OtherCheck,
        Self::Extension,
        Self::Target,
        Self::Callee,
        Self::Field,
        Self::Builtin,
        Self::Immediate,
        Self::Condition,
        Self::Width,
        Self::Register,
        Self::JumpTable,
        Self::Bytes,
        Self::Two,
    ];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FrameSize => "frame size",
            Self::SavedRegister => "saved register",
            Self::Displacement => "displacement",
            Self::Spill => "moved spill",
            Self::LengthCheck => "dropped check of a length",
            Self::NullCheck => "dropped check for null",
            Self::TypeCheck => "dropped check of a type",
            Self::MemoryCheck => "dropped check of a memory",
            Self::OtherCheck => "dropped branch",
            Self::Extension => "dropped extension",
            Self::Target => "other target",
            Self::Callee => "other callee",
            Self::Field => "other field",
            Self::Builtin => "other builtin",
            Self::Immediate => "immediate",
            Self::Condition => "other condition",
            Self::Width => "other width",
            Self::Register => "other register",
            Self::JumpTable => "table of jumps",
            Self::Bytes => "any bytes",
            Self::Two => "two at once",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What was changed, for people.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its kind.
    pub kind: Kind,
    /// The function's symbol, and where in it.
    pub place: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.kind.name(), self.place)
    }
}

/// A function of an object.
#[derive(Debug)]
pub struct Function {
    /// Its symbol.
    pub name: String,
    /// Where its code lies, in the file and in memory.
    pub range: Range<usize>,
    instructions: Vec<(Instruction, ConstantOffsets)>,
}

/// The code of an object, and what can be changed in it.
#[derive(Debug)]
pub struct Code {
    /// Its functions.
    pub functions: Vec<Function>,
    /// Displacements of fields of the context.
    fields: Vec<i32>,
    /// Displacements of the lengths of tables, and of the sizes of memories.
    lengths: Vec<i64>,
    sizes: Vec<i64>,
}

impl Code {
    /// Reads an object that the compiler made.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn read(object: &[u8]) -> Self {
        let file = object::File::parse(object).expect("an object of ours");
        let mut functions: Vec<_> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
            .map(|symbol| {
                let start = symbol.address() as usize;
                let range = start..start + symbol.size() as usize;
                let mut decoder = Decoder::with_ip(
                    64,
                    &object[range.clone()],
                    start as u64,
                    DecoderOptions::NONE,
                );
                let mut instructions = Vec::new();
                while decoder.can_decode() {
                    let instruction = decoder.decode();
                    instructions.push((instruction, decoder.get_constant_offsets(&instruction)));
                }
                Function { name: symbol.name().unwrap_or("?").to_owned(), range, instructions }
            })
            .collect();
        functions.sort_by_key(|function| function.range.start);
        let fields = functions
            .iter()
            .flat_map(|function| &function.instructions)
            .filter(|(instruction, _)| is_field(instruction))
            .map(|(instruction, _)| instruction.memory_displacement64() as i32);
        let mut fields: Vec<i32> = fields.collect();
        fields.sort_unstable();
        fields.dedup();
        let counts = counts(object);
        let layout = Layout::of(&counts).expect("counts of ours");
        let field = |below: u32, offset: usize| offset as i64 - i64::from(below);
        let tables = (0..counts.own_tables).map(|table| layout.table(table));
        let lengths = tables.map(|below| field(below, offset_of!(Table, len))).collect();
        let sizes = vec![field(below::MEMORY, offset_of!(Memory, bytes))];
        Self { functions, fields, lengths, sizes }
    }

    /// Changes something of a kind in one of these functions, if there is such a thing: what, for
    /// people.
    pub(super) fn change(
        &self,
        object: &mut [u8],
        kind: Kind,
        functions: &[usize],
        random: &mut Random,
    ) -> Option<Change> {
        if kind == Kind::Two {
            let function = [random.pick(functions)];
            let mut two = || {
                let kind = Kind::ALL[random.below(Kind::ALL.len() as u64 - 1) as usize];
                self.change(object, kind, &function, random)
            };
            let places = [two(), two()].into_iter().flatten().map(|change| change.to_string());
            let place = places.reduce(|all, change| format!("{all}, {change}"))?;
            return Some(Change { kind, place });
        }
        // Small functions count as much as large ones, half of the time.
        if random.below(2) == 0 {
            let function = random.pick(functions);
            if let Some(change) = self.change_in(object, kind, &[function], random) {
                return Some(change);
            }
        }
        self.change_in(object, kind, functions, random)
    }

    fn change_in(
        &self,
        object: &mut [u8],
        kind: Kind,
        functions: &[usize],
        random: &mut Random,
    ) -> Option<Change> {
        let sites: Vec<(usize, usize)> = functions
            .iter()
            .flat_map(|function| {
                let all = 0..self.functions[*function].instructions.len();
                all.filter(|at| self.is_site(*function, *at, kind)).map(|at| (*function, at))
            })
            .collect();
        if sites.is_empty() {
            return None;
        }
        for _ in 0..16 {
            let (function, at) = random.pick(&sites);
            let before = object.to_vec();
            self.apply(object, kind, function, at, random);
            if before != object {
                let Function { name, range, instructions } = &self.functions[function];
                let place = instructions[at].0.ip() as usize - range.start;
                return Some(Change { kind, place: format!("`{name}` at {place:#x}") });
            }
        }
        None
    }

    fn is_site(&self, function: usize, at: usize, kind: Kind) -> bool {
        let (raw, constants) = &self.functions[function].instructions[at];
        let has_memory = (0..raw.op_count()).any(|n| raw.op_kind(n) == OpKind::Memory);
        let based = has_memory && raw.memory_base() != Register::None && !is_relative(raw);
        let on_stack = matches!(raw.memory_base(), Register::RSP | Register::RBP);
        let conditional = raw.flow_control() == FlowControl::ConditionalBranch;
        match kind {
            Kind::FrameSize => {
                matches!(raw.mnemonic(), Mnemonic::Sub | Mnemonic::Add | Mnemonic::Lea)
                    && raw.op0_kind() == OpKind::Register
                    && raw.op0_register() == Register::RSP
                    && (constants.has_immediate() || constants.has_displacement())
            }
            Kind::SavedRegister => {
                matches!(raw.mnemonic(), Mnemonic::Push | Mnemonic::Pop)
                    && raw.op0_kind() == OpKind::Register
            }
            Kind::Displacement => based && constants.has_displacement(),
            Kind::Spill => based && on_stack && constants.has_displacement(),
            Kind::LengthCheck | Kind::NullCheck | Kind::TypeCheck | Kind::MemoryCheck => {
                conditional && self.checks(function, at) == Some(kind)
            }
            Kind::OtherCheck => conditional,
            Kind::Extension => {
                let widens = matches!(
                    raw.mnemonic(),
                    Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd | Mnemonic::Cdqe
                );
                let moves = raw.mnemonic() == Mnemonic::Mov
                    && raw.op_count() == 2
                    && raw.op0_kind() == OpKind::Register
                    && raw.op1_kind() == OpKind::Register
                    && raw.op0_register().is_gpr32();
                widens || moves
            }
            Kind::Target => conditional || raw.flow_control() == FlowControl::UnconditionalBranch,
            Kind::Callee => raw.flow_control() == FlowControl::Call,
            Kind::Field => is_field(raw),
            Kind::Builtin => {
                based
                    && !on_stack
                    && constants.has_displacement()
                    && (0..128).contains(&raw.memory_displacement64().cast_signed())
                    && raw.memory_index() == Register::None
            }
            Kind::Immediate => constants.has_immediate(),
            Kind::Condition => raw.condition_code() != ConditionCode::None,
            Kind::Width => {
                let rest = &self.functions[function].range;
                raw.len() > 1 && rest.start > 0 && has_wide_form(raw)
            }
            Kind::Register => raw.op_count() > 0 && raw.len() > 1,
            Kind::JumpTable => raw.mnemonic() == Mnemonic::Lea && is_relative(raw),
            Kind::Bytes => true,
            Kind::Two => false,
        }
    }

    /// What a conditional branch checks, by the comparison before it.
    fn checks(&self, function: usize, at: usize) -> Option<Kind> {
        let all = &self.functions[function].instructions;
        let compares = |at: &usize| matches!(all[*at].0.mnemonic(), Mnemonic::Cmp | Mnemonic::Test);
        let compare = (at.saturating_sub(4)..at).rev().find(compares)?;
        let raw = &all[compare].0;
        let (a, b) = (raw.op0_register(), raw.op1_register());
        if raw.mnemonic() == Mnemonic::Test {
            let null = raw.op0_kind() == OpKind::Register && a == b && a.is_gpr64();
            return null.then_some(Kind::NullCheck);
        }
        // Operands in memory, or loaded not long before.
        let mut found = Vec::new();
        if (0..2).any(|n| raw.op_kind(n) == OpKind::Memory) {
            found.push(raw.memory_displacement64().cast_signed());
        }
        for register in [(raw.op0_kind(), a), (raw.op1_kind(), b)] {
            let (OpKind::Register, register) = register else { continue };
            let loads = |at: &usize| {
                let raw = &all[*at].0;
                raw.mnemonic() == Mnemonic::Mov
                    && raw.op0_kind() == OpKind::Register
                    && raw.op0_register().full_register() == register.full_register()
                    && raw.op1_kind() == OpKind::Memory
            };
            let load = (compare.saturating_sub(24)..compare).rev().find(loads);
            found.extend(load.map(|at| all[at].0.memory_displacement64().cast_signed()));
        }
        let of = |known: &[i64]| found.iter().any(|at| known.contains(at));
        match () {
            () if of(&self.sizes) => Some(Kind::MemoryCheck),
            () if of(&self.lengths) => Some(Kind::LengthCheck),
            () if of(&[offset_of!(FuncRef, type_id) as i64]) => Some(Kind::TypeCheck),
            () => None,
        }
    }

    fn apply(
        &self,
        object: &mut [u8],
        kind: Kind,
        function: usize,
        at: usize,
        random: &mut Random,
    ) {
        let whole = &self.functions[function];
        let (raw, constants) = &whole.instructions[at];
        let start = raw.ip() as usize;
        let range = start..start + raw.len();
        let signed = |random: &mut Random, of: &[i64]| {
            let by = random.pick(of);
            if random.below(2) == 0 { by } else { -by }
        };
        match kind {
            Kind::FrameSize => {
                let by = signed(random, &[4, 8, 16, 32, 64, 4096]);
                let place = match constants.has_immediate() {
                    true => immediate(constants),
                    false => displacement(constants),
                };
                add(object, start, place, by);
            }
            Kind::SavedRegister => {
                object[range.end - 1] = object[range.end - 1] & !7 | random.below(8) as u8;
            }
            Kind::Displacement => {
                let by = signed(
                    random,
                    &[1, 4, 8, 16, 0x60, 0x1000, 0x1_0000, 0x2_0000, 1 << 28, 0x7fff_0000],
                );
                add(object, start, displacement(constants), by);
            }
            Kind::Spill => {
                let by = signed(random, &[4, 8, 16, 24, 32, 64]);
                add(object, start, displacement(constants), by);
            }
            Kind::LengthCheck
            | Kind::NullCheck
            | Kind::TypeCheck
            | Kind::MemoryCheck
            | Kind::OtherCheck => object[range].fill(0x90),
            Kind::Extension => match (has_rex(object[start]), random.below(2)) {
                (true, 0) => object[start] ^= 8,
                _ => object[range].fill(0x90),
            },
            Kind::Target => {
                let (to, _) = random.pick(&whole.instructions);
                let bytes = random.pick(&[0, 0, 0, 1, 2]);
                retarget(object, raw, constants, to.ip() + bytes);
            }
            Kind::Callee => {
                let to = &self.functions[random.below(self.functions.len() as u64) as usize];
                let bytes = random.pick(&[0, 0, 0, 1, 4]);
                retarget(object, raw, constants, to.range.start as u64 + bytes);
            }
            Kind::Field => {
                let to = match random.below(3) {
                    0 => raw.memory_displacement64() as i32 + random.pick(&[-32, -16, -8, 8, 16]),
                    _ => random.pick(&self.fields),
                };
                let place = start + constants.displacement_offset();
                object[place..place + 4].copy_from_slice(&to.to_le_bytes());
            }
            Kind::Builtin => {
                let to = 8 * random.below(size_of::<Builtins>() as u64 / 8) as u8;
                if constants.displacement_size() == 1 {
                    object[start + constants.displacement_offset()] = to;
                }
            }
            Kind::Immediate => {
                let by = signed(random, &[1, 2, 4, 8, 16, 0x40, 0x1000, 0x1_0000, 1 << 30]);
                match random.below(4) {
                    0 => flip(object, start + constants.immediate_offset(), random),
                    _ => add(object, start, immediate(constants), by),
                }
            }
            Kind::Condition => {
                // The last byte of the code of a short jump, a long one, `set` or `cmov`.
                let near = raw.flow_control() == FlowControl::ConditionalBranch;
                let code = match (near, constants.immediate_size()) {
                    (true, size) => {
                        start + constants.immediate_offset() - 1 - usize::from(size == 0)
                    }
                    _ => start + raw.len().min(2 + usize::from(has_rex(object[start]))) - 1,
                };
                object[code] = object[code] & 0xf0 | random.below(16) as u8;
            }
            Kind::Width => object[start] ^= 8,
            Kind::Register => {
                // The byte before the constants says which registers are meant.
                let ends = [
                    (constants.has_displacement(), constants.displacement_offset()),
                    (constants.has_immediate(), constants.immediate_offset()),
                    (true, raw.len()),
                ];
                let end = ends.into_iter().find(|(has, _)| *has).map_or(raw.len(), |(_, at)| at);
                flip(object, start + end.max(2) - 1, random);
            }
            Kind::JumpTable => {
                let entry = raw.ip_rel_memory_address() as usize + 4 * random.below(12) as usize;
                // Entries lie before the code.
                if entry + 4 <= self.functions[0].range.start {
                    let by = signed(random, &[1, 2, 4, 8, 16, 64]);
                    add(object, 0, (entry, 4), by);
                }
            }
            Kind::Bytes => {
                for _ in 0..=random.below(3) {
                    let place = random.below(range.len() as u64) as usize;
                    match random.below(3) {
                        0 => object[range.start + place] = random.below(256) as u8,
                        _ => flip(object, range.start + place, random),
                    }
                }
            }
            Kind::Two => {}
        }
    }
}

/// The counts of an object's descriptor.
pub(super) fn counts(object: &[u8]) -> Counts {
    let root = object.windows(MAGIC.len()).position(|bytes| bytes == MAGIC).expect("a descriptor");
    Counts::read(|offset| {
        let at = root + offset_of!(ModuleDesc, counts) + offset;
        u32::from_le_bytes(object[at..at + 4].try_into().expect("four bytes"))
    })
}

fn is_relative(raw: &Instruction) -> bool {
    raw.is_ip_rel_memory_operand()
}

/// Does it read or write something so far below a register that it can only be the context?
fn is_field(raw: &Instruction) -> bool {
    let far = raw.memory_displacement64().cast_signed();
    (0..raw.op_count()).any(|n| raw.op_kind(n) == OpKind::Memory)
        && !is_relative(raw)
        && raw.memory_displ_size() == 8
        && (i64::from(i32::MIN)..-0x1_0000).contains(&far)
}

fn has_wide_form(raw: &Instruction) -> bool {
    let wide =
        |register: Register| register.is_gpr64() || register.is_gpr32() && register.number() >= 8;
    (0..raw.op_count()).any(|n| raw.op_kind(n) == OpKind::Register && wide(raw.op_register(n)))
        && !matches!(raw.mnemonic(), Mnemonic::Push | Mnemonic::Pop)
        && raw.flow_control() == FlowControl::Next
}

fn has_rex(byte: u8) -> bool {
    byte & 0xf0 == 0x40
}

fn immediate(constants: &ConstantOffsets) -> (usize, usize) {
    (constants.immediate_offset(), constants.immediate_size())
}

fn displacement(constants: &ConstantOffsets) -> (usize, usize) {
    (constants.displacement_offset(), constants.displacement_size())
}

/// Adds to a number in the code.
fn add(object: &mut [u8], start: usize, (offset, size): (usize, usize), by: i64) {
    let bytes = &mut object[start + offset..start + offset + size];
    let mut word = [0; 8];
    word[..size].copy_from_slice(bytes);
    let sum = i64::from_le_bytes(word).wrapping_add(by).to_le_bytes();
    bytes.copy_from_slice(&sum[..size]);
}

fn flip(object: &mut [u8], at: usize, random: &mut Random) {
    object[at] ^= 1 << random.below(8);
}

/// Makes a branch or call go somewhere else, if its distance can say that.
fn retarget(object: &mut [u8], raw: &Instruction, constants: &ConstantOffsets, to: u64) {
    let start = raw.ip() as usize;
    let distance = to.wrapping_sub(raw.next_ip()).cast_signed();
    let (offset, size) = immediate(constants);
    let fits = match size {
        1 => i8::try_from(distance).is_ok(),
        4 => i32::try_from(distance).is_ok(),
        _ => false,
    };
    if fits {
        object[start + offset..start + offset + size]
            .copy_from_slice(&distance.to_le_bytes()[..size]);
    }
}
