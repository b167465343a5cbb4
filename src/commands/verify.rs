//! `awsm verify`: shows of a shared object that its code stays in its sandbox, or says what is not
//! shown.

use std::path::PathBuf;
use std::process::ExitCode;

use awsm_sandbox::SealedObject;
use awsm_verify::{REMAINS_TRUSTED, Refusal, Report};
use clap::Args;
use serde_json::{Value, json};

use crate::options::{Failure, ReportFormat, counted, say, say_json};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to print
    #[arg(long, value_enum, default_value_t = ReportFormat::Table, env = "AWSM_FORMAT")]
    format: ReportFormat,
    /// The shared object
    #[arg(value_name = "FILE.so")]
    file: PathBuf,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", options.file.display());
    let object = SealedObject::read(&options.file).map_err(|error| named(&error))?;
    let verdict = awsm_verify::verify(object.bytes());
    match options.format {
        ReportFormat::Json => say_json(&to_json(&verdict)),
        ReportFormat::Table => print(&verdict),
    }
    match verdict {
        Err(refusal) => Err(named(&format!("refused: {refusal}")).into()),
        Ok(report) => match report.unshown().next() {
            None => Ok(ExitCode::SUCCESS),
            Some(function) => {
                let (name, access) = (&function.name, &function.unshown[0]);
                let (offset, what) = (access.offset, &access.what);
                Err(named(&format!("refused: `{name}` at {offset:#x}: {what}")).into())
            }
        },
    }
}

fn print(verdict: &Result<Report, Refusal>) {
    let Ok(report) = verdict else { return };
    let (accesses, shown) = report.memory_accesses();
    let functions = counted(report.functions.len() as u64, "function");
    say(format_args!("{functions}, {} bytes of code", report.code_bytes));
    say("shown:");
    for (rule, count) in report.counts() {
        say(format_args!("  {count:>9}  {}", rule.name()));
    }
    if shown < accesses {
        say("not shown:");
        for function in report.unshown() {
            for access in &function.unshown {
                say(format_args!("  `{}` at {:#x}: {}", function.name, access.offset, access.what));
            }
        }
    }
    say("what remains trusted:");
    REMAINS_TRUSTED.iter().for_each(|what| say(format_args!("  {what}")));
    let verdict = if shown == accesses { "shown to stay in its sandbox" } else { "not shown" };
    say(format_args!("verdict: {verdict}"));
}

fn to_json(verdict: &Result<Report, Refusal>) -> Value {
    let report = match verdict {
        Ok(report) => report,
        Err(refusal) => {
            return json!({
                "verdict": "refused",
                "function": refusal.function,
                "offset": refusal.offset,
                "what": refusal.what,
            });
        }
    };
    let (accesses, shown) = report.memory_accesses();
    let rules: serde_json::Map<String, Value> = report
        .counts()
        .iter()
        .map(|(rule, count)| (rule.name().to_owned(), json!(count)))
        .collect();
    let unshown: Vec<Value> = report
        .unshown()
        .flat_map(|function| {
            function.unshown.iter().map(
                |access| json!({"function": function.name, "offset": access.offset, "what": access.what}),
            )
        })
        .collect();
    json!({
        "verdict": if shown == accesses { "shown" } else { "not shown" },
        "functions": report.functions.len(),
        "code_bytes": report.code_bytes,
        "memory_accesses": accesses,
        "memory_accesses_shown": shown,
        "rules": rules,
        "not_shown": unshown,
        "remains_trusted": REMAINS_TRUSTED,
    })
}
