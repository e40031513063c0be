/* Sign and its derivatives; arrays are (N, size), a sample per row. */
#include "train.h"

INLINE void signs(int64_t start, int64_t end, const void *restrict x, void *restrict out, int half) {
    for (int64_t k = start; k < end; k++) put(out, k, get(x, k, half) >= 0 ? 1.0f : -1.0f, half);
}

/* out = +1 where x >= 0, -1 elsewhere. */
void KERNEL(sign_rows)(int64_t first, int64_t last, int64_t size, int64_t half, const void *x, void *out) {
    if (half)
        signs(first * size, last * size, x, out, 1);
    else
        signs(first * size, last * size, x, out, 0);
}

/* `upstream` times the derivative of sign at x that `slope` names. */
INLINE Lanes through_sign(Lanes x, Lanes upstream, int slope) {
    if (slope == STE) return where((Words)(magnitude(x) <= 1), upstream);
    if (slope == POLYNOMIAL) {
        Lanes rise = 2 - 2 * magnitude(x);
        return upstream * where((Words)(rise > 0), rise);
    }
    return upstream;
}

INLINE void slopes(
    int64_t start, int64_t end, const void *restrict x, const void *restrict upstream, void *restrict out, int slope,
    int half
) {
    FOR_LANES(k, count, start, end, {
        Lanes passed = through_sign(get_lanes(x, k, count, half), get_lanes(upstream, k, count, half), slope);
        put_lanes(out, k, count, passed, half);
    });
}

/* The gradient of sign(x / std) to x, where u = x r, r = 1 / std and h is `upstream` times the derivative at u:
 * out = r h - r^3 (x - mean x) / (size - 1) sum(h x). */
INLINE void standardised_slopes(
    int64_t start, int64_t end, const void *restrict x, const void *restrict upstream, void *restrict out, int slope,
    int half
) {
    float size = (float)(end - start), others = (float)(end - start - 1);
    Lanes totals = {0}, squares = {0}, products = {0};
    FOR_LANES(k, count, start, end, {
        Lanes values = get_lanes(x, k, count, half);
        totals += values, squares += values * values;
    });
    float total = sum(totals), mean = total / size, square = sum(squares) - total * mean;
    float r = 1 / sqrtf((square > 0 ? square : 0) / others + 1e-5f);
    FOR_LANES(k, count, start, end, {
        Lanes values = get_lanes(x, k, count, half);
        products += through_sign(r * values, get_lanes(upstream, k, count, half), slope) * values;
    });
    float share = r * r * r * sum(products) / others;
    FOR_LANES(k, count, start, end, {
        Lanes values = get_lanes(x, k, count, half);
        Lanes h = through_sign(r * values, get_lanes(upstream, k, count, half), slope);
        put_lanes(out, k, count, r * h - share * (values - mean), half);
    });
}

#define FOR_EACH_KIND(work, start, end)                                    \
    switch (2 * slope + half) {                                            \
    case 2 * IDENTITY: work(start, end, x, upstream, out, IDENTITY, 0); break;        \
    case 2 * IDENTITY + 1: work(start, end, x, upstream, out, IDENTITY, 1); break;    \
    case 2 * STE: work(start, end, x, upstream, out, STE, 0); break;                  \
    case 2 * STE + 1: work(start, end, x, upstream, out, STE, 1); break;              \
    case 2 * POLYNOMIAL: work(start, end, x, upstream, out, POLYNOMIAL, 0); break;    \
    case 2 * POLYNOMIAL + 1: work(start, end, x, upstream, out, POLYNOMIAL, 1); break; \
    }

/* out = `upstream` times the derivative of sign at x. */
void KERNEL(slope_rows)(
    int64_t first, int64_t last, int64_t size, int64_t half, int64_t slope, const void *x, const void *upstream, void *out
) {
    FOR_EACH_KIND(slopes, first * size, last * size)
}

void KERNEL(standardised_slope_rows)(
    int64_t first, int64_t last, int64_t size, int64_t half, int64_t slope, const void *x, const void *upstream, void *out
) {
    for (int64_t n = first; n < last; n++) FOR_EACH_KIND(standardised_slopes, n * size, (n + 1) * size)
}
