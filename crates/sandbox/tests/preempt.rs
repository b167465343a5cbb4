//! Preempted guests notice nothing: at random points, in every kind of code, the result is bit for
//! bit that of an undisturbed run. And what the tick may not interrupt it leaves alone.
//!
//! `AWSM_PREEMPTIONS=1000000 cargo test -p awsm-sandbox --test preempt same -- --nocapture`
//! preempts a million times instead of some thousand, in some minutes; `AWSM_SEED` moves the
//! points.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use awsm_compile::{Options, compile};
use awsm_sandbox::Val;
use awsm_sandbox::module::Module;
use awsm_sandbox::{
    Call, HostCall, HostResult, Isolation, Leave, Limits, Linker, Nudge, Pool, PoolConfig, Program,
    Stop, Ticks, TrapKind, Wait, clock,
};
use support::{MODES, file};

/// Sums in 128 bits: the carry flag lives from one instruction to the next, all the time.
const CARRIES: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (func (export "run")
        (local $n i32) (local $x i64) (local $a i64) (local $b i64) (local $c i64) (local $t i64)
        (local.set $x (i64.const 0x9e3779b97f4a7c15))
        (loop $next
            (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005))
                                   (i64.const 1442695040888963407)))
            (local.set $t (i64.add (local.get $a) (local.get $x)))
            (local.set $b (i64.add (i64.add (local.get $b) (i64.rotl (local.get $x) (i64.const 23)))
                (i64.extend_i32_u (i64.lt_u (local.get $t) (local.get $a)))))
            (local.set $c (i64.add (local.get $c)
                (i64.extend_i32_u (i64.lt_u (local.get $b) (local.get $t)))))
            (local.set $a (local.get $t))
            (if (i64.gt_s (local.get $a) (local.get $b))
                (then (local.set $c (i64.xor (local.get $c) (local.get $x)))))
            (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
                                   (i32.const 3000000))))
        (call $log (local.get $a)) (call $log (local.get $b)) (call $log (local.get $c))))"#;

/// Loops over floats and integers that LLVM vectorises as wide as the processor allows.
const VECTORS: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (memory 3)
    (func $init (local $i i32)
        (loop $next
            (i32.store (local.get $i) (i32.mul (local.get $i) (i32.const 2654435761)))
            (f64.store offset=65536 (local.get $i)
                (f64.div (f64.convert_i32_s (local.get $i)) (f64.const 3)))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8)))
                                   (i32.const 65536)))))
    (func $axpy (param $k f64) (local $i i32)
        (loop $next
            (f64.store offset=65536 (local.get $i)
                (f64.add (f64.mul (local.get $k) (f64.load offset=65536 (local.get $i)))
                         (f64.sqrt (f64.abs (f64.load offset=65544 (local.get $i))))))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8)))
                                   (i32.const 65520)))))
    (func $mix (param $k i32) (local $i i32)
        (loop $next
            (if (i32.gt_s (i32.load (local.get $i)) (local.get $k))
                (then (i32.store (local.get $i)
                    (i32.add (i32.load (local.get $i)) (i32.rotl (local.get $k) (i32.const 7)))))
                (else (i32.store (local.get $i)
                    (i32.mul (i32.load (local.get $i)) (i32.const 1664525)))))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4)))
                                   (i32.const 65536)))))
    (func $sum (result i64) (local $i i32) (local $s i64)
        (loop $next
            (local.set $s (i64.add (i64.rotl (local.get $s) (i64.const 1))
                (i64.xor (i64.load (local.get $i)) (i64.load offset=65536 (local.get $i)))))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8)))
                                   (i32.const 65536))))
        (local.get $s))
    (func (export "run") (local $n i32)
        (call $init)
        (loop $next
            (call $axpy (f64.div (f64.convert_i32_s (local.get $n)) (f64.const 700)))
            (call $mix (i32.mul (local.get $n) (i32.const 77777)))
            (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
                                   (i32.const 300))))
        (call $log (call $sum))))"#;

