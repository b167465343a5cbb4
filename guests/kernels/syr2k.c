/* syr2k: C = alpha (A B^T + B A^T) + beta C, the lower triangle, by rows and columns. */
#include "kernel.h"

#define N SIZE(680, 260)
#define M SIZE(500, 230)

static void syr2k(double alpha, double beta, double c[N][N], double a[N][M], double b[N][M])
{
    for (int i = 0; i < N; i++) {
        for (int j = 0; j <= i; j++)
            c[i][j] *= beta;
        for (int k = 0; k < M; k++)
            for (int j = 0; j <= i; j++)
                c[i][j] += a[j][k] * alpha * b[i][k] + b[j][k] * alpha * a[i][k];
    }
}

int main(void)
{
    MATRIX(c, N, N);
    MATRIX(a, N, M);
    MATRIX(b, N, M);
    fill_rows(*c, N, N);
    fill_rows(*a, N, M);
    fill_rows(*b, N, M);
    syr2k(1.5, 1.25, c, a, b);
    return answer(c, sizeof(double[N][N]));
}
