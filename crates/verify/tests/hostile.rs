//! Files that no linker of ours writes: whatever the verifier and the loader could see in two ways,
//! or a description says that is not so, is refused with one line, without a panic, in bounded time
//! and memory.

mod support;

use std::mem::{offset_of, size_of};
use std::sync::OnceLock;

use awsm_abi::context::Counts;
use awsm_abi::desc::{
    ConstOp, ElemDesc, ElemItem, FuncDesc, GlobalDesc, ModuleDesc, TableDesc, TypeDesc, const_op,
    val_type,
};
use awsm_compile::{Isolation, OptLevel};
use support::{function, list, program_header, put, refusal, root, section_header, word};

/// Something of everything.
const TEXT: &str = r#"(module
    (type $answer (func (result i64)))
    (type $number (func (param i64) (result i64)))
    (import "host" "f" (func $imported (type $number)))
    (import "host" "g" (global $given funcref))
    (memory 1)
    (tag $e (param i64))
    (table $any 3 funcref)
    (table $answers 2 (ref null $answer))
    (global $counter (export "counter") (mut i64) (i64.const 5))
    (global $who (mut (ref null $answer)) (ref.func $seven))
    (global $always (ref $answer) (ref.func $seven))
    (global $thing externref (ref.null extern))
    (global $sum i64 (i64.add (i64.const 1) (i64.const 2)))
    (elem (table $any) (i32.const 0) func $seven $twice)
    (elem (table $answers) (i32.const 0) (ref null $answer) (ref.func $seven) (ref.null $answer))
    (elem $passive funcref (ref.func $twice) (global.get $given))
    (data (i32.const 8) "words")
    (func $seven (type $answer) (i64.const 7))
    (func $twice (type $number) (i64.add (local.get 0) (local.get 0)))
    (func (export "run") (param i64 i64) (result i64)
        (table.init $any $passive (i32.const 0) (i32.const 0) (i32.const 1))
        (global.set $counter (i64.add (global.get $counter) (i64.const 1)))
        (global.set $who (global.get $always))
        (block $caught (result i64)
            (try_table (catch $e $caught)
                (if (i64.gt_u (local.get 0) (i64.const 9)) (then (throw $e (local.get 0)))))
            (i64.add (call_ref $answer (global.get $who))
                (call_indirect $any (type $number) (local.get 1)
                    (i32.wrap_i64 (local.get 0)))))))"#;

fn good() -> Vec<u8> {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| support::object(TEXT, OptLevel::O1, Isolation::Guard)).clone()
}

/// Changes the object, which is refused then, for this reason.
#[track_caller]
fn assert_refused(change: impl FnOnce(&mut Vec<u8>), why: &str) {
    let mut object = good();
    change(&mut object);
    assert!(object != good(), "it is changed");
    let refusal = refusal(&object);
    assert!(refusal.as_ref().is_some_and(|line| line.contains(why)), "{refusal:?}");
}

const LOAD: u32 = 1;
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;

#[test]
fn as_it_was_it_is_shown() {
    assert_eq!(refusal(&good()), None);
}

#[test]
fn headers_that_lie_are_refused() {
    assert_refused(|object| object.truncate(63), "not a 64-bit ELF");
    assert_refused(|object| object[4] = 1, "not a 64-bit ELF");
    assert_refused(|object| object[5] = 2, "little-endian");
    assert_refused(|object| object[16] = 2, "shared object");
    assert_refused(|object| object[18] = 183, "");
    assert_refused(|object| object[54] = 57, "program headers");
    assert_refused(|object| put(object, 56, &[0xff, 0xff]), "program headers");
    assert_refused(|object| put(object, 32, &u64::MAX.to_le_bytes()), "program headers");
    assert_refused(|object| put(object, 32, &(1_u64 << 40).to_le_bytes()), "program headers");
    assert_refused(|object| put(object, 32, &[0; 8]), "exports no symbols");
    assert_refused(|object| put(object, 40, &u64::MAX.to_le_bytes()), "section headers");
    assert_refused(|object| put(object, 60, &[0, 0]), "");
    assert_refused(|object| put(object, 62, &[0xff, 0xff]), "");
}

