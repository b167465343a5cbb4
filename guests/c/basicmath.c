/* basicmath: real roots of cubics, integer square roots, degrees to radians and back.
 * Standard input, a question a line: "cubic A B C D" (the roots of A x^3 + B x^2 + C x + D), "isqrt N",
 * "deg X", "rad X". Answer: a line for each. */
#include <math.h>

#include "expected.h"
#include "guest.h"

#define PI 3.14159265358979323846
#define MAGNITUDE_LIMIT 1e6 /* of the numbers of a question */
#define LEADING_LIMIT 1e-6  /* the least magnitude of a cubic's leading coefficient */

/* Rounding leaves differences up to about this, relative to the numbers subtracted, where there is none. */
#define NOISE 1e-12

struct roots {
    int count;   /* distinct and real */
    double x[3]; /* ascending */
};

static void answer_questions(struct input input);
static void self_check(void);

int main(void)
{
    struct input input = read_input();
    if (input.len > 0)
        answer_questions(input);
    else
        self_check();
    return finish();
}

/* ---- The mathematics ---- */

/* A step of Newton's method, which removes the rounding of the closed formulas; only for simple roots. */
static double polish(double x, double p, double q, double r)
{
    double value = ((x + p) * x + q) * x + r;
    double slope = (3 * x + 2 * p) * x + q;
    return slope != 0 ? x - value / slope : x;
}

static void add_root(struct roots *roots, double x, double scale)
{
    if (fabs(x) <= NOISE * scale)
        x = 0;
    int at = roots->count++;
    for (; at > 0 && roots->x[at - 1] > x; at--)
        roots->x[at] = roots->x[at - 1];
    roots->x[at] = x;
}

/* With x = t - p/3, x^3 + p x^2 + q x + r becomes t^3 - 3 Q t + 2 R. Its roots are
 *     R^2 < Q^3   three: -2 sqrt(Q) cos((angle + 2 pi k) / 3), where cos(angle) = R / sqrt(Q^3)   (Viete)
 *     R^2 = Q^3   2 s and, twice, -s, where s = -cbrt(R)
 *     R^2 > Q^3   one: s + Q/s, where s = -sign(R) cbrt(|R| + sqrt(R^2 - Q^3))                    (Cardano) */
static struct roots solve_cubic(double a, double b, double c, double d)
{
    double p = b / a, q = c / a, r = d / a;
    double scale = fmax(fabs(p), fmax(sqrt(fabs(q)), cbrt(fabs(r)))); /* the size of the largest root, roughly */
    double Q = (p * p - 3 * q) / 9;
    double R = (2 * p * p * p - 9 * p * q + 27 * r) / 54;
    double shift = p / 3;
    struct roots roots = {0, {0}};

    if (fabs(Q) <= NOISE * scale * scale && fabs(R) <= NOISE * scale * scale * scale) {
        add_root(&roots, -shift, scale);
        return roots;
    }
    double Q3 = Q * Q * Q, difference = R * R - Q3;
    if (fabs(difference) <= NOISE * (R * R + fabs(Q3))) {
        double s = -cbrt(R);
        add_root(&roots, polish(2 * s - shift, p, q, r), scale);
        add_root(&roots, -s - shift, scale);
    } else if (difference < 0) {
        double angle = acos(R / sqrt(Q3));
        for (int k = -1; k <= 1; k++)
            add_root(&roots, polish(-2 * sqrt(Q) * cos((angle + 2 * PI * k) / 3) - shift, p, q, r), scale);
    } else {
        double s = -copysign(cbrt(fabs(R) + sqrt(difference)), R);
        add_root(&roots, polish(s + Q / s - shift, p, q, r), scale);
    }
    return roots;
}

/* The largest s with s * s <= n, a bit at a time from the highest. `square` is what the bits found so far
 * have used up, and `bit` a power of four. */
static uint32_t integer_root(uint64_t n)
{
    uint64_t root = 0;
    for (uint64_t bit = UINT64_C(1) << 62; bit != 0; bit >>= 2) {
        uint64_t trial = root + bit;
        root >>= 1;
        if (n >= trial) {
            n -= trial;
            root += bit;
        }
    }
    return (uint32_t)root;
}

static double radians(double degrees)
{
    return degrees * (PI / 180);
}

static double degrees(double radians)
{
    return radians * (180 / PI);
}

/* ---- Questions ---- */

/* Splits a line at its blanks; more than five words are as bad as six. */
static int split(char *line, char *words[6])
{
    int count = 0;
    for (char *word = strtok(line, " \t\r"); word != NULL && count < 6; word = strtok(NULL, " \t\r"))
        words[count++] = word;
    return count;
}

static int parse_real(const char *word, double *value)
{
    char *end;
    if (word[strspn(word, "0123456789+-.eE")] != 0) /* no "inf", "nan" or hexadecimal */
        return 0;
    *value = strtod(word, &end);
    return *end == 0 && end != word && fabs(*value) <= MAGNITUDE_LIMIT;
}

static int answer_cubic(char *words[])
{
    double k[4];
    for (int i = 0; i < 4; i++)
        if (!parse_real(words[i], &k[i]))
            return 0;
    if (fabs(k[0]) < LEADING_LIMIT)
        return 0;
    struct roots roots = solve_cubic(k[0], k[1], k[2], k[3]);
    printf("roots:");
    for (int i = 0; i < roots.count; i++)
        printf(" %.9g", roots.x[i]);
    printf("\n");
    return 1;
}

