/* Training's elementwise passes between convolutions, each in one pass over memory.
 *
 * Elements are float32 or bfloat16, which `half` says; arithmetic is float32 and rounds alike on every processor: sums
 * have one order, and no product is fused with a sum. Arrays lie one after another, C-contiguous; the samples
 * first <= n < last are worked on. Nothing is allocated or kept; threads take samples of their own. */
#ifndef BNN_TRAIN_H
#define BNN_TRAIN_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { IDENTITY, STE, POLYNOMIAL }; /* gradients of sign */

INLINE float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Element k as float32: a bfloat16 is its upper half. */
INLINE float get(const void *from, int64_t k, int half) {
    return half ? float_of((uint32_t)((const uint16_t *)from)[k] << 16) : ((const float *)from)[k];
}

/* Rounded to the nearest, halves to the even neighbour. */
INLINE void put(void *to, int64_t k, float x, int half) {
    uint32_t bits = bits_of(x);
    if (half)
        ((uint16_t *)to)[k] = (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    else
        ((float *)to)[k] = x;
}

/* Sums in LANES parts, element k in part k % LANES, so that vectors of any length add in one order. */
enum { LANES = 32 };
typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

/* The work on elements start to end - 1: `count` from k on at a time, which a compiler knows to be LANES but for the last. */
#define FOR_LANES(k, count, start, end, ...)                       \
    do {                                                           \
        int64_t k = (start), over = (end);                         \
        for (; k + LANES <= over; k += LANES) {                    \
            enum { count = LANES };                                \
            __VA_ARGS__                                            \
        }                                                          \
        if (k < over) {                                            \
            int64_t count = over - k;                              \
            __VA_ARGS__                                            \
        }                                                          \
    } while (0)

/* Elements k to k + count - 1, and zeros. */
INLINE Lanes get_lanes(const void *from, int64_t k, int64_t count, int half) {
    Lanes x = {0};
    if (half) {
        Halves narrow = {0};
        memcpy(&narrow, (const uint16_t *)from + k, 2 * (size_t)count);
        Words bits = __builtin_convertvector(narrow, Words) << 16;
        memcpy(&x, &bits, sizeof x);
    } else {
        memcpy(&x, (const float *)from + k, 4 * (size_t)count);
    }
    return x;
}

INLINE void put_lanes(void *to, int64_t k, int64_t count, Lanes x, int half) {
    if (half) {
        Words bits;
        memcpy(&bits, &x, sizeof bits);
        Halves narrow = __builtin_convertvector((bits + 0x7FFF + (bits >> 16 & 1)) >> 16, Halves);
        memcpy((uint16_t *)to + k, &narrow, 2 * (size_t)count);
    } else {
        memcpy((float *)to + k, &x, 4 * (size_t)count);
    }
}

INLINE float sum(Lanes x) {
    float part[LANES];
    memcpy(part, &x, sizeof part);
    for (int width = LANES / 2; width; width /= 2)
        for (int k = 0; k < width; k++) part[k] += part[k + width];
    return part[0];
}

/* x where `keep`, a mask, is set, else 0. */
INLINE Lanes where(Words keep, Lanes x) {
    Words bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= keep;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE Lanes magnitude(Lanes x) { return where((Words){0} + 0x7FFFFFFF, x); }

#endif
