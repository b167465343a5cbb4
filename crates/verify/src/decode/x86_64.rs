//! x86-64 instructions as neutral operations.
//!
//! Isolation rests on this file: what an instruction does must not be more than its operations say.
//! General instructions are listed one by one. Of vector instructions only a class is known: they
//! read and write the operands that they name and nothing else; those that do more are listed as
//! refused. Anything that is in neither list is refused.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.

use awsm_abi::cpu::{Arch, CpuFeatures};
use iced_x86::{
    ConditionCode, CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction as Raw,
    Mnemonic as M, OpKind, Register,
};

use super::{Code, Instruction, Undecodable};
use crate::op::{
    Base, Binary, Bytes, Condition, Extension, Extent, Flags, Op, Place, Reg, Source, TEMPORARY,
    Test, Words,
};

/// The accumulator, which some instructions name without saying so.
const RAX: Reg = 0;
const RCX: Reg = 1;
const RDX: Reg = 2;
const RSP: Reg = 4;
const RBP: Reg = 5;
const RSI: Reg = 6;
const RDI: Reg = 7;
const R11: Reg = 11;

/// Bits that hold the number of bits that an instruction counts: 0 to 64.
const BIT_COUNT_BITS: u8 = 7;

/// Instruction set extensions that code may use.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    known: Vec<bool>,
}

impl Allowed {
    /// The baseline and what the descriptor names.
    pub(crate) fn new(features: CpuFeatures) -> Self {
        use CpuidFeature as F;
        let mut known = vec![false; 256];
        let mut allow = |features: &[CpuidFeature]| {
            for feature in features {
                if let Some(slot) = known.get_mut(*feature as usize) {
                    *slot = true;
                }
            }
        };
        allow(&[F::INTEL8086, F::INTEL186, F::INTEL286, F::INTEL386, F::INTEL486, F::X64]);
        allow(&[F::CMOV, F::SSE, F::SSE2, F::MULTIBYTENOP, F::CET_IBT]);
        for name in features.names(Arch::X86_64) {
            allow(match name {
                "popcnt" => &[F::POPCNT],
                "sse3" => &[F::SSE3],
                "ssse3" => &[F::SSSE3],
                "sse4.1" => &[F::SSE4_1],
                "sse4.2" => &[F::SSE4_2],
                "avx" => &[F::AVX],
                "avx2" => &[F::AVX2],
                "bmi" => &[F::BMI1],
                "bmi2" => &[F::BMI2],
                "f16c" => &[F::F16C],
                "fma" => &[F::FMA],
                "lzcnt" => &[F::LZCNT],
                "movbe" => &[F::MOVBE],
                "avx512f" => &[F::AVX512F],
                "avx512bw" => &[F::AVX512BW],
                "avx512cd" => &[F::AVX512CD],
                "avx512dq" => &[F::AVX512DQ],
                "avx512vl" => &[F::AVX512VL],
                "adx" => &[F::ADX],
                "aes" => &[F::AES],
                "avx512ifma" => &[F::AVX512_IFMA],
                "avx512vbmi" => &[F::AVX512_VBMI],
                "avx512vpopcntdq" => &[F::AVX512_VPOPCNTDQ],
                "gfni" => &[F::GFNI],
                "pclmul" => &[F::PCLMULQDQ],
                "sha" => &[F::SHA],
                _ => &[],
            });
        }
        Self { known }
    }

    fn has(&self, raw: &Raw) -> bool {
        let has = |f: &CpuidFeature| self.known.get(*f as usize).copied().unwrap_or(false);
        raw.cpuid_features().iter().all(has) || raw.mnemonic() == M::Tzcnt
    }
}

