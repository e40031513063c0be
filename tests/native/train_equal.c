/* Two variants of training's passes on random numbers, A against B, bit by bit; see evolve_equal.c. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME(variant, name) JOIN(variant, name)
#define JOIN(variant, name) bnn_##variant##_##name
#define DECLARE(name, ...) void NAME(A, name)(__VA_ARGS__); void NAME(B, name)(__VA_ARGS__);
DECLARE(sign_rows, int64_t, int64_t, int64_t, int64_t, const void *, void *)
DECLARE(slope_rows, int64_t, int64_t, int64_t, int64_t, int64_t, const void *, const void *, void *)
DECLARE(standardised_slope_rows, int64_t, int64_t, int64_t, int64_t, int64_t, const void *, const void *, void *)
DECLARE(standardise_rows, int64_t, int64_t, int64_t, const float *, float *, float *)
DECLARE(standardise_slope_rows, int64_t, int64_t, int64_t, const float *, const float *, const float *, float *)
DECLARE(channel_sums, int64_t, int64_t, int64_t, int64_t, int64_t, const void *, float *, float *)
DECLARE(batch_statistics, int64_t, int64_t, int64_t, double, const float *, float *)
DECLARE(affine_add_clamp, int64_t, int64_t, int64_t, int64_t, int64_t, const void *, const void *, const float *, void *)
DECLARE(clamp_slope_sums, int64_t, int64_t, int64_t, int64_t, int64_t, const void *, const void *, const void *,
        const float *, void *, float *, float *)
DECLARE(slope_factors, int64_t, int64_t, int64_t, const float *, const float *, const float *, float *)
DECLARE(norm_slope, int64_t, int64_t, int64_t, int64_t, int64_t, const void *, const void *, const float *, void *)
DECLARE(pack_signs, int64_t, int64_t, const void *, const float *, uint8_t *, uint8_t *)
DECLARE(pack_filters, const void *, const float *, uint8_t *, float *, uint8_t *)
DECLARE(lay_filters, const uint8_t *, int64_t, int64_t, uint8_t *)
DECLARE(sign_bases, const void *, int64_t, const uint8_t *, const uint8_t *, float *)
DECLARE(convolve_signs, int64_t, int64_t, const void *, const uint8_t *, const uint8_t *, const float *, const float *,
        const int32_t *, float *)
DECLARE(index_signs, int64_t, int64_t, const void *, const uint8_t *, uint8_t *)
DECLARE(weight_slopes, int64_t, int64_t, const void *, int64_t, const float *, const uint8_t *, float *)
DECLARE(image_slopes, int64_t, int64_t, const void *, int64_t, int64_t, const void *, const float *, const uint8_t *,
        const float *, float *)
#define CALL(name, ...) (which ? NAME(B, name)(__VA_ARGS__) : NAME(A, name)(__VA_ARGS__))

enum { ROWS = 4, PIXELS = 9, CHANNELS = 100, MOST = ROWS * PIXELS * CHANNELS };

static uint64_t state = 1;

static int64_t draw(int64_t below) { /* splitmix64 */
    uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (int64_t)((z ^ z >> 31) % (uint64_t)below);
}

/* Numbers from -2 to 2, the upper half of each a bfloat16 of such a size as well. */
static void fill(float *to) {
    for (int k = 0; k < MOST; k++) {
        uint32_t bits = (uint32_t)(draw(2) << 31 | (0x3C00 + draw(0x3FF)) << 16 | (0x3C00 + draw(0x3FF)));
        memcpy(to + k, &bits, sizeof bits);
    }
}

enum { IMAGES = 2, SIDE = 9, SIZE = 3, WIDE = 48, PIXELS_IN = SIDE * SIDE, TAPS = SIZE * SIZE };

