/* What is done to a block, a few pixels at a time in registers: batch norm, residual sums, activations, bits, stores. */
#include "reals.h"

enum { TOGETHER = 4 }; /* pixels: of 16 channels, they take half the registers that AVX2 has */

#define EACH_PIXEL for (int p = 0; p < P; p++)
#define PLACE(p) (step->map + step->offsets[first + p])
#define MAP(p) ((float *)PLACE(p) + channel)
#define A load(step->a + channel)
#define B load(step->b + channel)

/* All steps on P pixels from `first` on, and 16 channels. */
INLINE void take(const Stage *stage, int64_t first, int64_t channel, const float *block, int64_t width, const int P) {
    Reals x[TOGETHER];
    EACH_PIXEL x[p] = load(block + p * width);
    const Step *end = stage->steps + stage->step_count;
    for (const Step *step = stage->steps; step < end; step++) {
        uint16_t turned;
        switch (step->kind) {
        case STEP_AFFINE: EACH_PIXEL x[p] = fused(x[p], A, B); break;
        case STEP_SCALE: EACH_PIXEL x[p] = multiply(x[p], A); break;
        case STEP_SHIFT: EACH_PIXEL x[p] = add(x[p], A); break;
        case STEP_CLAMP: EACH_PIXEL x[p] = smaller(larger(x[p], A), B); break;
        case STEP_PRELU: EACH_PIXEL x[p] = positive(x[p], multiply(x[p], A)); break;
        case STEP_DIVIDE: EACH_PIXEL x[p] = divide(x[p], splat(*(const float *)PLACE(p))); break;
        case STEP_ADD: EACH_PIXEL x[p] = add(x[p], load(MAP(p))); break;
        case STEP_MULTIPLY: EACH_PIXEL x[p] = multiply(x[p], load(MAP(p))); break;
        case STEP_STORE: EACH_PIXEL store(MAP(p), x[p]); break;
        case STEP_SIGNS:
            memcpy(&turned, step->turned + channel / 8, 2);
            EACH_PIXEL x[p] = signs(reached(x[p], A) ^ turned);
            break;
        default:
            memcpy(&turned, step->turned + channel / 8, 2);
            EACH_PIXEL {
                uint16_t bits = (uint16_t)(reached(x[p], A) ^ turned);
                char *to = PLACE(p) + channel / 8;
                if (step->octets > 1)
                    memcpy(to, &bits, 2);
                else
                    *to = (char)bits;
            }
        }
    }
}

void KERNEL(take_steps)(const Stage *stage, const Part *part, const float *block) {
    for (int64_t lane = 0; lane < part->width; lane += LANES) {
        int64_t p = 0, channel = part->channel + lane, width = part->width;
        for (; p + TOGETHER <= part->count; p += TOGETHER)
            take(stage, part->first + p, channel, block + p * width + lane, width, TOGETHER);
        for (; p < part->count; p++) take(stage, part->first + p, channel, block + p * width + lane, width, 1);
    }
}