#[test]
fn segments_that_are_not_what_is_mapped_are_refused() {
    let text = |object: &[u8]| program_header(object, LOAD, EXECUTE);
    let data = |object: &[u8]| program_header(object, LOAD, READ);
    let at = |header: usize, field: usize, number: u64| {
        move |object: &mut Vec<u8>| put(object, header + field, &number.to_le_bytes())
    };
    let (text, data) = (text(&good()), data(&good()));
    let writable = |header: usize, flags: u32| {
        move |object: &mut Vec<u8>| put(object, header + 4, &flags.to_le_bytes())
    };
    assert_refused(writable(text, READ | WRITE | EXECUTE), "writable segment");
    assert_refused(writable(data, READ | WRITE), "writable segment");
    let (offset, address, in_file, in_memory) = (8, 16, 32, 40);
    let start = word(&good(), text + address);
    // Elsewhere than in the file, or in part, or larger, or at the end of all addresses.
    let lies = [u64::MAX, u64::MAX - 4095, 1 << 63, start + 0x1000, 0];
    for lie in lies {
        assert_refused(at(text, offset, lie), "segment");
        assert_refused(at(text, address, lie), "segment");
        assert_refused(at(text, in_file, lie), "segment");
        assert_refused(at(text, in_memory, lie), "segment");
    }
    let both = |lie: u64| {
        move |object: &mut Vec<u8>| {
            put(object, text + in_file, &lie.to_le_bytes());
            put(object, text + in_memory, &lie.to_le_bytes());
        }
    };
    for lie in [u64::MAX, u64::MAX - 4095, 1 << 63, 0] {
        assert_refused(both(lie), "segment");
    }
    // One over the other: the text's first page is the descriptor's last one as well.
    let over = move |object: &mut Vec<u8>| {
        put(object, data + in_file, &(start + 1).to_le_bytes());
        put(object, data + in_memory, &(start + 1).to_le_bytes());
    };
    assert_refused(over, "segments that overlap");
    // In other kinds: an interpreter, storage of threads, an executable stack.
    for kind in [3_u32, 7, 0x6474_e552, 0x7000_0001] {
        let stack = program_header(&good(), 0x6474_e551, 0);
        let other = move |object: &mut Vec<u8>| put(object, stack, &kind.to_le_bytes());
        assert_refused(other, "segment of unknown type");
    }
    let stack = program_header(&good(), 0x6474_e551, 0);
    assert_refused(writable(stack, READ | WRITE | EXECUTE), "segment of unknown type");
}

/// The loader has the whole file in memory: what lies between two segments is there, too, and must
/// not be taken for zeros.
#[test]
fn what_lies_between_segments_is_seen() {
    let mut object = good();
    let (list, count) = list(&object, offset_of!(ModuleDesc, types));
    let types = object[list..list + count as usize * size_of::<TypeDesc>()].to_vec();
    // Behind the code, in no segment, a copy of the types; and behind that a segment of one byte.
    let gap = object.len().next_multiple_of(4096);
    object.resize(gap, 0);
    object.extend(&types);
    let last = object.len().next_multiple_of(4096) + 4096;
    object.resize(last + 1, 0);
    let header = program_header(&object, 0x6474_e550, 0);
    put(&mut object, header, &[LOAD.to_le_bytes(), READ.to_le_bytes()].concat());
    for (field, number) in [(8, last), (16, last), (32, 1), (40, 1)] {
        put(&mut object, header + field, &(number as u64).to_le_bytes());
    }
    // The list of types lies there, with all that is in it.
    let distance = (gap - root(&object)) as u64;
    let at = root(&object) + offset_of!(ModuleDesc, types);
    put(&mut object, at, &distance.to_le_bytes());
    assert_eq!(refusal(&object), None);
    // With another type there, which has other parameters, it is not the same.
    object[gap + offset_of!(TypeDesc, results) + 8] = 2;
    assert!(refusal(&object).is_some());
}

