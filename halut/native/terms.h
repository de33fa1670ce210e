/* Levels that compare the sum of a few features, each with a sign: see halut/nn/sums.py. */
#ifndef HALUT_TERMS_H
#define HALUT_TERMS_H
#include "common.h"
#include "format.h"

/* What the trees of a product compare. Shapes are (groups, codebooks, depth), with as many signs,
 * -1 to 1, for every level as the geometry has terms; `signs` NULL: single features. */
typedef struct {
    const Format *format;
    const int8_t *signs;
    const float *scale, *offset;
} Compared;

INLINE void add_some(const Format *format, double scale, double offset, int sign, const float *x,
                     size_t n, float *sum)
{
    const double low = -format->largest, high = format->largest - 1;
    if (format->kind == AS_IT_IS) {
        for (size_t i = 0; i < n; i++)
            sum[i] += (float)sign * x[i];
        return;
    }
    /* What is subtracted is complemented: -1 - word. */
    const double less = sign < 0 ? -1 : 0;
    for (size_t i = 0; i < n; i++) {
        double word = word_of(x[i], scale, offset);
        word = word < low ? low : word;
        word = word > high ? high : word;
        sum[i] += (float)(less + sign * word);
    }
}

INLINE void pass_some(const Format *format, double scale, double offset, float factor,
                      const float *x, size_t n, const float *grad, float *out)
{
    const double low = -format->largest, high = format->largest - 1;
    for (size_t i = 0; i < n; i++) {
        const double word = word_of(x[i], scale, offset);
        const float passed = grad[i] * factor;
        out[i] = format->kind == AS_IT_IS || ((word >= low) & (word <= high)) ? passed : 0;
    }
}

typedef struct {
    /* Add a term's values, or words, to the sums of a level. */
    void (*add)(const Format *, double, double, int, const float *, size_t, float *);
    /* The gradient of a term's values from that of the sums: what saturates has none. */
    void (*pass)(const Format *, double, double, float, const float *, size_t, const float *,
                 float *);
} Terms;

#define TERMS(variant, target)                                                                    \
    target static inline void add_##variant(const Format *format, double scale, double offset,    \
                                            int sign, const float *x, size_t n, float *sum)       \
    {                                                                                             \
        add_some(format, scale, offset, sign, x, n, sum);                                         \
    }                                                                                             \
    target static inline void pass_##variant(const Format *format, double scale, double offset,   \
                                             float factor, const float *x, size_t n,              \
                                             const float *grad, float *out)                       \
    {                                                                                             \
        pass_some(format, scale, offset, factor, x, n, grad, out);                                \
    }                                                                                             \
    static const Terms terms_##variant = {add_##variant, pass_##variant};

TERMS(portable, )
#ifdef HAS_X86
TERMS(avx2, __attribute__((target("avx2"))))
TERMS(avx512, __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))))
#endif
#undef TERMS

/* Variants are numbered as in kernels.c. */
static inline const Terms *terms_of(int variant)
{
#ifdef HAS_X86
    if (variant == 2 || variant == 3)
        return &terms_avx512;
    if (variant == 1)
        return &terms_avx2;
#endif
    (void)variant;
    return &terms_portable;
}
#endif
