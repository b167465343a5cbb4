/* doitgen: each row of a cube times a matrix, as in multiresolution analysis. */
#include "kernel.h"

#define R SIZE(110, 40)
#define Q 100
#define P 130

static void doitgen(double a[R][Q][P], double c[P][P], double *sum)
{
    for (int r = 0; r < R; r++)
        for (int q = 0; q < Q; q++) {
            for (int p = 0; p < P; p++) {
                sum[p] = 0;
                for (int s = 0; s < P; s++)
                    sum[p] += a[r][q][s] * c[s][p];
            }
            for (int p = 0; p < P; p++)
                a[r][q][p] = sum[p];
        }
}

int main(void)
{
    CUBE(a, R, Q, P);
    MATRIX(c, P, P);
    VECTOR(sum, P);
    fill_rows(**a, R, Q * P);
    fill_rows(*c, P, P);
    doitgen(a, c, sum);
    return answer(a, sizeof(double[R][Q][P]));
}
