//! x86-64: registers in a signal frame, the stack check before host calls.
//!
//! Isolation rests on this file: `stack_checked` is what keeps a guest from running the host off
//! the end of its stack, and `preempt` is what an interrupted guest must not notice.
//!
//! ```text
//!   end of the stack's save area
//!     ss, rsp, flags, cs, rip     the interrupted ones, written by `interrupt` in the signal handler:
//!                                 what `iretq` takes back
//!     rax .. r15                  pushed by `preempt`
//!     32 bytes                    alignment
//!     xsave area                  x87, SSE, AVX, mask registers, AVX-512: whatever the system has
//!                                 switched on of these; MXCSR and the x87 control word are in it
//!     frames of `preempted`       until the guest is resumed
//! ```
//!
//! `iretq` is the one instruction that sets stack pointer, flags and program counter at once and
//! needs nothing of the guest's stack. It costs 30 ns more than `popfq` and `ret`, which need eight
//! bytes below the red zone: more than a guest may have left.
//!
//! AMX tiles (8 KiB) and protection keys are left out: code for neither is ever made.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use awsm_abi::context::below;
use corosensei::trap::TrapHandlerRegs;

use crate::cpu::STACK_POINTER;
use crate::cpu::registers::Registers;
use crate::limits::PREEMPT_STACK_BYTES;
use crate::switch::entry::Thunk;

/// Program counter and stack pointer of the interrupted code.
pub(crate) fn pc_and_sp(context: &libc::ucontext_t) -> (usize, usize) {
    let registers = &context.uc_mcontext.gregs;
    let register = |index: libc::c_int| registers[index as usize].cast_unsigned() as usize;
    (register(libc::REG_RIP), register(libc::REG_RSP))
}

/// Registers of the interrupted code; with `called`, of the code that has just called it.
///
/// # Safety
/// With `called`, a call was the last thing that happened to the stack.
pub(crate) unsafe fn registers(context: &libc::ucontext_t, called: bool) -> Registers {
    const ORDER: [libc::c_int; 16] = [
        libc::REG_RAX,
        libc::REG_RDX,
        libc::REG_RCX,
        libc::REG_RBX,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_RBP,
        libc::REG_RSP,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];
    let mut words = [0; 32];
    for (word, index) in words.iter_mut().zip(ORDER) {
        *word = context.uc_mcontext.gregs[index as usize].cast_unsigned() as usize;
    }
    let (mut pc, sp) = pc_and_sp(context);
    if called {
        // SAFETY: the caller's duty: the return address is there.
        pc = unsafe { (sp as *const usize).read() };
        words[STACK_POINTER] += size_of::<usize>();
    }
    Registers { words, pc, called }
}

/// The second argument of the function whose first instruction was interrupted.
pub(crate) fn second_argument(context: &libc::ucontext_t) -> u64 {
    context.uc_mcontext.gregs[libc::REG_RSI as usize].cast_unsigned()
}

/// Makes the interrupted code go on where the coroutine's trap handler says.
///
/// # Safety
/// What was interrupted is the running guest of that coroutine, and `to` was made for this.
pub(crate) unsafe fn redirect(context: &mut libc::ucontext_t, to: &TrapHandlerRegs) {
    let registers = &mut context.uc_mcontext.gregs;
    let mut set = |index: libc::c_int, value: u64| registers[index as usize] = value.cast_signed();
    set(libc::REG_RIP, to.rip);
    set(libc::REG_RSP, to.rsp);
    set(libc::REG_RBP, to.rbp);
    set(libc::REG_RDI, to.rdi);
    set(libc::REG_RSI, to.rsi);
}

/// How far behind a breakpoint's first byte its program counter is reported.
pub(crate) const BREAKPOINT_BYTES: usize = 1;

/// Room for the state of the vector units, aligned.
const STATE_BYTES: u32 = 3072;

/// Parts of the state that guests have: x87, SSE, AVX, and the three of AVX-512.
const STATE_PARTS: u64 = 0b1110_0111;

/// Which parts `preempt` saves, and by which instruction; see `save`.
static SAVED_PARTS: AtomicU32 = AtomicU32::new(0);
pub(crate) static SAVED_BY: AtomicU32 = AtomicU32::new(save::FXSAVE);

/// Values of `SAVED_BY`.
pub(crate) mod save {
    /// For processors of before 2008, or where the system does not use XSAVE.
    pub(crate) const FXSAVE: u32 = 0;
    pub(crate) const XSAVE: u32 = 1;
    /// The compact form, which skips what is not in use.
    pub(crate) const XSAVEC: u32 = 2;
}

