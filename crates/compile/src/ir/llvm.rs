//! What the LLVM binding lacks or calls unsafe: the only file of this crate with unsafe code.
//!
//! Values, types and blocks are `inkwell`'s, tied to the lifetime of their LLVM context. LLVM is
//! built without assertions, so that an operand of a wrong type goes unnoticed until the verifier
//! runs; operands come from validated modules, and every module is verified before it is optimised.
#![allow(unsafe_code)]

use inkwell::AddressSpace;
use inkwell::attributes::{Attribute, AttributeLoc};
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::llvm_sys::LLVMOpcode;
use inkwell::llvm_sys::core::{
    LLVMGetConstOpcode, LLVMGetMaskValue, LLVMGetNumMaskElements, LLVMGetOperand,
    LLVMIsAConstantExpr, LLVMIsAConstantFP,
};
use inkwell::types::{BasicTypeEnum, FloatType, FunctionType, IntType, PointerType, VectorType};
use inkwell::values::{
    AsValueRef, BasicMetadataValueEnum, BasicValueEnum, CallSiteValue, FloatValue,
    InstructionOpcode, InstructionValue, IntValue, PointerValue, VectorValue,
};

use crate::error::CompileError;

/// Types of a context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Types<'ctx> {
    /// Truth values.
    pub i1: IntType<'ctx>,
    /// Bytes.
    pub i8: IntType<'ctx>,
    /// 16-bit integers.
    pub i16: IntType<'ctx>,
    /// 32-bit integers.
    pub i32: IntType<'ctx>,
    /// 64-bit integers.
    pub i64: IntType<'ctx>,
    /// 32-bit floats.
    pub f32: FloatType<'ctx>,
    /// 64-bit floats.
    pub f64: FloatType<'ctx>,
    /// Addresses.
    pub ptr: PointerType<'ctx>,
    /// Vectors, between instructions.
    pub v128: VectorType<'ctx>,
}

impl<'ctx> Types<'ctx> {
    /// The types of a context.
    pub(crate) fn new(context: &'ctx Context) -> Self {
        Self {
            i1: context.bool_type(),
            i8: context.i8_type(),
            i16: context.i16_type(),
            i32: context.i32_type(),
            i64: context.i64_type(),
            f32: context.f32_type(),
            f64: context.f64_type(),
            ptr: context.ptr_type(AddressSpace::default()),
            v128: context.i8_type().vec_type(16),
        }
    }
}

/// `base + bytes` without any promise about where that lies.
pub(crate) fn offset<'ctx>(
    builder: &Builder<'ctx>,
    byte: IntType<'ctx>,
    base: PointerValue<'ctx>,
    bytes: IntValue<'ctx>,
) -> Result<PointerValue<'ctx>, CompileError> {
    // SAFETY: the binding asks that the indices fit the type that is indexed. It is a byte, with
    // one index, and without `inbounds` LLVM promises wrapping arithmetic and nothing else.
    Ok(unsafe { builder.build_gep(byte, base, &[bytes], "") }?)
}

/// An attribute without a value.
pub(crate) fn attribute(context: &Context, name: &str) -> Attribute {
    valued_attribute(context, name, 0)
}

/// An attribute with a number.
pub(crate) fn valued_attribute(context: &Context, name: &str, value: u64) -> Attribute {
    let kind = Attribute::get_named_enum_kind_id(name);
    assert_ne!(kind, 0, "LLVM knows no attribute `{name}`");
    context.create_enum_attribute(kind, value)
}

/// Asks for rules in `.eh_frame` by which the function's frame is taken apart, right at every
/// instruction.
pub(crate) fn frame_rules(context: &Context) -> Attribute {
    const ASYNCHRONOUS: u64 = 2;
    valued_attribute(context, "uwtable", ASYNCHRONOUS)
}

/// A value that LLVM cannot see through: an empty piece of assembly whose output is its input.
pub(crate) fn opaque<'ctx>(
    context: &'ctx Context,
    builder: &Builder<'ctx>,
    constraint: &str,
    value: BasicValueEnum<'ctx>,
) -> Result<BasicValueEnum<'ctx>, CompileError> {
    // Half a vector is in no register of its own.
    if let BasicValueEnum::VectorValue(half) = value
        && vector_bits(half.get_type()) == 64
    {
        let double = builder.build_bit_cast(half, context.f64_type(), "")?;
        let double = opaque(context, builder, constraint, double)?;
        return Ok(builder.build_bit_cast(double, half.get_type(), "")?);
    }
    let ty = match value.get_type() {
        BasicTypeEnum::FloatType(ty) => ty.fn_type(&[ty.into()], false),
        BasicTypeEnum::IntType(ty) => ty.fn_type(&[ty.into()], false),
        BasicTypeEnum::VectorType(ty) => ty.fn_type(&[ty.into()], false),
        other => return Err(CompileError::Codegen(format!("cannot hide a value of type {other}"))),
    };
    let constraints = format!("={constraint},0");
    let call = assembly(context, builder, ty, &constraints, false, &[value.into()])?;
    call.add_attribute(AttributeLoc::Function, valued_attribute(context, "memory", 0));
    call.try_as_basic_value()
        .basic()
        .ok_or_else(|| CompileError::Codegen("an opaque value without a type".to_owned()))
}

