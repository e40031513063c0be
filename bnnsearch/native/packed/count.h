/* Distances of filters to the windows of pixels: what each instruction set counts bits with.
 *
 * A lane belongs to an output channel, so nothing is summed across a register: an octet of a window (four, on AVX-512)
 * meets that octet of 16 to 64 filters. Filters lie as (block of channels, octet, channel); windows are gathered first,
 * kernel rows one after another, unless they can be read where they are.
 *
 * AVX-512 counts words outright (VPOPCNTDQ), NEON bytes (cnt). AVX2 has no such instruction: there the 16 distances
 * that half an octet of a window can have to half an octet of a filter are a table of 16 bytes, and one shuffle looks
 * up 32 filters. So a shuffle and an addition stand for 128 binary multiply-accumulates, where counting by the same
 * shuffle takes eight instructions for 256 (Mula, Kurz, Lemire, Faster population counts using AVX2 instructions, 2018).
 * Sums of bytes are widened every 31 octets, of at most 8 each. The last form is the reference.
 */
#ifndef BNN_COUNT_H
#define BNN_COUNT_H

#include "reals.h"

enum { SLACK = 16 }; /* octets that copying may read and write over the end */

/* Filters of a block, and how long windows are: `rows` of `run` octets, `row_stride` apart. Gathered ones are one row, and
 * all that is read but where windows are read IN_PLACE. */
typedef struct {
    const uint8_t *filters;
    int64_t octets, rows, run, row_stride;
} Product;

#if defined(__AVX512VPOPCNTDQ__)

enum { LANE_OCTETS = 4 };
#define IN_PLACE(run) ((run) % LANE_OCTETS == 0)
#define TOGETHER(width) ((width) == 64 ? 8 : BLOCK)
typedef uint8_t Gathered;

INLINE void copy16(Gathered *to, const char *from) { memcpy(to, from, 16); }

/* V vectors of 16 channels, P pixels, whose windows are `rows` of `run` octets, whole words. */
INLINE void tile(const Product *of, const Gathered *const *window, const float *const *base, float *to, const int V, const int P) {
    __m512i sums[8][4];
    for (int p = 0; p < P; p++)
        for (int v = 0; v < V; v++) sums[p][v] = _mm512_setzero_si512();
    const uint8_t *line = of->filters;
    for (int64_t row = 0; row < of->rows; row++)
        for (int64_t k = row * of->row_stride; k < row * of->row_stride + of->run; k += 4, line += V * 64) {
            __m512i filter[4];
            for (int v = 0; v < V; v++) filter[v] = _mm512_loadu_si512(line + 64 * v);
            for (int p = 0; p < P; p++) {
                int32_t word;
                memcpy(&word, window[p] + k, 4);
                __m512i bits = _mm512_set1_epi32(word);
                for (int v = 0; v < V; v++)
                    sums[p][v] = _mm512_add_epi32(sums[p][v], _mm512_popcnt_epi32(_mm512_xor_si512(bits, filter[v])));
            }
        }
    for (int p = 0; p < P; p++)
        for (int v = 0; v < V; v++)
            store1(to + (p * V + v) * 16,
                   fused1(_mm512_cvtepi32_ps(sums[p][v]), splat1(-2), load1(base[p] + v * 16)));
}

INLINE void tiles(const Product *of, const Gathered *const *window, const float *const *base, float *to, int64_t count, const int V,
                  const int P) {
    int64_t p = 0;
    for (; p + P <= count; p += P) tile(of, window + p, base + p, to + p * V * 16, V, P);
    for (; p < count; p++) tile(of, window + p, base + p, to + p * V * 16, V, 1);
}

INLINE void products(const Product *of, const Gathered *const *window, const float *const *base, float *to, int64_t count,
                     int64_t width) {
    if (width == 64)
        tiles(of, window, base, to, count, 4, 4);
    else if (width == 32)
        tiles(of, window, base, to, count, 2, 8);
    else
        tiles(of, window, base, to, count, 1, 8);
}

#else

enum { LANE_OCTETS = 1, OCTETS_OF_BYTES = 31 };
#define IN_PLACE(run) 0

#if defined(__AVX2__)

#define TOGETHER(width) ((width) == 16 ? BLOCK : 4)
typedef uint16_t Gathered; /* octets as offsets into `halves` */

