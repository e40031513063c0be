/* One binary layer over columns: its tiles, and what becomes of their distances. */
#ifndef BNN_LAYERS_H
#define BNN_LAYERS_H

#include "tile.h"

/* Columns (words, count) at a stride, and the rows of one layer. */
typedef struct {
    const uint64_t *columns, *mask;
    int64_t stride, count;
    const uint64_t *rows;
    int64_t words, outputs;
} Product;

/* What becomes of one tile: of eight rows from `row` on, sixteen columns from `column` on. */
typedef void Use(const Product *of, int64_t row, int64_t column, const Counts *counts, const void *with);

#if defined(__AVX2__) && !defined(__AVX512VPOPCNTDQ__)
#include "tables.h"
#endif

/* Every tile of a product, to be used at once. */
INLINE void multiply(const Product *of, Use *use, const void *with) {
#if defined(__AVX2__) && !defined(__AVX512VPOPCNTDQ__)
    if (!of->mask && of->count % STRIP == 0 && of->words * 8 <= MOST_BYTES) {
        multiply_by_tables(of, use, with);
        return;
    }
#endif
    for (int64_t row = 0; row < of->outputs; row += ROWS)
        for (int64_t column = 0; column < of->count; column += COLUMNS) {
            Operands operands = {of->columns + column, of->mask ? of->mask + column : NULL, of->stride,
                                 of->rows + row * of->words, 1, of->words, of->words};
            Counts counts;
            tile(&operands, &counts);
            use(of, row, column, &counts, with);
        }
}

/* Which of the eight rows from `row` on are outputs. */
INLINE uint64_t rows_that_count(const Product *of, int64_t row) {
    return of->outputs - row >= ROWS ? 0xFF : (UINT64_C(1) << (of->outputs - row)) - 1;
}

/* Put a byte of eight rows into the words of `plane` that hold these rows' bits; the first byte of a word clears it. */
INLINE void put_bytes(uint64_t *plane, int64_t stride, int64_t row, int64_t column, const uint64_t *bytes,
                      uint64_t keep) {
    uint64_t *to = plane + (row >> 6) * stride + column;
    for (int c = 0; c < COLUMNS; c++) {
        uint64_t bits = (bytes[c] & keep) << (row & 63);
        to[c] = row & 63 ? to[c] | bits : bits;
    }
}

typedef struct {
    int64_t inputs;
    uint64_t *out;
} Majority;

INLINE void use_majority(const Product *of, int64_t row, int64_t column, const Counts *counts, const void *with) {
    const Majority *to = with;
    uint64_t bytes[COLUMNS];
    majority_bytes(counts, to->inputs >> 1, bytes);
    put_bytes(to->out, of->stride, row, column, bytes, rows_that_count(of, row));
}

/* Activations (words of outputs, count) of a layer with `inputs` inputs. */
static void majority_layer(const Product *of, int64_t inputs, uint64_t *out) {
    Majority to = {inputs, out};
    multiply(of, use_majority, &to);
}

typedef struct {
    const int16_t *totals;
    int64_t margin;
    uint64_t *sign, *near;
} Gate;

INLINE void use_gate(const Product *of, int64_t row, int64_t column, const Counts *counts, const void *with) {
    const Gate *to = with;
    uint64_t signs[COLUMNS], nears[COLUMNS];
    gated_bytes(counts, to->totals + column, to->margin, signs, nears);
    put_bytes(to->sign, of->stride, row, column, signs, rows_that_count(of, row));
    put_bytes(to->near, of->stride, row, column, nears, rows_that_count(of, row));
}

/* Signs of the dot products v = totals - 2 distance, and which of them are near zero: v >= 0 and |v| <= margin.
 * `totals` (count,) tells how many elements of each column count. */
INLINE void gated_layer(const Product *of, const int16_t *totals, int64_t margin, uint64_t *sign, uint64_t *near) {
    Gate to = {totals, min64(margin, INT16_MAX), sign, near};
    multiply(of, use_gate, &to);
}

#endif
