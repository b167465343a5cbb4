//! The bounded run: modules of fixed seeds, and every module that ever diverged.

use std::path::Path;
use std::process::Command;

use awsm_fuzz::subject::Configuration;

/// Some two minutes on two cores that do nothing else. `make fuzz` goes on behind them.
const SEEDS: &str = "0..800";

#[test]
fn fixed_seeds_agree_with_the_oracle() {
    let output = Command::new(env!("CARGO_BIN_EXE_awsm-fuzz"))
        .args(["--seeds", SEEDS])
        .output()
        .expect("the fuzzer runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let sums = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{sums}");
    // Nothing compared would be nothing proved.
    let last = sums.lines().last().expect("the sums");
    let agreed: u32 = last.split(' ').nth(2).expect("a count").parse().expect("a number");
    assert!(agreed > 700, "{last}");
}

#[test]
fn what_once_diverged_agrees() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut problems = Vec::new();
    let mut modules = 0;
    for entry in folder.read_dir().expect("the folder of regressions") {
        let path = entry.expect("an entry").path();
        let wasm = wat::parse_file(&path).expect("a module as text");
        modules += 1;
        for arguments in 0..2 {
            if let Err(divergence) = awsm_fuzz::module(&wasm, arguments, &Configuration::ALL) {
                problems.push(format!("{}: {divergence}", path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(modules > 0, "no module in {}", folder.display());
}
