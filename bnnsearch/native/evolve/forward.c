/* Forward passes of XOR networks over blocks of 128 samples, for one network or a whole population. */
#include "layers.h"
#include "votes.h"

/* Votes (classes, 128) of a network for one block. `room`: two blocks of the words of the widest layer. */
static void block_votes(const Layer *layers, int64_t depth, const uint64_t *genome, const uint64_t *columns,
                        int64_t classes, uint64_t *const room[2], int16_t *votes) {
    for (int64_t k = 0; k < depth; k++) {
        const Layer *layer = layers + k;
        Product product = {columns, NULL,          SAMPLES, SAMPLES, genome + layer->offset, layer->input_words,
                           layer->outputs};
        majority_layer(&product, layer->inputs, room[k & 1]);
        columns = room[k & 1];
    }
    count_groups(columns, SAMPLES, SAMPLES, classes, layers[depth - 1].outputs / classes, votes);
}

/* Words that `score` and `labels` need to work in. */
int64_t KERNEL(score_room)(const Layer *layers, int64_t depth, int64_t classes) {
    int64_t widest = 0;
    for (int64_t k = 0; k < depth; k++) widest = max64(widest, words_of(layers[k].outputs));
    return (2 * widest + words_of(16 * classes)) * SAMPLES;
}

static void share_room(const Layer *layers, int64_t depth, uint64_t *room, uint64_t *planes[2], int16_t **votes) {
    int64_t widest = 0;
    for (int64_t k = 0; k < depth; k++) widest = max64(widest, words_of(layers[k].outputs));
    planes[0] = room, planes[1] = room + widest * SAMPLES, *votes = (int16_t *)(room + 2 * widest * SAMPLES);
}

/* Correct samples, and the sum of the true labels' leads clipped to +-margin, of every genome: scores (genomes, 2).
 * `columns` (blocks, words, 128), `labels` (blocks, 128); a label of -1 counts for nothing. */
void KERNEL(score)(const Layer *layers, int64_t depth, const uint64_t *genomes, int64_t count, int64_t genome_words,
                   const uint64_t *columns, const int64_t *labels, int64_t blocks, int64_t classes, int64_t margin,
                   uint64_t *room, int64_t *scores) {
    uint64_t *planes[2];
    int16_t *votes;
    share_room(layers, depth, room, planes, &votes);
    memset(scores, 0, (size_t)(2 * count) * sizeof *scores);
    for (int64_t g = 0; g < count; g++)
        for (int64_t b = 0; b < blocks; b++) {
            block_votes(layers, depth, genomes + g * genome_words, columns + b * layers->input_words * SAMPLES, classes,
                        planes, votes);
            for (int64_t s = 0; s < SAMPLES; s++) {
                int64_t label = labels[b * SAMPLES + s];
                if (label < 0) continue;
                Verdict verdict = judge(votes + s, SAMPLES, classes, label, margin);
                scores[2 * g] += verdict.hit;
                scores[2 * g + 1] += verdict.lead;
            }
        }
}

/* The label with most votes, the lowest of several, for every sample: labels (blocks, 128). */
void KERNEL(labels)(const Layer *layers, int64_t depth, const uint64_t *genome, const uint64_t *columns, int64_t blocks,
                    int64_t classes, uint64_t *room, int64_t *labels) {
    uint64_t *planes[2];
    int16_t *votes;
    share_room(layers, depth, room, planes, &votes);
    for (int64_t b = 0; b < blocks; b++) {
        block_votes(layers, depth, genome, columns + b * layers->input_words * SAMPLES, classes, planes, votes);
        for (int64_t s = 0; s < SAMPLES; s++) {
            int64_t best = 0;
            for (int64_t label = 1; label < classes; label++)
                if (votes[label * SAMPLES + s] > votes[best * SAMPLES + s]) best = label;
            labels[b * SAMPLES + s] = best;
        }
    }
}
