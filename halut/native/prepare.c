/* What is made of a layer's parameters once: thresholds that floats are compared with as they are,
 * and tables as shuffle.h reads them. */
#include "common.h"
#include "format.h"
#include <math.h>

static double converted(const Format *f, double scale, double offset, float x)
{
    if (f->kind == AS_IT_IS || x != x)
        return x;
    if (f->kind == INTEGERS)
        return word_of(x, scale, offset);
    double value = x;
    if (!f->has_infinity)
        value = fmin(fmax(value, -f->largest), f->largest);
    if (value == 0 || isinf(value))
        return value;
    int exponent;
    frexp(value, &exponent);
    exponent = exponent - 1 < (int)f->min_exponent ? (int)f->min_exponent : exponent - 1;
    const double step = ldexp(1.0, exponent - (int)f->mantissa_bits);
    value = rint(value / step) * step;
    return fabs(value) > f->largest ? copysign(INFINITY, value) : value;
}

/* Floats in order as unsigned integers. */
static float float_of(uint32_t key)
{
    const uint32_t bits = key & 0x80000000U ? key & 0x7fffffffU : ~key;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

enum { LOWEST = 0x007fffff }; /* the key of minus infinity */
#define HIGHEST 0xff800000U

/* The largest float that is not greater than a node once it is converted. */
static float decision(const Format *f, double scale, double offset, float node)
{
    uint32_t low = LOWEST, high = HIGHEST;
    if (f->kind == AS_IT_IS)
        return node;
    if (!(converted(f, scale, offset, float_of(high)) > node))
        return float_of(high);
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (converted(f, scale, offset, float_of(middle)) > node)
            high = middle;
        else
            low = middle;
    }
    return float_of(low);
}

/* Thresholds (trees, 2**depth - 1), breadth-first, that decide on float32 inputs as `nodes` do on
 * converted ones; `scale` and `offset` (trees, depth) are those of integers. */
EXPORT int halut_decisions(int variant, const Format *format, size_t n_trees, size_t depth,
                           const float *nodes, const float *scale, const float *offset, float *out)
{
    (void)variant;
    for (size_t tree = 0; tree < n_trees; tree++)
        for (size_t level = 0; level < depth; level++)
            for (size_t n = ((size_t)1 << level) - 1; n < ((size_t)2 << level) - 1; n++) {
                const size_t at = tree * (((size_t)1 << depth) - 1) + n;
                out[at] = decision(format, scale[tree * depth + level],
                                   offset[tree * depth + level], nodes[at]);
            }
    return 0;
}

/* Entries (groups, outputs, codebooks, prototypes), integers of a byte as floats, as the tables
 * (groups, outputs filled up / 4, quads, 4, 64). */
EXPORT int halut_pack(int variant, size_t n_groups, size_t n_outputs, size_t n_codebooks,
                      size_t n_prototypes, const float *entries, int8_t *tables)
{
    (void)variant;
    const size_t n_quads = (n_codebooks + 3) / 4, padded = round_up(n_outputs, 4);
    memset(tables, 0, n_groups * padded * n_quads * 64);
    for (size_t i = 0; i < n_groups * n_outputs; i++) {
        const size_t group = i / n_outputs, m = i % n_outputs;
        const float *from = entries + i * n_codebooks * n_prototypes;
        int8_t *to = tables + (group * padded + m / 4 * 4) * n_quads * 64 + m % 4 * 64;
        for (size_t c = 0; c < n_codebooks; c++)
            for (size_t k = 0; k < n_prototypes; k++)
                to[c / 4 * 256 + c % 4 * 16 + k] = (int8_t)from[c * n_prototypes + k];
    }
    return 0;
}

/* The middle and the span of entries (n, K), n of them; whether none is NaN. */
INLINE int ranges(const float *entries, size_t n, size_t n_prototypes, float *middle, float *span)
{
    int unordered = 0;
    for (size_t i = 0; i < n; i++, entries += n_prototypes) {
        float low = entries[0], high = low;
        for (size_t k = 0; k < n_prototypes; k++) {
            low = entries[k] < low ? entries[k] : low;
            high = entries[k] > high ? entries[k] : high;
            unordered |= entries[k] != entries[k];
        }
        middle[i] = (low + high) / 2;
        span[i] = high - low;
    }
    return !unordered;
}

/* Entries (n, K) less their middle, in steps of one scale, as integers. */
INLINE void in_steps(const float *restrict entries, size_t n, size_t n_prototypes,
                     const float *restrict middle, float scale, float half, float *restrict to)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n_prototypes; k++) {
            const size_t at = i * n_prototypes + k;
            const float steps = rintf((entries[at] - middle[i]) / scale - 0.5F);
            const float above = steps < -half ? -half : steps;
            to[at] = above > half - 1 ? half - 1 : above;
        }
}

