/* trap: traps in the way that argv[1] or standard input names; `none` (or nothing) prints "ok".
 *
 * What traps in wasm is mostly undefined in C. Values and functions therefore come from volatile variables:
 * the optimiser knows nothing about them and leaves the instruction in. Natively the program is for `none`. */
#include "guest.h"

static volatile int zero = 0;
static volatile int seven = 7;
static volatile int minus_one = -1;
static volatile uintptr_t far_address = 0xfffffff0u; /* no guest of ours has memory there */

static int add(int a, int b)
{
    return a + b;
}

static void trap_unreachable(void)
{
    __builtin_trap();
}

static void trap_load(void)
{
    printf("%d\n", *(volatile unsigned char *)far_address);
}

static void trap_store(void)
{
    *(volatile unsigned char *)far_address = 1;
}

static void trap_divide(void)
{
    printf("%d\n", seven / zero);
}

static void trap_remainder(void)
{
    printf("%d\n", seven % zero);
}

static void trap_overflow(void)
{
    printf("%d\n", (INT32_MIN + zero) / minus_one);
}

/* A plain cast would not trap: clang guards it. */
static void convert(double x)
{
#ifdef __wasm__
    printf("%d\n", __builtin_wasm_trunc_s_i32_f64(x));
#else
    printf("%g\n", x);
#endif
}

static void trap_nan(void)
{
    convert((double)zero / zero);
}

static void trap_range(void)
{
    convert(1e10 + zero);
}

/* Each level needs its caller's number after the call returns, in a register or on the native stack; none of
 * it lies in linear memory. The empty assembly keeps the recursion from being turned into a loop. */
__attribute__((noinline)) static uint64_t descend(uint64_t level)
{
    if (level == UINT64_MAX - (uint64_t)zero)
        return 0;
    uint64_t below = descend(level + 1);
    __asm__ volatile("" : "+r"(below));
    return below ^ level;
}

static void trap_stack(void)
{
    printf("%llu\n", (unsigned long long)descend((uint64_t)zero));
}

static void trap_indirect(void)
{
    static double (*volatile wrong_type)(double) = (double (*)(double))(uintptr_t)add;
    printf("%d\n", (int)wrong_type(1.0));
}

/* The first element of the table stays empty, so that a null pointer to a function leads nowhere. */
static void trap_null(void)
{
    static int (*volatile nothing)(int, int) = NULL;
    printf("%d\n", nothing(1, 2));
}

static void trap_undefined(void)
{
    static volatile uintptr_t far_element = 0x7fffffff;
    printf("%d\n", ((int (*)(int, int))far_element)(1, 2));
}

static void no_trap(void)
{
    puts("ok");
}

static const struct {
    const char *name;
    void (*run)(void);
} ways[] = {
    {"none", no_trap},           {"unreachable", trap_unreachable}, {"oob", trap_load},
    {"oob-write", trap_store},   {"div0", trap_divide},             {"rem0", trap_remainder},
    {"overflow", trap_overflow}, {"nan", trap_nan},                 {"range", trap_range},
    {"stack", trap_stack},       {"indirect", trap_indirect},       {"null-call", trap_null},
    {"undefined", trap_undefined},
};

int main(int argc, char **argv)
{
    const char *instruction = read_instruction(argc, argv);
    if (*instruction == 0)
        instruction = "none";
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (strcmp(instruction, ways[i].name) == 0) {
            ways[i].run();
            return finish();
        }
    }
    fprintf(stderr, "trap: the ways are");
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        fprintf(stderr, " %s", ways[i].name);
    fail(" and not '%s'", instruction);
}
