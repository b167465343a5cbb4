//! Mutants: finished objects with a few bytes changed, as a fault of the compiler could change them
//! or as none could. The verifier must refuse each that could leave its sandbox. So what it lets
//! through is run, beside a copy of the same in another slot, and everything around is compared
//! byte for byte.
//!
//! A mutant is a number: seed and number say which object is changed, where, and how. What comes of
//! it is an [`Outcome`]; a process that ends is the worst of them, so each mutant runs in a child
//! (see `main`).

pub mod around;
pub mod change;
pub mod subjects;
pub mod supervise;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use awsm_host::WasiCtx;
use awsm_sandbox::module::Module;
use awsm_sandbox::{Limits, Linker, Pool, PoolConfig, Program, Sandbox, SealedObject, Stop, clock};
use awsm_verify::{Options, Refusal, Report};

use awsm_compile::OptLevel;
use awsm_sandbox::Isolation;

use crate::random::Random;
use crate::ring::{self, Ring};
use crate::subject::{self, Configuration, Linking};
use around::{Canaries, Context, Mapping, Process, Shape, Still};
use change::{Change, Code, Kind};
use subjects::{Case, Subject};

/// Nanoseconds that a mutant may run, and a slice of that.
const RUN_NS: u64 = 60_000_000;
const SLICE_NS: u64 = 2_000_000;

/// What came of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing of the kind to be changed.
    None,
    /// The verifier refuses it.
    Refused(String),
    /// It is let through, and does what the original does.
    Same,
    /// It does something else, inside.
    Differs,
    /// It does not end.
    Endless,
    /// The loader refuses it.
    NotLoaded(String),
    /// What it does depends on where it is: an address in a register was taken for a number.
    /// Nothing is touched by that, and the verifier does not refuse it.
    Depends(String),
    /// It has changed what is not its own.
    Touched(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Refused(why) => write!(f, "refused {why}"),
            Self::Same => f.write_str("same"),
            Self::Differs => f.write_str("differs"),
            Self::Endless => f.write_str("endless"),
            Self::NotLoaded(why) => write!(f, "unloaded {why}"),
            Self::Depends(what) => write!(f, "depends {what}"),
            Self::Touched(what) => write!(f, "touched {what}"),
        }
    }
}

/// What a run leaves that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its last stop.
    stop: Stop,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    memory: BTreeMap<u64, Box<[u8]>>,
}

/// A mutant that has not been looked at.
pub struct Planned {
    /// What is changed.
    pub kind: Kind,
    /// Where, for people.
    pub place: String,
    subject: usize,
    case: usize,
    /// The changed object; empty if there is nothing of the kind.
    pub object: Vec<u8>,
}

/// Draws a mutant.
#[must_use]
pub fn plan(subjects: &[Subject], seed: u64, number: u64) -> Planned {
    let mut random = Random::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15), 7);
    let kind = Kind::ALL[(number % Kind::ALL.len() as u64) as usize];
    // Not everything is in every object.
    for _ in 0..24 {
        let subject = random.below(subjects.len() as u64) as usize;
        let Subject { cases, code, object, .. } = &subjects[subject];
        let case = random.below(cases.len() as u64) as usize;
        let mut object = object.clone();
        let functions: Vec<usize> = (0..code.functions.len()).collect();
        if let Some(Change { place, .. }) = code.change(&mut object, kind, &functions, &mut random)
        {
            let place = format!("{}, {place}", subjects[subject]);
            return Planned { kind, place, subject, case, object };
        }
    }
    Planned { kind, place: String::new(), subject: 0, case: 0, object: Vec::new() }
}

/// A ring of calls in tail position, two objects linked to each other, one of which is changed.
pub struct PlannedRing {
    /// What is changed.
    pub kind: Kind,
    /// Where, for people.
    pub place: String,
    ring: Ring,
    objects: [Vec<u8>; 2],
    unshown: Unshown,
    changed: usize,
}

/// Rings that are changed in turn.
const RINGS: u64 = 400;

