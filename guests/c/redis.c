/* Keeps values in Redis: GET /KEY answers the value or 404, PUT /KEY sets it to the body. The ABI is
 * wagi; the connection is the descriptor that the variable AWSM_FD_REDIS names. It does not block, so
 * the guest waits for it with poll, and its core does other things meanwhile.
 * Source of the protocol: redis.io, "Redis serialization protocol specification".
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int redis;
static char body[1 << 16];
static char reply[1 << 17];
static size_t have;

static void fail(const char *what)
{
    printf("Status: 502\nContent-Type: text/plain\n\n%s: %s\n", what, strerror(errno));
    exit(0);
}

static void wait_for(short event)
{
    struct pollfd fd = {.fd = redis, .events = event};
    if (poll(&fd, 1, 5000) <= 0) {
        errno = ETIMEDOUT;
        fail("redis");
    }
}

static void say(const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t count = write(redis, bytes, len);
        if (count < 0 && errno == EAGAIN) {
            wait_for(POLLOUT);
            continue;
        }
        if (count < 0)
            fail("redis");
        bytes += count;
        len -= (size_t)count;
    }
}

static void say_argument(const char *bytes, size_t len)
{
    char head[32];
    say(head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", len));
    say(bytes, len);
    say("\r\n", 2);
}

static void hear(void)
{
    for (;;) {
        ssize_t count = read(redis, reply + have, sizeof reply - 1 - have);
        if (count < 0 && errno == EAGAIN) {
            wait_for(POLLIN);
            continue;
        }
        if (count <= 0)
            fail("redis");
        have += (size_t)count;
        return;
    }
}

/* The end of the reply's first line, after which the rest begins. */
static size_t first_line(void)
{
    char *end;
    while ((end = memchr(reply, '\n', have)) == NULL)
        hear();
    return (size_t)(end + 1 - reply);
}

static void answer_value(void)
{
    size_t start = first_line();
    long len = strtol(reply + 1, NULL, 10);
    if (reply[0] != '$' || len < 0) {
        puts("Status: 404\nContent-Type: text/plain\n\nno such key");
        return;
    }
    while (have < start + (size_t)len)
        hear();
    printf("Content-Type: text/plain\n\n");
    fwrite(reply + start, 1, (size_t)len, stdout);
}

int main(void)
{
    const char *fd = getenv("AWSM_FD_REDIS"), *method = getenv("REQUEST_METHOD");
    const char *key = getenv("PATH_INFO");
    if (fd == NULL || method == NULL || key == NULL)
        return 2;
    redis = atoi(fd);
    if (strcmp(method, "PUT") == 0) {
        size_t len = fread(body, 1, sizeof body, stdin);
        say("*3\r\n$3\r\nSET\r\n", 13);
        say_argument(key, strlen(key));
        say_argument(body, len);
        size_t start = first_line();
        printf("Status: %d\nContent-Type: text/plain\n\n", reply[0] == '+' ? 200 : 500);
        fwrite(reply, 1, start, stdout);
    } else {
        say("*2\r\n$3\r\nGET\r\n", 13);
        say_argument(key, strlen(key));
        answer_value();
    }
    return 0;
}
