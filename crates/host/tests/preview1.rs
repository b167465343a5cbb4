//! WASI preview 1 as a guest sees it: each function called from compiled code, with good arguments
//! and with hostile ones.
//!
//! A case is one call. Its guest stores the error code at address 0 and writes its first page,
//! where the call may have left results, to stdout.

use std::sync::Arc;

use awsm_compile::{Options, compile};
use awsm_host::{Output, Stdin, StringList, WasiCtx, add_to_linker};
use awsm_sandbox::{Limits, Linker, Module, Pool, PoolConfig, Program, Stop, Wait, clock};
use bytes::Bytes;

/// Error codes of the specification.
const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const FAULT: u32 = 21;
const FBIG: u32 = 22;
const INVAL: u32 = 28;
const NOTSUP: u32 = 58;
const SPIPE: u32 = 70;

/// One past the guest's memory.
const END: i64 = 65_536;

fn context() -> WasiCtx {
    let mut context = WasiCtx::default();
    context.args = Arc::new(["guest", "first", ""].into_iter().collect());
    context.env = Arc::new(["A=1"].into_iter().collect());
    let mut request = StringList::new();
    request.push_variable("B", "two");
    context.request_env = request;
    context.stdin = Stdin::Bytes(Bytes::from_static(b"input"));
    context.stdout = Output::buffer(8192);
    context.stderr = Output::buffer(16);
    context
}

/// Runs a module whose `run` has no parameters; how it ended, what it carried, how often it
/// blocked.
fn run(wat: &str, context: WasiCtx) -> (Stop, WasiCtx, Vec<Wait>) {
    let wasm = wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}: {wat}"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("guest.so");
    let options = Options::default();
    std::fs::write(&path, compile(&wasm, &options).expect("a good module")).expect("written");
    let module = Module::load(&path).expect("loads");
    let mut linker = Linker::new();
    add_to_linker(&mut linker);
    let entry = module.exported_func("run").expect("an export");
    let program = Program::link(module, &linker, Limits::default()).expect("known imports");
    let mut pool = Pool::new(PoolConfig::default());
    let mut sandbox =
        pool.start(&program, entry, context).map_err(|(error, _)| error).expect("a slot");
    let mut waits = Vec::new();
    loop {
        match sandbox.resume() {
            Stop::Blocked(wait) => {
                waits.push(wait);
                if let Wait::Until { monotonic_ns } = wait {
                    let ns = monotonic_ns.saturating_sub(clock::monotonic_ns());
                    std::thread::sleep(std::time::Duration::from_nanos(ns));
                }
            }
            stop => {
                let context = std::mem::take(sandbox.data_mut());
                pool.recycle(sandbox);
                return (stop, context, waits);
            }
        }
    }
}

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
enum Arg {
    I32(i64),
    I64(i64),
}
use Arg::{I32, I64};

/// One call: the error code, the guest's first page afterwards, and what it carried.
fn call(name: &str, args: &[Arg], data: &str, context: WasiCtx) -> (u32, Vec<u8>, WasiCtx) {
    let mut types = String::new();
    let mut values = String::new();
    for arg in args {
        let (ty, value) = match *arg {
            I32(value) => ("i32", value.to_string()),
            I64(value) => ("i64", value.to_string()),
        };
        types += &format!(" {ty}");
        values += &format!("({ty}.const {value}) ");
    }
    let (stop, mut context, _) = run(
        &format!(
            r#"(module
                (import "wasi_snapshot_preview1" "{name}" (func $call (param{types}) (result i32)))
                (import "wasi_snapshot_preview1" "fd_write"
                    (func $write (param i32 i32 i32 i32) (result i32)))
                (memory (export "memory") 1)
                {data}
                (func (export "run")
                    (i32.store (i32.const 0) (call $call {values}))
                    (i32.store (i32.const 65000) (i32.const 0))
                    (i32.store (i32.const 65004) (i32.const 4096))
                    (drop (call $write (i32.const 1) (i32.const 65000) (i32.const 1) (i32.const 65008)))))"#
        ),
        context,
    );
    assert_eq!(stop, Stop::Returned, "{name} {args:?}");
    let stdout = context.stdout.take();
    assert!(stdout.len() >= 4096, "{name} {args:?}: the guest's page is missing");
    let page = stdout[stdout.len() - 4096..].to_vec();
    (u32_at(&page, 0), page, context)
}

