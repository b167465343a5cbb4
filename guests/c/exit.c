/* exit: ends with the exit code that argv[1] or standard input names; 0 when there is none. */
#include "guest.h"

int main(int argc, char **argv)
{
    const char *instruction = read_instruction(argc, argv);
    uint64_t code = 0;
    if (*instruction != 0 && !parse_number(instruction, 255, &code))
        fail("exit: the exit code must be a number from 0 to 255");
    exit((int)code);
}
