/* Distances of filters to the windows of pixels: what each instruction set counts bits with.
 *
 * A lane belongs to an output channel, so nothing is summed across a register: an octet of a window (four, on AVX-512)
 * meets that octet of 16 to 64 filters. Filters lie as (block of channels, octet, channel); windows are gathered first,
 * kernel rows one after another, unless they can be read where they are.
 *
 * AVX-512 counts words outright (VPOPCNTDQ), NEON bytes (cnt). AVX2 has no such instruction: there the 16 distances
 * that half an octet of a window can have to half an octet of a filter are a table of 16 bytes, and one shuffle looks
 * up 32 filters. A distance of four bits takes half a byte, so a table holds those to the windows of two pixels: nine
 * instructions for 768 binary multiply-accumulates, where counting by the same shuffle takes eight for 256 (Mula, Kurz,
 * Lemire, Faster population counts using AVX2 instructions, 2018). The last form is the reference.
 */
#ifndef BNN_COUNT_H
#define BNN_COUNT_H

#include "reals.h"

enum { SLACK = 16 }; /* octets that copying may read and write over the end */

/* Filters of a block, of which `octets` are met, and how long windows are: `rows` of `run` octets, `row_stride` apart.
 * Gathered ones are one row, and all that is read but where windows are read IN_PLACE. */
typedef struct {
    const uint8_t *filters;
    int64_t filter_octets, octets, rows, run, row_stride;
} Product;

typedef const uint8_t *Window;

/* Each instruction set says here: of how many octets there are whole numbers (WHOLE), how many of a filter lie side by
 * side (LANE_OCTETS), how many pixels share a window once they are gathered (EACH_WINDOW), how many windows a part has (WINDOWS), and whether
 * windows are read where they are (IN_PLACE). */

#if defined(__AVX512VPOPCNTDQ__)

enum { LANE_OCTETS = 4, WHOLE = 4, EACH_WINDOW = 1 };
#define IN_PLACE(stage, width) ((stage)->run % LANE_OCTETS == 0)
#define TOGETHER(width) ((width) == 64 ? 8 : BLOCK)
#define WINDOWS(part) ((part)->count)
typedef uint8_t Gathered;

INLINE void copy16(Gathered *to, const char *from, const char *other, const int half) {
    (void)other, (void)half;
    memcpy(to, from, 16);
}

/* V vectors of 16 channels, P pixels, whose windows are `rows` of `run` octets, whole words. */
INLINE void tile(const Product *of, const Window *window, const float *const *base, float *to, const int V, const int P) {
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

INLINE void tiles(const Product *of, const Window *window, const float *const *base, float *to, int64_t count, const int V,
                  const int P) {
    int64_t p = 0;
    for (; p + P <= count; p += P) tile(of, window + p, base + p, to + p * V * 16, V, P);
    for (; p < count; p++) tile(of, window + p, base + p, to + p * V * 16, V, 1);
}

INLINE void products(const Product *of, const Window *window, const float *const *base, float *to, int64_t count,
                     int64_t width) {
    if (width == 64)
        tiles(of, window, base, to, count, 4, 4);
    else if (width == 32)
        tiles(of, window, base, to, count, 2, 8);
    else
        tiles(of, window, base, to, count, 1, 8);
}

#elif defined(__AVX2__)

enum { LANE_OCTETS = 1, WHOLE = 3, EACH_WINDOW = 2, OCTETS_OF_BYTES = 30 };
#define IN_PLACE(stage, width) ((width) == 16 && (stage)->run <= 8 && (stage)->rows * (stage)->run <= OCTETS_OF_BYTES)
#define TOGETHER(width) ((width) == 16 ? BLOCK : 8)
#define WINDOWS(part) ((part)->width == 16 ? BLOCK : 4)
#define NARROW
typedef uint16_t Gathered; /* half octets of two windows as an offset into `halves`, the lower ones, then the upper ones */

INLINE void copy8(Gathered *to, __m128i octets) {
    _mm256_storeu_si256((__m256i *)to, _mm256_slli_epi16(_mm256_cvtepu8_epi16(octets), 4));
}

INLINE void copy16(Gathered *to, const char *from, const char *other, const int half) {
    const __m128i low = _mm_set1_epi8(15), high = _mm_set1_epi8(-16);
    __m128i x = _mm_loadu_si128((const __m128i *)from), y = _mm_loadu_si128((const __m128i *)other);
    __m128i lower = _mm_or_si128(_mm_and_si128(x, low), _mm_and_si128(_mm_slli_epi16(y, 4), high));
    __m128i upper = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(x, 4), low), _mm_and_si128(y, high));
    copy8(to, _mm_unpacklo_epi8(lower, upper));
    if (!half) copy8(to + 16, _mm_unpackhi_epi8(lower, upper));
}

