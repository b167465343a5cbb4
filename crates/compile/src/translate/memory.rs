//! Linear memory: every load and store of a guest goes through this file, and **isolation rests on
//! it**. Nothing else computes an address from a guest's number.
//!
//! An address is `base + zext(i32) + offset`, a sum of 33 bits, computed in 64 bits so that it
//! never wraps. What keeps it inside depends on the mode:
//!
//! - `guard`: nothing in the code; the runtime reserves [`awsm_abi::GUARD_RESERVE_BYTES`], and what
//!   misses the memory hits inaccessible pages. Therefore a load is never without effect: one that
//!   LLVM would find dead must stay, see [`crate::faithful::keep`].
//! - `checked`: a comparison with the memory's current size before each access, see
//!   [`super::check`].
//! - `none`: as `guard`, but the runtime reserves nothing; the loader refuses such a module.
//!
//! Memories with 64-bit addresses, or pages of another size than the usual, are compared in every
//! mode.
//!
//! `memory.copy` and `memory.fill` can span more than the guard and are checked in every mode.
//! Nothing is promised to LLVM about alignment, or about where a pointer lies.

use std::mem::offset_of;

use awsm_abi::Isolation;
use awsm_abi::builtin::Builtin;
use awsm_abi::context::Memory;
use awsm_abi::trap::TrapKind;
use inkwell::IntPredicate;
use inkwell::intrinsics::Intrinsic;
use inkwell::types::{BasicType, BasicTypeEnum, IntType};
use inkwell::values::{BasicValueEnum, IntValue, PointerValue};
use wasmparser::{MemArg, MemArgTarget};

