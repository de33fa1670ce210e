/* Encode, look up and accumulate: what halut.golden computes, bit by bit.
 *
 * The kernels are written once, in variant.h and look_up.h, and compiled once per variant. Which of
 * them a processor can run is asked at run time. All variants give the same bits: integers are
 * exact, and floats are added in one stated order, without fused multiplication.
 *
 * Shapes: rows (N, D), any strides; codes (N, C), uint8; tables (M, C, K); results (N, M).
 * Every function returns 0, or 1 when there is not enough memory.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HAS_X86 1
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define PREFETCH(address) __builtin_prefetch((address), 0, 2)
#else
#define INLINE static inline
#define UNROLL
#define PREFETCH(address) ((void)(address))
#endif

#define EXPORT
#if defined(__GNUC__)
#undef EXPORT
#define EXPORT __attribute__((visibility("default")))
#endif

enum {
    SLICE = 16,            /* outputs whose sums are in registers at once */
    FEW = 4,               /* outputs of a last slice that has no more */
    GROUP = 16,            /* codebooks that are encoded, and looked up, together */
    ROWS = 128,            /* rows in a block, at most */
    BLOCK_BYTES = 1 << 19, /* of a block's rows, in the cache of the second level */
    NEAR_ROWS = 8          /* rows that are encoded together, in the cache of the first level */
};

/* Trees, laid out so that neighbouring codebooks are neighbours in memory. */
typedef struct {
    ptrdiff_t row_stride;    /* in floats */
    size_t n_codebooks;      /* filled up */
    size_t depth;
    const int32_t *places;   /* (depth, n_codebooks): where a level's value lies in its row */
    const float *thresholds; /* (2**depth - 1, n_codebooks) */
} Trees;

/* Memory that is read soon. */
typedef struct {
    const char *next, *end;
    size_t lines; /* for every eight rows of a pass */
} Ahead;

/* What an integer accumulator that is too narrow does after every so many codebooks. */
typedef struct {
    int32_t low, high;
    size_t every; /* 0: nothing */
} Clip;

/* One pass: a slice of outputs and a group of codebooks, for a block of rows. */
typedef struct {
    const void *table;    /* (codebooks of the group, K, SLICE), 4 bytes each */
    size_t table_span;    /* entries of one codebook: K * SLICE */
    const uint8_t *codes; /* (rows, GROUP) */
    size_t first, end;    /* the group's codebooks */
    size_t n_codebooks;   /* of all groups */
    size_t n_rows;
    size_t n_outputs;     /* of the slice: FEW or SLICE, filled up */
    const void *sums;     /* (rows, SLICE) of the groups before; not read for the first group */
    void *to;             /* where the sums go to */
    size_t to_stride;
    Clip clip;
    Ahead *ahead;
} Pass;

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define NAME(stem) JOIN(stem, VARIANT)

/* ---- portable: one value at a time; the compiler makes vectors of its own */
#define VARIANT portable
#define TARGET
#define LANES 1
#define TILE_ROWS 1
#define BLENDED 0
typedef int32_t mask_portable;
#define VF float
#define VI int32_t
#define LOAD_F(p) (*(p))
#define STORE_F(p, a) (*(p) = (a))
#define ADD_F(a, b) ((a) + (b))
#define LOAD_I(p) (*(p))
#define STORE_I(p, a) (*(p) = (a))
#define ADD_I(a, b) ((int32_t)((uint32_t)(a) + (uint32_t)(b)))
#define ALL_I(x) (x)
#define MIN_I(a, b) ((a) < (b) ? (a) : (b))
#define MAX_I(a, b) ((a) > (b) ? (a) : (b))
#define GATHER(base, index) ((base)[index])
#define GREATER(a, b) ((a) > (b))
#define BLEND(m, a, b) ((m) ? (b) : (a))
#define NEXT_NODE(node, m) (2 * (node) + (m))
#define NODE_INDEX(node, width) ((node) * (int32_t)(width))
#define STORE_CODES(p, node) (*(p) = (uint8_t)(node))
#define CODES_FROM_MASKS 0
#define STORE_MASKS(p, m, depth) ((void)(p))
#define FEW_LANES 1
#define FEW_VF float
#define FEW_LOAD_F LOAD_F
#define FEW_STORE_F STORE_F
#define FEW_ADD_F ADD_F
#include "variant.h"

