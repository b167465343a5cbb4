//! Instances: context, tables, globals and segments of one slot; instantiation and reset.
//!
//! Isolation rests on this file: what a reset leaves behind, the next invocation can read.
//!
//! A slot is the context, see `awsm_abi`, with the first linear memory right above it, see
//! `linear`.

pub(crate) mod builtins;
mod charge;

use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use awsm_abi::context::{
    CONTEXT_GUARD_BYTES, Exception, FuncRef, GlobalCell, HEADER_BELOW, Header, Memory, Table, below,
};
use awsm_abi::desc::{
    ConstOp, ElemItem, const_op, extern_flag, extern_kind, segment_mode, val_type,
};
use awsm_abi::tail;
use awsm_abi::trap::TrapKind;

use crate::error::StartError;
use crate::limits::Cleaning;
use crate::limits::{Limits, PoolConfig, RESET_BYTES, TRACE_NAME_CHARS};
use crate::module::Module;
use crate::module::constant;
use crate::own::Own;
use crate::slot::budget::{Account, Claim, MemoryBudget};
use crate::slot::exceptions::Exceptions;
use crate::slot::image::Image;
use crate::slot::linear::{Linear, Size};
use crate::slot::mapping::PAGE_BYTES;
use crate::slot::planted::{self, Planted};
use crate::slot::residency::Faults;
use crate::slot::table::{self, TableStore};
use crate::stop::Trap;
use crate::switch::current;
use crate::switch::entry::{Entry, Thunk};
use crate::switch::reach::Reach;
use crate::value::{DataIdx, ElemIdx, FuncIdx, GlobalIdx, MemoryIdx, TableIdx, TagIdx};
use builtins::BUILTINS;
use charge::{bytes_at_start, extent, size_within, stack_bytes};

/// The runtime's record of an instance. Reached from compiled code through
/// [`Header::instance`], so it never moves.
pub(crate) struct Instance {
    module: Arc<Module>,
    /// The context pointer.
    ctx: *mut u8,
    /// The slot: the context, and the first own memory if there is one.
    first: Linear,
    /// Own memories after the first.
    more: Box<[Linear]>,
    /// What its memories and tables take, and may take.
    account: Own<Account>,
    keep_resident_pages: usize,
    tables: Box<[Own<TableStore>]>,
    /// Own globals as they are before the first instruction.
    globals_at_start: Box<[GlobalCell]>,
    /// How many of them the reset that goes on has written.
    globals_reset: usize,
    /// Which segments `data.drop` and `elem.drop` have emptied, and whether any has been.
    dropped_data: Box<[bool]>,
    dropped_elements: Box<[bool]>,
    any_dropped: bool,
    /// The `T` of the host functions, while an invocation runs.
    data: *mut (),
    /// Exceptions of this instance alone, if its module has any.
    exceptions: Option<Own<Exceptions>>,
    /// May others refer to what is in it?
    linked: bool,
    /// The context as it was before the first instruction, where it is to be compared.
    pub(crate) context_at_start: Box<[u8]>,
    /// Of addresses and mappings. Given back after they are.
    _claim: Claim,
}

/// The target of an import.
#[derive(Clone, Copy, Debug)]
pub enum Binding {
    /// Code and the context it wants; a null context stands for the importing instance's own.
    Func {
        /// Its code.
        code: *const (),
        /// Its instance's context.
        ctx: *mut u8,
        /// Code for calls in tail position, or null.
        tail: *const (),
    },
    /// A table.
    Table(*mut Table),
    /// A memory.
    Memory(*mut Memory),
    /// A global.
    Global(*mut GlobalCell),
    /// The place that stands for an exception tag.
    Tag(*const u64),
}

impl Instance {
    /// An instance of `module` with its imports bound in order, its memory, tables and globals as
    /// the module describes them; its start function has not run.
    ///
    /// # Safety
    /// Each binding is of the kind and type that the import names, and outlives the instance.
    pub(crate) unsafe fn new(
        module: &Arc<Module>,
        bindings: &[Binding],
        limits: &Limits,
        config: &PoolConfig,
        budget: Option<&Arc<MemoryBudget>>,
    ) -> Result<Own<Self>, StartError> {
        // SAFETY: the caller's duty.
        let mut instance =
            unsafe { Self::make(module, bindings, limits, config.cleaning, budget, None)? };
        let images = module.images();
        for (memory, image) in instance.memories_mut().zip(images.unwrap_or_default()) {
            // SAFETY: the module's own, in the order of its memories; no guest has run.
            unsafe { memory.fill(image)? };
        }
        let applied = instance.apply_elements().and_then(|()| match images {
            Some(_) => {
                instance.drop_active_data();
                Ok(())
            }
            None => instance.apply_data(),
        });
        applied.map_err(|kind| StartError::Trap(kind.into()))?;
        instance.tables.iter_mut().for_each(|table| table.keep());
        if config.compare {
            instance.context_at_start = instance.context_bytes().into();
        }
        Ok(instance)
    }