/// Draws a mutant of a ring.
///
/// # Errors
/// If a ring does not compile, or is refused as it is.
pub fn plan_ring(seed: u64, number: u64) -> Result<Option<PlannedRing>, String> {
    let mut random = Random::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15), 13);
    let kind = Kind::ALL[(number % Kind::ALL.len() as u64) as usize];
    let which = random.below(RINGS);
    let ring = ring::ring(which);
    let levels = [OptLevel::O0, OptLevel::O3];
    let modes = [Isolation::Guard, Isolation::Checked];
    let configuration =
        Configuration { opt_level: random.pick(&levels), isolation: random.pick(&modes) };
    let object = |text: &String| {
        let wasm = wat::parse_str(text).map_err(|error| error.to_string())?;
        subject::object(&wasm, configuration, Linking::Quick)
    };
    let mut objects = [object(&ring.modules[0])?, object(&ring.modules[1])?];
    let changed = random.below(2) as usize;
    let report = verified(&objects[changed]).map_err(|refusal| refusal.to_string())?;
    let code = Code::read(&objects[changed]);
    let functions: Vec<usize> = (0..code.functions.len()).collect();
    let change = code.change(&mut objects[changed], kind, &functions, &mut random);
    Ok(change.map(|Change { place, .. }| PlannedRing {
        kind,
        place: format!("ring {which} {configuration}, module {changed}, {place}"),
        ring,
        objects,
        unshown: unshown(&report),
        changed,
    }))
}

/// What mutants run beside: a process with other slots and things of the host's.
pub struct Bench {
    process: Process,
    canaries: Canaries,
    /// Slots of others, clean, and one in which somebody waits.
    quiet: Pool<WasiCtx>,
    waiting: Option<Sandbox<WasiCtx>>,
    linker: Linker<WasiCtx>,
    /// Mappings that the host itself changes while a guest runs.
    busy: Vec<Range<u64>>,
    baselines: BTreeMap<(usize, usize), Ran>,
}

/// A module that waits in the middle of its work.
const WAITING: &str = r#"(module
    (memory (export "memory") 4)
    (data (i32.const 0) "somebody else's words")
    (table 8 funcref)
    (global $g (mut i64) (i64.const 0x5ec2e7))
    (func (export "_start") (local $at i32)
        (loop $on
            (i64.store (local.get $at) (i64.const 0x0123456789abcdef))
            (local.set $at (i32.and (i32.add (local.get $at) (i32.const 8)) (i32.const 0x3fff8)))
            (br $on))))"#;

/// A module that faults at once.
const TRAPS: &str = r#"(module (memory 1) (func (export "_start") (unreachable)))"#;

impl Bench {
    /// Makes everything that is around a mutant.
    ///
    /// # Errors
    /// If the system has no `/proc`, or a module of ours does not compile.
    pub fn new() -> Result<Self, String> {
        // Objects to be changed lie in what there is already, which would take long to compare.
        let before = Process::mappings().map_err(|error| error.to_string())?;
        let mut linker = Linker::new();
        awsm_host::add_to_linker(&mut linker);
        let mut bench = Self {
            process: Process::this().map_err(|error| error.to_string())?,
            canaries: Canaries::new(),
            quiet: Pool::new(Self::config()),
            waiting: None,
            linker,
            busy: before.into_iter().map(|mapping| mapping.range).collect(),
            baselines: BTreeMap::new(),
        };
        let wasm = wat::parse_str(WAITING).map_err(|error| error.to_string())?;
        let object = awsm_compile::compile(&wasm, &awsm_compile::Options::default());
        let program = bench.program(&object.map_err(|error| error.to_string())?)?;
        let start = program.module().exported_func("_start").expect("it has one");
        bench.quiet.prepare(&program, 3).map_err(|error| error.to_string())?;
        let mut waiting = bench
            .quiet
            .start(&program, start, WasiCtx::default())
            .map_err(|(error, _)| error.to_string())?;
        let stop = waiting.resume_until(clock::monotonic_ns() + SLICE_NS);
        assert_eq!(stop, Stop::Preempted, "it works for ever");
        bench.waiting = Some(waiting);
        bench.find_busy().map_err(|error| error.to_string())?;
        Ok(bench)
    }

    /// Finds what the host writes while it handles a fault: the stack for signals.
    fn find_busy(&mut self) -> io::Result<()> {
        let wasm = wat::parse_str(TRAPS).map_err(io::Error::other)?;
        let object = awsm_compile::compile(&wasm, &awsm_compile::Options::default());
        let object = object.map_err(|error| io::Error::other(error.to_string()))?;
        while let Err(Found::Busy(range, _)) = self.twice(&object, &Case::default())? {
            self.busy.push(range);
        }
        Ok(())
    }

    fn config() -> PoolConfig {
        PoolConfig { compare: true, ..PoolConfig::default() }
    }

    fn program(&self, object: &[u8]) -> Result<Arc<Program<WasiCtx>>, String> {
        let object = SealedObject::of_bytes(object, "mutant").map_err(|error| error.to_string())?;
        let module = Module::of_object(object).map_err(|error| error.to_string())?;
        let limits = Limits { memory_bytes: 64 << 20, ..Limits::default() };
        Program::link(module, &self.linker, limits).map_err(|error| error.to_string())
    }

