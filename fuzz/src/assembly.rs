//! Random machine code that computes an address: where the verifier says that it stays inside, it
//! does.
//!
//! A program is a few dozen instructions on numbers, with branches, loops, spills and vectors, and
//! one access to memory in the end, by a sum near the limits. The verifier sees it with the access.
//! If it is shown, it runs without: there the function answers how far from the memory's beginning
//! it would have been, for arguments that are likely to be the worst. So what is found is not that
//! something was touched, but that a proof is wrong.

use std::sync::Arc;

use awsm_abi::context::{CONTEXT_GUARD_BYTES, below};
use awsm_abi::{GUARD_RESERVE_BYTES, Isolation};
use awsm_compile::{OptLevel, Options};
use awsm_sandbox::module::Module;
use awsm_sandbox::{
    Call, Limits, Linker, Pool, PoolConfig, Program, SealedObject, Stop, Val, clock,
};
use object::{Object, ObjectSymbol};

use crate::random::Random;

/// What came of one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is refused, or its access is not shown.
    Refused,
    /// It is shown, and was right for so many arguments.
    Right(u32),
}

/// Nanoseconds that a program may run for one pair of arguments.
const RUN_NS: u64 = 20_000_000;

/// Bytes that the module's memory has.
const MEMORY_BYTES: i64 = 1 << 16;

/// An answer that is no distance: the program ended before its access.
const ENDED: i64 = i64::MIN + 0x5ec2e7;

/// Registers that programs work with: all that nobody wants back but `rdi`, the context.
const REGISTERS: [u8; 8] = [0, 1, 2, 6, 8, 9, 10, 11];

/// What programs are put into: a module with a function that has room for them.
pub struct Template {
    isolation: Isolation,
    object: Vec<u8>,
    start: usize,
    room: usize,
}

impl Template {
    /// Compiles it.
    ///
    /// # Errors
    /// If it does not compile.
    pub fn new(isolation: Isolation) -> Result<Self, String> {
        let mut body = "(local.get 0)".to_owned();
        for number in 0..200 {
            body +=
                &format!("(i64.const {}) (i64.add) (global.set $g) (global.get $g)", number * 977);
        }
        let data: String = (0..256).map(|byte| format!("\\{:02x}", (byte * 167) & 0xff)).collect();
        let text = format!(
            r#"(module (memory 1 1) (data (i32.const 0) "{data}") (global $g (mut i64) (i64.const 0))
            (func (export "run") (param i64 i64) (result i64) {body}))"#
        );
        let wasm = wat::parse_str(text).map_err(|error| error.to_string())?;
        let options = Options { isolation, opt_level: OptLevel::O0, ..Options::default() };
        let object = awsm_compile::compile(&wasm, &options).map_err(|error| error.to_string())?;
        let file = object::File::parse(&*object).map_err(|error| error.to_string())?;
        let symbol =
            file.symbols().find(|symbol| symbol.name().is_ok_and(|it| it.ends_with(":run")));
        let symbol = symbol.ok_or("no function")?;
        // Addresses are places in the file.
        let (start, room) = (symbol.address() as usize, symbol.size() as usize);
        Ok(Self { isolation, object, start, room })
    }

    fn with(&self, code: &[u8]) -> Option<Vec<u8>> {
        let mut object = self.object.clone();
        let place = &mut object[self.start..self.start + self.room];
        let (code_place, rest) = place.split_at_mut_checked(code.len())?;
        code_place.copy_from_slice(code);
        rest.fill(0xc3);
        Some(object)
    }

    /// Makes the program of a seed, and tries it.
    ///
    /// # Errors
    /// If it is shown and leaves its memory: with what arguments, by how much, and its bytes.
    pub fn seed(&self, pool: &mut Pool<()>, seed: u64) -> Result<Verdict, String> {
        let mut random = Random::new(seed, 11);
        let program = Assembler::program(&mut random, self.isolation);
        let Some(object) = self.with(&program.code(true)) else { return Ok(Verdict::Refused) };
        let options = awsm_verify::Options {
            threads: std::num::NonZeroUsize::MIN,
            ..awsm_verify::Options::default()
        };
        match awsm_verify::verify_with(&object, options) {
            Ok(report) if report.unshown().next().is_none() => {}
            _ => return Ok(Verdict::Refused),
        }
        let code = program.code(false);
        let object = self.with(&code).ok_or("the other form has no room")?;
        let object = SealedObject::of_bytes(&object, "code").map_err(|error| error.to_string())?;
        let module = Module::of_object(object).map_err(|error| error.to_string())?;
        let linked = Program::link(module, &Linker::new(), Limits::default());
        let linked = linked.map_err(|error| error.to_string())?;
        let mut tried = 0;
        for _ in 0..64 {
            let arguments = [argument(&mut random), argument(&mut random)];
            let Some(distance) = distance(pool, &linked, arguments)? else { continue };
            tried += 1;
            let end = match self.isolation {
                Isolation::Checked => MEMORY_BYTES,
                _ => GUARD_RESERVE_BYTES as i64,
            };
            let inside = distance >= -i64::from(CONTEXT_GUARD_BYTES)
                && distance <= end - i64::from(program.access.bytes);
            if distance != ENDED && !inside {
                let bytes: Vec<_> = code.iter().map(|byte| format!("{byte:02x}")).collect();
                return Err(format!(
                    "shown, but {} bytes at {distance:#x} are accessed with {arguments:#x?}: {}",
                    program.access.bytes,
                    bytes.join("")
                ));
            }
        }
        Ok(Verdict::Right(tried))
    }
}

