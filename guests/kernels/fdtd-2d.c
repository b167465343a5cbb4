/* fdtd-2d: Maxwell's equations on a staggered grid in two dimensions (Yee). */
#include "kernel.h"

#define X 600
#define Y 700
#define STEPS SIZE(320, 20)

static void step(double t, double ex[X][Y], double ey[X][Y], double hz[X][Y])
{
    for (int j = 0; j < Y; j++)
        ey[0][j] = t;
    for (int i = 1; i < X; i++)
        for (int j = 0; j < Y; j++)
            ey[i][j] = ey[i][j] - 0.5 * (hz[i][j] - hz[i - 1][j]);
    for (int i = 0; i < X; i++)
        for (int j = 1; j < Y; j++)
            ex[i][j] = ex[i][j] - 0.5 * (hz[i][j] - hz[i][j - 1]);
    for (int i = 0; i < X - 1; i++)
        for (int j = 0; j < Y - 1; j++)
            hz[i][j] = hz[i][j] - 0.7 * (ex[i][j + 1] - ex[i][j] + ey[i + 1][j] - ey[i][j]);
}

int main(void)
{
    MATRIX(ex, X, Y);
    MATRIX(ey, X, Y);
    MATRIX(hz, X, Y);
    fill_rows(*ex, X, Y);
    fill_rows(*ey, X, Y);
    fill_rows(*hz, X, Y);
    for (int t = 0; t < STEPS; t++)
        step(t, ex, ey, hz);
    return answer(hz, sizeof(double[X][Y]));
}
