/* devices: what a program finds in /dev. It lists it, reads some devices and writes to others; what
 * it cannot do it says, and ends with 1. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int failed;

static FILE *must_open(const char *path, const char *mode)
{
    FILE *file = fopen(path, mode);
    if (!file) {
        perror(path);
        failed = 1;
    }
    return file;
}

/* How many of 100,000 bytes there are, and whether they are all zero. */
static void read_from(const char *path)
{
    static char bytes[100000];
    memset(bytes, 1, sizeof bytes);
    FILE *file = must_open(path, "rb");
    if (!file)
        return;
    size_t read = fread(bytes, 1, sizeof bytes, file);
    size_t zeros = 0;
    for (size_t at = 0; at < read; at++)
        zeros += bytes[at] == 0;
    fclose(file);
    printf("%s: %zu bytes, %s\n", path, read, zeros == read ? "zeros" : "not all zeros");
}

static void write_to(const char *path, const char *mode)
{
    FILE *file = must_open(path, mode);
    if (!file)
        return;
    fprintf(file, "to %s\n", path);
    if (fclose(file)) {
        perror(path);
        failed = 1;
    }
}

int main(void)
{
    DIR *directory = opendir("/dev");
    if (!directory) {
        perror("/dev");
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[300];
        struct stat found;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        if (stat(path, &found)) {
            perror(path);
            failed = 1;
        } else if (S_ISCHR(found.st_mode)) {
            printf("%s\n", path);
        }
    }
    closedir(directory);
    read_from("/dev/null");
    read_from("/dev/zero");
    read_from("/dev/urandom");
    read_from("/dev/stdin");
    write_to("/dev/null", "w");
    write_to("/dev/null", "a");
    fflush(stdout);
    write_to("/dev/stdout", "w");
    return failed;
}