    /// As [`Self::new`], for an instance that shares things with others. It exists, and may be
    /// referred to from tables that it shares, even if applying its segments faults.
    ///
    /// # Safety
    /// As for [`Self::new`]; `group`, the exceptions of all that share things with it, outlives the
    /// instance.
    pub(crate) unsafe fn new_in_group(
        module: &Arc<Module>,
        bindings: &[Binding],
        limits: &Limits,
        budget: Option<&Arc<MemoryBudget>>,
        group: Option<*mut Exceptions>,
    ) -> Result<(Own<Self>, Result<(), TrapKind>), StartError> {
        // SAFETY: the caller's duty.
        let mut instance = unsafe {
            let cleaning = Cleaning::Discarded;
            Self::make(module, bindings, limits, cleaning, budget, group)?
        };
        let applied = instance.apply_elements().and_then(|()| instance.apply_data());
        Ok((instance, applied))
    }

    /// An instance whose memories are zero and whose tables hold their first value.
    ///
    /// # Safety
    /// As for [`Self::new_in_group`].
    unsafe fn make(
        module: &Arc<Module>,
        bindings: &[Binding],
        limits: &Limits,
        cleaning: Cleaning,
        budget: Option<&Arc<MemoryBudget>>,
        group: Option<*mut Exceptions>,
    ) -> Result<Own<Self>, StartError> {
        let bytes = bytes_at_start(module, limits)?;
        let payer = limits.account;
        let stack = stack_bytes(limits);
        let most = limits.memory_bytes.saturating_add(stack);
        let account = Own::new(Account::open(bytes + stack, most, payer, budget)?);
        let claim = Claim::open(extent(module, limits), payer, budget)?;
        let (first, more) = make_memories(module, limits, cleaning)?;
        let tables =
            module.tables().iter().map(|table| Own::new(TableStore::new(table.ty.min))).collect();
        let mut instance = Own::new(Self {
            module: Arc::clone(module),
            ctx: first.base(),
            first,
            more,
            account,
            keep_resident_pages: limits.keep_resident_bytes / PAGE_BYTES,
            tables,
            globals_at_start: Box::default(),
            globals_reset: 0,
            dropped_data: vec![false; module.data().len()].into(),
            dropped_elements: vec![false; module.elements().len()].into(),
            any_dropped: false,
            data: ptr::null_mut(),
            exceptions: None,
            linked: group.is_some(),
            context_at_start: Box::default(),
            _claim: claim,
        });
        let exceptions = match group {
            _ if !module.has_exceptions() => ptr::null_mut(),
            Some(shared) => shared,
            None => instance.exceptions.insert(Own::new(Exceptions::new())).as_ptr(),
        };
        // SAFETY: the caller vouches for the bindings; the context was just mapped.
        unsafe {
            let this = instance.as_ptr();
            instance.write_context(this, bindings, limits, exceptions);
        }
        instance.fill_tables();
        Ok(instance)
    }

    /// A place `distance` bytes below the context pointer, inside the context.
    fn place<T>(&self, distance: u32) -> *mut T {
        assert!(distance <= self.module.layout().bytes, "a place in the context");
        self.ctx.wrapping_sub(distance as usize).cast()
    }

    /// Bytes of the context.
    pub(crate) fn context_bytes(&self) -> &[u8] {
        let bytes = self.module.layout().bytes - CONTEXT_GUARD_BYTES;
        // SAFETY: the context is mapped, and no guest runs in this instance meanwhile.
        unsafe {
            std::slice::from_raw_parts(self.place(self.module.layout().bytes), bytes as usize)
        }
    }

    /// The context pointer.
    #[cfg(test)]
    pub(crate) fn context(&self) -> *mut u8 {
        self.ctx
    }

    fn header(&self) -> *mut Header {
        self.place(HEADER_BELOW)
    }

