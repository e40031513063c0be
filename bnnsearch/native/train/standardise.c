/* ReCU's standardisation of weights and its gradient, a filter at a time, while it is in the processor's cache.
 * Arrays are float32 (filters, size). */
#include "train.h"

/* out = scale (w - mean w), scale = 2 sqrt 2 / std(w), left in `scale` (filters). */
void KERNEL(standardise_rows)(
    int64_t first, int64_t last, int64_t size, const float *restrict weight, float *restrict out, float *restrict scale
) {
    for (int64_t o = first; o < last; o++) {
        const float *w = weight + o * size;
        Lanes totals = {0}, squares = {0};
        FOR_LANES(k, count, 0, size, { totals += get_lanes(w, k, count, 0); });
        float mean = sum(totals) / (float)size;
        for (int64_t k = 0; k < size; k++) out[o * size + k] = w[k] - mean;
        FOR_LANES(k, count, 0, size, {
            Lanes centred = get_lanes(out + o * size, k, count, 0);
            squares += centred * centred;
        });
        scale[o] = 2 * sqrtf(2) / sqrtf(sum(squares) / (float)(size - 1) + 1e-5f);
        for (int64_t k = 0; k < size; k++) out[o * size + k] *= scale[o];
    }
}

/* The gradient to w: with v what is standardised and g upstream, scale (g - mean g - v sum(g v) / (8 (size - 1))). */
void KERNEL(standardise_slope_rows)(
    int64_t first, int64_t last, int64_t size, const float *restrict standardised, const float *restrict scale,
    const float *restrict upstream, float *restrict out
) {
    for (int64_t o = first; o < last; o++) {
        const float *v = standardised + o * size, *g = upstream + o * size;
        Lanes totals = {0}, products = {0};
        FOR_LANES(k, count, 0, size, {
            Lanes gradient = get_lanes(g, k, count, 0);
            totals += gradient, products += gradient * get_lanes(v, k, count, 0);
        });
        float mean = sum(totals) / (float)size, share = sum(products) / (float)(8 * (size - 1));
        for (int64_t k = 0; k < size; k++) out[o * size + k] = scale[o] * (g[k] - mean - v[k] * share);
    }
}
