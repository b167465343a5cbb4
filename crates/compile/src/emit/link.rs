//! From object files to the shared object that is loaded: one run of `ld.lld`.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use awsm_abi::DESC_SYMBOL;
use awsm_abi::cpu::Arch;
use tempfile::TempDir;

use super::descriptor::TEXT_BYTES_SYMBOL;
use crate::error::CompileError;
use crate::job::TEXT_SECTION;

/// Programs to try, in this order.
const LINKERS: [&str; 3] = ["ld.lld-19", "ld.lld", "/usr/lib/llvm-19/bin/ld.lld"];

/// Links the module's objects with what they need of the support objects.
pub(crate) fn link(
    arch: Arch,
    objects: &[&[u8]],
    support: &[Vec<u8>],
) -> Result<Vec<u8>, CompileError> {
    let directory = directory()?;
    let output = directory.path().join("module.so");
    let inputs = write(directory.path(), "unit", objects)?;
    let libraries = write(directory.path(), "support", support)?;
    let text_bytes = format!(
        "--defsym={TEXT_BYTES_SYMBOL}={DESC_SYMBOL}+(__stop_{TEXT_SECTION}-__start_{TEXT_SECTION})"
    );
    let mut args: Vec<&OsStr> = FLAGS.iter().map(AsRef::as_ref).collect();
    args.extend(["-z", page_size(arch), "-o"].map(OsStr::new));
    args.push(output.as_os_str());
    args.extend(inputs.iter().map(|input| input.as_os_str()));
    args.push("--start-lib".as_ref());
    args.extend(libraries.iter().map(|library| library.as_os_str()));
    args.push("--end-lib".as_ref());
    if objects.last().is_some_and(|object| refers_to(object, TEXT_BYTES_SYMBOL)) {
        args.push(text_bytes.as_ref());
    }
    run(&args, directory.path())?;
    Ok(std::fs::read(output)?)
}

/// Makes one object file of several.
pub(crate) fn join(mut objects: Vec<Vec<u8>>) -> Result<Vec<u8>, CompileError> {
    if objects.len() == 1 {
        return Ok(objects.remove(0));
    }
    let directory = directory()?;
    let output = directory.path().join("module.o");
    let inputs = write(directory.path(), "unit", &objects)?;
    let mut args = ["-r", "-o"].map(OsStr::new).to_vec();
    args.push(output.as_os_str());
    args.extend(inputs.iter().map(|input| input.as_os_str()));
    run(&args, directory.path())?;
    Ok(std::fs::read(output)?)
}

fn directory() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("awsmc-").tempdir()
}

fn write(directory: &Path, name: &str, objects: &[impl AsRef<[u8]>]) -> io::Result<Vec<PathBuf>> {
    let write = |(number, object)| {
        let path = directory.join(format!("{name}{number}.o"));
        std::fs::write(&path, AsRef::<[u8]>::as_ref(object)).map(|()| path)
    };
    objects.iter().enumerate().map(write).collect()
}

const FLAGS: [&str; 20] = [
    "-shared",
    "--no-undefined",
    "--hash-style=gnu",
    "--build-id=none",
    "--no-gnu-unique",
    "--eh-frame-hdr",
    "--discard-locals",
    // Nothing is written to once loaded, and nothing is bound or relocated.
    "-z",
    "rodynamic",
    "-z",
    "norelro",
    "-z",
    "text",
    "-z",
    "noexecstack",
    // Data of the guest is in no executable page.
    "-z",
    "separate-code",
    // One dynamic symbol, the descriptor.
    "-z",
    "start-stop-visibility=hidden",
    "-O1",
];

/// Segments begin at multiples of the largest page that systems of the architecture use.
fn page_size(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "max-page-size=4096",
        Arch::Aarch64 => "max-page-size=65536",
    }
}

/// Does an object's string table hold `symbol`?
fn refers_to(object: &[u8], symbol: &str) -> bool {
    object.windows(symbol.len()).any(|window| window == symbol.as_bytes())
}

fn run(args: &[&OsStr], directory: &Path) -> Result<(), CompileError> {
    for linker in LINKERS {
        match Command::new(linker).args(args).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => return Err(CompileError::Linker(complaint(linker, &output, directory))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CompileError::Linker(format!("{linker}: {error}"))),
        }
    }
    Err(CompileError::LinkerMissing { tried: LINKERS.map(str::to_owned).to_vec() })
}

/// What the linker said, without the name of a directory that is gone by now.
fn complaint(linker: &str, output: &Output, directory: &Path) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let prefix = format!("{}/", directory.display());
    let lines: Vec<_> = said.lines().map(|line| line.replace(&prefix, "")).collect();
    format!("{linker} ended with {}: {}", output.status, lines.join("; "))
}
