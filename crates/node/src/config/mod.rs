//! `awsm.toml`: which functions there are, where they answer, what they may use.
//!
//! Reading is strict: a key that nobody knows is an error, and every error is one line that says
//! where, what, and what to do. The tables below ([`NODE_KEYS`], [`FUNCTION_KEYS`], [`SLO_KEYS`],
//! [`TENANT_KEYS`]) are all there is.

pub mod endpoint;
mod error;
mod grants;
mod reader;
mod slo;
mod tenant;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use awsm_sched::{Admission, Policy};

use crate::limits;
use crate::trust::Objects;
use reader::{Document, Item, Table};
use units::is_name;

pub use error::ConfigError;
pub use grants::{DIR_KEYS, DirConfig, GrantsConfig, StdinConfig};
pub use slo::{SLO_KEYS, SloConfig};
pub use tenant::{TENANT_KEYS, TenantConfig};
pub use units::{LogRate, parse_bytes, parse_duration, parse_percent, parse_rate, shown_bytes};

/// Keys of `[node]`.
pub const NODE_KEYS: &[&str] = &[
    "listen",
    "workers",
    "policy",
    "quantum",
    "admission",
    "reserve",
    "unprofiled",
    "state_dir",
    "cache_dir",
    "cache_size",
    "queue",
    "sandboxes",
    "memory",
    "mappings",
    "connections",
    "body_memory",
    "answer_memory",
    "header_bytes",
    "header_count",
    "header_timeout",
    "body_timeout",
    "idle_timeout",
    "half_close_timeout",
    "shutdown_timeout",
    "watchdog",
    "server_timing",
    "strict",
];

/// Keys of `[trust]`.
pub const TRUST_KEYS: &[&str] = &["objects"];

/// Keys of `[[function]]`.
pub const FUNCTION_KEYS: &[&str] = &[
    "name",
    "module",
    "entry",
    "route",
    "methods",
    "abi",
    "args",
    "env",
    "content_type",
    "status",
    "memory",
    "stack",
    "huge_pages",
    "body",
    "output",
    "timeout",
    "cpu_limit",
    "concurrency",
    "isolation",
    "tenant",
    "slo",
    "dirs",
    "dev",
    "connect",
    "listen",
    "stdin",
    "descriptors",
    "file_size",
    "file_writes",
    "log_rate",
    "log_lines",
];

/// A whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it comes from, as the user named it.
    pub file: PathBuf,
    /// The `[node]` table.
    pub node: NodeConfig,
    /// `objects` of `[trust]`: what is asked of shared objects that were made elsewhere.
    pub trust: Objects,
    /// The `[[tenant]]` tables, in the order of the file.
    pub tenants: Vec<TenantConfig>,
    /// The `[[function]]` tables, in the order of the file. At least one.
    pub functions: Vec<FunctionConfig>,
}

/// What holds for the node as a whole.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// How the scheduler chooses.
    pub policy: Policy,
    /// [`limits::QUANTUM`].
    pub quantum: Duration,
    /// Who is let in.
    pub admission: Admission,
    /// The share of each core that admission promises to nobody, in millionths:
    /// [`limits::RESERVE_PPM`].
    pub reserve_ppm: u32,
    /// [`limits::UNPROFILED`].
    pub unprofiled: usize,
    /// Where profiles are kept; `None` for the user's state directory.
    pub state_dir: Option<PathBuf>,
    /// Where compiled modules are kept; `None` for the user's cache directory.
    pub cache_dir: Option<PathBuf>,
    /// [`limits::CACHE_SIZE`].
    pub cache_bytes: u64,
    /// [`limits::QUEUE`].
    pub queue: usize,
    /// [`limits::SANDBOXES`].
    pub sandboxes: usize,
    /// [`limits::NODE_MEMORY`].
    pub memory_bytes: u64,
    /// [`limits::CONNECTIONS`].
    pub connections: usize,
    /// [`limits::NODE_MAPPINGS`].
    pub mappings: u64,
    /// [`limits::BODY_MEMORY`].
    pub body_memory_bytes: u64,
    /// [`limits::ANSWER_MEMORY`].
    pub answer_memory_bytes: u64,
    /// [`limits::HEADER_BYTES`].
    pub header_bytes: usize,
    /// [`limits::HEADER_COUNT`].
    pub header_count: usize,
    /// [`limits::HEADER_TIMEOUT`].
    pub header_timeout: Duration,
    /// [`limits::BODY_TIMEOUT`].
    pub body_timeout: Duration,
    /// [`limits::IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// [`limits::HALF_CLOSE_TIMEOUT`].
    pub half_close_timeout: Duration,
    /// [`limits::SHUTDOWN_TIMEOUT`].
    pub shutdown_timeout: Duration,
    /// [`limits::WATCHDOG`].
    pub watchdog: Duration,
    /// What callers learn of where the time went.
    pub server_timing: ServerTiming,
    /// Does one function that cannot be served keep the node from serving the others?
    pub strict: bool,
}

