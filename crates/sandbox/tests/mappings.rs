//! What a slot is charged of the process's mappings is no less than what it takes, whatever its
//! guest does.
//!
//! By itself: other tests of a process have mappings, too.

mod support;

use std::sync::Arc;

use awsm_ledger::Stock;
use awsm_sandbox::{Isolation, Limits, MemoryBudget, Pool, PoolConfig, Stop};
use support::{Log, MODES, program};

fn own() -> u64 {
    std::fs::read_to_string("/proc/self/maps").expect("readable").lines().count() as u64
}

/// Modules whose slots have many mappings, each in its own way.
fn modules() -> Vec<String> {
    let grows = |pages: u32, times: u32| {
        format!(
            r#"(module (memory 1 1000) (func (export "run") (local $i i32)
            (loop $more
                (i32.store (i32.mul (i32.const 65536) (memory.grow (i32.const {pages}))) (i32.const 1))
                (br_if $more (i32.lt_u
                    (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {times}))))))"#
        )
    };
    let run = "\\aa".repeat(20 * 4096);
    let data: String =
        (0..6).map(|at| format!("(data (i32.const {}) \"{run}\")", at * 2 * 20 * 4096)).collect();
    let writes = r#"(func (export "run") (i32.store8 (i32.const 90000) (i32.const 1))
        (i32.store8 (i32.const 500000) (i32.const 1)))"#;
    vec![
        "(module (func (export \"run\")))".to_owned(),
        format!("(module {} (func (export \"run\")))", "(memory 1 2)".repeat(40)),
        format!("(module {} (func (export \"run\")))", "(memory i64 1 2)".repeat(40)),
        format!("(module {} (func (export \"run\")))", "(table 40000 funcref)".repeat(20)),
        format!("(module (memory 20) {data} {writes})"),
        // Whole huge pages and parts of them in turn.
        grows(48, 9),
        grows(33, 20),
        format!(
            "(module {} (func (export \"run\")))",
            "(global (mut v128) (v128.const i64x2 1 2))".repeat(20_000)
        ),
    ]
}

#[test]
fn what_is_charged_is_no_less_than_what_is_taken() {
    const LIVE: usize = 4;
    let stock = |total| Stock::equal_shares(total, &[u64::MAX]);
    let compiled = |wat: &String, isolation: Isolation, huge_pages| {
        program(wat, isolation, Limits { huge_pages, ..Limits::default() })
    };
    for (number, wat) in modules().iter().enumerate() {
        for (isolation, huge_pages) in [(MODES[0], false), (MODES[0], true), (MODES[1], true)] {
            let program = compiled(wat, isolation, huge_pages);
            let entry = program.module().exported_func("run").expect("an export `run`");
            let budget = MemoryBudget::of(stock(u64::MAX), stock(u64::MAX), stock(u64::MAX));
            let mut pool = Pool::with_budget(PoolConfig::default(), Some(Arc::clone(&budget)));
            let before = own();
            for round in 0..3 {
                let mut live = Vec::new();
                for _ in 0..LIVE {
                    let mut one = pool
                        .start(&program, entry, Log::default())
                        .map_err(|(error, _)| error)
                        .expect("there is room");
                    assert_eq!(one.resume(), Stop::Returned);
                    live.push(one);
                }
                let (taken, charged) = (own() - before, budget.used_mappings());
                assert!(taken <= charged, "{number}, {isolation:?}, {round}: {taken} of {charged}");
                for one in live {
                    pool.recycle(one);
                }
            }
            assert!(own() - before <= budget.used_mappings());
            drop(pool);
            assert_eq!(budget.used_mappings(), 0);
        }
    }
}
