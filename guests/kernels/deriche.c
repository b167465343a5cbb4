/* deriche: an image smoothed by recursive filters, forwards and backwards along rows, then along columns. */
#include "kernel.h"

#define W 900
#define H 700
#define ROUNDS SIZE(20, 1)

/* k of Deriche's filter for alpha = 0.25, and exp(-alpha). */
static const float decay = 0.7788007831f;

static void deriche(float in[W][H], float out[W][H], float y1[W][H], float y2[W][H])
{
    const float k = (1 - decay) * (1 - decay) / (1 + 0.5f * decay - decay * decay);
    const float a1 = k, a2 = k * decay * -0.75f, a3 = k * decay * 1.25f, a4 = -k * decay * decay;
    const float b1 = 2 * decay, b2 = -decay * decay;
    for (int i = 0; i < W; i++) {
        float ym1 = 0, ym2 = 0, xm1 = 0;
        for (int j = 0; j < H; j++) {
            y1[i][j] = a1 * in[i][j] + a2 * xm1 + b1 * ym1 + b2 * ym2;
            xm1 = in[i][j];
            ym2 = ym1;
            ym1 = y1[i][j];
        }
        float yp1 = 0, yp2 = 0, xp1 = 0, xp2 = 0;
        for (int j = H - 1; j >= 0; j--) {
            y2[i][j] = a3 * xp1 + a4 * xp2 + b1 * yp1 + b2 * yp2;
            xp2 = xp1;
            xp1 = in[i][j];
            yp2 = yp1;
            yp1 = y2[i][j];
        }
    }
    for (int i = 0; i < W; i++)
        for (int j = 0; j < H; j++)
            out[i][j] = y1[i][j] + y2[i][j];
    for (int j = 0; j < H; j++) {
        float tm1 = 0, ym1 = 0, ym2 = 0;
        for (int i = 0; i < W; i++) {
            y1[i][j] = a1 * out[i][j] + a2 * tm1 + b1 * ym1 + b2 * ym2;
            tm1 = out[i][j];
            ym2 = ym1;
            ym1 = y1[i][j];
        }
        float tp1 = 0, tp2 = 0, yp1 = 0, yp2 = 0;
        for (int i = W - 1; i >= 0; i--) {
            y2[i][j] = a3 * tp1 + a4 * tp2 + b1 * yp1 + b2 * yp2;
            tp2 = tp1;
            tp1 = out[i][j];
            yp2 = yp1;
            yp1 = y2[i][j];
        }
    }
    for (int i = 0; i < W; i++)
        for (int j = 0; j < H; j++)
            out[i][j] = y1[i][j] + y2[i][j];
}

int main(void)
{
    float (*in)[H] = array(sizeof(float[W][H]));
    float (*out)[H] = array(sizeof(float[W][H]));
    float (*y1)[H] = array(sizeof(float[W][H]));
    float (*y2)[H] = array(sizeof(float[W][H]));
    for (size_t i = 0; i < W; i++)
        for (size_t j = 0; j < H; j++)
            in[i][j] = (float)number(i, j);
    for (int round = 0; round < ROUNDS; round++) {
        deriche(in, out, y1, y2);
        memcpy(in, out, sizeof(float[W][H]));
    }
    return answer(out, sizeof(float[W][H]));
}
