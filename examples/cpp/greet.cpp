// Greets whoever the body names. Exceptions are off: a failure is an exit code.
#include <cstdio>
#include <string>
#include <vector>

int main()
{
    std::string name;
    for (int c; (c = std::getchar()) != EOF && c != '\n';)
        name.push_back(static_cast<char>(c));
    if (name.empty())
        name = "world";
    for (const std::string &part : std::vector<std::string>{"Hello, ", name, ", from C++!\n"})
        std::fputs(part.c_str(), stdout);
    return 0;
}
