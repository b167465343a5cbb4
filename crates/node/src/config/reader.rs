//! Reads a TOML document strictly: known keys only, and every error with its line.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range as Bytes;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::units::{
    LogRate, parse_byte_rate, parse_bytes, parse_duration, parse_percent, parse_whole_rate,
    shown_bytes, shown_duration,
};
use crate::limits::{Range, Span};

/// A file being read.
pub(super) struct Document<'a> {
    file: &'a Path,
    text: &'a str,
}

/// A table whose keys are all known. Values are taken out of it one by one.
pub(super) struct Table<'a> {
    document: &'a Document<'a>,
    /// As the user writes it: `[node]`.
    name: &'static str,
    span: Bytes<usize>,
    values: DeTable<'a>,
}

/// One value, with its place.
pub(super) struct Item<'a> {
    document: &'a Document<'a>,
    key: String,
    span: Bytes<usize>,
    value: DeValue<'a>,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text }
    }

    /// Parses the text; the root table may have these keys.
    pub(super) fn root(&'a self, keys: &[&str]) -> Result<Table<'a>, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|error| {
            let message = error.message().replace('\n', ", ");
            self.error(error.span().map(|span| self.line(&span)), message)
        })?;
        let span = table.span();
        Table::new(self, "the top level", span, table.into_inner(), keys)
    }

    /// What paths in it are relative to.
    pub(super) fn dir(&self) -> &'a Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn error(&self, line: Option<usize>, message: String) -> ConfigError {
        ConfigError { file: self.file.to_path_buf(), line, message }
    }

    /// Counted from 1.
    fn line(&self, span: &Bytes<usize>) -> usize {
        let end = span.start.min(self.text.len());
        1 + self.text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count()
    }
}

impl<'a> Table<'a> {
    fn new(
        document: &'a Document<'a>,
        name: &'static str,
        span: Bytes<usize>,
        values: DeTable<'a>,
        keys: &[&str],
    ) -> Result<Self, ConfigError> {
        let unknown = values
            .keys()
            .filter(|key| !keys.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        if let Some(key) = unknown {
            let hint = match nearest(key.get_ref(), keys) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys: {}", keys.join(", ")),
            };
            let message = format!("unknown key `{}` in {name}; {hint}", key.get_ref());
            return Err(document.error(Some(document.line(&key.span())), message));
        }
        Ok(Self { document, name, span, values })
    }

    /// Line on which the table begins.
    pub(super) fn line(&self) -> usize {
        self.document.line(&self.span)
    }

    /// About this table as a whole.
    pub(super) fn error(&self, message: String) -> ConfigError {
        self.document.error(Some(self.line()), message)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Item<'a>> {
        let value = self.values.remove(key)?;
        let span = value.span();
        Some(Item { document: self.document, key: key.to_owned(), span, value: value.into_inner() })
    }

