//! Constants, single lanes, lanes in another order, and bits regardless of lanes.

use awsm_abi::cpu::Arch;
use inkwell::IntPredicate;
use inkwell::types::VectorType;
use inkwell::values::{BasicValueEnum, IntValue, VectorValue};
use wasmparser::V128;

use super::{Func, Shape, Sign};
use crate::error::CompileError;

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn push_vector_constant(&mut self, value: V128) -> Result<(), CompileError> {
        let value = self.vector_constant(*value.bytes());
        self.push(value);
        Ok(())
    }

    pub(super) fn shuffle_bytes(&mut self, lanes: [u8; 16]) -> Result<(), CompileError> {
        let (a, b) = self.pop_vectors(Shape::I8x16)?;
        let value = self.shuffle(a, b, &lanes.map(u32::from))?;
        self.push_vector(value)?;
        Ok(())
    }

    pub(super) fn not_vector(&mut self) -> Result<(), CompileError> {
        let a = self.pop_vector(Shape::I64x2)?;
        let value = self.b.build_not(a, "")?;
        self.push_vector(value)?;
        Ok(())
    }

    pub(super) fn any_true(&mut self) -> Result<(), CompileError> {
        let i128 = self.env.context.i128_type();
        let bits = self.pop_vector(Shape::I8x16)?;
        let bits = self.b.build_bit_cast(bits, i128, "")?.into_int_value();
        let zero = i128.const_zero();
        let any = self.b.build_int_compare(IntPredicate::NE, bits, zero, "")?;
        self.push_condition(any)?;
        Ok(())
    }

    /// A constant vector, low byte first.
    pub(crate) fn vector_constant(&self, bytes: [u8; 16]) -> VectorValue<'ctx> {
        VectorType::const_vector(&bytes.map(|b| self.env.types.i8.const_int(b.into(), false)))
    }

    /// A lane's number.
    pub(super) fn lane_index(&self, lane: u8) -> IntValue<'ctx> {
        self.env.types.i32.const_int(lane.into(), false)
    }

    /// Bytes of the first vector, chosen by the bytes of the second; zero where there is none.
    pub(super) fn swizzle(&mut self) -> Result<(), CompileError> {
        let (bytes, indices) = self.pop_vectors(Shape::I8x16)?;
        let value = match self.env.processor.arch {
            Arch::X86_64 if self.env.processor.has("ssse3") => {
                // The instruction gives zero where the highest bit is set, which 16 and more get
                // so.
                let high = self.all_lanes(indices.get_type(), 0x70);
                let indices = self.call_lanes("llvm.uadd.sat", &[indices, high])?;
                self.call_vector("llvm.x86.ssse3.pshuf.b.128", &[bytes, indices])?
            }
            Arch::Aarch64 => {
                let ty = [bytes.get_type().into()];
                let args = [bytes.into(), indices.into()];
                self.intrinsic("llvm.aarch64.neon.tbl1", &ty, &args)?.into_vector_value()
            }
            Arch::X86_64 => self.swizzle_by_byte(bytes, indices)?,
        };
        self.push_vector(value)
    }

    fn swizzle_by_byte(
        &mut self,
        bytes: VectorValue<'ctx>,
        indices: VectorValue<'ctx>,
    ) -> Result<VectorValue<'ctx>, CompileError> {
        let ty = bytes.get_type();
        let low = self.b.build_and(indices, self.all_lanes(ty, 15), "")?;
        let mut chosen = ty.const_zero();
        for lane in 0..16 {
            let place = self.lane_index(lane);
            let index = self.b.build_extract_element(low, place, "")?.into_int_value();
            let byte = self.b.build_extract_element(bytes, index, "")?;
            chosen = self.b.build_insert_element(chosen, byte, place, "")?;
        }
        let sixteen = self.all_lanes(ty, 16);
        let inside = self.b.build_int_compare(IntPredicate::ULT, indices, sixteen, "")?;
        Ok(self.b.build_select(inside, chosen, ty.const_zero(), "")?.into_vector_value())
    }

    pub(super) fn splat_whole(&mut self, shape: Shape) -> Result<(), CompileError> {
        let lane = self.pop();
        let value = self.splat(shape, lane)?;
        self.push_vector(value)
    }

    pub(super) fn splat_low(&mut self, shape: Shape) -> Result<(), CompileError> {
        let lane = self.pop_low(shape)?;
        let value = self.splat(shape, lane)?;
        self.push_vector(value)
    }

    /// Pops an `i32` and cuts it to a lane.
    fn pop_low(&mut self, shape: Shape) -> Result<BasicValueEnum<'ctx>, CompileError> {
        let value = self.pop_int();
        let lane = self.lane_type(shape).into_int_type();
        Ok(self.b.build_int_truncate(value, lane, "")?.into())
    }

    pub(super) fn extract(&mut self, shape: Shape, lane: u8) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let value = self.b.build_extract_element(value, self.lane_index(lane), "")?;
        self.push(value);
        Ok(())
    }

    pub(super) fn extract_low(
        &mut self,
        shape: Shape,
        lane: u8,
        sign: Sign,
    ) -> Result<(), CompileError> {
        self.extract(shape, lane)?;
        let (value, i32) = (self.pop_int(), self.env.types.i32);
        let value = match sign {
            Sign::Signed => self.b.build_int_s_extend(value, i32, "")?,
            Sign::Unsigned => self.b.build_int_z_extend(value, i32, "")?,
        };
        self.push(value);
        Ok(())
    }

    pub(super) fn replace(&mut self, shape: Shape, lane: u8) -> Result<(), CompileError> {
        let new = self.pop();
        self.replace_by(shape, lane, new)
    }

    pub(super) fn replace_low(&mut self, shape: Shape, lane: u8) -> Result<(), CompileError> {
        let new = self.pop_low(shape)?;
        self.replace_by(shape, lane, new)
    }

    fn replace_by(
        &mut self,
        shape: Shape,
        lane: u8,
        new: BasicValueEnum<'ctx>,
    ) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let value = self.b.build_insert_element(value, new, self.lane_index(lane), "")?;
        self.push_vector(value)
    }

    pub(super) fn bits(
        &mut self,
        combine: impl FnOnce(
            &Self,
            VectorValue<'ctx>,
            VectorValue<'ctx>,
        ) -> Result<VectorValue<'ctx>, CompileError>,
    ) -> Result<(), CompileError> {
        let (a, b) = self.pop_vectors(Shape::I64x2)?;
        let value = combine(self, a, b)?;
        self.push_vector(value)
    }

    /// Bits of the first vector where the mask has ones, else of the second.
    pub(super) fn bit_select(&mut self) -> Result<(), CompileError> {
        let mask = self.pop_vector(Shape::I64x2)?;
        let (a, b) = self.pop_vectors(Shape::I64x2)?;
        let a = self.b.build_and(a, mask, "")?;
        let b = self.b.build_and(b, self.b.build_not(mask, "")?, "")?;
        let value = self.b.build_or(a, b, "")?;
        self.push_vector(value)
    }
}
