//! One function body, instruction by instruction.
//!
//! The operand stack exists only here: its entries are LLVM values. Locals are stack slots, which
//! `mem2reg` turns into values afterwards, so that no bookkeeping at joins is needed for them; a
//! function with many locals and many joins stays linear. Code that cannot be reached is skipped.

use awsm_abi::trap::TrapKind;
use inkwell::basic_block::BasicBlock;
use inkwell::builder::Builder;
use inkwell::values::{BasicValueEnum, FloatValue, FunctionValue, IntValue, PointerValue};
use wasmparser::{FunctionBody, VisitOperator};

use super::control::Frame;
use super::debug::Place;
use super::env::{Env, OwnFunction};
use crate::error::CompileError;
use crate::wasm::module::{ValType, val_type};

/// A function being translated.
pub(crate) struct Func<'e, 'ctx> {
    /// The module around it.
    pub env: &'e Env<'ctx, 'e>,
    /// Writes instructions at the current place.
    pub b: Builder<'ctx>,
    /// The function.
    pub function: FunctionValue<'ctx>,
    /// The context pointer, also the base of own memory 0.
    pub ctx: PointerValue<'ctx>,
    /// Slots of the locals.
    pub locals: Vec<(PointerValue<'ctx>, ValType)>,
    /// The operand stack.
    pub stack: Vec<BasicValueEnum<'ctx>>,
    /// Enclosing blocks, the function itself outermost.
    pub frames: Vec<Frame<'ctx>>,
    /// Trap blocks by the trap's number.
    pub traps: [Option<BasicBlock<'ctx>>; TrapKind::ALL.len() + 1],
    /// Result cells of the caller, in the tail convention.
    pub results: Option<PointerValue<'ctx>>,
    /// The block that returns when an exception leaves the function.
    pub way_out: Option<BasicBlock<'ctx>>,
    /// Can the current place be reached?
    pub reachable: bool,
    /// Blocks entered since the place became unreachable.
    pub skipped: u32,
    /// The source location, if there is a line table.
    pub(super) place: Option<Place<'ctx>>,
}

/// Writes the defined function number `own`, counted without imports.
pub(crate) fn translate(
    env: &Env<'_, '_>,
    own: u32,
    body: &FunctionBody<'_>,
) -> Result<(), CompileError> {
    let mut func = begin(env, own, body)?;
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        func.locate(env.module.code_offset(operators.original_position()));
        let operator = operators.read()?;
        if func.reachable || func.still_unreachable(&operator)? {
            func.visit_operator(&operator)?;
        }
    }
    Ok(())
}

/// Opens the function: slots for its locals, the outermost frame.
fn begin<'e, 'ctx>(
    env: &'e Env<'ctx, 'e>,
    own: u32,
    body: &FunctionBody<'_>,
) -> Result<Func<'e, 'ctx>, CompileError> {
    let OwnFunction { body: function, tail } = env.own(own);
    let ty = env.module.func_type(env.module.imported.functions + own);
    let mut func = Func::new(env, function);
    if let Some(debug) = &env.debug {
        let index = env.module.imported.functions + own;
        let first = env.module.code_offset(body.get_operators_reader()?.original_position());
        func.place = debug.open(function, env.module.names[index as usize], first);
        func.locate(first);
    }
    let params = match tail {
        true => func.tail_params(ty)?,
        false => function.get_param_iter().skip(1).collect(),
    };
    for (param, ty) in params.into_iter().zip(&ty.params) {
        func.add_local(*ty, param)?;
    }
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        let ty = val_type(ty)?;
        let zero = func.zero(ty);
        for _ in 0..count {
            func.add_local(ty, zero)?;
        }
    }
    func.frames.push(Frame::function(ty.results.clone()));
    Ok(func)
}

