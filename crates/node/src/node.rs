//! A node: its functions deployed, one pinned worker per core, and their end.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as sync_mpsc;
use std::thread;
use std::time::Duration;

use awsm_host::Helpers;
use awsm_ledger::Short;
use awsm_observe::{Measured, Reporter, WorkerIdx};
use awsm_sandbox::probe::{Unfit, probe};
use awsm_sandbox::{MemoryBudget, Pool, PoolConfig, Resource, StartError};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use crate::cache::{Cache, CompileError};
use crate::config::Config;
use crate::config::endpoint::{Listeners, SocketFile};
use crate::disk::DirError;
use crate::functions::profiles::{self, Profiles, Store};
use crate::functions::{Deployed, Function, Mistake, Unavailable, deploy};
use crate::http::server::{Served, Server};
use crate::ledger::{self, Ledger};
use crate::limits;
use crate::log::{Log, Voice};
use crate::worker::scheduling;
use crate::worker::watchdog::Watchdog;
use crate::worker::{Bell, Peer, Pulse, Worker};

/// A node that serves.
pub struct Node {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    workers: usize,
    /// A message for each worker that has ended.
    ended: mpsc::UnboundedReceiver<Ended>,
    /// Takes what guests say until the last worker has ended.
    log: Option<Log>,
    /// Writes what was measured when the last worker has ended.
    keeper: Option<thread::JoinHandle<()>>,
    /// Threads that work for guests' calls; none if no guest has such calls.
    helpers: Option<Arc<Helpers>>,
    /// Names of the functions that are not served.
    unavailable: Vec<String>,
    /// Those of functions that listen: they are gone with the node.
    _socket_files: Vec<SocketFile>,
    /// Ends with the node.
    _watchdog: Option<Watchdog>,
}

/// Why a node does not serve. One line.
#[derive(Debug)]
#[non_exhaustive]
pub enum NodeError {
    /// This system cannot isolate sandboxes.
    System(Unfit),
    /// The cache cannot be found, or is not used.
    Cache(CompileError),
    /// The state directory is not used.
    State(DirError),
    /// Functions cannot be served, and others are not to be without them or there are none.
    Functions(Vec<Unavailable>),
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// A worker could not start.
    Worker(String),
    /// A worker has ended although nobody asked it to.
    Died(WorkerIdx),
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(unfit) => unfit.fmt(f),
            Self::Cache(error) => error.fmt(f),
            Self::State(error) => write!(f, "{error} (--state-dir)"),
            Self::Functions(functions) => {
                let mistakes = functions.iter().flat_map(|function| &function.mistakes);
                let lines: Vec<_> = mistakes.map(Mistake::to_string).collect();
                f.write_str(&lines.join("; "))
            }
            Self::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{address} is in use: stop what listens there, or choose another --listen"
                )
            }
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Worker(error) => f.write_str(error),
            Self::Died(worker) => write!(f, "worker {worker} has ended: this is a bug of the node"),
        }
    }
}

impl std::error::Error for NodeError {}

/// What a worker says of itself.
enum Report {
    Ready,
    Failed(String),
}

/// Sent when a worker's thread ends in whatever way.
struct Ended {
    worker: WorkerIdx,
}

/// What each worker gets.
struct Shared {
    /// With those functions only that are served.
    config: Config,
    functions: Arc<[Function]>,
    unavailable: Vec<Unavailable>,
    workers: usize,
    /// What the sandboxes of all workers may have.
    memory: Arc<MemoryBudget>,
    /// What was known when the node started.
    profiles: Profiles,
}

/// Everything that a node needs before it listens.
struct Ready {
    /// With those functions only that can be served.
    config: Config,
    functions: Vec<Function>,
    unavailable: Vec<Unavailable>,
    store: Option<Store>,
}

impl Ready {
    fn new(
        mut config: Config,
        compiler: Option<&Path>,
        listeners: Listeners,
    ) -> Result<Self, NodeError> {
        let findings = probe().map_err(NodeError::System)?;
        if let Some(reason) = findings.reason {
            tracing::warn!("{reason}");
        }
        let store = Store::open(config.node.state_dir.as_deref()).map_err(NodeError::State)?;
        store.iter().for_each(Store::clean);
        let cache =
            Cache::open(config.node.cache_dir.as_deref(), config.node.cache_bytes, config.trust);
        let cache = cache.map_err(NodeError::Cache)?;
        cache.clean().map_err(NodeError::Cache)?;
        let Deployed { functions, configs, unavailable } =
            deploy(&config, &config.functions, &cache, compiler, listeners);
        config.functions = configs;
        Ok(Self { config, functions, unavailable, store })
    }

