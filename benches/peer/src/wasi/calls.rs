//! What a host call costs beyond the loop that makes it.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use awsm_host::{Output, Stdin, WasiCtx, add_to_linker};
use awsm_sandbox::Val;
use awsm_sandbox::{Call, Limits, Linker, Module, Pool, PoolConfig, Program, Stop};
use bytes::Bytes;
use serde::Serialize;
use wasmtime::{Caller, Config, Engine, Memory, OptLevel, Store, TypedFunc};

use super::Options;
use crate::report::{Report, Table, figure};
use crate::stats::{median, tidy};

/// One exported function for each kind of call, which makes so many; and one that makes none.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "\00\01\00\00\10\00\00\00")
    (global $sum (mut i32) (i32.const 0))
    (func (export "none") (param $n i32) (loop $again
        (global.set $sum (i32.add (global.get $sum) (local.get $n)))
        (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
    (func (export "fd_write") (param $n i32) (loop $again
        (global.set $sum (i32.add (global.get $sum)
            (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 32))))
        (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
    (func (export "fd_read") (param $n i32) (loop $again
        (global.set $sum (i32.add (global.get $sum)
            (call $read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 32))))
        (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
    (func (export "clock_time_get") (param $n i32) (loop $again
        (global.set $sum (i32.add (global.get $sum)
            (call $time (i32.const 1) (i64.const 0) (i32.const 32))))
        (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"#;

const CALLS: [&str; 3] = ["fd_write", "fd_read", "clock_time_get"];
/// Bytes of each read and write.
const BYTES: usize = 16;

#[derive(Debug, Serialize)]
struct Row {
    case: &'static str,
    awsm_ns: f64,
    wasmtime_ns: f64,
    ratio: f64,
}

pub(super) fn run(
    report: &mut Report,
    options: &Options,
    awsmc: &Path,
    scratch: &Path,
) -> Result<Table> {
    let wasm = wat::parse_str(GUEST)?;
    let mut ours = Ours::new(&wasm, awsmc, scratch, options.calls)?;
    let mut peer = Peer::new(&wasm, options.calls).map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let mut table = Table::new(
        format!("a host call of {BYTES} bytes, ns beyond the loop that makes it"),
        &["call", "awsm ns", "wasmtime ns", "wasmtime ratio"],
    );
    for case in CALLS {
        let (mut awsm, mut wasmtime) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            awsm.push(ours.ns(case)? - ours.ns("none")?);
            wasmtime.push(peer.ns(case)? - peer.ns("none")?);
        }
        let (awsm_ns, wasmtime_ns) = (tidy(median(&awsm)), tidy(median(&wasmtime)));
        let ratio = tidy(awsm_ns / wasmtime_ns);
        report.row(&Row { case, awsm_ns, wasmtime_ns, ratio });
        report.summarise(format!("{case}_ns"), awsm_ns);
        report.summarise(format!("{case}_wasmtime_ns"), wasmtime_ns);
        table.line(vec![case.to_owned(), figure(awsm_ns), figure(wasmtime_ns), figure(ratio)]);
    }
    table.note(format!(
        "Medians of {} turns of {} calls. What is written goes nowhere, what is read is copied.",
        options.rounds, options.calls
    ));
    Ok(table)
}

struct Ours {
    pool: Pool<WasiCtx>,
    program: Arc<Program<WasiCtx>>,
    input: Bytes,
    calls: i32,
}

impl Ours {
    fn new(wasm: &[u8], awsmc: &Path, scratch: &Path, calls: i32) -> Result<Self> {
        let (source, object) = (scratch.join("calls.wasm"), scratch.join("calls.so"));
        fs::write(&source, wasm)?;
        let built = Command::new(awsmc)
            .args(["--cpu", "native"])
            .arg(&source)
            .arg("-o")
            .arg(&object)
            .status();
        ensure!(built.context("cannot start awsmc")?.success(), "awsmc fails");
        let module = Module::load(&object)?;
        let mut linker = Linker::new();
        add_to_linker(&mut linker);
        let program = Program::link(module, &linker, Limits::default())?;
        let input = Bytes::from(vec![7; BYTES * calls as usize]);
        Ok(Self { pool: Pool::new(PoolConfig::default()), program, input, calls })
    }

    fn ns(&mut self, name: &str) -> Result<f64> {
        let mut context = WasiCtx::default();
        context.stdin = Stdin::Bytes(self.input.clone());
        context.stdout = Output::Discard;
        let entry = self.program.module().exported_func(name).context("an export")?;
        let call = Call { initialize: None, entry, args: &[Val::I32(self.calls)] };
        let started = self.pool.start_call(&self.program, call, context);
        let mut sandbox = started.map_err(|(error, _)| error)?;
        let begin = Instant::now();
        let stop = sandbox.resume();
        let ns = begin.elapsed().as_nanos() as f64 / f64::from(self.calls);
        ensure!(stop == Stop::Returned, "{name}: {stop:?}");
        self.pool.recycle(sandbox);
        Ok(ns)
    }
}

/// What the peer's host functions work on.
struct State {
    memory: Option<Memory>,
    input: Bytes,
    read: usize,
    began: Instant,
}

struct Peer {
    store: Store<State>,
    functions: Vec<(&'static str, TypedFunc<i32, ()>)>,
    calls: i32,
}

impl Peer {
    fn new(wasm: &[u8], calls: i32) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::Speed)
            .concurrency_support(false)
            .wasm_backtrace_max_frames(None)
            .generate_address_map(false);
        let engine = Engine::new(&config)?;
        let module = wasmtime::Module::new(&engine, wasm)?;
        let mut linker = wasmtime::Linker::new(&engine);
        add_host_functions(&mut linker)?;
        let input = Bytes::from(vec![7; BYTES * calls as usize]);
        let state = State { memory: None, input, read: 0, began: Instant::now() };
        let mut store = Store::new(&engine, state);
        let instance = linker.instantiate(&mut store, &module)?;
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        let mut functions = Vec::new();
        for name in CALLS.into_iter().chain(["none"]) {
            functions.push((name, instance.get_typed_func(&mut store, name)?));
        }
        Ok(Self { store, functions, calls })
    }

    fn ns(&mut self, name: &str) -> Result<f64> {
        self.store.data_mut().read = 0;
        let (_, function) =
            self.functions.iter().find(|(own, _)| *own == name).context("an export")?;
        let begin = Instant::now();
        let called = function.call(&mut self.store, self.calls);
        called.map_err(|error| anyhow::anyhow!("{error:#}"))?;
        Ok(begin.elapsed().as_nanos() as f64 / f64::from(self.calls))
    }
}

const FAULT: i32 = 21;

fn word(memory: &[u8], at: usize) -> Option<usize> {
    let bytes = memory.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
}

/// Where the first buffer of a list lies.
fn buffer(memory: &[u8], list: i32) -> Option<std::ops::Range<usize>> {
    let list = list.cast_unsigned() as usize;
    let start = word(memory, list)?;
    let range = start..start.checked_add(word(memory, list + 4)?)?;
    (range.end <= memory.len()).then_some(range)
}

fn add_host_functions(linker: &mut wasmtime::Linker<State>) -> wasmtime::Result<()> {
    let module = "wasi_snapshot_preview1";
    linker.func_wrap(
        module,
        "fd_write",
        |mut caller: Caller<'_, State>, _: i32, list: i32, _: i32, out: i32| {
            let Some(memory) = caller.data().memory else { return FAULT };
            let memory = memory.data_mut(&mut caller);
            let Some(range) = buffer(memory, list) else { return FAULT };
            let written = black_box(&memory[range]).len() as u32;
            let out = out.cast_unsigned() as usize;
            let Some(out) = memory.get_mut(out..out + 4) else { return FAULT };
            out.copy_from_slice(&written.to_le_bytes());
            0
        },
    )?;
    linker.func_wrap(
        module,
        "fd_read",
        |mut caller: Caller<'_, State>, _: i32, list: i32, _: i32, out: i32| {
            let Some(memory) = caller.data().memory else { return FAULT };
            let (memory, state) = memory.data_and_store_mut(&mut caller);
            let Some(range) = buffer(memory, list) else { return FAULT };
            let count = range.len().min(state.input.len() - state.read);
            let input = &state.input[state.read..state.read + count];
            memory[range.start..range.start + count].copy_from_slice(input);
            state.read += count;
            let out = out.cast_unsigned() as usize;
            let Some(out) = memory.get_mut(out..out + 4) else { return FAULT };
            out.copy_from_slice(&(count as u32).to_le_bytes());
            0
        },
    )?;
    linker.func_wrap(
        module,
        "clock_time_get",
        |mut caller: Caller<'_, State>, _: i32, _: i64, out: i32| {
            let ns = caller.data().began.elapsed().as_nanos() as u64;
            let Some(memory) = caller.data().memory else { return FAULT };
            let out = out.cast_unsigned() as usize;
            let Some(out) = memory.data_mut(&mut caller).get_mut(out..out + 8) else {
                return FAULT;
            };
            out.copy_from_slice(&ns.to_le_bytes());
            0
        },
    )?;
    Ok(())
}
