//! stringsearch: finds a pattern in a text, whatever the case of their ASCII letters. The search
//! looks at the text's byte under the pattern's end and skips as far as that byte allows
//! (Horspool). Standard input: the pattern on the first line, then the text. Answer: the offset in
//! the text of every occurrence, a line each, or "not found". Occurrences may overlap.

use std::fmt::Write;
use std::process::ExitCode;

use guests::{Random, expected};

const PATTERN_LIMIT: usize = 256;

fn main() -> ExitCode {
    guests::run(|input| if input.is_empty() { self_check() } else { search_input(input) })
}

struct Search {
    /// In small letters, and not empty.
    pattern: Vec<u8>,
    /// By how much the pattern may move when this byte is under its end.
    skip: [usize; 256],
}

impl Search {
    fn new(pattern: &[u8]) -> Self {
        let pattern = pattern.to_ascii_lowercase();
        let end = pattern.len() - 1;
        let mut skip = [pattern.len(); 256];
        for (i, &byte) in pattern[..end].iter().enumerate() {
            skip[byte as usize] = end - i;
            skip[byte.to_ascii_uppercase() as usize] = end - i;
        }
        Self { pattern, skip }
    }

    /// The offsets of all occurrences.
    fn all<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let mut from = 0;
        std::iter::from_fn(move || {
            let found = self.find(text, from)?;
            from = found + 1;
            Some(found)
        })
    }

    /// The first occurrence at or after `from`.
    fn find(&self, text: &[u8], mut from: usize) -> Option<usize> {
        loop {
            let window = text.get(from..from + self.pattern.len())?;
            if window.eq_ignore_ascii_case(&self.pattern) {
                return Some(from);
            }
            from += self.skip[window[window.len() - 1] as usize];
        }
    }
}

fn search_input(input: &[u8]) -> Result<String, String> {
    let newline = input
        .iter()
        .position(|&byte| byte == b'\n')
        .ok_or("stringsearch: the input must be a line with the pattern and then the text")?;
    let (line, text) = (&input[..newline], &input[newline + 1..]);
    let pattern = line.strip_suffix(b"\r").unwrap_or(line);
    if pattern.is_empty() || pattern.len() > PATTERN_LIMIT {
        return Err(format!("stringsearch: the pattern must be of 1 to {PATTERN_LIMIT} bytes"));
    }
    let mut answer = String::new();
    for at in Search::new(pattern).all(text) {
        writeln!(answer, "{at}").map_err(|e| e.to_string())?;
    }
    Ok(if answer.is_empty() { "not found\n".into() } else { answer })
}

// ---- The built-in workload: words of a vocabulary in a text of random case ----

const VOCABULARY: usize = 512;
const TEXT_WORDS: usize = 60000;
const PATTERN_STEP: usize = 8;

fn make_text() -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut random = Random::new();
    let vocabulary: Vec<_> = (0..VOCABULARY).map(|_| random.word()).collect();
    let mut text = Vec::new();
    for _ in 0..TEXT_WORDS {
        let mut choice = random.next();
        for letter in &vocabulary[choice as usize % VOCABULARY] {
            choice = choice.rotate_right(1);
            text.push(if choice & 1 == 1 { *letter } else { letter.to_ascii_uppercase() });
        }
        text.push(b' ');
    }
    (vocabulary, text)
}

fn self_check() -> Result<String, String> {
    let (vocabulary, text) = make_text();
    let (mut count, mut sum) = (0u32, 0u32);
    for word in vocabulary.iter().step_by(PATTERN_STEP) {
        for at in Search::new(word).all(&text) {
            count += 1;
            sum = sum.wrapping_add(at as u32);
        }
    }
    if (count, sum) != (expected::STRINGSEARCH_COUNT, expected::STRINGSEARCH_SUM) {
        return Err(format!("stringsearch: got {count} and {sum:08x}"));
    }
    Ok(format!(
        "{} patterns in {} bytes: {count} occurrences, their offsets add up to {sum:08x}\n",
        VOCABULARY / PATTERN_STEP,
        text.len()
    ))
}
