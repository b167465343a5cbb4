//! The peer of `neighbours`: the wasmtime crate in a Tokio server with one worker thread.
//!
//! What one would build without aWsm: hyper on Tokio's multi-threaded runtime with one worker
//! thread per core (here one), the module compiled and its imports resolved before, instances from
//! a pool, each request in a fresh one. With `--epochs`, a thread counts the epoch once a
//! millisecond and a guest yields to Tokio whenever it notices.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use wasmtime::{
    Caller, Config, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module, OptLevel,
    PoolingAllocationConfig, Store,
};

/// Flags of `awsm-bench tokio-server`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The function behind every path
    #[arg(long, value_name = "FILE")]
    module: PathBuf,
    /// Guests yield once a millisecond
    #[arg(long)]
    epochs: bool,
}

/// How often the epoch is counted.
const EPOCH: Duration = Duration::from_millis(1);

/// Serves until it is killed; prints `Serving http://ADDRESS` first.
pub(crate) fn run(options: &Options) -> Result<()> {
    let function = Arc::new(Function::new(&options.module, options.epochs)?);
    if options.epochs {
        let engine = function.engine.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(EPOCH);
                engine.increment_epoch();
            }
        });
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build()?;
    runtime.block_on(async move { tokio::spawn(serve(function)).await? })
}

async fn serve(function: Arc<Function>) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    println!("Serving http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let function = Arc::clone(&function);
        let service = service_fn(move |request| answer(Arc::clone(&function), request));
        // A client that breaks the connection off has its reasons.
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    function: Arc<Function>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let said = match request.into_body().collect().await {
        Ok(body) => function.call(body.to_bytes()).await,
        Err(error) => Err(error.into()),
    };
    Ok(match said {
        Ok(output) => Response::new(Full::new(output.into())),
        Err(error) => {
            let mut response = Response::new(Full::new(format!("{error:#}").into()));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    })
}

/// A function ready to be called.
pub(crate) struct Function {
    engine: Engine,
    pre: InstancePre<State>,
    epochs: bool,
}

/// What the host functions of one instance work on.
struct State {
    input: Bytes,
    output: Vec<u8>,
}

fn told(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("wasmtime: {error:#}")
}

impl Function {
    /// Compiles it; with `epochs` its code looks at the epoch.
    pub(crate) fn new(module: &Path, epochs: bool) -> Result<Self> {
        let wasm =
            std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(256).total_memories(256).total_tables(256).total_stacks(256);
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::Speed)
            .memory_init_cow(true)
            .wasm_backtrace_max_frames(None)
            .epoch_interruption(epochs)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).map_err(told)?;
        let module = Module::new(&engine, &wasm).map_err(told)?;
        let mut linker = Linker::new(&engine);
        add_host_functions(&mut linker).map_err(told)?;
        let pre = linker.instantiate_pre(&module).map_err(told)?;
        Ok(Self { engine, pre, epochs })
    }

    /// Calls it to its end on this thread; the epoch never comes.
    pub(crate) fn call_now(&self, input: Bytes) -> Result<Vec<u8>> {
        let mut store = Store::new(&self.engine, State { input, output: Vec::new() });
        if self.epochs {
            store.set_epoch_deadline(u64::MAX / 2);
        }
        let instance = self.pre.instantiate(&mut store).map_err(told)?;
        let entry = instance.get_typed_func::<(), ()>(&mut store, "_start").map_err(told)?;
        entry.call(&mut store, ()).map_err(told)?;
        Ok(store.into_data().output)
    }

    async fn call(&self, input: Bytes) -> Result<Vec<u8>> {
        let mut store = Store::new(&self.engine, State { input, output: Vec::new() });
        if self.epochs {
            store.set_epoch_deadline(1);
            store.epoch_deadline_async_yield_and_update(1);
        }
        let instance = self.pre.instantiate_async(&mut store).await.map_err(told)?;
        let entry = instance.get_typed_func::<(), ()>(&mut store, "_start").map_err(told)?;
        entry.call_async(&mut store, ()).await.map_err(told)?;
        Ok(store.into_data().output)
    }
}

