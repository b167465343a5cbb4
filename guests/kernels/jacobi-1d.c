/* jacobi-1d: the mean of three neighbours, from one vector to another and back. */
#include "kernel.h"

#define N 40000
#define STEPS SIZE(8000, 800)

static void jacobi(double *a, double *b)
{
    for (int t = 0; t < STEPS; t++) {
        for (int i = 1; i < N - 1; i++)
            b[i] = 0.33333 * (a[i - 1] + a[i] + a[i + 1]);
        for (int i = 1; i < N - 1; i++)
            a[i] = 0.33333 * (b[i - 1] + b[i] + b[i + 1]);
    }
}

int main(void)
{
    VECTOR(a, N);
    VECTOR(b, N);
    fill(a, N);
    fill(b, N);
    jacobi(a, b);
    return answer(a, sizeof(double[N]));
}
