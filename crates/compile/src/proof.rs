//! What was linked is read back, and given out only if it is shown to stay in its sandbox.
//!
//! Isolation rests on this file: it is what makes a fault of LLVM, or of this compiler, a refusal
//! instead of a breach.
//!
//! A function that is not shown is compiled once more without optimisation, where checks are just
//! before what they are for, and where LLVM knows nothing of a number that becomes an address. If it is not shown then, it may be for what others give it: those that
//! call it and those that it calls are next. What is not shown in the end is refused. Most modules
//! need none of that.
//!
//! Of code without isolation, which no runtime loads, everything but accesses to linear memory is
//! shown. Code for AArch64 is not read back yet.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use awsm_abi::Isolation;
use awsm_abi::cpu::Arch;
use awsm_verify::{FunctionReport, Refusal, Report};

use crate::error::CompileError;
use crate::job::Job;

/// Times that functions are set apart, at most: each round shows what the one before has made
/// visible.
pub(crate) const ROUNDS_MAX: u32 = 8;

/// What is to be done about an object.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Everything is shown.
    Shown(Report),
    /// These functions are not, and may be compiled without optimisation; numbers counted without
    /// imports, ascending.
    NotShown(Vec<u32>),
}

/// Are objects of this job verified? Code for AArch64 is not yet.
pub(crate) fn applies(job: &Job<'_>) -> bool {
    job.processor.arch == Arch::X86_64
}

/// Verifies a linked object.
///
/// # Errors
/// What is not shown, if it is nothing of a function's, or of one that was compiled without
/// optimisation.
pub(crate) fn verify(
    job: &Job<'_>,
    object: &[u8],
    threads: NonZeroUsize,
) -> Result<Verdict, CompileError> {
    let unisolated = job.options.isolation == Isolation::None;
    let options = awsm_verify::Options { threads, unisolated };
    let refusals = match awsm_verify::verify_each(object, options) {
        Ok(report) => {
            let refusals: Vec<Refusal> =
                report.unshown().filter_map(FunctionReport::refusal).collect();
            if refusals.is_empty() {
                return Ok(Verdict::Shown(report));
            }
            refusals
        }
        Err(refusals) => refusals,
    };
    let by_symbol = by_symbol(job);
    let mut functions = Vec::new();
    for refusal in refusals {
        let own = refusal.function.as_ref().and_then(|name| by_symbol.get(name.as_str()).copied());
        let before = functions.len();
        match own {
            Some(own) if job.units.is_apart(own) => {
                functions.extend(job.units.around(&job.module, own)?);
            }
            own => functions.extend(own),
        }
        // A thunk, a routine of ours, the object as a whole; or there is nothing left to try.
        if functions.len() == before {
            return Err(CompileError::NotShown(refusal));
        }
    }
    functions.sort_unstable();
    functions.dedup();
    Ok(Verdict::NotShown(functions))
}

/// Functions of the module by the symbols of their code.
fn by_symbol<'a>(job: &'a Job<'_>) -> HashMap<&'a str, u32> {
    let functions = job.code.functions.iter().zip(0..);
    functions.flat_map(|(symbols, own)| symbols.all().map(move |name| (name, own))).collect()
}
