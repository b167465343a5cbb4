/* lu: A = L U in place, without pivoting. */
#include "kernel.h"

#define N SIZE(760, 300)

static void lu(double a[N][N])
{
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < i; j++) {
            for (int k = 0; k < j; k++)
                a[i][j] -= a[i][k] * a[k][j];
            a[i][j] /= a[j][j];
        }
        for (int j = i; j < N; j++)
            for (int k = 0; k < i; k++)
                a[i][j] -= a[i][k] * a[k][j];
    }
}

int main(void)
{
    MATRIX(a, N, N);
    fill_definite(*a, N);
    lu(a);
    return answer(a, sizeof(double[N][N]));
}
