//! The one form of every benchmark's result: a table for people, JSON for machines.
//!
//! JSON: `benchmark`, `machine`, `rows` (one per case; keys carry units, peers stand under their
//! own names), `summary` (flat: the figures that SPECIFICATION.md quotes). The table's lines fit
//! 120 columns, which [`Table::print`] checks.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::machine::Machine;
use crate::stats::tidy;

/// What goes to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// A benchmark's whole result.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) benchmark: &'static str,
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Value>,
    pub(crate) summary: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(benchmark: &'static str, machine: Machine) -> Self {
        Self { benchmark, machine, rows: Vec::new(), summary: Map::new() }
    }

    pub(crate) fn row(&mut self, row: &impl Serialize) {
        self.rows.push(serde_json::to_value(row).expect("rows are plain data"));
    }

    pub(crate) fn summarise(&mut self, key: impl Into<String>, value: f64) {
        self.summary.insert(key.into(), tidy(value).into());
    }

    /// Writes the JSON file and prints what was asked for.
    pub(crate) fn publish(&self, out: &Path, format: Format, tables: &[Table]) -> Result<()> {
        let json = serde_json::to_string_pretty(self).expect("a report is plain data");
        if let Some(folder) = out.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::write(out, format!("{json}\n"))
            .with_context(|| format!("cannot write {}", out.display()))?;
        match format {
            Format::Json => println!("{json}"),
            Format::Table => {
                println!("{}\n", self.machine.line());
                tables.iter().for_each(Table::print);
                for (key, value) in &self.summary {
                    println!("{key:<36} {value}");
                }
                println!("\nwritten to {}", out.display());
            }
        }
        Ok(())
    }
}

/// Lines of cells: the first column to the left, figures to the right. A header of two words has
/// two lines: above, whose figure it is (once for neighbours of the same owner), below, which.
#[derive(Debug, Default)]
pub(crate) struct Table {
    title: String,
    columns: usize,
    lines: Vec<Vec<String>>,
    notes: Vec<String>,
}

/// A table may not be wider.
const COLUMNS: usize = 120;

impl Table {
    pub(crate) fn new(title: impl Into<String>, header: &[&'static str]) -> Self {
        let split = |&name: &&'static str| name.split_once(' ').unwrap_or(("", name));
        let (mut above, below): (Vec<_>, Vec<_>) = header.iter().map(split).unzip();
        for column in (1..above.len()).rev() {
            if above[column] == above[column - 1] {
                above[column] = "";
            }
        }
        let lines = [above, below].map(|line| line.into_iter().map(str::to_owned).collect());
        Self { title: title.into(), columns: header.len(), lines: lines.into(), ..Self::default() }
    }

    pub(crate) fn line(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns, "a line of table {:?}", self.title);
        self.lines.push(cells);
    }

    /// How to read the table: printed below it.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.lines.iter().map(|cells| cells[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.columns).map(width).collect();
        let mut text = format!("{}\n", self.title);
        for cells in self.lines.iter().filter(|cells| cells.iter().any(|cell| !cell.is_empty())) {
            let mut line = format!("{:<1$}", cells[0], widths[0]);
            for (cell, width) in cells.iter().zip(&widths).skip(1) {
                line += &format!("  {cell:>width$}");
            }
            text += line.trim_end();
            text.push('\n');
        }
        for note in &self.notes {
            text += note;
            text.push('\n');
        }
        text
    }

    fn print(&self) {
        let text = self.render();
        for line in text.lines() {
            debug_assert!(line.chars().count() <= COLUMNS, "wider than {COLUMNS} columns: {line}");
        }
        println!("{text}");
    }
}

/// A figure in a cell: as many decimals as matter.
pub(crate) fn figure(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 100.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new("a title", &["case", "ours us", "theirs us", "theirs ratio"]);
        table.line(["null", "0.31", "1.00", "0.31"].map(str::to_owned).to_vec());
        table.line(["a long name", "1234", "2", "617"].map(str::to_owned).to_vec());
        table.note("a note");
        let expected = "a title\n             ours  theirs\ncase           us      us  ratio\n\
                        null         0.31    1.00   0.31\na long name  1234       2    617\na note\n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn figures_keep_what_matters() {
        assert_eq!([0.314, 99.5, 123.45, 1234.6].map(figure), ["0.31", "99.50", "123.5", "1235"]);
    }
}
