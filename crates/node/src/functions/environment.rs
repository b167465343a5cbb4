//! What an invocation brings into its sandbox.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use awsm_host::{Grants, Helpers, Mount, Output, Stdin, StringList, WasiCtx};
use awsm_ledger::Purse;
use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::config::endpoint::{self, Listeners, SocketFile};
use crate::config::{GrantsConfig, StdinConfig};
use crate::limits;

/// What all invocations of a function see of their surroundings.
pub struct Environment {
    args: Arc<StringList>,
    env: Arc<StringList>,
    output_bytes: usize,
    stdin: Source,
    grants: Option<Arc<Grants>>,
    helpers: Option<Arc<Helpers>>,
    socket_files: Vec<SocketFile>,
}

/// What an invocation finds on stdin.
#[derive(Clone, Debug)]
enum Source {
    Request,
    Always(Bytes),
}

/// What one invocation brings.
#[derive(Debug)]
pub struct Input {
    /// On stdin.
    pub body: Bytes,
    /// After the function's own environment.
    pub env: StringList,
    /// What the request is called in the log.
    pub request: HeaderValue,
}

impl Default for Input {
    fn default() -> Self {
        Self::new(Bytes::new(), StringList::new())
    }
}

impl Input {
    /// Without a name in the log.
    #[must_use]
    pub fn new(body: Bytes, env: StringList) -> Self {
        Self { body, env, request: HeaderValue::from_static("") }
    }
}

impl Environment {
    /// Arguments, the first being the guest's own name; variables; the limit of stdout.
    #[must_use]
    pub fn new(args: &[String], env: &BTreeMap<String, String>, output_bytes: u64) -> Self {
        let mut variables = StringList::new();
        for (name, value) in env {
            variables.push_variable(name, value);
        }
        Self {
            args: Arc::new(args.iter().collect()),
            env: Arc::new(variables),
            output_bytes: usize::try_from(output_bytes).unwrap_or(usize::MAX),
            stdin: Source::Request,
            grants: None,
            helpers: None,
            socket_files: Vec::new(),
        }
    }

    /// The same with what a function may reach. Directories are opened, names looked up and sockets
    /// bound here, once. Files that may wait for a disk are left to `helpers`; open descriptors
    /// have their places from `descriptors`.
    ///
    /// # Errors
    /// What cannot be reached, and why: one line for each.
    pub fn granted(
        mut self,
        config: &GrantsConfig,
        (helpers, descriptors): (&Arc<Helpers>, Purse),
        listeners: Listeners,
    ) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        self.stdin = match &config.stdin {
            StdinConfig::Request => Source::Request,
            StdinConfig::Empty => Source::Always(Bytes::new()),
            StdinConfig::File(path) => Source::Always(read_input(path).unwrap_or_else(|mistake| {
                mistakes.push(mistake);
                Bytes::new()
            })),
        };
        let descriptors = Some(descriptors);
        let (limits, devices) = (config.limits, config.dev);
        let mut grants = Grants { limits, devices, descriptors, ..Grants::default() };
        for dir in &config.dirs {
            let mount = Mount::open(&dir.guest, &dir.path, dir.writable);
            match mount {
                Ok(mount) => grants.mounts.push(mount),
                Err(error) => mistakes.push(format!("`dirs`: {}: {error}", dir.path.display())),
            }
        }
        let mut variables = StringList::clone(&self.env);
        let listen = (config.listen.as_slice(), listeners);
        match endpoint::grant(&mut grants, &mut variables, &config.connect, listen) {
            Ok(files) => self.socket_files = files,
            Err(more) => mistakes.extend(more),
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        self.env = Arc::new(variables);
        if !grants.mounts.is_empty() {
            self.helpers = Some(Arc::clone(helpers));
        }
        if grants.preopened() + grants.sockets.len() > 0 {
            self.grants = Some(Arc::new(grants));
        }
        Ok(self)
    }

    /// What does slow work for the function, if it has any.
    #[must_use]
    pub fn helpers(&self) -> Option<&Arc<Helpers>> {
        self.helpers.as_ref()
    }

    /// The files of the sockets at which the function listens, for whoever keeps them to its end.
    pub fn take_socket_files(&mut self) -> Vec<SocketFile> {
        std::mem::take(&mut self.socket_files)
    }

    /// The same, shared with nobody: workers on different cores must not count references in the
    /// same cache line for every request.
    #[must_use]
    pub fn unshared(&self) -> Self {
        Self {
            args: Arc::new(StringList::clone(&self.args)),
            env: Arc::new(StringList::clone(&self.env)),
            output_bytes: self.output_bytes,
            stdin: self.stdin.clone(),
            grants: self.grants.as_deref().map(|grants| Arc::new(grants.clone())),
            helpers: self.helpers.clone(),
            socket_files: Vec::new(),
        }
    }

    /// The state of a new invocation's host calls.
    #[must_use]
    pub fn context(&self, input: Input) -> WasiCtx {
        let mut context = WasiCtx::default();
        context.args = Arc::clone(&self.args);
        context.env = Arc::clone(&self.env);
        context.request_env = input.env;
        let body = match &self.stdin {
            Source::Request => input.body,
            Source::Always(bytes) => bytes.clone(),
        };
        if !body.is_empty() {
            context.stdin = Stdin::Bytes(body);
        }
        if let Some(grants) = &self.grants {
            context.grants = Some(Arc::clone(grants));
            context.helpers.clone_from(&self.helpers);
        }
        context.stdout = Output::buffer(self.output_bytes);
        context.stderr = Output::log(limits::STDERR_BYTES as usize);
        context
    }
}

/// What a file contains that is a function's stdin.
fn read_input(path: &Path) -> Result<Bytes, String> {
    let named = |error| format!("`stdin`: {}: {error}", path.display());
    let bytes = std::fs::metadata(path).map_err(named)?.len();
    if bytes > limits::STDIN_FILE_BYTES {
        return Err(format!(
            "`stdin`: {}: {bytes} bytes; at most {} are read",
            path.display(),
            limits::STDIN_FILE_BYTES
        ));
    }
    std::fs::read(path).map(Bytes::from).map_err(named)
}
