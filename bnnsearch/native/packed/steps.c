/* What is done to a block, a few pixels at a time in registers: batch norm, residual sums, activations, bits, stores. */
#include "reals.h"

enum { AT_ONCE = 4 }; /* pixels: of 16 channels, they take half the registers that AVX2 has */

#define EACH_PIXEL for (int p = 0; p < P; p++)
#define PLACE(p) (step->map + step->offsets[first + p])
#define MAP(p) ((float *)PLACE(p) + channel)
#define A load(step->a + channel)
#define B load(step->b + channel)

/* One step on P pixels from `first` on, and 16 channels. */
INLINE void take(const Step *step, int64_t kind, int64_t first, int64_t channel, Reals *x, const int P) {
    uint16_t turned;
    switch (kind) {
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

#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 8")
#endif

/* All steps; where `kinds` are given, they are those of the steps. */
INLINE void take_all(const Stage *stage, const Part *part, const float *block, const int64_t *kinds, const int64_t count) {
    const Step *steps = stage->steps;
    Step own[8]; /* nobody can write these */
    if (kinds) {
        UNROLLED for (int64_t s = 0; s < count; s++) own[s] = steps[s];
    }
    for (int64_t lane = 0; lane < part->width; lane += LANES) {
        const float *from = block + lane;
        int64_t p = 0, first = part->first, channel = part->channel + lane, width = part->width;
        Reals x[AT_ONCE];
        for (; p + AT_ONCE <= part->count; p += AT_ONCE) {
            for (int k = 0; k < AT_ONCE; k++) x[k] = load(from + (p + k) * width);
            if (kinds)
                UNROLLED for (int64_t s = 0; s < count; s++) take(own + s, kinds[s], first + p, channel, x, AT_ONCE);
            else
                for (int64_t s = 0; s < count; s++) take(steps + s, steps[s].kind, first + p, channel, x, AT_ONCE);
        }
        for (; p < part->count; p++) {
            x[0] = load(from + p * width);
            for (int64_t s = 0; s < count; s++) take(steps + s, steps[s].kind, first + p, channel, x, 1);
        }
    }
}

/* The chains that most layers have: a step whose kind the compiler knows costs no branch. */
static const int64_t bits[] = {STEP_BITS};
static const int64_t simple[] = {STEP_SCALE, STEP_AFFINE, STEP_ADD, STEP_STORE, STEP_BITS};
static const int64_t recu[] = {STEP_SCALE, STEP_AFFINE, STEP_ADD, STEP_CLAMP, STEP_STORE, STEP_BITS};
static const int64_t react[] = {STEP_SCALE, STEP_AFFINE, STEP_ADD, STEP_SHIFT, STEP_PRELU, STEP_SHIFT, STEP_STORE, STEP_BITS};

static int is(const Stage *stage, const int64_t *kinds, size_t octets) {
    int64_t count = (int64_t)(octets / sizeof *kinds), s = 0;
    if (stage->step_count != count) return 0;
    while (s < count && stage->steps[s].kind == kinds[s]) s++;
    return s == count;
}

/* Which chain a stage has; 0 is none of them. */
int64_t KERNEL(chain_of)(const Stage *stage) {
    return is(stage, bits, sizeof bits)       ? 1
           : is(stage, simple, sizeof simple) ? 2
           : is(stage, recu, sizeof recu)     ? 3
           : is(stage, react, sizeof react)   ? 4
                                              : 0;
}

void KERNEL(take_steps)(const Stage *stage, const Part *part, const float *block, int64_t chain) {
    switch (chain) {
    case 1: take_all(stage, part, block, bits, 1); break;
    case 2: take_all(stage, part, block, simple, 5); break;
    case 3: take_all(stage, part, block, recu, 6); break;
    case 4: take_all(stage, part, block, react, 8); break;
    default: take_all(stage, part, block, 0, stage->step_count);
    }
}