/// Decodes a whole function: every byte belongs to one instruction.
pub(crate) fn decode(bytes: &[u8], address: u64, allowed: &Allowed) -> Result<Code, Undecodable> {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let mut code = Code { bytes: bytes.len() as u32, ..Code::default() };
    code.instructions.reserve(bytes.len() / 4);
    code.ops.reserve(bytes.len() / 4);
    let mut raw = Raw::default();
    let zero_counts = allowed.known[CpuidFeature::BMI1 as usize];
    while decoder.can_decode() {
        let at = decoder.position() as u32;
        code.instructions.push(Instruction { at, op: code.ops.len() as u32 });
        if let Some(ops) = probes(&bytes[at as usize..]) {
            code.ops.extend(ops);
            let end = at as usize + PROBES_BYTES;
            decoder.set_position(end).expect("it is there");
            decoder.set_ip(address + end as u64);
            continue;
        }
        decoder.decode_out(&mut raw);
        let undecodable = |what: String| Undecodable { at, what };
        if raw.is_invalid() {
            return Err(undecodable("bytes that are no instruction".to_owned()));
        }
        if !allowed.has(&raw) {
            let what = format!("`{:?}` of a feature that it does not name", raw.mnemonic());
            return Err(undecodable(what.to_lowercase()));
        }
        let here = &bytes[at as usize..decoder.position()];
        if raw.flow_control() != FlowControl::Next && is_narrowed(here) {
            let what = "a jump of 16 bits, which processors take in different ways".to_owned();
            return Err(undecodable(what));
        }
        let mut lower = Lower { raw: &raw, ops: &mut code.ops, zero_counts };
        if lower.instruction().is_none() {
            let name = format!("{:?}", raw.mnemonic()).to_lowercase();
            return Err(undecodable(format!("`{name}`, which guests must not have in this form")));
        }
    }
    Ok(code)
}

/// What LLVM puts before a large frame, a loop that touches each of its pages. It is taken for one
/// instruction, so that nobody can jump into it. Where `..` stands are the bytes of the frame.
///
/// ```text
///     49 89 e3                    mov r11, rsp
///     49 81 eb ..                 sub r11, bytes
/// 1:  48 81 ec 00 10 00 00        sub rsp, 4096
///     48 c7 04 24 00 00 00 00     mov qword ptr [rsp], 0
///     4c 39 dc                    cmp rsp, r11
///     75 ec                       jne 1b
/// ```
const PROBES: ([u8; 6], [u8; 20]) = (
    [0x49, 0x89, 0xe3, 0x49, 0x81, 0xeb],
    [
        0x48, 0x81, 0xec, 0x00, 0x10, 0x00, 0x00, 0x48, 0xc7, 0x04, 0x24, 0x00, 0x00, 0x00, 0x00,
        0x4c, 0x39, 0xdc, 0x75, 0xec,
    ],
);

/// Bytes of that loop.
const PROBES_BYTES: usize = PROBES.0.len() + 4 + PROBES.1.len();

/// Bytes between two touches.
const PROBES_STEP: i64 = 4096;

/// What such a loop does, if code begins with one.
fn probes(code: &[u8]) -> Option<[Op; 3]> {
    let (frame, rest) = code.strip_prefix(&PROBES.0)?.split_first_chunk()?;
    let bytes = i64::from(i32::from_le_bytes(*frame));
    if !rest.starts_with(&PROBES.1) || bytes <= 0 || bytes % PROBES_STEP != 0 {
        return None;
    }
    let (a, b) = (Source::Reg(RSP), Source::Number(bytes));
    Some([
        Op::Compute { op: Binary::Sub, to: R11, bytes: 8, a, b, flags: Flags::Set },
        Op::Probe { step: PROBES_STEP, bytes },
        Op::Forget,
    ])
}

/// Has an instruction the prefix for 16 bits? Of transfers some processors ignore it, and others
/// take less of what follows for the distance, or keep 16 bits of the address.
fn is_narrowed(instruction: &[u8]) -> bool {
    let is_prefix = |byte: &&u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 | 0x40..=0x4f);
    instruction.iter().take_while(is_prefix).any(|byte| *byte == 0x66)
}

/// Is this nothing but instructions without effect, as compilers put between functions?
pub(crate) fn is_padding(bytes: &[u8], address: u64) -> bool {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    decoder.iter().all(|raw| matches!(raw.mnemonic(), M::Nop | M::Int3))
}

