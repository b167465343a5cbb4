//! The translation of each instruction: one exhaustive table.
//!
//! `wasmparser` asks for a method for each instruction that it knows, so an instruction without an
//! entry here does not compile. Those of proposals that validation refuses have none: they are
//! named by their proposals at the end. Vectors have a table of their own, `vector::operator`.

use awsm_abi::trap::TrapKind;
use inkwell::FloatPredicate::{OEQ, OGE, OGT, OLE, OLT, UNE};
use inkwell::IntPredicate::{EQ, NE, SGE, SGT, SLE, SLT, UGE, UGT, ULE, ULT};
use wasmparser::{
    BlockType, BrTable, HeapType, Ieee32, Ieee64, MemArg, Ordering, TryTable, ValType,
    VisitOperator, VisitSimdOperator,
};

use super::control::Kind;
use super::function::Func;
use super::numeric::Extreme::{Max, Min};
use super::numeric::Sign::{Signed, Unsigned};
use crate::error::CompileError;
use crate::ir::alias::refused;

/// The methods of a visitor: their names, the instructions' operands, and what is done. `t` are the
/// types.
macro_rules! instructions {
    (|$self:ident, $t:ident| $($($visit:ident),+ ($($params:tt)*) => $body:expr;)*) => {
        $($crate::translate::operator::instruction! {
            $self, $t, [$($visit)+] ($($params)*) => $body
        })*
    };
}
pub(super) use instructions;

/// Instructions that are done alike.
macro_rules! instruction {
    ($self:ident, $t:ident, [] $params:tt => $body:expr) => {};
    (
        $self:ident, $t:ident, [$visit:ident $($others:ident)*] ($($param:ident: $ty:ty),*) =>
        $body:expr
    ) => {
        #[allow(unused_variables, reason = "most need no types")]
        fn $visit(&mut $self, $($param: $ty),*) -> Self::Output {
            let $t = $self.env.types;
            $body
        }
        $crate::translate::operator::instruction! {
            $self, $t, [$($others)*] ($($param: $ty),*) => $body
        }
    };
}
pub(super) use instruction;

/// Instructions of proposals that validation refuses.
macro_rules! refuse {
    ($(
        @$proposal:ident $op:ident $({ $($param:ident: $ty:ty),* })? => $visit:ident ($($ann:tt)*)
    )*) => {
        $(refuse_one! { @$proposal $visit ($($($param: $ty),*)?) })*
    };
}

/// One of them; nothing for a proposal that is implemented.
macro_rules! refuse_one {
    (@mvp $($any:tt)*) => {};
    (@sign_extension $($any:tt)*) => {};
    (@saturating_float_to_int $($any:tt)*) => {};
    (@bulk_memory $($any:tt)*) => {};
    (@reference_types $($any:tt)*) => {};
    (@function_references $($any:tt)*) => {};
    (@tail_call $($any:tt)*) => {};
    (@exceptions $($any:tt)*) => {};
    (@legacy_exceptions $($any:tt)*) => {};
    (@wide_arithmetic $($any:tt)*) => {};
    (@threads $($any:tt)*) => {};
    (@$proposal:ident $visit:ident ($($param:ident: $ty:ty),*)) => {
        fn $visit(&mut self, $(_: $ty),*) -> Self::Output {
            Err(refused(concat!(stringify!($visit), " passed validation, but is not implemented")))
        }
    };
}

impl<'a> VisitOperator<'a> for Func<'_, '_> {
    type Output = Result<(), CompileError>;

