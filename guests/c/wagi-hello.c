/* wagi-hello: answers in the manner of CGI: header lines, an empty line, the body.
 * The body shows the request's method, path and query and how many bytes came with it. A query that begins
 * with "status=NNN" chooses the answer's status. */
#include "guest.h"

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL ? value : "";
}

/* Only three digits get into the header: nothing else of the request can reach it. */
static void print_status(const char *query)
{
    static const char key[] = "status=";
    if (strncmp(query, key, strlen(key)) != 0)
        return;
    const char *digits = query + strlen(key);
    size_t len = strcspn(digits, "&");
    if (len == 3 && strspn(digits, "0123456789") >= 3)
        printf("Status: %.3s\n", digits);
}

int main(void)
{
    struct input body = read_input();
    const char *query = variable("QUERY_STRING");
    printf("Content-Type: text/plain\n");
    print_status(query);
    printf("\n");
    printf("hello from a wasm function\n");
    printf("method: %s\n", variable("REQUEST_METHOD"));
    printf("path: %s\n", variable("PATH_INFO"));
    printf("query: %s\n", query);
    printf("body: %zu bytes\n", body.len);
    return finish();
}
