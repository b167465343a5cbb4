/* sha: SHA-1 as FIPS 180-4 defines it.
 * Standard input: any bytes. Answer: their digest in hexadecimal. */
#include "expected.h"
#include "guest.h"

#define BLOCK_BYTES 64
#define DIGEST_BYTES 20

struct sha1 {
    uint32_t h[5];
    uint64_t message_bytes;
    unsigned char block[BLOCK_BYTES]; /* the first message_bytes % 64 bytes are pending */
};

static uint32_t rotate_left(uint32_t x, unsigned n)
{
    return x << n | x >> (32 - n);
}

static uint32_t load_big_endian(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void start(struct sha1 *s)
{
    static const uint32_t initial[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    memcpy(s->h, initial, sizeof initial);
    s->message_bytes = 0;
}

/* f_t and K_t of section 4: one pair for each twenty rounds. */
static uint32_t choose(uint32_t x, uint32_t y, uint32_t z)
{
    return (x & y) ^ (~x & z);
}

static uint32_t parity(uint32_t x, uint32_t y, uint32_t z)
{
    return x ^ y ^ z;
}

static uint32_t majority(uint32_t x, uint32_t y, uint32_t z)
{
    return (x & y) ^ (x & z) ^ (y & z);
}

/* Twenty rounds with one f and one K. v holds a, b, c, d, e. */
static inline __attribute__((always_inline)) void
twenty_rounds(uint32_t v[5], const uint32_t *w, uint32_t k, uint32_t (*f)(uint32_t, uint32_t, uint32_t))
{
    uint32_t a = v[0], b = v[1], c = v[2], d = v[3], e = v[4];
    for (int t = 0; t < 20; t++) {
        uint32_t next = rotate_left(a, 5) + f(b, c, d) + e + k + w[t];
        e = d;
        d = c;
        c = rotate_left(b, 30);
        b = a;
        a = next;
    }
    v[0] = a, v[1] = b, v[2] = c, v[3] = d, v[4] = e;
}

static void digest_block(uint32_t h[5], const unsigned char block[BLOCK_BYTES])
{
    uint32_t w[80];
    for (int t = 0; t < 16; t++)
        w[t] = load_big_endian(block + 4 * t);
    for (int t = 16; t < 80; t++)
        w[t] = rotate_left(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);

    uint32_t v[5];
    memcpy(v, h, sizeof v);
    twenty_rounds(v, w, 0x5a827999, choose);
    twenty_rounds(v, w + 20, 0x6ed9eba1, parity);
    twenty_rounds(v, w + 40, 0x8f1bbcdc, majority);
    twenty_rounds(v, w + 60, 0xca62c1d6, parity);
    for (int i = 0; i < 5; i++)
        h[i] += v[i];
}

static void add(struct sha1 *s, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    size_t pending = s->message_bytes % BLOCK_BYTES;
    s->message_bytes += len;
    if (pending > 0) {
        size_t take = BLOCK_BYTES - pending < len ? BLOCK_BYTES - pending : len;
        memcpy(s->block + pending, bytes, take);
        if (pending + take < BLOCK_BYTES)
            return;
        digest_block(s->h, s->block);
        bytes += take;
        len -= take;
    }
    for (; len >= BLOCK_BYTES; bytes += BLOCK_BYTES, len -= BLOCK_BYTES)
        digest_block(s->h, bytes);
    memcpy(s->block, bytes, len);
}

/* Pads as section 5.1.1 says and writes the digest in hexadecimal. */
static void end(struct sha1 *s, char hex[2 * DIGEST_BYTES + 1])
{
    static const unsigned char padding[BLOCK_BYTES] = {0x80};
    uint64_t message_bits = s->message_bytes * 8;
    size_t pending = s->message_bytes % BLOCK_BYTES;
    add(s, padding, pending < 56 ? 56 - pending : 120 - pending);
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(message_bits >> (56 - 8 * i));
    add(s, length, sizeof length);
    for (int i = 0; i < 5; i++)
        snprintf(hex + 8 * i, 9, "%08x", (unsigned)s->h[i]);
}

static void check_digest(const char *what, struct sha1 *s, const char *expected)
{
    char hex[2 * DIGEST_BYTES + 1];
    end(s, hex);
    if (strcmp(hex, expected) != 0)
        fail("sha: %s: got %s, expected %s", what, hex, expected);
    printf("%s: %s\n", what, hex);
}

static void check_message(const char *what, const char *message, const char *expected)
{
    struct sha1 s;
    start(&s);
    add(&s, message, strlen(message));
    check_digest(what, &s, expected);
}

/* The vectors are those of FIPS 180 (and of the empty message); one million 'a's arrive in pieces of
 * 1 to 100 bytes, so that every way to cross a block boundary is taken. */
static void self_check(void)
{
    check_message("empty", "", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    check_message("abc", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
    check_message("two blocks", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                  "84983e441c3bd26ebaae4aa1f95129e5e54670f1");

    struct sha1 s;
    char a[100];
    memset(a, 'a', sizeof a);
    start(&s);
    for (size_t left = 1000000, piece = 1; left > 0; left -= piece, piece = piece % sizeof a + 1) {
        if (piece > left)
            piece = left;
        add(&s, a, piece);
    }
    check_digest("a million a", &s, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");

    static unsigned char pattern[PATTERN_BLOCK_BYTES];
    fill_pattern(pattern);
    start(&s);
    for (unsigned i = 0; i < PATTERN_BLOCKS; i++)
        add(&s, pattern, sizeof pattern);
    check_digest("pattern", &s, EXPECTED_SHA_PATTERN);
}

int main(void)
{
    struct input input = read_input();
    if (input.len == 0) {
        self_check();
    } else {
        struct sha1 s;
        char hex[2 * DIGEST_BYTES + 1];
        start(&s);
        add(&s, input.bytes, input.len);
        end(&s, hex);
        puts(hex);
    }
    return finish();
}
