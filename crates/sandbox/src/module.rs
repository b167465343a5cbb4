//! A loaded shared object: checked, in memory, its descriptor readable as Rust values.
//!
//! The file is read once into memory that nobody can change (`sealed`). There its headers are
//! checked, its code is made executable where it lies, and every table of the descriptor is checked
//! once to lie inside. After that nothing is parsed: what the loader and the sandboxes read are
//! slices of that memory.
//!
//! Road not taken: `dlopen`. It costs about 22 us for a minimal object, takes a process-wide lock,
//! would run constructors and bind symbols if the check before it were ever wrong, and looks the
//! path up a second time after the check.

pub(crate) mod constant;
pub(crate) mod unwind;

mod arena;
mod elf;
mod images;
mod registry;
mod sealed;

use std::cell::Cell;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use awsm_abi::context::Layout;
use awsm_abi::cpu::{Arch, CpuFeatures};
use awsm_abi::desc::{
    ConstOp, DataDesc, ElemDesc, ElemItem, ExportDesc, ExternType, FuncDesc, GlobalDesc,
    ImportDesc, ModuleDesc, Rel, RelSlice, TableDesc, TypeDesc, const_op, extern_kind, module_flag,
    segment_mode, val_type,
};
use awsm_abi::tail;
use awsm_abi::{ABI_VERSION, DESC_SYMBOL, Isolation, MAGIC};

use crate::error::LoadError;
use crate::slot::image::Image;
use crate::value::{FuncIdx, FuncType};
use arena::Memory;
pub use sealed::SealedObject;

/// A module in memory, ready to be instantiated any number of times on any thread.
pub struct Module {
    memory: Memory,
    desc: &'static ModuleDesc,
    isolation: Isolation,
    layout: Layout,
    text: (usize, usize),
    /// Process-wide numbers of `types`, in their order.
    type_ids: Box<[u32]>,
    /// What the memories that it defines hold at the start; made when first needed.
    images: OnceLock<Option<Box<[Image]>>>,
    /// The object's bytes as far as its segments reach.
    image: &'static [u8],
    /// Where in it the index of the frame rules begins.
    frame_index: Option<usize>,
    /// Address and number of each defined function's code, ascending; made when first needed.
    starts: OnceLock<Box<[(usize, u32)]>>,
}

// SAFETY: the memory is read-only and lives as long as the module; the rest is immutable.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

/// One thing that a module wants from outside.
#[derive(Clone, Copy, Debug)]
pub struct Import<'m> {
    /// Module name.
    pub module: &'m str,
    /// Item name.
    pub name: &'m str,
    /// Its type.
    pub ty: &'m ExternType,
}

/// One thing that a module offers.
#[derive(Clone, Copy, Debug)]
pub struct Export<'m> {
    /// Its name.
    pub name: &'m str,
    /// [`extern_kind`].
    pub kind: u32,
    /// Index in the index space of its kind.
    pub index: u32,
}

/// Types of entries in a descriptor's tables.
///
/// # Safety
/// Integers only: every pattern of bytes is a value.
unsafe trait Plain {}

macro_rules! plain {
    ($($ty:ty),*) => {$(
        // SAFETY: integers only.
        unsafe impl Plain for $ty {}
    )*};
}
plain!(
    u8, u32, ConstOp, DataDesc, ElemDesc, ElemItem, ExportDesc, ExternType, FuncDesc, GlobalDesc
);
plain!(ImportDesc, TableDesc, TypeDesc);

/// A table of a module's descriptor, named by its place there: only what `check_tables` looks at,
/// as the type that it has there.
macro_rules! table {
    ($module:expr, $table:expr) => {
        // SAFETY: what the macro is for; it is used in this file only.
        unsafe { $module.slice($table) }
    };
}

/// A name in a module's descriptor, likewise.
macro_rules! name {
    ($module:expr, $table:expr) => {
        std::str::from_utf8(table!($module, $table)).unwrap_or("?")
    };
}