/// How exact the header `Server-Timing` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTiming {
    /// There is none.
    Off,
    /// In whole milliseconds.
    #[default]
    Coarse,
    /// To the nanosecond.
    Exact,
}

impl ServerTiming {
    /// All of them, with their names in the configuration.
    pub const ALL: [(&str, Self); 3] =
        [("off", Self::Off), ("coarse", Self::Coarse), ("exact", Self::Exact)];
}

/// A deployed function.
#[derive(Clone, Debug)]
pub struct FunctionConfig {
    /// Unique; letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The module's file: a shared object from `awsmc`, or WebAssembly to be compiled.
    pub module: PathBuf,
    /// The exported function that is called; `None` for a command's own.
    pub entry: Option<String>,
    /// Where it answers.
    pub route: Route,
    /// Upper-case HTTP methods; empty for all.
    pub methods: Vec<String>,
    /// How request and answer pass through it.
    pub abi: Abi,
    /// The guest's arguments; the first is its own name.
    pub args: Vec<String>,
    /// The guest's environment (for `wagi`, before the CGI variables).
    pub env: BTreeMap<String, String>,
    /// `Content-Type` of a `stdio` answer that is not empty.
    pub content_type: String,
    /// The status that an exit code stands for, of `stdio` functions. 0 is 200 and any other code
    /// 500 if it is not among them.
    pub status: BTreeMap<u32, u16>,
    /// [`limits::MEMORY`].
    pub memory_bytes: u64,
    /// [`limits::STACK`].
    pub stack_bytes: u64,
    /// May memory that grows by megabytes be backed by huge pages? See
    /// [`awsm_sandbox::Limits::huge_pages`].
    pub huge_pages: bool,
    /// [`limits::BODY`].
    pub body_bytes: u64,
    /// [`limits::OUTPUT`].
    pub output_bytes: u64,
    /// [`limits::TIMEOUT`].
    pub timeout: Duration,
    /// [`limits::CPU_LIMIT`].
    pub cpu_limit: Option<Duration>,
    /// [`limits::CONCURRENCY`].
    pub concurrency: usize,
    /// How the module's memory is kept isolated; `None` for whatever a shared object has.
    pub isolation: Option<Isolation>,
    /// Whose it is, by its place in [`Config::tenants`]; `None` for nobody's.
    pub tenant: Option<usize>,
    /// What is promised to its callers.
    pub slo: SloConfig,
    /// What it may reach.
    pub grants: GrantsConfig,
    /// [`limits::LOG_RATE`], [`limits::LOG_LINES`].
    pub log: LogRate,
    /// Line of its table in the file.
    pub line: usize,
}

/// How request and answer pass through a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// Body on stdin, answer on stdout.
    Stdio,
    /// CGI variables, and a header block before the answer.
    Wagi,
}

/// How linear memory is kept isolated, as far as a node may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// By reserved address space.
    Guard,
    /// By a comparison before each access.
    Checked,
}

impl Isolation {
    /// The name that configuration and the compiler use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Checked => "checked",
        }
    }
}

/// Which paths lead to a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// This path and no other.
    Exact(String),
    /// This path and everything below it. Without the trailing slash; empty for `/...`.
    Prefix(String),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}/..."),
        }
    }
}

impl Route {
    fn read(item: &Item<'_>) -> Result<Self, ConfigError> {
        let text = item.string()?;
        if let Some(above) = above_a_pattern(text) {
            let text = text.escape_debug();
            return Err(item.error(format!(
                "`route = \"{text}\"`: a route has no patterns; \"{above}/...\" is for all below \
                 {}",
                if above.is_empty() { "/" } else { above }
            )));
        }
        item.parse_str(
            Self::parse,
            "a route is a path such as \"/hello\", or \"/hello/...\" with all below it",
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#');
        if !text.starts_with('/') || text.contains("//") || !text.bytes().all(allowed) {
            return None;
        }
        match text.strip_suffix("/...") {
            Some(prefix) => Some(Self::Prefix(prefix.to_owned())),
            None if text.contains("...") => None,
            None => Some(Self::Exact(text.to_owned())),
        }
    }
}

/// The path above the first part that other routers take for a pattern: `*`, `*rest`, `:name`,
/// `{name}`, `<name>`, `[name]`.
fn above_a_pattern(route: &str) -> Option<&str> {
    let is_pattern = |part: &str| {
        part.contains('*')
            || part.starts_with(':')
            || [('{', '}'), ('<', '>'), ('[', ']')]
                .iter()
                .any(|(open, close)| part.starts_with(*open) && part.ends_with(*close))
    };
    let starts = route.match_indices('/').map(|(at, _)| at);
    starts
        .filter(|at| is_pattern(route[at + 1..].split('/').next().unwrap_or("")))
        .map(|at| &route[..at])
        .next()
}

impl Config {
    /// Reads and checks a file. Paths in it are relative to the file; whether they lead to anything
    /// is not looked at.
    ///
    /// # Errors
    /// The first mistake.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::load_or_all(file).map_err(first)
    }

