/* Look up and add for one variant and one type of entries (KIND, TYPE), STEP of them in a vector;
 * included by variant.h.
 *
 * Sums of a few rows stay in registers while the codebooks of a pass go by; each code selects
 * neighbouring entries of a table that stays in the cache of the first level.
 */
#define TYPED(stem) JOIN(JOIN(stem, KIND), VARIANT)

TARGET INLINE void TYPED(tile)(const Pass *p, size_t row, const size_t n_rows, const size_t width)
{
    const size_t slice = ENTRY_BYTES / sizeof(TYPE);
    const uint8_t *codes = p->codes + row * 4;
    const TYPE *table = p->table;
    const TYPE *before = (const TYPE *)p->sums + row * slice;
    TYPE *to = (TYPE *)p->to + row * p->to_stride;
    VECTOR sum[TILE_ROWS][ENTRY_BYTES / sizeof(TYPE) / (STEP)];
    UNROLL
    for (size_t r = 0; r < n_rows; r++)
        for (size_t v = 0; v < width / (STEP); v++)
            sum[r][v] = p->first ? LOAD(before + r * slice + v * (STEP)) : NOTHING;
#ifdef CLIPS
    const VECTOR low = ALL_I(p->clip.low), high = ALL_I(p->clip.high);
    size_t until = p->clip.every ? p->clip.every - p->first % p->clip.every : SIZE_MAX;
#endif
    for (size_t c = p->first; c < p->end; c += 4) {
        const size_t n = smaller(4, p->end - c);
        for (size_t j = 0; j < n; j++) {
            UNROLL
            for (size_t r = 0; r < n_rows; r++) {
                const TYPE *entries = table + (size_t)codes[r * 4 + j] * slice;
                UNROLL
                for (size_t v = 0; v < width / (STEP); v++)
                    sum[r][v] = ADD(sum[r][v], LOAD(entries + v * (STEP)));
            }
#ifdef CLIPS
            if (p->clip.every && (--until == 0 || c + j + 1 == p->n_codebooks)) {
                until = p->clip.every;
                for (size_t r = 0; r < n_rows; r++)
                    for (size_t v = 0; v < width / (STEP); v++)
                        sum[r][v] = MAX_I(MIN_I(sum[r][v], high), low);
            }
#endif
            table += p->table_span;
        }
        codes += ROWS * 4;
    }
    UNROLL
    for (size_t r = 0; r < n_rows; r++)
        for (size_t v = 0; v < width / (STEP); v++)
            STORE(to + r * p->to_stride + v * (STEP), sum[r][v]);
}

TARGET INLINE void TYPED(tiles)(const Pass *p, const size_t width)
{
    size_t row = 0;
    for (; row + TILE_ROWS <= p->n_rows; row += TILE_ROWS) {
        fetch_ahead(p->ahead, TILE_ROWS);
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
#undef NOTHING
#undef CLIPS
#undef STEP
