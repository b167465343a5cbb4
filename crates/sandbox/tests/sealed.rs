//! What is loaded is what was checked, whatever becomes of the file.

mod support;

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use awsm_sandbox::{Isolation, Limits, LoadError, Module, Pool, PoolConfig, SealedObject, Stop};

/// How long anything that should happen soon may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A module that logs `number`, with enough code around it for many pages, each of its own.
fn object(number: i64) -> Vec<u8> {
    let mut functions = String::new();
    for index in 0..400 {
        let (one, two) = (index * 7919 + number, index * 104_729 + number);
        functions += &format!(
            "(func $f{index} (export \"f{index}\") (param i64) (result i64)
               (i64.xor (i64.rotl (i64.mul (local.get 0) (i64.const {one})) (i64.const {index}))
                        (i64.div_u (i64.const {two}) (local.get 0))))\n"
        );
    }
    let module = format!(
        "(module (import \"test\" \"log\" (func $log (param i64)))
           {functions}
           (func (export \"run\") (call $log (i64.const {number}))))"
    );
    support::object(&module, Isolation::Guard)
}

fn run(module: Arc<Module>) -> (Stop, Vec<i64>) {
    let program = support::link(module, Limits::default());
    support::run(&mut Pool::new(PoolConfig::default()), &program)
}

#[test]
fn nothing_that_is_done_to_the_file_reaches_the_module() {
    let (ours, other) = (object(1), object(2));
    assert!(ours.len() > 16 * 4096, "many pages");
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 6] = [
        ("written over", &|file| fs::write(file, &other).expect("written")),
        ("filled with traps", &|file| fs::write(file, vec![0xcc; ours.len()]).expect("written")),
        ("emptied", &|file| fs::write(file, b"").expect("written")),
        ("cut off", &|file| {
            let file = fs::OpenOptions::new().write(true).open(file).expect("there");
            file.set_len(4096).expect("cut off");
        }),
        ("removed", &|file| fs::remove_file(file).expect("removed")),
        ("replaced", &|file| {
            let beside = file.with_extension("new");
            fs::write(&beside, &other).expect("written");
            fs::rename(beside, file).expect("replaced");
        }),
    ];
    for (what, damage) in damages {
        let (_directory, file) = support::file(&ours);
        let module = Module::load(&file).expect("it loads");
        damage(&file);
        let (stop, log) = run(module);
        assert!(matches!(stop, Stop::Returned), "{what}: {stop:?}");
        assert_eq!(log, [1], "{what}");
    }
}

#[test]
fn what_is_not_a_regular_file_is_refused_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("module.so");
    let name = CString::new(pipe.as_os_str().as_bytes()).expect("no zero");
    // SAFETY: the name ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    for file in [&pipe, directory.path(), Path::new("/dev/zero")] {
        let (sender, receiver) = mpsc::channel();
        let path = file.to_path_buf();
        std::thread::spawn(move || sender.send(Module::load(&path).map(drop)));
        let refused = receiver.recv_timeout(PATIENCE).expect("an answer, though nobody writes");
        assert!(matches!(refused, Err(LoadError::NotAFile)), "{}: {refused:?}", file.display());
    }
}

#[test]
fn bytes_are_those_of_the_file() {
    let ours = object(3);
    let (_directory, file) = support::file(&ours);
    let read = SealedObject::read(&file).expect("it is read");
    fs::write(&file, b"something else").expect("written");
    assert!(read.bytes() == ours);
    let copied = SealedObject::of_bytes(&ours, "a name with [brackets]\n").expect("it is copied");
    assert!(copied.bytes() == ours);
    for object in [read, copied] {
        assert_eq!(run(Module::of_object(object).expect("it loads")).1, [3]);
    }
    let (_directory, other) = support::file(b"\0asm");
    assert!(matches!(Module::load(&other), Err(LoadError::NotElf)));
    // A large one is refused before there is memory for it.
    let file = fs::OpenOptions::new().write(true).open(&other).expect("there");
    file.set_len(1 << 29).expect("a hole takes no room");
    assert!(matches!(SealedObject::read(&other), Err(LoadError::NotElf)));
}

#[test]
fn segments_must_lie_where_the_file_has_them() {
    const PT_LOAD: [u8; 4] = 1_u32.to_le_bytes();
    let mut moved = object(4);
    let header = (64..4096)
        .step_by(56)
        .filter(|at| moved[*at..][..4] == PT_LOAD)
        .nth(1)
        .expect("the text's segment");
    // A page further in the file than in memory.
    let offset = u64::from_le_bytes(moved[header + 8..][..8].try_into().expect("eight bytes"));
    moved[header + 8..][..8].copy_from_slice(&(offset + 4096).to_le_bytes());
    moved.resize(moved.len() + 8192, 0);
    let (_directory, file) = support::file(&moved);
    let refused = Module::load(&file).expect_err("it is refused").to_string();
    assert!(refused.contains("elsewhere than in the file"), "{refused}");
}

/// What may be done with the memory at these addresses.
fn permissions(wanted: std::ops::Range<usize>) -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").expect("readable");
    let number = |text| usize::from_str_radix(text, 16).expect("an address");
    let overlapping = maps.lines().filter(|line| {
        let (start, end) =
            line.split_once(' ').and_then(|line| line.0.split_once('-')).expect("a range");
        number(start) < wanted.end && wanted.start < number(end)
    });
    overlapping.map(|line| line.split(' ').nth(1).expect("permissions").to_owned()).collect()
}

#[test]
fn no_memory_of_a_module_is_ever_writable_and_executable() {
    let modules: Vec<_> = (10..14)
        .map(|number| {
            let bytes = object(number);
            (number, Module::of_object(SealedObject::of_bytes(&bytes, "x").expect("it is copied")))
        })
        .collect();
    for (number, module) in modules {
        let module = module.expect("it loads");
        let range = module.base_address()..module.base_address() + module.mapped_bytes();
        let whole = permissions(range.clone());
        assert!(whole.contains(&"r-xp".to_owned()), "{whole:?}");
        assert!(whole.iter().all(|may| may == "r-xp" || may == "r--p"), "{whole:?}");
        assert_eq!(run(Arc::clone(&module)).1, [number]);
        drop(module);
        let after = permissions(range);
        assert!(after.iter().all(|may| !may.contains('x')), "{after:?}");
    }
}

/// A hardened service may not make memory executable that it has written; it may map files in
/// memory.
#[test]
fn modules_load_where_written_memory_never_becomes_executable() {
    const CHILD: &str = "AWSM_TEST_MDWE";
    const PR_SET_MDWE: libc::c_int = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    if std::env::var_os(CHILD).is_none() {
        let name = "modules_load_where_written_memory_never_becomes_executable";
        let test = std::env::current_exe().expect("this test");
        let mut child = Command::new(test);
        let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{output:?}");
        return;
    }
    // SAFETY: forbids something to this process.
    let set = unsafe { libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) };
    if set != 0 {
        eprintln!("not shown: this kernel does not know PR_SET_MDWE");
        return;
    }
    // Twice: the second takes the place of the first.
    for number in [5, 6] {
        let (_directory, file) = support::file(&object(number));
        let module = Module::load(&file).expect("it loads");
        let maps = fs::read_to_string("/proc/self/maps").expect("readable");
        let sealed = maps.lines().find(|line| line.contains("awsm-text")).expect("the text");
        assert!(sealed.contains(" r-xp "), "{sealed}");
        assert_eq!(run(module).1, [number]);
    }
}
