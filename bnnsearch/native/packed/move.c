/* Scalars that move: images, slices of channels, features of a vector. */
#include <math.h>

#include "packed.h"

void KERNEL(look_up)(const Stage *stage) {
    int64_t pixels = stage->pixels / stage->images;
    const uint8_t *octets = (const uint8_t *)stage->source;
    for (int64_t image = 0; image < stage->images; image++)
        for (int64_t channel = 0; channel < stage->channels; channel++) {
            const float *table = stage->table + channel / stage->shared * 256;
            const int32_t *offsets = stage->target_offsets + image * pixels;
            for (int64_t p = 0; p < pixels; p++)
                ((float *)(stage->target + offsets[p]))[channel] = table[*octets++];
        }
}

void KERNEL(copy_scalars)(const Stage *stage) {
    for (int64_t p = 0; p < stage->pixels; p++) {
        const float *from = (const float *)(stage->source + stage->offsets[p]);
        float *to = (float *)(stage->target + stage->target_offsets[p]);
        for (int64_t channel = 0; channel < stage->channels; channel++) {
            float x = from[channel];
            to[channel] = stage->kind == STAGE_SIGMOID ? (float)(1 / (1 + exp(-(double)x))) : x;
        }
    }
}