/// Where a program's access would have been; none if it takes too long.
fn distance(
    pool: &mut Pool<()>,
    program: &Arc<Program<()>>,
    arguments: [u64; 2],
) -> Result<Option<i64>, String> {
    let entry = program.module().exported_func("run").ok_or("no function")?;
    let args = arguments.map(|argument| Val::I64(argument.cast_signed()));
    let call = Call { initialize: None, entry, args: &args };
    let started = pool.start_call(program, call, ());
    let mut sandbox = started.map_err(|(error, ())| error.to_string())?;
    let stop = sandbox.resume_until(clock::monotonic_ns() + RUN_NS);
    let results = if stop == Stop::Returned { sandbox.results() } else { Vec::new() };
    pool.recycle(sandbox);
    match (stop, &results[..]) {
        (Stop::Returned, [Val::I64(distance)]) => Ok(Some(*distance)),
        (Stop::Preempted | Stop::Trapped(_), _) => Ok(None),
        (stop, _) => Err(format!("it stops by {stop:?}")),
    }
}

/// A number that is likely to be the worst.
fn argument(random: &mut Random) -> u64 {
    let base = match random.below(6) {
        0 => 0,
        1 => 1 << random.below(64),
        2 => u64::MAX << random.below(64),
        3 => u64::from(random.next() as u32),
        4 => random.below(300),
        _ => random.next(),
    };
    base.wrapping_add(random.below(5)).wrapping_sub(2)
}

/// The access at the end: `[rdi + register * scale + displacement]`.
#[derive(Clone, Copy, Debug)]
struct Access {
    register: u8,
    scale: u8,
    displacement: i32,
    bytes: u8,
}

/// A program in two forms: with its access, or answering where it would have been.
#[derive(Debug)]
struct Assembled {
    before: Vec<u8>,
    /// Places in it of distances to the end, of four bytes.
    ends: Vec<usize>,
    access: Access,
}

