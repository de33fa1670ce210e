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
        return rint(((double)x - offset) / scale);
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
