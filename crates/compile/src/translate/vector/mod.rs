//! Vectors of 128 bits: fixed-width SIMD, one file for each kind of instruction.
//!
//! On the operand stack, in locals and in globals a vector is `<16 x i8>`; instructions see the
//! lanes that they want by a cast that costs nothing. Everything is written so that the plain
//! baseline of the architecture suffices (no byte shuffle, no rounding instruction); where one
//! instruction of a later processor does it all and LLVM does not find it by itself, that
//! instruction is asked for if the target has it. NaNs follow the rules for scalars, lane by lane,
//! see [`super::numeric`].

mod float;
mod integer;
mod lanes;
mod memory;
mod operator;
mod relaxed;

use awsm_abi::cpu::Arch;
use inkwell::types::{BasicTypeEnum, VectorType};
use inkwell::values::{BasicMetadataValueEnum, BasicValueEnum, VectorValue};

use super::function::Func;
use super::numeric::Sign;
use crate::error::CompileError;

/// How a vector's bits are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    I8x16,
    I16x8,
    I32x4,
    I64x2,
    F32x4,
    F64x2,
}

impl Shape {
    /// Bits of a lane.
    fn lane_bits(self) -> u32 {
        match self {
            Self::I8x16 => 8,
            Self::I16x8 => 16,
            Self::I32x4 | Self::F32x4 => 32,
            Self::I64x2 | Self::F64x2 => 64,
        }
    }

    /// How many lanes there are.
    fn lanes(self) -> u32 {
        128 / self.lane_bits()
    }
}

/// Which half of the lanes is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Low,
    High,
}

impl<'ctx> Func<'_, 'ctx> {
    /// The type of a lane.
    fn lane_type(&self, shape: Shape) -> BasicTypeEnum<'ctx> {
        let t = self.env.types;
        match shape {
            Shape::I8x16 => t.i8.into(),
            Shape::I16x8 => t.i16.into(),
            Shape::I32x4 => t.i32.into(),
            Shape::I64x2 => t.i64.into(),
            Shape::F32x4 => t.f32.into(),
            Shape::F64x2 => t.f64.into(),
        }
    }

    /// The type of `lanes` lanes.
    fn lanes_type(&self, shape: Shape, lanes: u32) -> VectorType<'ctx> {
        match self.lane_type(shape) {
            BasicTypeEnum::FloatType(lane) => lane.vec_type(lanes),
            lane => lane.into_int_type().vec_type(lanes),
        }
    }

    /// The type of a whole vector.
    fn shape_type(&self, shape: Shape) -> VectorType<'ctx> {
        self.lanes_type(shape, shape.lanes())
    }

    /// Sees a vector, or half of one, as lanes of another type.
    fn cast(
        &self,
        value: VectorValue<'ctx>,
        to: VectorType<'ctx>,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        Ok(self.b.build_bit_cast(value, to, "")?.into_vector_value())
    }

    /// Pops a vector.
    fn pop_vector(&mut self, shape: Shape) -> Result<VectorValue<'ctx>, CompileError> {
        let value = self.pop().into_vector_value();
        self.cast(value, self.shape_type(shape))
    }

    /// Pops two vectors, in the order in which they were pushed.
    fn pop_vectors(
        &mut self,
        shape: Shape,
    ) -> Result<(VectorValue<'ctx>, VectorValue<'ctx>), CompileError> {
        let b = self.pop_vector(shape)?;
        Ok((self.pop_vector(shape)?, b))
    }

    /// Pushes a vector of any lanes.
    fn push_vector(&mut self, value: VectorValue<'ctx>) -> Result<(), CompileError> {
        let value = self.cast(value, self.env.types.v128)?;
        self.push(value);
        Ok(())
    }

    /// A vector whose lanes all hold the same integer.
    fn all_lanes(&self, ty: VectorType<'ctx>, value: u64) -> VectorValue<'ctx> {
        let lane = ty.get_element_type().into_int_type().const_int(value, false);
        VectorType::const_vector(&vec![lane; ty.get_size() as usize])
    }

    /// A vector whose lanes all hold `lane`.
    fn splat(
        &self,
        shape: Shape,
        lane: BasicValueEnum<'ctx>,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let ty = self.shape_type(shape);
        let zero = self.env.types.i32.const_zero();
        let one = self.b.build_insert_element(ty.get_poison(), lane, zero, "")?;
        self.shuffle(one, ty.get_poison(), &vec![0; shape.lanes() as usize])
    }

    /// Lanes of two vectors, chosen by constant indices.
    fn shuffle(
        &self,
        a: VectorValue<'ctx>,
        b: VectorValue<'ctx>,
        indices: &[u32],
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let lane = |index: &u32| self.env.types.i32.const_int(u64::from(*index), false);
        let mask: Vec<_> = indices.iter().map(lane).collect();
        Ok(self.b.build_shuffle_vector(a, b, VectorType::const_vector(&mask), "")?)
    }

    /// Half of a vector's lanes.
    fn half(
        &self,
        value: VectorValue<'ctx>,
        half: Half,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let lanes = value.get_type().get_size() / 2;
        let first = if half == Half::Low { 0 } else { lanes };
        let indices: Vec<_> = (first..first + lanes).collect();
        self.shuffle(value, value.get_type().get_poison(), &indices)
    }

    /// Two vectors, one behind the other.
    fn concat(
        &self,
        low: VectorValue<'ctx>,
        high: VectorValue<'ctx>,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let indices: Vec<_> = (0..2 * low.get_type().get_size()).collect();
        self.shuffle(low, high, &indices)
    }

    /// Widens integer lanes.
    fn widen(
        &self,
        value: VectorValue<'ctx>,
        to: VectorType<'ctx>,
        sign: Sign,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        Ok(match sign {
            Sign::Signed => self.b.build_int_s_extend(value, to, "")?,
            Sign::Unsigned => self.b.build_int_z_extend(value, to, "")?,
        })
    }

    /// Calls an intrinsic that is named for one type of vector.
    fn call_vector(
        &mut self,
        name: &str,
        args: &[VectorValue<'ctx>],
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let args: Vec<_> = args.iter().map(|arg| BasicMetadataValueEnum::from(*arg)).collect();
        Ok(self.intrinsic(name, &[], &args)?.into_vector_value())
    }

    /// Calls an intrinsic whose arguments and result are of one type.
    fn call_lanes(
        &mut self,
        name: &str,
        args: &[VectorValue<'ctx>],
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let ty = args[0].get_type();
        let args: Vec<_> = args.iter().map(|arg| BasicMetadataValueEnum::from(*arg)).collect();
        Ok(self.intrinsic(name, &[ty.into()], &args)?.into_vector_value())
    }

    /// Is the target an x86-64 processor with this feature? `sse2` every one has.
    fn x86_has(&self, feature: &str) -> bool {
        self.env.processor.arch == Arch::X86_64
            && (feature == "sse2" || self.env.processor.has(feature))
    }
}