use super::function::Func;
use super::numeric::Sign;
use crate::error::CompileError;
use crate::ir::alias::{self, refused};
use crate::ir::llvm;

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn store_whole(&mut self, memarg: MemArg) -> Result<(), CompileError> {
        let value = self.pop();
        self.store(memarg, value)?;
        Ok(())
    }

    /// Where the guest wants to read or write `bytes` bytes. Pops the address.
    pub(super) fn place(
        &mut self,
        memarg: MemArg,
        bytes: u64,
    ) -> Result<PointerValue<'ctx>, CompileError> {
        let (i8, i64) = (self.env.types.i8, self.env.types.i64);
        let MemArgTarget::Memory(memory) = memarg.target else {
            return Err(refused("an access to an array"));
        };
        let mut address = self.pop_int();
        if self.env.hides_addresses {
            address = llvm::hide(&self.b, self.env.context, address)?;
        }
        let address = self.b.build_int_z_extend(address, i64, "")?;
        let ty = self.env.module.memories[memory as usize];
        if self.env.isolation == Isolation::Checked || ty.is_compared() {
            // An offset that is too large for the sum lies outside whatever the address.
            let distance = i64.const_int(memarg.offset.saturating_add(bytes), false);
            let end = self.sum(ty.wide, address, distance)?;
            match self.env.check {
                Some(check) if memory == 0 && !ty.is_compared() => {
                    self.b.build_call(check, &[self.ctx.into(), end.into()], "")?;
                }
                _ => self.check_end(memory, end)?,
            }
        }
        let base = self.memory_base(memory)?;
        let place = llvm::offset(&self.b, i8, base, address)?;
        match memarg.offset {
            0 => Ok(place),
            offset => llvm::offset(&self.b, i8, place, i64.const_int(offset, false)),
        }
    }

    /// A sum of addresses that does not wrap: 32-bit ones leave room for it, 64-bit ones end at the
    /// largest number, which no memory reaches.
    fn sum(
        &mut self,
        wide: bool,
        address: IntValue<'ctx>,
        distance: IntValue<'ctx>,
    ) -> Result<IntValue<'ctx>, CompileError> {
        if !wide {
            return Ok(self.b.build_int_add(address, distance, "")?);
        }
        let args = [address.into(), distance.into()];
        let sum = self.intrinsic("llvm.uadd.sat", &[self.env.types.i64.into()], &args)?;
        Ok(sum.into_int_value())
    }

    /// Traps unless `end`, a sum that did not wrap, is within the memory.
    fn check_end(&mut self, memory: u32, end: IntValue<'ctx>) -> Result<(), CompileError> {
        let bytes = self.memory_bytes(memory)?;
        let beyond = self.b.build_int_compare(IntPredicate::UGT, end, bytes, "")?;
        self.trap_if(beyond, TrapKind::MemoryOutOfBounds)
    }

    /// A memory's current size in bytes.
    pub(crate) fn memory_bytes(&self, memory: u32) -> Result<IntValue<'ctx>, CompileError> {
        let field = self.above(self.memory_record(memory)?, offset_of!(Memory, bytes))?;
        Ok(self.load(self.env.types.i64, field, self.env.alias.memory_size)?.into_int_value())
    }

    /// Loads from linear memory. Pops the address.
    pub(crate) fn load_linear(
        &mut self,
        memarg: MemArg,
        ty: BasicTypeEnum<'ctx>,
    ) -> Result<BasicValueEnum<'ctx>, CompileError> {
        let place = self.place(memarg, value_bytes(ty))?;
        self.load_at(place, ty)
    }

    /// Loads from a place in linear memory.
    pub(super) fn load_at(
        &mut self,
        place: PointerValue<'ctx>,
        ty: BasicTypeEnum<'ctx>,
    ) -> Result<BasicValueEnum<'ctx>, CompileError> {
        let value = self.b.build_load(ty, place, "")?;
        let load = alias::instruction(value)?;
        load.set_alignment(1).map_err(refused)?;
        self.env.alias.set(load, self.env.alias.linear)?;
        Ok(value)
    }

    pub(super) fn load_whole(
        &mut self,
        memarg: MemArg,
        ty: impl BasicType<'ctx>,
    ) -> Result<(), CompileError> {
        let ty = ty.as_basic_type_enum();
        let value = self.load_linear(memarg, ty)?;
        self.push(value);
        Ok(())
    }

    pub(super) fn load_part(
        &mut self,
        memarg: MemArg,
        part: IntType<'ctx>,
        whole: IntType<'ctx>,
        sign: Sign,
    ) -> Result<(), CompileError> {
        let value = self.load_linear(memarg, part.into())?.into_int_value();
        let value = match sign {
            Sign::Signed => self.b.build_int_s_extend(value, whole, "")?,
            Sign::Unsigned => self.b.build_int_z_extend(value, whole, "")?,
        };
        self.push(value);
        Ok(())
    }

    /// Stores to linear memory. Pops the address.
    pub(crate) fn store(
        &mut self,
        memarg: MemArg,
        value: BasicValueEnum<'ctx>,
    ) -> Result<(), CompileError> {
        let place = self.place(memarg, value_bytes(value.get_type()))?;
        self.store_at(place, value)
    }

    /// Stores to a place in linear memory.
    pub(super) fn store_at(
        &mut self,
        place: PointerValue<'ctx>,
        value: BasicValueEnum<'ctx>,
    ) -> Result<(), CompileError> {
        let store = self.b.build_store(place, value)?;
        store.set_alignment(1).map_err(refused)?;
        self.env.alias.set(store, self.env.alias.linear)
    }

    pub(super) fn store_part(
        &mut self,
        memarg: MemArg,
        part: IntType<'ctx>,
    ) -> Result<(), CompileError> {
        let value = self.pop_int();
        let value = self.b.build_int_truncate(value, part, "")?;
        self.store(memarg, value.into())
    }

    pub(super) fn memory_size(&mut self, memory: u32) -> Result<(), CompileError> {
        let ty = self.env.module.memories[memory as usize];
        let bytes = self.memory_bytes(memory)?;
        let shift = self.env.types.i64.const_int(ty.page_bytes_log2.into(), false);
        let pages = self.b.build_right_shift(bytes, shift, false, "")?;
        self.push_number(ty.wide, pages)
    }

    pub(super) fn memory_grow(&mut self, memory: u32) -> Result<(), CompileError> {
        let t = self.env.types;
        let delta = self.pop_wide()?;
        let args = [t.i32.const_int(memory.into(), false).into(), delta.into()];
        let old = self.call_builtin(Builtin::memory_grow(), &args)?;
        let old = old.expect("it answers a size").into_int_value();
        self.push_number(self.env.module.memories[memory as usize].wide, old)
    }

    /// Pops the start of a range and checks that `len` bytes from there are inside.
    fn range(&mut self, memory: u32, len: IntValue<'ctx>) -> Result<IntValue<'ctx>, CompileError> {
        let start = self.pop_wide()?;
        let end = self.sum(self.env.module.memories[memory as usize].wide, start, len)?;
        self.check_end(memory, end)?;
        Ok(start)
    }

    pub(super) fn memory_fill(&mut self, memory: u32) -> Result<(), CompileError> {
        let len = self.pop_wide()?;
        let byte = self.pop_int();
        let byte = self.b.build_int_truncate(byte, self.env.types.i8, "")?;
        let start = self.range(memory, len)?;
        let base = self.memory_base(memory)?;
        let start = llvm::offset(&self.b, self.env.types.i8, base, start)?;
        self.bulk("llvm.memset", &[start.into(), byte.into(), len.into()])
    }

    pub(super) fn memory_copy(&mut self, to: u32, from: u32) -> Result<(), CompileError> {
        let len = self.pop_wide()?;
        let source = self.range(from, len)?;
        let target = self.range(to, len)?;
        let source = llvm::offset(&self.b, self.env.types.i8, self.memory_base(from)?, source)?;
        let target = llvm::offset(&self.b, self.env.types.i8, self.memory_base(to)?, target)?;
        self.bulk("llvm.memmove", &[target.into(), source.into(), len.into()])
    }

    /// Calls one of LLVM's operations on whole ranges of linear memory.
    fn bulk(&mut self, name: &str, args: &[BasicValueEnum<'ctx>; 3]) -> Result<(), CompileError> {
        let intrinsic = Intrinsic::find(name).ok_or_else(|| refused(name))?;
        let mut types = Vec::from(args.map(|arg| arg.get_type()));
        types.retain(|ty| !ty.is_int_type() || *ty == self.env.types.i64.into());
        let function =
            intrinsic.get_declaration(self.env.llvm, &types).ok_or_else(|| refused(name))?;
        let mut args = Vec::from(args.map(Into::into));
        args.push(self.env.types.i1.const_zero().into());
        let call = self.b.build_call(function, &args, "")?;
        let call = call.try_as_basic_value().instruction().ok_or_else(|| refused(name))?;
        self.env.alias.set(call, self.env.alias.linear)
    }

    pub(super) fn memory_init(&mut self, segment: u32, memory: u32) -> Result<(), CompileError> {
        let i32 = self.env.types.i32;
        let (len, source, target) = (self.pop_int(), self.pop_int(), self.pop_wide()?);
        let args = [
            i32.const_int(memory.into(), false).into(),
            i32.const_int(segment.into(), false).into(),
            target.into(),
            source.into(),
            len.into(),
        ];
        self.call_fallible(Builtin::memory_init(), &args)
    }

    pub(super) fn data_drop(&mut self, segment: u32) -> Result<(), CompileError> {
        let segment = self.env.types.i32.const_int(segment.into(), false);
        self.call_builtin(Builtin::data_drop(), &[segment.into()])?;
        Ok(())
    }
}

/// Bytes that a number takes in linear memory.
fn value_bytes(ty: BasicTypeEnum<'_>) -> u64 {
    match ty {
        BasicTypeEnum::IntType(ty) => u64::from(ty.get_bit_width() / 8),
        BasicTypeEnum::FloatType(ty) => u64::from(ty.get_bit_width() / 8),
        BasicTypeEnum::VectorType(ty) => {
            value_bytes(ty.get_element_type()) * u64::from(ty.get_size())
        }
        other => unreachable!("linear memory holds no {other}"),
    }
}
