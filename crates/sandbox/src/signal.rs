//! Faults of guests, caught.
//!
//! Isolation rests on this file. A fault is a guest's if it happens in a loaded module's code *and*
//! at an address that this guest may fault at: its slot or the guard below its stack. Then the
//! handler redirects it to the end of its coroutine. Everything else goes to the handler that was
//! there before. Look up, classify, redirect: no allocation, no lock, no log, no panic.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use awsm_abi::trap::TrapKind;

use crate::arch;
use crate::fiber::{self, Finish};
use crate::limits::SIGNAL_STACK_BYTES;
use crate::mapping::{Access, Mapping, PAGE_BYTES};

/// The signals that a guest's fault can raise.
const SIGNALS: [libc::c_int; 3] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL];

/// What handled each of `SIGNALS` before.
static PREVIOUS: OnceLock<[libc::sigaction; 3]> = OnceLock::new();

thread_local! {
    static SIGNAL_STACK: RefCell<Option<SignalStack>> = const { RefCell::new(None) };
}

/// Makes this thread fit to run guests: handlers in place, a stack for them. Doing it twice is
/// harmless.
pub(crate) fn prepare_thread() -> std::io::Result<()> {
    PREVIOUS.get_or_init(|| SIGNALS.map(install));
    SIGNAL_STACK.with_borrow_mut(|stack| -> std::io::Result<()> {
        if stack.is_none() {
            *stack = Some(SignalStack::new()?);
        }
        Ok(())
    })?;
    crate::preempt::prepare_thread()
}

fn install(signal: libc::c_int) -> libc::sigaction {
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all-zero is a valid sigaction (an empty mask, no flags); the handler has the signature
    // that SA_SIGINFO asks for and does only what a handler may do.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // A tick waits until the fault has been dealt with.
        libc::sigaddset(&raw mut action.sa_mask, crate::preempt::signal());
        let failed = libc::sigaction(signal, &raw const action, previous.as_mut_ptr());
        assert_eq!(failed, 0, "the signal exists");
        previous.assume_init()
    }
}

extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes both structures, and nobody else refers to them.
    let (fault, context) = unsafe { (&*info, &mut *context.cast::<libc::ucontext_t>()) };
    let (pc, _) = arch::pc_and_sp(context);
    if let Some(active) = fiber::current() {
        let [exhausted, trapped] =
            [arch::stack_exhausted, arch::trapped].map(|fault| fault as *const () as usize);
        // SAFETY: only guest code calls these two, and neither touches the stack.
        let at = unsafe { arch::registers(context, pc == exhausted || pc == trapped) };
        // SAFETY: si_addr is set for each of SIGNALS.
        let address = unsafe { fault.si_addr() } as usize;
        let finish = if signal == libc::SIGILL && pc == exhausted {
            Some(Finish::Faulted { kind: TrapKind::StackOverflow, address, pc: at.pc })
        } else if signal == libc::SIGILL && pc == trapped {
            let kind = TrapKind::from_raw(arch::second_argument(context) as u32);
            let kind = kind.unwrap_or(TrapKind::Unreachable);
            Some(Finish::Faulted { kind, address: 0, pc: at.pc })
        } else if signal != libc::SIGILL && active.is_guest_code(pc) {
            active.classify(address, pc)
        } else {
            None
        };
        if let Some(finish) = finish {
            // SAFETY: the program counter says that guest code, or what it called to fault, was
            // interrupted on the running guest's stack; the registers go into its context.
            unsafe { arch::redirect(context, &active.end_with(finish, at)) };
            return;
        }
    }
    pass_on(signal, info, std::ptr::from_mut(context).cast());
}

/// Does what would have happened without this handler.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let index = SIGNALS.iter().position(|known| *known == signal);
    let previous = PREVIOUS.get().zip(index).map(|(previous, index)| &previous[index]);
    let handler = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
    // SAFETY: the previous handler is called as it asked to be; with none, the default action is put
    // back and the fault happens again on return.
    unsafe {
        match (handler, previous) {
            (libc::SIG_DFL | libc::SIG_IGN, _) | (_, None) => {
                let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const action, std::ptr::null_mut());
            }
            (handler, Some(previous)) if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                type Full = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
                std::mem::transmute::<usize, Full>(handler)(signal, info, context);
            }
            (handler, Some(_)) => {
                std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(handler)(signal);
            }
        }
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
