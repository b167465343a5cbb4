/* null: does nothing. What remains when it is timed is the cost of the platform. */
int main(void)
{
    return 0;
}
