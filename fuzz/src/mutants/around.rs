//! Everything around a guest, byte for byte: what it may not change, before it runs and after.
//!
//! Nothing is taken from the runtime here: what is mapped is what `/proc/self/maps` says, which of
//! its pages have contents `/proc/self/pagemap`, and these are read through `/proc/self/mem`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use awsm_abi::MAGIC;
use awsm_abi::context::{CONTEXT_GUARD_BYTES, GlobalCell, Layout, Memory, Table, below};
use awsm_abi::desc::{
    ExternType, GlobalDesc, ImportDesc, ModuleDesc, RelSlice, extern_flag, extern_kind,
};
use awsm_abi::tail::cell_below;

const PAGE_BYTES: u64 = 4096;

/// Bytes of one page.
type Page = Box<[u8]>;

/// This process's memory, from outside.
pub struct Process {
    memory: File,
    pages: File,
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its addresses.
    pub range: Range<u64>,
    /// May it be written?
    writable: bool,
    /// Its name: a file, or what the system calls it.
    name: String,
}

impl Process {
    /// This one.
    ///
    /// # Errors
    /// If there is no `/proc`.
    pub fn this() -> io::Result<Self> {
        Ok(Self { memory: File::open("/proc/self/mem")?, pages: File::open("/proc/self/pagemap")? })
    }

    /// What is mapped now.
    ///
    /// # Errors
    /// If there is no `/proc`.
    pub fn mappings() -> io::Result<Vec<Mapping>> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let mapping = |line: &str| {
            let mut words = line.split_whitespace();
            let (start, end) = words.next()?.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            let writable = words.next()?.contains('w');
            let name = words.nth(3).unwrap_or_default().to_owned();
            Some(Mapping { range: number(start)?..number(end)?, writable, name })
        };
        Ok(maps.lines().filter_map(mapping).collect())
    }

    /// Bytes at an address.
    ///
    /// # Errors
    /// If nothing is mapped there.
    pub fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.memory.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    }

    /// The pages of a range that have contents.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn pages(&self, range: Range<u64>) -> io::Result<BTreeMap<u64, Page>> {
        // Present or swapped out. Source: Linux, Documentation/admin-guide/mm/pagemap.rst.
        const HAS_CONTENTS: u64 = 3 << 62;
        let mut found = BTreeMap::new();
        let mut entries = vec![0; 8 << 12];
        let mut first = range.start / PAGE_BYTES;
        let end = range.end.div_ceil(PAGE_BYTES);
        while first < end {
            let count = (end - first).min(1 << 12);
            let entries = &mut entries[..8 * count as usize];
            self.pages.read_exact_at(entries, 8 * first)?;
            for (page, entry) in (first..).zip(entries.chunks_exact(8)) {
                let entry = u64::from_le_bytes(entry.try_into().expect("eight bytes"));
                if entry & HAS_CONTENTS != 0 {
                    let at = page * PAGE_BYTES;
                    found.insert(at, self.read(at..at + PAGE_BYTES)?.into_boxed_slice());
                }
            }
            first += count;
        }
        Ok(found)
    }
}

/// Memory that nothing changes while a guest runs, as it was.
pub struct Still {
    pages: Vec<(Mapping, BTreeMap<u64, Page>)>,
}

