//! Tests: every register that a guest may hold, before and after thousands of preemptions.
//!
//! The guest is written in assembly: it loads all registers, spins, and writes down what it finds
//! in them.

use std::arch::global_asm;
use std::ops::Range;
use std::sync::atomic::Ordering;

use awsm_abi::Isolation;
use awsm_abi::context::CONTEXT_GUARD_BYTES;
use awsm_abi::trap::TrapKind;
use corosensei::CoroutineResult;

use crate::clock::monotonic_ns;
use crate::instance::Instance;
use crate::instance::builtins::BUILTINS;
use crate::own::Own;
use crate::slot::exceptions::exceptions_of;
use crate::slot::stack::GuestStack;
use crate::stop::Wait;
use crate::switch::arch::{SAVED_BY, save};
use crate::switch::current::{Finish, Pause, suspend};
use crate::switch::entry::{Entry, Thunk};
use crate::switch::fiber::Fiber;
use crate::switch::reach::Reach;
use crate::switch::{preempt, thread};
use crate::{Cleaning, Limits, Module, PoolConfig};

/// Where `base_guest` reads, and the same distance further up writes, 8 bytes each unless said.
const OUT: usize = 2048;
/// MXCSR (4 bytes), x87 control word (2), a number for the x87 stack.
const FLOAT: Range<usize> = 0..16;
/// 16 vectors.
const XMM: Range<usize> = 64..320;
/// All but rcx, rdx and rsp.
const GENERAL: Range<usize> = 512..616;
/// At 8, 64 and 128 bytes below the stack pointer.
const RED_ZONE: Range<usize> = 640..664;
/// Carry and direction: only written.
const FLAGS: usize = 680;
/// Rounds to spin: only read.
const ROUNDS: usize = 696;
/// A function that waits: only read.
const WAIT: Range<usize> = 704..712;
/// 32 vectors and 8 masks, for `wide_guest`.
const ZMM: Range<usize> = 4096..6144;
const MASKS: Range<usize> = 6144..6208;
/// Where `wide_guest` writes these.
const WIDE_OUT: usize = 4096;
const BUFFER_BYTES: usize = 12288;

const CARRY_AND_DIRECTION: u64 = 0x401;

