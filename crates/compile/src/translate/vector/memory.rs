//! Vectors in linear memory. Addresses are computed and checked in [`super::super::memory`].

use inkwell::types::VectorType;
use inkwell::values::BasicValueEnum;
use wasmparser::{MemArg, Operator};

use super::{Func, Shape, Sign};
use crate::error::CompileError;

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn vector_memory(&mut self, operator: &Operator<'_>) -> Result<bool, CompileError> {
        use Shape::{I8x16, I16x8, I32x4, I64x2};
        use Sign::{Signed, Unsigned};
        match *operator {
            Operator::V128Load { memarg } => {
                let value = self.load_linear(memarg, self.env.types.v128.into())?;
                self.push(value);
            }
            Operator::V128Store { memarg } => {
                let value = self.pop();
                self.store(memarg, value)?;
            }
            Operator::V128Load8x8S { memarg } => self.load_widened(memarg, I8x16, I16x8, Signed)?,
            Operator::V128Load8x8U { memarg } => {
                self.load_widened(memarg, I8x16, I16x8, Unsigned)?;
            }
            Operator::V128Load16x4S { memarg } => {
                self.load_widened(memarg, I16x8, I32x4, Signed)?;
            }
            Operator::V128Load16x4U { memarg } => {
                self.load_widened(memarg, I16x8, I32x4, Unsigned)?;
            }
            Operator::V128Load32x2S { memarg } => {
                self.load_widened(memarg, I32x4, I64x2, Signed)?;
            }
            Operator::V128Load32x2U { memarg } => {
                self.load_widened(memarg, I32x4, I64x2, Unsigned)?;
            }
            Operator::V128Load8Splat { memarg } => self.load_splat(memarg, I8x16)?,
            Operator::V128Load16Splat { memarg } => self.load_splat(memarg, I16x8)?,
            Operator::V128Load32Splat { memarg } => self.load_splat(memarg, I32x4)?,
            Operator::V128Load64Splat { memarg } => self.load_splat(memarg, I64x2)?,
            Operator::V128Load32Zero { memarg } => self.load_first(memarg, I32x4)?,
            Operator::V128Load64Zero { memarg } => self.load_first(memarg, I64x2)?,
            Operator::V128Load8Lane { memarg, lane } => self.load_lane(memarg, I8x16, lane)?,
            Operator::V128Load16Lane { memarg, lane } => self.load_lane(memarg, I16x8, lane)?,
            Operator::V128Load32Lane { memarg, lane } => self.load_lane(memarg, I32x4, lane)?,
            Operator::V128Load64Lane { memarg, lane } => self.load_lane(memarg, I64x2, lane)?,
            Operator::V128Store8Lane { memarg, lane } => self.store_lane(memarg, I8x16, lane)?,
            Operator::V128Store16Lane { memarg, lane } => self.store_lane(memarg, I16x8, lane)?,
            Operator::V128Store32Lane { memarg, lane } => self.store_lane(memarg, I32x4, lane)?,
            Operator::V128Store64Lane { memarg, lane } => self.store_lane(memarg, I64x2, lane)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn load_widened(
        &mut self,
        memarg: MemArg,
        from: Shape,
        to: Shape,
        sign: Sign,
    ) -> Result<(), CompileError> {
        let narrow: VectorType<'ctx> = self.lanes_type(from, to.lanes());
        let value = self.load_linear(memarg, narrow.into())?.into_vector_value();
        let value = self.widen(value, self.shape_type(to), sign)?;
        self.push_vector(value)
    }

    fn load_splat(&mut self, memarg: MemArg, shape: Shape) -> Result<(), CompileError> {
        let lane = self.load_linear(memarg, self.lane_type(shape))?;
        let value = self.splat(shape, lane)?;
        self.push_vector(value)
    }

    /// Loads the first lane; the others are zero.
    fn load_first(&mut self, memarg: MemArg, shape: Shape) -> Result<(), CompileError> {
        let lane = self.load_linear(memarg, self.lane_type(shape))?;
        let (zeros, first) = (self.shape_type(shape).const_zero(), self.env.types.i32.const_zero());
        let value = self.b.build_insert_element(zeros, lane, first, "")?;
        self.push_vector(value)
    }

    fn load_lane(&mut self, memarg: MemArg, shape: Shape, lane: u8) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let loaded = self.load_linear(memarg, self.lane_type(shape))?;
        let value = self.b.build_insert_element(value, loaded, self.lane_index(lane), "")?;
        self.push_vector(value)
    }

    fn store_lane(&mut self, memarg: MemArg, shape: Shape, lane: u8) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let lane: BasicValueEnum<'ctx> =
            self.b.build_extract_element(value, self.lane_index(lane), "")?;
        self.store(memarg, lane)
    }
}
