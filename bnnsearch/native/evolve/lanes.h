/* 16 and 64 counters at a time: which lie above a bound, and stepping by one. */
#ifndef BNN_LANES_H
#define BNN_LANES_H

#include "evolve.h"

#if defined(__AVX512BW__)
#include <immintrin.h>
#elif defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__) && !defined(BNN_PORTABLE)
#include <arm_neon.h>
#endif

/* Word whose bit k tells whether values[k] > bound, for 16 k. */
INLINE uint64_t above16(const int16_t *values, int16_t bound) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    return _mm256_cmpgt_epi16_mask(_mm256_loadu_si256((const __m256i *)values), _mm256_set1_epi16(bound));
#elif defined(__AVX2__)
    __m256i above = _mm256_cmpgt_epi16(_mm256_loadu_si256((const __m256i *)values), _mm256_set1_epi16(bound));
    __m128i octets = _mm_packs_epi16(_mm256_castsi256_si128(above), _mm256_extracti128_si256(above, 1));
    return (uint16_t)_mm_movemask_epi8(octets);
#elif defined(__aarch64__) && !defined(BNN_PORTABLE)
    static const uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x8_t low = vmovn_u16(vcgtq_s16(vld1q_s16(values), vdupq_n_s16(bound)));
    uint8x8_t high = vmovn_u16(vcgtq_s16(vld1q_s16(values + 8), vdupq_n_s16(bound)));
    return (uint64_t)vaddv_u8(vand_u8(low, vld1_u8(bits))) | (uint64_t)vaddv_u8(vand_u8(high, vld1_u8(bits))) << 8;
#else
    uint64_t word = 0;
    for (int k = 0; k < 16; k++) word |= (uint64_t)(values[k] > bound) << k;
    return word;
#endif
}

/* Move 16 counters by votes = totals - 2 counts, saturating at +-limit; `rises` and `falls` tell which are then above
 * +band and below -band. */
INLINE void push16(int16_t *counters, const int16_t *totals, const uint16_t *counts, int16_t limit, int16_t band,
                   uint64_t *rises, uint64_t *falls) {
    int16_t mirrored[16];
#if defined(__AVX2__)
    __m256i count = _mm256_loadu_si256((const __m256i *)counts), value = _mm256_loadu_si256((const __m256i *)counters);
    __m256i total = _mm256_loadu_si256((const __m256i *)totals);
    value = _mm256_adds_epi16(value, _mm256_sub_epi16(_mm256_sub_epi16(total, count), count));
    value = _mm256_min_epi16(_mm256_max_epi16(value, _mm256_set1_epi16((int16_t)-limit)), _mm256_set1_epi16(limit));
    _mm256_storeu_si256((__m256i *)counters, value);
    _mm256_storeu_si256((__m256i *)mirrored, _mm256_sub_epi16(_mm256_setzero_si256(), value));
#else
    for (int k = 0; k < 16; k++) {
        int value = counters[k] + totals[k] - 2 * counts[k];
        counters[k] = (int16_t)(value > limit ? limit : value < -limit ? -limit : value);
        mirrored[k] = (int16_t)-counters[k];
    }
#endif
    *rises = above16(counters, band), *falls = above16(mirrored, band);
}

/* Add sign * steps[k] to distances[k] for 64 k; `before` and `after` tell which were, and are, at most `majority`. */
INLINE void step64(int16_t *distances, const int8_t *steps, int sign, int16_t majority, uint64_t *before,
                   uint64_t *after) {
    *before = *after = 0;
#if defined(__AVX512BW__)
    __m512i bound = _mm512_set1_epi16(majority), turn = _mm512_set1_epi16((int16_t)sign);
    for (int half = 0; half < 2; half++) {
        __m512i old = _mm512_loadu_si512(distances + 32 * half);
        __m512i step = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(steps + 32 * half)));
        __m512i now = _mm512_add_epi16(old, _mm512_mullo_epi16(step, turn));
        _mm512_storeu_si512(distances + 32 * half, now);
        *before |= (uint64_t)_mm512_cmple_epi16_mask(old, bound) << 32 * half;
        *after |= (uint64_t)_mm512_cmple_epi16_mask(now, bound) << 32 * half;
    }
#else
    for (int part = 0; part < 64; part += 16) {
        *before |= above16(distances + part, majority) << part;
        for (int k = part; k < part + 16; k++) distances[k] = (int16_t)(distances[k] + sign * steps[k]);
        *after |= above16(distances + part, majority) << part;
    }
    *before = ~*before, *after = ~*after;
#endif
}

#endif
