/* trisolv: L x = b by forward substitution, for many right-hand sides. */
#include "kernel.h"

#define N 1400
#define ROUNDS SIZE(150, 15)

static void trisolv(double l[N][N], double *x, const double *b)
{
    for (int i = 0; i < N; i++) {
        x[i] = b[i];
        for (int j = 0; j < i; j++)
            x[i] -= l[i][j] * x[j];
        x[i] = x[i] / l[i][i];
    }
}

int main(void)
{
    MATRIX(l, N, N);
    VECTOR(x, N);
    VECTOR(b, N);
    fill_definite(*l, N);
    fill(b, N);
    for (int round = 0; round < ROUNDS; round++) {
        trisolv(l, x, b);
        b[round % N] += x[round % N];
    }
    return answer(x, sizeof(double[N]));
}