#[test]
fn dynamic_sections_that_ask_for_more_are_refused() {
    let dynamic = word(&good(), program_header(&good(), 2, 0) + 16) as usize;
    // A library, relocations, constructors, a destructor, another hash table.
    for tag in [1_u64, 4, 7, 8, 12, 13, 17, 20, 22, 23, 25, 26, 27, 32, 33, 36, 0x6fff_fffe] {
        let other = |object: &mut Vec<u8>| put(object, dynamic, &tag.to_le_bytes());
        assert_refused(other, "unknown type");
    }
    // Tables that lie outside, or at the end of all addresses.
    for entry in 0..5 {
        for lie in [u64::MAX, u64::MAX - 15, 1 << 40, 1] {
            let mut object = good();
            let at = dynamic + 16 * entry;
            let tag = word(&object, at);
            put(&mut object, at + 8, &lie.to_le_bytes());
            // The end, the size of a symbol, which is what it is, and that of names, which is not
            // needed.
            assert!(matches!(tag, 0 | 10 | 11) || refusal(&object).is_some(), "{tag:#x}: {lie:#x}");
        }
    }
    // Cut off: it never ends.
    let cut = |object: &mut Vec<u8>| {
        let header = program_header(object, 2, 0);
        put(object, header + 40, &16_u64.to_le_bytes());
    };
    assert_refused(cut, "exports no symbols");
    let endless = |object: &mut Vec<u8>| {
        let header = program_header(object, 2, 0);
        put(object, header + 40, &u64::MAX.to_le_bytes());
        put(object, dynamic + 16 * 5, &5_u64.to_le_bytes());
    };
    assert_refused(endless, "");
}

#[test]
fn hash_tables_without_end_are_refused() {
    let table = section_header(&good(), ".gnu.hash");
    let table = word(&good(), table + 16) as usize;
    for (field, lie) in [(0, u32::MAX), (4, u32::MAX), (8, u32::MAX), (4, 0), (16 + 8, u32::MAX)] {
        let other = |object: &mut Vec<u8>| put(object, table + field, &lie.to_le_bytes());
        assert_refused(other, "");
    }
}

#[test]
fn relocations_are_refused() {
    let comment = section_header(&good(), ".comment");
    for kind in [4_u32, 9, 19] {
        let other = |object: &mut Vec<u8>| put(object, comment + 4, &kind.to_le_bytes());
        assert_refused(other, "has relocations");
    }
}

/// The number of the symbol of a function in the table, and where the table begins.
fn symbol(object: &[u8], name: &str) -> usize {
    let table = word(object, section_header(object, ".symtab") + 24) as usize;
    let place = function(object, name);
    let symbols = (0..).map(|number| table + 24 * number);
    let mut symbols = symbols.take_while(|at| at + 24 <= object.len());
    let is_it = |at: &usize| {
        word(object, at + 8) == place.start as u64 && word(object, at + 16) == place.len() as u64
    };
    symbols.find(is_it).expect("its symbol")
}

#[test]
fn code_that_no_symbol_names_or_two_is_refused() {
    let run = symbol(&good(), ":run");
    let place = function(&good(), ":run");
    let at = |field: usize, number: u64| {
        move |object: &mut Vec<u8>| put(object, run + field, &number.to_le_bytes())
    };
    // It is no function any more, or without a size, or one byte shorter or longer, or elsewhere.
    assert_refused(|object| object[run + 4] &= 0xf0, "belongs to no function");
    assert_refused(at(16, 0), "belongs to no function");
    assert_refused(at(16, place.len() as u64 - 1), "");
    assert_refused(at(16, place.len() as u64 + 64), "");
    for lie in [0, u64::MAX, u64::MAX - 15, 1 << 40, place.start as u64 + 1] {
        assert_refused(at(8, lie), "");
        assert_refused(at(16, lie), "");
    }
    // No table at all, or one that begins or ends elsewhere.
    let table = section_header(&good(), ".symtab");
    let kind = |kind: u32| move |object: &mut Vec<u8>| put(object, table + 4, &kind.to_le_bytes());
    assert_refused(kind(1), "no symbol table");
    for field in [24, 32] {
        for lie in [u64::MAX, u64::MAX - 23, 1 << 40] {
            let other = |object: &mut Vec<u8>| put(object, table + field, &lie.to_le_bytes());
            assert_refused(other, "symbol table");
        }
    }
}

/// A name for each symbol that is as long as the file: a megabyte of symbols would take ten
/// thousand.
#[test]
fn names_take_no_more_memory_than_the_file() {
    let mut object = good();
    let name = vec![b'n'; 1 << 20];
    let strings = object.len();
    object.extend(name);
    object.push(0);
    let symbols = object.len();
    let one = symbol(&object, ":run");
    let one: Vec<u8> = [&[0; 4], &object[one + 4..one + 24]].concat();
    object.extend(one.iter().copied().cycle().take(24 * 20_000));
    let (table, names) = (section_header(&object, ".symtab"), section_header(&object, ".strtab"));
    put(&mut object, names + 24, &(strings as u64).to_le_bytes());
    put(&mut object, names + 32, &(1_u64 << 20 | 1).to_le_bytes());
    put(&mut object, table + 24, &(symbols as u64).to_le_bytes());
    put(&mut object, table + 32, &(24_u64 * 20_000).to_le_bytes());
    let line = refusal(&object).expect("refused");
    assert!(line.contains("names longer than itself"), "{line}");
}