/// One instruction being lowered. Methods answer `None` for what is refused.
pub(super) struct Lower<'a> {
    pub(super) raw: &'a Raw,
    pub(super) ops: &'a mut Vec<Op>,
    /// Does the processor surely count trailing zeros where it is asked to? Else it looks for a
    /// bit.
    pub(super) zero_counts: bool,
}

/// The decoder's own registers: a loaded operand, a result on its way to memory.
const LOADED: Reg = TEMPORARY;
const RESULT: Reg = TEMPORARY + 1;

impl Lower<'_> {
    pub(super) fn push(&mut self, op: Op) -> Option<()> {
        self.ops.push(op);
        Some(())
    }

    fn instruction(&mut self) -> Option<()> {
        let raw = self.raw;
        if raw.mnemonic() == M::Nop || raw.mnemonic() == M::Endbr64 {
            return Some(());
        }
        if raw.segment_prefix() != Register::None || raw.has_lock_prefix() || raw.is_privileged() {
            return None;
        }
        let repeats = raw.has_rep_prefix() || raw.has_repne_prefix();
        if repeats && !matches!(raw.mnemonic(), M::Movsb | M::Stosb) {
            return None;
        }
        match raw.flow_control() {
            FlowControl::Next => {}
            _ => return self.transfer(),
        }
        match raw.mnemonic() {
            M::Mov => self.move_(),
            M::Movzx => self.extend(Extension::Zero),
            M::Movsx | M::Movsxd => self.extend(Extension::Sign),
            M::Cbw => self.widen(2),
            M::Cwde => self.widen(4),
            M::Cdqe => self.widen(8),
            M::Lea => {
                let (to, bytes) = self.register(0)?;
                let place = self.place()?;
                self.push(Op::Address { to, bytes, place })
            }
            M::Add => self.compute(Binary::Add, Flags::Set),
            M::Sub => self.compute(Binary::Sub, Flags::Set),
            M::And => self.compute(Binary::And, Flags::Set),
            M::Or => self.compute(Binary::Or, Flags::Set),
            M::Xor => self.compute(Binary::Xor, Flags::Set),
            M::Adc | M::Adcx | M::Adox => self.compute(Binary::AddCarry, Flags::Forget),
            M::Sbb => self.compute(Binary::SubBorrow, Flags::Forget),
            M::Inc => self.step(Binary::Add),
            M::Dec => self.step(Binary::Sub),
            M::Neg => self.negate(),
            M::Not => self.invert(),
            M::Imul => self.multiply(),
            M::Shl | M::Sal => self.shift(Binary::ShiftLeft),
            M::Shr => self.shift(Binary::ShiftRight),
            M::Sar => self.shift(Binary::ShiftSigned),
            M::Shlx => self.shift_freely(Binary::ShiftLeft),
            M::Shrx => self.shift_freely(Binary::ShiftRight),
            M::Sarx => self.shift_freely(Binary::ShiftSigned),
            M::Andn => self.and_not(),
            M::Bextr => {
                let (to, bytes) = self.register(0)?;
                let (a, b) = (self.source(1)?, self.source(2)?);
                let op = Binary::Extract;
                self.push(Op::Compute { op, to, bytes, a, b, flags: Flags::Forget })
            }
            M::Cmp => self.compare(Test::Difference),
            M::Test => self.compare(Test::Common),
            M::Push => self.save(),
            M::Pop => self.restore(),
            M::Leave => self.leave(),
            M::Xchg => self.exchange(),
            M::Movsb => self.string(Some(RSI)),
            M::Stosb => self.string(None),
            _ if raw.condition_code() != ConditionCode::None => self.conditional(),
            _ => self.opaque(),
        }
    }

    // Operands.

    /// A general register that is an operand, and how much of it.
    pub(super) fn register(&self, operand: u32) -> Option<(Reg, Bytes)> {
        if self.raw.op_kind(operand) != OpKind::Register {
            return None;
        }
        general(self.raw.op_register(operand))
    }

    pub(super) fn is_memory(&self, operand: u32) -> bool {
        self.raw.op_kind(operand) == OpKind::Memory
    }

    /// Bytes of an operand, a register or in memory.
    fn bytes(&self, operand: u32) -> Option<Bytes> {
        match self.raw.op_kind(operand) {
            OpKind::Register => Some(general(self.raw.op_register(operand))?.1),
            OpKind::Memory => match self.raw.memory_size().size() {
                bytes @ (1 | 2 | 4 | 8) => Some(bytes as Bytes),
                _ => None,
            },
            _ => None,
        }
    }

    /// The memory operand's address. Vector registers are no index here.
    pub(super) fn place(&self) -> Option<Place> {
        let raw = self.raw;
        if raw.is_ip_rel_memory_operand() {
            if raw.memory_base() != Register::RIP {
                return None;
            }
            let offset = raw.ip_rel_memory_address().cast_signed();
            return Some(Place { base: Base::Image, index: None, offset, narrow: false });
        }
        let wide = |register: Register| match general(register) {
            Some((reg, bytes @ (4 | 8))) => Some((reg, bytes == 4)),
            _ => None,
        };
        let (base, narrow) = match raw.memory_base() {
            Register::None => (Base::Zero, false),
            register => wide(register).map(|(reg, narrow)| (Base::Reg(reg), narrow))?,
        };
        let (index, narrow_index) = match raw.memory_index() {
            Register::None => (None, narrow),
            register => {
                let (reg, narrow) = wide(register)?;
                (Some((reg, raw.memory_index_scale() as u8)), narrow)
            }
        };
        if base != Base::Zero && narrow != narrow_index {
            return None;
        }
        // An address of no register may have a displacement that is cut to 32 bits.
        let bare = base == Base::Zero && index.is_none();
        if bare && raw.memory_displ_size() != 8 {
            let displacement = raw.memory_displacement64();
            if displacement > i32::MAX as u64 {
                return None;
            }
        }
        let offset = match narrow_index {
            true => i64::from(raw.memory_displacement32().cast_signed()),
            false => raw.memory_displacement64().cast_signed(),
        };
        Some(Place { base, index, offset, narrow: narrow_index })
    }

    /// An operand to read; what is in memory is loaded first.
    fn source(&mut self, operand: u32) -> Option<Source> {
        match self.raw.op_kind(operand) {
            OpKind::Register => {
                let register = self.raw.op_register(operand);
                if let Some(reg) = second_byte(register) {
                    return Some(Source::Second(reg));
                }
                Some(Source::Reg(general(register)?.0))
            }
            OpKind::Memory => {
                let bytes = self.bytes(operand)?;
                let place = self.place()?;
                self.push(Op::Load { to: LOADED, place, bytes, extension: Extension::Zero })?;
                Some(Source::Reg(LOADED))
            }
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => {
                Some(Source::Number(self.raw.immediate(operand).cast_signed()))
            }
            _ => None,
        }
    }

    /// Writes a result where operand 0 says: `write` gets the register that it goes to.
    fn result(&mut self, write: impl FnOnce(&mut Self, Reg) -> Option<()>) -> Option<()> {
        if self.is_memory(0) {
            let bytes = self.bytes(0)?;
            write(self, RESULT)?;
            let place = self.place()?;
            return self.push(Op::Store { place, bytes, from: Source::Reg(RESULT) });
        }
        match general(self.raw.op_register(0)) {
            Some((to, _)) => write(self, to),
            None => {
                // The second lowest byte changes: nothing is known of the register then.
                let reg = second_byte(self.raw.op_register(0))?;
                write(self, RESULT)?;
                self.push(Op::Unknown { to: reg, bytes: 8, bits: 64 })
            }
        }
    }

    /// Bytes of operand 0, even if it is the second lowest byte of a register.
    fn width(&self) -> Option<Bytes> {
        match self.raw.op_kind(0) {
            OpKind::Register if second_byte(self.raw.op_register(0)).is_some() => Some(1),
            _ => self.bytes(0),
        }
    }

    // Moves.

    fn move_(&mut self) -> Option<()> {
        let bytes = self.width()?;
        if self.is_memory(0) {
            let from = self.source(1)?;
            let place = self.place()?;
            return self.push(Op::Store { place, bytes, from });
        }
        if self.is_memory(1) && bytes >= 4 {
            let (to, _) = self.register(0)?;
            let place = self.place()?;
            return self.push(Op::Load { to, place, bytes, extension: Extension::Zero });
        }
        let from = self.source(1)?;
        self.result(|this, to| this.push(Op::Move { to, bytes, from }))
    }

    fn extend(&mut self, extension: Extension) -> Option<()> {
        let (to, bytes) = self.register(0)?;
        let has = match self.raw.op_kind(1) {
            OpKind::Register if second_byte(self.raw.op_register(1)).is_some() => 1,
            _ => self.bytes(1)?,
        };
        if self.is_memory(1) && bytes == 8 {
            let place = self.place()?;
            return self.push(Op::Load { to, place, bytes: has, extension });
        }
        let from = self.source(1)?;
        self.push(Op::Extend { to, bytes, from, has, extension })
    }

    /// The accumulator's lower half extended to all of it.
    fn widen(&mut self, bytes: Bytes) -> Option<()> {
        let from = Source::Reg(RAX);
        let has = bytes / 2;
        self.push(Op::Extend { to: RAX, bytes, from, has, extension: Extension::Sign })
    }

    fn exchange(&mut self) -> Option<()> {
        let ((a, bytes), (b, _)) = (self.register(0)?, self.register(1)?);
        self.push(Op::Move { to: RESULT, bytes: 8, from: Source::Reg(a) })?;
        self.push(Op::Move { to: a, bytes, from: Source::Reg(b) })?;
        self.push(Op::Move { to: b, bytes, from: Source::Reg(RESULT) })
    }

    fn save(&mut self) -> Option<()> {
        let from = match self.raw.op_kind(0) {
            OpKind::Register => match self.register(0)? {
                (reg, 8) => Source::Reg(reg),
                _ => return None,
            },
            OpKind::Memory if self.bytes(0)? != 8 => return None,
            OpKind::Immediate16 | OpKind::Immediate8to16 => return None,
            _ => self.source(0)?,
        };
        self.push(Op::Store { place: above(RSP, -8), bytes: 8, from })?;
        self.adjust(-8)
    }

    fn restore(&mut self) -> Option<()> {
        let (to, 8) = self.register(0)? else { return None };
        let place = above(RSP, 0);
        self.push(Op::Load { to: LOADED, place, bytes: 8, extension: Extension::Zero })?;
        self.adjust(8)?;
        self.push(Op::Move { to, bytes: 8, from: Source::Reg(LOADED) })
    }

    fn leave(&mut self) -> Option<()> {
        if self.raw.code() != iced_x86::Code::Leaveq {
            return None;
        }
        self.push(Op::Move { to: RSP, bytes: 8, from: Source::Reg(RBP) })?;
        let place = above(RSP, 0);
        self.push(Op::Load { to: RBP, place, bytes: 8, extension: Extension::Zero })?;
        self.adjust(8)
    }

    fn adjust(&mut self, by: i64) -> Option<()> {
        self.push(Op::Address { to: RSP, bytes: 8, place: above(RSP, by) })
    }

    // Arithmetic.

    fn compute(&mut self, op: Binary, flags: Flags) -> Option<()> {
        let bytes = self.width()?;
        if bytes == 8 && op == Binary::Xor && self.is_itself() || self.is_zeroing(op) {
            let (to, bytes) = self.register(0)?;
            self.push(Op::Move { to, bytes, from: Source::Number(0) })?;
            return self.push(Op::Compare {
                test: Test::Common,
                bytes,
                a: Source::Reg(to),
                b: Source::Reg(to),
            });
        }
        // Only one of the two can be in memory.
        let (a, b) = (self.source(0)?, self.source(1)?);
        self.result(|this, to| this.push(Op::Compute { op, to, bytes, a, b, flags }))
    }

    fn is_itself(&self) -> bool {
        self.raw.op0_kind() == OpKind::Register
            && self.raw.op1_kind() == OpKind::Register
            && self.raw.op0_register() == self.raw.op1_register()
            && general(self.raw.op0_register()).is_some()
    }

    /// A register's difference from itself.
    fn is_zeroing(&self, op: Binary) -> bool {
        matches!(op, Binary::Xor | Binary::Sub)
            && self.is_itself()
            && general(self.raw.op0_register()).is_some_and(|(_, bytes)| bytes >= 4)
    }

    /// Up or down by one, which leaves the carry alone.
    fn step(&mut self, op: Binary) -> Option<()> {
        let bytes = self.width()?;
        let (a, b) = (self.source(0)?, Source::Number(1));
        let flags = Flags::Result;
        self.result(|this, to| this.push(Op::Compute { op, to, bytes, a, b, flags }))
    }

    fn negate(&mut self) -> Option<()> {
        let bytes = self.width()?;
        let (op, a, b, flags) = (Binary::Sub, Source::Number(0), self.source(0)?, Flags::Set);
        self.result(|this, to| this.push(Op::Compute { op, to, bytes, a, b, flags }))
    }

    fn invert(&mut self) -> Option<()> {
        let bytes = self.width()?;
        let (op, a, b, flags) = (Binary::Xor, self.source(0)?, Source::Number(-1), Flags::Keep);
        self.result(|this, to| this.push(Op::Compute { op, to, bytes, a, b, flags }))
    }

    fn multiply(&mut self) -> Option<()> {
        if self.raw.op_count() == 1 {
            return self.opaque();
        }
        let (to, bytes) = self.register(0)?;
        let (a, b) = match self.raw.op_count() {
            2 => (self.source(0)?, self.source(1)?),
            _ => (self.source(1)?, self.source(2)?),
        };
        self.push(Op::Compute { op: Binary::Mul, to, bytes, a, b, flags: Flags::Forget })
    }

    fn shift(&mut self, op: Binary) -> Option<()> {
        let bytes = self.width()?;
        let a = self.source(0)?;
        let (b, flags) = match self.source(1)? {
            Source::Number(by) => {
                let by = by & if bytes == 8 { 63 } else { 31 };
                (Source::Number(by), if by == 0 { Flags::Keep } else { Flags::Result })
            }
            by => (by, Flags::Forget),
        };
        self.result(|this, to| this.push(Op::Compute { op, to, bytes, a, b, flags }))
    }

    /// Shifts that leave the flags alone.
    fn shift_freely(&mut self, op: Binary) -> Option<()> {
        let (to, bytes) = self.register(0)?;
        let (a, b) = (self.source(1)?, self.source(2)?);
        self.push(Op::Compute { op, to, bytes, a, b, flags: Flags::Keep })
    }

    fn and_not(&mut self) -> Option<()> {
        let (to, bytes) = self.register(0)?;
        let (a, b) = (self.source(1)?, Source::Number(-1));
        let op = Op::Compute { op: Binary::Xor, to: RESULT, bytes, a, b, flags: Flags::Keep };
        self.push(op)?;
        let (a, b) = (Source::Reg(RESULT), self.source(2)?);
        self.push(Op::Compute { op: Binary::And, to, bytes, a, b, flags: Flags::Result })
    }

    fn compare(&mut self, test: Test) -> Option<()> {
        let bytes = self.width()?;
        let (a, b) = (self.source(0)?, self.source(1)?);
        self.push(Op::Compare { test, bytes, a, b })
    }

    /// Selections and truth values.
    fn conditional(&mut self) -> Option<()> {
        let condition = condition(self.raw.condition_code());
        let name = self.raw.mnemonic();
        if (M::Cmova..=M::Cmovs).contains(&name) {
            let (to, bytes) = self.register(0)?;
            let then = self.source(1)?;
            let otherwise = Source::Reg(to);
            return self.push(Op::Select { to, bytes, condition, then, otherwise });
        }
        if (M::Seta..=M::Sets).contains(&name) {
            let (then, otherwise) = (Source::Number(1), Source::Number(0));
            let truth = Op::Select { to: RESULT, bytes: 8, condition, then, otherwise };
            self.push(truth)?;
            let from = Source::Reg(RESULT);
            if self.is_memory(0) {
                let place = self.place()?;
                return self.push(Op::Store { place, bytes: 1, from });
            }
            return self.result(|this, to| this.push(Op::Move { to, bytes: 1, from }));
        }
        None
    }

    /// Bytes copied or set, upwards: the direction flag is always clear, since nothing sets it.
    fn string(&mut self, from: Option<Reg>) -> Option<()> {
        if !self.raw.has_rep_prefix() || self.raw.memory_segment() == Register::FS {
            return None;
        }
        let wide = match self.raw.mnemonic() {
            M::Movsb => {
                self.raw.op0_kind() == OpKind::MemoryESRDI
                    && self.raw.op1_kind() == OpKind::MemorySegRSI
            }
            _ => self.raw.op0_kind() == OpKind::MemoryESRDI,
        };
        if !wide {
            return None;
        }
        self.push(Op::Bulk { to: RDI, from, length: RCX })?;
        for end in [Some(RDI), from].into_iter().flatten() {
            let index = Some((RCX, 1));
            let place = Place { base: Base::Reg(end), index, offset: 0, narrow: false };
            self.push(Op::Address { to: end, bytes: 8, place })?;
        }
        self.push(Op::Move { to: RCX, bytes: 8, from: Source::Number(0) })
    }

    // Control.

    fn transfer(&mut self) -> Option<()> {
        let raw = self.raw;
        let near = |kind: OpKind| kind == OpKind::NearBranch64;
        match raw.mnemonic() {
            M::Jmp if near(raw.op0_kind()) => self.push(Op::Jump { to: raw.near_branch64() }),
            M::Call if near(raw.op0_kind()) => self.push(Op::Call { to: raw.near_branch64() }),
            M::Jmp if raw.flow_control() == FlowControl::IndirectBranch => {
                let to = self.target()?;
                self.push(Op::JumpTo { to })
            }
            M::Call if raw.flow_control() == FlowControl::IndirectCall => {
                let to = self.target()?;
                self.push(Op::CallTo { to })
            }
            M::Ret => match raw.op_count() {
                0 => self.push(Op::Return { pops: 0 }),
                _ => self.push(Op::Return { pops: raw.immediate16() }),
            },
            M::Ud2 => self.push(Op::Fault),
            // Those that look at a register instead of conditions are not used.
            _ if raw.flow_control() == FlowControl::ConditionalBranch
                && raw.condition_code() != ConditionCode::None
                && near(raw.op0_kind()) =>
            {
                let condition = condition(raw.condition_code());
                self.push(Op::Branch { condition, to: raw.near_branch64() })
            }
            _ => None,
        }
    }

    /// The register with the address that an indirect transfer goes to.
    fn target(&mut self) -> Option<Reg> {
        match (self.bytes(0)?, self.source(0)?) {
            (8, Source::Reg(reg)) => Some(reg),
            _ => None,
        }
    }

    // The rest.

    /// Instructions whose results are not followed.
    fn opaque(&mut self) -> Option<()> {
        let raw = self.raw;
        match raw.mnemonic() {
            // One operand, the accumulator and its extension besides.
            M::Mul | M::Imul | M::Div | M::Idiv => {
                let bytes = self.bytes(0)?;
                self.source(0)?;
                self.unknown(RAX, bytes)?;
                if bytes > 1 {
                    self.unknown(RDX, bytes)?;
                } else {
                    self.unknown(RAX, 2)?;
                }
            }
            M::Cwd => self.unknown(RDX, 2)?,
            M::Cdq => self.unknown(RDX, 4)?,
            M::Cqo => self.unknown(RDX, 8)?,
            M::Mulx => {
                self.source(2)?;
                for operand in 0..2 {
                    let (reg, bytes) = self.register(operand)?;
                    self.unknown(reg, bytes)?;
                }
            }
            // Where there is no bit, processors leave the register as it is, with its upper half.
            M::Bsf | M::Bsr | M::Tzcnt if !(self.zero_counts && raw.mnemonic() == M::Tzcnt) => {
                self.source(1)?;
                let (to, bytes) = self.register(0)?;
                self.push(Op::Unknown { to: RESULT, bytes, bits: BIT_COUNT_BITS })?;
                let (then, otherwise) = (Source::Reg(RESULT), Source::Reg(to));
                let bytes = if bytes == 4 { 8 } else { bytes };
                let condition = Condition::Other;
                self.push(Op::Select { to, bytes, condition, then, otherwise })?;
            }
            M::Lzcnt => {
                let from = self.source(1)?;
                let (to, bytes) = self.register(0)?;
                self.push(Op::Zeros { to, bytes, from })?;
            }
            M::Popcnt | M::Tzcnt => {
                self.source(1)?;
                let (to, bytes) = self.register(0)?;
                self.push(Op::Unknown { to, bytes, bits: BIT_COUNT_BITS })?;
            }
            // A bit's number in a register may lead out of the operand.
            M::Bt if self.is_memory(0) && raw.op1_kind() != OpKind::Register => {
                self.source(0)?;
            }
            M::Bt | M::Bts | M::Btr | M::Btc if self.is_memory(0) => return None,
            M::Bt => {}
            M::Bts | M::Btr | M::Btc | M::Bswap => self.changed()?,
            M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd => {
                if self.is_memory(1) {
                    self.source(1)?;
                }
                let bytes = self.width()?;
                if self.is_memory(0) {
                    self.source(0)?;
                }
                self.result(|this, to| this.unknown(to, bytes))?;
            }
            M::Rorx | M::Bzhi | M::Blsr | M::Blsi | M::Blsmsk | M::Pdep | M::Pext | M::Crc32 => {
                for operand in 1..raw.op_count() {
                    if self.is_memory(operand) {
                        self.source(operand)?;
                    }
                }
                self.changed()?;
            }
            M::Movbe => {
                if self.is_memory(0) {
                    let (place, bytes) = (self.place()?, self.bytes(0)?);
                    self.push(Op::Touch { place, bytes: bytes.into(), write: true })?;
                } else {
                    self.source(1)?;
                    self.changed()?;
                }
            }
            M::Vzeroupper => {}
            M::Vzeroall => {
                for to in 0..16 {
                    self.push(Op::Vector { to, extent: Extent::All, words: Words::AtMost(0) })?;
                }
            }
            _ => self.vector()?,
        }
        if raw.rflags_modified() != 0 {
            self.push(Op::Forget)?;
        }
        Some(())
    }

    pub(super) fn unknown(&mut self, to: Reg, bytes: Bytes) -> Option<()> {
        self.push(Op::Unknown { to, bytes, bits: bytes * 8 })
    }

    /// Operand 0, a register, becomes anything.
    fn changed(&mut self) -> Option<()> {
        let (to, bytes) = self.register(0)?;
        self.unknown(to, bytes)
    }
}

