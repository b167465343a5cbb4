//! Vectors in linear memory. Addresses are computed and checked in [`super::super::memory`].

use inkwell::types::VectorType;
use inkwell::values::BasicValueEnum;
use wasmparser::MemArg;

use super::{Func, Shape, Sign};
use crate::error::CompileError;

impl<'ctx> Func<'_, 'ctx> {
    pub(super) fn load_vector(&mut self, memarg: MemArg) -> Result<(), CompileError> {
        let value = self.load_linear(memarg, self.env.types.v128.into())?;
        self.push(value);
        Ok(())
    }

    pub(super) fn store_vector(&mut self, memarg: MemArg) -> Result<(), CompileError> {
        let value = self.pop();
        self.store(memarg, value)?;
        Ok(())
    }

    pub(super) fn load_widened(
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

    pub(super) fn load_splat(&mut self, memarg: MemArg, shape: Shape) -> Result<(), CompileError> {
        let lane = self.load_linear(memarg, self.lane_type(shape))?;
        let value = self.splat(shape, lane)?;
        self.push_vector(value)
    }

    /// Loads the first lane; the others are zero.
    pub(super) fn load_first(&mut self, memarg: MemArg, shape: Shape) -> Result<(), CompileError> {
        let lane = self.load_linear(memarg, self.lane_type(shape))?;
        let (zeros, first) = (self.shape_type(shape).const_zero(), self.env.types.i32.const_zero());
        let value = self.b.build_insert_element(zeros, lane, first, "")?;
        self.push_vector(value)
    }

    pub(super) fn load_lane(
        &mut self,
        memarg: MemArg,
        shape: Shape,
        lane: u8,
    ) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let loaded = self.load_linear(memarg, self.lane_type(shape))?;
        let value = self.b.build_insert_element(value, loaded, self.lane_index(lane), "")?;
        self.push_vector(value)
    }

    pub(super) fn store_lane(
        &mut self,
        memarg: MemArg,
        shape: Shape,
        lane: u8,
    ) -> Result<(), CompileError> {
        let value = self.pop_vector(shape)?;
        let lane: BasicValueEnum<'ctx> =
            self.b.build_extract_element(value, self.lane_index(lane), "")?;
        self.store(memarg, lane)
    }
}
