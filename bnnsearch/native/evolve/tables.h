/* Products by tables, where AVX2 counts no words: for four bits of a weight, a table of 16 bytes tells how many of four
 * bits of a sample differ from them, and `vpshufb` looks 32 samples up at once: two operations for 128 binary products,
 * where counting the words of a difference takes eight for 256. Included by layers.h. */

#define POP(v) (((v) & 1) + ((v) >> 1 & 1) + ((v) >> 2 & 1) + ((v) >> 3 & 1))
#define TABLE(w)                                                                                                 \
    {POP(0 ^ w), POP(1 ^ w), POP(2 ^ w),  POP(3 ^ w),  POP(4 ^ w),  POP(5 ^ w),  POP(6 ^ w),  POP(7 ^ w),        \
     POP(8 ^ w), POP(9 ^ w), POP(10 ^ w), POP(11 ^ w), POP(12 ^ w), POP(13 ^ w), POP(14 ^ w), POP(15 ^ w)}

enum {
    STRIP = 64,              /* samples of which the bytes lie side by side */
    PART = 4,                /* rows at a time, by registers */
    MOST_BYTES = 32768 / 8,  /* of a sample: distances are 16-bit integers */
    STEPS = 31               /* bytes of at most 8 ones that fit into a byte */
};

typedef uint8_t Strip[STRIP];

/* Byte k of each of 64 columns, for all k. */
static void split_bytes(const Product *of, int64_t column, Strip *bytes) {
    for (int64_t word = 0; word < of->words; word++)
        for (int k = 0; k < 8; k++)
            for (int c = 0; c < STRIP; c++)
                bytes[word * 8 + k][c] = (uint8_t)(of->columns[word * of->stride + column + c] >> 8 * k);
}

/* Add the differences of `steps` bytes of four rows to their counts. */
INLINE void count_steps(const Strip *bytes, const uint8_t *const rows[PART], int64_t first, int64_t steps,
                        uint16_t counts[PART][STRIP]) {
    static const uint8_t tables[16][16] = {TABLE(0),  TABLE(1),  TABLE(2),  TABLE(3),  TABLE(4),  TABLE(5),
                                           TABLE(6),  TABLE(7),  TABLE(8),  TABLE(9),  TABLE(10), TABLE(11),
                                           TABLE(12), TABLE(13), TABLE(14), TABLE(15)};
    const __m256i low = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    __m256i sums[PART][2];
    for (int r = 0; r < PART; r++) sums[r][0] = sums[r][1] = zero;
    for (int64_t k = first; k < first + steps; k++) {
        __m256i lower[2], upper[2];
        for (int half = 0; half < 2; half++) {
            __m256i both = _mm256_loadu_si256((const __m256i *)(bytes[k] + 32 * half));
            lower[half] = _mm256_and_si256(both, low);
            upper[half] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
        }
        for (int r = 0; r < PART; r++) {
            const __m128i *at = (const __m128i *)tables;
            __m256i of_lower = _mm256_broadcastsi128_si256(_mm_loadu_si128(at + (rows[r][k] & 15)));
            __m256i of_upper = _mm256_broadcastsi128_si256(_mm_loadu_si128(at + (rows[r][k] >> 4)));
            for (int half = 0; half < 2; half++) {
                sums[r][half] = _mm256_add_epi8(sums[r][half], _mm256_shuffle_epi8(of_lower, lower[half]));
                sums[r][half] = _mm256_add_epi8(sums[r][half], _mm256_shuffle_epi8(of_upper, upper[half]));
            }
        }
    }
    for (int r = 0; r < PART; r++)
        for (int c = 0; c < STRIP; c += 16) {
            __m128i octets = c & 16 ? _mm256_extracti128_si256(sums[r][c / 32], 1) : _mm256_castsi256_si128(sums[r][c / 32]);
            __m256i old = _mm256_loadu_si256((const __m256i *)(counts[r] + c));
            _mm256_storeu_si256((__m256i *)(counts[r] + c), _mm256_add_epi16(old, _mm256_cvtepu8_epi16(octets)));
        }
}

/* As `multiply`, for columns in multiples of 64 that all count. */
INLINE void multiply_by_tables(const Product *of, Use *use, const void *with) {
    Strip bytes[MOST_BYTES];
    for (int64_t column = 0; column < of->count; column += STRIP) {
        split_bytes(of, column, bytes);
        for (int64_t row = 0; row < of->outputs; row += ROWS) {
            uint16_t counts[ROWS][STRIP];
            memset(counts, 0, sizeof counts);
            for (int part = 0; part < ROWS; part += PART) {
                const uint8_t *rows[PART];
                for (int r = 0; r < PART; r++)
                    rows[r] = (const uint8_t *)(of->rows + (row + part + r) * of->words);
                for (int64_t k = 0; k < of->words * 8; k += STEPS)
                    count_steps(bytes, rows, k, min64(STEPS, of->words * 8 - k), counts + part);
            }
            for (int c = 0; c < STRIP; c += COLUMNS) {
                Counts tile;
                for (int r = 0; r < ROWS; r++) memcpy(tile.rows[r], counts[r] + c, sizeof tile.rows[r]);
                use(of, row, column + c, &tile, with);
            }
        }
    }
}

#undef POP
#undef TABLE
