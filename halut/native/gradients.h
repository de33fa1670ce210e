/* The surrogate gradient of one variant; included with VARIANT, TARGET, LANES and, for vectors of
 * LANES floats: MULTIPLY_ADD, BYTES (neighbouring bytes as floats), ALL (one value), GREATER, which
 * gives a MASK, CHOOSE, and RECIPROCAL, of at least 1, to about two units in the last place.
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

/* exp(-a) for a >= -87, to about one unit in the last place of single precision. */
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

#if LANES > 4
/* 1 / a, from a first guess: one step of Newton's method. */
TARGET INLINE V NAME(refined)(V a, V guess)
{
    return guess * MULTIPLY_ADD(-a, guess, ALL(2.0F));
}
#endif

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

/* One part of `products`: some leaves, and as many vectors of positions as `width` says. */
TARGET INLINE void NAME(products_some)(const float *tables, const float *upstream,
                                       size_t n_outputs, const size_t width, float *gains)
{
    enum { SOME = LANES == 16 ? 8 : 4 };
    V sum[SOME][2];
    UNROLL
    for (size_t k = 0; k < SOME; k++)
        for (size_t v = 0; v < width; v++)
            sum[k][v] = *(const V *)(const void *)(gains + k * TILE + v * LANES);
    for (size_t m = 0; m < n_outputs; m++) {
        V from[2];
        UNROLL
        for (size_t v = 0; v < width; v++)
            from[v] = *(const V *)(const void *)(upstream + m * TILE + v * LANES);
        UNROLL
        for (size_t k = 0; k < SOME; k++) {
            const V entry = ALL(tables[m * QUAD + k]);
            for (size_t v = 0; v < width; v++)
                sum[k][v] = MULTIPLY_ADD(entry, from[v], sum[k][v]);
        }
    }
    UNROLL
    for (size_t k = 0; k < SOME; k++)
        for (size_t v = 0; v < width; v++)
            *(V *)(void *)(gains + k * TILE + v * LANES) = sum[k][v];
}

/* Add tables (M, QUAD), transposed, times upstream (M, TILE) to gains (QUAD, TILE), for the first
 * n positions, rounded up. */
TARGET static void NAME(products)(const float *tables, const float *upstream, size_t n_outputs,
                                  size_t n, float *gains)
{
    enum { SOME = LANES == 16 ? 8 : 4 };
    for (size_t p = 0; p < n; p += 2 * LANES)
        for (size_t k = 0; k < QUAD; k += SOME) {
            if (n - p > LANES)
                NAME(products_some)(tables + k, upstream + p, n_outputs, 2, gains + k * TILE + p);
            else
                NAME(products_some)(tables + k, upstream + p, n_outputs, 1, gains + k * TILE + p);
        }
}

/* Take a feature of n positions, from `row` and `column` of the output on, out of the staged
 * input; zeros follow. `values` has room for a vector more. */
TARGET static void NAME(take)(const Work *w, size_t place, size_t row, size_t column, size_t n,
                              float *values)
{
    const size_t step = (size_t)w->g->stride_x;
    for (size_t p = 0, here; p < n; p += here, row++, column = 0) {
        const float *from = w->staged + place + begin_of(w, row, column);
        here = neighbours(w, column, n - p);
        if (step == 1)
            for (size_t i = 0; i < here; i += LANES)
                *(V *)(void *)(values + p + i) = *(const V *)(const void *)(from + i);
        else
            for (size_t i = 0; i < here; i++)
                values[p + i] = from[i * step];
    }
    for (; n % LANES; n++)
        values[n] = 0;
}

