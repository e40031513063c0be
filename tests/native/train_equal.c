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
    puts("training: 300 turns of 11 passes, 0 differ");
    return 0;
}
