/* elimination: Gauss's, row by row with partial pivoting, then back substitution: A x = b. */
#include "kernel.h"

#define N SIZE(1300, 420)

static int largest_below(double a[N][N], int k)
{
    int pivot = k;
    for (int i = k + 1; i < N; i++)
        if (fabs(a[i][k]) > fabs(a[pivot][k]))
            pivot = i;
    return pivot;
}

static void swap_rows(double a[N][N], double *b, int i, int k)
{
    for (int j = 0; j < N; j++) {
        double other = a[i][j];
        a[i][j] = a[k][j];
        a[k][j] = other;
    }
    double other = b[i];
    b[i] = b[k];
    b[k] = other;
}

static void eliminate(double a[N][N], double *b)
{
    for (int k = 0; k < N; k++) {
        swap_rows(a, b, k, largest_below(a, k));
        for (int i = k + 1; i < N; i++) {
            double factor = a[i][k] / a[k][k];
            for (int j = k; j < N; j++)
                a[i][j] -= factor * a[k][j];
            b[i] -= factor * b[k];
        }
    }
}

static void substitute(double a[N][N], double *b, double *x)
{
    for (int i = N - 1; i >= 0; i--) {
        x[i] = b[i];
        for (int j = i + 1; j < N; j++)
            x[i] -= a[i][j] * x[j];
        x[i] /= a[i][i];
    }
}

int main(void)
{
    MATRIX(a, N, N);
    VECTOR(b, N);
    VECTOR(x, N);
    fill_definite(*a, N);
    fill(b, N);
    for (int i = 0; i + 1 < N; i += 2)
        swap_rows(a, b, i, i + 1);
    eliminate(a, b);
    substitute(a, b, x);
    return answer(x, sizeof(double[N]));
}
