/* 256-bit vectors. */
#define VARIANT avx2
#define TARGET __attribute__((target("avx2")))
#define LANES 8
#define TILE_ROWS 6
#define BLENDED 4
typedef __m256 mask_avx2;
#define NO_MASK _mm256_setzero_ps()
#define EITHER(a, b) _mm256_or_ps(a, b)
#define ANY(m) (_mm256_movemask_ps(m) != 0)
#define VF __m256
#define VI __m256i
#define LOAD_F(p) _mm256_loadu_ps(p)
#define STORE_F(p, a) _mm256_storeu_ps(p, a)
#define ADD_F(a, b) _mm256_add_ps(a, b)
#define ALL_F(x) _mm256_set1_ps(x)
#define LOAD_B(p) \
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define LOAD_I(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE_I(p, a) _mm256_storeu_si256((__m256i *)(void *)(p), a)
#define ADD_I(a, b) _mm256_add_epi32(a, b)
#define OR_I(a, b) _mm256_or_si256(a, b)
#define SHIFT_I(a, bits) _mm256_sll_epi32(a, _mm_cvtsi32_si128(bits))
#define ALL_I(x) _mm256_set1_epi32(x)
#define MIN_I(a, b) _mm256_min_epi32(a, b)
#define MAX_I(a, b) _mm256_max_epi32(a, b)
#define VH __m256i
#define LOAD_H LOAD_I
#define STORE_H STORE_I
#define ADD_H(a, b) _mm256_add_epi16(a, b)
#define ALL_H(x) _mm256_set1_epi16(x)
#define GATHER(base, index) _mm256_i32gather_ps(base, index, 4)
#define GATHER_B(base, index) gather_bytes_avx2(base, index)
#define GREATER(a, b) _mm256_cmp_ps(a, b, _CMP_GT_OQ)
#define UNORDERED(a, b) _mm256_cmp_ps(a, b, _CMP_UNORD_Q)
#define BLEND(m, a, b) _mm256_blendv_ps(a, b, m)
#define NEXT_NODE(node, m) \
    _mm256_sub_epi32(_mm256_add_epi32(node, node), _mm256_castps_si256(m))
#define NODE_INDEX(node, width) \
    _mm256_add_epi32(_mm256_mullo_epi32(node, _mm256_set1_epi32((int32_t)(width))), \
                     _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
/* Reads three bytes beyond each one that is wanted. */
TARGET INLINE __m256 gather_bytes_avx2(const int8_t *base, __m256i index)
{
    const __m256i found = _mm256_i32gather_epi32((const int *)(const void *)base, index, 1);
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(found, 24), 24));
}
TARGET INLINE void store_codes_avx2(uint8_t *to, __m256i node)
{
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(node), _mm256_extracti128_si256(node, 1));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packus_epi16(words, words));
}
#define STORE_CODES(p, node) store_codes_avx2(p, node)
#define CODES_FROM_MASKS 0
#define CODE_OF_MASKS(m, depth) ALL_I(0)
#define STORE_MASKS(p, m, depth) ((void)(p))
#define FEW_LANES 4
#define FEW_VF __m128
#define FEW_LOAD_F _mm_loadu_ps
#define FEW_STORE_F _mm_storeu_ps
#define FEW_ADD_F _mm_add_ps
#define FEW_ALL_F _mm_set1_ps
#include "variant.h"
