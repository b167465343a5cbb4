//! One instance of a module: its slot, its tables, how it is made and made ready again.
//!
//! Isolation rests on this file: what `reset` leaves behind, the next invocation can read.
//!
//! ```text
//!   slot.start                      ctx = base of linear memory
//!   | context, see awsm_abi         | memory.bytes: read and write | no access ... | slot end
//! ```
//! In `guard` mode the slot goes on for more than 8 GiB, so that whatever a 32-bit address and a
//! 32-bit offset can reach faults. In `checked` mode it ends soon after the largest size allowed,
//! and all of it is open: the code compares before each access.

use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use awsm_abi::context::{FuncRef, GlobalCell, HEADER_BYTES, Header, Memory, Table};
use awsm_abi::desc::{ConstOp, ElemDesc, ElemItem, RelSlice, const_op, extern_kind, segment_mode};
use awsm_abi::trap::TrapKind;
use awsm_abi::{GUARD_RESERVE_BYTES, Isolation, WASM_PAGE_BYTES};

use crate::builtins::BUILTINS;
use crate::embed::Ranges;
use crate::fiber::{Entry, Thunk};
use crate::image::Page;
use crate::limits::Limits;
use crate::mapping::{Access, Mapping, PAGE_BYTES};
use crate::module::{FuncIdx, Module};
use crate::residency::{Faults, Residency};
use crate::trap::Trap;

/// The runtime's record of an instance. Reached from compiled code through
/// [`Header::instance`], so it is boxed and never moves.
pub(crate) struct Core {
    module: Arc<Module>,
    slot: Mapping,
    /// The context pointer.
    ctx: *mut u8,
    /// Bytes of linear memory at the start, and at most.
    initial_bytes: u64,
    max_bytes: u64,
    keep_resident_pages: usize,
    pub(crate) residency: Residency,
    tables: Box<[TableStore]>,
    /// Own globals as they are before the first instruction.
    globals_at_start: Box<[GlobalCell]>,
    /// Which segments `data.drop` and `elem.drop` have emptied, and whether any has been.
    dropped_data: Box<[bool]>,
    dropped_elements: Box<[bool]>,
    any_dropped: bool,
    /// The `T` of the host functions, while an invocation runs.
    pub(crate) data: *mut (),
    /// Memories of all instances that are linked to this one, or null.
    group: *const Ranges,
}

/// The elements of an own table.
pub(crate) struct TableStore {
    elements: Vec<usize>,
    at_start: Box<[usize]>,
    pub(crate) changed: bool,
}