#ifdef HAS_X86
/* ---- AVX2 */
#define VARIANT avx2
#define TARGET __attribute__((target("avx2")))
#define LANES 8
#define TILE_ROWS 6
#define BLENDED 4
typedef __m256 mask_avx2;
#define VF __m256
#define VI __m256i
#define LOAD_F(p) _mm256_loadu_ps(p)
#define STORE_F(p, a) _mm256_storeu_ps(p, a)
#define ADD_F(a, b) _mm256_add_ps(a, b)
#define LOAD_I(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE_I(p, a) _mm256_storeu_si256((__m256i *)(void *)(p), a)
#define ADD_I(a, b) _mm256_add_epi32(a, b)
#define ALL_I(x) _mm256_set1_epi32(x)
#define MIN_I(a, b) _mm256_min_epi32(a, b)
#define MAX_I(a, b) _mm256_max_epi32(a, b)
#define GATHER(base, index) _mm256_i32gather_ps(base, index, 4)
#define GREATER(a, b) _mm256_cmp_ps(a, b, _CMP_GT_OQ)
#define BLEND(m, a, b) _mm256_blendv_ps(a, b, m)
#define NEXT_NODE(node, m) \
    _mm256_sub_epi32(_mm256_add_epi32(node, node), _mm256_castps_si256(m))
#define NODE_INDEX(node, width) \
    _mm256_add_epi32(_mm256_mullo_epi32(node, _mm256_set1_epi32((int32_t)(width))), \
                     _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
TARGET INLINE void store_codes_avx2(uint8_t *to, __m256i node)
{
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(node), _mm256_extracti128_si256(node, 1));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packus_epi16(words, words));
}
#define STORE_CODES(p, node) store_codes_avx2(p, node)
#define CODES_FROM_MASKS 0
#define STORE_MASKS(p, m, depth) ((void)(p))
#define FEW_LANES 4
#define FEW_VF __m128
#define FEW_LOAD_F _mm_loadu_ps
#define FEW_STORE_F _mm_storeu_ps
#define FEW_ADD_F _mm_add_ps
#include "variant.h"

/* ---- AVX-512 */
#define VARIANT avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define LANES 16
#define TILE_ROWS 8
#define BLENDED 4
typedef __mmask16 mask_avx512;
#define VF __m512
#define VI __m512i
#define LOAD_F(p) _mm512_loadu_ps(p)
#define STORE_F(p, a) _mm512_storeu_ps(p, a)
#define ADD_F(a, b) _mm512_add_ps(a, b)
#define LOAD_I(p) _mm512_loadu_si512(p)
#define STORE_I(p, a) _mm512_storeu_si512(p, a)
#define ADD_I(a, b) _mm512_add_epi32(a, b)
#define ALL_I(x) _mm512_set1_epi32(x)
#define MIN_I(a, b) _mm512_min_epi32(a, b)
#define MAX_I(a, b) _mm512_max_epi32(a, b)
#define GATHER(base, index) _mm512_i32gather_ps(index, base, 4)
#define GREATER(a, b) _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)
#define BLEND(m, a, b) _mm512_mask_blend_ps(m, a, b)
#define NEXT_NODE(node, m) next_node_avx512(node, m)
#define NODE_INDEX(node, width) \
    _mm512_add_epi32(_mm512_mullo_epi32(node, _mm512_set1_epi32((int32_t)(width))), \
                     _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
TARGET INLINE __m512i next_node_avx512(__m512i node, __mmask16 right)
{
    const __m512i twice = _mm512_add_epi32(node, node);
    return _mm512_mask_add_epi32(twice, right, twice, _mm512_set1_epi32(1));
}
#define STORE_CODES(p, node) \
    _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtepi32_epi8(node))
/* The first decision is the highest bit. */
TARGET INLINE void store_masks_avx512(uint8_t *to, const __mmask16 *m, const size_t depth)
{
    __m128i code = _mm_setzero_si128();
    UNROLL
    for (size_t level = 0; level < depth; level++)
        code = _mm_mask_add_epi8(code, m[level], code,
                                 _mm_set1_epi8((char)(1 << (depth - 1 - level))));
    _mm_storeu_si128((__m128i *)(void *)to, code);
}
#define CODES_FROM_MASKS 1
#define STORE_MASKS(p, m, depth) store_masks_avx512(p, m, depth)
#define FEW_LANES 4
#define FEW_VF __m128
#define FEW_LOAD_F _mm_loadu_ps
#define FEW_STORE_F _mm_storeu_ps
#define FEW_ADD_F _mm_add_ps
#include "variant.h"
#endif

