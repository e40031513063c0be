/* Convolutions with weights of more than one bit: int8, or float32 with the roundings of ../packed. */
#include "base.h"

/* x y + z, rounded once. Where there is no such instruction: the product is exact in double, and the sum is rounded to
 * odd (Boldo and Melquiond, 2008), which keeps what decides the rounding to float. */
static float fused(float x, float y, float z) {
#if defined(__FP_FAST_FMAF)
    return __builtin_fmaf(x, y, z);
#else
    volatile double product = (double)x * y, sum = product + z; /* volatile: not kept in longer registers */
    double added = sum - product, error = (product - (sum - added)) + (z - added);
    union {
        double real;
        uint64_t bits;
    } odd;
    odd.real = sum;
    if (error != 0 && !(odd.bits & 1)) odd.bits += (error > 0) == (odd.real > 0) ? 1 : (uint64_t)-1;
    return (float)odd.real;
#endif
}

/* Sum over a window of what `inner` gives, in the order (row, column, channel); `given` is that, at place `at`. */
#define CONVOLUTION(name, Sum, type, given, sum_of)                                                           \
    static Number name(const Stage *stage, int y, int x, int channel) {                                       \
        const Window *window = &stage->window;                                                                \
        const Stage *inner = stage->inner;                                                                    \
        Span rows = span(window, 0, y), columns = span(window, 1, x);                                         \
        int32_t line = times((int32_t)window->channels, window->kernel[1]);                                     \
        const type *filter = (const type *)stage->weights + times(times(line, window->kernel[0]), channel);    \
        Sum sum = 0;                                                                                          \
        for (int row = rows.first; row < rows.last; row++) {                                                  \
            const type *weight = filter + times(line, row) + times((int32_t)window->channels, columns.first); \
            int32_t at = times(place_of(window, rows.begin + row, columns.begin + columns.first), window->channels); \
            for (int column = columns.first; column < columns.last; column++)                                 \
                for (int k = 0; k < window->channels; k++, at++, weight++) {                                  \
                    Number number = given;                                                                    \
                    sum = sum_of;                                                                             \
                }                                                                                             \
        }                                                                                                     \
        return (Number)sum;                                                                                   \
    }

#define ASKED inner->source(inner, rows.begin + row, columns.begin + column, k)

CONVOLUTION(convolve_i8, Number, int8_t, ASKED, sum + times(number, *weight))

CONVOLUTION(convolve_i16, Number, int16_t, ASKED, sum + times(number, *weight))

CONVOLUTION(convolve_f32, float, float, ASKED, fused(number, *weight, sum))

CONVOLUTION(convolve_wide, double, float, ASKED, sum + (double)number * *weight)

/* The same of the image by a table, without a call for every octet: most of a small network's time is its first layer. */
CONVOLUTION(convolve_pixels, Number, int8_t, (((const int8_t *)inner->weights)[image[at]]), sum + times(number, *weight))

/* The same with weights of +-1, a filter's bits in a row of octets. */
static Number convolve_bits(const Stage *stage, int y, int x, int channel) {
    const Window *window = &stage->window;
    const Stage *inner = stage->inner;
    Span rows = span(window, 0, y), columns = span(window, 1, x);
    int32_t line = times((int32_t)window->channels, window->kernel[1]), size = times(line, window->kernel[0]);
    const uint8_t *filter = (const uint8_t *)stage->weights + times((size + 7) / 8, channel);
    Number sum = 0;
    for (int row = rows.first; row < rows.last; row++) {
        int32_t place = times(line, row) + times((int32_t)window->channels, columns.first);
        for (int column = columns.first; column < columns.last; column++)
            for (int k = 0; k < window->channels; k++, place++) {
                Number number = inner->source(inner, rows.begin + row, columns.begin + column, k);
                sum += filter[place / 8] >> place % 8 & 1 ? number : -number;
            }
    }
    return sum;
}
