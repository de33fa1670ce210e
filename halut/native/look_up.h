/* Look up and add for one variant and one type of entries (KIND, TYPE), STEP of them in a vector;
 * included by variant.h.
 *
 * Sums of a few rows stay in registers while the codebooks of a pass go by; each code selects SLICE
 * neighbouring entries of a table that stays in the cache of the first level.
 */
#define TYPED(stem) JOIN(JOIN(stem, KIND), VARIANT)

TARGET INLINE void TYPED(tile)(const Pass *p, size_t row, const size_t n_rows, const size_t width)
{
    const uint8_t *codes = p->codes + row * GROUP;
    const TYPE *table = p->table;
    const TYPE *before = (const TYPE *)p->sums + row * SLICE;
    TYPE *to = (TYPE *)p->to + row * p->to_stride;
    VECTOR sum[TILE_ROWS][SLICE / STEP];
    size_t c = p->first;
    if (c == 0) {
        UNROLL
        for (size_t r = 0; r < n_rows; r++)
            for (size_t v = 0; v < width / STEP; v++)
                sum[r][v] = LOAD(table + (size_t)codes[r * GROUP] * SLICE + v * STEP);
    } else {
        UNROLL
        for (size_t r = 0; r < n_rows; r++)
            for (size_t v = 0; v < width / STEP; v++)
                sum[r][v] = LOAD(before + r * SLICE + v * STEP);
    }
#ifdef CLIPS
    const VECTOR low = ALL_I(p->clip.low), high = ALL_I(p->clip.high);
    size_t until = p->clip.every ? p->clip.every - c % p->clip.every : SIZE_MAX;
#define CLIP_WHEN_DUE                                                       \
    if (p->clip.every && (--until == 0 || c + 1 == p->n_codebooks)) {       \
        until = p->clip.every;                                              \
        for (size_t r = 0; r < n_rows; r++)                                 \
            for (size_t v = 0; v < width / STEP; v++)                      \
                sum[r][v] = MAX_I(MIN_I(sum[r][v], high), low);             \
    }
#else
#define CLIP_WHEN_DUE
#endif
    if (c == 0) {
        CLIP_WHEN_DUE
        c = 1;
        codes++;
        table += p->table_span;
    }
    for (; c < p->end; c++) {
        UNROLL
        for (size_t r = 0; r < n_rows; r++) {
            const TYPE *entries = table + (size_t)codes[r * GROUP] * SLICE;
            UNROLL
            for (size_t v = 0; v < width / STEP; v++)
                sum[r][v] = ADD(sum[r][v], LOAD(entries + v * STEP));
        }
        CLIP_WHEN_DUE
        codes++;
        table += p->table_span;
    }
#undef CLIP_WHEN_DUE
    UNROLL
    for (size_t r = 0; r < n_rows; r++)
        for (size_t v = 0; v < width / STEP; v++)
            STORE(to + r * p->to_stride + v * STEP, sum[r][v]);
}

TARGET INLINE void TYPED(tiles)(const Pass *p, const size_t width)
{
    Ahead *ahead = p->ahead;
    size_t row = 0;
    for (; row + TILE_ROWS <= p->n_rows; row += TILE_ROWS) {
        if (ahead != NULL)
            for (size_t n = 0; n < ahead->lines * TILE_ROWS; n += 8, ahead->next += 64)
                if (ahead->next < ahead->end)
                    PREFETCH(ahead->next);
        TYPED(tile)(p, row, TILE_ROWS, width);
    }
    for (; row < p->n_rows; row++)
        TYPED(tile)(p, row, 1, width);
}

#undef TYPED
#undef KIND
#undef TYPE
#undef VECTOR
#undef LOAD
#undef STORE
#undef ADD
#undef CLIPS
#undef STEP
