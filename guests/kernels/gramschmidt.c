/* gramschmidt: A = Q R, the modified method of Gram and Schmidt. */
#include "kernel.h"

#define M SIZE(400, 200)
#define N SIZE(500, 240)

static void gramschmidt(double a[M][N], double r[N][N], double q[M][N])
{
    for (int k = 0; k < N; k++) {
        double norm = 0;
        for (int i = 0; i < M; i++)
            norm += a[i][k] * a[i][k];
        r[k][k] = sqrt(norm);
        for (int i = 0; i < M; i++)
            q[i][k] = a[i][k] / r[k][k];
        for (int j = k + 1; j < N; j++) {
            r[k][j] = 0;
            for (int i = 0; i < M; i++)
                r[k][j] += q[i][k] * a[i][j];
            for (int i = 0; i < M; i++)
                a[i][j] = a[i][j] - q[i][k] * r[k][j];
        }
    }
}

int main(void)
{
    MATRIX(a, M, N);
    MATRIX(r, N, N);
    MATRIX(q, M, N);
    fill_rows(*a, M, N);
    for (int i = 0; i < M; i++)
        a[i][i % N] += 10;
    gramschmidt(a, r, q);
    /* The columns beyond the rank are rounding errors: not part of the answer. */
    return answer(r, sizeof(double[M / 2][N]));
}
