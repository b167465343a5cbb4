/* floyd-warshall: the shortest paths between all pairs of nodes. */
#include "kernel.h"

#define N SIZE(800, 360)

static void shortest(int32_t path[N][N])
{
    for (int k = 0; k < N; k++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                path[i][j] = path[i][j] < path[i][k] + path[k][j] ? path[i][j] : path[i][k] + path[k][j];
}

int main(void)
{
    int32_t (*path)[N] = array(sizeof(int32_t[N][N]));
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            path[i][j] = (i + j) % 13 == 0 || (i + j) % 7 == 0 || (i + j) % 11 == 0 ? 999 : i * j % 7 + 1;
    shortest(path);
    return answer(path, sizeof(int32_t[N][N]));
}
