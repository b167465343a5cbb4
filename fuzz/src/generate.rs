//! Seeds into modules, and types into arguments.

use std::path::Path;
use std::sync::OnceLock;

use arbitrary::Unstructured;
use wasm_smith::InstructionKind::{
    Memory, Numeric, Parametric, Reference, Table, Variable, Vector,
};
use wasm_smith::{Config, InstructionKinds, Module};
use wasmparser::{
    Export, ExternalKind, Parser, Payload, RefType, ValType, Validator, WasmFeatures,
};

use crate::random::Random;
use crate::trace::Value;

/// Function entries and loop iterations that a module with a meter of its own gets in all.
const METER: u32 = 2000;
/// How often each exported function is called.
const ROUNDS: usize = 2;

/// A module of a seed.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Its bytes.
    pub wasm: Vec<u8>,
    /// Has it exceptions, which the interpreter does not know?
    pub exceptions: bool,
}

impl Generated {
    /// A module from a file, binary or text.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(file: &Path) -> Result<Self, wat::Error> {
        let wasm = wat::parse_file(file)?;
        let sections = Parser::new(0).parse_all(&wasm);
        let exceptions = sections.flatten().any(|part| matches!(part, Payload::TagSection(_)));
        Ok(Self { wasm, exceptions })
    }
}

/// The module of a seed: valid, everything exported, all imports from [`environment`].
///
/// NaNs are made canonical by the module itself wherever they could come out in several ways, so
/// that every bit can be compared.
///
/// # Panics
/// If the generator fails, which it does for no bytes.
#[must_use]
pub fn module(seed: u64) -> Generated {
    let mut random = Random::new(seed, 1);
    let config = config(&mut random);
    let exceptions = config.exceptions_enabled;
    let bytes = 256 << random.below(5);
    let bytes: Vec<u8> = (0..bytes / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    let mut module =
        Module::new(config, &mut Unstructured::new(&bytes)).expect("a module from any bytes");
    // With a meter in the code more loops end by themselves; without one LLVM sees plain loops, and
    // those that the oracle gives up on are left out. Without an oracle that gives up all have to
    // end.
    if random.below(2) == 0 || exceptions {
        module.ensure_termination(METER).expect("no function is left raw");
    }
    Generated { wasm: module.to_bytes(), exceptions }
}

/// A module that exports whatever generated ones import, from `env`.
#[must_use]
pub fn environment() -> &'static [u8] {
    static ENVIRONMENT: OnceLock<Vec<u8>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        wat::parse_str(include_str!("environment.wat")).expect("it is as it was when tested")
    })
}

/// A module that imports all that [`environment`] exports.
fn imports(tables: bool) -> Vec<u8> {
    let mut text = include_str!("imports.wat").to_owned();
    if !tables {
        text = text.lines().filter(|line| !line.contains("(table")).collect();
    }
    wat::parse_str(text).expect("it is as it was when tested")
}

/// Small modules of many shapes. Memories and tables have a maximum that everybody can provide: how
/// much a growth may ask for is nobody's promise.
fn config(random: &mut Random) -> Config {
    // Most random programs leave early: by a trap, or by a branch. Some may do neither.
    let straight = random.below(4) == 0;
    let straight_kinds = [Numeric, Vector, Reference, Parametric, Variable, Table, Memory];
    let kinds =
        if straight { InstructionKinds::new(&straight_kinds) } else { InstructionKinds::all() };
    let large = random.below(8) == 0;
    let exceptions = random.below(8) == 0;
    let imports = (random.below(3) == 0).then(|| imports(random.below(2) == 0));
    // What is imported counts, and may be all that is permitted.
    let (no_imports, imported) = if imports.is_some() { (0, 6) } else { (1, 0) };
    Config {
        disallow_traps: random.below(2) == 0,
        allowed_instructions: kinds,
        min_types: 2,
        max_data_segments: 4,
        available_imports: imports,
        max_imports: 3 * imported,
        max_type_size: 4000,
        export_everything: true,
        min_funcs: 1,
        max_funcs: imported + if large { 8 } else { random.pick(&[1, 2, 3, 4]) },
        max_instructions: if large { 400 } else { random.pick(&[20, 40, 80, 150]) },
        max_types: 8,
        max_globals: imported / 2 + 6,
        min_memories: no_imports * u32::from(random.below(4) != 0),
        max_memories: random.pick(&[1, 1, 2, 3]),
        max_memory32_bytes: 3 << 16,
        max_memory64_bytes: 3 << 16,
        memory_max_size_required: true,
        memory64_enabled: random.below(4) == 0,
        custom_page_sizes_enabled: random.below(8) == 0,
        min_tables: no_imports * random.below(2) as u32,
        max_tables: 2,
        max_table_elements: 40,
        table_max_size_required: true,
        max_elements: 10,
        max_element_segments: 4,
        canonicalize_nans: true,
        tail_call_enabled: random.below(2) == 0,
        wide_arithmetic_enabled: random.below(4) == 0,
        exceptions_enabled: exceptions,
        max_tags: if exceptions { 4 } else { 0 },
        // What the compiler does not do, and relaxed vectors, whose results are nobody's promise.
        compact_imports_enabled: false,
        gc_enabled: false,
        relaxed_simd_enabled: false,
        threads_enabled: false,
        ..Config::default()
    }
}

