//! From a parsed module to LLVM IR: one native function for each defined function, entry thunks for
//! the runtime, and nothing else. No optimisation happens here.
//!
//! Reading order: this file declares everything; `function` turns one body into IR, instruction by
//! instruction; `control`, `numeric`, `vector`, `memory`, `table`, `call` hold the instructions by kind;
//! `context` is the way to what lies around linear memory.

mod alias;
mod argument;
mod call;
mod check;
mod context;
mod control;
mod debug;
mod entry;
mod exception;
mod function;
mod memory;
mod numeric;
mod reference;
mod table;
mod tail;
mod trap;
mod vector;

use std::cell::OnceCell;
use std::collections::HashMap;

use awsm_abi::Isolation;
use awsm_abi::context::Layout;
use inkwell::GlobalVisibility;
use inkwell::attributes::AttributeLoc;
use inkwell::context::Context;
use inkwell::module::{Linkage, Module as LlvmModule};
use inkwell::targets::TargetMachine;
use inkwell::types::{BasicMetadataTypeEnum, BasicType, BasicTypeEnum, FunctionType};
use inkwell::values::{FunctionValue, MetadataValue};

use crate::error::CompileError;
use crate::limits;
use crate::llvm::{self, Types};
use crate::module::{FuncType, Module, ValType};
use crate::target::Processor;
use crate::unit::Job;
use crate::units::{Unit, Units};

/// The alias tag of accesses to linear memory.
pub(crate) fn linear_memory_tag(context: &Context) -> MetadataValue<'_> {
    alias::Tags::new(context).linear
}

pub(crate) use check::{MEMORY_BYTES, MEMORY_CHECK};

/// All native code goes into this section: being a C identifier, its name makes the linker provide
/// `__start_` and `__stop_` symbols around it.
pub const TEXT_SECTION: &str = "awsm_text";

/// What translating any function needs.
pub(crate) struct Env<'ctx, 'm> {
    /// LLVM's context.
    pub context: &'ctx Context,
    /// The module being written.
    pub llvm: &'m LlvmModule<'ctx>,
    /// The module being read.
    pub module: &'m Module<'m>,
    /// Where things lie below the context pointer.
    pub layout: Layout,
    /// How linear memory is isolated.
    pub isolation: Isolation,
    /// The processor.
    pub processor: &'m Processor,
    /// Types.
    pub types: Types<'ctx>,
    /// Kinds of memory.
    pub alias: alias::Tags<'ctx>,
    /// Branch weights: the first way is taken almost never.
    pub unlikely: MetadataValue<'ctx>,
    /// Checks an access in `checked` mode.
    pub check: Option<FunctionValue<'ctx>>,
    /// The guest's lines, if they are asked for.
    debug: Option<debug::Debug<'ctx, 'm>>,
    /// Symbols of all functions.
    pub code: &'m Code,
    /// Which functions are written, and which are called by others.
    units: &'m Units,
    /// The defined functions, as far as they are written or called here.
    functions: Vec<OnceCell<OwnFunction<'ctx>>>,
    /// Native types of the function types.
    pub func_types: Vec<FunctionType<'ctx>>,
}

/// A function that the module defines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnFunction<'ctx> {
    /// Its code.
    pub body: FunctionValue<'ctx>,
    /// Is it in the tail convention, see [`tail`]?
    pub tail: bool,
}

/// What the descriptor has to point at.
#[derive(Debug)]
pub(crate) struct Code {
    /// Symbols of the defined functions.
    pub functions: Vec<Symbols>,
    /// Symbols of the entry thunks of the types; `None` for types that no function has.
    pub entries: Vec<Option<String>>,
}

/// A defined function's symbols; it has one of them at least.
#[derive(Debug)]
pub(crate) struct Symbols {
    /// Code in the ordinary convention.
    pub code: Option<String>,
    /// Code in the tail convention, which is then the function's own.
    pub tail: Option<String>,
}

impl Symbols {
    /// The symbol of the function's own code.
    pub(crate) fn body(&self) -> &str {
        self.tail.as_ref().or(self.code.as_ref()).expect("every function has code")
    }
}

