//! What a guest may have of memory: its own limit over memories and tables, and the budget that all
//! sandboxes share. At each boundary, and given back each time.

mod support;

use std::sync::Arc;

use awsm_ledger::Stock;
use awsm_sandbox::limits::RECORD_FREE_BYTES;
use awsm_sandbox::pool::PoolStats;
use awsm_sandbox::{
    Limits, MemoryBudget, Pool, PoolConfig, Resource, Sandbox, StartError, Stop, TrapKind,
};
use support::{Log, MODES, program, run};

const PAGE: u64 = 65_536;

fn start(
    pool: &mut Pool<Log>,
    program: &Arc<awsm_sandbox::Program<Log>>,
) -> Result<Sandbox<Log>, StartError> {
    let entry = program.module().exported_func("run").expect("an export `run`");
    pool.start(program, entry, Log::default()).map_err(|(error, _)| error)
}

/// Two memories and two tables, grown in turn, share one limit to the last element.
#[test]
fn memories_and_tables_have_one_limit() {
    // 2 + 1 pages, 8192 elements (a page) and 16: what is left of 10 pages is 6 pages less 16
    // elements: 2 pages, 3, and 8176 elements.
    let wat = r#"(module
        (import "test" "log" (func $log (param i64)))
        (memory $a 2) (memory $b 1 100)
        (table $t 8192 funcref) (table $u 16 funcref)
        (func $try_a (param i32)
            (call $log (i64.extend_i32_s (memory.grow $a (local.get 0)))))
        (func $try_b (param i32)
            (call $log (i64.extend_i32_s (memory.grow $b (local.get 0)))))
        (func $try_t (param i32)
            (call $log (i64.extend_i32_s (table.grow $t (ref.null func) (local.get 0)))))
        (func $try_u (param i32)
            (call $log (i64.extend_i32_s (table.grow $u (ref.null func) (local.get 0)))))
        (func (export "run")
            (call $try_a (i32.const 6)) (call $try_a (i32.const 2)) (call $try_b (i32.const 4))
            (call $try_b (i32.const 3)) (call $try_t (i32.const 8177)) (call $try_t (i32.const 8176))
            (call $try_u (i32.const 8177)) (call $try_u (i32.const 1))
            (call $try_a (i32.const 1)) (call $try_b (i32.const 1)) (call $try_t (i32.const 1))
            (call $try_u (i32.const 0)) (call $try_a (i32.const 0)) (call $try_a (i32.const -1))))"#;
    for isolation in MODES {
        let limits = Limits { memory_bytes: 10 * PAGE, ..Limits::default() };
        let program = program(wat, isolation, limits);
        let mut pool = Pool::new(PoolConfig::default());
        for _ in 0..3 {
            let (stop, log) = run(&mut pool, &program);
            assert_eq!(stop, Stop::Returned);
            let expected = [-1, 2, -1, 1, -1, 8192, -1, -1, -1, -1, -1, 16, 4, -1];
            assert_eq!(log, expected, "{isolation:?}");
        }
    }
}

/// A table that grows by one element at a time gets all that there is, too, and costs no more.
#[test]
fn a_table_grows_by_one_up_to_the_limit() {
    let wat = r#"(module
        (import "test" "log" (func $log (param i64)))
        (table $t 0 funcref)
        (func (export "run")
            (loop $more
                (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 1)) (i32.const -1))))
            (call $log (i64.extend_i32_s (table.size $t)))))"#;
    let limits = Limits { memory_bytes: 3000 * 8 + 7, ..Limits::default() };
    let program = program(wat, MODES[0], limits);
    let budget = MemoryBudget::new(1 << 20);
    let mut pool = Pool::with_budget(PoolConfig::default(), Some(Arc::clone(&budget)));
    for _ in 0..3 {
        assert_eq!(run(&mut pool, &program), (Stop::Returned, vec![3000]));
        assert_eq!(budget.used_bytes(), 0, "a slot with nothing in it is idle");
    }
}

