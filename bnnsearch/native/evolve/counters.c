/* Integer inertia: every weight has a counter that errors push; the weight flips when it has crossed the band.
 *
 *     H += sum over the batch of delta_j x_i, clipped to [-limit, limit];   w = +1 once H > band, -1 once H < -band
 */
#include "credit.h"
#include "lanes.h"
#include "tile.h"

/* Push one layer's counters by the votes of a batch; the weights of the inputs first <= i < last move, multiples of 64,
 * so that two threads share no word. Returns the number of flips. */
int64_t KERNEL(move_counters)(const Layer *layer, uint64_t *genome, uint64_t *back, int16_t *counters,
                              const Errors *errors, int64_t words, int64_t first, int64_t last, int64_t limit,
                              int64_t band) {
    int64_t output_words = words_of(layer->outputs), width = (layer->outputs + 15) / 16 * 16, flips = 0;
    int64_t stride = errors->stride;
    for (int64_t row = first; row < min64(last, layer->inputs); row += ROWS)
        for (int64_t column = 0; column < width; column += COLUMNS) {
            int64_t at = layer->output_place * 64 + column;
            Operands operands = {errors->up + at, errors->asked + at, stride,
                                 errors->value + layer->input_place * 64 + row, stride, 1, words};
            Counts tiled;
            uint16_t counts[ROWS][COLUMNS];
            tile(&operands, &tiled);
            store_counts(&tiled, counts);
            for (int r = 0; r < ROWS; r++) {
                int16_t *counter = counters + layer->counter_offset + (row + r) * width + column;
                uint64_t rises, falls;
                push16(counter, errors->total + at, counts[r], (int16_t)limit, (int16_t)band, &rises, &falls);
                int64_t i = row + r, word = layer->back_offset + i * output_words + (column >> 6);
                if (i >= layer->inputs) continue;
                uint64_t old = back[word] >> (column & 63) & 0xFFFF, changed = ((old | rises) & ~falls) ^ old;
                back[word] ^= changed << (column & 63);
                for (; changed; changed &= changed - 1, flips++) {
                    int64_t neuron = column + __builtin_ctzll(changed);
                    genome[layer->offset + neuron * layer->input_words + (i >> 6)] ^= UINT64_C(1) << (i & 63);
                }
            }
        }
    return flips;
}
