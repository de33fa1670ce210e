/* What the files of the library share: attributes of functions, memory, sizes. */
#ifndef HALUT_COMMON_H
#define HALUT_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAS_X86 1
#elif defined(__aarch64__) && defined(__GNUC__)
#include <arm_neon.h>
#define HAS_NEON 1
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define EXPORT __attribute__((visibility("default")))
#define PREFETCH(address) __builtin_prefetch((address), 0, 2)
#define PREFETCH_TO_WRITE(address) __builtin_prefetch((address), 1, 3)
#else
#define INLINE static inline
#define UNROLL
#define EXPORT
#define PREFETCH(address) ((void)(address))
#define PREFETCH_TO_WRITE(address) ((void)(address))
#endif

enum { TILE = 64 }; /* positions that are looked up together */

static inline size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t round_up(size_t value, size_t step)
{
    return (value + step - 1) / step * step;
}

/* Memory at a multiple of 64 bytes; `*block` is what is freed. */
static inline void *aligned(size_t count, size_t size, void **block)
{
    *block = count > (SIZE_MAX - 64) / size ? NULL : malloc(count * size + 64);
    if (*block == NULL)
        return NULL;
    return (void *)(((uintptr_t)*block + 63) & ~(uintptr_t)63);
}

#endif