    /// Workers, each on a core.
    fn workers(&self, cores: &[usize]) -> usize {
        match self.config.node.workers {
            0 => cores.len(),
            workers => workers,
        }
    }
}

/// Does all that a node does before it listens, and opens nothing for good: what is wrong with its
/// functions.
///
/// # Errors
/// What is wrong with the node.
pub fn check(config: Config, compiler: Option<&Path>) -> Result<Vec<Unavailable>, NodeError> {
    let ready = Ready::new(config, compiler, Listeners::Try)?;
    if !ready.functions.is_empty() {
        let (workers, memory) = (ready.workers(&cores()), ledger::budget(&ready.config));
        // All at once, as they are while the node serves.
        let pools = (0..workers).map(|_| {
            prepare(&ready.functions, ready.config.node.sandboxes, &memory)
                .map_err(|why| unprepared(why, &ready.functions, workers))
        });
        pools.collect::<Result<Vec<_>, _>>().map_err(NodeError::Worker)?;
    }
    Ok(ready.unavailable)
}

impl Node {
    /// Makes the functions ready, binds the address, starts the workers. Serves when it returns.
    ///
    /// # Errors
    /// When nothing can be served. What is wrong with single functions is one only if no other can
    /// be served, or if the configuration is strict; else it is in the log.
    pub fn start(config: Config, compiler: Option<&Path>) -> Result<Self, NodeError> {
        let ready = Ready::new(config, compiler, Listeners::Open)?;
        let cores = cores();
        let workers = ready.workers(&cores);
        let Ready { config, mut functions, unavailable, store } = ready;
        if functions.is_empty() || (config.node.strict && !unavailable.is_empty()) {
            return Err(NodeError::Functions(unavailable));
        }
        for mistake in unavailable.iter().flat_map(|function| &function.mistakes) {
            tracing::error!("{mistake}: its route is answered 503");
        }
        let socket_files =
            functions.iter_mut().flat_map(|f| f.environment.take_socket_files()).collect();
        watch_modules(&config, &functions);
        let listen = config.node.listen;
        let listeners = listeners(listen, workers).map_err(|e| NodeError::Listen(listen, e))?;
        let address = listeners[0].local_addr().map_err(|e| NodeError::Listen(listen, e))?;
        let profiles = store.as_ref().map(Store::load).unwrap_or_default();
        let (measured, keeper) = keep_profiles(store, &functions)
            .map_err(|error| NodeError::Worker(format!("cannot start a thread: {error}")))?;
        let log = Log::start(&config.functions, &config.tenants)
            .map_err(|error| NodeError::Worker(format!("cannot start a thread: {error}")))?;
        let memory = ledger::budget(&config);
        let functions = functions.into();
        let names = unavailable.iter().map(|function| function.config.name.clone()).collect();
        let shared = Arc::new(Shared { config, functions, unavailable, workers, memory, profiles });
        let helpers = shared.functions.iter().find_map(|f| f.environment.helpers().cloned());
        let (stop, stopped) = watch::channel(false);
        let (report, reports) = sync_mpsc::channel();
        let (end, ended) = mpsc::unbounded_channel();
        let peers = Peer::all(workers);
        let pulses: Vec<_> = (0..workers).map(|_| Arc::new(Pulse::default())).collect();
        let patience = shared.config.node.watchdog;
        let watchdog = Watchdog::start(pulses.clone(), &shared.functions, patience)
            .map_err(|error| NodeError::Worker(format!("cannot start a thread: {error}")))?;
        let own = peers.into_iter().zip(pulses);
        for ((index, listener), (peer, pulse)) in listeners.into_iter().enumerate().zip(own) {
            let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
            let (report, end) = (report.clone(), EndNotice(end.clone(), WorkerIdx::new(index)));
            let core = cores[index % cores.len()];
            let (worker, functions) = (WorkerIdx::new(index), shared.functions.len());
            let reporter =
                Reporter::new(worker, functions, measured.clone(), limits::PROFILES_PACE);
            let voice = log.voice();
            thread::Builder::new()
                .name(format!("awsm-worker-{index}"))
                .spawn(move || {
                    let _end = end;
                    work(&shared, core, listener, stopped, &report, (reporter, peer, pulse, voice));
                })
                .map_err(|error| NodeError::Worker(format!("cannot start a worker: {error}")))?;
        }
        drop((report, measured));
        for _ in 0..workers {
            match reports.recv() {
                Ok(Report::Ready) => {}
                Ok(Report::Failed(error)) => return Err(NodeError::Worker(error)),
                Err(_) => return Err(NodeError::Died(WorkerIdx::new(0))),
            }
        }
        let log = Some(log);
        Ok(Self {
            address,
            stop,
            workers,
            ended,
            log,
            keeper,
            helpers,
            unavailable: names,
            _socket_files: socket_files,
            _watchdog: watchdog,
        })
    }