/* Add values, times a factor, to where they were taken from. */
TARGET static void NAME(give)(const Work *w, size_t place, size_t row, size_t column, size_t n,
                              const float *values, float factor, float *staged)
{
    static const int32_t COUNT[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const size_t step = (size_t)w->g->stride_x;
    const VI count = *(const VI *)(const void *)COUNT;
    for (size_t p = 0, here; p < n; p += here, row++, column = 0) {
        float *to = staged + place + begin_of(w, row, column);
        here = neighbours(w, column, n - p);
        if (step == 1)
            for (size_t i = 0; i < here; i += LANES) {
                const VI there = count < (int32_t)(here - i);
                const V some = *(const V *)(const void *)(values + p + i) * factor;
                *(V *)(void *)(to + i) += (V)((VI)some & there);
            }
        else
            for (size_t i = 0; i < here; i++)
                to[i * step] += values[p + i] * factor;
    }
}

/* Walk n positions, rounded up, through a tree; values (T, TILE). */
TARGET INLINE void NAME(encode_some)(const float *nodes, const size_t depth, const float *values,
                                     size_t n, uint8_t *codes)
{
    for (size_t p = 0; p < n; p += LANES) {
        MASK right[DEEPEST];
        VI code = {0};
        UNROLL
        for (size_t level = 0; level < depth; level++) {
            V candidates[LEAVES / 2];
            const float *first = nodes + ((size_t)1 << level) - 1;
            UNROLL
            for (size_t i = 0; i < (size_t)1 << level; i++)
                candidates[i] = ALL(first[i]);
            UNROLL
            for (size_t above = level; above-- > 0;)
                for (size_t i = 0; i < (size_t)1 << above; i++)
                    candidates[i] =
                        CHOOSE(right[above], candidates[2 * i + 1], candidates[2 * i]);
            right[level] = GREATER(*(const V *)(const void *)(values + level * TILE + p),
                                   candidates[0]);
            code = code * 2 + (VI)CHOOSE(right[level], (V)((VI){0} + 1), (V){0});
        }
        for (size_t i = 0; i < LANES; i++)
            codes[p + i] = (uint8_t)code[i];
    }
}

TARGET static void NAME(encode)(const float *nodes, size_t depth, const float *values, size_t n,
                                uint8_t *codes)
{
    switch (depth) {
    case 1: NAME(encode_some)(nodes, 1, values, n, codes); break;
    case 2: NAME(encode_some)(nodes, 2, values, n, codes); break;
    case 3: NAME(encode_some)(nodes, 3, values, n, codes); break;
    default: NAME(encode_some)(nodes, 4, values, n, codes); break;
    }
}

/* Gradients with values (T, TILE) in their place, from gains (K, TILE), for one tree and n
 * positions, rounded up; sums over positions to `node_sums` (K - 1, WIDEST) and `slope_sums`
 * (T, WIDEST). All of them without the factors that `finish_backward` knows. */
TARGET INLINE void NAME(tree)(const Curves *curves, const float *nodes, const float *slope,
                              const float *gains, const size_t depth, const int apart, size_t n,
                              float *values, float *node_sums, float *slope_sums)
{
    const size_t n_leaves = (size_t)1 << depth;
    for (size_t p = 0; p < n; p += LANES) {
        V x[DEEPEST], weight[LEAVES], gain[LEAVES], total = (V){0};
        weight[0] = ALL(1.0F);
        UNROLL
        for (size_t level = 0; level < depth; level++) {
            const size_t step = n_leaves >> level;
            x[level] = *(const V *)(const void *)(values + level * TILE + p);
            UNROLL
            for (size_t i = 0; i < n_leaves / step; i++) {
                const V node = ALL(nodes[((size_t)1 << level) - 1 + i]);
                const MASK right = GREATER(x[level], node);
                V *left = weight + i * step;
                const V unlikely = *left * UNLIKELY;
                left[step / 2] = CHOOSE(right, *left, unlikely);
                *left = CHOOSE(right, unlikely, *left);
            }
        }
        UNROLL
        for (size_t k = 0; k < n_leaves; k++) {
            gain[k] = *(const V *)(const void *)(gains + k * TILE + p);
            total = MULTIPLY_ADD(gain[k], weight[k], total);
        }
        total *= curves->whole;
        UNROLL
        for (size_t k = 0; k < n_leaves; k++)
            gain[k] = (gain[k] - total) * weight[k];
        UNROLL
        for (size_t level = depth; level-- > 0;) {
            const float twice = 2 * slope[level];
            V summed = (V){0}, rise = (V){0};
            if (!apart) {
                const V most = ALL(FARTHEST);
                V z = (x[level] - curves->middles[level]) * -twice;
                z = CHOOSE(GREATER(z, most), most, z);
                z = CHOOSE(GREATER(-most, z), -most, z);
                rise = NAME(decay)(z);
            }
            UNROLL
            for (size_t i = 0; i < (size_t)1 << level; i++) {
                const size_t node = ((size_t)1 << level) - 1 + i;
                const V change = gain[2 * i + 1] - gain[2 * i];
                gain[i] = gain[2 * i] + gain[2 * i + 1];
                V e;
                if (apart) {
                    const V z = (x[level] - nodes[node]) * twice;
                    e = NAME(decay)((V)((VI)z & 0x7fffffff));
                } else {
                    e = rise * curves->shares[node];
                }
                /* s (1 - s), s the sigmoid of z: the derivative of tanh(z / 2), halved */
                const V r = RECIPROCAL(1 + e);
                const V d = change * (e * r * r);
                summed += d;
                *(V *)(void *)(node_sums + node * WIDEST) += d;
            }
            *(V *)(void *)(slope_sums + level * WIDEST) += summed * x[level];
            *(V *)(void *)(values + level * TILE + p) = summed;
        }
    }
}

#define WALK(depth)                                                                               \
    if (curves->apart)                                                                            \
        NAME(tree)(curves, nodes, slope, gains, depth, 1, n, values, node_sums, slope_sums);      \
    else                                                                                          \
        NAME(tree)(curves, nodes, slope, gains, depth, 0, n, values, node_sums, slope_sums);      \
    break

TARGET static void NAME(trees)(const Curves *curves, const float *nodes, const float *slope,
                               const float *gains, size_t depth, size_t n, float *values,
                               float *node_sums, float *slope_sums)
{
    switch (depth) {
    case 1: WALK(1);
    case 2: WALK(2);
    case 3: WALK(3);
    default: WALK(4);
    }
}
#undef WALK

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
        for (size_t i = 0; i < n; i++)
            x[i] = (float)word_of(x[i], scale, offset);
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
    NAME(unpack), NAME(products), NAME(take),   NAME(give),
    NAME(encode), NAME(trees),    NAME(gather), NAME(convert),
};

#undef NAME
#undef V
#undef VI
#undef VARIANT
#undef TARGET
#undef LANES
#undef MULTIPLY_ADD
#undef MASK
#undef GREATER
#undef CHOOSE
#undef RECIPROCAL
#undef BYTES
#undef ALL
