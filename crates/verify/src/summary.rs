//! What functions assume of each other.
//!
//! Whoever calls a function from outside keeps to its type, and LLVM keeps no function of the
//! object to that: it hands over anything for an argument that is not used, changes the signature
//! of functions that only this object calls, and hands over what an argument leads to instead of
//! the argument. So a function is given what all its callers give, the outside among them. They are
//! looked at before it is, and what one of them does not give is not assumed any more. All
//! assumptions of the last round were checked in it, at every caller and at every return.

use crate::contract::{is_reference, kind_of_type};
use crate::convention::{ARGUMENTS, Spot};
use crate::module::{Module, Role};
use crate::op::Op;
use crate::value::{Kind, RefType, weaker};

/// What lies at a place for an argument, if it is more than a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Given {
    /// Zero: no reference.
    Null,
    /// Something of this kind.
    Of(Kind),
    /// A number that is no more than this.
    Small(u32),
}

/// Numbers that are larger are not told of.
pub(crate) const SMALL_MAX: u32 = 1 << 20;

impl Given {
    /// What is true of both, if that is more than a number.
    fn common(self, other: Self) -> Option<Self> {
        match (self, other) {
            (a, b) if a == b => Some(a),
            (Self::Small(a), Self::Small(b)) => Some(Self::Small(a.max(b))),
            (Self::Null, small @ Self::Small(_)) | (small @ Self::Small(_), Self::Null) => {
                Some(small)
            }
            (Self::Null, Self::Of(kind)) | (Self::Of(kind), Self::Null) => match kind {
                Kind::Ref(ty) => Some(Self::Of(Kind::Ref(RefType { non_null: false, ..ty }))),
                Kind::Exception { .. } => Some(Self::Of(Kind::Exception { non_null: false })),
                Kind::Extern { .. } => Some(Self::Of(Kind::Extern { non_null: false })),
                _ => None,
            },
            (Self::Of(a), Self::Of(b)) => match weaker(a, b) {
                Kind::Number => None,
                kind => Some(Self::Of(kind)),
            },
            _ => None,
        }
    }
}

/// What lies at places for arguments; at all others there are numbers.
pub(crate) type Gifts = Vec<(Spot, Given)>;

/// What is true of both.
pub(crate) fn common(a: &Gifts, b: &Gifts) -> Gifts {
    let also = |(spot, given): &(Spot, Given)| {
        let (_, other) = b.iter().find(|(other, _)| other == spot)?;
        Some((*spot, given.common(*other)?))
    };
    a.iter().filter_map(also).collect()
}

/// What is known of a function where it is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Summary {
    /// What it is given by all callers that are known, if there are any.
    pub gifts: Option<Gifts>,
    /// Can it return?
    pub returns: bool,
    /// Bytes behind the return address that it reads or writes.
    pub incoming: i64,
    /// Bytes of the cells for several results that it reads or writes.
    pub cells: i64,
    /// Are its results what the type says?
    pub typed_results: bool,
    /// Its result is a number that is no more than this, if anybody wants to know.
    pub most: Option<u32>,
    /// Was something of it not shown at first? Then it is told of small numbers that it is given,
    /// and that its callees answer.
    pub curious: bool,
    /// In how many rounds less was given than before.
    pub rounds: u32,
}

/// Rounds in which numbers may grow that a function is given.
const GROWING: u32 = 6;

impl Summary {
    /// Less was given in this round: numbers that grow and grow are not told of any more.
    pub(crate) fn is_given_less(&mut self) {
        self.rounds += 1;
        if self.rounds > GROWING
            && let Some(gifts) = &mut self.gifts
        {
            gifts.retain(|(_, given)| !matches!(given, Given::Small(_)));
        }
    }
}

/// First assumptions.
pub(crate) fn first(module: &Module<'_>) -> Vec<Summary> {
    let returns = returns(module);
    let of = |(number, returns): (usize, bool)| {
        let outside = !is_inner(module, number);
        let convention = module.convention(number).filter(|_| outside);
        Summary {
            gifts: outside.then(|| declared(module, number)),
            returns,
            incoming: convention.map_or(0, |convention| convention.stack_bytes),
            cells: convention.map_or(0, |convention| convention.result_bytes),
            typed_results: true,
            most: None,
            curious: false,
            rounds: 0,
        }
    };
    returns.into_iter().enumerate().map(of).collect()
}

/// Does only this object call a function?
pub(crate) fn is_inner(module: &Module<'_>, number: usize) -> bool {
    let function = &module.functions[number];
    let known = matches!(function.role, Role::Ordinary { .. } | Role::Tail { .. } | Role::Local);
    known && !function.outside
}

/// What a function is given by its type, or the context if it has none.
pub(crate) fn declared(module: &Module<'_>, number: usize) -> Gifts {
    let context = |register| (Spot::Register(register), Given::Of(Kind::Context));
    let (Some(convention), Some(ty)) = (module.convention(number), module.type_of(number)) else {
        return vec![context(ARGUMENTS[0])];
    };
    let cells = convention.results_at.map(|at| (Spot::Register(at), Given::Of(Kind::Cells)));
    let params = module.descriptor.types[ty as usize].params.iter().zip(&convention.arguments);
    let references = params.filter(|(code, _)| is_reference(**code));
    let references = references.map(|(code, spot)| (*spot, Given::Of(kind_of_type(*code))));
    [context(convention.context)].into_iter().chain(cells).chain(references).collect()
}

/// Which functions may return, by their transfers alone: the least set. Indirect calls count as
/// coming back and indirect jumps as returning.
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
