//! Fault signals: classification, and the end of the guest that faulted.
//!
//! Isolation rests on this file. What becomes of a fault depends on where it happened and on what
//! it touched:
//!
//! ```text
//!   somebody sent the signal, or no guest is current     the handler that was there before
//!   one of `arch`'s two places, on the guest's stack     the trap that compiled code asked for
//!   guest code, on its stack, and
//!     touches the guard below the stack                  stack overflow
//!     touches the guest's memory or what is behind it    out of bounds
//!     an instruction that does not exist, a breakpoint,
//!     a division that the processor refuses              an internal fault of the compiled code
//!   anything else                                        the process ends, with one line
//! ```
//!
//! The first kinds end that guest, by a redirection to the end of its coroutine. The last is no
//! trap that a guest can have: host code has faulted under a guest, or guest code has left its
//! module, its stack or its memory. Then what isolates guests may be broken, and nothing in this
//! process can be trusted with their data any more.
//!
//! Look up, classify, redirect: no allocation, no lock, no log, no panic. What is read is the
//! guest's `Active` and its `Reach`, which do not change while it runs.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use awsm_abi::trap::TrapKind;

use super::arch;
use super::current::{self, Active, Finish};
use super::last_words;
use crate::cpu::registers::Registers;
use crate::limits::SIGNAL_STACK_BYTES;
use crate::slot::mapping::{Access, Mapping, PAGE_BYTES};

/// The signals that a fault can raise.
const SIGNALS: [libc::c_int; 5] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];

/// What handled each of `SIGNALS` before.
static PREVIOUS: OnceLock<[libc::sigaction; SIGNALS.len()]> = OnceLock::new();

thread_local! {
    static SIGNAL_STACK: RefCell<Option<SignalStack>> = const { RefCell::new(None) };
}

/// Puts the handlers in place and gives this thread a stack for them. Doing it twice is harmless.
pub(crate) fn prepare_thread() -> std::io::Result<()> {
    PREVIOUS.get_or_init(|| SIGNALS.map(install));
    SIGNAL_STACK.with_borrow_mut(|stack| -> std::io::Result<()> {
        if stack.is_none() {
            *stack = Some(SignalStack::new()?);
        }
        Ok(())
    })
}

fn install(signal: libc::c_int) -> libc::sigaction {
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all-zero is a valid sigaction (an empty mask, no flags); the handler has the
    // signature that SA_SIGINFO asks for and does only what a handler may do.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // A tick waits until the fault has been dealt with.
        libc::sigaddset(&raw mut action.sa_mask, super::preempt::signal());
        let failed = libc::sigaction(signal, &raw const action, previous.as_mut_ptr());
        assert_eq!(failed, 0, "the signal exists");
        previous.assume_init()
    }
}

unsafe extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes both structures, and nobody else refers to them.
    let (info, context) = unsafe { (&mut *info, &mut *context.cast::<libc::ucontext_t>()) };
    // SAFETY: the reference is gone when this handler returns.
    let active = unsafe { current::current() };
    let Some(active) = active.filter(|_| !is_sent(info)) else {
        return pass_on(signal, info, context);
    };
    // SAFETY: si_addr is set for each of SIGNALS when the kernel raises it.
    let address = unsafe { info.si_addr() } as usize;
    match explain(active, signal, address, context) {
        Some((finish, at)) => {
            // SAFETY: guest code, or what it called to fault, was interrupted on the running
            // guest's stack; the registers go into its context.
            unsafe { arch::redirect(context, &active.end_with(finish, at)) };
        }
        None => last_words::end_process(&last_words::Fault {
            signal,
            pc: arch::pc_and_sp(context).0,
            address,
            reach: active.reach(),
            in_guard: active.guard().contains(&address),
        }),
    }
}

/// Did somebody send the signal, so that it is no fault?
fn is_sent(info: &libc::siginfo_t) -> bool {
    // Source: Linux, sigaction(2): codes of signals that processes send are not positive.
    info.si_code <= 0
}

