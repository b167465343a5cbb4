/* Greets whoever the body names. The body comes in on stdin, the answer goes out on stdout. */
#include <stdio.h>
#include <string.h>

int main(void)
{
    char name[100] = "";
    if (fgets(name, sizeof name, stdin) != NULL)
        name[strcspn(name, "\n")] = 0;
    printf("Hello, %s, from C!\n", *name ? name : "world");
    return 0;
}