const SUCCESS: i32 = 0;
const BAD_FILE: i32 = 8;
const FAULT: i32 = 21;
const NO_SEEK: i32 = 70;

/// Memory and state of the caller.
fn parts<'a>(caller: &'a mut Caller<'_, State>) -> (&'a mut [u8], &'a mut State) {
    let memory = caller.get_export("memory").and_then(wasmtime::Extern::into_memory);
    memory.expect("a command exports its memory").data_and_store_mut(caller)
}

fn load(memory: &[u8], at: usize) -> Option<usize> {
    let bytes = memory.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes) as usize)
}

fn store(memory: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    memory.get_mut(at..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(())
}

fn code(done: Option<()>) -> i32 {
    if done.is_some() { SUCCESS } else { FAULT }
}

/// Does `each` for every I/O vector; writes down the sum of what it answers.
fn vectors(
    caller: &mut Caller<'_, State>,
    (array, count, result): (u32, u32, u32),
    each: impl Fn(&mut [u8], &mut State, usize, usize) -> Option<usize>,
) -> Option<()> {
    let (memory, state) = parts(caller);
    let mut total = 0;
    for index in 0..count as usize {
        let at = array as usize + 8 * index;
        let (start, len) = (load(memory, at)?, load(memory, at + 4)?);
        total += each(memory, state, start, len)?;
    }
    store(memory, result as usize, &(total as u32).to_le_bytes())
}

/// As much of WASI preview 1 as the function calls.
fn add_host_functions(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    const WASI: &str = "wasi_snapshot_preview1";
    linker.func_wrap(
        WASI,
        "fd_read",
        |mut caller: Caller<'_, State>, fd: i32, array: u32, count: u32, result: u32| {
            if fd != 0 {
                return BAD_FILE;
            }
            code(vectors(&mut caller, (array, count, result), |memory, state, at, len| {
                let now = state.input.split_to(len.min(state.input.len()));
                store(memory, at, &now)?;
                Some(now.len())
            }))
        },
    )?;
    linker.func_wrap(
        WASI,
        "fd_write",
        |mut caller: Caller<'_, State>, _: i32, array: u32, count: u32, result: u32| {
            code(vectors(&mut caller, (array, count, result), |memory, state, at, len| {
                state.output.extend_from_slice(memory.get(at..)?.get(..len)?);
                Some(len)
            }))
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
            if fd <= 2 { code(store(memory, result as usize, &stat)) } else { BAD_FILE }
        },
    )?;
    linker.func_wrap(WASI, "fd_prestat_get", |_: i32, _: u32| BAD_FILE)?;
    linker.func_wrap(WASI, "fd_prestat_dir_name", |_: i32, _: u32, _: u32| BAD_FILE)?;
    linker.func_wrap(WASI, "fd_seek", |_: i32, _: i64, _: i32, _: u32| NO_SEEK)?;
    linker.func_wrap(WASI, "fd_close", |_: i32| SUCCESS)?;
    for name in ["args_sizes_get", "environ_sizes_get"] {
        let none = |mut caller: Caller<'_, State>, count: u32, bytes: u32| {
            let (memory, _) = parts(&mut caller);
            let counted = store(memory, count as usize, &[0; 4]);
            code(counted.and_then(|()| store(memory, bytes as usize, &[0; 4])))
        };
        linker.func_wrap(WASI, name, none)?;
    }
    for name in ["args_get", "environ_get"] {
        linker.func_wrap(WASI, name, |_: u32, _: u32| SUCCESS)?;
    }
    linker.func_wrap(WASI, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(wasmtime::format_err!("the guest left with exit code {code}"))
    })?;
    Ok(())
}