/// Deep recursion, also through a table.
const DEEP: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (type $unary (func (param i64) (result i64)))
    (table funcref (elem $down $also))
    (func $down (param $n i64) (result i64)
        (if (result i64) (i64.eqz (local.get $n))
            (then (i64.const 1))
            (else (i64.add
                (i64.mul (call_indirect (type $unary) (i64.sub (local.get $n) (i64.const 1))
                    (i32.and (i32.wrap_i64 (local.get $n)) (i32.const 1))) (i64.const 31))
                (local.get $n)))))
    (func $also (param $n i64) (result i64)
        (if (result i64) (i64.eqz (local.get $n))
            (then (i64.const 5))
            (else (i64.xor (call $down (i64.sub (local.get $n) (i64.const 1))) (local.get $n)))))
    (func $fib (param $n i32) (result i64)
        (if (result i64) (i32.lt_u (local.get $n) (i32.const 2))
            (then (i64.extend_i32_u (local.get $n)))
            (else (i64.add (call $fib (i32.sub (local.get $n) (i32.const 1)))
                           (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
    (func (export "run") (local $n i32) (local $s i64)
        (loop $next
            (local.set $s (i64.add (local.get $s) (call $down (i64.const 6000))))
            (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
                                   (i32.const 150))))
        (call $log (local.get $s))
        (call $log (call $fib (i32.const 27)))))"#;

/// Copies and fills of all sizes, up to a mebibyte in one instruction of the processor.
const BULK: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (memory 40)
    (func (export "run") (local $n i32) (local $len i32) (local $s i64) (local $i i32)
        (loop $next
            (local.set $len (i32.rem_u (i32.mul (local.get $n) (i32.const 40503)) (i32.const 1048576)))
            (memory.fill (local.get $n) (i32.mul (local.get $n) (i32.const 13)) (local.get $len))
            (memory.copy (i32.add (local.get $len) (i32.const 1000)) (local.get $n) (local.get $len))
            (memory.copy (i32.const 40) (i32.const 3) (i32.add (local.get $len) (i32.const 1)))
            (i32.store (local.get $len) (local.get $n))
            (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
                                   (i32.const 250))))
        (loop $add
            (local.set $s (i64.add (i64.rotl (local.get $s) (i64.const 5)) (i64.load (local.get $i))))
            (br_if $add (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8)))
                                  (i32.const 2621440))))
        (call $log (local.get $s))))"#;

/// Hardly anything but host calls: plain ones, those that block, every builtin.
const HOST: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (import "test" "mix" (func $mix (param i32 i64 f32 f64 i64 f64) (result i64)))
    (import "test" "nap" (func $nap (param i32) (result i32)))
    (memory 1 70)
    (table $t 4 100000 funcref)
    (elem $e func $f $f $f)
    (elem declare func $f)
    (data $d "some bytes")
    (func $f)
    (func (export "run") (local $n i32) (local $s i64)
        (loop $next
            (local.set $s (i64.add (i64.rotl (local.get $s) (i64.const 3))
                (call $mix (local.get $n) (local.get $s) (f32.const 1.5)
                    (f64.convert_i64_s (local.get $s)) (i64.const 77)
                    (f64.convert_i32_s (local.get $n)))))
            (memory.init $d (i32.const 10) (i32.const 0) (i32.const 10))
            (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 3))
            (table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 3))
            (table.fill $t (i32.const 2) (ref.null func) (i32.const 2))
            (table.set $t (i32.const 3) (ref.func $f))
            (if (i32.eqz (i32.and (local.get $n) (i32.const 255))) (then
                (local.set $s (i64.add (local.get $s) (i64.extend_i32_s (i32.add
                    (call $nap (local.get $n))
                    (i32.add (memory.grow (i32.const 1))
                             (table.grow $t (ref.func $f) (i32.const 9)))))))))
            (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
                                   (i32.const 20000))))
        (data.drop $d)
        (elem.drop $e)
        (call $log (local.get $s))
        (call $log (i64.extend_i32_u (i32.add (table.size $t) (memory.size))))))"#;

/// Divisions, conversions, shifts, minima: the instructions with fixed registers and odd flags.
const SCALARS: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (func (export "run") (local $n i32) (local $x i64) (local $f f64) (local $g f32)
        (local.set $x (i64.const 88172645463325252))
        (loop $next
            (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
            (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
            (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
            (local.set $f (f64.min (f64.add (local.get $f)
                (f64.convert_i64_u (i64.div_u (local.get $x)
                    (i64.or (i64.rotr (local.get $x) (i64.extend_i32_u (local.get $n))) (i64.const 1)))))
                (f64.const 1e15)))
            (local.set $g (f32.copysign
                (f32.max (f32.demote_f64 (local.get $f)) (local.get $g))
                (f32.convert_i64_s (i64.rem_s (local.get $x) (i64.const 1000003)))))
            (local.set $x (i64.add (local.get $x) (i64.trunc_sat_f32_s (local.get $g))))
            (local.set $x (i64.add (local.get $x) (i64.add (i64.popcnt (local.get $x))
                (i64.mul (i64.clz (local.get $x)) (i64.ctz (local.get $x))))))
            (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
                                   (i32.const 400000))))
        (call $log (local.get $x))
        (call $log (i64.reinterpret_f64 (local.get $f)))
        (call $log (i64.extend_i32_u (i32.reinterpret_f32 (local.get $g))))))"#;

/// Hardly anything but calls in tail position, most of whose arguments travel in memory.
const TAIL: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (type $many (func (param i32 i64 i64 i64 i64 i64 i64 i64 v128 v128 v128 v128 v128 v128 v128
                             v128 v128 f64 f32) (result i64 v128)))
    (table funcref (elem $here $there))
    (func $here (type $many)
        (if (i32.eqz (local.get 0))
            (then (return (i64.xor (local.get 7) (i64.reinterpret_f64 (local.get 17)))
                          (v128.xor (local.get 8) (local.get 16)))))
        (return_call_indirect (type $many)
            (i32.sub (local.get 0) (i32.const 1))
            (local.get 2) (local.get 3) (local.get 4) (local.get 5) (local.get 6) (local.get 7)
            (i64.add (i64.rotl (local.get 1) (i64.const 3)) (i64.const 0x9e3779b97f4a7c15))
            (local.get 9) (local.get 10) (local.get 11) (local.get 12) (local.get 13)
            (local.get 14) (local.get 15) (local.get 16)
            (i64x2.add (local.get 8) (i64x2.splat (local.get 1)))
            (f64.add (local.get 17) (f64.const 0.5)) (local.get 18)
            (i32.and (local.get 0) (i32.const 1))))
    (func $there (type $many)
        (return_call $here
            (local.get 0)
            (local.get 7) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5)
            (local.get 6)
            (local.get 16) (local.get 8) (local.get 9) (local.get 10) (local.get 11)
            (local.get 12) (local.get 13) (local.get 14) (local.get 15)
            (local.get 17) (f32.sqrt (local.get 18))))
    (func (export "run") (local $v v128)
        (call $here (i32.const 1000000)
            (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4) (i64.const 5) (i64.const 6)
            (i64.const 7)
            (v128.const i64x2 1 2) (v128.const i64x2 3 4) (v128.const i64x2 5 6)
            (v128.const i64x2 7 8) (v128.const i64x2 9 10) (v128.const i64x2 11 12)
            (v128.const i64x2 13 14) (v128.const i64x2 15 16) (v128.const i64x2 17 18)
            (f64.const 0) (f32.const 3))
        (local.set $v)
        (call $log)
        (call $log (i64x2.extract_lane 0 (local.get $v)))
        (call $log (i64x2.extract_lane 1 (local.get $v)))))"#;

