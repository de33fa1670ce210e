/* Sums and counts over the rows that are learned from. */
enum { PAIRED = 4, TRIPLED = 16, SUMMED_ROWS = 128, SUMMED_TARGETS = 64 };

/* Counts of the codes of two codebooks (K, K), at their places in counts (size, size). */
static void put_counts(const uint32_t *met, size_t K, size_t i, size_t j, size_t size,
                       double *counts)
{
    for (size_t k = 0; k < K; k++)
        for (size_t l = 0; l < K; l++)
            counts[(i * K + k) * size + j * K + l] = met[k * K + l];
    for (size_t l = 0; l < K; l++)
        for (size_t k = 0; k < K; k++)
            counts[(j * K + l) * size + i * K + k] = met[k * K + l];
}

/* Codebook i beside n others, at most PAIRED, from the j-th on. */
static void count_pairs(const uint8_t *codes, size_t n_rows, size_t K, size_t i, size_t j, size_t n,
                        size_t size, uint32_t *met, double *counts)
{
    const uint8_t *first = codes + i * n_rows;
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
        put_counts(met + p * K * K, K, i, j + p, size, counts);
}

/* One codebook beside two couples, codes (couple, N) of which are l * K + m: a count of three codes
 * holds that of two. */
static void count_triples(const uint8_t *first, const uint8_t *a, const uint8_t *b, size_t n_rows,
                          size_t K, uint32_t *met)
{
    memset(met, 0, 2 * K * K * K * sizeof *met);
    for (size_t r = 0; r < n_rows; r++) {
        uint32_t *row = met + first[r] * K * K;
        row[a[r]]++;
        row[K * K * K + b[r]]++;
    }
}

/* Of counts (K, K, K), those of the first code with the second, and with the third (2, K, K). */
static void add_up_triples(const uint32_t *met, size_t K, uint32_t *pairs)
{
    uint32_t *second = pairs, *third = pairs + K * K;
    memset(pairs, 0, 2 * K * K * sizeof *pairs);
    for (size_t k = 0; k < K; k++)
        for (size_t l = 0; l < K; l++) {
            const uint32_t *of = met + (k * K + l) * K;
            uint32_t sum = 0;
            for (size_t m = 0; m < K; m++) {
                sum += of[m];
                third[k * K + m] += of[m];
            }
            second[k * K + l] = sum;
        }
}

/* How often each pair of codes (C, N) meets in a row: counts (C*K, C*K). Codebooks 2p and 2p + 1 are
 * a couple; each one is counted beside the couples behind its own, which halves the counting, where
 * a couple's code is a byte and rows are more than counts. */
EXPORT int halut_count_meetings(int variant, const uint8_t *codes, size_t n_codebooks,
                                size_t n_rows, size_t n_prototypes, double *counts)
{
    const size_t K = n_prototypes, size = n_codebooks * K;
    const size_t n_couples = K <= TRIPLED && n_rows >= K * K * K ? n_codebooks / 2 : 0;
    const size_t alone = 2 * n_couples;
    const size_t n_met = n_couples ? 2 * (K + 1) * K * K : PAIRED * K * K;
    void *block;
    (void)variant;
    uint32_t *met = aligned(n_met * sizeof *met + n_couples * n_rows, 1, &block);
    if (met == NULL)
        return 1;
    uint8_t *couples = (uint8_t *)(met + n_met);
    memset(counts, 0, size * size * sizeof *counts);
    for (size_t p = 0; p < n_couples; p++)
        for (size_t r = 0; r < n_rows; r++)
            couples[p * n_rows + r] =
                (uint8_t)(codes[2 * p * n_rows + r] * K + codes[(2 * p + 1) * n_rows + r]);
    for (size_t i = 0; i < n_codebooks; i++) {
        const uint8_t *first = codes + i * n_rows;
        for (size_t r = 0; r < n_rows; r++)
            counts[(i * K + first[r]) * (size + 1)] += 1;
        for (size_t p = i / 2 + 1; p < n_couples; p += 2) {
            const size_t n = smaller(2, n_couples - p);
            const uint8_t *a = couples + p * n_rows, *b = n > 1 ? a + n_rows : a;
            uint32_t *pairs = met + 2 * K * K * K;
            count_triples(first, a, b, n_rows, K, met);
            for (size_t q = 0; q < n; q++) {
                add_up_triples(met + q * K * K * K, K, pairs);
                put_counts(pairs, K, i, 2 * (p + q), size, counts);
                put_counts(pairs + K * K, K, i, 2 * (p + q) + 1, size, counts);
            }
        }
        /* The other one of its couple, and those that have none. */
        if (i + 1 < alone && i % 2 == 0)
            count_pairs(codes, n_rows, K, i, i + 1, 1, size, met, counts);
        for (size_t j = alone > i + 1 ? alone : i + 1; j < n_codebooks; j += PAIRED)
            count_pairs(codes, n_rows, K, i, j, smaller(PAIRED, n_codebooks - j), size, met,
                        counts);
    }
    free(block);
    return 0;
}

/* The targets (N, R) of the rows that share a code of codes (C, N), added up: sums (C*K, R). A few
 * rows are added in floats, these sums in doubles; a slice of targets at a time, in the cache. */
EXPORT int halut_table_sums(int variant, const uint8_t *codes, size_t n_codebooks, size_t n_rows,
                            size_t n_prototypes, const float *targets, size_t n_targets,
                            double *sums)
{
    const size_t few_size = n_prototypes * SUMMED_TARGETS;
    void *block;
    float *few = aligned(few_size + SUMMED_ROWS * SUMMED_TARGETS, sizeof *few, &block);
    if (few == NULL)
        return 1;
    float *copy = few + few_size;
    memset(sums, 0, n_codebooks * n_prototypes * n_targets * sizeof *sums);
    for (size_t begin = 0; begin < n_rows; begin += SUMMED_ROWS)
        for (size_t first = 0; first < n_targets; first += SUMMED_TARGETS) {
            const size_t rows = smaller(SUMMED_ROWS, n_rows - begin);
            const size_t n = smaller(SUMMED_TARGETS, n_targets - first);
            const float *slice = targets + begin * n_targets;
            if (n < n_targets) {
                for (size_t r = 0; r < rows; r++)
                    memcpy(copy + r * n, slice + r * n_targets + first, n * sizeof *copy);
                slice = copy;
            }
            for (size_t c = 0; c < n_codebooks; c++)
                variants[variant].add_rows(codes + c * n_rows + begin, rows, slice, n,
                                           n_prototypes, few,
                                           sums + c * n_prototypes * n_targets + first, n_targets);
        }
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

/* Rows (N, R) lose the table entries (K, R) that some codes select, and get those of others. Between
 * the two they are added up by the others: sums (K, R), as in halut_table_sums. */
EXPORT int halut_exchange_entries(int variant, const uint8_t *lost_codes, const float *lost,
                                  const uint8_t *codes, const float *table, size_t n_rows,
                                  size_t n_targets, size_t n_prototypes, float *rows, double *sums)
{
    void *block;
    float *few = aligned(n_prototypes * n_targets, sizeof *few, &block);
    if (few == NULL)
        return 1;
    memset(sums, 0, n_prototypes * n_targets * sizeof *sums);
    for (size_t begin = 0; begin < n_rows; begin += SUMMED_ROWS)
        variants[variant].exchange_entries(lost_codes + begin, lost, codes + begin, table,
                                           smaller(SUMMED_ROWS, n_rows - begin), n_targets,
                                           n_prototypes, rows + begin * n_targets, few, sums);
    free(block);
    return 0;
}