impl Code {
    /// Decides on names.
    pub(crate) fn of(module: &Module<'_>) -> Self {
        let first = module.imported.functions;
        let mut code = Self { functions: Vec::new(), entries: vec![None; module.types.len()] };
        for index in first..module.functions.len() as u32 {
            let name = symbol(index, module.names[index as usize]);
            let tail = module.behaviour.has_tail_calls(index - first);
            code.functions.push(match tail {
                true => tail::symbols(name, is_called_from_outside(module, index)),
                false => Symbols { code: Some(name), tail: None },
            });
        }
        let mut by_type = HashMap::new();
        for ty in &module.functions {
            let shape = &module.types[*ty as usize];
            let symbol = by_type.entry(shape).or_insert_with(|| format!("entry[{ty}]"));
            code.entries[*ty as usize] = Some(symbol.clone());
        }
        code
    }
}

/// Can anything but direct calls lead to a function?
fn is_called_from_outside(module: &Module<'_>, index: u32) -> bool {
    module.func_ref_index(index).is_some() || module.start == Some(index)
}

/// Writes the functions of one unit into `llvm`, and with the first unit's the entry thunks.
pub(crate) fn translate<'ctx>(
    context: &'ctx Context,
    llvm: &LlvmModule<'ctx>,
    job: &Job<'_>,
    unit: &Unit,
    machine: &TargetMachine,
) -> Result<(), CompileError> {
    let Job { module, code, .. } = job;
    llvm.set_triple(&job.processor.triple());
    llvm.set_data_layout(&machine.get_target_data().get_data_layout());
    let types = Types::new(context);
    let mut env = Env {
        context,
        llvm,
        module,
        layout: module.layout(job.processor.arch)?,
        isolation: job.options.isolation,
        processor: &job.processor,
        types,
        alias: alias::Tags::new(context),
        unlikely: unlikely(context, &types),
        check: None,
        debug: job.lines.as_ref().map(|lines| debug::Debug::new(context, llvm, lines)),
        code,
        units: &job.units,
        functions: vec![OnceCell::new(); module.bodies.len()],
        func_types: Vec::new(),
    };
    env.check = check::helpers(&env)?;
    env.func_types = module.types.iter().map(|ty| env.native_type(ty)).collect();
    for own in &unit.functions {
        env.own(*own);
    }
    for own in &unit.functions {
        function::translate(&env, *own, &module.bodies[*own as usize])?;
    }
    if unit.number == 0 {
        entry::thunks(&env, code)?;
    }
    tail::wrappers(&env, &unit.functions)?;
    if let Some(debug) = &env.debug {
        debug.finish();
    }
    Ok(())
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

    /// What all our functions have in common. A function that other units or the descriptor's users call
    /// must keep its shape; LLVM may inline, change or drop the others.
    fn adorn(&self, function: FunctionValue<'ctx>, called_from_outside: bool) {
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

    /// `ret f(ctx, args...)`. Of several results, floats are returned in vectors: more than two LLVM would
    /// return on the x87 stack of x86-64, which changes signalling NaNs.
    fn native_type(&self, ty: &FuncType) -> FunctionType<'ctx> {
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

/// A function's symbol: unique by its number, readable in a profile by its name.
fn symbol(index: u32, name: &str) -> String {
    let readable = |c: char| if c.is_ascii_graphic() && c != '@' && c != '"' { c } else { '_' };
    let name: String = name.chars().take(limits::SYMBOL_CHARS).map(readable).collect();
    if name.is_empty() { format!("wasm[{index}]") } else { format!("wasm[{index}]:{name}") }
}

fn unlikely<'ctx>(context: &'ctx Context, types: &Types<'ctx>) -> MetadataValue<'ctx> {
    context.metadata_node(&[
        context.metadata_string("branch_weights").into(),
        types.i32.const_int(1, false).into(),
        types.i32.const_int((1 << 20) - 1, false).into(),
    ])
}
