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

/* Rows counted, and their targets added up, in cells of 1 + n_targets values. */
INLINE void fill_cells(const uint8_t *nodes, const uint16_t *bins, size_t n_rows, size_t n_bins,
                       const double *restrict targets, const size_t n_targets,
                       double *restrict cells)
{
    for (size_t r = 0; r < n_rows; r++) {
        double *cell = cells + (nodes[r] * n_bins + bins[r]) * (1 + n_targets);
        cell[0] += 1;
        for (size_t t = 0; t < n_targets; t++)
            cell[1 + t] += targets[t * n_rows + r];
    }
}

/* The best place to cut each node's rows (N) in two, of `n_bins` sorted bins, for T targets (T, N)
 * that should vary little on either side; see halut.trees. Of every node: `sizes`, its rows; `gains`;
 * `places`, the last bin on the left; `nexts`, the first bin on the right that has rows, or 0;
 * `lasts`, the last bin that has rows. */
EXPORT int halut_split_nodes(int variant, const uint8_t *nodes, const uint16_t *bins, size_t n_rows,
                             size_t n_nodes, size_t n_bins, const double *targets,
                             size_t n_targets, double shrinkage, int64_t *sizes, double *gains,
                             int64_t *places, int64_t *nexts, int64_t *lasts)
{
    /* Of a cell: its rows, and their targets added up. */
    const size_t width = n_targets + 1;
    void *block;
    double *cells = aligned(n_nodes * n_bins * width, sizeof(double), &block);
    (void)variant;
    if (cells == NULL)
        return 1;
    memset(cells, 0, n_nodes * n_bins * width * sizeof *cells);
    switch (n_targets) {
    case 2: fill_cells(nodes, bins, n_rows, n_bins, targets, 2, cells); break;
    case 4: fill_cells(nodes, bins, n_rows, n_bins, targets, 4, cells); break;
    default: fill_cells(nodes, bins, n_rows, n_bins, targets, n_targets, cells);
    }
    for (size_t node = 0; node < n_nodes; node++) {
        double *cell = cells + node * n_bins * width;
        for (size_t i = width; i < n_bins * width; i++)
            cell[i] += cell[i - width];
        const double *total = cell + (n_bins - 1) * width, rows = total[0];
        double best = -1, on_left = 0;
        sizes[node] = (int64_t)rows;
        places[node] = nexts[node] = lasts[node] = 0;
        for (size_t b = 0; b < n_bins; b++, cell += width) {
            const double left = cell[0], right = rows - left;
            double gain = 0;
            if (left > 0 && right > 0) {
                const double share = left / rows;
                for (size_t t = 1; t < width; t++) {
                    const double sum = cell[t] - share * total[t];
                    gain += sum * sum;
                }
                const double l = left + shrinkage, r = right + shrinkage;
                gain *= 1 / (l > 1 ? l : 1) + 1 / (r > 1 ? r : 1);
            }
            if (gain > best) {
                best = gain;
                on_left = left;
                places[node] = (int64_t)b;
                nexts[node] = 0;
            } else if (nexts[node] == 0 && left > on_left) {
                nexts[node] = (int64_t)b;
            }
            if (b > 0 && left > cell[-(ptrdiff_t)width])
                lasts[node] = (int64_t)b;
        }
        gains[node] = best;
    }
    free(block);
    return 0;
}

/* How much of the targets (T, N) a straight line in each node explains, for every column (W, N). */
EXPORT int halut_rank_columns(int variant, const uint8_t *nodes, size_t n_rows, size_t n_nodes,
                              const float *columns, size_t n_columns, const double *targets,
                              size_t n_targets, double *explained)
{
    /* Of a node: its rows, and the sums of x, x * x, and of y and x * y of every target. */
    const size_t width = 3 + 2 * n_targets;
    void *block;
    double *sums = aligned(n_nodes * width, sizeof *sums, &block);
    (void)variant;
    if (sums == NULL)
        return 1;
    for (size_t c = 0; c < n_columns; c++) {
        const float *column = columns + c * n_rows;
        memset(sums, 0, n_nodes * width * sizeof *sums);
        for (size_t r = 0; r < n_rows; r++) {
            double *sum = sums + nodes[r] * width;
            const double x = (double)column[r] - column[0];
            sum[0] += 1;
            sum[1] += x;
            sum[2] += x * x;
            for (size_t t = 0; t < n_targets; t++) {
                const double y = targets[t * n_rows + r];
                sum[3 + 2 * t] += y;
                sum[4 + 2 * t] += x * y;
            }
        }
        explained[c] = 0;
        for (size_t node = 0; node < n_nodes; node++) {
            const double *sum = sums + node * width;
            if (sum[0] < 2)
                continue;
            const double spread = sum[2] - sum[1] * sum[1] / sum[0];
            /* Of rows that do not differ, all but nothing is rounding. */
            if (spread <= 1e-12 * sum[2])
                continue;
            for (size_t t = 0; t < n_targets; t++) {
                const double slope = sum[4 + 2 * t] - sum[1] * sum[3 + 2 * t] / sum[0];
                explained[c] += slope * slope / spread;
            }
        }
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
    for (size_t c = 0; c < n_columns; c++)
        for (size_t r = 0; r < n_rows; r++)
            sums[codes[r] * n_columns + c] += columns[c * n_rows + r] - centres[c];
    return 0;
}

/* Table entries (K, R) that codes (N) select, added to rows (N, R), or taken off them. */
EXPORT int halut_add_entries(int variant, const uint8_t *codes, size_t n_rows, const float *table,
                             size_t n_targets, int subtracts, float *rows)
{
    variants[variant].add_entries(codes, n_rows, table, n_targets, subtracts, rows);
    return 0;
}
