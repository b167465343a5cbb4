//! A linker for what the compiler emits: one object and what it needs of the support objects.
//!
//! `ld.lld` takes longer to start than most modules take to compile and run. So most modules are
//! linked here, in the same shape, and some by the real linker, see [`crate::subject`].

use std::collections::HashMap;

use awsm_compile::{DESC_SYMBOL, TEXT_BYTES_SYMBOL, TEXT_SECTION};
use object::read::elf::{ElfFile64, ElfSymbol64};
use object::{
    Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionFlags,
    SymbolIndex, SymbolKind, elf,
};

type File<'a> = ElfFile64<'a>;

const PAGE: u64 = 4096;
const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const SYMBOL: u64 = 24;

/// The instruction that lies between two functions.
const BREAKPOINT: u8 = 0xcc;

/// Links `module` with those of `support` that it needs.
///
/// # Errors
/// If there is something in an object that this linker does not know.
pub(crate) fn link(module: &[u8], support: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    let mut files = vec![parse(module)?];
    let mut open = open_symbols(&files[0]);
    for object in support {
        let file = parse(object)?;
        if defined(&file).any(|symbol| open.iter().any(|open| symbol.name() == Ok(open))) {
            open.extend(open_symbols(&file));
            files.push(file);
        }
    }
    let mut image = Image::new();
    image.place(&files, false)?;
    image.pad(PAGE, 0);
    image.text_start = image.bytes.len() as u64;
    image.place(&files, true)?;
    image.text_end = image.bytes.len() as u64;
    let symbols = image.symbols(&files)?;
    for (number, file) in files.iter().enumerate() {
        image.relocate(number, file, &symbols)?;
    }
    let desc = *symbols.get(DESC_SYMBOL).ok_or("there is no descriptor")?;
    image.write_headers(desc);
    image.write_symbol_table(&files)?;
    Ok(image.bytes)
}

fn parse(object: &[u8]) -> Result<File<'_>, String> {
    File::parse(object).map_err(|error| error.to_string())
}

fn open_symbols(file: &File<'_>) -> Vec<String> {
    let open = file.symbols().filter(ObjectSymbol::is_undefined);
    open.filter_map(|symbol| symbol.name().ok().map(str::to_owned)).collect()
}

fn defined<'d, 'f>(file: &'f File<'d>) -> impl Iterator<Item = ElfSymbol64<'d, 'f>> {
    file.symbols().filter(|symbol| symbol.is_global() && symbol.is_definition())
}

/// The file that is made: its bytes are what it will be in memory.
struct Image {
    bytes: Vec<u8>,
    /// Where each section of each object went.
    placed: HashMap<(usize, usize), u64>,
    text_start: u64,
    text_end: u64,
}

/// What the loader wants to see: two segments, a dynamic section, a table of symbols with two
/// entries, a hash table that says how many there are, and names.
const PROGRAM_HEADERS: u64 = 3;
const DYNAMIC: u64 = HEADER + PROGRAM_HEADERS * PROGRAM_HEADER;
const DYNAMIC_ENTRIES: u64 = 6;
const SYMBOLS: u64 = DYNAMIC + DYNAMIC_ENTRIES * 16;
const HASH: u64 = SYMBOLS + 2 * SYMBOL;
const NAMES: u64 = HASH + 8 * 4;

/// Behind what is loaded: a header for nothing, for the table that says where functions begin, and
/// for names.
const SECTION_HEADERS: u64 = 3;
const SECTION_HEADER: u64 = 64;

impl Image {
    fn new() -> Self {
        let mut bytes = vec![0; NAMES as usize + 1];
        bytes.extend_from_slice(DESC_SYMBOL.as_bytes());
        bytes.push(0);
        Self { bytes, placed: HashMap::new(), text_start: 0, text_end: 0 }
    }

    fn pad(&mut self, to: u64, with: u8) {
        let len = (self.bytes.len() as u64).next_multiple_of(to);
        self.bytes.resize(len as usize, with);
    }