    /// Verifies a mutant, and runs it if it is let through.
    ///
    /// # Errors
    /// If the system does not tell what is around.
    pub fn run_planned(&mut self, subjects: &[Subject], planned: &Planned) -> io::Result<Outcome> {
        let Planned { subject, case, object, .. } = planned;
        if object.is_empty() {
            return Ok(Outcome::None);
        }
        match refusal(object, &subjects[*subject].unshown) {
            Err(why) => Ok(Outcome::Refused(why)),
            Ok(()) => self.run(subjects, (*subject, *case), object),
        }
    }

    /// The same of a ring. What it does cannot be bounded in time from here.
    ///
    /// # Errors
    /// If the system does not tell what is around.
    pub fn run_ring(&mut self, planned: &PlannedRing) -> io::Result<Outcome> {
        if let Err(why) = refusal(&planned.objects[planned.changed], &planned.unshown) {
            return Ok(Outcome::Refused(why));
        }
        // Before: objects share memory with each other, which is written when one is loaded.
        let load = |number: usize| subject::load(&planned.objects[number]);
        let loaded = match (load(0), load(1)) {
            (Ok(first), Ok(second)) => [first, second],
            (Err(why), _) | (_, Err(why)) => return Ok(Outcome::NotLoaded(why)),
        };
        let still = Still::take(&self.process, &Process::mappings()?, &self.busy)?;
        let calls = &planned.ring.calls[..planned.ring.calls.len().min(4)];
        let ended = match subject::run_loaded(&loaded, calls) {
            Ok(ended) => ended,
            Err(why) => return Ok(Outcome::NotLoaded(why)),
        };
        if let Some(what) = self.canaries.compare() {
            return Ok(Outcome::Touched(what));
        }
        if let Some((_, what)) = still.compare(&self.process)? {
            return Ok(Outcome::Touched(what));
        }
        let same = ended.iter().zip(&planned.ring.expected).all(|(ended, wanted)| ended == wanted);
        Ok(if same { Outcome::Same } else { Outcome::Differs })
    }

    /// What the original does.
    fn baseline(&mut self, subjects: &[Subject], (which, case): (usize, usize)) -> io::Result<Ran> {
        if let Some(ran) = self.baselines.get(&(which, case)) {
            return Ok(ran.clone());
        }
        let subject = &subjects[which];
        // The host's own work in memory of its own is found by it.
        for _ in 0..8 {
            match self.twice(&subject.object, &subject.cases[case])? {
                Ok((ran, _)) => {
                    self.baselines.insert((which, case), ran.clone());
                    return Ok(ran);
                }
                Err(Found::Busy(range, _)) => self.busy.push(range),
                Err(found) => {
                    return Err(io::Error::other(format!("{subject} as it was: {found:?}")));
                }
            }
        }
        Err(io::Error::other(format!("{subject}: too much changes around")))
    }

    fn run(
        &mut self,
        subjects: &[Subject],
        (which, case): (usize, usize),
        object: &[u8],
    ) -> io::Result<Outcome> {
        let baseline = self.baseline(subjects, (which, case))?;
        let twice = match self.twice(object, &subjects[which].cases[case])? {
            Ok(twice) => twice,
            Err(Found::NotLoaded(why)) => return Ok(Outcome::NotLoaded(why)),
            Err(Found::Busy(_, what) | Found::Touched(what)) => return Ok(Outcome::Touched(what)),
        };
        Ok(match twice {
            (first, _) if first.stop == Stop::Preempted => Outcome::Endless,
            (_, second) if second.stop == Stop::Preempted => Outcome::Endless,
            (first, second) if first != second => Outcome::Depends(difference(&first, &second)),
            (first, _) if first == baseline => Outcome::Same,
            _ => Outcome::Differs,
        })
    }

    /// Runs an object in one slot and then in another, and compares everything around.
    fn twice(&mut self, object: &[u8], case: &Case) -> io::Result<Result<(Ran, Ran), Found>> {
        let shape = Shape::of(object);
        let program = match self.program(object) {
            Ok(program) => program,
            Err(why) => return Ok(Err(Found::NotLoaded(why))),
        };
        let before = Process::mappings()?;
        let mut pool = Pool::new(Self::config());
        let first = match self.once(&mut pool, &program, &shape, &before, case)? {
            Ok((ran, sandbox)) => (ran, sandbox),
            Err(found) => return Ok(Err(found)),
        };
        // The first one stays where it is, so that the second gets another slot.
        let between = Process::mappings()?;
        let second = match self.once(&mut pool, &program, &shape, &between, case)? {
            Ok((ran, sandbox)) => (ran, sandbox),
            Err(found) => return Ok(Err(found)),
        };
        let clean = catch_unwind(AssertUnwindSafe(|| {
            pool.recycle(first.1);
            pool.recycle(second.1);
        }));
        Ok(match clean {
            Ok(()) => Ok((first.0, second.0)),
            Err(panic) => {
                let what = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                Err(Found::Touched(what))
            }
        })
    }

