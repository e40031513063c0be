/* Bare metal below an emulator: start-up, and files of the host by Arm's semihosting, which RISC-V has taken over. */
#include "board.h"

enum { SYS_OPEN = 1, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT = 0x18, EXITED = 0x20026 };

extern uint32_t stack_top[], data_from[], data_start[], data_end[], bss_start[], bss_end[];

int main(void);

#if defined(__arm__)

static int32_t call(int32_t operation, const void *arguments) {
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

#define SYSTICK ((volatile uint32_t *)0xE000E010)
#define CPACR (*(volatile uint32_t *)0xE000ED88)

uint32_t board_ticks(void) {
    SYSTICK[1] = 0xFFFFFF, SYSTICK[2] = 0, SYSTICK[0] = 5;
    return SYSTICK[2];
}

uint32_t board_passed(uint32_t since) { return (since - SYSTICK[2]) & 0xFFFFFF; }

#else

static int32_t call(int32_t operation, const void *arguments) {
    register int32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = arguments;
    __asm__ volatile(".option push\n.option norvc\n.balign 16\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
}

uint32_t board_ticks(void) {
    uint32_t count;
    __asm__ volatile(".option push\n.option arch, +zicsr\ncsrr %0, minstret\n.option pop" : "=r"(count));
    return count;
}

uint32_t board_passed(uint32_t since) { return board_ticks() - since; }

#endif

static void start(void) {
    const uint32_t *from = data_from;
    uint32_t *to;
#if defined(__ARM_FP)
    CPACR |= 0xFu << 20;
#endif
    for (to = data_start; to < data_end;) *to++ = *from++;
    for (to = bss_start; to < bss_end;) *to++ = 0;
    main();
    board_exit();
}

#if defined(__arm__)

void reset(void) { start(); }

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {stack_top, (const void *)reset};

#else

void begin(void) { start(); }

__asm__(".section .vectors, \"ax\"\n.globl reset\nreset:\nla sp, stack_top\nj begin\n.previous");

#endif

int32_t board_open(const char *name, int writes) {
    uintptr_t length = 0, arguments[3];
    while (name[length]) length++;
    arguments[0] = (uintptr_t)name, arguments[1] = writes ? 5 : 1, arguments[2] = length; /* "wb", "rb" */
    return call(SYS_OPEN, arguments);
}

int board_read(int32_t file, void *to, uint32_t count) {
    uintptr_t arguments[3] = {(uintptr_t)file, (uintptr_t)to, count};
    return call(SYS_READ, arguments) == 0;
}

void board_write(int32_t file, const void *from, uint32_t count) {
    uintptr_t arguments[3] = {(uintptr_t)file, (uintptr_t)from, count};
    call(SYS_WRITE, arguments);
}

uint32_t *board_stack_end(void) { return bss_end; }

void board_exit(void) {
    call(SYS_EXIT, (const void *)EXITED);
    for (;;) {}
}