    /// Writes the context.
    ///
    /// # Safety
    /// As for [`Instance::new`].
    unsafe fn write_context(
        &mut self,
        this: *mut Self,
        bindings: &[Binding],
        limits: &Limits,
        exceptions: *mut Exceptions,
    ) {
        let module = Arc::clone(&self.module);
        let layout = module.layout();
        let this = this.cast::<()>();
        // SAFETY: all places lie in the context, which is mapped, zeroed, written by nobody else
        // now, and laid out for the counts that the loader compared with the tables.
        unsafe {
            self.header().write(Header {
                memory: Memory {
                    base: ptr::null_mut(),
                    bytes: 0,
                    max_bytes: 0,
                    owner: ptr::null_mut(),
                },
                stack_limit: usize::MAX,
                instance: this,
                builtins: &raw const BUILTINS.0,
                exceptions: exceptions.cast(),
            });
            if !module.memories().is_empty() {
                self.first.write_record(self.place(below::MEMORY), this);
            }
            for index in 0..self.more.len() {
                let record = self.place(layout.memory(index as u32 + 1));
                self.more[index].write_record(record, this);
            }
            let type_ids = self.place::<u32>(layout.type_ids);
            for (index, id) in module.type_ids().iter().enumerate() {
                type_ids.add(index).write(*id);
            }
            let account = self.account.as_ptr();
            for index in 0..self.tables.len() {
                let most = module.tables()[index].ty.limit().unwrap_or(u64::from(u32::MAX));
                let place = self.place(layout.table(index as u32));
                let most = most.min(limits.table_elements);
                let owner = self.tables[index].as_ptr();
                self.tables[index].write_record(owner, place, most, account);
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
                tail: module.optional_address(own.tail),
            };
            let place = self.func_ref(module.imported_funcs() + index as u32);
            // SAFETY: a place in the context, as above.
            unsafe { place.write(func_ref) };
        }
        // Later globals may refer to earlier ones and to functions: last, and in order.
        for index in 0..module.globals().len() {
            let value = self.evaluate(module.global_init(index));
            // SAFETY: a place in the context, as above.
            unsafe { self.place::<GlobalCell>(layout.global(index as u32)).write(value) };
        }
        self.globals_at_start = self.own_globals().collect();
    }

