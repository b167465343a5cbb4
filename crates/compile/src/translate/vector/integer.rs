//! Integer lanes: arithmetic, comparisons, widening and narrowing.

use inkwell::IntPredicate;
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
    Average,
    /// An intrinsic.
    Call(&'static str),
    /// All ones where it holds, else zero.
    Compare(IntPredicate),
}

/// The ways to shift.
#[derive(Clone, Copy)]
enum Shift {
    Left,
    Right(Sign),
}

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn vector_integer(&mut self, operator: &Operator<'_>) -> Result<bool, CompileError> {
        if let Some((shape, binary)) = arithmetic(operator).or_else(|| comparison(operator)) {
            self.binary_lanes(shape, binary)?;
            return Ok(true);
        }
        Ok(self.unary_or_shift(operator)? || self.widening(operator)?)
    }

    fn unary_or_shift(&mut self, operator: &Operator<'_>) -> Result<bool, CompileError> {
        use Shape::{I8x16, I16x8, I32x4, I64x2};
        use Shift::{Left, Right};
        use Sign::{Signed, Unsigned};
        match operator {
            Operator::I8x16Abs => self.absolute(I8x16)?,
            Operator::I16x8Abs => self.absolute(I16x8)?,
            Operator::I32x4Abs => self.absolute(I32x4)?,
            Operator::I64x2Abs => self.absolute(I64x2)?,
            Operator::I8x16Neg => self.negate(I8x16)?,
            Operator::I16x8Neg => self.negate(I16x8)?,
            Operator::I32x4Neg => self.negate(I32x4)?,
            Operator::I64x2Neg => self.negate(I64x2)?,
            Operator::I8x16Popcnt => {
                let value = self.pop_vector(I8x16)?;
                let value = self.call_lanes("llvm.ctpop", &[value])?;
                self.push_vector(value)?;
            }
            Operator::I8x16AllTrue => self.all_true(I8x16)?,
            Operator::I16x8AllTrue => self.all_true(I16x8)?,
            Operator::I32x4AllTrue => self.all_true(I32x4)?,
            Operator::I64x2AllTrue => self.all_true(I64x2)?,
            Operator::I8x16Bitmask => self.bitmask(I8x16)?,
            Operator::I16x8Bitmask => self.bitmask(I16x8)?,
            Operator::I32x4Bitmask => self.bitmask(I32x4)?,
            Operator::I64x2Bitmask => self.bitmask(I64x2)?,
            Operator::I8x16Shl => self.shift_lanes(I8x16, Left)?,
            Operator::I16x8Shl => self.shift_lanes(I16x8, Left)?,
            Operator::I32x4Shl => self.shift_lanes(I32x4, Left)?,
            Operator::I64x2Shl => self.shift_lanes(I64x2, Left)?,
            Operator::I8x16ShrS => self.shift_lanes(I8x16, Right(Signed))?,
            Operator::I16x8ShrS => self.shift_lanes(I16x8, Right(Signed))?,
            Operator::I32x4ShrS => self.shift_lanes(I32x4, Right(Signed))?,
            Operator::I64x2ShrS => self.shift_lanes(I64x2, Right(Signed))?,
            Operator::I8x16ShrU => self.shift_lanes(I8x16, Right(Unsigned))?,
            Operator::I16x8ShrU => self.shift_lanes(I16x8, Right(Unsigned))?,
            Operator::I32x4ShrU => self.shift_lanes(I32x4, Right(Unsigned))?,
            Operator::I64x2ShrU => self.shift_lanes(I64x2, Right(Unsigned))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn widening(&mut self, operator: &Operator<'_>) -> Result<bool, CompileError> {
        use Half::{High, Low};
        use Shape::{I8x16, I16x8, I32x4, I64x2};
        use Sign::{Signed, Unsigned};
        match operator {
            Operator::I16x8ExtendLowI8x16S => self.extend_half(I8x16, I16x8, Low, Signed)?,
            Operator::I16x8ExtendHighI8x16S => self.extend_half(I8x16, I16x8, High, Signed)?,
            Operator::I16x8ExtendLowI8x16U => self.extend_half(I8x16, I16x8, Low, Unsigned)?,
            Operator::I16x8ExtendHighI8x16U => self.extend_half(I8x16, I16x8, High, Unsigned)?,
            Operator::I32x4ExtendLowI16x8S => self.extend_half(I16x8, I32x4, Low, Signed)?,
            Operator::I32x4ExtendHighI16x8S => self.extend_half(I16x8, I32x4, High, Signed)?,
            Operator::I32x4ExtendLowI16x8U => self.extend_half(I16x8, I32x4, Low, Unsigned)?,
            Operator::I32x4ExtendHighI16x8U => self.extend_half(I16x8, I32x4, High, Unsigned)?,
            Operator::I64x2ExtendLowI32x4S => self.extend_half(I32x4, I64x2, Low, Signed)?,
            Operator::I64x2ExtendHighI32x4S => self.extend_half(I32x4, I64x2, High, Signed)?,
            Operator::I64x2ExtendLowI32x4U => self.extend_half(I32x4, I64x2, Low, Unsigned)?,
            Operator::I64x2ExtendHighI32x4U => self.extend_half(I32x4, I64x2, High, Unsigned)?,
            Operator::I16x8ExtMulLowI8x16S => self.multiply_half(I8x16, I16x8, Low, Signed)?,
            Operator::I16x8ExtMulHighI8x16S => self.multiply_half(I8x16, I16x8, High, Signed)?,
            Operator::I16x8ExtMulLowI8x16U => self.multiply_half(I8x16, I16x8, Low, Unsigned)?,
            Operator::I16x8ExtMulHighI8x16U => self.multiply_half(I8x16, I16x8, High, Unsigned)?,
            Operator::I32x4ExtMulLowI16x8S => self.multiply_half(I16x8, I32x4, Low, Signed)?,
            Operator::I32x4ExtMulHighI16x8S => self.multiply_half(I16x8, I32x4, High, Signed)?,
            Operator::I32x4ExtMulLowI16x8U => self.multiply_half(I16x8, I32x4, Low, Unsigned)?,
            Operator::I32x4ExtMulHighI16x8U => self.multiply_half(I16x8, I32x4, High, Unsigned)?,
            Operator::I64x2ExtMulLowI32x4S => self.multiply_half(I32x4, I64x2, Low, Signed)?,
            Operator::I64x2ExtMulHighI32x4S => self.multiply_half(I32x4, I64x2, High, Signed)?,
            Operator::I64x2ExtMulLowI32x4U => self.multiply_half(I32x4, I64x2, Low, Unsigned)?,
            Operator::I64x2ExtMulHighI32x4U => self.multiply_half(I32x4, I64x2, High, Unsigned)?,
            Operator::I16x8ExtAddPairwiseI8x16S => self.add_pairs(I16x8, Signed)?,
            Operator::I16x8ExtAddPairwiseI8x16U => self.add_pairs(I16x8, Unsigned)?,
            Operator::I32x4ExtAddPairwiseI16x8S => self.add_pairs(I32x4, Signed)?,
            Operator::I32x4ExtAddPairwiseI16x8U => self.add_pairs(I32x4, Unsigned)?,
            Operator::I8x16NarrowI16x8S => self.narrow(I16x8, Signed)?,
            Operator::I8x16NarrowI16x8U => self.narrow(I16x8, Unsigned)?,
            Operator::I16x8NarrowI32x4S => self.narrow(I32x4, Signed)?,
            Operator::I16x8NarrowI32x4U => self.narrow(I32x4, Unsigned)?,
            Operator::I32x4DotI16x8S => self.dot()?,
            Operator::I16x8Q15MulrSatS => self.multiply_q15()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn binary_lanes(&mut self, shape: Shape, binary: Binary) -> Result<(), CompileError> {
        let (x, y) = self.pop_vectors(shape)?;
        let value = match binary {
            Binary::Add => self.b.build_int_add(x, y, "")?,
            Binary::Sub => self.b.build_int_sub(x, y, "")?,
            Binary::Mul => self.b.build_int_mul(x, y, "")?,
            Binary::Average => self.average(shape, x, y)?,
            Binary::Call(name) => self.call_lanes(name, &[x, y])?,
            Binary::Compare(predicate) => {
                let holds = self.b.build_int_compare(predicate, x, y, "")?;
                self.b.build_int_s_extend(holds, self.shape_type(shape), "")?
            }
        };
        self.push_vector(value)
    }

    /// The mean of unsigned lanes, rounded up: LLVM knows the pattern.
    fn average(
        &self,
        shape: Shape,
        x: VectorValue<'ctx>,
        y: VectorValue<'ctx>,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let wide = self.wide_type(shape);
        let one = self.all_lanes(wide, 1);
        let (x, y) = (self.widen(x, wide, Sign::Unsigned)?, self.widen(y, wide, Sign::Unsigned)?);
        let sum = self.b.build_int_add(self.b.build_int_add(x, y, "")?, one, "")?;
        let mean = self.b.build_right_shift(sum, one, false, "")?;
        Ok(self.b.build_int_truncate(mean, self.shape_type(shape), "")?)
    }

    /// As many lanes as `shape` has, twice as wide.
    fn wide_type(&self, shape: Shape) -> inkwell::types::VectorType<'ctx> {
        let wide = match shape {
            Shape::I8x16 => Shape::I16x8,
            Shape::I16x8 => Shape::I32x4,
            _ => Shape::I64x2,
        };
        self.lanes_type(wide, shape.lanes())
    }

    fn absolute(&mut self, shape: Shape) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        // `false`: of the least integer it is defined, as itself.
        let args = [value.into(), self.env.types.i1.const_zero().into()];
        let value = self.intrinsic("llvm.abs", &[value.get_type().into()], &args)?;
        self.push_vector(value.into_vector_value())
    }

    fn negate(&mut self, shape: Shape) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let value = self.b.build_int_neg(value, "")?;
        self.push_vector(value)
    }

    fn all_true(&mut self, shape: Shape) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let zero = value.get_type().const_zero();
        let zeros = self.b.build_int_compare(IntPredicate::EQ, value, zero, "")?;
        let ty = self
            .env
            .context
            .custom_width_int_type(bits(shape))
            .map_err(crate::ir::alias::refused)?;
        let zeros = self.b.build_bit_cast(zeros, ty, "")?.into_int_value();
        let none = self.b.build_int_compare(IntPredicate::EQ, zeros, ty.const_zero(), "")?;
        self.push_condition(none)
    }

    /// The sign of each lane, as bits of an `i32`.
    fn bitmask(&mut self, shape: Shape) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let zero = value.get_type().const_zero();
        let negative = self.b.build_int_compare(IntPredicate::SLT, value, zero, "")?;
        let ty = self
            .env
            .context
            .custom_width_int_type(bits(shape))
            .map_err(crate::ir::alias::refused)?;
        let mask = self.b.build_bit_cast(negative, ty, "")?.into_int_value();
        let mask = self.b.build_int_z_extend(mask, self.env.types.i32, "")?;
        self.push(mask);
        Ok(())
    }

    fn shift_lanes(&mut self, shape: Shape, shift: Shift) -> Result<(), CompileError> {
        let i32 = self.env.types.i32;
        let count = self.pop_int();
        let value = self.pop_vector(shape)?;
        let most = i32.const_int(u64::from(shape.lane_bits() - 1), false);
        let count = self.b.build_and(count, most, "")?;
        let lane = self.lane_type(shape).into_int_type();
        let count = match shape {
            Shape::I64x2 => self.b.build_int_z_extend(count, lane, "")?,
            _ => self.b.build_int_truncate_or_bit_cast(count, lane, "")?,
        };
        let counts = self.splat(shape, count.into())?;
        let value = match shift {
            Shift::Left => self.b.build_left_shift(value, counts, "")?,
            Shift::Right(sign) => {
                self.b.build_right_shift(value, counts, sign == Sign::Signed, "")?
            }
        };
        self.push_vector(value)
    }

    fn pop_half(
        &mut self,
        from: Shape,
        to: Shape,
        half: Half,
        sign: Sign,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let value = self.pop_vector(from)?;
        let value = self.half(value, half)?;
        self.widen(value, self.shape_type(to), sign)
    }

    fn extend_half(
        &mut self,
        from: Shape,
        to: Shape,
        half: Half,
        sign: Sign,
    ) -> Result<(), CompileError> {
        let value = self.pop_half(from, to, half, sign)?;
        self.push_vector(value)
    }

    fn multiply_half(
        &mut self,
        from: Shape,
        to: Shape,
        half: Half,
        sign: Sign,
    ) -> Result<(), CompileError> {
        let y = self.pop_half(from, to, half, sign)?;
        let x = self.pop_half(from, to, half, sign)?;
        let value = self.b.build_int_mul(x, y, "")?;
        self.push_vector(value)
    }

    /// Adds the two halves of each lane: by shifts inside it, which every processor has.
    pub(super) fn add_pairs(&mut self, to: Shape, sign: Sign) -> Result<(), CompileError> {
        let value = self.pop_vector(to)?;
        let ty = value.get_type();
        let half = self.all_lanes(ty, u64::from(to.lane_bits() / 2));
        let signed = sign == Sign::Signed;
        let odd = self.b.build_right_shift(value, half, signed, "")?;
        let even = self.b.build_left_shift(value, half, "")?;
        let even = self.b.build_right_shift(even, half, signed, "")?;
        let value = self.b.build_int_add(odd, even, "")?;
        self.push_vector(value)
    }

    /// Lanes of two vectors, half as wide, at the nearest value that fits.
    fn narrow(&mut self, from: Shape, sign: Sign) -> Result<(), CompileError> {
        let (x, y) = self.pop_vectors(from)?;
        let pack = match (from, sign) {
            (Shape::I16x8, Sign::Signed) => ("sse2", "llvm.x86.sse2.packsswb.128"),
            (Shape::I16x8, Sign::Unsigned) => ("sse2", "llvm.x86.sse2.packuswb.128"),
            (_, Sign::Signed) => ("sse2", "llvm.x86.sse2.packssdw.128"),
            (_, Sign::Unsigned) => ("sse4.1", "llvm.x86.sse41.packusdw"),
        };
        let value = if self.x86_has(pack.0) {
            self.call_vector(pack.1, &[x, y])?
        } else {
            let (x, y) = (self.clamp_half(from, x, sign)?, self.clamp_half(from, y, sign)?);
            self.concat(x, y)?
        };
        self.push_vector(value)
    }

    fn clamp_half(
        &mut self,
        from: Shape,
        value: VectorValue<'ctx>,
        sign: Sign,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let bits = from.lane_bits() / 2;
        let (least, most) = match sign {
            Sign::Signed => (-1_i64 << (bits - 1), (1_i64 << (bits - 1)) - 1),
            Sign::Unsigned => (0, (1_i64 << bits) - 1),
        };
        let ty = value.get_type();
        let least = self.all_lanes(ty, least.cast_unsigned());
        let most = self.all_lanes(ty, most.cast_unsigned());
        let value = self.call_lanes("llvm.smax", &[value, least])?;
        let value = self.call_lanes("llvm.smin", &[value, most])?;
        let narrow = if from == Shape::I16x8 { Shape::I8x16 } else { Shape::I16x8 };
        let narrow = self.lanes_type(narrow, from.lanes());
        Ok(self.b.build_int_truncate(value, narrow, "")?)
    }

    /// Sums of products of neighbours.
    fn dot(&mut self) -> Result<(), CompileError> {
        let (x, y) = self.pop_vectors(Shape::I16x8)?;
        let value = if self.x86_has("sse2") {
            self.call_vector("llvm.x86.sse2.pmadd.wd", &[x, y])?
        } else {
            let wide = self.wide_type(Shape::I16x8);
            let (x, y) = (self.widen(x, wide, Sign::Signed)?, self.widen(y, wide, Sign::Signed)?);
            let products = self.b.build_int_mul(x, y, "")?;
            self.add_neighbours(products)?
        };
        self.push_vector(value)
    }

    /// Half as many lanes: each the sum of two neighbours.
    pub(super) fn add_neighbours(
        &self,
        value: VectorValue<'ctx>,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let lanes = value.get_type().get_size();
        let poison = value.get_type().get_poison();
        let every_second = |first: u32| (first..lanes).step_by(2).collect::<Vec<_>>();
        let even = self.shuffle(value, poison, &every_second(0))?;
        let odd = self.shuffle(value, poison, &every_second(1))?;
        Ok(self.b.build_int_add(even, odd, "")?)
    }

    /// Products of numbers with 15 bits behind the point, rounded; only -1 times -1 is too large.
    pub(super) fn multiply_q15(&mut self) -> Result<(), CompileError> {
        let (x, y) = self.pop_vectors(Shape::I16x8)?;
        let value = if self.x86_has("ssse3") {
            let product = self.call_vector("llvm.x86.ssse3.pmul.hr.sw.128", &[x, y])?;
            let least = self.all_lanes(product.get_type(), 0x8000);
            let over = self.b.build_int_compare(IntPredicate::EQ, product, least, "")?;
            let over = self.b.build_int_s_extend(over, product.get_type(), "")?;
            self.b.build_xor(product, over, "")?
        } else {
            let wide = self.wide_type(Shape::I16x8);
            let (x, y) = (self.widen(x, wide, Sign::Signed)?, self.widen(y, wide, Sign::Signed)?);
            let product = self.b.build_int_mul(x, y, "")?;
            let rounded = self.b.build_int_add(product, self.all_lanes(wide, 0x4000), "")?;
            let rounded = self.b.build_right_shift(rounded, self.all_lanes(wide, 15), true, "")?;
            let most = self.all_lanes(wide, 0x7fff);
            let rounded = self.call_lanes("llvm.smin", &[rounded, most])?;
            self.b.build_int_truncate(rounded, self.shape_type(Shape::I16x8), "")?
        };
        self.push_vector(value)
    }
}

