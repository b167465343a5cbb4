//! What a function may reach: its directories, connections and listening sockets, where its input
//! comes from, and how much it may write.

use std::path::{Path, PathBuf};

use awsm_host::FileLimits;

use super::error::ConfigError;
use super::reader::{Item, Table};
use crate::config::endpoint::{self, Endpoint};
use crate::limits;

/// Keys of a directory in `dirs`.
pub const DIR_KEYS: &[&str] = &["path", "mode"];

/// What a function may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantsConfig {
    /// Directories, in the order of the guest's names.
    pub dirs: Vec<DirConfig>,
    /// Does it find `/dev`, with devices of ours? If not said: if it has a directory `/`.
    pub dev: Option<bool>,
    /// Where it may connect to, by name.
    pub connect: Vec<(String, Endpoint)>,
    /// Where it listens, by name.
    pub listen: Vec<(String, Endpoint)>,
    /// What it reads.
    pub stdin: StdinConfig,
    /// [`limits::DESCRIPTORS`], [`limits::FILE_SIZE`], [`limits::FILE_WRITES`].
    pub limits: FileLimits,
}

/// A directory of the host under a name of the guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirConfig {
    /// What the guest calls it.
    pub guest: String,
    /// Where it is.
    pub path: PathBuf,
    /// May anything in it be changed?
    pub writable: bool,
}

/// What a function finds on stdin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StdinConfig {
    /// The request's body.
    Request,
    /// Nothing.
    Empty,
    /// What a file contains when the function is deployed.
    File(PathBuf),
}

impl GrantsConfig {
    pub(super) fn read(base: &Path, table: &mut Table<'_>) -> Result<Self, ConfigError> {
        let dirs = match table.take("dirs") {
            Some(item) => item.entries(|guest, item| DirConfig::read(base, guest, item))?,
            None => Vec::new(),
        };
        let dev = table.optional_flag("dev")?;
        if dev == Some(true) && dirs.iter().any(|dir| dir.guest == "/dev") {
            return Err(table.error("`dev = true` and `/dev` in `dirs`: choose one".into()));
        }
        let connect = endpoints(base, table.take("connect"))?;
        let listen = endpoints(base, table.take("listen"))?;
        if let Some((name, _)) =
            listen.iter().find(|(name, _)| connect.iter().any(|(other, _)| name == other))
        {
            return Err(table.error(format!(
                "`{name}` is in both `connect` and `listen`; each names a descriptor of its own"
            )));
        }
        Ok(Self {
            dirs,
            dev,
            connect,
            listen,
            stdin: match table.take("stdin") {
                Some(item) => item.parse_str(
                    |text| parse_stdin(base, text),
                    "choose \"request\", \"empty\" or \"file:PATH\"",
                )?,
                None => StdinConfig::Request,
            },
            limits: FileLimits {
                descriptors: table.count("descriptors", limits::DESCRIPTORS)? as u32,
                file_bytes: table.bytes("file_size", limits::FILE_SIZE)?,
                written_bytes: table.bytes("file_writes", limits::FILE_WRITES)?,
            },
        })
    }
}

impl DirConfig {
    fn read(base: &Path, guest: &str, item: Item<'_>) -> Result<Self, ConfigError> {
        if guest.is_empty() || guest.contains('\0') {
            return Err(
                item.error("a directory has a name for the guest, such as \"/data\"".into())
            );
        }
        let mut table = item.table("a directory of `dirs`", DIR_KEYS)?;
        Ok(Self {
            guest: guest.to_owned(),
            path: base.join(table.required("path")?.path()?),
            writable: match table.take("mode") {
                Some(item) => item.one_of(&[("ro", false), ("rw", true)])?,
                None => false,
            },
        })
    }
}

fn endpoints(base: &Path, item: Option<Item<'_>>) -> Result<Vec<(String, Endpoint)>, ConfigError> {
    let Some(item) = item else { return Ok(Vec::new()) };
    item.entries(|name, item| {
        if !endpoint::is_name(name) {
            return Err(item.error(format!("`{}`: {}", name.escape_debug(), endpoint::NAME_RULE)));
        }
        let endpoint = match item.parse_str(Endpoint::parse, endpoint::RULE)? {
            Endpoint::Unix(path) => Endpoint::Unix(base.join(path)),
            tcp @ Endpoint::Tcp(_) => tcp,
        };
        Ok((name.to_owned(), endpoint))
    })
}

fn parse_stdin(base: &Path, text: &str) -> Option<StdinConfig> {
    match text {
        "request" => Some(StdinConfig::Request),
        "empty" => Some(StdinConfig::Empty),
        _ => match text.strip_prefix("file:") {
            None | Some("") => None,
            Some(path) => Some(StdinConfig::File(base.join(path))),
        },
    }
}
