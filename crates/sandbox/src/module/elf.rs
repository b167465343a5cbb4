//! ELF headers and dynamic section, checked before any of the object's code can run.
//!
//! The loader takes the file as it is for what is to be in memory. It binds no symbol, applies no
//! relocation and runs no constructor, whatever the file says; an object that would need any of
//! these, or whose segments lie elsewhere in memory than in the file, is refused here, so that what
//! is loaded is what was compiled.
//!
//! Source: System V gABI, chapters 4 and 5 (ELF header, program headers, dynamic section).

use std::ops::Range;

use crate::error::LoadError;

/// Headers must lie in this many bytes at the beginning of the file.
pub(crate) const HEADERS_BYTES: usize = 4096;

/// A loadable segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Addresses relative to the object's first, widened to whole pages. They are places in the
    /// file, too.
    pub addresses: Range<u64>,
    /// May it be executed?
    pub execute: bool,
}

/// Segments and tables, as the headers name them.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Loadable segments in ascending order.
    pub segments: Vec<Segment>,
    /// Addresses of the dynamic section.
    dynamic: Range<u64>,
    /// First address after the last segment.
    pub end: u64,
    /// Address of the index of frame rules, if there is one. Nobody has looked at it.
    pub frame_index: Option<usize>,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_TLS: u32 = 7;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_EXECUTE: u32 = 1;
const PF_WRITE: u32 = 2;
const ET_DYN: u16 = 3;
const PAGE: u64 = crate::slot::mapping::PAGE_BYTES as u64;

/// The ELF machine number of this processor.
const EM_HOST: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// Reads the headers in `head`, the first bytes of a file of `file_bytes` bytes.
pub(crate) fn check_headers(head: &[u8], file_bytes: u64) -> Result<Shape, LoadError> {
    let head = Bytes(head);
    if head.0.len() < 64 || head.0[..4] != *b"\x7fELF" {
        return Err(LoadError::NotElf);
    }
    if head.0[4..6] != [2, 1] {
        return shape("it is not a 64-bit little-endian object");
    }
    if head.u16(16)? != ET_DYN {
        return shape("it is not a shared object");
    }
    match head.u16(18)? {
        EM_HOST => {}
        other => return Err(LoadError::Architecture(machine_name(other))),
    }
    let (table, entry_bytes, entries) = (head.u64(32)?, head.u16(54)?, head.u16(56)?);
    if entry_bytes != 56 {
        return shape("its program headers have an unknown size");
    }
    let mut segments = Vec::<Segment>::new();
    let mut dynamic = 0..0;
    let mut frame_index = None;
    for index in 0..u64::from(entries) {
        let at = table.checked_add(index * 56).and_then(|at| usize::try_from(at).ok());
        let Some(at) = at.filter(|at| at.checked_add(56).is_some_and(|end| end <= head.0.len()))
        else {
            return shape("its program headers lie beyond the first page");
        };
        let (kind, flags) = (head.u32(at)?, head.u32(at + 4)?);
        let (file_offset, address) = (head.u64(at + 8)?, head.u64(at + 16)?);
        let (in_file, in_memory) = (head.u64(at + 32)?, head.u64(at + 40)?);
        let range = address..address.checked_add(in_memory).ok_or(LoadError::NotElf)?;
        match kind {
            PT_LOAD => segments.push(segment(file_bytes, file_offset, range, in_file, flags)?),
            PT_DYNAMIC => dynamic = range,
            PT_GNU_EH_FRAME => frame_index = usize::try_from(address).ok(),
            PT_INTERP => return shape("it asks for a program interpreter"),
            PT_TLS => return shape("it has thread-local storage"),
            PT_GNU_STACK if flags & PF_EXECUTE != 0 => {
                return shape("it asks for an executable stack");
            }
            _ => {}
        }
    }
    let ordered = segments.windows(2).all(|pair| pair[0].addresses.end <= pair[1].addresses.start);
    match segments.last() {
        Some(last) if ordered && segments[0].addresses.start == 0 => {
            Ok(Shape { dynamic, end: last.addresses.end, frame_index, segments })
        }
        _ => shape("its segments overlap or do not begin at zero"),
    }
}

