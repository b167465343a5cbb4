//! Loops that were unrolled before they became WebAssembly: optimised code, which rolls them up
//! again, does what code without any optimisation does, for all kinds of loops, lengths and
//! overlaps.

mod support;

use std::fmt::Write;
use std::sync::Arc;

use awsm_compile::{OptLevel, Options, compile};
use awsm_sandbox::module::Module;
use awsm_sandbox::{Isolation, Limits, Linker, Pool, PoolConfig, Program, Stop};
use support::{Log, MODES};

/// What one of the `k` segments of an iteration does; `{i}` stands for its number times the stride.
struct Body {
    name: &'static str,
    stride: i32,
    segment: &'static str,
}

/// `$p`, `$q`: addresses; `$x`, `$y`: handed from segment to segment; `$s`: an `i64` sum.
const BODIES: [Body; 9] = [
    Body {
        name: "scaled sum of two vectors",
        stride: 8,
        segment: "(f64.store (i32.add (local.get $p) (i32.const {i}))
            (f64.add (f64.mul (f64.load (i32.add (local.get $p) (i32.const {i}))) (f64.const 0.75))
                     (f64.load (i32.add (local.get $q) (i32.const {i})))))",
    },
    Body {
        name: "the same the other way round, every second time",
        stride: 8,
        segment: "(f64.store (i32.add (local.get $q) (i32.const {i}))
            (f64.sub (f64.load (i32.add (i32.const {i}) (local.get $p))) (f64.load (i32.add (local.get $q) (i32.const {i})))))",
    },
    Body {
        name: "a sum of bytes",
        stride: 1,
        segment: "(local.set $s (i64.add (local.get $s) (i64.load8_u (i32.add (local.get $p) (i32.const {i})))))",
    },
    Body {
        name: "a checksum",
        stride: 4,
        segment: "(local.set $s (i64.mul (i64.xor (local.get $s) (i64.load32_u (i32.add (local.get $p) (i32.const {i})))) (i64.const 1099511628211)))",
    },
    Body {
        name: "the mean of neighbours, two of them handed on",
        stride: 8,
        segment: "(local.set $z (f64.load (i32.add (local.get $q) (i32.const {i}))))
            (f64.store (i32.add (local.get $p) (i32.const {i}))
                (f64.mul (f64.add (f64.add (local.get $x) (local.get $y)) (local.get $z)) (f64.const 0.25)))
            (local.set $x (local.get $y)) (local.set $y (local.get $z))",
    },
    Body {
        name: "a sum in place",
        stride: 8,
        segment: "(f64.store (i32.const 64) (f64.add (f64.load (i32.const 64))
            (f64.mul (f64.load (i32.add (local.get $p) (i32.const {i}))) (f64.load (i32.add (local.get $q) (i32.const {i}))))))",
    },
    Body {
        name: "an index as a value",
        stride: 4,
        segment: "(i32.store (i32.add (local.get $p) (i32.const {i})) (i32.add (i32.add (local.get $p) (i32.const {i})) (local.get $q)))",
    },
    Body {
        name: "the least, by selection",
        stride: 4,
        segment: "(i32.store (i32.add (local.get $p) (i32.const {i}))
            (select (i32.load (i32.add (local.get $p) (i32.const {i}))) (i32.load (i32.add (local.get $q) (i32.const {i})))
                (i32.lt_s (i32.load (i32.add (local.get $p) (i32.const {i}))) (i32.load (i32.add (local.get $q) (i32.const {i}))))))",
    },
    Body {
        name: "not alike: the second offset grows twice as fast",
        stride: 4,
        segment: "(i32.store (i32.add (local.get $p) (i32.const {i})) (i32.load (i32.add (local.get $q) (i32.const {2i}))))",
    },
];

/// How a loop ends. `{step}`: bytes of an iteration; `{bytes}`: of all.
const EXITS: [&str; 3] = [
    // The address reaches the end.
    "(br_if $again (i32.ne (local.get $p) (local.get $end)))",
    // A counter goes up from -n to zero.
    "(br_if $again (local.tee $c (i32.add (local.get $c) (i32.const {step}))))",
    // A counter goes down to zero.
    "(br_if $again (i32.eqz (i32.eqz (local.tee $d (i32.sub (local.get $d) (i32.const {step}))))))",
];

