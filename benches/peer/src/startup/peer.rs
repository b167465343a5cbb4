//! Wasmtime's side: the same modules at its best.
//!
//! Compiled ahead of time by its optimising compiler, loaded from a file, imports resolved before
//! (`InstancePre`), memory initialised copy-on-write. Backtraces, address maps, async and garbage
//! collection are off, as they only cost here. Host functions are a hand-made minimum of WASI,
//! cheaper than Wasmtime's own. One configuration is not best for everything, so [`VARIANTS`] lists
//! the candidates and the report compares with whichever came out fastest.

pub(crate) mod plain;

use std::hint::black_box;
use std::path::Path;

use anyhow::{Context, Result};
use awsm_sandbox::clock;
use wasmtime::{
    Caller, Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module,
    ModuleExport, OptLevel, PoolingAllocationConfig, Store,
};

use super::laps::Lap;
use super::precompiled;
use crate::guests::{self, MARK, Prepared};

/// A way to configure how instances are allocated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    /// `None`: on demand, without a pool.
    pooling: Option<Pooling>,
}

#[derive(Clone, Copy, Debug)]
struct Pooling {
    keep_resident_bytes: usize,
    pagemap_scan: bool,
    decommit_batch: usize,
}

const fn pooled(
    name: &'static str,
    keep_resident_bytes: usize,
    pagemap_scan: bool,
    decommit_batch: usize,
) -> Variant {
    let pooling = Pooling { keep_resident_bytes, pagemap_scan, decommit_batch };
    Variant { name, pooling: Some(pooling) }
}

/// What competes for being Wasmtime's best.
pub(crate) const VARIANTS: [Variant; 5] = [
    pooled("pooled", 0, false, 1),
    pooled("pooled_batched", 0, false, 32),
    pooled("pooled_resident", 128 << 10, false, 1),
    pooled("pooled_scan", 1 << 20, true, 1),
    pooled("pooled_scan_batched", 1 << 20, true, 32),
];

/// Beside them, for the comparison with our unpooled path.
pub(super) const ON_DEMAND: Variant = Variant { name: "on_demand", pooling: None };

/// Instances that may live at once while laps are timed: more than the batched variants hold back.
pub(crate) const LAP_SLOTS: u32 = 128;

/// One guest on one engine, ready to be started.
pub(super) struct Peer {
    engine: Engine,
    linker: Linker<State>,
    pre: InstancePre<State>,
    exports: Exports,
    input: &'static [u8],
}

/// Where the two exports that are used lie: looked up by name once.
#[derive(Clone, Copy)]
struct Exports {
    start: ModuleExport,
    memory: ModuleExport,
}

impl Exports {
    fn of(module: &Module) -> Result<Self> {
        let find = |name| module.get_export_index(name).with_context(|| format!("no `{name}`"));
        Ok(Self { start: find("_start")?, memory: find("memory")? })
    }
}

impl Peer {
    /// Compiles the guest into `scratch`, unless an engine of the same code settings did before.
    pub(super) fn new(
        variant: Variant,
        prepared: &'static Prepared,
        scratch: &Path,
        slots: u32,
    ) -> Result<Self> {
        let engine = Engine::new(&config(variant, slots)).map_err(told)?;
        let path = precompiled::make(&engine, variant, prepared, scratch)?;
        let module = precompiled::load(&engine, &path)?;
        let mut linker = Linker::new(&engine);
        add_host_functions(&mut linker).map_err(told)?;
        let pre = linker.instantiate_pre(&module).map_err(told)?;
        let exports = Exports::of(&module)?;
        Ok(Self { engine, linker, pre, exports, input: &prepared.input })
    }

    /// Starts, runs and drops one sandbox.
    pub(super) fn lap(&self) -> Lap {
        let start = clock::ticks();
        let store = self.run(&self.pre, self.exports);
        let end = clock::ticks();
        drop(black_box(store));
        Lap { start, first: guests::first_instruction(), end, recycled: clock::ticks() }
    }

    /// What the guest wrote, to compare it with what it wrote under the other runtime.
    pub(super) fn output(&self) -> Vec<u8> {
        self.run(&self.pre, self.exports).into_data().output
    }

    /// From a file that this process has never seen to the first guest instruction, in ticks.
    pub(super) fn cold(&self, file: &Path) -> Result<u64> {
        let start = clock::ticks();
        let module = precompiled::load(&self.engine, file)?;
        let pre = self.linker.instantiate_pre(&module).map_err(told)?;
        let exports = Exports::of(&module)?;
        black_box(self.run(&pre, exports));
        Ok(guests::first_instruction() - start)
    }

    /// Sandboxes that are ready to run. They have no stack of their own: Wasmtime runs them on the
    /// caller's.
    pub(super) fn hold_started(&self, count: usize) -> Vec<Store<State>> {
        let one = |_| {
            let mut store = Store::new(&self.engine, State::new(self.input, self.exports));
            self.pre.instantiate(&mut store).expect("a slot is free");
            store
        };
        (0..count).map(one).collect()
    }

    /// Sandboxes that ran to their end and have not been dropped.
    pub(super) fn hold_finished(&self, count: usize) -> Vec<Store<State>> {
        (0..count).map(|_| self.run(&self.pre, self.exports)).collect()
    }

    #[inline]
    fn run(&self, pre: &InstancePre<State>, exports: Exports) -> Store<State> {
        let mut store = Store::new(&self.engine, State::new(self.input, exports));
        let instance = pre.instantiate(&mut store).expect("a slot is free");
        let export = instance.get_module_export(&mut store, &exports.start);
        let function = export.and_then(wasmtime::Extern::into_func).expect("a command");
        let entry = function.typed::<(), ()>(&store).expect("of the right type");
        entry.call(&mut store, ()).expect("guests of benchmarks do not trap");
        store
    }
}

