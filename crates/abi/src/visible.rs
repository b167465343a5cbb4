//! The one place where text of strangers becomes text of ours.
//!
//! What guests and clients say, what modules call their functions and imports, and what files are
//! called goes to terminals, logs and files of lines. There it must not end a line, move the cursor, or turn the direction of writing:
//! whoever reads a line has to see all of it, and nothing but it. So each character that does not
//! stand for itself is written as its number, `<U+001B>`.
//!
//! It is applied where a line leaves the program, so that nobody who makes a text need think of it;
//! and where texts are put together whose borders matter.

use std::borrow::Cow;

/// A piece of text for a line of its own.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(acts) else { return Cow::Borrowed(text) };
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(&text[..first]);
    for c in text[first..].chars() {
        match acts(c) {
            true => shown.push_str(&format!("<U+{:04X}>", u32::from(c))),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Does something to the text around it instead of standing for itself? Controls but the tabulator,
/// what separates lines and paragraphs, and what only formats: directions, joiners, invisible
/// operators, tags. Source: Unicode 16, general categories Cc, Cf, Zl and Zp.
fn acts(c: char) -> bool {
    match c {
        '\t' => false,
        ' '..='~' => false,
        _ => {
            c.is_control()
                || matches!(
                    c,
                    '\u{ad}'
                        | '\u{600}'..='\u{605}'
                        | '\u{61c}'
                        | '\u{6dd}'
                        | '\u{70f}'
                        | '\u{890}'..='\u{891}'
                        | '\u{8e2}'
                        | '\u{180e}'
                        | '\u{200b}'..='\u{200f}'
                        | '\u{2028}'..='\u{202e}'
                        | '\u{2060}'..='\u{206f}'
                        | '\u{feff}'
                        | '\u{fff9}'..='\u{fffb}'
                        | '\u{110bd}'
                        | '\u{110cd}'
                        | '\u{13430}'..='\u{1343f}'
                        | '\u{1bca0}'..='\u{1bca3}'
                        | '\u{1d173}'..='\u{1d17a}'
                        | '\u{e0000}'..='\u{e007f}'
                )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_itself_is_left_alone() {
        for text in [
            "",
            "a line\twith a tab",
            "h\u{e9}llo \u{4e16}\u{754c} \u{1f980}",
            "<U+0041> \\n \"q\"",
        ] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn whatever_acts_is_written_as_its_number() {
        assert_eq!(visible("a\r\n\0b\u{1b}[31m"), "a<U+000D><U+000A><U+0000>b<U+001B>[31m");
        assert_eq!(
            visible("\u{9b}2J\u{7f}\u{202e}txt\u{2028}"),
            "<U+009B>2J<U+007F><U+202E>txt<U+2028>"
        );
        // Whatever is given, nothing is left that acts, and giving it again changes nothing.
        for code in 0..=u32::from(char::MAX) {
            let Some(c) = char::from_u32(code) else { continue };
            let shown = visible(c.encode_utf8(&mut [0; 4])).into_owned();
            assert!(!shown.chars().any(|c| acts(c) || (c.is_control() && c != '\t')), "{code:#x}");
            assert_eq!(visible(&shown), shown);
        }
    }
}
