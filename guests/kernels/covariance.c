/* covariance: the covariance of each pair of columns. */
#include "kernel.h"

#define N SIZE(760, 280)
#define M SIZE(520, 240)

static void covariance(double data[N][M], double cov[M][M], double *mean)
{
    for (int j = 0; j < M; j++) {
        mean[j] = 0;
        for (int i = 0; i < N; i++)
            mean[j] += data[i][j];
        mean[j] /= N;
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < M; j++)
            data[i][j] -= mean[j];
    for (int i = 0; i < M; i++)
        for (int j = i; j < M; j++) {
            cov[i][j] = 0;
            for (int k = 0; k < N; k++)
                cov[i][j] += data[k][i] * data[k][j];
            cov[i][j] /= N - 1.0;
            cov[j][i] = cov[i][j];
        }
}

int main(void)
{
    MATRIX(data, N, M);
    MATRIX(cov, M, M);
    VECTOR(mean, M);
    fill_rows(*data, N, M);
    covariance(data, cov, mean);
    return answer(cov, sizeof(double[M][M]));
}
