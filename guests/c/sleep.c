/* sleep: sleeps for the milliseconds that argv[1] or standard input names (none: 1), then says so. */
#include <time.h>

#include "guest.h"

#define LONGEST_MS 3600000

static void sleep_ms(uint64_t ms)
{
    struct timespec left = {(time_t)(ms / 1000), (long)(ms % 1000 * 1000000)};
    while (nanosleep(&left, &left) != 0)
        if (errno != EINTR)
            fail("sleep: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    const char *instruction = read_instruction(argc, argv);
    uint64_t ms = 1;
    if (*instruction != 0 && !parse_number(instruction, LONGEST_MS, &ms))
        fail("sleep: the time must be a number of milliseconds up to %d", LONGEST_MS);
    sleep_ms(ms);
    printf("slept %llu\n", (unsigned long long)ms);
    return finish();
}