/// A general register's number and bytes; not the second lowest bytes.
pub(super) fn general(register: Register) -> Option<(Reg, Bytes)> {
    if !register.is_gpr() || second_byte(register).is_some() {
        return None;
    }
    Some((register.full_register().number() as Reg, register.size() as Bytes))
}

/// The register of which this is the second lowest byte.
fn second_byte(register: Register) -> Option<Reg> {
    match register {
        Register::AH => Some(RAX),
        Register::CH => Some(RCX),
        Register::DH => Some(RDX),
        Register::BH => Some(3),
        _ => None,
    }
}

fn above(base: Reg, offset: i64) -> Place {
    Place { base: Base::Reg(base), index: None, offset, narrow: false }
}

fn condition(code: ConditionCode) -> Condition {
    match code {
        ConditionCode::e => Condition::Equal,
        ConditionCode::ne => Condition::NotEqual,
        ConditionCode::b => Condition::Below,
        ConditionCode::be => Condition::BelowOrEqual,
        ConditionCode::a => Condition::Above,
        ConditionCode::ae => Condition::AboveOrEqual,
        ConditionCode::l => Condition::Less,
        ConditionCode::le => Condition::LessOrEqual,
        ConditionCode::g => Condition::Greater,
        ConditionCode::ge => Condition::GreaterOrEqual,
        ConditionCode::s => Condition::Negative,
        ConditionCode::ns => Condition::NotNegative,
        _ => Condition::Other,
    }
}