pub(crate) fn config(variant: Variant, slots: u32) -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .memory_init_cow(true)
        .concurrency_support(false)
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false);
    if let Some(pooling) = variant.pooling {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(slots)
            .total_memories(slots)
            .total_tables(slots)
            .max_unused_warm_slots(slots)
            .decommit_batch_size(pooling.decommit_batch)
            .linear_memory_keep_resident(pooling.keep_resident_bytes)
            .table_keep_resident(pooling.keep_resident_bytes)
            .pagemap_scan(if pooling.pagemap_scan { Enabled::Auto } else { Enabled::No });
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

pub(crate) fn told(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("wasmtime: {error:#}")
}

/// What the host functions of one sandbox work on.
pub(super) struct State {
    input: &'static [u8],
    output: Vec<u8>,
    exports: Exports,
}

impl State {
    fn new(input: &'static [u8], exports: Exports) -> Self {
        Self { input, output: Vec::new(), exports }
    }
}

const ERRNO_SUCCESS: i32 = 0;
const ERRNO_BADF: i32 = 8;
const ERRNO_FAULT: i32 = 21;
const ERRNO_SPIPE: i32 = 70;

/// Linear memory and the sandbox's state, both at hand.
fn parts<'a>(caller: &'a mut Caller<'_, State>) -> (&'a mut [u8], &'a mut State) {
    let index = caller.data().exports.memory;
    let memory = caller.get_module_export(&index).and_then(wasmtime::Extern::into_memory);
    memory.expect("a command exports its memory").data_and_store_mut(caller)
}

fn load_u32(memory: &[u8], at: u32) -> Option<u32> {
    let bytes = memory.get(at as usize..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

fn store_bytes(memory: &mut [u8], at: u32, bytes: &[u8]) -> Option<()> {
    memory.get_mut(at as usize..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(())
}

/// The address and length of entry `index` of an array of I/O vectors.
fn io_vector(memory: &[u8], array: u32, index: u32) -> Option<(u32, usize)> {
    let at = array.checked_add(index.checked_mul(8)?)?;
    Some((load_u32(memory, at)?, load_u32(memory, at.checked_add(4)?)? as usize))
}

fn read(memory: &mut [u8], state: &mut State, array: u32, count: u32, result: u32) -> Option<()> {
    let mut total = 0;
    for index in 0..count {
        let (at, len) = io_vector(memory, array, index)?;
        let (now, later) = state.input.split_at(len.min(state.input.len()));
        store_bytes(memory, at, now)?;
        state.input = later;
        total += now.len() as u32;
    }
    store_bytes(memory, result, &total.to_le_bytes())
}

fn write(memory: &mut [u8], state: &mut State, array: u32, count: u32, result: u32) -> Option<()> {
    let mut total = 0;
    for index in 0..count {
        let (at, len) = io_vector(memory, array, index)?;
        state.output.extend_from_slice(memory.get(at as usize..)?.get(..len)?);
        total += len as u32;
    }
    store_bytes(memory, result, &total.to_le_bytes())
}

fn errno(done: Option<()>) -> i32 {
    if done.is_some() { ERRNO_SUCCESS } else { ERRNO_FAULT }
}

/// The mark, and as much of WASI preview 1 as the eight guests call.
fn add_host_functions(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    const WASI: &str = "wasi_snapshot_preview1";
    linker.func_wrap(MARK.0, MARK.1, guests::note_first_instruction)?;
    linker.func_wrap(
        WASI,
        "fd_read",
        |mut caller: Caller<'_, State>, fd: i32, array: u32, count: u32, result: u32| {
            let (memory, state) = parts(&mut caller);
            if fd == 0 { errno(read(memory, state, array, count, result)) } else { ERRNO_BADF }
        },
    )?;
    linker.func_wrap(
        WASI,
        "fd_write",
        |mut caller: Caller<'_, State>, fd: i32, array: u32, count: u32, result: u32| {
            let (memory, state) = parts(&mut caller);
            if fd == 1 { errno(write(memory, state, array, count, result)) } else { ERRNO_BADF }
        },
    )?;
    linker.func_wrap(
        WASI,
        "fd_fdstat_get",
        |mut caller: Caller<'_, State>, fd: i32, result: u32| {
            // A character device with every right, as a terminal would be.
            let mut stat = [0; 24];
            stat[0] = 2;
            stat[8..].fill(0xff);
            let (memory, _) = parts(&mut caller);
            if fd <= 2 { errno(store_bytes(memory, result, &stat)) } else { ERRNO_BADF }
        },
    )?;
    linker.func_wrap(WASI, "fd_prestat_get", |_: i32, _: u32| ERRNO_BADF)?;
    linker.func_wrap(WASI, "fd_seek", |_: i32, _: i64, _: i32, _: u32| ERRNO_SPIPE)?;
    linker.func_wrap(WASI, "fd_close", |_: i32| ERRNO_SUCCESS)?;
    for name in ["args_sizes_get", "environ_sizes_get"] {
        let none = |mut caller: Caller<'_, State>, count: u32, bytes: u32| {
            let (memory, _) = parts(&mut caller);
            let counted = store_bytes(memory, count, &[0; 4]);
            errno(counted.and_then(|()| store_bytes(memory, bytes, &[0; 4])))
        };
        linker.func_wrap(WASI, name, none)?;
    }
    for name in ["args_get", "environ_get"] {
        linker.func_wrap(WASI, name, |_: u32, _: u32| ERRNO_SUCCESS)?;
    }
    linker.func_wrap(WASI, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(wasmtime::format_err!("the guest left with exit code {code}"))
    })?;
    Ok(())
}
