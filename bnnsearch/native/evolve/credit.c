/* Integer credit assignment: which neuron should have been the other way for which sample; the rule stands in
 * bnnsearch/evolve/credit.py. Errors are ternary and lie in two bit planes, `asked` (not 0) and `up` (+1), so that a
 * sum of errors is one masked popcount. */
#include "credit.h"
#include "layers.h"
#include "transpose.h"
#include "votes.h"

typedef struct {
    int64_t classes, margin, gate, error_threshold;
} CreditRule;

/* Bits of a block of samples over the places of all neurons, (places, stride) words each; inputs first. */
typedef struct {
    uint64_t *value, *near, *up, *asked;
} Planes;

/* What does not change from batch to batch. `samples`, a multiple of 64, is the planes' stride. */
typedef struct {
    const Layer *layers;
    int64_t depth, places, samples;
    CreditRule rule;
    Planes block, kept;
    int16_t *votes, *totals;
    int64_t *chosen;
} Credit;

static Planes planes_at(uint64_t *room, int64_t words) {
    return (Planes){room, room + words, room + 2 * words, room + 3 * words};
}

/* Words of room to work in. */
int64_t KERNEL(credit_room)(int64_t places, int64_t samples, int64_t classes) {
    return samples * (8 * places + 1) + words_of(16 * samples) + words_of(16 * samples * classes);
}

static void gather(const uint64_t *rows, int64_t words, const int64_t *picks, int64_t count, uint64_t *columns,
                   int64_t stride) {
    for (int64_t k = 0; k < count; k++)
        for (int64_t word = 0; word < words; word++) columns[word * stride + k] = rows[picks[k] * words + word];
}

static void forward(const Credit *of, const uint64_t *genome, int64_t count) {
    for (const Layer *layer = of->layers; layer < of->layers + of->depth; layer++) {
        int64_t in = layer->input_place * of->samples, out = layer->output_place * of->samples;
        Product product = {of->block.value + in, NULL, of->samples, count, genome + layer->offset, layer->input_words,
                           layer->outputs};
        for (int64_t s = 0; s < count; s++) of->totals[s] = (int16_t)layer->inputs;
        gated_layer(&product, of->totals, of->rule.gate, of->block.value + out, of->block.near + out);
    }
}

/* Fill `up` and `asked` of the outputs; returns the number of samples classified correctly. */
static int64_t ask_outputs(const Credit *of, const int64_t *labels, int64_t known, int64_t count) {
    const Layer *last = of->layers + of->depth - 1;
    int64_t group = last->outputs / of->rule.classes, stride = of->samples, at = last->output_place * stride;
    uint64_t *value = of->block.value + at, *near = of->block.near + at;
    uint64_t *up = of->block.up + at, *asked = of->block.asked + at;
    int64_t hits = 0, words = words_of(last->outputs);
    count_groups(value, stride, count, of->rule.classes, group, of->votes);
    for (int64_t word = 0; word < words; word++) memset(asked + word * stride, 0, (size_t)count * sizeof *asked);
    for (int64_t s = 0; s < known; s++) {
        int64_t label = labels[s], own = of->votes[label * count + s], best = 0, wanted = 0;
        for (int64_t other = 0; other < of->rule.classes; other++) {
            int64_t votes = of->votes[other * count + s], first = other * group;
            if (votes > of->votes[best * count + s]) best = other;
            if (other == label || own - votes >= of->rule.margin) continue;
            wanted = 1;
            for (int64_t word = first / 64; word <= (first + group - 1) / 64; word++)
                asked[word * stride + s] |= value[word * stride + s] & group_mask(word, first, first + group);
        }
        hits += best == label;
        for (int64_t word = label * group / 64; wanted && word <= (label * group + group - 1) / 64; word++)
            asked[word * stride + s] |= ~value[word * stride + s] & group_mask(word, label * group, (label + 1) * group);
    }
    for (int64_t word = 0; word < words; word++)
        for (int64_t s = 0; s < count; s++) {
            asked[word * stride + s] &= near[word * stride + s];
            up[word * stride + s] = ~value[word * stride + s];
        }
    return hits;
}

static void pick(const uint64_t *from, const int64_t *chosen, int64_t count, uint64_t *to) {
    for (int64_t k = 0; k < count; k++) to[k] = from[chosen[k]];
}

/* Copy the samples that ask for a change to the front of `kept`; returns how many. The rest of the last 64 asks for
 * nothing. */
