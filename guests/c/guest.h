/* What every guest shares: reading its whole input, failing with a message, and the small generators
 * and checksums that make up the built-in workloads.
 *
 * A guest with empty standard input runs its built-in workload and compares the answer with a value
 * from expected.h, which ../expected.py computes independently of this code. */
#ifndef GUEST_H
#define GUEST_H

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* No guest accepts more input than this. */
#define INPUT_LIMIT_BYTES ((size_t)64 << 20)

/* The data that sha and crc32 digest when they are given none: this block, so many times over. */
#define PATTERN_BLOCK_BYTES 65536u
#define PATTERN_BLOCKS 128u
#define PATTERN_SEED 0x2545f491u

struct input {
    unsigned char *bytes; /* one NUL follows the last byte, for string functions */
    size_t len;
};

/* Prints the message on stderr and ends the guest with exit code 1. */
__attribute__((noreturn, format(printf, 1, 2))) static inline void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static inline void *allocate(size_t count, size_t item_bytes)
{
    void *memory = calloc(count ? count : 1, item_bytes ? item_bytes : 1);
    if (memory == NULL)
        fail("out of memory");
    return memory;
}

/* Reads standard input to its end. */
static inline struct input read_input(void)
{
    struct input input = {NULL, 0};
    size_t capacity = 16384;
    for (;;) {
        unsigned char *larger = realloc(input.bytes, capacity + 1);
        if (larger == NULL)
            fail("out of memory");
        input.bytes = larger;
        while (input.len < capacity) {
            ssize_t got = read(STDIN_FILENO, input.bytes + input.len, capacity - input.len);
            if (got < 0 && errno == EINTR)
                continue;
            if (got < 0)
                fail("cannot read standard input: %s", strerror(errno));
            if (got == 0) {
                input.bytes[input.len] = 0;
                return input;
            }
            input.len += (size_t)got;
        }
        if (capacity >= INPUT_LIMIT_BYTES)
            fail("the input is over the limit of %zu bytes", INPUT_LIMIT_BYTES);
        capacity *= 2;
    }
}

/* What a guest is told to do: argv[1], or else standard input without the white space that ends it. */
static inline const char *read_instruction(int argc, char **argv)
{
    if (argc > 1)
        return argv[1];
    struct input input = read_input();
    while (input.len > 0 && strchr(" \t\r\n", input.bytes[input.len - 1]) != NULL)
        input.bytes[--input.len] = 0;
    if (memchr(input.bytes, 0, input.len) != NULL)
        fail("the input has a NUL byte");
    return (const char *)input.bytes;
}

/* Reads digits up to the end of the text; 0 if there is anything else or the number is over the limit. */
static inline int parse_number(const char *text, uint64_t limit, uint64_t *number)
{
    if (*text == 0)
        return 0;
    for (*number = 0; *text != 0; text++) {
        if (*text < '0' || *text > '9')
            return 0;
        uint64_t digit = (uint64_t)(*text - '0');
        if (*number > limit / 10 || *number * 10 > limit - digit)
            return 0;
        *number = *number * 10 + digit;
    }
    return 1;
}

/* Flushes standard output; an answer that could not be written is a failure. */
static inline int finish(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        fail("cannot write standard output");
    return 0;
}

/* Marsaglia's xorshift32; the state must not be 0. */
static inline uint32_t next_random(uint32_t *state)
{
    uint32_t x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

static inline void fill_pattern(unsigned char block[PATTERN_BLOCK_BYTES])
{
    uint32_t state = PATTERN_SEED;
    for (size_t i = 0; i < PATTERN_BLOCK_BYTES; i += 4) {
        uint32_t word = next_random(&state);
        for (size_t k = 0; k < 4; k++)
            block[i + k] = (unsigned char)(word >> (8 * k));
    }
}

/* Writes a word of 3 to 12 small letters, with a NUL after it; gives back its length. */
#define WORD_LIMIT 13
static inline size_t random_word(uint32_t *state, char word[WORD_LIMIT])
{
    size_t len = 3 + next_random(state) % 10;
    for (size_t i = 0; i < len; i++)
        word[i] = (char)('a' + next_random(state) % 26);
    word[len] = 0;
    return len;
}

/* FNV-1a, 32 bits: start from FNV_START and feed the pieces in order. */
#define FNV_START 0x811c9dc5u
static inline uint32_t fnv1a(uint32_t hash, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * 0x01000193u;
    return hash;
}

#endif
