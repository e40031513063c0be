/* Binary convolutions: dot products of -1 and +1, exact in float32.
 *
 * Zeros outside the image are stored as bits 0; the base of a pixel makes up for them, see layout.py. */
#include "count.h"

enum { LONGEST = 8184 }; /* octets whose distances fit into 16 bits */

static int64_t step_of(int64_t octets) { return (octets + LANE_OCTETS - 1) / LANE_OCTETS * LANE_OCTETS + SLACK; }

/* Bytes that the windows of a block take once they are gathered; a window has `octets`. */
int64_t KERNEL(gathered_bytes)(int64_t octets) { return BLOCK * step_of(octets) * (int64_t)sizeof(Gathered); }

/* Bytes of laid filters. */
int64_t KERNEL(filter_bytes)(int64_t channels, int64_t octets) { return channels * (step_of(octets) - SLACK); }

/* Filters (channels, octets) as this instruction set reads them; the channels are whole vectors. */
void KERNEL(lay_filters)(const uint8_t *filters, int64_t channels, int64_t octets, uint8_t *to) {
    for (int64_t channel = 0; channel < channels;) {
        int64_t width = width_of(channels - channel);
        for (int64_t k = 0; k < octets; k += LANE_OCTETS)
            for (int64_t c = channel; c < channel + width; c++)
                for (int64_t octet = k; octet < k + LANE_OCTETS; octet++)
                    *to++ = octet < octets ? filters[c * octets + octet] : 0;
        channel += width;
    }
}

/* The windows of pixels, their rows one after another. */
INLINE void gather_windows(const Stage *stage, int64_t first, int64_t count, Gathered *to, const int64_t rows, const int64_t most) {
    const int64_t run = stage->run, step = step_of(rows * run);
    for (int64_t p = 0; p < count; p++, to += step) {
        const char *row = stage->source + stage->offsets[first + p];
        Gathered *end = to;
        for (int64_t r = 0; r < rows; r++, row += stage->row_stride, end += run)
            for (int64_t k = 0; k < most; k += 16) copy16(end + k, row + k);
        memset(end, 0, LANE_OCTETS * sizeof *end);
    }
}

void KERNEL(gather)(const Stage *stage, int64_t first, int64_t count, void *gathered) {
    if (IN_PLACE(stage->run)) return;
    if (stage->rows == 3 && stage->run <= 16) /* most layers of few channels */
        gather_windows(stage, first, count, gathered, 3, 16);
    else
        gather_windows(stage, first, count, gathered, stage->rows, stage->run);
}

/* Pixels whose products are taken together. */
int64_t KERNEL(pixels_together)(int64_t width) { return TOGETHER(width); }

void KERNEL(binary_block)(const Stage *stage, const Part *part, const void *gathered, float *block) {
    int64_t octets = stage->rows * stage->run, step = step_of(octets);
    const uint8_t *filters = (const uint8_t *)stage->filters + part->channel * (step - SLACK);
    const Gathered *window[BLOCK];
    const float *base[BLOCK];
    for (int64_t p = 0; p + part->window < BLOCK; p++) window[p] = (const Gathered *)gathered + (part->window + p) * step;
    for (int64_t p = 0; p < part->count; p++)
        base[p] = (const float *)((const char *)stage->bases + stage->base_offsets[part->first + p]) + part->channel;
    if (IN_PLACE(stage->run)) {
        for (int64_t p = 0; p < part->count; p++)
            window[p] = (const Gathered *)(stage->source + stage->offsets[part->first + p]);
        Product product = {filters, octets, stage->rows, stage->run, stage->row_stride};
        products(&product, window, base, block, part->count, part->width);
        return;
    }
    for (int64_t start = 0; start < octets; start += LONGEST) {
        int64_t rest = min64(LONGEST, octets - start);
        Product product = {filters + start * part->width, rest, 1, rest, rest};
        products(&product, window, base, block, part->count, part->width);
        for (int64_t p = 0; p + part->window < BLOCK; p++) window[p] += LONGEST;
        for (int64_t p = 0; p < part->count; p++) base[p] = block + p * part->width;
    }
}