INLINE void copy16(Gathered *to, const char *from) {
    __m256i octets = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from));
    _mm256_storeu_si256((__m256i *)to, _mm256_slli_epi16(octets, 5));
}

#define ONES(x) (((x) & 1) + ((x) >> 1 & 1) + ((x) >> 2 & 1) + ((x) >> 3 & 1))
#define FOUR(x, w) ONES((x) ^ (w)), ONES((x) ^ ((w) + 1)), ONES((x) ^ ((w) + 2)), ONES((x) ^ ((w) + 3))
#define HALF(x) FOUR(x, 0), FOUR(x, 4), FOUR(x, 8), FOUR(x, 12)
#define OCTET(x) {HALF((x) & 15), HALF((x) >> 4)}
#define OCTETS4(x) OCTET(x), OCTET((x) + 1), OCTET((x) + 2), OCTET((x) + 3)
#define OCTETS16(x) OCTETS4(x), OCTETS4((x) + 4), OCTETS4((x) + 8), OCTETS4((x) + 12)
#define OCTETS64(x) OCTETS16(x), OCTETS16((x) + 16), OCTETS16((x) + 32), OCTETS16((x) + 48)

/* Distances of the lower and the upper half of an octet to the 16 halves there are. */
static const uint8_t halves[256][32] __attribute__((aligned(64))) = {OCTETS64(0), OCTETS64(64), OCTETS64(128),
                                                                     OCTETS64(192)};

INLINE __m128i table(Gathered octet, int upper) {
    return _mm_load_si128((const __m128i *)((const uint8_t *)halves + octet + 16 * upper));
}

/* Lanes of bytes added to lanes of 16 bits, in the order that `_mm256_unpack` leaves them in. */
INLINE void widen(__m256i octets, __m256i *sums) {
    __m256i zero = _mm256_setzero_si256();
    sums[0] = _mm256_add_epi16(sums[0], _mm256_unpacklo_epi8(octets, zero));
    sums[1] = _mm256_add_epi16(sums[1], _mm256_unpackhi_epi8(octets, zero));
}

/* Base less twice the distance of 16 channels. */
INLINE void finish(__m256i distances, const float *base, float *to) {
    __m256 low = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(distances)));
    __m256 high = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm256_extracti128_si256(distances, 1)));
    store1(to, fused1(low, splat1(-2), load1(base)));
    store1(to + 8, fused1(high, splat1(-2), load1(base + 8)));
}

/* V vectors of 32 channels, P pixels. */
INLINE void tile(const Product *of, const Gathered *const *window, const float *const *base, float *to, const int V, const int P) {
    const __m256i low = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    __m256i sums[4][2][2];
    for (int p = 0; p < P; p++)
        for (int v = 0; v < V; v++) sums[p][v][0] = sums[p][v][1] = zero;
    const uint8_t *line = of->filters;
    for (int64_t start = 0; start < of->octets; start += OCTETS_OF_BYTES) {
        int64_t end = min64(start + OCTETS_OF_BYTES, of->octets);
        __m256i octets[4][2];
        for (int p = 0; p < P; p++)
            for (int v = 0; v < V; v++) octets[p][v] = zero;
        for (int64_t k = start; k < end; k++, line += V * 32) {
            __m256i lower[2], upper[2];
            for (int v = 0; v < V; v++) {
                __m256i filter = _mm256_loadu_si256((const __m256i *)(line + 32 * v));
                lower[v] = _mm256_and_si256(filter, low);
                upper[v] = _mm256_and_si256(_mm256_srli_epi16(filter, 4), low);
            }
            for (int p = 0; p < P; p++) {
                Gathered octet = window[p][k];
                __m256i first = _mm256_broadcastsi128_si256(table(octet, 0));
                __m256i second = _mm256_broadcastsi128_si256(table(octet, 1));
                for (int v = 0; v < V; v++) {
                    octets[p][v] = _mm256_add_epi8(octets[p][v], _mm256_shuffle_epi8(first, lower[v]));
                    octets[p][v] = _mm256_add_epi8(octets[p][v], _mm256_shuffle_epi8(second, upper[v]));
                }
            }
        }
        for (int p = 0; p < P; p++)
            for (int v = 0; v < V; v++) widen(octets[p][v], sums[p][v]);
    }
    for (int p = 0; p < P; p++)
        for (int v = 0; v < V; v++) {
            __m256i *sum = sums[p][v];
            finish(_mm256_permute2x128_si256(sum[0], sum[1], 0x20), base[p] + 32 * v, to + (p * V + v) * 32);
            finish(_mm256_permute2x128_si256(sum[0], sum[1], 0x31), base[p] + 32 * v + 16, to + (p * V + v) * 32 + 16);
        }
}

