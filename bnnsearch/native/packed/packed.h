/* The packed runtime: a network as stages, run one after another on a batch.
 *
 * Values lie as (image, row, column, channel), channels padded to whole vectors of 16 reals or to 8 or 16 bits, with a
 * border of zeros as wide as their readers' padding. Where pixels start is a matter of tables of int32 offsets, in
 * bytes, so borders, strides and batches are a matter of the tables alone. bnnsearch/packed/lower.py fills these
 * structures in, from shapes that have been checked; bnnsearch/packed/kernels.py has the same fields.
 *
 * Arithmetic is IEEE float32 and rounds as PyTorch on a CPU does, alike on every processor: real convolutions add
 * products one by one, fused, in the order (row, column, channel), and batch norm is one fused multiply-add.
 *
 * No kernel allocates or keeps anything; threads run stages of their own.
 */
#ifndef BNN_PACKED_H
#define BNN_PACKED_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

enum { LANES = 16, WIDEST = 64, BLOCK = 32 }; /* channels of a vector, channels and pixels of a block */

/* What is done to a block; `a` and `b` are vectors per channel, `map` another value at the same pixels. */
enum {
    STEP_AFFINE,   /* fma(x, a, b) */
    STEP_SCALE,    /* x a */
    STEP_SHIFT,    /* x + a */
    STEP_CLAMP,    /* min(max(x, a), b) */
    STEP_PRELU,    /* x if x > 0 else x a */
    STEP_DIVIDE,   /* x / map, one divisor per pixel */
    STEP_ADD,      /* x + map */
    STEP_MULTIPLY, /* x map */
    STEP_STORE,    /* map = x */
    STEP_BITS,     /* map = (x >= a) xor turned, of `octets` bytes a pixel */
    STEP_SIGNS     /* 1 where (x >= a) xor turned, else -1 */
};

typedef struct {
    int64_t kind;
    const float *a, *b;
    const uint8_t *turned; /* 16 bits a vector */
    char *map;
    const int32_t *offsets; /* of each pixel in the map */
    int64_t octets;
} Step;

enum {
    STAGE_BITS,      /* a binary convolution */
    STAGE_REAL,      /* a real one */
    STAGE_WIDE_REAL, /* summed in float64, rounded once */
    STAGE_MAX,       /* pools, of `rows` source pixels a window; of one, it loads */
    STAGE_SUM,
    STAGE_WIDE_SUM,
    STAGE_INPUT, /* the image: octets (image, channel, row, column), looked up */
    STAGE_COPY,  /* scalars that move */
    STAGE_SIGMOID
};

/* A stage fills blocks of pixels and channels from its source and takes its steps on each, or it moves scalars.
 *
 * A convolution reads, for each of `rows` kernel rows `row_stride` bytes apart, `run` neighbouring octets of bits, or
 * float32. Its filters lie as `lay_filters` lays bits, or as (group, row, element, 16 channels). What twice the
 * distances are taken from stands in `bases`, a row per kind of border, chosen by pixel. Of a pool, the offsets of tap
 * t of a window stand t * row_stride bytes on. COPY and SIGMOID take `channels` channels of each pixel to `target`;
 * INPUT looks up 256 float32 of `table` per input channel, of which `shared` target channels share a row. */
typedef struct {
    int64_t kind;
    const char *source;
    const int32_t *offsets;
    int64_t pixels, channels;
    int64_t rows, run, row_stride;
    const void *filters;
    const float *bases;
    const int32_t *base_offsets;
    const Step *steps;
    int64_t step_count;
    char *target;
    const int32_t *target_offsets;
    const float *table;
    int64_t shared, images;
} Stage;

/* Pixels first <= p < first + count of a stage, channels channel <= c < channel + width; width is 16, 32 or 64. Values
 * of a block lie as (pixel, channel), `width` apart; the first pixel's window is the one at `window` of those gathered. */
typedef struct {
    int64_t first, count, channel, width, window;
} Part;

void KERNEL(gather)(const Stage *stage, int64_t first, int64_t count, void *gathered);
void KERNEL(binary_block)(const Stage *stage, const Part *part, const void *gathered, float *block);
void KERNEL(real_block)(const Stage *stage, const Part *part, float *block);
void KERNEL(wide_block)(const Stage *stage, const Part *part, float *block);
void KERNEL(pool_block)(const Stage *stage, const Part *part, float *block);
void KERNEL(wide_sum_block)(const Stage *stage, const Part *part, float *block);
int64_t KERNEL(pixels_together)(int64_t width);
int64_t KERNEL(chain_of)(const Stage *stage);
void KERNEL(take_steps)(const Stage *stage, const Part *part, const float *block, int64_t chain);
void KERNEL(look_up)(const Stage *stage);
void KERNEL(copy_scalars)(const Stage *stage);

INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* Channels of the block that begins `rest` channels, of whole vectors, before the last. */
INLINE int64_t width_of(int64_t rest) { return rest >= 64 ? 64 : rest >= 32 ? 32 : 16; }

#endif