// Arguments as of an entry thunk: code in rdi, context in rsi, values in rdx.
global_asm!(
    ".pushsection .text.preempted_guests, \"ax\"",
    "base_guest:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "stmxcsr [rdx + 720]",
    "fnstcw [rdx + 724]",
    "ldmxcsr [rdx]",
    "fldcw [rdx + 4]",
    "fld qword ptr [rdx + 8]",
    "mov r8, [rdx + 640]",
    "mov [rsp - 8], r8",
    "mov r8, [rdx + 648]",
    "mov [rsp - 64], r8",
    "mov r8, [rdx + 656]",
    "mov [rsp - 128], r8",
    "mov rax, [rdx + 512]",
    "mov rbx, [rdx + 520]",
    "mov rsi, [rdx + 528]",
    "mov rdi, [rdx + 536]",
    "mov rbp, [rdx + 544]",
    "mov r8, [rdx + 552]",
    "mov r9, [rdx + 560]",
    "mov r10, [rdx + 568]",
    "mov r11, [rdx + 576]",
    "mov r12, [rdx + 584]",
    "mov r13, [rdx + 592]",
    "mov r14, [rdx + 600]",
    "mov r15, [rdx + 608]",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movups xmm\\n, [rdx + 64 + 16 * \\n]",
    ".endr",
    "mov rcx, [rdx + 696]",
    "stc",
    "std",
    // Changes neither carry nor direction.
    "2: dec rcx",
    "jnz 2b",
    "mov rcx, [rsp - 8]",
    "mov [rdx + 2048 + 640], rcx",
    "mov rcx, [rsp - 64]",
    "mov [rdx + 2048 + 648], rcx",
    "mov rcx, [rsp - 128]",
    "mov [rdx + 2048 + 656], rcx",
    "pushfq",
    "pop rcx",
    "cld",
    "mov [rdx + 680], rcx",
    "mov [rdx + 2048 + 512], rax",
    "mov [rdx + 2048 + 520], rbx",
    "mov [rdx + 2048 + 528], rsi",
    "mov [rdx + 2048 + 536], rdi",
    "mov [rdx + 2048 + 544], rbp",
    "mov [rdx + 2048 + 552], r8",
    "mov [rdx + 2048 + 560], r9",
    "mov [rdx + 2048 + 568], r10",
    "mov [rdx + 2048 + 576], r11",
    "mov [rdx + 2048 + 584], r12",
    "mov [rdx + 2048 + 592], r13",
    "mov [rdx + 2048 + 600], r14",
    "mov [rdx + 2048 + 608], r15",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "movups [rdx + 2048 + 64 + 16 * \\n], xmm\\n",
    ".endr",
    "stmxcsr [rdx + 2048]",
    "fnstcw [rdx + 2048 + 4]",
    "fstp qword ptr [rdx + 2048 + 8]",
    "ldmxcsr [rdx + 720]",
    "fldcw [rdx + 724]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    "wide_guest:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, \
        25, 26, 27, 28, 29, 30, 31",
    "vmovups zmm\\n, [rdx + 4096 + 64 * \\n]",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "kmovq k\\n, [rdx + 6144 + 8 * \\n]",
    ".endr",
    "mov rcx, [rdx + 696]",
    "3: dec rcx",
    "jnz 3b",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, \
        25, 26, 27, 28, 29, 30, 31",
    "vmovups [rdx + 8192 + 64 * \\n], zmm\\n",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "kmovq [rdx + 10240 + 8 * \\n], k\\n",
    ".endr",
    "vzeroupper",
    "ret",
    // Reads right below the first memory.
    "below_guest:",
    "mov rax, [rsi - 8]",
    "ret",
    // Waits by the function at `[rdx + 704]`, then looks.
    "waiting_guest:",
    "push rdx",
    "call [rdx + 704]",
    "pop rdx",
    "look_guest:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, \
        25, 26, 27, 28, 29, 30, 31",
    "vmovups [rdx + 4096 + 64 * \\n], zmm\\n",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "kmovq [rdx + 6144 + 8 * \\n], k\\n",
    ".endr",
    "ret",
    // Makes six exceptions with one value, `[rdx + 32]`, by the function at `[rdx + 16]` with the
    // tag at `[rdx]`, and holds each in one of the registers that calls preserve, and nowhere else.
    // Then as many as `[rdx + 48]` says that it forgets. Then writes the registers from
    // `[rdx + 64]` on, 16 bytes each.
    "holding_guest:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 24",
    "mov [rsp], rsi",
    "mov [rsp + 8], rdx",
    "mov rax, [rdx + 48]",
    "mov [rsp + 16], rax",
    ".irp register, rbx, rbp, r12, r13, r14, r15",
    "call 5f",
    "mov rdx, [rsp + 8]",
    "mov rcx, [rdx + 32]",
    "mov [rax + 16], rcx",
    "mov \\register, rax",
    ".endr",
    "4: call 5f",
    "dec qword ptr [rsp + 16]",
    "jnz 4b",
    "mov rdx, [rsp + 8]",
    "mov [rdx + 64], rbx",
    "mov [rdx + 80], rbp",
    "mov [rdx + 96], r12",
    "mov [rdx + 112], r13",
    "mov [rdx + 128], r14",
    "mov [rdx + 144], r15",
    "add rsp, 24",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    "5: mov rdi, [rsp + 8]",
    "mov rax, [rsp + 16]",
    "mov rsi, [rax]",
    "mov edx, 1",
    "mov rax, [rax + 16]",
    "sub rsp, 8",
    "call rax",
    "add rsp, 8",
    "ret",
    "guests_end:",
    ".popsection",
);

