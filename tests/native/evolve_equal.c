/* Two variants of the kernels on random networks, A against B: for processors that are emulated, where no Python runs.
 *
 * Every shape goes through a forward pass, credit assignment with masks, counters, and scores of children. */
#include <stdio.h>
#include <stdlib.h>

#include "../../bnnsearch/native/evolve/credit.h"

#define NAME(variant, name) JOIN(variant, name)
#define JOIN(variant, name) bnn_##variant##_##name
#define DECLARE(result, name, ...) result NAME(A, name)(__VA_ARGS__); result NAME(B, name)(__VA_ARGS__);

typedef struct { int64_t classes, margin, gate, error_threshold; } Rule;
DECLARE(void, majority, const Layer *, const uint64_t *, const uint64_t *, int64_t, uint64_t *)
DECLARE(int64_t, credit_room, int64_t, int64_t, int64_t)
DECLARE(void, assign_credit, const Layer *, int64_t, const Rule *, const uint64_t *, const uint64_t *, const uint64_t *,
        const int64_t *, const int64_t *, int64_t, int64_t, int64_t, uint64_t *, const Errors *, int64_t, int64_t *)
DECLARE(int64_t, close_gaps, const Errors *, const int64_t *, const int64_t *, int64_t)
DECLARE(int64_t, move_counters, const Layer *, uint64_t *, uint64_t *, int16_t *, const Errors *, int64_t, int64_t,
        int64_t, int64_t, int64_t)
DECLARE(int64_t, score_room, const Layer *, int64_t, int64_t)
DECLARE(void, score, const Layer *, int64_t, const uint64_t *, int64_t, int64_t, const uint64_t *, const int64_t *,
        int64_t, int64_t, int64_t, uint64_t *, int64_t *)

enum { BATCH = 256, CLASSES = 5 };

static uint64_t state = 1;

static uint64_t draw(void) { /* splitmix64 */
    uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static void *zeros(int64_t count, size_t size) {
    void *memory = calloc((size_t)count + 64, size);
    if (!memory) exit(2);
    return memory;
}

static uint64_t *random_rows(int64_t rows, int64_t bits) {
    int64_t words = words_of(bits);
    uint64_t *to = zeros(rows * words, 8);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < words; k++)
            to[r * words + k] = draw() & (k < bits / 64 ? ~UINT64_C(0) : (UINT64_C(1) << bits % 64) - 1);
    return to;
}

static int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

typedef struct {
    uint64_t *genome, *back;
    int16_t *counters;
    Errors errors;
    int64_t result[2], words, flips, scores[2];
} Side;

static int same(const char *what, const void *a, const void *b, int64_t count, size_t size) {
    if (!memcmp(a, b, (size_t)count * size)) return 0;
    printf("%s differs\n", what);
    return 1;
}

