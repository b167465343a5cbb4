/* symm: C = alpha A B + beta C, where A is symmetric and only its lower triangle is stored. */
#include "kernel.h"

#define M SIZE(560, 250)
#define N SIZE(600, 260)

static void symm(double alpha, double beta, double c[M][N], double a[M][M], double b[M][N])
{
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < i; k++) {
                c[k][j] += alpha * b[i][j] * a[i][k];
                sum += b[k][j] * a[i][k];
            }
            c[i][j] = beta * c[i][j] + alpha * b[i][j] * a[i][i] + alpha * sum;
        }
}

int main(void)
{
    MATRIX(a, M, M);
    MATRIX(b, M, N);
    MATRIX(c, M, N);
    fill_rows(*a, M, M);
    fill_rows(*b, M, N);
    fill_rows(*c, M, N);
    symm(1.5, 1.25, c, a, b);
    return answer(c, sizeof(double[M][N]));
}
