/* The register tile that all products are made of: Hamming distances of 8 rows to 16 columns.
 *
 * For vectors x, w of n elements -1 and +1 the dot product is n - 2 popcount(x ^ w); with a mask m of elements that
 * count it is |m| - 2 popcount(m & (x ^ w)). Columns lie side by side, so a register holds one word of several columns
 * and each word of a row is broadcast: nothing is summed across a register, each loaded column is used eight times.
 *
 * AVX-512 counts words outright (VPOPCNTDQ); NEON counts bytes; AVX2 looks half bytes up in a table of 16 (Mula, Kurz,
 * Lemire, Faster population counts using AVX2 instructions, 2018). The last form is the reference.
 */
#ifndef BNN_TILE_H
#define BNN_TILE_H

#include "evolve.h"

enum { ROWS = 8, COLUMNS = 16 };

/* Word k of column c is column[k * column_step + c], word k of row r is row[k * row_step + r * row_stride]. `mask` is
 * like `column`, or NULL where all elements count. */
typedef struct {
    const uint64_t *column, *mask;
    int64_t column_step;
    const uint64_t *row;
    int64_t row_step, row_stride, words;
} Operands;

#if defined(__AVX512VPOPCNTDQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

/* Words of columns c and c + 8 and rows r and r + 1 share lane c of pairs[r / 2]: row r's count of column c is element
 * 4 c of 16 bits, row r + 1's follows it, then come those of column c + 8. So no count crosses a lane. */
typedef struct {
    __m512i pairs[ROWS / 2];
} Counts;

INLINE void count_words(const Operands *of, int masked, Counts *counts) {
    __m512i sums[ROWS][2];
    for (int r = 0; r < ROWS; r++) sums[r][0] = sums[r][1] = _mm512_setzero_si512();
    for (int64_t k = 0; k < of->words; k++) {
        const uint64_t *column = of->column + k * of->column_step, *row = of->row + k * of->row_step;
        __m512i x[2], m[2];
        for (int half = 0; half < 2; half++) {
            x[half] = _mm512_loadu_si512(column + 8 * half);
            if (masked) m[half] = _mm512_loadu_si512(of->mask + k * of->column_step + 8 * half);
        }
        for (int r = 0; r < ROWS; r++) {
            __m512i w = _mm512_set1_epi64((int64_t)row[r * of->row_stride]);
            for (int half = 0; half < 2; half++) { /* 0x28: (x ^ w) & m */
                __m512i differ =
                    masked ? _mm512_ternarylogic_epi64(x[half], w, m[half], 0x28) : _mm512_xor_si512(x[half], w);
                sums[r][half] = _mm512_add_epi64(sums[r][half], _mm512_popcnt_epi64(differ));
            }
        }
    }
    for (int r = 0; r < ROWS; r += 2) {
        __m512i low = _mm512_or_si512(sums[r][0], _mm512_slli_epi64(sums[r + 1][0], 16));
        __m512i high = _mm512_or_si512(sums[r][1], _mm512_slli_epi64(sums[r + 1][1], 16));
        counts->pairs[r / 2] = _mm512_or_si512(low, _mm512_slli_epi64(high, 32));
    }
}

/* The counts, one row after the other. */
INLINE void store_counts(const Counts *counts, uint16_t rows[ROWS][COLUMNS]) {
    uint16_t places[2 * COLUMNS];
    for (int c = 0; c < COLUMNS; c++) {
        places[c] = (uint16_t)(c % 8 * 4 + c / 8 * 2);
        places[COLUMNS + c] = (uint16_t)(places[c] + 1);
    }
    for (int r = 0; r < ROWS; r += 2)
        _mm512_storeu_si512(rows[r], _mm512_permutexvar_epi16(_mm512_loadu_si512(places), counts->pairs[r / 2]));
}

/* The bits of rows r and r + 1 in their elements. */
INLINE __m512i row_bits(int r) { return _mm512_set1_epi32(1 << r | 2 << r << 16); }

/* A byte of eight rows for each column, from the bits of the rows in their elements. */
INLINE void spread_bytes(__m512i bits, uint64_t *bytes) {
    __m512i both = _mm512_or_si512(bits, _mm512_srli_epi64(bits, 16)), low = _mm512_set1_epi64(0xFF);
    _mm512_storeu_si512(bytes, _mm512_and_si512(both, low));
    _mm512_storeu_si512(bytes + 8, _mm512_and_si512(_mm512_srli_epi64(both, 32), low));
}

