//! How arguments and results travel: the C convention as LLVM lowers it, and the one of calls in
//! tail position, which `awsm_abi::tail` defines.
//!
//! Isolation rests on this file: where two functions disagree on where an argument lies, types of
//! references are a guest's to choose.
//!
//! Source: System V psABI for x86-64, section 3.2.3; LLVM's X86CallingConv.td.

use std::mem::size_of;

use awsm_abi::context::GlobalCell;
use awsm_abi::cpu::Arch;
use awsm_abi::desc::val_type;
use awsm_abi::tail::{Place, Places, has_result_cells};

use crate::descriptor::Type;
use crate::op::Reg;

/// Registers of the first integer arguments, in order. The context pointer is the first of them.
pub(crate) const ARGUMENTS: [Reg; 6] = [7, 6, 2, 1, 8, 9];

/// Registers of integer results, in order.
pub(crate) const RESULTS: [Reg; 3] = [0, 2, 1];

/// The stack pointer.
pub(crate) const STACK_POINTER: Reg = 4;

/// Registers that a function gives back as it got them, the stack pointer left out.
pub(crate) const SAVED: [Reg; 6] = [3, 5, 12, 13, 14, 15];

/// Registers that hold anything after a call.
pub(crate) const CLOBBERED: [Reg; 9] = [0, 1, 2, 6, 7, 8, 9, 10, 11];

/// Vector registers for arguments.
const VECTOR_ARGUMENTS: u32 = awsm_abi::tail::VECTOR_REGISTERS;

/// Vector registers for results.
const VECTOR_RESULTS: u32 = 4;

/// Bytes that a cell for an argument or a result has.
const CELL_BYTES: i64 = size_of::<GlobalCell>() as i64;

/// Bytes that a return address has.
pub(crate) const RETURN_BYTES: i64 = 8;

/// Bytes below the stack pointer that belong to the function as well.
pub(crate) const RED_ZONE: i64 = 128;

/// Where an argument or result is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spot {
    /// In a general register.
    Register(Reg),
    /// In a vector register.
    Vector,
    /// On the stack, so many bytes behind the return address.
    Stack(i64),
    /// In the argument cell with this number of the callee's context.
    Cell(u32),
}

/// How functions of a type are called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Convention {
    /// The register with the context pointer.
    pub context: Reg,
    /// The register with the address of the results, if they are returned through memory.
    pub results_at: Option<Reg>,
    /// Where the arguments are.
    pub arguments: Vec<Spot>,
    /// Bytes of arguments on the stack.
    pub stack_bytes: i64,
    /// Where the results are, if not in memory.
    pub results: Vec<Spot>,
    /// Bytes of results in memory.
    pub result_bytes: i64,
    /// Do these bytes begin at a multiple of 16?
    pub rounded: bool,
    /// Where the results are in these bytes, if they are in memory.
    pub result_offsets: Vec<i64>,
}

/// The C convention.
pub(crate) fn ordinary(ty: &Type) -> Convention {
    let results = results(&ty.results);
    let mut registers = ARGUMENTS.iter().copied();
    let mut next = || registers.next().unwrap_or(ARGUMENTS[0]);
    let results_at = if results.is_none() { Some(next()) } else { None };
    let context = next();
    let skip = 1 + usize::from(results_at.is_some());
    let (arguments, stack_bytes) = arguments(&ty.params, skip);
    let (result_offsets, result_bytes) = match results {
        Some(_) => (Vec::new(), 0),
        None => structure(&ty.results),
    };
    Convention {
        context,
        results_at,
        arguments,
        stack_bytes,
        results: results.unwrap_or_default(),
        result_bytes,
        rounded: ty.results.iter().any(|code| is_vector(*code)),
        result_offsets,
    }
}

/// The convention of calls in tail position.
pub(crate) fn tail(ty: &Type) -> Convention {
    let several = has_result_cells(ty.results.len());
    let mut places = Places::new(Arch::X86_64, ty.results.len());
    let place = |code: &u32| match places.next(*code) {
        Place::Integer(number) => Spot::Register(ARGUMENTS[number as usize]),
        Place::Vector(_) => Spot::Vector,
        Place::Cell(number) => Spot::Cell(number),
    };
    let cells = if several { ty.results.len() as i64 } else { 0 };
    Convention {
        context: ARGUMENTS[0],
        results_at: several.then_some(ARGUMENTS[1]),
        arguments: ty.params.iter().map(place).collect(),
        stack_bytes: 0,
        results: match several {
            true => Vec::new(),
            false => results(&ty.results).unwrap_or_default(),
        },
        result_bytes: cells * CELL_BYTES,
        rounded: true,
        result_offsets: (0..cells).map(|cell| cell * CELL_BYTES).collect(),
    }
}

fn is_vector(code: u32) -> bool {
    matches!(val_type::kind(code), val_type::F32 | val_type::F64 | val_type::V128)
}

/// Where arguments are if the first `skip` integer registers are taken, and the bytes on the stack.
fn arguments(params: &[u32], skip: usize) -> (Vec<Spot>, i64) {
    let mut registers = ARGUMENTS.iter().copied().skip(skip);
    let (mut vectors, mut stack) = (0, 0_i64);
    let mut on_stack = |bytes: i64| {
        stack = (stack + bytes - 1) / bytes * bytes;
        stack += bytes;
        Spot::Stack(stack - bytes)
    };
    let place = |code: &u32| {
        let bytes = if val_type::kind(*code) == val_type::V128 { 16 } else { 8 };
        if !is_vector(*code) {
            return registers.next().map_or_else(|| on_stack(bytes), Spot::Register);
        }
        vectors += 1;
        if vectors <= VECTOR_ARGUMENTS { Spot::Vector } else { on_stack(bytes) }
    };
    let places = params.iter().map(place).collect();
    (places, stack)
}

/// Where results are that registers suffice for. Of several, floats come back in the first lanes of
/// vectors, of which there are four.
fn results(types: &[u32]) -> Option<Vec<Spot>> {
    let mut registers = RESULTS.iter().copied();
    let mut vectors = 0..VECTOR_RESULTS;
    let place = |code: &u32| match is_vector(*code) {
        true => vectors.next().map(|_| Spot::Vector),
        false => registers.next().map(Spot::Register),
    };
    types.iter().map(place).collect()
}

/// Where the fields of a struct of several results are, and how many bytes it has. Floats are
/// vectors in it as well.
fn structure(types: &[u32]) -> (Vec<i64>, i64) {
    let (mut at, mut most) = (0_i64, 1);
    let mut offsets = Vec::new();
    for code in types {
        let bytes = if is_vector(*code) { CELL_BYTES } else { crate::contract::value_bytes(*code) };
        at = (at + bytes - 1) / bytes * bytes;
        offsets.push(at);
        at += bytes;
        most = most.max(bytes);
    }
    (offsets, (at + most - 1) / most * most)
}
