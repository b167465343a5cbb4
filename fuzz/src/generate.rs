//! Seeds into modules, and types into arguments.

use arbitrary::Unstructured;
use wasm_smith::InstructionKind::{
    Memory, Numeric, Parametric, Reference, Table, Variable, Vector,
};
use wasm_smith::{Config, InstructionKinds, Module};

use crate::random::Random;
use crate::trace::Value;

/// Function entries and loop iterations that a module with a meter of its own gets in all.
const METER: u32 = 2000;

/// The module of a seed: valid, without imports, everything exported.
///
/// NaNs are made canonical by the module itself wherever they could come out in several ways, so that
/// every bit can be compared.
///
/// # Panics
/// If the generator fails, which it does for no bytes.
#[must_use]
pub fn module(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed, 1);
    let config = config(&mut random);
    let bytes = 512 << random.below(5);
    let bytes: Vec<u8> = (0..bytes / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    let mut module =
        Module::new(config, &mut Unstructured::new(&bytes)).expect("a module from any bytes");
    // With a meter in the code more loops end by themselves; without one LLVM sees plain loops, and
    // those that the oracle gives up on are left out.
    if random.below(2) == 0 {
        module.ensure_termination(METER).expect("no function is left raw");
    }
    module.to_bytes()
}

/// Small modules of many shapes. Memories and tables have a maximum that everybody can provide: how
/// much a growth may ask for is nobody's promise.
fn config(random: &mut Random) -> Config {
    // Most random programs leave early: by a trap, or by a branch. Some may do neither.
    let straight = random.below(4) == 0;
    let straight_kinds = [Numeric, Vector, Reference, Parametric, Variable, Table, Memory];
    let kinds =
        if straight { InstructionKinds::new(&straight_kinds) } else { InstructionKinds::all() };
    Config {
        disallow_traps: random.below(2) == 0,
        allowed_instructions: kinds,
        min_types: 2,
        max_data_segments: 4,
        max_imports: 0,
        export_everything: true,
        min_funcs: 1,
        max_funcs: random.pick(&[1, 2, 4, 8]),
        max_instructions: random.pick(&[20, 60, 150, 400]),
        max_types: 8,
        max_globals: 6,
        min_memories: (random.below(4) != 0).into(),
        max_memories: 1,
        max_memory32_bytes: 3 << 16,
        memory_max_size_required: true,
        min_tables: (random.below(2)) as u32,
        max_tables: 2,
        max_table_elements: 40,
        table_max_size_required: true,
        max_elements: 10,
        max_element_segments: 4,
        canonicalize_nans: true,
        // What the compiler does not do, or not yet.
        compact_imports_enabled: false,
        custom_page_sizes_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
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
        Value::ExternRef(_) => Value::ExternRef(match random.below(3) {
            0 => None,
            _ => Some(random.below(10) as u32),
        }),
    }
}