/* What a convolution of signs gives, and its gradients, in `out`: images 9x9, kernels 3x3 with a border of one zero. */
static void convolve(int which, int64_t channels, int64_t filters, int64_t stride, const float *x, const float *weight,
                     const float *upstream, float *out) {
    static uint8_t bits[IMAGES * 11 * 11 * WIDE / 8 + 64], octets[WIDE * TAPS * WIDE / 8], fours[WIDE / 4 * TAPS * WIDE];
    static uint8_t laid[(WIDE + 16) * (TAPS * WIDE / 8 + 16)], inside[PIXELS_IN * TAPS], index[IMAGES * 11 * SIZE * WIDE * 3 * 4];
    static float bases[PIXELS_IN * WIDE], scale[WIDE];
    static int32_t places[3 * PIXELS_IN], sources[2048], targets[2048];
    const int64_t end = (SIDE + 2 - SIZE) / stride + 1, pixels = end * end, pixel = channels / 8, row = 11 * pixel;
    const int64_t of[] = {channels, SIDE, SIDE, filters, end, end, SIZE, SIZE, stride, 1, 1};
    uint8_t plain[IMAGES];
    for (int64_t p = 0; p < pixels; p++) {
        const int64_t y = p / end * stride, z = p % end * stride;
        places[p] = (int32_t)(y * row + z * pixel);
        places[pixels + p] = places[2 * pixels + p] = (int32_t)(p * filters * 4);
        for (int64_t tap = 0; tap < TAPS; tap++) {
            const int64_t v = y + tap / SIZE - 1, h = z + tap % SIZE - 1;
            inside[p * TAPS + tap] = v >= 0 && v < SIDE && h >= 0 && h < SIDE;
        }
    }
    memset(bases, 0, sizeof bases), memset(laid, 0, sizeof laid);
    float *to_weights = out + IMAGES * PIXELS_IN * WIDE, *to_images = to_weights + WIDE * TAPS * WIDE;
    CALL(pack_signs, 0, IMAGES, of, x, bits, plain);
    CALL(pack_filters, of, weight, octets, scale, fours);
    CALL(lay_filters, octets, filters, TAPS * channels / 8, laid);
    CALL(sign_bases, of, pixels, inside, octets, bases);
    CALL(convolve_signs, 0, IMAGES, of, bits, laid, bases, scale, places, out);
    CALL(index_signs, 0, IMAGES * 11, of, bits, index);
    CALL(weight_slopes, 0, filters / 8, of, IMAGES, upstream, index, to_weights);
    if (stride > 1) return;
    for (int64_t q = 0; q < 2048; q++) {
        const int64_t image = q / 100, y = q / 10 % 10, z = q % 10;
        sources[q] = image < IMAGES && y && z ? (int32_t)((image * SIDE + y - 1) * SIDE + z - 1) : -1;
        targets[q] = image < IMAGES && y < SIDE && z < SIDE ? (int32_t)((image * SIDE + y) * SIDE + z) : -1;
    }
    const struct {
        int64_t length, wide, reach;
        const int32_t *sources, *targets;
    } line = {256, 10, 22, sources, targets};
    CALL(image_slopes, 0, 1, of, IMAGES, IMAGES, &line, upstream, fours, scale, to_images);
}

static int convolutions_differ(void) {
    enum { ALL = 2 * IMAGES * PIXELS_IN * WIDE + WIDE * TAPS * WIDE };
    static float x[IMAGES * PIXELS_IN * WIDE], weight[WIDE * TAPS * WIDE], upstream[IMAGES * PIXELS_IN * WIDE], out[2][ALL];
    for (int turn = 0; turn < 30; turn++) {
        const int64_t channels = 16 + 16 * draw(3), filters = 16 + 16 * draw(3), stride = 1 + draw(2);
        for (size_t k = 0; k < sizeof x / sizeof *x; k++) x[k] = draw(2) ? 1 : -1, upstream[k] = (float)(draw(2001) - 1000) / 999;
        for (size_t k = 0; k < sizeof weight / sizeof *weight; k++) weight[k] = draw(2) ? .3f : -.3f;
        memset(out, 0, sizeof out);
        for (int which = 0; which < 2; which++) convolve(which, channels, filters, stride, x, weight, upstream, out[which]);
        if (memcmp(out[0], out[1], sizeof out[0])) {
            printf("turn %d: %d to %d channels, stride %d differ\n", turn, (int)channels, (int)filters, (int)stride);
            return 1;
        }
    }
    return 0;
}

int main(void) {
    static float x[MOST], y[MOST], z[MOST], reals[MOST], out[2][11][MOST], sums[2][8][MOST];
    for (int turn = 0; turn < 300; turn++) {
        int64_t rows = 1 + draw(ROWS), pixels = 1 + draw(PIXELS), channels = 2 + draw(CHANNELS - 1), half = draw(2);
        int64_t slope = draw(3), size = pixels * channels;
        fill(x), fill(y), fill(z), fill(reals);
        for (int which = 0; which < 2; which++) {
            float(*o)[MOST] = out[which], (*s)[MOST] = sums[which];
            CALL(sign_rows, 0, rows, size, half, x, o[0]);
            CALL(slope_rows, 0, rows, size, half, slope, x, y, o[1]);
            CALL(standardised_slope_rows, 0, rows, size, half, slope, x, y, o[2]);
            CALL(standardise_rows, 0, rows, size, x, o[3], s[0]);
            CALL(standardise_slope_rows, 0, rows, size, o[3], s[0], y, o[4]);
            CALL(channel_sums, 0, rows, pixels, channels, half, x, s[1], s[2]);
            CALL(batch_statistics, rows / 2, channels, rows * pixels, 1e-5, reals, s[3]);
            CALL(affine_add_clamp, 0, rows, pixels, channels, half, x, y, reals, o[5]);
            CALL(clamp_slope_sums, 0, rows, pixels, channels, half, x, o[5], z, reals, o[6], s[4], s[5]);
            CALL(slope_factors, rows / 2, channels, rows * pixels, reals, reals, reals, s[6]);
            CALL(norm_slope, 0, rows, pixels, channels, half, x, o[6], reals, o[7]);
        }
        if (memcmp(out[0], out[1], sizeof out[0]) || memcmp(sums[0], sums[1], sizeof sums[0])) {
            printf("turn %d: %d and %d samples, %d channels differ\n", turn, (int)rows, (int)pixels, (int)channels);
            return 1;
        }
    }
    if (convolutions_differ()) return 1;
    puts("training: 300 turns of 11 passes and 30 convolutions, 0 differ");
    return 0;
}
