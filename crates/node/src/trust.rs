//! Which shared objects may run: `[trust] objects` of a configuration.
//!
//! Isolation rests on this file where an object comes from elsewhere. What this node's own compiler
//! has made was verified by it, and is recognised by its entry in the cache. Any other object is an
//! allegation: it is verified before its code may run, so code that a stranger compiled on a bigger
//! machine can be served.

use awsm_verify::{FunctionReport, Refusal, Report};

/// What is asked of a shared object that this node did not compile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objects {
    /// It is verified.
    #[default]
    Verify,
    /// It is refused: only WebAssembly is served.
    Own,
    /// Nothing: whoever made it is trusted as the makers of this program are.
    None,
}

impl Objects {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Verify, Self::Own, Self::None];

    /// The name in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Own => "own",
            Self::None => "none",
        }
    }

    /// The policy of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// Verifies an object whole: everything must be shown, accesses to linear memory too.
///
/// # Errors
/// What is not shown, and where.
pub fn verify(object: &[u8]) -> Result<Report, Refusal> {
    let report = awsm_verify::verify(object)?;
    let refusal = report.unshown().find_map(FunctionReport::refusal);
    refusal.map_or(Ok(report), Err)
}