#define ONES(x) (((x) & 1) + ((x) >> 1 & 1) + ((x) >> 2 & 1) + ((x) >> 3 & 1))
#define BOTH(x, w) (ONES(((x) & 15) ^ (w)) + 16 * ONES((x) >> 4 ^ (w)))
#define FOUR(x, w) BOTH(x, w), BOTH(x, (w) + 1), BOTH(x, (w) + 2), BOTH(x, (w) + 3)
#define HALVES(x) {FOUR(x, 0), FOUR(x, 4), FOUR(x, 8), FOUR(x, 12)}
#define HALVES4(x) HALVES(x), HALVES((x) + 1), HALVES((x) + 2), HALVES((x) + 3)
#define HALVES16(x) HALVES4(x), HALVES4((x) + 4), HALVES4((x) + 8), HALVES4((x) + 12)
#define HALVES64(x) HALVES16(x), HALVES16((x) + 16), HALVES16((x) + 32), HALVES16((x) + 48)

/* Distances of two half octets to the 16 that there are: the one in the lower half of a byte, the other in the upper. */
static const uint8_t halves[256][16] __attribute__((aligned(64))) = {HALVES64(0), HALVES64(64), HALVES64(128),
                                                                     HALVES64(192)};

INLINE __m256i look(Gathered place, __m256i lanes) {
    __m128i table = _mm_load_si128((const __m128i *)((const uint8_t *)halves + place));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), lanes);
}

/* Three half octets of the lanes met by those of P pairs that begin at `place`. */
INLINE void meet(__m256i first, __m256i second, __m256i third, const Gathered *const *pair, int64_t place, __m256i *lower,
                 __m256i *upper, const int P) {
    for (int p = 0; p < P; p++) {
        const Gathered *at = pair[p] + place;
        __m256i sum = _mm256_add_epi8(_mm256_add_epi8(look(at[0], first), look(at[1], second)), look(at[2], third));
        lower[p] = _mm256_add_epi8(lower[p], _mm256_and_si256(sum, _mm256_set1_epi8(15)));
        upper[p] = _mm256_add_epi16(upper[p], _mm256_srli_epi16(sum, 4));
    }
}

/* Adds the distances of `octets` octets, at most OCTETS_OF_BYTES and a multiple of three, of 32 lanes, `stride` apart, to
 * those of P pairs: sums[pair][which of it][lanes even, odd], in 16 bits.
 *
 * Three half octets are at most 12 apart, so three tables are added before the pair is taken apart. Of the upper halves
 * words are added as they are shifted, whose odd bytes have those of the lower halves in their way: 16 odd lower ones
 * stand in the word of the sum, and go at the end. */
INLINE void count(const uint8_t *lanes, int64_t stride, const Gathered *const *pair, int64_t at, int64_t octets,
                  __m256i sums[][2][2], const int P) {
    const __m256i low = _mm256_set1_epi8(15), even = _mm256_set1_epi16(255);
    __m256i lower[4], upper[4];
    for (int p = 0; p < P; p++) lower[p] = upper[p] = _mm256_setzero_si256();
    for (int64_t k = at; k < at + octets; k += 3, lanes += 3 * stride) {
        __m256i first = _mm256_loadu_si256((const __m256i *)lanes);
        __m256i second = _mm256_loadu_si256((const __m256i *)(lanes + stride));
        __m256i third = _mm256_loadu_si256((const __m256i *)(lanes + 2 * stride));
        meet(_mm256_and_si256(first, low), _mm256_and_si256(_mm256_srli_epi16(first, 4), low), _mm256_and_si256(second, low),
             pair, 2 * k, lower, upper, P);
        meet(_mm256_and_si256(_mm256_srli_epi16(second, 4), low), _mm256_and_si256(third, low),
             _mm256_and_si256(_mm256_srli_epi16(third, 4), low), pair, 2 * k + 3, lower, upper, P);
    }
    for (int p = 0; p < P; p++) {
        __m256i odd = _mm256_srli_epi16(lower[p], 8);
        __m256i rest = _mm256_sub_epi16(upper[p], _mm256_slli_epi16(odd, 4));
        sums[p][0][0] = _mm256_add_epi16(sums[p][0][0], _mm256_and_si256(lower[p], even));
        sums[p][0][1] = _mm256_add_epi16(sums[p][0][1], odd);
        sums[p][1][0] = _mm256_add_epi16(sums[p][1][0], _mm256_and_si256(rest, even));
        sums[p][1][1] = _mm256_add_epi16(sums[p][1][1], _mm256_srli_epi16(rest, 8));
    }
}

