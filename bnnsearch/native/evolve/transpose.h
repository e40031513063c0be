/* Bits transposed in tiles of 64 x 64 (Warren, Hacker's Delight, 7-3): halves are swapped, then quarters, ... */
#ifndef BNN_TRANSPOSE_H
#define BNN_TRANSPOSE_H

#include "evolve.h"

/* In every square of 2 half words and bits, swap the two quarters off the diagonal; inlined, each has its own loops. */
INLINE void swap_halves(uint64_t *bits, int half, uint64_t low) {
    for (int base = 0; base < 64; base += 2 * half)
        for (int k = base; k < base + half; k++) {
            uint64_t swap = ((bits[k] >> half) ^ bits[k + half]) & low;
            bits[k] ^= swap << half;
            bits[k + half] ^= swap;
        }
}

/* Bit i of in[c] becomes bit c of out[i]. */
INLINE void transpose_tile(const uint64_t *in, uint64_t *out) {
    uint64_t bits[64];
    memcpy(bits, in, sizeof bits);
    swap_halves(bits, 32, UINT64_C(0x00000000FFFFFFFF));
    swap_halves(bits, 16, UINT64_C(0x0000FFFF0000FFFF));
    swap_halves(bits, 8, UINT64_C(0x00FF00FF00FF00FF));
    swap_halves(bits, 4, UINT64_C(0x0F0F0F0F0F0F0F0F));
    swap_halves(bits, 2, UINT64_C(0x3333333333333333));
    swap_halves(bits, 1, UINT64_C(0x5555555555555555));
    memcpy(out, bits, sizeof bits);
}

/* Columns (words, 64 count) at a stride to columns (count, 64 words): element i of column c becomes element c of i. */
static void transpose_columns(const uint64_t *columns, int64_t words, int64_t stride, int64_t count, uint64_t *out,
                              int64_t out_stride) {
    for (int64_t word = 0; word < words; word++)
        for (int64_t k = 0; k < count; k++)
            transpose_tile(columns + word * stride + k * 64, out + k * out_stride + word * 64);
}

#endif
