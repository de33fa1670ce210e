/* Trees and tables as the kernels read them. */

/* Thresholds of floats as those of bytes that decide alike; whether there are such. */
static int byte_thresholds(int8_t *bytes, const float *thresholds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float at = floorf(thresholds[i]);
        if (!(at >= INT8_MIN)) /* all bytes are above; or it is NaN */
            return 0;
        bytes[i] = (int8_t)(at < INT8_MAX ? at : INT8_MAX);
    }
    return 1;
}

/* Where 16 codebooks find what they look at in rows of bytes; `from` has a mask for every vector. */
static void make_pick(Pick *pick, uint64_t *from, const Trees *trees, size_t first)
{
    memset(pick, 0, sizeof *pick);
    pick->from = from;
    pick->first = SIZE_MAX;
    for (size_t t = 0; t < trees->depth; t++)
        for (size_t c = first; c < smaller(first + GROUP, trees->n_codebooks); c++) {
            const size_t place = (size_t)trees->places[t * trees->padded + c], v = place / 64;
            const size_t byte = t * GROUP + c - first;
            pick->where[byte] = place % 64;
            from[v] |= (uint64_t)1 << byte;
            pick->first = smaller(pick->first, v);
            pick->end = v < pick->end ? pick->end : v + 1;
        }
    for (size_t n = 2; n <= 8 && !pick->at_once; n *= 2)
        if (pick->end <= pick->first + n && (pick->first + n) * 64 <= trees->n_features)
            pick->at_once = n;
}

/* What quad_blocks.h reads; whether there was too little memory. */
static int make_quad_trees(Trees *trees, const Rows *rows)
{
    const size_t n_nodes = ((size_t)1 << trees->depth) - 1, padded = trees->padded;
    if (rows->kind == FLOAT32) {
        if (rows->row_stride != 1)
            return 0;
        float *levels = aligned(padded * QUAD_DEPTH * LEVEL, 4, &trees->blocks[1]);
        if (levels == NULL)
            return 1;
        for (size_t c = 0; c < padded; c++)
            make_levels(trees->by_codebook + (c < trees->n_codebooks ? c * n_nodes : 0),
                        trees->depth, levels + c * QUAD_DEPTH * LEVEL);
        trees->levels = levels;
        return 0;
    }
    if (rows->row_stride != 1 && rows->column_stride != 1)
        return 0;
    const size_t n_vectors = (rows->n_features + 63) / 64, groups = padded / GROUP;
    const size_t level_bytes = padded * QUAD_DEPTH * LEVEL, node_bytes = padded * 16;
    const size_t mask_bytes = round_up(groups * n_vectors * sizeof(uint64_t), 64);
    char *block = aligned(level_bytes + node_bytes + mask_bytes + groups * sizeof(Pick), 1,
                          &trees->blocks[1]);
    if (block == NULL)
        return 1;
    int8_t *byte_levels = (int8_t *)block, *nodes = byte_levels + level_bytes;
    uint64_t *from = (uint64_t *)(void *)(nodes + node_bytes);
    Pick *picks = (Pick *)(void *)(nodes + node_bytes + mask_bytes);
    memset(from, 0, mask_bytes);
    for (size_t c = 0; c < padded; c++) {
        const float *thresholds = trees->by_codebook + (c < trees->n_codebooks ? c * n_nodes : 0);
        float levels[QUAD_DEPTH * LEVEL];
        int8_t bytes[16];
        make_levels(thresholds, trees->depth, levels);
        if (!byte_thresholds(bytes, thresholds, n_nodes) ||
            !byte_thresholds(byte_levels + c * QUAD_DEPTH * LEVEL, levels, QUAD_DEPTH * LEVEL))
            return 0;
        for (size_t n = 0; n < n_nodes; n++)
            nodes[(c / GROUP * 16 + n) * GROUP + c % GROUP] = bytes[n];
    }
    for (size_t g = 0; rows->column_stride == 1 && g < groups; g++)
        make_pick(picks + g, from + g * n_vectors, trees, g * GROUP);
    trees->byte_levels = byte_levels;
    trees->byte_nodes = nodes;
    trees->picks = picks;
    return 0;
}

/* Trees of rows with these strides; codebooks that fill up a group look at what codebook 0 does.
 * `free_trees` gives their memory back, also after a failure. */
static int make_trees(Trees *trees, int variant, const Rows *rows, size_t n_codebooks, size_t depth,
                      const int32_t *dims, const float *thresholds)
{
    const size_t n_nodes = ((size_t)1 << depth) - 1;
    const size_t padded = round_up(n_codebooks, GROUP);
    memset(trees, 0, sizeof *trees);
    float *nodes = aligned((n_nodes + depth) * padded, 4, &trees->blocks[0]);
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
    trees->n_features = rows->n_features;
    trees->n_codebooks = n_codebooks;
    trees->padded = padded;
    trees->depth = depth;
    trees->places = places;
    trees->by_node = nodes;
    trees->by_codebook = thresholds;
    return variant == VNNI && depth <= QUAD_DEPTH ? make_quad_trees(trees, rows) : 0;
}

static void free_trees(Trees *trees)
{
    free(trees->blocks[0]);
    free(trees->blocks[1]);
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
