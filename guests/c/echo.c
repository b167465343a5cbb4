/* echo: copies standard input to standard output. */
#include <errno.h>
#include <stddef.h>
#include <unistd.h>

static char buffer[65536];

static int write_all(const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t put = write(STDOUT_FILENO, bytes, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return -1;
        bytes += put;
        len -= (size_t)put;
    }
    return 0;
}

int main(void)
{
    for (;;) {
        ssize_t got = read(STDIN_FILENO, buffer, sizeof buffer);
        if (got == 0)
            return 0;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 || write_all(buffer, (size_t)got) != 0)
            return 1;
    }
}
