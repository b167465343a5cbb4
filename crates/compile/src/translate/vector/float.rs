//! Float lanes: arithmetic, comparisons, conversions.

use inkwell::FloatPredicate;
use inkwell::types::BasicTypeEnum;
use inkwell::values::VectorValue;
use wasmparser::Operator;

use super::{Func, Half, Shape, Sign};
use crate::error::CompileError;

/// What is done with two vectors, lane by lane.
#[derive(Clone, Copy)]
enum Binary {
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
    pub(super) fn vector_float(&mut self, operator: &Operator<'_>) -> Result<bool, CompileError> {
        if let Some((shape, name)) = unary(operator) {
            let value = self.pop_vector(shape)?;
            let value = self.call_lanes(name, &[value])?;
            self.push_vector(value)?;
            return Ok(true);
        }
        if let Some((shape, binary)) = binary(operator) {
            self.float_lanes(shape, binary)?;
            return Ok(true);
        }
        self.convert_lanes(operator)
    }

    fn convert_lanes(&mut self, operator: &Operator<'_>) -> Result<bool, CompileError> {
        use Sign::{Signed, Unsigned};
        match operator {
            Operator::F32x4Neg => self.negate_float(Shape::F32x4)?,
            Operator::F64x2Neg => self.negate_float(Shape::F64x2)?,
            Operator::I32x4TruncSatF32x4S => self.truncate_lanes(Shape::F32x4, Signed)?,
            Operator::I32x4TruncSatF32x4U => self.truncate_lanes(Shape::F32x4, Unsigned)?,
            Operator::I32x4TruncSatF64x2SZero => self.truncate_lanes(Shape::F64x2, Signed)?,
            Operator::I32x4TruncSatF64x2UZero => self.truncate_lanes(Shape::F64x2, Unsigned)?,
            Operator::F32x4ConvertI32x4S => self.lanes_to_float(Shape::F32x4, Signed)?,
            Operator::F32x4ConvertI32x4U => self.lanes_to_float(Shape::F32x4, Unsigned)?,
            Operator::F64x2ConvertLowI32x4S => self.lanes_to_float(Shape::F64x2, Signed)?,
            Operator::F64x2ConvertLowI32x4U => self.lanes_to_float(Shape::F64x2, Unsigned)?,
            Operator::F32x4DemoteF64x2Zero => {
                let value = self.pop_vector(Shape::F64x2)?;
                let narrow = self.lanes_type(Shape::F32x4, 2);
                let value = self.b.build_float_trunc(value, narrow, "")?;
                let value = self.concat(value, narrow.const_zero())?;
                self.push_vector(value)?;
            }
            Operator::F64x2PromoteLowF32x4 => {
                let value = self.pop_vector(Shape::F32x4)?;
                let value = self.half(value, Half::Low)?;
                let value = self.b.build_float_ext(value, self.shape_type(Shape::F64x2), "")?;
                self.push_vector(value)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn negate_float(&mut self, shape: Shape) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let value = self.b.build_float_neg(value, "")?;
        self.push_vector(value)
    }

    fn float_lanes(&mut self, shape: Shape, binary: Binary) -> Result<(), CompileError> {
        use FloatPredicate::{OGT, OLT};
        let (x, y) = self.pop_vectors(shape)?;
        let value = match binary {
            Binary::Add => self.b.build_float_add(x, y, "")?,
            Binary::Sub => self.b.build_float_sub(x, y, "")?,
            Binary::Mul => self.b.build_float_mul(x, y, "")?,
            Binary::Div => self.b.build_float_div(x, y, "")?,
            Binary::Min => self.extreme_lanes(shape, OLT, x, y)?,
            Binary::Max => self.extreme_lanes(shape, OGT, x, y)?,
            Binary::PseudoMin => self.pick(OLT, y, x)?,
            Binary::PseudoMax => self.pick(OGT, y, x)?,
            Binary::Compare(predicate) => {
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
    fn lanes_to_float(&mut self, to: Shape, sign: Sign) -> Result<(), CompileError> {
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

fn unary(operator: &Operator<'_>) -> Option<(Shape, &'static str)> {
    use Shape::{F32x4, F64x2};
    Some(match operator {
        Operator::F32x4Abs => (F32x4, "llvm.fabs"),
        Operator::F32x4Sqrt => (F32x4, "llvm.sqrt"),
        Operator::F32x4Ceil => (F32x4, "llvm.ceil"),
        Operator::F32x4Floor => (F32x4, "llvm.floor"),
        Operator::F32x4Trunc => (F32x4, "llvm.trunc"),
        Operator::F32x4Nearest => (F32x4, "llvm.roundeven"),
        Operator::F64x2Abs => (F64x2, "llvm.fabs"),
        Operator::F64x2Sqrt => (F64x2, "llvm.sqrt"),
        Operator::F64x2Ceil => (F64x2, "llvm.ceil"),
        Operator::F64x2Floor => (F64x2, "llvm.floor"),
        Operator::F64x2Trunc => (F64x2, "llvm.trunc"),
        Operator::F64x2Nearest => (F64x2, "llvm.roundeven"),
        _ => return None,
    })
}

fn binary(operator: &Operator<'_>) -> Option<(Shape, Binary)> {
    use Binary::{Add, Compare, Div, Max, Min, Mul, PseudoMax, PseudoMin, Sub};
    use FloatPredicate::{OEQ, OGE, OGT, OLE, OLT, UNE};
    use Shape::{F32x4, F64x2};
    Some(match operator {
        Operator::F32x4Add => (F32x4, Add),
        Operator::F32x4Sub => (F32x4, Sub),
        Operator::F32x4Mul => (F32x4, Mul),
        Operator::F32x4Div => (F32x4, Div),
        Operator::F32x4Min => (F32x4, Min),
        Operator::F32x4Max => (F32x4, Max),
        Operator::F32x4PMin => (F32x4, PseudoMin),
        Operator::F32x4PMax => (F32x4, PseudoMax),
        Operator::F32x4Eq => (F32x4, Compare(OEQ)),
        Operator::F32x4Ne => (F32x4, Compare(UNE)),
        Operator::F32x4Lt => (F32x4, Compare(OLT)),
        Operator::F32x4Gt => (F32x4, Compare(OGT)),
        Operator::F32x4Le => (F32x4, Compare(OLE)),
        Operator::F32x4Ge => (F32x4, Compare(OGE)),
        Operator::F64x2Add => (F64x2, Add),
        Operator::F64x2Sub => (F64x2, Sub),
        Operator::F64x2Mul => (F64x2, Mul),
        Operator::F64x2Div => (F64x2, Div),
        Operator::F64x2Min => (F64x2, Min),
        Operator::F64x2Max => (F64x2, Max),
        Operator::F64x2PMin => (F64x2, PseudoMin),
        Operator::F64x2PMax => (F64x2, PseudoMax),
        Operator::F64x2Eq => (F64x2, Compare(OEQ)),
        Operator::F64x2Ne => (F64x2, Compare(UNE)),
        Operator::F64x2Lt => (F64x2, Compare(OLT)),
        Operator::F64x2Gt => (F64x2, Compare(OGT)),
        Operator::F64x2Le => (F64x2, Compare(OLE)),
        Operator::F64x2Ge => (F64x2, Compare(OGE)),
        _ => return None,
    })
}
