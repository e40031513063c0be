/* Numbers that are read where they lie: of maps, of the image, of others moved. */
#include "base.h"

#define ELEMENT(name, type)                                                                \
    static Number name(const Stage *stage, int y, int x, int channel) {                    \
        const Window *window = &stage->window;                                             \
        return (Number)((const type *)stage->map)[times(place_of(window, y, x), window->channels) + channel]; \
    }

ELEMENT(element_i8, int8_t)

ELEMENT(element_i16, int16_t)

ELEMENT(element_i32, int32_t)

ELEMENT(element_f32, float)

/* The octets that are classified: rows of pixels, a pixel's channels side by side. */
static const uint8_t *image;

static uint8_t octet(const Stage *stage, int y, int x, int channel) {
    return image[times(place_of(&stage->window, y, x), stage->window.channels) + channel];
}

/* What stands in a table of 256 for each channel, or of one for all. */
#define PIXEL(name, type, step)                                                             \
    static Number name(const Stage *stage, int y, int x, int channel) {                     \
        return (Number)((const type *)stage->weights)[(step)*channel + octet(stage, y, x, channel)]; \
    }

PIXEL(pixel_i8, int8_t, 0)

PIXEL(pixel_i16, int16_t, 0)

PIXEL(pixels_i8, int8_t, 256)

PIXEL(pixels_i16, int16_t, 256)

/* Octets as integers. */
static Number whole(const Stage *stage, int y, int x, int channel) { return (Number)octet(stage, y, x, channel); }

/* (octet - mean) * scale; `weights`: both, channel by channel. */
static Number normalised(const Stage *stage, int y, int x, int channel) {
    const float *values = (const float *)stage->weights + 2 * channel;
    return ((float)octet(stage, y, x, channel) - values[0]) * values[1];
}

/* A map as a vector: channel, row, column. */
static Number flattened(const Stage *stage, int y, int x, int channel) {
    int width = stage->inner->width, size = times(width, stage->inner->height);
    (void)y, (void)x;
    return stage->inner->source(stage->inner, channel % size / width, channel % width, channel / size);
}

/* Channels of others, or zeros. */
typedef struct {
    const Stage *of;
    int16_t first, count;
} Part;

static Number concatenated(const Stage *stage, int y, int x, int channel) {
    const Part *part = (const Part *)stage->weights;
    for (; channel >= part->count; part++) channel -= part->count;
    return part->of ? part->of->source(part->of, y, x, part->first + channel) : 0;
}

/* The largest of a window of `inner`, as far as it lies inside. */
static Number largest(const Stage *stage, int y, int x, int channel) {
    Span rows = span(&stage->window, 0, y), columns = span(&stage->window, 1, x);
    const Stage *inner = stage->inner;
    Number most = 0;
    for (int row = rows.first; row < rows.last; row++)
        for (int column = columns.first; column < columns.last; column++) {
            Number one = inner->source(inner, rows.begin + row, columns.begin + column, channel);
            if ((row == rows.first && column == columns.first) || one > most) most = one;
        }
    return most;
}

/* The sum of one; of floats `Sum` is double, rounded once. */
#define TOTAL(name, Sum)                                                                                      \
    APART Number name(const Stage *stage, int y, int x, int channel) {                                        \
        Span rows = span(&stage->window, 0, y), columns = span(&stage->window, 1, x);                         \
        const Stage *inner = stage->inner;                                                                    \
        Sum sum = 0;                                                                                          \
        for (int row = rows.first; row < rows.last; row++)                                                    \
            for (int column = columns.first; column < columns.last; column++)                                 \
                sum += (Sum)inner->source(inner, rows.begin + row, columns.begin + column, channel);          \
        return (Number)sum;                                                                                   \
    }

TOTAL(total, Number)

TOTAL(total_wide, double)

/* The mean: that sum, divided by how many lie inside. */
#define MEAN(name, sum)                                                                                   \
    static Number name(const Stage *stage, int y, int x, int channel) {                                   \
        Span rows = span(&stage->window, 0, y), columns = span(&stage->window, 1, x);                     \
        int count = (rows.last - rows.first) * (columns.last - columns.first);                            \
        return sum(stage, y, x, channel) / (Number)count;                                                 \
    }

MEAN(mean, total)

MEAN(mean_wide, total_wide)
