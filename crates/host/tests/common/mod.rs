//! A guest that makes whatever call a test asks for, one after the other, in one sandbox.
//!
//! It waits in a host function of the test's for its next call, so that a test reads like the
//! program that a guest would be: open this, read that, expect so. All the while another thread
//! interrupts it as fast as that can: what a call answers does not depend on ticks.

#![allow(dead_code)] // Each test file uses some of it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use awsm_compile::{Options, compile};
use awsm_host::{Errno, FileLimits, Grants, Mount, Output, WasiCtx, add_to_linker};
use awsm_sandbox::{
    FuncIdx, GuestPtr, HostCall, HostResult, Leave, Limits, Linker, Module, Nudge, Pool,
    PoolConfig, Program, Sandbox, Stop, Wait, clock,
};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Every function of the specification with its parameters: `i` for 32 bits, `l` for 64.
pub(crate) const FUNCTIONS: [(&str, &str); 46] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "ili"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "illi"),
    ("fd_allocate", "ill"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "ill"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_filestat_set_times", "illi"),
    ("fd_pread", "iiili"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_renumber", "ii"),
    ("fd_seek", "ilii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// Size of a guest's memory.
pub(crate) const END: i64 = 2 * 65_536;
/// Rights that a file opened for everything has.
pub(crate) const ALL: i64 = 0x3fff_ffff;
pub(crate) const FD_READ: i64 = 1 << 1;
pub(crate) const FD_WRITE: i64 = 1 << 6;
pub(crate) const FD_ALLOCATE: i64 = 1 << 8;
pub(crate) const FD_FILESTAT_SET_SIZE: i64 = 1 << 22;
/// Those that must be asked for.
pub(crate) const ASKED: i64 = FD_READ | FD_WRITE;
/// Those that mean something for a file.
pub(crate) const FILE: i64 = 0x1ff | 7 << 21 | 1 << 27;
/// `oflags`.
pub(crate) const CREAT: i64 = 1;
pub(crate) const DIRECTORY: i64 = 2;
pub(crate) const EXCL: i64 = 4;
pub(crate) const TRUNC: i64 = 8;
/// `lookupflags`.
pub(crate) const FOLLOW: i64 = 1;

/// Where a guest keeps the first and the second path, results, a list of buffers, the buffer.
const PATH: u32 = 1024;
const SECOND: u32 = 6144;
pub(crate) const OUT: u32 = 256;
const IOVEC: u32 = 512;
pub(crate) const BUFFER: u32 = 16_384;

#[derive(Default)]
struct Script {
    call: Option<(usize, Vec<i64>)>,
    args: Vec<i64>,
    write: Option<(u32, Vec<u8>)>,
    read: Option<(u32, u32)>,
    bytes: Vec<u8>,
    result: Option<u32>,
}

thread_local! {
    static SCRIPT: RefCell<Script> = RefCell::default();
}

fn next(call: &mut HostCall<'_, WasiCtx>) -> HostResult<u32> {
    SCRIPT.with_borrow_mut(|script| {
        let mut memory = call.memory();
        if let Some((at, bytes)) = script.write.take() {
            let range = GuestPtr::<u8>::new(at).slice(bytes.len() as u32);
            memory.bytes_mut(range).expect("in memory").copy_from_slice(&bytes);
        }
        if let Some((at, len)) = script.read.take() {
            script.bytes = memory.bytes(GuestPtr::new(at).slice(len)).expect("in memory").to_vec();
        }
        match script.call.take() {
            Some((index, args)) => {
                script.args = args;
                Ok(index as u32)
            }
            None => Err(Leave::Block(Wait::Yield)),
        }
    })
}

fn arg(_call: &mut HostCall<'_, WasiCtx>, index: u32) -> HostResult<i64> {
    Ok(SCRIPT.with_borrow(|script| script.args[index as usize]))
}

fn done(_call: &mut HostCall<'_, WasiCtx>, errno: u32) -> HostResult<()> {
    SCRIPT.with_borrow_mut(|script| script.result = Some(errno));
    Ok(())
}

fn text(module: &str) -> String {
    let mut imports = String::new();
    let mut cases = String::new();
    for (name, params) in FUNCTIONS {
        let ty = |param| if param == 'l' { "i64" } else { "i32" };
        let types: String = params.chars().map(|param| format!(" {}", ty(param))).collect();
        let result = if name == "proc_exit" { "" } else { "(result i32)" };
        writeln!(
            imports,
            "(import \"{module}\" \"{name}\" (func ${name} (param{types}) {result}))"
        )
        .expect("a string");
        let mut call = format!("(call ${name}");
        for (place, param) in params.chars().enumerate() {
            let value = format!("(call $arg (i32.const {place}))");
            call += &if param == 'l' { value } else { format!("(i32.wrap_i64 {value})") };
        }
        call += ")";
        let call = if result.is_empty() { format!("{call} (i32.const 0)") } else { call };
        write!(cases, "\n) {call} (call $done) (br $again)").expect("a string");
    }
    let labels: String = (0..FUNCTIONS.len()).map(|index| format!(" {index}")).collect();
    let blocks = "(block ".repeat(FUNCTIONS.len());
    format!(
        "(module {imports}
            (import \"test\" \"next\" (func $next (result i32)))
            (import \"test\" \"arg\" (func $arg (param i32) (result i64)))
            (import \"test\" \"done\" (func $done (param i32)))
            (memory (export \"memory\") 2 2)
            (func (export \"run\") (loop $again
                {blocks} (br_table{labels} 0 (call $next)) {cases}
            )))"
    )
}

type Linked = (Arc<Program<WasiCtx>>, FuncIdx);

fn program(module: &str) -> Linked {
    let wasm = wat::parse_str(text(module)).expect("good text");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("guest.so");
    std::fs::write(&path, compile(&wasm, &Options::default()).expect("compiles")).expect("written");
    let module = Module::load(&path).expect("loads");
    let mut linker = Linker::new();
    add_to_linker(&mut linker);
    linker.func("test", "next", next).func("test", "arg", arg).func("test", "done", done);
    let entry = module.exported_func("run").expect("an export");
    (Program::link(module, &linker, Limits::default()).expect("known imports"), entry)
}

fn shared() -> &'static Linked {
    static PROGRAM: OnceLock<Linked> = OnceLock::new();
    PROGRAM.get_or_init(|| program("wasi_snapshot_preview1"))
}

/// A guest in its sandbox, waiting for its next call.
pub(crate) struct Guest {
    linked: Linked,
    pool: Pool<WasiCtx>,
    sandbox: Option<Sandbox<WasiCtx>>,
    /// How often it was blocked for something other than the test.
    pub(crate) waits: Vec<Wait>,
    /// Nobody can wait for descriptors, and why.
    pub(crate) cannot_wait: Option<Errno>,
    /// Done when it waits for a descriptor the next time.
    pub(crate) on_wait: Option<Box<dyn FnOnce()>>,
    storm: Storm,
}

/// Ticks for the thread that has made it, as long as it lives.
struct Storm {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Storm {
    fn new() -> Self {
        let nudge = Nudge::of_this_thread().expect("a timer");
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                nudge.nudge();
                thread::sleep(Duration::from_micros(30));
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().expect("there until now").join().expect("no panic");
    }
}

impl Guest {
    pub(crate) fn new(context: WasiCtx) -> Self {
        Self::of(shared(), context)
    }

    /// One that imports `wasi_unstable`.
    pub(crate) fn unstable(context: WasiCtx) -> Self {
        Self::of(&program("wasi_unstable"), context)
    }

    fn of(linked: &Linked, context: WasiCtx) -> Self {
        let pool = Pool::new(PoolConfig::default());
        let (linked, waits, storm) = (linked.clone(), Vec::new(), Storm::new());
        let mut guest =
            Self { linked, pool, sandbox: None, waits, cannot_wait: None, on_wait: None, storm };
        guest.restart(context);
        guest
    }

    /// Another life, in the same pool.
    pub(crate) fn restart(&mut self, context: WasiCtx) {
        if let Some(sandbox) = self.sandbox.take() {
            self.pool.recycle(sandbox);
        }
        self.waits.clear();
        let (program, entry) = &self.linked;
        let started = self.pool.start(program, *entry, context).map_err(|(error, _)| error);
        self.sandbox = Some(started.expect("a slot"));
    }

    /// One that has a directory, writable, as descriptor 3, named `/`.
    pub(crate) fn in_directory(path: &Path) -> Self {
        Self::new(in_directory(path, FileLimits::default()))
    }

    pub(crate) fn context(&mut self) -> &mut WasiCtx {
        self.sandbox.as_mut().expect("alive").data_mut()
    }

    /// Runs the guest until it waits for the test again, or ends.
    fn go(&mut self) -> Result<(), Stop> {
        let sandbox = self.sandbox.as_mut().expect("alive");
        loop {
            match sandbox.resume() {
                Stop::Blocked(Wait::Yield) => return Ok(()),
                Stop::Blocked(wait) => {
                    self.waits.push(wait);
                    match wait {
                        Wait::Until { monotonic_ns } => {
                            let ns = monotonic_ns.saturating_sub(clock::monotonic_ns());
                            std::thread::sleep(std::time::Duration::from_nanos(ns));
                        }
                        Wait::Event { .. } if let Some(errno) = self.cannot_wait => {
                            sandbox.data_mut().cannot_wait(errno);
                        }
                        Wait::Event { until_ns } => {
                            if let Some(act) = self.on_wait.take() {
                                act();
                            }
                            sandbox.data().wait(until_ns).expect("the system waits");
                        }
                        _ => {}
                    }
                }
                Stop::Preempted => {}
                stop => return Err(stop),
            }
        }
    }

    /// Makes a call; its error code, or how the guest ended.
    pub(crate) fn try_call(&mut self, name: &str, args: &[i64]) -> Result<u32, Stop> {
        let index = FUNCTIONS.iter().position(|(known, _)| *known == name).expect(name);
        let (_, params) = FUNCTIONS[index];
        assert_eq!(params.len(), args.len(), "{name}");
        SCRIPT.with_borrow_mut(|script| script.call = Some((index, args.to_vec())));
        loop {
            self.go()?;
            if let Some(result) = SCRIPT.with_borrow_mut(|script| script.result.take()) {
                return Ok(result);
            }
        }
    }

    /// Makes a call; its error code.
    pub(crate) fn call(&mut self, name: &str, args: &[i64]) -> u32 {
        self.try_call(name, args).unwrap_or_else(|stop| panic!("{name} {args:?}: {stop:?}"))
    }

    /// Makes a call that must give this.
    #[track_caller]
    pub(crate) fn expect(&mut self, name: &str, args: &[i64], expected: impl Into<Expected>) {
        let expected = expected.into();
        assert_eq!(self.call(name, args), expected.0, "{name} {args:?}");
    }

    /// Writes into the guest's memory.
    pub(crate) fn put(&mut self, at: u32, bytes: &[u8]) {
        SCRIPT.with_borrow_mut(|script| script.write = Some((at, bytes.to_vec())));
        self.go().expect("it waits");
    }

    /// Reads from the guest's memory.
    pub(crate) fn get(&mut self, at: u32, len: u32) -> Vec<u8> {
        SCRIPT.with_borrow_mut(|script| script.read = Some((at, len)));
        self.go().expect("it waits");
        SCRIPT.with_borrow_mut(|script| std::mem::take(&mut script.bytes))
    }

    pub(crate) fn u32_at(&mut self, at: u32) -> u32 {
        u32::from_le_bytes(self.get(at, 4).try_into().expect("four bytes"))
    }

    pub(crate) fn u64_at(&mut self, at: u32) -> u64 {
        u64::from_le_bytes(self.get(at, 8).try_into().expect("eight bytes"))
    }

    /// Puts a path; its pointer and length as arguments.
    pub(crate) fn path(&mut self, path: &str) -> [i64; 2] {
        self.put(PATH, path.as_bytes());
        [PATH.into(), path.len() as i64]
    }

    pub(crate) fn second_path(&mut self, path: &str) -> [i64; 2] {
        self.put(SECOND, path.as_bytes());
        [SECOND.into(), path.len() as i64]
    }

    /// `path_open` with these rights for itself and all for what is opened in it.
    pub(crate) fn try_open(&mut self, dir: i64, path: &str, how: Open) -> Result<i64, Errno> {
        self.try_open_inheriting(dir, path, how, ALL)
    }

    fn try_open_inheriting(
        &mut self,
        dir: i64,
        path: &str,
        how: Open,
        inheriting: i64,
    ) -> Result<i64, Errno> {
        let [at, len] = self.path(path);
        let Open { lookup, oflags, rights, flags } = how;
        let args = [dir, lookup, at, len, oflags, rights, inheriting, flags, OUT.into()];
        match self.call("path_open", &args) {
            0 => Ok(self.u32_at(OUT).into()),
            errno => Err(named(errno)),
        }
    }

    #[track_caller]
    pub(crate) fn open(&mut self, dir: i64, path: &str, how: Open) -> i64 {
        self.try_open(dir, path, how).unwrap_or_else(|errno| panic!("{path}: {errno:?}"))
    }

    /// `path_open` with these rights for what is opened in it.
    #[track_caller]
    pub(crate) fn open_inheriting(
        &mut self,
        dir: i64,
        path: &str,
        how: Open,
        inheriting: i64,
    ) -> i64 {
        let opened = self.try_open_inheriting(dir, path, how, inheriting);
        opened.unwrap_or_else(|errno| panic!("{path}: {errno:?}"))
    }

    /// A call with a directory and a path: `path_create_directory` and the like.
    #[track_caller]
    pub(crate) fn at(&mut self, name: &str, dir: i64, path: &str, expected: impl Into<Expected>) {
        let [at, len] = self.path(path);
        self.expect(name, &[dir, at, len], expected);
    }

    /// A call with two directories and two paths.
    #[track_caller]
    pub(crate) fn rename(
        &mut self,
        from: (i64, &str),
        to: (i64, &str),
        expected: impl Into<Expected>,
    ) {
        let ([at, len], [second, second_len]) = (self.path(from.1), self.second_path(to.1));
        self.expect("path_rename", &[from.0, at, len, to.0, second, second_len], expected);
    }

    #[track_caller]
    pub(crate) fn link(
        &mut self,
        from: (i64, &str),
        to: (i64, &str),
        expected: impl Into<Expected>,
    ) {
        let ([at, len], [second, second_len]) = (self.path(from.1), self.second_path(to.1));
        self.expect("path_link", &[from.0, 0, at, len, to.0, second, second_len], expected);
    }

    #[track_caller]
    pub(crate) fn symlink(
        &mut self,
        contents: &str,
        dir: i64,
        path: &str,
        expected: impl Into<Expected>,
    ) {
        let ([at, len], [second, second_len]) = (self.path(contents), self.second_path(path));
        self.expect("path_symlink", &[at, len, dir, second, second_len], expected);
    }

    /// One buffer, as a list: pointer and count as arguments.
    pub(crate) fn buffer(&mut self, len: u32) -> [i64; 2] {
        let iovec = [BUFFER.to_le_bytes(), len.to_le_bytes()].concat();
        self.put(IOVEC, &iovec);
        [IOVEC.into(), 1]
    }

    /// `fd_write`; how much was written.
    pub(crate) fn write(&mut self, fd: i64, bytes: &[u8]) -> Result<u32, Errno> {
        self.put(BUFFER, bytes);
        let [list, count] = self.buffer(bytes.len() as u32);
        match self.call("fd_write", &[fd, list, count, OUT.into()]) {
            0 => Ok(self.u32_at(OUT)),
            errno => Err(named(errno)),
        }
    }

    /// `fd_read`; what was read.
    pub(crate) fn read(&mut self, fd: i64, len: u32) -> Result<Vec<u8>, Errno> {
        let [list, count] = self.buffer(len);
        match self.call("fd_read", &[fd, list, count, OUT.into()]) {
            0 => {
                let read = self.u32_at(OUT);
                Ok(self.get(BUFFER, read))
            }
            errno => Err(named(errno)),
        }
    }

    pub(crate) fn close(&mut self, fd: i64) {
        assert_eq!(self.call("fd_close", &[fd]), 0);
    }

    /// `fd_filestat_get`: type and size.
    pub(crate) fn stat(&mut self, fd: i64) -> (u8, u64) {
        assert_eq!(self.call("fd_filestat_get", &[fd, OUT.into()]), 0);
        (self.get(OUT + 16, 1)[0], self.u64_at(OUT + 32))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(sandbox) = self.sandbox.take() {
            self.pool.recycle(sandbox);
        }
    }
}

/// How to open.
#[derive(Clone, Copy)]
pub(crate) struct Open {
    pub(crate) lookup: i64,
    pub(crate) oflags: i64,
    pub(crate) rights: i64,
    pub(crate) flags: i64,
}

impl Open {
    /// To read.
    pub(crate) const READ: Self = Self { lookup: 0, oflags: 0, rights: READABLE, flags: 0 };
    /// To read and write; made if it is not there.
    pub(crate) const CREATE: Self = Self { oflags: CREAT, rights: ALL, ..Self::READ };
    /// A directory, to do anything in.
    pub(crate) const DIRECTORY: Self = Self { oflags: DIRECTORY, ..Self::READ };
}

/// All rights that do not make a file writable.
const READABLE: i64 = ALL & !FD_WRITE;

/// An error code that is expected; 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected(pub u32);

impl From<Errno> for Expected {
    fn from(errno: Errno) -> Self {
        Self(errno as u32)
    }
}

impl From<()> for Expected {
    fn from((): ()) -> Self {
        Self(0)
    }
}

/// The error code of that number, of those that tests meet.
fn named(errno: u32) -> Errno {
    use Errno::*;
    let all = [
        Acces,
        Again,
        Badf,
        Connrefused,
        Connreset,
        Dquot,
        Exist,
        Fault,
        Fbig,
        Ilseq,
        Inval,
        Io,
        Isdir,
        Loop,
        Mfile,
        Nametoolong,
        Noent,
        Nospc,
        Nosys,
        Notcapable,
        Notconn,
        Notdir,
        Notempty,
        Notsock,
        Notsup,
        Nxio,
        Perm,
        Pipe,
        Rofs,
        Spipe,
        Xdev,
    ];
    all.into_iter().find(|known| *known as u32 == errno).unwrap_or_else(|| panic!("errno {errno}"))
}

/// Runs as who may not read what belongs to others, or is locked.
pub(crate) fn unprivileged<R>(work: impl FnOnce() -> R) -> R {
    let before = capabilities(None).expect("readable");
    let mut without = before;
    without.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, without).expect("giving up is free");
    let result = work();
    set_capabilities(None, before).expect("still permitted");
    result
}

/// A program that lies there and runs.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn new(program: &Path) -> Self {
        std::fs::copy("/bin/sleep", program).expect("copied");
        // Another test's child may hold the copy open for a moment.
        let started = std::iter::repeat_with(|| {
            Command::new(program).arg("60").stdout(Stdio::null()).spawn()
        });
        Self(started.take(1000).find_map(Result::ok).expect("it runs"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A context with a writable directory as descriptor 3.
pub(crate) fn in_directory(path: &Path, limits: FileLimits) -> WasiCtx {
    let mount = Mount::open("/", path, true).expect("a directory");
    with_mounts(vec![mount], limits)
}

pub(crate) fn with_mounts(mounts: Vec<Mount>, limits: FileLimits) -> WasiCtx {
    let mut context = WasiCtx::default();
    context.grants = Some(Arc::new(Grants { mounts, limits, ..Grants::default() }));
    context.stdout = Output::buffer(1 << 20);
    context
}

/// All entries, through a buffer of so many bytes: name and type.
pub(crate) fn list(guest: &mut Guest, dir: i64, bytes: u32) -> Vec<(String, u8)> {
    let (mut entries, mut cookie) = (Vec::new(), 0);
    loop {
        guest.expect("fd_readdir", &[dir, BUFFER.into(), bytes.into(), cookie, OUT.into()], ());
        let used = guest.u32_at(OUT);
        let given = guest.get(BUFFER, used);
        let mut rest = &given[..];
        while rest.len() >= 24 {
            let len = u32::from_le_bytes(rest[16..20].try_into().expect("four")) as usize;
            let Some(name) = rest.get(24..24 + len) else { break };
            entries.push((String::from_utf8(name.to_vec()).expect("text"), rest[20]));
            cookie = i64::from_le_bytes(rest[..8].try_into().expect("eight"));
            rest = &rest[24 + len..];
        }
        if used < bytes {
            return entries;
        }
    }
}