static int64_t keep_asked(const Credit *of, int64_t samples) {
    int64_t place = of->layers[of->depth - 1].output_place, stride = of->samples, count = 0;
    for (int64_t s = 0; s < samples; s++) {
        uint64_t some = 0;
        for (int64_t word = place; word < of->places; word++) some |= of->block.asked[word * stride + s];
        of->chosen[count] = s;
        count += some != 0;
    }
    for (int64_t word = 0; word < of->places; word++) {
        int64_t at = word * stride;
        pick(of->block.value + at, of->chosen, count, of->kept.value + at);
        pick(of->block.near + at, of->chosen, count, of->kept.near + at);
        if (word < place) continue;
        pick(of->block.up + at, of->chosen, count, of->kept.up + at);
        pick(of->block.asked + at, of->chosen, count, of->kept.asked + at);
        memset(of->kept.asked + at + count, 0, (size_t)(words_of(count) * 64 - count) * sizeof *of->kept.asked);
    }
    return count;
}

/* Fill `up` and `asked` of the hidden layers of `kept` from those of the outputs. */
static void propagate(const Credit *of, const uint64_t *back, int64_t count) {
    int64_t stride = of->samples;
    for (const Layer *layer = of->layers + of->depth - 1; layer > of->layers; layer--) {
        int64_t behind = layer->output_place * stride, at = layer->input_place * stride;
        int64_t words = words_of(layer->outputs);
        uint64_t *up = of->kept.up, *asked = of->kept.asked, *near = of->kept.near;
        Product product = {up + behind, asked + behind, stride, count, back + layer->back_offset, words, layer->inputs};
        memset(of->totals, 0, (size_t)count * sizeof *of->totals);
        for (int64_t word = 0; word < words; word++)
            for (int64_t s = 0; s < count; s++)
                of->totals[s] += (int16_t)__builtin_popcountll(asked[behind + word * stride + s]);
        gated_layer(&product, of->totals, of->rule.error_threshold, up + at, asked + at);
        for (int64_t word = 0; word < layer->input_words; word++)
            for (int64_t s = 0; s < count; s++) {
                int64_t k = at + word * stride + s;
                asked[k] = near[k] & ~asked[k];
            }
    }
}

/* Forward pass, errors and their way back for a share of a mini-batch.
 *
 * `rows` are the packed inputs of all samples, `picks` and `labels` (count,) say which of them and what they are.
 * The transposed errors go to `out` from word `at` on. Returns in `result`: correct samples, samples that ask for a
 * change. */
void KERNEL(assign_credit)(const Layer *layers, int64_t depth, const CreditRule *rule, const uint64_t *genome,
                           const uint64_t *back, const uint64_t *rows, const int64_t *picks, const int64_t *labels,
                           int64_t count, int64_t places, int64_t samples, uint64_t *room, const Errors *out,
                           int64_t at, int64_t *result) {
    int64_t words = places * samples;
    uint64_t *rest = room + 8 * words;
    Credit of = {layers, depth, places, samples, *rule, planes_at(room, words), planes_at(room + 4 * words, words),
                 (int16_t *)(rest + samples + words_of(16 * samples)), (int16_t *)(rest + samples), (int64_t *)rest};
    int64_t width = words_of(count) * 64;
    gather(rows, layers->input_words, picks, count, of.block.value, samples);
    forward(&of, genome, width);
    result[0] = ask_outputs(&of, labels, count, width);
    result[1] = keep_asked(&of, width);
    width = words_of(result[1]) * 64;
    if (!width) return;
    propagate(&of, back, width);
    int64_t to = at * out->stride;
    transpose_columns(of.kept.value, places, samples, width / 64, out->value + to, out->stride);
    transpose_columns(of.kept.up, places, samples, width / 64, out->up + to, out->stride);
    transpose_columns(of.kept.asked, places, samples, width / 64, out->asked + to, out->stride);
}

/* Move the filled stretches of words together, `lengths[k]` words from `starts[k]` on, ascending, and count who is
 * asked how often; returns the number of words filled. */
int64_t KERNEL(close_gaps)(const Errors *out, const int64_t *starts, const int64_t *lengths, int64_t stretches) {
    int64_t words = 0, stride = out->stride;
    for (int64_t k = 0; k < stretches; k++) {
        int64_t from = starts[k] * stride, to = words * stride;
        size_t size = (size_t)(lengths[k] * stride) * sizeof *out->value;
        memmove(out->value + to, out->value + from, size);
        memmove(out->up + to, out->up + from, size);
        memmove(out->asked + to, out->asked + from, size);
        words += lengths[k];
    }
    memset(out->total, 0, (size_t)stride * sizeof *out->total);
    for (int64_t word = 0; word < words; word++)
        for (int64_t place = 0; place < stride; place++)
            out->total[place] += (int16_t)__builtin_popcountll(out->asked[word * stride + place]);
    return words;
}
