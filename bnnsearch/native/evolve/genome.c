/* Bits of a genome: counted, found, numbered, transposed. */
#include "evolve.h"

/* Number of ones. */
int64_t KERNEL(count_ones)(const uint64_t *words, int64_t count) {
    int64_t total = 0;
    for (int64_t k = 0; k < count; k++) total += __builtin_popcountll(words[k]);
    return total;
}

/* Bits of the genome that are the ranks-th ones of `mask`; `ranks` ascending, each below the mask's ones. */
void KERNEL(find_ones)(const uint64_t *mask, const int64_t *ranks, int64_t count, int64_t *places) {
    int64_t word = 0, passed = 0;
    for (int64_t k = 0; k < count; k++) {
        while (passed + __builtin_popcountll(mask[word]) <= ranks[k]) passed += __builtin_popcountll(mask[word++]);
        uint64_t left = mask[word];
        for (int64_t skip = ranks[k] - passed; skip > 0; skip--) left &= left - 1;
        places[k] = word * 64 + __builtin_ctzll(left);
    }
}

/* Bits of the genome where weights lie that are numbered layer by layer, neuron by neuron. */
void KERNEL(weight_places)(const Layer *layers, const int64_t *weights, int64_t count, int64_t *places) {
    for (int64_t k = 0; k < count; k++) {
        const Layer *layer = layers;
        int64_t weight = weights[k];
        while (weight >= layer->inputs * layer->outputs) {
            weight -= layer->inputs * layer->outputs;
            layer++;
        }
        int64_t neuron = weight / layer->inputs, source = weight % layer->inputs;
        places[k] = (layer->offset + neuron * layer->input_words) * 64 + source;
    }
}

/* Turn `back`, the transpose of `old`, into that of `now`, which differs in few weights. */
void KERNEL(transpose_changes)(const Layer *layers, int64_t depth, const uint64_t *old, const uint64_t *now,
                               uint64_t *back) {
    for (const Layer *layer = layers; layer < layers + depth; layer++)
        for (int64_t neuron = 0; neuron < layer->outputs; neuron++)
            for (int64_t word = 0; word < layer->input_words; word++) {
                int64_t place = layer->offset + neuron * layer->input_words + word;
                for (uint64_t differ = old[place] ^ now[place]; differ; differ &= differ - 1) {
                    int64_t source = word * 64 + __builtin_ctzll(differ);
                    back[layer->back_offset + source * words_of(layer->outputs) + (neuron >> 6)] ^=
                        UINT64_C(1) << (neuron & 63);
                }
            }
}
