//! Tells debuggers and profilers where a module lies, since there is no file behind its memory.
//!
//! The log has each module's address at the level `debug`, for gdb's
//! `add-symbol-file FILE -o ADDRESS`. With `AWSM_PERF_MAP=1` each function's code and name goes to
//! `/tmp/perf-PID.map`, where perf looks for code that is no file's. Source: Linux,
//! `tools/perf/Documentation/jit-interface.txt`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use awsm_sandbox::Module;

use crate::log::visible;

static MAP: LazyLock<Option<Mutex<File>>> = LazyLock::new(|| {
    std::env::var_os("AWSM_PERF_MAP").filter(|value| !value.is_empty() && value != "0")?;
    let path = PathBuf::from(format!("/tmp/perf-{}.map", std::process::id()));
    match create(&path) {
        Ok(map) => Some(Mutex::new(map)),
        Err(error) => {
            tracing::warn!("{}: perf learns no names: {error}", path.display());
            None
        }
    }
});

/// Tells where the module from this file lies.
pub fn tell(file: &Path, module: &Module) {
    tracing::debug!("{}: address 0 is at {:#x}", file.display(), module.base_address());
    let Some(map) = &*MAP else { return };
    let module_name = file.file_stem().unwrap_or_default().to_string_lossy();
    let module_name = visible(&module_name);
    let lines: String = module
        .code()
        .map(|(address, bytes, name)| {
            format!("{address:x} {bytes:x} {module_name}:{}\n", visible(&name.to_string()))
        })
        .collect();
    let written = map.lock().unwrap_or_else(PoisonError::into_inner).write_all(lines.as_bytes());
    if let Err(error) = written {
        tracing::warn!("perf learns no names of {module_name}: {error}");
    }
}

/// A new file, in a directory where everybody may have put one under that name.
fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {} // an earlier process with this number has left it
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
