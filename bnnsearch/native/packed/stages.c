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

static void run_blocks(const Stage *stage, void *gathered) {
    float block[BLOCK * WIDEST];
    for (int64_t first = 0; first < stage->pixels; first += BLOCK) {
        int64_t count = min64(BLOCK, stage->pixels - first);
        if (stage->kind == STAGE_BITS) KERNEL(gather)(stage, first, count, gathered);
        for (int64_t channel = 0; channel < stage->channels;) {
            Part part = {first, count, channel, width_of(stage->channels - channel)};
            fill(stage, &part, gathered, block);
            KERNEL(take_steps)(stage, &part, block);
            channel += part.width;
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
