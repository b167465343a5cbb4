//! Type-based alias tags: which kind of memory each load and store touches.
//!
//! Linear memory, the globals, the tables and the rest of the context never overlap, but LLVM sees
//! one pointer with offsets. Each access carries a type-based alias tag that says which kind of
//! memory it touches; accesses of different kinds may pass each other. What never changes while an
//! instance lives is marked invariant besides.

use inkwell::context::Context;
use inkwell::values::{
    BasicValue, BasicValueEnum, InstructionOpcode, InstructionValue, MetadataValue,
};

use crate::error::CompileError;

/// The tags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tags<'ctx> {
    /// Contents of linear memories. Different memories are one kind: an imported one may come
    /// twice.
    pub linear: MetadataValue<'ctx>,
    /// Fields of `Memory` that change.
    pub memory_size: MetadataValue<'ctx>,
    /// Globals that the module defines.
    pub own_global: MetadataValue<'ctx>,
    /// Globals that it imports: they belong to others, but may come twice.
    pub imported_global: MetadataValue<'ctx>,
    /// Argument cells.
    pub argument: MetadataValue<'ctx>,
    /// Fields of `Table` that change.
    pub table: MetadataValue<'ctx>,
    /// Elements of tables.
    pub element: MetadataValue<'ctx>,
    /// The exception under way.
    pub pending: MetadataValue<'ctx>,
    /// Contents of exceptions.
    pub exception: MetadataValue<'ctx>,
    /// What never changes: addresses of memories, references, types.
    pub fixed: MetadataValue<'ctx>,
    empty: MetadataValue<'ctx>,
    tbaa: u32,
    invariant: u32,
}

impl<'ctx> Tags<'ctx> {
    /// The tags of a context.
    pub(crate) fn new(context: &'ctx Context) -> Self {
        let zero = context.i64_type().const_zero();
        let root = context.metadata_node(&[context.metadata_string("awsm").into()]);
        let tag = |name| {
            let name = context.metadata_string(name);
            let kind = context.metadata_node(&[name.into(), root.into(), zero.into()]);
            context.metadata_node(&[kind.into(), kind.into(), zero.into()])
        };
        Self {
            linear: tag("linear memory"),
            memory_size: tag("memory size"),
            own_global: tag("own global"),
            imported_global: tag("imported global"),
            argument: tag("argument"),
            table: tag("table"),
            element: tag("table element"),
            pending: tag("pending exception"),
            exception: tag("exception"),
            fixed: tag("fixed"),
            empty: context.metadata_node(&[]),
            tbaa: context.get_kind_id("tbaa"),
            invariant: context.get_kind_id("invariant.load"),
        }
    }

    /// Tags an instruction with the kind of memory that it touches.
    pub(crate) fn set(
        &self,
        instruction: InstructionValue<'ctx>,
        kind: MetadataValue<'ctx>,
    ) -> Result<(), CompileError> {
        instruction.set_metadata(kind, self.tbaa).map_err(refused)
    }

    /// Marks a load as invariant.
    pub(crate) fn set_invariant(&self, load: BasicValueEnum<'ctx>) -> Result<(), CompileError> {
        let load = self::instruction(load)?;
        self.set(load, self.fixed)?;
        load.set_metadata(self.empty, self.invariant).map_err(refused)
    }
}

/// Recognises loads from linear memory by their alias tag.
#[derive(Clone, Copy)]
pub(crate) struct LinearLoads<'ctx> {
    kind: u32,
    tag: MetadataValue<'ctx>,
}

impl<'ctx> LinearLoads<'ctx> {
    /// Those of a context.
    pub(crate) fn new(context: &'ctx Context) -> Self {
        Self { kind: context.get_kind_id("tbaa"), tag: Tags::new(context).linear }
    }

    /// Is an instruction a load from linear memory?
    pub(crate) fn is_read_by(self, load: InstructionValue<'ctx>) -> bool {
        load.get_opcode() == InstructionOpcode::Load
            && load.get_metadata(self.kind) == Some(self.tag)
    }
}

/// The instruction that computes a value.
pub(crate) fn instruction(value: BasicValueEnum<'_>) -> Result<InstructionValue<'_>, CompileError> {
    value.as_instruction_value().ok_or_else(|| refused("not an instruction"))
}

/// LLVM or its binding did not do as told: our mistake.
pub(crate) fn refused(what: impl std::fmt::Display) -> CompileError {
    CompileError::Codegen(what.to_string())
}