    /// Writes the imports.
    ///
    /// # Safety
    /// As for [`Instance::new`].
    unsafe fn bind(&mut self, bindings: &[Binding]) {
        let module = Arc::clone(&self.module);
        let layout = module.layout();
        let mut counts = [0_usize; 5];
        for (import, binding) in module.import_descs().iter().zip(bindings) {
            let kind = import.ty.kind as usize;
            let index = counts[kind];
            counts[kind] += 1;
            // SAFETY: the places lie in the context; the counts were compared with the imports.
            unsafe {
                match *binding {
                    Binding::Func { code, ctx, tail } => {
                        self.func_ref(index as u32).write(FuncRef {
                            code,
                            ctx: if ctx.is_null() { self.ctx } else { ctx },
                            type_id: module.type_ids()[import.ty.ty as usize],
                            reserved: 0,
                            tail,
                        });
                    }
                    Binding::Tag(tag) => {
                        self.place::<*const u64>(layout.imported_tags).add(index).write(tag);
                    }
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

    /// Applies the active element segments, in order.
    fn apply_elements(&mut self) -> Result<(), TrapKind> {
        let module = Arc::clone(&self.module);
        for (index, segment) in module.elements().iter().enumerate() {
            if segment.mode == segment_mode::ACTIVE {
                let wide = self.table_is_wide(segment.table);
                let offset = address(self.evaluate(module.element_offset(index)), wide);
                let len = module.element_items(index).len() as u32;
                self.table_init(TableIdx(segment.table), ElemIdx(index as u32), offset, 0, len)?;
            }
            if segment.mode != segment_mode::PASSIVE {
                self.dropped_elements[index] = true;
            }
        }
        Ok(())
    }

    /// Applies the active data segments, in order.
    fn apply_data(&mut self) -> Result<(), TrapKind> {
        let module = Arc::clone(&self.module);
        for (index, segment) in module.data().iter().enumerate() {
            if segment.mode == segment_mode::ACTIVE {
                let wide = self.memory_is_wide(segment.memory);
                let offset = address(self.evaluate(module.data_offset(index)), wide);
                let len = module.data_bytes(index).len() as u32;
                self.memory_init(MemoryIdx(segment.memory), DataIdx(index as u32), offset, 0, len)?;
                self.dropped_data[index] = true;
            }
        }
        Ok(())
    }

    /// Drops the active data segments: they were applied.
    fn drop_active_data(&mut self) {
        let module = Arc::clone(&self.module);
        for (dropped, segment) in self.dropped_data.iter_mut().zip(module.data()) {
            *dropped = segment.mode == segment_mode::ACTIVE;
        }
    }

    /// The value of a constant expression that validation has accepted.
    fn evaluate(&self, ops: &[ConstOp]) -> GlobalCell {
        let [low, high] = constant::evaluate(ops, |op, index| self.constant(op, index));
        GlobalCell((u128::from(low) | u128::from(high) << 64).to_le_bytes())
    }

    /// The value of one of the operators that element segments may use, too.
    fn constant(&self, op: u32, index: u32) -> [u64; 2] {
        match op {
            // SAFETY: the index was checked by the loader, so the cell is a global of this
            // instance.
            const_op::GLOBAL_GET => unsafe {
                let value = u128::from_le_bytes((*self.global(GlobalIdx(index))).0);
                [value as u64, (value >> 64) as u64]
            },
            const_op::REF_FUNC => [self.func_ref(index) as u64, 0],
            _ => [0, 0],
        }
    }

    /// A global by its index, imported or own.
    pub(crate) fn global(&self, index: GlobalIdx) -> *mut GlobalCell {
        let layout = self.module.layout();
        let counts = &self.module.desc().counts;
        match index.0.checked_sub(counts.imported_globals) {
            Some(own) if own >= counts.own_globals => no_such("global"),
            Some(own) => self.place(layout.global(own)),
            // SAFETY: a pointer in the context, written by `bind`.
            None => unsafe {
                self.place::<*mut GlobalCell>(layout.imported_globals).add(index.0 as usize).read()
            },
        }
    }

    fn own_globals(&self) -> impl Iterator<Item = GlobalCell> + '_ {
        let layout = self.module.layout();
        // SAFETY: the cells lie in the context and compiled code is not running.
        (0..self.module.desc().counts.own_globals)
            .map(move |index| unsafe { self.place::<GlobalCell>(layout.global(index)).read() })
    }

    /// The argument cells; nothing is in them but while an argument is on its way.
    fn argument_cells(&self) -> impl Iterator<Item = *mut GlobalCell> + '_ {
        (0..self.module.desc().counts.argument_cells).map(|cell| self.place(tail::cell_below(cell)))
    }

    /// A table by its index, imported or own.
    pub(crate) fn table(&self, index: TableIdx) -> *mut Table {
        let layout = self.module.layout();
        let counts = &self.module.desc().counts;
        match index.0.checked_sub(counts.imported_tables) {
            Some(own) if own >= counts.own_tables => no_such("table"),
            Some(own) => self.place(layout.table(own)),
            // SAFETY: a pointer in the context, written by `bind`.
            None => unsafe {
                self.place::<*mut Table>(layout.imported_tables).add(index.0 as usize).read()
            },
        }
    }

    /// A memory by its index, imported or own; null when there is none.
    #[inline]
    pub(crate) fn memory(&self, index: MemoryIdx) -> *mut Memory {
        let layout = self.module.layout();
        let counts = &self.module.desc().counts;
        match index.0.checked_sub(counts.imported_memories) {
            // SAFETY: a pointer in the context, written by `bind`.
            None => unsafe {
                self.place::<*mut Memory>(layout.imported_memories).add(index.0 as usize).read()
            },
            Some(own) if own >= counts.own_memories => ptr::null_mut(),
            Some(own) => self.place(layout.memory(own)),
        }
    }

    /// The place that stands for a tag, imported or own.
    pub(crate) fn tag(&self, index: TagIdx) -> *const u64 {
        let layout = self.module.layout();
        let counts = &self.module.desc().counts;
        match index.0.checked_sub(counts.imported_tags) {
            Some(own) if own >= counts.own_tags => no_such("tag"),
            Some(own) => self.place(layout.tag(own)),
            // SAFETY: a pointer in the context, written by `bind`.
            None => unsafe {
                self.place::<*const u64>(layout.imported_tags).add(index.0 as usize).read()
            },
        }
    }

    fn table_is_wide(&self, index: u32) -> bool {
        let imported = self.module.imported(extern_kind::TABLE);
        let own = self.module.tables().iter().map(|table| &table.ty);
        imported.chain(own).nth(index as usize).is_some_and(|ty| ty.has(extern_flag::WIDE))
    }

    fn memory_is_wide(&self, index: u32) -> bool {
        let all = self.module.imported(extern_kind::MEMORY).chain(self.module.memories());
        all.into_iter().nth(index as usize).is_some_and(|ty| ty.has(extern_flag::WIDE))
    }

    /// Gives the elements of own tables their first value.
    fn fill_tables(&mut self) {
        let module = Arc::clone(&self.module);
        for index in 0..module.tables().len() {
            let init = module.table_init(index);
            if !init.is_empty() {
                let value = address(self.evaluate(init), true) as usize;
                self.tables[index].fill(value);
            }
        }
    }

    /// Makes room for an exception with so many values, if need be, by giving back those that
    /// nothing refers to: a piece of that at a time. Says whether it is done.
    ///
    /// # Safety
    /// The running guest waits for all of it, and all that it holds lies on its stack from `held`
    /// on.
    pub(crate) unsafe fn make_room_for_exception(
        &mut self,
        values: usize,
        held: *const usize,
    ) -> bool {
        // What other instances of a group refer to is not known here.
        if self.linked {
            return true;
        }
        // SAFETY: the header lies in the context; modules that throw have a record of exceptions,
        // of this instance or its group.
        let exceptions = unsafe { &mut *(*self.header()).exceptions.cast::<Exceptions>() };
        if !exceptions.is_searching() {
            if !exceptions.is_full(values, &mut self.account) {
                return true;
            }
            let stack = current::current_stack().expect("a guest throws");
            assert!(stack.contains(&(held as usize)), "the guest's stack is the one this runs on");
            let held = std::iter::once(held as usize..stack.end);
            exceptions.begin_search(held.chain(self.exception_roots()));
        }
        // SAFETY: the guest's part of its stack, and what only compiled code writes to; the guest
        // waits.
        unsafe { exceptions.search_some() }
    }

    /// An exception of this instance; null if there are as many as there may be.
    pub(crate) fn new_exception(&mut self, tag: *const u64, values: usize) -> *mut Exception {
        // SAFETY: as above.
        let exceptions = unsafe { &mut *(*self.header()).exceptions.cast::<Exceptions>() };
        // Nor is it known who of a group would pay.
        let account = (!self.linked).then_some(&mut *self.account);
        exceptions.make(tag, values, account)
    }

    /// Where references to exceptions may be outside of the stack: in all globals, in the argument
    /// cells, and in what has been written of tables of such references.
    fn exception_roots(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let (layout, counts) = (self.module.layout(), &self.module.desc().counts);
        let cells = |first: u32, count: u32| {
            // The first is the highest.
            let end = self.ctx as usize - first as usize + size_of::<GlobalCell>();
            end - count as usize * size_of::<GlobalCell>()..end
        };
        let globals = cells(layout.global(0), counts.own_globals);
        let arguments = cells(tail::cell_below(0), counts.argument_cells);
        let tables = self.module.tables().iter().zip(&self.tables);
        let tables = tables.filter(|(desc, _)| val_type::kind(desc.ty.ty) == val_type::EXNREF);
        [globals, arguments].into_iter().chain(tables.flat_map(|(_, store)| store.changed()))
    }

    /// The place of `func_refs[index]`.
    pub(crate) fn func_ref(&self, index: u32) -> *mut FuncRef {
        if index >= self.module.desc().counts.func_refs {
            no_such("function reference");
        }
        self.place(self.module.layout().func_ref(index))
    }

    /// The entry point of a function.
    pub(crate) fn entry(&self, func: FuncIdx) -> Entry {
        let ty = &self.module.types()[self.module.func_type_index(func) as usize];
        let (code, ctx, tail) = match func.0.checked_sub(self.module.imported_funcs()) {
            Some(own) => {
                let own = &self.module.functions()[own as usize];
                (self.module.address(own.code), self.ctx, self.module.optional_address(own.tail))
            }
            // SAFETY: the reference of an imported function, written by `bind`.
            None => unsafe {
                let import = self.func_ref(func.0).read();
                (import.code, import.ctx, import.tail)
            },
        };
        // SAFETY: the loader has checked that the type has an entry thunk inside the text; the
        // contract says what it is.
        let thunk =
            unsafe { std::mem::transmute::<*const (), Thunk>(self.module.address(ty.entry)) };
        Entry { thunk, code, ctx, tail }
    }

    pub(crate) fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// The `T` of the host functions.
    #[inline]
    pub(crate) fn host_data(&self) -> *mut () {
        self.data
    }

    /// An invocation begins, with this as the `T` of the host functions.
    ///
    /// # Safety
    /// It is of the type that all host functions that this instance imports were made for. It
    /// lives, and nothing else refers to it, while guests run in this instance.
    #[inline]
    pub(crate) unsafe fn set_host_data(&mut self, data: *mut ()) {
        self.data = data;
    }

    /// Tells compiled code how deep the stack is that it will run on.
    #[inline]
    pub(crate) fn set_stack_limit(&mut self, limit: usize) {
        // SAFETY: the header lies in the context, and compiled code of this instance is not
        // running.
        unsafe { (*self.header()).stack_limit = limit };
    }

    fn memories_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        std::iter::once(&mut self.first).chain(&mut self.more)
    }

    /// Own memories and what they hold at the start, which cannot be made anew if it depends on
    /// other instances.
    fn memories_with_images(&mut self) -> io::Result<impl Iterator<Item = (&mut Linear, &Image)>> {
        let Self { module, first, more, .. } = self;
        let images = module.images().ok_or(io::ErrorKind::Unsupported)?;
        Ok(std::iter::once(first).chain(more).zip(images))
    }

    /// Own tables.
    pub(crate) fn tables(&self) -> &[Own<TableStore>] {
        &self.tables
    }

    /// What of the runtime's own record is not as it was before the first instruction, if anything
    /// is not.
    pub(crate) fn unsettled(&self) -> Option<&'static str> {
        let data = self.dropped_data.iter().zip(self.module.data());
        let elements = self.dropped_elements.iter().zip(self.module.elements());
        let is_pending = self.exceptions.as_ref().is_some_and(|exceptions| !exceptions.is_empty());
        let wrong = [
            (self.memories().any(|memory| !memory.is_at_start()), "size of memory"),
            (!self.account.is_at_start(), "account"),
            (!self.data.is_null(), "data"),
            (is_pending, "exceptions"),
            (
                data.into_iter()
                    .any(|(dropped, segment)| *dropped != (segment.mode == segment_mode::ACTIVE)),
                "data segment",
            ),
            (
                elements
                    .into_iter()
                    .any(|(dropped, segment)| *dropped != (segment.mode != segment_mode::PASSIVE)),
                "element segment",
            ),
        ];
        wrong.into_iter().find_map(|(wrong, what)| wrong.then_some(what))
    }