/// Every exported function of a module, some times, with arguments.
///
/// # Panics
/// If the module is not valid.
#[must_use]
pub fn calls(wasm: &[u8], seed: u64) -> Vec<Call> {
    let features = WasmFeatures::all();
    let types = Validator::new_with_features(features).validate_all(wasm).expect("a valid module");
    let mut random = Random::new(seed, 2);
    let mut calls = Vec::new();
    for _ in 0..ROUNDS {
        for export in exports(wasm) {
            if export.kind != ExternalKind::Func {
                continue;
            }
            let ty = types.as_ref().core_function_at(export.index);
            let params = types[ty].unwrap_func().params().iter();
            let arguments = params.map(|ty| argument(zero(*ty), &mut random)).collect();
            calls.push(Call { name: export.name.to_owned(), arguments });
        }
    }
    calls
}

fn exports(wasm: &[u8]) -> Vec<Export<'_>> {
    let sections = Parser::new(0).parse_all(wasm).map(|section| section.expect("a valid module"));
    let exports = sections.filter_map(|section| match section {
        Payload::ExportSection(exports) => Some(exports),
        _ => None,
    });
    exports.flatten().map(|export| export.expect("a valid module")).collect()
}

fn zero(ty: ValType) -> Value {
    match ty {
        ValType::I32 => Value::I32(0),
        ValType::I64 => Value::I64(0),
        ValType::F32 => Value::F32(0),
        ValType::F64 => Value::F64(0),
        ValType::V128 => Value::V128(0),
        ValType::Ref(ty) if ty.is_extern_ref() => Value::ExternRef(None),
        ValType::Ref(ty) if ty == RefType::EXNREF || ty == RefType::EXN => Value::ExnRef(false),
        ValType::Ref(_) => Value::FuncRef(false),
    }
}

/// A call of an exported function.
#[derive(Clone, Debug)]
pub struct Call {
    /// The export.
    pub name: String,
    /// One for each parameter.
    pub arguments: Vec<Value>,
}

/// Numbers at which instructions change their behaviour.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    31,
    63,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
    u64::MAX - 1,
    0x3ff0_0000_0000_0000,
];
/// The same for floats, as numbers of the wider type.
const FLOATS: [f64; 14] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    1e10,
    -3e9,
    2_147_483_648.0,
    9.3e18,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MIN_POSITIVE,
    f64::NAN,
];

/// A value like `like`, whose content does not matter.
pub(crate) fn argument(like: Value, random: &mut Random) -> Value {
    let integer = |random: &mut Random| match random.below(3) {
        0 => random.pick(&EDGES),
        1 => random.below(100),
        _ => random.next(),
    };
    let float = |random: &mut Random| random.pick(&FLOATS) * random.pick(&[1.0, 1.0, 1.5]);
    match like {
        Value::I32(_) => Value::I32(integer(random) as u32),
        Value::I64(_) => Value::I64(integer(random)),
        Value::F32(_) => Value::f32(float(random) as f32),
        Value::F64(_) => Value::f64(float(random)),
        Value::V128(_) => {
            let [low, high] = [integer(random), integer(random)].map(u128::from);
            Value::V128(high << 64 | low)
        }
        Value::FuncRef(_) => Value::FuncRef(false),
        Value::ExnRef(_) => Value::ExnRef(false),
        Value::ExternRef(_) => Value::ExternRef(match random.below(3) {
            0 => None,
            _ => Some(random.below(10) as u32),
        }),
    }
}
