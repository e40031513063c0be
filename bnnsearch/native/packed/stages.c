/* A network, stage by stage. */
#include "packed.h"

static void fill(const Stage *stage, const Part *part, const void *gathered, float *block) {
    switch (stage->kind) {
    case STAGE_BITS: KERNEL(binary_block)(stage, part, gathered, block); break;
    case STAGE_REAL: KERNEL(real_block)(stage, part, block); break;
    case STAGE_WIDE_REAL: KERNEL(wide_block)(stage, part, block); break;
    case STAGE_WIDE_SUM: KERNEL(wide_sum_block)(stage, part, block); break;
    default: KERNEL(pool_block)(stage, part, block);
    }
}

/* Steps follow as soon as the pixels that a product takes together are there: what they read and write is then on its way
 * while the next products are counted. */
static void run_blocks(const Stage *stage, void *gathered) {
    float block[BLOCK * WIDEST];
    const int64_t chain = KERNEL(chain_of)(stage);
    for (int64_t first = 0; first < stage->pixels; first += BLOCK) {
        int64_t end = first + min64(BLOCK, stage->pixels - first);
        if (stage->kind == STAGE_BITS) KERNEL(gather)(stage, first, end - first, gathered);
        for (int64_t channel = 0; channel < stage->channels;) {
            int64_t width = width_of(stage->channels - channel);
            int64_t together = stage->kind == STAGE_BITS ? KERNEL(pixels_together)(width) : BLOCK;
            for (int64_t p = first; p < end; p += together) {
                Part part = {p, min64(together, end - p), channel, width, p - first};
                fill(stage, &part, gathered, block);
                KERNEL(take_steps)(stage, &part, block, chain);
            }
            channel += width;
        }
    }
}

/* Run stages first <= s < last in order. `gathered`: room for the windows of a block of any of them. */
void KERNEL(run_stages)(const Stage *stages, int64_t first, int64_t last, void *gathered) {
    for (const Stage *stage = stages + first; stage < stages + last; stage++) switch (stage->kind) {
        case STAGE_INPUT: KERNEL(look_up)(stage); break;
        case STAGE_COPY:
        case STAGE_SIGMOID: KERNEL(copy_scalars)(stage); break;
        default: run_blocks(stage, gathered);
        }
}
