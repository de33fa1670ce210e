/* What learning does with many rows of floats: lay them out as columns, and add them up. */
#include "common.h"
#include "transpose.h"

#ifdef HAS_X86
/* Whole blocks of 16 rows and 16 columns, to addresses that are multiples of 64: past the caches, in
 * which columns that are a power of two apart would share places. */
TARGET_VECTORS static void stream_columns(const float *rows, size_t n, size_t n_columns,
                                          float *columns, size_t plane)
{
    for (size_t c = 0; c < n_columns; c += 16)
        for (size_t r = 0; r < n; r += 16) {
            __m512 block[16];
            UNROLL
            for (size_t i = 0; i < 16; i++)
                block[i] = _mm512_loadu_ps(rows + (r + i) * n_columns + c);
            transpose_16(block);
            UNROLL
            for (size_t i = 0; i < 16; i++)
                _mm512_stream_ps(columns + (c + i) * plane + r, block[i]);
        }
    _mm_sfence();
}
#endif

/* Rows (n, n_columns) as columns `plane` apart. */
EXPORT int halut_columns(int variant, const float *rows, size_t n, size_t n_columns,
                         float *columns, size_t plane)
{
#ifdef HAS_X86
    const int whole = n % 16 == 0 && n_columns % 16 == 0 && plane % 16 == 0;
    if ((variant == 2 || variant == 3) && whole && (uintptr_t)columns % 64 == 0) {
        stream_columns(rows, n, n_columns, columns, plane);
        return 0;
    }
#endif
    transpose_of(variant)(rows, n_columns, n, n_columns, columns, plane);
    return 0;
}

INLINE void add_up_rows(const float *restrict rows, size_t n, size_t n_columns,
                        double *restrict sums)
{
    enum { AT_ONCE = 4 };
    size_t r = 0;
    memset(sums, 0, n_columns * sizeof *sums);
    for (; r + AT_ONCE <= n; r += AT_ONCE, rows += AT_ONCE * n_columns)
        for (size_t c = 0; c < n_columns; c++)
            sums[c] = sums[c] + rows[c] + rows[n_columns + c] + rows[2 * n_columns + c] +
                      rows[3 * n_columns + c];
    for (; r < n; r++, rows += n_columns)
        for (size_t c = 0; c < n_columns; c++)
            sums[c] += rows[c];
}

static void add_up_portable(const float *rows, size_t n, size_t n_columns, double *sums)
{
    add_up_rows(rows, n, n_columns, sums);
}

#ifdef HAS_X86
TARGET_VECTORS static void add_up_avx512(const float *rows, size_t n, size_t n_columns,
                                         double *sums)
{
    add_up_rows(rows, n, n_columns, sums);
}
#endif

/* The sums of the columns of rows (n, n_columns), row by row, in doubles. */
EXPORT int halut_add_up_rows(int variant, const float *rows, size_t n, size_t n_columns,
                             double *sums)
{
#ifdef HAS_X86
    if (variant == 2 || variant == 3) {
        add_up_avx512(rows, n, n_columns, sums);
        return 0;
    }
#endif
    (void)variant;
    add_up_portable(rows, n, n_columns, sums);
    return 0;
}
