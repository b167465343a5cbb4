//! From object files to the shared object that is loaded: one run of `ld.lld`.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Output};

use awsm_abi::DESC_SYMBOL;
use awsm_abi::cpu::Arch;

use crate::descriptor::TEXT_BYTES_SYMBOL;
use crate::error::CompileError;
use crate::translate::TEXT_SECTION;

/// Programs to try, in this order.
const LINKERS: [&str; 3] = ["ld.lld-19", "ld.lld", "/usr/lib/llvm-19/bin/ld.lld"];

/// Links the module's object with what it needs of the support objects.
pub(crate) fn link(
    arch: Arch,
    module: &[u8],
    support: &[Vec<u8>],
) -> Result<Vec<u8>, CompileError> {
    let directory = tempfile::Builder::new().prefix("awsmc-").tempdir()?;
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("module.o"), module)?;
    let mut libraries = Vec::new();
    for (number, object) in support.iter().enumerate() {
        let library = path(&format!("support{number}.o"));
        std::fs::write(&library, object)?;
        libraries.push(library);
    }
    let (input, output) = (path("module.o"), path("module.so"));
    let text_bytes = format!(
        "--defsym={TEXT_BYTES_SYMBOL}={DESC_SYMBOL}+(__stop_{TEXT_SECTION}-__start_{TEXT_SECTION})"
    );
    let mut args: Vec<&OsStr> = FLAGS.iter().map(AsRef::as_ref).collect();
    args.extend(["-z", page_size(arch)].map(OsStr::new));
    args.extend([OsStr::new("-o"), output.as_os_str(), input.as_os_str()]);
    args.extend(["--start-lib"].map(OsStr::new));
    args.extend(libraries.iter().map(|library| library.as_os_str()));
    args.extend(["--end-lib"].map(OsStr::new));
    if refers_to(module, TEXT_BYTES_SYMBOL) {
        args.push(text_bytes.as_ref());
    }
    run(&args, directory.path())?;
    Ok(std::fs::read(output)?)
}

const FLAGS: [&str; 20] = [
    "-shared",
    "--no-undefined",
    "--hash-style=gnu",
    "--build-id=none",
    "--no-gnu-unique",
    "--no-eh-frame-hdr",
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