impl Assembled {
    fn code(&self, with_access: bool) -> Vec<u8> {
        let mut code = self.before.clone();
        let Access { register, scale, displacement, bytes } = self.access;
        let place = |code: &mut Vec<u8>, prefix: &[u8], opcode: &[u8], wide: bool, reg: u8| {
            code.extend(prefix);
            code.push(0x40 | u8::from(wide) << 3 | reg >> 3 << 2 | register >> 3 << 1);
            code.extend(opcode);
            code.extend([
                0x84 | (reg & 7) << 3,
                (scale.ilog2() as u8 * 64) | ((register & 7) << 3) | 7,
            ]);
            code.extend(displacement.to_le_bytes());
        };
        let answer;
        if with_access {
            match bytes {
                1 => place(&mut code, &[], &[0x88], false, 0),
                2 => place(&mut code, &[0x66], &[0x89], false, 0),
                4 => place(&mut code, &[], &[0x89], false, 0),
                8 => place(&mut code, &[], &[0x8b], true, 0),
                // movups
                _ => place(&mut code, &[], &[0x0f, 0x11], false, 0),
            }
            code.push(0xc3);
            answer = code.len();
            code.push(0xc3);
        } else {
            // lea rax, the place; sub rax, rdi
            place(&mut code, &[], &[0x8d], true, 0);
            code.extend([0x48, 0x29, 0xf8, 0xc3]);
            answer = code.len();
            code.extend([0x48, 0xb8]);
            code.extend(ENDED.to_le_bytes());
            code.push(0xc3);
        }
        for end in &self.ends {
            let distance = (answer - end - 4) as u32;
            code[*end..end + 4].copy_from_slice(&distance.to_le_bytes());
        }
        code
    }
}

/// Writes instructions.
struct Assembler<'r> {
    code: Vec<u8>,
    ends: Vec<usize>,
    random: &'r mut Random,
    isolation: Isolation,
}

impl<'r> Assembler<'r> {
    fn program(random: &'r mut Random, isolation: Isolation) -> Assembled {
        let mut this = Self { code: Vec::new(), ends: Vec::new(), random, isolation };
        // Vector registers have something in them.
        for number in 0..4 {
            let from = this.register();
            this.vector(0x66, &[0x6e], true, number, from);
        }
        let parts = 1 + this.random.below(4);
        for _ in 0..parts {
            match this.random.below(5) {
                0 => this.choice(),
                1 => this.round_trips(),
                _ => this.some(6),
            }
        }
        let register = this.register();
        this.bound(register);
        let small = this.random.below(64) as i32 - 32;
        let displacement = match this.random.below(6) {
            0 => i32::MAX - 64 + small,
            1 => small - i32::from(i16::MAX) * 2,
            2 => small.wrapping_add((this.random.next() as i32) >> this.random.below(31)),
            _ => small,
        };
        let access = Access {
            register,
            scale: 1 << this.random.below(4),
            displacement,
            bytes: 1 << this.random.below(5),
        };
        Assembled { before: this.code, ends: this.ends, access }
    }

    fn register(&mut self) -> u8 {
        self.random.pick(&REGISTERS)
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.code.extend(bytes);
    }

    fn rex(&mut self, wide: bool, reg: u8, rm: u8) {
        self.code.push(0x40 | u8::from(wide) << 3 | reg >> 3 << 2 | rm >> 3);
    }

    /// An instruction on two registers.
    fn pair(&mut self, opcode: &[u8], wide: bool, reg: u8, rm: u8) {
        self.rex(wide, reg, rm);
        self.emit(opcode);
        self.code.push(0xc0 | (reg & 7) << 3 | rm & 7);
    }

    fn vector(&mut self, prefix: u8, opcode: &[u8], wide: bool, reg: u8, rm: u8) {
        self.code.push(prefix);
        self.rex(wide, reg, rm);
        self.code.push(0x0f);
        self.emit(opcode);
        self.code.push(0xc0 | (reg & 7) << 3 | rm & 7);
    }

    fn number(&mut self) -> i32 {
        let small = self.random.below(9) as i32 - 4;
        match self.random.below(6) {
            0 => small.wrapping_add(1_i32.wrapping_shl(self.random.below(32) as u32)),
            1 => i32::MAX - self.random.below(4) as i32,
            2 => i32::MIN + self.random.below(4) as i32,
            3 => self.random.next() as i32,
            4 => self.random.below(300) as i32,
            _ => small,
        }
    }

