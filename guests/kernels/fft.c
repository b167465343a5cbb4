/* fft: Cooley and Tukey's fast Fourier transform, radix 2, there and back. */
#include "kernel.h"

#define LOG 16
#define N (1 << LOG)
#define ROUNDS SIZE(60, 6)

struct complex {
    double re, im;
};

static void reverse(struct complex *x)
{
    for (unsigned i = 0, j = 0; i < N; i++) {
        if (i < j) {
            struct complex other = x[i];
            x[i] = x[j];
            x[j] = other;
        }
        unsigned bit = N >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j |= bit;
    }
}

static void transform(struct complex *x, const struct complex *root, double sign)
{
    reverse(x);
    for (unsigned half = 1; half < N; half *= 2)
        for (unsigned block = 0; block < N; block += 2 * half)
            for (unsigned k = 0; k < half; k++) {
                struct complex w = root[k * (N / 2 / half)];
                struct complex *a = &x[block + k], *b = &x[block + k + half];
                double re = b->re * w.re - b->im * w.im * sign;
                double im = b->re * w.im * sign + b->im * w.re;
                b->re = a->re - re;
                b->im = a->im - im;
                a->re += re;
                a->im += im;
            }
}

/* The roots of unity by halving the angle: exact square roots, so that every libm gives the same. */
static void roots(struct complex *root)
{
    root[0] = (struct complex){1, 0};
    struct complex turn = {0, 1};
    for (unsigned step = N / 4; step >= 1; step /= 2) {
        for (unsigned k = step; k < N / 2; k += 2 * step) {
            struct complex before = root[k - step];
            root[k] = (struct complex){before.re * turn.re - before.im * turn.im,
                                       before.re * turn.im + before.im * turn.re};
        }
        double re = sqrt((1 + turn.re) / 2);
        turn = (struct complex){re, turn.im / (2 * re)};
    }
}

int main(void)
{
    struct complex *x = array(sizeof(struct complex[N]));
    struct complex *root = array(sizeof(struct complex[N / 2]));
    for (size_t i = 0; i < N; i++)
        x[i].re = number(i, 1);
    roots(root);
    for (int round = 0; round < ROUNDS; round++) {
        transform(x, root, 1);
        transform(x, root, -1);
        for (int i = 0; i < N; i++) {
            x[i].re /= N;
            x[i].im /= N;
        }
    }
    return answer(x, sizeof(struct complex[N]));
}
