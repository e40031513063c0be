/* A network on a device: stages in order, each of which computes one map, number by number, and stores it.
 *
 * C99 for a processor that may have no cache, no floating point, no multiplier and 2 KB of RAM. The kernels of ../packed
 * cannot run there: they hold blocks of 32 pixels and 16 channels in vector registers, and float32 values of a whole
 * batch in memory. Here a number is asked for where it is needed, by the functions below; a convolution below a pool is
 * computed window by window, so that the larger map is never in memory. `pack --c` writes the functions that a network
 * uses, and no others, into its model.c; a blank line ends each.
 *
 * Number is int32_t where all of the network's values are integers (in units of their own), else float: those of
 * float networks round once per operation, as the kernels of ../packed do, so that both have the same bits.
 */
#include <stdint.h>

typedef struct Stage Stage;
typedef struct Step Step;

/* Of functions with several callers: so that the size of each is the same in every network, and known before. */
#if defined(__GNUC__)
#define APART __attribute__((noinline)) static
#else
#define APART static
#endif

/* A product; where a program asks for it, without a multiplier: as many sums as y has bits that are 1. */
#if MULTIPLY_FREE
APART int32_t times(int32_t x, int32_t y) {
    uint32_t sum = 0, by = y < 0 ? 0 - (uint32_t)y : (uint32_t)y;
    for (uint32_t each = (uint32_t)x; by; each += each, by >>= 1)
        if (by & 1) sum += each;
    return (int32_t)(y < 0 ? 0 - sum : sum);
}
#else
#define times(x, y) ((x) * (y))
#endif

/* A window: of `kernel` numbers every `stride`, from `padding` outside of a map on; each (vertical, horizontal). */
typedef struct {
    int16_t side[2], channels, kernel[2], stride[2], padding[2];
} Window;

/* What is done to a number as it is made; `map` is written, or read beside it. */
struct Step {
    Number (*take)(const Step *step, Number number, int32_t pixel, int channel);
    const void *a, *b;
    void *map;
    int16_t channels;
};

/* Where numbers come from: a map in memory, the image, or another stage; and what is done to each. */
struct Stage {
    Number (*source)(const Stage *stage, int y, int x, int channel);
    const Stage *inner;
    const void *map, *weights;
    Window window;
    int16_t height, width, channels;
    uint8_t step_count;
    const Step *steps;
};

/* Which numbers of a window lie inside the map, first <= i < last, and where the window begins. */
typedef struct {
    int begin, first, last;
} Span;

APART Span span(const Window *window, int axis, int place) {
    Span inside = {times(place, window->stride[axis]) - window->padding[axis], 0, window->kernel[axis]};
    int rest = window->side[axis] - inside.begin;
    if (inside.begin < 0) inside.first = -inside.begin;
    if (rest < inside.last) inside.last = rest;
    return inside;
}

static int32_t place_of(const Window *window, int y, int x) { return times((int32_t)y, window->side[1]) + x; }

APART void run(const Stage *stage) {
    int32_t pixel = 0;
    for (int y = 0; y < stage->height; y++)
        for (int x = 0; x < stage->width; x++, pixel++)
            for (int channel = 0; channel < stage->channels; channel++) {
                Number number = stage->source(stage, y, x, channel);
                for (int i = 0; i < stage->step_count; i++)
                    number = stage->steps[i].take(&stage->steps[i], number, pixel, channel);
            }
}
