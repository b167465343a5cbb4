/* What every kernel shares: arrays, numbers to fill them with, a checksum to print.
 *
 * A kernel computes one numerical method over arrays whose size is a macro, and prints a checksum of the
 * exact bits of its result. The same source is compiled natively and to wasm; without contraction of
 * floating-point operations both give the same bits, so that the answers can be compared. */
#ifndef KERNEL_H
#define KERNEL_H

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How large, and how often: the first figure runs for 0.1 to 2 s natively, the second, with -DQUICK, for
 * about a tenth of that. */
#ifdef QUICK
#define SIZE(full, quick) (quick)
#else
#define SIZE(full, quick) (full)
#endif

/* Zeroed memory, or the end of the program. */
static inline void *array(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (memory == NULL) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* A matrix, a vector: `MATRIX(a, N, M)` declares a[N][M] on the heap. */
#define VECTOR(name, n) double *name = array(sizeof(double) * (n))
#define MATRIX(name, n, m) double (*name)[m] = array(sizeof(double[n][m]))
#define CUBE(name, n, m, k) double (*name)[m][k] = array(sizeof(double[n][m][k]))

/* A number in [0, 1) that depends on its place only. */
static inline double number(size_t i, size_t j)
{
    return (double)((i * 31 + j * 17 + 11) % 257) / 257.0;
}

static inline void fill(double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = number(i, i / 7);
}

static inline void fill_rows(double *x, size_t rows, size_t columns)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            x[i * columns + j] = number(i, j);
}

/* A symmetric matrix whose diagonal outweighs its rows: elimination needs no pivots, roots are real. */
static inline void fill_definite(double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++)
            x[i * n + j] = x[j * n + i] = i == j ? (double)n : number(i, j);
}

/* Prints a checksum of the bits of `bytes` bytes, a multiple of 8. */
static inline int answer(const void *result, size_t bytes)
{
    const unsigned char *from = result;
    uint64_t sum = 0xcbf29ce484222325;
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t word;
        memcpy(&word, from + i, 8);
        sum = (sum ^ word) * 0x100000001b3;
        sum ^= sum >> 29;
    }
    printf("%016" PRIx64 "\n", sum);
    return 0;
}

#endif
