/* The marks of the thesis's appendix .3, by majority; see bnnsearch/evolve/majority_marks.py. */
#include "layers.h"
#include "transpose.h"

/* Activations of one layer: columns (words, count) to columns (words of outputs, count). */
void KERNEL(majority)(const Layer *layer, const uint64_t *genome, const uint64_t *columns, int64_t count,
                      uint64_t *out) {
    Product product = {columns, NULL, count, count, genome + layer->offset, layer->input_words, layer->outputs};
    majority_layer(&product, layer->inputs, out);
}

/* Columns (words, 64 count) of neurons to columns (count, 64 words) of samples. */
void KERNEL(transpose)(const uint64_t *columns, int64_t words, int64_t count, uint64_t *out) {
    transpose_columns(columns, words, 64 * count, count, out, 64 * words);
}

/* Samples of an output bit's own label and all others; balanced, either kind counts for one half. */
typedef struct {
    const uint64_t *own;
    const uint64_t *everyone;
    int64_t words, balanced;
} Judges;

/* Samples for which the bits of `errors` of one output are 1, out of all. */
typedef struct {
    int64_t own, others;
} Tally;

/* Whether errors are at least half of the samples, or of both kinds' halves. */
static int is_half(Tally wrong, Tally all, int64_t balanced) {
    if (balanced && all.own && all.others) return wrong.own * all.others + wrong.others * all.own >= all.own * all.others;
    return 2 * (wrong.own + wrong.others) >= all.own + all.others;
}

INLINE void tally(const Judges *by, int64_t word, uint64_t bits, Tally *sum) {
    sum->own += __builtin_popcountll(bits & by->own[word]);
    sum->others += __builtin_popcountll(bits & by->everyone[word] & ~by->own[word]);
}

/* Mark the wrong weights of the last layer and return the number of wrong outputs.
 *
 * `inputs` (words, 64 input_words) and `outputs` (words, 64 words of outputs) are bits over samples, `of_label`
 * (classes, words) the samples of each label, `everyone` (words,) all of them; `marks`, genome-shaped, is zero. */
int64_t KERNEL(mark_last)(const Layer *layer, const uint64_t *genome, const uint64_t *inputs, const uint64_t *outputs,
                          const uint64_t *of_label, const uint64_t *everyone, int64_t words, int64_t classes,
                          int64_t balanced, uint64_t *marks) {
    int64_t input_step = layer->input_words * 64, output_step = words_of(layer->outputs) * 64, wrong = 0;
    for (int64_t output = 0; output < layer->outputs; output++) {
        Judges by = {of_label + output * classes / layer->outputs * words, everyone, words, balanced};
        Tally errors = {0, 0}, all = {0, 0};
        for (int64_t word = 0; word < words; word++) {
            tally(&by, word, outputs[word * output_step + output] ^ by.own[word], &errors);
            tally(&by, word, ~UINT64_C(0), &all);
        }
        if (!is_half(errors, all, balanced)) continue;
        wrong++;
        for (int64_t source = 0; source < layer->inputs; source++) {
            int64_t place = layer->offset + output * layer->input_words + (source >> 6);
            uint64_t weight = UINT64_C(0) - (genome[place] >> (source & 63) & 1);
            Tally helped = {0, 0};
            for (int64_t word = 0; word < words; word++) {
                uint64_t value = outputs[word * output_step + output];
                uint64_t agreed = inputs[word * input_step + source] ^ weight ^ value;
                tally(&by, word, (value ^ by.own[word]) & agreed, &helped);
            }
            if (is_half(helped, all, balanced)) marks[place] |= UINT64_C(1) << (source & 63);
        }
    }
    return wrong;
}
