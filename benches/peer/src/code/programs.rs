//! The programs: the paper's seven functions on larger inputs, and numeric kernels.

/// One program.
pub(super) struct Program {
    pub(super) name: &'static str,
    /// What it reads on standard input; less of it if asked.
    pub(super) input: fn(bool) -> Vec<u8>,
}

const SEVEN: [Program; 7] = [
    Program { name: "basicmath", input: questions },
    Program { name: "bitcount", input: |quick| bytes(megabytes(quick, 16)) },
    Program { name: "crc32", input: |quick| bytes(megabytes(quick, 60)) },
    Program { name: "qsort", input: lines },
    Program { name: "sha", input: |quick| bytes(megabytes(quick, 60)) },
    Program { name: "stringsearch", input: text },
    Program { name: "susan", input: picture },
];

/// Sources in `guests/kernels`.
const KERNELS: [&str; 33] = [
    "adi",
    "alignment",
    "atax",
    "bicg",
    "chain",
    "cholesky",
    "correlation",
    "covariance",
    "deriche",
    "doitgen",
    "durbin",
    "elimination",
    "fdtd-2d",
    "fft",
    "floyd-warshall",
    "folding",
    "gemm",
    "gemver",
    "gesummv",
    "gramschmidt",
    "heat-3d",
    "jacobi-1d",
    "jacobi-2d",
    "lu",
    "mvt",
    "nbody",
    "parentheses",
    "seidel-2d",
    "symm",
    "syr2k",
    "syrk",
    "trisolv",
    "trmm",
];

/// All of them.
pub(super) fn all() -> Vec<Program> {
    let kernels = KERNELS.map(|name| Program { name, input: |_| Vec::new() });
    SEVEN.into_iter().chain(kernels).collect()
}

/// Why a program is far from native speed on a processor, as far as that is known.
pub(super) fn why_slow(program: &str, guest: &str, cpu: &str) -> Option<&'static str> {
    match (program, guest, cpu) {
        ("parentheses", "simd", "x86-64") => Some(
            "the guest's vectors multiply and compare numbers of 64 bits, for which this processor has no vector \
             instructions; native code, and the guest without vectors, compute them one by one",
        ),
        ("folding", _, "x86-64-v3" | "x86-64-v4") => Some(
            "the guest chooses the greater number by a move that waits for both; native code branches, which the \
             processor foresees",
        ),
        ("susan", "scalar", "x86-64-v3" | "x86-64-v4") => Some(
            "native code computes with eight neighbours of a pixel at once; the guest's loop, which clang has unrolled, \
             is not rolled up again",
        ),
        (_, "simd", "x86-64-v3" | "x86-64-v4") => {
            Some("the guest's vectors have 128 bits, those of native code 256 or more")
        }
        _ => None,
    }
}

fn megabytes(quick: bool, full: usize) -> usize {
    (if quick { full / 8 } else { full }) << 20
}

/// Marsaglia's xorshift32.
fn random() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(0x2545_f491_u32), |state| {
        let x = state ^ state << 13;
        let x = x ^ x >> 17;
        Some(x ^ x << 5)
    })
}

fn bytes(count: usize) -> Vec<u8> {
    random().take(count / 4).flat_map(u32::to_le_bytes).collect()
}

fn questions(quick: bool) -> Vec<u8> {
    let count = if quick { 5_000 } else { 250_000 };
    let mut random = random();
    let mut next = |range| random.next().expect("endless") % range;
    let question = |i| match i % 4 {
        0 => format!("isqrt {}\n", next(u32::MAX)),
        1 => format!("deg {}.{}\n", next(10), next(100)),
        2 => format!("rad {}\n", next(360)),
        _ => format!("cubic 1 -{}.5 {} -{}\n", next(20), next(50), next(40)),
    };
    (0..count).map(question).collect::<String>().into_bytes()
}

fn lines(quick: bool) -> Vec<u8> {
    let count = if quick { 20_000 } else { 500_000 };
    random().take(count).map(|number| format!("{number:08x}\n")).collect::<String>().into_bytes()
}

/// Words of a few letters, and now and then what is looked for.
fn text(quick: bool) -> Vec<u8> {
    let mut text = b"Hay\n".to_vec();
    for number in random().take(megabytes(quick, 120) / 8) {
        if number % 5000 == 0 {
            text.extend(b"a nEEdle in HAY ");
        }
        let letters = number.to_le_bytes().map(|byte| b'a' + byte % 26);
        text.extend(&letters[..2 + (number >> 30) as usize % 3]);
        text.push(b' ');
    }
    text
}

/// Rectangles and noise.
fn picture(quick: bool) -> Vec<u8> {
    let side: usize = if quick { 200 } else { 1800 };
    let mut pgm = format!("P5 {side} {side} 255\n").into_bytes();
    pgm.extend(random().take(side * side).enumerate().map(|(i, noise)| {
        let (x, y) = (i % side, i / side);
        let light = if (x / 40 + y / 56) % 2 == 0 { 60 } else { 180 };
        light + (noise % 16) as u8
    }));
    pgm
}
