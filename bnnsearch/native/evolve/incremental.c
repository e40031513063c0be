/* Scores of networks that differ from one parent by a few flips: kept counts are updated instead of a forward pass; see
 * bnnsearch/evolve/incremental.py. */
#include "lanes.h"
#include "layers.h"
#include "votes.h"

enum { NEVER = 32767, LANES = 64 }; /* distance of a neuron that does not exist: no majority reaches it */

enum { HITS, LEADS, UPDATES, TOTALS };

/* Where a layer starts in `deep` of a block and in `signs`, and its number of neurons rounded up to 64. */
typedef struct {
    int64_t deep, signs, width;
} Place;

/* Label whose bits are `mask` in word `word` of the outputs. */
typedef struct {
    int64_t word, label;
    uint64_t mask;
} Group;

/* What is kept of the parent on blocks of 128 samples, one block after the other. */
typedef struct {
    const Layer *layers;
    int64_t depth, blocks, classes, groups_count, margin;
    int64_t deep_size;     /* distances of a block in `deep` */
    const int8_t *inputs;  /* input bits as +-1, (inputs, 128) */
    int16_t *first;        /* distances of the first layer, (neurons, 128) */
    int16_t *deep;         /* distances of the later layers, each (128, width) */
    int16_t *votes;        /* (128, classes) */
    const int64_t *labels; /* (128,); -1 where there is no sample */
    int16_t *judged;       /* whether each sample is correct, and its clipped lead, (128, 2) */
    int64_t *totals;       /* correct samples, summed leads, counts updated so far */
    int8_t *signs;         /* weights of the later layers as +-1, each (inputs, width), 0 in the padding; of all blocks */
    const Place *places;
    const Group *groups;
    int32_t *changes; /* room for two lists of changed neurons, each as long as the widest hidden layer */
    int64_t changes_size;
    uint64_t *planes; /* room for two layers' activations of a block */
} Kept;

/* One block of these. */
static Kept block_of(const Kept *kept, int64_t index) {
    Kept block = *kept;
    block.inputs += index * kept->layers->inputs * SAMPLES;
    block.first += index * kept->layers->outputs * SAMPLES;
    block.deep += index * kept->deep_size;
    block.votes += index * SAMPLES * kept->classes;
    block.labels += index * SAMPLES;
    block.judged += index * SAMPLES * 2;
    block.totals += index * TOTALS;
    return block;
}

/* Bring a sample's correctness and lead up to date with its votes. */
static void rejudge(const Kept *block, int64_t sample) {
    if (block->labels[sample] < 0) return;
    int16_t *judged = block->judged + 2 * sample;
    Verdict now =
        judge(block->votes + sample * block->classes, 1, block->classes, block->labels[sample], block->margin);
    block->totals[HITS] += now.hit - judged[0];
    block->totals[LEADS] += now.lead - judged[1];
    judged[0] = (int16_t)now.hit, judged[1] = (int16_t)now.lead;
}

typedef struct {
    const Kept *block;
    int64_t layer;
    Majority majority;
} Filling;

/* Keep the distances of one tile, and what they make of the layer's outputs. */
INLINE void use_filling(const Product *of, int64_t row, int64_t column, const Counts *tiled, const void *with) {
    const Filling *to = with;
    const Kept *block = to->block;
    const Place *place = block->places + to->layer;
    uint16_t counts[ROWS][COLUMNS];
    store_counts(tiled, counts);
    for (int64_t r = 0; r < min64(ROWS, of->outputs - row); r++)
        for (int64_t c = 0; c < COLUMNS; c++)
            if (to->layer == 0)
                block->first[(row + r) * SAMPLES + column + c] = (int16_t)counts[r][c];
            else
                block->deep[place->deep + (column + c) * place->width + row + r] = (int16_t)counts[r][c];
    use_majority(of, row, column, tiled, &to->majority);
}

/* Count a block's distances and votes by a forward pass and judge its samples. */
static void fill_block(const Kept *block, const uint64_t *columns, const uint64_t *genome, int64_t widest) {
    for (int64_t k = 0; k < block->deep_size; k++) block->deep[k] = NEVER;
    for (int64_t k = 0; k < block->depth; k++) {
        const Layer *layer = block->layers + k;
        uint64_t *out = block->planes + (k & 1) * widest * SAMPLES;
        Product product = {columns, NULL,          SAMPLES, SAMPLES, genome + layer->offset, layer->input_words,
                           layer->outputs};
        Filling to = {block, k, {layer->inputs, out}};
        multiply(&product, use_filling, &to);
        columns = out;
    }
    int64_t group = block->layers[block->depth - 1].outputs / block->classes;
    memset(block->judged, 0, 2 * SAMPLES * sizeof *block->judged);
    block->totals[HITS] = block->totals[LEADS] = 0;
    for (int64_t s = 0; s < SAMPLES; s++)
        for (int64_t label = 0; label < block->classes; label++) {
            int64_t votes = 0, first = label * group, last = first + group;
            for (int64_t word = first / 64; word <= (last - 1) / 64; word++)
                votes += __builtin_popcountll(columns[word * SAMPLES + s] & group_mask(word, first, last));
            block->votes[s * block->classes + label] = (int16_t)votes;
        }
    for (int64_t s = 0; s < SAMPLES; s++) rejudge(block, s);
}