/* ---- choosing a variant */
typedef struct {
    void (*encode)(const Trees *, const float *, size_t, uint8_t *);
    void (*look_up_f)(const Pass *);
    void (*look_up_i)(const Pass *);
    void (*add_in_order)(const float *, size_t, const uint8_t *, const int32_t *, size_t, float *,
                         float *);
} Variant;

#define KERNELS(name) {encode_##name, look_up_f_##name, look_up_i_##name, add_in_order_##name}
static const Variant variants[] = {
    KERNELS(portable),
#ifdef HAS_X86
    KERNELS(avx2),
    KERNELS(avx512),
#endif
};

#ifndef HALUT_SOURCES
#define HALUT_SOURCES ""
#endif
/* The fingerprint of the sources, by which a library of older ones is known. */
EXPORT const char *const halut_sources = HALUT_SOURCES;

EXPORT int halut_supports(int variant)
{
    if (variant == 0)
        return 1;
#ifdef HAS_X86
    __builtin_cpu_init();
    if (variant == 1)
        return __builtin_cpu_supports("avx2") != 0;
    if (variant == 2)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
    return 0;
}

/* ---- memory */
static size_t round_up(size_t value, size_t step)
{
    return (value + step - 1) / step * step;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Memory at a multiple of 64 bytes; `*block` is what is freed. */
static void *aligned(size_t count, size_t size, void **block)
{
    *block = count > (SIZE_MAX - 64) / size ? NULL : malloc(count * size + 64);
    if (*block == NULL)
        return NULL;
    return (void *)(((uintptr_t)*block + 63) & ~(uintptr_t)63);
}

/* ---- layouts */
static int make_trees(Trees *trees, void **block, ptrdiff_t row_stride, ptrdiff_t column_stride,
                      size_t n_codebooks, size_t depth, const int32_t *dims,
                      const float *thresholds)
{
    const size_t n_nodes = ((size_t)1 << depth) - 1;
    const size_t padded = round_up(n_codebooks, GROUP);
    float *nodes = aligned((n_nodes + depth) * padded, 4, block);
    if (nodes == NULL)
        return 1;
    int32_t *places = (int32_t *)(void *)(nodes + n_nodes * padded);
    memset(nodes, 0, (n_nodes + depth) * padded * 4);
    for (size_t c = 0; c < n_codebooks; c++) {
        for (size_t n = 0; n < n_nodes; n++)
            nodes[n * padded + c] = thresholds[c * n_nodes + n];
        for (size_t t = 0; t < depth; t++)
            places[t * padded + c] = (int32_t)(dims[c * depth + t] * column_stride);
    }
    trees->row_stride = row_stride;
    trees->n_codebooks = padded;
    trees->depth = depth;
    trees->places = places;
    trees->thresholds = nodes;
    return 0;
}

/* Tables (M, C, K) of `kind` as (slices, C, K, SLICE), filled up with zeros. */
enum { FLOATS = 0, BYTES = 1, WORDS = 2 };

static void *make_tables(void **block, int kind, const void *lut, const float *offset,
                         size_t n_codebooks, size_t n_prototypes, size_t n_outputs)
{
    const size_t n_slices = round_up(n_outputs, SLICE) / SLICE;
    const size_t span = n_codebooks * n_prototypes;
    int32_t *tables = aligned(n_slices * span * SLICE, 4, block);
    if (tables == NULL)
        return NULL;
    if (n_outputs % SLICE)
        memset(tables + (n_slices - 1) * span * SLICE, 0, span * SLICE * 4);
    for (size_t c = 0; c < n_codebooks; c++)
        for (size_t m = 0; m < n_outputs; m++) {
            const size_t from = m * span + c * n_prototypes;
            int32_t *to = tables + (m / SLICE * span + c * n_prototypes) * SLICE + m % SLICE;
            if (kind == FLOATS) {
                const float *row = (const float *)lut + from;
                for (size_t k = 0; k < n_prototypes; k++) {
                    const float entry = c == 0 && offset != NULL ? row[k] + offset[m] : row[k];
                    memcpy(to + k * SLICE, &entry, 4);
                }
            } else if (kind == BYTES) {
                for (size_t k = 0; k < n_prototypes; k++)
                    to[k * SLICE] = ((const int8_t *)lut)[from + k];
            } else {
                for (size_t k = 0; k < n_prototypes; k++)
                    to[k * SLICE] = ((const int16_t *)lut)[from + k];
            }
        }
    return tables;
}

/* ---- the work on a block of rows; its codes are (groups, ROWS, GROUP) */
typedef struct {
    const Variant *variant;
    int is_float;
    const void *tables;
    void *scratch; /* (ROWS, SLICE) */
    size_t n_codebooks, n_prototypes, n_outputs;
    Clip clip;
} Product;

static void look_up_block(const Product *p, const uint8_t *codes, size_t n_rows, void *out,
                          Ahead *ahead)
{
    const size_t span = p->n_prototypes * SLICE;
    const size_t n_slices = round_up(p->n_outputs, SLICE) / SLICE;
    const size_t n_passes = n_slices * round_up(p->n_codebooks, GROUP) / GROUP;
    if (ahead != NULL)
        ahead->lines = (size_t)(ahead->end - ahead->next) / 64 / (n_passes * n_rows / 8 + 1) + 1;
    for (size_t s = 0; s < n_slices; s++) {
        const size_t left = p->n_outputs - s * SLICE;
        for (size_t c = 0; c < p->n_codebooks; c += GROUP) {
            const size_t end = smaller(c + GROUP, p->n_codebooks);
            const int direct = end == p->n_codebooks && left >= SLICE;
            const Pass pass = {
                (const char *)p->tables + (s * p->n_codebooks + c) * span * 4,
                span,
                codes + c * ROWS,
                c,
                end,
                p->n_codebooks,
                n_rows,
                left <= FEW && p->is_float ? FEW : SLICE,
                p->scratch,
                direct ? (char *)out + s * SLICE * 4 : p->scratch,
                direct ? p->n_outputs : SLICE,
                p->clip,
                ahead,
            };
            (p->is_float ? p->variant->look_up_f : p->variant->look_up_i)(&pass);
        }
        if (left < SLICE)
            for (size_t r = 0; r < n_rows; r++)
                memcpy((char *)out + (r * p->n_outputs + s * SLICE) * 4,
                       (const char *)p->scratch + r * SLICE * 4, left * 4);
    }
}

/* Between codes (rows, codebooks) and (groups, ROWS, GROUP). */
static void group_codes(uint8_t *grouped, const uint8_t *codes, size_t n_rows, size_t n_codebooks)
{
    for (size_t c = 0; c < n_codebooks; c += GROUP)
        for (size_t r = 0; r < n_rows; r++)
            memcpy(grouped + c * ROWS + r * GROUP, codes + r * n_codebooks + c,
                   smaller(GROUP, n_codebooks - c));
}

static void ungroup_codes(uint8_t *codes, const uint8_t *grouped, size_t n_rows,
                          size_t n_codebooks)
{
    for (size_t c = 0; c < n_codebooks; c += GROUP)
        for (size_t r = 0; r < n_rows; r++)
            memcpy(codes + r * n_codebooks + c, grouped + c * ROWS + r * GROUP,
                   smaller(GROUP, n_codebooks - c));
}

/* ---- what Python calls */
EXPORT int halut_encode(int variant, const float *rows, size_t n_rows, ptrdiff_t row_stride,
                        ptrdiff_t column_stride, size_t n_codebooks, size_t depth,
                        const int32_t *dims, const float *thresholds, uint8_t *codes)
{
    Trees trees;
    void *tree_block, *code_block = NULL;
    if (make_trees(&trees, &tree_block, row_stride, column_stride, n_codebooks, depth, dims,
                   thresholds))
        return 1;
    uint8_t *grouped = aligned((size_t)ROWS * trees.n_codebooks, 1, &code_block);
    if (grouped != NULL)
        for (size_t begin = 0; begin < n_rows; begin += ROWS) {
            const size_t n = smaller(ROWS, n_rows - begin);
            variants[variant].encode(&trees, rows + (ptrdiff_t)begin * row_stride, n, grouped);
            ungroup_codes(codes + begin * n_codebooks, grouped, n, n_codebooks);
        }
    free(code_block);
    free(tree_block);
    return grouped == NULL;
}

/* kind FLOATS: float32 tables and results, `offset` added to the first codebook's entries, sums in
 * the order of the codebooks. kind BYTES, WORDS: int32 results, clipped to [low, high] after every
 * `every` codebooks and after the last, unless `every` is 0. */
EXPORT int halut_look_up(int variant, const uint8_t *codes, size_t n_rows, size_t n_codebooks,
                         size_t n_prototypes, size_t n_outputs, int kind, const void *lut,
                         const float *offset, int32_t low, int32_t high, size_t every, void *out)
{
    void *table_block, *scratch_block, *code_block;
    Product product = {&variants[variant], kind == FLOATS, NULL, NULL,
                       n_codebooks, n_prototypes, n_outputs, {low, high, every}};
    product.tables =
        make_tables(&table_block, kind, lut, offset, n_codebooks, n_prototypes, n_outputs);
    product.scratch = aligned((size_t)ROWS * SLICE, 4, &scratch_block);
    uint8_t *grouped = aligned(ROWS * round_up(n_codebooks, GROUP), 1, &code_block);
    const int failed = product.tables == NULL || product.scratch == NULL || grouped == NULL;
    if (!failed)
        for (size_t begin = 0; begin < n_rows; begin += ROWS) {
            const size_t n = smaller(ROWS, n_rows - begin);
            group_codes(grouped, codes + begin * n_codebooks, n, n_codebooks);
            look_up_block(&product, grouped, n, (char *)out + begin * n_outputs * 4, NULL);
        }
    free(code_block);
    free(scratch_block);
    free(table_block);
    return failed;
}

/* Encode and look up, block by block, while the next block's rows are fetched. */
EXPORT int halut_product(int variant, const float *rows, size_t n_rows, ptrdiff_t row_stride,
                         ptrdiff_t column_stride, size_t n_features, size_t n_codebooks,
                         size_t depth, const int32_t *dims, const float *thresholds,
                         size_t n_outputs, const float *lut, const float *offset, float *out)
{
    Trees trees;
    void *tree_block = NULL, *table_block = NULL, *scratch_block = NULL, *code_block = NULL;
    Product product = {&variants[variant], 1, NULL, NULL,
                       n_codebooks, (size_t)1 << depth, n_outputs, {0, 0, 0}};
    uint8_t *codes = NULL;
    int failed = make_trees(&trees, &tree_block, row_stride, column_stride, n_codebooks, depth,
                            dims, thresholds);
    if (!failed) {
        product.tables = make_tables(&table_block, FLOATS, lut, offset, n_codebooks,
                                     product.n_prototypes, n_outputs);
        product.scratch = aligned((size_t)ROWS * SLICE, 4, &scratch_block);
        codes = aligned((size_t)ROWS * trees.n_codebooks, 1, &code_block);
        failed = product.tables == NULL || product.scratch == NULL || codes == NULL;
    }
    if (!failed) {
        const int in_order = column_stride == 1 && row_stride >= (ptrdiff_t)n_features;
        const size_t bytes = n_features * 4;
        size_t step = BLOCK_BYTES / (bytes + 1) / 4 * 4;
        step = step < 16 ? 16 : smaller(step, ROWS);
        for (size_t begin = 0; begin < n_rows; begin += step) {
            const size_t n = smaller(step, n_rows - begin);
            variants[variant].encode(&trees, rows + (ptrdiff_t)begin * row_stride, n, codes);
            Ahead ahead;
            const size_t next = smaller(step, n_rows - begin - n);
            if (in_order && next) {
                ahead.next = (const char *)(rows + (ptrdiff_t)(begin + n) * row_stride);
                ahead.end = ahead.next + ((next - 1) * (size_t)row_stride + n_features) * 4;
            }
            look_up_block(&product, codes, n, out + begin * n_outputs,
                          in_order && next ? &ahead : NULL);
        }
    }
    free(code_block);
    free(scratch_block);
    free(table_block);
    free(tree_block);
    return failed;
}

/* Float tables in any order of additions: `steps` is postfix, a codebook pushes its entries, -1
 * replaces the last two terms by their sum; there are at most `height` terms at a time. */
EXPORT int halut_add_in_order(int variant, const uint8_t *codes, size_t n_rows, size_t n_codebooks,
                              size_t n_prototypes, size_t n_outputs, const float *lut,
                              const int32_t *steps, size_t n_steps, size_t height, float *out)
{
    void *table_block, *stack_block;
    const float *tables = make_tables(&table_block, FLOATS, lut, NULL, n_codebooks, n_prototypes,
                                      n_outputs);
    float *stack = aligned(height * SLICE, 4, &stack_block);
    const int failed = tables == NULL || stack == NULL;
    if (!failed)
        for (size_t m = 0; m < n_outputs; m += SLICE) {
            const float *table = tables + m * n_codebooks * n_prototypes;
            const size_t n = smaller(SLICE, n_outputs - m);
            for (size_t r = 0; r < n_rows; r++) {
                float sums[SLICE];
                variants[variant].add_in_order(table, n_prototypes * SLICE,
                                               codes + r * n_codebooks, steps, n_steps, stack,
                                               sums);
                memcpy(out + r * n_outputs + m, sums, n * 4);
            }
        }
    free(stack_block);
    free(table_block);
    return failed;
}
