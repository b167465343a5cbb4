/* qsort: sorts strings by their bytes, with a quicksort that hostile input cannot slow down.
 * Standard input: lines. Answer: the same lines, sorted. */
#include "expected.h"
#include "guest.h"

struct string {
    const unsigned char *bytes;
    size_t len;
};

struct strings {
    struct string *items;
    size_t count;
};

/* Ranges this short are left to insertion sort. */
#define SHORT_RANGE 12

static int is_less(struct string a, struct string b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = memcmp(a.bytes, b.bytes, common);
    return order != 0 ? order < 0 : a.len < b.len;
}

static void swap(struct string *a, struct string *b)
{
    struct string kept = *a;
    *a = *b;
    *b = kept;
}

static void insertion_sort(struct string *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct string moving = items[i];
        size_t at = i;
        for (; at > 0 && is_less(moving, items[at - 1]); at--)
            items[at] = items[at - 1];
        items[at] = moving;
    }
}

/* Lets an item sink until neither of its children, 2i + 1 and 2i + 2, is larger. */
static void sink(struct string *items, size_t count, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && is_less(items[child], items[child + 1]))
            child++;
        if (!is_less(items[at], items[child]))
            return;
        swap(&items[at], &items[child]);
        at = child;
    }
}

static void heap_sort(struct string *items, size_t count)
{
    for (size_t at = count / 2; at-- > 0;)
        sink(items, count, at);
    for (size_t end = count; end-- > 1;) {
        swap(&items[0], &items[end]);
        sink(items, end, 0);
    }
}

/* Puts the median of the first, middle and last item first. */
static void choose_pivot(struct string *items, size_t count)
{
    struct string *first = items, *middle = items + count / 2, *last = items + count - 1;
    if (is_less(*last, *first))
        swap(first, last);
    if (is_less(*middle, *first))
        swap(middle, first);
    if (is_less(*last, *middle))
        swap(middle, last);
    swap(first, middle);
}

/* Hoare's partition around the first item. Gives back where the upper part begins; neither part is empty. */
static size_t partition(struct string *items, size_t count)
{
    struct string pivot = items[0];
    size_t low = 0, high = count - 1;
    for (;;) {
        while (is_less(pivot, items[high]))
            high--;
        while (is_less(items[low], pivot))
            low++;
        if (low >= high)
            return high + 1;
        swap(&items[low++], &items[high--]);
    }
}

/* Recursion goes into the shorter part, so it is never deeper than log2(count). After twice as many
 * partitions as a good run needs, heap sort takes over. */
static void quick_sort(struct string *items, size_t count, int partitions_left)
{
    while (count > SHORT_RANGE) {
        if (partitions_left-- == 0) {
            heap_sort(items, count);
            return;
        }
        choose_pivot(items, count);
        size_t lower = partition(items, count);
        if (lower < count - lower) {
            quick_sort(items, lower, partitions_left);
            items += lower;
            count -= lower;
        } else {
            quick_sort(items + lower, count - lower, partitions_left);
            count = lower;
        }
    }
    insertion_sort(items, count);
}

static void sort(struct strings strings)
{
    int depth = 0;
    for (size_t count = strings.count; count > 1; count /= 2)
        depth += 2;
    quick_sort(strings.items, strings.count, depth);
}

/* The end of the input ends the last line, with or without a newline. */
static struct strings split_lines(struct input input)
{
    size_t count = input.len > 0 && input.bytes[input.len - 1] != '\n';
    for (size_t i = 0; i < input.len; i++)
        count += input.bytes[i] == '\n';
    struct strings lines = {allocate(count, sizeof *lines.items), count};
    const unsigned char *next = input.bytes, *end = input.bytes + input.len;
    for (size_t i = 0; i < count; i++) {
        const unsigned char *newline = memchr(next, '\n', (size_t)(end - next));
        lines.items[i].bytes = next;
        lines.items[i].len = (size_t)((newline != NULL ? newline : end) - next);
        next += lines.items[i].len + 1;
    }
    return lines;
}

static void sort_input(struct input input)
{
    struct strings lines = split_lines(input);
    sort(lines);
    for (size_t i = 0; i < lines.count; i++) {
        fwrite(lines.items[i].bytes, 1, lines.items[i].len, stdout);
        putchar('\n');
    }
}

/* ---- The built-in workload ---- */

#define RANDOM_WORDS 60000
#define PATTERNED_WORDS 8000

static void check(const char *what, struct strings words, uint32_t expected)
{
    sort(words);
    uint32_t hash = FNV_START;
    for (size_t i = 0; i < words.count; i++) {
        if (i > 0 && is_less(words.items[i], words.items[i - 1]))
            fail("qsort: %s: words %zu and %zu are out of order", what, i - 1, i);
        hash = fnv1a(hash, words.items[i].bytes, words.items[i].len);
        hash = fnv1a(hash, "\n", 1);
    }
    if (hash != expected)
        fail("qsort: %s: got %08x, expected %08x", what, (unsigned)hash, (unsigned)expected);
    printf("%s: %zu words, %08x\n", what, words.count, (unsigned)hash);
}

static struct strings random_words(size_t count)
{
    struct strings words = {allocate(count, sizeof *words.items), count};
    char *text = allocate(count, WORD_LIMIT);
    uint32_t state = PATTERN_SEED;
    for (size_t i = 0; i < count; i++, text += WORD_LIMIT) {
        words.items[i].bytes = (const unsigned char *)text;
        words.items[i].len = random_word(&state, text);
    }
    return words;
}

/* Five digits each: up to the middle and down again, over and over, which is bad for medians of three. */
static struct strings patterned_words(size_t count)
{
    struct strings words = {allocate(count, sizeof *words.items), count};
    char *text = allocate(count, 6);
    for (unsigned i = 0; i < count; i++, text += 6) {
        unsigned number = i % 2 == 0 ? i / 2 % 1000 : 99999 - i;
        for (int digit = 4; digit >= 0; digit--, number /= 10)
            text[digit] = (char)('0' + number % 10);
        words.items[i].bytes = (const unsigned char *)text;
        words.items[i].len = 5;
    }
    return words;
}

static void self_check(void)
{
    check("random", random_words(RANDOM_WORDS), EXPECTED_QSORT_RANDOM);
    check("patterned", patterned_words(PATTERNED_WORDS), EXPECTED_QSORT_PATTERNED);
}

int main(void)
{
    struct input input = read_input();
    if (input.len == 0)
        self_check();
    else
        sort_input(input);
    return finish();
}