/// Finds out what state the processor has.
///
/// # Errors
/// If it has more than there is room for.
pub(crate) fn prepare_preemption() -> Result<(), &'static str> {
    const OSXSAVE: u32 = 1 << 27;
    const COMPACT: u32 = 1 << 1;
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return Ok(());
    }
    // SAFETY: the system uses XSAVE, so the register can be read.
    let parts = unsafe { xcr0() } & STATE_PARTS;
    let compact = __cpuid_count(13, 1).eax & COMPACT != 0;
    let end = (2..8).filter(|part| parts & (1 << part) != 0).map(|part| {
        let place = __cpuid_count(13, part);
        // Compact, each part follows the one before it, at the next multiple of 64 at most.
        place.ebx + place.eax
    });
    if end.max().unwrap_or(0) > STATE_BYTES {
        return Err("the processor's vector state is larger than there is room for");
    }
    SAVED_PARTS.store(parts as u32, Ordering::Relaxed);
    let by = if compact { save::XSAVEC } else { save::XSAVE };
    SAVED_BY.store(by, Ordering::Relaxed);
    Ok(())
}

/// The parts of the state that the system has switched on.
///
/// # Safety
/// CPUID says OSXSAVE.
#[target_feature(enable = "xsave")]
unsafe fn xcr0() -> u64 {
    // SAFETY: the caller's duty.
    unsafe { _xgetbv(0) }
}

/// Makes interrupted guest code go on in `preempt`, on the save area of its stack.
///
/// # Safety
/// Guest code was interrupted, and nothing else uses the area, which has `PREEMPT_STACK_BYTES`.
pub(crate) unsafe fn interrupt(context: &mut libc::ucontext_t, save_area: &Range<usize>) {
    let registers = &mut context.uc_mcontext.gregs;
    let register = |index: libc::c_int| registers[index as usize].cast_unsigned();
    let (code_segment, stack_segment): (u64, u64);
    // SAFETY: reads what the system has given this program; handlers have what it has.
    unsafe {
        core::arch::asm!("mov {:e}, cs", out(reg) code_segment, options(nomem, nostack));
        core::arch::asm!("mov {:e}, ss", out(reg) stack_segment, options(nomem, nostack));
    }
    let returns = [
        register(libc::REG_RIP),
        code_segment,
        register(libc::REG_EFL),
        register(libc::REG_RSP),
        stack_segment,
    ];
    let frame = save_area.end - size_of_val(&returns);
    // SAFETY: the caller's duty: the area is open and not in use.
    unsafe { (frame as *mut [u64; 5]).write(returns) };
    registers[libc::REG_RIP as usize] = (preempt as *const () as u64).cast_signed();
    registers[libc::REG_RSP as usize] = (frame as u64).cast_signed();
}

/// Saves everything that guest code may hold, calls `preempted`, restores everything, and returns
/// to the interrupted instruction and stack. Entered by `interrupt` with the stack pointer at what
/// `iretq` takes.
///
/// The compact form and XSAVE leave most of the area's header as it is, but want zeros there when
/// they restore.
#[unsafe(naked)]
extern "C" fn preempt() {
    core::arch::naked_asm!(
        "cld",
        "push rax", "push rcx", "push rdx", "push rbx", "push rbp", "push rsi", "push rdi",
        "push r8", "push r9", "push r10", "push r11", "push r12", "push r13", "push r14", "push r15",
        "sub rsp, {below}",
        "xor eax, eax",
        "mov [rsp + 512], rax", "mov [rsp + 520], rax", "mov [rsp + 528], rax", "mov [rsp + 536], rax",
        "mov [rsp + 544], rax", "mov [rsp + 552], rax", "mov [rsp + 560], rax", "mov [rsp + 568], rax",
        "mov eax, dword ptr [rip + {parts}]",
        "xor edx, edx",
        "mov ebx, dword ptr [rip + {by}]",
        "cmp ebx, {xsave}",
        "ja 2f",
        "je 3f",
        "fxsave64 [rsp]",
        "jmp 4f",
        "2:",
        "xsavec64 [rsp]",
        "jmp 4f",
        "3:",
        "xsave64 [rsp]",
        "4:",
        // Host code uses SSE; upper halves that are not zero would slow it down.
        "test eax, 4",
        "jz 5f",
        "vzeroupper",
        "5:",
        "call {preempted}",
        "mov eax, dword ptr [rip + {parts}]",
        "xor edx, edx",
        // rbx is the callee's to keep.
        "test ebx, ebx",
        "jz 6f",
        "xrstor64 [rsp]",
        "jmp 7f",
        "6:",
        "fxrstor64 [rsp]",
        "7:",
        "add rsp, {below}",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop r11", "pop r10", "pop r9", "pop r8",
        "pop rdi", "pop rsi", "pop rbp", "pop rbx", "pop rdx", "pop rcx", "pop rax",
        "iretq",
        below = const STATE_BYTES + STATE_ALIGN_BYTES,
        xsave = const save::XSAVE,
        parts = sym SAVED_PARTS,
        by = sym SAVED_BY,
        preempted = sym crate::switch::current::preempted,
    )
}