    /// Own memories.
    pub(crate) fn memories(&self) -> impl Iterator<Item = &Linear> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The reach of its guests.
    pub(crate) fn reach(&self) -> Reach {
        let mut reach = Reach::default();
        self.add_to(&mut reach);
        reach
    }

    /// Adds the reach of its guests.
    pub(crate) fn add_to(&self, reach: &mut Reach) {
        reach.add(&self.module, self.memories().map(Linear::reach));
    }

    /// Tells what the invocation that begins has to be compared with when it has ended.
    #[inline]
    pub(crate) fn begin(&mut self, faults: Faults) {
        self.memories_mut().for_each(|memory| memory.begin(faults));
    }

    /// The trap for a fault that the hardware caught.
    pub(crate) fn describe_fault(
        &self,
        kind: TrapKind,
        address: usize,
        pc: usize,
        running: &[FuncIdx],
    ) -> Trap {
        let ranges = self.memories().map(Linear::range);
        let inside = ranges.into_iter().find(|range| range.contains(&address));
        let inside = inside.filter(|_| kind == TrapKind::MemoryOutOfBounds);
        let name = |func: &FuncIdx| {
            let mut name = match self.module.func_name(*func) {
                Some(name) => name.chars().take(TRACE_NAME_CHARS).collect(),
                None => format!("function {}", func.0),
            };
            if let Some(inlined) = self.module.inlined(*func) {
                name.push_str(" (or inlined there: ");
                name.extend(inlined.chars().take(TRACE_NAME_CHARS));
                name.push(')');
            }
            name
        };
        let mut running: Vec<String> = running.iter().map(name).collect();
        if running.is_empty() {
            running.extend(self.module.func_at(pc).as_ref().map(name));
        }
        let offset = inside.map(|range| (address - range.start) as u64);
        Trap { kind, address: offset, running }
    }

