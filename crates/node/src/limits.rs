//! Every limit of the node, with its name, its default and how far it may be moved.
//!
//! Whatever can grow while the node serves has its limit here (the sandbox crate has its own for
//! what lies inside a sandbox), so overload is an ordinary answer and never a surprise.

use std::time::Duration;

use awsm_observe::Pace;
use awsm_sandbox::limits::{HOST_CALL_STACK_BYTES, STACK_FREE_BYTES};
use awsm_sched::Nanos;

/// A number with a default and bounds that configuration may not leave.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Used when configuration says nothing.
    pub default: u64,
    /// Least that configuration may say.
    pub min: u64,
    /// Most that configuration may say.
    pub max: u64,
}

/// A length of time with a default and bounds.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Used when configuration says nothing.
    pub default: Duration,
    /// Least that configuration may say.
    pub min: Duration,
    /// Most that configuration may say.
    pub max: Duration,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY: Duration = Duration::from_secs(86_400);

/// `node.workers`: 0 means one per core.
pub const WORKERS: Range = Range { default: 0, min: 0, max: 1024 };
/// `node.quantum`: how long one invocation keeps a core, at most, while the policy would have
/// another.
pub const QUANTUM: Span = Span {
    default: Duration::from_millis(1),
    min: Duration::from_micros(100),
    max: Duration::from_secs(1),
};
/// `node.reserve`, in millionths: the share of each core that admission promises to nobody. What is
/// not measured yet runs in it.
pub const RESERVE_PPM: Range = Range { default: 50_000, min: 0, max: 900_000 };
/// `node.unprofiled`: invocations of functions without a profile, queued and live, per worker, as
/// far as admission is to rely on profiles. Beyond it callers get 503.
pub const UNPROFILED: Range = Range { default: 2048, min: 1, max: QUEUE.max };
/// `node.queue`: invocations waiting to start, per worker. Beyond it callers get 503.
pub const QUEUE: Range = Range { default: 4096, min: 1, max: 1 << 20 };
/// `node.sandboxes`: invocations started and not finished, per worker. More wait in the queue. Half
/// of them is kept for the tenants and their functions in equal parts; where the rest is kept for
/// others callers get 503.
pub const SANDBOXES: Range = Range { default: 2048, min: 1, max: 1 << 16 };
/// `node.connections`: open connections, per worker. Beyond it the idlest goes for each new one, if
/// there is one that has no request in progress; else new ones wait.
pub const CONNECTIONS: Range = Range { default: 8192, min: 1, max: 1 << 20 };
/// `node.body_memory`: bytes of request bodies held at once, per worker. Beyond it callers get 503.
pub const BODY_MEMORY: Range = Range { default: 256 * MIB, min: 64 * KIB, max: 1 << 40 };
/// `node.answer_memory`: bytes of answers, per worker, that functions are at or that their readers
/// have not taken. Beyond it the largest answer of a slow reader is given up and its connection
/// closed; where there is none, the function is ended, and its caller gets 503.
pub const ANSWER_MEMORY: Range = Range { default: 256 * MIB, min: 64 * KIB, max: 1 << 40 };
/// `node.header_bytes`: request line and header fields together. Beyond it callers get 431.
pub const HEADER_BYTES: Range = Range { default: 32 * KIB, min: 8 * KIB, max: MIB };
/// `node.header_count`: header fields of a request. Beyond it callers get 431.
pub const HEADER_COUNT: Range = Range { default: 100, min: 8, max: 4096 };
/// `node.header_timeout`: from the first byte of a request to the end of its header.
pub const HEADER_TIMEOUT: Span =
    Span { default: Duration::from_secs(10), min: Duration::from_millis(10), max: DAY };
/// `node.body_timeout`: from the end of the header to the end of the body.
pub const BODY_TIMEOUT: Span =
    Span { default: Duration::from_secs(30), min: Duration::from_millis(10), max: DAY };
/// `node.idle_timeout`: how long a connection may stay open between requests.
pub const IDLE_TIMEOUT: Span =
    Span { default: Duration::from_secs(75), min: Duration::from_millis(10), max: DAY };
/// `node.half_close_timeout`: how long who has closed the sending half of its connection waits for
/// an answer. It may have left altogether, which looks the same.
pub const HALF_CLOSE_TIMEOUT: Span =
    Span { default: Duration::from_secs(5), min: Duration::ZERO, max: DAY };