fn u32_at(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(page[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(page: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(page[at..at + 8].try_into().expect("eight bytes"))
}

/// Calls that give this error code, each with its own fresh context.
fn check(name: &str, data: &str, cases: &[(&[Arg], u32)]) {
    for (args, errno) in cases {
        let (got, _, _) = call(name, args, data, context());
        assert_eq!(got, *errno, "{name} {args:?}");
    }
}

#[test]
fn arguments_and_environment() {
    let (errno, page, _) = call("args_sizes_get", &[I32(16), I32(20)], "", context());
    assert_eq!((errno, u32_at(&page, 16), u32_at(&page, 20)), (SUCCESS, 3, 13));
    let (errno, page, _) = call("args_get", &[I32(16), I32(64)], "", context());
    let pointers = [16, 20, 24].map(|at| u32_at(&page, at));
    assert_eq!((errno, pointers, &page[64..77]), (SUCCESS, [64, 70, 76], &b"guest\0first\0\0"[..]));
    let (errno, page, _) = call("environ_sizes_get", &[I32(16), I32(20)], "", context());
    assert_eq!((errno, u32_at(&page, 16), u32_at(&page, 20)), (SUCCESS, 2, 10));
    let (errno, page, _) = call("environ_get", &[I32(16), I32(64)], "", context());
    let pointers = [16, 20].map(|at| u32_at(&page, at));
    assert_eq!((errno, pointers, &page[64..74]), (SUCCESS, [64, 68], &b"A=1\0B=two\0"[..]));
    for name in ["args_get", "environ_get", "args_sizes_get", "environ_sizes_get"] {
        check(
            name,
            "",
            &[
                (&[I32(END), I32(64)], FAULT),
                (&[I32(END - 3), I32(64)], FAULT),
                (&[I32(64), I32(END - 3)], FAULT),
                (&[I32(-1), I32(-1)], FAULT),
                (&[I32(17), I32(64)], SUCCESS),
            ],
        );
    }
}

#[test]
fn clocks() {
    let before = clock::monotonic_ns();
    let (errno, page, _) = call("clock_time_get", &[I32(1), I64(0), I32(16)], "", context());
    assert_eq!(errno, SUCCESS);
    assert!((before..=clock::monotonic_ns()).contains(&u64_at(&page, 16)));
    let (errno, page, _) = call("clock_time_get", &[I32(0), I64(0), I32(16)], "", context());
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    assert!(errno == SUCCESS && now.as_nanos() as u64 - u64_at(&page, 16) < 60_000_000_000);
    let (errno, page, _) = call("clock_res_get", &[I32(1), I32(16)], "", context());
    assert_eq!((errno, u64_at(&page, 16)), (SUCCESS, 1));
    let time: &[(&[Arg], u32)] = &[
        (&[I32(2), I64(0), I32(16)], NOTSUP),
        (&[I32(4), I64(0), I32(16)], INVAL),
        (&[I32(-1), I64(0), I32(16)], INVAL),
        (&[I32(1), I64(-1), I32(16)], SUCCESS),
        (&[I32(1), I64(0), I32(END - 7)], FAULT),
        (&[I32(1), I64(0), I32(-8)], FAULT),
    ];
    check("clock_time_get", "", time);
    check("clock_res_get", "", &[(&[I32(9), I32(16)], INVAL), (&[I32(0), I32(END)], FAULT)]);
}

#[test]
fn random_bytes() {
    let (errno, page, _) = call("random_get", &[I32(16), I32(32)], "", context());
    let (_, other, _) = call("random_get", &[I32(16), I32(32)], "", context());
    assert_eq!(errno, SUCCESS);
    assert_ne!(page[16..48], other[16..48]);
    assert_eq!(page[48..64], [0; 16]);
    let cases: &[(&[Arg], u32)] = &[
        (&[I32(END), I32(0)], SUCCESS),
        (&[I32(END), I32(1)], FAULT),
        (&[I32(1), I32(-1)], FAULT),
        (&[I32(-1), I32(2)], FAULT),
    ];
    check("random_get", "", cases);
}

/// Two buffers, of 3 and 5 bytes, listed at 32; at 48 one that ends beyond memory; at 64 one of no
/// bytes at the very end.
const BUFFERS: &str = r#"
    (data (i32.const 32) "\00\01\00\00\03\00\00\00\10\01\00\00\05\00\00\00")
    (data (i32.const 48) "\00\01\00\00\03\00\00\00\fe\ff\00\00\05\00\00\00")
    (data (i32.const 64) "\00\00\01\00\00\00\00\00")
    (data (i32.const 256) "abc") (data (i32.const 272) "defgh")"#;

#[test]
fn writing() {
    let (errno, page, context) =
        call("fd_write", &[I32(2), I32(32), I32(2), I32(16)], BUFFERS, self::context());
    assert_eq!(
        (errno, u32_at(&page, 16), context.stderr.written()),
        (SUCCESS, 8, &b"abcdefgh"[..])
    );
    // The first buffer is written, the second does not exist.
    let cases: &[(&[Arg], u32)] = &[
        (&[I32(1), I32(32), I32(0), I32(16)], SUCCESS),
        (&[I32(1), I32(64), I32(1), I32(16)], SUCCESS),
        (&[I32(0), I32(32), I32(2), I32(16)], BADF),
        (&[I32(3), I32(32), I32(2), I32(16)], BADF),
        (&[I32(-1), I32(32), I32(2), I32(16)], BADF),
        (&[I32(1), I32(48), I32(2), I32(16)], FAULT),
        (&[I32(1), I32(END - 4), I32(1), I32(16)], FAULT),
        (&[I32(1), I32(-8), I32(1), I32(16)], FAULT),
        (&[I32(1), I32(-4), I32(1), I32(16)], FAULT),
        (&[I32(1), I32(32), I32(2), I32(END)], FAULT),
        (&[I32(1), I32(32), I32(-1), I32(16)], INVAL),
        (&[I32(1), I32(32), I32(1 << 31), I32(16)], INVAL),
        (&[I32(1), I32(32), I32(1025), I32(16)], INVAL),
    ];
    check("fd_write", BUFFERS, cases);
}

#[test]
fn output_has_a_limit() {
    let mut full = context();
    full.stderr = Output::buffer(4);
    let args = [I32(2), I32(32), I32(2), I32(16)];
    let (errno, page, full) = call("fd_write", &args, BUFFERS, full);
    assert_eq!((errno, u32_at(&page, 16), full.stderr.written()), (SUCCESS, 3, &b"abc"[..]));
    assert!(full.stderr.overflowed());
    let mut none = context();
    none.stderr = Output::buffer(2);
    let (errno, _, none) = call("fd_write", &args, BUFFERS, none);
    assert_eq!((errno, none.stderr.written()), (FBIG, &b""[..]));
}

#[test]
fn reading() {
    let args = [I32(0), I32(32), I32(2), I32(16)];
    let (errno, page, _) = call("fd_read", &args, BUFFERS, context());
    assert_eq!((errno, u32_at(&page, 16)), (SUCCESS, 5));
    assert_eq!((&page[256..259], &page[272..277]), (&b"inp"[..], &b"utfgh"[..]));
    let mut empty = context();
    empty.stdin = Stdin::Empty;
    let (errno, page, _) = call("fd_read", &args, BUFFERS, empty);
    assert_eq!((errno, u32_at(&page, 16)), (SUCCESS, 0));
    let cases: &[(&[Arg], u32)] = &[
        (&[I32(1), I32(32), I32(2), I32(16)], BADF),
        (&[I32(7), I32(32), I32(2), I32(16)], BADF),
        (&[I32(0), I32(48), I32(2), I32(16)], FAULT),
        (&[I32(0), I32(-8), I32(1), I32(16)], FAULT),
        (&[I32(0), I32(32), I32(1), I32(END - 2)], FAULT),
        (&[I32(0), I32(32), I32(4096), I32(16)], INVAL),
    ];
    check("fd_read", BUFFERS, cases);
}

#[test]
fn descriptors() {
    let (errno, page, _) = call("fd_fdstat_get", &[I32(1), I32(16)], "", context());
    assert_eq!((errno, page[16], u64_at(&page, 24) & 1 << 6), (SUCCESS, 0, 1 << 6));
    let stat: &[(&[Arg], u32)] = &[
        (&[I32(3), I32(16)], BADF),
        (&[I32(0), I32(END - 23)], FAULT),
        (&[I32(0), I32(END - 24)], SUCCESS),
    ];
    check("fd_fdstat_get", "", stat);
    check("fd_prestat_get", "", &[(&[I32(3), I32(16)], BADF)]);
    check("fd_prestat_dir_name", "", &[(&[I32(3), I32(16), I32(1)], BADF)]);
    check("fd_close", "", &[(&[I32(0)], SUCCESS), (&[I32(3)], BADF), (&[I32(-1)], BADF)]);
    let seek: &[(&[Arg], u32)] =
        &[(&[I32(1), I64(0), I32(0), I32(16)], SPIPE), (&[I32(9), I64(0), I32(0), I32(16)], BADF)];
    check("fd_seek", "", seek);
    check("fd_tell", "", &[(&[I32(0), I32(16)], SPIPE), (&[I32(4), I32(16)], BADF)]);
}

#[test]
fn a_closed_descriptor_is_closed() {
    let (stop, context, _) = run(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory 1)
            (func (export "run")
                (drop (call $close (i32.const 1)))
                (call $exit (call $close (i32.const 1)))))"#,
        context(),
    );
    assert_eq!(stop, Stop::Exited(BADF.cast_signed()));
    assert_eq!(context.stdout.written(), b"");
}

/// A subscription at address 128 + 48 * `index`, and its user data `index + 1`.
fn subscription(index: usize, tag: u8, fields: &[(usize, u64)]) -> String {
    let mut bytes = [0_u8; 48];
    bytes[0] = index as u8 + 1;
    bytes[8] = tag;
    for (at, value) in fields {
        let width = (48 - at).min(8);
        bytes[*at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
    let hex = bytes.map(|byte| format!("\\{byte:02x}")).concat();
    format!("(data (i32.const {}) \"{hex}\")", 128 + 48 * index)
}

/// A relative wait on a clock.
fn sleep(index: usize, clock: u64, timeout_ns: u64) -> String {
    subscription(index, 0, &[(16, clock), (24, timeout_ns)])
}

/// `poll_oneoff` over `count` subscriptions at 128, events at 1024, their number at 16.
fn poll(data: &str, count: i64) -> (u32, Vec<u8>) {
    let args = [I32(128), I32(1024), I32(count), I32(16)];
    let (errno, page, _) = call("poll_oneoff", &args, data, context());
    (errno, page)
}

#[test]
fn sleeping() {
    let (errno, page) = poll(&(sleep(0, 1, 3_600_000_000_000) + &sleep(1, 0, 5_000_000)), 2);
    assert_eq!((errno, u32_at(&page, 16)), (SUCCESS, 1));
    // The second subscription's event: user data, no error, a clock's.
    assert_eq!((u64_at(&page, 1024), &page[1032..1035]), (2, &[0, 0, 0][..]));
    // An absolute time that has passed.
    let past = subscription(0, 0, &[(16, 1), (24, 1), (40, 1)]);
    assert_eq!(poll(&past, 1).0, SUCCESS);
    // Streams are ready at once, so that the clock does not matter; stdout cannot be read.
    let streams = sleep(0, 1, u64::MAX)
        + &subscription(1, 1, &[(16, 0)])
        + &subscription(2, 2, &[(16, 2)])
        + &subscription(3, 1, &[(16, 1)]);
    let (errno, page) = poll(&streams, 4);
    assert_eq!((errno, u32_at(&page, 16)), (SUCCESS, 3));
    let event = |index: usize| {
        let at = 1024 + 32 * index;
        (u64_at(&page, at), u32::from(page[at + 8]), u64_at(&page, at + 16))
    };
    assert_eq!((event(0), event(1), event(2)), ((2, 0, 5), (3, 0, 65_536), (4, BADF, 0)));
}

#[test]
fn hostile_subscriptions() {
    assert_eq!(poll("", 0).0, INVAL);
    assert_eq!(poll("", -1).0, INVAL);
    assert_eq!(poll(&subscription(0, 77, &[]), 1).0, INVAL);
    let (errno, page) = poll(&sleep(0, 3, 5), 1);
    assert_eq!((errno, u32::from(page[1032])), (SUCCESS, NOTSUP));
    let data = sleep(0, 1, 0);
    let cases: &[(&[Arg], u32)] = &[
        (&[I32(END - 47), I32(1024), I32(1), I32(16)], FAULT),
        (&[I32(128), I32(END - 31), I32(1), I32(16)], FAULT),
        (&[I32(128), I32(1024), I32(1), I32(END - 3)], FAULT),
        (&[I32(-16), I32(1024), I32(1), I32(16)], FAULT),
        (&[I32(128), I32(-1), I32(1), I32(16)], FAULT),
    ];
    check("poll_oneoff", &data, cases);
}

#[test]
fn a_sleeper_gives_the_core_back() {
    let wat = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
            (memory 1) {}
            (func (export "run")
                (drop (call $yield))
                (drop (call $poll (i32.const 128) (i32.const 1024) (i32.const 1) (i32.const 16)))))"#,
        sleep(0, 1, 2_000_000)
    );
    let (stop, _, waits) = run(&wat, context());
    assert_eq!(stop, Stop::Returned);
    assert!(matches!(waits[..], [Wait::Yield, Wait::Until { .. }]), "{waits:?}");
}

#[test]
fn exit_codes_pass_through() {
    for code in [0, 1, 134, 255, -1] {
        let wat = format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (func (export "run") (call $exit (i32.const {code})) unreachable))"#
        );
        assert_eq!(run(&wat, context()).0, Stop::Exited(code));
    }
}