    fn some(&mut self, most: u64) {
        for _ in 0..=self.random.below(most) {
            self.one();
        }
    }

    /// Any instruction that goes on behind itself.
    fn one(&mut self) {
        let (a, b) = (self.register(), self.register());
        let wide = self.random.below(2) == 0;
        match self.random.below(34) {
            0..=4 => {
                // add, sub, and, or, xor, adc, sbb, mov, xchg
                let opcode = self.random.pick(&[1, 0x29, 0x21, 9, 0x31, 0x11, 0x19, 0x89, 0x87]);
                self.pair(&[opcode], wide, a, b);
            }
            5..=8 => {
                let which = self.random.pick(&[0, 1, 4, 4, 5, 6]);
                let number = self.number();
                self.pair(&[0x81], wide, which, b);
                self.emit(&number.to_le_bytes());
            }
            9 | 10 => {
                let which = self.random.pick(&[4, 4, 5, 5, 7, 0, 1]);
                let by = self.random.below(if wide { 64 } else { 32 }) as u8;
                self.pair(&[0xc1], wide, which, b);
                self.code.push(by);
            }
            // By cl.
            11 => {
                let which = self.random.pick(&[4, 5, 7]);
                self.pair(&[0xd3], wide, which, b);
            }
            12 => self.pair(&[0x0f, 0xaf], wide, a, b),
            13 => {
                let number = self.number();
                self.pair(&[0x69], wide, a, b);
                self.emit(&number.to_le_bytes());
            }
            14 | 15 => self.sum(wide, a, b),
            16 | 17 => {
                // movzx, movsx
                let opcode = self.random.pick(&[0xb6, 0xb7, 0xbe, 0xbf]);
                self.pair(&[0x0f, opcode], wide, a, b);
            }
            18 => self.pair(&[0x63], true, a, b),
            19 => self.pair(&[0x89], false, a, a),
            20 => {
                // not, neg; inc, dec
                let (opcode, which) =
                    self.random.pick(&[(0xf7, 2), (0xf7, 3), (0xff, 0), (0xff, 1)]);
                self.pair(&[opcode], wide, which, b);
            }
            // Of 8 and 16 bits, the second lowest byte of a register included.
            21 => {
                let opcode = self.random.pick(&[0, 0x28, 0x20, 8, 0x30, 0x88]);
                // al, cl, dl, ah, ch, dh
                let [reg, rm] = [(); 2].map(|()| self.random.pick(&[0, 1, 2, 4, 5, 6]));
                self.emit(&[opcode, 0xc0 | reg << 3 | rm]);
            }
            22 => {
                self.code.push(0x66);
                let opcode = self.random.pick(&[1, 0x29, 0x21, 9, 0x31, 0x89]);
                self.pair(&[opcode], false, a, b);
            }
            23 => {
                // bsf, bsr
                let opcode = self.random.pick(&[0xbc, 0xbd]);
                self.pair(&[0x0f, opcode], wide, a, b);
            }
            24 => {
                // bswap
                self.rex(wide, 0, b);
                self.emit(&[0x0f, 0xc8 | b & 7]);
            }
            25 => {
                // cdqe, cdq, and those of 64 bits
                let opcode = self.random.pick(&[0x98, 0x99]);
                self.rex(wide, 0, 0);
                self.code.push(opcode);
            }
            26 => {
                let which = self.random.pick(&[4, 5]);
                self.pair(&[0xf7], wide, which, b);
            }
            27..=29 => self.spill(),
            30 => self.load(a),
            31 => {
                let number = self.number();
                self.pair(&[0x81], wide, 7, b);
                self.emit(&number.to_le_bytes());
                self.select(wide, a);
            }
            _ => self.vectors(),
        }
    }

    /// `lea a, [b + c * scale + number]`.
    fn sum(&mut self, wide: bool, a: u8, b: u8) {
        let (c, scale) = (self.register(), self.random.below(4) as u8);
        let number = self.number();
        self.code.push(0x40 | u8::from(wide) << 3 | a >> 3 << 2 | c >> 3 << 1 | b >> 3);
        self.emit(&[0x8d, 0x84 | (a & 7) << 3, scale << 6 | (c & 7) << 3 | b & 7]);
        self.emit(&number.to_le_bytes());
    }