impl Still {
    /// Takes down all mappings that nobody but a guest gone astray would change: those without a
    /// name, which slots, stacks and large things of the host lie in. What cannot be written faults
    /// by itself. `busy` are those that the host itself uses.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn take(process: &Process, mappings: &[Mapping], busy: &[Range<u64>]) -> io::Result<Self> {
        let overlaps = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
        let is_still = |mapping: &&Mapping| {
            mapping.writable
                && mapping.name.is_empty()
                && !busy.iter().any(|range| overlaps(range, &mapping.range))
        };
        let take = |mapping: &Mapping| Ok((mapping.clone(), process.pages(mapping.range.clone())?));
        let pages: io::Result<_> = mappings.iter().filter(is_still).map(take).collect();
        Ok(Self { pages: pages? })
    }

    /// What is not as it was, if anything is: the mapping, and where in it, for people.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn compare(&self, process: &Process) -> io::Result<Option<(Range<u64>, String)>> {
        for (mapping, before) in &self.pages {
            // What the host has given back since is nobody's.
            let Ok(after) = process.pages(mapping.range.clone()) else { continue };
            // A page that was only read has become one of zeros.
            let zero = vec![0; PAGE_BYTES as usize].into_boxed_slice();
            for at in before.keys().chain(after.keys()) {
                let [was, is] = [before, &after].map(|pages| pages.get(at).unwrap_or(&zero));
                if was != is {
                    let byte = (0..was.len()).find(|byte| was[*byte] != is[*byte]).unwrap_or(0);
                    let at = at + byte as u64;
                    return Ok(Some((mapping.range.clone(), format!("{at:#x}, in {mapping:x?}"))));
                }
            }
        }
        Ok(None)
    }
}

/// What of a module's context its code may write.
#[derive(Debug)]
pub struct Shape {
    layout_bytes: u32,
    /// Bytes that the code or the host may change, by their distance below the context.
    may_change: Vec<Range<u32>>,
    /// Has it a memory of its own at the context?
    pub has_memory: bool,
}

impl Shape {
    /// That of an object.
    ///
    /// # Panics
    /// If it is none of ours.
    #[must_use]
    pub fn of(object: &[u8]) -> Self {
        let root = object.windows(MAGIC.len()).position(|found| found == MAGIC).expect("an object");
        let word = |at: usize| u64::from_le_bytes(object[at..at + 8].try_into().expect("8 bytes"));
        let list = |at: usize| {
            let at = root + at;
            let start = word(at + offset_of!(RelSlice, start));
            (root.wrapping_add(start as usize), word(at + offset_of!(RelSlice, len)) as usize)
        };
        let counts = super::change::counts(object);
        let layout = Layout::of(&counts).expect("counts of ours");
        // The cell or field that begins so far below the context.
        let from = |below: u32, bytes: usize| below - bytes as u32..below;
        let mut may_change = Vec::new();
        let (globals, count) = list(offset_of!(ModuleDesc, globals));
        for own in 0..count {
            let ty = globals + own * size_of::<GlobalDesc>() + offset_of!(GlobalDesc, ty);
            if object[ty + offset_of!(ExternType, flags)] & extern_flag::MUTABLE != 0 {
                may_change.push(from(layout.global(own as u32), size_of::<GlobalCell>()));
            }
        }
        for cell in 0..counts.argument_cells {
            may_change.push(from(cell_below(cell), size_of::<GlobalCell>()));
        }
        // Sizes of memories and tables, places of tables: the host's.
        let bytes = |below: u32| below - offset_of!(Memory, bytes) as u32;
        may_change.push(from(bytes(below::MEMORY), 8));
        for memory in 1..counts.own_memories {
            may_change.push(from(bytes(layout.memory(memory - 1)), 8));
        }
        for table in 0..counts.own_tables {
            let record = layout.table(table);
            may_change.push(record - (offset_of!(Table, len) + 8) as u32..record);
        }
        may_change.push(from(below::STACK_LIMIT, 8));
        let imports = list(offset_of!(ModuleDesc, imports));
        let imported_memories = (0..imports.1).filter(|number| {
            let ty = imports.0 + number * size_of::<ImportDesc>() + offset_of!(ImportDesc, ty);
            object[ty + offset_of!(ExternType, kind)] == extern_kind::MEMORY
        });
        Self {
            layout_bytes: layout.bytes,
            may_change,
            has_memory: counts.own_memories > 0 && imported_memories.count() == 0,
        }
    }
}