    /// Pages of own linear memories that are the instance's own. In a slot that was new when the
    /// invocation began, these are the images' short runs and those that the invocation has
    /// written.
    pub(crate) fn own_pages(&self) -> usize {
        self.memories().map(Linear::own_pages).sum()
    }

    /// `memory.grow` of an own memory: the old size in pages, or `None`. What the instance may have
    /// in all is a limit, too.
    pub(crate) fn grow_memory(&mut self, memory: *const Memory, delta_pages: u64) -> Option<u64> {
        let mut own = std::iter::once(&mut self.first).chain(&mut self.more);
        let grown = own.find(|own| own.is(memory));
        grown.expect("a memory of this instance").grow(delta_pages, &mut self.account)
    }

    /// Whether `memory.init` traps. Source: core specification, section 4.4.7.
    pub(crate) fn memory_init_fits(
        &self,
        memory: MemoryIdx,
        segment: DataIdx,
        dst: u64,
        src: u32,
        len: u32,
    ) -> Result<(), TrapKind> {
        let source = sub_slice(self.data(segment), src, len).map(|_| ());
        // SAFETY: null, or the record of this or a linked instance's memory.
        let bytes = unsafe { self.memory(memory).as_ref() }
            .map_or_else(|| no_such("memory"), |memory| memory.bytes);
        let target = dst.checked_add(u64::from(len)).filter(|end| *end <= bytes);
        source.and(target).map(|_| ()).ok_or(TrapKind::MemoryOutOfBounds)
    }

