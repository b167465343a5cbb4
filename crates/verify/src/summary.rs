//! What functions assume of each other.
//!
//! Functions that the outside calls are held against their type. Of the others LLVM may have dropped
//! arguments and results, so that their signature is not known any more: what such a function needs
//! at entry is assumed, each caller is asked whether it provides that, and less is assumed if one does
//! not. All assumptions of the last round were checked in it, at every caller and at every return.

use crate::module::{Module, Role};
use crate::op::Op;

/// What is assumed of registers and stack when a function is entered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Entry {
    /// Everything that the type says.
    Typed,
    /// The context pointer in the first register for arguments, and nothing else.
    Context,
    /// Nothing.
    Nothing,
}

impl Entry {
    /// What can be assumed, most first.
    pub(crate) const ALL: [Self; 3] = [Self::Typed, Self::Context, Self::Nothing];

    /// A bit for a set of these.
    pub(crate) fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What is known of a function where it is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Summary {
    /// What is assumed at its entry.
    pub entry: Entry,
    /// Can it return?
    pub returns: bool,
    /// Bytes that its return takes off the stack behind the return address.
    pub pops: i64,
    /// Bytes behind the return address that it reads or writes.
    pub incoming: i64,
    /// Are its results what the type says?
    pub typed_results: bool,
}

/// First assumptions.
pub(crate) fn first(module: &Module<'_>) -> Vec<Summary> {
    let returns = returns(module);
    let of = |(number, returns): (usize, bool)| {
        let function = &module.functions[number];
        let convention = module.convention(number);
        Summary {
            entry: match function.role {
                Role::Local => Entry::Context,
                _ => Entry::Typed,
            },
            returns,
            pops: pops(module, number),
            incoming: convention.map_or(0, |convention| convention.stack_bytes),
            typed_results: true,
        }
    };
    returns.into_iter().enumerate().map(of).collect()
}

/// Bytes that a function's return takes off the stack: by its type, or of functions that nobody outside
/// calls by what its own returns say. Each return and each caller is checked against it.
fn pops(module: &Module<'_>, number: usize) -> i64 {
    let function = &module.functions[number];
    let by_type = module.convention(number).map_or(0, |convention| convention.pops);
    if function.outside {
        return by_type;
    }
    let said = function.code.ops.iter().find_map(|op| match op {
        Op::Return { pops } => Some(i64::from(*pops)),
        _ => None,
    });
    said.unwrap_or(by_type)
}

/// Which functions may return, by their transfers alone: the least set. Indirect calls count as coming
/// back and indirect jumps as returning.
fn returns(module: &Module<'_>) -> Vec<bool> {
    let mut returns = vec![false; module.functions.len()];
    let mut changed = true;
    while std::mem::take(&mut changed) {
        for (number, function) in module.functions.iter().enumerate() {
            if !returns[number] && may_return(module, function, &returns) {
                returns[number] = true;
                changed = true;
            }
        }
    }
    returns
}

fn may_return(module: &Module<'_>, function: &crate::module::Function, returns: &[bool]) -> bool {
    let code = &function.code;
    let known = |address: u64| module.function_at(address).is_none_or(|callee| returns[callee]);
    let mut seen = vec![false; code.instructions.len()];
    let mut open = vec![0];
    while let Some(mut at) = open.pop() {
        while at < seen.len() && !std::mem::replace(&mut seen[at], true) {
            let inside = |to: u64| crate::flow::inside(code, function.range.start, to);
            match code.ops[code.ops_of(at)].last() {
                Some(Op::Return { .. } | Op::JumpTo { .. }) => return true,
                Some(Op::Fault) => break,
                Some(Op::Branch { to, .. }) => match inside(*to) {
                    Some(to) => open.push(to),
                    None => return true,
                },
                Some(Op::Jump { to }) => match inside(*to) {
                    Some(to) => {
                        at = to;
                        continue;
                    }
                    None if *to == function.range.start => break,
                    None if known(*to) => return true,
                    None => break,
                },
                Some(Op::Call { to }) if !known(*to) => break,
                _ => {}
            }
            at += 1;
        }
    }
    false
}
