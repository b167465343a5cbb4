//! Where it is asked for, what was linked is read back, and given out only if it is shown to stay in its
//! sandbox.
//!
//! Isolation rests on this file: it is what makes a fault of LLVM, or of this compiler, a refusal
//! instead of a breach.
//!
//! Control flow, the stack, the context, tables and references must be shown, or there is no object. An
//! access to linear memory that is not shown has its function compiled once more without optimisation,
//! where addresses are computed just before they are used; what is not shown then is refused. Most
//! modules need none of that.
//!
//! Code without isolation, which no runtime loads, is not looked at.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use awsm_abi::Isolation;
use awsm_abi::cpu::Arch;
use awsm_verify::{Refusal, Report};

use crate::error::CompileError;
use crate::job::Job;

/// Times that functions are set apart, at most: each round shows what the one before has made visible.
pub(crate) const ROUNDS_MAX: u32 = 8;

/// What is to be done about an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything is shown.
    Shown,
    /// Accesses of these functions to memory are not; numbers counted without imports, ascending.
    NotShown(Vec<u32>),
}

/// Are objects of this job to be verified?
pub(crate) fn applies(job: &Job<'_>) -> bool {
    job.options.verify && job.options.isolation != Isolation::None
}

/// Says what cannot be verified before it is compiled.
pub(crate) fn check(job: &Job<'_>) -> Result<(), CompileError> {
    if applies(job) && job.processor.arch != Arch::X86_64 {
        let arch = job.processor.arch.name();
        return Err(CompileError::Target(format!(
            "code for {arch} cannot be verified yet: compile without `--verify`"
        )));
    }
    Ok(())
}

/// Verifies a linked object.
pub(crate) fn verify(
    job: &Job<'_>,
    object: &[u8],
    threads: NonZeroUsize,
) -> Result<Verdict, CompileError> {
    let options = awsm_verify::Options { threads };
    let report = awsm_verify::verify_with(object, options).map_err(CompileError::NotShown)?;
    let by_symbol = by_symbol(job);
    let mut functions = Vec::new();
    for function in report.unshown() {
        match by_symbol.get(function.name.as_str()) {
            Some(own) => functions.push(*own),
            // Nothing of the module's: a wrapper, a thunk, a routine of ours.
            None => return Err(not_shown(&report, &function.name)),
        }
    }
    functions.sort_unstable();
    functions.dedup();
    Ok(if functions.is_empty() { Verdict::Shown } else { Verdict::NotShown(functions) })
}

/// The error for a function whose accesses cannot be shown, if the report has it.
fn not_shown(report: &Report, name: &str) -> CompileError {
    let function = report.unshown().find(|function| function.name == name);
    let access = function.and_then(|function| function.unshown.first());
    CompileError::NotShown(Refusal {
        function: Some(name.to_owned()),
        offset: access.map(|access| access.offset),
        what: access.map_or_else(String::new, |access| access.what.clone()),
    })
}

/// The error for a function that was set apart before, by its number.
pub(crate) fn refused(job: &Job<'_>, own: u32) -> CompileError {
    CompileError::NotShown(Refusal {
        function: Some(job.code.functions[own as usize].body().to_owned()),
        offset: None,
        what: "an access to memory is not shown to stay inside, even without optimisation".into(),
    })
}

/// Functions of the module by the symbols of their own code.
fn by_symbol<'a>(job: &'a Job<'_>) -> HashMap<&'a str, u32> {
    let functions = job.code.functions.iter().zip(0..);
    functions.map(|(symbols, own)| (symbols.body(), own)).collect()
}