    /// The same.
    ///
    /// # Errors
    /// All mistakes, or as many as can be told apart: one in each table.
    pub fn load_or_all(file: &Path) -> Result<Self, Vec<ConfigError>> {
        let error = |message| vec![ConfigError { file: file.to_path_buf(), line: None, message }];
        let size = std::fs::metadata(file).map_err(|e| error(format!("cannot read: {e}")))?.len();
        if size > limits::CONFIG_BYTES {
            return Err(error(format!(
                "{size} bytes; a configuration may have {}",
                limits::CONFIG_BYTES
            )));
        }
        let text = std::fs::read_to_string(file).map_err(|e| error(format!("cannot read: {e}")))?;
        Self::parse_or_all(file, &text)
    }

    /// Checks the text of a configuration; looks at no file.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::parse_or_all(file, text).map_err(first)
    }

    /// The same; an error is all mistakes.
    fn parse_or_all(file: &Path, text: &str) -> Result<Self, Vec<ConfigError>> {
        let document = Document::new(file, text);
        let mut root =
            document.root(&["node", "trust", "tenant", "function"]).map_err(|error| vec![error])?;
        let mut mistakes = Vec::new();
        let node = root.take("node").map_or_else(
            || Ok(NodeConfig::default()),
            |item| NodeConfig::read(item.table("[node]", NODE_KEYS)?),
        );
        let node = node.unwrap_or_else(|mistake| {
            mistakes.push(mistake);
            NodeConfig::default()
        });
        let trust = read_trust(root.take("trust")).unwrap_or_else(|mistake| {
            mistakes.push(mistake);
            Objects::default()
        });
        // Functions name them.
        let tenants = match tenant::read_all(&document, root.take("tenant")) {
            Ok(tenants) => tenants,
            Err(mistake) => {
                mistakes.push(mistake);
                return Err(mistakes);
            }
        };
        let functions = read_functions(&document, root.take("function"), &tenants, &mut mistakes);
        if mistakes.is_empty() {
            Ok(Self { file: file.to_path_buf(), node, trust, tenants, functions })
        } else {
            Err(mistakes)
        }
    }
}

fn first(mistakes: Vec<ConfigError>) -> ConfigError {
    mistakes.into_iter().next().expect("there is no error without a mistake")
}

fn read_trust(item: Option<Item<'_>>) -> Result<Objects, ConfigError> {
    let Some(item) = item else { return Ok(Objects::default()) };
    match item.table("[trust]", TRUST_KEYS)?.take("objects") {
        Some(item) => item.one_of(&Objects::ALL.map(|policy| (policy.name(), policy))),
        None => Ok(Objects::default()),
    }
}

