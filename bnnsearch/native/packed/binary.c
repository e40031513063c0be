/* Binary convolutions: dot products of -1 and +1, exact in float32.
 *
 * Zeros outside the image are stored as bits 0; the base of a pixel makes up for them, see layout.py. */
#include "count.h"

enum { LONGEST = 8184 }; /* octets whose distances fit into 16 bits */

static int64_t whole_of(int64_t octets) { return (octets + WHOLE - 1) / WHOLE * WHOLE; }

static int64_t step_of(int64_t octets) { return whole_of(octets) + SLACK; }

/* Bytes that the windows of a block take once they are gathered; a window has `octets`. */
int64_t KERNEL(gathered_bytes)(int64_t octets) {
    int64_t bytes = BLOCK * step_of(octets) * (int64_t)sizeof(Gathered);
#if defined(NARROW)
    bytes += BLOCK * step_of(octets);
#endif
    return bytes;
}

/* Bytes of laid filters. */
int64_t KERNEL(filter_bytes)(int64_t channels, int64_t octets) {
#if defined(NARROW)
    if (channels % 32) channels += 16;
#endif
    return channels * whole_of(octets);
}

/* Filters (channels, octets) as this instruction set reads them; the channels are whole vectors. */
void KERNEL(lay_filters)(const uint8_t *filters, int64_t channels, int64_t octets, uint8_t *to) {
    for (int64_t channel = 0; channel < channels;) {
        int64_t width = width_of(channels - channel);
#if defined(NARROW)
        if (width == 16) {
            lay_narrow(filters + channel * octets, octets, whole_of(octets), (Gathered *)to);
            return;
        }
#endif
        for (int64_t k = 0; k < whole_of(octets); k += LANE_OCTETS)
            for (int64_t c = channel; c < channel + width; c++)
                for (int64_t octet = k; octet < k + LANE_OCTETS; octet++)
                    *to++ = octet < octets ? filters[c * octets + octet] : 0;
        channel += width;
    }
}

/* The windows of pixels, their rows one after another. */
INLINE void gather_windows(const Stage *stage, int64_t first, int64_t count, Gathered *to, const int64_t rows, const int64_t most) {
    const int64_t run = stage->run, step = step_of(rows * run);
    for (int64_t p = 0; p < count; p += EACH_WINDOW, to += EACH_WINDOW * step) {
        const char *row = stage->source + stage->offsets[first + p];
        const char *other = stage->source + stage->offsets[first + min64(p + EACH_WINDOW, count) - 1];
        Gathered *end = to;
        for (int64_t r = 0; r < rows; r++, row += stage->row_stride, other += stage->row_stride, end += EACH_WINDOW * run)
            for (int64_t k = 0; k < most; k += 16) copy16(end + EACH_WINDOW * k, row + k, other + k, most == 8);
        memset(end, 0, EACH_WINDOW * WHOLE * sizeof *end);
    }
}

#if defined(NARROW)
/* Windows of single pixels as they are. */
INLINE uint8_t *plain_windows(const Stage *stage, void *gathered) {
    return (uint8_t *)((Gathered *)gathered + BLOCK * step_of(stage->rows * stage->run));
}

INLINE void gather_plain(const Stage *stage, int64_t first, int64_t count, uint8_t *to) {
    const int64_t run = stage->run, step = step_of(stage->rows * run);
    for (int64_t p = 0; p < count; p++, to += step) {
        const char *row = stage->source + stage->offsets[first + p];
        uint8_t *end = to;
        for (int64_t r = 0; r < stage->rows; r++, row += stage->row_stride, end += run)
            for (int64_t k = 0; k < run; k += 16) memcpy(end + k, row + k, 16);
        memset(end, 0, SLACK);
    }
}
#endif

void KERNEL(gather)(const Stage *stage, int64_t first, int64_t count, void *gathered) {
#if defined(NARROW)
    if (stage->channels % 32 && !IN_PLACE(stage, 16)) gather_plain(stage, first, count, plain_windows(stage, gathered));
    if (stage->channels == 16) return;
#endif
    if (IN_PLACE(stage, WIDEST)) return;
    if (stage->rows == 3 && stage->run <= 8) /* most layers of few channels */
        gather_windows(stage, first, count, gathered, 3, 8);
    else if (stage->rows == 3 && stage->run <= 16)
        gather_windows(stage, first, count, gathered, 3, 16);
    else
        gather_windows(stage, first, count, gathered, stage->rows, stage->run);
}

/* Pixels whose products are taken together. */
int64_t KERNEL(pixels_together)(int64_t width) { return TOGETHER(width); }

void KERNEL(binary_block)(const Stage *stage, const Part *part, const void *gathered, float *block) {
    const int64_t octets = whole_of(stage->rows * stage->run), step = octets + SLACK;
    const uint8_t *filters = (const uint8_t *)stage->filters + part->channel * octets;
    Window window[BLOCK];
    const float *base[BLOCK];
    for (int64_t p = 0; p < part->count; p++)
        base[p] = (const float *)((const char *)stage->bases + stage->base_offsets[part->first + p]) + part->channel;
    if (IN_PLACE(stage, part->width)) {
        for (int64_t p = 0; p < WINDOWS(part); p++)
            window[p] = (Window)(stage->source + stage->offsets[part->first + min64(p, part->count - 1)]);
        Product product = {filters, octets, octets, stage->rows, stage->run, stage->row_stride};
        products(&product, window, base, block, part->count, part->width);
        return;
    }
    int64_t bytes = EACH_WINDOW * (int64_t)sizeof(Gathered), each = EACH_WINDOW, of_filters = part->width;
    const uint8_t *from = gathered;
#if defined(NARROW)
    if (part->width == 16) bytes = 1, each = 1, of_filters = 2 * sizeof(Gathered), from = plain_windows(stage, (void *)gathered);
#endif
    for (int64_t p = 0; p < WINDOWS(part); p++)
        window[p] = from + min64(part->window / each + p, BLOCK / each - 1) * step * bytes;
    for (int64_t start = 0; start < octets; start += LONGEST) {
        int64_t rest = min64(LONGEST, octets - start);
        Product product = {filters + start * of_filters, octets, rest, 1, rest, rest};
        products(&product, window, base, block, part->count, part->width);
        for (int64_t p = 0; p < WINDOWS(part); p++) window[p] += LONGEST * bytes;
        for (int64_t p = 0; p < part->count; p++) base[p] = block + p * part->width;
    }
}
