//! The one list of what fails, with reasons: whole files, or directives of a file by their lines.

const LIST: &str = include_str!("listed.txt");

/// One line of the list.
struct Entry {
    suite: &'static str,
    file: &'static str,
    /// Lines of the directives that fail; empty for the whole file.
    lines: Vec<usize>,
    reason: &'static str,
}

/// What is expected of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Passes,
    Fails(&'static str),
    /// The directives on these lines fail, and nothing else does.
    FailsAt(Vec<usize>),
}

fn entries() -> impl Iterator<Item = Entry> {
    let lines = LIST.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let mut words = line.splitn(3, char::is_whitespace);
        let mut next = || words.next().unwrap_or_default().trim();
        let (suite, place, reason) = (next(), next(), next());
        let (file, numbers) = place.split_once(':').unwrap_or((place, ""));
        let lines = numbers.split(',').filter_map(|number| number.parse().ok()).collect();
        Entry { suite, file, lines, reason }
    })
}

/// What the list says of this file.
pub(crate) fn expected(suite: &str, file: &str) -> Expected {
    let mut lines = Vec::new();
    for entry in entries().filter(|entry| (entry.suite, entry.file) == (suite, file)) {
        if entry.lines.is_empty() {
            return Expected::Fails(entry.reason);
        }
        lines.extend(entry.lines);
    }
    lines.sort_unstable();
    if lines.is_empty() { Expected::Passes } else { Expected::FailsAt(lines) }
}

/// Whether each entry names a file that `exists`, no line twice, and gives a reason.
pub(crate) fn check(exists: impl Fn(&str, &str) -> bool) -> Result<(), String> {
    let mut seen = Vec::new();
    for Entry { suite, file, lines, reason } in entries() {
        if !exists(suite, file) {
            return Err(format!("listed.txt: no file `{suite} {file}`"));
        }
        if reason.is_empty() {
            return Err(format!("listed.txt: no reason for `{suite} {file}`"));
        }
        if seen.contains(&(suite, file, lines.clone())) {
            return Err(format!("listed.txt: `{suite} {file}` twice"));
        }
        seen.push((suite, file, lines));
    }
    Ok(())
}
