//! Tells the compiler what it is built from, so that a cache never takes one compiler's objects for
//! another's: versions change more rarely than what stands in these files.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

fn main() {
    // Of the dependencies, the lock file says which they are; LLVM tells its own version.
    let roots =
        ["build.rs", "Cargo.toml", "src", "../abi/src", "../verify/src", "../../Cargo.lock"];
    let mut files = Vec::new();
    for root in roots {
        println!("cargo::rerun-if-changed={root}");
        collect(Path::new(root), &mut files);
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file).expect("a readable source file").hash(&mut hasher);
    }
    println!("cargo::rustc-env=AWSMC_SOURCE={:016x}", hasher.finish());
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
