//! Finished code with a few bytes changed: what the verifier lets through stays in its sandbox. A
//! bounded part of `awsm-fuzz mutants`, which see.
//!
//! `AWSM_MUTANTS=5000` tries more, `AWSM_SEED` others.

use std::process::Command;

#[test]
fn what_is_let_through_stays_inside() {
    let given = |name: &str, otherwise: &str| std::env::var(name).unwrap_or(otherwise.to_owned());
    let output = Command::new(env!("CARGO_BIN_EXE_awsm-fuzz"))
        .args(["mutants", "--jobs", "2", "--only", "language", "--only", "qsort"])
        .args(["--count", &given("AWSM_MUTANTS", "210"), "--seed", &given("AWSM_SEED", "1")])
        .output()
        .expect("the fuzzer");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{out}\n{err}");
    // The sums: made, refused, the same, different inside, endless, not loaded, different by their
    // place, and those that touched something.
    let sums = out.lines().last().and_then(|line| line.strip_prefix("all")).expect("a table");
    let sums: Vec<u64> = sums.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [made, refused, same, differs, _, _, _, touched] = sums[..] else { panic!("{out}") };
    assert!(made > 150 && refused > made / 5 && same > 0 && differs > 0, "{out}");
    assert_eq!(touched, 0, "{out}");
    println!("{out}");
}