#[test]
fn what_a_module_begins_with_counts() {
    let wat = r#"(module (memory 1) (table 8192 funcref) (func (export "run")))"#;
    let start = |memory_bytes| {
        let program = program(wat, MODES[0], Limits { memory_bytes, ..Limits::default() });
        start(&mut Pool::new(PoolConfig::default()), &program).map(|_| ())
    };
    assert!(start(2 * PAGE).is_ok());
    let refused = start(2 * PAGE - 1).expect_err("one byte is missing");
    let says =
        "its memories, tables and globals have 131072 bytes at the start, and may have 131071";
    assert_eq!(refused.to_string(), says);
}

/// Begins with two pages and asks for what the log is to have.
fn grower(pages: u32) -> String {
    format!(
        r#"(module
        (import "test" "log" (func $log (param i64)))
        (memory 2)
        (func (export "run") (call $log (i64.extend_i32_s (memory.grow (i32.const {pages}))))))"#
    )
}

/// Live sandboxes of two pools, to the last page: growth beyond the budget answers -1, a start
/// beyond it is refused, and what ends makes room.
#[test]
fn pools_share_a_budget() {
    for isolation in MODES {
        let limits = Limits::default();
        let three = program(&grower(3), isolation, limits);
        let budget = MemoryBudget::new(9 * PAGE);
        let pool = || Pool::with_budget(PoolConfig::default(), Some(Arc::clone(&budget)));
        let (mut here, mut there) = (pool(), pool());
        let mut first = start(&mut here, &three).expect("two of nine");
        let mut second = start(&mut there, &three).expect("four of nine");
        assert_eq!((first.resume(), &first.data().values), (Stop::Returned, &vec![2]));
        assert_eq!(budget.used_bytes(), 7 * PAGE);
        assert_eq!((second.resume(), &second.data().values), (Stop::Returned, &vec![-1]));
        let third = start(&mut there, &three).expect("nine of nine");
        let refused = start(&mut here, &three).err().expect("nothing is left");
        let says = "all sandboxes together may have 589824 bytes, and 131072 more are not left";
        assert_eq!(refused.to_string(), says);
        assert_eq!(here.stats(), PoolStats { slots: 1, idle: 0, live: 1, idle_stacks: 1 });
        // Where so little is left, nothing is kept for later.
        here.recycle(first);
        assert_eq!((here.stats().slots, budget.used_bytes()), (0, 4 * PAGE));
        there.recycle(second);
        there.recycle(third);
        assert_eq!((there.stats().idle, budget.used_bytes()), (2, 4 * PAGE));
        // Idle slots give way to those that are needed: at once in the same pool...
        let six = program(&grower(6), isolation, limits);
        let fit =
            (0..4).map(|_| start(&mut there, &six).expect("there is room")).collect::<Vec<_>>();
        assert_eq!(budget.used_bytes(), 8 * PAGE);
        assert!(start(&mut there, &six).is_err());
        for sandbox in fit {
            there.recycle(sandbox);
        }
        assert_eq!(budget.used_bytes(), 6 * PAGE, "three quarters are not too much to keep");
        // ...and in another one as soon as it looks.
        let (mut fifth, sixth) = (start(&mut here, &six).expect("8 of 9"), start(&mut here, &six));
        assert!(sixth.is_err());
        assert!(there.relieve() && !there.relieve());
        assert_eq!((there.stats().slots, budget.used_bytes()), (0, 2 * PAGE));
        assert_eq!((fifth.resume(), &fifth.data().values), (Stop::Returned, &vec![2]));
        drop(fifth);
        assert_eq!(budget.used_bytes(), 0);
    }
}