/* Sixteen octets of 32 windows from octet k on: vector k has octet k of all of them. */
INLINE void turn_windows(const Gathered *const *window, int64_t k, __m256i *to) {
    __m256i rows[2][16];
    for (int p = 0; p < 16; p++) {
        __m256i one = _mm256_srli_epi16(_mm256_loadu_si256((const __m256i *)(window[p] + k)), 5);
        __m256i other = _mm256_srli_epi16(_mm256_loadu_si256((const __m256i *)(window[p + 16] + k)), 5);
        rows[0][p] = _mm256_permute4x64_epi64(_mm256_packus_epi16(one, other), 0xD8);
    }
    for (int round = 0; round < 4; round++) { /* each rotates the digits of (row, column) by one */
        __m256i *from = rows[round & 1], *put = round == 3 ? to : rows[~round & 1];
        for (int p = 0; p < 8; p++) {
            put[2 * p] = _mm256_unpacklo_epi8(from[p], from[p + 8]);
            put[2 * p + 1] = _mm256_unpackhi_epi8(from[p], from[p + 8]);
        }
    }
}

/* Eight channels of eight pixels, twice: vector p has the channels of pixel p. */
INLINE void turn_sums(const __m256i sums[8][2], int half, __m256i *to) {
    __m256i rows[2][8];
    for (int c = 0; c < 8; c++) rows[0][c] = sums[c][half];
    for (int round = 0; round < 3; round++) {
        __m256i *from = rows[round & 1], *put = round == 2 ? to : rows[~round & 1];
        for (int c = 0; c < 4; c++) {
            put[2 * c] = _mm256_unpacklo_epi16(from[c], from[c + 4]);
            put[2 * c + 1] = _mm256_unpackhi_epi16(from[c], from[c + 4]);
        }
    }
}

/* 16 channels of a block of pixels: so few would leave lanes empty, so lanes belong to pixels, and tables to filters. */
INLINE void narrow(const Product *of, const Gathered *const *window, const float *const *base, float *to, int64_t count) {
    const __m256i low = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    __m256i sums[16][2];
    for (int c = 0; c < 16; c++) sums[c][0] = sums[c][1] = zero;
    for (int64_t start = 0; start < of->octets; start += OCTETS_OF_BYTES) {
        int64_t rest = min64(OCTETS_OF_BYTES, of->octets - start);
        __m256i turned[32];
        for (int64_t k = 0; k < rest; k += 16) turn_windows(window, start + k, turned + k);
        for (int first = 0; first < 16; first += 8) {
            const uint8_t *line = of->filters + start * 16 + first;
            __m256i octets[8];
            for (int c = 0; c < 8; c++) octets[c] = zero;
            for (int64_t k = 0; k < rest; k++, line += 16) {
                __m256i lower = _mm256_and_si256(turned[k], low);
                __m256i upper = _mm256_and_si256(_mm256_srli_epi16(turned[k], 4), low);
                for (int c = 0; c < 8; c++) {
                    Gathered octet = (Gathered)(line[c] << 5);
                    __m256i one = _mm256_broadcastsi128_si256(table(octet, 0));
                    __m256i other = _mm256_broadcastsi128_si256(table(octet, 1));
                    octets[c] = _mm256_add_epi8(octets[c], _mm256_shuffle_epi8(one, lower));
                    octets[c] = _mm256_add_epi8(octets[c], _mm256_shuffle_epi8(other, upper));
                }
            }
            for (int c = 0; c < 8; c++) widen(octets[c], sums[first + c]);
        }
    }
    for (int half = 0; half < 2; half++) { /* pixels 0 to 7 and 16 to 23, then the others */
        __m256i lower[8], upper[8];
        turn_sums(sums, half, lower), turn_sums(sums + 8, half, upper);
        for (int k = 0; k < 8; k++) {
            int p = 8 * half + k, q = p + 16;
            if (p < count) finish(_mm256_permute2x128_si256(lower[k], upper[k], 0x20), base[p], to + 16 * p);
            if (q < count) finish(_mm256_permute2x128_si256(lower[k], upper[k], 0x31), base[q], to + 16 * q);
        }
    }
}

