/* spin: computes for as many iterations as argv[1] or standard input names, then prints a checksum. An
 * iteration is a multiplication and an addition that wait for the one before: about a nanosecond. */
#include "expected.h"
#include "guest.h"

#define BUILT_IN_ITERATIONS 10000000

/* Knuth's linear congruential generator modulo 2^64, of which any state can be computed directly. The empty
 * assembly keeps the optimiser from doing that for several iterations at once. */
static uint64_t spin(uint64_t iterations)
{
    uint64_t state = 1;
    for (; iterations > 0; iterations--) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        __asm__("" : "+r"(state));
    }
    return state;
}

int main(int argc, char **argv)
{
    const char *instruction = read_instruction(argc, argv);
    uint64_t iterations = BUILT_IN_ITERATIONS;
    if (*instruction != 0 && !parse_number(instruction, UINT64_MAX, &iterations))
        fail("spin: the iterations must be a number below 2^64");
    uint64_t checksum = spin(iterations);
    if (*instruction == 0 && checksum != EXPECTED_SPIN)
        fail("spin: got %016llx, expected %016llx", (unsigned long long)checksum, (unsigned long long)EXPECTED_SPIN);
    printf("%llu iterations: %016llx\n", (unsigned long long)iterations, (unsigned long long)checksum);
    return finish();
}