/// A warm start and a recycle leave the budget's count alone, and so do a thousand of them.
#[test]
fn warm_starts_count_nothing() {
    let budget = MemoryBudget::new(100 * PAGE);
    let mut pool = Pool::with_budget(PoolConfig::default(), Some(Arc::clone(&budget)));
    let program = program(&grower(3), MODES[0], Limits::default());
    pool.prepare(&program, 2).expect("there is room");
    assert_eq!(budget.used_bytes(), 4 * PAGE);
    for _ in 0..1000 {
        let mut sandbox = start(&mut pool, &program).expect("a warm slot");
        assert_eq!(budget.used_bytes(), 4 * PAGE);
        assert_eq!(sandbox.resume(), Stop::Returned);
        assert_eq!(budget.used_bytes(), 7 * PAGE);
        pool.recycle(sandbox);
        assert_eq!(budget.used_bytes(), 4 * PAGE);
    }
    assert_eq!(pool.stats().slots, 2);
    let refused = pool.prepare(&program, 51).expect_err("fifty are all");
    assert!(matches!(refused, StartError::Budget { .. }) && pool.stats().idle == 50);
    drop(pool);
    assert_eq!(budget.used_bytes(), 0);
}

/// Pages that an invocation has touched, in its first memory, a second one, and in what it has
/// grown.
#[test]
fn touched_pages_are_counted() {
    let wat = r#"(module
        (memory $a 4 100) (memory $b 2)
        (global $n (mut i32) (i32.const 0))
        (data (memory $a) (i32.const 20000) "one page")
        (func (export "run")
            (i32.store $a (i32.const 0) (i32.const 1))
            (i32.store $a (i32.const 4094) (i32.const 1))
            (drop (memory.grow $a (i32.const 90)))
            (memory.fill $a (i32.const 1000000) (i32.const 3) (i32.const 409600))
            (i32.store $b (i32.const 70000) (i32.const 1))))"#;
    for isolation in MODES {
        let program = program(wat, isolation, Limits::default());
        let mut pool = Pool::new(PoolConfig::default());
        for round in 0..3 {
            let mut sandbox = start(&mut pool, &program).expect("a free slot");
            assert_eq!(sandbox.resume(), Stop::Returned);
            // 0 and 1; the image; 100 and a part of the grown; one of the second memory.
            let pages = pool.recycle(sandbox);
            assert_eq!(pages, 2 + 1 + 101 + 1, "{isolation:?}, round {round}");
        }
    }
}

/// A function has the stack that its limits say, whoever had one in the same pool before.
#[test]
fn stacks_are_as_large_as_their_function_says() {
    let wat = r#"(module (import "test" "log" (func $log (param i64)))
        (func $down (param $n i64) (result i64)
            (call $log (local.get $n))
            (i64.add (call $down (i64.add (local.get $n) (i64.const 1))) (i64.const 1)))
        (func (export "run") (drop (call $down (i64.const 0)))))"#;
    let with = |stack_bytes| program(wat, MODES[0], Limits { stack_bytes, ..Limits::default() });
    let (small, large) = (with(256 << 10), with(2 << 20));
    let depth = |pool: &mut Pool<_>, program| {
        let (stop, logged) = run(pool, program);
        assert!(matches!(stop, Stop::Trapped(trap) if trap.kind == TrapKind::StackOverflow));
        logged.len()
    };
    let alone = |program| depth(&mut Pool::new(PoolConfig::default()), program);
    let (of_small, of_large) = (alone(&small), alone(&large));
    assert!(of_large > 4 * of_small, "{of_small} and {of_large} calls");
    let mut pool = Pool::new(PoolConfig { max_idle_stacks: 2, ..PoolConfig::default() });
    for _ in 0..3 {
        assert_eq!(depth(&mut pool, &large), of_large);
        assert_eq!(depth(&mut pool, &small), of_small);
        assert_eq!(depth(&mut pool, &small), of_small);
    }
    assert_eq!(pool.stats().idle_stacks, 2);
}

/// What a stack has beyond an ordinary one is paid for beside the memory, when the slot is made.
#[test]
fn large_stacks_count() {
    let wat = "(module (memory 1) (func (export \"run\")))";
    let with = |stack_bytes| {
        let limits = Limits { stack_bytes, memory_bytes: PAGE, ..Limits::default() };
        program(wat, MODES[1], limits)
    };
    let budget = MemoryBudget::new(10 << 20);
    let mut pool = Pool::with_budget(PoolConfig::default(), Some(Arc::clone(&budget)));
    let small = start(&mut pool, &with(1 << 20)).expect("room for it");
    assert_eq!(budget.used_bytes(), PAGE);
    let large = with(6 << 20);
    let first = start(&mut pool, &large).expect("room for it");
    assert_eq!(budget.used_bytes(), 2 * PAGE + (5 << 20));
    let Err(StartError::Budget { what, wanted, .. }) = start(&mut pool, &large) else {
        panic!("there is no room");
    };
    assert_eq!((what, wanted), (Resource::Memory, PAGE + (5 << 20)));
    pool.recycle(first);
    pool.recycle(small);
    drop(pool);
    assert_eq!(budget.used_bytes(), 0);
}

