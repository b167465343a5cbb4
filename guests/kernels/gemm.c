/* gemm: C = alpha A B + beta C. */
#include "kernel.h"

#define N SIZE(960, 320)

static void gemm(double alpha, double beta, double c[N][N], double a[N][N], double b[N][N])
{
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++)
            c[i][j] *= beta;
        for (int k = 0; k < N; k++)
            for (int j = 0; j < N; j++)
                c[i][j] += alpha * a[i][k] * b[k][j];
    }
}

int main(void)
{
    MATRIX(a, N, N);
    MATRIX(b, N, N);
    MATRIX(c, N, N);
    fill_rows(*a, N, N);
    fill_rows(*b, N, N);
    fill_rows(*c, N, N);
    gemm(1.5, 1.25, c, a, b);
    return answer(c, sizeof(double[N][N]));
}
