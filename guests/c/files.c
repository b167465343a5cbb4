/* Keeps texts in files, in the directory /data: what the body's first line says, one command.
 *   put NAME      the rest of the body becomes the file
 *   get NAME      answers the file
 *   sync NAME     waits until the file is on the disk
 *   list          names, sorted, one a line
 *   remove NAME
 * A failure exits with 1 and says why on stderr.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char body[1 << 16];
static char names[1000][256];

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_in_data(const char *name, int flags)
{
    char path[300];
    snprintf(path, sizeof path, "/data/%s", name);
    int fd = open(path, flags, 0666);
    if (fd < 0)
        fail(path);
    return fd;
}

static void put(const char *name, const char *text, size_t len)
{
    int fd = open_in_data(name, O_WRONLY | O_CREAT | O_TRUNC);
    while (len > 0) {
        ssize_t written = write(fd, text, len);
        if (written < 0)
            fail(name);
        text += written;
        len -= (size_t)written;
    }
    close(fd);
}

static void get(const char *name)
{
    int fd = open_in_data(name, O_RDONLY);
    ssize_t count;
    while ((count = read(fd, body, sizeof body)) > 0)
        fwrite(body, 1, (size_t)count, stdout);
    if (count < 0)
        fail(name);
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void list(void)
{
    DIR *dir = opendir("/data");
    if (dir == NULL)
        fail("/data");
    size_t count = 0;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL && count < 1000)
        if (entry->d_name[0] != '.')
            snprintf(names[count++], sizeof names[0], "%s", entry->d_name);
    closedir(dir);
    qsort(names, count, sizeof names[0], compare);
    for (size_t i = 0; i < count; i++)
        puts(names[i]);
}

int main(void)
{
    size_t len = fread(body, 1, sizeof body - 1, stdin);
    char *rest = memchr(body, '\n', len);
    rest = rest == NULL ? body + len : rest + 1;
    char command[16] = "", name[256] = "";
    sscanf(body, "%15s %255s", command, name);
    if (strcmp(command, "put") == 0)
        put(name, rest, len - (size_t)(rest - body));
    else if (strcmp(command, "get") == 0)
        get(name);
    else if (strcmp(command, "sync") == 0) {
        int fd = open_in_data(name, O_WRONLY);
        if (fsync(fd) != 0)
            fail(name);
    } else if (strcmp(command, "list") == 0)
        list();
    else if (strcmp(command, "remove") == 0) {
        char path[300];
        snprintf(path, sizeof path, "/data/%s", name);
        if (unlink(path) != 0)
            fail(path);
    } else {
        fprintf(stderr, "no such command: %s\n", command);
        return 1;
    }
    return 0;
}
