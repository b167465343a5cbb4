/* bicg: s = A^T r and q = A p in one pass, the heart of the biconjugate gradient method. */
#include "kernel.h"

#define N 1200
#define M 1100
#define ROUNDS SIZE(150, 15)

static void bicg(double a[N][M], double *s, double *q, const double *p, const double *r)
{
    for (int j = 0; j < M; j++)
        s[j] = 0;
    for (int i = 0; i < N; i++) {
        q[i] = 0;
        for (int j = 0; j < M; j++) {
            s[j] = s[j] + r[i] * a[i][j];
            q[i] = q[i] + a[i][j] * p[j];
        }
    }
}

int main(void)
{
    MATRIX(a, N, M);
    VECTOR(s, M);
    VECTOR(q, N);
    VECTOR(p, M);
    VECTOR(r, N);
    fill_rows(*a, N, M);
    fill(p, M);
    fill(r, N);
    for (int round = 0; round < ROUNDS; round++) {
        bicg(a, s, q, p, r);
        r[round % N] += s[round % M] / N;
        p[round % M] += q[round % N] / M;
    }
    answer(s, sizeof(double[M]));
    return answer(q, sizeof(double[N]));
}
