//! Isolation of what the later versions of the language add: several memories, 64-bit memories,
//! exceptions. Each test tries to break it.

mod support;

use awsm_sandbox::{Limits, Pool, PoolConfig, Stop, TrapKind};
use support::{MODES, program, run};

/// Logs everything that is not as the module says, and then leaves something everywhere.
const NOSY: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (memory $first 1 4)
    (memory $second 2 8)
    (memory $wide i64 1 8)
    (memory $bytes 100 200 (pagesize 1))
    (data (memory $second) (i32.add (i32.const 70000) (i32.const 1)) "second")
    (data (memory $wide) (i64.const 65530) "wide")
    (data (memory $bytes) (i32.const 97) "end")
    (tag $t (param i64))
    (global $kept (mut exnref) (ref.null exn))
    (table $exceptions 2 exnref)
    (func $find (param i64) (call $log (local.get 0)))
    ;; The sum of all bytes, of each memory.
    (func $sum1 (result i64) (local $at i32) (local $sum i64)
        (loop $next
            (local.set $sum (i64.add (local.get $sum) (i64.load8_u $first (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (i32.shl (memory.size $first) (i32.const 16)))))
        (local.get $sum))
    (func $sum2 (result i64) (local $at i32) (local $sum i64)
        (loop $next
            (local.set $sum (i64.add (local.get $sum) (i64.load8_u $second (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (i32.shl (memory.size $second) (i32.const 16)))))
        (local.get $sum))
    (func $sum3 (result i64) (local $at i64) (local $sum i64)
        (loop $next
            (local.set $sum (i64.add (local.get $sum) (i64.load8_u $wide (local.get $at))))
            (local.set $at (i64.add (local.get $at) (i64.const 1)))
            (br_if $next (i64.lt_u (local.get $at) (i64.shl (memory.size $wide) (i64.const 16)))))
        (local.get $sum))
    (func $sum4 (result i64) (local $at i32) (local $sum i64)
        (loop $next
            (local.set $sum (i64.add (local.get $sum) (i64.load8_u $bytes (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (memory.size $bytes))))
        (local.get $sum))
    (func $sums
        (if (i64.ne (call $sum1) (i64.const 0)) (then (call $find (i64.const 1))))
        (if (i64.ne (call $sum2) (i64.const 636)) (then (call $find (i64.const 2))))
        (if (i64.ne (call $sum3) (i64.const 425)) (then (call $find (i64.const 3))))
        (if (i64.ne (call $sum4) (i64.const 311)) (then (call $find (i64.const 4)))))
    (func (export "run")
        (if (i32.ne (memory.size $second) (i32.const 2)) (then (call $find (i64.const 5))))
        (if (i64.ne (memory.size $wide) (i64.const 1)) (then (call $find (i64.const 6))))
        (if (i32.ne (memory.size $bytes) (i32.const 100)) (then (call $find (i64.const 7))))
        (if (i32.eqz (ref.is_null (global.get $kept))) (then (call $find (i64.const 8))))
        (if (i32.eqz (ref.is_null (table.get $exceptions (i32.const 1))))
            (then (call $find (i64.const 9))))
        (call $sums)
        (if (i32.ne (memory.grow $second (i32.const 3)) (i32.const 2))
            (then (call $find (i64.const 10))))
        (if (i64.ne (memory.grow $wide (i64.const 3)) (i64.const 1))
            (then (call $find (i64.const 11))))
        (if (i32.ne (memory.grow $bytes (i32.const 50)) (i32.const 100))
            (then (call $find (i64.const 12))))
        ;; New pages are zero.
        (call $sums)
        (memory.fill $first (i32.const 0) (i32.const 0xa5) (i32.const 65536))
        (memory.fill $second (i32.const 0) (i32.const 0xa5) (i32.const 327680))
        (memory.fill $wide (i64.const 0) (i32.const 0xa5) (i64.const 262144))
        (memory.fill $bytes (i32.const 0) (i32.const 0xa5) (i32.const 150))
        (block $h (result i64 exnref)
            (try_table (catch_ref $t $h) (throw $t (i64.const 0x5ec2e7)))
            (unreachable))
        (global.set $kept) (drop)
        (table.set $exceptions (i32.const 1) (global.get $kept))
        ;; One is left under way.
        (throw $t (i64.const 1))))"#;

#[test]
fn the_next_invocation_finds_nothing() {
    for (isolation, keep_resident_bytes) in
        MODES.into_iter().flat_map(|mode| [0, 70_000, 2 << 20].map(|bytes| (mode, bytes)))
    {
        let limits = Limits { keep_resident_bytes, ..Limits::default() };
        let nosy = program(NOSY, isolation, limits);
        let mut pool = Pool::new(PoolConfig::default());
        for turn in 0..5 {
            let (stop, found) = run(&mut pool, &nosy);
            assert!(
                matches!(&stop, Stop::Trapped(trap) if trap.kind == TrapKind::UncaughtException),
                "{stop:?}"
            );
            assert_eq!(found, [], "{isolation:?}, {keep_resident_bytes} bytes kept, turn {turn}");
        }
        assert_eq!(pool.stats().slots, 1);
    }
}

/// What `test.log` wrote, of a run that ends well.
fn logged(wat: &str) -> Vec<i64> {
    let mut all = MODES.map(|isolation| {
        let program = program(wat, isolation, Limits::default());
        let (stop, values) = run(&mut Pool::new(PoolConfig::default()), &program);
        assert_eq!(stop, Stop::Returned, "{isolation:?}");
        values
    });
    assert_eq!(all[0], all[1]);
    std::mem::take(&mut all[0])
}

/// A million exceptions are caught, each of them by reference, which is dropped; a few are kept all
/// the while, one by a local, one by a global, one by a table, one by another exception.
#[test]
fn exceptions_that_nothing_refers_to_make_room() {
    let wat = r#"(module
        (import "test" "log" (func $log (param i64)))
        (tag $t (param i64))
        (tag $nested (param exnref))
        (global $global (mut exnref) (ref.null exn))
        (table $table 1 exnref)
        (func $make (param i64) (result exnref) (local $e exnref)
            (block $h (result i64 exnref)
                (try_table (catch_ref $t $h) (throw $t (local.get 0)))
                (unreachable))
            (local.set $e) (drop) (local.get $e))
        (func $make_nested (param exnref) (result exnref)
            (block $h (result exnref)
                (try_table (catch_all_ref $h) (throw $nested (local.get 0)))
                (unreachable)))
        (func $value (param exnref) (result i64)
            (block $h (result i64)
                (try_table (catch $t $h) (throw_ref (local.get 0)))
                (unreachable)))
        (func $inner (param exnref) (result exnref)
            (block $h (result exnref)
                (try_table (catch $nested $h) (throw_ref (local.get 0)))
                (unreachable)))
        (func (export "run") (local $kept exnref) (local $around exnref) (local $i i64)
            (local.set $kept (call $make (i64.const 1)))
            (global.set $global (call $make (i64.const 2)))
            (table.set $table (i32.const 0) (call $make (i64.const 3)))
            (local.set $around (call $make_nested (call $make (i64.const 4))))
            (loop $again
                (drop (call $make (local.get $i)))
                (local.set $i (i64.add (local.get $i) (i64.const 1)))
                (br_if $again (i64.lt_u (local.get $i) (i64.const 1000000))))
            (call $log (call $value (local.get $kept)))
            (call $log (call $value (global.get $global)))
            (call $log (call $value (table.get $table (i32.const 0))))
            (call $log (call $value (call $inner (local.get $around))))))"#;
    assert_eq!(logged(wat), [1, 2, 3, 4]);
}

/// References that travel in argument cells, from call to call, while a hundred thousand other
/// exceptions come and go.
#[test]
fn exceptions_travel_in_argument_cells() {
    let params = "exnref ".repeat(9);
    let make: String = (1..=9).map(|value| format!("(call $make (i64.const {value}))")).collect();
    let rotated: String = (1..=9).map(|place| format!("(local.get {})", place % 9 + 1)).collect();
    let log: String =
        (1..=9).map(|place| format!("(call $log (call $value (local.get {place})))")).collect();
    let wat = format!(
        r#"(module
        (import "test" "log" (func $log (param i64)))
        (tag $t (param i64))
        (func $make (param i64) (result exnref) (local $e exnref)
            (block $h (result i64 exnref)
                (try_table (catch_ref $t $h) (throw $t (local.get 0)))
                (unreachable))
            (local.set $e) (drop) (local.get $e))
        (func $value (param exnref) (result i64)
            (block $h (result i64)
                (try_table (catch $t $h) (throw_ref (local.get 0)))
                (unreachable)))
        (func $rotate (param i64 {params})
            (if (i64.eqz (local.get 0)) (then {log} (return)))
            (drop (call $make (i64.const 77)))
            (return_call $rotate (i64.sub (local.get 0) (i64.const 1)) {rotated}))
        (func (export "run") (call $rotate (i64.const 100001) {make})))"#
    );
    // 100,001 modulo 9 is 2.
    assert_eq!(logged(&wat), [3, 4, 5, 6, 7, 8, 9, 1, 2]);
}

/// Exceptions that are all referred to reach the limit, and the node is none the worse.
#[test]
fn exceptions_are_limited() {
    let wat = r#"(module
        (tag $t (param v128 v128 v128 v128))
        (table $table 100000 exnref)
        (func (export "run") (local $i i32) (local $e exnref)
            (loop $again
                (block $h (result exnref)
                    (try_table (catch_all_ref $h)
                        (throw $t (v128.const i64x2 0 0) (v128.const i64x2 0 0)
                                  (v128.const i64x2 0 0) (v128.const i64x2 0 0)))
                    (unreachable))
                (local.set $e)
                (table.set $table (local.get $i) (local.get $e))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br $again))))"#;
    for isolation in MODES {
        let program = program(wat, isolation, Limits::default());
        let mut pool = Pool::new(PoolConfig::default());
        for _ in 0..3 {
            let (stop, _) = run(&mut pool, &program);
            assert!(
                matches!(&stop, Stop::Trapped(trap) if trap.kind == TrapKind::TooManyExceptions),
                "{stop:?}"
            );
        }
    }
}

/// All memories of an instance together stay within its limit.
#[test]
fn memories_share_a_limit() {
    let wat = r#"(module
        (import "test" "log" (func $log (param i64)))
        (memory $a 1) (memory $b i64 1) (memory $c 1)
        (func (export "run")
            (call $log (i64.extend_i32_s (memory.grow $a (i32.const 5))))
            (call $log (memory.grow $b (i64.const 5)))
            (call $log (memory.grow $b (i64.const 2)))
            (call $log (i64.extend_i32_s (memory.grow $c (i32.const 1))))))"#;
    for isolation in MODES {
        let limits = Limits { memory_bytes: 10 << 16, ..Limits::default() };
        let program = program(wat, isolation, limits);
        let mut pool = Pool::new(PoolConfig::default());
        for _ in 0..3 {
            let (stop, values) = run(&mut pool, &program);
            assert_eq!((stop, values), (Stop::Returned, vec![1, -1, 1, -1]), "{isolation:?}");
        }
    }
}
