//! Reads compiled modules back: shows from the finished machine code that a module cannot leave its
//! sandbox, or refuses it.
//!
//! Neither LLVM nor our compiler is trusted: what is looked at is what will be mapped and run. The
//! file is held against the loader's shape (`object`), its description against itself
//! (`descriptor`), every byte of code is decoded once into a dozen neutral operations (`decode`,
//! `op`). Each function is then interpreted over abstract values (`value`, `state`, `evaluate`,
//! `function`), and everything that it does is held against the contract (`contract`, `convention`,
//! `check`, `reference`), with what branches tell (`facts`) and what follows from that (`prove`,
//! `structure`). A function has what all its callers give it (`summary`).
//!
//! What is shown of every function: it leaves with the stack pointer, the return address and the
//! saved registers that it got; it writes no part of the stack but its frame and its arguments;
//! every transfer of control leads to an instruction of the function, to a function, to a table
//! element after its checks, to an import or to a function of the runtime; it has no instruction
//! that guests must not have; it reads and writes of the context and of what hangs on it only what
//! the contract allows. What is shown or reported: accesses to linear memory stay between its
//! beginning and its guard, or below its size.
//!
//! Whatever is not known is refused: an instruction, a segment, a relocation, a byte of code that
//! belongs to no function.
#![forbid(unsafe_code)]

mod align;
mod call;
mod check;
mod constant;
mod contract;
mod convention;
mod decode;
mod descriptor;
mod evaluate;
mod flow;
mod function;
mod jump;
mod leave;
mod memory;
mod module;
mod object;
mod op;
mod reference;
mod report;
mod state;
mod structure;
mod summary;
mod value;
mod vector;
mod verify;

/// What this verifier is built from: verdicts of others are not its own.
pub const FINGERPRINT: &str =
    concat!("verifier ", env!("CARGO_PKG_VERSION"), "; source ", env!("AWSM_VERIFY_SOURCE"));

pub use report::{Counts, FunctionReport, REMAINS_TRUSTED, Refusal, Report, Rule, Unshown};
pub use verify::{Options, verify, verify_each, verify_with};
