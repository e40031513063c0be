/* Groups of output bits vote for labels. */
#ifndef BNN_VOTES_H
#define BNN_VOTES_H

#include "evolve.h"

/* Ones in each group of `group` bits of the output columns (words, count): votes (classes, count). */
static void count_groups(const uint64_t *plane, int64_t stride, int64_t count, int64_t classes, int64_t group,
                         int16_t *votes) {
    memset(votes, 0, (size_t)(classes * count) * sizeof *votes);
    for (int64_t label = 0; label < classes; label++) {
        int64_t first = label * group, last = first + group;
        for (int64_t word = first / 64; word <= (last - 1) / 64; word++) {
            uint64_t mask = group_mask(word, first, last);
            const uint64_t *bits = plane + word * stride;
            for (int64_t s = 0; s < count; s++)
                votes[label * count + s] += (int16_t)__builtin_popcountll(bits[s] & mask);
        }
    }
}

typedef struct {
    int64_t hit, lead;
} Verdict;

/* Whether one sample's votes, `step` apart, decide for `label`, the lowest label winning a tie, and the label's lead
 * over the best other, clipped to +-margin. */
INLINE Verdict judge(const int16_t *votes, int64_t step, int64_t classes, int64_t label, int64_t margin) {
    int64_t own = votes[label * step], strongest = -1; /* twice the votes, plus one where a tie is lost */
    for (int64_t other = 0; other < classes; other++)
        if (other != label) strongest = max64(strongest, 2 * votes[other * step] + (other < label));
    return (Verdict){2 * own >= strongest, max64(-margin, min64(margin, own - (strongest >> 1)))};
}

#endif
