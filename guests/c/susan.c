/* susan: smoothing, edges and corners after Smith and Brady, "SUSAN - a new approach to low level image
 * processing" (1997).
 * Standard input: a PGM image, P5 or P2. Answer: a P5 image of the same size.
 * The mode is argv[1], or else AWSM_MODE, or else QUERY_STRING: smooth (default), edges or corners.
 *
 * Every pixel (the nucleus) is compared with the 37 pixels of a circular mask around it. How alike two
 * brightnesses are comes from a table, in hundredths; the sum over the mask is the area of the USAN, the
 * "univalue segment assimilating nucleus". It is about 3700 in a flat region, half of that on a straight
 * edge and less at a corner. After the tables are made everything is integers, so that the answer is the
 * same on every machine.
 *
 * Beyond its border the image is continued with its outermost pixels. */
#include <math.h>

#include "expected.h"
#include "guest.h"

#define MASK_PIXELS 37
#define MASK_RADIUS 3
#define FULL_AREA (MASK_PIXELS * 100)
#define BRIGHTNESS_THRESHOLD 20.0
#define SMOOTHING_SIGMA 1.5
#define SIDE_LIMIT 8192
#define PIXEL_LIMIT (16 << 20)

enum mode { SMOOTH, EDGES, CORNERS };

struct image {
    int width, height;
    uint8_t *pixels;
};

/* An image with MASK_RADIUS more pixels on each side. */
struct padded {
    int stride;
    uint8_t *pixels;
};

struct mask {
    int dx[MASK_PIXELS], dy[MASK_PIXELS];
    int offset[MASK_PIXELS]; /* from the nucleus, in a padded image */
};

/* What edges and corners keep of each pixel: how strong the response is, and for edges the direction across
 * which it has to be the strongest. */
struct response {
    int16_t strength;
    int8_t across_x, across_y;
};

/* Hundredths, indexed by a difference of brightness + 255. */
typedef uint8_t similarity[511];

static void run_on_input(struct input input, enum mode mode);
static void self_check(void);

static int parse_mode(const char *name, enum mode *mode)
{
    static const char *const names[] = {"smooth", "edges", "corners"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) == 0) {
            *mode = (enum mode)i;
            return 1;
        }
    }
    return 0;
}

static const char *mode_name(int argc, char **argv)
{
    static const char *const variables[] = {"AWSM_MODE", "QUERY_STRING"};
    if (argc > 1)
        return argv[1];
    for (int i = 0; i < 2; i++) {
        const char *value = getenv(variables[i]);
        if (value != NULL && *value != 0)
            return value;
    }
    return "smooth";
}

int main(int argc, char **argv)
{
    enum mode mode;
    if (!parse_mode(mode_name(argc, argv), &mode))
        fail("susan: the mode must be smooth, edges or corners");
    struct input input = read_input();
    if (input.len > 0)
        run_on_input(input, mode);
    else
        self_check();
    return finish();
}

/* ---- Reading and writing PGM ---- */

struct reader {
    const unsigned char *next, *end;
};