unsafe extern "C" {
    fn base_guest(code: *const (), ctx: *mut u8, values: *mut [u8; 16]);
    fn wide_guest(code: *const (), ctx: *mut u8, values: *mut [u8; 16]);
    fn look_guest(code: *const (), ctx: *mut u8, values: *mut [u8; 16]);
    fn below_guest(code: *const (), ctx: *mut u8, values: *mut [u8; 16]);
    fn waiting_guest(code: *const (), ctx: *mut u8, values: *mut [u8; 16]);
    fn holding_guest(code: *const (), ctx: *mut u8, values: *mut [u8; 16]);
    static guests_end: u8;
}

#[repr(C, align(64))]
struct Buffer([u8; BUFFER_BYTES]);

/// Spins a while with known values in all registers while ticks come; answers how many preempted
/// it.
fn spin(
    thunk: Thunk,
    buffer: &mut Buffer,
    instance: &Instance,
    stack: GuestStack,
) -> (u32, GuestStack) {
    // The context of an instance without exceptions, which is all that is looked at.
    let ctx = instance.context();
    let entry = Entry { thunk, code: std::ptr::null(), ctx, tail: std::ptr::null() };
    // SAFETY: the guests above use nothing but their stack and the buffer.
    let mut fiber = unsafe { Fiber::new(stack, [None, None], entry, buffer.0.as_mut_ptr().cast()) };
    let text = base_guest as *const () as usize..(&raw const guests_end) as usize;
    let reach = Reach::of_text(text);
    let mut preemptions = 0;
    loop {
        match fiber.resume(&reach, monotonic_ns() + 20_000).0 {
            CoroutineResult::Yield(Pause::Preempted) => preemptions += 1,
            CoroutineResult::Return(Finish::Returned) => return (preemptions, fiber.into_stack()),
            other => panic!("{other:?}"),
        }
    }
}

fn instance(wat: &str) -> Own<Instance> {
    let wasm = wat::parse_str(wat).expect("a module");
    let options = awsm_compile::Options { isolation: Isolation::Guard, ..Default::default() };
    let object = awsm_compile::compile(&wasm, &options).expect("it compiles");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), object).expect("it is writable");
    let module = Module::load(file.path()).expect("it loads");
    // SAFETY: the module has no imports.
    unsafe {
        Instance::new(&module, &[], &Limits::default(), &PoolConfig::default(), None)
            .expect("memory")
    }
}

#[test]
fn no_register_changes() {
    thread::prepare().expect("a timer");
    let wide = is_x86_feature_detected!("avx512bw");
    let found = SAVED_BY.load(Ordering::Relaxed);
    let instance = instance("(module (memory 1) (func (export \"run\")))");
    let mut stack = GuestStack::new(256 << 10, Cleaning::Discarded).expect("memory for a stack");
    let mut buffer = Box::new(Buffer([0; BUFFER_BYTES]));
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for by in (0..=found).rev() {
        SAVED_BY.store(by, Ordering::Relaxed);
        let mut preemptions = 0;
        for round in 0..60 {
            for word in buffer.0.chunks_exact_mut(8) {
                word.copy_from_slice(&random().to_le_bytes());
            }
            let with_avx = wide && by != save::FXSAVE && round % 2 == 1;
            // All exceptions masked, another rounding direction each time.
            let mxcsr = 0x1f80 | ((round & 3) << 13);
            let control = 0x37f | ((round & 3) << 10);
            buffer.0[0..4].copy_from_slice(&(mxcsr as u32).to_le_bytes());
            buffer.0[4..8].copy_from_slice(&(control as u16 as u32).to_le_bytes());
            buffer.0[8..16].copy_from_slice(&(random() as u32 as f64).to_le_bytes());
            buffer.0[OUT + 6..OUT + 8].fill(0);
            buffer.0[ROUNDS..ROUNDS + 8].copy_from_slice(&3_000_000_u64.to_le_bytes());
            let thunk: Thunk = if with_avx { wide_guest } else { base_guest };
            let (count, used) = spin(thunk, &mut buffer, &instance, stack);
            stack = used;
            preemptions += count;
            let ranges: &[(Range<usize>, usize)] = match with_avx {
                true => &[(ZMM, WIDE_OUT), (MASKS, WIDE_OUT)],
                false => &[(FLOAT, OUT), (XMM, OUT), (GENERAL, OUT), (RED_ZONE, OUT)],
            };
            for (range, distance) in ranges {
                let after = range.start + distance..range.end + distance;
                assert_eq!(buffer.0[range.clone()], buffer.0[after], "saved by {by}: {range:?}");
            }
            if !with_avx {
                let flags: [u8; 8] = buffer.0[FLAGS..FLAGS + 8].try_into().expect("eight bytes");
                let flags = u64::from_le_bytes(flags) & CARRY_AND_DIRECTION;
                assert_eq!(flags, CARRY_AND_DIRECTION, "saved by {by}");
            }
        }
        assert!(preemptions > 500, "saved by {by}: {preemptions} preemptions");
        // What lies below the registers was left by the frames that suspended the guest.
        let area = stack.save_area();
        // SAFETY: the area is open, and nothing runs.
        let used = unsafe { std::slice::from_raw_parts(area.start as *const u8, area.len()) };
        let unused = used.iter().position(|byte| *byte != 0).expect("registers were there");
        assert!(unused > area.len() / 4, "{unused} bytes of {} are left", area.len());
    }
    SAVED_BY.store(found, Ordering::Relaxed);
    assert!(preempt::Ticks::of_this_thread().guest > 500);
}