/// All functions; what is wrong with some is added to `mistakes`.
fn read_functions(
    document: &Document<'_>,
    item: Option<Item<'_>>,
    tenants: &[TenantConfig],
    mistakes: &mut Vec<ConfigError>,
) -> Vec<FunctionConfig> {
    let items = item.map_or_else(|| Ok(Vec::new()), Item::tables);
    let items = items.and_then(|items| match items.len() {
        0 => Err(document.error(None, "no functions; add a [[function]] table".to_owned())),
        found if found > limits::FUNCTIONS => {
            let most = limits::FUNCTIONS;
            Err(document.error(None, format!("{found} functions; at most {most} fit")))
        }
        _ => Ok(items),
    });
    let mut functions: Vec<FunctionConfig> = Vec::new();
    let mut read = |item: Item<'_>| {
        let table = item.table("[[function]]", FUNCTION_KEYS)?;
        let function = FunctionConfig::read(document.dir(), table, tenants)?;
        if let Some(clash) = functions.iter().find_map(|other| clash(other, &function)) {
            return Err(document.error(Some(function.line), clash));
        }
        functions.push(function);
        Ok(())
    };
    match items {
        Ok(items) => mistakes.extend(items.into_iter().filter_map(|item| read(item).err())),
        Err(mistake) => mistakes.push(mistake),
    }
    functions
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            workers: limits::WORKERS.default as usize,
            policy: Policy::default(),
            quantum: limits::QUANTUM.default,
            admission: Admission::default(),
            reserve_ppm: limits::RESERVE_PPM.default as u32,
            unprofiled: limits::UNPROFILED.default as usize,
            state_dir: None,
            cache_dir: None,
            cache_bytes: limits::CACHE_SIZE.default,
            queue: limits::QUEUE.default as usize,
            sandboxes: limits::SANDBOXES.default as usize,
            memory_bytes: limits::NODE_MEMORY.default,
            mappings: limits::NODE_MAPPINGS.default,
            connections: limits::CONNECTIONS.default as usize,
            body_memory_bytes: limits::BODY_MEMORY.default,
            answer_memory_bytes: limits::ANSWER_MEMORY.default,
            header_bytes: limits::HEADER_BYTES.default as usize,
            header_count: limits::HEADER_COUNT.default as usize,
            header_timeout: limits::HEADER_TIMEOUT.default,
            body_timeout: limits::BODY_TIMEOUT.default,
            idle_timeout: limits::IDLE_TIMEOUT.default,
            half_close_timeout: limits::HALF_CLOSE_TIMEOUT.default,
            shutdown_timeout: limits::SHUTDOWN_TIMEOUT.default,
            watchdog: limits::WATCHDOG.default,
            server_timing: ServerTiming::default(),
            strict: false,
        }
    }
}

impl NodeConfig {
    fn read(mut table: Table<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            listen: match table.take("listen") {
                Some(item) => item.parse_str(
                    |text| text.parse().ok(),
                    "an address and a port are needed, such as \"127.0.0.1:8080\"",
                )?,
                None => default.listen,
            },
            workers: table.count("workers", limits::WORKERS)?,
            policy: match table.take("policy") {
                Some(item) => item.one_of(&Policy::ALL.map(|policy| (policy.name(), policy)))?,
                None => default.policy,
            },
            quantum: table.duration("quantum", limits::QUANTUM)?,
            admission: match table.take("admission") {
                Some(item) => item.one_of(&Admission::ALL.map(|kind| (kind.name(), kind)))?,
                None => default.admission,
            },
            reserve_ppm: table.percent("reserve", limits::RESERVE_PPM)?,
            unprofiled: table.count("unprofiled", limits::UNPROFILED)?,
            state_dir: table.take("state_dir").map(|i| i.path()).transpose()?,
            cache_dir: table.take("cache_dir").map(|i| i.path()).transpose()?,
            cache_bytes: table.bytes("cache_size", limits::CACHE_SIZE)?,
            queue: table.count("queue", limits::QUEUE)?,
            sandboxes: table.count("sandboxes", limits::SANDBOXES)?,
            memory_bytes: table.bytes("memory", limits::NODE_MEMORY)?,
            mappings: table.count("mappings", limits::NODE_MAPPINGS)? as u64,
            connections: table.count("connections", limits::CONNECTIONS)?,
            body_memory_bytes: table.bytes("body_memory", limits::BODY_MEMORY)?,
            answer_memory_bytes: table.bytes("answer_memory", limits::ANSWER_MEMORY)?,
            header_bytes: table.bytes("header_bytes", limits::HEADER_BYTES)? as usize,
            header_count: table.count("header_count", limits::HEADER_COUNT)?,
            header_timeout: table.duration("header_timeout", limits::HEADER_TIMEOUT)?,
            body_timeout: table.duration("body_timeout", limits::BODY_TIMEOUT)?,
            idle_timeout: table.duration("idle_timeout", limits::IDLE_TIMEOUT)?,
            half_close_timeout: table.duration("half_close_timeout", limits::HALF_CLOSE_TIMEOUT)?,
            shutdown_timeout: table.duration("shutdown_timeout", limits::SHUTDOWN_TIMEOUT)?,
            watchdog: table.duration("watchdog", limits::WATCHDOG)?,
            server_timing: match table.take("server_timing") {
                Some(item) => item.one_of(&ServerTiming::ALL)?,
                None => default.server_timing,
            },
            strict: table.flag("strict")?,
        })
    }
}