/* The same, of the tables (n, K) of one output, packed: `halut_pack` says how. */
INLINE void in_packed_steps(const float *restrict entries, size_t n, size_t n_prototypes,
                            const float *restrict middle, float scale, float half,
                            int8_t *restrict to)
{
    float block[64];
    for (size_t c = 0; c < n; c += 4, to += 256) {
        const size_t here = smaller(4, n - c);
        in_steps(entries + c * n_prototypes, here, n_prototypes, middle + c, scale, half, block);
        for (size_t i = 0; i < here; i++)
            for (size_t k = 0; k < n_prototypes; k++)
                to[i * 16 + k] = (int8_t)block[i * n_prototypes + k];
    }
}

/* Compiled for 16 prototypes, too, which are vectors. */
#define QUANTISE(target, name)                                                                    \
    target static int ranges_##name(const float *entries, size_t n, size_t K, float *middle,      \
                                    float *span)                                                  \
    {                                                                                             \
        return K == 16 ? ranges(entries, n, 16, middle, span)                                     \
                       : ranges(entries, n, K, middle, span);                                     \
    }                                                                                             \
    target static void in_steps_##name(const float *entries, size_t n, size_t K,                  \
                                       const float *middle, float scale, float half, float *to)   \
    {                                                                                             \
        if (K == 16)                                                                              \
            in_steps(entries, n, 16, middle, scale, half, to);                                    \
        else                                                                                      \
            in_steps(entries, n, K, middle, scale, half, to);                                     \
    }                                                                                             \
    target static void in_packed_steps_##name(const float *entries, size_t n, size_t K,           \
                                              const float *middle, float scale, float half,       \
                                              int8_t *to)                                         \
    {                                                                                             \
        if (K == 16)                                                                              \
            in_packed_steps(entries, n, 16, middle, scale, half, to);                             \
        else                                                                                      \
            in_packed_steps(entries, n, K, middle, scale, half, to);                              \
    }
#define ANY_TARGET
QUANTISE(ANY_TARGET, portable)
#ifdef HAS_X86
QUANTISE(__attribute__((target("avx2"))), avx2)
QUANTISE(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))), avx512)
#endif

/* Middles and spans (n) of the entries (n, K) of every table; 2: one is NaN. */
EXPORT int halut_table_ranges(int variant, const float *entries, size_t n, size_t n_prototypes,
                              float *middle, float *span)
{
    int ordered;
#ifdef HAS_X86
    if (variant == 2 || variant == 3)
        ordered = ranges_avx512(entries, n, n_prototypes, middle, span);
    else if (variant == 1)
        ordered = ranges_avx2(entries, n, n_prototypes, middle, span);
    else
#endif
        ordered = ranges_portable(entries, n, n_prototypes, middle, span);
    (void)variant;
    return ordered ? 0 : 2;
}

/* Entries (outputs, tables, K) of tables with these middles (outputs, tables), in steps of their
 * output's scale, as integers in [-half, half - 1]. */
EXPORT int halut_quantise(int variant, const float *entries, size_t n_outputs, size_t n_tables,
                          size_t n_prototypes, const float *middle, const float *scale, float half,
                          float *to)
{
    for (size_t m = 0; m < n_outputs; m++) {
        const float *from = entries + m * n_tables * n_prototypes, *middles = middle + m * n_tables;
        float *out = to + m * n_tables * n_prototypes;
#ifdef HAS_X86
        if (variant == 2 || variant == 3)
            in_steps_avx512(from, n_tables, n_prototypes, middles, scale[m], half, out);
        else if (variant == 1)
            in_steps_avx2(from, n_tables, n_prototypes, middles, scale[m], half, out);
        else
#endif
            in_steps_portable(from, n_tables, n_prototypes, middles, scale[m], half, out);
    }
    (void)variant;
    return 0;
}

/* halut_quantise to entries of a byte, in [-half, half - 1], and halut_pack, in one go: the entries
 * (groups, outputs, codebooks, K) have middles (groups, outputs, codebooks) and scales (groups,
 * outputs). */
EXPORT int halut_quantise_packed(int variant, const float *entries, size_t n_groups,
                                 size_t n_outputs, size_t n_codebooks, size_t n_prototypes,
                                 const float *middle, const float *scale, float half,
                                 int8_t *tables)
{
    const size_t n_quads = (n_codebooks + 3) / 4, padded = round_up(n_outputs, 4);
    memset(tables, 0, n_groups * padded * n_quads * 64);
    for (size_t i = 0; i < n_groups * n_outputs; i++) {
        const size_t group = i / n_outputs, m = i % n_outputs;
        const float *from = entries + i * n_codebooks * n_prototypes;
        const float *middles = middle + i * n_codebooks;
        int8_t *to = tables + (group * padded + m / 4 * 4) * n_quads * 64 + m % 4 * 64;
#ifdef HAS_X86
        if (variant == 2 || variant == 3)
            in_packed_steps_avx512(from, n_codebooks, n_prototypes, middles, scale[i], half, to);
        else if (variant == 1)
            in_packed_steps_avx2(from, n_codebooks, n_prototypes, middles, scale[i], half, to);
        else
#endif
            in_packed_steps_portable(from, n_codebooks, n_prototypes, middles, scale[i], half, to);
    }
    (void)variant;
    return 0;
}