    /// Where it listens: with the port that the system chose, if it was to choose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Workers, each on a core.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Names of the functions that are configured and could not be made ready.
    #[must_use]
    pub fn unavailable(&self) -> &[String] {
        &self.unavailable
    }

    /// Asks the workers to accept nothing more, finish what runs, and end.
    pub fn stop(&self) {
        // A worker that does not listen has ended.
        let _ = self.stop.send(true);
    }

    /// Waits until every worker has ended.
    ///
    /// # Errors
    /// When one ends that was not asked to.
    pub async fn wait(&mut self) -> Result<(), NodeError> {
        for _ in 0..self.workers {
            let ended = self.ended.recv().await.expect("each worker sends its end");
            if !*self.stop.borrow() {
                return Err(NodeError::Died(ended.worker));
            }
        }
        if let Some(helpers) = self.helpers.take() {
            let (accounted_ns, between_ns) = helpers.spent_ns();
            let (accounted_us, cpu_us) = (accounted_ns / 1000, (accounted_ns + between_ns) / 1000);
            tracing::info!(cpu_us, accounted_us, "the helpers end");
        }
        if let Some(log) = self.log.take() {
            log.end();
        }
        if let Some(keeper) = self.keeper.take() {
            // If it has panicked it has said so, and there is nothing to keep.
            let _ = keeper.join();
        }
        Ok(())
    }
}

/// Says when the thread that has it ends, even by a panic.
struct EndNotice(mpsc::UnboundedSender<Ended>, WorkerIdx);

impl Drop for EndNotice {
    fn drop(&mut self) {
        // If nobody listens the node is gone already.
        let _ = self.0.send(Ended { worker: self.1 });
    }
}

/// A worker's thread from its beginning to its end.
fn work(
    shared: &Shared,
    core: usize,
    listener: TcpListener,
    stop: watch::Receiver<bool>,
    report: &sync_mpsc::Sender<Report>,
    own: (Reporter, Peer, Arc<Pulse>, Voice),
) {
    let fail = |error: String| {
        // If nobody listens the node has failed for another reason.
        let _ = report.send(Report::Failed(error));
    };
    pin(core);
    let runtime =
        match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => return fail(format!("cannot start a worker's reactor: {error}")),
        };
    let node = &shared.config.node;
    let pool = match prepare(&shared.functions, node.sandboxes, &shared.memory) {
        Ok(pool) => pool,
        Err(why) => {
            let workers = shared.workers;
            return fail(unprepared(why, &shared.functions, workers));
        }
    };
    let sched = scheduling::scheduler(&shared.config, &shared.functions, &shared.profiles);
    let ledger = Ledger::new(&shared.config);
    let functions = Arc::clone(&shared.functions);
    let quantum = node.quantum.into();
    let worker = Worker::new(functions, pool, sched, quantum, Rc::clone(&ledger), own);
    let worker = Rc::new(worker);
    let functions = Arc::clone(&shared.functions);
    let unavailable = shared.unavailable.iter().map(|function| &function.config);
    let served = Served { config: &shared.config, functions, unavailable: unavailable.collect() };
    let server = Server::new(served, Rc::clone(&worker), ledger);
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return fail(format!("cannot listen: {error}")),
        };
        let bell = Bell::hang(listener.as_fd()).unwrap_or_else(|error| {
            tracing::warn!("what arrives waits for the tick: {error}");
            None
        });
        let running = spawn_local(worker.run(bell));
        // As in `fail`.
        let _ = report.send(Report::Ready);
        tokio::select! {
            () = server.serve(listener, stop, node.shutdown_timeout) => {}
            ended = running => tracing::error!("a worker's loop has ended: {ended:?}"),
        }
    });
}