    /// `memory.init`, and active data segments.
    pub(crate) fn memory_init(
        &mut self,
        memory: MemoryIdx,
        segment: DataIdx,
        dst: u64,
        src: u32,
        len: u32,
    ) -> Result<(), TrapKind> {
        self.memory_init_fits(memory, segment, dst, src, len)?;
        let source = &self.data(segment)[src as usize..][..len as usize];
        // SAFETY: the range lies in the memory, see `memory_init_fits`; segments lie elsewhere.
        unsafe {
            let target = (*self.memory(memory)).base.add(dst as usize);
            ptr::copy_nonoverlapping(source.as_ptr(), target, source.len());
        }
        Ok(())
    }

    /// Bytes of a data segment, none once it was dropped.
    fn data(&self, segment: DataIdx) -> &[u8] {
        match self.dropped_data[segment.0 as usize] {
            true => &[],
            false => self.module.data_bytes(segment.0 as usize),
        }
    }

    /// Items of an element segment, none once it was dropped.
    fn items(&self, segment: ElemIdx) -> &[ElemItem] {
        match self.dropped_elements[segment.0 as usize] {
            true => &[],
            false => self.module.element_items(segment.0 as usize),
        }
    }

    /// `data.drop`.
    pub(crate) fn data_drop(&mut self, segment: DataIdx) {
        self.dropped_data[segment.0 as usize] = true;
        self.any_dropped = true;
    }

    /// `elem.drop`.
    pub(crate) fn elem_drop(&mut self, segment: ElemIdx) {
        self.dropped_elements[segment.0 as usize] = true;
        self.any_dropped = true;
    }

    /// Whether `table.init` traps. Source: core specification, section 4.4.6.
    pub(crate) fn table_init_fits(
        &self,
        table: TableIdx,
        segment: ElemIdx,
        dst: u64,
        src: u32,
        len: u32,
    ) -> Result<(), TrapKind> {
        let source = sub_slice(self.items(segment), src, len).map(|_| ());
        // SAFETY: a table of this instance or of a linked one, see `table`.
        let elements = unsafe { (*self.table(table)).len };
        let target = dst.checked_add(u64::from(len)).filter(|end| *end <= elements);
        source.and(target).map(|_| ()).ok_or(TrapKind::TableOutOfBounds)
    }

    /// `table.init`, and active element segments.
    pub(crate) fn table_init(
        &mut self,
        table: TableIdx,
        segment: ElemIdx,
        dst: u64,
        src: u32,
        len: u32,
    ) -> Result<(), TrapKind> {
        self.table_init_fits(table, segment, dst, src, len)?;
        let items = &self.items(segment)[src as usize..][..len as usize];
        // SAFETY: as above.
        let places = unsafe { table::part_mut(self.table(table), dst, len.into()) };
        for (place, item) in places.ok_or(TrapKind::TableOutOfBounds)?.iter_mut().zip(items) {
            *place = self.constant(item.op, item.index)[0] as usize;
        }
        Ok(())
    }

