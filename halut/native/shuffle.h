/* Encode and look up with tables of 16 one-byte entries, for tiles of 64 positions.
 *
 * A tile's codes are (quads, TILE) words of four codebooks each, or (codebooks, TILE) bytes: what
 * suits a variant. Tables are (outputs / 4, quads, 4, 64): what one tile of four outputs reads lies
 * together, and 64 bytes are the tables of four codebooks.
 */
#include "quads.h"

enum { OUTPUTS = QUAD_OUTPUTS, SLICE = QUAD_SLICE, DEEPEST = 8 };

/* One codebook's features of neighbouring positions, a pointer for each level; its thresholds:
 * breadth-first, the root at index 1, or levels (see quads.h). */
typedef struct {
    const float *features[DEEPEST];
    const float *thresholds;
    const float *ahead; /* what is fetched for later */
} Tree;

/* Codes of n positions, one byte each. */
INLINE void walk(const Tree *tree, const size_t depth, size_t n, uint8_t *codes)
{
    for (size_t p = 0; p < n; p += TILE) {
        int32_t node[TILE];
        const size_t here = n - p < TILE ? n - p : TILE;
        for (size_t i = 0; i < TILE; i++)
            node[i] = 1;
        for (size_t level = 0; level < depth; level++) {
            const float *x = tree->features[level] + p;
            for (size_t i = 0; i < here; i++)
                node[i] = 2 * node[i] + (x[i] > tree->thresholds[node[i]]);
        }
        for (size_t i = 0; i < here; i++)
            codes[p + i] = (uint8_t)(node[i] - (1 << depth));
    }
}

/* Values of n sums of one output. */
INLINE void to_plane(const int32_t *sums, size_t n, float scale, float offset, float *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (float)sums[i] * scale + offset;
}

/* Values of n positions, up to SLICE outputs each, of sums (SLICE, TILE). */
INLINE void to_pixels(const int32_t *sums, size_t n, size_t n_outputs, const float *scale,
                      const float *offset, float *to, size_t stride)
{
    for (size_t p = 0; p < n; p++)
        for (size_t k = 0; k < n_outputs; k++)
            to[p * stride + k] = (float)sums[k * TILE + p] * scale[k] + offset[k];
}

#define PLAIN(target, name)                                                                     \
    target static void walk_##name(const Tree *tree, size_t depth, size_t n, uint8_t *codes)    \
    {                                                                                           \
        walk(tree, depth, n, codes);                                                            \
    }                                                                                           \
    target static void to_plane_##name(const int32_t *sums, size_t n, float scale,              \
                                       float offset, float *to)                                 \
    {                                                                                           \
        to_plane(sums, n, scale, offset, to);                                                   \
    }
#define PLAIN_PIXELS(target, name)                                                              \
    target static void to_pixels_##name(const int32_t *sums, size_t n, size_t n_outputs,        \
                                        const float *scale, const float *offset, float *to,     \
                                        size_t stride)                                          \
    {                                                                                           \
        to_pixels(sums, n, n_outputs, scale, offset, to, stride);                               \
    }

#define NO_TARGET
PLAIN(NO_TARGET, portable)
PLAIN_PIXELS(NO_TARGET, portable)

/* Sums (4, TILE) of one tile and four outputs. */
static void look_up_portable(const void *codes, const int8_t *tables, size_t n_quads, int32_t *sums)
{
    memset(sums, 0, OUTPUTS * TILE * 4);
    for (size_t q = 0; q < n_quads; q++)
        for (size_t o = 0; o < OUTPUTS; o++)
            for (size_t j = 0; j < QUAD; j++) {
                const uint8_t *code = (const uint8_t *)codes + (q * QUAD + j) * TILE;
                const int8_t *table = tables + (q * OUTPUTS + o) * 64 + j * 16;
                for (size_t i = 0; i < TILE; i++)
                    sums[o * TILE + i] += table[code[i]];
            }
}

#ifdef HAS_X86
#define TARGET_AVX2 __attribute__((target("avx2")))

PLAIN(TARGET_AVX2, avx2)
PLAIN_PIXELS(TARGET_AVX2, avx2)

/* Sums of pairs of codebooks in 16 bits, as long as they have room; then in 32. */
enum { PAIRS_IN_16_BITS = 127 };

