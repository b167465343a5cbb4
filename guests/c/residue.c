/* residue: looks for what an earlier invocation may have left behind, then leaves as much as it can itself.
 *
 * Run it twice in the same slot: both runs must print "clean". It looks at
 *     - the memory's size, the stack pointer, a mutable wasm global and static data, which must be initial,
 *     - all of linear memory, for the marker that it plants,
 *     - all of linear memory outside static data and the live stack, and the pages that it grows, for
 *       anything but zeros.
 * On the first finding it prints "found at 0x...: WHAT" and ends with exit code 1. Otherwise it plants the
 * marker in all of these places, prints "clean" and ends with the stack pointer out of place.
 *
 *     0                    __stack_high          __data_end         __heap_end
 *     | unused .. live stack | static data and bss | never allocated | grown pages ..
 *
 * The marker is a word that depends on standard input, so that one guest can look for another's. It is never in
 * linear memory before it is planted: it is kept in wasm's locals. Nothing here allocates memory. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#ifndef __wasm__
#error "residue is about linear memory"
#endif

#define PAGE_BYTES 65536u
#define GROW_PAGES 64u
#define FRAMES_BYTES 2048u /* more than main and all that it calls, libc included, have on the stack */

/* The linker places these: only their addresses mean anything. */
extern char __stack_high, __data_end, __heap_end;

#define FIRST_INITIAL 0x600df00du
#define LAST_INITIAL 0x00ddba11u
static volatile uint32_t initialised[256] = {[0] = FIRST_INITIAL, [255] = LAST_INITIAL};
static volatile uint64_t zeroed[8192];

/* In address space 1, a variable is a wasm global. */
__attribute__((address_space(1))) uint32_t wasm_global;

static char input[64];

/* The compiler may not reason about where these point: the first word of memory is at address 0. */
static volatile uint64_t *word_at(uintptr_t address)
{
    __asm__("" : "+r"(address));
    return (volatile uint64_t *)address;
}

static uintptr_t memory_end(void)
{
    return __builtin_wasm_memory_size(0) * PAGE_BYTES;
}

static void say(const char *text)
{
    if (write(STDOUT_FILENO, text, strlen(text)) < 0)
        _exit(2);
}

__attribute__((noreturn)) static void found(uintptr_t address, const char *what)
{
    char digits[9] = "00000000";
    for (int i = 7; i >= 0; i--, address >>= 4)
        digits[i] = "0123456789abcdef"[address & 15];
    say("found at 0x");
    say(digits);
    say(": ");
    say(what);
    say("\n");
    _exit(1);
}

/* FNV-1a, 64 bits, of standard input. */
static uint64_t read_marker(void)
{
    ssize_t len = read(STDIN_FILENO, input, sizeof input);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (ssize_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)input[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* ---- Looking ---- */

static void look_at_own_state(uintptr_t stack_pointer)
{
    if (stack_pointer > (uintptr_t)&__stack_high || (uintptr_t)&__stack_high - stack_pointer > FRAMES_BYTES)
        found(stack_pointer, "the stack pointer");
    if (memory_end() != (uintptr_t)&__heap_end)
        found(memory_end(), "a memory of another size");
    if (wasm_global != 0)
        found(wasm_global, "the value of a wasm global");
    for (size_t i = 0; i < sizeof initialised / sizeof initialised[0]; i++)
        if (initialised[i] != (i == 0 ? FIRST_INITIAL : i == 255 ? LAST_INITIAL : 0))
            found((uintptr_t)&initialised[i], "changed static data");
    for (size_t i = 0; i < sizeof zeroed / sizeof zeroed[0]; i++)
        if (zeroed[i] != 0)
            found((uintptr_t)&zeroed[i], "static data that is not zero");
}

static void look_for_marker(uintptr_t from, uintptr_t to, uint64_t marker)
{
    for (; from < to; from += sizeof marker)
        if (*word_at(from) == marker)
            found(from, "the marker");
}

static void look_for_anything(uintptr_t from, uintptr_t to)
{
    for (; from < to; from += sizeof(uint64_t))
        if (*word_at(from) != 0)
            found(from, "memory that is not zero");
}

/* ---- Leaving ---- */

static void plant(uintptr_t from, uintptr_t to, uint64_t marker)
{
    for (; from < to; from += sizeof marker)
        *word_at(from) = marker;
}

/* Ends from within a large frame: the stack pointer, a wasm global, stays where it is. */
__attribute__((noreturn, noinline)) static void leave(void)
{
    volatile char frame[2 * FRAMES_BYTES];
    frame[0] = 0;
    _exit(frame[0]);
}

int main(void)
{
    volatile char here = 0;
    uintptr_t stack_pointer = (uintptr_t)&here & ~(uintptr_t)7;
    uintptr_t unused_stack_end = (uintptr_t)&__stack_high - 2 * FRAMES_BYTES;
    uintptr_t unallocated = ((uintptr_t)&__data_end + 7) & ~(uintptr_t)7;
    uint64_t marker = read_marker();

    look_at_own_state(stack_pointer);
    look_for_marker(0, memory_end(), marker);
    look_for_anything(0, unused_stack_end);
    look_for_anything(unallocated, memory_end());

    /* A refusal to grow is not a finding. */
    uintptr_t grown = memory_end();
    if (__builtin_wasm_memory_grow(0, GROW_PAGES) != SIZE_MAX) {
        look_for_marker(grown, memory_end(), marker);
        look_for_anything(grown, memory_end());
    }

    plant(0, unused_stack_end, marker);
    plant(unallocated, memory_end(), marker);
    plant((uintptr_t)zeroed, (uintptr_t)zeroed + sizeof zeroed, marker);
    for (size_t i = 0; i < sizeof initialised / sizeof initialised[0]; i++)
        initialised[i] = (uint32_t)marker;
    wasm_global = (uint32_t)marker;
    say("clean\n");
    leave();
}
