/* Maxima and sums of windows of pixels; of one pixel, values loaded again. */
#include "reals.h"

/* Channels of the source pixel at tap t of the window of pixel p. */
INLINE const float *tap(const Stage *stage, const Part *part, int64_t t, int64_t p) {
    const int32_t *offsets = (const int32_t *)((const char *)stage->offsets + t * stage->row_stride);
    return (const float *)(stage->source + offsets[part->first + p]) + part->channel;
}

void KERNEL(pool_block)(const Stage *stage, const Part *part, float *block) {
    for (int64_t p = 0; p < part->count; p++)
        for (int64_t lane = 0; lane < part->width; lane += LANES) {
            Reals all = load(tap(stage, part, 0, p) + lane);
            for (int64_t t = 1; t < stage->rows; t++) {
                Reals one = load(tap(stage, part, t, p) + lane);
                all = stage->kind == STAGE_MAX ? larger(all, one) : add(all, one);
            }
            store(block + p * part->width + lane, all);
        }
}

/* In float64, rounded once. */
void KERNEL(wide_sum_block)(const Stage *stage, const Part *part, float *block) {
    for (int64_t p = 0; p < part->count; p++) {
        double sums[WIDEST] = {0};
        for (int64_t t = 0; t < stage->rows; t++)
            for (int64_t c = 0; c < part->width; c++) sums[c] += (double)tap(stage, part, t, p)[c];
        for (int64_t c = 0; c < part->width; c++) block[p * part->width + c] = (float)sums[c];
    }
}
