//! The file: a shared object whose segments are mapped as they are, seen as the loader sees it.
//!
//! Isolation rests on this file: what is verified must be what is mapped. Code, tables of jumps and
//! the descriptor are read where the program headers put them, as the loader does; sections and the
//! symbol table only tell where functions begin, and a lie there shows, since every byte of code is
//! decoded once and every transfer of control is checked against the same list.
//!
//! Source: System V gABI, chapters 4 and 5.

use std::ops::Range;

use awsm_abi::DESC_SYMBOL;
use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};

use crate::report::Refusal;

/// Program headers must lie in this many bytes at the beginning of the file, or the loader refuses.
const HEADERS_BYTES: u64 = 4096;

/// Names of functions have together no more bytes than this times those of the file.
const NAMES_MAX: usize = 4;

/// Segments are widened to whole pages of this size.
const PAGE: u64 = 4096;

/// A function by the symbol table.
#[derive(Clone, Debug)]
pub(crate) struct Symbol {
    /// Its addresses.
    pub range: Range<u64>,
    /// Its name.
    pub name: String,
}

/// A file that has the loader's shape.
#[derive(Debug)]
pub(crate) struct Object {
    /// What lies at each address once it is loaded, from 0 on.
    pub image: Vec<u8>,
    /// Which addresses can be executed, in whole pages.
    pub executable: Vec<Range<u64>>,
    /// Where the descriptor lies.
    pub descriptor: u64,
    /// Functions by ascending address, no two at the same.
    pub symbols: Vec<Symbol>,
    /// The ELF number of the processor.
    pub machine: u16,
}

type Header = elf::FileHeader64<LE>;

impl Object {
    /// Reads a file.
    pub(crate) fn read(file: &[u8]) -> Result<Self, Refusal> {
        let header =
            Header::parse(file).map_err(|_| Refusal::object("is not a 64-bit ELF file"))?;
        if header.e_ident().data != elf::ELFDATA2LSB || header.e_type(LE) != elf::ET_DYN {
            return Err(Refusal::object("is not a little-endian shared object"));
        }
        let machine = header.e_machine(LE);
        let headers_end = u64::from(header.e_phnum(LE)) * 56;
        let headers_end = header.e_phoff(LE).checked_add(headers_end);
        if headers_end.is_none_or(|end| end > HEADERS_BYTES) || header.e_phentsize(LE) != 56 {
            return Err(Refusal::object("has program headers beyond the first page"));
        }
        let segments = header.program_headers(LE, file).map_err(|_| broken("program headers"))?;
        let Mapped { image, executable, dynamic } = map(file, segments)?;
        let descriptor = descriptor_address(&image, dynamic)?;
        let symbols = symbols(file, header)?;
        Ok(Self { image, executable, descriptor, symbols, machine })
    }

    /// Bytes at an address.
    pub(crate) fn bytes(&self, at: u64, count: u64) -> Option<&[u8]> {
        let end = at.checked_add(count)?;
        self.image.get(usize::try_from(at).ok()?..usize::try_from(end).ok()?)
    }
}

fn broken(what: &'static str) -> Refusal {
    Refusal::object(format!("has broken {what}"))
}

/// What the program headers make of the file.
struct Mapped {
    image: Vec<u8>,
    executable: Vec<Range<u64>>,
    dynamic: Range<u64>,
}

fn map(file: &[u8], segments: &[elf::ProgramHeader64<LE>]) -> Result<Mapped, Refusal> {
    let mut mapped = Mapped { image: Vec::new(), executable: Vec::new(), dynamic: 0..0 };
    let mut end = 0;
    for segment in segments {
        let (start, in_memory) = (segment.p_vaddr(LE), segment.p_memsz(LE));
        match segment.p_type(LE) {
            elf::PT_LOAD => {
                let (offset, in_file) = (segment.p_offset(LE), segment.p_filesz(LE));
                if segment.p_flags(LE) & elf::PF_W != 0 {
                    return Err(Refusal::object("has a writable segment"));
                }
                let stop = start.checked_add(in_memory);
                let file_stop = offset.checked_add(in_file);
                let (Some(stop), Some(file_stop)) = (stop, file_stop) else {
                    return Err(broken("segments"));
                };
                // Addresses are places in the file: `stop` is no more than its length.
                let fits = file_stop <= file.len() as u64
                    && in_file == in_memory
                    && in_file > 0
                    && offset == start;
                if !fits {
                    return Err(Refusal::object("has a segment that does not lie in the file"));
                }
                let first = start - start % PAGE;
                if first < end || end == 0 && first != 0 {
                    return Err(Refusal::object("has segments that overlap, or none at zero"));
                }
                end = stop.next_multiple_of(PAGE);
                if segment.p_flags(LE) & elf::PF_X != 0 {
                    mapped.executable.push(first..end);
                }
            }
            elf::PT_DYNAMIC => mapped.dynamic = start..start.saturating_add(in_memory),
            elf::PT_PHDR | elf::PT_GNU_EH_FRAME | elf::PT_NOTE => {}
            elf::PT_GNU_STACK if segment.p_flags(LE) & elf::PF_X == 0 => {}
            other => {
                return Err(Refusal::object(format!("has a segment of unknown type {other:#x}")));
            }
        }
    }
    // The loader takes the file as it is up to the last page, what lies between segments too.
    let end = end as usize;
    mapped.image.extend_from_slice(&file[..file.len().min(end)]);
    mapped.image.resize(end, 0);
    Ok(mapped)
}