/// `node.shutdown_timeout`: how long what runs may go on after the first signal.
pub const SHUTDOWN_TIMEOUT: Span =
    Span { default: Duration::from_secs(30), min: Duration::ZERO, max: DAY };

/// `node.watchdog`: how long a worker may make no progress before the process ends. 0: for ever.
pub const WATCHDOG: Span = Span { default: Duration::from_secs(10), min: Duration::ZERO, max: DAY };
/// How often it is looked at in that time.
pub const WATCHDOG_LOOKS: u32 = 10;
/// How long a process that ends for a fault of its own waits for stderr to take its last words.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// `node.memory`: linear memories and tables of all sandboxes together, those that are kept ready
/// included. Beyond it guests' growth answers -1 and callers get 503. No limit if not said.
pub const NODE_MEMORY: Range = Range { default: 1 << 46, min: MIB, max: 1 << 46 };
/// `node.mappings`: mappings of all sandboxes together, those that are kept ready included; six for
/// an ordinary sandbox, two for each further memory. 0: what the system gives a process
/// (`vm.max_map_count`), less the node's own.
pub const NODE_MAPPINGS: Range = Range { default: 0, min: 0, max: 1 << 31 };
/// `tenant.mappings`: likewise, of one tenant. As many as the node may have if not said.
pub const TENANT_MAPPINGS: Range = Range { default: 1 << 31, min: 1, max: 1 << 31 };
/// `tenant.memory`: as the node's, of this tenant.
pub const TENANT_SANDBOX_MEMORY: Range =
    Range { default: NODE_MEMORY.max, min: MIB, max: NODE_MEMORY.max };
/// `node.cache_size`: compiled modules that are kept on disk, all together; those that are served
/// stay even beyond it.
pub const CACHE_SIZE: Range = Range { default: 4 * GIB, min: 0, max: 1 << 50 };
/// `function.memory`: linear memories and tables of one sandbox together.
pub const MEMORY: Range = Range { default: 64 * MIB, min: 64 * KIB, max: 4 * GIB };
/// `function.stack`: a sandbox's native stack, of which 64 KiB are kept for calls into the host.
/// What is more than the default counts as the sandbox's memory. Beyond it the guest traps.
pub const STACK: Range = Range { default: MIB, min: 128 * KIB, max: GIB };
/// `function.body`: request body. Beyond it the caller gets 413.
pub const BODY: Range = Range { default: MIB, min: 0, max: GIB };
/// `function.output`: answer, header block included. Beyond it the caller gets 502.
pub const OUTPUT: Range = Range { default: 16 * MIB, min: 0, max: GIB };
/// `function.concurrency`: sandboxes of the function at once, per worker. 0: `node.sandboxes`.
pub const CONCURRENCY: Range = Range { default: 0, min: 0, max: SANDBOXES.max };
/// `function.timeout`: from the arrival of the whole request to its answer. Then the caller gets
/// 504.
pub const TIMEOUT: Span =
    Span { default: Duration::from_secs(30), min: Duration::from_micros(1), max: DAY };

/// `function.cpu_limit`: time on the core. Then the caller gets 504. As long as `timeout` if not
/// said.
pub const CPU_LIMIT: Span = Span { default: DAY, min: Duration::from_micros(1), max: DAY };
/// `slo.deadline`: from the arrival of the whole request; as long as `timeout` if not said.
pub const DEADLINE: Span = Span { default: DAY, min: Duration::from_micros(1), max: DAY };
/// `slo.percentile`, in millionths: the share of a function's runs that its estimate is to cover.
pub const PERCENTILE_PPM: Range = Range { default: 990_000, min: 500_000, max: 999_999 };
/// Most that `slo.rate` may say, per second.
pub const RATE_MAX: u64 = 1_000_000_000;
/// Tenants in one configuration.
pub const TENANTS: usize = 1024;
/// `tenant.queue`: invocations of a tenant waiting to start, per worker. Beyond it callers get 429.
pub const TENANT_QUEUE: Range = Range { default: 1024, min: 1, max: QUEUE.max };
/// `tenant.concurrency`: sandboxes of a tenant at once, per worker. 0: `node.sandboxes`.
pub const TENANT_CONCURRENCY: Range = Range { default: 0, min: 0, max: SANDBOXES.max };
/// `tenant.connections`: connections with a request under way, per worker. Beyond it callers get
/// 429. As many as the node may have if not said.
pub const TENANT_CONNECTIONS: Range =
    Range { default: CONNECTIONS.max, min: 1, max: CONNECTIONS.max };