/// Exceptions that are kept and thrown again, so many that those that nothing refers to are looked
/// for.
const EXCEPTIONS: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (tag $tag (param i64))
    (table $kept 3000 exnref)
    (func $make (param i64) (result exnref) (local $e exnref)
        (block $h (result i64 exnref)
            (try_table (catch_ref $tag $h) (throw $tag (local.get 0)))
            (unreachable))
        (local.set $e)
        (drop)
        (local.get $e))
    (func $value (param exnref) (result i64)
        (block $h (result i64)
            (try_table (catch $tag $h) (throw_ref (local.get 0)))
            (unreachable)))
    (func $next (param $s i64) (param $at i32) (result i64)
        (i64.add (i64.rotl (local.get $s) (i64.const 1))
                 (call $value (table.get $kept (local.get $at)))))
    (func (export "run") (local $n i32) (local $s i64) (local $at i32)
        (loop $next
            (local.set $at (i32.rem_u (i32.mul (local.get $n) (i32.const 2654435761))
                                      (i32.const 3000)))
            (table.set $kept (local.get $at)
                (call $make (i64.add (local.get $s) (i64.extend_i32_u (local.get $n)))))
            (local.set $s (call $next (local.get $s) (local.get $at)))
            (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
                                   (i32.const 30000))))
        (local.set $n (i32.const 0))
        (loop $sum
            (if (i32.eqz (ref.is_null (table.get $kept (local.get $n))))
                (then (local.set $s (call $next (local.get $s) (local.get $n)))))
            (br_if $sum (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
                                  (i32.const 3000))))
        (call $log (local.get $s))))"#;

const GUESTS: [(&str, &str); 8] = [
    ("carries", CARRIES),
    ("vectors", VECTORS),
    ("deep", DEEP),
    ("bulk", BULK),
    ("host", HOST),
    ("scalars", SCALARS),
    ("tail", TAIL),
    ("exceptions", EXCEPTIONS),
];

/// How often and where a guest is interrupted; a small generator, so that a failure can be
/// repeated.
struct Points(u64);

impl Points {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    /// Nanoseconds until the next interruption: mostly as soon as a timer can.
    fn gap(&mut self) -> u64 {
        match self.next(16) {
            0 => self.next(300_000),
            1..4 => self.next(40_000),
            _ => self.next(4_000),
        }
    }
}

#[derive(Default)]
struct Log(Vec<i64>);

fn log(call: &mut HostCall<'_, Log>, value: i64) -> HostResult<()> {
    call.data().0.push(value);
    Ok(())
}

fn mix(
    _: &mut HostCall<'_, Log>,
    a: i32,
    b: i64,
    c: f32,
    d: f64,
    e: i64,
    f: f64,
) -> HostResult<i64> {
    let floats = f64::from(c).to_bits() ^ d.to_bits().rotate_left(9) ^ f.to_bits().rotate_left(21);
    Ok(i64::from(a) ^ b ^ e ^ floats.cast_signed())
}

/// Blocks once, then answers.
fn nap(call: &mut HostCall<'_, Log>, value: i32) -> HostResult<i32> {
    if call.woken() { Ok(value ^ 0x55) } else { Err(Leave::Block(Wait::Yield)) }
}

/// Busy in the host for 300 microseconds.
fn busy(_: &mut HostCall<'_, Log>) -> HostResult<()> {
    let since = Instant::now();
    while since.elapsed() < Duration::from_micros(300) {}
    Ok(())
}

fn program(wat: &str, isolation: Isolation) -> Arc<Program<Log>> {
    program_with(wat, isolation, Limits::default())
}