/// The offset of a segment, which only those have that are active.
fn active<'m>(mode: u32, offset: impl FnOnce() -> &'m [ConstOp]) -> &'m [ConstOp] {
    assert_eq!(mode, segment_mode::ACTIVE, "an active segment");
    offset()
}

impl Module {
    /// Loads the shared object at `path`: [`SealedObject::read`] and [`Self::of_object`].
    ///
    /// # Errors
    /// Whatever is wrong with the file, see [`LoadError`]. Nothing of the file has run by then.
    pub fn load(path: &Path) -> Result<Arc<Self>, LoadError> {
        Self::of_object(SealedObject::read(path)?)
    }

    /// Loads a shared object that is in memory already.
    ///
    /// This is safe to call with any bytes, in so far as nothing of them runs here, and everything
    /// that the loader and the runtime believe of them later (headers, tables of the descriptor,
    /// indices, addresses of functions within the text) is checked first, in memory that nobody can
    /// change any more; so no file can make this process read or write where it must not, or jump
    /// to what is not the object's code, before a sandbox runs that code. What the machine code
    /// itself does is not looked at: whoever runs an object trusts that `awsmc` made it, as whoever
    /// starts a program trusts its file.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_object(object: SealedObject) -> Result<Arc<Self>, LoadError> {
        let bytes = object.bytes();
        let shape =
            elf::check_headers(&bytes[..bytes.len().min(elf::HEADERS_BYTES)], bytes.len() as u64)?;
        let end = usize::try_from(shape.end).map_err(|_| LoadError::Shape("it is too large"))?;
        let image_bytes = bytes.len().min(end);
        let desc_at = elf::check_dynamic(&shape, &bytes[..image_bytes], DESC_SYMBOL)?;
        let text = shape.segments.iter().filter(|segment| segment.execute);
        let text = text.map(|s| s.addresses.start as usize..s.addresses.end as usize);
        let memory = object.into_executable(text, end)?;
        // SAFETY: so many bytes of the memory are readable, nobody can write to them, and they stay
        // as long as the module, which keeps the memory.
        let image: &'static [u8] =
            unsafe { std::slice::from_raw_parts(memory.start(), image_bytes) };
        let desc = check_version(image, desc_at)?;
        Self::new(memory, image, desc, &shape)
    }

    /// Checks the descriptor's tables and takes the module into use.
    fn new(
        memory: Memory,
        image: &'static [u8],
        desc: &'static ModuleDesc,
        shape: &elf::Shape,
    ) -> Result<Arc<Self>, LoadError> {
        let isolation = match Isolation::from_raw(desc.isolation) {
            Some(Isolation::None) => return Err(LoadError::NoIsolation),
            Some(isolation) => isolation,
            None => return Err(LoadError::Descriptor("isolation mode")),
        };
        let missing = CpuFeatures(desc.cpu_features).missing_from(crate::cpu::cpu_features());
        if missing.0 != 0 {
            let names = missing.names(Arch::HOST).collect::<Vec<_>>().join(", ");
            return Err(LoadError::CpuFeatures(names));
        }
        let layout = Layout::of(&desc.counts).ok_or(LoadError::Descriptor("counts"))?;
        let left = Cell::new(TABLES_MAX * image.len());
        let text = check_tables(&Tables { image, desc, left }, shape)?;
        let mut module = Self {
            memory,
            desc,
            isolation,
            layout,
            text,
            type_ids: Box::default(),
            images: OnceLock::new(),
            image,
            frame_index: shape.frame_index,
            starts: OnceLock::new(),
        };
        module.type_ids = canonical_types(&module)?;
        Ok(Arc::new(module))
    }

    /// Elements of a table.
    ///
    /// # Safety
    /// The table is one of this module's descriptor, and `check_tables` has looked at it as one of
    /// `T`.
    unsafe fn slice<T: Plain>(&self, table: RelSlice) -> &[T] {
        if table.len == 0 {
            return &[];
        }
        // SAFETY: `check_tables` has checked that the table lies inside the readable mapping and is
        // aligned for its type; every pattern of bytes is a value of it.
        unsafe {
            let start = std::ptr::from_ref(self.desc).cast::<u8>().offset(table.start.0 as isize);
            std::slice::from_raw_parts(start.cast(), table.len as usize)
        }
    }

    /// Native address of a place that the descriptor names.
    pub(crate) fn address(&self, place: Rel) -> *const () {
        std::ptr::from_ref(self.desc).cast::<u8>().wrapping_offset(place.0 as isize).cast()
    }

    /// The same, null for one that the descriptor leaves out.
    pub(crate) fn optional_address(&self, place: Rel) -> *const () {
        if place.0 == 0 { std::ptr::null() } else { self.address(place) }
    }

    /// Isolation of linear memory.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Bytes of native code.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.text.1 - self.text.0
    }

    /// Addresses of the native code.
    #[inline]
    pub(crate) fn text(&self) -> std::ops::Range<usize> {
        self.text.0..self.text.1
    }

    /// Where it lies in memory, for a debugger: what the object calls address 0.
    #[must_use]
    pub fn base_address(&self) -> usize {
        self.memory.start() as usize
    }

    /// Bytes of address space that the loaded object takes.
    #[must_use]
    pub fn mapped_bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// The compiler and its options, as the compiler wrote them down.
    #[must_use]
    pub fn compiler(&self) -> &str {
        name!(self, self.desc.compiler)
    }

    /// Imports of the module, in order.
    pub fn imports(&self) -> impl Iterator<Item = Import<'_>> {
        self.import_descs().iter().map(|import| Import {
            module: name!(self, import.module),
            name: name!(self, import.name),
            ty: &import.ty,
        })
    }

    /// Exports of the module, in order.
    pub fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.export_descs().iter().map(|export| Export {
            name: name!(self, export.name),
            kind: export.kind,
            index: export.index,
        })
    }

    /// The export of this name.
    #[must_use]
    pub fn export(&self, name: &str) -> Option<Export<'_>> {
        self.exports().find(|export| export.name == name)
    }

    /// The function exported under this name.
    #[must_use]
    pub fn exported_func(&self, name: &str) -> Option<FuncIdx> {
        let export = self.export(name)?;
        (export.kind == u32::from(extern_kind::FUNC)).then_some(FuncIdx(export.index))
    }

    /// A function's type.
    ///
    /// # Panics
    /// If the module has no such function.
    #[must_use]
    pub fn func_type(&self, func: FuncIdx) -> FuncType<'_> {
        self.type_at(self.func_type_index(func))
    }

    /// An entry of the type section.
    #[must_use]
    pub fn type_at(&self, index: u32) -> FuncType<'_> {
        let ty = &self.types()[index as usize];
        FuncType { params: table!(self, ty.params), results: table!(self, ty.results) }
    }

    /// The functions that a function's code holds as well, if any.
    #[must_use]
    pub fn inlined(&self, func: FuncIdx) -> Option<&str> {
        let own = func.0.checked_sub(self.imported_funcs())?;
        let names = name!(self, self.functions().get(own as usize)?.inlined);
        (!names.is_empty()).then_some(names)
    }

    /// A function's name, if the module tells.
    #[must_use]
    pub fn func_name(&self, func: FuncIdx) -> Option<&str> {
        let own = func.0.checked_sub(self.imported_funcs())?;
        let name = name!(self, self.functions().get(own as usize)?.name);
        (!name.is_empty()).then_some(name)
    }

    /// Address and number of each defined function's code, ascending.
    fn starts(&self) -> &[(usize, u32)] {
        self.starts.get_or_init(|| {
            let functions = self.functions().iter().enumerate();
            let start = |(index, func): (usize, &FuncDesc)| {
                // A wrapper of code for calls in tail position is not the function itself.
                let own = if func.tail.0 == 0 { func.code } else { func.tail };
                (self.address(own) as usize, index as u32)
            };
            let mut starts: Box<[_]> = functions.map(start).collect();
            starts.sort_unstable();
            starts
        })
    }

    /// Where the code of the functions lies that it defines, for profilers: address, bytes up to
    /// the next one's, name or number.
    pub fn code(&self) -> impl Iterator<Item = (usize, usize, String)> {
        let starts = self.starts();
        let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([self.text.1]);
        starts.iter().zip(ends).map(|((start, index), end)| {
            let func = FuncIdx(index + self.imported_funcs());
            let name = self.func_name(func).map(str::to_owned);
            (*start, end - start, name.unwrap_or_else(|| format!("function {}", func.0)))
        })
    }

    /// The function whose code begins at this native address.
    pub(crate) fn func_starting_at(&self, pc: usize) -> Option<FuncIdx> {
        let starts = self.starts();
        let at = starts.partition_point(|(start, _)| *start < pc);
        let (start, index) = starts.get(at)?;
        (*start == pc).then(|| FuncIdx(index + self.imported_funcs()))
    }

    /// The module's bytes from its lowest address on, and where in them the index of its frame
    /// rules lies.
    pub(crate) fn frame_rules(&self) -> Option<(&[u8], usize)> {
        Some((self.image, self.frame_index?))
    }

    /// The function whose code lies at this native address.
    #[must_use]
    pub(crate) fn func_at(&self, pc: usize) -> Option<FuncIdx> {
        if pc < self.text.0 || pc >= self.text.1 {
            return None;
        }
        let functions = self.functions().iter().enumerate();
        let starts = functions
            .flat_map(|(index, func)| [func.code, func.tail].map(|code| (index, code)).into_iter());
        let starts = starts.filter(|(_, code)| code.0 != 0);
        let starts = starts.map(|(index, code)| (index, self.address(code) as usize));
        let (index, _) = starts.filter(|(_, at)| *at <= pc).max_by_key(|(_, at)| *at)?;
        Some(FuncIdx(index as u32 + self.imported_funcs()))
    }

    /// The number of a function's type among the types of the module.
    #[must_use]
    pub fn func_type_index(&self, func: FuncIdx) -> u32 {
        match func.0.checked_sub(self.imported_funcs()) {
            Some(own) => self.functions()[own as usize].type_index,
            None => self.imported(extern_kind::FUNC).nth(func.0 as usize).expect("an import").ty,
        }
    }

    pub(crate) fn desc(&self) -> &ModuleDesc {
        self.desc
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The process-wide numbers of its types, in their order.
    #[must_use]
    pub fn type_ids(&self) -> &[u32] {
        &self.type_ids
    }

    pub(crate) fn types(&self) -> &[TypeDesc] {
        table!(self, self.desc.types)
    }

    /// Its imports, as in the descriptor.
    #[must_use]
    pub fn import_descs(&self) -> &[ImportDesc] {
        table!(self, self.desc.imports)
    }

    /// The imports of one kind, in order.
    pub(crate) fn imported(&self, kind: u8) -> impl Iterator<Item = &ExternType> {
        self.import_descs().iter().map(|import| &import.ty).filter(move |ty| ty.kind == kind)
    }

    /// Functions that are imported.
    pub(crate) fn imported_funcs(&self) -> u32 {
        self.desc.counts.func_refs - self.escaping().len() as u32
    }

    pub(crate) fn functions(&self) -> &[FuncDesc] {
        table!(self, self.desc.functions)
    }

    /// Tables that it defines.
    #[must_use]
    pub fn tables(&self) -> &[TableDesc] {
        table!(self, self.desc.tables)
    }

    /// Memories that it defines.
    #[must_use]
    pub fn memories(&self) -> &[ExternType] {
        table!(self, self.desc.memories)
    }

    /// Type indices of the tags that it defines.
    #[must_use]
    pub fn tags(&self) -> &[u32] {
        table!(self, self.desc.tags)
    }

    /// Can its code throw or catch exceptions?
    pub(crate) fn has_exceptions(&self) -> bool {
        self.desc.flags & module_flag::EXCEPTIONS != 0
    }

    /// A value type's code with the process-wide number of a function type in place of its index.
    #[must_use]
    pub fn canonical(&self, code: u32) -> u32 {
        match val_type::function_type(code) {
            Some(index) => with_function_type(code, self.type_ids[index as usize]),
            None => code,
        }
    }

    /// Globals that it defines.
    #[must_use]
    pub fn globals(&self) -> &[GlobalDesc] {
        table!(self, self.desc.globals)
    }

    /// The first value of a global that it defines.
    pub(crate) fn global_init(&self, own: usize) -> &[ConstOp] {
        table!(self, self.globals()[own].init)
    }

    /// The first value of the elements of a table that it defines; empty for null.
    pub(crate) fn table_init(&self, own: usize) -> &[ConstOp] {
        table!(self, self.tables()[own].init)
    }

    fn export_descs(&self) -> &[ExportDesc] {
        table!(self, self.desc.exports)
    }

    pub(crate) fn escaping(&self) -> &[u32] {
        table!(self, self.desc.escaping)
    }

    pub(crate) fn elements(&self) -> &[ElemDesc] {
        table!(self, self.desc.elements)
    }

    pub(crate) fn data(&self) -> &[DataDesc] {
        table!(self, self.desc.data)
    }

    /// Offset of an active element segment.
    pub(crate) fn element_offset(&self, segment: usize) -> &[ConstOp] {
        active(self.elements()[segment].mode, || table!(self, self.elements()[segment].offset))
    }

    /// The items of an element segment.
    pub(crate) fn element_items(&self, segment: usize) -> &[ElemItem] {
        table!(self, self.elements()[segment].items)
    }

    /// Offset of an active data segment.
    pub(crate) fn data_offset(&self, segment: usize) -> &[ConstOp] {
        active(self.data()[segment].mode, || table!(self, self.data()[segment].offset))
    }

    /// The bytes of a data segment.
    pub(crate) fn data_bytes(&self, segment: usize) -> &[u8] {
        table!(self, self.data()[segment].bytes)
    }

    /// The function that runs at instantiation.
    #[must_use]
    pub fn start(&self) -> Option<FuncIdx> {
        (self.desc.start != u32::MAX).then_some(FuncIdx(self.desc.start))
    }

    /// What the memories that it defines hold at the start, if the module alone says so: see
    /// [`images::images_of`].
    pub(crate) fn images(&self) -> Option<&[Image]> {
        self.images.get_or_init(|| images::images_of(self)).as_deref()
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("compiler", &self.compiler()).finish_non_exhaustive()
    }
}