/// One loadable segment, widened to whole pages.
fn segment(
    file_bytes: u64,
    file_offset: u64,
    range: Range<u64>,
    in_file: u64,
    flags: u32,
) -> Result<Segment, LoadError> {
    if flags & PF_WRITE != 0 {
        let both = flags & PF_EXECUTE != 0;
        return shape(if both {
            "a segment is writable and executable"
        } else {
            "a segment is writable"
        });
    }
    let inside = file_offset.checked_add(in_file).is_some_and(|end| end <= file_bytes);
    if !inside || in_file != range.end - range.start || in_file == 0 {
        return shape("a segment does not lie in the file");
    }
    if file_offset != range.start {
        return shape("a segment lies elsewhere than in the file");
    }
    Ok(Segment {
        addresses: range.start / PAGE * PAGE..range.end.next_multiple_of(PAGE),
        execute: flags & PF_EXECUTE != 0,
    })
}

/// Looks through the dynamic section of an object and finds the address of the symbol `name`.
/// `image` holds the object's bytes from address 0 on.
pub(crate) fn check_dynamic(shape_of: &Shape, image: &[u8], name: &str) -> Result<u64, LoadError> {
    let image = Bytes(image);
    let (mut strings, mut strings_bytes, mut symbols, mut hash, mut gnu_hash) = (0, 0, 0, 0, 0);
    for at in shape_of.dynamic.clone().step_by(16) {
        let (tag, value) = (image.u64(at as usize)?, image.u64(at as usize + 8)?);
        match tag {
            0 => break,
            1 => return shape("it needs another library"),
            12 | 25 | 27 | 32 | 33 => return shape("it has a constructor"),
            13 | 26 | 28 => return shape("it has a destructor"),
            7 | 17 | 23 | 36 => return shape("it needs relocation"),
            22 => return shape("its text needs relocation"),
            4 => hash = value,
            0x6fff_fef5 => gnu_hash = value,
            5 => strings = value,
            10 => strings_bytes = value,
            6 => symbols = value,
            _ => {}
        }
    }
    let count = match (hash, gnu_hash) {
        (0, 0) => return shape("it exports no symbols"),
        (0, table) => gnu_hash_symbols(&image, table as usize)?,
        (table, _) => image.u32(table as usize + 4)?,
    };
    let mut found = None;
    for index in 1..count as usize {
        let at = (symbols as usize).checked_add(index * 24).ok_or(LoadError::NotElf)?;
        let (name_at, section, address) = (image.u32(at)?, image.u16(at + 6)?, image.u64(at + 8)?);
        let symbol = image.string(strings, strings_bytes, name_at)?;
        match (section, symbol == name) {
            (0, _) => return Err(LoadError::UndefinedSymbol(symbol.to_owned())),
            (_, true) => found = Some(address),
            (_, false) => {}
        }
    }
    found.ok_or(LoadError::NotOurs)
}

/// Symbols in a table of the GNU hash style: one more than the highest index in any chain.
fn gnu_hash_symbols(image: &Bytes<'_>, table: usize) -> Result<u32, LoadError> {
    let (buckets, first) = (image.u32(table)?, image.u32(table + 4)?);
    let bloom_words = image.u32(table + 8)? as usize;
    let bucket_at = table + 16 + bloom_words * 8;
    let mut highest = 0;
    for bucket in 0..buckets as usize {
        highest = highest.max(image.u32(bucket_at + bucket * 4)?);
    }
    if highest < first {
        // No defined symbol: what is before the hashed part is undefined, and not counted here.
        return Ok(first);
    }
    let chains_at = bucket_at + buckets as usize * 4;
    while image.u32(chains_at + (highest - first) as usize * 4)? & 1 == 0 {
        highest += 1;
    }
    Ok(highest + 1)
}

fn shape<T>(what: &'static str) -> Result<T, LoadError> {
    Err(LoadError::Shape(what))
}

fn machine_name(machine: u16) -> String {
    match machine {
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        other => format!("ELF machine {other}"),
    }
}

/// Bytes that are read at offsets which nobody has checked yet.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], LoadError> {
        let end = at.checked_add(N).ok_or(LoadError::NotElf)?;
        let bytes =
            self.0.get(at..end).ok_or(LoadError::Shape("its headers point outside of it"))?;
        Ok(bytes.try_into().expect("a range of N bytes"))
    }

    fn u16(&self, at: usize) -> Result<u16, LoadError> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32, LoadError> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, LoadError> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn string(&self, table: u64, table_bytes: u64, at: u32) -> Result<&str, LoadError> {
        let outside = LoadError::Shape("its headers point outside of it");
        let start = usize::try_from(table).ok().and_then(|table| table.checked_add(at as usize));
        let end = table.checked_add(table_bytes).and_then(|end| usize::try_from(end).ok());
        let (Some(start), Some(end)) = (start, end) else { return Err(outside) };
        let Some(bytes) = self.0.get(start..end) else { return Err(outside) };
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Ok(std::str::from_utf8(&bytes[..len]).unwrap_or("?"))
    }
}