fn program_with(wat: &str, isolation: Isolation, limits: Limits) -> Arc<Program<Log>> {
    let wasm = wat::parse_str(wat).expect("a module in the text format");
    let options = Options { isolation, cpu: Some("native".to_owned()), ..Options::default() };
    let object = compile(&wasm, &options).expect("a module that compiles");
    let (_directory, path) = file(&object);
    let module = Module::load(&path).expect("a module that loads");
    let mut linker = Linker::new();
    linker.func("test", "log", log).func("test", "mix", mix);
    linker.func("test", "nap", nap).func("test", "busy", busy);
    Program::link(module, &linker, limits).expect("known imports")
}

/// Runs to the end, interrupted as `until` says: how it ended, what it logged, how often it was
/// preempted.
fn run(
    pool: &mut Pool<Log>,
    program: &Arc<Program<Log>>,
    mut until: impl FnMut() -> u64,
) -> (Stop, Vec<i64>, u32) {
    let entry = program.module().exported_func("run").expect("an export `run`");
    let started = pool.start(program, entry, Log::default());
    let mut sandbox = started.map_err(|(error, _)| error).expect("a free slot");
    let stop = loop {
        match sandbox.resume_until(until()) {
            Stop::Blocked(_) | Stop::Preempted => {}
            stop => break stop,
        }
    };
    let preemptions = sandbox.timing().preemptions;
    let values = std::mem::take(&mut sandbox.data_mut().0);
    pool.recycle(sandbox);
    (stop, values, preemptions)
}

fn never() -> u64 {
    u64::MAX
}

