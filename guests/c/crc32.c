/* crc32: the CRC-32 of ISO-HDLC, Ethernet and gzip: polynomial 04c11db7 reflected, all ones in and out.
 * Standard input: any bytes. Answer: eight hexadecimal digits. */
#include "expected.h"
#include "guest.h"

#define REFLECTED_POLYNOMIAL 0xedb88320u

static uint32_t remainder_of[256]; /* of each byte, as a polynomial, after division */

static void fill_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t r = byte;
        for (int bit = 0; bit < 8; bit++)
            r = r & 1 ? r >> 1 ^ REFLECTED_POLYNOMIAL : r >> 1;
        remainder_of[byte] = r;
    }
}

/* The CRC of the bytes that `crc` stands for followed by these; 0 stands for no bytes. */
static uint32_t crc32(uint32_t crc, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    crc = ~crc;
    for (size_t i = 0; i < len; i++)
        crc = remainder_of[(crc ^ bytes[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

static void check(const char *what, uint32_t got, uint32_t expected)
{
    if (got != expected)
        fail("crc32: %s: got %08x, expected %08x", what, (unsigned)got, (unsigned)expected);
    printf("%s: %08x\n", what, (unsigned)got);
}

static void self_check(void)
{
    check("123456789", crc32(0, "123456789", 9), 0xcbf43926u); /* the catalogue's check value */

    static unsigned char pattern[PATTERN_BLOCK_BYTES];
    fill_pattern(pattern);
    uint32_t crc = 0;
    for (unsigned i = 0; i < PATTERN_BLOCKS; i++)
        crc = crc32(crc, pattern, sizeof pattern);
    check("pattern", crc, EXPECTED_CRC32_PATTERN);
}

int main(void)
{
    struct input input = read_input();
    fill_table();
    if (input.len == 0)
        self_check();
    else
        printf("%08x\n", (unsigned)crc32(0, input.bytes, input.len));
    return finish();
}
