/* gemver: A += u v^T + s t^T, x += beta A^T y + z, w = alpha A x. */
#include "kernel.h"

#define N 1200
#define ROUNDS SIZE(40, 4)

struct vectors {
    double u[N], v[N], s[N], t[N], x[N], y[N], z[N], w[N];
};

static void gemver(double alpha, double beta, double a[N][N], double *u, double *v, double *s, double *t, double *x,
                   double *y, double *z, double *w)
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            a[i][j] = a[i][j] + u[i] * v[j] + s[i] * t[j];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            x[i] = x[i] + beta * a[j][i] * y[j];
    for (int i = 0; i < N; i++)
        x[i] = x[i] + z[i];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            w[i] = w[i] + alpha * a[i][j] * x[j];
}

int main(void)
{
    MATRIX(a, N, N);
    struct vectors *p = array(sizeof *p);
    fill_rows(*a, N, N);
    fill(p->u, N);
    fill(p->v, N);
    fill(p->s, N);
    fill(p->t, N);
    fill(p->y, N);
    fill(p->z, N);
    for (int round = 0; round < ROUNDS; round++)
        gemver(1.0 / N, 1.0 / N, a, p->u, p->v, p->s, p->t, p->x, p->y, p->z, p->w);
    return answer(p->w, sizeof p->w);
}