    fn once(
        &mut self,
        pool: &mut Pool<WasiCtx>,
        program: &Arc<Program<WasiCtx>>,
        shape: &Shape,
        before: &[Mapping],
        case: &Case,
    ) -> io::Result<Result<(Ran, Sandbox<WasiCtx>), Found>> {
        let Some(start) = program.module().exported_func("_start") else {
            return Ok(Err(Found::NotLoaded("no `_start`".to_owned())));
        };
        if let Err(error) = pool.prepare(program, 1) {
            return Ok(Err(Found::NotLoaded(error.to_string())));
        }
        let after = Process::mappings()?;
        let contexts = Context::find(&self.process, shape, before, &after)?;
        let [context] = &contexts[..] else {
            return Err(io::Error::other(format!("{} contexts are new", contexts.len())));
        };
        let still = Still::take(&self.process, before, &self.busy)?;
        let started = pool.start(program, start, case.context());
        let mut sandbox = started.map_err(|(error, _)| io::Error::other(error.to_string()))?;
        let end = clock::monotonic_ns() + RUN_NS;
        let stop = loop {
            let now = clock::monotonic_ns();
            match sandbox.resume_until(now + SLICE_NS) {
                Stop::Blocked(_) | Stop::Preempted if now < end => {}
                Stop::Blocked(_) => break Stop::Preempted,
                stop => break stop,
            }
        };
        let mut touched = self.canaries.compare();
        if touched.is_none() {
            touched = context.compare(&self.process, shape)?;
        }
        if let Some(what) = touched {
            return Ok(Err(Found::Touched(what)));
        }
        if let Some((range, what)) = still.compare(&self.process)? {
            return Ok(Err(Found::Busy(range, what)));
        }
        let memory = context.memory(&self.process, shape)?;
        let data = sandbox.data_mut();
        let (stdout, stderr) = (data.stdout.take(), data.stderr.take());
        // Where it was in its code differs from one place in memory to another in nothing but that.
        Ok(Ok((Ran { stop, stdout, stderr, memory }, sandbox)))
    }
}

/// What stands in the way of comparing runs.
#[derive(Debug)]
enum Found {
    NotLoaded(String),
    /// A mapping that was there before has changed.
    Busy(Range<u64>, String),
    /// Something else has.
    Touched(String),
}

/// What two runs of the same differ in.
fn difference(a: &Ran, b: &Ran) -> String {
    if a.stop != b.stop {
        return format!("it stops by {:?} and by {:?}", a.stop, b.stop);
    }
    if a.stdout != b.stdout || a.stderr != b.stderr {
        return "it says something else".to_owned();
    }
    let pages = a.memory.iter().filter(|(at, page)| b.memory.get(at) != Some(page));
    let pages = pages.map(|(at, page)| (*at, &page[..]));
    let at = |(at, page): (u64, &[u8])| {
        let other = b.memory.get(&at)?;
        let byte = (0..page.len()).find(|byte| page[*byte] != other[*byte])? & !7;
        let word =
            |page: &[u8]| u64::from_le_bytes(page[byte..byte + 8].try_into().expect("eight bytes"));
        Some(format!("{:#x} and {:#x} at {:#x}", word(page), word(other), at + byte as u64))
    };
    let words: Vec<_> = pages.filter_map(at).take(3).collect();
    format!("its memory holds {}", words.join(", "))
}

/// Accesses to linear memory that are not shown: function and offset.
pub type Unshown = Vec<(String, u32)>;

fn unshown(report: &Report) -> Unshown {
    let of = |function: &awsm_verify::FunctionReport| {
        let name = function.name.clone();
        function.unshown.iter().map(move |access| (name.clone(), access.offset)).collect::<Vec<_>>()
    };
    report.unshown().flat_map(of).collect()
}

/// Verifies on this thread.
fn verified(object: &[u8]) -> Result<Report, Refusal> {
    awsm_verify::verify_with(
        object,
        Options { threads: std::num::NonZeroUsize::MIN, ..Options::default() },
    )
}

/// Why an object is refused; accesses in `known` are not shown of the original either.
fn refusal(object: &[u8], known: &Unshown) -> Result<(), String> {
    let report = verified(object).map_err(|refusal| refusal.to_string())?;
    match unshown(&report).into_iter().find(|access| !known.contains(access)) {
        None => Ok(()),
        Some((name, offset)) => Err(format!("`{name}` at {offset:#x}: memory")),
    }
}
