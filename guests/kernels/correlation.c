/* correlation: the correlation of each pair of columns. */
#include "kernel.h"

#define N SIZE(600, 280)
#define M SIZE(560, 260)

static void correlation(double data[N][M], double corr[M][M], double *mean, double *deviation)
{
    for (int j = 0; j < M; j++) {
        mean[j] = 0;
        for (int i = 0; i < N; i++)
            mean[j] += data[i][j];
        mean[j] /= N;
    }
    for (int j = 0; j < M; j++) {
        deviation[j] = 0;
        for (int i = 0; i < N; i++)
            deviation[j] += (data[i][j] - mean[j]) * (data[i][j] - mean[j]);
        deviation[j] = sqrt(deviation[j] / N);
        deviation[j] = deviation[j] <= 0.1 ? 1 : deviation[j];
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < M; j++)
            data[i][j] = (data[i][j] - mean[j]) / (sqrt((double)N) * deviation[j]);
    for (int i = 0; i < M; i++) {
        corr[i][i] = 1;
        for (int j = i + 1; j < M; j++) {
            corr[i][j] = 0;
            for (int k = 0; k < N; k++)
                corr[i][j] += data[k][i] * data[k][j];
            corr[j][i] = corr[i][j];
        }
    }
}

int main(void)
{
    MATRIX(data, N, M);
    MATRIX(corr, M, M);
    VECTOR(mean, M);
    VECTOR(deviation, M);
    fill_rows(*data, N, M);
    correlation(data, corr, mean, deviation);
    return answer(corr, sizeof(double[M][M]));
}
