//! Relaxed instructions, each with one result on every processor: that of the strict instruction of
//! the same purpose, which the specification allows for all of them. A multiplication with addition
//! rounds twice. So a guest computes the same wherever it runs, and nothing is slower than the
//! instructions that it could have used instead.

use super::{Func, Shape, Sign};
use crate::error::CompileError;

impl Func<'_, '_> {
    pub(super) fn dot_bytes_and_add(&mut self) -> Result<(), CompileError> {
        let sum = self.pop_vector(Shape::I32x4)?;
        self.dot_bytes()?;
        self.add_pairs(Shape::I32x4, Sign::Signed)?;
        let products = self.pop_vector(Shape::I32x4)?;
        let value = self.b.build_int_add(products, sum, "")?;
        self.push_vector(value)?;
        Ok(())
    }

    /// Sums of products of neighbouring bytes, both signed; what 16 bits do not hold wraps.
    pub(super) fn dot_bytes(&mut self) -> Result<(), CompileError> {
        let (x, y) = self.pop_vectors(Shape::I8x16)?;
        let wide = self.lanes_type(Shape::I16x8, Shape::I8x16.lanes());
        let (x, y) = (self.widen(x, wide, Sign::Signed)?, self.widen(y, wide, Sign::Signed)?);
        let products = self.b.build_int_mul(x, y, "")?;
        let value = self.add_neighbours(products)?;
        self.push_vector(value)
    }
}