    instructions! { |self, t|
        // Locals, globals, operands.
        visit_nop() => Ok(());
        visit_local_get(local_index: u32) => self.local_get(local_index);
        visit_local_set(local_index: u32) => self.local_set(local_index);
        visit_local_tee(local_index: u32) => self.local_tee(local_index);
        visit_global_get(global_index: u32) => self.global_get(global_index);
        visit_global_set(global_index: u32) => self.global_set(global_index);
        visit_drop() => self.drop_operand();
        visit_select() => self.select();
        visit_typed_select(_ty: ValType) => self.select();

        // Validation knows it, and refuses it whatever its types are.
        visit_typed_select_multi(_types: Vec<ValType>) =>
            Err(refused("a choice of several values"));

        // Control.
        visit_block(blockty: BlockType) => self.enter(Kind::Block, blockty);
        visit_loop(blockty: BlockType) => self.enter_loop(blockty);
        visit_if(blockty: BlockType) => self.enter_if(blockty);
        visit_else() => self.turn_to_else();
        visit_end() => self.end();
        visit_br(relative_depth: u32) => self.br(relative_depth);
        visit_br_if(relative_depth: u32) => self.br_if(relative_depth);
        visit_br_table(targets: BrTable<'a>) => self.br_table(&targets);
        visit_return() => self.return_from_function();
        visit_unreachable() => self.trap_always(TrapKind::Unreachable);

        // Linear memory.
        visit_i32_load(memarg: MemArg) => self.load_whole(memarg, t.i32);
        visit_i64_load(memarg: MemArg) => self.load_whole(memarg, t.i64);
        visit_f32_load(memarg: MemArg) => self.load_whole(memarg, t.f32);
        visit_f64_load(memarg: MemArg) => self.load_whole(memarg, t.f64);
        visit_i32_load8_s(memarg: MemArg) => self.load_part(memarg, t.i8, t.i32, Signed);
        visit_i32_load8_u(memarg: MemArg) => self.load_part(memarg, t.i8, t.i32, Unsigned);
        visit_i32_load16_s(memarg: MemArg) => self.load_part(memarg, t.i16, t.i32, Signed);
        visit_i32_load16_u(memarg: MemArg) => self.load_part(memarg, t.i16, t.i32, Unsigned);
        visit_i64_load8_s(memarg: MemArg) => self.load_part(memarg, t.i8, t.i64, Signed);
        visit_i64_load8_u(memarg: MemArg) => self.load_part(memarg, t.i8, t.i64, Unsigned);
        visit_i64_load16_s(memarg: MemArg) => self.load_part(memarg, t.i16, t.i64, Signed);
        visit_i64_load16_u(memarg: MemArg) => self.load_part(memarg, t.i16, t.i64, Unsigned);
        visit_i64_load32_s(memarg: MemArg) => self.load_part(memarg, t.i32, t.i64, Signed);
        visit_i64_load32_u(memarg: MemArg) => self.load_part(memarg, t.i32, t.i64, Unsigned);
        visit_i32_store, visit_i64_store, visit_f32_store, visit_f64_store(memarg: MemArg) =>
            self.store_whole(memarg);
        visit_i32_store8, visit_i64_store8(memarg: MemArg) => self.store_part(memarg, t.i8);
        visit_i32_store16, visit_i64_store16(memarg: MemArg) => self.store_part(memarg, t.i16);
        visit_i64_store32(memarg: MemArg) => self.store_part(memarg, t.i32);
        visit_memory_size(mem: u32) => self.memory_size(mem);
        visit_memory_grow(mem: u32) => self.memory_grow(mem);
        visit_memory_fill(mem: u32) => self.memory_fill(mem);
        visit_memory_copy(dst_mem: u32, src_mem: u32) => self.memory_copy(dst_mem, src_mem);
        visit_memory_init(data_index: u32, mem: u32) => self.memory_init(data_index, mem);
        visit_data_drop(data_index: u32) => self.data_drop(data_index);

        // Atomic instructions.
        visit_atomic_fence(_ordering: Ordering) => Ok(());
        visit_memory_atomic_notify(memarg: MemArg) => self.atomic_notify(memarg);
        visit_memory_atomic_wait32, visit_memory_atomic_wait64(_memarg: MemArg) =>
            self.trap_always(TrapKind::ExpectedSharedMemory);
        visit_i32_atomic_load, visit_i32_atomic_load8_u, visit_i32_atomic_load16_u
            (memarg: MemArg) => self.atomic_load(memarg, t.i32);
        visit_i64_atomic_load, visit_i64_atomic_load8_u, visit_i64_atomic_load16_u,
        visit_i64_atomic_load32_u
            (memarg: MemArg) => self.atomic_load(memarg, t.i64);
        visit_i32_atomic_store, visit_i32_atomic_store8, visit_i32_atomic_store16,
        visit_i64_atomic_store, visit_i64_atomic_store8, visit_i64_atomic_store16,
        visit_i64_atomic_store32
            (memarg: MemArg) => self.atomic_store(memarg);
        visit_i32_atomic_rmw_add, visit_i32_atomic_rmw8_add_u, visit_i32_atomic_rmw16_add_u,
        visit_i64_atomic_rmw_add, visit_i64_atomic_rmw8_add_u, visit_i64_atomic_rmw16_add_u,
        visit_i64_atomic_rmw32_add_u
            (memarg: MemArg) =>
            self.atomic_update(memarg, |f, old, by| Ok(f.b.build_int_add(old, by, "")?));
        visit_i32_atomic_rmw_sub, visit_i32_atomic_rmw8_sub_u, visit_i32_atomic_rmw16_sub_u,
        visit_i64_atomic_rmw_sub, visit_i64_atomic_rmw8_sub_u, visit_i64_atomic_rmw16_sub_u,
        visit_i64_atomic_rmw32_sub_u
            (memarg: MemArg) =>
            self.atomic_update(memarg, |f, old, by| Ok(f.b.build_int_sub(old, by, "")?));
        visit_i32_atomic_rmw_and, visit_i32_atomic_rmw8_and_u, visit_i32_atomic_rmw16_and_u,
        visit_i64_atomic_rmw_and, visit_i64_atomic_rmw8_and_u, visit_i64_atomic_rmw16_and_u,
        visit_i64_atomic_rmw32_and_u
            (memarg: MemArg) =>
            self.atomic_update(memarg, |f, old, by| Ok(f.b.build_and(old, by, "")?));
        visit_i32_atomic_rmw_or, visit_i32_atomic_rmw8_or_u, visit_i32_atomic_rmw16_or_u,
        visit_i64_atomic_rmw_or, visit_i64_atomic_rmw8_or_u, visit_i64_atomic_rmw16_or_u,
        visit_i64_atomic_rmw32_or_u
            (memarg: MemArg) =>
            self.atomic_update(memarg, |f, old, by| Ok(f.b.build_or(old, by, "")?));
        visit_i32_atomic_rmw_xor, visit_i32_atomic_rmw8_xor_u, visit_i32_atomic_rmw16_xor_u,
        visit_i64_atomic_rmw_xor, visit_i64_atomic_rmw8_xor_u, visit_i64_atomic_rmw16_xor_u,
        visit_i64_atomic_rmw32_xor_u
            (memarg: MemArg) =>
            self.atomic_update(memarg, |f, old, by| Ok(f.b.build_xor(old, by, "")?));
        visit_i32_atomic_rmw_xchg, visit_i32_atomic_rmw8_xchg_u, visit_i32_atomic_rmw16_xchg_u,
        visit_i64_atomic_rmw_xchg, visit_i64_atomic_rmw8_xchg_u, visit_i64_atomic_rmw16_xchg_u,
        visit_i64_atomic_rmw32_xchg_u
            (memarg: MemArg) => self.atomic_update(memarg, |_, _, by| Ok(by));
        visit_i32_atomic_rmw_cmpxchg, visit_i32_atomic_rmw8_cmpxchg_u,
        visit_i32_atomic_rmw16_cmpxchg_u, visit_i64_atomic_rmw_cmpxchg,
        visit_i64_atomic_rmw8_cmpxchg_u, visit_i64_atomic_rmw16_cmpxchg_u,
        visit_i64_atomic_rmw32_cmpxchg_u
            (memarg: MemArg) => self.atomic_compare_exchange(memarg);

        // Numbers.
        visit_i32_const(value: i32) => self.int_const(t.i32, u64::from(value.cast_unsigned()));
        visit_i64_const(value: i64) => self.int_const(t.i64, value.cast_unsigned());
        visit_f32_const(value: Ieee32) => self.float_const(t.f32, t.i32, u64::from(value.bits()));
        visit_f64_const(value: Ieee64) => self.float_const(t.f64, t.i64, value.bits());
        visit_i32_eqz, visit_i64_eqz() => self.equals_zero();
        visit_i32_eq, visit_i64_eq() => self.compare_ints(EQ);
        visit_i32_ne, visit_i64_ne() => self.compare_ints(NE);
        visit_i32_lt_s, visit_i64_lt_s() => self.compare_ints(SLT);
        visit_i32_lt_u, visit_i64_lt_u() => self.compare_ints(ULT);
        visit_i32_gt_s, visit_i64_gt_s() => self.compare_ints(SGT);
        visit_i32_gt_u, visit_i64_gt_u() => self.compare_ints(UGT);
        visit_i32_le_s, visit_i64_le_s() => self.compare_ints(SLE);
        visit_i32_le_u, visit_i64_le_u() => self.compare_ints(ULE);
        visit_i32_ge_s, visit_i64_ge_s() => self.compare_ints(SGE);
        visit_i32_ge_u, visit_i64_ge_u() => self.compare_ints(UGE);
        visit_i32_add, visit_i64_add() =>
            self.int_binary(|f, a, b| Ok(f.b.build_int_add(a, b, "")?));
        visit_i32_sub, visit_i64_sub() =>
            self.int_binary(|f, a, b| Ok(f.b.build_int_sub(a, b, "")?));
        visit_i32_mul, visit_i64_mul() =>
            self.int_binary(|f, a, b| Ok(f.b.build_int_mul(a, b, "")?));
        visit_i32_and, visit_i64_and() => self.int_binary(|f, a, b| Ok(f.b.build_and(a, b, "")?));
        visit_i32_or, visit_i64_or() => self.int_binary(|f, a, b| Ok(f.b.build_or(a, b, "")?));
        visit_i32_xor, visit_i64_xor() => self.int_binary(|f, a, b| Ok(f.b.build_xor(a, b, "")?));
        visit_i32_shl, visit_i64_shl() => self.shift(|f, a, b| Ok(f.b.build_left_shift(a, b, "")?));
        visit_i32_shr_s, visit_i64_shr_s() =>
            self.shift(|f, a, b| Ok(f.b.build_right_shift(a, b, true, "")?));
        visit_i32_shr_u, visit_i64_shr_u() =>
            self.shift(|f, a, b| Ok(f.b.build_right_shift(a, b, false, "")?));
        visit_i32_rotl, visit_i64_rotl() => self.rotate("llvm.fshl");
        visit_i32_rotr, visit_i64_rotr() => self.rotate("llvm.fshr");
        visit_i32_div_s, visit_i64_div_s() => self.div_signed();
        visit_i32_rem_s, visit_i64_rem_s() => self.rem_signed();
        visit_i32_div_u, visit_i64_div_u() => self.div_unsigned();
        visit_i32_rem_u, visit_i64_rem_u() => self.rem_unsigned();

        // `false`: the count of zero is defined.
        visit_i32_clz, visit_i64_clz() => self.count("llvm.ctlz", Some(t.i1));
        visit_i32_ctz, visit_i64_ctz() => self.count("llvm.cttz", Some(t.i1));
        visit_i32_popcnt, visit_i64_popcnt() => self.count("llvm.ctpop", None);
        visit_i32_wrap_i64() => self.wrap();
        visit_i64_extend_i32_s() => self.extend(t.i64, Signed);
        visit_i64_extend_i32_u() => self.extend(t.i64, Unsigned);
        visit_i32_extend8_s, visit_i64_extend8_s() => self.extend_low(t.i8);
        visit_i32_extend16_s, visit_i64_extend16_s() => self.extend_low(t.i16);
        visit_i64_extend32_s() => self.extend_low(t.i32);
        visit_i64_add128() => self.wide_binary(|f, a, b| Ok(f.b.build_int_add(a, b, "")?));
        visit_i64_sub128() => self.wide_binary(|f, a, b| Ok(f.b.build_int_sub(a, b, "")?));
        visit_i64_mul_wide_s() => self.multiply_wide(Signed);
        visit_i64_mul_wide_u() => self.multiply_wide(Unsigned);
        visit_f32_eq, visit_f64_eq() => self.compare_floats(OEQ);
        visit_f32_ne, visit_f64_ne() => self.compare_floats(UNE);
        visit_f32_lt, visit_f64_lt() => self.compare_floats(OLT);
        visit_f32_gt, visit_f64_gt() => self.compare_floats(OGT);
        visit_f32_le, visit_f64_le() => self.compare_floats(OLE);
        visit_f32_ge, visit_f64_ge() => self.compare_floats(OGE);
        visit_f32_add, visit_f64_add() =>
            self.float_binary(|f, a, b| Ok(f.b.build_float_add(a, b, "")?));
        visit_f32_sub, visit_f64_sub() =>
            self.float_binary(|f, a, b| Ok(f.b.build_float_sub(a, b, "")?));
        visit_f32_mul, visit_f64_mul() =>
            self.float_binary(|f, a, b| Ok(f.b.build_float_mul(a, b, "")?));
        visit_f32_div, visit_f64_div() =>
            self.float_binary(|f, a, b| Ok(f.b.build_float_div(a, b, "")?));
        visit_f32_neg, visit_f64_neg() => self.negate_number();
        visit_f32_min, visit_f64_min() => self.extreme(Min);
        visit_f32_max, visit_f64_max() => self.extreme(Max);
        visit_f32_abs, visit_f64_abs() => self.float_unary("llvm.fabs");
        visit_f32_sqrt, visit_f64_sqrt() => self.float_unary("llvm.sqrt");
        visit_f32_ceil, visit_f64_ceil() => self.float_unary("llvm.ceil");
        visit_f32_floor, visit_f64_floor() => self.float_unary("llvm.floor");
        visit_f32_trunc, visit_f64_trunc() => self.float_unary("llvm.trunc");
        visit_f32_nearest, visit_f64_nearest() => self.float_unary("llvm.roundeven");
        visit_f32_copysign, visit_f64_copysign() => self.copysign();
        visit_i32_trunc_f32_s, visit_i32_trunc_f64_s() => self.truncate(t.i32, Signed);
        visit_i32_trunc_f32_u, visit_i32_trunc_f64_u() => self.truncate(t.i32, Unsigned);
        visit_i64_trunc_f32_s, visit_i64_trunc_f64_s() => self.truncate(t.i64, Signed);
        visit_i64_trunc_f32_u, visit_i64_trunc_f64_u() => self.truncate(t.i64, Unsigned);
        visit_i32_trunc_sat_f32_s, visit_i32_trunc_sat_f64_s() =>
            self.saturate(t.i32, "llvm.fptosi.sat");
        visit_i32_trunc_sat_f32_u, visit_i32_trunc_sat_f64_u() =>
            self.saturate(t.i32, "llvm.fptoui.sat");
        visit_i64_trunc_sat_f32_s, visit_i64_trunc_sat_f64_s() =>
            self.saturate(t.i64, "llvm.fptosi.sat");
        visit_i64_trunc_sat_f32_u, visit_i64_trunc_sat_f64_u() =>
            self.saturate(t.i64, "llvm.fptoui.sat");
        visit_f32_convert_i32_s, visit_f32_convert_i64_s() => self.convert_to(t.f32, Signed);
        visit_f32_convert_i32_u, visit_f32_convert_i64_u() => self.convert_to(t.f32, Unsigned);
        visit_f64_convert_i32_s, visit_f64_convert_i64_s() => self.convert_to(t.f64, Signed);
        visit_f64_convert_i32_u, visit_f64_convert_i64_u() => self.convert_to(t.f64, Unsigned);
        visit_f32_demote_f64() => self.demote();
        visit_f64_promote_f32() => self.promote();
        visit_i32_reinterpret_f32() => self.reinterpret(t.i32.into());
        visit_i64_reinterpret_f64() => self.reinterpret(t.i64.into());
        visit_f32_reinterpret_i32() => self.reinterpret(t.f32.into());
        visit_f64_reinterpret_i64() => self.reinterpret(t.f64.into());

        // Calls.
        visit_call(function_index: u32) => self.call(function_index);
        visit_call_indirect(type_index: u32, table_index: u32) =>
            self.call_indirect(type_index, table_index);

        // Calls in tail position.
        visit_return_call(function_index: u32) => self.return_call(function_index);
        visit_return_call_indirect(type_index: u32, table_index: u32) =>
            self.return_call_indirect(type_index, table_index);
        visit_return_call_ref(type_index: u32) => self.return_call_ref(type_index);

        // Tables.
        visit_table_get(table: u32) => self.table_get(table);
        visit_table_set(table: u32) => self.table_set(table);
        visit_table_size(table: u32) => self.table_size(table);
        visit_table_grow(table: u32) => self.table_grow(table);
        visit_table_fill(table: u32) => self.table_fill(table);
        visit_table_copy(dst_table: u32, src_table: u32) => self.table_copy(dst_table, src_table);
        visit_table_init(elem_index: u32, table: u32) => self.table_init(elem_index, table);
        visit_elem_drop(elem_index: u32) => self.elem_drop(elem_index);

        // References.
        visit_ref_null(_hty: HeapType) => self.ref_null();
        visit_ref_is_null() => self.ref_is_null();
        visit_ref_func(function_index: u32) => self.ref_func(function_index);
        visit_ref_as_non_null() => self.ref_as_non_null();
        visit_br_on_null(relative_depth: u32) => self.br_on_null(relative_depth);
        visit_br_on_non_null(relative_depth: u32) => self.br_on_non_null(relative_depth);
        visit_call_ref(type_index: u32) => self.call_ref(type_index);

        // Exceptions.
        visit_try_table(try_table: TryTable) => self.enter_try_table(&try_table);
        visit_throw(tag_index: u32) => self.throw(tag_index);
        visit_throw_ref() => self.throw_ref();
        visit_try(blockty: BlockType) => self.enter(Kind::LegacyTry { handler: None }, blockty);
        visit_catch(tag_index: u32) => self.legacy_catch(Some(tag_index));
        visit_catch_all() => self.legacy_catch(None);
        visit_rethrow(relative_depth: u32) => self.rethrow(relative_depth);
        visit_delegate(relative_depth: u32) => self.delegate(relative_depth);
    }

    fn simd_visitor(&mut self) -> Option<&mut dyn VisitSimdOperator<'a, Output = Self::Output>> {
        Some(self)
    }

    wasmparser::for_each_visit_operator!(refuse);
}
