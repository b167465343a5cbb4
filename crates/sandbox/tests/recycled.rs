//! What a recycled slot holds: every byte of it is what it was before the first instruction,
//! whatever invocations did, in whatever order, and whatever the system has to say.
//!
//! Pools of debug builds compare every byte after each reset, see `awsm_sandbox`'s `compare`; so
//! these tests have only to do all that leaves something behind.
//! `AWSM_INVOCATIONS=100000 cargo nextest run -p awsm-sandbox --test recycled every` does it so
//! many times; `AWSM_SEED` moves the choices.

mod support;

use std::cell::Cell;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use awsm_compile::{OptLevel, Options, compile};
use awsm_host::{Output, Stdin, WasiCtx};
use awsm_sandbox::module::Module;
use awsm_sandbox::planted::Planted;
use awsm_sandbox::{
    Cleaning, HostCall, HostResult, Isolation, Leave, Limits, Linker, MemoryBudget, Pool,
    PoolConfig, Program, Sandbox, StartError, Stop, Wait, clock,
};
use support::{MODES, file, program, run};

const WAYS: [Cleaning; 3] = [Cleaning::Counted, Cleaning::Scanned, Cleaning::Discarded];

/// `touch` writes 3 MiB below a data segment at 4 MiB; `run` logs what is in the segment and writes
/// to it.
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
        // Nothing but the guest looks: this is what the next invocation can read.
        let config = PoolConfig { cleaning, compare: false, ..PoolConfig::default() };
        let mut pool = Pool::new(config);
        let touch = guest.module().exported_func("touch").expect("an export");
        for _ in 0..20 {
            let started = pool.start(&guest, touch, support::Log::default());
            let Ok(mut sandbox) = started else { panic!("a slot") };
            assert_eq!(sandbox.resume(), Stop::Returned);
            // More pages than are kept: some are given back, and the segment's is copied again.
            pool.recycle(sandbox);
            for _ in 0..3 {
                let ran = run(&mut pool, &guest);
                assert_eq!(ran, (Stop::Returned, vec![42]), "{cleaning:?} {mode:?}");
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

/// A generator of choices. Source: Marsaglia, "Xorshift RNGs" (2003).
#[derive(Clone, Copy, Debug)]
struct Choices(u64);

impl Choices {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}

thread_local! {
    /// What the wild guest of this thread draws from.
    static DRAWN: Cell<Choices> = Cell::new(Choices::new(1));
}

/// `test.next(n)`: a number below `n`.
fn next(_call: &mut HostCall<'_, WasiCtx>, end: u32) -> HostResult<u32> {
    let mut choices = DRAWN.get();
    let drawn = choices.below(u64::from(end.max(1)));
    DRAWN.set(choices);
    Ok(drawn as u32)
}

/// `test.wait`: blocks once.
fn wait(call: &mut HostCall<'_, WasiCtx>) -> HostResult<()> {
    if call.woken() { Ok(()) } else { Err(Leave::Block(Wait::Yield)) }
}

/// A guest that does at random whatever leaves something behind: some of twenty things, a few
/// times.
fn wild(pages: u32, image_at: u32, image_bytes: usize) -> String {
    let mut image = String::with_capacity(image_bytes);
    let mut choices = Choices::new(image_bytes as u64 + 1);
    for _ in 0..image_bytes {
        image.push(char::from(b'A' + choices.below(26) as u8));
    }
    let mut wat = String::new();
    write!(
        wat,
        r#"(module
    (import "test" "next" (func $next (param i32) (result i32)))
    (import "test" "wait" (func $wait))
    (memory (export "memory") {pages} {most})
    (memory $second 1 9)
    (table $functions 40 400 funcref)
    (table $things 3 3000 externref)
    (table $exceptions 3 30 exnref)
    (tag $tag (param i64))
    (global $i32 (mut i32) (i32.const 7)) (global $i64 (mut i64) (i64.const -1))
    (global $exception (mut exnref) (ref.null exn))
    (global $v128 (mut v128) (v128.const i64x2 3 4))
    (data (i32.const {image_at}) "{image}")
    (data (memory $second) (i32.const 100) "of the second")
    (data $passive "passive bytes, some of them") (data $other "another segment")
    (elem (table $functions) (i32.const 3) func $run $deep)
    (elem $functions_later func $deep $run)
    (func $place (result i32)
        (i32.add (i32.shl (call $next (i32.sub (memory.size) (i32.const 1))) (i32.const 16))
                 (call $next (i32.const 65536))))
    (func $deep (param i32) (result i64) (local i64 v128 v128)
        (local.set 1 (i64.extend_i32_u (call $next (i32.const 1000000))))
        (local.set 2 (i64x2.splat (local.get 1)))
        (if (result i64) (local.get 0)
            (then (i64.add (local.get 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
            (else (i64x2.extract_lane 0 (local.get 2)))))
    (func $endless (loop $again (br $again)))
    (func $step
      (block $done
      (block $19 (block $18 (block $17 (block $16 (block $15 (block $14 (block $13 (block $12
      (block $11 (block $10 (block $9 (block $8 (block $7 (block $6 (block $5 (block $4 (block $3
      (block $2 (block $1 (block $0
        (br_table $0 $1 $2 $3 $4 $5 $6 $7 $8 $9 $10 $11 $12 $13 $14 $15 $16 $17 $18 $19
            (call $next (i32.const 20))))
        ;; 0: a word somewhere
        (i64.store (call $place) (i64.const 0x0101010101010101)) (br $done))
        ;; 1: a range, wherever it ends
        (memory.fill (call $place) (i32.const 0x5a) (call $next (i32.const 60000))) (br $done))
        ;; 2, 3: growth
        (drop (memory.grow (call $next (i32.const 6)))) (br $done))
        (drop (memory.grow $second (call $next (i32.const 4)))) (br $done))
        ;; 4: into what has grown, and the second memory
        (i64.store (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 8)) (i64.const 9))
        (i64.store $second (call $next (i32.const 65528)) (i64.const 9))
        (i64.store $second (i32.sub (i32.shl (memory.size $second) (i32.const 16)) (i32.const 9))
            (i64.const 7)) (br $done))
        ;; 5, 6: globals
        (global.set $i32 (call $next (i32.const 99))) (global.set $i64 (i64.const 5)) (br $done))
        (global.set $v128 (v128.const i64x2 9 9)) (br $done))
        ;; 7, 8, 9: tables
        (table.fill $functions (call $next (i32.const 30)) (ref.func $deep) (i32.const 5)) (br $done))
        (drop (table.grow $things (ref.null extern) (call $next (i32.const 900))))
        (drop (table.grow $functions (ref.func $run) (call $next (i32.const 90)))) (br $done))
        (table.set $functions (i32.const 3) (ref.null func)) (br $done))
        ;; 10, 11: segments
        (data.drop $passive) (elem.drop $functions_later) (br $done))
        (memory.init $other (call $place) (i32.const 3) (i32.const 5)) (br $done))
        ;; 12, 13: the stack
        (drop (call $deep (call $next (i32.const 40)))) (br $done))
        (drop (call $deep (call $next (i32.const 3000)))) (br $done))
        ;; 14: waits
        (call $wait) (br $done))
        ;; 15, 16: exceptions, kept or on their way out
        (block $h (result i64 exnref)
            (try_table (catch_ref $tag $h) (throw $tag (i64.const 0x5ec2e7)))
            (unreachable))
        (global.set $exception) (drop)
        (table.set $exceptions (call $next (i32.const 3)) (global.get $exception)) (br $done))
        (if (i32.eqz (call $next (i32.const 4))) (then (throw $tag (i64.const 1)))) (br $done))
        ;; 17: faults
        (if (i32.eqz (call $next (i32.const 3)))
            (then (drop (i32.load offset=0xfffffff0 (call $next (i32.const -1)))))) (br $done))
        ;; 18: all of the image's first pages
        (memory.fill (i32.const {image_at}) (i32.const 1) (i32.const {filled})) (br $done))
        ;; 19: for ever
        (if (i32.eqz (call $next (i32.const 9))) (then (call $endless)))))
    (func $run (param i32) (result i64)
        (loop $more
            (call $step)
            (br_if $more (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (i64.const 0))
    (func (export "_start") (drop (call $run (i32.add (i32.const 1) (call $next (i32.const 12)))))))"#,
        most = pages + 16,
        filled = image_bytes.min(300_000),
    )
    .expect("text");
    wat
}

type Known = Arc<Program<WasiCtx>>;

/// A linker with WASI and what the wild guests import.
fn linker() -> Linker<WasiCtx> {
    let mut linker = Linker::new();
    awsm_host::add_to_linker(&mut linker);
    linker.func("test", "next", next).func("test", "wait", wait);
    linker
}

fn link(wasm: &[u8], isolation: Isolation, limits: &[Limits]) -> Vec<Known> {
    let options = Options { isolation, opt_level: OptLevel::O1, ..Options::default() };
    let object = compile(wasm, &options).expect("a module that compiles");
    let (_directory, path) = file(&object);
    let module = Module::load(&path).expect("a module that loads");
    let link = |limits: &Limits| Program::link(Arc::clone(&module), &linker(), *limits);
    limits.iter().map(|limits| link(limits).expect("known imports")).collect()
}

/// Limits of several kinds, for a guest that begins with so many bytes.
fn limits(at_start_bytes: u64) -> Vec<Limits> {
    let kept = [0, 4096, 70_000, 2 << 20];
    kept.map(|keep_resident_bytes| Limits {
        keep_resident_bytes,
        // Three pages more, or enough.
        memory_bytes: at_start_bytes + if keep_resident_bytes == 0 { 200_000 } else { 8 << 20 },
        stack_bytes: if keep_resident_bytes == 4096 { 256 << 10 } else { 1 << 20 },
        ..Limits::default()
    })
    .into()
}

/// Wild guests of all sizes.
fn wild_programs(image_bytes_most: usize) -> Vec<Known> {
    let sizes = [
        (2, 65_000, 0),
        (2, 60_000, 5_000),
        (3, 1024, 61_000),
        (40, 70_000, 1 << 20),
        (300, 65_536, 16 << 20),
        (1040, 1024, 64 << 20),
    ];
    let sizes = sizes.into_iter().filter(|(_, _, bytes)| *bytes <= image_bytes_most);
    let programs = sizes.enumerate().map(|(index, (pages, at, bytes))| {
        let wasm = wat::parse_str(wild(pages, at, bytes)).expect("text of a module");
        link(&wasm, MODES[index % 2], &limits((u64::from(pages) + 1) * 65_536 + 800))
    });
    programs.flatten().collect()
}

/// The project's example functions.
fn examples() -> Vec<Known> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests");
    let names = std::fs::read_dir(&folder).expect("`make guests` has been run");
    let mut files: Vec<_> = names.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    files.sort();
    assert!(files.len() > 15, "found {files:?}");
    let programs = files.iter().enumerate().map(|(index, path)| {
        let wasm = std::fs::read(path).expect("readable");
        link(&wasm, MODES[index % 2], &limits(80 << 20)[2..])
    });
    programs.flatten().collect()
}

/// What a run has met with.
#[derive(Debug, Default)]
struct Met {
    started: u64,
    ended: u64,
    trapped: u64,
    blocked: u64,
    preempted: u64,
    killed: u64,
    refused: u64,
    bytes_read: u64,
}

/// Starts, interrupts, resumes and kills invocations of all programs in one pool, at random.
fn interleave(
    programs: &[Known],
    config: PoolConfig,
    budget: Option<Arc<MemoryBudget>>,
    seed: u64,
    invocations: u64,
) -> Met {
    const LIVE: usize = 6;
    let mut choices = Choices::new(seed);
    DRAWN.set(Choices::new(seed ^ 0x5555));
    let mut pool = Pool::with_budget(config, budget);
    let mut live: Vec<Sandbox<WasiCtx>> = Vec::new();
    let mut met = Met::default();
    while met.started < invocations || !live.is_empty() {
        if met.started < invocations && live.len() < LIVE && choices.below(3) > 0 {
            met.started += 1;
            let program = choices.of(programs);
            let entry = program.module().exported_func("_start").expect("a command");
            let mut context = WasiCtx::default();
            context.stdin = Stdin::Bytes(vec![b'7'; choices.below(5000) as usize].into());
            context.stdout = Output::buffer(1 << 20);
            context.stderr = Output::buffer(1 << 20);
            match pool.start(program, entry, context) {
                Ok(sandbox) => live.push(sandbox),
                Err((StartError::NoSlot(_) | StartError::Budget { .. }, _)) => met.refused += 1,
                Err((error, _)) => panic!("{error}"),
            }
        }
        if live.is_empty() {
            continue;
        }
        let index = choices.below(live.len() as u64) as usize;
        // Some are killed before their first instruction, some wherever they are.
        if choices.below(40) == 0 {
            met.killed += 1;
            pool.recycle(live.swap_remove(index));
            continue;
        }
        let gap =
            if choices.below(8) == 0 { choices.below(400_000) } else { choices.below(20_000) };
        let stop = live[index].resume_until(clock::monotonic_ns() + gap);
        match stop {
            Stop::Blocked(_) => met.blocked += 1,
            Stop::Preempted => met.preempted += 1,
            Stop::Trapped(_) | Stop::Returned | Stop::Exited(_) => {
                met.trapped += u64::from(matches!(stop, Stop::Trapped(_)));
                met.ended += 1;
                let mut ended = vec![live.swap_remove(index)];
                // Several that have stopped are taken back at once, as a worker does.
                if choices.below(4) == 0 && !live.is_empty() {
                    met.killed += 1;
                    ended.push(live.swap_remove(0));
                }
                let mut recycler = pool.recycler();
                for sandbox in ended {
                    recycler.recycle(sandbox);
                }
            }
        }
        if choices.below(300) == 0 {
            // The system may move pages out, if it has where to.
            page_out();
        }
        if choices.below(2000) == 0 {
            met.bytes_read += pool.compare_idle().expect("nothing is left");
        }
    }
    met.bytes_read += pool.compare_idle().expect("nothing is left");
    met
}

/// Asks the system to move to swap what this process has written.
fn page_out() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
    let number = |text: &str| usize::from_str_radix(text, 16).expect("an address");
    for line in maps.lines().filter(|line| line.contains(" rw-p 00000000 00:00 0 ")) {
        let Some((start, end)) = line.split(' ').next().and_then(|range| range.split_once('-'))
        else {
            continue;
        };
        let (start, end) = (number(start), number(end));
        // SAFETY: advice about mappings of this process that changes nothing that can be read.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_PAGEOUT) };
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn configs() -> [PoolConfig; 3] {
    let config = PoolConfig { compare: true, ..PoolConfig::default() };
    [
        PoolConfig { max_slots: 40, max_idle_stacks: 8, ..config },
        // Slots make way for those of other programs all the time.
        PoolConfig { max_slots: 9, max_idle_stacks: 2, ..config },
        PoolConfig { max_slots: 40, max_idle_stacks: 8, cleaning: Cleaning::Scanned, ..config },
    ]
}

#[test]
fn every_byte_is_what_it_was() {
    let invocations = number("AWSM_INVOCATIONS", 4_000);
    let seed = number("AWSM_SEED", 1);
    let image_bytes_most = if invocations >= 100_000 { 64 << 20 } else { 16 << 20 };
    let programs: Vec<_> = wild_programs(image_bytes_most).into_iter().chain(examples()).collect();
    std::panic::set_hook(Box::new(|_| {}));
    let workers = thread::scope(|scope| {
        let programs = &programs[..];
        let worker = |worker: u64| {
            scope.spawn(move || {
                let budget = (worker == 1).then(|| MemoryBudget::new(100 << 20));
                let configs = configs();
                let parts = configs.len() as u64;
                let runs = configs.into_iter().zip(0..).map(|(config, part)| {
                    let seed = seed * 100 + worker * 10 + part;
                    interleave(programs, config, budget.clone(), seed, invocations / 2 / parts + 1)
                });
                runs.collect::<Vec<_>>()
            })
        };
        [worker(0), worker(1)].map(|worker| worker.join().expect("no difference"))
    });
    for met in workers.iter().flatten() {
        println!("{met:?}");
        assert!(met.trapped > 0 && met.preempted > 0 && met.killed > 0, "{met:?}");
        assert!(met.bytes_read > 0, "{met:?}");
    }
}

/// Each fault that is planted in the reset is found.
#[cfg(debug_assertions)]
#[test]
fn planted_faults_are_found() {
    use awsm_sandbox::planted::plant;

    let programs = wild_programs(1 << 20);
    std::panic::set_hook(Box::new(|_| {}));
    for fault in Planted::ALL {
        // A wrong list is believed only where the thread takes no page fault between two looks:
        // with the sanitizer it always does, and on a machine that is short of memory it may for a
        // while.
        if fault == Planted::List && cfg!(feature = "sanitize") {
            continue;
        }
        plant(Some(fault));
        let found = (7..17).find_map(|seed| {
            let config = PoolConfig { compare: true, max_slots: 16, ..PoolConfig::default() };
            let run = AssertUnwindSafe(|| interleave(&programs, config, None, seed, 4_000));
            catch_unwind(run).err()
        });
        plant(None);
        let message = found.and_then(|panic| panic.downcast::<String>().ok());
        if message.as_ref().is_none_or(|message| !message.contains("was not cleaned")) {
            drop(std::panic::take_hook());
            panic!("{fault:?} was not found: {message:?}");
        }
    }
    drop(std::panic::take_hook());
    let config = PoolConfig { compare: true, max_slots: 16, ..PoolConfig::default() };
    interleave(&programs, config, None, 7, 1_000);
}
