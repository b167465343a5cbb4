//! The guest's own line table: which line of which source file an instruction comes from.
//!
//! Toolchains put DWARF into custom sections, with offsets into the code section for addresses.
//! Nothing validates them, so nothing in them is believed: what does not parse ends a unit's table,
//! and no more. (Not taken over: variables and types. Locals are where LLVM finds best, and saying
//! where costs optimisation.)
//!
//! Source: DWARF 5, section 6.2; DWARF for WebAssembly.

use std::collections::HashMap;

use gimli::{Dwarf, EndianSlice, LittleEndian};

use crate::error::CompileError;
use crate::limits::LINE_ROWS;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// A line table, whole.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    files: Vec<File>,
    /// Ascending by offset.
    rows: Vec<Row>,
}

/// A source file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct File {
    /// The directory it was compiled in, or its own.
    pub directory: String,
    /// Its path from there.
    pub name: String,
}

/// From this offset to the next row's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// In the code section's contents.
    pub offset: u64,
    /// Number of the file; `None` where no line is known.
    pub file: Option<u32>,
    /// Counted from 1; 0 for code of no line.
    pub line: u32,
    /// Counted from 1; 0 for the whole line.
    pub column: u32,
}

impl Lines {
    /// Reads the table out of the custom sections, of a code section of `code_bytes`.
    ///
    /// # Errors
    /// If there is none, or it is too long.
    pub(crate) fn read(
        sections: &HashMap<&str, &[u8]>,
        code_bytes: u64,
    ) -> Result<Self, CompileError> {
        let section = |id: gimli::SectionId| -> Result<Bytes<'_>, CompileError> {
            Ok(EndianSlice::new(sections.get(id.name()).copied().unwrap_or(&[]), LittleEndian))
        };
        let dwarf = Dwarf::load(section)?;
        let mut reader = Reader { lines: Self::default(), numbers: HashMap::new(), code_bytes };
        let mut headers = dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            let _: gimli::Result<()> = reader.unit(&dwarf, header);
            if reader.lines.rows.len() > LINE_ROWS {
                let found = reader.lines.rows.len() as u64;
                return Err(CompileError::Limit { what: "lines", found, limit: LINE_ROWS as u64 });
            }
        }
        let mut lines = reader.lines;
        // At the same offset an end comes before the beginning of what follows.
        lines.rows.sort_by_key(|row| (row.offset, row.file.is_some()));
        if lines.rows.is_empty() {
            let message = "the module has no line table (custom sections `.debug_info` and \
                           `.debug_line`): have its compiler make one, or do without `-g`";
            return Err(CompileError::Invalid { message: message.to_owned(), offset: None });
        }
        Ok(lines)
    }

    /// Where the instruction at an offset comes from.
    pub(crate) fn at(&self, offset: u64) -> Option<Row> {
        let behind = self.rows.partition_point(|row| row.offset <= offset);
        let row = *self.rows.get(behind.checked_sub(1)?)?;
        row.file.is_some().then_some(row)
    }

    /// A file by its number.
    pub(crate) fn file(&self, number: u32) -> &File {
        &self.files[number as usize]
    }
}

struct Reader {
    lines: Lines,
    numbers: HashMap<File, u32>,
    code_bytes: u64,
}

impl Reader {
    fn unit<'a>(
        &mut self,
        dwarf: &Dwarf<Bytes<'a>>,
        header: gimli::UnitHeader<Bytes<'a>>,
    ) -> gimli::Result<()> {
        let unit = dwarf.unit(header)?;
        let Some(program) = unit.line_program.clone() else { return Ok(()) };
        let mut files = HashMap::new();
        let mut rows = program.rows();
        let mut began = None;
        while let Some((header, row)) = rows.next_row()? {
            let offset = row.address();
            // Functions that a linker has dropped keep their lines, at zero or beyond the code.
            let kept = *began.get_or_insert(offset) > 0 && offset <= self.code_bytes;
            if row.end_sequence() {
                began = None;
            }
            if !kept {
                continue;
            }
            if row.end_sequence() {
                self.lines.rows.push(Row { offset, file: None, line: 0, column: 0 });
                continue;
            }
            let file = match files.get(&row.file_index()) {
                Some(file) => *file,
                None => {
                    let number = self.file(dwarf, &unit, header, row);
                    files.insert(row.file_index(), number);
                    number
                }
            };
            let line = row.line().map_or(0, |line| u32::try_from(line.get()).unwrap_or(0));
            let column = match row.column() {
                gimli::ColumnType::LeftEdge => 0,
                gimli::ColumnType::Column(column) => u32::try_from(column.get()).unwrap_or(0),
            };
            self.lines.rows.push(Row { offset, file, line, column });
            if self.lines.rows.len() > LINE_ROWS {
                break;
            }
        }
        Ok(())
    }

    /// The number of a row's file.
    fn file<'a>(
        &mut self,
        dwarf: &Dwarf<Bytes<'a>>,
        unit: &gimli::Unit<Bytes<'a>>,
        header: &gimli::LineProgramHeader<Bytes<'a>>,
        row: &gimli::LineRow,
    ) -> Option<u32> {
        let text = |value| {
            dwarf.attr_string(unit, value).map(|text| text.to_string_lossy().into_owned()).ok()
        };
        let entry = row.file(header)?;
        let compiled_in = unit.comp_dir.map(|text| text.to_string_lossy().into_owned());
        let own = entry.directory(header).and_then(text).unwrap_or_default();
        let directory = match compiled_in {
            Some(compiled_in) if !own.starts_with('/') && own != compiled_in => {
                format!("{compiled_in}/{own}")
            }
            _ => own,
        };
        let file = File { directory, name: text(entry.path_name())? };
        let next = self.numbers.len() as u32;
        let number = *self.numbers.entry(file.clone()).or_insert(next);
        if number == next {
            self.lines.files.push(file);
        }
        Some(number)
    }
}