/// A reference's code with another type of function.
fn with_function_type(code: u32, number: u32) -> u32 {
    val_type::to_function(number) | code & val_type::NON_NULL
}

/// Process-wide numbers of a module's types. Two types have the same number if they are the same
/// after the types that they refer to have been replaced by their numbers, and themselves by a
/// mark.
fn canonical_types(module: &Module) -> Result<Box<[u32]>, LoadError> {
    const ITSELF: u32 = val_type::TYPES_MAX - 1;
    let mut numbers = Vec::with_capacity(module.types().len());
    for own in 0..module.types().len() {
        let ty = module.type_at(own as u32);
        let codes = |codes: &[u32]| -> Result<Vec<u32>, LoadError> {
            let code = |code: &u32| match val_type::function_type(*code).map(|index| index as usize)
            {
                None => Ok(*code),
                Some(index) if index == own => Ok(with_function_type(*code, ITSELF)),
                Some(index) => match numbers.get(index) {
                    Some(number) => Ok(with_function_type(*code, *number)),
                    None => Err(LoadError::Descriptor("types")),
                },
            };
            codes.iter().map(code).collect()
        };
        let number = registry::type_id(&codes(ty.params)?, &codes(ty.results)?);
        if number >= ITSELF {
            return Err(LoadError::TooManyTypes);
        }
        numbers.push(number);
    }
    Ok(numbers.into())
}

