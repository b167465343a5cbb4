//! Modules that are compiled in several units: calls, calls in tail position, exceptions and traps
//! between them, and an object that does not depend on how many threads made it.

mod support;

use std::num::NonZeroUsize;

use awsm_compile::{Emit, Options, Threads, Timings, emit_timed};
use awsm_sandbox::{Limits, Pool, PoolConfig, Stop, TrapKind};
use support::{MODES, program, run};

/// So many steps that their function is a unit of its own: see the compiler's `units`.
fn steps() -> String {
    (0..30_000_u32).map(|n| format!("i32.const {} i32.xor ", n.wrapping_mul(0x9e37_79b9))).collect()
}

/// What the steps make of a number.
fn stepped(number: u32) -> u32 {
    (0..30_000_u32).fold(number, |number, n| number ^ n.wrapping_mul(0x9e37_79b9))
}

/// Two huge functions among small ones; `run` does as `body` says.
fn module(body: &str) -> String {
    let steps = steps();
    format!(
        "(module
        (import \"test\" \"log\" (func $log (param i64)))
        (memory 1) (tag $odd (param i32))
        (table funcref (elem $huge))
        (func $small (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
        ;; Calls a small function, and one of another unit in tail position.
        (func $huge (param i32) (result i32)
            local.get 0 {steps} call $small return_call $second)
        (func $second (param i32) (result i32) (local i32)
            local.get 0 {steps} local.set 1
            (if (i32.and (local.get 0) (i32.const 1)) (then (throw $odd (local.get 1))))
            (i32.load (i32.mul (i32.eq (local.get 0) (i32.const 4)) (i32.const 0x100000)))
            local.get 1 i32.add)
        (func (export \"run\") {body}))"
    )
}

fn outcome(body: &str) -> Vec<(Stop, Vec<i64>)> {
    MODES
        .map(|mode| {
            let program = program(&module(body), mode, Limits::default());
            run(&mut Pool::new(PoolConfig::default()), &program)
        })
        .into()
}

#[test]
fn units_call_each_other() {
    let number = 1000;
    let between = stepped(number) + 1;
    let (even, odd) = if between & 1 == 0 { (number, number ^ 1) } else { (number ^ 1, number) };
    let ways = [
        "(call $huge (i32.const N))",
        "(call_indirect (param i32) (result i32) (i32.const N) (i32.const 0))",
    ];
    for way in ways {
        let call = way.replace('N', &even.to_string());
        let body = format!("(call $log (i64.extend_i32_u {call}))");
        let expected = i64::from(stepped(stepped(even) + 1));
        for (stop, log) in outcome(&body) {
            assert_eq!((stop, log), (Stop::Returned, vec![expected]), "{way}");
        }
    }
    let body = format!(
        "(call $log (i64.extend_i32_u (block $caught (result i32)
            (try_table (catch $odd $caught) (drop (call $huge (i32.const {odd})))) (i32.const 0))))"
    );
    let expected = i64::from(stepped(stepped(odd) + 1));
    for (stop, log) in outcome(&body) {
        assert_eq!((stop, log), (Stop::Returned, vec![expected]), "an exception");
    }
}

#[test]
fn a_trap_in_another_unit_says_where() {
    for (stop, _) in outcome("(drop (call $second (i32.const 4)))") {
        let Stop::Trapped(trap) = stop else { panic!("{stop:?}") };
        assert_eq!(trap.kind, TrapKind::MemoryOutOfBounds);
        assert_eq!(trap.running.first().map(String::as_str), Some("second"), "{trap:?}");
    }
}

#[test]
fn the_object_does_not_depend_on_the_machine() {
    let wasm = wat::parse_str(module("(drop (call $huge (i32.const 2)))")).expect("a module");
    let made = |count| {
        let count = NonZeroUsize::new(count).expect("some");
        let threads = Threads { count, ..Threads::default() };
        let (options, mut timings) = (Options::default(), Timings::default());
        emit_timed(&wasm, &options, Emit::SharedObject, threads, &mut timings).expect("a result")
    };
    assert!(made(1) == made(3), "one thread and three give different objects");
}