INLINE void products(const Product *of, const Gathered *const *window, const float *const *base, float *to, int64_t count,
                     int64_t width) {
    int64_t p = 0;
    if (width == 64) {
        for (; p + 4 <= count; p += 4) tile(of, window + p, base + p, to + p * 64, 2, 4);
        for (; p < count; p++) tile(of, window + p, base + p, to + p * 64, 2, 1);
    } else if (width == 32) {
        for (; p + 4 <= count; p += 4) tile(of, window + p, base + p, to + p * 32, 1, 4);
        for (; p < count; p++) tile(of, window + p, base + p, to + p * 32, 1, 1);
    } else {
        narrow(of, window, base, to, count);
    }
}

#else

#define TOGETHER(width) 4
typedef uint8_t Gathered;

INLINE void copy16(Gathered *to, const char *from) { memcpy(to, from, 16); }

#if defined(__aarch64__) && !defined(BNN_PORTABLE)

/* V vectors of 16 channels, P pixels. */
INLINE void tile(const Product *of, const Gathered *const *window, const float *const *base, float *to, const int V, const int P) {
    uint16x8_t sums[4][4][2];
    for (int p = 0; p < P; p++)
        for (int v = 0; v < V; v++) sums[p][v][0] = sums[p][v][1] = vdupq_n_u16(0);
    const uint8_t *line = of->filters;
    for (int64_t start = 0; start < of->octets; start += OCTETS_OF_BYTES) {
        int64_t end = min64(start + OCTETS_OF_BYTES, of->octets);
        uint8x16_t octets[4][4];
        for (int p = 0; p < P; p++)
            for (int v = 0; v < V; v++) octets[p][v] = vdupq_n_u8(0);
        for (int64_t k = start; k < end; k++, line += V * 16) {
            uint8x16_t filter[4];
            for (int v = 0; v < V; v++) filter[v] = vld1q_u8(line + 16 * v);
            for (int p = 0; p < P; p++) {
                uint8x16_t bits = vld1q_dup_u8(window[p] + k);
                for (int v = 0; v < V; v++)
                    octets[p][v] = vaddq_u8(octets[p][v], vcntq_u8(veorq_u8(bits, filter[v])));
            }
        }
        for (int p = 0; p < P; p++)
            for (int v = 0; v < V; v++) {
                sums[p][v][0] = vaddw_u8(sums[p][v][0], vget_low_u8(octets[p][v]));
                sums[p][v][1] = vaddw_high_u8(sums[p][v][1], octets[p][v]);
            }
    }
    for (int p = 0; p < P; p++)
        for (int v = 0; v < V; v++)
            for (int half = 0; half < 2; half++) {
                const float *from = base[p] + v * 16 + half * 8;
                float *put = to + (p * V + v) * 16 + half * 8;
                uint16x8_t sum = sums[p][v][half];
                store1(put, fused1(vcvtq_f32_u32(vmovl_u16(vget_low_u16(sum))), splat1(-2), load1(from)));
                store1(put + 4, fused1(vcvtq_f32_u32(vmovl_high_u16(sum)), splat1(-2), load1(from + 4)));
            }
}

INLINE void tiles(const Product *of, const Gathered *const *window, const float *const *base, float *to, int64_t count,
                  const int V) {
    int64_t p = 0;
    for (; p + 4 <= count; p += 4) tile(of, window + p, base + p, to + p * V * 16, V, 4);
    for (; p < count; p++) tile(of, window + p, base + p, to + p * V * 16, V, 1);
}

INLINE void products(const Product *of, const Gathered *const *window, const float *const *base, float *to, int64_t count,
                     int64_t width) {
    if (width == 64)
        tiles(of, window, base, to, count, 4);
    else if (width == 32)
        tiles(of, window, base, to, count, 2);
    else
        tiles(of, window, base, to, count, 1);
}

#else

INLINE void products(const Product *of, const Gathered *const *window, const float *const *base, float *to, int64_t count,
                     int64_t width) {
    for (int64_t p = 0; p < count; p++)
        for (int64_t c = 0; c < width; c++) {
            int32_t distance = 0;
            for (int64_t k = 0; k < of->octets; k++)
                distance += __builtin_popcount(window[p][k] ^ of->filters[k * width + c]);
            to[p * width + c] = base[p][c] - (float)(2 * distance);
        }
}

#endif
#endif
#endif /* of the ways to count */

#endif