/// A number that the environment may say.
fn given(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given
        .map_or(otherwise, |number| number.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn preempted_guests_compute_the_same() {
    let wanted = given("AWSM_PREEMPTIONS", 6_000);
    let mut pool = Pool::new(PoolConfig::default());
    let mut points = Points(0x0123_4567_89ab_cdef ^ given("AWSM_SEED", 0));
    let mut total = 0;
    for isolation in MODES {
        for (name, wat) in GUESTS {
            let program = program(wat, isolation);
            let undisturbed = run(&mut pool, &program, never);
            assert_eq!(undisturbed.2, 0);
            assert!(!undisturbed.1.is_empty(), "{name} computes something");
            let (mut here, mut runs) = (0, 0);
            while here < wanted / (2 * GUESTS.len() as u64) {
                let until = || clock::monotonic_ns() + points.gap();
                let disturbed = run(&mut pool, &program, until);
                assert_eq!(disturbed.0, undisturbed.0, "{name}, {isolation:?}, run {runs}");
                assert_eq!(disturbed.1, undisturbed.1, "{name}, {isolation:?}, run {runs}");
                here += u64::from(disturbed.2);
                runs += 1;
                assert!(here > runs / 2, "{name} is preempted");
            }
            println!("{name} {isolation:?}: {here} preemptions in {runs} runs");
            total += here;
        }
    }
    println!("{total} preemptions, all results the same: {:?}", Ticks::of_this_thread());
}

#[test]
fn preempted_guests_take_turns() {
    let mut pool = Pool::new(PoolConfig::default());
    let mut points = Points(77);
    let programs = GUESTS.map(|(_, wat)| program(wat, Isolation::Guard));
    let alone = programs.each_ref().map(|program| run(&mut pool, program, never).1);
    let start = |pool: &mut Pool<Log>, which: usize| {
        let program = &programs[which];
        let entry = program.module().exported_func("run").expect("an export `run`");
        pool.start(program, entry, Log::default()).map_err(|(error, _)| error).expect("a free slot")
    };
    let mut live = (0..3 * programs.len())
        .map(|n| (n % programs.len(), start(&mut pool, n % programs.len())))
        .collect::<Vec<_>>();
    let mut preemptions = 0;
    while !live.is_empty() {
        let turn = points.next(live.len() as u64) as usize;
        match live[turn].1.resume_until(clock::monotonic_ns() + points.gap()) {
            Stop::Blocked(_) => {}
            Stop::Preempted => preemptions += 1,
            stop => {
                let (which, mut sandbox) = live.swap_remove(turn);
                assert_eq!(stop, Stop::Returned);
                let values = std::mem::take(&mut sandbox.data_mut().0);
                assert_eq!(values, alone[which], "{}", GUESTS[which].0);
                pool.recycle(sandbox);
            }
        }
    }
    assert!(preemptions > 500, "{preemptions}");
}

const ENDLESS: &str = r#"(module (memory 1) (func (export "run") (loop $l (br $l))))"#;

#[test]
fn an_endless_loop_is_stopped_and_killed() {
    let endless = program(ENDLESS, Isolation::Guard);
    let mut pool = Pool::new(PoolConfig::default());
    pool.prepare(&endless, 2).expect("memory");
    let before = pool.stats();
    let entry = endless.module().exported_func("run").expect("an export `run`");
    for _ in 0..2_000 {
        let started = pool.start(&endless, entry, Log::default());
        let mut sandbox = started.map_err(|(error, _)| error).expect("a free slot");
        assert_eq!(sandbox.resume_until(clock::monotonic_ns() + 20_000), Stop::Preempted);
        pool.recycle(sandbox);
    }
    assert_eq!(pool.stats(), before);
}

/// Nothing interrupts a guest that nobody waits for: not one tick.
#[test]
fn without_a_time_there_is_no_tick() {
    let program = program(CARRIES, Isolation::Guard);
    let mut pool = Pool::new(PoolConfig::default());
    let before = Ticks::of_this_thread();
    for _ in 0..10 {
        assert_eq!(run(&mut pool, &program, never).0, Stop::Returned);
    }
    assert_eq!(Ticks::of_this_thread(), before);
}

/// A time far away is not a tick either; and a timer that rings too early is set anew.
#[test]
fn an_early_tick_waits() {
    let program = program(CARRIES, Isolation::Guard);
    let mut pool = Pool::new(PoolConfig::default());
    let hour = 3_600_000_000_000;
    let short = self::program(r#"(module (func (export "run")))"#, Isolation::Guard);
    // The first sets the timer and ends before; the tick comes while the second runs, unless the
    // machine has been slow in between.
    while Ticks::of_this_thread().early == 0 {
        assert_eq!(run(&mut pool, &short, || clock::monotonic_ns() + 200_000).0, Stop::Returned);
        let (stop, _, preemptions) = run(&mut pool, &program, || clock::monotonic_ns() + hour);
        assert_eq!((stop, preemptions), (Stop::Returned, 0));
    }
}

/// What is found in a host call is preempted on its return, and no earlier.
#[test]
fn a_host_call_is_not_interrupted() {
    let wat = r#"(module
        (import "test" "busy" (func $busy)) (import "test" "log" (func $log (param i64)))
        (func (export "run") (call $busy) (call $log (i64.const 1)) (call $log (i64.const 2))))"#;
    let program = program(wat, Isolation::Guard);
    let mut pool = Pool::new(PoolConfig::default());
    let before = Ticks::of_this_thread();
    for _ in 0..200 {
        let entry = program.module().exported_func("run").expect("an export `run`");
        let started = pool.start(&program, entry, Log::default());
        let mut sandbox = started.map_err(|(error, _)| error).expect("a free slot");
        assert_eq!(sandbox.resume_until(clock::monotonic_ns() + 50_000), Stop::Preempted);
        assert_eq!(sandbox.data().0, [], "stopped where `busy` returns");
        assert_eq!(sandbox.resume(), Stop::Returned);
        assert_eq!(sandbox.data().0, [1, 2]);
        pool.recycle(sandbox);
    }
    let ticks = Ticks::of_this_thread();
    assert!(ticks.host - before.host >= 200, "{ticks:?}");
}

/// A guest is preempted wherever its stack pointer is, down to the last bytes of its stack, and
/// notices nothing.
#[test]
fn the_end_of_the_stack_is_a_place_like_any_other() {
    // Goes down so many frames, computes there for long, and uses what it finds on the way up.
    let wat = r#"(module
        (func $work (param $x i64) (result i64) (local $n i32)
            (loop $next
                (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
                (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
                (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
                (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
                                       (i32.const 5000000))))
            (local.get $x))
        (func $down (param $depth i32) (param $x i64) (result i64)
            (if (i32.eqz (local.get $depth)) (then (return (call $work (local.get $x)))))
            (i64.add (i64.rotl (call $down (i32.sub (local.get $depth) (i32.const 1))
                                           (i64.mul (local.get $x) (i64.const 3)))
                               (i64.const 1))
                     (local.get $x)))
        (func (export "run") (param i32) (result i64) (call $down (local.get 0) (i64.const 5))))"#;
    let limits = Limits { stack_bytes: 128 << 10, ..Limits::default() };
    let program = program_with(wat, Isolation::Guard, limits);
    let entry = program.module().exported_func("run").expect("an export `run`");
    let mut pool = Pool::new(PoolConfig::default());
    let mut run = |depth: i32, until: &mut dyn FnMut() -> u64| {
        let call = Call { initialize: None, entry, args: &[Val::I32(depth)] };
        let started = pool.start_call(&program, call, Log::default());
        let mut sandbox = started.map_err(|(error, _)| error).expect("a free slot");
        let stop = loop {
            match sandbox.resume_until(until()) {
                Stop::Preempted => {}
                stop => break stop,
            }
        };
        let (results, preemptions) = (sandbox.results(), sandbox.timing().preemptions);
        pool.recycle(sandbox);
        (stop, results, preemptions)
    };
    // The frame's size is the compiler's business: search for the depth that just fits.
    let (mut fits, mut overflows) = (1_i32, 1 << 20);
    while overflows - fits > 1 {
        let depth = fits.midpoint(overflows);
        match run(depth, &mut never).0 {
            Stop::Returned => fits = depth,
            Stop::Trapped(trap) if trap.kind == TrapKind::StackOverflow => overflows = depth,
            stop => panic!("{stop:?}"),
        }
    }
    for depth in [fits, fits - 1, fits - 2, fits - 5, fits - 50, fits - 300] {
        let undisturbed = run(depth, &mut never);
        assert_eq!((&undisturbed.0, undisturbed.2), (&Stop::Returned, 0));
        let disturbed = run(depth, &mut || clock::monotonic_ns() + 50_000);
        assert_eq!((&disturbed.0, &disturbed.1), (&undisturbed.0, &undisturbed.1), "{depth}");
        // Five million rounds at the bottom take some milliseconds at least; to get there takes
        // none.
        assert!(disturbed.2 > 20, "{depth}: {} preemptions", disturbed.2);
    }
    // The guest ends where its stack ends, and no ticks bring that about earlier or later.
    let (stop, ..) = run(overflows, &mut || clock::monotonic_ns() + 20_000);
    assert!(matches!(stop, Stop::Trapped(trap) if trap.kind == TrapKind::StackOverflow));
}

/// A fault beside ticks: whichever comes first, the guest ends with its fault.
#[test]
fn faults_and_ticks_do_not_mix() {
    let wat = r#"(module (memory 1)
        (func (export "run") (local $i i32)
            (loop $next
                (local.set $i (i32.add (local.get $i) (i32.const 64)))
                (drop (i32.load (local.get $i)))
                (i32.store (local.get $i) (i32.const 1))
                (br $next))))"#;
    for isolation in MODES {
        let program = program(wat, isolation);
        let mut pool = Pool::new(PoolConfig::default());
        let mut points = Points(4711);
        for _ in 0..3_000 {
            let (stop, ..) =
                run(&mut pool, &program, || clock::monotonic_ns() + points.next(15_000));
            let Stop::Trapped(trap) = stop else { panic!("{stop:?}") };
            assert_eq!(trap.kind, TrapKind::MemoryOutOfBounds);
        }
    }
}

/// Interrupts this thread from another one as fast as that can, as long as `during` runs.
fn in_a_storm<R>(during: impl FnOnce() -> R) -> R {
    let nudge = Nudge::of_this_thread().expect("a timer");
    let done = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&done);
    let other = std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            nudge.nudge();
            // Else the interrupted thread would do nothing but handle signals.
            std::thread::sleep(Duration::from_micros(10));
        }
    });
    let result = during();
    done.store(true, Ordering::Relaxed);
    other.join().expect("the other thread ends");
    result
}

