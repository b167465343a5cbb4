/* seidel-2d: Gauss and Seidel's sweep, the mean of nine neighbours in place. */
#include "kernel.h"

#define N 600
#define STEPS SIZE(60, 6)

static void sweep(double a[N][N])
{
    for (int i = 1; i < N - 1; i++)
        for (int j = 1; j < N - 1; j++)
            a[i][j] = (a[i - 1][j - 1] + a[i - 1][j] + a[i - 1][j + 1] + a[i][j - 1] + a[i][j] + a[i][j + 1] +
                       a[i + 1][j - 1] + a[i + 1][j] + a[i + 1][j + 1]) /
                      9.0;
}

int main(void)
{
    MATRIX(a, N, N);
    fill_rows(*a, N, N);
    for (int t = 0; t < STEPS; t++)
        sweep(a);
    return answer(a, sizeof(double[N][N]));
}
