//! Records which compiler and which peers a benchmark was built with, for the report's machine
//! block.

use std::process::Command;
use std::{env, fs};

const LOCK: &str = "../../Cargo.lock";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={LOCK}");
    let lock = fs::read_to_string(LOCK).unwrap_or_default();
    println!("cargo::rustc-env=BENCH_WASMTIME_VERSION={}", locked(&lock, "wasmtime"));
    println!("cargo::rustc-env=BENCH_HYPER_VERSION={}", locked(&lock, "hyper"));
    let rustc = env::var_os("RUSTC").expect("cargo names its compiler");
    let version = Command::new(rustc).arg("--version").output().expect("the compiler runs");
    println!(
        "cargo::rustc-env=BENCH_RUSTC_VERSION={}",
        String::from_utf8_lossy(&version.stdout).trim()
    );
}

/// The version of `package` in the lock file: the line after its name.
fn locked<'lock>(lock: &'lock str, package: &str) -> &'lock str {
    let name = format!("name = \"{package}\"\n");
    let after = lock.split_once(&name).map_or("", |(_, after)| after);
    after.split('"').nth(1).unwrap_or("unknown")
}