/// Between the registers and the vector state, which is aligned to 64 bytes as the save area's end
/// is.
const STATE_ALIGN_BYTES: u32 = 32;

const _: () = {
    // What `iretq` takes, and 15 registers.
    let registers = (5 + 15) * size_of::<u64>() as u32;
    assert!((registers + STATE_ALIGN_BYTES + STATE_BYTES).is_multiple_of(64));
    // As much again for the frames of `preempted`, which are a few hundred bytes.
    assert!(2 * (registers + STATE_BYTES) < PREEMPT_STACK_BYTES as u32);
};

/// Empties all vectors and masks that there are, and changes rax.
macro_rules! empty_vectors {
    () => {
        concat!(
            "mov eax, dword ptr [rip + {parts}]\n",
            "test al, 4\n",
            "jz 2f\n",
            "vzeroall\n",
            "test al, 0xe0\n",
            "jz 3f\n",
            ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n",
            "vpxord zmm\\n, zmm\\n, zmm\\n\n",
            ".endr\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7\n",
            "kxorw k\\n, k\\n, k\\n\n",
            ".endr\n",
            "jmp 3f\n",
            "2:\n",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n",
            "xorps xmm\\n, xmm\\n\n",
            ".endr\n",
            "3:",
        )
    };
}

/// Calls an entry thunk, given as the last argument, with all vectors and masks empty: the guest
/// before may have left something there. (The general registers hold addresses and numbers of the
/// host, which compiled code only keeps for its caller.)
///
/// # Safety
/// The thunk's contract, see [`Thunk`].
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn enter(
    code: *const (),
    ctx: *mut u8,
    values: *mut [u8; 16],
    thunk: Thunk,
) {
    core::arch::naked_asm!(empty_vectors!(), "jmp rcx", parts = sym SAVED_PARTS)
}

/// Empties every register that a function need not keep: a guest that has waited in a host call
/// finds nothing there of those that this thread has worked for meanwhile.
#[unsafe(naked)]
pub(crate) extern "C" fn forget() {
    core::arch::naked_asm!(
        empty_vectors!(),
        ".irp r, eax, ecx, edx, esi, edi, r8d, r9d, r10d, r11d",
        "xor \\r, \\r",
        ".endr",
        "ret",
        parts = sym SAVED_PARTS,
    )
}

/// Where a host call ends up that finds too little stack: one instruction that faults, recognised
/// by its address. Nothing can be pushed any more at this point.
#[unsafe(naked)]
pub(crate) extern "C" fn stack_exhausted() {
    core::arch::naked_asm!("ud2")
}

/// Where a guest ends that traps: the same, with the trap's number as second argument. (Not taken:
/// suspending for the last time, which is a microsecond quicker but loses the guest's registers.)
#[unsafe(naked)]
pub(crate) extern "C" fn trapped() {
    core::arch::naked_asm!("ud2")
}

/// Defines `$name`, which goes to `$target` if the stack has room for a host call, without touching
/// the stack. The first argument is the context pointer in both.
macro_rules! stack_checked {
    ($(#[$meta:meta])* $vis:vis fn $name:ident [$($generics:tt)*] => $target:expr) => {
        $(#[$meta])*
        #[unsafe(naked)]
        $vis unsafe extern "C" fn $name $($generics)* {
            core::arch::naked_asm!(
                "cmp rsp, qword ptr [rdi - {limit}]",
                "jb {exhausted}",
                "jmp {target}",
                limit = const $crate::switch::arch::STACK_LIMIT_BELOW,
                exhausted = sym $crate::switch::arch::stack_exhausted,
                target = sym $target,
            )
        }
    };
}
pub(crate) use stack_checked;

/// As `stack_checked`, for a function of three arguments: all registers that a function keeps for
/// its caller are pushed first, before any compiled prologue can have moved one, and `$target`'s
/// fourth argument is the address of the last.
macro_rules! stack_checked_with_registers {
    ($vis:vis fn $name:ident => $target:expr) => {
        #[unsafe(naked)]
        $vis unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                "cmp rsp, qword ptr [rdi - {limit}]",
                "jb {exhausted}",
                "push rbp", "push rbx", "push r12", "push r13", "push r14", "push r15",
                "mov rcx, rsp",
                // The return address and six registers leave the stack unaligned.
                "sub rsp, 8",
                "call {target}",
                // The target has kept the registers as they were.
                "add rsp, 56",
                "ret",
                limit = const $crate::switch::arch::STACK_LIMIT_BELOW,
                exhausted = sym $crate::switch::arch::stack_exhausted,
                target = sym $target,
            )
        }
    };
}
pub(crate) use stack_checked_with_registers;

/// Distance of the stack limit below the context pointer.
pub(crate) const STACK_LIMIT_BELOW: u32 = below::STACK_LIMIT;