/// Why an instance could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The system gave no memory or no addresses.
    Io(io::Error),
    /// A limit, named, with what the module wants and what it may have.
    Limit(&'static str, u64, u64),
    /// Initialising its tables or memory, or its start function, faulted.
    Trap(Trap),
    /// Every slot of the pool is in use.
    NoSlot(usize),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "no memory for a sandbox: {error}"),
            Self::Limit(what, wanted, allowed) => {
                write!(f, "{what} of {wanted} at the start exceeds the limit of {allowed}")
            }
            Self::Trap(trap) => write!(f, "instantiation: {trap}"),
            Self::NoSlot(slots) => write!(f, "all {slots} slots are in use"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What an import is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Binding {
    /// Code and the context it wants; a null context stands for the importing instance's own.
    Func {
        code: *const (),
        ctx: *mut u8,
    },
    Table(*mut Table),
    Memory(*mut Memory),
    Global(*mut GlobalCell),
}

impl Core {
    /// An instance of `module` with its imports bound in order, its memory, tables and globals as the
    /// module describes them; its start function has not run.
    ///
    /// # Safety
    /// Each binding is of the kind and type that the import names, and outlives the instance.
    pub(crate) unsafe fn new(
        module: &Arc<Module>,
        bindings: &[Binding],
        limits: &Limits,
    ) -> Result<Box<Self>, StartError> {
        // SAFETY: the caller's duty.
        let (core, applied) = unsafe { Self::new_in_group(module, bindings, limits, ptr::null())? };
        applied.map_err(|kind| StartError::Trap(kind.into()))?;
        Ok(core)
    }

    /// As [`Self::new`], for an instance that shares things with others. It exists, and may be
    /// referred to from tables that it shares, even if applying its segments faults.
    ///
    /// # Safety
    /// As for [`Self::new`]; `group` is null or outlives the instance.
    pub(crate) unsafe fn new_in_group(
        module: &Arc<Module>,
        bindings: &[Binding],
        limits: &Limits,
        group: *const Ranges,
    ) -> Result<(Box<Self>, Result<(), TrapKind>), StartError> {
        let declared = module.memories().first();
        let pages = |count: u64| count.saturating_mul(WASM_PAGE_BYTES);
        let initial_bytes = declared.map_or(0, |memory| pages(memory.min));
        let declared_max = declared.map_or(0, |memory| match memory.has_max {
            0 => 1 << 32,
            _ => pages(memory.max),
        });
        if initial_bytes > limits.memory_bytes.min(1 << 32) {
            return Err(StartError::Limit("memory", initial_bytes, limits.memory_bytes));
        }
        let max_bytes = declared_max.min(limits.memory_bytes).max(initial_bytes);
        let context_bytes = module.layout().bytes as usize;
        let (reserved, open) = match (declared, module.isolation()) {
            (None, _) => (0, 0),
            (Some(_), Isolation::Guard) => (GUARD_RESERVE_BYTES, initial_bytes),
            (Some(_), _) => (max_bytes + WASM_PAGE_BYTES, max_bytes),
        };
        let slot = Mapping::reserve(context_bytes + reserved as usize)?;
        slot.without_huge_pages();
        slot.protect(0, context_bytes + open as usize, Access::ReadWrite)?;
        // SAFETY: the slot has at least `context_bytes` bytes.
        let ctx = unsafe { slot.start().add(context_bytes) };
        let tables = make_tables(module, limits)?;
        let mut core = Box::new(Self {
            module: Arc::clone(module),
            slot,
            ctx,
            initial_bytes,
            max_bytes,
            keep_resident_pages: limits.keep_resident_bytes / PAGE_BYTES,
            residency: Residency::default(),
            tables,
            globals_at_start: Box::default(),
            dropped_data: vec![false; module.data().len()].into(),
            dropped_elements: vec![false; module.elements().len()].into(),
            any_dropped: false,
            data: ptr::null_mut(),
            group,
        });
        // SAFETY: the caller vouches for the bindings; the context was just mapped.
        unsafe { core.write_context(bindings, limits) };
        let applied = core.apply_segments();
        for table in &mut core.tables {
            table.at_start = table.elements.clone().into();
            table.changed = false;
        }
        Ok((core, applied))
    }

    /// A place `distance` bytes below the context pointer, inside the context.
    fn place<T>(&self, distance: u32) -> *mut T {
        assert!(distance <= self.module.layout().bytes, "a place in the context");
        self.ctx.wrapping_sub(distance as usize).cast()
    }

    fn header(&self) -> *mut Header {
        self.place(HEADER_BYTES)
    }

    /// Fills everything below the context pointer.
    ///
    /// # Safety
    /// As for [`Core::new`].
    unsafe fn write_context(&mut self, bindings: &[Binding], limits: &Limits) {
        let module = Arc::clone(&self.module);
        let layout = module.layout();
        let this = ptr::from_mut(self).cast::<()>();
        let base = if module.memories().is_empty() { ptr::null_mut() } else { self.ctx };
        // SAFETY: all places lie in the context, which is mapped, zeroed, written by nobody else now,
        // and laid out for the counts that the loader compared with the tables.
        unsafe {
            self.header().write(Header {
                memory: Memory {
                    base,
                    bytes: self.initial_bytes,
                    max_bytes: self.max_bytes,
                    owner: this,
                },
                stack_limit: usize::MAX,
                instance: this,
                builtins: &raw const BUILTINS.0,
                reserved: 0,
            });
            let type_ids = self.place::<u32>(layout.type_ids);
            for (index, id) in module.type_ids().iter().enumerate() {
                type_ids.add(index).write(*id);
            }
            for (index, store) in self.tables.iter_mut().enumerate() {
                let declared = &module.tables()[index];
                let most = if declared.has_max == 1 { declared.max } else { u64::from(u32::MAX) };
                self.ctx.sub(layout.table(index as u32) as usize).cast::<Table>().write(Table {
                    base: store.elements.as_mut_ptr(),
                    len: store.elements.len() as u64,
                    max_len: most.min(limits.table_elements).max(store.elements.len() as u64),
                    owner: ptr::from_mut(store).cast(),
                });
            }
            self.bind(bindings);
        }
        for (index, func) in module.escaping().iter().enumerate() {
            let own = &module.functions()[(func - module.imported_funcs()) as usize];
            let func_ref = FuncRef {
                code: module.address(own.code),
                ctx: self.ctx,
                type_id: module.type_ids()[own.type_index as usize],
                reserved: 0,
            };
            let place = self.func_ref(module.imported_funcs() + index as u32);
            // SAFETY: a place in the context, as above.
            unsafe { place.write(func_ref) };
        }
        // Later globals may refer to earlier ones and to functions: last, and in order.
        for (index, global) in module.globals().iter().enumerate() {
            let value = self.evaluate(global.init);
            // SAFETY: a place in the context, as above.
            unsafe { self.place::<GlobalCell>(layout.global(index as u32)).write(value) };
        }
        self.globals_at_start = self.own_globals().collect();
    }

    /// Writes the imports.
    ///
    /// # Safety
    /// As for [`Core::new`].
    unsafe fn bind(&mut self, bindings: &[Binding]) {
        let module = Arc::clone(&self.module);
        let layout = module.layout();
        let mut counts = [0_usize; 4];
        for (import, binding) in module.import_descs().iter().zip(bindings) {
            let kind = import.ty.kind as usize;
            let index = counts[kind];
            counts[kind] += 1;
            // SAFETY: the places lie in the context; the counts were compared with the imports.
            unsafe {
                match *binding {
                    Binding::Func { code, ctx } => self.func_ref(index as u32).write(FuncRef {
                        code,
                        ctx: if ctx.is_null() { self.ctx } else { ctx },
                        type_id: module.type_ids()[import.ty.type_index as usize],
                        reserved: 0,
                    }),
                    Binding::Table(table) => {
                        self.place::<*mut Table>(layout.imported_tables).add(index).write(table);
                    }
                    Binding::Memory(memory) => {
                        self.place::<*mut Memory>(layout.imported_memories)
                            .add(index)
                            .write(memory);
                    }
                    Binding::Global(cell) => {
                        self.place::<*mut GlobalCell>(layout.imported_globals)
                            .add(index)
                            .write(cell);
                    }
                }
            }
        }
        assert_eq!(bindings.len(), module.import_descs().len(), "a binding for each import");
    }

    /// Applies the active segments, in order, elements first.
    fn apply_segments(&mut self) -> Result<(), TrapKind> {
        let module = Arc::clone(&self.module);
        for (index, segment) in module.elements().iter().enumerate() {
            if segment.mode == segment_mode::ACTIVE {
                let offset = low_u32(self.evaluate(segment.offset));
                let len = module.slice::<ElemItem>(segment.items).len() as u32;
                self.table_init(segment.table, index as u32, offset, 0, len)?;
            }
            if segment.mode != segment_mode::PASSIVE {
                self.dropped_elements[index] = true;
            }
        }
        for (index, segment) in module.data().iter().enumerate() {
            if segment.mode == segment_mode::ACTIVE {
                let offset = low_u32(self.evaluate(segment.offset));
                let len = module.slice::<u8>(segment.bytes).len() as u32;
                self.memory_init(segment.memory, index as u32, u64::from(offset), 0, len)?;
                self.dropped_data[index] = true;
            }
        }
        Ok(())
    }

    /// The value of a constant expression that validation has accepted.
    fn evaluate(&self, expression: RelSlice) -> GlobalCell {
        let mut stack = Vec::<[u64; 2]>::with_capacity(4);
        for op in self.module.slice::<ConstOp>(expression) {
            let value = match op.op {
                const_op::CONST => op.value,
                const_op::GLOBAL_GET | const_op::REF_NULL | const_op::REF_FUNC => {
                    let [low, high] = self.constant(op.op, op.index);
                    [low, high]
                }
                operator => {
                    let right = stack.pop().unwrap_or_default()[0];
                    let left = stack.pop().unwrap_or_default()[0];
                    [arithmetic(operator, left, right), 0]
                }
            };
            stack.push(value);
        }
        let [low, high] = stack.pop().unwrap_or_default();
        GlobalCell((u128::from(low) | u128::from(high) << 64).to_le_bytes())
    }

    /// The value of one of the operators that element segments may use, too.
    fn constant(&self, op: u32, index: u32) -> [u64; 2] {
        match op {
            // SAFETY: the index was checked by the loader, so the cell is a global of this instance.
            const_op::GLOBAL_GET => unsafe {
                let value = u128::from_le_bytes((*self.global(index)).0);
                [value as u64, (value >> 64) as u64]
            },
            const_op::REF_FUNC => [self.func_ref(index) as u64, 0],
            _ => [0, 0],
        }
    }

    /// A global by its index, imported or own.
    pub(crate) fn global(&self, index: u32) -> *mut GlobalCell {
        let layout = self.module.layout();
        let imported = self.module.desc().counts.imported_globals;
        match index.checked_sub(imported) {
            Some(own) => self.place(layout.global(own)),
            // SAFETY: a pointer in the context, written by `bind`.
            None => unsafe {
                self.place::<*mut GlobalCell>(layout.imported_globals).add(index as usize).read()
            },
        }
    }

    fn own_globals(&self) -> impl Iterator<Item = GlobalCell> + '_ {
        let layout = self.module.layout();
        // SAFETY: the cells lie in the context and compiled code is not running.
        (0..self.module.desc().counts.own_globals)
            .map(move |index| unsafe { self.place::<GlobalCell>(layout.global(index)).read() })
    }

    /// A table by its index, imported or own.
    pub(crate) fn table(&self, index: u32) -> *mut Table {
        let layout = self.module.layout();
        let imported = self.module.desc().counts.imported_tables;
        match index.checked_sub(imported) {
            Some(own) => self.place(layout.table(own)),
            // SAFETY: a pointer in the context, written by `bind`.
            None => unsafe {
                self.place::<*mut Table>(layout.imported_tables).add(index as usize).read()
            },
        }
    }

    /// Memory 0, imported or own; null when the module has none.
    #[inline]
    pub(crate) fn memory(&self) -> *mut Memory {
        let layout = self.module.layout();
        let counts = &self.module.desc().counts;
        if counts.imported_memories > 0 {
            // SAFETY: a pointer in the context, written by `bind`.
            return unsafe { self.place::<*mut Memory>(layout.imported_memories).read() };
        }
        if counts.own_memories == 0 {
            return ptr::null_mut();
        }
        // SAFETY: the header lies in the context.
        unsafe { &raw mut (*self.header()).memory }
    }

    /// The place of `func_refs[index]`.
    pub(crate) fn func_ref(&self, index: u32) -> *mut FuncRef {
        self.place(self.module.layout().func_ref(index))
    }

    /// How to enter a function.
    pub(crate) fn entry(&self, func: FuncIdx) -> Entry {
        let ty = &self.module.types()[self.module.func_type_index(func) as usize];
        let (code, ctx) = match func.0.checked_sub(self.module.imported_funcs()) {
            Some(own) => {
                (self.module.address(self.module.functions()[own as usize].code), self.ctx)
            }
            // SAFETY: the reference of an imported function, written by `bind`.
            None => unsafe {
                let import = self.func_ref(func.0).read();
                (import.code, import.ctx)
            },
        };
        // SAFETY: the loader has checked that the type has an entry thunk inside the text; the
        // contract says what it is.
        let thunk =
            unsafe { std::mem::transmute::<*const (), Thunk>(self.module.address(ty.entry)) };
        Entry { thunk, code, ctx }
    }

    pub(crate) fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// Tells compiled code how deep the stack is that it will run on.
    #[inline]
    pub(crate) fn set_stack_limit(&mut self, limit: usize) {
        // SAFETY: the header lies in the context, and compiled code of this instance is not running.
        unsafe { (*self.header()).stack_limit = limit };
    }

    /// Addresses of linear memory and its guard.
    fn memory_range(&self) -> Range<usize> {
        self.ctx as usize..self.slot.start() as usize + self.slot.bytes()
    }

    /// A fault that the hardware caught, in the guest's own terms.
    pub(crate) fn describe_fault(&self, kind: TrapKind, address: usize, pc: usize) -> Trap {
        let inside = kind == TrapKind::MemoryOutOfBounds && self.memory_range().contains(&address);
        let name = self.module.func_at(pc).map(|func| match self.module.func_name(func) {
            Some(name) => name.to_owned(),
            None => format!("function {}", func.0),
        });
        Trap { kind, address: inside.then(|| (address - self.ctx as usize) as u64), function: name }
    }

    /// Pages of own linear memory that have contents. In a slot that was new when the invocation began,
    /// these are the image's and those that the invocation has touched.
    pub(crate) fn pages_with_contents(&self) -> usize {
        let mut pages = 0;
        if !self.module.memories().is_empty() {
            let origin = self.module.layout().bytes as usize;
            self.slot.pages_with_contents(origin, self.bytes() as usize, |_| pages += 1);
        }
        pages
    }

    /// Bytes of own linear memory now.
    fn bytes(&self) -> u64 {
        // SAFETY: the header lies in the context.
        unsafe { (*self.header()).memory.bytes }
    }

    /// `memory.grow` of own memory: the old size in pages, or `None`.
    /// Source: core specification, section 4.4.7.
    pub(crate) fn grow_memory(&mut self, delta_pages: u64) -> Option<u64> {
        let old = self.bytes();
        let new = delta_pages.checked_mul(WASM_PAGE_BYTES)?.checked_add(old)?;
        if new > self.max_bytes {
            return None;
        }
        if self.module.isolation() == Isolation::Guard {
            let end = self.module.layout().bytes as usize + old as usize;
            self.slot.protect(end, (new - old) as usize, Access::ReadWrite).ok()?;
        }
        // SAFETY: the header lies in the context; the guest waits for this call.
        unsafe { (*self.header()).memory.bytes = new };
        Some(old / WASM_PAGE_BYTES)
    }

    /// `memory.init`, and active data segments. Source: core specification, section 4.4.7.
    pub(crate) fn memory_init(
        &mut self,
        _memory: u32,
        segment: u32,
        dst: u64,
        src: u32,
        len: u32,
    ) -> Result<(), TrapKind> {
        let module = Arc::clone(&self.module);
        let dropped = self.dropped_data[segment as usize];
        let bytes: &[u8] =
            if dropped { &[] } else { module.slice(module.data()[segment as usize].bytes) };
        let source = sub_slice(bytes, src, len).ok_or(TrapKind::MemoryOutOfBounds)?;
        // SAFETY: validation requires a memory for these; the pointer is to this or a linked
        // instance's record. The range is compared with the current size before it is written.
        unsafe {
            let memory = &*self.memory();
            let end = dst.checked_add(u64::from(len));
            if end.is_none_or(|end| end > memory.bytes) {
                return Err(TrapKind::MemoryOutOfBounds);
            }
            ptr::copy_nonoverlapping(source.as_ptr(), memory.base.add(dst as usize), source.len());
        }
        Ok(())
    }

    /// `data.drop`.
    pub(crate) fn data_drop(&mut self, segment: u32) {
        self.dropped_data[segment as usize] = true;
        self.any_dropped = true;
    }

    /// `elem.drop`.
    pub(crate) fn elem_drop(&mut self, segment: u32) {
        self.dropped_elements[segment as usize] = true;
        self.any_dropped = true;
    }

    /// `table.init`, and active element segments. Source: core specification, section 4.4.6.
    pub(crate) fn table_init(
        &mut self,
        table: u32,
        segment: u32,
        dst: u32,
        src: u32,
        len: u32,
    ) -> Result<(), TrapKind> {
        let module = Arc::clone(&self.module);
        let segment_desc: &ElemDesc = &module.elements()[segment as usize];
        let dropped = self.dropped_elements[segment as usize];
        let items: &[ElemItem] = if dropped { &[] } else { module.slice(segment_desc.items) };
        let items = sub_slice(items, src, len).ok_or(TrapKind::TableOutOfBounds)?;
        // SAFETY: a table of this instance or of a linked one, see `table`.
        let elements = unsafe { table_elements(self.table(table)) };
        let places = elements.get_mut(dst as usize..).and_then(|rest| rest.get_mut(..items.len()));
        for (place, item) in places.ok_or(TrapKind::TableOutOfBounds)?.iter_mut().zip(items) {
            *place = self.constant(item.op, item.index)[0] as usize;
        }
        Ok(())
    }

    /// Makes the instance what it was before its first instruction. Only memory that may have been
    /// written is touched, see [`Residency`]; `faults` was counted after its last instruction.
    pub(crate) fn reset(&mut self, faults: Faults) -> io::Result<()> {
        self.reset_memory(faults)?;
        let layout_globals = self.module.layout();
        for (index, value) in self.globals_at_start.iter().enumerate() {
            // SAFETY: the cells lie in the context and no guest runs in this instance.
            unsafe {
                self.place::<GlobalCell>(layout_globals.global(index as u32)).write(*value);
            }
        }
        if self.tables.iter().any(|table| table.changed) {
            self.reset_tables();
        }
        if self.any_dropped {
            let module = Arc::clone(&self.module);
            for (dropped, segment) in self.dropped_data.iter_mut().zip(module.data()) {
                *dropped = segment.mode == segment_mode::ACTIVE;
            }
            for (dropped, segment) in self.dropped_elements.iter_mut().zip(module.elements()) {
                *dropped = segment.mode != segment_mode::PASSIVE;
            }
            self.any_dropped = false;
        }
        self.data = ptr::null_mut();
        Ok(())
    }

    fn reset_tables(&mut self) {
        for index in 0..self.tables.len() {
            let place = self.place::<Table>(self.module.layout().table(index as u32));
            let store = &mut self.tables[index];
            store.elements.clear();
            store.elements.extend_from_slice(&store.at_start);
            store.changed = false;
            // SAFETY: the table lies in the context and no guest runs in this instance.
            unsafe {
                (*place).base = store.elements.as_mut_ptr();
                (*place).len = store.elements.len() as u64;
            }
        }
    }

    fn reset_memory(&mut self, faults: Faults) -> io::Result<()> {
        if self.module.memories().is_empty() {
            return Ok(());
        }
        let origin = self.module.layout().bytes as usize;
        let (initial, used) = (self.initial_bytes as usize, self.bytes() as usize);
        if used > initial {
            self.slot.discard(origin + initial, used - initial)?;
            if self.module.isolation() == Isolation::Guard {
                self.slot.protect(origin + initial, used - initial, Access::None)?;
            }
            // SAFETY: the header lies in the context.
            unsafe { (*self.header()).memory.bytes = self.initial_bytes };
        }
        let module = Arc::clone(&self.module);
        let image = module.image();
        let memory = self.ctx.cast::<Page>();
        let pages = self.residency.pages(faults, &self.slot, origin, initial);
        let kept = pages.len().min(self.keep_resident_pages);
        for page in &pages[..kept] {
            // SAFETY: the page lies in the open part of the slot, and no guest runs in it.
            unsafe {
                let place = memory.add(*page as usize);
                match image.page(*page) {
                    Some(contents) => ptr::copy_nonoverlapping(contents, place, 1),
                    None => ptr::write_bytes(place, 0, 1),
                }
            }
        }
        if let Some(first) = pages.get(kept).map(|page| *page as usize) {
            self.slot.discard(origin + first * PAGE_BYTES, initial - first * PAGE_BYTES)?;
            for (page, contents) in image.pages().filter(|(page, _)| *page as usize >= first) {
                // SAFETY: image pages lie in the initial memory: the segments were applied to it.
                unsafe { ptr::copy_nonoverlapping(contents, memory.add(page as usize), 1) };
            }
            self.residency.truncate(kept);
        }
        Ok(())
    }
}