/// One loop as a function: `k` segments, `turns` iterations.
fn function(text: &mut String, number: usize, body: &Body, k: i32, exit: &str, turns: i32) {
    let step = k * body.stride;
    let segments: String = (0..k)
        .map(|i| {
            let once = body.segment.replace("{i}", &(i * body.stride).to_string());
            once.replace("{2i}", &(i * body.stride * 2).to_string())
        })
        .collect();
    let exit = exit.replace("{step}", &step.to_string());
    let bytes = step * turns;
    let _ = write!(
        text,
        "(func $f{number} (param $p i32) (param $q i32)
            (local $end i32) (local $c i32) (local $d i32) (local $s i64)
            (local $x f64) (local $y f64) (local $z f64)
            (local.set $end (i32.add (local.get $p) (i32.const {bytes})))
            (local.set $c (i32.const -{bytes})) (local.set $d (i32.const {bytes}))
            (loop $again {segments}
                (local.set $p (i32.add (local.get $p) (i32.const {step})))
                (local.set $q (i32.add (local.get $q) (i32.const {step})))
                {exit})
            (i64.store (i32.const 0) (i64.add (i64.load (i32.const 0)) (local.get $s)))
            (i32.store (i32.const 8) (local.get $p)) (i32.store (i32.const 12) (local.get $c))
            (f64.store (i32.const 16) (local.get $x)))\n"
    );
}

/// A module whose `run` fills memory, calls each loop with these addresses, and logs checksums.
fn module(body: &Body, addresses: &[(i32, i32)]) -> String {
    let mut text = String::from(
        "(module (import \"test\" \"log\" (func $log (param i64))) (memory 1)
        (func $fill (local $i i32) (local $r i32) (local.set $r (i32.const 12345))
            (loop $again
                (local.set $r (i32.add (i32.mul (local.get $r) (i32.const 1664525)) (i32.const 1013904223)))
                (f64.store (local.get $i) (f64.convert_i32_s (i32.shr_s (local.get $r) (i32.const 12))))
                (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const 65536)))))
        (func $sum (result i64) (local $i i32) (local $s i64)
            (loop $again
                (local.set $s (i64.add (i64.rotl (local.get $s) (i64.const 7)) (i64.load (local.get $i))))
                (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const 65536))))
            (local.get $s))\n",
    );
    let mut number = 0;
    for k in [2, 3, 8] {
        for exit in EXITS {
            for turns in [1, 13] {
                function(&mut text, number, body, k, exit, turns);
                number += 1;
            }
        }
    }
    // Called through a table, so that no loop is compiled more than once.
    let names: String = (0..number).map(|number| format!(" $f{number}")).collect();
    let call = |(p, q): &(i32, i32)| {
        format!(
            "(call $fill)
            (call_indirect (param i32 i32) (i32.const {p}) (i32.const {q}) (local.get $i))
            (call $log (call $sum))"
        )
    };
    let calls: String = addresses.iter().map(call).collect();
    let _ = write!(
        text,
        "(table funcref (elem{names}))
        (func (export \"run\") (local $i i32)
            (loop $again {calls}
                (br_if $again (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {number}))))))"
    );
    text
}

fn outcome(wat: &str, opt_level: OptLevel, isolation: Isolation) -> (String, Vec<i64>) {
    let wasm = wat::parse_str(wat).expect("a module in the text format");
    let options = Options { opt_level, isolation, ..Options::default() };
    let (_folder, path) = support::file(&compile(&wasm, &options).expect("it compiles"));
    let mut linker = Linker::new();
    linker.func("test", "log", |call: &mut awsm_sandbox::HostCall<'_, Log>, value: i64| {
        call.data().values.push(value);
        Ok(())
    });
    let module = Module::load(&path).expect("it loads");
    let program: Arc<_> = Program::link(module, &linker, Limits::default()).expect("known imports");
    let mut pool = Pool::new(PoolConfig::default());
    let (stop, values) = support::run(&mut pool, &program);
    let stop = match stop {
        // Where exactly it faulted is the processor's business.
        Stop::Trapped(trap) => format!("{:?}", trap.kind),
        stop => format!("{stop:?}"),
    };
    (stop, values)
}

#[test]
fn rolled_up_loops_do_the_same() {
    // Apart, the same, overlapping by one element each way, odd addresses.
    let addresses = [(8192, 32768), (8192, 8192), (8192, 8200), (8200, 8192), (8193, 9001)];
    for body in &BODIES {
        let wat = module(body, &addresses);
        let plain = outcome(&wat, OptLevel::O0, Isolation::Guard);
        assert_eq!(plain.0, format!("{:?}", Stop::Returned), "{}", body.name);
        for isolation in MODES {
            let optimised = outcome(&wat, OptLevel::O3, isolation);
            assert!(plain == optimised, "{}, {isolation:?}", body.name);
        }
    }
}

#[test]
fn rolled_up_loops_trap_at_the_end_of_memory_and_wrap_at_the_end_of_addresses() {
    // The end of memory; and addresses beyond it that come round to the start of memory.
    for addresses in [(65504, 8192), (8192, -24)] {
        for body in &BODIES {
            let wat = module(body, &[addresses]);
            let plain = outcome(&wat, OptLevel::O0, Isolation::Guard);
            for isolation in MODES {
                let optimised = outcome(&wat, OptLevel::O3, isolation);
                assert!(plain == optimised, "{}, {addresses:?}, {isolation:?}", body.name);
            }
        }
    }
}