TARGET_AVX2 static void look_up_avx2(const void *codes, const int8_t *tables, size_t n_quads,
                                     int32_t *sums)
{
    const __m256i ones = _mm256_set1_epi8(1);
    for (size_t o = 0; o < OUTPUTS; o++)
        for (size_t half = 0; half < TILE; half += 32) {
            int32_t *to = sums + o * TILE + half;
            for (size_t i = 0; i < 32; i += 8)
                _mm256_storeu_si256((__m256i *)(void *)(to + i), _mm256_setzero_si256());
            size_t pair = 0;
            while (pair < 2 * n_quads) {
                const size_t end = smaller(pair + PAIRS_IN_16_BITS, 2 * n_quads);
                __m256i low = _mm256_setzero_si256(), high = low;
                for (; pair < end; pair++) {
                    const int8_t *table =
                        tables + (pair / 2 * OUTPUTS + o) * 64 + pair % 2 * 32;
                    const uint8_t *code = (const uint8_t *)codes + 2 * pair * TILE + half;
                    const __m256i a = _mm256_shuffle_epi8(
                        _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)table)),
                        _mm256_loadu_si256((const void *)code));
                    const __m256i b = _mm256_shuffle_epi8(
                        _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)(table + 16))),
                        _mm256_loadu_si256((const void *)(code + TILE)));
                    low = _mm256_add_epi16(
                        low, _mm256_maddubs_epi16(ones, _mm256_unpacklo_epi8(a, b)));
                    high = _mm256_add_epi16(
                        high, _mm256_maddubs_epi16(ones, _mm256_unpackhi_epi8(a, b)));
                }
                /* low: positions 0-7 and 16-23, high: 8-15 and 24-31 */
                const __m128i parts[4] = {
                    _mm256_castsi256_si128(low), _mm256_castsi256_si128(high),
                    _mm256_extracti128_si256(low, 1), _mm256_extracti128_si256(high, 1)};
                for (size_t i = 0; i < 4; i++) {
                    __m256i *at = (__m256i *)(void *)(to + 8 * i);
                    _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at),
                                                             _mm256_cvtepi16_epi32(parts[i])));
                }
            }
        }
}

PLAIN(TARGET_QUADS, vnni)

/* Two codebooks' codes of n positions in words of a quad: the first two begin words, the others come
 * to what is there. All thresholds stay in registers. */
TARGET_QUADS INLINE void encode_pair(const Tree *trees, const size_t depth, size_t n,
                                     const int begins, uint32_t *words)
{
    const __m512i place = _mm512_set1_epi32(0x30201000);
    __m512 levels[2][QUAD_DEPTH];
    UNROLL
    for (size_t i = 0; i < 2 * depth; i++)
        levels[i / depth][i % depth] =
            _mm512_loadu_ps(trees[i / depth].thresholds + i % depth * LEVEL);
    for (size_t p = 0; p < n; p += 16) {
        __m512i code[2];
        UNROLL
        for (size_t j = 0; j < 2; j++) {
            PREFETCH(trees[j].ahead + p);
            code[j] = _mm512_setzero_si512();
            UNROLL
            for (size_t level = 0; level < depth; level++) {
                const __m512 x = _mm512_loadu_ps(trees[j].features[level] + p);
                const __m512 reached =
                    level ? _mm512_permutexvar_ps(code[j], levels[j][level]) : levels[j][0];
                code[j] = _mm512_mask_or_epi32(code[j], _mm512_cmp_ps_mask(x, reached, _CMP_GT_OQ),
                                               code[j], _mm512_set1_epi32(1 << (depth - 1 - level)));
            }
        }
        enum { OR_OF_THREE = 0xfe };
        const __m512i before = begins ? place : _mm512_loadu_si512(words + p);
        const __m512i low = begins ? code[0] : _mm512_slli_epi32(code[0], 16);
        const __m512i high = _mm512_slli_epi32(code[1], begins ? 8 : 24);
        _mm512_storeu_si512(words + p,
                            _mm512_ternarylogic_epi32(before, low, high, OR_OF_THREE));
    }
}

