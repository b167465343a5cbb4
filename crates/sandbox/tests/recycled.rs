//! What a recycled slot holds: every byte of it is what it was before the first instruction, whatever
//! invocations did and whatever the system has to say.

mod support;

use awsm_sandbox::{Cleaning, Limits, Pool, PoolConfig, Stop};
use support::{MODES, program, run};

const WAYS: [Cleaning; 3] = [Cleaning::Counted, Cleaning::Scanned, Cleaning::Discarded];

/// Touches 3 MiB below a data segment at 4 MiB in its first run, writes to the segment in its second, and
/// logs what is there in each.
const FORGETFUL: &str = r#"(module
    (import "test" "log" (func $log (param i64)))
    (memory (export "memory") 128)
    (data (i32.const 4194304) "\2a")
    (func (export "touch") (local $at i32)
        (local.set $at (i32.const 65536))
        (loop $next
            (i32.store (local.get $at) (i32.const 1))
            (local.set $at (i32.add (local.get $at) (i32.const 4096)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 3211264)))))
    (func (export "run")
        (call $log (i64.load8_u (i32.const 4194304)))
        (i32.store8 (i32.const 4194304) (i32.const 99))))"#;

#[test]
fn what_the_host_copies_back_is_cleaned_later() {
    for (cleaning, mode) in WAYS.into_iter().flat_map(|way| MODES.map(|mode| (way, mode))) {
        let guest = program(FORGETFUL, mode, Limits::default());
        let mut pool = Pool::new(PoolConfig { cleaning, ..PoolConfig::default() });
        let touch = guest.module().exported_func("touch").expect("an export");
        for _ in 0..20 {
            let started = pool.start(&guest, touch, support::Log::default());
            let Ok(mut sandbox) = started else { panic!("a slot") };
            assert_eq!(sandbox.resume(), Stop::Returned);
            // More pages than are kept: some are given back, and the segment's is copied again.
            pool.recycle(sandbox);
            for _ in 0..3 {
                assert_eq!(
                    run(&mut pool, &guest),
                    (Stop::Returned, vec![42]),
                    "{cleaning:?} {mode:?}"
                );
            }
        }
        assert_eq!(pool.stats().slots, 1, "all in the same slot");
        assert!(pool.compare_idle().expect("nothing is left") > 8 << 20);
    }
}

/// Leaves its arguments where they travelled, and traps.
const CHATTY: &str = r#"(module
    (func $inner (param i64 i64 i64 i64 i64 i64 i64 v128)
        (if (i64.eqz (local.get 0)) (then (unreachable)))
        (return_call $inner (i64.sub (local.get 0) (i64.const 1)) (i64.const 1) (i64.const 2)
            (i64.const 3) (i64.const 4) (i64.const 0x5ec12e7) (i64.const 0x5ec12e7)
            (local.get 7)))
    (func (export "run")
        (return_call $inner (i64.const 9) (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)
            (i64.const 5) (i64.const 6) (v128.const i64x2 0 0))))"#;

#[test]
fn argument_cells_are_cleaned() {
    for mode in MODES {
        let guest = program(CHATTY, mode, Limits::default());
        let mut pool = Pool::new(PoolConfig { compare: true, ..PoolConfig::default() });
        let (stop, _) = run(&mut pool, &guest);
        assert!(matches!(stop, Stop::Trapped(_)), "{stop:?}");
        assert!(pool.compare_idle().expect("nothing is left") > 0);
    }
}
