/* heat-3d: the heat equation on a cube, explicit in time. */
#include "kernel.h"

#define N 90
#define STEPS SIZE(160, 16)

static void step(double to[N][N][N], double from[N][N][N])
{
    for (int i = 1; i < N - 1; i++)
        for (int j = 1; j < N - 1; j++)
            for (int k = 1; k < N - 1; k++)
                to[i][j][k] = 0.125 * (from[i + 1][j][k] - 2.0 * from[i][j][k] + from[i - 1][j][k]) +
                              0.125 * (from[i][j + 1][k] - 2.0 * from[i][j][k] + from[i][j - 1][k]) +
                              0.125 * (from[i][j][k + 1] - 2.0 * from[i][j][k] + from[i][j][k - 1]) + from[i][j][k];
}

int main(void)
{
    CUBE(a, N, N, N);
    CUBE(b, N, N, N);
    fill_rows(**a, N, N * N);
    fill_rows(**b, N, N * N);
    for (int t = 0; t < STEPS; t++) {
        step(b, a);
        step(a, b);
    }
    return answer(a, sizeof(double[N][N][N]));
}
