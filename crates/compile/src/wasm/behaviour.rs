//! Call behaviour of functions: calls in tail position, exceptions that may escape.
//!
//! One pass over all bodies, and a second one over calls only in modules that have exceptions.

use wasmparser::{FunctionBody, Operator};

use crate::error::CompileError;

/// Call behaviour of all functions of a module.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    /// Can the module throw or catch? Then calls are followed by a look at whether something was
    /// thrown.
    pub exceptions: bool,
    /// Which defined functions have calls in tail position; empty if none has.
    tail_calls: Vec<bool>,
    /// Which defined functions an exception may come out of; empty if the module has none.
    may_throw: Vec<bool>,
}

/// Call behaviour of one body.
#[derive(Clone, Copy, Default)]
struct Body {
    tail_calls: bool,
    exceptions: bool,
    /// Throws itself, or calls what is not known here.
    throws: bool,
}

impl Behaviour {
    /// Looks through the bodies of a module that imports so many functions and may have tags.
    pub(crate) fn of(
        bodies: &[FunctionBody<'_>],
        imported_functions: u32,
        has_tags: bool,
    ) -> Result<Self, CompileError> {
        let scans = bodies.iter().map(scan).collect::<Result<Vec<_>, _>>()?;
        let mut behaviour = Self::default();
        if scans.iter().any(|body| body.tail_calls) {
            behaviour.tail_calls = scans.iter().map(|body| body.tail_calls).collect();
        }
        behaviour.exceptions = has_tags || scans.iter().any(|body| body.exceptions);
        if behaviour.exceptions {
            behaviour.may_throw = may_throw(bodies, imported_functions, &scans)?;
        }
        Ok(behaviour)
    }

    /// Has the defined function number `own` calls in tail position?
    pub(crate) fn has_tail_calls(&self, own: u32) -> bool {
        self.tail_calls.get(own as usize).copied().unwrap_or(false)
    }

    /// May an exception come out of the defined function number `own`?
    pub(crate) fn may_throw(&self, own: u32) -> bool {
        self.may_throw.get(own as usize).copied().unwrap_or(false)
    }
}

fn scan(body: &FunctionBody<'_>) -> Result<Body, CompileError> {
    let mut found = Body::default();
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        match operators.read()? {
            Operator::ReturnCall { .. } => found.tail_calls = true,
            Operator::ReturnCallIndirect { .. } | Operator::ReturnCallRef { .. } => {
                found.tail_calls = true;
                found.throws = true;
            }
            Operator::Throw { .. } | Operator::ThrowRef | Operator::Rethrow { .. } => {
                found.exceptions = true;
                found.throws = true;
            }
            Operator::TryTable { .. } | Operator::Try { .. } => found.exceptions = true,
            Operator::CallIndirect { .. } | Operator::CallRef { .. } => found.throws = true,
            _ => {}
        }
    }
    Ok(found)
}

/// Spreads from functions that throw to all that call them.
fn may_throw(
    bodies: &[FunctionBody<'_>],
    imported_functions: u32,
    scans: &[Body],
) -> Result<Vec<bool>, CompileError> {
    let mut callers = vec![Vec::new(); scans.len()];
    let mut throwing: Vec<bool> = scans.iter().map(|body| body.throws).collect();
    for (caller, body) in bodies.iter().enumerate() {
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (Operator::Call { function_index } | Operator::ReturnCall { function_index }) =
                operators.read()?
            else {
                continue;
            };
            match function_index.checked_sub(imported_functions) {
                Some(own) => callers[own as usize].push(caller),
                None => throwing[caller] = true,
            }
        }
    }
    let mut pending: Vec<usize> = (0..throwing.len()).filter(|own| throwing[*own]).collect();
    while let Some(own) = pending.pop() {
        for caller in std::mem::take(&mut callers[own]) {
            if !std::mem::replace(&mut throwing[caller], true) {
                pending.push(caller);
            }
        }
    }
    Ok(throwing)
}