/* Fill `kept` by a forward pass of `genome` over the blocks (blocks, words, 128) it was made for. */
void KERNEL(rebuild)(const Kept *kept, const uint64_t *columns, const uint64_t *genome) {
    int64_t widest = 0;
    for (int64_t k = 0; k < kept->depth; k++) {
        const Layer *layer = kept->layers + k;
        widest = max64(widest, words_of(layer->outputs));
        for (int64_t source = 0; k > 0 && source < layer->inputs; source++)
            for (int64_t neuron = 0; neuron < layer->outputs; neuron++) {
                uint64_t word = genome[layer->offset + neuron * layer->input_words + (source >> 6)];
                kept->signs[kept->places[k].signs + source * kept->places[k].width + neuron] =
                    (int8_t)(word >> (source & 63) & 1 ? 1 : -1);
            }
    }
    for (int64_t index = 0; index < kept->blocks; index++) {
        Kept block = block_of(kept, index);
        fill_block(&block, columns + index * kept->layers->input_words * SAMPLES, genome, widest);
    }
}

/* A changed neuron and its new sign, in one number. */
INLINE int32_t change_of(int64_t neuron, int is_one) { return (int32_t)(neuron << 1 | is_one); }

INLINE int sign_of(int32_t change) { return change & 1 ? 1 : -1; }

/* Carry the one changed activation of a sample in changes[0] from the input of layer `first` to that of the last layer.
 * Points `changes` to the list of what changed there and returns its length. */
static int64_t spread(const Kept *block, int64_t sample, int64_t first, int32_t **changes) {
    int64_t count = 1;
    for (int64_t index = first; index < block->depth - 1; index++) {
        const Place *place = block->places + index;
        int16_t majority = (int16_t)(block->layers[index].inputs >> 1);
        int32_t *behind = *changes == block->changes ? block->changes + block->changes_size : block->changes;
        int64_t found = 0;
        block->totals[UPDATES] += count * place->width;
        for (int64_t lane = 0; lane < place->width; lane += LANES) {
            int16_t *distances = block->deep + place->deep + sample * place->width + lane;
            uint64_t before = 0, after = 0, was;
            for (int64_t turn = 0; turn < count; turn++) {
                int32_t change = (*changes)[turn];
                const int8_t *signs = block->signs + place->signs + (change >> 1) * place->width + lane;
                step64(distances, signs, -sign_of(change), majority, &was, &after);
                if (turn == 0) before = was;
            }
            for (uint64_t crossed = before ^ after; crossed; crossed &= crossed - 1) {
                int bit = __builtin_ctzll(crossed);
                behind[found++] = change_of(lane + bit, after >> bit & 1);
            }
        }
        *changes = behind, count = found;
    }
    return count;
}

/* Carry a changed activation, an input of layer `index`, of several samples to their votes and judge these. It changed
 * for the samples `first` + the bits of `crossed`; `now` has its new values. */
static void change_samples(const Kept *block, int64_t index, int64_t neuron, int64_t first, uint64_t crossed,
                           uint64_t now) {
    int64_t last = block->depth - 1;
    const Place *place = block->places + last;
    int16_t majority = (int16_t)(block->layers[last].inputs >> 1);
    for (; crossed; crossed &= crossed - 1) {
        int bit = __builtin_ctzll(crossed);
        int64_t sample = first + bit;
        int32_t *changes = block->changes;
        changes[0] = change_of(neuron, now >> bit & 1);
        int64_t count = spread(block, sample, index, &changes);
        int16_t *votes = block->votes + sample * block->classes;
        int16_t *distances = block->deep + place->deep + sample * place->width;
        for (int64_t turn = 0; turn < count; turn++) {
            const int8_t *signs = block->signs + place->signs + (changes[turn] >> 1) * place->width;
            int64_t word = -1;
            uint64_t before = 0, after = 0;
            for (const Group *group = block->groups; group < block->groups + block->groups_count; group++) {
                if (group->word != word) {
                    word = group->word;
                    step64(distances + word * LANES, signs + word * LANES, -sign_of(changes[turn]), majority, &before,
                           &after);
                }
                votes[group->label] += (int16_t)(__builtin_popcountll(after & group->mask) -
                                                 __builtin_popcountll(before & group->mask));
            }
        }
        block->totals[UPDATES] += count * place->width;
        rejudge(block, sample);
    }
}

