/* 512-bit vectors; included for AVX-512 without and with what `quads.h` needs, under the names and
 * with the target that kernels.c defines. */
#define LANES 16
#define TILE_ROWS 8
#define BLENDED 4
typedef __mmask16 NAME(mask);
#define NO_MASK 0
#define EITHER(a, b) _kor_mask16(a, b)
#define ANY(m) ((m) != 0)
#define VF __m512
#define VI __m512i
#define LOAD_F(p) _mm512_loadu_ps(p)
#define STORE_F(p, a) _mm512_storeu_ps(p, a)
#define ADD_F(a, b) _mm512_add_ps(a, b)
#define ALL_F(x) _mm512_set1_ps(x)
#define LOAD_B(p) \
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define LOAD_I(p) _mm512_loadu_si512(p)
#define STORE_I(p, a) _mm512_storeu_si512(p, a)
#define ADD_I(a, b) _mm512_add_epi32(a, b)
#define OR_I(a, b) _mm512_or_si512(a, b)
#define SHIFT_I(a, bits) _mm512_sll_epi32(a, _mm_cvtsi32_si128(bits))
#define ALL_I(x) _mm512_set1_epi32(x)
#define MIN_I(a, b) _mm512_min_epi32(a, b)
#define MAX_I(a, b) _mm512_max_epi32(a, b)
#define VH __m512i
#define LOAD_H LOAD_I
#define STORE_H STORE_I
#define ADD_H(a, b) _mm512_add_epi16(a, b)
#define ALL_H(x) _mm512_set1_epi16(x)
#define GATHER(base, index) _mm512_i32gather_ps(index, base, 4)
#define GATHER_B(base, index) NAME(gather_bytes)(base, index)
#define GREATER(a, b) _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)
#define UNORDERED(a, b) _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q)
#define BLEND(m, a, b) _mm512_mask_blend_ps(m, a, b)
#define NEXT_NODE(node, m) NAME(next_node)(node, m)
#define NODE_INDEX(node, width) \
    _mm512_add_epi32(_mm512_mullo_epi32(node, _mm512_set1_epi32((int32_t)(width))), \
                     _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
/* Reads three bytes beyond each one that is wanted. */
TARGET INLINE __m512 NAME(gather_bytes)(const int8_t *base, __m512i index)
{
    const __m512i found = _mm512_i32gather_epi32(index, base, 1);
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(found, 24), 24));
}
TARGET INLINE __m512i NAME(next_node)(__m512i node, __mmask16 right)
{
    const __m512i twice = _mm512_add_epi32(node, node);
    return _mm512_mask_add_epi32(twice, right, twice, _mm512_set1_epi32(1));
}
#define STORE_CODES(p, node) \
    _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtepi32_epi8(node))
/* The first decision is the highest bit. */
TARGET INLINE __m512i NAME(code_of_masks)(const __mmask16 *m, const size_t depth)
{
    __m512i code = _mm512_setzero_si512();
    UNROLL
    for (size_t level = 0; level < depth; level++)
        code = _mm512_mask_or_epi32(code, m[level], code,
                                    _mm512_set1_epi32(1 << (depth - 1 - level)));
    return code;
}
TARGET INLINE void NAME(store_masks)(uint8_t *to, const __mmask16 *m, const size_t depth)
{
    __m128i code = _mm_setzero_si128();
    UNROLL
    for (size_t level = 0; level < depth; level++)
        code = _mm_mask_add_epi8(code, m[level], code,
                                 _mm_set1_epi8((char)(1 << (depth - 1 - level))));
    _mm_storeu_si128((__m128i *)(void *)to, code);
}
#define CODES_FROM_MASKS 1
#define CODE_OF_MASKS(m, depth) NAME(code_of_masks)(m, depth)
#define STORE_MASKS(p, m, depth) NAME(store_masks)(p, m, depth)
#define FEW_LANES 4
#define FEW_VF __m128
#define FEW_LOAD_F _mm_loadu_ps
#define FEW_STORE_F _mm_storeu_ps
#define FEW_ADD_F _mm_add_ps
#define FEW_ALL_F _mm_set1_ps
#include "variant.h"
