/* jacobi-2d: the mean of five neighbours on a grid. */
#include "kernel.h"

#define N 700
#define STEPS SIZE(300, 30)

static void step(double to[N][N], double from[N][N])
{
    for (int i = 1; i < N - 1; i++)
        for (int j = 1; j < N - 1; j++)
            to[i][j] = 0.2 * (from[i][j] + from[i][j - 1] + from[i][1 + j] + from[1 + i][j] + from[i - 1][j]);
}

int main(void)
{
    MATRIX(a, N, N);
    MATRIX(b, N, N);
    fill_rows(*a, N, N);
    fill_rows(*b, N, N);
    for (int t = 0; t < STEPS; t++) {
        step(b, a);
        step(a, b);
    }
    return answer(a, sizeof(double[N][N]));
}
