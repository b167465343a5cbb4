//! Our side: `awsmc`'s shared object through the sandbox crate, with the whole of its WASI.

use std::cell::Cell;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use awsm_host::{Output, Stdin, WasiCtx};
use awsm_sandbox::{
    FuncIdx, HostCall, HostResult, Leave, Limits, Linker, Module, Pool, PoolConfig, Program,
    Sandbox, Stop, Wait, clock,
};
use bytes::Bytes;

use super::laps::Lap;
use crate::guests::{self, MARK, Prepared};

/// The most that a guest of this benchmark answers.
const OUTPUT_LIMIT_BYTES: usize = 64 << 10;

/// One guest, ready to be started.
pub(super) struct Ours {
    linker: Linker<WasiCtx>,
    program: Arc<Program<WasiCtx>>,
    entry: FuncIdx,
    input: Bytes,
}

/// The guest's shared object, made by `awsmc` as a user would, in `scratch`.
pub(super) fn compile(awsmc: &Path, prepared: &Prepared, scratch: &Path) -> Result<PathBuf> {
    let object = scratch.join(prepared.guest.name).with_extension("so");
    let mut command = Command::new(awsmc);
    command.args(["--cpu", "native"]).arg(&prepared.wasm_path).arg("-o").arg(&object);
    let output = command.output().with_context(|| format!("cannot run {}", awsmc.display()))?;
    ensure!(output.status.success(), "awsmc: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(object)
}

impl Ours {
    pub(super) fn new(object: &Path, prepared: &Prepared) -> Result<Self> {
        let mut linker = Linker::new();
        awsm_host::add_to_linker(&mut linker);
        linker.func(MARK.0, MARK.1, mark);
        let (program, entry) = open(object, &linker)?;
        Ok(Self { linker, program, entry, input: Bytes::from(prepared.input.clone()) })
    }

    /// A pool with warm slots for `live` sandboxes.
    pub(super) fn warm_pool(&self, live: usize) -> Result<Pool<WasiCtx>> {
        let config = PoolConfig { max_idle_stacks: live, ..PoolConfig::default() };
        let mut pool = Pool::new(config);
        pool.prepare(&self.program, live).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(pool)
    }

    /// Starts, runs and recycles one sandbox.
    pub(super) fn lap(&self, pool: &mut Pool<WasiCtx>) -> Lap {
        let start = clock::ticks();
        let sandbox = black_box(self.run(pool, &self.program, self.entry));
        let end = clock::ticks();
        pool.recycle(sandbox);
        Lap { start, first: guests::first_instruction(), end, recycled: clock::ticks() }
    }

    /// The same without anything kept ready, and nothing kept afterwards.
    pub(super) fn unpooled_lap(&self) -> Lap {
        let mut pool = Pool::new(PoolConfig { max_idle_stacks: 0, ..PoolConfig::default() });
        let start = clock::ticks();
        let sandbox = black_box(self.run(&mut pool, &self.program, self.entry));
        let end = clock::ticks();
        drop(sandbox);
        Lap { start, first: guests::first_instruction(), end, recycled: clock::ticks() }
    }

    /// What the guest wrote, to compare it with what it wrote under the other runtime.
    pub(super) fn output(&self, pool: &mut Pool<WasiCtx>) -> Vec<u8> {
        let mut sandbox = self.run(pool, &self.program, self.entry);
        let output = sandbox.data_mut().stdout.take();
        pool.recycle(sandbox);
        output
    }

    /// From a file that this process has never seen to the first guest instruction, in ticks, on a
    /// worker that has served another program before.
    pub(super) fn cold(&self, file: &Path) -> Result<u64> {
        let mut pool = self.warm_pool(1)?;
        let start = clock::ticks();
        let (program, entry) = open(file, &self.linker)?;
        black_box(self.run(&mut pool, &program, entry));
        Ok(guests::first_instruction() - start)
    }

    /// Sandboxes stopped at their first instruction, each on its stack.
    pub(super) fn hold_started(
        &self,
        pool: &mut Pool<WasiCtx>,
        count: usize,
    ) -> Vec<Sandbox<WasiCtx>> {
        HOLD.set(true);
        let one = |_| {
            let mut sandbox = self.start(pool, &self.program, self.entry);
            let stop = sandbox.resume();
            assert!(matches!(stop, Stop::Blocked(_)), "held at the mark, not {stop:?}");
            sandbox
        };
        let held = (0..count).map(one).collect();
        HOLD.set(false);
        held
    }

    /// Sandboxes that ran to their end and have not been recycled.
    pub(super) fn hold_finished(
        &self,
        pool: &mut Pool<WasiCtx>,
        count: usize,
    ) -> Vec<Sandbox<WasiCtx>> {
        (0..count).map(|_| self.run(pool, &self.program, self.entry)).collect()
    }

    #[inline]
    fn start(
        &self,
        pool: &mut Pool<WasiCtx>,
        program: &Arc<Program<WasiCtx>>,
        entry: FuncIdx,
    ) -> Sandbox<WasiCtx> {
        let mut context = WasiCtx::default();
        context.stdin = Stdin::Bytes(self.input.clone());
        context.stdout = Output::buffer(OUTPUT_LIMIT_BYTES);
        match pool.start(program, entry, context) {
            Ok(sandbox) => sandbox,
            Err((error, _)) => panic!("cannot start a sandbox: {error}"),
        }
    }

    #[inline]
    fn run(
        &self,
        pool: &mut Pool<WasiCtx>,
        program: &Arc<Program<WasiCtx>>,
        entry: FuncIdx,
    ) -> Sandbox<WasiCtx> {
        let mut sandbox = self.start(pool, program, entry);
        match sandbox.resume() {
            Stop::Returned | Stop::Exited(0) => sandbox,
            stop => panic!("guests of benchmarks run to their end: {stop:?}"),
        }
    }
}

fn open(object: &Path, linker: &Linker<WasiCtx>) -> Result<(Arc<Program<WasiCtx>>, FuncIdx)> {
    let module = Module::load(object).map_err(|error| anyhow::anyhow!("{error}"))?;
    let entry = module.exported_func("_start").context("no `_start`")?;
    let program = Program::link(module, linker, Limits::default())?;
    Ok((program, entry))
}

thread_local! {
    /// Shall guests stay at the mark?
    static HOLD: Cell<bool> = const { Cell::new(false) };
}

fn mark(_: &mut HostCall<'_, WasiCtx>) -> HostResult<()> {
    guests::note_first_instruction();
    if HOLD.get() { Err(Leave::Block(Wait::Yield)) } else { Ok(()) }
}
