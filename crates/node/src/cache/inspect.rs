//! What can be said of a module before it is compiled, which may take minutes.

use std::fmt::Write as _;

use wasmparser::{Encoding, ExternalKind, FuncType, Parser, Payload, TypeRef, ValType};

/// Of so many imports it is said that nobody has them.
const NAMED: usize = 3;

/// Looks whether these bytes are a module, whether all that it imports is provided, and whether one
/// of the functions that are to be called is exported (any, if none is named).
///
/// What is malformed in another way is left to the compiler, which says where.
///
/// # Errors
/// What is wrong and what to do about it, in one line.
pub(super) fn inspect(
    wasm: &[u8],
    provides: impl Fn(&str, &str) -> bool,
    called: &[&str],
) -> Result<(), String> {
    if !wasm.starts_with(b"\0asm") {
        return Err(stranger(wasm));
    }
    let (mut unknown, mut own) = (Vec::new(), Functions::default());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::Version { encoding: Encoding::Component, .. }) => {
                return Err(COMPONENT.to_owned());
            }
            Ok(Payload::ImportSection(imports)) => {
                for import in imports.into_imports().flatten() {
                    if let TypeRef::Func(ty) = import.ty {
                        own.types_of.push(ty);
                    }
                    if !provides(import.module, import.name) {
                        unknown.push((import.module, import.name));
                    }
                }
            }
            Ok(Payload::TypeSection(types)) => {
                own.types.extend(types.into_iter_err_on_gc_types().flatten());
            }
            Ok(Payload::FunctionSection(types)) => own.types_of.extend(types.into_iter().flatten()),
            Ok(Payload::ExportSection(exports)) => {
                let exports = exports.into_iter().flatten();
                let functions = exports.filter(|export| export.kind == ExternalKind::Func);
                own.exports.extend(functions.map(|export| (export.name, export.index)));
            }
            Ok(Payload::CodeSectionStart { .. } | Payload::End(_)) => break,
            // The compiler says where.
            Err(_) => return if unknown.is_empty() { Ok(()) } else { Err(nobody_has(&unknown)) },
            Ok(_) => {}
        }
    }
    if !unknown.is_empty() {
        return Err(nobody_has(&unknown));
    }
    let exports = |name: &&str| own.exports.iter().any(|(exported, _)| exported == name);
    match called.first() {
        Some(first) if !called.iter().any(exports) => Err(no_entry(first, own.could_be_called())),
        _ => Ok(()),
    }
}

/// Functions of a module, as far as it takes to tell who could be called.
#[derive(Default)]
struct Functions<'a> {
    types: Vec<FuncType>,
    /// Types of all functions, those that are imported first.
    types_of: Vec<u32>,
    /// Names and indices.
    exports: Vec<(&'a str, u32)>,
}

impl<'a> Functions<'a> {
    /// An exported function that takes nothing and gives nothing or an exit code.
    fn could_be_called(&self) -> Option<&'a str> {
        let could_be = |index: u32| {
            let ty = self.types_of.get(index as usize);
            let ty = ty.and_then(|ty| self.types.get(*ty as usize));
            ty.is_some_and(|ty| {
                ty.params().is_empty() && matches!(ty.results(), [] | [ValType::I32])
            })
        };
        let mut exports = self.exports.iter();
        let found = exports.find(|(name, index)| *name != "_initialize" && could_be(*index));
        found.map(|(name, _)| *name)
    }
}

/// That no function of that name is exported, and what to do: one that could be called is named.
pub(crate) fn no_entry(name: &str, other: Option<&str>) -> String {
    let command = if name == "_start" { "build the module as a command" } else { "" };
    let other = other.map_or(String::new(), |other| {
        format!(
            "name another function, such as `{other}` (`entry` in awsm.toml, `--invoke` of `awsm run`)"
        )
    });
    let (colon, or) = match (command, other.as_str()) {
        ("", "") => ("", ""),
        ("", _) | (_, "") => (": ", ""),
        _ => (": ", ", or "),
    };
    format!("no function `{name}` is exported{colon}{command}{or}{other}")
}

/// What nobody has of what is imported.
fn nobody_has(unknown: &[(&str, &str)]) -> String {
    let mut line = String::from("unknown import ");
    for (number, (module, name)) in unknown.iter().take(NAMED).enumerate() {
        let comma = if number > 0 { ", " } else { "" };
        let _ = write!(line, "{comma}`{module}.{name}`");
    }
    if unknown.len() > NAMED {
        let _ = write!(line, " and {} more", unknown.len() - NAMED);
    }
    let _ = write!(line, ": {}", advice(unknown));
    line
}

/// What a component needs.
const COMPONENT: &str = "is a component, and components do not run yet: compile for preview 1 \
    (`wasm32-wasip1`), which gives a module";

