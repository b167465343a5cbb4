/* alignment: the best local alignment of two sequences (Smith and Waterman), row by row. */
#include "kernel.h"

#define N 4000
#define ROUNDS SIZE(12, 2)

static int align(const unsigned char *a, const unsigned char *b, int32_t *row)
{
    int32_t best = 0;
    memset(row, 0, sizeof(int32_t[N + 1]));
    for (int i = 1; i <= N; i++) {
        int32_t diagonal = 0;
        for (int j = 1; j <= N; j++) {
            int32_t score = diagonal + (a[i - 1] == b[j - 1] ? 3 : -2);
            diagonal = row[j];
            if (row[j] - 2 > score)
                score = row[j] - 2;
            if (row[j - 1] - 2 > score)
                score = row[j - 1] - 2;
            row[j] = score > 0 ? score : 0;
            if (row[j] > best)
                best = row[j];
        }
    }
    return best;
}

int main(void)
{
    static unsigned char a[N], b[N];
    static int32_t row[N + 2];
    int64_t scores[ROUNDS];
    uint32_t state = 1;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) {
            state = state * 1664525 + 1013904223;
            a[i] = state >> 30;
            b[i] = i % 5 == 0 ? state >> 28 & 3 : a[i];
        }
        scores[round] = align(a, b, row);
    }
    return answer(scores, sizeof scores);
}