/// The integer that has a bit for each lane.
fn bits(shape: Shape) -> std::num::NonZeroU32 {
    std::num::NonZeroU32::new(shape.lanes()).expect("a vector has lanes")
}

fn arithmetic(operator: &Operator<'_>) -> Option<(Shape, Binary)> {
    use Binary::{Add, Average, Call, Mul, Sub};
    use Shape::{I8x16, I16x8, I32x4, I64x2};
    Some(match operator {
        Operator::I8x16Add => (I8x16, Add),
        Operator::I16x8Add => (I16x8, Add),
        Operator::I32x4Add => (I32x4, Add),
        Operator::I64x2Add => (I64x2, Add),
        Operator::I8x16Sub => (I8x16, Sub),
        Operator::I16x8Sub => (I16x8, Sub),
        Operator::I32x4Sub => (I32x4, Sub),
        Operator::I64x2Sub => (I64x2, Sub),
        Operator::I16x8Mul => (I16x8, Mul),
        Operator::I32x4Mul => (I32x4, Mul),
        Operator::I64x2Mul => (I64x2, Mul),
        Operator::I8x16AddSatS => (I8x16, Call("llvm.sadd.sat")),
        Operator::I8x16AddSatU => (I8x16, Call("llvm.uadd.sat")),
        Operator::I8x16SubSatS => (I8x16, Call("llvm.ssub.sat")),
        Operator::I8x16SubSatU => (I8x16, Call("llvm.usub.sat")),
        Operator::I16x8AddSatS => (I16x8, Call("llvm.sadd.sat")),
        Operator::I16x8AddSatU => (I16x8, Call("llvm.uadd.sat")),
        Operator::I16x8SubSatS => (I16x8, Call("llvm.ssub.sat")),
        Operator::I16x8SubSatU => (I16x8, Call("llvm.usub.sat")),
        Operator::I8x16MinS => (I8x16, Call("llvm.smin")),
        Operator::I8x16MinU => (I8x16, Call("llvm.umin")),
        Operator::I8x16MaxS => (I8x16, Call("llvm.smax")),
        Operator::I8x16MaxU => (I8x16, Call("llvm.umax")),
        Operator::I16x8MinS => (I16x8, Call("llvm.smin")),
        Operator::I16x8MinU => (I16x8, Call("llvm.umin")),
        Operator::I16x8MaxS => (I16x8, Call("llvm.smax")),
        Operator::I16x8MaxU => (I16x8, Call("llvm.umax")),
        Operator::I32x4MinS => (I32x4, Call("llvm.smin")),
        Operator::I32x4MinU => (I32x4, Call("llvm.umin")),
        Operator::I32x4MaxS => (I32x4, Call("llvm.smax")),
        Operator::I32x4MaxU => (I32x4, Call("llvm.umax")),
        Operator::I8x16AvgrU => (I8x16, Average),
        Operator::I16x8AvgrU => (I16x8, Average),
        _ => return None,
    })
}