/// The descriptor at `at`, if it is of this version.
fn check_version(image: &'static [u8], at: u64) -> Result<&'static ModuleDesc, LoadError> {
    let at = usize::try_from(at).map_err(|_| LoadError::NotOurs)?;
    let head = at.checked_add(16).and_then(|end| image.get(at..end)).ok_or(LoadError::NotOurs)?;
    if head[..8] != MAGIC {
        return Err(LoadError::NotOurs);
    }
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let (version, desc_bytes) = (number(&head[8..12]), number(&head[12..16]));
    if version != ABI_VERSION {
        return Err(LoadError::AbiVersion(version));
    }
    let whole = at.checked_add(size_of::<ModuleDesc>()).is_some_and(|end| end <= image.len());
    if desc_bytes as usize != size_of::<ModuleDesc>() || !whole || !at.is_multiple_of(16) {
        return Err(LoadError::Descriptor("size"));
    }
    // SAFETY: the struct lies inside the image, is aligned (mappings start at a page), and consists
    // of plain integers; the image lives as long as the module that will hold the reference.
    let desc = unsafe { &*image.as_ptr().add(at).cast::<ModuleDesc>() };
    if Arch::from_raw(desc.arch) != Some(Arch::HOST) {
        return Err(LoadError::Descriptor("architecture"));
    }
    Ok(desc)
}

/// The descriptor's tables before they are trusted.
struct Tables {
    image: &'static [u8],
    desc: &'static ModuleDesc,
    /// Bytes that may still be looked at.
    left: Cell<usize>,
}

/// All tables together have no more bytes than this times those of the image: they can lie at the
/// same place by the thousand, and looking at them would take the square of the file's size.
const TABLES_MAX: usize = 16;

impl Tables {
    /// A table of `repr(C)` integers, if it lies inside the image.
    fn get<T: Plain>(
        &self,
        table: RelSlice,
        name: &'static str,
    ) -> Result<&'static [T], LoadError> {
        if table.len == 0 {
            return Ok(&[]);
        }
        let origin = std::ptr::from_ref(self.desc) as usize - self.image.as_ptr() as usize;
        let bytes = usize::try_from(table.len).ok().and_then(|len| len.checked_mul(size_of::<T>()));
        let start = usize::try_from(table.start.0.wrapping_add(origin as i64)).ok();
        let (Some(bytes), Some(start)) = (bytes, start) else {
            return Err(LoadError::Descriptor(name));
        };
        let inside = start.checked_add(bytes).is_some_and(|end| end <= self.image.len());
        let left = self.left.get().checked_sub(bytes).ok_or(LoadError::Descriptor(name))?;
        self.left.set(left);
        if !inside || !start.is_multiple_of(align_of::<T>()) {
            return Err(LoadError::Descriptor(name));
        }
        // SAFETY: the range lies inside the image and is aligned; every pattern of bytes is a `T`.
        Ok(unsafe {
            let start = self.image.as_ptr().add(start).cast();
            std::slice::from_raw_parts(start, table.len as usize)
        })
    }

    fn name(&self, table: RelSlice, of: &'static str) -> Result<(), LoadError> {
        std::str::from_utf8(self.get(table, of)?).map_err(|_| LoadError::Descriptor(of))?;
        Ok(())
    }
}

