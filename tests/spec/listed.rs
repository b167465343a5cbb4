//! The one list of files that fail, each with its reason.

const LIST: &str = include_str!("listed.txt");

/// Suite, file and reason of every entry.
fn entries() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let lines = LIST.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let mut words = line.splitn(3, char::is_whitespace);
        let mut next = || words.next().unwrap_or_default().trim();
        (next(), next(), next())
    })
}

/// Why this file is expected to fail, if it is.
pub(crate) fn reason(suite: &str, file: &str) -> Option<&'static str> {
    entries().find(|entry| (entry.0, entry.1) == (suite, file)).map(|entry| entry.2)
}

/// Whether each entry names a file that `exists`, once, and gives a reason.
pub(crate) fn check(exists: impl Fn(&str, &str) -> bool) -> Result<(), String> {
    let mut seen = Vec::new();
    for (suite, file, reason) in entries() {
        if !exists(suite, file) {
            return Err(format!("listed.txt: no file `{suite} {file}`"));
        }
        if reason.is_empty() {
            return Err(format!("listed.txt: no reason for `{suite} {file}`"));
        }
        if seen.contains(&(suite, file)) {
            return Err(format!("listed.txt: `{suite} {file}` twice"));
        }
        seen.push((suite, file));
    }
    Ok(())
}
