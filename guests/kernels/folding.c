/* folding: the most base pairs that a strand of RNA can form (Nussinov), by dynamic programming. */
#include "kernel.h"

#define N SIZE(1100, 500)

static int32_t most(int32_t a, int32_t b)
{
    return a >= b ? a : b;
}

static void fold(const char *bases, int32_t table[N][N])
{
    for (int i = N - 1; i >= 0; i--)
        for (int j = i + 1; j < N; j++) {
            table[i][j] = most(table[i][j], table[i][j - 1]);
            if (i + 1 < N)
                table[i][j] = most(table[i][j], table[i + 1][j]);
            if (i + 1 < N) {
                int pair = i < j - 1 && bases[i] + bases[j] == 3;
                table[i][j] = most(table[i][j], table[i + 1][j - 1] + pair);
            }
            for (int k = i + 1; k < j; k++)
                table[i][j] = most(table[i][j], table[i][k] + table[k + 1][j]);
        }
}

int main(void)
{
    static char bases[N];
    int32_t (*table)[N] = array(sizeof(int32_t[N][N]));
    for (int i = 0; i < N; i++)
        bases[i] = (char)((i * i + i) / 3 % 4);
    fold(bases, table);
    return answer(table, sizeof(int32_t[N][N]));
}
