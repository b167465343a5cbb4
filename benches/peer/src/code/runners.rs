//! Ways to run a program once: how long it took, and its answer.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use awsm_abi::{Isolation, MAGIC};
use awsm_host::{Output, Stdin, WasiCtx};
use awsm_sandbox::{FuncIdx, Limits, Linker, Module, Pool, PoolConfig, Program, Stop};
use bytes::Bytes;

use crate::startup::peer::plain::Plain;

/// The most that a program of this benchmark answers.
const OUTPUT_LIMIT_BYTES: usize = 256 << 20;

/// One variant of a program.
pub(super) trait Run {
    /// Runs it: seconds, and what it wrote on standard output.
    fn run(&self) -> Result<(f64, Vec<u8>)>;
}

/// A native program, a process for each run.
pub(super) struct Native {
    program: PathBuf,
    input: PathBuf,
}

impl Native {
    pub(super) fn new(program: &Path, input: &[u8], scratch: &Path) -> Result<Self> {
        ensure!(program.is_file(), "{} is missing: make bench-code builds it", program.display());
        let file = scratch.join("input");
        fs::write(&file, input).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { program: program.to_owned(), input: file })
    }
}

impl Run for Native {
    fn run(&self) -> Result<(f64, Vec<u8>)> {
        let mut command = Command::new(&self.program);
        command.stdin(File::open(&self.input)?).stderr(Stdio::inherit());
        let start = Instant::now();
        let output = command.output().with_context(|| self.program.display().to_string())?;
        let time = start.elapsed().as_secs_f64();
        ensure!(output.status.success(), "it ended with {}", output.status);
        Ok((time, output.stdout))
    }
}

/// Compiled by `awsmc`, in a fresh sandbox for each run.
pub(super) struct Ours {
    program: Arc<Program<WasiCtx>>,
    entry: FuncIdx,
    input: Bytes,
}

impl Ours {
    pub(super) fn new(
        awsmc: &Path,
        cpu: &str,
        mode: &str,
        wasm: &Path,
        input: &[u8],
        scratch: &Path,
    ) -> Result<Self> {
        let object = scratch.join(mode).with_extension("so");
        let mut command = Command::new(awsmc);
        let memory: &[&str] = match mode {
            "lax" => &["--memory", "none", "--lax"],
            mode => &["--memory", mode],
        };
        command.args(["--cpu", cpu]).args(memory).arg(wasm).arg("-o").arg(&object);
        let output = command.output().with_context(|| format!("cannot run {}", awsmc.display()))?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        allow(&object)?;
        let mut linker = Linker::new();
        awsm_host::add_to_linker(&mut linker);
        let module = Module::load(&object).map_err(|error| anyhow::anyhow!("{error}"))?;
        let entry = module.exported_func("_start").context("no `_start`")?;
        let limits = Limits {
            memory_bytes: 1 << 30,
            stack_bytes: 8 << 20,
            huge_pages: true,
            ..Limits::default()
        };
        let program = Program::link(module, &linker, limits)?;
        Ok(Self { program, entry, input: Bytes::copy_from_slice(input) })
    }
}

/// Code without isolation is refused by the loader, as it should be. Here it is measured on guests
/// that are known, so its descriptor is made to say `guard`, and it gets a guard.
fn allow(object: &Path) -> Result<()> {
    let mut bytes = fs::read(object)?;
    let desc = bytes.windows(MAGIC.len()).position(|window| window == MAGIC);
    let place = desc.context("the object has no descriptor")? + ISOLATION_OFFSET;
    let isolation = &mut bytes[place..place + 4];
    if isolation == (Isolation::None as u32).to_le_bytes() {
        isolation.copy_from_slice(&(Isolation::Guard as u32).to_le_bytes());
        fs::write(object, bytes)?;
    }
    Ok(())
}

const ISOLATION_OFFSET: usize = std::mem::offset_of!(awsm_abi::desc::ModuleDesc, isolation);

impl Run for Ours {
    fn run(&self) -> Result<(f64, Vec<u8>)> {
        let mut pool = Pool::new(PoolConfig { max_idle_stacks: 0, ..PoolConfig::default() });
        let mut context = WasiCtx::default();
        context.stdin = Stdin::Bytes(self.input.clone());
        context.stdout = Output::buffer(OUTPUT_LIMIT_BYTES);
        let start = Instant::now();
        let Ok(mut sandbox) = pool.start(&self.program, self.entry, context) else {
            bail!("cannot start a sandbox");
        };
        let stop = sandbox.resume();
        let time = start.elapsed().as_secs_f64();
        ensure!(matches!(stop, Stop::Returned | Stop::Exited(0)), "it ended with {stop:?}");
        Ok((time, sandbox.data_mut().stdout.take()))
    }
}

/// Compiled by Wasmtime, in a fresh store for each run.
pub(super) struct Peer(Plain);

impl Peer {
    pub(super) fn new(wasm: &Path, input: &[u8]) -> Result<Self> {
        let bytes = fs::read(wasm).with_context(|| format!("cannot read {}", wasm.display()))?;
        Ok(Self(Plain::new(&bytes, input)?))
    }
}

impl Run for Peer {
    fn run(&self) -> Result<(f64, Vec<u8>)> {
        let start = Instant::now();
        let output = self.0.run()?;
        Ok((start.elapsed().as_secs_f64(), output))
    }
}
