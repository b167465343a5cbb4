/* cholesky: A = L L^T in place. */
#include "kernel.h"

#define N SIZE(1060, 420)

static void cholesky(double a[N][N])
{
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < i; j++) {
            for (int k = 0; k < j; k++)
                a[i][j] -= a[i][k] * a[j][k];
            a[i][j] /= a[j][j];
        }
        for (int k = 0; k < i; k++)
            a[i][i] -= a[i][k] * a[i][k];
        a[i][i] = sqrt(a[i][i]);
    }
}

int main(void)
{
    MATRIX(a, N, N);
    fill_definite(*a, N);
    cholesky(a);
    return answer(a, sizeof(double[N][N]));
}
