/* Sums and counts over the rows that are learned from. */
enum { PAIRED = 4, SUMMED_ROWS = 128 };

/* How often each pair of codes (C, N) meets in a row: counts (C*K, C*K). */
EXPORT int halut_count_meetings(int variant, const uint8_t *codes, size_t n_codebooks,
                                size_t n_rows, size_t n_prototypes, double *counts)
{
    const size_t K = n_prototypes, size = n_codebooks * K;
    void *block;
    uint32_t *met = aligned(PAIRED * K * K, 4, &block);
    (void)variant;
    if (met == NULL)
        return 1;
    memset(counts, 0, size * size * sizeof *counts);
    for (size_t i = 0; i < n_codebooks; i++) {
        const uint8_t *first = codes + i * n_rows;
        for (size_t r = 0; r < n_rows; r++)
            counts[(i * K + first[r]) * (size + 1)] += 1;
        for (size_t j = i + 1; j < n_codebooks; j += PAIRED) {
            const size_t n = smaller(PAIRED, n_codebooks - j);
            const uint8_t *a = codes + j * n_rows, *b = n > 1 ? a + n_rows : a;
            const uint8_t *c = n > 2 ? b + n_rows : b, *d = n > 3 ? c + n_rows : c;
            memset(met, 0, PAIRED * K * K * sizeof *met);
            for (size_t r = 0; r < n_rows; r++) {
                uint32_t *row = met + first[r] * K;
                row[a[r]]++;
                row[K * K + b[r]]++;
                row[2 * K * K + c[r]]++;
                row[3 * K * K + d[r]]++;
            }
            for (size_t p = 0; p < n; p++)
                for (size_t k = 0; k < K; k++)
                    for (size_t l = 0; l < K; l++) {
                        const double times = met[(p * K + k) * K + l];
                        counts[(i * K + k) * size + (j + p) * K + l] = times;
                        counts[((j + p) * K + l) * size + i * K + k] = times;
                    }
        }
    }
    free(block);
    return 0;
}

/* The targets (N, R) of the rows that share a code of codes (C, N), added up: sums (C*K, R). A few
 * rows are added in floats, these sums in doubles. */
EXPORT int halut_table_sums(int variant, const uint8_t *codes, size_t n_codebooks, size_t n_rows,
                            size_t n_prototypes, const float *targets, size_t n_targets,
                            double *sums)
{
    const size_t size = n_prototypes * n_targets;
    void *block;
    float *few = aligned(size, sizeof *few, &block);
    if (few == NULL)
        return 1;
    memset(sums, 0, n_codebooks * size * sizeof *sums);
    for (size_t begin = 0; begin < n_rows; begin += SUMMED_ROWS)
        for (size_t c = 0; c < n_codebooks; c++)
            variants[variant].add_rows(codes + c * n_rows + begin,
                                       smaller(SUMMED_ROWS, n_rows - begin),
                                       targets + begin * n_targets, n_targets, size, few,
                                       sums + c * size);
    free(block);
    return 0;
}

/* Columns (W, N) less their centres (W), added up by code: sums (K, W). */
EXPORT int halut_column_sums(int variant, const uint8_t *codes, size_t n_rows,
                             size_t n_prototypes, const float *columns, const float *centres,
                             size_t n_columns, double *sums)
{
    (void)variant;
    memset(sums, 0, n_prototypes * n_columns * sizeof *sums);
    for (size_t c = 0; c < n_columns; c += PAIRED) {
        /* A few columns at a time: sums of rows with the same code wait for each other. */
        const float *from[PAIRED] = {NULL}, *centre = centres + c;
        const size_t n = smaller(PAIRED, n_columns - c);
        for (size_t i = 0; i < n; i++)
            from[i] = columns + (c + i) * n_rows;
        if (n == PAIRED)
            for (size_t r = 0; r < n_rows; r++) {
                double *sum = sums + codes[r] * n_columns + c;
                for (size_t i = 0; i < PAIRED; i++)
                    sum[i] += from[i][r] - centre[i];
            }
        else
            for (size_t r = 0; r < n_rows; r++)
                for (size_t i = 0; i < n; i++)
                    sums[codes[r] * n_columns + c + i] += from[i][r] - centre[i];
    }
    return 0;
}

/* Table entries (K, R) that codes (N) select, added to rows (N, R), or taken off them. */
EXPORT int halut_add_entries(int variant, const uint8_t *codes, size_t n_rows, const float *table,
                             size_t n_targets, int subtracts, float *rows)
{
    variants[variant].add_entries(codes, n_rows, table, n_targets, subtracts, rows);
    return 0;
}