int main(void) {
    int bad = 0;
    for (int turn = 0; turn < 60; turn++) {
        int64_t depth = 1 + (int64_t)(draw() % 3), sizes[4], places = 0, genome = 0, back = 0, counters = 0;
        Layer layers[3];
        for (int64_t k = 0; k <= depth; k++) sizes[k] = 1 + (int64_t)(draw() % 300);
        sizes[depth] = CLASSES * (1 + (int64_t)(draw() % 40));
        for (int64_t k = 0; k < depth; k++) {
            int64_t in = words_of(sizes[k]), out = words_of(sizes[k + 1]);
            layers[k] = (Layer){genome, sizes[k], sizes[k + 1], in, places, places + in, back, counters};
            genome += round_up(sizes[k + 1], 8) * in, back += round_up(sizes[k], 8) * out, places += in;
            counters += round_up(sizes[k], 8) * round_up(sizes[k + 1], 16);
        }
        places += words_of(sizes[depth]);
        uint64_t *weights = zeros(genome, 8), *turned = zeros(back, 8), *rows = random_rows(BATCH, sizes[0]);
        for (int64_t k = 0; k < depth; k++) {
            uint64_t *layer = random_rows(sizes[k + 1], sizes[k]);
            memcpy(weights + layers[k].offset, layer, (size_t)(sizes[k + 1] * layers[k].input_words) * 8);
            free(layer);
            for (int64_t j = 0; j < sizes[k + 1]; j++)
                for (int64_t i = 0; i < sizes[k]; i++)
                    turned[layers[k].back_offset + i * words_of(sizes[k + 1]) + j / 64] |=
                        (weights[layers[k].offset + j * layers[k].input_words + i / 64] >> i % 64 & 1) << j % 64;
        }
        int64_t picks[BATCH], labels[BATCH], start = 0;
        for (int64_t s = 0; s < BATCH; s++) picks[s] = (int64_t)(draw() % BATCH), labels[s] = (int64_t)(draw() % CLASSES);
        Rule rule = {CLASSES, 1 + (int64_t)(draw() % 20), (int64_t)(draw() % 64), (int64_t)(draw() % 4)};
        int64_t limit = 50 + (int64_t)(draw() % 1000), band = (int64_t)(draw() % 20), count = BATCH - (int64_t)(draw() % 100);
        int16_t *began = zeros(counters, 2);
        for (int64_t k = 0; k < counters; k++) began[k] = (int16_t)(draw() % 41 - 20);
        uint64_t *columns = random_rows(2 * SAMPLES * words_of(sizes[0]), 64);
        for (int64_t b = 0; b < 2; b++)
            for (int64_t s = 0; s < SAMPLES; s++)
                for (int64_t w = 0; w < words_of(sizes[0]); w++)
                    columns[(b * words_of(sizes[0]) + w) * SAMPLES + s] = rows[(b * SAMPLES + s) * words_of(sizes[0]) + w];
        Side sides[2];
        for (int which = 0; which < 2; which++) {
            Side *side = sides + which;
            *side = (Side){zeros(genome, 8), zeros(back, 8), zeros(counters, 2), {0}, {0}, 0, 0, {0}};
            memcpy(side->genome, weights, (size_t)genome * 8), memcpy(side->back, turned, (size_t)back * 8);
            memcpy(side->counters, began, (size_t)counters * 2);
            int64_t plane = BATCH / 64 * places * 64;
            side->errors = (Errors){zeros(plane, 8), zeros(plane, 8), zeros(plane, 8), zeros(places * 64, 2), places * 64};
            uint64_t *room = zeros(NAME(A, credit_room)(places, BATCH, CLASSES) + NAME(A, score_room)(layers, depth, CLASSES), 8);
#define CALL(name, ...) (which ? NAME(B, name)(__VA_ARGS__) : NAME(A, name)(__VA_ARGS__))
            CALL(assign_credit, layers, depth, &rule, side->genome, side->back, rows, picks, labels, count, places, BATCH, room,
                 &side->errors, 0, side->result);
            int64_t filled = words_of(side->result[1]);
            side->words = CALL(close_gaps, &side->errors, &start, &filled, 1);
            for (int64_t k = 0; side->words && k < depth; k++)
                side->flips += CALL(move_counters, layers + k, side->genome, side->back, side->counters, &side->errors,
                                    side->words, 0, sizes[k], limit, band);
            memset(room, 0, 64);
            CALL(score, layers, depth, side->genome, 1, genome, columns, labels, 2, CLASSES, 9, room, side->scores);
            free(room);
        }
        bad |= same("credit", sides[0].result, sides[1].result, 2, 8) | same("flips", &sides[0].flips, &sides[1].flips, 1, 8);
        bad |= same("genome", sides[0].genome, sides[1].genome, genome, 8);
        bad |= same("transpose", sides[0].back, sides[1].back, back, 8);
        bad |= same("counters", sides[0].counters, sides[1].counters, counters, 2);
        bad |= same("scores", sides[0].scores, sides[1].scores, 2, 8);
        for (int64_t w = 0; w < sides[0].words; w++) {
            bad |= same("up", sides[0].errors.asked + w * places * 64, sides[1].errors.asked + w * places * 64, places * 64, 8);
        }
        if (turn % 20 == 0)
            printf("depth %d: %d asked, %d flips, %d hits\n", (int)depth, (int)sides[0].result[1], (int)sides[0].flips,
                   (int)sides[0].scores[0]);
        for (int which = 0; which < 2; which++) {
            free(sides[which].genome), free(sides[which].back), free(sides[which].counters);
            free(sides[which].errors.value), free(sides[which].errors.up), free(sides[which].errors.asked);
            free(sides[which].errors.total);
        }
        free(weights), free(turned), free(rows), free(columns), free(began);
    }
    puts(bad ? "different" : "equal");
    return bad;
}