impl<'e, 'ctx> Func<'e, 'ctx> {
    /// Opens a function: its first block.
    pub(crate) fn new(env: &'e Env<'ctx, 'e>, function: FunctionValue<'ctx>) -> Self {
        let b = env.context.create_builder();
        b.position_at_end(env.context.append_basic_block(function, ""));
        let ctx = function.get_first_param().expect("every function has a context");
        Self {
            env,
            b,
            function,
            ctx: ctx.into_pointer_value(),
            locals: Vec::new(),
            stack: Vec::new(),
            frames: Vec::new(),
            traps: [None; TrapKind::ALL.len() + 1],
            results: None,
            way_out: None,
            reachable: true,
            skipped: 0,
            place: None,
        }
    }

    fn add_local(&mut self, ty: ValType, value: BasicValueEnum<'ctx>) -> Result<(), CompileError> {
        let slot = self.b.build_alloca(self.env.value_type(ty), "")?;
        self.b.build_store(slot, value)?;
        self.locals.push((slot, ty));
        Ok(())
    }

    /// A type's zero or null.
    pub(crate) fn zero(&self, ty: ValType) -> BasicValueEnum<'ctx> {
        self.env.value_type(ty).const_zero()
    }

    /// Pushes an operand.
    pub(crate) fn push(&mut self, value: impl Into<BasicValueEnum<'ctx>>) {
        self.stack.push(value.into());
    }

    /// Pops an operand.
    pub(crate) fn pop(&mut self) -> BasicValueEnum<'ctx> {
        self.stack.pop().expect("a validated body pops what it pushed")
    }

    /// Pops an integer.
    pub(crate) fn pop_int(&mut self) -> IntValue<'ctx> {
        self.pop().into_int_value()
    }

    /// Pops a float.
    pub(crate) fn pop_float(&mut self) -> FloatValue<'ctx> {
        self.pop().into_float_value()
    }

    /// Pops a truth value: whether an integer is not zero.
    pub(crate) fn pop_condition(&mut self) -> Result<IntValue<'ctx>, CompileError> {
        let value = self.pop_int();
        let zero = value.get_type().const_zero();
        Ok(self.b.build_int_compare(inkwell::IntPredicate::NE, value, zero, "")?)
    }

    /// Pushes a truth value as an `i32`.
    pub(crate) fn push_condition(&mut self, condition: IntValue<'ctx>) -> Result<(), CompileError> {
        let value = self.b.build_int_z_extend(condition, self.env.types.i32, "")?;
        self.push(value);
        Ok(())
    }

    /// A new block, last so far.
    pub(crate) fn block(&self) -> BasicBlock<'ctx> {
        self.env.context.append_basic_block(self.function, "")
    }

    /// The block that is being written.
    pub(crate) fn here(&self) -> BasicBlock<'ctx> {
        self.b.get_insert_block().expect("the builder is always in a block")
    }

    /// Writes elsewhere, and comes back.
    pub(crate) fn at<T>(
        &mut self,
        block: BasicBlock<'ctx>,
        write: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let here = self.here();
        self.b.position_at_end(block);
        let answer = write(self);
        self.b.position_at_end(here);
        answer
    }

    pub(super) fn local_get(&mut self, local_index: u32) -> Result<(), CompileError> {
        let (slot, ty) = self.locals[local_index as usize];
        let value = self.b.build_load(self.env.value_type(ty), slot, "")?;
        self.push(value);
        Ok(())
    }

    pub(super) fn local_set(&mut self, local_index: u32) -> Result<(), CompileError> {
        let value = self.pop();
        self.b.build_store(self.locals[local_index as usize].0, value)?;
        Ok(())
    }

    pub(super) fn local_tee(&mut self, local_index: u32) -> Result<(), CompileError> {
        let value = *self.stack.last().expect("a validated body");
        self.b.build_store(self.locals[local_index as usize].0, value)?;
        Ok(())
    }

    pub(super) fn drop_operand(&mut self) -> Result<(), CompileError> {
        self.pop();
        Ok(())
    }

    pub(super) fn select(&mut self) -> Result<(), CompileError> {
        let condition = self.pop_condition()?;
        let (otherwise, then) = (self.pop(), self.pop());
        let value = self.b.build_select(condition, then, otherwise, "")?;
        self.push(value);
        Ok(())
    }
}