/// Ticks while modules are compiled, loaded and unloaded find nobody and harm nothing.
#[test]
fn ticks_outside_of_guests_are_harmless() {
    in_a_storm(|| {
        let mut pool = Pool::new(PoolConfig::default());
        for _ in 0..3 {
            for (name, wat) in [("bulk", BULK), ("host", HOST)] {
                let program = program(wat, Isolation::Guard);
                let undisturbed = run(&mut pool, &program, never);
                for _ in 0..10 {
                    assert_eq!(run(&mut pool, &program, never).1, undisturbed.1, "{name}");
                }
            }
        }
    });
    let ticks = Ticks::of_this_thread();
    assert!(ticks.idle > 100 && ticks.guest > 100, "{ticks:?}");
}

/// Ticks while slots are cleaned: nothing is left, in memory, tables, globals or segments.
#[test]
fn ticks_while_slots_are_cleaned_are_harmless() {
    // Says whether it finds everything as it should be, then spoils it: pages of the initial
    // memory, memory and a table that it grows.
    let wat = r#"(module
        (import "test" "log" (func $log (param i64)))
        (memory 40 80) (table $t 100 9000 funcref) (elem $e func $f) (elem (table $t) (i32.const 7) func $f)
        (data (i32.const 100000) "\11\22\33\44\55\66\77\88") (data $d "gone")
        (global $g (mut i64) (i64.const 5))
        (func $f)
        (func (export "run") (local $i i32) (local $sum i64) (local $used i32)
            (local.set $sum (i64.extend_i32_u (memory.size)))
            (loop $next
                (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 1))
                                         (i64.load (local.get $i))))
                (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4000)))
                                       (i32.const 2621000))))
            (local.set $i (i32.const 0))
            (loop $count
                (local.set $used (i32.add (local.get $used)
                    (i32.eqz (ref.is_null (table.get $t (local.get $i))))))
                (br_if $count (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1)))
                                        (table.size $t))))
            (call $log (local.get $sum)) (call $log (i64.extend_i32_u (local.get $used)))
            (call $log (i64.extend_i32_u (table.size $t))) (call $log (global.get $g))
            (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4)) (data.drop $d)
            (table.init $t $e (i32.const 50) (i32.const 0) (i32.const 1)) (elem.drop $e)
            (call $log (i64.extend_i32_s (memory.grow (i32.const 20))))
            (call $log (i64.extend_i32_s (table.grow $t (ref.func $f) (i32.const 8000))))
            (global.set $g (i64.const -1))
            (memory.fill (i32.const 0) (i32.const 255) (i32.mul (memory.size) (i32.const 65536)))))"#;
    for isolation in MODES {
        let program = program(wat, isolation);
        let mut pool = Pool::new(PoolConfig::default());
        let first = run(&mut pool, &program, never);
        assert_eq!((first.0, first.1[1..].to_vec()), (Stop::Returned, vec![1, 100, 5, 40, 100]));
        in_a_storm(|| {
            for _ in 0..60 {
                let again = run(&mut pool, &program, never);
                assert_eq!((again.0, &again.1), (Stop::Returned, &first.1), "{isolation:?}");
            }
        });
        assert_eq!(pool.stats().slots, 1);
    }
}

