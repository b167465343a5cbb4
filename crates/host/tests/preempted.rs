//! Long calls give the core back in between, and what comes of them is the same as without.
//!
//! Each guest makes one call and writes to stdout what it has got. Its time is always up, so a call
//! in pieces is interrupted after each of them; one that is not would be interrupted once, when it
//! is over.

use std::sync::Arc;

use awsm_compile::{Options, compile};
use awsm_host::{Output, Stdin, WasiCtx, add_to_linker};
use awsm_sandbox::{Limits, Linker, Module, Pool, PoolConfig, Program, Stop};
use bytes::Bytes;

const MIB: usize = 1 << 20;

struct Outcome {
    stop: Stop,
    stdout: Vec<u8>,
    overflowed: bool,
    preemptions: u32,
}

fn program(body: &str) -> Arc<Program<WasiCtx>> {
    let wat = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 400)
        ;; Bytes that are all different in some way.
        (func $pattern (param $at i32) (param $end i32)
            (loop $next
                (i32.store (local.get $at) (i32.mul (local.get $at) (i32.const 2654435761)))
                (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4)))
                                       (local.get $end)))))
        (func $buffer (param $index i32) (param $start i32) (param $len i32)
            (i32.store (i32.mul (local.get $index) (i32.const 8)) (local.get $start))
            (i32.store offset=4 (i32.mul (local.get $index) (i32.const 8)) (local.get $len)))
        ;; Says what is in memory, and an error code and a count.
        (func $say (param $errno i32) (param $start i32) (param $len i32)
            (i32.store (i32.const 4096) (local.get $start))
            (i32.store (i32.const 4100) (local.get $len))
            (drop (call $write (i32.const 1) (i32.const 4096) (i32.const 1) (i32.const 4104)))
            (call $exit (local.get $errno)))
        (func (export "run") {body}))"#
    );
    let wasm = wat::parse_str(&wat).unwrap_or_else(|error| panic!("{error}: {wat}"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("guest.so");
    let object = compile(&wasm, &Options::default()).expect("a good module");
    std::fs::write(&path, object).expect("written");
    let module = Module::load(&path).expect("loads");
    let mut linker = Linker::new();
    add_to_linker(&mut linker);
    Program::link(module, &linker, Limits::default()).expect("known imports")
}

fn run(pool: &mut Pool<WasiCtx>, program: &Arc<Program<WasiCtx>>, until: u64) -> Outcome {
    let mut context = WasiCtx::default();
    let input = (0..9 * MIB as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    context.stdin = Stdin::Bytes(Bytes::from(input.collect::<Vec<_>>()));
    context.stdout = Output::buffer(20 * MIB);
    let entry = program.module().exported_func("run").expect("an export");
    let started = pool.start(program, entry, context);
    let mut sandbox = started.map_err(|(error, _)| error).expect("a slot");
    let stop = loop {
        match sandbox.resume_until(until) {
            Stop::Preempted => {}
            stop => break stop,
        }
    };
    let preemptions = sandbox.timing().preemptions;
    let stdout = &mut sandbox.data_mut().stdout;
    let (overflowed, stdout) = (stdout.overflowed(), stdout.take());
    pool.recycle(sandbox);
    Outcome { stop, stdout, overflowed, preemptions }
}

/// The body of a guest that makes one call of so many pieces. A tick that comes late may pass over
/// some of them, but not over nearly all of them each time.
fn check(body: &str, pieces: u32) -> Outcome {
    let program = program(body);
    let mut pool = Pool::new(PoolConfig::default());
    let undisturbed = run(&mut pool, &program, u64::MAX);
    assert_eq!(undisturbed.preemptions, 0);
    let mut most = 0;
    for _ in 0..100 {
        let disturbed = run(&mut pool, &program, 1);
        assert_eq!(disturbed.stop, undisturbed.stop);
        assert!(disturbed.stdout == undisturbed.stdout, "the same bytes");
        assert_eq!(disturbed.overflowed, undisturbed.overflowed);
        most = most.max(disturbed.preemptions);
        if most >= pieces {
            return undisturbed;
        }
    }
    panic!("{most} interruptions in a call of {pieces} pieces");
}

#[test]
fn random_bytes() {
    // The sum of leading zeroes says nothing; that there is something in the last page does.
    let body = r#"
        (local $errno i32)
        (local.set $errno (call $random (i32.const 65536) (i32.const 2097152)))
        (i64.store (i32.const 8) (i64.extend_i32_u (i64.ne (i64.const 0)
            (i64.or (i64.load (i32.const 2158592)) (i64.load (i32.const 2158600))))))
        (i64.store (i32.const 16) (i64.load (i32.const 2162688)))
        (call $say (local.get $errno) (i32.const 8) (i32.const 16))"#;
    let outcome = check(body, 100);
    assert_eq!(outcome.stop, Stop::Exited(0));
    assert_eq!(outcome.stdout, [1_u64.to_le_bytes(), [0; 8]].concat(), "filled, and no further");
}

#[test]
fn writing_to_a_stream() {
    let body = r#"
        (call $pattern (i32.const 65536) (i32.const 12648448))
        (call $buffer (i32.const 0) (i32.const 65536) (i32.const 5000001))
        (call $buffer (i32.const 1) (i32.const 7) (i32.const 0))
        (call $buffer (i32.const 2) (i32.const 70000) (i32.const 65536))
        (call $buffer (i32.const 3) (i32.const 80000) (i32.const 1))
        (call $buffer (i32.const 4) (i32.const 5000000) (i32.const 7000000))
        (call $say (call $write (i32.const 1) (i32.const 0) (i32.const 5) (i32.const 1000))
            (i32.const 1000) (i32.const 4))"#;
    let outcome = check(body, 150);
    assert_eq!(outcome.stop, Stop::Exited(0));
    let written = 5_000_001 + 65_536 + 1 + 7_000_000_u32;
    assert_eq!(outcome.stdout.len(), written as usize + 4);
    assert_eq!(outcome.stdout[written as usize..], written.to_le_bytes());
}

/// Of a list that does not fit, what comes before the first buffer that does not is written.
#[test]
fn writing_more_than_fits() {
    let body = r#"
        (call $pattern (i32.const 65536) (i32.const 12648448))
        (call $buffer (i32.const 0) (i32.const 65536) (i32.const 11000000))
        (call $buffer (i32.const 1) (i32.const 65536) (i32.const 11000000))
        (call $say (call $write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 1000))
            (i32.const 1000) (i32.const 4))"#;
    let outcome = check(body, 150);
    assert!(outcome.overflowed && outcome.stop == Stop::Exited(0));
    assert_eq!(outcome.stdout[11_000_000..], 11_000_000_u32.to_le_bytes());
}

/// Into a list of buffers, one of which is the list.
#[test]
fn reading_from_a_stream() {
    let body = r#"
        (call $buffer (i32.const 0) (i32.const 65537) (i32.const 5000001))
        (call $buffer (i32.const 1) (i32.const 7) (i32.const 0))
        (call $buffer (i32.const 2) (i32.const 16) (i32.const 1000))
        (call $buffer (i32.const 3) (i32.const 6000000) (i32.const 1000000))
        (call $say (call $read (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 5000))
            (i32.const 5000) (i32.const 8000000))"#;
    check(body, 100);
    let body = r#"
        (call $buffer (i32.const 0) (i32.const 65537) (i32.const 5000001))
        (call $buffer (i32.const 1) (i32.const 6000000) (i32.const 10000000))
        (call $say (call $read (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 5000))
            (i32.const 5000) (i32.const 17000000))"#;
    let outcome = check(body, 200);
    assert_eq!(outcome.stdout[..4], (9 * MIB as u32).to_le_bytes(), "to its end");
}

/// A thousand subscriptions, every other one with something to say.
#[test]
fn asking_many() {
    let body = r#"
        (local $n i32) (local $at i32)
        (loop $next
            (local.set $at (i32.add (i32.const 65536) (i32.mul (local.get $n) (i32.const 48))))
            (i32.store (local.get $at) (local.get $n))
            ;; Readable, or at a time far away.
            (if (i32.and (local.get $n) (i32.const 1))
                (then
                    (i32.store8 offset=8 (local.get $at) (i32.const 1))
                    (i32.store offset=16 (local.get $at) (i32.const 0)))
                (else
                    (i32.store offset=16 (local.get $at) (i32.const 1))
                    (i64.store offset=24 (local.get $at) (i64.const 0x7fffffffffffffff))))
            (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
                                   (i32.const 1024))))
        (call $say (call $poll (i32.const 65536) (i32.const 131072) (i32.const 1024) (i32.const 131068))
            (i32.const 131068) (i32.const 20000))"#;
    let outcome = check(body, 20);
    assert_eq!(outcome.stop, Stop::Exited(0));
    assert_eq!(outcome.stdout[..4], 512_u32.to_le_bytes());
}