impl FunctionConfig {
    fn read(
        base: &Path,
        mut table: Table<'_>,
        tenants: &[TenantConfig],
    ) -> Result<Self, ConfigError> {
        let name = table.required("name")?.parse_str(
            |text| is_name(text).then(|| text.to_owned()),
            "a name has 1 to 64 letters, digits, `-`, `_` or `.`",
        )?;
        let args = table.take("args").map(Item::strings).transpose()?.unwrap_or_default();
        let timeout = table.duration("timeout", limits::TIMEOUT)?;
        let abi = match table.take("abi") {
            Some(item) => item.one_of(&[("stdio", Abi::Stdio), ("wagi", Abi::Wagi)])?,
            None => Abi::Stdio,
        };
        Ok(Self {
            line: table.line(),
            module: base.join(table.required("module")?.path()?),
            entry: match table.take("entry") {
                Some(item) => Some(item.parse_str(
                    |text| (!text.is_empty()).then(|| text.to_owned()),
                    "the name of an exported function is needed, such as \"handle\"",
                )?),
                None => None,
            },
            route: Route::read(&table.required("route")?)?,
            methods: table.take("methods").map_or_else(|| Ok(Vec::new()), read_methods)?,
            abi,
            args: std::iter::once(name.clone()).chain(args).collect(),
            env: match table.take("env") {
                Some(item) => item.string_map()?,
                None => BTreeMap::new(),
            },
            content_type: match table.take("content_type") {
                Some(item) => item.parse_str(
                    |text| text.bytes().all(|b| (0x20..0x7f).contains(&b)).then(|| text.to_owned()),
                    "a content type is printable ASCII",
                )?,
                None => "application/octet-stream".to_owned(),
            },
            status: match table.take("status") {
                Some(item) => read_status(item, abi)?,
                None => BTreeMap::new(),
            },
            memory_bytes: table.bytes("memory", limits::MEMORY)?,
            stack_bytes: table.bytes("stack", limits::STACK)?,
            huge_pages: table.flag("huge_pages")?,
            body_bytes: table.bytes("body", limits::BODY)?,
            output_bytes: table.bytes("output", limits::OUTPUT)?,
            timeout,
            cpu_limit: table.optional_duration("cpu_limit", limits::CPU_LIMIT)?,
            concurrency: table.count("concurrency", limits::CONCURRENCY)?,
            isolation: match table.take("isolation") {
                Some(item) => Some(
                    item.one_of(&[("guard", Isolation::Guard), ("checked", Isolation::Checked)])?,
                ),
                None => None,
            },
            tenant: table.take("tenant").map(|item| tenant::find(&item, tenants)).transpose()?,
            slo: SloConfig::read(table.take("slo"), timeout)?,
            grants: GrantsConfig::read(base, &mut table)?,
            log: table.log_rate(limits::LOG_RATE, limits::LOG_LINES)?,
            name,
        })
    }
}

/// Why two functions cannot be in the same configuration, if they cannot.
fn clash(first: &FunctionConfig, second: &FunctionConfig) -> Option<String> {
    let line = first.line;
    if first.name == second.name {
        return Some(format!("a function named `{}` is already at line {line}", first.name));
    }
    let both = |methods: &[String]| methods.is_empty();
    let overlap = both(&first.methods)
        || both(&second.methods)
        || first.methods.iter().any(|method| second.methods.contains(method));
    (overlap && first.route == second.route).then(|| {
        format!("route {} is already taken by `{}` at line {line}", first.route, first.name)
    })
}

/// At least one: none at all would be read as that all are meant, or that the function is off.
fn read_methods(item: Item<'_>) -> Result<Vec<String>, ConfigError> {
    let none = item.error("`methods` is empty: name some, or leave it out for all".to_owned());
    let rule =
        "a method is in capitals, such as \"GET\" or \"POST\"; the node is no proxy for CONNECT";
    let methods = item.checked_strings(|text| is_method(text) && text != "CONNECT", rule)?;
    if methods.is_empty() { Err(none) } else { Ok(methods) }
}

fn read_status(item: Item<'_>, abi: Abi) -> Result<BTreeMap<u32, u16>, ConfigError> {
    if abi == Abi::Wagi {
        let message =
            "`status` is for `abi = \"stdio\"`: a wagi function says `Status: 400` itself";
        return Err(item.error(message.to_owned()));
    }
    let codes = item.entries(|code, item| {
        let number = code.parse::<u32>().ok().filter(|number| number.to_string() == code);
        let number = number.ok_or_else(|| {
            let code = code.escape_debug();
            item.error(format!("`{code}` is no exit code: write status = {{ 2 = 400 }}"))
        })?;
        Ok((number, item.number(200, 599)? as u16))
    })?;
    Ok(codes.into_iter().collect())
}

fn is_method(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-')
}