/// Checks every table of the descriptor and every index in it; answers where the text lies.
fn check_tables(tables: &Tables, shape: &elf::Shape) -> Result<(usize, usize), LoadError> {
    let desc = tables.desc;
    tables.name(desc.compiler, "compiler")?;
    let text = check_text(tables, shape)?;
    let types = tables.get::<TypeDesc>(desc.types, "types")?;
    let in_text = |place: Rel| {
        let at = std::ptr::from_ref(desc) as i64 + place.0;
        (text.0 as i64..text.1 as i64).contains(&at)
    };
    for ty in types {
        tables.get::<u32>(ty.params, "parameters")?;
        tables.get::<u32>(ty.results, "results")?;
        if ty.entry.0 != 0 && !in_text(ty.entry) {
            return Err(LoadError::Descriptor("entry"));
        }
    }
    let imports = tables.get::<ImportDesc>(desc.imports, "imports")?;
    for import in imports {
        tables.name(import.module, "import")?;
        tables.name(import.name, "import")?;
    }
    let functions = tables.get::<FuncDesc>(desc.functions, "functions")?;
    for func in functions {
        tables.name(func.name, "function name")?;
        tables.name(func.inlined, "inlined functions")?;
        let has = |code: Rel| code.0 != 0;
        let good = |code: Rel| !has(code) || in_text(code);
        if !(has(func.code) || has(func.tail)) || !good(func.code) || !good(func.tail) {
            return Err(LoadError::Descriptor("function"));
        }
    }
    let func_types = functions.iter().map(|func| func.type_index);
    let import_types = imports.iter().filter(|import| import.ty.kind == extern_kind::FUNC);
    for index in func_types.chain(import_types.map(|import| import.ty.ty)) {
        if types.get(index as usize).is_none_or(|ty| ty.entry.0 == 0) {
            return Err(LoadError::Descriptor("function type"));
        }
    }
    check_items(tables, types.len(), functions)?;
    check_argument_cells(tables, types, functions)?;
    Ok(text)
}