/* Flip a weight of the first layer whose value is `sign`. */
static void flip_first(const Kept *block, int64_t neuron, int64_t source, int sign) {
    int16_t majority = (int16_t)(block->layers->inputs >> 1);
    block->totals[UPDATES] += SAMPLES;
    for (int64_t first = 0; first < SAMPLES; first += LANES) {
        uint64_t was, now;
        step64(block->first + neuron * SAMPLES + first, block->inputs + source * SAMPLES + first, sign, majority, &was,
               &now);
        if (was != now) change_samples(block, 1, neuron, first, was ^ now, now);
    }
}

/* Flip a weight of a later layer; also in `signs`. */
static void flip_deep(const Kept *block, int64_t index, int64_t neuron, int64_t source) {
    const Layer *layer = block->layers + index;
    const Place *place = block->places + index, *before = place - 1;
    int64_t half = layer->inputs >> 1, half_before = layer[-1].inputs >> 1, last = block->depth - 1;
    int8_t *weight = block->signs + place->signs + source * place->width + neuron, sign = *weight;
    const int16_t *inputs = index > 1 ? block->deep + before->deep + source : block->first + source * SAMPLES;
    int64_t step = index > 1 ? before->width : 1;
    int64_t label = index == last ? neuron / (layer->outputs / block->classes) : 0;
    *weight = (int8_t)-sign;
    block->totals[UPDATES] += SAMPLES;
    for (int64_t s = 0; s < SAMPLES; s++) {
        int16_t *distance = block->deep + place->deep + s * place->width + neuron, old = *distance;
        *distance = (int16_t)(inputs[s * step] <= half_before ? old + sign : old - sign);
        int is_one = *distance <= half;
        if ((old <= half) == is_one) continue;
        if (index < last) {
            change_samples(block, index + 1, neuron, s, 1, (uint64_t)is_one);
        } else {
            block->votes[s * block->classes + label] += (int16_t)(is_one ? 1 : -1);
            rejudge(block, s);
        }
    }
}

typedef struct {
    int64_t layer, neuron, source;
} Weight;

/* The weight at a bit of the genome. */
static Weight weight_at(const Kept *kept, int64_t bit) {
    int64_t word = bit >> 6, index = 0;
    while (index + 1 < kept->depth && kept->layers[index + 1].offset <= word) index++;
    const Layer *layer = kept->layers + index;
    word -= layer->offset;
    return (Weight){index, word / layer->input_words, word % layer->input_words * 64 + (bit & 63)};
}

/* Flip the weight at a bit of the genome `parent`, which keeps its bits; or flip it `back`. */
static void flip(const Kept *block, const uint64_t *parent, int64_t bit, int back) {
    Weight at = weight_at(block, bit);
    int is_one = parent[bit >> 6] >> (bit & 63) & 1;
    if (at.layer == 0)
        flip_first(block, at.neuron, at.source, is_one != back ? 1 : -1);
    else
        flip_deep(block, at.layer, at.neuron, at.source);
}

/* Correct samples and summed leads of children of the kept `parent`: scores (children, 2). Child k flips the different
 * bits places[starts[k]] to places[starts[k + 1] - 1]; afterwards all counts are as before. */
void KERNEL(score_children)(const Kept *kept, const uint64_t *parent, const int64_t *places, const int64_t *starts,
                            int64_t children, int64_t *scores) {
    memset(scores, 0, (size_t)(2 * children) * sizeof *scores);
    for (int64_t index = 0; index < kept->blocks; index++) {
        Kept block = block_of(kept, index);
        for (int64_t child = 0; child < children; child++) {
            for (int64_t k = starts[child]; k < starts[child + 1]; k++) flip(&block, parent, places[k], 0);
            scores[2 * child] += block.totals[HITS];
            scores[2 * child + 1] += block.totals[LEADS];
            for (int64_t k = starts[child + 1]; k-- > starts[child];) flip(&block, parent, places[k], 1);
        }
    }
}

/* Make the child of `parent` that flips the bits `places` the kept one. */
void KERNEL(adopt_child)(const Kept *kept, const uint64_t *parent, const int64_t *places, int64_t count) {
    for (int64_t index = 0; index < kept->blocks; index++) {
        Kept block = block_of(kept, index);
        for (int64_t k = 0; index > 0 && k < count; k++) { /* blocks share the signs: as they were before the flip */
            Weight at = weight_at(kept, places[k]);
            const Place *place = kept->places + at.layer;
            if (at.layer > 0) kept->signs[place->signs + at.source * place->width + at.neuron] *= -1;
        }
        for (int64_t k = 0; k < count; k++) flip(&block, parent, places[k], 0);
    }
}