/* Nine digits: what libm's last bits can change is never seen. */
static int answer(char *line)
{
    char *words[6];
    int count = split(line, words);
    uint64_t n;
    double x;
    if (count == 0)
        return 1;
    if (count == 5 && strcmp(words[0], "cubic") == 0)
        return answer_cubic(words + 1);
    if (count == 2 && strcmp(words[0], "isqrt") == 0 && parse_number(words[1], UINT64_MAX, &n))
        return printf("root: %lu\n", (unsigned long)integer_root(n)) > 0;
    if (count == 2 && strcmp(words[0], "deg") == 0 && parse_real(words[1], &x))
        return printf("radians: %.9g\n", radians(x)) > 0;
    if (count == 2 && strcmp(words[0], "rad") == 0 && parse_real(words[1], &x))
        return printf("degrees: %.9g\n", degrees(x)) > 0;
    return 0;
}

static void answer_questions(struct input input)
{
    char *line = (char *)input.bytes, *end = line + input.len;
    for (int number = 1; line < end; number++) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        char *line_end = newline != NULL ? newline : end;
        *line_end = 0;
        if (strlen(line) != (size_t)(line_end - line) || !answer(line))
            fail("basicmath: line %d is not \"cubic A B C D\", \"isqrt N\", \"deg X\" or \"rad X\" "
                 "with numbers up to %g",
                 number, MAGNITUDE_LIMIT);
        line = line_end + 1;
    }
}

/* ---- The built-in workload ---- */

/* Cubics are made from known roots, so that the answer is known. */
#define LARGEST_ROOT 18
#define TOLERANCE 1e-9

static void check_roots(double a, double b, double c, double d, int count, const double expected[])
{
    struct roots roots = solve_cubic(a, b, c, d);
    int good = roots.count == count;
    for (int i = 0; good && i < count; i++)
        good = fabs(roots.x[i] - expected[i]) <= TOLERANCE;
    if (!good)
        fail("basicmath: wrong roots for %g %g %g %g: %d of them, the first is %.12g", a, b, c, d, roots.count,
             roots.x[0]);
}

/* a (x - u) (x - v) (x - w), with u <= v <= w. */
static void check_real(double a, double u, double v, double w)
{
    double distinct[3];
    int count = 0;
    distinct[count++] = u;
    if (v > u)
        distinct[count++] = v;
    if (w > v)
        distinct[count++] = w;
    check_roots(a, -a * (u + v + w), a * (u * v + u * w + v * w), -a * u * v * w, count, distinct);
}

/* a (x - u) (x - (v + w i)) (x - (v - w i)), with w not 0. */
static void check_complex(double a, double u, double v, double w)
{
    double s = 2 * v, m = v * v + w * w;
    check_roots(a, -a * (s + u), a * (m + s * u), -a * m * u, 1, &u);
}

static void check_cubics(void)
{
    int real = 0, complex = 0;
    for (int a = 1; a <= 3; a++)
        for (int u = -LARGEST_ROOT; u <= LARGEST_ROOT; u++)
            for (int v = u; v <= LARGEST_ROOT; v++)
                for (int w = v; w <= LARGEST_ROOT; w++, real++)
                    check_real(a, u, v, w);
    for (int u = -LARGEST_ROOT; u <= LARGEST_ROOT; u++)
        for (int v = -LARGEST_ROOT; v <= LARGEST_ROOT; v++)
            for (int w = 1; w <= LARGEST_ROOT; w++, complex++)
                check_complex(-2, u, v, w);
    printf("cubics: %d with real and %d with complex roots\n", real, complex);
}

static void check_integer_root(uint64_t n)
{
    uint64_t root = integer_root(n);
    int too_large = root * root > n;
    int too_small = root < UINT32_MAX && (root + 1) * (root + 1) <= n;
    if (too_large || too_small)
        fail("basicmath: wrong integer root for %llu: %llu", (unsigned long long)n, (unsigned long long)root);
}

static void check_integer_roots(void)
{
    uint64_t sum = 0;
    for (uint32_t n = 0; n < 100000; n++)
        sum += integer_root(n);
    if (sum != EXPECTED_BASICMATH_ROOT_SUM)
        fail("basicmath: the integer roots add up to %llu", (unsigned long long)sum);
    uint32_t state = PATTERN_SEED;
    for (int i = 0; i < 50000; i++) {
        uint64_t root = next_random(&state), high = next_random(&state);
        check_integer_root(root * root);
        check_integer_root(root * root - 1);
        check_integer_root(high << 32 | root);
    }
    check_integer_root(0);
    check_integer_root(UINT64_MAX);
    printf("integer roots: the first 100000 add up to %llu\n", (unsigned long long)sum);
}

static void check_close(const char *what, double got, double expected)
{
    if (!(fabs(got - expected) <= TOLERANCE))
        fail("basicmath: %s: got %.12g, expected %.12g", what, got, expected);
}

static void check_angles(void)
{
    double sum = 0;
    for (int tenths = 0; tenths <= 3600; tenths++) {
        double angle = radians(tenths / 10.0);
        sum += angle;
        check_close("there and back", degrees(angle), tenths / 10.0);
    }
    check_close("sum of angles", sum, 3601 * PI);
    check_close("sine of 30 degrees", sin(radians(30)), 0.5);
    check_close("tangent of 45 degrees", tan(radians(45)), 1);
    printf("angles: 0 to 360 degrees, there and back\n");
}

static void self_check(void)
{
    check_cubics();
    check_integer_roots();
    check_angles();
}