INLINE void majority_bytes(const Counts *counts, int64_t bound, uint64_t *bytes) {
    __m512i bits = _mm512_setzero_si512(), most = _mm512_set1_epi16((int16_t)bound);
    for (int r = 0; r < ROWS; r += 2)
        bits = _mm512_or_si512(
            bits, _mm512_maskz_mov_epi16(_mm512_cmple_epu16_mask(counts->pairs[r / 2], most), row_bits(r)));
    spread_bytes(bits, bytes);
}

INLINE void gated_bytes(const Counts *counts, const int16_t *totals, int64_t margin, uint64_t *signs, uint64_t *nears) {
    __m512i sign = _mm512_setzero_si512(), near = sign, width = _mm512_set1_epi16((int16_t)margin);
    __m512i low = _mm512_cvtepu16_epi64(_mm_loadu_si128((const __m128i *)totals));
    __m512i high = _mm512_cvtepu16_epi64(_mm_loadu_si128((const __m128i *)(totals + 8)));
    __m512i total = _mm512_or_si512(low, _mm512_slli_epi64(high, 32));
    total = _mm512_or_si512(total, _mm512_slli_epi64(total, 16));
    for (int r = 0; r < ROWS; r += 2) {
        __m512i value = _mm512_sub_epi16(total, _mm512_slli_epi16(counts->pairs[r / 2], 1));
        __mmask32 falls = _mm512_movepi16_mask(value), far = _mm512_cmpgt_epi16_mask(_mm512_abs_epi16(value), width);
        sign = _mm512_or_si512(sign, _mm512_maskz_mov_epi16(~falls, row_bits(r)));
        near = _mm512_or_si512(near, _mm512_maskz_mov_epi16(~far, row_bits(r)));
    }
    spread_bytes(sign, signs);
    spread_bytes(near, nears);
}

#else

typedef struct {
    uint16_t rows[ROWS][COLUMNS];
} Counts;

#if defined(__AVX2__)
#include <immintrin.h>

/* Four rows and eight columns at a time; 31 words of at most 8 ones fit into a byte. */
INLINE void count_part(const Operands *of, int masked, int first, int at, Counts *counts) {
    const __m256i table =
        _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    __m256i sums[4][2];
    for (int r = 0; r < 4; r++) sums[r][0] = sums[r][1] = zero;
    for (int64_t start = 0; start < of->words; start += 31) {
        __m256i octets[4][2];
        for (int r = 0; r < 4; r++) octets[r][0] = octets[r][1] = zero;
        for (int64_t k = start; k < min64(start + 31, of->words); k++) {
            const uint64_t *column = of->column + k * of->column_step + at, *row = of->row + k * of->row_step;
            for (int r = 0; r < 4; r++) {
                __m256i w = _mm256_set1_epi64x((int64_t)row[(first + r) * of->row_stride]);
                for (int half = 0; half < 2; half++) {
                    __m256i differ = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(column + 4 * half)), w);
                    if (masked)
                        differ = _mm256_and_si256(
                            differ,
                            _mm256_loadu_si256((const __m256i *)(of->mask + k * of->column_step + at + 4 * half)));
                    __m256i lower = _mm256_shuffle_epi8(table, _mm256_and_si256(differ, low));
                    __m256i upper = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(differ, 4), low));
                    octets[r][half] = _mm256_add_epi8(octets[r][half], _mm256_add_epi8(lower, upper));
                }
            }
        }
        for (int r = 0; r < 4; r++)
            for (int half = 0; half < 2; half++)
                sums[r][half] = _mm256_add_epi64(sums[r][half], _mm256_sad_epu8(octets[r][half], zero));
    }
    for (int r = 0; r < 4; r++) {
        __m256i both = _mm256_packus_epi32(sums[r][0], sums[r][1]); /* 0 1 4 5 | 2 3 6 7, each 32 bits */
        both = _mm256_permute4x64_epi64(both, 0xD8);                /* words 0 to 7 of 32 bits, in pairs of lanes */
        uint32_t lanes[8];
        _mm256_storeu_si256((__m256i *)lanes, both);
        for (int c = 0; c < 8; c++) counts->rows[first + r][at + c] = (uint16_t)lanes[c];
    }
}

INLINE void count_words(const Operands *of, int masked, Counts *counts) {
    for (int first = 0; first < ROWS; first += 4)
        for (int at = 0; at < COLUMNS; at += 8) count_part(of, masked, first, at, counts);
}

