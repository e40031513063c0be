/* Classifies every image of the file `images`, and writes to the file `answers`, for each: label, ticks, bytes of stack,
 * scores. */
#include "board.h"
#include "model.h"

enum { PAINT = 0x5A5A5A5A };

static uint8_t octets[MODEL_IMAGE_BYTES];

#if defined(__arm__) || defined(__riscv)
#if defined(__arm__)
#define STACK_POINTER "sp"
#else
#define STACK_POINTER "x2"
#endif

/* How far below this function's own frame the stack has been used: what is painted there and no longer is. */
__attribute__((noinline)) static int32_t classify(uint32_t *ticks, uint32_t *stack_bytes) {
    register uint32_t *top __asm__(STACK_POINTER);
    uint32_t *const end = board_stack_end(), *const from = top;
    uint32_t *word, start;
    int32_t label;
    for (word = end; word < from; word++) *(volatile uint32_t *)word = PAINT;
    start = board_ticks();
    label = model_predict(octets);
    *ticks = board_passed(start);
    for (word = end; word < from && *word == PAINT;) word++;
    *stack_bytes = (uint32_t)((uint8_t *)from - (uint8_t *)word);
    return label;
}
#else
static int32_t classify(uint32_t *ticks, uint32_t *stack_bytes) {
    *ticks = *stack_bytes = 0;
    return model_predict(octets);
}
#endif

int main(void) {
    int32_t images = board_open("images", 0), answers = board_open("answers", 1);
    while (board_read(images, octets, MODEL_IMAGE_BYTES)) {
        uint32_t told[3];
        told[0] = (uint32_t)classify(&told[1], &told[2]);
        board_write(answers, told, sizeof told);
        board_write(answers, model_scores(), MODEL_CLASSES * sizeof(MODEL_NUMBER));
    }
    board_exit();
    return 0;
}
