//! Integer lanes: arithmetic, comparisons, widening and narrowing.

use inkwell::IntPredicate;
use inkwell::values::VectorValue;

use super::{Func, Half, Shape, Sign};
use crate::error::CompileError;

/// What is done with two vectors, lane by lane.
#[derive(Clone, Copy)]
pub(super) enum IntOp {
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
pub(super) enum Shift {
    Left,
    Right(Sign),
}

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn count_ones(&mut self) -> Result<(), CompileError> {
        let value = self.pop_vector(Shape::I8x16)?;
        let value = self.call_lanes("llvm.ctpop", &[value])?;
        self.push_vector(value)?;
        Ok(())
    }

    pub(super) fn int_lanes(&mut self, shape: Shape, binary: IntOp) -> Result<(), CompileError> {
        let (x, y) = self.pop_vectors(shape)?;
        let value = match binary {
            IntOp::Add => self.b.build_int_add(x, y, "")?,
            IntOp::Sub => self.b.build_int_sub(x, y, "")?,
            IntOp::Mul => self.b.build_int_mul(x, y, "")?,
            IntOp::Average => self.average(shape, x, y)?,
            IntOp::Call(name) => self.call_lanes(name, &[x, y])?,
            IntOp::Compare(predicate) => {
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

    pub(super) fn absolute(&mut self, shape: Shape) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        // `false`: of the least integer it is defined, as itself.
        let args = [value.into(), self.env.types.i1.const_zero().into()];
        let value = self.intrinsic("llvm.abs", &[value.get_type().into()], &args)?;
        self.push_vector(value.into_vector_value())
    }

    pub(super) fn negate(&mut self, shape: Shape) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let value = self.b.build_int_neg(value, "")?;
        self.push_vector(value)
    }

    pub(super) fn all_true(&mut self, shape: Shape) -> Result<(), CompileError> {
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
    pub(super) fn bitmask(&mut self, shape: Shape) -> Result<(), CompileError> {
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

    pub(super) fn shift_lanes(&mut self, shape: Shape, shift: Shift) -> Result<(), CompileError> {
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

    pub(super) fn extend_half(
        &mut self,
        from: Shape,
        to: Shape,
        half: Half,
        sign: Sign,
    ) -> Result<(), CompileError> {
        let value = self.pop_half(from, to, half, sign)?;
        self.push_vector(value)
    }

    pub(super) fn multiply_half(
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
    pub(super) fn narrow(&mut self, from: Shape, sign: Sign) -> Result<(), CompileError> {
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
    pub(super) fn dot(&mut self) -> Result<(), CompileError> {
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
