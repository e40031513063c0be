/* Real convolutions: products added one by one, fused, in the order (row, column, channel). */
#include "reals.h"

/* V vectors of 16 channels and P pixels. A fused multiply-add takes four cycles, of which two begin in each: there are at
 * least eight sums, and on AVX-512 fewer loads than products. */
INLINE void tile(const Stage *stage, const float *filter, const int32_t *offsets, float *to, int64_t step, const int V, const int P) {
    Reals sums[8][4];
    const char *rows[8];
    int64_t size = stage->rows * stage->run * LANES;
    for (int p = 0; p < P; p++) {
        rows[p] = stage->source + offsets[p];
        for (int v = 0; v < V; v++) sums[p][v] = splat(0);
    }
    for (int64_t r = 0; r < stage->rows; r++)
        for (int64_t k = 0; k < stage->run; k++, filter += LANES) {
            Reals weights[4];
            for (int v = 0; v < V; v++) weights[v] = load(filter + v * size);
            for (int p = 0; p < P; p++) {
                Reals x = splat(((const float *)(rows[p] + r * stage->row_stride))[k]);
                for (int v = 0; v < V; v++) sums[p][v] = fused(x, weights[v], sums[p][v]);
            }
        }
    for (int p = 0; p < P; p++)
        for (int v = 0; v < V; v++) store(to + p * step + v * LANES, sums[p][v]);
}

INLINE void tiles(const Stage *stage, const Part *part, float *block, const int V, const int P) {
    const int32_t *offsets = stage->offsets + part->first;
    for (int64_t lane = 0; lane < part->width; lane += V * LANES) {
        const float *filter = (const float *)stage->filters + (part->channel + lane) * stage->rows * stage->run;
        float *to = block + lane;
        int64_t p = 0, width = part->width;
        for (; p + P <= part->count; p += P) tile(stage, filter, offsets + p, to + p * width, width, V, P);
        for (; p < part->count; p++) tile(stage, filter, offsets + p, to + p * width, width, V, 1);
    }
}

void KERNEL(real_block)(const Stage *stage, const Part *part, float *block) {
    if (WIDTH < 16)
        tiles(stage, part, block, 1, 4);
    else if (part->width == 64)
        tiles(stage, part, block, 4, 4);
    else if (part->width == 32)
        tiles(stage, part, block, 2, 8);
    else
        tiles(stage, part, block, 1, 8);
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