/* Base less twice the distance of 16 channels. */
INLINE void finish(__m256i distances, const float *base, float *to) {
    __m256 low = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(distances)));
    __m256 high = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm256_extracti128_si256(distances, 1)));
    store1(to, fused1(low, splat1(-2), load1(base)));
    store1(to + 8, fused1(high, splat1(-2), load1(base + 8)));
}

/* 32 channels of up to P pairs of pixels. */
INLINE void tile(const Product *of, int64_t channel, const Window *window, const float *const *base, float *to,
                 int64_t pixels, int64_t width, const int P) {
    __m256i sums[4][2][2];
    const Gathered *pair[4];
    for (int p = 0; p < P; p++) {
        pair[p] = (const Gathered *)window[p];
        for (int i = 0; i < 4; i++) sums[p][i >> 1][i & 1] = _mm256_setzero_si256();
    }
    for (int64_t k = 0; k < of->octets; k += OCTETS_OF_BYTES)
        count(of->filters + k * width + channel, width, pair, k, min64(OCTETS_OF_BYTES, of->octets - k), sums, P);
    for (int p = 0; p < pixels; p++) {
        __m256i *sum = sums[p >> 1][p & 1];
        __m256i low = _mm256_unpacklo_epi16(sum[0], sum[1]), high = _mm256_unpackhi_epi16(sum[0], sum[1]);
        finish(_mm256_permute2x128_si256(low, high, 0x20), base[p] + channel, to + p * width + channel);
        finish(_mm256_permute2x128_si256(low, high, 0x31), base[p] + channel + 16, to + p * width + channel + 16);
    }
}

/* Eight octets of 32 pixels from octet k on: vector k has octet k of all of them. */
INLINE void turn_octets(const Window *pixel, int64_t k, __m256i *to) {
#define OCTETS(p) _mm_loadl_epi64((const __m128i *)(pixel[p] + k))
    __m256i rows[2][8];
    for (int p = 0; p < 8; p++)
        rows[0][p] = _mm256_unpacklo_epi8(_mm256_set_m128i(OCTETS(p + 16), OCTETS(p)),
                                          _mm256_set_m128i(OCTETS(p + 24), OCTETS(p + 8)));
    for (int round = 0; round < 3; round++) { /* each rotates the digits of (row, column) by one */
        __m256i *from = rows[round & 1], *put = round == 2 ? to : rows[~round & 1];
        for (int p = 0; p < 4; p++) {
            put[2 * p] = _mm256_unpacklo_epi8(from[p], from[p + 4]);
            put[2 * p + 1] = _mm256_unpackhi_epi8(from[p], from[p + 4]);
        }
    }
}

/* Eight channels of eight pixels, twice: vector p has the channels of pixel p. */
INLINE void turn_sums(const __m256i sums[4][2][2], int odd, __m256i *to) {
    __m256i rows[2][8];
    for (int c = 0; c < 8; c++) rows[0][c] = sums[c >> 1][c & 1][odd];
    for (int round = 0; round < 3; round++) {
        __m256i *from = rows[round & 1], *put = round == 2 ? to : rows[~round & 1];
        for (int c = 0; c < 4; c++) {
            put[2 * c] = _mm256_unpacklo_epi16(from[c], from[c + 4]);
            put[2 * c + 1] = _mm256_unpackhi_epi16(from[c], from[c + 4]);
        }
    }
}

