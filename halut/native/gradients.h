/* The surrogate gradient of one variant; included with VARIANT, TARGET, LANES, MULTIPLY_ADD
 * and BYTES, neighbouring bytes as floats.
 *
 * One codebook and one tile of positions at a time, everything in the caches of the first two
 * levels: what every leaf would have contributed, its share in the softmax, the derivative of every
 * node's sign, and the sums over subtrees.
 */
#define NAME(stem) JOIN(stem, VARIANT)
#define V NAME(vector)
#define VI NAME(integers)
typedef float V __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t VI __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* exp(-a) for a >= 0, to about one unit in the last place of single precision. */
TARGET INLINE V NAME(decay)(V a)
{
    const VI far = a > 87.0F;
    a = (V)((far & (VI)(a * 0 + 87.0F)) | (~far & (VI)a));
    const V magic = a * 0 + 12582912.0F;
    const V n = (a * -1.44269504F + magic) - magic; /* rounded to an integer */
    const V r = (-a - n * 0.693359375F) - n * -2.12194440e-4F;
    V p = r * 1.9875691500e-4F + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * r * r + r + 1.0F;
    return p * (V)(((VI)(n + magic) << 23) + (127 << 23));
}

/* The packed entries of a quad of codebooks, `stride` bytes apart in fours of outputs, times the
 * scale of every output: (M, QUAD). */
TARGET static void NAME(unpack)(const int8_t *packed, size_t stride, size_t n_outputs,
                                const float *scale, float *tables)
{
    for (size_t m = 0; m < n_outputs; m++) {
        const int8_t *from = packed + m / 4 * stride + m % 4 * QUAD;
        PREFETCH(from + PANEL / 4 * stride); /* the next panel's */
        for (size_t k = 0; k < QUAD; k += LANES)
            *(V *)(void *)(tables + m * QUAD + k) = BYTES(from + k) * scale[m];
    }
}

/* Add upstream (n, PANEL) times tables (M, QUAD) to gains (n, QUAD); n is rounded up. */
TARGET static void NAME(products)(const float *tables, const float *upstream, size_t n_outputs,
                                  size_t n, float *gains)
{
    enum { WIDE = 4, AT_ONCE = LANES == 16 ? 4 : 2 };
    for (size_t p = 0; p < n; p += AT_ONCE)
        for (size_t k = 0; k < QUAD; k += WIDE * LANES) {
            V sum[AT_ONCE][WIDE];
            float *to = gains + p * QUAD + k;
            const float *from = upstream + p * PANEL;
            UNROLL
            for (size_t i = 0; i < AT_ONCE; i++)
                for (size_t v = 0; v < WIDE; v++)
                    sum[i][v] = *(const V *)(const void *)(to + i * QUAD + v * LANES);
            for (size_t m = 0; m < n_outputs; m++) {
                const float *row = tables + m * QUAD + k;
                V entries[WIDE];
                UNROLL
                for (size_t v = 0; v < WIDE; v++)
                    entries[v] = *(const V *)(const void *)(row + v * LANES);
                UNROLL
                for (size_t i = 0; i < AT_ONCE; i++) {
                    const V g = (V){0} + from[i * PANEL + m];
                    for (size_t v = 0; v < WIDE; v++)
                        sum[i][v] = MULTIPLY_ADD(entries[v], g, sum[i][v]);
                }
            }
            UNROLL
            for (size_t i = 0; i < AT_ONCE; i++)
                for (size_t v = 0; v < WIDE; v++)
                    *(V *)(void *)(to + i * QUAD + v * LANES) = sum[i][v];
        }
}

/* Gradients with values (T, TILE) in their place, from `gains`, for one tree; sums over positions
 * to `node_sums` (K - 1, WIDEST) and `slope_sums` (T, WIDEST). */
