//! Float lanes: arithmetic, comparisons, conversions.

use inkwell::FloatPredicate;
use inkwell::types::BasicTypeEnum;
use inkwell::values::VectorValue;

use super::{Func, Half, Shape, Sign};
use crate::error::CompileError;

/// What is done with two vectors, lane by lane.
#[derive(Clone, Copy)]
pub(super) enum FloatOp {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    /// The second if it is less, else the first, whatever they are.
    PseudoMin,
    /// The second if it is greater, else the first.
    PseudoMax,
    /// All ones where it holds, else zero.
    Compare(FloatPredicate),
}

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn unary_lanes(&mut self, shape: Shape, name: &str) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let value = self.call_lanes(name, &[value])?;
        self.push_vector(value)
    }

    pub(super) fn demote_lanes(&mut self) -> Result<(), CompileError> {
        let value = self.pop_vector(Shape::F64x2)?;
        let narrow = self.lanes_type(Shape::F32x4, 2);
        let value = self.b.build_float_trunc(value, narrow, "")?;
        let value = self.concat(value, narrow.const_zero())?;
        self.push_vector(value)?;
        Ok(())
    }

    pub(super) fn promote_lanes(&mut self) -> Result<(), CompileError> {
        let value = self.pop_vector(Shape::F32x4)?;
        let value = self.half(value, Half::Low)?;
        let value = self.b.build_float_ext(value, self.shape_type(Shape::F64x2), "")?;
        self.push_vector(value)?;
        Ok(())
    }

    pub(super) fn negate_float(&mut self, shape: Shape) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let value = self.b.build_float_neg(value, "")?;
        self.push_vector(value)
    }

    pub(super) fn float_lanes(
        &mut self,
        shape: Shape,
        binary: FloatOp,
    ) -> Result<(), CompileError> {
        use FloatPredicate::{OGT, OLT};
        let (x, y) = self.pop_vectors(shape)?;
        let value = match binary {
            FloatOp::Add => self.b.build_float_add(x, y, "")?,
            FloatOp::Sub => self.b.build_float_sub(x, y, "")?,
            FloatOp::Mul => self.b.build_float_mul(x, y, "")?,
            FloatOp::Div => self.b.build_float_div(x, y, "")?,
            FloatOp::Min => self.extreme_lanes(shape, OLT, x, y)?,
            FloatOp::Max => self.extreme_lanes(shape, OGT, x, y)?,
            FloatOp::PseudoMin => self.pick(OLT, y, x)?,
            FloatOp::PseudoMax => self.pick(OGT, y, x)?,
            FloatOp::Compare(predicate) => {
                let holds = self.b.build_float_compare(predicate, x, y, "")?;
                let lanes = self.integers_like(shape);
                self.b.build_int_s_extend(holds, lanes, "")?
            }
        };
        self.push_vector(value)
    }

    fn integers_like(&self, shape: Shape) -> inkwell::types::VectorType<'ctx> {
        let integers = if shape == Shape::F32x4 { Shape::I32x4 } else { Shape::I64x2 };
        self.shape_type(integers)
    }

    /// The first where it is better, else the second.
    fn pick(
        &self,
        better: FloatPredicate,
        x: VectorValue<'ctx>,
        y: VectorValue<'ctx>,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let first = self.b.build_float_compare(better, x, y, "")?;
        Ok(self.b.build_select(first, x, y, "")?.into_vector_value())
    }

    /// `min` or `max`, in the same way as for scalars, see [`super::super::numeric`].
    fn extreme_lanes(
        &self,
        shape: Shape,
        better: FloatPredicate,
        x: VectorValue<'ctx>,
        y: VectorValue<'ctx>,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let bits = self.integers_like(shape);
        let one = self.cast(self.pick(better, x, y)?, bits)?;
        let other = self.cast(self.pick(better, y, x)?, bits)?;
        let joined = match better {
            FloatPredicate::OLT => self.b.build_or(one, other, "")?,
            _ => self.b.build_and(one, other, "")?,
        };
        let joined = self.cast(joined, x.get_type())?;
        let nan = self.b.build_float_add(x, y, "")?;
        let unordered = self.b.build_float_compare(FloatPredicate::UNO, x, y, "")?;
        Ok(self.b.build_select(unordered, nan, joined, "")?.into_vector_value())
    }

    /// Floats to the nearest integer that fits, NaN to 0; missing lanes are 0.
    pub(super) fn truncate_lanes(&mut self, from: Shape, sign: Sign) -> Result<(), CompileError> {
        let value = self.pop_vector(from)?;
        let to = self.lanes_type(Shape::I32x4, from.lanes());
        let name = match sign {
            Sign::Signed => "llvm.fptosi.sat",
            Sign::Unsigned => "llvm.fptoui.sat",
        };
        let types: [BasicTypeEnum<'ctx>; 2] = [to.into(), value.get_type().into()];
        let mut value = self.intrinsic(name, &types, &[value.into()])?.into_vector_value();
        if from == Shape::F64x2 {
            value = self.concat(value, to.const_zero())?;
        }
        self.push_vector(value)
    }

    /// As many of the first integers as there are floats.
    pub(super) fn lanes_to_float(&mut self, to: Shape, sign: Sign) -> Result<(), CompileError> {
        let mut value = self.pop_vector(Shape::I32x4)?;
        if to == Shape::F64x2 {
            value = self.half(value, Half::Low)?;
        }
        let ty = self.shape_type(to);
        let value = match sign {
            Sign::Signed => self.b.build_signed_int_to_float(value, ty, "")?,
            Sign::Unsigned => self.b.build_unsigned_int_to_float(value, ty, "")?,
        };
        self.push_vector(value)
    }

    /// `x * y + z`, or `-(x * y) + z`, rounded twice as separate instructions are.
    pub(super) fn multiply_add(&mut self, shape: Shape, negate: bool) -> Result<(), CompileError> {
        let z = self.pop_vector(shape)?;
        let (x, y) = self.pop_vectors(shape)?;
        let x = if negate { self.b.build_float_neg(x, "")? } else { x };
        let product = self.b.build_float_mul(x, y, "")?;
        let value = self.b.build_float_add(product, z, "")?;
        self.push_vector(value)
    }

    /// `min` or `max` of the topmost two vectors.
    pub(super) fn relaxed_extreme(
        &mut self,
        shape: Shape,
        better: FloatPredicate,
    ) -> Result<(), CompileError> {
        let (x, y) = self.pop_vectors(shape)?;
        let value = self.extreme_lanes(shape, better, x, y)?;
        self.push_vector(value)
    }
}
