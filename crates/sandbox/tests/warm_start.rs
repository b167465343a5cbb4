//! Between asking for a warm sandbox and its first instruction there is no system call, no page
//! fault and no heap allocation: counted, not claimed.
#![cfg(target_arch = "x86_64")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use awsm_sandbox::{HostCall, HostResult, Limits, Linker, Pool, PoolConfig, Program, Stop};

/// Counts this thread's allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's duties are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's duties are the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the kernel looks at before each system call of this thread: 0 lets it pass, 1 turns it into
/// SIGSYS. Source: Linux, Documentation/admin-guide/syscall-user-dispatch.rst.
static SELECTOR: AtomicU8 = AtomicU8::new(0);
static SYSTEM_CALLS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_system_call(_signal: libc::c_int) {
    SYSTEM_CALLS.fetch_add(1, Ordering::Relaxed);
    // The return from this handler is a system call, too. So at most one is counted.
    SELECTOR.store(0, Ordering::Relaxed);
}

fn catch_system_calls() {
    const PR_SET_SYSCALL_USER_DISPATCH: libc::c_int = 59;
    // SAFETY: the handler only touches atomics; the selector lives as long as the process.
    unsafe {
        libc::signal(libc::SIGSYS, on_system_call as extern "C" fn(libc::c_int) as usize);
        let selector = SELECTOR.as_ptr();
        let failed = libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, 1_u64, 0_u64, 0_u64, selector);
        assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
    }
}

/// This thread's page faults that needed no disk.
fn page_faults() -> i64 {
    // SAFETY: all-zero is a valid rusage, and the pointer is valid for the call.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage.ru_minflt + usage.ru_majflt
    }
}

/// Costs so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Costs {
    system_calls: u64,
    page_faults: i64,
    allocations: u64,
}

fn costs() -> Costs {
    SELECTOR.store(0, Ordering::Relaxed);
    Costs {
        system_calls: SYSTEM_CALLS.load(Ordering::Relaxed),
        page_faults: page_faults(),
        allocations: ALLOCATIONS.get(),
    }
}

/// The guest's first instruction calls this.
fn mark(call: &mut HostCall<'_, Costs>) -> HostResult<()> {
    SELECTOR.store(0, Ordering::Relaxed);
    *call.data() = costs();
    Ok(())
}

const GUEST: &str = r#"(module
    (import "test" "mark" (func $mark))
    (memory (export "memory") 2)
    (global $stack (mut i32) (i32.const 66560))
    (data (i32.const 1024) "some data")
    (func (export "run")
        (call $mark)
        (memory.fill (i32.const 1000) (i32.const 7) (i32.const 100000))
        (global.set $stack (i32.const 1))))"#;

#[test]
fn a_warm_start_costs_the_system_nothing() {
    let mut linker = Linker::new();
    linker.func("test", "mark", mark);
    catch_system_calls();
    for isolation in support::MODES {
        let module = support::load(GUEST, isolation);
        let entry = module.exported_func("run").expect("an export");
        let program = Program::link(module, &linker, Limits::default()).expect("known imports");
        let mut pool = Pool::new(PoolConfig::default());
        pool.prepare(&program, 1).expect("a slot");
        for turn in 0..100 {
            let before = costs();
            SELECTOR.store(1, Ordering::Relaxed);
            let started = pool.start(&program, entry, Costs::default());
            let Ok(mut sandbox) = started else { panic!("a warm slot") };
            let stop = sandbox.resume();
            SELECTOR.store(0, Ordering::Relaxed);
            assert_eq!(stop, Stop::Returned);
            // The very first run faults pages of code in, here and in the guest.
            if turn > 0 {
                assert_eq!(*sandbox.data(), before, "{isolation:?} turn {turn}");
            }
            pool.recycle(sandbox);
        }
    }
}

#[test]
fn the_counters_count() {
    let counted = std::thread::spawn(|| {
        let before = costs();
        let page = vec![1_u8; 1 << 20];
        assert_eq!(page[4096], 1);
        let after = costs();
        (after.page_faults - before.page_faults, after.allocations - before.allocations)
    });
    let (page_faults, allocations) = counted.join().expect("no panic");
    assert!(page_faults >= 1 && allocations == 1, "{page_faults} {allocations}");
}
