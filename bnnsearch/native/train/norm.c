/* Batch norm, the sum with a residual and the clamp of hardtanh, in as few passes as their sums allow.
 *
 * Activations are (N, pixels, channels). Sums over pixels are left per image, (N, channels) each: added up afterwards in
 * float64, they do not depend on how images are shared out among threads. */
#include "train.h"

INLINE void sums_of_image(
    int64_t pixels, int64_t channels, const void *restrict x, int64_t start, float *restrict total,
    float *restrict square, int half
) {
    FOR_LANES(c, count, 0, channels, {
        Lanes totals = {0}, squares = {0};
        for (int64_t p = 0; p < pixels; p++) {
            Lanes values = get_lanes(x, start + p * channels + c, count, half);
            totals += values, squares += values * values;
        }
        put_lanes(total, c, count, totals, 0), put_lanes(square, c, count, squares, 0);
    });
}

/* Per image and channel, the sums of x and of its square. */
void KERNEL(channel_sums)(
    int64_t first, int64_t last, int64_t pixels, int64_t channels, int64_t half, const void *x, float *total, float *square
) {
    for (int64_t n = first; n < last; n++) {
        int64_t start = n * pixels * channels, row = n * channels;
        if (half)
            sums_of_image(pixels, channels, x, start, total + row, square + row, 1);
        else
            sums_of_image(pixels, channels, x, start, total + row, square + row, 0);
    }
}

/* Mean, 1 / std and unbiased variance per channel, `statistics` (3, channels), from `sums` (2, rows, channels). */
void KERNEL(batch_statistics)(
    int64_t rows, int64_t channels, int64_t count, double eps, const float *restrict sums, float *restrict statistics
) {
    for (int64_t c = 0; c < channels; c++) {
        double total = 0, square = 0;
        for (int64_t n = 0; n < rows; n++) total += sums[n * channels + c], square += sums[(rows + n) * channels + c];
        double mean = total / (double)count, variance = square / (double)count - mean * mean;
        if (variance < 0) variance = 0;
        statistics[c] = (float)mean;
        statistics[channels + c] = (float)(1 / sqrt(variance + eps));
        statistics[2 * channels + c] = (float)(variance * (double)count / (double)(count > 1 ? count - 1 : 1));
    }
}

INLINE void clamp_image(
    int64_t pixels, int64_t channels, const void *restrict x, const void *restrict residual, int64_t start,
    const float *restrict factors, void *restrict out, int half
) {
    for (int64_t p = 0; p < pixels; p++, start += channels)
        for (int64_t c = 0; c < channels; c++) {
            float value = factors[c] * get(x, start + c, half) + factors[channels + c] + get(residual, start + c, half);
            value = value > -1 ? value : -1;
            put(out, start + c, value < 1 ? value : 1, half);
        }
}

/* out = clamp(scale x + offset + residual, -1, 1), with scale and offset per channel, `factors` (2, channels). */
void KERNEL(affine_add_clamp)(
    int64_t first, int64_t last, int64_t pixels, int64_t channels, int64_t half, const void *x, const void *residual,
    const float *factors, void *out
) {
    int64_t images = last - first, start = first * pixels * channels;
    if (half)
        clamp_image(images * pixels, channels, x, residual, start, factors, out, 1);
    else
        clamp_image(images * pixels, channels, x, residual, start, factors, out, 0);
}

INLINE void slopes_of_image(
    int64_t pixels, int64_t channels, const void *restrict x, const void *restrict out, const void *restrict upstream,
    int64_t start, const float *restrict mean, void *restrict passed, float *restrict total, float *restrict along,
    int half
) {
    FOR_LANES(c, count, 0, channels, {
        Lanes totals = {0}, products = {0}, means = get_lanes(mean, c, count, 0);
        for (int64_t p = 0; p < pixels; p++) {
            int64_t k = start + p * channels + c;
            Words inside = (Words)(magnitude(get_lanes(out, k, count, half)) < 1);
            Lanes gradient = where(inside, get_lanes(upstream, k, count, half));
            put_lanes(passed, k, count, gradient, half);
            totals += gradient, products += gradient * (get_lanes(x, k, count, half) - means);
        }
        put_lanes(total, c, count, totals, 0), put_lanes(along, c, count, products, 0);
    });
}

/* What of `upstream`, the gradient to the clamp's `out`, has `passed` it; per image and channel, its sum and that of its
 * product with x - mean. */
void KERNEL(clamp_slope_sums)(
    int64_t first, int64_t last, int64_t pixels, int64_t channels, int64_t half, const void *x, const void *out,
    const void *upstream, const float *mean, void *passed, float *total, float *along
) {
    for (int64_t n = first; n < last; n++) {
        int64_t start = n * pixels * channels, row = n * channels;
        if (half)
            slopes_of_image(pixels, channels, x, out, upstream, start, mean, passed, total + row, along + row, 1);
        else
            slopes_of_image(pixels, channels, x, out, upstream, start, mean, passed, total + row, along + row, 0);
    }
}

/* Per channel, the factors of `norm_slope` and the gradients of the norm's weight and bias, `factors` (5, channels).
 * With xhat = (x - mean) / std and g what passed, dL/dx = weight / std (g - mean g - xhat mean(g xhat)). */
void KERNEL(slope_factors)(
    int64_t rows, int64_t channels, int64_t count, const float *restrict sums, const float *restrict statistics,
    const float *restrict weight, float *restrict factors
) {
    for (int64_t c = 0; c < channels; c++) {
        double total = 0, along = 0;
        for (int64_t n = 0; n < rows; n++) total += sums[n * channels + c], along += sums[(rows + n) * channels + c];
        double mean = statistics[c], deviation = statistics[channels + c]; /* the second is 1 / std */
        double scale = (double)weight[c] * deviation;
        double share = scale * deviation * deviation * along / (double)count;
        factors[c] = (float)scale;
        factors[channels + c] = (float)share;
        factors[2 * channels + c] = (float)(share * mean - scale * total / (double)count);
        factors[3 * channels + c] = (float)(along * deviation);
        factors[4 * channels + c] = (float)total;
    }
}

INLINE void norm_slopes(
    int64_t pixels, int64_t channels, const void *restrict x, const void *restrict passed, int64_t start,
    const float *restrict factors, void *restrict out, int half
) {
    const float *share = factors + channels, *offset = share + channels;
    for (int64_t p = 0; p < pixels; p++, start += channels)
        for (int64_t c = 0; c < channels; c++) {
            float value = factors[c] * get(passed, start + c, half) - share[c] * get(x, start + c, half) + offset[c];
            put(out, start + c, value, half);
        }
}

/* out = scale passed - share x + offset, the three per channel, `factors` (3, channels). */
void KERNEL(norm_slope)(
    int64_t first, int64_t last, int64_t pixels, int64_t channels, int64_t half, const void *x, const void *passed,
    const float *factors, void *out
) {
    int64_t images = last - first, start = first * pixels * channels;
    if (half)
        norm_slopes(images * pixels, channels, x, passed, start, factors, out, 1);
    else
        norm_slopes(images * pixels, channels, x, passed, start, factors, out, 0);
}
