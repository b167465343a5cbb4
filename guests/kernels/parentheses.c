/* parentheses: the cheapest order in which to multiply a chain of matrices, by dynamic programming. */
#include "kernel.h"

#define N SIZE(1000, 460)

static void order(const int64_t *size, int64_t cost[N][N])
{
    for (int length = 2; length <= N; length++)
        for (int i = 0; i + length <= N; i++) {
            int j = i + length - 1;
            int64_t best = INT64_MAX;
            for (int k = i; k < j; k++) {
                int64_t one = cost[i][k] + cost[k + 1][j] + size[i] * size[k + 1] * size[j + 1];
                if (one < best)
                    best = one;
            }
            cost[i][j] = best;
        }
}

int main(void)
{
    static int64_t size[N + 1];
    int64_t (*cost)[N] = array(sizeof(int64_t[N][N]));
    for (int i = 0; i <= N; i++)
        size[i] = 5 + i * 37 % 41;
    order(size, cost);
    return answer(cost, sizeof(int64_t[N][N]));
}