    /// Something of 1 to 8 bytes goes to the stack below its pointer, or comes from there.
    fn spill(&mut self) {
        let (register, stores) = (self.register(), self.random.below(2) == 0);
        let offset = -8 - self.random.below(6) as i8 * 4;
        let size = self.random.below(5);
        if size == 1 {
            self.code.push(0x66);
        }
        self.rex(size >= 3, register, 0);
        match (size, stores) {
            (0, true) => self.emit(&[0x88]),
            (0, false) => self.emit(&[0x0f, 0xb6]),
            (_, true) => self.emit(&[0x89]),
            (_, false) => self.emit(&[0x8b]),
        }
        self.emit(&[0x44 | (register & 7) << 3, 0x24, offset.cast_unsigned()]);
    }

    /// Reads a number out of memory, or the memory's size.
    fn load(&mut self, register: u8) {
        let (wide, place) = match self.random.below(3) {
            0 => (true, 8 - below::MEMORY as i32),
            1 => (true, self.random.below(200) as i32),
            _ => (false, self.random.below(200) as i32),
        };
        self.rex(wide, register, 7);
        self.emit(&[0x8b, 0x87 | (register & 7) << 3]);
        self.emit(&place.to_le_bytes());
    }

    /// What was compared decides what a register becomes.
    fn select(&mut self, wide: bool, a: u8) {
        let (condition, b) = (self.random.below(16) as u8, self.register());
        if self.random.below(3) == 0 {
            self.pair(&[0x0f, 0x90 | condition], false, 0, b);
        } else {
            self.pair(&[0x0f, 0x40 | condition], wide, a, b);
        }
    }

    fn vectors(&mut self) {
        let (a, b) = (self.random.below(4) as u8, self.random.below(4) as u8);
        let register = self.register();
        match self.random.below(9) {
            0 => {
                let wide = self.random.below(2) == 0;
                self.vector(0x66, &[0x6e], wide, a, register);
            }
            1 | 2 => self.vector(0x66, &[0x7e], true, a, register),
            // paddq, pand, por, pxor, punpckldq, punpcklqdq, punpckhqdq, movdqa
            3 | 4 => {
                let opcode = self.random.pick(&[0xd4, 0xdb, 0xeb, 0xef, 0x62, 0x6c, 0x6d, 0x6f]);
                self.vector(0x66, &[opcode], false, a, b);
            }
            5 => {
                let (which, by) = (self.random.pick(&[2, 6]), self.random.below(66) as u8);
                self.vector(0x66, &[0x73], false, which, b);
                self.code.push(by);
            }
            6 => {
                let order = self.random.pick(&[0x4e, 0xee, 0x44, 0xe4, 0xf5, 0xb1]);
                self.vector(0x66, &[0x70], false, a, b);
                self.code.push(order);
            }
            7 => {
                // pextrq, pinsrq
                let opcode = self.random.pick(&[0x16, 0x22]);
                let lane = self.random.below(2) as u8;
                self.vector(0x66, &[0x3a, opcode], true, a, register);
                self.code.push(lane);
            }
            // pmovzxdq
            _ => self.vector(0x66, &[0x38, 0x35], false, a, b),
        }
    }

    fn compare(&mut self) {
        let (a, b, wide) = (self.register(), self.register(), self.random.below(3) > 0);
        match self.random.below(3) {
            0 => self.pair(&[0x39], wide, a, b),
            1 => {
                let b = if self.random.below(2) == 0 { a } else { b };
                self.pair(&[0x85], wide, a, b);
            }
            _ => {
                let number = self.number();
                self.pair(&[0x81], wide, 7, b);
                self.emit(&number.to_le_bytes());
            }
        }
    }

