//! How arguments and results travel: the C convention as LLVM lowers it, and the one of calls in tail
//! position.
//!
//! Isolation rests on this file: two functions that disagree on where an argument lies, or on how many
//! bytes a return takes off the stack, let a guest choose where a function returns to.
//!
//! Source: System V psABI for x86-64, section 3.2.3; LLVM's X86CallingConv.td.

use awsm_abi::desc::val_type;

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
const VECTOR_ARGUMENTS: u32 = 8;

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
    /// Bytes that a return takes off the stack behind the return address.
    pub pops: i64,
    /// Where the results are, if not in memory.
    pub results: Vec<Spot>,
    /// Bytes of results in memory.
    pub result_bytes: i64,
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
    Convention {
        context,
        results_at,
        arguments,
        stack_bytes,
        pops: 0,
        result_bytes: if results.is_none() { struct_bytes(&ty.results) } else { 0 },
        results: results.unwrap_or_default(),
    }
}

/// The convention of calls in tail position: the callee takes its stack arguments away, and several
/// results go through a pointer behind the context pointer.
pub(crate) fn tail(ty: &Type) -> Convention {
    let several = ty.results.len() > 1;
    let (arguments, stack_bytes) = arguments(&ty.params, 1 + usize::from(several));
    Convention {
        context: ARGUMENTS[0],
        results_at: several.then_some(ARGUMENTS[1]),
        arguments,
        stack_bytes,
        pops: tail_pops(stack_bytes),
        result_bytes: if several { 16 * ty.results.len() as i64 } else { 0 },
        results: match several {
            true => Vec::new(),
            false => results(&ty.results).unwrap_or_default(),
        },
    }
}

/// Bytes that a function in that convention takes off the stack, by those of its arguments.
fn tail_pops(stack_bytes: i64) -> i64 {
    if stack_bytes % 16 == 8 { stack_bytes } else { stack_bytes + 8 }
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

/// Where results are that registers suffice for.
fn results(types: &[u32]) -> Option<Vec<Spot>> {
    let mut registers = RESULTS.iter().copied();
    let mut vectors = 0;
    let place = |code: &u32| {
        if !is_vector(*code) {
            return registers.next().map(Spot::Register);
        }
        vectors += 1;
        // Floats come back in two registers only, vectors in four.
        let most = if val_type::kind(*code) == val_type::V128 { 4 } else { 2 };
        (vectors <= most).then_some(Spot::Vector)
    };
    types.iter().map(place).collect()
}

/// Bytes of a struct with fields of these types.
fn struct_bytes(types: &[u32]) -> i64 {
    let (mut at, mut most) = (0, 1);
    for code in types {
        let bytes = crate::contract::value_bytes(*code);
        at = (at + bytes - 1) / bytes * bytes + bytes;
        most = most.max(bytes);
    }
    (at + most - 1) / most * most
}

/// Where the field with this number of such a struct is.
pub(crate) fn field_offset(types: &[u32], field: usize) -> i64 {
    let mut at = 0;
    for (number, code) in types.iter().enumerate() {
        let bytes = crate::contract::value_bytes(*code);
        at = (at + bytes - 1) / bytes * bytes;
        if number == field {
            break;
        }
        at += bytes;
    }
    at
}
