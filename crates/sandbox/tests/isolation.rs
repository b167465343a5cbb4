//! Nothing of one invocation can be read by the next, and one guest's fault is its own.

mod support;

use awsm_sandbox::{Limits, Pool, PoolConfig, Stop, TrapKind};
use support::{MODES, program, run};

/// Looks for what an earlier run may have left, logs each find as `place * 2^32 + offset`, and then
/// leaves something everywhere: in memory, also beyond its initial size; in globals; in tables; in
/// the segments that it drops.
const NOSY: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (memory (export "memory") 3 40)
    (table $functions 4 20 funcref)
    (table $things 2 20 externref)
    (global $counter (mut i32) (i32.const 7))
    (global $wide (mut i64) (i64.const -1))
    (global $vector (mut v128) (v128.const i64x2 7 -7))
    (data (i32.const 65530) "across a page")
    (data $passive "passive")
    (elem (table $functions) (i32.const 1) func $one)
    (elem $more func $one $two)
    (func $one (result i32) (i32.const 1))
    (func $two (result i32) (i32.const 2))
    (func $find (param $place i64) (param $offset i64)
        (call $log (i64.or (i64.shl (local.get $place) (i64.const 32)) (local.get $offset))))

    ;; Every byte that is not what the data segment says.
    (func $scan (param $from i32) (param $to i32)
        (local $byte i32)
        (loop $next
            (local.set $byte (i32.load8_u (local.get $from)))
            (if (i32.and (i32.ge_u (local.get $from) (i32.const 65530))
                         (i32.lt_u (local.get $from) (i32.const 65543)))
                (then (local.set $byte (i32.eqz (local.get $byte)))))
            (if (local.get $byte)
                (then (call $find (i64.const 1) (i64.extend_i32_u (local.get $from)))))
            (local.set $from (i32.add (local.get $from) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $from) (local.get $to)))))

    (func (export "run")
        (if (i32.ne (memory.size) (i32.const 3)) (then (call $find (i64.const 2) (i64.const 0))))
        (call $scan (i32.const 0) (i32.const 196608))
        (if (i32.ne (memory.grow (i32.const 5)) (i32.const 3))
            (then (call $find (i64.const 3) (i64.const 0))))
        (call $scan (i32.const 196608) (i32.const 524288))
        (if (i32.ne (global.get $counter) (i32.const 7))
            (then (call $find (i64.const 4) (i64.const 0))))
        (if (i64.ne (global.get $wide) (i64.const -1))
            (then (call $find (i64.const 4) (i64.const 1))))
        (if (v128.any_true (v128.xor (global.get $vector) (v128.const i64x2 7 -7)))
            (then (call $find (i64.const 4) (i64.const 2))))
        (if (i32.ne (table.size $functions) (i32.const 4))
            (then (call $find (i64.const 5) (i64.const 0))))
        (if (i32.ne (table.size $things) (i32.const 2))
            (then (call $find (i64.const 5) (i64.const 1))))
        (if (i32.eqz (ref.is_null (table.get $functions (i32.const 0))))
            (then (call $find (i64.const 6) (i64.const 0))))
        (if (ref.is_null (table.get $functions (i32.const 1)))
            (then (call $find (i64.const 6) (i64.const 1))))
        ;; Faults unless the segments are whole again.
        (memory.init $passive (i32.const 0) (i32.const 0) (i32.const 7))
        (table.init $functions $more (i32.const 2) (i32.const 0) (i32.const 2))

        (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 524288))
        (global.set $counter (i32.const 99))
        (global.set $wide (i64.const 99))
        (global.set $vector (v128.const i64x2 99 99))
        (table.fill $functions (i32.const 0) (ref.func $two) (i32.const 4))
        (drop (table.grow $functions (ref.func $two) (i32.const 3)))
        (drop (table.grow $things (ref.null extern) (i32.const 3)))
        (table.set $functions (i32.const 1) (ref.null func))
        (data.drop $passive)
        (elem.drop $more)))"#;

#[test]
fn the_next_invocation_finds_nothing() {
    let kept = [0, 4096, 70_000, Limits::default().keep_resident_bytes];
    for (isolation, keep_resident_bytes) in
        MODES.into_iter().flat_map(|mode| kept.map(|bytes| (mode, bytes)))
    {
        let nosy = program(NOSY, isolation, Limits { keep_resident_bytes, ..Limits::default() });
        let mut pool = Pool::new(PoolConfig::default());
        for turn in 0..6 {
            let (stop, finds) = run(&mut pool, &nosy);
            assert_eq!((stop, finds), (Stop::Returned, vec![]), "{isolation:?} turn {turn}");
        }
        assert_eq!(pool.stats().slots, 1, "all turns in the same slot");
    }
}

#[test]
fn the_test_can_fail() {
    // The same guest twice in one invocation does find what the first pass left.
    let twice = NOSY.replace("(export \"run\")", "$pass").replace(
        "(func $one (result i32)",
        "(func (export \"run\") (call $pass) (call $pass)) (func $one (result i32)",
    );
    for isolation in MODES {
        let nosy = program(&twice, isolation, Limits::default());
        let (stop, finds) = run(&mut Pool::new(PoolConfig::default()), &nosy);
        assert!(finds.len() > 500_000, "{} finds", finds.len());
        assert!(matches!(stop, Stop::Trapped(_)), "segments are dropped: {stop:?}");
    }
}

