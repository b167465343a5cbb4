/* stringsearch: finds a pattern in a text, whatever the case of their ASCII letters. The search looks at the
 * text's byte under the pattern's end and skips as far as that byte allows (Horspool).
 * Standard input: the pattern on the first line, then the text. Answer: the offset in the text of every
 * occurrence, a line each, or "not found". Occurrences may overlap. */
#include "expected.h"
#include "guest.h"

#define PATTERN_LIMIT 256

struct search {
    unsigned char pattern[PATTERN_LIMIT]; /* in small letters */
    size_t len;
    size_t skip[256]; /* by how much the pattern may move when this byte is under its end */
};

static unsigned char folded[256]; /* each byte, with capitals made small */

static void fill_folded(void)
{
    for (int byte = 0; byte < 256; byte++)
        folded[byte] = (unsigned char)(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
}

/* A byte's skip takes its last place in the pattern, other than the end, to the end. It is entered for
 * unfolded bytes, so that the search needs one look-up a step. */
static void prepare(struct search *search, const unsigned char *pattern, size_t len)
{
    size_t skip_of_folded[256];
    search->len = len;
    for (int byte = 0; byte < 256; byte++)
        skip_of_folded[byte] = len;
    for (size_t i = 0; i < len; i++) {
        search->pattern[i] = folded[pattern[i]];
        if (i + 1 < len)
            skip_of_folded[search->pattern[i]] = len - 1 - i;
    }
    for (int byte = 0; byte < 256; byte++)
        search->skip[byte] = skip_of_folded[folded[byte]];
}

static int matches(const struct search *search, const unsigned char *text)
{
    for (size_t i = search->len; i-- > 0;)
        if (folded[text[i]] != search->pattern[i])
            return 0;
    return 1;
}

/* The first occurrence at or after `from`, or `len`. The pattern is not empty. */
static size_t find(const struct search *search, const unsigned char *text, size_t len, size_t from)
{
    size_t last = search->len - 1;
    while (from < len && len - from > last) {
        if (matches(search, text + from))
            return from;
        from += search->skip[text[from + last]];
    }
    return len;
}

static void search_input(struct input input)
{
    const unsigned char *newline = memchr(input.bytes, '\n', input.len);
    if (newline == NULL)
        fail("stringsearch: the input must be a line with the pattern and then the text");
    size_t pattern_len = (size_t)(newline - input.bytes);
    if (pattern_len > 0 && newline[-1] == '\r')
        pattern_len--;
    if (pattern_len == 0 || pattern_len > PATTERN_LIMIT)
        fail("stringsearch: the pattern must be of 1 to %d bytes", PATTERN_LIMIT);

    static struct search search;
    prepare(&search, input.bytes, pattern_len);
    const unsigned char *text = newline + 1;
    size_t len = input.len - (size_t)(text - input.bytes);
    size_t at = find(&search, text, len, 0);
    if (at == len)
        puts("not found");
    for (; at < len; at = find(&search, text, len, at + 1))
        printf("%zu\n", at);
}

/* ---- The built-in workload: words of a vocabulary in a text of random case ---- */

#define VOCABULARY 512
#define TEXT_WORDS 60000
#define PATTERN_STEP 8 /* every eighth word of the vocabulary is looked for */

static char vocabulary[VOCABULARY][WORD_LIMIT];

static struct input make_text(void)
{
    struct input text = {allocate(TEXT_WORDS, WORD_LIMIT), 0};
    uint32_t state = PATTERN_SEED;
    for (int i = 0; i < VOCABULARY; i++)
        random_word(&state, vocabulary[i]);
    for (int i = 0; i < TEXT_WORDS; i++) {
        uint32_t random = next_random(&state);
        for (const char *letter = vocabulary[random % VOCABULARY]; *letter != 0; letter++) {
            random = random >> 1 | random << 31;
            text.bytes[text.len++] = (unsigned char)(random & 1 ? *letter : *letter - ('a' - 'A'));
        }
        text.bytes[text.len++] = ' ';
    }
    return text;
}

static void self_check(void)
{
    struct input text = make_text();
    static struct search search;
    uint32_t count = 0, sum = 0;
    for (int i = 0; i < VOCABULARY; i += PATTERN_STEP) {
        const char *word = vocabulary[i];
        prepare(&search, (const unsigned char *)word, strlen(word));
        size_t at = find(&search, text.bytes, text.len, 0);
        for (; at < text.len; at = find(&search, text.bytes, text.len, at + 1)) {
            count++;
            sum += (uint32_t)at;
        }
    }
    if (count != EXPECTED_STRINGSEARCH_COUNT || sum != EXPECTED_STRINGSEARCH_SUM)
        fail("stringsearch: got %u and %08x, expected %u and %08x", (unsigned)count, (unsigned)sum,
             EXPECTED_STRINGSEARCH_COUNT, EXPECTED_STRINGSEARCH_SUM);
    printf("%d patterns in %zu bytes: %u occurrences, their offsets add up to %08x\n", VOCABULARY / PATTERN_STEP,
           text.len, (unsigned)count, (unsigned)sum);
}

int main(void)
{
    struct input input = read_input();
    fill_folded();
    if (input.len == 0)
        self_check();
    else
        search_input(input);
    return finish();
}