/// Types whose parameters are the same megabyte: a megabyte of types would take ten thousand.
#[test]
fn lists_take_no_more_memory_than_the_file() {
    let mut object = good();
    // The last segment takes the rest of the file, and what is put behind it.
    object.resize(object.len().next_multiple_of(16), 0);
    let params = object.len();
    object.extend(val_type::I64.to_le_bytes().repeat(200_000));
    let types = object.len();
    let count = 20_000;
    let (first, _) = list(&object, offset_of!(ModuleDesc, types));
    let ty: Vec<u8> = object[first..first + size_of::<TypeDesc>()].to_vec();
    object.extend(ty.repeat(count));
    let base = root(&object);
    for number in 0..count {
        let at = types + number * size_of::<TypeDesc>() + offset_of!(TypeDesc, params);
        put(&mut object, at, &((params - base) as u64).to_le_bytes());
        put(&mut object, at + 8, &200_000_u64.to_le_bytes());
    }
    let list = base + offset_of!(ModuleDesc, types);
    put(&mut object, list, &((types - base) as u64).to_le_bytes());
    put(&mut object, list + 8, &(count as u64).to_le_bytes());
    let text = program_header(&object, LOAD, EXECUTE);
    let bytes = object.len() as u64 - word(&object, text + 8);
    for field in [32, 40] {
        put(&mut object, text + field, &bytes.to_le_bytes());
    }
    let line = refusal(&object).expect("refused");
    assert!(line.contains("(parameters)"), "{line}");
}

#[test]
fn descriptions_that_lie_are_refused() {
    let base = root(&good());
    let at = |field: usize, bytes: &'static [u8]| {
        move |object: &mut Vec<u8>| put(object, base + field, bytes)
    };
    assert_refused(at(0, b"x"), "");
    assert_refused(at(offset_of!(ModuleDesc, abi_version), &[0xff; 4]), "ABI version");
    assert_refused(at(offset_of!(ModuleDesc, desc_bytes), &[1]), "(size)");
    assert_refused(at(offset_of!(ModuleDesc, isolation), &[2, 0, 0, 0]), "without isolation");
    assert_refused(at(offset_of!(ModuleDesc, isolation), &[9, 0, 0, 0]), "(isolation mode)");
    assert_refused(at(offset_of!(ModuleDesc, arch), &[9, 0, 0, 0]), "(architecture)");
    // Each count, one more, and as many as there can be.
    let counts = offset_of!(ModuleDesc, counts);
    for field in (0..offset_of!(Counts, reserved)).step_by(4) {
        let one_more = |object: &mut Vec<u8>| object[base + counts + field] += 1;
        assert_refused(one_more, "");
        assert_refused(at(counts + field, &[0xff; 4]), "");
    }
    // Each list elsewhere, and longer, and longer than all memory.
    let lists = [
        offset_of!(ModuleDesc, text),
        offset_of!(ModuleDesc, types),
        offset_of!(ModuleDesc, imports),
        offset_of!(ModuleDesc, functions),
        offset_of!(ModuleDesc, tables),
        offset_of!(ModuleDesc, globals),
        offset_of!(ModuleDesc, exports),
        offset_of!(ModuleDesc, elements),
        offset_of!(ModuleDesc, escaping),
        offset_of!(ModuleDesc, tags),
    ];
    for field in lists {
        assert_refused(at(field, &[0xff; 7]), "");
        assert_refused(at(field, &[0, 0, 0, 0, 0, 0, 0, 0x80]), "");
        assert_refused(at(field + 8, &[0xff; 8]), "");
        assert_refused(at(field + 8, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), "");
    }
}

/// Writes to a field of a record of a list.
fn record(list_at: usize, bytes: usize, number: usize, field: usize) -> usize {
    list(&good(), list_at).0 + number * bytes + field
}