    pub(super) fn required(&mut self, key: &str) -> Result<Item<'a>, ConfigError> {
        self.take(key).ok_or_else(|| {
            self.document.error(Some(self.line()), format!("`{key}` is missing in {}", self.name))
        })
    }

    pub(super) fn count(&mut self, key: &str, range: Range) -> Result<usize, ConfigError> {
        let Some(item) = self.take(key) else { return Ok(range.default as usize) };
        item.number(range.min, range.max).map(|number| number as usize)
    }

    /// False when nothing is said.
    pub(super) fn flag(&mut self, key: &str) -> Result<bool, ConfigError> {
        self.optional_flag(key).map(Option::unwrap_or_default)
    }

    /// A flag, if it is there.
    pub(super) fn optional_flag(&mut self, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(item) = self.take(key) else { return Ok(None) };
        match &item.value {
            DeValue::Boolean(flag) => Ok(Some(*flag)),
            other => Err(item.wrong_type("true or false", other.type_str())),
        }
    }

    /// In millionths, as the range is.
    pub(super) fn percent(&mut self, key: &str, range: Range) -> Result<u32, ConfigError> {
        let Some(item) = self.take(key) else { return Ok(range.default as u32) };
        let rule = "a share is a number and a percent sign: \"5%\", \"99.9%\"";
        match item.quantity(parse_percent, rule)? {
            ppm if (range.min..=range.max).contains(&u64::from(ppm)) => Ok(ppm),
            _ => {
                let [min, max] = [range.min, range.max].map(|ppm| format!("{}%", ppm as f64 / 1e4));
                Err(item.out_of_range(min, max))
            }
        }
    }

    pub(super) fn bytes(&mut self, key: &str, range: Range) -> Result<u64, ConfigError> {
        let Some(item) = self.take(key) else { return Ok(range.default) };
        let bytes =
            item.quantity(parse_bytes, "a size is a number and its unit: \"64KiB\", \"16MiB\"");
        match bytes? {
            bytes if (range.min..=range.max).contains(&bytes) => Ok(bytes),
            _ => Err(item.out_of_range(shown_bytes(range.min), shown_bytes(range.max))),
        }
    }

    /// `log_rate` and `log_lines`.
    pub(super) fn log_rate(&mut self, bytes: Range, lines: Range) -> Result<LogRate, ConfigError> {
        let rule = "a size, its unit and \"/s\": \"64KiB/s\"";
        let bytes = self.rate("log_rate", bytes, (parse_byte_rate, shown_bytes), rule)?;
        let rule = "a number and \"/s\": \"500/s\"";
        let shown = |lines: u64| lines.to_string();
        let lines = self.rate("log_lines", lines, (parse_whole_rate, shown), rule)?;
        Ok(LogRate { bytes, lines })
    }

    /// So much a second.
    fn rate(
        &mut self,
        key: &str,
        range: Range,
        (parse, shown): (impl FnOnce(&str) -> Option<u64>, impl Fn(u64) -> String),
        rule: &str,
    ) -> Result<u64, ConfigError> {
        let Some(item) = self.take(key) else { return Ok(range.default) };
        match item.quantity(parse, rule)? {
            rate if (range.min..=range.max).contains(&rate) => Ok(rate),
            _ => {
                let [min, max] = [range.min, range.max].map(|rate| format!("{}/s", shown(rate)));
                Err(item.out_of_range(min, max))
            }
        }
    }

    pub(super) fn duration(&mut self, key: &str, span: Span) -> Result<Duration, ConfigError> {
        Ok(self.optional_duration(key, span)?.unwrap_or(span.default))
    }

    /// `None` when nothing is said.
    pub(super) fn optional_duration(
        &mut self,
        key: &str,
        span: Span,
    ) -> Result<Option<Duration>, ConfigError> {
        let Some(item) = self.take(key) else { return Ok(None) };
        let duration = item
            .quantity(parse_duration, "a duration is a number and its unit: \"500us\", \"20ms\"");
        match duration? {
            duration if (span.min..=span.max).contains(&duration) => Ok(Some(duration)),
            _ => Err(item.out_of_range(shown_duration(span.min), shown_duration(span.max))),
        }
    }
}

