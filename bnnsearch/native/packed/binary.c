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
void KERNEL(gather)(const Stage *stage, int64_t first, int64_t count, void *gathered) {
    const int64_t rows = stage->rows, run = stage->run, stride = stage->row_stride, step = step_of(rows * run);
    const int32_t *offsets = stage->offsets + first;
    for (int64_t p = 0; p < count; p++) {
        const char *row = stage->source + offsets[p];
        Gathered *to = (Gathered *)gathered + p * step;
        for (int64_t r = 0; r < rows; r++, row += stride, to += run) {
            copy16(to, row);
            for (int64_t k = 16; k < run; k += 16) copy16(to + k, row + k);
        }
        for (int64_t k = 0; k < LANE_OCTETS; k++) to[k] = 0;
    }
}

void KERNEL(binary_block)(const Stage *stage, const Part *part, const void *gathered, float *block) {
    int64_t octets = stage->rows * stage->run, step = step_of(octets);
    const uint8_t *filters = (const uint8_t *)stage->filters + part->channel * (step - SLACK);
    const float *base[BLOCK];
    for (int64_t p = 0; p < part->count; p++)
        base[p] = (const float *)((const char *)stage->bases + stage->base_offsets[part->first + p]) + part->channel;
    for (int64_t start = 0; start < octets; start += LONGEST) {
        Product product = {filters + start * part->width, min64(LONGEST, octets - start), step};
        products(&product, (const Gathered *)gathered + start, base, block, part->count, part->width);
        for (int64_t p = 0; p < part->count; p++) base[p] = block + p * part->width;
    }
}
