//! What mutants are made of: every guest of the project in both modes, and a module with what these
//! lack.

use std::fmt;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use awsm_compile::{OptLevel, Options};
use awsm_host::{Output, Stdin, StringList, WasiCtx};
use awsm_sandbox::Isolation;

use super::change::Code;
use super::{Unshown, unshown};

/// An object that is changed.
pub struct Subject {
    name: String,
    isolation: Isolation,
    opt_level: OptLevel,
    /// The object as the compiler made it.
    pub object: Vec<u8>,
    /// Its code.
    pub code: Code,
    /// Accesses to memory that are not shown of it as it is.
    pub unshown: Unshown,
    /// What it is given.
    pub cases: Vec<Case>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -{:?}", self.name, self.isolation.name(), self.opt_level)
    }
}

/// What a guest is given.
#[derive(Clone, Debug, Default)]
pub struct Case {
    args: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Vec<u8>,
}

impl Case {
    /// A fresh context with this.
    #[must_use]
    pub fn context(&self) -> WasiCtx {
        let mut context = WasiCtx::default();
        context.args = Arc::new(self.args.iter().collect());
        let mut env = StringList::new();
        for (name, value) in &self.env {
            env.push_variable(name, value);
        }
        context.env = Arc::new(env);
        context.stdin = Stdin::Bytes(self.stdin.clone().into());
        context.stdout = Output::buffer(1 << 20);
        context.stderr = Output::buffer(1 << 20);
        context
    }
}

/// Tables of several types, references, exceptions, calls in tail position, another memory.
const LANGUAGE: &str = include_str!("language.wat");

/// The project's directory.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project").to_owned()
}

/// The cases of the guests that take little time, by guest.
fn cases() -> Vec<(String, Vec<Case>)> {
    let data = root().join("guests/data");
    let table = fs::read_to_string(data.join("cases.tsv")).unwrap_or_default();
    let mut all: Vec<(String, Vec<Case>)> = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let cells: Vec<_> = line.split('\t').collect();
        let [guest, args, env, stdin, ..] = cells[..] else { continue };
        let words = |cell: &str| match cell {
            "-" => Vec::new(),
            cell => cell.split(' ').map(str::to_owned).collect::<Vec<_>>(),
        };
        let pair = |word: String| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        // Without anything to do they work on samples of their own, for long.
        let small = ["null", "echo", "wagi-hello", "exit", "trap", "residue", "greet-rs"];
        if stdin == "-" && args == "-" && env == "-" && !small.contains(&guest) {
            continue;
        }
        let stdin =
            if stdin == "-" { Vec::new() } else { fs::read(data.join(stdin)).unwrap_or_default() };
        let case = Case {
            args: std::iter::once(guest.to_owned()).chain(words(args)).collect(),
            env: words(env).into_iter().filter_map(pair).collect(),
            stdin,
        };
        match all.iter_mut().find(|(name, _)| name == guest) {
            Some((_, cases)) => cases.push(case),
            None => all.push((guest.to_owned(), vec![case])),
        }
    }
    all
}

/// Guests of which only these are wanted; all if the list is empty.
///
/// # Errors
/// If a guest is not built or does not compile.
pub fn subjects(
    only: &[String],
    opt_levels: &[OptLevel],
    directory: &Path,
) -> Result<Vec<Subject>, String> {
    let mut sources = vec![("language".to_owned(), vec![Case::default()])];
    sources.extend(cases());
    sources.retain(|(name, _)| only.is_empty() || only.contains(name));
    let mut wanted = Vec::new();
    for (name, cases) in &sources {
        for isolation in [Isolation::Guard, Isolation::Checked] {
            for opt_level in opt_levels {
                wanted.push((name, cases, isolation, *opt_level));
            }
        }
    }
    // Side by side, in turn.
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(4);
    let work = || {
        let mut made = Vec::new();
        while let Some((name, cases, isolation, opt_level)) =
            wanted.get(next.fetch_add(1, Ordering::Relaxed))
        {
            made.push(subject(name, cases, *isolation, *opt_level, directory)?);
        }
        Ok::<_, String>(made)
    };
    let made: Result<Vec<_>, String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    let mut subjects: Vec<Subject> = made?.into_iter().flatten().flatten().collect();
    subjects.sort_by_key(ToString::to_string);
    Ok(subjects)
}

/// One object, compiled unless it lies in the directory already. None if it is refused as it is.
fn subject(
    name: &str,
    cases: &[Case],
    isolation: Isolation,
    opt_level: OptLevel,
    directory: &Path,
) -> Result<Option<Subject>, String> {
    let file = directory.join(format!("{name}-{}-{opt_level:?}.so", isolation.name()));
    let object = match fs::read(&file) {
        Ok(object) => object,
        Err(_) => {
            let wasm = match name {
                "language" => wat::parse_str(LANGUAGE).map_err(|error| error.to_string())?,
                name => {
                    let file = root().join("target/guests").join(name).with_extension("wasm");
                    let missing = |error| format!("{}: {error}: run `make guests`", file.display());
                    fs::read(&file).map_err(missing)?
                }
            };
            let options = Options { opt_level, isolation, ..Options::default() };
            let object = awsm_compile::compile(&wasm, &options);
            let object = object.map_err(|error| format!("{name}: {error}"))?;
            // Whole or not at all: children read it as soon as it has its name.
            let draft = file.with_extension("draft");
            fs::write(&draft, &object)
                .and_then(|()| fs::rename(&draft, &file))
                .map_err(|error| error.to_string())?;
            object
        }
    };
    let Some(unshown) =
        known(&file, &object, &format!("{name} {} -{opt_level:?}", isolation.name()))?
    else {
        return Ok(None);
    };
    Ok(Some(Subject {
        name: name.to_owned(),
        isolation,
        opt_level,
        code: Code::read(&object),
        unshown,
        object,
        cases: cases.to_vec(),
    }))
}

/// Accesses to memory that are not shown of an object as it is, found once and kept in a file
/// beside it. None if it is refused.
fn known(file: &Path, object: &[u8], name: &str) -> Result<Option<Unshown>, String> {
    const REFUSED: &str = "refused";
    let kept = file.with_extension("unshown");
    let text = match fs::read_to_string(&kept) {
        Ok(text) => text,
        Err(_) => {
            let options = awsm_verify::Options {
                threads: NonZeroUsize::MIN,
                ..awsm_verify::Options::default()
            };
            let text = match awsm_verify::verify_with(object, options) {
                Ok(report) => {
                    let accesses = unshown(&report).into_iter();
                    accesses.map(|(name, offset)| format!("{offset} {name}\n")).collect()
                }
                Err(refusal) => {
                    eprintln!("{name} is refused as it is: {refusal}");
                    REFUSED.to_owned()
                }
            };
            fs::write(&kept, &text).map_err(|error| error.to_string())?;
            text
        }
    };
    if text == REFUSED {
        return Ok(None);
    }
    let access = |line: &str| {
        let (offset, name) = line.split_once(' ')?;
        Some((name.to_owned(), offset.parse().ok()?))
    };
    Ok(Some(text.lines().filter_map(access).collect()))
}
