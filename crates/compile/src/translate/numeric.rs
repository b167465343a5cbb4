//! Numbers: constants, arithmetic, comparisons, conversions.
//!
//! What LLVM leaves undefined is excluded before each instruction that could meet it: divisors are
//! checked, shift counts masked, floats checked against the range of the integer they become. NaNs
//! follow the specification: what must be quiet is made by an arithmetic instruction, what must
//! keep its bits (`neg`, `abs`, `copysign`, `reinterpret`) is bit arithmetic in LLVM, too. Where
//! LLVM would simplify arithmetic so that a signalling NaN survives, [`crate::faithful::nan`]
//! stands in the way.

use awsm_abi::trap::TrapKind;
use inkwell::intrinsics::Intrinsic;
use inkwell::types::{BasicTypeEnum, FloatType, IntType};
use inkwell::values::{BasicMetadataValueEnum, BasicValueEnum, FloatValue, IntValue};
use inkwell::{FloatPredicate, IntPredicate};

use super::function::Func;
use crate::error::CompileError;
use crate::ir::alias::refused;

/// A binary instruction of the builder.
type IntBinary<'ctx> =
    fn(&Func<'_, 'ctx>, IntValue<'ctx>, IntValue<'ctx>) -> Result<IntValue<'ctx>, CompileError>;

/// The same for floats.
type FloatBinary<'ctx> = fn(
    &Func<'_, 'ctx>,
    FloatValue<'ctx>,
    FloatValue<'ctx>,
) -> Result<FloatValue<'ctx>, CompileError>;

/// Is an integer signed?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Signed,
    Unsigned,
}