/// The text range: inside the executable segments.
fn check_text(tables: &Tables, shape: &elf::Shape) -> Result<(usize, usize), LoadError> {
    let origin = std::ptr::from_ref(tables.desc) as i64;
    let base = tables.image.as_ptr() as u64;
    let start = origin.wrapping_add(tables.desc.text.start.0).cast_unsigned();
    let end = start.checked_add(tables.desc.text.len);
    let executable = |end: u64| {
        shape.segments.iter().filter(|segment| segment.execute).any(|segment| {
            start >= base + segment.addresses.start && end <= base + segment.addresses.end
        })
    };
    match end {
        Some(end) if tables.desc.text.len > 0 && executable(end) => {
            Ok((start as usize, end as usize))
        }
        // A module without functions.
        _ if tables.desc.functions.len == 0 && tables.desc.text.len == 0 => Ok((0, 0)),
        _ => Err(LoadError::Descriptor("text")),
    }
}

/// Every caller of a function in the tail convention finds as many argument cells in its context as
/// the function's type says.
fn check_argument_cells(
    tables: &Tables,
    types: &[TypeDesc],
    functions: &[FuncDesc],
) -> Result<(), LoadError> {
    let mut needed = 0;
    for func in functions.iter().filter(|func| func.tail.0 != 0) {
        let ty = &types[func.type_index as usize];
        let params = tables.get::<u32>(ty.params, "parameters")?.iter().copied();
        let results = tables.get::<u32>(ty.results, "results")?.len();
        needed = needed.max(tail::cells(Arch::HOST, params, results));
    }
    if tables.desc.counts.argument_cells != needed {
        return Err(LoadError::Descriptor("argument cells"));
    }
    Ok(())
}