/// Tells from now on when a file changes from which a module was loaded.
fn watch_modules(config: &Config, functions: &[Function]) {
    let modules = config.functions.iter().map(|function| function.module.clone());
    let entries =
        functions.iter().filter_map(|function| Some(function.in_use.as_ref()?.path.clone()));
    if let Err(error) = crate::functions::watch::start(modules.chain(entries)) {
        tracing::info!("it is not told when modules change on disk: {error}");
    }
}

/// Starts the thread that keeps what workers measure, as long as they do; says where to send it.
fn keep_profiles(
    store: Option<Store>,
    functions: &[Function],
) -> io::Result<(sync_mpsc::Sender<Measured>, Option<thread::JoinHandle<()>>)> {
    let (measured, receiver) = sync_mpsc::channel();
    let names: Vec<_> = functions.iter().map(|f| (f.name.clone(), f.identity.clone())).collect();
    let Some(store) = store else {
        tracing::warn!("no state directory: what is measured is not kept; set `state_dir`");
        return Ok((measured, None));
    };
    let keep = move || profiles::keep(&store, &names, &receiver);
    let keeper = thread::Builder::new().name("awsm-profiles".to_owned()).spawn(keep)?;
    Ok((measured, Some(keeper)))
}

/// A pool with warm slots for each function, as far as that makes sense for their number and the
/// memory: one at least.
fn prepare(
    functions: &[Function],
    sandboxes: usize,
    memory: &Arc<MemoryBudget>,
) -> Result<Pool<awsm_host::WasiCtx>, (String, StartError)> {
    let warm = limits::WARM_SLOTS.min((limits::WARM_SLOTS_TOTAL / functions.len()).max(1));
    let max_slots = sandboxes.max(warm * functions.len());
    let config = PoolConfig { max_slots, ..PoolConfig::default() };
    let mut pool = Pool::with_budget(config, Some(Arc::clone(memory)));
    for (function, slots) in
        functions.iter().map(|f| (f, 1)).chain(functions.iter().map(|f| (f, warm)))
    {
        match pool.prepare(&function.program, slots) {
            Err(StartError::Budget { .. }) if slots > 1 => break,
            prepared => prepared.map_err(|error| (function.name.clone(), error))?,
        }
    }
    Ok(pool)
}

/// Why a worker has no sandbox of each function ready, of which each worker has one at least.
fn unprepared(
    (function, error): (String, StartError),
    functions: &[Function],
    workers: usize,
) -> String {
    let StartError::Budget { what, wanted, short } = &error else {
        return format!("function `{function}`: {error}");
    };
    let table = match short {
        Short::Account(_) => "[[tenant]]",
        Short::Stock(_) => "[node]",
    };
    let advice = match what {
        Resource::Memory => format!("raise `memory` in {table}"),
        Resource::Mappings => format!("raise `mappings` in {table}, or `vm.max_map_count`"),
        Resource::Addresses => "set `isolation = \"checked\"`".to_owned(),
    };
    let (count, sandboxes) = (functions.len(), functions.len() * workers);
    let all = wanted.saturating_mul(sandboxes as u64);
    format!(
        "function `{function}`: {error}: each worker keeps a sandbox of each function ready; \
         {advice}, or have fewer `workers` ({count} functions on {workers} workers are {sandboxes} \
         sandboxes, which ask for {all} {what} if all are like this one)"
    )
}

/// One socket per worker on the same address: the kernel spreads connections over them.
fn listeners(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // Tokio's sockets want a reactor, though nothing waits here.
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    // Without SO_REUSEPORT, so that another node on the same port is found out.
    if address.port() != 0 {
        socket(address)?.bind(address)?;
    }
    let mut address = address;
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = socket(address)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        address = socket.local_addr()?;
        listeners.push(socket.listen(limits::LISTEN_BACKLOG)?.into_std()?);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

/// The cores that this process may use.
fn cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

/// Keeps this thread on a core; where that is not allowed it goes where the system sends it.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!("cannot pin a worker to core {core}: {error}");
    }
}

/// How long to wait for workers that were asked to end, their own patience included.
#[must_use]
pub fn patience(config: &Config) -> Duration {
    config.node.shutdown_timeout + Duration::from_secs(1)
}