fn comparison(operator: &Operator<'_>) -> Option<(Shape, Binary)> {
    use IntPredicate::{EQ, NE, SGE, SGT, SLE, SLT, UGE, UGT, ULE, ULT};
    use Shape::{I8x16, I16x8, I32x4, I64x2};
    let (shape, predicate) = match operator {
        Operator::I8x16Eq => (I8x16, EQ),
        Operator::I8x16Ne => (I8x16, NE),
        Operator::I8x16LtS => (I8x16, SLT),
        Operator::I8x16LtU => (I8x16, ULT),
        Operator::I8x16GtS => (I8x16, SGT),
        Operator::I8x16GtU => (I8x16, UGT),
        Operator::I8x16LeS => (I8x16, SLE),
        Operator::I8x16LeU => (I8x16, ULE),
        Operator::I8x16GeS => (I8x16, SGE),
        Operator::I8x16GeU => (I8x16, UGE),
        Operator::I16x8Eq => (I16x8, EQ),
        Operator::I16x8Ne => (I16x8, NE),
        Operator::I16x8LtS => (I16x8, SLT),
        Operator::I16x8LtU => (I16x8, ULT),
        Operator::I16x8GtS => (I16x8, SGT),
        Operator::I16x8GtU => (I16x8, UGT),
        Operator::I16x8LeS => (I16x8, SLE),
        Operator::I16x8LeU => (I16x8, ULE),
        Operator::I16x8GeS => (I16x8, SGE),
        Operator::I16x8GeU => (I16x8, UGE),
        Operator::I32x4Eq => (I32x4, EQ),
        Operator::I32x4Ne => (I32x4, NE),
        Operator::I32x4LtS => (I32x4, SLT),
        Operator::I32x4LtU => (I32x4, ULT),
        Operator::I32x4GtS => (I32x4, SGT),
        Operator::I32x4GtU => (I32x4, UGT),
        Operator::I32x4LeS => (I32x4, SLE),
        Operator::I32x4LeU => (I32x4, ULE),
        Operator::I32x4GeS => (I32x4, SGE),
        Operator::I32x4GeU => (I32x4, UGE),
        Operator::I64x2Eq => (I64x2, EQ),
        Operator::I64x2Ne => (I64x2, NE),
        Operator::I64x2LtS => (I64x2, SLT),
        Operator::I64x2GtS => (I64x2, SGT),
        Operator::I64x2LeS => (I64x2, SLE),
        Operator::I64x2GeS => (I64x2, SGE),
        _ => return None,
    };
    Some((shape, Binary::Compare(predicate)))
}