fn vector_bits(ty: VectorType<'_>) -> u32 {
    let lane_bits = match ty.get_element_type() {
        BasicTypeEnum::FloatType(lane) => lane.get_bit_width(),
        BasicTypeEnum::IntType(lane) => lane.get_bit_width(),
        other => unreachable!("vectors hold no {other}"),
    };
    lane_bits * ty.get_size()
}

/// What a constant is a cast of: LLVM folds casts of constant vectors only once it optimises.
pub(crate) fn uncast(value: VectorValue<'_>) -> VectorValue<'_> {
    let mut constant = value.as_value_ref();
    // SAFETY: all four functions take any value; the operand of a cast exists.
    unsafe {
        while !LLVMIsAConstantExpr(constant).is_null()
            && LLVMGetConstOpcode(constant) == LLVMOpcode::LLVMBitCast
        {
            constant = LLVMGetOperand(constant, 0);
        }
        match BasicValueEnum::new(constant) {
            BasicValueEnum::VectorValue(source) => source,
            _ => value,
        }
    }
}

/// The lanes of two vectors that a shuffle takes, counted through both; -1 for whatever there is.
pub(crate) fn shuffle_mask(shuffle: InstructionValue<'_>) -> Vec<i32> {
    assert_eq!(shuffle.get_opcode(), InstructionOpcode::ShuffleVector);
    let shuffle = shuffle.as_value_ref();
    // SAFETY: the value is a shuffle, and each index is below the number of elements.
    unsafe {
        (0..LLVMGetNumMaskElements(shuffle)).map(|lane| LLVMGetMaskValue(shuffle, lane)).collect()
    }
}

/// A float's number if it is a constant one and no expression of constants.
pub(crate) fn float_constant(value: FloatValue<'_>) -> Option<f64> {
    // SAFETY: the function takes any value.
    let plain = unsafe { !LLVMIsAConstantFP(value.as_value_ref()).is_null() };
    if plain { value.get_constant().map(|(number, _)| number) } else { None }
}

/// Uses a value for nothing, in a way that LLVM cannot see through.
pub(crate) fn consume<'ctx>(
    context: &'ctx Context,
    builder: &Builder<'ctx>,
    constraint: &str,
    value: BasicValueEnum<'ctx>,
) -> Result<(), CompileError> {
    let ty = context.void_type().fn_type(&[value.get_type().into()], false);
    let call = assembly(context, builder, ty, constraint, true, &[value.into()])?;
    // Touches memory that nothing else can see, so that memory accesses still move past it.
    const INACCESSIBLE_READ_WRITE: u64 = 3 << 2;
    let memory = valued_attribute(context, "memory", INACCESSIBLE_READ_WRITE);
    call.add_attribute(AttributeLoc::Function, memory);
    Ok(())
}

/// The same number, of which LLVM knows nothing: if it is extended, an instruction does so.
pub(crate) fn hide<'ctx>(
    builder: &Builder<'ctx>,
    context: &'ctx Context,
    number: IntValue<'ctx>,
) -> Result<IntValue<'ctx>, CompileError> {
    let ty = number.get_type();
    let ty = ty.fn_type(&[ty.into()], false);
    // One register for both.
    let call = assembly(context, builder, ty, "=r,0", false, &[number.into()])?;
    Ok(call.try_as_basic_value().basic().expect("a number").into_int_value())
}

fn assembly<'ctx>(
    context: &'ctx Context,
    builder: &Builder<'ctx>,
    ty: FunctionType<'ctx>,
    constraints: &str,
    side_effects: bool,
    args: &[BasicMetadataValueEnum<'ctx>],
) -> Result<CallSiteValue<'ctx>, CompileError> {
    let assembly = context.create_inline_asm(
        ty,
        String::new(),
        constraints.to_owned(),
        side_effects,
        false,
        None,
        false,
    );
    let call = builder.build_indirect_call(ty, assembly, args, "")?;
    for name in ["nounwind", "willreturn"] {
        call.add_attribute(AttributeLoc::Function, attribute(context, name));
    }
    Ok(call)
}
