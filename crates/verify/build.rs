//! Tells the verifier what it is built from, so that a verdict that was kept is never taken for one
//! of another verifier.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

fn main() {
    let mut files = Vec::new();
    for root in ["Cargo.toml", "src", "../abi/src", "../../Cargo.lock"] {
        println!("cargo::rerun-if-changed={root}");
        collect(Path::new(root), &mut files);
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file).expect("a readable source file").hash(&mut hasher);
    }
    println!("cargo::rustc-env=AWSM_VERIFY_SOURCE={:016x}", hasher.finish());
}

/// The files at a path and below; what does not exist (the lock file of a crate by itself) is left
/// out.
fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_file() {
        files.push(path.to_path_buf());
    }
    for entry in fs::read_dir(path).into_iter().flatten() {
        collect(&entry.expect("a readable folder").path(), files);
    }
}
