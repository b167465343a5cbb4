/* nbody: gravity between a few hundred bodies, leapfrog steps. */
#include "kernel.h"

#define N 400
#define STEPS SIZE(400, 20)

struct body {
    double at[3], velocity[3], mass;
};

static void kick(struct body *bodies, double dt)
{
    for (int i = 0; i < N; i++)
        for (int j = i + 1; j < N; j++) {
            double d[3], square = 0.01;
            for (int k = 0; k < 3; k++) {
                d[k] = bodies[j].at[k] - bodies[i].at[k];
                square += d[k] * d[k];
            }
            double pull = dt / (square * sqrt(square));
            for (int k = 0; k < 3; k++) {
                bodies[i].velocity[k] += d[k] * bodies[j].mass * pull;
                bodies[j].velocity[k] -= d[k] * bodies[i].mass * pull;
            }
        }
}

static void drift(struct body *bodies, double dt)
{
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 3; k++)
            bodies[i].at[k] += bodies[i].velocity[k] * dt;
}

int main(void)
{
    struct body *bodies = array(sizeof(struct body[N]));
    for (size_t i = 0; i < N; i++) {
        bodies[i].mass = 1.0 / N;
        for (size_t k = 0; k < 3; k++)
            bodies[i].at[k] = number(i, 50 * k);
    }
    for (int t = 0; t < STEPS; t++) {
        kick(bodies, 0.001);
        drift(bodies, 0.001);
    }
    return answer(bodies, sizeof(struct body[N]));
}
