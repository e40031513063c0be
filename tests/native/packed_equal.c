/* Two variants of the packed runtime on random stages, A against B, bit by bit; see evolve_equal.c.
 *
 * Each turn a convolution or pool of random shape reads random values, and every kind of step follows. */
#include <stdio.h>
#include <stdlib.h>

#define KERNEL(name) unused_##name
#include "../../bnnsearch/native/packed/packed.h"

#define NAME(variant, name) JOIN(variant, name)
#define JOIN(variant, name) bnn_##variant##_##name
#define DECLARE(result, name, ...) result NAME(A, name)(__VA_ARGS__); result NAME(B, name)(__VA_ARGS__);
DECLARE(int64_t, gathered_bytes, int64_t)
DECLARE(int64_t, filter_bytes, int64_t, int64_t)
DECLARE(void, lay_filters, const uint8_t *, int64_t, int64_t, uint8_t *)
DECLARE(void, run_stages, const Stage *, int64_t, int64_t, void *)
#define CALL(name, ...) (which ? NAME(B, name)(__VA_ARGS__) : NAME(A, name)(__VA_ARGS__))

enum { PIXELS = 70, CHANNELS = 144, STEPS = 10, SOURCE = 1 << 16, TABLES = 40 };

static uint64_t state = 1;

static int64_t draw(int64_t below) { /* splitmix64 */
    uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (int64_t)((z ^ z >> 31) % (uint64_t)below);
}

static float real(void) { return (float)(draw(2000) - 1000) / 37; }

static void *filled(int64_t count) {
    float *to = malloc((size_t)count * sizeof *to);
    if (!to) exit(2);
    for (int64_t k = 0; k < count; k++) to[k] = real();
    return to;
}

int main(void) {
    int bad = 0;
    float *source = filled(SOURCE / 4), *filters = filled(16 * SOURCE), *bases = filled(TABLES * CHANNELS);
    float *vectors = filled(2 * CHANNELS), *map = filled(PIXELS * CHANNELS);
    uint8_t turned[CHANNELS / 8];
    for (int k = 0; k < CHANNELS / 8; k++) turned[k] = (uint8_t)draw(256);
    for (int turn = 0; turn < 400; turn++) {
        Stage stage = {.kind = draw(STAGE_INPUT), .source = (char *)source, .filters = filters, .bases = bases};
        int bits = stage.kind == STAGE_BITS, pool = stage.kind >= STAGE_MAX;
        stage.pixels = 1 + draw(PIXELS), stage.channels = 16 * (1 + draw(CHANNELS / 16));
        stage.rows = 1 + draw(5), stage.run = 1 + draw(bits ? 90 : 20), stage.row_stride = 4 * (100 + draw(50));
        if (pool) stage.row_stride = PIXELS * 4;
        int32_t offsets[5 * PIXELS], kinds[PIXELS], places[PIXELS], octet_places[PIXELS];
        for (int k = 0; k < 5 * PIXELS; k++) offsets[k] = (int32_t)draw(SOURCE / 8) / 4 * 4;
        for (int p = 0; p < PIXELS; p++) {
            kinds[p] = (int32_t)draw(TABLES) * CHANNELS * 4;
            places[p] = p * CHANNELS * 4, octet_places[p] = p * CHANNELS / 8;
        }
        stage.offsets = offsets, stage.base_offsets = kinds;
        float *stored[2];
        uint8_t *octets[2];
        for (int which = 0; which < 2; which++) {
            stored[which] = calloc(PIXELS * CHANNELS, sizeof(float)), octets[which] = calloc(PIXELS * CHANNELS / 8, 1);
            uint8_t *laid = NULL;
            if (bits) {
                laid = malloc((size_t)CALL(filter_bytes, stage.channels, stage.rows * stage.run));
                CALL(lay_filters, (uint8_t *)filters, stage.channels, stage.rows * stage.run, laid);
                stage.filters = laid;
            }
            void *gathered = calloc((size_t)CALL(gathered_bytes, stage.rows * stage.run), 1);
            Step steps[STEPS];
            for (int k = 0; k < STEPS; k++)
                steps[k] = (Step){k, vectors, vectors + CHANNELS, turned, (char *)map, places, 2};
            steps[STEP_STORE].map = (char *)stored[which];
            steps[STEP_BITS].map = (char *)octets[which], steps[STEP_BITS].offsets = octet_places;
            stage.steps = steps, stage.step_count = STEPS;
            CALL(run_stages, &stage, 0, 1, gathered);
            free(laid), free(gathered);
            stage.filters = filters;
        }
        int same = !memcmp(stored[0], stored[1], PIXELS * CHANNELS * sizeof(float)) &&
                   !memcmp(octets[0], octets[1], PIXELS * CHANNELS / 8);
        if (!same) printf("a stage of kind %d differs\n", (int)stage.kind);
        bad |= !same;
        for (int which = 0; which < 2; which++) free(stored[which]), free(octets[which]);
    }
    free(source), free(filters), free(bases), free(vectors), free(map);
    puts(bad ? "different" : "equal");
    return bad;
}
