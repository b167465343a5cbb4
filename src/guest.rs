//! What an invocation brings into its sandbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use awsm_wasi::{Output, Stdin, StringList, WasiCtx};
use bytes::Bytes;

use crate::limits;

/// What all invocations of a function see of their surroundings.
pub struct Environment {
    args: Arc<StringList>,
    env: Arc<StringList>,
    output_bytes: usize,
}

/// What one invocation brings.
#[derive(Debug, Default)]
pub struct Input {
    /// On stdin.
    pub body: Bytes,
    /// After the function's own environment.
    pub env: StringList,
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
        }
    }

    /// The same, shared with nobody: workers on different cores must not count references in the
    /// same cache line for every request.
    #[must_use]
    pub fn unshared(&self) -> Self {
        Self {
            args: Arc::new(StringList::clone(&self.args)),
            env: Arc::new(StringList::clone(&self.env)),
            output_bytes: self.output_bytes,
        }
    }

    /// The state of a new invocation's host calls.
    #[must_use]
    pub fn context(&self, input: Input) -> WasiCtx {
        let mut context = WasiCtx::default();
        context.args = Arc::clone(&self.args);
        context.env = Arc::clone(&self.env);
        context.request_env = input.env;
        if !input.body.is_empty() {
            context.stdin = Stdin::Bytes(input.body);
        }
        context.stdout = Output::buffer(self.output_bytes);
        context.stderr = Output::buffer(limits::STDERR_BYTES as usize);
        context
    }
}
