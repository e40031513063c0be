/* Convolutions of signs in training: the products forward, and the two sums of gradients backward.
 *
 * Forward, activations and weights are +-1 (weights times a scale per filter), so products are distances of bits, and
 * packed/count.h counts them. Backward, one factor is +-1 and the other real. Then a sum of four products is one of the
 * 16 sums of four real numbers with signs, which are made once and looked up for as many filters or channels as need
 * them: an addition does what four multiply-adds do (the method of Arlazarov et al., 1970, with reals for bits).
 *
 * Images are float32 (image, row, column, channel). Their bits lie alike, 8 channels an octet, with a border of zeros as
 * wide as the padding; channels are multiples of 16. Sums have one order on every processor: lanes are never added. */
#include "../packed/reals.h"

void KERNEL(run_stages)(const Stage *stages, int64_t first, int64_t last, void *gathered);

typedef struct {
    int64_t channels, height, width; /* of an image */
    int64_t out_channels, out_height, out_width;
    int64_t rows, columns; /* of the kernel */
    int64_t stride, above, left; /* zeros above and below, left and right */
} Convolution;

enum {
    GATHERED = 1 << 17, /* bytes for the windows of a block, see gathered_bytes */
    TOGETHER = 16, /* fours of pixels whose tables are made at a time, 8 KB, or else one row's, */
    MOST_FOURS = 64, /* which are so many */
    SPAN = 128, /* places of images whose sums are taken at a time, */
    FAR = 512, /* how far their neighbours may be, */
    MOST = 128, /* and how many channels' */
    MOST_TAPS = 64
};

typedef float Four __attribute__((vector_size(16)));
typedef float Eight __attribute__((vector_size(32)));

