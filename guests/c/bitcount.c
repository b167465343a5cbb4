/* bitcount: counts the bits that are set, in seven ways that must agree.
 * Standard input: any bytes. Answer: how many of their bits are set. */
#include "expected.h"
#include "guest.h"

typedef int counter(uint32_t x);

static uint8_t bits_of_byte[256];

static int each_bit(uint32_t x)
{
    int count = 0;
    for (; x != 0; x >>= 1)
        count += x & 1;
    return count;
}

/* x & (x - 1) clears the lowest bit that is set. */
static int clear_lowest(uint32_t x)
{
    int count = 0;
    for (; x != 0; x &= x - 1)
        count++;
    return count;
}

static int nibble_table(uint32_t x)
{
    static const uint8_t bits[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
    int count = 0;
    for (; x != 0; x >>= 4)
        count += bits[x & 15];
    return count;
}

static int byte_table(uint32_t x)
{
    return bits_of_byte[x & 255] + bits_of_byte[x >> 8 & 255] + bits_of_byte[x >> 16 & 255] + bits_of_byte[x >> 24];
}

/* Adds neighbours: bits to pairs, pairs to nibbles and so on up to the whole word. */
static int add_neighbours(uint32_t x)
{
    x = (x & 0x55555555) + (x >> 1 & 0x55555555);
    x = (x & 0x33333333) + (x >> 2 & 0x33333333);
    x = (x & 0x0f0f0f0f) + (x >> 4 & 0x0f0f0f0f);
    x = (x & 0x00ff00ff) + (x >> 8 & 0x00ff00ff);
    return (int)((x & 0xffff) + (x >> 16));
}

/* The same down to bytes; a multiplication adds the four bytes into the highest. */
static int multiply(uint32_t x)
{
    x -= x >> 1 & 0x55555555;
    x = (x & 0x33333333) + (x >> 2 & 0x33333333);
    x = (x + (x >> 4)) & 0x0f0f0f0f;
    return (int)(x * 0x01010101 >> 24);
}

/* The processor's instruction, or i32.popcnt. */
static int instruction(uint32_t x)
{
    return __builtin_popcount(x);
}

static const struct {
    const char *name;
    counter *count;
} methods[] = {
    {"each bit", each_bit},         {"clear the lowest", clear_lowest}, {"nibble table", nibble_table},
    {"byte table", byte_table},     {"add neighbours", add_neighbours}, {"multiply", multiply},
    {"instruction", instruction},
};
#define METHODS (sizeof methods / sizeof methods[0])

static void fill_byte_table(void)
{
    for (unsigned byte = 1; byte < 256; byte++)
        bits_of_byte[byte] = (uint8_t)(bits_of_byte[byte / 2] + byte % 2);
}

static uint64_t count_all(counter *count, const uint32_t *words, size_t len)
{
    uint64_t total = 0;
    for (size_t i = 0; i < len; i++)
        total += (uint64_t)count(words[i]);
    return total;
}

/* All methods must give the same total. */
static uint64_t count_every_way(const uint32_t *words, size_t len)
{
    uint64_t first = count_all(methods[0].count, words, len);
    for (size_t m = 1; m < METHODS; m++) {
        uint64_t total = count_all(methods[m].count, words, len);
        if (total != first)
            fail("bitcount: %s counts %llu bits, %s %llu", methods[0].name, (unsigned long long)first,
                 methods[m].name, (unsigned long long)total);
    }
    return first;
}

static void check(const char *what, const uint32_t *words, size_t len, uint64_t expected)
{
    uint64_t total = count_every_way(words, len);
    if (total != expected)
        fail("bitcount: %s: got %llu, expected %llu", what, (unsigned long long)total, (unsigned long long)expected);
    printf("%s: %llu bits, %zu methods agree\n", what, (unsigned long long)total, METHODS);
}

#define WORDS_LOG2 18
#define WORDS ((size_t)1 << WORDS_LOG2)

static void self_check(void)
{
    uint32_t *words = allocate(WORDS, sizeof *words);
    for (uint32_t i = 0; i < WORDS; i++)
        words[i] = i;
    /* Below 2^n, every one of n bits is set in half of the numbers. */
    check("counting up", words, WORDS, WORDS_LOG2 * (WORDS / 2));

    uint32_t state = PATTERN_SEED;
    for (size_t i = 0; i < WORDS; i++)
        words[i] = next_random(&state);
    check("random words", words, WORDS, EXPECTED_BITCOUNT_RANDOM);
}

/* The bytes as words; zeros fill the last one. */
static void count_input(struct input input)
{
    size_t len = (input.len + 3) / 4;
    uint32_t *words = allocate(len, sizeof *words);
    memcpy(words, input.bytes, input.len);
    printf("%zu bytes: %llu bits, %zu methods agree\n", input.len, (unsigned long long)count_every_way(words, len),
           METHODS);
}

int main(void)
{
    struct input input = read_input();
    fill_byte_table();
    if (input.len == 0)
        self_check();
    else
        count_input(input);
    return finish();
}
