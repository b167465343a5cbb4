//! From the text format to a running sandbox, for tests.
#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::Arc;

use awsm_compile::{Options, compile};
use awsm_sandbox::module::Module;
use awsm_sandbox::{HostCall, HostResult, Isolation, Limits, Linker, Pool, Program, Stop};

/// Both isolation modes that the node accepts.
pub(crate) const MODES: [Isolation; 2] = [Isolation::Guard, Isolation::Checked];

/// What the test functions of the host write down.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Arguments of `test.log`, in order.
    pub(crate) values: Vec<i64>,
}

fn log(call: &mut HostCall<'_, Log>, value: i64) -> HostResult<()> {
    call.data().values.push(value);
    Ok(())
}

fn panics(_call: &mut HostCall<'_, Log>) -> HostResult<()> {
    panic!("a host function that fails, on purpose")
}

/// The shared object of a module in the text format.
pub(crate) fn object(wat: &str, isolation: Isolation) -> Vec<u8> {
    let wasm = wat::parse_str(wat).expect("a module in the text format");
    compile(&wasm, &Options { isolation, ..Options::default() }).expect("a module that compiles")
}

/// A file with these bytes in a directory that goes away with the returned guard.
pub(crate) fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("module.so");
    std::fs::write(&path, bytes).expect("a writable directory");
    (directory, path)
}

/// A module, loaded.
pub(crate) fn load(wat: &str, isolation: Isolation) -> Arc<Module> {
    let (_directory, path) = file(&object(wat, isolation));
    Module::load(&path).expect("a module that loads")
}

/// A program with the functions `test.log: [i64] -> []` and `test.panic: [] -> []`.
pub(crate) fn program(wat: &str, isolation: Isolation, limits: Limits) -> Arc<Program<Log>> {
    link(load(wat, isolation), limits)
}

/// The same of a module that is loaded.
pub(crate) fn link(module: Arc<Module>, limits: Limits) -> Arc<Program<Log>> {
    let mut linker = Linker::new();
    linker.func("test", "log", log).func("test", "panic", panics);
    Program::link(module, &linker, limits).expect("known imports")
}

/// Runs `run` of a program to its end in a sandbox of the pool: how it stopped, and what it logged.
pub(crate) fn run(pool: &mut Pool<Log>, program: &Arc<Program<Log>>) -> (Stop, Vec<i64>) {
    let entry = program.module().exported_func("run").expect("an export `run`");
    let started = pool.start(program, entry, Log::default());
    let mut sandbox = started.map_err(|(error, _)| error).expect("a free slot");
    let stop = loop {
        match sandbox.resume() {
            Stop::Blocked(_) | Stop::Preempted => {}
            stop => break stop,
        }
    };
    let values = std::mem::take(&mut sandbox.data_mut().values);
    pool.recycle(sandbox);
    (stop, values)
}
