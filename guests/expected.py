#!/usr/bin/env python3
"""Computes what the guests must answer, independently of their code.

Everything here is written from the definitions or taken from Python's own library (hashlib, zlib, sorted,
str.find, math.isqrt, decimal), never from the guests. It writes

    c/expected.h, rust/src/expected.rs   the answers of the built-in workloads
    data/*                               the samples
    data/expected/*                      the answers for the samples

    expected.py            write them all
    expected.py --check    write nothing; exit 1 if a file is missing or differs
"""

import decimal
import hashlib
import math
import sys
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATTERN_SEED = 0x2545F491


def xorshift32(state):
    """Marsaglia's generator, as a stream of 32-bit words."""
    while True:
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        yield state


def fnv1a(data):
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def pattern():
    """The 8 MiB that sha and crc32 digest."""
    words = xorshift32(PATTERN_SEED)
    block = b"".join(next(words).to_bytes(4, "little") for _ in range(65536 // 4))
    return block * 128


# ---- susan ----

MASK = [(dx, dy) for dy in range(-3, 4) for dx in range(-3, 4) if dx * dx + dy * dy < 11]
assert len(MASK) == 37
FULL = 100 * len(MASK)


def likeness(power):
    return [int(100 * math.exp(-((d / 20) ** power)) + 0.5) for d in range(256)]


def rows_around(image):
    """The rows and the pixel getter of an image that goes on beyond its border."""
    height, width = len(image), len(image[0])
    wide = [[row[0]] * 3 + row + [row[-1]] * 3 for row in image]
    wide = [wide[0]] * 3 + wide + [wide[-1]] * 3
    return width, height, wide


def susan_smooth(image):
    width, height, wide = rows_around(image)
    like = likeness(2)
    near = {(dx, dy): int(100 * math.exp(-(dx * dx + dy * dy) / 4.5) + 0.5) for dx, dy in MASK}
    del near[0, 0]
    out = []
    for y in range(height):
        row = []
        for x in range(width):
            me = wide[y + 3][x + 3]
            weights = total = 0
            for (dx, dy), w in near.items():
                value = wide[y + 3 + dy][x + 3 + dx]
                weight = w * like[abs(value - me)]
                weights += weight
                total += weight * value
            if weights:
                row.append((total + weights // 2) // weights)
            else:
                around = sorted(wide[y + 3 + dy][x + 3 + dx]
                                for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dx, dy) != (0, 0))
                row.append((around[3] + around[4]) // 2)
        out.append(row)
    return out


def usans(image):
    """For each pixel, the likenesses over its mask."""
    width, height, wide = rows_around(image)
    like = likeness(6)
    for y in range(height):
        for x in range(width):
            me = wide[y + 3][x + 3]
            yield x, y, [like[abs(wide[y + 3 + dy][x + 3 + dx] - me)] for dx, dy in MASK]


def moment(usan, p, q):
    return sum(c * dx**p * dy**q for c, (dx, dy) in zip(usan, MASK))


def across_edge(usan):
    """The direction across an edge through the nucleus, as one of four neighbours."""
    area, x, y = sum(usan), moment(usan, 1, 0), moment(usan, 0, 1)
    if area >= 700 and math.hypot(x, y) >= area - 1e-9:
        ax, ay = abs(x), abs(y)
        if ay * 1000 <= ax * 414:
            return 1, 0
        if ax * 1000 <= ay * 414:
            return 0, 1
        return (1, 1) if x * y > 0 else (1, -1)
    xx, yy, xy = moment(usan, 2, 0), moment(usan, 0, 2), moment(usan, 1, 1)
    if xx > 2 * yy:
        return 0, 1
    if yy > 2 * xx:
        return 1, 0
    return (1, 1) if xy < 0 else (1, -1)


def susan_edges(image):
    height, width = len(image), len(image[0])
    strength, across = {}, {}
    for x, y, usan in usans(image):
        if sum(usan) < FULL * 3 // 4:
            strength[x, y] = FULL * 3 // 4 - sum(usan)
            across[x, y] = across_edge(usan)
    out = [[0] * width for _ in range(height)]
    for (x, y), own in strength.items():
        dx, dy = across[x, y]
        if own >= strength.get((x - dx, y - dy), 0) and own > strength.get((x + dx, y + dy), 0):
            out[y][x] = 255
    return out


def nearest(value):
    """Rounds half away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def is_corner(usan):
    area, x, y = sum(usan), moment(usan, 1, 0), moment(usan, 0, 1)
    if area >= FULL // 2 or 2 * (x * x + y * y) <= area * area:
        return False
    longer = max(abs(x), abs(y))
    for step in (1, 2):
        towards = nearest(step * x / longer), nearest(step * y / longer)
        if usan[MASK.index(towards)] < 50:
            return False
    return True


def susan_corners(image):
    height, width = len(image), len(image[0])
    strength = {(x, y): FULL // 2 - sum(usan) for x, y, usan in usans(image) if is_corner(usan)}
    out = [list(row) for row in image]
    for (x, y), own in sorted(strength.items(), key=lambda item: (item[0][1], item[0][0])):
        window = [(strength.get((x + dx, y + dy), 0), -(y + dy), -(x + dx))
                  for dy in range(-3, 4) for dx in range(-3, 4)]
        if max(window) == (own, -y, -x):
            for v in range(max(0, y - 1), min(height, y + 2)):
                for u in range(max(0, x - 1), min(width, x + 2)):
                    out[v][u] = 255 if (u, v) == (x, y) else 0
    return out


def susan_test_image():
    words = xorshift32(PATTERN_SEED)

    def pixel(x, y):
        cell, u, v = x // 40 + y // 40, x % 40 - 20, y % 40 - 20
        inside = u * u + v * v < 150 if cell % 2 else max(abs(u), abs(v)) < 11
        return 40 + x // 4 + (30 + cell * 37 % 90 if inside else 0) + next(words) % 7

    return [[pixel(x, y) for x in range(320)] for y in range(240)]


def flat(image):
    return bytes(value for row in image for value in row)


def sample_image():
    """76 x 95: a house in front of a hill, the sun, a thin mast, some grain and some isolated specks."""
    words = xorshift32(7)
    image = []
    for y in range(95):
        row = []
        for x in range(76):
            value = 200 - y // 2
            if (x - 60) ** 2 + (y - 15) ** 2 < 64:
                value = 250
            if y > 60 + 15 * math.sin(x / 12):
                value = 110
            if 14 <= x < 46 and 50 <= y < 84:
                value = 60
            if abs(x - 30) < (y - 30) * 0.9 and 30 < y < 50:
                value = 20
            if 20 <= x < 28 and 58 <= y < 66 or 34 <= x < 41 and 62 <= y < 84:
                value = 220
            if x == 66 and 25 < y < 80:
                value = 10
            value += next(words) % 5
            if next(words) % 300 == 0:
                value = 0
            row.append(min(value, 255))
        image.append(row)
    return image


def pgm(image):
    return b"P5\n%d %d\n255\n" % (len(image[0]), len(image)) + flat(image)


def plain_pgm(image, white):
    lines = [" ".join("%d" % value for value in row) for row in image]
    return ("P2\n# plain, with a comment\n%d %d # size\n%d\n" % (len(image[0]), len(image), white)
            + "\n".join(lines) + "\n").encode()


# ---- basicmath ----


def bisect(f, low, high):
    """The root of f between two points where its signs differ."""
    for _ in range(300):
        middle = (low + high) / 2
        if (f(middle) < 0) == (f(low) < 0):
            low = middle
        else:
            high = middle
    return low


def cubic_roots(a, b, c, d):
    """Distinct real roots: between neighbouring turning points there is one, or a turning point is one."""
    tiny = decimal.Decimal("1e-40")

    def f(x):
        return ((a * x + b) * x + c) * x + d

    far = 1 + (abs(b) + abs(c) + abs(d)) / abs(a)
    discriminant = b * b - 3 * a * c
    turning = []
    if discriminant >= 0:
        root = discriminant.sqrt()
        turning = sorted({(-b - root) / (3 * a), (-b + root) / (3 * a)})
    roots = [x for x in turning if abs(f(x)) < tiny]
    points = [-far] + turning + [far]
    for low, high in zip(points, points[1:]):
        if abs(f(low)) >= tiny and abs(f(high)) >= tiny and (f(low) < 0) != (f(high) < 0):
            roots.append(bisect(f, low, high))
    return sorted(roots)


def answer_math(line):
    word, *rest = line.split()
    if word == "isqrt":
        return "root: %d" % math.isqrt(int(rest[0]))
    if word == "deg":
        return "radians: %.9g" % math.radians(float(rest[0]))
    if word == "rad":
        return "degrees: %.9g" % math.degrees(float(rest[0]))
    roots = cubic_roots(*map(decimal.Decimal, rest))
    return "roots:" + "".join(" %.9g" % (0 if abs(x) < decimal.Decimal("1e-30") else x) for x in roots)


MATH_QUESTIONS = """\
cubic 1 -6 11 -6
cubic 2 -8 10 -4
cubic 1 3 3 1
cubic 1 0 0 -2
cubic -3 0 0 0
cubic 1 0 -1 0
cubic 1 -10.5 32 -30
cubic 0.5 2.25 -1e1 -7.5
cubic 1 1 1 1
isqrt 0
isqrt 15
isqrt 16
isqrt 4294967295
isqrt 18446744073709551615

deg 180
deg -45
deg 0.5
rad 1
rad 3.14159265
"""

# ---- qsort and stringsearch ----


def random_word(words):
    length = 3 + next(words) % 10
    return bytes(ord("a") + next(words) % 26 for _ in range(length))


def random_words(count):
    words = xorshift32(PATTERN_SEED)
    return [random_word(words) for _ in range(count)]


def patterned_numbers(count):
    return [99999 - i if i % 2 else i // 2 % 1000 for i in range(count)]


def find_all(pattern, text):
    pattern, text = pattern.lower(), text.lower()
    at = text.find(pattern)
    while at >= 0:
        yield at
        at = text.find(pattern, at + 1)


def built_in_text():
    words = xorshift32(PATTERN_SEED)
    vocabulary = [random_word(words) for _ in range(512)]
    text = bytearray()
    for _ in range(60000):
        choice = next(words)
        for i, letter in enumerate(vocabulary[choice % 512]):
            small = choice >> (i + 1) % 32 & 1
            text.append(letter if small else letter - 32)
        text += b" "
    return vocabulary, bytes(text)


def built_in_offsets():
    vocabulary, text = built_in_text()
    return [at for pattern in vocabulary[::8] for at in find_all(pattern, text)]


# ---- spin ----


def congruential_state(steps):
    """x -> a x + c, so many times, modulo 2^64, by repeated squaring of the step."""
    a, c = 6364136223846793005, 1442695040888963407
    many_a, many_c = 1, 0
    while steps:
        if steps & 1:
            many_a, many_c = a * many_a % 2**64, (a * many_c + c) % 2**64
        a, c = a * a % 2**64, (a * c + c) % 2**64
        steps >>= 1
    return (many_a + many_c) % 2**64


# ---- Everything that is written ----


def constants():
    """Name, value, comment."""
    image = susan_test_image()
    yield "SHA_PATTERN", hashlib.sha1(pattern()).hexdigest()
    yield "CRC32_PATTERN", zlib.crc32(pattern())
    yield "SUSAN_IMAGE", fnv1a(flat(image))
    yield "SUSAN_SMOOTH", fnv1a(flat(susan_smooth(image)))
    yield "SUSAN_EDGES", fnv1a(flat(susan_edges(image)))
    yield "SUSAN_CORNERS", fnv1a(flat(susan_corners(image)))
    yield "BASICMATH_ROOT_SUM", sum(math.isqrt(n) for n in range(100000))
    words = xorshift32(PATTERN_SEED)
    yield "BITCOUNT_RANDOM", sum(bin(next(words)).count("1") for _ in range(2**18))
    yield "QSORT_RANDOM", fnv1a(b"".join(word + b"\n" for word in sorted(random_words(60000))))
    yield "QSORT_PATTERNED", fnv1a(b"".join(b"%05d\n" % number for number in sorted(patterned_numbers(8000))))
    offsets = built_in_offsets()
    yield "STRINGSEARCH_COUNT", len(offsets)
    yield "STRINGSEARCH_SUM", sum(offsets) % 2**32
    yield "SPIN", congruential_state(10000000)


def c_header(values):
    lines = ["/* Written by ../expected.py: what the built-in workloads must answer. */"]
    for name, value in values:
        literal = '"%s"' % value if isinstance(value, str) else "0x%x%s" % (value, "ull" if value >= 2**32 else "u")
        lines.append("#define EXPECTED_%s %s" % (name, literal))
    return ("\n".join(lines) + "\n").encode()


def rust_constants(values):
    lines = ["//! Written by `expected.py`: what the built-in workloads must answer.", ""]
    for name, value in values:
        kind = "&str" if isinstance(value, str) else "u64" if value >= 2**32 else "u32"
        literal = '"%s"' % value if isinstance(value, str) else "0x%x" % value
        lines.append("pub const %s: %s = %s;" % (name, kind, literal))
    return ("\n".join(lines) + "\n").encode()


def self_check_answers(v):
    """What the guests print with empty standard input."""
    million = b"a" * 1000000
    two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
    yield "sha", "".join("%s: %s\n" % (what, hashlib.sha1(message).hexdigest()) for what, message in [
        ("empty", b""), ("abc", b"abc"), ("two blocks", two_blocks), ("a million a", million),
        ("pattern", pattern())])
    yield "crc32", "123456789: %08x\npattern: %08x\n" % (zlib.crc32(b"123456789"), v["CRC32_PATTERN"])
    yield "susan", "".join("%s: %08x\n" % (what, v["SUSAN_" + what.upper()])
                           for what in ["image", "smooth", "edges", "corners"])
    yield "basicmath", (
        "cubics: %d with real and %d with complex roots\n" % (3 * math.comb(37 + 2, 3), 37 * 37 * 18)
        + "integer roots: the first 100000 add up to %d\n" % v["BASICMATH_ROOT_SUM"]
        + "angles: 0 to 360 degrees, there and back\n")
    yield "bitcount", (
        "counting up: %d bits, 7 methods agree\n" % sum(bin(n).count("1") for n in range(2**18))
        + "random words: %d bits, 7 methods agree\n" % v["BITCOUNT_RANDOM"])
    yield "qsort", "random: 60000 words, %08x\npatterned: 8000 words, %08x\n" % (
        v["QSORT_RANDOM"], v["QSORT_PATTERNED"])
    yield "stringsearch", "64 patterns in %d bytes: %d occurrences, their offsets add up to %08x\n" % (
        len(built_in_text()[1]), v["STRINGSEARCH_COUNT"], v["STRINGSEARCH_SUM"])
    yield "spin", "10000000 iterations: %016x\n" % v["SPIN"]
    yield "spin-1000", "1000 iterations: %016x\n" % congruential_state(1000)
    yield "sleep", "slept 1\n"
    yield "sleep-30", "slept 30\n"
    yield "trap", "ok\n"
    yield "residue", "clean\n"


def hello(method, path, query, body, status=""):
    return ("Content-Type: text/plain\n%s\nhello from a wasm function\nmethod: %s\npath: %s\nquery: %s\n"
            "body: %d bytes\n" % (status, method, path, query, len(body)))


def samples():
    """Inputs, by file name."""
    text = (HERE / "data/text.txt").read_bytes()
    picture = sample_image()
    plain = [[(x * x + 3 * y) // 7 % 16 for x in range(24)] for y in range(16)]
    return {
        "picture.pgm": pgm(picture),
        "plain.pgm": plain_pgm(plain, 15),
        "dot.pgm": b"P5 1 1 255\n\x80",
        "bad-magic.pgm": b"P6\n1 1\n255\nabc",
        "bad-short.pgm": pgm(picture)[:1000],
        "bad-huge.pgm": b"P5\n8192 8192\n255\n",
        "bad-width.pgm": b"P5\n99999999999999999999 1\n255\na",
        "bad-deep.pgm": b"P5\n1 1\n65535\nab",
        "bad-pixel.pgm": b"P2\n2 2\n7\n0 1\n2 8\n",
        "questions.txt": MATH_QUESTIONS.encode(),
        "bad-question.txt": b"isqrt 16\ncubic 0 1 2 3\n",
        "words.txt": b"pear\nApple\n\nfig\nfig\nfigs\n\xc3\xa9clair\n apple\n\x00nul\nZ\nlast without a newline",
        "search.txt": b"The\n" + text,
        "search-overlap.txt": b"aBa\r\nababa ABABAB b",
        "search-nothing.txt": b"xylophone\n" + text,
        "seven.txt": b"7\n",
        "bad-search.txt": b"\nno pattern\n",
    }


def sample_answers(files):
    """The answers for the samples, by file name; cases.tsv says which guest gives them."""
    text, picture = (HERE / "data/text.txt").read_bytes(), files["picture.pgm"]
    image = sample_image()
    plain = [[(x * x + 3 * y) // 7 % 16 * 255 // 15 for x in range(24)] for y in range(16)]
    yield "sha-text", "%s\n" % hashlib.sha1(text).hexdigest()
    yield "sha-picture", "%s\n" % hashlib.sha1(picture).hexdigest()
    yield "crc32-text", "%08x\n" % zlib.crc32(text)
    yield "crc32-picture", "%08x\n" % zlib.crc32(picture)
    bits = sum(bin(byte).count("1") for byte in picture)
    yield "bitcount-picture", "%d bytes: %d bits, 7 methods agree\n" % (len(picture), bits)
    for name, process in [("smooth", susan_smooth), ("edges", susan_edges), ("corners", susan_corners)]:
        yield "picture-%s.pgm" % name, pgm(process(image))
    yield "plain-edges.pgm", pgm(susan_edges(plain))
    yield "dot-smooth.pgm", pgm([[0x80]])
    yield "questions", "".join(answer_math(line) + "\n" for line in MATH_QUESTIONS.splitlines() if line)
    yield "bad-question", "root: 4\n"
    yield "words", b"".join(line + b"\n" for line in sorted(files["words.txt"].split(b"\n")))
    yield "lines", b"".join(line + b"\n" for line in sorted(text.splitlines()))
    yield "search", "".join("%d\n" % at for at in find_all(b"the", text))
    yield "search-overlap", "".join("%d\n" % at for at in find_all(b"aba", b"ababa ABABAB b"))
    yield "search-nothing", "not found\n"
    yield "hello", hello("", "", "", b"")
    yield "hello-post", hello("POST", "/greet/you", "name=you&x=1", text)
    yield "hello-404", hello("GET", "/", "status=404&why", b"", "Status: 404\n")


def files():
    values = list(constants())
    yield "c/expected.h", c_header(values)
    yield "rust/src/expected.rs", rust_constants(values)
    inputs = samples()
    for name, content in inputs.items():
        yield "data/" + name, content
    for answers in self_check_answers(dict(values)), sample_answers(inputs):
        for name, content in answers:
            name = name if "." in name else name + ".txt"
            yield "data/expected/" + name, content.encode() if isinstance(content, str) else content


def main():
    decimal.getcontext().prec = 60
    check = sys.argv[1:] == ["--check"]
    stale = 0
    for name, content in files():
        path = HERE / name
        if path.exists() and path.read_bytes() == content:
            continue
        stale += 1
        print("%s: %s" % (name, "differs" if check else "written"))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