/// May a guest that runs in `core` fault at `address`, as an access beyond its memory? Safe in a
/// signal handler.
pub(crate) fn owns_address(core: *const Core, address: usize) -> bool {
    // SAFETY: the running guest's instance is alive, and what is read does not change meanwhile.
    let core = unsafe { &*core };
    // SAFETY: null, or the list of the store that keeps the instance, which grows only between runs.
    let group = unsafe { core.group.as_ref() };
    core.memory_range().contains(&address)
        || group.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&address)))
}

/// Bytes that belong to an instance at most: for `embed`'s group.
pub(crate) fn memory_range_of(core: *const Core) -> Range<usize> {
    // SAFETY: callers pass living instances.
    unsafe { (*core).memory_range() }
}

/// A table's elements.
///
/// # Safety
/// `table` is a living table, and nobody else refers to its elements meanwhile.
pub(crate) unsafe fn table_elements<'a>(table: *mut Table) -> &'a mut [usize] {
    // SAFETY: base and length describe the store's vector.
    unsafe {
        let table = &mut *table;
        (*table.owner.cast::<TableStore>()).changed = true;
        match table.len {
            0 => &mut [],
            len => std::slice::from_raw_parts_mut(table.base, len as usize),
        }
    }
}

/// `table.grow`: the old length, or `None`. Source: core specification, section 4.4.6.
///
/// # Safety
/// As for [`table_elements`].
pub(crate) unsafe fn grow_table(table: *mut Table, value: usize, delta: u32) -> Option<u32> {
    // SAFETY: `owner` is the store of the table, as `write_context` wrote it.
    unsafe {
        let table = &mut *table;
        let store = &mut *table.owner.cast::<TableStore>();
        let old = table.len;
        let new = old.checked_add(u64::from(delta))?;
        if new > table.max_len || store.elements.try_reserve(delta as usize).is_err() {
            return None;
        }
        store.elements.resize(new as usize, value);
        store.changed = true;
        table.base = store.elements.as_mut_ptr();
        table.len = new;
        Some(old as u32)
    }
}

