/* Which builds of the kernels run on this processor: dispatched once, when the library is loaded. */

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>

static uint64_t saved_registers(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Best first. The operating system must save the registers: bits 1, 2 of XCR0 for AVX, 5 to 7 for AVX-512 as well. */
const char *bnn_variants(void) {
    uint32_t a, b, c, d, features, more;
    if (!__get_cpuid(1, &a, &b, &features, &d) || !(features >> 27 & 1)) return "portable";
    uint64_t saved = saved_registers();
    if (!__get_cpuid_count(7, 0, &a, &b, &more, &d)) return "portable";
    int fused = features >> 12 & 1, popcount = features >> 23 & 1, avx2 = b >> 5 & 1, bmi = (b >> 3 & b >> 8) & 1;
    uint32_t lzcnt = 0;
    if (__get_cpuid(0x80000001, &a, &d, &c, &d)) lzcnt = c >> 5 & 1;
    if (!(fused && popcount && avx2 && bmi && lzcnt) || (saved & 0x6) != 0x6) return "portable";
    const uint32_t wide = UINT32_C(1) << 16 | UINT32_C(1) << 17 | UINT32_C(1) << 28 | UINT32_C(1) << 30 | UINT32_C(1) << 31;
    int vector_popcount = more >> 14 & 1;
    if ((b & wide) != wide || !vector_popcount || (saved & 0xE6) != 0xE6) return "avx2 portable";
    return "avx512 avx2 portable";
}
#elif defined(__aarch64__)
const char *bnn_variants(void) { return "neon portable"; }
#else
const char *bnn_variants(void) { return "portable"; }
#endif