/// Nothing of what one guest had in its vectors and masks is there when the next one begins.
#[test]
fn vectors_are_empty_at_the_beginning() {
    if !is_x86_feature_detected!("avx512bw") {
        return;
    }
    thread::prepare().expect("a timer");
    let instance = instance("(module (memory 1) (func (export \"run\")))");
    let mut stack = GuestStack::new(256 << 10, Cleaning::Discarded).expect("memory for a stack");
    let mut buffer = Box::new(Buffer([0xa5; BUFFER_BYTES]));
    buffer.0[ROUNDS..ROUNDS + 8].copy_from_slice(&1000_u64.to_le_bytes());
    for _ in 0..10 {
        buffer.0[ZMM.start..MASKS.end].fill(0xa5);
        for guest in [wide_guest as Thunk, look_guest] {
            stack = spin(guest, &mut buffer, &instance, stack).1;
        }
        let left = buffer.0[ZMM.start..MASKS.end].iter().position(|byte| *byte != 0);
        assert_eq!(left, None, "the place in the list of vectors and masks");
    }
}

/// Nothing of what a thread has in vectors and masks is there when a guest goes on that has waited.
#[test]
fn vectors_are_empty_after_waiting() {
    extern "C" fn wait() {
        suspend(Pause::Blocked(Wait::Yield));
    }
    if !is_x86_feature_detected!("avx512bw") {
        return;
    }
    thread::prepare().expect("a timer");
    let instance = instance("(module (memory 1) (func (export \"run\")))");
    let stack = GuestStack::new(256 << 10, Cleaning::Discarded).expect("memory for a stack");
    let mut buffer = Box::new(Buffer([0xa5; BUFFER_BYTES]));
    buffer.0[WAIT].copy_from_slice(&(wait as *const () as u64).to_le_bytes());
    let mut others = Box::new(Buffer([0xa5; BUFFER_BYTES]));
    others.0[ROUNDS..ROUNDS + 8].copy_from_slice(&1_u64.to_le_bytes());
    let ctx = instance.context();
    let thunk: Thunk = waiting_guest;
    let entry = Entry { thunk, code: std::ptr::null(), ctx, tail: std::ptr::null() };
    // SAFETY: the guest uses nothing but its stack and the buffer.
    let mut fiber = unsafe { Fiber::new(stack, [None, None], entry, buffer.0.as_mut_ptr().cast()) };
    let text = base_guest as *const () as usize..(&raw const guests_end) as usize;
    let reach = Reach::of_text(text);
    let stop = fiber.resume(&reach, u64::MAX).0;
    assert!(matches!(stop, CoroutineResult::Yield(Pause::Blocked(_))), "{stop:?}");
    // SAFETY: a function that uses nothing but the buffer and registers that callers do not keep.
    unsafe { wide_guest(std::ptr::null(), ctx, others.0.as_mut_ptr().cast()) };
    let stop = fiber.resume(&reach, u64::MAX).0;
    assert!(matches!(stop, CoroutineResult::Return(Finish::Returned)), "{stop:?}");
    let left = buffer.0[ZMM.start..MASKS.end].iter().position(|byte| *byte != 0);
    assert_eq!(left, None, "the place in the list of vectors and masks");
    fiber.into_stack();
}

