/* Real convolutions: products added one by one, fused, in the order (row, column, channel). */
#include "reals.h"

#if defined(__AVX512F__)
enum { TALL = 8 };
#else
enum { TALL = 4 }; /* a fused multiply-add takes four cycles, of which two begin in each: eight registers */
#endif

/* P pixels and 16 channels. */
INLINE void tile(const Stage *stage, const float *filter, const int32_t *offsets, float *to, int64_t step, const int P) {
    Reals sums[TALL];
    const char *rows[TALL];
    for (int p = 0; p < P; p++) sums[p] = splat(0), rows[p] = stage->source + offsets[p];
    for (int64_t r = 0; r < stage->rows; r++)
        for (int64_t k = 0; k < stage->run; k++, filter += LANES) {
            Reals weight = load(filter);
            for (int p = 0; p < P; p++)
                sums[p] = fused(splat(((const float *)(rows[p] + r * stage->row_stride))[k]), weight, sums[p]);
        }
    for (int p = 0; p < P; p++) store(to + p * step, sums[p]);
}

void KERNEL(real_block)(const Stage *stage, const Part *part, float *block) {
    for (int64_t lane = 0; lane < part->width; lane += LANES) {
        const float *filter = (const float *)stage->filters + (part->channel + lane) * stage->rows * stage->run;
        const int32_t *offsets = stage->offsets + part->first;
        int64_t p = 0;
        for (; p + TALL <= part->count; p += TALL)
            tile(stage, filter, offsets + p, block + p * part->width + lane, part->width, TALL);
        for (; p < part->count; p++)
            tile(stage, filter, offsets + p, block + p * part->width + lane, part->width, 1);
    }
}

/* In float64, where a product of two float32 is exact. */
void KERNEL(wide_block)(const Stage *stage, const Part *part, float *block) {
    for (int64_t lane = 0; lane < part->width; lane += LANES)
        for (int64_t p = 0; p < part->count; p++) {
            const float *filter = (const float *)stage->filters + (part->channel + lane) * stage->rows * stage->run;
            double sums[LANES] = {0};
            for (int64_t r = 0; r < stage->rows; r++) {
                const float *row =
                    (const float *)(stage->source + stage->offsets[part->first + p] + r * stage->row_stride);
                for (int64_t k = 0; k < stage->run; k++, filter += LANES)
                    for (int c = 0; c < LANES; c++) sums[c] += (double)row[k] * (double)filter[c];
            }
            for (int c = 0; c < LANES; c++) block[p * part->width + lane + c] = (float)sums[c];
        }
}