static int is_space(int c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* White space and comments may stand before every number of a PGM's header. */
static void skip_space(struct reader *r)
{
    while (r->next < r->end && (is_space(*r->next) || *r->next == '#')) {
        if (*r->next == '#')
            while (r->next < r->end && *r->next != '\n')
                r->next++;
        else
            r->next++;
    }
}

static int read_number(struct reader *r, int least, int most, const char *what)
{
    int value = 0, digits = 0;
    skip_space(r);
    for (; r->next < r->end && *r->next >= '0' && *r->next <= '9'; r->next++, digits++) {
        value = value * 10 + (*r->next - '0');
        if (value > most)
            break;
    }
    if (digits == 0 || value < least || value > most)
        fail("susan: malformed PGM: %s must be a number from %d to %d", what, least, most);
    return value;
}

static struct image new_image(int width, int height)
{
    struct image image = {width, height, allocate((size_t)width * (size_t)height, 1)};
    return image;
}

static struct image read_pgm(struct input input)
{
    struct reader r = {input.bytes, input.bytes + input.len};
    if (input.len < 2 || r.next[0] != 'P' || (r.next[1] != '2' && r.next[1] != '5'))
        fail("susan: not a PGM image: it must begin with P2 or P5");
    int plain = r.next[1] == '2';
    r.next += 2;
    int width = read_number(&r, 1, SIDE_LIMIT, "the width");
    int height = read_number(&r, 1, SIDE_LIMIT, "the height");
    int white = read_number(&r, 1, 255, "the maximum value");
    int count = width * height;
    if (count > PIXEL_LIMIT)
        fail("susan: the image has more than %d pixels", PIXEL_LIMIT);
    if (!plain) {
        if (r.next == r.end || !is_space(*r.next))
            fail("susan: malformed PGM: no white space after the maximum value");
        r.next++;
    }
    /* Before memory is taken for the pixels: a plain pixel takes two bytes, the last one may take one. */
    if (r.end - r.next < (plain ? 2 * (ptrdiff_t)count - 1 : count))
        fail("susan: malformed PGM: the pixels are incomplete");

    struct image image = new_image(width, height);
    for (int i = 0; i < count; i++) {
        int value = plain ? read_number(&r, 0, white, "a pixel") : *r.next++;
        if (value > white)
            fail("susan: malformed PGM: a pixel is over the maximum value");
        image.pixels[i] = (uint8_t)(value * 255 / white);
    }
    return image;
}

static void write_pgm(struct image image)
{
    printf("P5\n%d %d\n255\n", image.width, image.height);
    fwrite(image.pixels, 1, (size_t)image.width * (size_t)image.height, stdout);
}

/* ---- The mask and its tables ---- */

static struct padded pad(struct image image)
{
    int stride = image.width + 2 * MASK_RADIUS;
    int rows = image.height + 2 * MASK_RADIUS;
    struct padded padded = {stride, allocate((size_t)stride * (size_t)rows, 1)};
    for (int row = 0; row < rows; row++) {
        int y = row - MASK_RADIUS;
        y = y < 0 ? 0 : y >= image.height ? image.height - 1 : y;
        const uint8_t *from = image.pixels + y * image.width;
        uint8_t *to = padded.pixels + row * stride;
        memset(to, from[0], MASK_RADIUS);
        memcpy(to + MASK_RADIUS, from, (size_t)image.width);
        memset(to + MASK_RADIUS + image.width, from[image.width - 1], MASK_RADIUS);
    }
    return padded;
}

static const uint8_t *nucleus_at(const struct padded *padded, int x, int y)
{
    return padded->pixels + (y + MASK_RADIUS) * padded->stride + x + MASK_RADIUS;
}

/* The mask's rows are 3, 5, 7, 7, 7, 5 and 3 pixels wide. */
static struct mask make_mask(int stride)
{
    static const int half_width[2 * MASK_RADIUS + 1] = {1, 2, 3, 3, 3, 2, 1};
    struct mask mask;
    int i = 0;
    for (int dy = -MASK_RADIUS; dy <= MASK_RADIUS; dy++) {
        int half = half_width[dy + MASK_RADIUS];
        for (int dx = -half; dx <= half; dx++, i++) {
            mask.dx[i] = dx;
            mask.dy[i] = dy;
            mask.offset[i] = dy * stride + dx;
        }
    }
    return mask;
}

/* exp(-(difference / threshold)^power), in hundredths. The paper takes power 6 to detect features and 2 to
 * smooth. */
static void fill_similarity(similarity similar, double power)
{
    for (int difference = -255; difference <= 255; difference++) {
        double ratio = abs(difference) / BRIGHTNESS_THRESHOLD;
        similar[difference + 255] = (uint8_t)(100.0 * exp(-pow(ratio, power)) + 0.5);
    }
}

/* ---- Smoothing ---- */

/* What smoothing falls back on where no pixel is like the nucleus: the median of its eight neighbours. */
static int median_of_neighbours(const uint8_t *nucleus, int stride)
{
    uint8_t sorted[8];
    int count = 0;
    for (int dy = -1; dy <= 1; dy++) {
        for (int dx = -1; dx <= 1; dx++) {
            if (dx == 0 && dy == 0)
                continue;
            uint8_t value = nucleus[dy * stride + dx];
            int at = count++;
            for (; at > 0 && sorted[at - 1] > value; at--)
                sorted[at] = sorted[at - 1];
            sorted[at] = value;
        }
    }
    return (sorted[3] + sorted[4]) / 2;
}

/* The mean of the mask's pixels other than the nucleus, weighted by nearness and by likeness. */
static struct image smooth(struct image image)
{
    struct padded padded = pad(image);
    struct mask mask = make_mask(padded.stride);
    struct image out = new_image(image.width, image.height);
    similarity similar;
    fill_similarity(similar, 2.0);
    int nearness[MASK_PIXELS]; /* hundredths; 0 leaves the nucleus out */
    for (int i = 0; i < MASK_PIXELS; i++) {
        int square = mask.dx[i] * mask.dx[i] + mask.dy[i] * mask.dy[i];
        double fall = exp(-square / (2 * SMOOTHING_SIGMA * SMOOTHING_SIGMA));
        nearness[i] = square == 0 ? 0 : (int)(100.0 * fall + 0.5);
    }

    for (int y = 0; y < image.height; y++) {
        for (int x = 0; x < image.width; x++) {
            const uint8_t *nucleus = nucleus_at(&padded, x, y);
            const uint8_t *similar_to = similar + 255 - *nucleus;
            int weights = 0, total = 0;
            for (int i = 0; i < MASK_PIXELS; i++) {
                int value = nucleus[mask.offset[i]];
                int weight = nearness[i] * similar_to[value];
                weights += weight;
                total += weight * value;
            }
            int mean = weights > 0 ? (total + weights / 2) / weights : median_of_neighbours(nucleus, padded.stride);
            out.pixels[y * image.width + x] = (uint8_t)mean;
        }
    }
    free(padded.pixels);
    return out;
}

/* ---- Edges and corners ---- */

/* The area of a nucleus's USAN and its first moments. */
struct usan {
    int area, x, y;
};

static struct usan usan_at(const struct mask *mask, const uint8_t *nucleus, const uint8_t *similar_to)
{
    struct usan usan = {0, 0, 0};
    for (int i = 0; i < MASK_PIXELS; i++) {
        int like = similar_to[nucleus[mask->offset[i]]];
        usan.area += like;
        usan.x += like * mask->dx[i];
        usan.y += like * mask->dy[i];
    }
    return usan;
}

static int square_of_moment(struct usan usan)
{
    return usan.x * usan.x + usan.y * usan.y;
}

static int is_edge(int area)
{
    return area < FULL_AREA * 3 / 4;
}

/* Sets the direction across an edge, rounded to one of eight neighbours.
 *
 * Between two regions, the USAN is the nucleus's side: its centre of gravity lies across the edge. On a thin
 * line the USAN is the line itself, with its centre near the nucleus: there the second moments tell how it
 * lies. */
static void set_across(struct response *r, struct usan usan, const struct mask *mask, const uint8_t *nucleus,
                       const uint8_t *similar_to)
{
    int is_thick = usan.area >= (2 * MASK_RADIUS + 1) * 100;
    if (is_thick && square_of_moment(usan) >= usan.area * usan.area) {
        int x = abs(usan.x), y = abs(usan.y);
        int steep = x * 1000 <= y * 414, flat = y * 1000 <= x * 414; /* tan(22.5 degrees) */
        r->across_x = !steep;
        r->across_y = (int8_t)(flat ? 0 : steep || (usan.x > 0) == (usan.y > 0) ? 1 : -1);
        return;
    }
    int xx = 0, yy = 0, xy = 0;
    for (int i = 0; i < MASK_PIXELS; i++) {
        int like = similar_to[nucleus[mask->offset[i]]];
        xx += like * mask->dx[i] * mask->dx[i];
        yy += like * mask->dy[i] * mask->dy[i];
        xy += like * mask->dx[i] * mask->dy[i];
    }
    int lies_flat = xx > 2 * yy, stands = yy > 2 * xx;
    r->across_x = !lies_flat;
    r->across_y = (int8_t)(stands ? 0 : lies_flat || xy < 0 ? 1 : -1);
}

static struct response edge_response(const struct mask *mask, const uint8_t *nucleus, const uint8_t *similar_to)
{
    struct usan usan = usan_at(mask, nucleus, similar_to);
    struct response r = {0, 0, 0};
    if (is_edge(usan.area)) {
        r.strength = (int16_t)(FULL_AREA * 3 / 4 - usan.area);
        set_across(&r, usan, mask, nucleus, similar_to);
    }
    return r;
}

static int divide_rounded(int dividend, int divisor)
{
    int half = divisor / 2;
    return (dividend + (dividend < 0 ? -half : half)) / divisor;
}

/* Whether the two pixels from the nucleus towards its USAN's centre of gravity belong to the USAN. Noise
 * fails this. */
static int is_contiguous(struct usan usan, int stride, const uint8_t *nucleus, const uint8_t *similar_to)
{
    int longer = abs(usan.x) > abs(usan.y) ? abs(usan.x) : abs(usan.y);
    if (longer == 0)
        return 0;
    for (int step = 1; step <= 2; step++) {
        int dx = divide_rounded(step * usan.x, longer), dy = divide_rounded(step * usan.y, longer);
        if (similar_to[nucleus[dy * stride + dx]] < 50)
            return 0;
    }
    return 1;
}

/* A corner's USAN is less than half of the mask, and its centre of gravity is away from the nucleus. */
static struct response corner_response(const struct mask *mask, int stride, const uint8_t *nucleus,
                                       const uint8_t *similar_to)
{
    struct usan usan = usan_at(mask, nucleus, similar_to);
    struct response r = {0, 0, 0};
    if (usan.area < FULL_AREA / 2 && 2 * square_of_moment(usan) > usan.area * usan.area &&
        is_contiguous(usan, stride, nucleus, similar_to))
        r.strength = (int16_t)(FULL_AREA / 2 - usan.area);
    return r;
}

static struct response *all_responses(struct image image, enum mode mode)
{
    struct padded padded = pad(image);
    struct mask mask = make_mask(padded.stride);
    struct response *responses = allocate((size_t)image.width * (size_t)image.height, sizeof *responses);
    similarity similar;
    fill_similarity(similar, 6.0);
    for (int y = 0; y < image.height; y++) {
        for (int x = 0; x < image.width; x++) {
            const uint8_t *nucleus = nucleus_at(&padded, x, y);
            const uint8_t *similar_to = similar + 255 - *nucleus;
            responses[y * image.width + x] = mode == EDGES
                                                 ? edge_response(&mask, nucleus, similar_to)
                                                 : corner_response(&mask, padded.stride, nucleus, similar_to);
        }
    }
    free(padded.pixels);
    return responses;
}

static int strength_at(struct image image, const struct response *responses, int x, int y)
{
    int inside = x >= 0 && x < image.width && y >= 0 && y < image.height;
    return inside ? responses[y * image.width + x].strength : 0;
}

/* Of two equal neighbours across an edge, the later one wins: an edge is one pixel wide. */
static int is_strongest_across(struct image image, const struct response *responses, int x, int y)
{
    struct response r = responses[y * image.width + x];
    return r.strength > 0 && r.strength >= strength_at(image, responses, x - r.across_x, y - r.across_y) &&
           r.strength > strength_at(image, responses, x + r.across_x, y + r.across_y);
}

/* Of equal neighbours around a corner, the first one wins. */
static int is_strongest_around(struct image image, const struct response *responses, int x, int y)
{
    int own = responses[y * image.width + x].strength;
    if (own == 0)
        return 0;
    for (int dy = -MASK_RADIUS; dy <= MASK_RADIUS; dy++) {
        for (int dx = -MASK_RADIUS; dx <= MASK_RADIUS; dx++) {
            int other = strength_at(image, responses, x + dx, y + dy);
            int is_earlier = dy < 0 || (dy == 0 && dx < 0);
            if (other > own || (other == own && is_earlier))
                return 0;
        }
    }
    return 1;
}

/* White edges on black. */
static struct image edges(struct image image)
{
    struct response *responses = all_responses(image, EDGES);
    struct image out = new_image(image.width, image.height);
    for (int y = 0; y < image.height; y++)
        for (int x = 0; x < image.width; x++)
            if (is_strongest_across(image, responses, x, y))
                out.pixels[y * image.width + x] = 255;
    free(responses);
    return out;
}

/* A white pixel in a black ring. */
static void draw_corner(struct image image, int at_x, int at_y)
{
    for (int y = at_y - 1; y <= at_y + 1; y++)
        for (int x = at_x - 1; x <= at_x + 1; x++)
            if (x >= 0 && x < image.width && y >= 0 && y < image.height)
                image.pixels[y * image.width + x] = x == at_x && y == at_y ? 255 : 0;
}

/* The image with its corners drawn over it. */
static struct image corners(struct image image)
{
    struct response *responses = all_responses(image, CORNERS);
    struct image out = new_image(image.width, image.height);
    memcpy(out.pixels, image.pixels, (size_t)image.width * (size_t)image.height);
    for (int y = 0; y < image.height; y++)
        for (int x = 0; x < image.width; x++)
            if (is_strongest_around(image, responses, x, y))
                draw_corner(out, x, y);
    free(responses);
    return out;
}

static struct image apply(struct image image, enum mode mode)
{
    switch (mode) {
    case EDGES:
        return edges(image);
    case CORNERS:
        return corners(image);
    default:
        return smooth(image);
    }
}

static void run_on_input(struct input input, enum mode mode)
{
    write_pgm(apply(read_pgm(input), mode));
}

/* ---- The built-in workload ---- */

#define TEST_WIDTH 320
#define TEST_HEIGHT 240

/* Squares and discs of several brightnesses on a slope, with a little noise. */
static struct image test_image(void)
{
    struct image image = new_image(TEST_WIDTH, TEST_HEIGHT);
    uint32_t state = PATTERN_SEED;
    for (int y = 0; y < TEST_HEIGHT; y++) {
        for (int x = 0; x < TEST_WIDTH; x++) {
            int cell = x / 40 + y / 40, u = x % 40 - 20, v = y % 40 - 20;
            int inside = cell % 2 ? u * u + v * v < 150 : abs(u) < 11 && abs(v) < 11;
            int brightness = 40 + x / 4 + (inside ? 30 + cell * 37 % 90 : 0);
            image.pixels[y * TEST_WIDTH + x] = (uint8_t)(brightness + (int)(next_random(&state) % 7));
        }
    }
    return image;
}

static void check(const char *what, struct image image, uint32_t expected)
{
    uint32_t got = fnv1a(FNV_START, image.pixels, (size_t)image.width * (size_t)image.height);
    if (got != expected)
        fail("susan: %s: got %08x, expected %08x", what, (unsigned)got, (unsigned)expected);
    printf("%s: %08x\n", what, (unsigned)got);
}

static void self_check(void)
{
    struct image image = test_image();
    check("image", image, EXPECTED_SUSAN_IMAGE);
    check("smooth", smooth(image), EXPECTED_SUSAN_SMOOTH);
    check("edges", edges(image), EXPECTED_SUSAN_EDGES);
    check("corners", corners(image), EXPECTED_SUSAN_CORNERS);
}