/// What the verifier lets code reach below a memory ends its guest, not the process.
#[test]
fn the_guard_below_a_memory_is_the_guests_to_fault_at() {
    thread::prepare().expect("a timer");
    let instance = instance("(module (memory 1) (func (export \"run\")))");
    let ctx = instance.context();
    let thunk: Thunk = below_guest;
    let entry = Entry { thunk, code: std::ptr::null(), ctx, tail: std::ptr::null() };
    let stack = GuestStack::new(256 << 10, Cleaning::Discarded).expect("memory for a stack");
    let mut values = Box::new(Buffer([0; BUFFER_BYTES]));
    // SAFETY: the guest reads a place that nobody may, and returns.
    let mut fiber = unsafe { Fiber::new(stack, [None, None], entry, values.0.as_mut_ptr().cast()) };
    let text = base_guest as *const () as usize..(&raw const guests_end) as usize;
    let mut reach = Reach::of_text(text);
    instance.add_to(&mut reach);
    let CoroutineResult::Return(Finish::Faulted { kind, address, .. }) =
        fiber.resume(&reach, u64::MAX).0
    else {
        panic!("it reads what nobody may");
    };
    assert_eq!((kind, address), (TrapKind::MemoryOutOfBounds, ctx as usize - 8));
    let guard = ctx as usize - CONTEXT_GUARD_BYTES as usize;
    assert!(reach.is_memory(guard) && !reach.is_memory(guard - 1), "the context is no memory");
    fiber.into_stack();
}

/// What a guest holds in a register alone is kept when exceptions are collected, whatever the
/// compiler of the collector does with registers.
#[test]
fn a_register_alone_keeps_an_exception() {
    thread::prepare().expect("a timer");
    let mut instance =
        instance("(module (tag (param i64)) (func (export \"run\") (throw 0 (i64.const 1))))");
    // Three times as many as there is room for.
    let forgotten = 3 * crate::limits::EXCEPTIONS_BYTES / 32;
    let magic = 0x6d61_6769_635f_6576_u64;
    let mut values = Box::new([0_u64; 20]);
    values[0] = instance.tag(crate::value::TagIdx(0)) as u64;
    values[2] = BUILTINS.0.exception_new as u64;
    values[4] = magic;
    values[6] = forgotten as u64;
    let ctx = instance.context();
    let entry = Entry { thunk: holding_guest, code: std::ptr::null(), ctx, tail: std::ptr::null() };
    let stack = GuestStack::new(256 << 10, Cleaning::Discarded).expect("memory for a stack");
    instance.set_stack_limit(stack.host_call_limit());
    // SAFETY: the guest uses nothing but its stack and the values, and calls what compiled code
    // calls.
    let mut fiber = unsafe { Fiber::new(stack, [None, None], entry, values.as_mut_ptr().cast()) };
    let text = base_guest as *const () as usize..(&raw const guests_end) as usize;
    let stop = fiber.resume(&Reach::of_text(text), u64::MAX).0;
    assert!(matches!(stop, CoroutineResult::Return(Finish::Returned)), "{stop:?}");
    // SAFETY: the instance is alive and has exceptions.
    let exceptions = unsafe { &*exceptions_of(ctx) };
    for register in 0..6 {
        let place = values[8 + 2 * register] as usize;
        assert!(exceptions.has(place), "register {register}");
        // SAFETY: an exception with a value. Had it been given back, another one would begin with
        // zero.
        assert_eq!(unsafe { (place as *const u64).add(2).read() }, magic, "register {register}");
    }
    fiber.into_stack();
}
