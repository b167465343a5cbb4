//! Pointers and lengths at every boundary, for every function; and calls made of nothing but
//! chance. The guest gets a code or a trap, the host never a fault.

mod common;

use std::sync::Arc;

use awsm_host::{FileLimits, Helpers, Stdin};
use awsm_sandbox::Stop;
use bytes::Bytes;
use common::*;

/// Values at which something ends.
const EDGES: [i64; 16] = [
    0,
    1,
    2,
    3,
    7,
    8,
    1024,
    END - 64,
    END - 8,
    END - 4,
    END - 1,
    END,
    END + 1,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];
const EDGES_64: [i64; 6] = [0, 1, 4096, i64::MAX, i64::MIN, -1];

fn guest(directory: &std::path::Path) -> Guest {
    let limits = FileLimits { descriptors: 64, file_bytes: 1 << 20, written_bytes: 1 << 26 };
    let mut context = in_directory(directory, limits);
    context.stdin = Stdin::Bytes(Bytes::from(vec![1; 1000]));
    context.args = Arc::new(["guest", "argument"].into_iter().collect());
    context.env = Arc::new(["NAME=value"].into_iter().collect());
    Guest::new(context)
}

/// Would the call end the guest, or give way?
fn leaves(name: &str) -> bool {
    matches!(name, "proc_exit" | "proc_raise" | "sched_yield")
}

/// Each parameter at each edge, the others being sensible.
#[test]
fn every_parameter_at_every_edge() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, params) in FUNCTIONS {
        if leaves(name) {
            continue;
        }
        let mut guest = guest(directory.path());
        let file = guest.open(3, "file", Open::CREATE);
        guest.path("file");
        guest.buffer(16);
        for (place, param) in params.chars().enumerate() {
            let edges: &[i64] = if param == 'l' { &EDGES_64 } else { &EDGES };
            for edge in edges {
                for first in [file, 3, 1] {
                    let mut args = vec![512; params.len()];
                    args[0] = first;
                    args[place] = *edge;
                    let errno = guest.call(name, &args);
                    assert!(errno <= 76, "{name} {args:?}: {errno}");
                    // Numbers may have changed hands.
                    if name == "fd_close" || name == "fd_renumber" {
                        guest = self::guest(directory.path());
                        guest.open(3, "file", Open::CREATE);
                    }
                }
            }
        }
    }
}

/// Buffers that overlap, lie across the end, hold their own list, or are too many.
#[test]
fn lists_of_buffers() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut guest = guest(directory.path());
    let file = guest.open(3, "file", Open::CREATE);
    guest.write(file, &[5; 100]).expect("written");
    let iovec = |start: u32, len: u32| [start.to_le_bytes(), len.to_le_bytes()].concat();
    let list = |guest: &mut Guest, at: u32, buffers: &[(u32, u32)]| {
        let bytes: Vec<u8> = buffers.iter().flat_map(|(start, len)| iovec(*start, *len)).collect();
        guest.put(at, &bytes);
        guest.expect("fd_seek", &[file, 0, 0, 900], ());
        let count = buffers.len() as i64;
        let read = guest.call("fd_read", &[file, at.into(), count, OUT.into()]);
        guest.put(at, &bytes);
        let written = guest.call("fd_pwrite", &[file, at.into(), count, 50, OUT.into()]);
        (read, written)
    };
    let end = END as u32;
    assert_eq!(list(&mut guest, 4096, &[(8192, 10), (8196, 10)]), (0, 0), "overlapping");
    assert_eq!(list(&mut guest, 4097, &[(8193, 10)]), (0, 0), "unaligned");
    assert_eq!(list(&mut guest, 4096, &[(4096, 16), (8192, 10)]), (0, 0), "its own list");
    assert_eq!(list(&mut guest, 4096, &[(end, 0)]), (0, 0), "nothing at the end");
    assert_eq!(list(&mut guest, 4096, &[(end - 10, 10)]), (0, 0), "up to the end");
    for beyond in [(end - 10, 11), (end, 1), (u32::MAX, 1), (u32::MAX, u32::MAX), (1, u32::MAX)] {
        assert_eq!(list(&mut guest, 4096, &[beyond]), (21, 21), "{beyond:?}");
        assert_eq!(list(&mut guest, 4096, &[(8192, 4), beyond]), (21, 21), "{beyond:?} second");
    }
    assert_eq!(list(&mut guest, end - 8, &[(8192, 4)]), (0, 0), "the list up to the end");
    for count in [1025, 1 << 29, 1 << 31, 0xffff_ffff] {
        for name in ["fd_read", "fd_write"] {
            guest.expect(name, &[file, 4096, count, OUT.into()], Expected(28));
        }
    }
    // So many buffers of so many bytes that their sum does not fit.
    let all: Vec<u8> = (0..1024).flat_map(|_| iovec(0, end)).collect();
    guest.put(16_384, &all);
    let errno = guest.call("fd_write", &[file, 16_384, 1024, OUT.into()]);
    assert!(errno == 0 || errno == 22, "{errno}");
    guest.expect("fd_read", &[file, 4096, 0, OUT.into()], ());
    guest.expect("fd_write", &[file, 4096, 0, OUT.into()], ());
}