    /// Begins to make the instance what it was before its first instruction, see
    /// [`Self::reset_some`]; `faults` was counted after its last one. Answers how many pages of its
    /// memories had contents, see [`Linear::begin_reset`].
    ///
    /// # Safety
    /// No guest runs in it, and none that has begun will go on.
    pub(crate) unsafe fn begin_reset(&mut self, faults: Faults) -> io::Result<u64> {
        let keep_resident_pages = self.keep_resident_pages;
        let mut touched = 0;
        for (memory, image) in self.memories_with_images()? {
            // SAFETY: the module's own, in the order of its memories; the rest is the caller's
            // duty.
            touched += unsafe { memory.begin_reset(image, faults, keep_resident_pages) };
        }
        self.globals_reset = 0;
        Ok(touched)
    }

    /// Goes on with a reset that has begun, for about the time that it takes to copy
    /// [`RESET_BYTES`]: what a guest has used may take milliseconds, and others wait. Says whether
    /// all of it is done.
    ///
    /// # Safety
    /// As for [`Self::begin_reset`].
    pub(crate) unsafe fn reset_some(&mut self) -> io::Result<bool> {
        let mut left = RESET_BYTES;
        for (memory, image) in self.memories_with_images()? {
            // SAFETY: as in `begin_reset`.
            if unsafe { !memory.reset_some(image, &mut left)? } {
                return Ok(false);
            }
        }
        if !self.reset_globals(&mut left) {
            return Ok(false);
        }
        for index in 0..self.tables.len() {
            let place = self.place(self.module.layout().table(index as u32));
            // SAFETY: the table lies in the context and no guest runs in this instance.
            if unsafe { !self.tables[index].reset_some(place, &mut left) } {
                return Ok(false);
            }
        }
        if let Some(exceptions) = &mut self.exceptions
            && !exceptions.reset_some(&mut left)
        {
            return Ok(false);
        }
        for cell in self.argument_cells() {
            // SAFETY: the cells lie in the context and no guest runs in this instance.
            unsafe { cell.write(GlobalCell([0; 16])) };
        }
        self.account.reset();
        if self.any_dropped && !planted::has(Planted::Segment) {
            self.drop_active_data();
            let segments = self.module.elements();
            for (dropped, segment) in self.dropped_elements.iter_mut().zip(segments) {
                *dropped = segment.mode != segment_mode::PASSIVE;
            }
            self.any_dropped = false;
        }
        self.data = ptr::null_mut();
        Ok(true)
    }

    fn reset_globals(&mut self, left: &mut usize) -> bool {
        let layout = self.module.layout();
        let forgotten = usize::from(planted::has(Planted::Global));
        let count = self.globals_at_start.len().saturating_sub(forgotten);
        let first = self.globals_reset.min(count);
        let end = count.min(first + left.div_ceil(size_of::<GlobalCell>()));
        for (index, value) in (first..end).zip(&self.globals_at_start[first..end]) {
            // SAFETY: the cells lie in the context and no guest runs in this instance.
            unsafe { self.place::<GlobalCell>(layout.global(index as u32)).write(*value) };
        }
        self.globals_reset = end;
        *left = left.saturating_sub((end - first) * size_of::<GlobalCell>());
        end == count
    }
}

/// The slot with the first memory, and the others.
fn make_memories(
    module: &Module,
    limits: &Limits,
    cleaning: Cleaning,
) -> Result<(Linear, Box<[Linear]>), StartError> {
    let sizes: Vec<_> = module.memories().iter().map(Size::declared).collect();
    let make = |index: usize, origin: usize| {
        let size = size_within(sizes[index], limits);
        let memory =
            Linear::new(origin, &module.memories()[index], size, module.isolation(), cleaning)?;
        io::Result::Ok(memory.with_huge_pages(limits.huge_pages))
    };
    let context_bytes = module.layout().bytes as usize;
    if sizes.is_empty() {
        return Ok((Linear::none(context_bytes)?, Box::default()));
    }
    let more = (1..sizes.len()).map(|index| make(index, 0)).collect::<io::Result<_>>()?;
    Ok((make(0, context_bytes)?, more))
}

/// Validation has let through an index that means nothing, or compiled code has made one up:
/// nothing that it does can be believed.
#[cold]
fn no_such(what: &str) -> ! {
    panic!("compiled code or a descriptor names a {what} that its module does not have")
}

/// `slice[start..start + len]`, if that lies inside.
fn sub_slice<T>(slice: &[T], start: u32, len: u32) -> Option<&[T]> {
    slice.get(start as usize..)?.get(..len as usize)
}

/// A value as an address of 64 bits, or its low 32.
fn address(value: GlobalCell, wide: bool) -> u64 {
    let low = u128::from_le_bytes(value.0) as u64;
    if wide { low } else { low & 0xffff_ffff }
}