/// `tenant.body_memory` and `tenant.answer_memory`: as the node's, of this tenant. Beyond it
/// callers get 429. As much as the node may have if not said.
pub const TENANT_MEMORY: Range = Range { default: 1 << 40, min: 64 * KIB, max: 1 << 40 };
/// `tenant.budget`: time on each core in every period.
pub const BUDGET: Span =
    Span { default: DAY, min: Duration::from_micros(10), max: Duration::from_secs(60) };
/// `tenant.period`.
pub const PERIOD: Span = Span {
    default: Duration::from_millis(100),
    min: Duration::from_millis(1),
    max: Duration::from_secs(60),
};
/// `function.descriptors`: open at once in one sandbox, streams included. Beyond it guests get
/// `EMFILE`.
pub const DESCRIPTORS: Range = Range { default: 256, min: 3, max: 1 << 16 };
/// Descriptors that the node needs for itself.
pub const OWN_DESCRIPTORS: u64 = 64;
/// `tenant.descriptors`: open at once in all sandboxes of a tenant. Beyond it, and where the rest
/// is kept for others, guests get `ENFILE`. Half of what the system gives the process if not said.
pub const TENANT_DESCRIPTORS: Range = Range { default: 1 << 31, min: 1, max: 1 << 31 };
/// `function.file_size`: size to which a guest may write a file. Beyond it guests get `EFBIG`.
pub const FILE_SIZE: Range = Range { default: GIB, min: 0, max: 1 << 50 };
/// `function.file_writes`: bytes that one invocation writes to files. Beyond it guests get
/// `EDQUOT`.
pub const FILE_WRITES: Range = Range { default: GIB, min: 0, max: 1 << 50 };
/// Bytes of a file that is a function's stdin.
pub const STDIN_FILE_BYTES: u64 = 64 * MIB;
/// Threads of the node that do for guests what may wait for a disk.
pub const HELPERS: usize = 4;
/// Bytes that their jobs hold: what is to be written, what was read, of all functions. Where there
/// is no room, as little as possible is read or written at once; beyond that guests get `ENOBUFS`.
pub const HELPER_BYTES: u64 = 64 * MIB;

/// Bytes of guest stderr kept for the log between two of an invocation's waits; what follows is
/// lost.
pub const STDERR_BYTES: u64 = 16 * KIB;
/// `function.log_rate`: bytes a second that a function may say on stderr, on each worker. What is
/// beyond it is lost, and that is told.
pub const LOG_RATE: Range = Range { default: 128 * KIB, min: 0, max: GIB };
/// `function.log_lines`: likewise lines, each of which costs the thread that formats them a
/// microsecond or two.
pub const LOG_LINES: Range = Range { default: 1000, min: 0, max: 1_000_000 };
/// `tenant.log_rate`: of all functions of a tenant together.
pub const TENANT_LOG_RATE: Range = Range { default: 512 * KIB, min: 0, max: GIB };
/// `tenant.log_lines`: likewise.
pub const TENANT_LOG_LINES: Range = Range { default: 4000, min: 0, max: 1_000_000 };
/// Bytes that guests have said and that are not formatted yet, of all functions.
pub const LOG_BYTES: u64 = 4 * MIB;
/// Of one function.
pub const LOG_FUNCTION_BYTES: usize = 128 << 10;
/// How often it is told what a function has lost, at most.
pub const LOG_LOSS_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of a body that nobody wants which are read anyway, so that the connection stays usable.
pub const DRAIN_BYTES: u64 = 16 * MIB;
/// How long a connection must have been silent to go when its place is wanted, or when the node
/// ends.
pub const SILENCE: Duration = Duration::from_millis(500);
/// One of so many connections goes then, so that looking for the idlest costs each newcomer little.
pub const PLACES_MADE: usize = 64;
/// How long a worker that cannot accept waits before it tries again, if none of its connections
/// ends.
pub const PLACE_PAUSE: Duration = Duration::from_millis(50);
/// How long connections that were about to be made are waited for when the node ends. Shorter than
/// the second after which callers that are not heard ask again.
pub const LAST_ARRIVALS: Duration = Duration::from_millis(50);
/// How often it is told that connections cannot be accepted, at most.
pub const ACCEPT_WARNING_PAUSE: Duration = Duration::from_secs(1);
/// How often it is told that connections of slow readers were closed, at most.
pub const READERS_WARNING_PAUSE: Duration = Duration::from_secs(1);
/// How often a worker looks for connections that are too slow.
pub const CONNECTION_SWEEP: Duration = Duration::from_millis(100);
/// How many it looks at before it does something else.
pub const CONNECTIONS_SWEPT: usize = 128;
/// Descriptors of a guest that has ended which are closed in one piece.
pub const CLOSED_AT_ONCE: usize = 64;
/// Bytes that a socket may move before it waits for the core's next turn.
pub const SOCKET_BYTES: u64 = 64 << 10;
/// Connections that have waited for a turn and may go on after it.
pub const CONNECTIONS_AT_ONCE: usize = 32;
/// While guests could run, cleaning has one part in so many of the time.
pub const CLEANING_PART: u64 = 8;
/// How long a worker may run guests before it looks at its sockets again, if no guest takes longer;
/// and how long the tasks of an account's connections may run before guests do, if none takes
/// longer.
pub const REACTOR_GAP: Duration = Duration::from_micros(100);
/// How long a guest may run that is interrupted when something comes in, before its worker looks at
/// its own timers, which have a resolution of milliseconds.
pub const LOOK: Duration = Duration::from_millis(10);
/// Queued work, by estimate, from which on an idle core is asked to help: to wake it takes some 50
/// us.
pub const SHARE_BACKLOG: Duration = Duration::from_micros(200);
/// Connections that the kernel keeps for a worker that has not accepted them yet.
pub const LISTEN_BACKLOG: u32 = 4096;
/// Slots that a worker prepares for each function before it serves.
pub const WARM_SLOTS: usize = 4;
/// Most of them for all functions together; each function has one all the same.
pub const WARM_SLOTS_TOTAL: usize = 1024;

