/* What is done to a number as it is made. */
#include "base.h"

static Number scale(const Step *step, Number number, int32_t pixel, int channel) {
    (void)pixel;
    return times(number, ((const Number *)step->a)[channel]);
}

static Number shift(const Step *step, Number number, int32_t pixel, int channel) {
    (void)pixel;
    return number + ((const Number *)step->a)[channel];
}

static Number clamp(const Step *step, Number number, int32_t pixel, int channel) {
    Number low = *(const Number *)step->a, high = *(const Number *)step->b;
    (void)pixel, (void)channel;
    number = number > low ? number : low;
    return number < high ? number : high;
}

static Number prelu(const Step *step, Number number, int32_t pixel, int channel) {
    (void)pixel;
    return number > 0 ? number : number * ((const Number *)step->a)[channel];
}

static Number affine(const Step *step, Number number, int32_t pixel, int channel) {
    (void)pixel;
    return fused(number, ((const float *)step->a)[channel], ((const float *)step->b)[channel]);
}

/* e^x for x <= 0: 2^k e^r with |r| <= ln(2) / 2, by the series of e^r; its error is below 2^-50. */
static double power_of_e(double x) {
    int k = (int)(x * 1.4426950408889634 - 0.5);
    double rest = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10, sum = 1;
    for (int i = 14; i > 0; i--) sum = 1 + rest * sum / i;
    for (; k <= -16; k += 16) sum /= 65536;
    for (; k < 0; k++) sum /= 2;
    return sum;
}

static Number sigmoid(const Step *step, Number number, int32_t pixel, int channel) {
    double x = number < -104 ? -104 : number > 104 ? 104 : number, power = power_of_e(x < 0 ? x : -x);
    (void)step, (void)pixel, (void)channel;
    return (Number)(x < 0 ? power / (1 + power) : 1 / (1 + power));
}

/* The operand beside it: `a`, a stage; of one pixel for all where its map has one. */
APART Number beside(const Step *step, int32_t pixel, int channel) {
    const Stage *other = (const Stage *)step->a;
    int32_t place = other->height == 1 && other->width == 1 ? 0 : pixel;
    return other->source(other, (int)(place / other->width), (int)(place % other->width), channel);
}

static Number add(const Step *step, Number number, int32_t pixel, int channel) {
    return number + beside(step, pixel, channel);
}

static Number multiply(const Step *step, Number number, int32_t pixel, int channel) {
    return number * beside(step, pixel, channel);
}

#define STORE(name, type)                                                              \
    static Number name(const Step *step, Number number, int32_t pixel, int channel) {  \
        ((type *)step->map)[times(pixel, step->channels) + channel] = (type)number;    \
        return number;                                                                 \
    }

STORE(store_i8, int8_t)

STORE(store_i16, int16_t)

STORE(store_i32, int32_t)

STORE(store_f32, float)