/* Words of a quad for n positions, from its codebooks' levels. */
TARGET_QUADS static void encode_quad_vnni(const Tree *trees, size_t depth, size_t n, uint32_t *words)
{
    for (size_t j = 0; j < QUAD; j += 2)
        switch (depth + (j ? QUAD_DEPTH : 0)) {
        case 1: encode_pair(trees, 1, n, 1, words); break;
        case 2: encode_pair(trees, 2, n, 1, words); break;
        case 3: encode_pair(trees, 3, n, 1, words); break;
        case 4: encode_pair(trees, 4, n, 1, words); break;
        case 5: encode_pair(trees + 2, 1, n, 0, words); break;
        case 6: encode_pair(trees + 2, 2, n, 0, words); break;
        case 7: encode_pair(trees + 2, 3, n, 0, words); break;
        default: encode_pair(trees + 2, 4, n, 0, words); break;
        }
}

TARGET_QUADS static void look_up_vnni(const void *codes, const int8_t *tables, size_t n_quads,
                                      int32_t *sums)
{
    __m512i sum[OUTPUTS * TILE / 16];
    add_quads(codes, TILE, tables, n_quads, sum);
    UNROLL
    for (size_t i = 0; i < OUTPUTS * TILE / 16; i++)
        _mm512_storeu_si512(sums + 16 * i, sum[i]);
}

TARGET_QUADS static void to_pixels_vnni(const int32_t *sums, size_t n, size_t n_outputs,
                                       const float *scale, const float *offset, float *to,
                                       size_t stride)
{
    const __mmask16 some = (__mmask16)(0xffffU >> (SLICE - n_outputs));
    const __m512 scales = _mm512_maskz_loadu_ps(some, scale);
    const __m512 offsets = _mm512_maskz_loadu_ps(some, offset);
    for (size_t p = 0; p < n; p += 16) {
        __m512 block[16];
        UNROLL
        for (size_t k = 0; k < 16; k++)
            block[k] = _mm512_castsi512_ps(_mm512_loadu_si512(sums + k * TILE + p));
        transpose_16(block);
        const size_t here = smaller(16, n - p);
        UNROLL
        for (size_t i = 0; i < 16; i++) {
            const __m512 value = _mm512_cvtepi32_ps(_mm512_castps_si512(block[i]));
            if (i < here)
                _mm512_mask_storeu_ps(
                    to + (p + i) * stride, some,
                    _mm512_add_ps(_mm512_mul_ps(value, scales), offsets));
        }
    }
}
#endif

/* Sums wrap at so many bits, and negative ones become 0; 0: they do not. */
static void finish_sums(int64_t wrap_bits, int64_t relu, int32_t *sums, size_t n)
{
    if (wrap_bits) {
        const uint32_t half = (uint32_t)1 << (wrap_bits - 1);
        for (size_t i = 0; i < n; i++)
            sums[i] = (int32_t)((((uint32_t)sums[i] + half) & (2 * half - 1)) - half);
    }
    if (relu)
        for (size_t i = 0; i < n; i++)
            sums[i] = sums[i] < 0 ? 0 : sums[i];
}

/* What a variant computes. */
typedef struct {
    void (*walk)(const Tree *, size_t, size_t, uint8_t *);
    void (*encode_quad)(const Tree *, size_t, size_t, uint32_t *); /* or NULL: walk is used */
    void (*look_up)(const void *, const int8_t *, size_t, int32_t *);
    void (*to_plane)(const int32_t *, size_t, float, float, float *);
    void (*to_pixels)(const int32_t *, size_t, size_t, const float *, const float *, float *, size_t);
} Shuffle;

#define SHUFFLE(name, quad) \
    {walk_##name, quad, look_up_##name, to_plane_##name, to_pixels_##name}
static const Shuffle portable = SHUFFLE(portable, NULL);
#ifdef HAS_X86
static const Shuffle avx2 = SHUFFLE(avx2, NULL);
static const Shuffle vnni = SHUFFLE(vnni, encode_quad_vnni);
#endif

/* Variants are numbered as in kernels.c. */
static const Shuffle *shuffle_of(int variant)
{
#ifdef HAS_X86
    if (variant >= 3)
        return &vnni;
    if (variant >= 1)
        return &avx2;
#endif
    (void)variant;
    return &portable;
}