/// What bytes are that are no WebAssembly, by their beginning.
fn stranger(bytes: &[u8]) -> String {
    let kinds: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "is compressed by gzip: unpack it"),
        (b"\x28\xb5\x2f\xfd", "is compressed by zstd: unpack it"),
        (b"#!", "is a script: name the module that it starts"),
        (b"version https://git-lfs", "stands for a file of Git LFS: `git lfs pull`"),
        (b"(module", "is a module as text: give it a name that ends in `.wat`"),
    ];
    if bytes.is_empty() {
        return "is empty: it is no WebAssembly module".to_owned();
    }
    let kind = kinds.iter().find(|(beginning, _)| bytes.starts_with(beginning));
    kind.map_or("is no WebAssembly module: it does not begin with `\\0asm`", |(_, kind)| kind)
        .to_owned()
}

/// Whom such imports are made for, and what to do.
fn advice(unknown: &[(&str, &str)]) -> &'static str {
    let any = |is: fn(&str, &str) -> bool| unknown.iter().any(|(module, name)| is(module, name));
    if any(|module, _| module == "wbg" || module.contains("wbindgen") || module.ends_with("_bg.js"))
    {
        "made by wasm-bindgen for JavaScript: compile for `wasm32-wasip1`, without it"
    } else if any(|module, _| matches!(module, "go" | "gojs")) {
        "made by Go for JavaScript: build with GOOS=wasip1 GOARCH=wasm"
    } else if any(|module, name| {
        let theirs = |name: &str| {
            let prefixes = ["invoke_", "__syscall_"];
            name.contains("emscripten") || prefixes.iter().any(|one| name.starts_with(one))
        };
        (module == "env" && theirs(name)) || (module == "a" && name.len() <= 2)
    }) {
        "made by Emscripten for JavaScript: link with `-sSTANDALONE_WASM`, or compile with wasi-sdk"
    } else if any(|module, _| module == "wasi_unstable") {
        "an older WASI: compile it with a toolchain of `wasi_snapshot_preview1`"
    } else if any(|module, _| module.starts_with("wasi:")) {
        "WASI preview 2: compile for preview 1 (`wasm32-wasip1`)"
    } else {
        "there is WASI preview 1 (`wasi_snapshot_preview1`), and nothing else"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(wat: &str) -> String {
        let wasm = wat::parse_str(wat).expect("it is text");
        let provides = |module: &str, name: &str| (module, name) == ("host", "known");
        inspect(&wasm, provides, &[]).err().unwrap_or_default()
    }

    #[test]
    fn one_of_the_functions_that_are_called_is_there() {
        let of = |wat: &str, called: &[&str]| {
            let wasm = wat::parse_str(wat).expect("it is text");
            inspect(&wasm, |_, _| true, called).err().unwrap_or_default()
        };
        let reactor = "(module (import \"host\" \"known\" (func (param i32)))
            (func (export \"_initialize\")) (func (export \"g\") (param i32))
            (func (export \"f\") (result i32) (i32.const 0)))";
        assert_eq!(of(reactor, &["_start", "f"]), "");
        assert_eq!(of(reactor, &[]), "");
        let said = of(reactor, &["_start"]);
        assert!(said.starts_with("no function `_start` is exported: build"), "{said}");
        assert!(said.contains("such as `f`"), "{said}");
        assert!(!of("(module)", &["_start"]).contains("such as"));
    }

    #[test]
    fn what_is_asked_for_is_looked_up() {
        assert_eq!(of("(module)"), "");
        assert_eq!(of("(module (import \"host\" \"known\" (func)))"), "");
        let one = of("(module (import \"host\" \"other\" (func)))");
        assert!(one.starts_with("unknown import `host.other`: there is WASI preview 1"), "{one}");
        let many: String =
            (0..9).map(|n| format!("(import \"env\" \"emscripten_{n}\" (func))")).collect();
        let many = of(&format!("(module {many})"));
        assert!(many.contains("`env.emscripten_2` and 6 more: made by Emscripten"), "{many}");
        for (import, hint) in [
            ("\"./app_bg.js\" \"__wbg_log\"", "wasm-bindgen"),
            ("\"gojs\" \"runtime.wasmExit\"", "GOOS=wasip1"),
            ("\"wasi_unstable\" \"fd_write\"", "older WASI"),
            ("\"wasi:cli/stdout\" \"get-stdout\"", "preview 2"),
        ] {
            let said = of(&format!("(module (import {import} (func)))"));
            assert!(said.contains(hint), "{said}");
        }
    }

    #[test]
    fn what_is_no_module_is_told_by_its_beginning() {
        let said = |bytes: &[u8]| inspect(bytes, |_, _| true, &[]).expect_err("no module");
        for (bytes, hint) in [
            (&b"\x1f\x8b\x08"[..], "gzip"),
            (b"", "is empty"),
            (b"(module)", "ends in `.wat`"),
            (b"hello", "does not begin with"),
            (b"\0asm\x0d\0\x01\0", "is a component"),
        ] {
            assert!(said(bytes).contains(hint), "{}", said(bytes));
        }
        // The compiler says where.
        assert_eq!(inspect(b"\0asm\x01\0\0\0\x02\xff", |_, _| false, &["f"]), Ok(()));
    }
}