fn make_tables(module: &Module, limits: &Limits) -> Result<Box<[TableStore]>, StartError> {
    let make = |declared: &awsm_abi::desc::ExternType| {
        if declared.min > limits.table_elements {
            return Err(StartError::Limit("table", declared.min, limits.table_elements));
        }
        debug_assert_eq!(declared.kind, extern_kind::TABLE);
        let elements = vec![0; declared.min as usize];
        Ok(TableStore { elements, at_start: Box::default(), changed: false })
    };
    module.tables().iter().map(make).collect()
}

/// `slice[start..start + len]`, if that lies inside.
fn sub_slice<T>(slice: &[T], start: u32, len: u32) -> Option<&[T]> {
    slice.get(start as usize..)?.get(..len as usize)
}

fn low_u32(value: GlobalCell) -> u32 {
    u128::from_le_bytes(value.0) as u32
}

fn arithmetic(operator: u32, left: u64, right: u64) -> u64 {
    let narrow = |value: u64| u64::from(value as u32);
    match operator {
        const_op::I32_ADD => narrow(left.wrapping_add(right)),
        const_op::I32_SUB => narrow(left.wrapping_sub(right)),
        const_op::I32_MUL => narrow(left.wrapping_mul(right)),
        const_op::I64_ADD => left.wrapping_add(right),
        const_op::I64_SUB => left.wrapping_sub(right),
        _ => left.wrapping_mul(right),
    }
}