    /// Places all sections that are code, or all others that are part of the program.
    fn place(&mut self, files: &[File<'_>], code: bool) -> Result<(), String> {
        for (number, file) in files.iter().enumerate() {
            for section in file.sections() {
                let SectionFlags::Elf { sh_flags } = section.flags() else {
                    return Err("not an ELF section".to_owned());
                };
                let has = |flag: u32| sh_flags & u64::from(flag) != 0;
                if !has(elf::SHF_ALLOC) || has(elf::SHF_EXECINSTR) != code {
                    continue;
                }
                let name = section.name().map_err(|error| error.to_string())?;
                if has(elf::SHF_WRITE) {
                    return Err(format!("section {name} is writable"));
                }
                if code && section.size() > 0 && name != TEXT_SECTION {
                    return Err(format!("code in section {name}"));
                }
                self.pad(section.align().max(1), if code { BREAKPOINT } else { 0 });
                self.placed.insert((number, section.index().0), self.bytes.len() as u64);
                let data = section.data().map_err(|error| error.to_string())?;
                self.bytes.extend_from_slice(data);
            }
        }
        Ok(())
    }

    /// Addresses of all global symbols.
    fn symbols(&self, files: &[File<'_>]) -> Result<HashMap<String, u64>, String> {
        let mut symbols = HashMap::new();
        for (number, file) in files.iter().enumerate() {
            for symbol in defined(file) {
                let name = symbol.name().map_err(|error| error.to_string())?;
                symbols.insert(name.to_owned(), self.address(number, &symbol)?);
            }
        }
        symbols.insert(format!("__start_{TEXT_SECTION}"), self.text_start);
        if let Some(desc) = symbols.get(DESC_SYMBOL) {
            let text_bytes = desc + self.text_end - self.text_start;
            symbols.insert(TEXT_BYTES_SYMBOL.to_owned(), text_bytes);
        }
        Ok(symbols)
    }

    fn address(&self, file: usize, symbol: &ElfSymbol64<'_, '_>) -> Result<u64, String> {
        let section = symbol.section_index().ok_or("a symbol without a section")?;
        let section = self.placed.get(&(file, section.0)).ok_or("a symbol in no segment")?;
        Ok(section + symbol.address())
    }

    fn relocate(
        &mut self,
        number: usize,
        file: &File<'_>,
        symbols: &HashMap<String, u64>,
    ) -> Result<(), String> {
        for section in file.sections() {
            let Some(&start) = self.placed.get(&(number, section.index().0)) else { continue };
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(target) = relocation.target() else {
                    return Err("a relocation without a symbol".to_owned());
                };
                let target = self.target(number, file, target, symbols)?;
                let place = start + offset;
                let value = target
                    .wrapping_add_signed(relocation.addend())
                    .wrapping_sub(place)
                    .to_le_bytes();
                let bytes = match relocation.flags() {
                    RelocationFlags::Elf { r_type: elf::R_X86_64_PC64 } => 8,
                    RelocationFlags::Elf { r_type: elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 } => 4,
                    other => return Err(format!("an unknown relocation: {other:?}")),
                };
                let place = place as usize;
                self.bytes[place..place + bytes].copy_from_slice(&value[..bytes]);
            }
        }
        Ok(())
    }

    fn target(
        &self,
        number: usize,
        file: &File<'_>,
        index: SymbolIndex,
        symbols: &HashMap<String, u64>,
    ) -> Result<u64, String> {
        let symbol = file.symbol_by_index(index).map_err(|error| error.to_string())?;
        if symbol.is_definition() || symbol.section_index().is_some() {
            return self.address(number, &symbol);
        }
        let name = symbol.name().map_err(|error| error.to_string())?;
        symbols.get(name).copied().ok_or_else(|| format!("{name} is nowhere"))
    }

    fn write_headers(&mut self, desc: u64) {
        let (text_start, end) = (self.text_start, self.text_end);
        let mut at = |offset: u64, bytes: &[u8]| {
            let offset = offset as usize;
            self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        at(0, b"\x7fELF\x02\x01\x01");
        at(16, &elf::ET_DYN.to_le_bytes());
        at(18, &elf::EM_X86_64.to_le_bytes());
        at(20, &1_u32.to_le_bytes());
        at(32, &HEADER.to_le_bytes());
        at(52, &(HEADER as u16).to_le_bytes());
        at(54, &(PROGRAM_HEADER as u16).to_le_bytes());
        let has_code = end > text_start;
        let program_headers = PROGRAM_HEADERS - u64::from(!has_code);
        at(56, &(program_headers as u16).to_le_bytes());
        let mut segment = |number: u64, kind: u32, flags: u32, start: u64, end: u64| {
            let header = HEADER + number * PROGRAM_HEADER;
            at(header, &kind.to_le_bytes());
            at(header + 4, &flags.to_le_bytes());
            for (field, value) in [(8, start), (16, start), (24, start), (48, PAGE)] {
                at(header + field, &value.to_le_bytes());
            }
            at(header + 32, &(end - start).to_le_bytes());
            at(header + 40, &(end - start).to_le_bytes());
        };
        segment(0, elf::PT_LOAD, elf::PF_R, 0, text_start);
        segment(1, elf::PT_DYNAMIC, elf::PF_R, DYNAMIC, SYMBOLS);
        if has_code {
            segment(2, elf::PT_LOAD, elf::PF_R | elf::PF_X, text_start, end);
        }
        let dynamic = [
            (elf::DT_SYMTAB, SYMBOLS),
            (elf::DT_SYMENT, SYMBOL),
            (elf::DT_STRTAB, NAMES),
            (elf::DT_STRSZ, DESC_SYMBOL.len() as u64 + 2),
            (elf::DT_GNU_HASH, HASH),
            (elf::DT_NULL, 0),
        ];
        for (number, (tag, value)) in dynamic.into_iter().enumerate() {
            at(DYNAMIC + number as u64 * 16, &(tag as u64).to_le_bytes());
            at(DYNAMIC + number as u64 * 16 + 8, &value.to_le_bytes());
        }
        // The second symbol: its name is behind the empty one.
        at(SYMBOLS + SYMBOL, &1_u32.to_le_bytes());
        at(SYMBOLS + SYMBOL + 6, &1_u16.to_le_bytes());
        at(SYMBOLS + SYMBOL + 8, &desc.to_le_bytes());
        // One bucket, in which the symbol is alone; the filter lets everything through.
        for (number, word) in [1_u32, 1, 1, 0, u32::MAX, u32::MAX, 1, 1].into_iter().enumerate() {
            at(HASH + number as u64 * 4, &word.to_le_bytes());
        }
    }

    /// Where functions begin and end, for whoever verifies.
    fn write_symbol_table(&mut self, files: &[File<'_>]) -> Result<(), String> {
        let (mut symbols, mut names) = (vec![0; SYMBOL as usize], vec![0]);
        for (number, file) in files.iter().enumerate() {
            let functions = file.symbols().filter(|it| it.kind() == SymbolKind::Text);
            for symbol in functions.filter(|it| it.is_definition() && it.size() > 0) {
                let name = symbol.name().map_err(|error| error.to_string())?;
                symbols.extend((names.len() as u32).to_le_bytes());
                symbols.extend([elf::STT_FUNC, 0, 1, 0]);
                symbols.extend(self.address(number, &symbol)?.to_le_bytes());
                symbols.extend(symbol.size().to_le_bytes());
                names.extend(name.as_bytes());
                names.push(0);
            }
        }
        // Not in a page of the code.
        self.pad(PAGE, 0);
        let headers = self.bytes.len() as u64;
        let table = headers + SECTION_HEADERS * SECTION_HEADER;
        let ends = [table, table + symbols.len() as u64];
        self.bytes.resize(table as usize, 0);
        let kinds = [(elf::SHT_SYMTAB, symbols, 2_u32, SYMBOL), (elf::SHT_STRTAB, names, 0, 0)];
        for ((number, start), (kind, content, link, entry)) in (1..).zip(ends).zip(kinds) {
            let mut at = |offset: u64, bytes: &[u8]| {
                let offset = (headers + number * SECTION_HEADER + offset) as usize;
                self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
            };
            at(4, &kind.to_le_bytes());
            at(24, &start.to_le_bytes());
            at(32, &(content.len() as u64).to_le_bytes());
            at(40, &link.to_le_bytes());
            at(56, &entry.to_le_bytes());
            self.bytes.extend(content);
        }
        let mut at = |offset: usize, bytes: &[u8]| {
            self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        at(40, &headers.to_le_bytes());
        at(58, &(SECTION_HEADER as u16).to_le_bytes());
        at(60, &(SECTION_HEADERS as u16).to_le_bytes());
        at(62, &2_u16.to_le_bytes());
        Ok(())
    }
}