/// Ticks while other traps are handled, of every kind: each guest ends as it would have.
#[test]
fn ticks_while_faults_are_handled_are_harmless() {
    let deep = r#"(func $down (param i64) (result i64)
        (i64.add (i64.const 1) (call $down (i64.add (local.get 0) (i64.const 3)))))"#;
    let cases = [
        ("(drop (i32.load (i32.const -8)))", TrapKind::MemoryOutOfBounds),
        ("(drop (i64.load offset=0xffffffff (i32.const -1)))", TrapKind::MemoryOutOfBounds),
        ("(drop (call $down (i64.const 1)))", TrapKind::StackOverflow),
        ("(call $host)", TrapKind::StackOverflow),
        ("unreachable", TrapKind::Unreachable),
        ("(drop (i32.div_u (i32.const 1) (global.get $zero)))", TrapKind::IntegerDivideByZero),
        ("(call_indirect (type $t) (i32.const 9))", TrapKind::UndefinedElement),
    ];
    for isolation in MODES {
        let mut pool = Pool::new(PoolConfig::default());
        for (body, kind) in &cases {
            let wat = format!(
                r#"(module (type $t (func)) (import "test" "log" (func $log (param i64)))
                (memory 1) (table 2 funcref) (global $zero (mut i32) (i32.const 0)) {deep}
                (func $host (call $log (i64.const 1)) (call $host) (call $log (i64.const 2)))
                (func (export "run") {body}))"#
            );
            let program = program(&wat, isolation);
            in_a_storm(|| {
                for _ in 0..100 {
                    let (stop, ..) = run(&mut pool, &program, never);
                    let Stop::Trapped(trap) = stop else { panic!("{body}: {stop:?}") };
                    assert_eq!(trap.kind, *kind, "{body}, {isolation:?}");
                }
            });
        }
    }
}

/// What the host does for one instruction it does in pieces, and a guest whose time is up is
/// preempted between two of them. Here it always is.
#[test]
fn large_operations_are_preempted_in_pieces() {
    let items = "func $f ".to_owned() + &"$f ".repeat(100_000);
    let bytes = (0..200_000).map(|n| format!("\\{:02x}", n * 7 % 251)).collect::<String>();
    // Each with the least number of pieces.
    let cases = [
        ("(drop (table.grow $t (ref.func $f) (i32.const 1000000)))".to_owned(), 100),
        ("(table.fill $u (i32.const 3) (ref.func $f) (i32.const 900000))".to_owned(), 90),
        ("(table.copy $u $u (i32.const 3) (i32.const 0) (i32.const 999000))".to_owned(), 90),
        ("(table.copy $u $u (i32.const 0) (i32.const 3) (i32.const 999000))".to_owned(), 90),
        ("(table.init $u $e (i32.const 3) (i32.const 1) (i32.const 100000))".to_owned(), 10),
        ("(memory.init $d (i32.const 3) (i32.const 0) (i32.const 200000))".to_owned(), 3),
        // So many exceptions have been handled before that those that nothing refers to are looked
        // for.
        ("(call $throw)".to_owned(), 140),
    ];
    for (operation, pieces) in cases {
        // The table has a pattern that a copy in the wrong direction would spoil.
        let wat = format!(
            r#"(module
            (import "test" "log" (func $log (param i64)))
            (memory 4) (table $t 10 1010000 funcref) (table $u 1000000 funcref)
            (tag $tag) (table $kept 300000 exnref)
            (elem $e {items}) (data $d "{bytes}")
            (func $f)
            (func $sum (local $i i32) (local $s i64)
                (loop $next
                    (local.set $s (i64.add (i64.rotl (local.get $s) (i64.const 3))
                        (i64.extend_i32_u (ref.is_null (table.get $u (local.get $i))))))
                    (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1)))
                                           (table.size $u))))
                (call $log (local.get $s))
                (local.set $i (i32.const 0))
                (loop $add
                    (local.set $s (i64.add (i64.rotl (local.get $s) (i64.const 5))
                                           (i64.load8_u (local.get $i))))
                    (br_if $add (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1)))
                                          (i32.const 262144))))
                (call $log (local.get $s))
                (call $log (i64.extend_i32_u (table.size $t))))
            (func $throw (block $h (try_table (catch_all $h) (throw $tag))))
            (func $keep
                (table.fill $kept (i32.const 0)
                    (block $h (result exnref)
                        (try_table (catch_all_ref $h) (throw $tag)) (unreachable))
                    (i32.const 300000)))
            (func $mark (local $i i32) (local $x i32)
                (call $keep)
                (loop $handled
                    (call $throw)
                    (br_if $handled (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1)))
                                              (i32.const 2048))))
                (local.set $i (i32.const 0))
                (loop $next
                    (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1664525)) (i32.const 1013904223)))
                    (table.set $u (i32.rem_u (local.get $x) (i32.const 1000000)) (ref.func $f))
                    (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1)))
                                           (i32.const 20000)))))
            (func (export "run") (call $mark) (call $log (i64.const 0)) {operation} (call $log (i64.const 1)) (call $sum)))"#
        );
        let program = program(&wat, Isolation::Guard);
        let mut pool = Pool::new(PoolConfig::default());
        let undisturbed = run(&mut pool, &program, never);
        assert_eq!(undisturbed.0, Stop::Returned);
        let entry = program.module().exported_func("run").expect("an export `run`");
        let mut most = 0;
        // A tick that comes late passes over some pieces, but not over all of them each time.
        for _ in 0..50 {
            let started = pool.start(&program, entry, Log::default());
            let mut sandbox = started.map_err(|(error, _)| error).expect("a free slot");
            let mut within = 0;
            let stop = loop {
                let before = sandbox.data().0.len();
                // Undisturbed up to the operation and after it.
                let until = if before == 1 { 1 } else { clock::monotonic_ns() + 50_000 };
                match sandbox.resume_until(until) {
                    Stop::Preempted => {
                        within += usize::from(before == 1 && sandbox.data().0.len() == 1)
                    }
                    stop => break stop,
                }
            };
            assert_eq!((stop, &sandbox.data().0), (Stop::Returned, &undisturbed.1), "{operation}");
            pool.recycle(sandbox);
            most = most.max(within);
            if most >= pieces {
                break;
            }
        }
        assert!(most >= pieces, "{operation}: {most} interruptions");
        // One that is killed in the middle leaves nothing behind.
        for stop_after in 1..10 {
            let started = pool.start(&program, entry, Log::default());
            let mut sandbox = started.map_err(|(error, _)| error).expect("a free slot");
            let mut within = 0;
            while within < stop_after {
                let until =
                    if sandbox.data().0.len() == 1 { 1 } else { clock::monotonic_ns() + 50_000 };
                let Stop::Preempted = sandbox.resume_until(until) else { break };
                within += usize::from(sandbox.data().0.len() == 1);
            }
            pool.recycle(sandbox);
            assert_eq!(run(&mut pool, &program, never).1, undisturbed.1, "{operation}");
        }
    }
}