/// Modules whose `run` traps, and how.
pub(crate) fn every_trap() -> Vec<(&'static str, TrapKind)> {
    vec![
        ("(func (export \"run\") unreachable)", TrapKind::Unreachable),
        (
            "(global $zero (mut i32) (i32.const 0))
             (func (export \"run\") (drop (i32.div_u (i32.const 1) (global.get $zero))))",
            TrapKind::IntegerDivideByZero,
        ),
        (
            "(global $least (mut i64) (i64.const 0x8000000000000000))
             (func (export \"run\") (drop (i64.div_s (global.get $least) (i64.const -1))))",
            TrapKind::IntegerOverflow,
        ),
        (
            "(global $nan (mut f32) (f32.const nan))
             (func (export \"run\") (drop (i32.trunc_f32_s (global.get $nan))))",
            TrapKind::InvalidConversion,
        ),
        (
            "(memory 1) (func (export \"run\") (drop (i32.load (i32.const 65533))))",
            TrapKind::MemoryOutOfBounds,
        ),
        (
            "(memory 1)
             (func (export \"run\") (i64.store offset=0xffffffff (i32.const -1) (i64.const 1)))",
            TrapKind::MemoryOutOfBounds,
        ),
        (
            "(memory 1)
             (func (export \"run\")
                (memory.fill (i32.const 65000) (i32.const 1) (i32.const 1000)))",
            TrapKind::MemoryOutOfBounds,
        ),
        (
            "(table 1 funcref) (func (export \"run\") (drop (table.get 0 (i32.const 1))))",
            TrapKind::TableOutOfBounds,
        ),
        (
            "(table 1 funcref) (func (export \"run\") (call_indirect (i32.const 1)))",
            TrapKind::UndefinedElement,
        ),
        (
            "(table 1 funcref) (func (export \"run\") (call_indirect (i32.const 0)))",
            TrapKind::UninitializedElement,
        ),
        (
            "(table funcref (elem $f)) (func $f (result i32) (i32.const 1))
             (func (export \"run\") (call_indirect (i32.const 0)))",
            TrapKind::IndirectCallTypeMismatch,
        ),
        (
            "(global $deep (mut i32) (i32.const 0))
             (func $down (result i32)
                (global.set $deep (i32.add (global.get $deep) (i32.const 1)))
                (i32.add (call $down) (global.get $deep)))
             (func (export \"run\") (drop (call $down)))",
            TrapKind::StackOverflow,
        ),
        (
            // The stack ends in a call into the host.
            "(import \"test\" \"log\" (func $log (param i64)))
             (func $down (param i64) (result i64)
                (call $log (local.get 0))
                (i64.add (call $down (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
             (func (export \"run\") (drop (call $down (i64.const 0))))",
            TrapKind::StackOverflow,
        ),
        (
            "(import \"test\" \"panic\" (func $panic)) (func (export \"run\") (call $panic))",
            TrapKind::HostPanic,
        ),
    ]
}

const HEALTHY: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (memory 1)
    (data (i32.const 16) "\2a")
    (global $g (mut i64) (i64.const 1))
    (func (export "run")
        (global.set $g (i64.add (global.get $g) (i64.load8_u (i32.const 16))))
        (i64.store (i32.const 16) (global.get $g))
        (call $log (i64.load (i32.const 16)))))"#;

/// What a process may run out of: open descriptors, mappings (of which the sanitizer makes its
/// own).
fn resources() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("/proc").count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    (descriptors, if cfg!(feature = "sanitize") { 0 } else { maps.lines().count() })
}

#[test]
fn ten_thousand_faults_disturb_nobody() {
    std::panic::set_hook(Box::new(|_| {}));
    for isolation in MODES {
        let wat = |body: &str| {
            // Imports come first in a module; the text format wants it so, too.
            program(&format!("(module {body})"), isolation, Limits::default())
        };
        let faulty =
            every_trap().into_iter().map(|(body, kind)| (wat(body), kind)).collect::<Vec<_>>();
        let healthy = program(HEALTHY, isolation, Limits::default());
        let mut pool = Pool::new(PoolConfig::default());
        let turn = |pool: &mut Pool<_>, count: usize| {
            for (faulty, kind) in faulty.iter().cycle().take(count) {
                match run(pool, faulty).0 {
                    Stop::Trapped(trap) => assert_eq!(trap.kind, *kind),
                    stop => panic!("{kind:?} expected, not {stop:?}"),
                }
                assert_eq!(run(pool, &healthy), (Stop::Returned, vec![43]));
            }
        };
        turn(&mut pool, 50);
        let before = (pool.stats(), resources());
        turn(&mut pool, 5_000);
        assert_eq!((pool.stats(), resources()), before, "nothing is lost");
        assert_eq!(pool.stats().live, 0);
    }
}

#[test]
fn a_fault_says_where() {
    // Functions that call through a table stay what they are, and stay on the stack.
    let body = |fault: &str| {
        format!(
            "(module (memory 1) (type $f (func (param i32) (result i32)))
            (table funcref (elem $faults $middle))
            (func $faults (type $f) {fault})
            (func $middle (type $f) (i32.add (i32.const 1)
                (call_indirect (type $f) (local.get 0) (i32.const 0))))
            (func $outer (export \"run\")
                (i32.store (i32.const 0) (call_indirect (type $f) (i32.const 0x20000) (i32.const 1)))))"
        )
    };
    let faults = [
        ("(i32.load offset=8 (local.get 0))", TrapKind::MemoryOutOfBounds, Some(0x20008)),
        (
            "(i32.div_u (i32.const 1) (i32.shr_u (local.get 0) (i32.const 31)))",
            TrapKind::IntegerDivideByZero,
            None,
        ),
        (
            "(memory.fill (local.get 0) (i32.const 1) (i32.const 100)) (i32.const 1)",
            TrapKind::MemoryOutOfBounds,
            None,
        ),
    ];
    for (fault, kind, address) in faults {
        let program = program(&body(fault), support::MODES[0], Limits::default());
        match run(&mut Pool::new(PoolConfig::default()), &program).0 {
            Stop::Trapped(trap) => {
                assert_eq!(trap.kind, kind);
                assert_eq!(trap.address, address, "{trap}");
                assert_eq!(trap.running, ["faults", "middle", "outer"], "{trap}");
            }
            stop => panic!("{stop:?}"),
        }
    }
}

#[test]
fn endless_recursion_says_where() {
    let body = "(module (memory 1) (func $down (param i32) (result i32)
            (i32.add (i32.load (local.get 0)) (call $down (i32.add (local.get 0) (i32.const 4)))))
        (func (export \"run\") (drop (call $down (i32.const 1)))))";
    for mode in support::MODES {
        let program = program(body, mode, Limits::default());
        match run(&mut Pool::new(PoolConfig::default()), &program).0 {
            Stop::Trapped(trap) => {
                assert!(trap.running.len() > 8, "{trap:?}");
                assert!(trap.running.iter().all(|name| name == "down"), "{trap:?}");
            }
            stop => panic!("{stop:?}"),
        }
    }
}

#[test]
fn memory_has_a_limit() {
    let body = r#"(module (import "test" "log" (func $log (param i64))) (memory 1)
        (func (export "run")
            (call $log (i64.extend_i32_s (memory.grow (i32.const 15))))
            (call $log (i64.extend_i32_s (memory.grow (i32.const 1))))
            (call $log (i64.extend_i32_s (memory.grow (i32.const 65536))))
            (call $log (i64.extend_i32_s (memory.grow (i32.const -1))))
            (call $log (i64.extend_i32_s (memory.size)))))"#;
    for isolation in MODES {
        let limits = Limits { memory_bytes: 1 << 20, ..Limits::default() };
        let program = program(body, isolation, limits);
        let mut pool = Pool::new(PoolConfig::default());
        assert_eq!(run(&mut pool, &program), (Stop::Returned, vec![1, -1, -1, -1, 16]));
    }
}

#[test]
fn a_pool_has_a_limit() {
    let healthy = program(HEALTHY, MODES[0], Limits::default());
    let other = program(HEALTHY, MODES[0], Limits::default());
    let entry = healthy.module().exported_func("run").expect("an export");
    let mut pool = Pool::new(PoolConfig { max_slots: 2, ..PoolConfig::default() });
    let start = |pool: &mut Pool<_>| pool.start(&healthy, entry, support::Log::default());
    let (Ok(first), Ok(second)) = (start(&mut pool), start(&mut pool)) else { panic!("two slots") };
    let Err((error, _)) = start(&mut pool) else { panic!("only two slots") };
    assert_eq!(error.to_string(), "all 2 slots are in use");
    pool.recycle(first);
    pool.recycle(second);
    // An idle slot makes way for another program's.
    assert_eq!(run(&mut pool, &other), (Stop::Returned, vec![43]));
    assert_eq!(pool.stats().slots, 2);
}

/// A module without any code comes and goes: others keep theirs, and linked guests still fault in
/// their own names.
#[test]
fn a_module_without_code_takes_nobodys_place() {
    use awsm_testing::{InvokeError, Store};
    let faulty = r#"(module (memory 1)
        (func (export "run") (result i32) (i32.load (i32.const 65536))))"#;
    for isolation in MODES {
        let empty = support::load("(module)", isolation);
        assert_eq!(empty.text_bytes(), 0);
        let module = support::load(faulty, isolation);
        drop(empty);
        let mut store = Store::new(Limits::default());
        let instance = store.instantiate(&module, &[]).expect("no imports");
        // The store's last instance is another one.
        store.instantiate(&support::load("(module)", isolation), &[]).expect("no imports");
        match store.invoke(instance, "run", &[]) {
            Err(InvokeError::Trap(trap)) => assert_eq!(trap.kind, TrapKind::MemoryOutOfBounds),
            other => panic!("{other:?}"),
        }
    }
}
