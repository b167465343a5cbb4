//! Structured control flow: blocks, branches, joins.
//!
//! A label is a basic block with one phi per value that a branch to it carries. It is made when the
//! first branch needs it (a loop's at once), so that no block without a predecessor comes about.

use inkwell::basic_block::BasicBlock;
use inkwell::values::{BasicValue, BasicValueEnum, IntValue, PhiValue, PointerValue};
use wasmparser::{BlockType, BrTable, Catch, Operator};

use super::function::Func;
use crate::error::CompileError;
use crate::wasm::module::{ValType, val_type};

/// An enclosing block.
#[derive(Debug)]
pub(crate) struct Frame<'ctx> {
    /// What ends it, and how.
    pub(super) kind: Kind<'ctx>,
    /// Where branches go, once there are any.
    label: Option<Label<'ctx>>,
    /// Types of the values that a branch carries.
    label_types: Vec<ValType>,
    /// Types of the values that are left at the end.
    pub(super) results: Vec<ValType>,
    /// Height of the operand stack below the block's own values.
    pub(super) height: usize,
}

#[derive(Debug)]
pub(super) enum Kind<'ctx> {
    Block,
    Loop,
    /// The `then` part of an `if`: where the other part begins, and the values it begins with.
    Then(BasicBlock<'ctx>, Vec<BasicValueEnum<'ctx>>),
    /// The `else` part; ends like a block.
    Else,
    /// The body; branches to it return.
    Function,
    /// The body of a `try_table`, and where its exceptions go, once there may be any.
    TryTable {
        catches: Vec<Catch>,
        handler: Option<BasicBlock<'ctx>>,
    },
    /// The body of a legacy `try`: the same.
    LegacyTry {
        handler: Option<BasicBlock<'ctx>>,
    },
    /// A legacy `catch`: what it caught, and where to go with what it did not. Both are missing if
    /// nothing gets here.
    LegacyCatch {
        exception: Option<PointerValue<'ctx>>,
        next: Option<BasicBlock<'ctx>>,
    },
}

#[derive(Clone, Debug)]
struct Label<'ctx> {
    block: BasicBlock<'ctx>,
    values: Vec<PhiValue<'ctx>>,
}