/// Growth that is refused again and again takes nothing that is ready from who has less.
#[test]
fn refusals_leave_others_what_is_ready() {
    let stock = |total| Stock::equal_shares(total, &[u64::MAX, u64::MAX]);
    let budget = MemoryBudget::of(stock(16 * PAGE), stock(u64::MAX), stock(u64::MAX));
    let mut pool = Pool::with_budget(PoolConfig::default(), Some(Arc::clone(&budget)));
    let of =
        |account, pages| program(&grower(pages), MODES[0], Limits { account, ..Limits::default() });
    // Four pages are kept for each. One has six more ready; the other asks for twelve more, and
    // gets nothing of them.
    let (modest, greedy) = (of(1, 1), of(0, 14));
    pool.prepare(&modest, 5).expect("there is room");
    for _ in 0..3 {
        assert_eq!(run(&mut pool, &greedy), (Stop::Returned, vec![-1]));
        assert!(pool.relieve());
        assert_eq!((pool.stats().idle, budget.used_bytes()), (5, 10 * PAGE));
    }
    // With three more than is kept for it, it would have less than the first: who gives up two of
    // five.
    let content = of(0, 5);
    assert_eq!(run(&mut pool, &content), (Stop::Returned, vec![-1]));
    assert!(pool.relieve());
    assert_eq!((pool.stats().idle, budget.used_bytes()), (3, 6 * PAGE));
    assert_eq!(run(&mut pool, &content), (Stop::Returned, vec![2]));
    // What is idle makes way for a start likewise.
    drop(pool);
    let mut pool = Pool::with_budget(PoolConfig::default(), Some(Arc::clone(&budget)));
    pool.prepare(&modest, 6).expect("there is room");
    let mut live = Vec::new();
    let refused = loop {
        match start(&mut pool, &content) {
            Ok(sandbox) => live.push(sandbox),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StartError::Budget { what: Resource::Memory, .. }), "{refused}");
    assert_eq!((live.len(), pool.stats().idle), (4, 4));
    for sandbox in live {
        pool.recycle(sandbox);
    }
}

/// An instance's globals, and what they are at the start, are on its account as far as they are
/// many.
#[test]
fn many_globals_count() {
    let globals = "(global (mut v128) (v128.const i64x2 1 2))".repeat(12_000);
    let wat = format!("(module (memory 1) {globals} (func (export \"run\")))");
    let own = |memory_bytes| program(&wat, MODES[0], Limits { memory_bytes, ..Limits::default() });
    let budget = MemoryBudget::new(1 << 20);
    let mut pool = Pool::with_budget(PoolConfig::default(), Some(Arc::clone(&budget)));
    let refused = start(&mut pool, &own(4 * PAGE)).err().expect("they take more");
    assert!(matches!(refused, StartError::Memory(300_000.., _)), "{refused}");
    let sandbox = start(&mut pool, &own(5 * PAGE)).expect("there is room");
    let least = PAGE + 2 * 12_000 * 16 - RECORD_FREE_BYTES;
    assert!((least..least + (8 << 10)).contains(&budget.used_bytes()), "{}", budget.used_bytes());
    pool.recycle(sandbox);
}

