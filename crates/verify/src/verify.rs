//! A whole object: rounds over its functions until their assumptions of each other hold.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::descriptor::Descriptor;
use crate::function::{Analysis, Outcome};
use crate::module::Module;
use crate::object::Object;
use crate::report::{FunctionReport, Refusal, Report};
use crate::summary::{self, Entry, Summary};

/// How to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads, at most.
    pub threads: NonZeroUsize,
    /// Is code without isolation looked at too? Nothing is said of its accesses to linear memory then;
    /// else it is refused.
    pub unisolated: bool,
}

impl Default for Options {
    /// One thread for each core.
    fn default() -> Self {
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { threads, unisolated: false }
    }
}

/// Rounds over the functions, at most. Assumptions are only ever given up, a few for each function.
const ROUNDS: usize = 40;

/// Verifies a shared object, given as the bytes of its file.
///
/// # Errors
/// The first thing that is not shown: of the file, or by address of a function. Accesses to linear
/// memory that are not shown are no error; the report has them.
pub fn verify(file: &[u8]) -> Result<Report, Refusal> {
    verify_with(file, Options::default())
}

/// The same with options.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(file: &[u8], options: Options) -> Result<Report, Refusal> {
    verify_each(file, options).map_err(|mut refusals| refusals.swap_remove(0))
}

/// The same, with one refusal for each function that is not shown.
///
/// # Errors
/// As [`verify`]: at least one.
pub fn verify_each(file: &[u8], options: Options) -> Result<Report, Vec<Refusal>> {
    let object = Object::read(file).map_err(alone)?;
    let descriptor = Descriptor::read(&object, options.unisolated).map_err(alone)?;
    let module = Module::new(&object, &descriptor).map_err(alone)?;
    let count = module.functions.len();
    let mut summaries = summary::first(&module);
    let mut outcomes: Vec<Option<Outcome>> = (0..count).map(|_| None).collect();
    let mut work: Vec<usize> = (0..count).collect();
    for _ in 0..ROUNDS {
        for (number, outcome) in analyse(&module, &summaries, &work, options.threads) {
            outcomes[number] = Some(outcome);
        }
        let changed = settle(&mut summaries, &outcomes);
        if changed.is_empty() {
            return report(&module, outcomes);
        }
        work = affected(&module, &outcomes, &changed);
    }
    Err(alone(Refusal::object("has functions whose assumptions of each other do not settle")))
}

fn alone(refusal: Refusal) -> Vec<Refusal> {
    vec![refusal]
}

/// Analyses functions side by side.
fn analyse(
    module: &Module<'_>,
    summaries: &[Summary],
    work: &[usize],
    threads: NonZeroUsize,
) -> Vec<(usize, Outcome)> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut outcomes = Vec::new();
        let mut analysis = None;
        while let Some(number) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let analysis = analysis.get_or_insert_with(|| Analysis::new(module, summaries));
            outcomes.push((*number, analysis.run(*number)));
        }
        outcomes
    };
    let threads = threads.get().min(work.len());
    if threads <= 1 {
        return run();
    }
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().flat_map(join).collect()
    })
}

/// Gives up assumptions that did not hold; answers whose changed.
fn settle(summaries: &mut [Summary], outcomes: &[Option<Outcome>]) -> Vec<usize> {
    let before = summaries.to_vec();
    let mut provided = vec![u8::MAX; summaries.len()];
    // One with a problem refuses the object by itself, and what was found of it says nothing of others.
    let sound = |outcome: &&Outcome| outcome.problem.is_none();
    for outcome in outcomes.iter().flatten().filter(sound) {
        for (callee, bits) in &outcome.calls {
            provided[*callee] &= bits;
        }
    }
    for (number, summary) in summaries.iter_mut().enumerate() {
        let Some(outcome) = outcomes[number].as_ref().filter(sound) else { continue };
        let holds = |entry: &Entry| *entry >= summary.entry && provided[number] & entry.bit() != 0;
        summary.entry = Entry::ALL.into_iter().find(holds).unwrap_or(Entry::Nothing);
        summary.returns |= outcome.returns;
        summary.typed_results &= outcome.typed_results;
        summary.incoming = outcome.incoming;
    }
    (0..before.len()).filter(|number| before[*number] != summaries[*number]).collect()
}

/// Functions that must be looked at again because others changed: these, and their callers.
fn affected(module: &Module<'_>, outcomes: &[Option<Outcome>], changed: &[usize]) -> Vec<usize> {
    let mut is_changed = vec![false; outcomes.len()];
    for number in changed {
        is_changed[*number] = true;
    }
    let calls = |number: usize| {
        module.functions[number].code.ops.iter().any(|op| match op {
            crate::op::Op::Call { to }
            | crate::op::Op::Jump { to }
            | crate::op::Op::Branch { to, .. } => {
                module.function_at(*to).is_some_and(|callee| is_changed[callee])
            }
            _ => false,
        })
    };
    (0..outcomes.len()).filter(|number| is_changed[*number] || calls(*number)).collect()
}

fn report(module: &Module<'_>, outcomes: Vec<Option<Outcome>>) -> Result<Report, Vec<Refusal>> {
    let mut report = Report { functions: Vec::new(), code_bytes: 0 };
    let mut refusals = Vec::new();
    for (function, outcome) in module.functions.iter().zip(outcomes) {
        let outcome = outcome.unwrap_or_default();
        if let Some((op, what)) = outcome.problem {
            refusals.push(Refusal::function(&function.name, function.code.offset_of(op), what));
        }
        let bytes = function.code.bytes;
        report.code_bytes += u64::from(bytes);
        report.functions.push(FunctionReport {
            name: function.name.clone(),
            bytes,
            counts: outcome.counts,
            unshown: outcome.unshown,
        });
    }
    if refusals.is_empty() { Ok(report) } else { Err(refusals) }
}