/// The context of a slot, as it was.
pub struct Context {
    /// The context pointer.
    pub address: u64,
    bytes: Vec<u8>,
}

impl Context {
    /// Finds the contexts that lie in mappings which are new: a header ends where a guard begins,
    /// and says where the memory is that begins behind the guard.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn find(
        process: &Process,
        shape: &Shape,
        before: &[Mapping],
        after: &[Mapping],
    ) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for mapping in after.iter().filter(|mapping| mapping.writable && !before.contains(mapping))
        {
            let end = mapping.range.end;
            let address = end + u64::from(CONTEXT_GUARD_BYTES);
            let header = process.read(end - 64..end)?;
            let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8"));
            let builtins = word((below::MEMORY - below::BUILTINS) as usize);
            let is_one = if shape.has_memory { word(0) == address } else { word(0) == 0 };
            if is_one && builtins != 0 {
                found.push(Self::read(process, shape, address)?);
            }
        }
        Ok(found)
    }

    fn read(process: &Process, shape: &Shape, address: u64) -> io::Result<Self> {
        let start = address - u64::from(shape.layout_bytes);
        let bytes = process.read(start..address - u64::from(CONTEXT_GUARD_BYTES))?;
        Ok(Self { address, bytes })
    }

    /// What is not as it was and must be, if anything is.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn compare(&self, process: &Process, shape: &Shape) -> io::Result<Option<String>> {
        let now = Self::read(process, shape, self.address)?;
        for (at, (was, is)) in self.bytes.iter().zip(&now.bytes).enumerate() {
            let below = shape.layout_bytes - at as u32 - 1;
            if was != is && !shape.may_change.iter().any(|range| range.contains(&below)) {
                return Ok(Some(format!("{} below the context", below + 1)));
            }
        }
        let guard = self.address - u64::from(CONTEXT_GUARD_BYTES)..self.address;
        let touched = process.pages(guard)?;
        Ok(touched.keys().next().map(|at| format!("{at:#x}, in the guard below the memory")))
    }

    /// How many bytes its memory has now, and what is in its pages.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn memory(&self, process: &Process, shape: &Shape) -> io::Result<BTreeMap<u64, Page>> {
        if !shape.has_memory {
            return Ok(BTreeMap::new());
        }
        let header = self.address - u64::from(below::MEMORY) + offset_of!(Memory, bytes) as u64;
        let bytes = process.read(header..header + 8)?;
        let bytes = u64::from_le_bytes(bytes.try_into().expect("eight bytes")).min(1 << 33);
        let pages = process.pages(self.address..self.address + bytes)?;
        let zero = |page: &Page| page.iter().all(|byte| *byte == 0);
        let pages = pages.into_iter().filter(|(_, page)| !zero(page));
        Ok(pages.map(|(at, page)| (at - self.address, page)).collect())
    }
}

/// Things of the host's that nobody changes, on the heap between others, small and large.
pub struct Canaries(Vec<Vec<u8>>);

impl Canaries {
    /// Makes some.
    #[must_use]
    pub fn new() -> Self {
        let sizes = (0..4096_usize).map(|number| 16 << (number % 9)).chain([1 << 18; 8]);
        Self(sizes.enumerate().map(|(number, size)| vec![Self::byte(number); size]).collect())
    }

    fn byte(number: usize) -> u8 {
        (number * 167 + 13) as u8
    }

    /// What is not as it was.
    #[must_use]
    pub fn compare(&self) -> Option<String> {
        let mut all = self.0.iter().enumerate();
        let is_changed = |(number, bytes): &(usize, &Vec<u8>)| {
            let was = [Self::byte(*number); 4096];
            bytes.chunks(was.len()).any(|bytes| *bytes != was[..bytes.len()])
        };
        let changed = all.find(is_changed);
        changed.map(|(number, _)| format!("the host's heap, thing {number}"))
    }
}

impl Default for Canaries {
    fn default() -> Self {
        Self::new()
    }
}