TARGET INLINE void NAME(tree)(const float *nodes, const float *slope, const float *gains,
                              const size_t depth, float *values, float *node_sums,
                              float *slope_sums)
{
    const size_t n_leaves = (size_t)1 << depth;
    for (size_t p = 0; p < TILE; p += LANES) {
        V x[4], weight[16], gain[16], total = (V){0};
        weight[0] = (V){0} + 1.0F;
        UNROLL
        for (size_t level = 0; level < depth; level++) {
            const size_t step = n_leaves >> level;
            x[level] = *(const V *)(const void *)(values + level * TILE + p);
            UNROLL
            for (size_t n = 0; n < n_leaves / step; n++) {
                const VI right = x[level] > nodes[((size_t)1 << level) - 1 + n];
                V *left = weight + n * step;
                const V unlikely = *left * UNLIKELY;
                left[step / 2] = (V)((right & (VI)*left) | (~right & (VI)unlikely));
                *left = (V)((right & (VI)unlikely) | (~right & (VI)*left));
            }
        }
        /* A tree's weights add up to (1 + UNLIKELY) ** depth. */
        float whole = 1;
        for (size_t level = 0; level < depth; level++)
            whole /= 1 + UNLIKELY;
        UNROLL
        for (size_t k = 0; k < n_leaves; k++) {
            weight[k] *= whole;
            gain[k] = *(const V *)(const void *)(gains + k * TILE + p) * weight[k];
            total += gain[k];
        }
        UNROLL
        for (size_t k = 0; k < n_leaves; k++)
            gain[k] -= weight[k] * total;
        UNROLL
        for (size_t level = depth; level-- > 0;) {
            const float twice = 2 * slope[level];
            V summed = (V){0};
            UNROLL
            for (size_t n = 0; n < (size_t)1 << level; n++) {
                const size_t node = ((size_t)1 << level) - 1 + n;
                const V change = gain[2 * n + 1] - gain[2 * n];
                gain[n] = gain[2 * n] + gain[2 * n + 1];
                const V z = (x[level] - nodes[node]) * twice;
                const V e = NAME(decay)((V)((VI)z & 0x7fffffff));
                /* 4 s (1 - s), s the sigmoid of z: the derivative of tanh(z / 2) times two */
                const V d = change * (4 * e / ((1 + e) * (1 + e)));
                summed += d;
                *(V *)(void *)(node_sums + node * WIDEST) += d;
            }
            *(V *)(void *)(slope_sums + level * WIDEST) += summed * x[level];
            *(V *)(void *)(values + level * TILE + p) = summed * slope[level];
        }
    }
}

TARGET static void NAME(trees)(const float *nodes, const float *slope, const float *gains,
                               size_t depth, float *values, float *node_sums, float *slope_sums)
{
    switch (depth) {
    case 1: NAME(tree)(nodes, slope, gains, 1, values, node_sums, slope_sums); break;
    case 2: NAME(tree)(nodes, slope, gains, 2, values, node_sums, slope_sums); break;
    case 3: NAME(tree)(nodes, slope, gains, 3, values, node_sums, slope_sums); break;
    default: NAME(tree)(nodes, slope, gains, 4, values, node_sums, slope_sums); break;
    }
}

TARGET INLINE void NAME(gather_some)(const float *upstream, const uint8_t *codes, size_t n,
                                     const size_t width, float *sums)
{
    for (size_t p = 0; p < n; p++) {
        const float *from = upstream + p * PANEL;
        float *to = sums + codes[p] * (size_t)PANEL;
        for (size_t m = 0; m < width; m += LANES)
            *(V *)(void *)(to + m) += *(const V *)(const void *)(from + m);
    }
}

/* Add the upstream of every position, (n, PANEL), to the row of (K, PANEL) that its code names. */
TARGET static void NAME(gather)(const float *upstream, const uint8_t *codes, size_t n,
                                size_t n_outputs, float *sums)
{
    if (n_outputs == PANEL)
        NAME(gather_some)(upstream, codes, n, PANEL, sums);
    else
        NAME(gather_some)(upstream, codes, n, round_up(n_outputs, LANES), sums);
}

/* Turn n values into what is compared: words of integers, or values of short floats. */
TARGET static void NAME(convert)(const Format *f, double scale, double offset, float *x, size_t n)
{
    if (f->kind == INTEGERS)
        for (size_t i = 0; i < n; i++) {
            const double word = ((double)x[i] - offset) / scale;
            x[i] = (float)(fabs(word) < 1e15 ? (word + 6755399441055744.0) - 6755399441055744.0
                                             : word);
        }
    if (f->kind == SHORT_FLOATS) {
        const int32_t least = ((int32_t)f->min_exponent + 127) << 23;
        const int32_t shift = (23 - (int32_t)f->mantissa_bits) << 23;
        const int32_t most = (254 << 23) - shift;
        const float largest = (float)f->largest, beyond = f->has_infinity ? INFINITY : largest;
        for (size_t i = 0; i < n; i++) {
            /* Adding a power of two that is so much larger rounds to the format's step. */
            const float size = fabsf(x[i]);
            int32_t exponent;
            memcpy(&exponent, &size, 4);
            exponent &= 0x7f800000;
            exponent = exponent < least ? least : exponent;
            exponent = (exponent > most ? most : exponent) + shift;
            float magic;
            memcpy(&magic, &exponent, 4);
            const float rounded = (size + magic) - magic;
            x[i] = copysignf(rounded > largest ? beyond : rounded, x[i]);
        }
    }
}

static const Gradients NAME(gradients) = {
    NAME(unpack), NAME(products), NAME(trees), NAME(gather), NAME(convert),
};

#undef NAME
#undef V
#undef VI
#undef VARIANT
#undef TARGET
#undef LANES
#undef MULTIPLY_ADD
#undef BYTES