impl<'a> Item<'a> {
    pub(super) fn table(self, name: &'static str, keys: &[&str]) -> Result<Table<'a>, ConfigError> {
        match self.value {
            DeValue::Table(values) => Table::new(self.document, name, self.span, values, keys),
            ref other => Err(self.wrong_type("a table", other.type_str())),
        }
    }

    /// An array of tables.
    pub(super) fn tables(self) -> Result<Vec<Self>, ConfigError> {
        match self.value {
            DeValue::Array(items) => Ok(items
                .into_iter()
                .map(|item| Self::new(self.document, &self.key, item))
                .collect()),
            ref other => Err(self.error(format!(
                "`{key}` is {other}; write [[{key}]] with two brackets",
                key = self.key,
                other = with_article(other.type_str())
            ))),
        }
    }

    fn new(document: &'a Document<'a>, key: &str, value: Spanned<DeValue<'a>>) -> Self {
        let span = value.span();
        Self { document, key: key.to_owned(), span, value: value.into_inner() }
    }

    pub(super) fn string(&self) -> Result<&str, ConfigError> {
        self.value.as_str().ok_or_else(|| self.wrong_type("a string", self.value.type_str()))
    }

    pub(super) fn truth(&self) -> Result<bool, ConfigError> {
        match self.value {
            DeValue::Boolean(truth) => Ok(truth),
            ref other => Err(self.wrong_type("true or false", other.type_str())),
        }
    }

    /// A whole number within these bounds.
    pub(super) fn number(&self, min: u64, max: u64) -> Result<u64, ConfigError> {
        let number = match &self.value {
            DeValue::Integer(number) => {
                i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX)
            }
            other => return Err(self.wrong_type("a whole number", other.type_str())),
        };
        match u64::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(self.out_of_range(min, max)),
        }
    }

    /// A path that is not empty.
    pub(super) fn path(&self) -> Result<PathBuf, ConfigError> {
        self.parse_str(
            |text| (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text)),
            "a path is needed",
        )
    }

    /// A string that `parse` understands; `rule` tells the user what it understands.
    pub(super) fn parse_str<T>(
        &self,
        parse: impl FnOnce(&str) -> Option<T>,
        rule: &str,
    ) -> Result<T, ConfigError> {
        let text = self.string()?;
        parse(text).ok_or_else(|| {
            let text = text.escape_debug();
            self.error(format!("`{} = \"{text}\"`: {rule}", self.key))
        })
    }

    /// A number with its unit, so a string; what a bare number lacks is said.
    pub(super) fn quantity<T>(
        &self,
        parse: impl FnOnce(&str) -> Option<T>,
        rule: &str,
    ) -> Result<T, ConfigError> {
        match &self.value {
            DeValue::Integer(number) => {
                Err(self.error(format!("`{} = {number}`: {rule}", self.key)))
            }
            _ => self.parse_str(parse, rule),
        }
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let text = self.string()?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let text = text.escape_debug();
            let hint = match known.as_slice() {
                [only] => format!("there is only {only}"),
                several => format!("choose one of {}", several.join(", ")),
            };
            self.error(format!("`{} = \"{text}\"`: {hint}", self.key))
        })
    }

    pub(super) fn strings(self) -> Result<Vec<String>, ConfigError> {
        self.checked_strings(|text| !text.contains('\0'), "a string must not contain NUL")
    }

    /// An array of strings that all keep to a rule.
    pub(super) fn checked_strings(
        self,
        keeps: impl Fn(&str) -> bool,
        rule: &str,
    ) -> Result<Vec<String>, ConfigError> {
        let DeValue::Array(items) = self.value else {
            return Err(self.wrong_type("an array of strings", self.value.type_str()));
        };
        items
            .into_iter()
            .map(|item| {
                let item = Self::new(self.document, &self.key, item);
                item.parse_str(|text| keeps(text).then(|| text.to_owned()), rule)
            })
            .collect()
    }

    /// A table of strings: variables of the environment.
    pub(super) fn string_map(self) -> Result<BTreeMap<String, String>, ConfigError> {
        let DeValue::Table(items) = self.value else {
            return Err(self.wrong_type("a table of strings", self.value.type_str()));
        };
        items
            .into_iter()
            .map(|(key, item)| {
                let item = Self::new(self.document, key.get_ref(), item);
                if key.get_ref().is_empty() || key.get_ref().contains(['=', '\0']) {
                    return Err(item.error("a variable's name is not empty and has no `=`".into()));
                }
                let value = item.parse_str(
                    |text| (!text.contains('\0')).then(|| text.to_owned()),
                    "a variable must not contain NUL",
                )?;
                Ok((key.into_inner().into_owned(), value))
            })
            .collect()
    }

    /// A table whose keys the user chooses; each entry is read by `read`.
    pub(super) fn entries<T>(
        self,
        read: impl Fn(&str, Self) -> Result<T, ConfigError>,
    ) -> Result<Vec<T>, ConfigError> {
        let DeValue::Table(items) = self.value else {
            return Err(self.wrong_type("a table", self.value.type_str()));
        };
        items
            .into_iter()
            .map(|(key, item)| {
                let item = Self::new(self.document, key.get_ref(), item);
                read(key.get_ref(), item)
            })
            .collect()
    }

    pub(super) fn error(&self, message: String) -> ConfigError {
        self.document.error(Some(self.document.line(&self.span)), message)
    }

    /// A number that is understood, and that there cannot be.
    pub(super) fn out_of_range(&self, min: impl Display, max: impl Display) -> ConfigError {
        // As it is written, quotes included.
        let written = self.document.text.get(self.span.clone()).unwrap_or("");
        self.error(format!("`{} = {written}` is not within {min} to {max}", self.key))
    }

    fn wrong_type(&self, wanted: &str, found: &str) -> ConfigError {
        self.error(format!("`{}` must be {wanted}, not {}", self.key, with_article(found)))
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// The known word that a mistyped one most likely stands for, if any is near.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let (distance, near) = known.iter().map(|key| (strsim::osa_distance(word, key), *key)).min()?;
    (distance <= 1 + near.len() / 3).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_words_find_their_way() {
        let known = ["route", "module", "memory", "methods", "timeout"];
        for (typed, meant) in [
            ("rout", Some("route")),
            ("modlue", Some("module")),
            ("memory_limit", None),
            ("method", Some("methods")),
            ("timeuot", Some("timeout")),
            ("x", None),
        ] {
            assert_eq!(nearest(typed, &known), meant, "{typed}");
        }
    }
}