/// Everything that is neither type nor code, and that the counts say the same.
fn check_items(tables: &Tables, types: usize, functions: &[FuncDesc]) -> Result<(), LoadError> {
    let desc = tables.desc;
    let imports = tables.get::<ImportDesc>(desc.imports, "imports")?;
    let imported = |kind| imports.iter().filter(|import| import.ty.kind == kind).count();
    let (imported_funcs, imported_globals) =
        (imported(extern_kind::FUNC), imported(extern_kind::GLOBAL));
    let own_tables = tables.get::<TableDesc>(desc.tables, "tables")?;
    let own_memories = tables.get::<ExternType>(desc.memories, "memories")?;
    let own_tags = tables.get::<u32>(desc.tags, "tags")?;
    let globals = tables.get::<GlobalDesc>(desc.globals, "globals")?;
    let escaping = tables.get::<u32>(desc.escaping, "escaping functions")?;
    let exports = tables.get::<ExportDesc>(desc.exports, "exports")?;
    let elements = tables.get::<ElemDesc>(desc.elements, "element segments")?;
    let data = tables.get::<DataDesc>(desc.data, "data segments")?;

    let counts = &desc.counts;
    let said = [
        (counts.types, types),
        (counts.imported_globals, imported_globals),
        (counts.own_globals, globals.len()),
        (counts.imported_tables, imported(extern_kind::TABLE)),
        (counts.own_tables, own_tables.len()),
        (counts.imported_memories, imported(extern_kind::MEMORY)),
        (counts.own_memories, own_memories.len()),
        (counts.func_refs, imported_funcs + escaping.len()),
        (counts.imported_tags, imported(extern_kind::TAG)),
        (counts.own_tags, own_tags.len()),
    ];
    if said.iter().any(|(said, counted)| *said as usize != *counted) {
        return Err(LoadError::Descriptor("counts"));
    }
    let is_memory = |ty: &&ExternType| ty.kind == extern_kind::MEMORY;
    let imported_memories = imports.iter().map(|import| &import.ty).filter(is_memory);
    if imported_memories.chain(own_memories).any(|ty| !matches!(ty.page_bytes_log2, 0 | 16)) {
        return Err(LoadError::Descriptor("page size"));
    }
    let is_tag = |import: &&ImportDesc| import.ty.kind == extern_kind::TAG;
    let imported_tags = imports.iter().filter(is_tag).map(|import| import.ty.ty);
    if imported_tags.chain(own_tags.iter().copied()).any(|ty| ty as usize >= types) {
        return Err(LoadError::Descriptor("tags"));
    }
    let all_funcs = imported_funcs + functions.len();
    let all_globals = imported_globals + globals.len();
    let all_tables = counts.imported_tables as usize + own_tables.len();
    // The outside calls in the ordinary convention.
    let is_callable = |func: u32| match (func as usize).checked_sub(imported_funcs) {
        Some(own) => functions.get(own).is_some_and(|func| func.code.0 != 0),
        None => true,
    };
    let own = |func: u32| func as usize >= imported_funcs && is_callable(func);
    if !escaping.iter().all(|func| own(*func))
        || !(desc.start == u32::MAX || is_callable(desc.start))
    {
        return Err(LoadError::Descriptor("function index"));
    }
    let limit = |kind: u32| match u8::try_from(kind) {
        Ok(extern_kind::FUNC) => all_funcs,
        Ok(extern_kind::TABLE) => all_tables,
        Ok(extern_kind::MEMORY) => counts.imported_memories as usize + own_memories.len(),
        Ok(extern_kind::TAG) => counts.imported_tags as usize + own_tags.len(),
        Ok(extern_kind::GLOBAL) => all_globals,
        _ => 0,
    };
    for export in exports {
        tables.name(export.name, "export")?;
        let is_function = export.kind == u32::from(extern_kind::FUNC);
        if export.index as usize >= limit(export.kind) || is_function && !is_callable(export.index)
        {
            return Err(LoadError::Descriptor("export"));
        }
    }
    let op_is_good = |op: u32, index: u32| match op {
        const_op::GLOBAL_GET => (index as usize) < all_globals,
        const_op::REF_FUNC => index < counts.func_refs,
        op => op <= const_op::I64_MUL,
    };
    let expression = |table: RelSlice| {
        let ops = tables.get::<ConstOp>(table, "constant expression")?;
        let good = ops.iter().all(|op| op_is_good(op.op, op.index));
        if good { Ok(()) } else { Err(LoadError::Descriptor("constant expression")) }
    };
    for init in own_tables.iter().map(|table| table.init) {
        expression(init)?;
    }
    for global in globals {
        expression(global.init)?;
    }
    for segment in elements {
        let items = tables.get::<ElemItem>(segment.items, "element segment")?;
        if !items.iter().all(|item| op_is_good(item.op, item.index)) {
            return Err(LoadError::Descriptor("element segment"));
        }
        if segment.mode == segment_mode::ACTIVE {
            expression(segment.offset)?;
            if segment.table as usize >= all_tables {
                return Err(LoadError::Descriptor("element segment"));
            }
        }
    }
    for segment in data {
        tables.get::<u8>(segment.bytes, "data segment")?;
        if segment.mode == segment_mode::ACTIVE {
            expression(segment.offset)?;
            if segment.memory as usize >= limit(u32::from(extern_kind::MEMORY)) {
                return Err(LoadError::Descriptor("data segment"));
            }
        }
    }
    Ok(())
}
