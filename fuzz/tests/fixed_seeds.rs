//! The bounded run: modules of fixed seeds, and every module that ever diverged.

use std::path::Path;
use std::process::Command;

use awsm_fuzz::generate::{self, Generated};
use awsm_fuzz::subject::{Configuration, Linking};

/// Less than a minute on one core. `make fuzz` goes on behind them.
const SEEDS: &str = "0..2000";

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
    assert!(agreed > 1800, "{last}");
}

#[test]
fn what_once_diverged_agrees() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut problems = Vec::new();
    let mut modules = 0;
    for entry in folder.read_dir().expect("the folder of regressions") {
        let path = entry.expect("an entry").path();
        let module = Generated::read(&path).expect("a module as text");
        modules += 1;
        // Each call alone, since after a fault nothing is compared.
        for call in generate::calls(&module.wasm, 0) {
            let all = &Configuration::ALL;
            if let Err(divergence) = awsm_fuzz::module(&module, vec![call], all, Linking::Quick) {
                problems.push(format!("{}: {divergence}", path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(modules > 0, "no module in {}", folder.display());
}
