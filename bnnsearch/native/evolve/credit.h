/* What the errors of a mini-batch are handed on in. */
#ifndef BNN_CREDIT_H
#define BNN_CREDIT_H

#include "evolve.h"

/* The transposed planes of samples that ask for a change: (words of 64 samples, 64 places). */
typedef struct {
    uint64_t *value, *up, *asked;
    int16_t *total; /* samples that ask each neuron, (64 places,) */
    int64_t stride; /* 64 places */
} Errors;

#endif
