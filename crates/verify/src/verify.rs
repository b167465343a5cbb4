//! A whole object: rounds over its functions until their assumptions of each other hold.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::descriptor::Descriptor;
use crate::function::{Analysis, Outcome};
use crate::module::Module;
use crate::object::Object;
use crate::report::{FunctionReport, Refusal, Report};
use crate::summary::{self, Summary};

/// How to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads, at most.
    pub threads: NonZeroUsize,
    /// Is code without isolation looked at too? Nothing is said of its accesses to linear memory
    /// then; else it is refused.
    pub unisolated: bool,
}

impl Default for Options {
    /// One thread for each core.
    fn default() -> Self {
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { threads, unisolated: false }
    }
}

/// How often each function is looked at in the mean, at most. Assumptions are only ever given up, a
/// few for each function.
const LOOKS: usize = 40;

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
    let is_called = |summaries: &[Summary], number: &usize| summaries[*number].gifts.is_some();
    let mut work: Vec<usize> = (0..count).filter(|number| is_called(&summaries, number)).collect();
    let mut left = count * LOOKS;
    while !work.is_empty() {
        let Some(less) = left.checked_sub(work.len()) else {
            let what = "has functions whose assumptions of each other do not settle";
            return Err(alone(Refusal::object(what)));
        };
        left = less;
        let (mut again, mut less) = (BTreeSet::new(), BTreeSet::new());
        for (number, outcome) in analyse(&module, &summaries, &work, options.threads) {
            settle(&mut summaries, number, &outcome, &module.callers, (&mut again, &mut less));
            outcomes[number] = Some(outcome);
        }
        less.into_iter().for_each(|number: usize| summaries[number].is_given_less());
        again.retain(|number| is_called(&summaries, number));
        if again.is_empty() {
            again = uncalled(&module, &summaries, &outcomes);
            for number in &again {
                summaries[*number].gifts = Some(summary::declared(&module, *number));
            }
        }
        if again.is_empty() {
            again = curious(&module, &mut summaries, &outcomes);
        }
        work = again.into_iter().collect();
    }
    report(&module, outcomes)
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

/// Functions that nobody calls, or else only each other. Those that something calls which is
/// refused are looked at when that has become something else.
fn uncalled(
    module: &Module<'_>,
    summaries: &[Summary],
    outcomes: &[Option<Outcome>],
) -> BTreeSet<usize> {
    let left = |number: &usize| summaries[*number].gifts.is_none();
    let nobodys = |number: &usize| left(number) && module.callers[*number].is_empty();
    let all = 0..summaries.len();
    let first: BTreeSet<usize> = all.clone().filter(nobodys).collect();
    let refused = outcomes.iter().flatten().any(|outcome| outcome.problem.is_some());
    if refused || !first.is_empty() { first } else { all.filter(left).collect() }
}

/// Tells functions of which something is not shown of small numbers: of those that their callees
/// answer, and those that they are given. Who calls them is looked at again before they are.
fn curious(
    module: &Module<'_>,
    summaries: &mut [Summary],
    outcomes: &[Option<Outcome>],
) -> BTreeSet<usize> {
    let mut again = BTreeSet::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        let Some(outcome) = outcome else { continue };
        let shown = outcome.problem.is_none() && outcome.unshown.is_empty();
        if shown || std::mem::replace(&mut summaries[number].curious, true) {
            continue;
        }
        for callee in module.callees(number) {
            let sound = outcomes[callee].as_ref().filter(|outcome| outcome.problem.is_none());
            let most = sound.and_then(|outcome| outcome.most);
            if most.is_some() && summaries[callee].most != most {
                summaries[callee].most = most;
                again.insert(number);
            }
        }
        if summary::is_inner(module, number) && !module.callers[number].is_empty() {
            summaries[number].gifts = None;
            again.remove(&number);
            again.extend(&module.callers[number]);
        }
    }
    again.retain(|number| summaries[*number].gifts.is_some());
    again
}

/// Gives up assumptions that did not hold of a function and of those that it calls, and notes who
/// is to be looked at again.
fn settle(
    summaries: &mut [Summary],
    number: usize,
    outcome: &Outcome,
    callers: &[Vec<usize>],
    (again, less): (&mut BTreeSet<usize>, &mut BTreeSet<usize>),
) {
    // One with a problem refuses the object by itself, and what was found of it says nothing of
    // others.
    if outcome.problem.is_some() {
        return;
    }
    for (callee, gifts) in &outcome.gifts {
        let known = &mut summaries[*callee].gifts;
        let common = match known {
            None => gifts.clone(),
            Some(known) => summary::common(known, gifts),
        };
        if known.as_ref() != Some(&common) {
            if known.replace(common).is_some() {
                less.insert(*callee);
            }
            again.insert(*callee);
        }
    }
    let summary = &mut summaries[number];
    let found = Summary {
        returns: summary.returns | outcome.returns,
        incoming: outcome.incoming,
        cells: outcome.cells,
        typed_results: summary.typed_results & outcome.typed_results,
        most: summary.most.and_then(|most| Some(outcome.most?.max(most))),
        ..summary.clone()
    };
    if *summary != found {
        *summary = found;
        again.insert(number);
        again.extend(&callers[number]);
    }
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
