/* atax: y = A^T (A x), many times over. */
#include "kernel.h"

#define N 1200
#define M 1400
#define ROUNDS SIZE(100, 10)

static void atax(double a[N][M], double *x, double *y, double *ax)
{
    for (int j = 0; j < M; j++)
        y[j] = 0;
    for (int i = 0; i < N; i++) {
        ax[i] = 0;
        for (int j = 0; j < M; j++)
            ax[i] = ax[i] + a[i][j] * x[j];
        for (int j = 0; j < M; j++)
            y[j] = y[j] + a[i][j] * ax[i];
    }
}

int main(void)
{
    MATRIX(a, N, M);
    VECTOR(x, M);
    VECTOR(y, M);
    VECTOR(ax, N);
    fill_rows(*a, N, M);
    fill(x, M);
    for (int round = 0; round < ROUNDS; round++) {
        atax(a, x, y, ax);
        for (int j = 0; j < M; j++)
            x[j] = y[j] / (1 + fabs(y[j]));
    }
    return answer(y, sizeof(double[M]));
}