    /// Some instructions that run or do not.
    fn choice(&mut self) {
        self.compare();
        let condition = self.random.below(16) as u8;
        self.emit(&[0x0f, 0x80 | condition, 0, 0, 0, 0]);
        let from = self.code.len();
        self.some(5);
        if self.random.below(3) == 0 {
            // And others that run if these do not.
            self.emit(&[0xe9, 0, 0, 0, 0]);
            self.patch(from, self.code.len());
            let from = self.code.len();
            self.some(4);
            self.patch(from, self.code.len());
        } else {
            self.patch(from, self.code.len());
        }
    }

    /// Writes the distance from behind a jump to a place.
    fn patch(&mut self, from: usize, to: usize) {
        let distance = (to as i64 - from as i64) as i32;
        self.code[from - 4..from].copy_from_slice(&distance.to_le_bytes());
    }

    /// A loop: its counter goes up or down, to a number or a register, and may be changed otherwise
    /// as well.
    fn round_trips(&mut self) {
        let (counter, wide) = (self.register(), self.random.below(2) == 0);
        if self.random.below(3) > 0 {
            let first = self.random.pick(&[0, 0, 1, 8, 100]);
            self.pair(&[0xc7], wide, 0, counter);
            self.emit(&i32::to_le_bytes(first));
        }
        let head = self.code.len();
        self.some(4);
        let by = self.random.pick(&[1, 1, 1, 4, 8, -1, -1, -4]);
        self.pair(&[0x81], wide, 0, counter);
        self.emit(&i32::to_le_bytes(by));
        match self.random.below(3) {
            0 => {
                let end = self.random.pick(&[0, 10, 64, 100, -4]);
                self.pair(&[0x81], wide, 7, counter);
                self.emit(&i32::to_le_bytes(end));
            }
            1 => {
                let end = self.register();
                self.pair(&[0x39], wide, end, counter);
            }
            // The sum's own flags.
            _ => {}
        }
        let condition = self.random.pick(&[2, 3, 4, 5, 6, 7, 12, 13, 14, 15]);
        self.emit(&[0x0f, 0x80 | condition, 0, 0, 0, 0]);
        let from = self.code.len();
        self.patch(from, head);
    }

    /// Bounds a register, perhaps not enough.
    fn bound(&mut self, register: u8) {
        match self.random.below(7) {
            0 => self.pair(&[0x89], false, register, register),
            1 => {
                // shr
                let by = self.random.pick(&[28, 30, 31, 32, 33, 48]);
                self.pair(&[0xc1], true, 5, register);
                self.code.push(by);
            }
            2 => {
                let most = i32::MAX >> self.random.below(20);
                self.pair(&[0x81], true, 4, register);
                self.emit(&most.to_le_bytes());
            }
            3 | 4 => {
                let number = self.number();
                let wide = self.random.below(3) > 0;
                self.pair(&[0x81], wide, 7, register);
                self.emit(&number.to_le_bytes());
                self.end_if();
            }
            5 => {
                let size = self.register();
                if self.isolation == Isolation::Checked && size != register {
                    self.rex(true, size, 7);
                    self.emit(&[0x8b, 0x87 | (size & 7) << 3]);
                    self.emit(&(8 - below::MEMORY as i32).to_le_bytes());
                    if self.random.below(2) == 0 {
                        self.pair(&[0x81], true, 5, size);
                        let less = self.random.below(20) as i32;
                        self.emit(&less.to_le_bytes());
                    }
                }
                let wide = self.random.below(4) > 0;
                self.pair(&[0x39], wide, size, register);
                self.end_if();
            }
            _ => {}
        }
    }

    /// Leaves before the access on a condition.
    fn end_if(&mut self) {
        let condition = self.random.pick(&[2, 3, 6, 7, 7, 12, 13, 14, 15, 15]);
        self.emit(&[0x0f, 0x80 | condition]);
        self.ends.push(self.code.len());
        self.emit(&[0; 4]);
    }
}

/// A pool for programs.
#[must_use]
pub fn pool() -> Pool<()> {
    Pool::new(PoolConfig { compare: false, ..PoolConfig::default() })
}
