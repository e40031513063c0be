/* What a board does for `harness.c`: files of the machine that emulates it, and a count of instructions. */
#ifndef BNN_BOARD_H
#define BNN_BOARD_H

#include <stdint.h>

/* Open a file of the host to read, or to write; below 0 where there is none. */
int32_t board_open(const char *name, int writes);

/* Read `count` octets; whether all were there. */
int board_read(int32_t file, void *to, uint32_t count);

void board_write(int32_t file, const void *from, uint32_t count);

/* Ticks of a clock that `-icount shift=0` drives by instructions; 0 everywhere where there is no such clock. */
uint32_t board_ticks(void);

/* Ticks that have passed since. */
uint32_t board_passed(uint32_t since);

/* The lowest word that the stack may reach; 0 where that is not known. */
uint32_t *board_stack_end(void);

void board_exit(void);

#endif
