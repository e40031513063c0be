/* A machine with an operating system, or one that emulates it. */
#include <stdio.h>
#include <stdlib.h>

#include "board.h"

static FILE *files[2];

int32_t board_open(const char *name, int writes) {
    files[writes] = fopen(name, writes ? "wb" : "rb");
    if (!files[writes]) exit(1);
    return writes;
}

int board_read(int32_t file, void *to, uint32_t count) { return fread(to, 1, count, files[file]) == count; }

void board_write(int32_t file, const void *from, uint32_t count) {
    if (fwrite(from, 1, count, files[file]) != count) exit(1);
}

uint32_t board_ticks(void) { return 0; }

uint32_t board_passed(uint32_t since) { return since; }

uint32_t *board_stack_end(void) { return 0; }

void board_exit(void) { exit(fclose(files[1])); }
