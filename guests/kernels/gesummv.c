/* gesummv: y = alpha A x + beta B x. */
#include "kernel.h"

#define N 900
#define ROUNDS SIZE(200, 20)

static void gesummv(double alpha, double beta, double a[N][N], double b[N][N], double *t, double *x, double *y)
{
    for (int i = 0; i < N; i++) {
        t[i] = 0;
        y[i] = 0;
        for (int j = 0; j < N; j++) {
            t[i] = a[i][j] * x[j] + t[i];
            y[i] = b[i][j] * x[j] + y[i];
        }
        y[i] = alpha * t[i] + beta * y[i];
    }
}

int main(void)
{
    MATRIX(a, N, N);
    MATRIX(b, N, N);
    VECTOR(t, N);
    VECTOR(x, N);
    VECTOR(y, N);
    fill_rows(*a, N, N);
    fill_rows(*b, N, N);
    fill(x, N);
    for (int round = 0; round < ROUNDS; round++) {
        gesummv(1.5, 1.25, a, b, t, x, y);
        x[round % N] += y[round % N] / N;
    }
    return answer(y, sizeof(double[N]));
}
