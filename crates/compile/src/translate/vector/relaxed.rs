//! Relaxed instructions, each with one result on every processor: that of the strict instruction of
//! the same purpose, which the specification allows for all of them. A multiplication with addition
//! rounds twice. So a guest computes the same wherever it runs, and nothing is slower than the
//! instructions that it could have used instead.

use inkwell::FloatPredicate::{OGT, OLT};
use wasmparser::Operator;

use super::{Func, Shape, Sign};
use crate::error::CompileError;

impl Func<'_, '_> {
    pub(super) fn vector_relaxed(&mut self, operator: &Operator<'_>) -> Result<bool, CompileError> {
        match operator {
            Operator::I8x16RelaxedSwizzle => self.swizzle()?,
            Operator::I32x4RelaxedTruncF32x4S => self.truncate_lanes(Shape::F32x4, Sign::Signed)?,
            Operator::I32x4RelaxedTruncF32x4U => {
                self.truncate_lanes(Shape::F32x4, Sign::Unsigned)?;
            }
            Operator::I32x4RelaxedTruncF64x2SZero => {
                self.truncate_lanes(Shape::F64x2, Sign::Signed)?;
            }
            Operator::I32x4RelaxedTruncF64x2UZero => {
                self.truncate_lanes(Shape::F64x2, Sign::Unsigned)?;
            }
            Operator::F32x4RelaxedMadd => self.multiply_add(Shape::F32x4, false)?,
            Operator::F32x4RelaxedNmadd => self.multiply_add(Shape::F32x4, true)?,
            Operator::F64x2RelaxedMadd => self.multiply_add(Shape::F64x2, false)?,
            Operator::F64x2RelaxedNmadd => self.multiply_add(Shape::F64x2, true)?,
            Operator::I8x16RelaxedLaneselect
            | Operator::I16x8RelaxedLaneselect
            | Operator::I32x4RelaxedLaneselect
            | Operator::I64x2RelaxedLaneselect => self.bit_select()?,
            Operator::F32x4RelaxedMin => self.relaxed_extreme(Shape::F32x4, OLT)?,
            Operator::F32x4RelaxedMax => self.relaxed_extreme(Shape::F32x4, OGT)?,
            Operator::F64x2RelaxedMin => self.relaxed_extreme(Shape::F64x2, OLT)?,
            Operator::F64x2RelaxedMax => self.relaxed_extreme(Shape::F64x2, OGT)?,
            Operator::I16x8RelaxedQ15mulrS => self.multiply_q15()?,
            Operator::I16x8RelaxedDotI8x16I7x16S => {
                self.dot_bytes()?;
            }
            Operator::I32x4RelaxedDotI8x16I7x16AddS => {
                let sum = self.pop_vector(Shape::I32x4)?;
                self.dot_bytes()?;
                self.add_pairs(Shape::I32x4, Sign::Signed)?;
                let products = self.pop_vector(Shape::I32x4)?;
                let value = self.b.build_int_add(products, sum, "")?;
                self.push_vector(value)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Sums of products of neighbouring bytes, both signed; what 16 bits do not hold wraps.
    fn dot_bytes(&mut self) -> Result<(), CompileError> {
        let (x, y) = self.pop_vectors(Shape::I8x16)?;
        let wide = self.lanes_type(Shape::I16x8, Shape::I8x16.lanes());
        let (x, y) = (self.widen(x, wide, Sign::Signed)?, self.widen(y, wide, Sign::Signed)?);
        let products = self.b.build_int_mul(x, y, "")?;
        let value = self.add_neighbours(products)?;
        self.push_vector(value)
    }
}
