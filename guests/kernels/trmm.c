/* trmm: B = alpha A^T B, where A is lower triangular with ones on its diagonal. */
#include "kernel.h"

#define M SIZE(600, 280)
#define N SIZE(700, 320)

static void trmm(double alpha, double a[M][M], double b[M][N])
{
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            for (int k = i + 1; k < M; k++)
                b[i][j] += a[k][i] * b[k][j];
            b[i][j] = alpha * b[i][j];
        }
}

int main(void)
{
    MATRIX(a, M, M);
    MATRIX(b, M, N);
    fill_rows(*a, M, M);
    fill_rows(*b, M, N);
    trmm(0.5, a, b);
    return answer(b, sizeof(double[M][N]));
}
