/* adi: the alternating direction implicit method: tridiagonal solves along columns, then along rows. */
#include "kernel.h"

#define N 400
#define STEPS SIZE(60, 6)

static void solve(double to[N][N], double from[N][N], double p[N][N], double q[N][N])
{
    const double a = -0.25, b = 1.5, c = -0.25, d = 0.25;
    for (int i = 1; i < N - 1; i++) {
        to[0][i] = 1;
        p[i][0] = 0;
        q[i][0] = to[0][i];
        for (int j = 1; j < N - 1; j++) {
            p[i][j] = -c / (a * p[i][j - 1] + b);
            q[i][j] = (d * from[j][i - 1] + (1 - 2 * d) * from[j][i] + d * from[j][i + 1] - a * q[i][j - 1]) /
                      (a * p[i][j - 1] + b);
        }
        to[N - 1][i] = 1;
        for (int j = N - 2; j >= 1; j--)
            to[j][i] = p[i][j] * to[j + 1][i] + q[i][j];
    }
}

int main(void)
{
    MATRIX(u, N, N);
    MATRIX(v, N, N);
    MATRIX(p, N, N);
    MATRIX(q, N, N);
    fill_rows(*u, N, N);
    for (int t = 0; t < STEPS; t++) {
        solve(v, u, p, q);
        solve(u, v, p, q);
    }
    return answer(u, sizeof(double[N][N]));
}
