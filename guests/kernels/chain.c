/* chain: the matrix product A B C D, from left to right, each element as the product of a row and a column. */
#include "kernel.h"

#define N SIZE(440, 200)

static void multiply(double product[N][N], double a[N][N], double b[N][N])
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < N; k++)
                sum += a[i][k] * b[k][j];
            product[i][j] = sum;
        }
}

int main(void)
{
    MATRIX(a, N, N);
    MATRIX(b, N, N);
    MATRIX(c, N, N);
    MATRIX(d, N, N);
    MATRIX(ab, N, N);
    MATRIX(abc, N, N);
    fill_rows(*a, N, N);
    fill_rows(*b, N, N);
    fill_rows(*c, N, N);
    fill_rows(*d, N, N);
    multiply(ab, a, b);
    multiply(abc, ab, c);
    multiply(a, abc, d);
    return answer(a, sizeof(double[N][N]));
}