/// A generator of numbers, good enough for tests. Source: Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", 2014 (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Calls, arguments and memory by chance, from fixed seeds, with and without helpers.
/// `AWSM_CHANCES` says how many seeds.
#[test]
fn calls_by_chance() {
    let seeds = std::env::var("AWSM_CHANCES").map_or(8, |seeds| seeds.parse().expect("a number"));
    let house = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(house.path().join("secret"), "kept").expect("made");
    for seed in 0..seeds {
        let room = house.path().join(format!("room{seed}"));
        std::fs::create_dir(&room).expect("made");
        let mut random = Random(seed);
        let mut guest = guest(&room);
        if seed % 2 == 1 {
            guest.context().helpers = Some(Helpers::new(1));
        }
        // Paths, lists and names that make sense, so that calls get somewhere.
        guest.put(1024, b"file/../file");
        guest.put(2048, b"../secret");
        for _ in 0..4000 {
            let (name, params) = FUNCTIONS[random.below(46) as usize];
            // A wait of chance would be long.
            if leaves(name) || name == "poll_oneoff" {
                continue;
            }
            if random.below(8) == 0 {
                let mut bytes = [0; 64];
                bytes.fill_with(|| random.next() as u8 & 0x1f);
                guest.put(512 + random.below(64) as u32 * 4, &bytes);
            }
            let args: Vec<i64> =
                (0..params.len()).map(|place| argument(&mut random, place)).collect();
            match guest.try_call(name, &args) {
                Ok(errno) => assert!(errno <= 76, "{name} {args:?}: {errno}"),
                Err(Stop::Trapped(trap)) => panic!("seed {seed}: {name} {args:?}: {trap}"),
                Err(stop) => panic!("seed {seed}: {name} {args:?}: {stop:?}"),
            }
        }
    }
    assert_eq!(std::fs::read(house.path().join("secret")).expect("there"), b"kept");
    assert_eq!(std::fs::read_dir(house.path()).expect("there").count() as u64, seeds + 1);
}

fn argument(random: &mut Random, place: usize) -> i64 {
    match random.below(if place == 0 { 4 } else { 8 }) {
        0 => 3,
        1 => random.below(8).cast_signed(),
        2 => random.below(64).cast_signed(),
        3 => 512 + random.below(64).cast_signed() * 4,
        4 => [1024, 2048, 4, 9, 12][random.below(5) as usize],
        5 => EDGES[random.below(16) as usize],
        6 => EDGES_64[random.below(6) as usize],
        _ => random.next().cast_signed(),
    }
}

trait FillWith {
    fn fill_with(&mut self, next: impl FnMut() -> u8);
}

impl FillWith for [u8; 64] {
    fn fill_with(&mut self, mut next: impl FnMut() -> u8) {
        self.iter_mut().for_each(|byte| *byte = next());
    }
}
