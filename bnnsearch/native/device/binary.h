/* Bits: +1 is 1 and -1 is 0; a pixel's channels fill whole octets, the first in bit 0, and the rest of them are 0. */
#include "base.h"

static uint32_t four(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

APART int ones(uint32_t x) {
#if defined(__GNUC__) && (defined(__POPCNT__) || defined(__wasm__) || defined(__riscv_zbb) || defined(__aarch64__))
    return __builtin_popcountl(x);
#else
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    x = (x + (x >> 4)) & 0x0F0F0F0Fu;
    x += x >> 8;
    return (int)((x + (x >> 16)) & 63u);
#endif
}

/* Sum of +-1 over a window: outside of the map nothing counts. Rows of filters lie as those of the map. */
static Number dot(const Stage *stage, int y, int x, int channel) {
    const Window *window = &stage->window;
    Span rows = span(window, 0, y), columns = span(window, 1, x);
    int32_t octets = (window->channels + 7) / 8, line = times(octets, window->kernel[1]), distance = 0;
    int32_t run_octets = times(octets, columns.last - columns.first), left = times(octets, columns.first);
    const uint8_t *filter = (const uint8_t *)stage->weights + times(times(channel, line), window->kernel[0]) + left;
    for (int row = rows.first; row < rows.last; row++) {
        const uint8_t *a = (const uint8_t *)stage->map + times(octets, place_of(window, rows.begin + row, columns.begin)) + left;
        const uint8_t *b = filter + times(line, row);
        int32_t rest = run_octets;
        for (; rest >= 4; rest -= 4, a += 4, b += 4) distance += ones(four(a) ^ four(b));
        for (; rest > 0; rest--) distance += ones((uint32_t)(*a++ ^ *b++));
    }
    return (Number)(times(times((int32_t)(rows.last - rows.first), columns.last - columns.first), window->channels) - 2 * distance);
}

/* One of a map's bits as a number. */
static Number sign(const Stage *stage, int y, int x, int channel) {
    int32_t octets = (stage->window.channels + 7) / 8;
    const uint8_t *pixel = (const uint8_t *)stage->map + times(octets, place_of(&stage->window, y, x));
    return (Number)(2 * (pixel[channel / 8] >> channel % 8 & 1) - 1);
}

/* Store a bit: number >= level, turned round where b says so. */
#define THRESHOLD(name, type)                                                                  \
    static Number name(const Step *step, Number number, int32_t pixel, int channel) {          \
        uint8_t *to = (uint8_t *)step->map + times(pixel, (step->channels + 7) / 8) + channel / 8; \
        int place = channel % 8, bit = number >= (Number)((const type *)step->a)[channel];     \
        bit ^= ((const uint8_t *)step->b)[channel / 8] >> place & 1;                           \
        *to = (uint8_t)((place ? *to : 0) | bit << place);                                     \
        return number;                                                                         \
    }

THRESHOLD(threshold_i8, int8_t)

THRESHOLD(threshold_i16, int16_t)

THRESHOLD(threshold_i32, int32_t)

THRESHOLD(threshold_f32, float)

/* The same as numbers. */
#define SIGNS(name, type)                                                             \
    static Number name(const Step *step, Number number, int32_t pixel, int channel) { \
        int bit = number >= (Number)((const type *)step->a)[channel];                 \
        (void)pixel;                                                                  \
        bit ^= ((const uint8_t *)step->b)[channel / 8] >> channel % 8 & 1;            \
        return (Number)(2 * bit - 1);                                                 \
    }

SIGNS(signs_i8, int8_t)

SIGNS(signs_i16, int16_t)

SIGNS(signs_i32, int32_t)

SIGNS(signs_f32, float)
