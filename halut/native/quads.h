/* For AVX-512 with VBMI and VNNI: trees of up to four levels, and tables of up to 16 one-byte
 * entries; four codebooks, a quad, go together.
 *
 * A word of codes holds in byte j 16 * j + code, the place in the 64 bytes of a quad's tables: one
 * permutation of bytes looks up four codebooks of one output for 16 positions, one dot product with
 * ones adds them. Tables are (outputs / 4, quads, 4, 64 bytes).
 *
 * A tree is a vector of thresholds for each level, (4, 16): at the place that the decisions so far
 * give, the first of them as the highest bit of a code.
 */
#ifndef HALUT_QUADS_H
#define HALUT_QUADS_H
#include "common.h"
#include "transpose.h"

enum {
    QUAD = 4,         /* codebooks whose tables of one output are 64 bytes */
    QUAD_OUTPUTS = 4, /* whose tables lie together */
    QUAD_ROWS = 64,   /* positions that are looked up together */
    QUAD_SLICE = 16,  /* outputs that are stored together, position by position */
    QUAD_DEPTH = 4,   /* levels of trees, at most */
    LEVEL = 16        /* thresholds of a level, filled up */
};

/* Thresholds, 2**depth - 1 of them, breadth-first, as levels. */
static inline void make_levels(const float *thresholds, size_t depth, float *levels)
{
    memset(levels, 0, QUAD_DEPTH * LEVEL * sizeof *levels);
    for (size_t level = 0; level < depth; level++)
        for (size_t i = 0; i < LEVEL; i++)
            levels[level * LEVEL + i] =
                thresholds[((size_t)1 << level) - 1 + (i >> (depth - level) & (((size_t)1 << level) - 1))];
}

#ifdef HAS_X86
#define TARGET_QUADS \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")))

/* Codes of 16 positions of one codebook, from a level's values each; `ordered` loses positions
 * where a value is NaN, and is NULL where nobody asks. */
TARGET_QUADS INLINE __m512i quad_code(const float *const *features, const float *levels,
                                      const size_t depth, size_t p, __mmask16 *ordered)
{
    __m512i code = _mm512_setzero_si512();
    __m512 before = _mm512_setzero_ps();
    UNROLL
    for (size_t level = 0; level < depth; level++) {
        const __m512 x = _mm512_loadu_ps(features[level] + p);
        const __m512 nodes = _mm512_loadu_ps(levels + level * LEVEL);
        const __m512 reached = level ? _mm512_permutexvar_ps(code, nodes) : nodes;
        const __mmask16 right = _mm512_cmp_ps_mask(x, reached, _CMP_GT_OQ);
        const __m512i bit = _mm512_set1_epi32(1 << (depth - 1 - level));
        code = level ? _mm512_mask_or_epi32(code, right, code, bit)
                     : _mm512_maskz_mov_epi32(right, bit);
        if (ordered != NULL && (level % 2 || level + 1 == depth))
            *ordered = _mm512_mask_cmp_ps_mask(*ordered, x, level % 2 ? before : x, _CMP_ORD_Q);
        before = x;
    }
    return code;
}

/* Four codebooks' codes as words; `place` is added to each. */
TARGET_QUADS INLINE __m512i quad_word(const __m512i *code, __m512i place)
{
    enum { OR_OF_THREE = 0xfe };
    const __m512i low = _mm512_ternarylogic_epi32(code[0], _mm512_slli_epi32(code[1], 8), place,
                                                  OR_OF_THREE);
    return _mm512_ternarylogic_epi32(low, _mm512_slli_epi32(code[2], 16),
                                     _mm512_slli_epi32(code[3], 24), OR_OF_THREE);
}

/* Words of a quad for n positions, filled up to 16, from features (QUAD, QUAD_DEPTH) and levels of
 * its codebooks. */
TARGET_QUADS INLINE void encode_quad(const float *const (*features)[QUAD_DEPTH],
                                     const float *const *levels, const size_t depth, size_t n,
                                     __m512i place, __mmask16 *ordered, uint32_t *words)
{
    for (size_t p = 0; p < n; p += 16) {
        __m512i code[QUAD];
        UNROLL
        for (size_t j = 0; j < QUAD; j++)
            code[j] = quad_code(features[j], levels[j], depth, p,
                                ordered == NULL ? NULL : ordered + j);
        _mm512_storeu_si512(words + p, quad_word(code, place));
    }
}

/* Sums (QUAD_OUTPUTS, QUAD_ROWS / 16) of 64 positions, as vectors; words of a quad are `step`
 * apart. */
TARGET_QUADS INLINE void add_quads(const uint32_t *words, size_t step, const int8_t *tables,
                                   size_t n_quads, __m512i *sum)
{
    enum { VECTORS = QUAD_ROWS / 16 };
    const __m512i ones = _mm512_set1_epi8(1);
    UNROLL
    for (size_t i = 0; i < QUAD_OUTPUTS * VECTORS; i++)
        sum[i] = _mm512_setzero_si512();
    for (size_t q = 0; q < n_quads; q++, words += step, tables += QUAD_OUTPUTS * 64) {
        __m512i word[VECTORS];
        UNROLL
        for (size_t i = 0; i < VECTORS; i++)
            word[i] = _mm512_loadu_si512(words + 16 * i);
        UNROLL
        for (size_t o = 0; o < QUAD_OUTPUTS; o++) {
            const __m512i entries = _mm512_loadu_si512(tables + o * 64);
            UNROLL
            for (size_t i = 0; i < VECTORS; i++)
                sum[o * VECTORS + i] = _mm512_dpbusd_epi32(
                    sum[o * VECTORS + i], ones, _mm512_permutexvar_epi8(word[i], entries));
        }
    }
}
#endif
#endif
