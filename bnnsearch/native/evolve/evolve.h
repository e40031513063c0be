/* Evolution of XOR networks: what the kernels share.
 *
 * Bit 1 is +1, bit 0 is -1, 64 to a word, element i in bit i % 64 of word i / 64. A network's weights are rows, one per
 * output neuron; samples are columns: word w of sample s is columns[w * stride + s]. Bits beyond a vector's length are
 * zero. Rows come in multiples of 8, columns in multiples of 16, and of 64 where bits are transposed.
 *
 * No kernel allocates or keeps anything: room to work in is passed in, and threads work on parts of their own.
 */
#ifndef BNN_EVOLVE_H
#define BNN_EVOLVE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

enum { SAMPLES = 128 }; /* per block of an evaluation: their bits stay in the first-level cache */

/* A row of `Layout.table`. Offsets count words of the genome, words of its transpose, and counters; places count words
 * of 64 neurons. */
typedef struct {
    int64_t offset, inputs, outputs, input_words, input_place, output_place, back_offset, counter_offset;
} Layer;

INLINE int64_t words_of(int64_t bits) { return (bits + 63) / 64; }

INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* The bits of word `word` that belong to the elements first <= i < last. */
INLINE uint64_t group_mask(int64_t word, int64_t first, int64_t last) {
    int64_t low = max64(first - word * 64, 0), high = min64(last - word * 64, 64);
    return ~UINT64_C(0) >> (64 - (high - low)) << low;
}

#endif