/// The smaller or the larger of two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extreme {
    Min,
    Max,
}

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn int_const(&mut self, ty: IntType<'ctx>, value: u64) -> Result<(), CompileError> {
        self.push(ty.const_int(value, false));
        Ok(())
    }

    /// Through the bits, because LLVM's constants from numbers change NaNs.
    pub(super) fn float_const(
        &mut self,
        ty: FloatType<'ctx>,
        bits_type: IntType<'ctx>,
        bits: u64,
    ) -> Result<(), CompileError> {
        let value = self.b.build_bit_cast(bits_type.const_int(bits, false), ty, "")?;
        self.push(value);
        Ok(())
    }

    pub(super) fn equals_zero(&mut self) -> Result<(), CompileError> {
        let value = self.pop_int();
        let zero = value.get_type().const_zero();
        let condition = self.b.build_int_compare(IntPredicate::EQ, value, zero, "")?;
        self.push_condition(condition)?;
        Ok(())
    }

    pub(super) fn div_unsigned(&mut self) -> Result<(), CompileError> {
        let (a, b) = self.pop_dividend_and_divisor(TrapKind::IntegerDivideByZero)?;
        let value = self.b.build_int_unsigned_div(a, b, "")?;
        self.push(value);
        Ok(())
    }

    pub(super) fn rem_unsigned(&mut self) -> Result<(), CompileError> {
        let (a, b) = self.pop_dividend_and_divisor(TrapKind::IntegerDivideByZero)?;
        let value = self.b.build_int_unsigned_rem(a, b, "")?;
        self.push(value);
        Ok(())
    }

    pub(super) fn wrap(&mut self) -> Result<(), CompileError> {
        let t = self.env.types;
        let value = self.pop_int();
        let value = self.b.build_int_truncate(value, t.i32, "")?;
        self.push(value);
        Ok(())
    }

    pub(super) fn negate_number(&mut self) -> Result<(), CompileError> {
        let value = self.pop_float();
        let value = self.b.build_float_neg(value, "")?;
        self.push(value);
        Ok(())
    }

    pub(super) fn copysign(&mut self) -> Result<(), CompileError> {
        let (a, b) = self.pop_floats();
        let args = [a.into(), b.into()];
        let value = self.intrinsic("llvm.copysign", &[a.get_type().into()], &args)?;
        self.push(value);
        Ok(())
    }

    pub(super) fn demote(&mut self) -> Result<(), CompileError> {
        let t = self.env.types;
        let value = self.pop_float();
        let value = self.b.build_float_trunc(value, t.f32, "")?;
        self.push(value);
        Ok(())
    }

    pub(super) fn promote(&mut self) -> Result<(), CompileError> {
        let t = self.env.types;
        let value = self.pop_float();
        let value = self.b.build_float_ext(value, t.f64, "")?;
        self.push(value);
        Ok(())
    }

    /// Pops the halves of an integer of 128 bits, the low one first pushed.
    fn pop_halves(&mut self) -> Result<IntValue<'ctx>, CompileError> {
        let i128 = self.env.context.i128_type();
        let (low, high) = self.pop_ints();
        let high = self.b.build_int_z_extend(high, i128, "")?;
        let high = self.b.build_left_shift(high, i128.const_int(64, false), "")?;
        let low = self.b.build_int_z_extend(low, i128, "")?;
        Ok(self.b.build_or(high, low, "")?)
    }

    fn push_halves(&mut self, value: IntValue<'ctx>) -> Result<(), CompileError> {
        let i64 = self.env.types.i64;
        let low = self.b.build_int_truncate(value, i64, "")?;
        self.push(low);
        let half = value.get_type().const_int(64, false);
        let high = self.b.build_right_shift(value, half, false, "")?;
        let high = self.b.build_int_truncate(high, i64, "")?;
        self.push(high);
        Ok(())
    }

    pub(super) fn wide_binary(&mut self, combine: IntBinary<'ctx>) -> Result<(), CompileError> {
        let b = self.pop_halves()?;
        let a = self.pop_halves()?;
        let value = combine(self, a, b)?;
        self.push_halves(value)
    }

    pub(super) fn multiply_wide(&mut self, sign: Sign) -> Result<(), CompileError> {
        let i128 = self.env.context.i128_type();
        self.change_both(|func| func.extend(i128, sign))?;
        let (a, b) = self.pop_ints();
        let value = self.b.build_int_mul(a, b, "")?;
        self.push_halves(value)
    }

    /// Changes each of the two topmost operands.
    fn change_both(
        &mut self,
        change: impl Fn(&mut Self) -> Result<(), CompileError>,
    ) -> Result<(), CompileError> {
        let top = self.pop();
        change(self)?;
        self.push(top);
        change(self)
    }

    fn pop_ints(&mut self) -> (IntValue<'ctx>, IntValue<'ctx>) {
        let b = self.pop_int();
        (self.pop_int(), b)
    }

    fn pop_floats(&mut self) -> (FloatValue<'ctx>, FloatValue<'ctx>) {
        let b = self.pop_float();
        (self.pop_float(), b)
    }

    pub(super) fn float_binary(&mut self, build: FloatBinary<'ctx>) -> Result<(), CompileError> {
        let (a, b) = self.pop_floats();
        let value = build(self, a, b)?;
        self.push(value);
        Ok(())
    }

    pub(super) fn int_binary(&mut self, build: IntBinary<'ctx>) -> Result<(), CompileError> {
        let (a, b) = self.pop_ints();
        let value = build(self, a, b)?;
        self.push(value);
        Ok(())
    }

    pub(super) fn compare_ints(&mut self, predicate: IntPredicate) -> Result<(), CompileError> {
        let (a, b) = self.pop_ints();
        let condition = self.b.build_int_compare(predicate, a, b, "")?;
        self.push_condition(condition)
    }

    pub(super) fn compare_floats(&mut self, predicate: FloatPredicate) -> Result<(), CompileError> {
        let (a, b) = self.pop_floats();
        let condition = self.b.build_float_compare(predicate, a, b, "")?;
        self.push_condition(condition)
    }

    /// Shifts by the count modulo the width.
    pub(super) fn shift(&mut self, build: IntBinary<'ctx>) -> Result<(), CompileError> {
        let (a, count) = self.pop_ints();
        let ty = a.get_type();
        let mask = ty.const_int(u64::from(ty.get_bit_width()) - 1, false);
        let count = self.b.build_and(count, mask, "")?;
        let value = build(self, a, count)?;
        self.push(value);
        Ok(())
    }

    /// Rotates; a funnel shift takes its count modulo the width.
    pub(super) fn rotate(&mut self, funnel: &str) -> Result<(), CompileError> {
        let (a, count) = self.pop_ints();
        let args = [a.into(), a.into(), count.into()];
        let value = self.intrinsic(funnel, &[a.get_type().into()], &args)?;
        self.push(value);
        Ok(())
    }

    fn pop_dividend_and_divisor(
        &mut self,
        zero: TrapKind,
    ) -> Result<(IntValue<'ctx>, IntValue<'ctx>), CompileError> {
        let (a, b) = self.pop_ints();
        let none = b.get_type().const_zero();
        let is_zero = self.b.build_int_compare(IntPredicate::EQ, b, none, "")?;
        self.trap_if(is_zero, zero)?;
        Ok((a, b))
    }

    pub(super) fn div_signed(&mut self) -> Result<(), CompileError> {
        let (a, b) = self.pop_dividend_and_divisor(TrapKind::IntegerDivideByZero)?;
        let ty = a.get_type();
        let least = ty.const_int(1 << (ty.get_bit_width() - 1), false);
        let is_least = self.b.build_int_compare(IntPredicate::EQ, a, least, "")?;
        let minus_one = ty.const_all_ones();
        let is_minus_one = self.b.build_int_compare(IntPredicate::EQ, b, minus_one, "")?;
        let overflow = self.b.build_and(is_least, is_minus_one, "")?;
        self.trap_if(overflow, TrapKind::IntegerOverflow)?;
        let value = self.b.build_int_signed_div(a, b, "")?;
        self.push(value);
        Ok(())
    }

    /// The remainder by -1 is 0, and so is that by 1, which the processor does not fault at.
    pub(super) fn rem_signed(&mut self) -> Result<(), CompileError> {
        let (a, b) = self.pop_dividend_and_divisor(TrapKind::IntegerDivideByZero)?;
        let ty = a.get_type();
        let minus_one = ty.const_all_ones();
        let is_minus_one = self.b.build_int_compare(IntPredicate::EQ, b, minus_one, "")?;
        let one = ty.const_int(1, false);
        let b = self.b.build_select(is_minus_one, one, b, "")?.into_int_value();
        let value = self.b.build_int_signed_rem(a, b, "")?;
        self.push(value);
        Ok(())
    }

    pub(super) fn count(
        &mut self,
        name: &str,
        flag: Option<IntType<'ctx>>,
    ) -> Result<(), CompileError> {
        let value = self.pop_int();
        let flag = flag.map(|ty| ty.const_zero().into());
        let args: Vec<_> = std::iter::once(value.into()).chain(flag).collect();
        let value = self.intrinsic(name, &[value.get_type().into()], &args)?;
        self.push(value);
        Ok(())
    }

    pub(super) fn extend(&mut self, to: IntType<'ctx>, sign: Sign) -> Result<(), CompileError> {
        let value = self.pop_int();
        let value = match sign {
            Sign::Signed => self.b.build_int_s_extend(value, to, "")?,
            Sign::Unsigned => self.b.build_int_z_extend(value, to, "")?,
        };
        self.push(value);
        Ok(())
    }

    /// Sign-extends the low part of an integer to the whole.
    pub(super) fn extend_low(&mut self, part: IntType<'ctx>) -> Result<(), CompileError> {
        let value = self.pop_int();
        let whole = value.get_type();
        let value = self.b.build_int_truncate(value, part, "")?;
        let value = self.b.build_int_s_extend(value, whole, "")?;
        self.push(value);
        Ok(())
    }

    pub(super) fn float_unary(&mut self, name: &str) -> Result<(), CompileError> {
        let value = self.pop_float();
        let value = self.intrinsic(name, &[value.get_type().into()], &[value.into()])?;
        self.push(value);
        Ok(())
    }

    /// `min` and `max`: a NaN if there is one, and -0 is less than 0.
    ///
    /// LLVM's `minimum` and `maximum` promise the same except that the NaN is quiet, and x86-64 has
    /// no instruction for them. Of two comparisons the wrong way round, each is one `minsd` or
    /// `maxsd`; they differ only between two zeros, where bit arithmetic decides, and for NaNs,
    /// where a sum makes a quiet one.
    pub(super) fn extreme(&mut self, which: Extreme) -> Result<(), CompileError> {
        let (a, b) = self.pop_floats();
        let ty = a.get_type();
        let bits = self.bits_type(ty);
        let better = match which {
            Extreme::Min => FloatPredicate::OLT,
            Extreme::Max => FloatPredicate::OGT,
        };
        let pick = |a, b| -> Result<IntValue<'ctx>, CompileError> {
            let first = self.b.build_float_compare(better, a, b, "")?;
            let picked = self.b.build_select(first, a, b, "")?;
            Ok(self.b.build_bit_cast(picked, bits, "")?.into_int_value())
        };
        let (one, other) = (pick(a, b)?, pick(b, a)?);
        let joined = match which {
            Extreme::Min => self.b.build_or(one, other, "")?,
            Extreme::Max => self.b.build_and(one, other, "")?,
        };
        let joined = self.b.build_bit_cast(joined, ty, "")?.into_float_value();
        let nan = self.b.build_float_add(a, b, "")?;
        let unordered = self.b.build_float_compare(FloatPredicate::UNO, a, b, "")?;
        let value = self.b.build_select(unordered, nan, joined, "")?;
        self.push(value);
        Ok(())
    }

    fn bits_type(&self, ty: FloatType<'ctx>) -> IntType<'ctx> {
        match ty.get_bit_width() {
            32 => self.env.types.i32,
            _ => self.env.types.i64,
        }
    }

    /// A float to an integer, or a trap. The range is checked first, as both kinds of fault fail
    /// it.
    pub(super) fn truncate(&mut self, to: IntType<'ctx>, sign: Sign) -> Result<(), CompileError> {
        let value = self.pop_float();
        let ty = value.get_type();
        let (low, high) = open_range(ty.get_bit_width(), to.get_bit_width(), sign);
        let (low, high) = (ty.const_float(low), ty.const_float(high));
        let above = self.b.build_float_compare(FloatPredicate::OGT, value, low, "")?;
        let below = self.b.build_float_compare(FloatPredicate::OLT, value, high, "")?;
        let inside = self.b.build_and(above, below, "")?;
        let outside = self.b.build_not(inside, "")?;
        let cold = self.block();
        let overflow = self.trap_block(TrapKind::IntegerOverflow)?;
        let invalid = self.trap_block(TrapKind::InvalidConversion)?;
        self.at(cold, |func| -> Result<(), CompileError> {
            let nan = func.b.build_float_compare(FloatPredicate::UNO, value, value, "")?;
            func.b.build_conditional_branch(nan, invalid, overflow)?;
            Ok(())
        })?;
        self.leave_if(outside, cold)?;
        let value = match sign {
            Sign::Signed => self.b.build_float_to_signed_int(value, to, "")?,
            Sign::Unsigned => self.b.build_float_to_unsigned_int(value, to, "")?,
        };
        self.push(value);
        Ok(())
    }

    pub(super) fn saturate(&mut self, to: IntType<'ctx>, name: &str) -> Result<(), CompileError> {
        let value = self.pop_float();
        let types: [BasicTypeEnum<'ctx>; 2] = [to.into(), value.get_type().into()];
        let value = self.intrinsic(name, &types, &[value.into()])?;
        self.push(value);
        Ok(())
    }

    pub(super) fn convert_to(
        &mut self,
        to: FloatType<'ctx>,
        sign: Sign,
    ) -> Result<(), CompileError> {
        let value = self.pop_int();
        let value = match sign {
            Sign::Signed => self.b.build_signed_int_to_float(value, to, "")?,
            Sign::Unsigned => self.b.build_unsigned_int_to_float(value, to, "")?,
        };
        self.push(value);
        Ok(())
    }

    pub(super) fn reinterpret(&mut self, to: BasicTypeEnum<'ctx>) -> Result<(), CompileError> {
        let value = self.pop();
        let value = self.b.build_bit_cast(value, to, "")?;
        self.push(value);
        Ok(())
    }

    /// Calls one of LLVM's own functions.
    pub(crate) fn intrinsic(
        &mut self,
        name: &str,
        types: &[BasicTypeEnum<'ctx>],
        args: &[BasicMetadataValueEnum<'ctx>],
    ) -> Result<BasicValueEnum<'ctx>, CompileError> {
        let intrinsic = Intrinsic::find(name).ok_or_else(|| refused(name))?;
        let function =
            intrinsic.get_declaration(self.env.llvm, types).ok_or_else(|| refused(name))?;
        let call = self.b.build_call(function, args, "")?;
        call.try_as_basic_value().basic().ok_or_else(|| refused(name))
    }
}

/// The floats, of `float_bits` bits, between which exactly those lie that become an integer of
/// `int_bits` bits by truncation. Both ends are outside.
fn open_range(float_bits: u32, int_bits: u32, sign: Sign) -> (f64, f64) {
    let magnitude_bits = match sign {
        Sign::Signed => int_bits - 1,
        Sign::Unsigned => int_bits,
    };
    let high = (magnitude_bits as f64).exp2();
    let low = match sign {
        Sign::Unsigned => -1.0,
        // Where the float has bits to spare, -(2^31) - 1 is the first that is outside ...
        Sign::Signed if float_bits == 64 && int_bits == 32 => -high - 1.0,
        // ... else it is the float next to the least integer.
        Sign::Signed if float_bits == 64 => (-high).next_down(),
        Sign::Signed => f64::from((-high as f32).next_down()),
    };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::{Sign, open_range};

    #[test]
    fn ranges_end_just_outside() {
        let range = |float, int| open_range(float, int, Sign::Signed);
        assert_eq!(range(64, 32), (-2_147_483_649.0, 2_147_483_648.0));
        assert_eq!(range(32, 32), (-2_147_483_904.0, 2_147_483_648.0));
        assert_eq!(range(64, 64), (-9_223_372_036_854_777_856.0, 9_223_372_036_854_775_808.0));
        assert_eq!(range(32, 64), (-9_223_373_136_366_403_584.0, 9_223_372_036_854_775_808.0));
        assert_eq!(open_range(32, 32, Sign::Unsigned), (-1.0, 4_294_967_296.0));
        assert_eq!(open_range(64, 64, Sign::Unsigned), (-1.0, 18_446_744_073_709_551_616.0));
    }
}
