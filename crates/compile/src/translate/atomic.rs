//! Atomic instructions. No memory is shared, and nobody sees what a guest is in the middle of: they
//! are plain accesses that trap where their addresses are not aligned.
//!
//! Source: the threads proposal, of which shared memories are not here. Nobody could wake who waits
//! for another's store, so `memory.atomic.wait` traps, and `memory.atomic.notify` wakes nobody.

use awsm_abi::trap::TrapKind;
use inkwell::IntPredicate;
use inkwell::types::IntType;
use inkwell::values::{IntValue, PointerValue};
use wasmparser::MemArg;

use super::function::Func;
use super::numeric::Sign::Unsigned;
use crate::error::CompileError;

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn atomic_load(
        &mut self,
        memarg: MemArg,
        whole: IntType<'ctx>,
    ) -> Result<(), CompileError> {
        self.check_alignment(memarg)?;
        self.load_part(memarg, self.part(memarg), whole, Unsigned)
    }

    pub(super) fn atomic_store(&mut self, memarg: MemArg) -> Result<(), CompileError> {
        let value = self.pop_int();
        self.check_alignment(memarg)?;
        let value = self.b.build_int_truncate(value, self.part(memarg), "")?;
        self.store(memarg, value.into())
    }

    /// Replaces what lies there by what `new` makes of it and of the operand. Pushes the old.
    pub(super) fn atomic_update(
        &mut self,
        memarg: MemArg,
        new: impl FnOnce(&Self, IntValue<'ctx>, IntValue<'ctx>) -> Result<IntValue<'ctx>, CompileError>,
    ) -> Result<(), CompileError> {
        let operand = self.pop_int();
        let whole = operand.get_type();
        let operand = self.b.build_int_truncate(operand, self.part(memarg), "")?;
        let (place, old) = self.atomic_old(memarg)?;
        let new = new(self, old, operand)?;
        self.store_at(place, new.into())?;
        self.push_unsigned(old, whole)
    }

    /// Replaces what lies there if it is what is expected, all of whose bits count. Pushes the old.
    pub(super) fn atomic_compare_exchange(&mut self, memarg: MemArg) -> Result<(), CompileError> {
        let (new, expected) = (self.pop_int(), self.pop_int());
        let whole = new.get_type();
        let new = self.b.build_int_truncate(new, self.part(memarg), "")?;
        let (place, old) = self.atomic_old(memarg)?;
        let found = self.b.build_int_z_extend(old, whole, "")?;
        let equal = self.b.build_int_compare(IntPredicate::EQ, found, expected, "")?;
        let kept = self.b.build_select(equal, new, old, "")?;
        self.store_at(place, kept)?;
        self.push(found);
        Ok(())
    }

    pub(super) fn atomic_notify(&mut self, memarg: MemArg) -> Result<(), CompileError> {
        let _most = self.pop_int();
        // The address must be one.
        self.atomic_old(memarg)?;
        self.push(self.env.types.i32.const_zero());
        Ok(())
    }

    /// What lies there, and where that is. Pops the address.
    fn atomic_old(
        &mut self,
        memarg: MemArg,
    ) -> Result<(PointerValue<'ctx>, IntValue<'ctx>), CompileError> {
        self.check_alignment(memarg)?;
        let place = self.place(memarg, 1 << memarg.max_align)?;
        let old = self.load_at(place, self.part(memarg).into())?;
        Ok((place, old.into_int_value()))
    }

    fn push_unsigned(
        &mut self,
        value: IntValue<'ctx>,
        whole: IntType<'ctx>,
    ) -> Result<(), CompileError> {
        let value = self.b.build_int_z_extend(value, whole, "")?;
        self.push(value);
        Ok(())
    }

    /// Traps unless the address, which is on top of the operands, is a multiple of the bytes
    /// accessed, together with the offset.
    fn check_alignment(&mut self, memarg: MemArg) -> Result<(), CompileError> {
        let mask = (1 << memarg.max_align) - 1;
        let address = self.stack.last().expect("a validated body").into_int_value();
        let ty = address.get_type();
        // The lowest bits of a sum are the same where it wraps.
        let offset = ty.const_int(memarg.offset & mask, false);
        let sum = self.b.build_int_add(address, offset, "")?;
        let low = self.b.build_and(sum, ty.const_int(mask, false), "")?;
        let unaligned = self.b.build_int_compare(IntPredicate::NE, low, ty.const_zero(), "")?;
        self.trap_if(unaligned, TrapKind::UnalignedAtomic)
    }

    /// The type of what is accessed, whose size is the alignment that validation asks for.
    fn part(&self, memarg: MemArg) -> IntType<'ctx> {
        let t = self.env.types;
        match memarg.max_align {
            0 => t.i8,
            1 => t.i16,
            2 => t.i32,
            _ => t.i64,
        }
    }
}