#[test]
fn functions_of_other_types_or_places_are_refused() {
    let function = |number: usize, field: usize| {
        record(offset_of!(ModuleDesc, functions), size_of::<FuncDesc>(), number, field)
    };
    // A type that there is not.
    let ty = function(0, offset_of!(FuncDesc, type_index));
    assert_refused(|object| object[ty] = 99, "type index");
    assert_refused(|object| put(object, ty, &[0xff; 4]), "type index");
    // Its code is one byte further on, nowhere, or another's, of another type.
    let code = function(0, offset_of!(FuncDesc, code));
    assert_refused(|object| object[code] += 1, "no function begins");
    assert_refused(|object| put(object, code, &[0xff; 8]), "(function)");
    let other = word(&good(), function(1, offset_of!(FuncDesc, code)));
    assert_refused(|object| put(object, code, &other.to_le_bytes()), "in two ways");
}

/// A number where code finds a reference, or a reference where it finds a number.
#[test]
fn first_values_of_other_types_are_refused() {
    let global =
        |number: usize| record(offset_of!(ModuleDesc, globals), size_of::<GlobalDesc>(), number, 0);
    let expression = |record: usize, field: usize| {
        let object = good();
        (root(&object).wrapping_add(word(&object, record + field) as usize), record + field)
    };
    let init = |number: usize| expression(global(number), offset_of!(GlobalDesc, init));
    let put_op = |at: usize, op: u32, index: u32| {
        move |object: &mut Vec<u8>| {
            put(object, at + offset_of!(ConstOp, op), &op.to_le_bytes());
            put(object, at + offset_of!(ConstOp, index), &index.to_le_bytes());
            put(object, at + offset_of!(ConstOp, value), &0x1234_5678_u64.to_le_bytes());
        }
    };
    let [counter, who, always, thing, sum] = [0, 1, 2, 3, 4].map(|number| init(number).0);
    // `func_refs`: the imported function, then `seven` and `twice`.
    let twice = 2;
    // A reference is made of a number, or is of another type, or null, or of what has no value yet.
    assert_refused(put_op(who, const_op::CONST, 0), "(global)");
    assert_refused(put_op(who, const_op::REF_FUNC, twice), "(global)");
    assert_refused(put_op(who, const_op::REF_FUNC, 99), "(global)");
    assert_refused(put_op(who, const_op::GLOBAL_GET, 0), "(global)");
    assert_refused(put_op(who, const_op::GLOBAL_GET, 3), "(global)");
    assert_refused(put_op(who, const_op::GLOBAL_GET, 2), "(global)");
    assert_refused(put_op(always, const_op::REF_NULL, 0), "(global)");
    assert_refused(put_op(always, const_op::GLOBAL_GET, 2), "(global)");
    assert_refused(put_op(thing, const_op::REF_FUNC, 1), "(global)");
    assert_refused(put_op(thing, const_op::CONST, 0), "(global)");
    // A number is made of a reference, be it by arithmetic.
    assert_refused(put_op(counter, const_op::REF_FUNC, 1), "(global)");
    assert_refused(put_op(counter, const_op::GLOBAL_GET, 0), "(global)");
    assert_refused(put_op(sum, const_op::REF_FUNC, 1), "(global)");
    assert_refused(put_op(sum, const_op::GLOBAL_GET, 2), "(global)");
    // Another operator, or a list that ends behind two: the last counts.
    assert_refused(put_op(who, const_op::I64_ADD, 0), "(global)");
    let (_, list) = init(1);
    assert_refused(|object| object[list + 8] = 2, "(global)");
    assert_refused(|object| object[list + 8] = 0, "(global)");
}