/* 16 channels of a block of pixels: so few would leave lanes empty, so lanes belong to pixels, and tables to filters. */
INLINE void narrow(const Product *of, const Window *window, const float *const *base, float *to, int64_t pixels) {
    __m256i sums[2][4][2][2];
    const Gathered *pair[8];
    for (int p = 0; p < 8; p++) {
        pair[p] = (const Gathered *)of->filters + 2 * p * of->filter_octets;
        for (int i = 0; i < 4; i++) sums[p >> 2][p & 3][i >> 1][i & 1] = _mm256_setzero_si256();
    }
    for (int64_t start = 0; start < of->octets; start += OCTETS_OF_BYTES) {
        int64_t rest = min64(OCTETS_OF_BYTES, of->octets - start);
        __m256i turned[OCTETS_OF_BYTES + 8];
        for (int64_t row = 0; row < of->rows; row++)
            for (int64_t k = 0; k < min64(of->run, rest); k += 8)
                turn_octets(window, row * of->row_stride + start + k, turned + row * of->run + k);
        for (int64_t k = of->rows * of->run; k < rest; k++) turned[k] = _mm256_setzero_si256();
        for (int half = 0; half < 2; half++)
            count((const uint8_t *)turned, 32, pair + 4 * half, start, rest, sums[half], 4);
    }
    for (int odd = 0; odd < 2; odd++) {
        __m256i lower[8], upper[8];
        turn_sums(sums[0], odd, lower), turn_sums(sums[1], odd, upper);
        for (int k = 0; k < 8; k++) {
            int p = 2 * k + odd, q = p + 16;
            if (p < pixels) finish(_mm256_permute2x128_si256(lower[k], upper[k], 0x20), base[p], to + 16 * p);
            if (q < pixels) finish(_mm256_permute2x128_si256(lower[k], upper[k], 0x31), base[q], to + 16 * q);
        }
    }
}

/* Filters of 16 channels as pairs: (pair, octet, lower and upper halves). */
INLINE void lay_narrow(const uint8_t *filters, int64_t octets, int64_t whole, Gathered *to) {
    for (int64_t c = 0; c < 16; c += 2, filters += 2 * octets)
        for (int64_t k = 0; k < whole; k++) {
            int x = k < octets ? filters[k] : 0, y = k < octets ? filters[octets + k] : 0;
            *to++ = (Gathered)(((x & 15) | (y & 15) << 4) << 4);
            *to++ = (Gathered)((x >> 4 | (y & 240)) << 4);
        }
}

INLINE void products(const Product *of, const Window *window, const float *const *base, float *to, int64_t pixels,
                     int64_t width) {
    if (width == 16) {
        narrow(of, window, base, to, pixels);
        return;
    }
    for (int64_t channel = 0; channel < width; channel += 32)
        if (pixels > 4)
            tile(of, channel, window, base, to, pixels, width, 4);
        else if (pixels > 2)
            tile(of, channel, window, base, to, pixels, width, 2);
        else
            tile(of, channel, window, base, to, pixels, width, 1);
}

#else

enum { LANE_OCTETS = 1, WHOLE = 1, EACH_WINDOW = 1, OCTETS_OF_BYTES = 31 };
#define IN_PLACE(stage, width) 0
#define TOGETHER(width) 4
#define WINDOWS(part) ((part)->count)
typedef uint8_t Gathered;

INLINE void copy16(Gathered *to, const char *from, const char *other, const int half) {
    (void)other, (void)half;
    memcpy(to, from, 16);
}

#if defined(__aarch64__) && !defined(BNN_PORTABLE)

/* V vectors of 16 channels, P pixels. */
INLINE void tile(const Product *of, const Window *window, const float *const *base, float *to, const int V, const int P) {
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

INLINE void tiles(const Product *of, const Window *window, const float *const *base, float *to, int64_t count,
                  const int V) {
    int64_t p = 0;
    for (; p + 4 <= count; p += 4) tile(of, window + p, base + p, to + p * V * 16, V, 4);
    for (; p < count; p++) tile(of, window + p, base + p, to + p * V * 16, V, 1);
}

INLINE void products(const Product *of, const Window *window, const float *const *base, float *to, int64_t count,
                     int64_t width) {
    if (width == 64)
        tiles(of, window, base, to, count, 4);
    else if (width == 32)
        tiles(of, window, base, to, count, 2);
    else
        tiles(of, window, base, to, count, 1);
}

#else

INLINE void products(const Product *of, const Window *window, const float *const *base, float *to, int64_t count,
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
#endif /* of the ways to count */

#endif
