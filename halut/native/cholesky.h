/* The product that a factorisation consists of, in one variant; included with VARIANT, TARGET, LANES
 * and MULTIPLY_ADD. */
#define NAME(stem) JOIN(stem, VARIANT)
#define V NAME(vector)
typedef double V __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

/* Add rows `from` (n, k) times columns (k, BLOCK) to rows `to` (n, BLOCK). */
TARGET INLINE void NAME(some_rows)(const double *from, size_t from_stride, const double *columns,
                                   size_t k, const size_t n, double *to, size_t to_stride)
{
    enum { WIDE = LANES == 8 ? 4 : 2 };
    for (size_t c = 0; c < BLOCK; c += WIDE * LANES) {
        V sum[MOST_ROWS][WIDE];
        UNROLL
        for (size_t i = 0; i < n; i++)
            for (size_t v = 0; v < WIDE; v++)
                sum[i][v] = *(const V *)(const void *)(to + i * to_stride + c + v * LANES);
        for (size_t j = 0; j < k; j++) {
            V column[WIDE];
            UNROLL
            for (size_t v = 0; v < WIDE; v++)
                column[v] = *(const V *)(const void *)(columns + j * BLOCK + c + v * LANES);
            UNROLL
            for (size_t i = 0; i < n; i++) {
                const V one = (V){0} + from[i * from_stride + j];
                for (size_t v = 0; v < WIDE; v++)
                    sum[i][v] = MULTIPLY_ADD(column[v], one, sum[i][v]);
            }
        }
        UNROLL
        for (size_t i = 0; i < n; i++)
            for (size_t v = 0; v < WIDE; v++)
                *(V *)(void *)(to + i * to_stride + c + v * LANES) = sum[i][v];
    }
}

TARGET static void NAME(multiply_add)(const double *from, size_t from_stride, const double *columns,
                                      size_t k, size_t n, double *to, size_t to_stride)
{
    enum { ROWS = LANES == 8 ? MOST_ROWS : 4 };
    /* So many columns at a time stay in the cache of the first level. */
    for (size_t begin = 0; begin < k; begin += DEEP) {
        const size_t here = smaller(DEEP, k - begin);
        size_t i = 0;
        for (; i + ROWS <= n; i += ROWS)
            NAME(some_rows)(from + i * from_stride + begin, from_stride, columns + begin * BLOCK,
                            here, ROWS, to + i * to_stride, to_stride);
        for (; i < n; i++)
            NAME(some_rows)(from + i * from_stride + begin, from_stride, columns + begin * BLOCK,
                            here, 1, to + i * to_stride, to_stride);
    }
}

#undef NAME
#undef V
#undef VARIANT
#undef TARGET
#undef LANES
#undef MULTIPLY_ADD