/// The guest's own fault, and its registers, if it is one: see the head of this file.
fn explain(
    active: &Active,
    signal: libc::c_int,
    address: usize,
    context: &libc::ucontext_t,
) -> Option<(Finish, Registers)> {
    let (pc, sp) = arch::pc_and_sp(context);
    let [exhausted, trapped] =
        [arch::stack_exhausted, arch::trapped].map(|fault| fault as *const () as usize);
    let on_purpose = pc == exhausted || pc == trapped;
    let lowest = if on_purpose { active.guard().end } else { active.guard().start };
    if !(lowest..active.stack_end()).contains(&sp) {
        return None;
    }
    // SAFETY: only guest code calls these two, and neither touches the stack.
    let at = unsafe { arch::registers(context, on_purpose) };
    // A breakpoint is reported behind it.
    let instruction = match signal {
        libc::SIGTRAP => pc.wrapping_sub(arch::BREAKPOINT_BYTES),
        _ => pc,
    };
    let kind = match signal {
        libc::SIGILL if pc == exhausted => TrapKind::StackOverflow,
        libc::SIGILL if pc == trapped => {
            let kind = TrapKind::from_raw(arch::second_argument(context) as u32);
            kind.unwrap_or(TrapKind::InternalFault)
        }
        _ if !active.reach().is_code(instruction) => return None,
        libc::SIGILL | libc::SIGFPE | libc::SIGTRAP => TrapKind::InternalFault,
        _ if active.guard().contains(&address) => TrapKind::StackOverflow,
        _ if active.reach().is_memory(address) => TrapKind::MemoryOutOfBounds,
        _ => return None,
    };
    Some((Finish::Faulted { kind, address, pc: at.pc }, at))
}

/// Does what would have happened without this handler.
fn pass_on(signal: libc::c_int, info: &mut libc::siginfo_t, context: &mut libc::ucontext_t) {
    let index = SIGNALS.iter().position(|known| *known == signal);
    let previous = PREVIOUS.get().zip(index).map(|(previous, index)| &previous[index]);
    let handler = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
    match (handler, previous) {
        // The system lets nobody ignore a fault.
        (libc::SIG_IGN, _) if is_sent(info) => {}
        (libc::SIG_DFL | libc::SIG_IGN, _) | (_, None) => {
            // A fault happens again on return, and the core file shows where. A breakpoint does
            // not.
            if is_sent(info) || signal == libc::SIGTRAP {
                last_words::die_of(signal);
            }
            last_words::restore_default(signal);
        }
        // SAFETY: the previous handler is called as it asked to be.
        (handler, Some(previous)) => unsafe {
            let context = std::ptr::from_mut(context).cast::<libc::c_void>();
            if previous.sa_flags & libc::SA_SIGINFO != 0 {
                type Full = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
                std::mem::transmute::<usize, Full>(handler)(signal, info, context);
            } else {
                std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(handler)(signal);
            }
        },
    }
}

/// The stack that this thread's handlers run on; taken out of use when the thread ends.
struct SignalStack {
    _mapping: Mapping,
}

impl SignalStack {
    fn new() -> std::io::Result<Self> {
        let mapping = Mapping::reserve(PAGE_BYTES + SIGNAL_STACK_BYTES)?;
        mapping.protect(PAGE_BYTES, SIGNAL_STACK_BYTES, Access::ReadWrite)?;
        // SAFETY: the mapping lives as long as this value, whose drop takes it out of use first.
        let failed = unsafe {
            let stack = libc::stack_t {
                ss_sp: mapping.start().add(PAGE_BYTES).cast(),
                ss_flags: 0,
                ss_size: SIGNAL_STACK_BYTES,
            };
            libc::sigaltstack(&raw const stack, std::ptr::null_mut())
        };
        if failed == 0 {
            Ok(Self { _mapping: mapping })
        } else {
            Err(std::io::Error::last_os_error())
        }
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        let off =
            libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: disabling the thread's own alternate stack; no handler is running on it.
        unsafe { libc::sigaltstack(&raw const off, std::ptr::null_mut()) };
    }
}
