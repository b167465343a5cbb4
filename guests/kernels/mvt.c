/* mvt: x += A y and z += A^T w, by rows and by columns. */
#include "kernel.h"

#define N 1000
#define ROUNDS SIZE(100, 10)

static void mvt(double a[N][N], double *x, double *z, const double *y, const double *w)
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            x[i] = x[i] + a[i][j] * y[j];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            z[i] = z[i] + a[j][i] * w[j];
}

int main(void)
{
    MATRIX(a, N, N);
    VECTOR(x, N);
    VECTOR(z, N);
    VECTOR(y, N);
    VECTOR(w, N);
    fill_rows(*a, N, N);
    fill(y, N);
    fill(w, N);
    for (int round = 0; round < ROUNDS; round++)
        mvt(a, x, z, y, w);
    answer(x, sizeof(double[N]));
    return answer(z, sizeof(double[N]));
}
