//! The translation environment of a codegen unit: types, tags, declared functions.

use std::cell::OnceCell;

use awsm_abi::Isolation;
use awsm_abi::context::Layout;
use inkwell::GlobalVisibility;
use inkwell::attributes::AttributeLoc;
use inkwell::context::Context;
use inkwell::module::{Linkage, Module as LlvmModule};
use inkwell::types::{BasicMetadataTypeEnum, BasicType, BasicTypeEnum, FunctionType};
use inkwell::values::{FunctionValue, MetadataValue};

use super::debug::Debug;
use crate::ir::alias;
use crate::ir::llvm::{self, Types};
use crate::job::{Code, TEXT_SECTION, is_called_from_outside};
use crate::target::Processor;
use crate::wasm::module::{FuncType, Module, ValType};
use crate::wasm::units::Units;

/// The environment of a translation.
pub(crate) struct Env<'ctx, 'm> {
    /// LLVM's context.
    pub context: &'ctx Context,
    /// The LLVM module.
    pub llvm: &'m LlvmModule<'ctx>,
    /// The parsed module.
    pub module: &'m Module<'m>,
    /// Layout of the context.
    pub layout: Layout,
    /// Isolation of linear memory.
    pub isolation: Isolation,
    /// The processor.
    pub processor: &'m Processor,
    /// Types.
    pub types: Types<'ctx>,
    /// Alias tags.
    pub alias: alias::Tags<'ctx>,
    /// Branch weights: the first way is taken almost never.
    pub unlikely: MetadataValue<'ctx>,
    /// Are addresses hidden from LLVM? See [`crate::wasm::units::Unit::apart`].
    pub hides_addresses: bool,
    /// The bounds check of `checked` mode.
    pub check: Option<FunctionValue<'ctx>>,
    /// The guest's lines, if they are asked for.
    pub(super) debug: Option<Debug<'ctx, 'm>>,
    /// Symbols of all functions.
    pub code: &'m Code,
    /// Which functions are written, and which are called by others.
    pub(super) units: &'m Units,
    /// The defined functions, as far as they are written or called here.
    pub(super) functions: Vec<OnceCell<OwnFunction<'ctx>>>,
    /// Native types of the function types.
    pub func_types: Vec<FunctionType<'ctx>>,
}

/// A function that the module defines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnFunction<'ctx> {
    /// Its code.
    pub body: FunctionValue<'ctx>,
    /// Is it in the tail convention, see [`super::tail`]?
    pub tail: bool,
}

impl<'ctx> Env<'ctx, '_> {
    /// The defined function number `own`, counted without imports; declared when first asked for.
    pub(crate) fn own(&self, own: u32) -> OwnFunction<'ctx> {
        *self.functions[own as usize].get_or_init(|| {
            let index = self.module.imported.functions + own;
            let ty = self.module.functions[index as usize];
            let tail = self.module.behaviour.has_tail_calls(own);
            let native = if tail { self.tail_type(ty) } else { self.func_types[ty as usize] };
            let name = self.code.functions[own as usize].body();
            let body = self.llvm.add_function(name, native, None);
            let outside = is_called_from_outside(self.module, index);
            self.adorn(body, outside || self.units.is_called_across(own));
            OwnFunction { body, tail }
        })
    }

    /// What all our functions have in common. A function that other units or the descriptor's users
    /// call must keep its shape; LLVM may inline, change or drop the others.
    pub(super) fn adorn(&self, function: FunctionValue<'ctx>, called_from_outside: bool) {
        if called_from_outside {
            function.as_global_value().set_visibility(GlobalVisibility::Hidden);
        } else {
            function.set_linkage(Linkage::Internal);
        }
        function.set_section(Some(TEXT_SECTION));
        function.add_attribute(AttributeLoc::Function, llvm::attribute(self.context, "nounwind"));
        // Frames can be walked at every instruction: for what it takes, see the sandbox's `trace`.
        function.add_attribute(AttributeLoc::Function, llvm::frame_rules(self.context));
        let strings = [
            // Stack overflow is found by a guard page, which no frame may step over.
            ("probe-stack", "inline-asm"),
            // Endless recursion has to run into that page, not become an endless loop.
            ("disable-tail-calls", "true"),
            ("tune-cpu", &self.processor.tune),
        ];
        for (key, value) in strings {
            let attribute = self.context.create_string_attribute(key, value);
            function.add_attribute(AttributeLoc::Function, attribute);
        }
    }

    /// A value type's native type.
    pub(crate) fn value_type(&self, ty: ValType) -> BasicTypeEnum<'ctx> {
        match ty {
            ValType::I32 => self.types.i32.into(),
            ValType::I64 => self.types.i64.into(),
            ValType::F32 => self.types.f32.into(),
            ValType::F64 => self.types.f64.into(),
            ValType::V128 => self.types.v128.into(),
            ValType::Ref(_) => self.types.ptr.into(),
        }
    }

    /// `ret f(ctx, args...)`. Of several results, floats are returned in vectors: more than two
    /// LLVM would return on the x87 stack of x86-64, which changes signalling NaNs.
    pub(super) fn native_type(&self, ty: &FuncType) -> FunctionType<'ctx> {
        let mut params: Vec<BasicMetadataTypeEnum<'ctx>> = vec![self.types.ptr.into()];
        params.extend(ty.params.iter().map(|ty| BasicMetadataTypeEnum::from(self.value_type(*ty))));
        match ty.results[..] {
            [] => self.context.void_type().fn_type(&params, false),
            [one] => self.value_type(one).fn_type(&params, false),
            ref several => {
                let fields: Vec<_> = several.iter().map(|ty| self.register_type(*ty)).collect();
                self.context.struct_type(&fields, false).fn_type(&params, false)
            }
        }
    }
}