/// Bytes of a verdict in the cache that are read.
pub const VERDICT_BYTES: u64 = 4096;

/// Length of a request id that is taken over from the caller.
pub const REQUEST_ID_BYTES: usize = 128;
/// Functions in one configuration.
pub const FUNCTIONS: usize = 4096;
/// Bytes of `awsm.toml`.
pub const CONFIG_BYTES: u64 = 16 * MIB;
/// Bytes of a trace to simulate.
pub const TRACE_BYTES: u64 = 4 * GIB;
/// Bytes of the file that keeps profiles.
pub const PROFILES_BYTES: u64 = 256 * MIB;
/// How often a worker hands on what it has measured, at most, and of how many functions.
pub const PROFILES_PACE: Pace = Pace { pause: Nanos::from_millis(1000), at_once: 8 };
/// How often it is told that the same module's file has changed, at most.
pub const WATCH_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of a module that is handed to the compiler.
pub const MODULE_BYTES: u64 = 256 * MIB;

// How they relate: a limit that another one makes unreachable would be a trap for whoever sets it.
const _: () = {
    assert!(BODY.default <= BODY_MEMORY.default && BODY.default <= DRAIN_BYTES);
    assert!(BODY.max <= BODY_MEMORY.max && OUTPUT.max <= ANSWER_MEMORY.max);
    assert!(OUTPUT.default <= ANSWER_MEMORY.default);
    assert!(TENANT_MEMORY.max >= BODY_MEMORY.max && TENANT_MEMORY.max >= ANSWER_MEMORY.max);
    assert!(HEADER_BYTES.min >= 8192, "hyper's read buffer is never smaller");
    assert!(STACK.min == 2 * HOST_CALL_STACK_BYTES as u64);
    assert!(STACK.default == STACK_FREE_BYTES as u64);
    assert!(CONCURRENCY.max <= SANDBOXES.max);
    assert!(SANDBOXES.default <= QUEUE.default);
    assert!(TENANT_QUEUE.default <= QUEUE.default && UNPROFILED.default <= QUEUE.default);
    assert!(NODE_MEMORY.min >= MEMORY.min && NODE_MEMORY.max >= MEMORY.max);
    assert!(BUDGET.max.as_nanos() <= PERIOD.max.as_nanos());
    assert!(CONNECTION_SWEEP.as_millis() < HEADER_TIMEOUT.default.as_millis());
    assert!(REACTOR_GAP.as_micros() < TIMEOUT.default.as_micros());
};
