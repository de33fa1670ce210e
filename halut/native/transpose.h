/* Rows of values become columns. */
#ifndef HALUT_TRANSPOSE_H
#define HALUT_TRANSPOSE_H
#ifdef HAS_X86
#define TARGET_VECTORS __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

/* Rows of 16 values become columns. */
TARGET_VECTORS INLINE void transpose_16(__m512 *r)
{
    __m512 t[16];
    UNROLL
    for (size_t i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL
    for (size_t i = 0; i < 16; i += 4) {
        for (size_t j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + j]),
                                                               _mm512_castps_pd(t[i + j + 2])));
            r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(
                _mm512_castps_pd(t[i + j]), _mm512_castps_pd(t[i + j + 2])));
        }
    }
    /* r[4 * i + j]: columns j, 4 + j, 8 + j, 12 + j of rows 4 * i to 4 * i + 3 */
    UNROLL
    for (size_t j = 0; j < 4; j++) {
        const __m512 low = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x44);
        const __m512 high = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xee);
        const __m512 low2 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x44);
        const __m512 high2 = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xee);
        t[j] = _mm512_shuffle_f32x4(low, low2, 0x88);
        t[4 + j] = _mm512_shuffle_f32x4(low, low2, 0xdd);
        t[8 + j] = _mm512_shuffle_f32x4(high, high2, 0x88);
        t[12 + j] = _mm512_shuffle_f32x4(high, high2, 0xdd);
    }
    UNROLL
    for (size_t i = 0; i < 16; i++)
        r[i] = t[i];
}
#endif

/* Rows (n, stride) of values as planes (n_columns, plane). */
static inline void transpose_portable(const float *rows, size_t stride, size_t n, size_t n_columns,
                               float *planes, size_t plane)
{
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < n_columns; c++)
            planes[c * plane + r] = rows[r * stride + c];
}

#ifdef HAS_X86
TARGET_VECTORS static inline void transpose_avx512(const float *rows, size_t stride, size_t n,
                                       size_t n_columns, float *planes, size_t plane)
{
    for (size_t r = 0; r < n; r += 16) {
        const size_t n_rows = smaller(16, n - r);
        const __mmask16 some_rows = (__mmask16)(0xffffU >> (16 - n_rows));
        for (size_t c = 0; c < n_columns; c += 16) {
            const size_t n_here = smaller(16, n_columns - c);
            const __mmask16 some = (__mmask16)(0xffffU >> (16 - n_here));
            __m512 block[16];
            UNROLL
            for (size_t i = 0; i < 16; i++)
                block[i] = i < n_rows ? _mm512_maskz_loadu_ps(some, rows + (r + i) * stride + c)
                                      : _mm512_setzero_ps();
            transpose_16(block);
            UNROLL
            for (size_t i = 0; i < 16; i++)
                if (i < n_here)
                    _mm512_mask_storeu_ps(planes + (c + i) * plane + r, some_rows, block[i]);
        }
    }
}
#endif

typedef void Transpose(const float *, size_t, size_t, size_t, float *, size_t);

/* Variants are numbered as in kernels.c. */
static inline Transpose *transpose_of(int variant)
{
#ifdef HAS_X86
    if (variant == 2 || variant == 3)
        return transpose_avx512;
#endif
    (void)variant;
    return transpose_portable;
}
#endif