/// The address of the one dynamic symbol, found as the loader finds it.
fn descriptor_address(image: &[u8], dynamic: Range<u64>) -> Result<u64, Refusal> {
    let image = Words(image);
    let (mut strings, mut strings_bytes, mut symbols, mut gnu_hash) = (0, 0, 0, 0);
    let mut ended = false;
    for at in dynamic.step_by(16) {
        let (tag, value) = (image.u64(at)?, image.u64(at.wrapping_add(8))?);
        match tag.cast_signed() {
            elf::DT_NULL => {
                ended = true;
                break;
            }
            elf::DT_GNU_HASH => gnu_hash = value,
            elf::DT_STRTAB => strings = value,
            elf::DT_STRSZ => strings_bytes = value,
            elf::DT_SYMTAB => symbols = value,
            elf::DT_SYMENT | elf::DT_FLAGS | elf::DT_FLAGS_1 | elf::DT_SONAME => {}
            other => {
                let what =
                    format!("has an entry of unknown type {other:#x} in its dynamic section");
                return Err(Refusal::object(what));
            }
        }
    }
    if gnu_hash == 0 || symbols == 0 || !ended {
        return Err(Refusal::object("exports no symbols"));
    }
    let count = hashed_symbols(&image, gnu_hash)?;
    // One symbol besides the null symbol: any other could be meant.
    if count != 2 {
        return Err(Refusal::object(format!("does not export `{DESC_SYMBOL}` alone")));
    }
    let at = symbols.checked_add(24).ok_or(broken("dynamic symbols"))?;
    let (name_at, section, address) = (image.u32(at)?, image.u16(at + 6)?, image.u64(at + 8)?);
    let name = strings.checked_add(name_at.into()).ok_or(broken("dynamic symbols"))?;
    let wanted = [DESC_SYMBOL.as_bytes(), &[0]].concat();
    let end = strings.checked_add(strings_bytes).unwrap_or(0);
    let inside = name.checked_add(wanted.len() as u64).is_some_and(|stop| stop <= end);
    if !inside || image.get(name, wanted.len() as u64)? != wanted || section == 0 {
        return Err(Refusal::object(format!("does not export `{DESC_SYMBOL}`")));
    }
    Ok(address)
}

/// Symbols in a table of the GNU hash style: one more than the highest index in any chain.
fn hashed_symbols(image: &Words<'_>, table: u64) -> Result<u64, Refusal> {
    let too_far = || broken("symbol hash table");
    let (buckets, first) = (image.u32(table)?, image.u32(table + 4)?);
    let bloom_bytes = u64::from(image.u32(table + 8)?) * 8;
    let buckets_at = table.checked_add(16 + bloom_bytes).ok_or_else(too_far)?;
    let mut highest = 0;
    for bucket in 0..u64::from(buckets) {
        highest = highest.max(image.u32(buckets_at + bucket * 4)?);
    }
    if highest < first {
        return Ok(first.into());
    }
    let chains_at = buckets_at + u64::from(buckets) * 4;
    while image.u32(chains_at + u64::from(highest - first) * 4)? & 1 == 0 {
        highest = highest.checked_add(1).ok_or_else(too_far)?;
    }
    Ok(u64::from(highest) + 1)
}

/// Functions by the symbol table.
fn symbols(file: &[u8], header: &Header) -> Result<Vec<Symbol>, Refusal> {
    let sections = header.sections(LE, file).map_err(|_| broken("section headers"))?;
    for section in sections.iter() {
        let kind = section.sh_type(LE);
        if matches!(kind, elf::SHT_REL | elf::SHT_RELA | elf::SHT_RELR) {
            return Err(Refusal::object("has relocations"));
        }
    }
    let table = sections.symbols(LE, file, elf::SHT_SYMTAB).map_err(|_| broken("symbol table"))?;
    let mut symbols = Vec::new();
    // Each name can be as long as their table.
    let mut name_bytes = NAMES_MAX * file.len();
    for symbol in table.iter() {
        if symbol.st_type() != elf::STT_FUNC || symbol.st_size(LE) == 0 {
            continue;
        }
        let name = symbol.name(LE, table.strings()).map_err(|_| broken("symbol table"))?;
        let left = name_bytes.checked_sub(name.len());
        name_bytes = left.ok_or_else(|| Refusal::object("has names longer than itself"))?;
        let start = symbol.st_value(LE);
        let end = start.checked_add(symbol.st_size(LE)).ok_or_else(|| broken("symbol table"))?;
        let name = String::from_utf8_lossy(name).into_owned();
        symbols.push(Symbol { range: start..end, name });
    }
    if symbols.is_empty() && !table.is_empty() {
        return Ok(symbols);
    }
    if table.is_empty() {
        return Err(Refusal::object("has no symbol table: do not strip it"));
    }
    symbols.sort_by_key(|symbol| (symbol.range.start, symbol.range.end));
    symbols.dedup_by(|second, first| second.range == first.range);
    Ok(symbols)
}

/// Bytes that are read at addresses that nobody has checked yet.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn get(&self, at: u64, count: u64) -> Result<&[u8], Refusal> {
        let range = at
            .checked_add(count)
            .and_then(|end| self.0.get(usize::try_from(at).ok()?..usize::try_from(end).ok()?));
        range.ok_or_else(|| Refusal::object("has headers that point outside of it"))
    }

    fn u16(&self, at: u64) -> Result<u16, Refusal> {
        Ok(u16::from_le_bytes(self.get(at, 2)?.try_into().expect("two bytes")))
    }

    fn u32(&self, at: u64) -> Result<u32, Refusal> {
        Ok(u32::from_le_bytes(self.get(at, 4)?.try_into().expect("four bytes")))
    }

    fn u64(&self, at: u64) -> Result<u64, Refusal> {
        Ok(u64::from_le_bytes(self.get(at, 8)?.try_into().expect("eight bytes")))
    }
}