/// What an invocation takes is what it spends starting, running, blocked and preempted: no gap, no
/// overlap.
#[test]
fn the_account_of_time_adds_up() {
    let mut pool = Pool::new(PoolConfig::default());
    let mut points = Points(99);
    for (name, wat) in GUESTS {
        let program = program(wat, Isolation::Guard);
        let entry = program.module().exported_func("run").expect("an export `run`");
        let outer = clock::ticks();
        let started = pool.start(&program, entry, Log::default());
        let mut sandbox = started.map_err(|(error, _)| error).expect("a free slot");
        let inner = clock::ticks();
        let (mut blocks, mut preemptions) = (0, 0);
        loop {
            let before = clock::ticks();
            let stop = sandbox.resume_until(clock::monotonic_ns() + points.gap());
            let after = clock::ticks();
            let timing = sandbox.timing();
            let waited = timing.blocked_ticks + timing.preempted_ticks;
            let sum = (timing.entered_ticks - timing.start_ticks) + timing.run_ticks + waited;
            assert_eq!(timing.preemptions, preemptions + u32::from(stop == Stop::Preempted));
            match stop {
                Stop::Blocked(_) => blocks += 1,
                Stop::Preempted => preemptions += 1,
                stop => {
                    assert_eq!(stop, Stop::Returned);
                    assert!((before - inner..=after - outer).contains(&sum), "{name}: {sum}");
                    assert_eq!(timing.blocked_ticks > 0, blocks > 0);
                    assert_eq!(timing.preempted_ticks > 0, preemptions > 0);
                    break;
                }
            }
        }
        pool.recycle(sandbox);
    }
}

/// Another thread's nudge stops a guest that nothing else would stop.
#[test]
fn a_nudge_stops_a_guest() {
    let endless = program(ENDLESS, Isolation::Guard);
    let mut pool = Pool::new(PoolConfig::default());
    let entry = endless.module().exported_func("run").expect("an export `run`");
    let nudge = Nudge::of_this_thread().expect("a timer");
    let started = pool.start(&endless, entry, Log::default());
    let mut sandbox = started.map_err(|(error, _)| error).expect("a free slot");
    let (send, receive) = std::sync::mpsc::channel::<()>();
    // One that comes before the guest runs finds nobody, so it is repeated.
    let other = std::thread::spawn(move || {
        while receive.recv_timeout(Duration::from_millis(1)).is_err() {
            nudge.nudge();
        }
    });
    for _ in 0..20 {
        assert_eq!(sandbox.resume(), Stop::Preempted);
    }
    send.send(()).expect("the other thread listens");
    other.join().expect("the other thread ends");
    let timing = sandbox.timing();
    assert_eq!(timing.preemptions, 20);
    assert!(timing.run_ticks > 0 && timing.preempted_ticks > 0 && timing.blocked_ticks == 0);
    pool.recycle(sandbox);
}