impl Frame<'_> {
    /// The outermost frame.
    pub(crate) fn function(results: Vec<ValType>) -> Self {
        Self { kind: Kind::Function, label: None, label_types: results.clone(), results, height: 0 }
    }
}

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn br(&mut self, relative_depth: u32) -> Result<(), CompileError> {
        self.branch(relative_depth)?;
        self.reachable = false;
        Ok(())
    }

    pub(super) fn br_if(&mut self, relative_depth: u32) -> Result<(), CompileError> {
        let condition = self.pop_condition()?;
        let label = self.arrive(relative_depth)?;
        let go_on = self.block();
        self.b.build_conditional_branch(condition, label, go_on)?;
        self.b.position_at_end(go_on);
        Ok(())
    }

    pub(super) fn br_table(&mut self, targets: &BrTable<'_>) -> Result<(), CompileError> {
        let index = self.pop_int();
        self.branch_table(index, targets)?;
        self.reachable = false;
        Ok(())
    }

    pub(super) fn return_from_function(&mut self) -> Result<(), CompileError> {
        self.branch(self.frames.len() as u32 - 1)?;
        self.reachable = false;
        Ok(())
    }

    /// In code that cannot be reached only the nesting counts. Answers whether the instruction ends
    /// or turns the block in which the place became unreachable, and so has to be translated.
    pub(crate) fn still_unreachable(
        &mut self,
        operator: &Operator<'_>,
    ) -> Result<bool, CompileError> {
        match operator {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::TryTable { .. }
            | Operator::Try { .. } => {
                self.skipped += 1;
                Ok(false)
            }
            Operator::End | Operator::Delegate { .. } if self.skipped > 0 => {
                self.skipped -= 1;
                Ok(false)
            }
            Operator::End | Operator::Delegate { .. } => Ok(true),
            Operator::Else | Operator::Catch { .. } | Operator::CatchAll => Ok(self.skipped == 0),
            _ => Ok(false),
        }
    }

    pub(super) fn enter(&mut self, kind: Kind<'ctx>, ty: BlockType) -> Result<(), CompileError> {
        let (params, results) = self.block_types(ty)?;
        let height = self.stack.len() - params.len();
        let label_types = results.clone();
        self.frames.push(Frame { kind, label: None, label_types, results, height });
        Ok(())
    }

    pub(super) fn enter_loop(&mut self, ty: BlockType) -> Result<(), CompileError> {
        let (params, results) = self.block_types(ty)?;
        let height = self.stack.len() - params.len();
        let frame = Frame { kind: Kind::Loop, label: None, label_types: params, results, height };
        self.frames.push(frame);
        self.branch(0)?;
        self.land(0);
        Ok(())
    }

    pub(super) fn enter_if(&mut self, ty: BlockType) -> Result<(), CompileError> {
        let condition = self.pop_condition()?;
        let (params, _) = self.block_types(ty)?;
        let values = self.stack[self.stack.len() - params.len()..].to_vec();
        let (then, otherwise) = (self.block(), self.block());
        self.b.build_conditional_branch(condition, then, otherwise)?;
        self.b.position_at_end(then);
        self.enter(Kind::Then(otherwise, values), ty)
    }

    pub(super) fn turn_to_else(&mut self) -> Result<(), CompileError> {
        if self.reachable {
            self.branch(0)?;
        }
        let frame = self.frames.last_mut().expect("a validated body");
        let Kind::Then(otherwise, values) = std::mem::replace(&mut frame.kind, Kind::Else) else {
            unreachable!("a validated body has `else` only in an `if`");
        };
        self.stack.truncate(frame.height);
        self.stack.extend(values);
        self.b.position_at_end(otherwise);
        self.reachable = true;
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<(), CompileError> {
        let kind = &self.frames.last().expect("a validated body").kind;
        match kind {
            // Nothing branches to the end of a loop: it is just left.
            Kind::Loop => {
                let frame = self.frames.pop().expect("just seen");
                if !self.reachable {
                    self.stack.truncate(frame.height);
                }
                debug_assert!(
                    !self.reachable || self.stack.len() == frame.height + frame.results.len()
                );
                return Ok(());
            }
            Kind::Then(..) => self.turn_to_else()?,
            Kind::LegacyTry { .. } | Kind::LegacyCatch { .. } => self.end_legacy()?,
            Kind::Block | Kind::Else | Kind::Function | Kind::TryTable { .. } => {}
        }
        if self.reachable {
            self.branch(0)?;
        }
        let last = self.frames.len() == 1;
        self.land(0);
        self.frames.pop();
        if last && self.reachable { self.build_return() } else { Ok(()) }
    }

    /// Goes on at a label, if anything branches there.
    fn land(&mut self, depth: u32) {
        let frame = self.frame(depth);
        let (height, label) = (frame.height, frame.label.clone());
        self.stack.truncate(height);
        self.reachable = label.is_some();
        if let Some(label) = label {
            self.b.position_at_end(label.block);
            self.stack.extend(label.values.iter().map(|phi| phi.as_basic_value()));
        }
    }

    /// Branches always.
    pub(super) fn branch(&mut self, depth: u32) -> Result<(), CompileError> {
        let label = self.arrive(depth)?;
        self.b.build_unconditional_branch(label)?;
        Ok(())
    }

    /// Makes ready for a branch from the current block to a label, and answers the label's block.
    pub(super) fn arrive(&mut self, depth: u32) -> Result<BasicBlock<'ctx>, CompileError> {
        let here = self.here();
        let label = self.label(depth)?;
        let carried = &self.stack[self.stack.len() - label.values.len()..];
        for (phi, value) in label.values.iter().zip(carried) {
            phi.add_incoming(&[(value as &dyn BasicValue<'ctx>, here)]);
        }
        Ok(label.block)
    }

    fn branch_table(
        &mut self,
        index: IntValue<'ctx>,
        targets: &BrTable<'_>,
    ) -> Result<(), CompileError> {
        // A block between the switch and each label keeps one edge, so one phi entry, per label.
        let mut stops: std::collections::HashMap<u32, BasicBlock<'ctx>> = Default::default();
        let mut stop = |func: &mut Self, depth: u32| match stops.get(&depth) {
            Some(block) => Ok(*block),
            None => {
                let block = func.block();
                stops.insert(depth, block);
                func.at(block, |func| func.branch(depth))?;
                Ok::<_, CompileError>(block)
            }
        };
        let default = stop(self, targets.default())?;
        let mut cases = Vec::new();
        for (number, depth) in targets.targets().enumerate() {
            let depth = depth?;
            if depth != targets.default() {
                let number = self.env.types.i32.const_int(number as u64, false);
                cases.push((number, stop(self, depth)?));
            }
        }
        self.b.build_switch(index, default, &cases)?;
        Ok(())
    }

    fn frame(&mut self, depth: u32) -> &mut Frame<'ctx> {
        let place = self.frames.len() - 1 - depth as usize;
        &mut self.frames[place]
    }

    /// A frame's label, made if there is none yet.
    fn label(&mut self, depth: u32) -> Result<Label<'ctx>, CompileError> {
        if let Some(label) = &self.frame(depth).label {
            return Ok(label.clone());
        }
        let types = self.frame(depth).label_types.clone();
        let block = self.block();
        let values = self.at(block, |func| {
            let phi = |ty: &ValType| func.b.build_phi(func.env.value_type(*ty), "");
            types.iter().map(phi).collect::<Result<Vec<_>, _>>()
        })?;
        let label = Label { block, values };
        self.frame(depth).label = Some(label.clone());
        Ok(label)
    }

    fn build_return(&mut self) -> Result<(), CompileError> {
        if let Some(results) = self.results {
            return self.return_through(results);
        }
        self.build_plain_return()
    }

    /// Returns what is on the operand stack.
    pub(super) fn build_plain_return(&mut self) -> Result<(), CompileError> {
        match &self.stack[..] {
            [] => self.b.build_return(None)?,
            [one] => self.b.build_return(Some(one))?,
            several => {
                let registers = several.iter().map(|value| self.env.in_register(&self.b, *value));
                self.b.build_aggregate_return(&registers.collect::<Result<Vec<_>, _>>()?)?
            }
        };
        Ok(())
    }

    fn block_types(&self, ty: BlockType) -> Result<(Vec<ValType>, Vec<ValType>), CompileError> {
        Ok(match ty {
            BlockType::Empty => (Vec::new(), Vec::new()),
            BlockType::Type(ty) => (Vec::new(), vec![val_type(ty)?]),
            BlockType::FuncType(index) => {
                let ty = &self.env.module.types[index as usize];
                (ty.params.clone(), ty.results.clone())
            }
        })
    }
}
