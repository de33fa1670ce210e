/* Trees and tables as the kernels read them. */

/* Trees of rows with these strides; codebooks that fill up a group look at what codebook 0 does. */
static int make_trees(Trees *trees, void **block, const Rows *rows, size_t n_codebooks,
                      size_t depth, const int32_t *dims, const float *thresholds)
{
    const size_t n_nodes = ((size_t)1 << depth) - 1;
    const size_t padded = round_up(n_codebooks, GROUP);
    float *nodes = aligned((n_nodes + depth) * padded, 4, block);
    if (nodes == NULL)
        return 1;
    int32_t *places = (int32_t *)(void *)(nodes + n_nodes * padded);
    for (size_t c = 0; c < padded; c++) {
        const size_t from = c < n_codebooks ? c : 0;
        for (size_t n = 0; n < n_nodes; n++)
            nodes[n * padded + c] = thresholds[from * n_nodes + n];
        for (size_t t = 0; t < depth; t++)
            places[t * padded + c] = (int32_t)(dims[from * depth + t] * rows->column_stride);
    }
    trees->row_stride = rows->row_stride;
    trees->n_codebooks = n_codebooks;
    trees->padded = padded;
    trees->depth = depth;
    trees->places = places;
    trees->by_node = nodes;
    trees->by_codebook = thresholds;
    return 0;
}

static size_t slice_of(int layout)
{
    return layout == SHORTS ? ENTRY_BYTES / 2 : ENTRY_BYTES / 4;
}

static int32_t entry_of(const void *lut, int kind, size_t at)
{
    return kind == BYTES ? ((const int8_t *)lut)[at] : ((const int16_t *)lut)[at];
}

/* Tables (M, C, K) as (slices, C, K, outputs of a slice). */
static void make_slices(int layout, int kind, const void *lut, const float *offset, size_t C,
                        size_t K, size_t M, char *tables)
{
    const size_t slice = slice_of(layout);
    for (size_t s = 0; s < M; s += slice)
        for (size_t c = 0; c < C; c++, tables += K * ENTRY_BYTES) {
            const size_t n = smaller(slice, M - s);
            if (n < slice)
                memset(tables, 0, K * ENTRY_BYTES);
            for (size_t m = 0; m < n; m++) {
                const size_t from = ((s + m) * C + c) * K;
                if (layout == FLOATS) {
                    const float *row = (const float *)lut + from;
                    float *to = (float *)(void *)tables + m;
                    const int adds = c == 0 && offset != NULL;
                    for (size_t k = 0; k < K; k++)
                        to[k * slice] = adds ? row[k] + offset[s + m] : row[k];
                } else if (layout == INTS) {
                    for (size_t k = 0; k < K; k++)
                        ((int32_t *)(void *)tables)[k * slice + m] = entry_of(lut, kind, from + k);
                } else {
                    for (size_t k = 0; k < K; k++)
                        ((int16_t *)(void *)tables)[k * slice + m] =
                            (int16_t)entry_of(lut, kind, from + k);
                }
            }
        }
}

/* Tables (M, C, K) of bytes, K at most 16, as (M / 4, quads, 4, 64), filled up with zeros. */
static void make_quads(const int8_t *lut, size_t C, size_t K, size_t M, char *tables)
{
    const size_t n_quads = round_up(C, 4) / 4;
    memset(tables, 0, round_up(M, 4) * n_quads * 64);
    for (size_t m = 0; m < M; m++)
        for (size_t c = 0; c < C; c++)
            memcpy(tables + ((m / 4 * n_quads + c / 4) * 4 + m % 4) * 64 + c % 4 * 16,
                   lut + (m * C + c) * K, K);
}

EXPORT size_t halut_table_bytes(int layout, size_t C, size_t K, size_t M)
{
    if (layout == QUADS)
        return round_up(M, 4) * round_up(C, 4) * 16;
    return round_up(M, slice_of(layout)) / slice_of(layout) * C * K * ENTRY_BYTES;
}

/* Lay out tables (M, C, K); `tables` has halut_table_bytes, at a multiple of 64. FLOATS adds
 * `offset` (M) to the first codebook's entries, where there is one. */
EXPORT void halut_make_tables(int layout, int kind, const void *lut, const float *offset, size_t C,
                              size_t K, size_t M, char *tables)
{
    if (layout == QUADS)
        make_quads(lut, C, K, M, tables);
    else
        make_slices(layout, kind, lut, offset, C, K, M, tables);
}