/// What it takes to keep exceptions is on the instance's account, until it is cleaned.
#[test]
fn many_exceptions_count() {
    let wat = r#"(module
        (import "test" "log" (func $log (param i64)))
        (memory 1) (tag $x) (table $kept 5000 exnref)
        (func $make (result exnref)
            (block $h (result exnref) (try_table (catch_all_ref $h) (throw $x)) (unreachable)))
        (func (export "run") (local $i i32)
            (loop $next
                (table.set $kept (local.get $i) (call $make))
                (br_if $next (i32.lt_u
                    (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5000))))))"#;
    let budget = MemoryBudget::new(1 << 30);
    let mut pool = Pool::with_budget(PoolConfig::default(), Some(Arc::clone(&budget)));
    let own = |memory_bytes| program(wat, MODES[0], Limits { memory_bytes, ..Limits::default() });
    let mut sandbox = start(&mut pool, &own(16 * PAGE)).expect("there is room");
    let before = budget.used_bytes();
    assert_eq!(sandbox.resume(), Stop::Returned);
    // 16 bytes each, and at least the list's entry and the allocator's own.
    let kept = budget.used_bytes() - before;
    assert!(kept >= 5000 * 56 - (64 << 10), "{kept}");
    pool.recycle(sandbox);
    assert_eq!(budget.used_bytes(), before);
    let (stop, _) = run(&mut pool, &own(3 * PAGE));
    assert!(
        matches!(&stop, Stop::Trapped(trap) if trap.kind == TrapKind::TooManyExceptions),
        "{stop:?}"
    );
}

/// Memories that are isolated by what is reserved behind them have 8 GiB each: a hundred and sixty
/// sleepers with a hundred of them took all addresses that a process has.
#[test]
fn guarded_memories_leave_others_addresses() {
    let memories = "(memory 1)".repeat(50);
    let wat = format!("(module {memories} (func (export \"run\")))");
    let of = |account, wat| program(wat, MODES[0], Limits { account, ..Limits::default() });
    let (greedy, modest) = (of(0, &wat), of(1, "(module (memory 1) (func (export \"run\")))"));
    let stock = |total| Stock::equal_shares(total, &[u64::MAX, u64::MAX]);
    let budget = MemoryBudget::of(stock(u64::MAX), stock(1 << 40), stock(u64::MAX));
    let mut pool = Pool::with_budget(PoolConfig::default(), Some(Arc::clone(&budget)));
    for _ in 0..2 {
        let first = start(&mut pool, &greedy).expect("400 GiB of the 768 that it may have");
        let refused = start(&mut pool, &greedy).err().expect("there are no more");
        let what = Resource::Addresses;
        assert!(matches!(refused, StartError::Budget { what: w, .. } if w == what), "{refused}");
        let others: Vec<_> =
            (0..30).map(|_| start(&mut pool, &modest).expect("240 GiB of 256")).collect();
        for sandbox in others.into_iter().chain([first]) {
            pool.recycle(sandbox);
        }
    }
}

/// A slot is on the account with its mappings and addresses before they are made.
#[test]
fn mappings_and_addresses_count() {
    let memories = "(memory i64 1 1)".repeat(50);
    let wat = format!("(module {memories} (func (export \"run\")))");
    let program = program(&wat, MODES[0], Limits::default());
    let own = || std::fs::read_to_string("/proc/self/maps").expect("readable").lines().count();
    let stock = |total| Stock::equal_shares(total, &[u64::MAX]);
    let budget = MemoryBudget::of(stock(u64::MAX), stock(1 << 46), stock(1000));
    let mut pool = Pool::with_budget(PoolConfig::default(), Some(Arc::clone(&budget)));
    let before = own();
    let mut sandboxes = Vec::new();
    let refused = loop {
        match start(&mut pool, &program) {
            Ok(sandbox) => sandboxes.push(sandbox),
            Err(error) => break error,
        }
    };
    assert_eq!(sandboxes.len(), 9);
    let says = "all sandboxes together may have 1000 mappings, and 10";
    assert!(refused.to_string().starts_with(says), "{refused}");
    // Other tests of the process have theirs, too: there is no upper bound to be seen here.
    assert!(own() - before >= 9 * 50 && budget.used_mappings() >= 9 * 100);
    for sandbox in sandboxes {
        pool.recycle(sandbox);
    }
    drop(pool);
    assert_eq!(budget.used_mappings(), 0);
}
