//! Exceptions: thrown, passed on from call to caller, caught.
//!
//! Nothing is unwound by anyone. An exception under way is a pointer in the runtime's record
//! ([`awsm_abi::context::Exceptions`]): `throw` sets it and goes to the innermost handler of the
//! function, or returns; after each call of what may throw, code looks at it and does the same. All
//! of that is ordinary control flow: it can be preempted anywhere and abandoned at any time, and
//! modules without exceptions have none of it.
//!
//! Roads not taken: unwinding by tables, which needs the host to walk guest frames that it must not
//! trust; handlers registered by `setjmp`, which would cost each `try_table` and keep locals out of
//! registers.

use std::mem::offset_of;

use awsm_abi::builtin::Builtin;
use awsm_abi::context::{Exception, Exceptions, GlobalCell, below};
use awsm_abi::trap::TrapKind;
use inkwell::IntPredicate;
use inkwell::basic_block::BasicBlock;
use inkwell::values::{BasicValueEnum, PointerValue};
use wasmparser::{Catch, TryTable};

use super::control::Kind;
use super::function::Func;
use crate::error::CompileError;
use crate::wasm::module::ValType;

/// What a handler knows of one `catch`.
#[derive(Clone, Copy, Debug)]
struct Clause {
    /// The tag; `None` catches everything.
    tag: Option<u32>,
    /// Is a reference to the exception wanted?
    referenced: bool,
}

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn throw_ref(&mut self) -> Result<(), CompileError> {
        let exception = self.pop().into_pointer_value();
        let null = self.b.build_is_null(exception, "")?;
        self.trap_if(null, TrapKind::NullExceptionReference)?;
        self.set_pending(exception)?;
        self.go_to_handler()?;
        Ok(())
    }

    pub(super) fn enter_try_table(&mut self, table: &TryTable) -> Result<(), CompileError> {
        let kind = Kind::TryTable { catches: table.catches.clone(), handler: None };
        self.enter(kind, table.ty)
    }

    pub(super) fn throw(&mut self, tag: u32) -> Result<(), CompileError> {
        let t = self.env.types;
        let params =
            self.env.module.types[self.env.module.tags[tag as usize] as usize].params.len();
        let place = self.tag(tag)?;
        let count = t.i32.const_int(params as u64, false);
        let new = self.call_builtin(Builtin::exception_new(), &[place.into(), count.into()])?;
        let new = new.expect("it answers an exception").into_pointer_value();
        let null = self.b.build_is_null(new, "")?;
        self.trap_if(null, TrapKind::TooManyExceptions)?;
        let first = self.stack.len() - params;
        let values: Vec<_> = self.stack.drain(first..).collect();
        for (index, value) in values.into_iter().enumerate() {
            let store = self.b.build_store(self.exception_value(new, index)?, value)?;
            store.set_alignment(16).map_err(crate::ir::alias::refused)?;
            self.env.alias.set(store, self.env.alias.exception)?;
        }
        self.set_pending(new)?;
        self.go_to_handler()
    }

    /// Where the value number `index` of an exception is.
    fn exception_value(
        &self,
        exception: PointerValue<'ctx>,
        index: usize,
    ) -> Result<PointerValue<'ctx>, CompileError> {
        self.above(exception, size_of::<Exception>() + index * size_of::<GlobalCell>())
    }

    /// The place that stands for a tag.
    fn tag(&self, tag: u32) -> Result<PointerValue<'ctx>, CompileError> {
        match tag.checked_sub(self.env.module.imported.tags) {
            Some(own) => self.below(self.env.layout.tag(own)),
            None => self.listed(self.env.layout.imported_tags, tag),
        }
    }

    fn pending(&self) -> Result<PointerValue<'ctx>, CompileError> {
        let record = self.below(below::EXCEPTIONS)?;
        let record = self.load_fixed(self.env.types.ptr, record)?.into_pointer_value();
        self.above(record, offset_of!(Exceptions, pending))
    }

    fn load_pending(&self) -> Result<PointerValue<'ctx>, CompileError> {
        let place = self.pending()?;
        Ok(self.load(self.env.types.ptr, place, self.env.alias.pending)?.into_pointer_value())
    }

    fn set_pending(&self, exception: PointerValue<'ctx>) -> Result<(), CompileError> {
        let store = self.b.build_store(self.pending()?, exception)?;
        self.env.alias.set(store, self.env.alias.pending)
    }

    /// Behind a call of something that may throw: goes on only if it did not.
    pub(crate) fn check_thrown(&mut self) -> Result<(), CompileError> {
        if !self.env.module.behaviour.exceptions {
            return Ok(());
        }
        let thrown = self.b.build_is_not_null(self.load_pending()?, "")?;
        let handler = self.handler_below(self.frames.len())?;
        self.leave_if(thrown, handler)
    }

    fn go_to_handler(&mut self) -> Result<(), CompileError> {
        let handler = self.handler_below(self.frames.len())?;
        self.b.build_unconditional_branch(handler)?;
        self.reachable = false;
        Ok(())
    }

    /// Where an exception goes that comes up inside of the frames below number `frames`: to the
    /// innermost of them that handles any, or out of the function.
    fn handler_below(&mut self, frames: usize) -> Result<BasicBlock<'ctx>, CompileError> {
        for frame in (0..frames).rev() {
            match &mut self.frames[frame].kind {
                Kind::TryTable { handler: Some(handler), .. }
                | Kind::LegacyTry { handler: Some(handler) } => return Ok(*handler),
                Kind::TryTable { .. } => return self.try_table_handler(frame),
                Kind::LegacyTry { .. } => {
                    let block = self.block();
                    self.frames[frame].kind = Kind::LegacyTry { handler: Some(block) };
                    return Ok(block);
                }
                _ => {}
            }
        }
        self.way_out()
    }

    /// Returns whatever; the caller looks at the exception first.
    fn way_out(&mut self) -> Result<BasicBlock<'ctx>, CompileError> {
        if let Some(block) = self.way_out {
            return Ok(block);
        }
        let block = self.block();
        self.way_out = Some(block);
        self.at(block, |func| func.return_nothing())?;
        Ok(block)
    }

    /// Returns zeros and null. References in the caller's cells are such as well, so that nothing
    /// that is read back as one is ever another thing.
    fn return_nothing(&mut self) -> Result<(), CompileError> {
        if let Some(results) = self.results {
            let types = self.frames[0].results.clone();
            for (index, ty) in types.into_iter().enumerate() {
                if matches!(ty, ValType::Ref(_)) {
                    let place = self.above(results, index * size_of::<GlobalCell>())?;
                    self.b.build_store(place, self.zero(ty))?;
                }
            }
        }
        match self.function.get_type().get_return_type() {
            Some(ty) => self.b.build_return(Some(&ty.const_zero()))?,
            None => self.b.build_return(None)?,
        };
        Ok(())
    }

    /// The handler of a `try_table`, written when first needed: one comparison for each `catch`.
    fn try_table_handler(&mut self, frame: usize) -> Result<BasicBlock<'ctx>, CompileError> {
        let outer = self.handler_below(frame)?;
        let block = self.block();
        let Kind::TryTable { catches, handler } = &mut self.frames[frame].kind else {
            unreachable!("the caller has looked");
        };
        *handler = Some(block);
        let catches = catches.clone();
        self.at(block, |func| -> Result<(), CompileError> {
            let exception = func.load_pending()?;
            for catch in catches {
                let (clause, label) = clause(catch);
                func.try_clause(exception, clause, frame - 1 - label as usize)?;
            }
            func.b.build_unconditional_branch(outer)?;
            Ok(())
        })?;
        Ok(block)
    }

    /// Branches to the label of frame `target` if the clause catches the exception.
    fn try_clause(
        &mut self,
        exception: PointerValue<'ctx>,
        clause: Clause,
        target: usize,
    ) -> Result<(), CompileError> {
        let next = self.block();
        if let Some(tag) = clause.tag {
            self.match_tag(exception, tag, next)?;
        }
        let values = self.take_values(exception, clause.tag)?;
        if clause.referenced {
            self.mark_referenced(exception)?;
        } else {
            self.call_builtin(Builtin::exception_done(), &[exception.into()])?;
        }
        let height = self.stack.len();
        self.stack.extend(values);
        if clause.referenced {
            self.push(exception);
        }
        let depth = self.frames.len() - 1 - target;
        self.branch(depth as u32)?;
        self.stack.truncate(height);
        self.b.position_at_end(next);
        Ok(())
    }

    /// Goes on only if the exception has this tag.
    fn match_tag(
        &mut self,
        exception: PointerValue<'ctx>,
        tag: u32,
        otherwise: BasicBlock<'ctx>,
    ) -> Result<(), CompileError> {
        let t = self.env.types;
        let found = self.above(exception, offset_of!(Exception, tag))?;
        let found = self.load(t.ptr, found, self.env.alias.exception)?.into_pointer_value();
        let found = self.b.build_ptr_to_int(found, t.i64, "")?;
        let wanted = self.b.build_ptr_to_int(self.tag(tag)?, t.i64, "")?;
        let same = self.b.build_int_compare(IntPredicate::EQ, found, wanted, "")?;
        let matches = self.block();
        self.b.build_conditional_branch(same, matches, otherwise)?;
        self.b.position_at_end(matches);
        Ok(())
    }

    /// The exception is no longer under way: its values.
    fn take_values(
        &mut self,
        exception: PointerValue<'ctx>,
        tag: Option<u32>,
    ) -> Result<Vec<BasicValueEnum<'ctx>>, CompileError> {
        self.set_pending(self.env.types.ptr.const_null())?;
        let Some(tag) = tag else { return Ok(Vec::new()) };
        let module = self.env.module;
        let params = &module.types[module.tags[tag as usize] as usize].params;
        let mut values = Vec::new();
        for (index, ty) in params.iter().enumerate() {
            let place = self.exception_value(exception, index)?;
            values.push(self.load(self.env.value_type(*ty), place, self.env.alias.exception)?);
        }
        Ok(values)
    }

    fn mark_referenced(&self, exception: PointerValue<'ctx>) -> Result<(), CompileError> {
        let place = self.above(exception, offset_of!(Exception, referenced))?;
        let store = self.b.build_store(place, self.env.types.i32.const_int(1, false))?;
        self.env.alias.set(store, self.env.alias.exception)
    }

    /// A `catch` of the legacy encoding: ends what is before it, and begins if the tag fits.
    pub(super) fn legacy_catch(&mut self, tag: Option<u32>) -> Result<(), CompileError> {
        if self.reachable {
            self.branch(0)?;
        }
        let frame = self.frames.last_mut().expect("a validated body");
        let dispatch = match frame.kind {
            Kind::LegacyTry { handler } => handler,
            Kind::LegacyCatch { next, .. } => next,
            _ => unreachable!("a validated body has `catch` only in a `try`"),
        };
        let height = frame.height;
        self.stack.truncate(height);
        self.reachable = dispatch.is_some();
        let Some(dispatch) = dispatch else {
            // Nothing in the body throws.
            let frame = self.frames.last_mut().expect("just seen");
            frame.kind = Kind::LegacyCatch { exception: None, next: None };
            return Ok(());
        };
        self.b.position_at_end(dispatch);
        let exception = self.load_pending()?;
        let next = match tag {
            Some(tag) => {
                let next = self.block();
                self.match_tag(exception, tag, next)?;
                Some(next)
            }
            None => None,
        };
        // `rethrow` may name it until the block ends.
        self.mark_referenced(exception)?;
        let values = self.take_values(exception, tag)?;
        self.stack.extend(values);
        let frame = self.frames.last_mut().expect("just seen");
        frame.kind = Kind::LegacyCatch { exception: Some(exception), next };
        Ok(())
    }

    /// At the end of a legacy `try`: what none of its clauses caught goes on.
    pub(crate) fn end_legacy(&mut self) -> Result<(), CompileError> {
        let frame = self.frames.len() - 1;
        let rest = match self.frames[frame].kind {
            Kind::LegacyTry { handler } => handler,
            Kind::LegacyCatch { next, .. } => next,
            _ => None,
        };
        let Some(rest) = rest else { return Ok(()) };
        let outer = self.handler_below(frame)?;
        self.at(rest, |func| func.b.build_unconditional_branch(outer))?;
        Ok(())
    }

    pub(super) fn rethrow(&mut self, depth: u32) -> Result<(), CompileError> {
        let frame = self.frames.len() - 1 - depth as usize;
        let Kind::LegacyCatch { exception: Some(exception), .. } = self.frames[frame].kind else {
            unreachable!("a validated body, in a place that is reached");
        };
        self.set_pending(exception)?;
        self.go_to_handler()
    }

    /// Ends a legacy `try` whose exceptions go to an outer block's handler.
    pub(super) fn delegate(&mut self, depth: u32) -> Result<(), CompileError> {
        let frame = self.frames.len() - 1;
        if let Kind::LegacyTry { handler: Some(handler) } = self.frames[frame].kind {
            // Depth 0 is the block around; a label that handles nothing passes on outwards.
            let outer = self.handler_below(frame - depth as usize)?;
            self.at(handler, |func| func.b.build_unconditional_branch(outer))?;
        }
        self.frames[frame].kind = Kind::Block;
        self.end()
    }
}

fn clause(catch: Catch) -> (Clause, u32) {
    match catch {
        Catch::One { tag, label } => (Clause { tag: Some(tag), referenced: false }, label),
        Catch::OneRef { tag, label } => (Clause { tag: Some(tag), referenced: true }, label),
        Catch::All { label } => (Clause { tag: None, referenced: false }, label),
        Catch::AllRef { label } => (Clause { tag: None, referenced: true }, label),
    }
}
