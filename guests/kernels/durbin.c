/* durbin: Levinson and Durbin's recursion for a symmetric Toeplitz system. */
#include "kernel.h"

#define N 2000
#define ROUNDS SIZE(120, 12)

static void durbin(const double *r, double *y, double *z)
{
    double alpha = -r[0], beta = 1;
    y[0] = -r[0];
    for (int k = 1; k < N; k++) {
        beta = (1 - alpha * alpha) * beta;
        double sum = 0;
        for (int i = 0; i < k; i++)
            sum += r[k - i - 1] * y[i];
        alpha = -(r[k] + sum) / beta;
        for (int i = 0; i < k; i++)
            z[i] = y[i] + alpha * y[k - i - 1];
        for (int i = 0; i < k; i++)
            y[i] = z[i];
        y[k] = alpha;
    }
}

int main(void)
{
    VECTOR(r, N);
    VECTOR(y, N);
    VECTOR(z, N);
    for (int i = 0; i < N; i++)
        r[i] = number((size_t)i, 3) / (4.0 * (i + 1));
    for (int round = 0; round < ROUNDS; round++) {
        durbin(r, y, z);
        r[round % N] += y[round % N] / 1024;
    }
    return answer(y, sizeof(double[N]));
}
