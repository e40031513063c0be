/* Vectors of 16 reals, in as many registers as they take. */
#ifndef BNN_REALS_H
#define BNN_REALS_H

#include "packed.h"

#if defined(__AVX512F__)
#include <immintrin.h>
enum { WIDTH = 16 };
typedef __m512 Register;
INLINE Register load1(const float *from) { return _mm512_loadu_ps(from); }
INLINE void store1(float *to, Register x) { _mm512_storeu_ps(to, x); }
INLINE Register splat1(float x) { return _mm512_set1_ps(x); }
INLINE Register fused1(Register x, Register y, Register z) { return _mm512_fmadd_ps(x, y, z); }
INLINE Register add1(Register x, Register y) { return _mm512_add_ps(x, y); }
INLINE Register multiply1(Register x, Register y) { return _mm512_mul_ps(x, y); }
INLINE Register divide1(Register x, Register y) { return _mm512_div_ps(x, y); }
INLINE Register larger1(Register x, Register y) { return _mm512_max_ps(x, y); }
INLINE Register smaller1(Register x, Register y) { return _mm512_min_ps(x, y); }
INLINE Register positive1(Register x, Register other) {
    return _mm512_mask_mov_ps(other, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), x);
}
INLINE uint32_t reached1(Register x, Register level) { return _mm512_cmp_ps_mask(x, level, _CMP_GE_OQ); }

#elif defined(__AVX2__)
#include <immintrin.h>
enum { WIDTH = 8 };
typedef __m256 Register;
INLINE Register load1(const float *from) { return _mm256_loadu_ps(from); }
INLINE void store1(float *to, Register x) { _mm256_storeu_ps(to, x); }
INLINE Register splat1(float x) { return _mm256_set1_ps(x); }
INLINE Register fused1(Register x, Register y, Register z) { return _mm256_fmadd_ps(x, y, z); }
INLINE Register add1(Register x, Register y) { return _mm256_add_ps(x, y); }
INLINE Register multiply1(Register x, Register y) { return _mm256_mul_ps(x, y); }
INLINE Register divide1(Register x, Register y) { return _mm256_div_ps(x, y); }
INLINE Register larger1(Register x, Register y) { return _mm256_max_ps(x, y); }
INLINE Register smaller1(Register x, Register y) { return _mm256_min_ps(x, y); }
INLINE Register positive1(Register x, Register other) {
    return _mm256_blendv_ps(other, x, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
}
INLINE uint32_t reached1(Register x, Register level) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x, level, _CMP_GE_OQ));
}

#elif defined(__aarch64__) && !defined(BNN_PORTABLE)
#include <arm_neon.h>
enum { WIDTH = 4 };
typedef float32x4_t Register;
INLINE Register load1(const float *from) { return vld1q_f32(from); }
INLINE void store1(float *to, Register x) { vst1q_f32(to, x); }
INLINE Register splat1(float x) { return vdupq_n_f32(x); }
INLINE Register fused1(Register x, Register y, Register z) { return vfmaq_f32(z, x, y); }
INLINE Register add1(Register x, Register y) { return vaddq_f32(x, y); }
INLINE Register multiply1(Register x, Register y) { return vmulq_f32(x, y); }
INLINE Register divide1(Register x, Register y) { return vdivq_f32(x, y); }
INLINE Register larger1(Register x, Register y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
INLINE Register smaller1(Register x, Register y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
INLINE Register positive1(Register x, Register other) { return vbslq_f32(vcgtq_f32(x, vdupq_n_f32(0)), x, other); }
INLINE uint32_t reached1(Register x, Register level) {
    static const uint32_t bits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgeq_f32(x, level), vld1q_u32(bits)));
}

#else
#include <math.h>
enum { WIDTH = 1 };
typedef float Register;
INLINE Register load1(const float *from) { return *from; }
INLINE void store1(float *to, Register x) { *to = x; }
INLINE Register splat1(float x) { return x; }
INLINE Register fused1(Register x, Register y, Register z) { return fmaf(x, y, z); }
INLINE Register add1(Register x, Register y) { return x + y; }
INLINE Register multiply1(Register x, Register y) { return x * y; }
INLINE Register divide1(Register x, Register y) { return x / y; }
INLINE Register larger1(Register x, Register y) { return x > y ? x : y; }
INLINE Register smaller1(Register x, Register y) { return x < y ? x : y; }
INLINE Register positive1(Register x, Register other) { return x > 0 ? x : other; }
INLINE uint32_t reached1(Register x, Register level) { return x >= level; }
#endif

enum { REGISTERS = LANES / WIDTH };

typedef struct {
    Register part[REGISTERS];
} Reals;

#define EACH(i) for (int i = 0; i < REGISTERS; i++)

INLINE Reals load(const float *from) {
    Reals x;
    EACH(i) x.part[i] = load1(from + i * WIDTH);
    return x;
}

INLINE void store(float *to, Reals x) { EACH(i) store1(to + i * WIDTH, x.part[i]); }

INLINE Reals splat(float value) {
    Reals x;
    EACH(i) x.part[i] = splat1(value);
    return x;
}

#define ELEMENTWISE(name)                                      \
    INLINE Reals name(Reals x, Reals y) {                      \
        EACH(i) x.part[i] = name##1(x.part[i], y.part[i]);     \
        return x;                                              \
    }
ELEMENTWISE(add)
ELEMENTWISE(multiply)
ELEMENTWISE(divide)
ELEMENTWISE(larger)   /* x > y ? x : y */
ELEMENTWISE(smaller)  /* x < y ? x : y */
ELEMENTWISE(positive) /* x > 0 ? x : y */

/* x y + z, rounded once. */
INLINE Reals fused(Reals x, Reals y, Reals z) {
    EACH(i) z.part[i] = fused1(x.part[i], y.part[i], z.part[i]);
    return z;
}

/* Bit k: x[k] >= level[k]. */
INLINE uint32_t reached(Reals x, Reals level) {
    uint32_t bits = 0;
    EACH(i) bits |= reached1(x.part[i], level.part[i]) << (i * WIDTH);
    return bits;
}

/* 1 where bit k is 1, else -1. */
INLINE Reals signs(uint32_t bits) {
    float lanes[LANES];
    for (int k = 0; k < LANES; k++) lanes[k] = (bits >> k & 1) ? 1.0f : -1.0f;
    return load(lanes);
}

#endif
