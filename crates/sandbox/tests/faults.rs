//! Faults told apart: those that are a guest's own end it, all others end the process with one
//! line, and what happens without a guest is nobody's business here.
//!
//! Faults that compiled code never causes come from objects whose machine code is changed by hand.
//! What ends a process is done in a child: this same program, told by the environment which case it
//! is.

#![cfg(target_arch = "x86_64")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::Arc;

use awsm_sandbox::module::Module;
use awsm_sandbox::{
    Call, HostCall, HostResult, Isolation, Limits, Linker, Pool, PoolConfig, Program, Stop, Trap,
    TrapKind,
};
use support::{Log, file, object};

/// What `run` answers before its code is changed.
const ANSWER: u64 = 0x0123_4567_89ab_cdef;

/// `ud2`, as LLVM puts it where it takes a place for unreachable.
const UD2: &[u8] = &[0x0f, 0x0b];
/// `int3`.
const INT3: &[u8] = &[0xcc];
/// `xor ecx, ecx; div ecx`.
const DIVIDE_BY_ZERO: &[u8] = &[0x31, 0xc9, 0xf7, 0xf1];
/// `mov eax, 0x41414141; jmp rax`.
const WILD_JUMP: &[u8] = &[0xb8, 0x41, 0x41, 0x41, 0x41, 0xff, 0xe0];
/// `mov rax, [0x41414140]`.
const WILD_LOAD: &[u8] = &[0x48, 0x8b, 0x04, 0x25, 0x40, 0x41, 0x41, 0x41];
/// `push 1; pop rax; shl rax, 62; mov rax, [rax]`: no address that a processor has.
const IMPOSSIBLE_LOAD: &[u8] = &[0x6a, 0x01, 0x58, 0x48, 0xc1, 0xe0, 0x3e, 0x48, 0x8b, 0x00];
/// `hlt`.
const PRIVILEGED: &[u8] = &[0xf4];
/// `xor esp, esp; ud2`: no longer on its stack.
const LOST_STACK: &[u8] = &[0x31, 0xe4, 0x0f, 0x0b];

/// An object whose `run: [] -> [i64]` does what `code` says.
fn patched(code: &[u8]) -> Vec<u8> {
    let wat =
        format!("(module (memory 1) (func (export \"run\") (result i64) (i64.const {ANSWER})))");
    let mut object = object(&wat, Isolation::Guard);
    // `movabs rax, ANSWER; ret`: eleven bytes, and as many as are free up to the next multiple of
    // 16.
    let mut returns = vec![0x48, 0xb8];
    returns.extend(ANSWER.to_le_bytes());
    returns.push(0xc3);
    let places = object.windows(returns.len()).enumerate();
    let places: Vec<usize> =
        places.filter(|(_, bytes)| *bytes == returns).map(|(at, _)| at).collect();
    let [place] = places[..] else { panic!("`run` is compiled in another way: {places:?}") };
    object[place..][..code.len()].copy_from_slice(code);
    object
}

/// A host function that reads where nothing is.
fn host_faults(_: &mut HostCall<'_, Log>) -> HostResult<()> {
    read_nothing();
    Ok(())
}

fn read_nothing() {
    // SAFETY: none. The fault is what is tested, in a process made for it.
    unsafe { std::ptr::dangling::<u64>().with_addr(0x1230).read_volatile() };
}

/// A host function that uses more of the guest's stack than it may.
fn host_overflows(_: &mut HostCall<'_, Log>) -> HostResult<()> {
    fn down(depth: u64) -> u64 {
        let frame = std::hint::black_box([depth; 100]);
        if depth == 0 { frame[0] } else { down(std::hint::black_box(depth - 1)) + frame[50] }
    }
    std::hint::black_box(down(10_000));
    Ok(())
}

/// A host function that gets a signal which is no fault.
fn host_is_signalled(_: &mut HostCall<'_, Log>) -> HostResult<()> {
    // SAFETY: sends a signal to this process.
    unsafe { libc::raise(libc::SIGSEGV) };
    Ok(())
}

/// A program of an object.
fn program(object: &[u8]) -> Arc<Program<Log>> {
    let (_directory, path) = file(object);
    let module = Module::load(&path).expect("a module that loads");
    let mut linker = Linker::new();
    linker.func("test", "fault", host_faults).func("test", "overflow", host_overflows);
    linker.func("test", "signal", host_is_signalled);
    Program::link(module, &linker, Limits::default()).expect("known imports")
}

/// Runs `run` of a program to its end.
fn run(pool: &mut Pool<Log>, program: &Arc<Program<Log>>) -> Stop {
    let entry = program.module().exported_func("run").expect("an export `run`");
    let call = Call { initialize: None, entry, args: &[] };
    let started = pool.start_call(program, call, Log::default());
    let mut sandbox = started.map_err(|(error, _)| error).expect("a free slot");
    let stop = sandbox.resume();
    pool.recycle(sandbox);
    stop
}

/// An object whose `run` calls the host function `name`.
fn calls(name: &str) -> Vec<u8> {
    let wat = format!(
        "(module (import \"test\" \"{name}\" (func $f)) (memory 1) (func (export \"run\") (call $f)))"
    );
    object(&wat, Isolation::Guard)
}

