/* syrk: C = alpha A A^T + beta C, the lower triangle. */
#include "kernel.h"

#define N SIZE(800, 360)
#define M SIZE(700, 320)

static void syrk(double alpha, double beta, double c[N][N], double a[N][M])
{
    for (int i = 0; i < N; i++) {
        for (int j = 0; j <= i; j++)
            c[i][j] *= beta;
        for (int k = 0; k < M; k++)
            for (int j = 0; j <= i; j++)
                c[i][j] += alpha * a[i][k] * a[j][k];
    }
}

int main(void)
{
    MATRIX(c, N, N);
    MATRIX(a, N, M);
    fill_rows(*c, N, N);
    fill_rows(*a, N, M);
    syrk(1.5, 1.25, c, a);
    return answer(c, sizeof(double[N][N]));
}
