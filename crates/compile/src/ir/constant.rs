//! Float constants, scalar and by lanes.

use inkwell::values::{BasicValueEnum, VectorValue};

use super::llvm;

/// The floats that a constant holds: of a vector, whatever its lanes may be taken for.
pub(crate) fn constant_floats(value: BasicValueEnum<'_>) -> Vec<f64> {
    match value {
        BasicValueEnum::FloatValue(value) => llvm::float_constant(value).into_iter().collect(),
        BasicValueEnum::VectorValue(value) if value.is_const() && !value.is_undef() => {
            lane_floats(llvm::uncast(value))
        }
        _ => Vec::new(),
    }
}

fn lane_floats(vector: VectorValue<'_>) -> Vec<f64> {
    let i32 = vector.get_type().get_context().i32_type();
    let lanes = (0..vector.get_type().get_size())
        .map(|index| vector.const_extract_element(i32.const_int(index.into(), false)));
    let mut floats = Vec::new();
    let mut bytes = Vec::new();
    for lane in lanes {
        match lane {
            BasicValueEnum::IntValue(lane) => {
                let lane_bytes = lane.get_type().get_bit_width() as usize / 8;
                let bits = lane.get_zero_extended_constant().unwrap_or_default().to_le_bytes();
                bytes.extend_from_slice(&bits[..lane_bytes.min(8)]);
            }
            lane => floats.extend(constant_floats(lane)),
        }
    }
    let (narrow, _) = bytes.as_chunks::<4>();
    let (wide, _) = bytes.as_chunks::<8>();
    floats.extend(narrow.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))));
    floats.extend(wide.iter().map(|bytes| f64::from_le_bytes(*bytes)));
    floats
}
