//! Limits on what is compiled. What `wasmparser` limits itself (bytes of a function, locals,
//! parameters, functions, nesting) is not repeated here.

use awsm_abi::context::CONTEXT_MAX_BYTES;

/// Bytes of a module.
pub(crate) const MODULE_BYTES: u64 = 256 << 20;

/// Bytes of one instance's context: globals, tables, types, references.
pub(crate) const CONTEXT_BYTES: u64 = CONTEXT_MAX_BYTES;

/// Characters of a function's name that the symbol table keeps.
pub(crate) const SYMBOL_CHARS: usize = 200;

/// Names of inlined functions that a function's description has; of more it has the number.
pub(crate) const INLINED_NAMES: usize = 8;

/// Rows of a guest's line table.
pub(crate) const LINE_ROWS: usize = 16 << 20;

/// Bytes of the descriptor, data segments included: code reaches its constants, and the linker
/// resolves distances, within 31 bits.
pub(crate) const DESCRIPTOR_BYTES: u64 = 1 << 30;

// A module's data segments are part of its descriptor and must fit there.
const _: () = assert!(MODULE_BYTES < DESCRIPTOR_BYTES);