#[test]
fn compiled_code_that_goes_wrong_ends_its_guest_only() {
    let mut pool = Pool::new(PoolConfig::default());
    let faulty = [UD2, INT3, DIVIDE_BY_ZERO].map(|code| program(&patched(code)));
    let healthy = program(&object("(module (memory 1) (func (export \"run\")))", Isolation::Guard));
    let running = vec!["run".to_owned()];
    let trap = Trap { kind: TrapKind::InternalFault, address: None, running };
    for _ in 0..100 {
        for faulty in &faulty {
            assert_eq!(run(&mut pool, faulty), Stop::Trapped(trap.clone()));
            assert_eq!(run(&mut pool, &healthy), Stop::Returned);
        }
    }
    assert_eq!((pool.stats().live, pool.stats().slots), (0, 4));
}

/// Installs a handler for SIGSEGV as an embedder might, before this library does.
fn handle_first() {
    extern "C" fn on_fault(_: libc::c_int) {
        // SAFETY: ends the process.
        unsafe { libc::_exit(7) };
    }
    // SAFETY: the handler has the signature that is asked for.
    unsafe { libc::signal(libc::SIGSEGV, on_fault as *const () as libc::sighandler_t) };
}

/// What the children do. They do not return from it unless they should.
const CASES: [(&str, fn()); 13] = [
    ("wild jump", || run_alone(&patched(WILD_JUMP))),
    ("wild load", || run_alone(&patched(WILD_LOAD))),
    ("impossible load", || run_alone(&patched(IMPOSSIBLE_LOAD))),
    ("privileged", || run_alone(&patched(PRIVILEGED))),
    ("lost stack", || run_alone(&patched(LOST_STACK))),
    ("host faults", || run_alone(&calls("fault"))),
    ("host faults, handled before", || {
        handle_first();
        run_alone(&calls("fault"));
    }),
    ("host overflows", || run_alone(&calls("overflow"))),
    ("signalled", || {
        // In place of the one that Rust programs have, which waits for the fault to happen again.
        // SAFETY: the default action.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        run_alone(&calls("signal"));
    }),
    ("no guest", || {
        let _pool = Pool::<Log>::new(PoolConfig::default());
        read_nothing();
    }),
    ("no guest, handled before", || {
        handle_first();
        let _pool = Pool::<Log>::new(PoolConfig::default());
        read_nothing();
    }),
    ("ignored", || {
        // SAFETY: ignores a signal, and sends it.
        unsafe {
            libc::signal(libc::SIGTRAP, libc::SIG_IGN);
            let _pool = Pool::<Log>::new(PoolConfig::default());
            libc::raise(libc::SIGTRAP);
            libc::_exit(8);
        }
    }),
    ("a breakpoint, no guest", || {
        let _pool = Pool::<Log>::new(PoolConfig::default());
        // SAFETY: none. The fault is what is tested, in a process made for it.
        unsafe { std::arch::asm!("int3") };
    }),
];

fn run_alone(object: &[u8]) {
    let stop = run(&mut Pool::new(PoolConfig::default()), &program(object));
    println!("went on: {stop:?}");
}

const CASE: &str = "AWSM_TEST_FAULT";

#[test]
#[ignore = "ends the process: the other tests start it as a child"]
fn child() {
    let wanted = std::env::var(CASE).expect("started by another test");
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is valid for the call.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
    CASES.iter().find(|(name, _)| *name == wanted).expect("a case").1();
}

fn in_a_child(case: &str) -> Output {
    let this = std::env::current_exe().expect("a program");
    let arguments = ["child", "--exact", "--ignored", "--nocapture"];
    Command::new(this).args(arguments).env(CASE, case).output().expect("a child")
}

/// The lines that this library wrote.
fn our_lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().filter(|line| line.starts_with("awsm: ")).map(str::to_owned).collect()
}

#[test]
fn a_fault_that_is_nobodys_ends_the_process_with_a_line() {
    let cases = [
        ("wild jump", "SIGSEGV at pc 0x41414141 (nothing is mapped there), address 0x41414141,"),
        ("wild load", "SIGSEGV at pc 0x"),
        ("wild load", ", function `run`), address 0x41414140,"),
        ("impossible load", ", function `run`), address 0x0,"),
        ("privileged", ", function `run`), address 0x0,"),
        ("lost stack", "SIGILL at pc 0x"),
        ("host faults", "), address 0x1230, while a guest was running. It is no trap"),
        ("host faults, handled before", "), address 0x1230,"),
        ("host overflows", ": a function of the host has used up the guest's stack."),
    ];
    for (case, words) in cases {
        let output = in_a_child(case);
        let signal = if case == "lost stack" { libc::SIGILL } else { libc::SIGSEGV };
        assert_eq!(output.status.signal(), Some(signal), "{case}: {output:?}");
        let lines = our_lines(&output);
        assert!(matches!(&lines[..], [line] if line.contains(words)), "{case}: {lines:?}");
        // Host code is found in its file.
        let program = std::env::current_exe().expect("a program");
        if case.starts_with("host faults") {
            let place = format!("({} + 0x", program.display());
            assert!(lines[0].contains(&place), "{case}: {lines:?}");
        }
    }
}

#[test]
fn without_a_guest_nothing_changes() {
    let died = |case: &str| {
        let output = in_a_child(case);
        assert_eq!(our_lines(&output), [] as [String; 0], "{case}: {output:?}");
        (output.status.signal(), output.status.code())
    };
    assert_eq!(died("no guest"), (Some(libc::SIGSEGV), None));
    assert_eq!(died("no guest, handled before"), (None, Some(7)));
    assert_eq!(died("a breakpoint, no guest"), (Some(libc::SIGTRAP), None));
    // Nor if somebody sends a signal that is no fault.
    assert_eq!(died("signalled"), (Some(libc::SIGSEGV), None));
    assert_eq!(died("ignored"), (None, Some(8)));
}
