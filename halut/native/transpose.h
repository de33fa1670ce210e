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
#endif