#elif defined(__aarch64__) && !defined(BNN_PORTABLE)
#include <arm_neon.h>

/* Eight rows and four columns at a time; 31 words of at most 8 ones fit into a byte. */
INLINE void count_words(const Operands *of, int masked, Counts *counts) {
    for (int at = 0; at < COLUMNS; at += 4) {
        uint64x2_t sums[ROWS][2];
        for (int r = 0; r < ROWS; r++) sums[r][0] = sums[r][1] = vdupq_n_u64(0);
        for (int64_t start = 0; start < of->words; start += 31) {
            uint8x16_t octets[ROWS][2];
            for (int r = 0; r < ROWS; r++) octets[r][0] = octets[r][1] = vdupq_n_u8(0);
            for (int64_t k = start; k < min64(start + 31, of->words); k++) {
                const uint64_t *column = of->column + k * of->column_step + at, *row = of->row + k * of->row_step;
                for (int r = 0; r < ROWS; r++) {
                    uint64x2_t w = vdupq_n_u64(row[r * of->row_stride]);
                    for (int half = 0; half < 2; half++) {
                        uint64x2_t differ = veorq_u64(vld1q_u64(column + 2 * half), w);
                        if (masked)
                            differ = vandq_u64(differ, vld1q_u64(of->mask + k * of->column_step + at + 2 * half));
                        octets[r][half] = vaddq_u8(octets[r][half], vcntq_u8(vreinterpretq_u8_u64(differ)));
                    }
                }
            }
            for (int r = 0; r < ROWS; r++)
                for (int half = 0; half < 2; half++)
                    sums[r][half] = vpadalq_u32(sums[r][half], vpaddlq_u16(vpaddlq_u8(octets[r][half])));
        }
        for (int r = 0; r < ROWS; r++)
            vst1_u16(counts->rows[r] + at, vmovn_u32(vcombine_u32(vmovn_u64(sums[r][0]), vmovn_u64(sums[r][1]))));
    }
}

#else

INLINE void count_words(const Operands *of, int masked, Counts *counts) {
    memset(counts, 0, sizeof *counts);
    for (int64_t k = 0; k < of->words; k++)
        for (int r = 0; r < ROWS; r++) {
            uint64_t w = of->row[k * of->row_step + r * of->row_stride];
            for (int c = 0; c < COLUMNS; c++) {
                uint64_t differ = of->column[k * of->column_step + c] ^ w;
                if (masked) differ &= of->mask[k * of->column_step + c];
                counts->rows[r][c] += (uint16_t)__builtin_popcountll(differ);
            }
        }
}

#endif /* of the ways to count */

/* The counts, one row after the other. */
INLINE void store_counts(const Counts *counts, uint16_t rows[ROWS][COLUMNS]) {
    memcpy(rows, counts->rows, sizeof counts->rows);
}

/* A byte of eight rows for each column: bits 1 where the distance is at most `bound`. */
INLINE void majority_bytes(const Counts *counts, int64_t bound, uint64_t *bytes) {
    uint16_t bits[COLUMNS] = {0}, most = (uint16_t)bound;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) bits[c] |= (uint16_t)(counts->rows[r][c] <= most ? 1 << r : 0);
    for (int c = 0; c < COLUMNS; c++) bytes[c] = bits[c];
}

/* Two such bytes, for the dot products v = totals - 2 distance: v >= 0, and |v| <= margin < 2^15. */
INLINE void gated_bytes(const Counts *counts, const int16_t *totals, int64_t margin, uint64_t *signs, uint64_t *nears) {
    uint16_t sign[COLUMNS] = {0}, near[COLUMNS] = {0};
    int16_t width = (int16_t)margin;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) {
            int16_t value = (int16_t)(totals[c] - 2 * counts->rows[r][c]), size = (int16_t)(value < 0 ? -value : value);
            sign[c] |= (uint16_t)(value >= 0 ? 1 << r : 0);
            near[c] |= (uint16_t)(size <= width ? 1 << r : 0);
        }
    for (int c = 0; c < COLUMNS; c++) signs[c] = sign[c], nears[c] = near[c];
}

#endif /* of the ways to keep counts */

/* Distances of 8 rows to 16 columns, below 2^16. */
INLINE void tile(const Operands *of, Counts *counts) {
    if (of->mask)
        count_words(of, 1, counts);
    else
        count_words(of, 0, counts);
}

#endif