#[test]
fn elements_of_other_types_are_refused() {
    let segment = |number: usize, field: usize| {
        record(offset_of!(ModuleDesc, elements), size_of::<ElemDesc>(), number, field)
    };
    let items = |number: usize| {
        let object = good();
        let at = segment(number, offset_of!(ElemDesc, items));
        root(&object).wrapping_add(word(&object, at) as usize)
    };
    let put_item = |at: usize, op: u32, index: u32| {
        move |object: &mut Vec<u8>| {
            put(object, at + offset_of!(ElemItem, op), &op.to_le_bytes());
            put(object, at + offset_of!(ElemItem, index), &index.to_le_bytes());
        }
    };
    // In a table of functions that answer, one that wants a number, a number, an import.
    assert_refused(put_item(items(1), const_op::REF_FUNC, 2), "(element segment)");
    assert_refused(put_item(items(1), const_op::REF_FUNC, 0), "(element segment)");
    assert_refused(put_item(items(1), const_op::GLOBAL_GET, 1), "(element segment)");
    assert_refused(put_item(items(1), const_op::CONST, 1), "(element segment)");
    assert_refused(put_item(items(0), const_op::GLOBAL_GET, 4), "(element segment)");
    // The segment of any functions goes to the table of those, or says that it has others, or
    // numbers.
    assert_refused(|object| object[segment(0, offset_of!(ElemDesc, table))] = 1, "segment");
    assert_refused(|object| object[segment(0, offset_of!(ElemDesc, table))] = 9, "segment");
    let code = segment(0, offset_of!(ElemDesc, val_type));
    for lie in [val_type::I64, val_type::EXTERNREF, 1, val_type::I64 | 1 << 9] {
        assert_refused(|object| put(object, code, &lie.to_le_bytes()), "");
    }
    // The table has others.
    let table = record(offset_of!(ModuleDesc, tables), size_of::<TableDesc>(), 0, 0);
    let ty = table + offset_of!(TableDesc, ty) + offset_of!(awsm_abi::desc::ExternType, ty);
    for lie in [val_type::EXTERNREF, val_type::I64, val_type::FUNCREF | val_type::NON_NULL] {
        assert_refused(|object| put(object, ty, &lie.to_le_bytes()), "");
    }
}

#[test]
fn value_types_that_are_two_are_refused() {
    let (types, _) = list(&good(), offset_of!(ModuleDesc, types));
    let object = good();
    let number = (0..3)
        .map(|number| types + number * size_of::<TypeDesc>() + offset_of!(TypeDesc, params))
        .find(|at| word(&object, at + 8) > 0)
        .expect("a type with parameters");
    let param = root(&object).wrapping_add(word(&object, number) as usize);
    let lies = [
        0,
        1,
        u32::MAX,
        val_type::I64 | val_type::NON_NULL,
        // A number, and by its upper half a reference to a function.
        val_type::I64 | 1 << 9,
        val_type::EXTERNREF | 1 << 9,
        val_type::FUNCREF | 99 << 9,
    ];
    for lie in lies {
        assert_refused(|object| put(object, param, &lie.to_le_bytes()), "(value type)");
    }
}

#[test]
fn cut_files_are_refused() {
    let object = good();
    for length in (0..object.len()).step_by(61).chain(object.len() - 64..object.len()) {
        assert!(refusal(&object[..length]).is_some(), "{length} of {}", object.len());
    }
}

/// A generator of choices. Source: Marsaglia, "Xorshift RNGs" (2003).
struct Choices(u64);

impl Choices {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % end
    }
}

/// Bytes, words and pieces of the file somewhere else: never a panic, and no line but one.
/// `AWSM_FLIPS=1000000` tries more, `AWSM_SEED` others.
#[test]
fn files_with_other_bytes_never_end_the_verifier() {
    let given = |name: &str, otherwise: u64| {
        std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let seed = given("AWSM_SEED", 1);
    let good = good();
    let mut refused = 0;
    let flips = given("AWSM_FLIPS", 3000);
    for number in 0..flips {
        let mut choices =
            Choices(seed.wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut object = good.clone();
        for _ in 0..=choices.below(3) {
            let at = choices.below(object.len() as u64 - 8) as usize;
            match choices.below(5) {
                0 => object[at] ^= 1 << choices.below(8),
                1 => object[at] = choices.below(256) as u8,
                2 => put(&mut object, at & !7, &u64::MAX.to_le_bytes()),
                3 => {
                    let small = choices.below(64).wrapping_sub(32);
                    let sum = word(&object, at & !7).wrapping_add(small);
                    put(&mut object, at & !7, &sum.to_le_bytes());
                }
                _ => {
                    let from = choices.below(object.len() as u64 - 8) as usize;
                    let found = word(&object, from).to_le_bytes();
                    put(&mut object, at, &found);
                }
            }
        }
        refused += u64::from(refusal(&object).is_some());
    }
    // What lies in names, frame rules and constants matters to nobody.
    assert!(refused > flips / 4, "{refused} of {flips}");
    println!("{refused} of {flips} refused");
}
