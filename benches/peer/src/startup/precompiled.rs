//! Modules that Wasmtime compiled ahead of time, as files.
//!
//! The one place of this program with unsafe code: Wasmtime trusts such a file blindly.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wasmtime::{Engine, Module};

use super::peer::{Variant, told};
use crate::guests::Prepared;

/// Where the guest's precompiled form for engines of this variant lies.
pub(super) fn path(variant: Variant, prepared: &Prepared, scratch: &Path) -> PathBuf {
    scratch.join(format!("{}.{}.cwasm", prepared.guest.name, variant.name))
}

/// Compiles the guest, unless that was done before, and says where the result lies.
pub(super) fn make(
    engine: &Engine,
    variant: Variant,
    prepared: &Prepared,
    scratch: &Path,
) -> Result<PathBuf> {
    let path = path(variant, prepared, scratch);
    if !path.exists() {
        let code = engine.precompile_module(&prepared.wasm).map_err(told)?;
        std::fs::write(&path, code).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(path)
}

/// Loads a file that [`make`] wrote, or a copy of one.
pub(super) fn load(engine: &Engine, path: &Path) -> Result<Module> {
    // SAFETY: callers pass paths in this process's own scratch folder, where `make`, or a copy of
    // what it made, has put what Wasmtime compiled.
    unsafe { Module::deserialize_file(engine, path) }.map_err(told)
}