INLINE Four load4(const float *from) {
    Four x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE Eight load8(const float *from) {
    Eight x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store8(float *to, Eight x) { memcpy(to, &x, sizeof x); }

INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

INLINE int64_t row_octets(const Convolution *of) { return (of->width + 2 * of->left) * of->channels / 8; }

INLINE int64_t image_octets(const Convolution *of) { return (of->height + 2 * of->above) * row_octets(of); }

INLINE uint16_t bits_of(const float *from) { return (uint16_t)reached(load(from), splat(0)); }

INLINE uint32_t magnitude_bits(const float *from) {
    uint32_t bits;
    memcpy(&bits, from, sizeof bits);
    return bits & 0x7FFFFFFF;
}

/* Bits of images, and per image whether all of its elements are +-1. */
void KERNEL(pack_signs)(int64_t first, int64_t last, const Convolution *of, const float *images, uint8_t *bits, uint8_t *plain) {
    const float one = 1;
    const int64_t row = of->width * of->channels;
    for (int64_t n = first; n < last; n++) {
        uint8_t *to = bits + n * image_octets(of) + of->above * row_octets(of) + of->left * of->channels / 8;
        uint32_t other = 0;
        memset(bits + n * image_octets(of), 0, (size_t)image_octets(of));
        for (int64_t y = 0; y < of->height; y++, to += row_octets(of)) {
            const float *from = images + (n * of->height + y) * row;
            for (int64_t k = 0; k < row; k++) other |= magnitude_bits(from + k) ^ magnitude_bits(&one);
            for (int64_t k = 0; k < row; k += 16) {
                uint16_t each = bits_of(from + k);
                memcpy(to + k / 8, &each, sizeof each);
            }
        }
        plain[n] = other == 0;
    }
}

/* Filters (out, row, column, in) as octets and, per filter, their magnitude. Whether each has one.
 *
 * `fours` (out / 4, row, column, in) are the signs of four filters each, the kernel turned around. */
int64_t KERNEL(pack_filters)(const Convolution *of, const float *weight, uint8_t *octets, float *scale, uint8_t *fours) {
    const int64_t taps = of->rows * of->columns, size = taps * of->channels;
    uint32_t other = 0;
    memset(fours, 0, (size_t)(of->out_channels / 4 * size));
    for (int64_t o = 0; o < of->out_channels; o++, weight += size) {
        memcpy(scale + o, &(uint32_t){magnitude_bits(weight)}, sizeof *scale);
        for (int64_t k = 0; k < size; k++) other |= magnitude_bits(weight + k) ^ magnitude_bits(scale + o);
        for (int64_t k = 0; k < size; k += 16) {
            uint16_t bits = bits_of(weight + k);
            memcpy(octets + (o * size + k) / 8, &bits, sizeof bits);
        }
        for (int64_t tap = 0; tap < taps; tap++) {
            uint8_t *to = fours + (o / 4 * taps + taps - 1 - tap) * of->channels;
            for (int64_t k = 0; k < of->channels; k++)
                to[k] |= (uint8_t)((weight[tap * of->channels + k] >= 0) << o % 4);
        }
    }
    return other == 0;
}

/* What twice the distances are taken from, (kinds, out): `inside` (kinds, taps) says which taps meet the image. */
void KERNEL(sign_bases)(const Convolution *of, int64_t kinds, const uint8_t *inside, const uint8_t *octets, float *bases) {
    const int64_t taps = of->rows * of->columns, each = of->channels / 8;
    for (int64_t o = 0; o < of->out_channels; o++)
        for (int64_t tap = 0; tap < taps; tap++, octets += each) {
            int64_t ones = 0;
            for (int64_t k = 0; k < each; k++) ones += __builtin_popcount(octets[k]);
            for (int64_t kind = 0; kind < kinds; kind++)
                bases[kind * of->out_channels + o] += (float)(inside[kind * taps + tap] ? of->channels : 2 * ones);
        }
}

/* `out` (image, row, column, channel). `places`: per output pixel, bytes to its window, its base, and its output. */
void KERNEL(convolve_signs)(
    int64_t first, int64_t last, const Convolution *of, const uint8_t *bits, const uint8_t *filters, const float *bases,
    const float *scale, const int32_t *places, float *out
) {
    char gathered[GATHERED];
    const int64_t pixels = of->out_height * of->out_width;
    for (int64_t n = first; n < last; n++) {
        const Step steps[] = {
            {.kind = STEP_SCALE, .a = scale},
            {.kind = STEP_STORE, .map = (char *)(out + n * pixels * of->out_channels), .offsets = places + 2 * pixels},
        };
        const Stage stage = {
            .kind = STAGE_BITS, .source = (const char *)bits + n * image_octets(of), .offsets = places,
            .pixels = pixels, .channels = of->out_channels,
            .rows = of->rows, .run = of->columns * of->channels / 8, .row_stride = row_octets(of),
            .filters = filters, .bases = bases, .base_offsets = places + pixels, .steps = steps, .step_count = 2,
        };
        KERNEL(run_stages)(&stage, 0, 1, gathered);
    }
}

/* The sums of four numbers with signs: bit k of a sum's number is set where the k-th is added, else it is taken away. */
INLINE void sums_of_four(const Eight *x, float *to, int64_t stride) {
    const Eight low[4] = {-x[0] - x[1], x[0] - x[1], x[1] - x[0], x[0] + x[1]};
    const Eight high[4] = {-x[2] - x[3], x[2] - x[3], x[3] - x[2], x[2] + x[3]};
    for (int sum = 0; sum < 16; sum++) store8(to + sum * stride, low[sum & 3] + high[sum >> 2]);
}

/* Fours of neighbouring pixels in an output row, the last one filled up. */
INLINE int64_t fours_of(const Convolution *of) { return (of->out_width + 3) / 4; }

#define BIT(octet, k) (uint64_t)((octet) >> (k) & 1) << 8 * (k)
#define SPREAD(o) BIT(o, 0) | BIT(o, 1) | BIT(o, 2) | BIT(o, 3) | BIT(o, 4) | BIT(o, 5) | BIT(o, 6) | BIT(o, 7)
#define SPREAD4(o) SPREAD(o), SPREAD((o) + 1), SPREAD((o) + 2), SPREAD((o) + 3)
#define SPREAD16(o) SPREAD4(o), SPREAD4((o) + 4), SPREAD4((o) + 8), SPREAD4((o) + 12)
#define SPREAD64(o) SPREAD16(o), SPREAD16((o) + 16), SPREAD16((o) + 32), SPREAD16((o) + 48)

static const uint64_t spread[256] = {SPREAD64(0), SPREAD64(64), SPREAD64(128), SPREAD64(192)}; /* a bit per octet */

/* Which sums of four pixels weights take, by rows of the images with their borders, first <= r < last:
 * `index` (row, column of the kernel, in / 8, four, 8) has four times the sums' numbers. */
void KERNEL(index_signs)(int64_t first, int64_t last, const Convolution *of, const uint8_t *bits, uint8_t *index) {
    const int64_t octets = of->channels / 8, step = of->stride * octets, fours = fours_of(of);
    index += first * of->columns * octets * fours * 8;
    for (int64_t row = first; row < last; row++)
        for (int64_t k = 0; k < of->columns * octets; k++) {
            const uint8_t *from = bits + row * row_octets(of) + k;
            for (int64_t x = 0; x < of->out_width; x += 4, from += 4 * step, index += 8) {
                uint64_t sums = spread[from[0]] << 2;
                if (x + 1 < of->out_width) sums |= spread[from[step]] << 3;
                if (x + 2 < of->out_width) sums |= spread[from[2 * step]] << 4;
                if (x + 3 < of->out_width) sums |= spread[from[3 * step]] << 5;
                memcpy(index, &sums, sizeof sums);
            }
        }
}

/* Adds up what the zeros around images would give if they were -1: `outside` (row, column). */
static void add_outside(const Convolution *of, int64_t images, const float *upstream, Eight *outside) {
    const int64_t channels = of->out_channels;
    for (int64_t line = 0; line < images * of->out_height; line++, upstream += of->out_width * channels) {
        const int64_t top = line % of->out_height * of->stride - of->above;
        int64_t start = max64(0, -top), end = min64(of->rows, of->height - top); /* rows that meet the image */
        if (start > 0 || end < of->rows) {
            Eight whole = {0};
            for (int64_t x = 0; x < of->out_width; x++) whole += load8(upstream + x * channels);
            for (int64_t tap = 0; tap < of->rows * of->columns; tap++)
                if (tap / of->columns < start || tap / of->columns >= end) outside[tap] += whole;
        }
        for (int64_t x = 0; x < of->out_width; x++) {
            const int64_t left = x * of->stride - of->left;
            if (left >= 0 && left + of->columns <= of->width) continue;
            for (int64_t column = 0; column < of->columns; column++)
                if (left + column < 0 || left + column >= of->width)
                    for (int64_t row = start; row < end; row++)
                        outside[row * of->columns + column] += load8(upstream + x * channels);
        }
    }
}

/* Tables of the fours of pixels of a row, 8 output channels. */
static void make_tables(const Convolution *of, const float *upstream, float *tables) {
    for (int64_t x = 0; x < of->out_width; x += 4, tables += 16 * 8) {
        Eight each[4] = {{0}, {0}, {0}, {0}};
        for (int64_t p = 0; p < min64(4, of->out_width - x); p++) each[p] = load8(upstream + (x + p) * of->out_channels);
        sums_of_four(each, tables, 8);
    }
}

/* Adds to the sums of 8 weights each what their index looks up in some rows' tables. */
static __attribute__((noinline)) void look_up_fours(
    int64_t units, int64_t fours, int64_t count, const uint8_t *const *rows, const float *tables, float *sums
) {
    for (int64_t unit = 0; unit < units; unit++, sums += 64) {
        const double *table = (const double *)tables; /* its elements are as long as the index counts */
        Eight sum[8];
        for (int j = 0; j < 8; j++) sum[j] = load8(sums + 8 * j);
        for (int64_t row = 0; row < count; row++) {
            const uint8_t *index = rows[row] + unit * fours * 8;
            for (int64_t k = 0; k < fours; k++, index += 8, table += 64)
                for (int j = 0; j < 8; j++) sum[j] += load8((const float *)(table + index[j]));
        }
        for (int j = 0; j < 8; j++) store8(sums + 8 * j, sum[j]);
    }
}

/* Adds the gradient to the weights of output channels 8 first to 8 last - 1, given that to the output:
 * `out` (out / 8, row, column, in, 8). */
void KERNEL(weight_slopes)(
    int64_t first, int64_t last, const Convolution *of, int64_t images, const float *upstream, const uint8_t *index,
    float *out
) {
    const int64_t taps = of->rows * of->columns, units = taps * of->channels / 8, fours = fours_of(of);
    const int64_t row_bytes = of->columns * of->channels * fours, lines = images * of->out_height;
    const int64_t together = max64(1, TOGETHER / fours);
    float tables[MOST_FOURS * 16 * 8] __attribute__((aligned(64)));
    for (int64_t block = first; block < last; block++) {
        const float *from = upstream + block * 8;
        float *sums = out + block * units * 64;
        for (int64_t line = 0; line < lines; line += together) {
            const uint8_t *rows[TOGETHER];
            const int64_t count = min64(together, lines - line);
            for (int64_t k = 0; k < count; k++) {
                const int64_t image = (line + k) / of->out_height, y = (line + k) % of->out_height;
                rows[k] = index + (image * (of->height + 2 * of->above) + y * of->stride) * row_bytes;
                make_tables(of, from + (line + k) * of->out_width * of->out_channels, tables + k * fours * 16 * 8);
            }
            look_up_fours(units, fours, count, rows, tables, sums);
        }
        Eight outside[MOST_TAPS];
        memset(outside, 0, sizeof outside);
        add_outside(of, images, from, outside);
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t k = 0; k < of->channels; k++) {
                float *to = sums + (tap * of->channels + k) * 8;
                store8(to, load8(to) + outside[tap]);
            }
    }
}

#define MIX(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)

/* Four vectors, their elements of four places each. */
INLINE void turn4(Four *x) {
    Four a = MIX(x[0], x[2], 0, 4, 1, 5), b = MIX(x[1], x[3], 0, 4, 1, 5);
    Four c = MIX(x[0], x[2], 2, 6, 3, 7), d = MIX(x[1], x[3], 2, 6, 3, 7);
    x[0] = MIX(a, b, 0, 4, 1, 5), x[1] = MIX(a, b, 2, 6, 3, 7);
    x[2] = MIX(c, d, 0, 4, 1, 5), x[3] = MIX(c, d, 2, 6, 3, 7);
}

/* Eight vectors of eight as rows and columns, exchanged. */
INLINE void turn8(Eight *x) {
    Eight y[8];
    for (int k = 0; k < 8; k += 4) {
        Eight a = MIX(x[k], x[k + 1], 0, 8, 1, 9, 4, 12, 5, 13), b = MIX(x[k], x[k + 1], 2, 10, 3, 11, 6, 14, 7, 15);
        Eight c = MIX(x[k + 2], x[k + 3], 0, 8, 1, 9, 4, 12, 5, 13), d = MIX(x[k + 2], x[k + 3], 2, 10, 3, 11, 6, 14, 7, 15);
        y[k] = MIX(a, c, 0, 1, 8, 9, 4, 5, 12, 13), y[k + 1] = MIX(a, c, 2, 3, 10, 11, 6, 7, 14, 15);
        y[k + 2] = MIX(b, d, 0, 1, 8, 9, 4, 5, 12, 13), y[k + 3] = MIX(b, d, 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (int k = 0; k < 4; k++) {
        x[k] = MIX(y[k], y[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        x[k + 4] = MIX(y[k], y[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* The images of a chunk as one row of places, each image after a border of zeros that it shares with the next: a weight
 * then meets its neighbours by one distance for all places. */
typedef struct {
    int64_t length, wide, reach;       /* places; those of an image's row; how far the last weight is from the first */
    const int32_t *sources, *targets; /* per place, the output and the input pixel there, or -1 */
} Row;

/* Sums of four output channels for places `start` to start + width - 1, as (sum, place). */
INLINE void tables_of(
    const Convolution *of, const Row *row, int64_t start, int64_t width, const float *upstream, int64_t pixels,
    const float *scale, float *tables
) {
    const Four factors = load4(scale);
    for (int64_t q = 0; q < width; q += 8) {
        const int32_t *pixel = row->sources + start + q;
        Four x[8];
        if (pixel[0] >= 0 && pixel[7] == pixel[0] + 7 && pixel[7] < pixels)
            for (int k = 0; k < 8; k++) x[k] = load4(upstream + (pixel[0] + k) * of->out_channels) * factors;
        else
            for (int k = 0; k < 8; k++) {
                int there = pixel[k] >= 0 && pixel[k] < pixels;
                x[k] = there ? load4(upstream + pixel[k] * of->out_channels) * factors : (Four){0};
            }
        turn4(x), turn4(x + 4);
        Eight each[4];
        for (int k = 0; k < 4; k++) each[k] = MIX(x[k], x[k + 4], 0, 1, 2, 3, 4, 5, 6, 7);
        sums_of_four(each, tables + q, width);
    }
}

/* Adds to SPAN places of an input channel what four output channels give it. */
INLINE void add_taps(
    const float *tables, int64_t width, int64_t wide, const uint8_t *fours, int64_t channels, float *sums,
    const int64_t rows, const int64_t columns
) {
    const float *from[MOST_TAPS];
    for (int64_t tap = 0; tap < rows * columns; tap++)
        from[tap] = tables + fours[tap * channels] * width + tap / columns * wide + tap % columns;
    for (int64_t q = 0; q < SPAN; q += 64) {
        Eight x[8];
        for (int k = 0; k < 8; k++) x[k] = load8(sums + q + 8 * k);
        for (int64_t tap = 0; tap < rows * columns; tap++)
            for (int k = 0; k < 8; k++) x[k] += load8(from[tap] + q + 8 * k);
        for (int k = 0; k < 8; k++) store8(sums + q + 8 * k, x[k]);
    }
}

/* Moves SPAN places of some channels to their pixels. */
INLINE void put_places(const float *sums, const int32_t *targets, int64_t pixels, int64_t count, int64_t channels, float *out) {
    for (int64_t q = 0; q < SPAN; q += 8)
        for (int64_t k = 0; k < count; k += 8) {
            Eight x[8];
            for (int j = 0; j < 8; j++) x[j] = load8(sums + (k + j) * SPAN + q);
            turn8(x);
            for (int j = 0; j < 8; j++)
                if (targets[q + j] >= 0 && targets[q + j] < pixels) store8(out + targets[q + j] * channels + k, x[j]);
        }
}

/* The gradient to the images, given that to the output. Steps are single. Chunks first <= c < last of `together` images;
 * `fours` and `scale` as of `pack_filters`. */
void KERNEL(image_slopes)(
    int64_t first, int64_t last, const Convolution *of, int64_t images, int64_t together, const Row *row,
    const float *upstream, const uint8_t *fours, const float *scale, float *out
) {
    const int64_t pixels = of->height * of->width, out_pixels = of->out_height * of->out_width;
    const int64_t width = SPAN + (row->reach + 7) / 8 * 8, taps = of->rows * of->columns;
    float tables[16 * (SPAN + FAR)] __attribute__((aligned(64)));
    float sums[MOST * SPAN] __attribute__((aligned(64)));
    for (int64_t chunk = first; chunk < last; chunk++) {
        const int64_t count = min64(together, images - chunk * together);
        const float *from = upstream + chunk * together * out_pixels * of->out_channels;
        float *to = out + chunk * together * pixels * of->channels;
        for (int64_t start = 0; start < row->length; start += SPAN)
            for (int64_t channel = 0; channel < of->channels; channel += MOST) {
                const int64_t some = min64(MOST, of->channels - channel);
                memset(sums, 0, (size_t)(some * SPAN) * sizeof *sums);
                for (int64_t o = 0; o < of->out_channels; o += 4) {
                    const uint8_t *signs = fours + o / 4 * taps * of->channels + channel;
                    tables_of(of, row, start, width, from + o, count * out_pixels, scale + o, tables);
                    for (int64_t k = 0; k < some; k++)
                        if (of->rows == 3 && of->columns == 3)
                            add_taps(tables, width, row->wide, signs + k, of->channels, sums + k * SPAN, 3, 3);
                        else
                            add_taps(tables, width, row->wide, signs + k, of->channels, sums + k * SPAN, of->rows, of->columns);
                }
                put_places(sums, row->targets + start, count * pixels, some, of->channels, to + channel);
            }
    }
}
