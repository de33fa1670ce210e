/* One tree is learned: halut.trees says how. Included by kernels.c.
 *
 * Columns are sorted into bins once. Sums run over rows in their order, in doubles, as in NumPy.
 */
enum { BINS = 512, RADIX_BITS = 11, RADIX = 1 << RADIX_BITS };

/* Columns as bins; numbered in halut/native/learning.py, too. */
typedef struct {
    uint16_t *index;   /* (columns, rows): the bin of a row */
    float *low, *high; /* (columns, BINS): the smallest and the largest value of a bin */
    int64_t *n_bins;   /* (columns): 0 where a column was not sorted yet */
} Bins;

typedef struct {
    const float *columns; /* (columns, rows) */
    const double *targets; /* (targets, rows) */
    size_t n_columns, n_rows, n_targets, depth;
    double *by_row;        /* targets (rows, targets) */
    /* Rows that columns are ranked by, `every`-th ones. */
    size_t every, n_ranked;
    double *ranked;  /* (n_ranked, columns) less their first row */
    double *moments; /* of nodes: rows; of columns x, x * x, and y and x * y of every target */
    double *explained;
    uint32_t *counts; /* (nodes, BINS) */
    double *sums;     /* (nodes, BINS, targets) */
    uint64_t *keys;   /* (2, rows) */
    uint32_t *borders;
} Growth;

/* Floats in order as unsigned integers; zeros of both signs are equal. */
static uint32_t key_of(float value)
{
    uint32_t bits;
    value += 0.0F;
    memcpy(&bits, &value, 4);
    return bits & 0x80000000U ? ~bits : bits | 0x80000000U;
}

/* Keys (n) with row numbers below them, sorted by the key; `other` is of the same size. */
static uint64_t *sort_keys(uint64_t *keys, uint64_t *other, size_t n)
{
    enum { PASSES = 3 };
    uint32_t places[PASSES][RADIX];
    memset(places, 0, sizeof places);
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < PASSES; p++)
            places[p][keys[i] >> (32 + p * RADIX_BITS) & (RADIX - 1)]++;
    for (size_t p = 0; p < PASSES; p++) {
        uint32_t at = 0;
        for (size_t digit = 0; digit < RADIX; digit++) {
            const uint32_t here = places[p][digit];
            places[p][digit] = at;
            at += here;
        }
        for (size_t i = 0; i < n; i++)
            other[places[p][keys[i] >> (32 + p * RADIX_BITS) & (RADIX - 1)]++] = keys[i];
        uint64_t *swapped = keys;
        keys = other;
        other = swapped;
    }
    return keys;
}

/* Sort a column into bins of about equally many rows; equal values share a bin. */
static void make_bins(const Growth *g, size_t column, const Bins *bins)
{
    const float *values = g->columns + column * g->n_rows;
    const size_t n = g->n_rows;
    uint16_t *index = bins->index + column * n;
    float *low = bins->low + column * BINS, *high = bins->high + column * BINS;
    for (size_t i = 0; i < n; i++)
        g->keys[i] = (uint64_t)key_of(values[i]) << 32 | i;
    const uint64_t *sorted = sort_keys(g->keys, g->keys + n, n);
    size_t n_borders = 0, n_bins = 0, at = 0;
    for (size_t i = 1; i < n; i++)
        if (sorted[i] >> 32 != sorted[i - 1] >> 32)
            g->borders[n_borders++] = (uint32_t)i;
    if (n_borders >= BINS) {
        /* Of places where a bin may begin, the ones nearest to even shares. */
        size_t kept = 0;
        for (size_t s = 1, j = 0; s < BINS; s++) {
            const double share = (double)s * ((double)n / BINS);
            while (j + 1 < n_borders && g->borders[j] < share)
                j++;
            if (kept == 0 || g->borders[kept - 1] != g->borders[j])
                g->borders[kept++] = g->borders[j];
        }
        n_borders = kept;
    }
    for (size_t b = 0; b <= n_borders; b++, n_bins++) {
        const size_t end = b < n_borders ? g->borders[b] : n;
        low[b] = values[(uint32_t)sorted[at]];
        high[b] = values[(uint32_t)sorted[end - 1]];
        for (; at < end; at++)
            index[(uint32_t)sorted[at]] = (uint16_t)b;
    }
    bins->n_bins[column] = (int64_t)n_bins;
}

/* How much of the targets a straight line in each node explains, for every column. */
static void rank(const Growth *g, const uint8_t *codes, size_t n_nodes)
{
    const size_t W = g->n_columns, T = g->n_targets, per_node = 1 + T + (2 + T) * W;
    memset(g->moments, 0, n_nodes * per_node * sizeof(double));
    for (size_t i = 0; i < g->n_ranked; i++) {
        const double *restrict x = g->ranked + i * W, *y = g->by_row + i * g->every * T;
        double *node = g->moments + codes[i * g->every] * per_node;
        double *restrict sums = node + 1 + T, *restrict squares = sums + W;
        node[0] += 1;
        for (size_t t = 0; t < T; t++)
            node[1 + t] += y[t];
        for (size_t w = 0; w < W; w++) {
            sums[w] += x[w];
            squares[w] += x[w] * x[w];
        }
        for (size_t t = 0; t < T; t++) {
            double *restrict products = squares + (1 + t) * W;
            for (size_t w = 0; w < W; w++)
                products[w] += x[w] * y[t];
        }
    }
    for (size_t w = 0; w < W; w++) {
        g->explained[w] = 0;
        for (size_t n = 0; n < n_nodes; n++) {
            const double *node = g->moments + n * per_node, *sums = node + 1 + T;
            const double rows = node[0], x = sums[w], squares = sums[W + w];
            if (rows < 2)
                continue;
            const double spread = squares - x * x / rows;
            /* Of rows that do not differ, all but nothing is rounding. */
            if (spread <= 1e-12 * squares)
                continue;
            for (size_t t = 0; t < T; t++) {
                const double slope = sums[(2 + t) * W + w] - x * node[1 + t] / rows;
                g->explained[w] += slope * slope / spread;
            }
        }
    }
}

/* The column, of those not taken yet, that explains most; of equal ones the first. */
static size_t next_best(const Growth *g, uint8_t *taken)
{
    size_t best = SIZE_MAX;
    for (size_t w = 0; w < g->n_columns; w++)
        if (!taken[w] && (best == SIZE_MAX || g->explained[w] > g->explained[best]))
            best = w;
    taken[best] = 1;
    return best;
}

#if defined(__GNUC__)
typedef double Couple __attribute__((vector_size(16), aligned(8), may_alias));
#else
typedef double Couple;
#endif

/* Rows counted, and their targets added up, by node and bin. */
INLINE void fill_cells(const Growth *g, const uint8_t *codes, const uint16_t *index, size_t n_bins,
                       const size_t n_targets)
{
    const size_t at_once = n_targets % 2 ? 1 : sizeof(Couple) / sizeof(double);
    for (size_t r = 0; r < g->n_rows; r++) {
        const size_t cell = codes[r] * n_bins + index[r];
        double *sum = g->sums + cell * n_targets;
        const double *from = g->by_row + r * n_targets;
        g->counts[cell]++;
        for (size_t t = 0; t < n_targets; t += at_once)
            if (at_once > 1)
                *(Couple *)(void *)(sum + t) += *(const Couple *)(const void *)(from + t);
            else
                sum[t] += from[t];
    }
}

/* Where to cut a node's rows in two, and what the squared error falls by. */
static double split_node(const Growth *g, size_t node, size_t n_bins, double shrinkage,
                         const float *low, const float *high, float *threshold)
{
    const size_t T = g->n_targets;
    uint32_t *counts = g->counts + node * n_bins;
    double *sums = g->sums + node * n_bins * T;
    for (size_t b = 1; b < n_bins; b++) {
        counts[b] += counts[b - 1];
        for (size_t t = 0; t < T; t++)
            sums[b * T + t] += sums[(b - 1) * T + t];
    }
    const double rows = counts[n_bins - 1], *total = sums + (n_bins - 1) * T;
    double best = -1;
    size_t place = 0, next = 0, last = 0;
    for (size_t b = 0; b < n_bins; b++) {
        const double left = counts[b], right = rows - left;
        double gain = 0;
        if (left > 0 && right > 0) {
            const double share = left / rows;
            for (size_t t = 0; t < T; t++) {
                const double sum = sums[b * T + t] - share * total[t];
                gain += sum * sum;
            }
            const double l = left + shrinkage, r = right + shrinkage;
            gain *= 1 / (l > 1 ? l : 1) + 1 / (r > 1 ? r : 1);
        }
        if (gain > best) {
            best = gain;
            place = b;
            next = 0;
        } else if (next == 0 && counts[b] > counts[place]) {
            next = b;
        }
        if (b > 0 && counts[b] > counts[b - 1])
            last = b;
    }
    /* Between the largest value on the left and the smallest on the right, of values in use here. */
    const float on_left = high[place], on_right = low[next];
    const float middle = (float)(((double)on_left + (double)on_right) / 2);
    *threshold = on_left <= middle && middle < on_right ? middle : on_left;
    /* Rows that do not differ go left; where there are none, any value will do. */
    if (!(best > 0))
        *threshold = high[last];
    if (rows == 0)
        *threshold = high[n_bins / 2];
    return best;
}

/* Every node's threshold in one column; what the squared error falls by in all. */
static double split_nodes(const Growth *g, const uint8_t *codes, size_t n_nodes, size_t column,
                          double shrinkage, const Bins *bins, float *thresholds)
{
    const size_t n_bins = (size_t)bins->n_bins[column];
    const uint16_t *index = bins->index + column * g->n_rows;
    double gain = 0;
    memset(g->counts, 0, n_nodes * n_bins * sizeof *g->counts);
    memset(g->sums, 0, n_nodes * n_bins * g->n_targets * sizeof(double));
    switch (g->n_targets) {
    case 2: fill_cells(g, codes, index, n_bins, 2); break;
    case 4: fill_cells(g, codes, index, n_bins, 4); break;
    default: fill_cells(g, codes, index, n_bins, g->n_targets);
    }
    for (size_t node = 0; node < n_nodes; node++)
        gain += split_node(g, node, n_bins, shrinkage, bins->low + column * BINS,
                           bins->high + column * BINS, thresholds + node);
    return gain;
}

/* Parts of one block of memory, each at a multiple of 64 bytes. */
static void *part_of(char **at, size_t count, size_t size)
{
    void *part = *at;
    *at += round_up(count * size, 64);
    return part;
}

static int open_growth(Growth *g, uint8_t **taken, float **found, void **block)
{
    const size_t n_nodes = (size_t)1 << (g->depth - 1), W = g->n_columns, T = g->n_targets;
    g->n_ranked = (g->n_rows + g->every - 1) / g->every;
    const size_t sizes[][2] = {
        {g->n_rows * T, 8},   {g->n_ranked * W, 8}, {n_nodes * (1 + T + (2 + T) * W), 8},
        {W, 8},               {n_nodes * BINS, 4},  {n_nodes * BINS * T, 8},
        {2 * g->n_rows, 8},   {g->n_rows, 4},       {W, 1},
        {n_nodes, 4},
    };
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        bytes += round_up(sizes[i][0] * sizes[i][1], 64);
    char *at = aligned(bytes, 1, block);
    if (at == NULL)
        return 1;
    g->by_row = part_of(&at, g->n_rows * T, 8);
    g->ranked = part_of(&at, g->n_ranked * W, 8);
    g->moments = part_of(&at, n_nodes * (1 + T + (2 + T) * W), 8);
    g->explained = part_of(&at, W, 8);
    g->counts = part_of(&at, n_nodes * BINS, 4);
    g->sums = part_of(&at, n_nodes * BINS * T, 8);
    g->keys = part_of(&at, 2 * g->n_rows, 8);
    g->borders = part_of(&at, g->n_rows, 4);
    *taken = part_of(&at, W, 1);
    *found = part_of(&at, n_nodes, 4);
    for (size_t r = 0; r < g->n_rows; r++)
        for (size_t t = 0; t < T; t++)
            g->by_row[r * T + t] = g->targets[t * g->n_rows + r];
    for (size_t i = 0; i < g->n_ranked; i++)
        for (size_t w = 0; w < W; w++) {
            const float *column = g->columns + w * g->n_rows;
            g->ranked[i * W + w] = (double)column[i * g->every] - (double)column[0];
        }
    return 0;
}

/* Learn a tree of columns (W, N) for targets (T, N): its split dimensions (depth), thresholds
 * (2**depth - 1) and the leaves of all rows. `bins` are made where they are missing. Columns are
 * ranked by `every`-th rows. There are at least one row and one target. */
EXPORT int halut_learn_tree(int variant, const float *columns, size_t n_columns, size_t n_rows,
                            const double *targets, size_t n_targets, size_t depth,
                            size_t n_candidates, double shrinkage, size_t every, const Bins *bins,
                            int32_t *split_dims, float *thresholds, uint8_t *codes)
{
    Growth g = {.columns = columns, .targets = targets, .n_columns = n_columns, .n_rows = n_rows,
                .n_targets = n_targets, .depth = depth, .every = every};
    uint8_t *taken;
    float *found;
    void *block;
    (void)variant;
    if (open_growth(&g, &taken, &found, &block))
        return 1;
    memset(codes, 0, n_rows);
    for (size_t level = 0; level < depth; level++) {
        const size_t n_nodes = (size_t)1 << level;
        float *nodes = thresholds + n_nodes - 1;
        double best = -1;
        if (n_candidates < n_columns)
            rank(&g, codes, n_nodes);
        memset(taken, 0, n_columns);
        for (size_t i = 0; i < smaller(n_candidates, n_columns); i++) {
            const size_t column = n_candidates < n_columns ? next_best(&g, taken) : i;
            if (!bins->n_bins[column])
                make_bins(&g, column, bins);
            const double gain = split_nodes(&g, codes, n_nodes, column, shrinkage, bins, found);
            if (gain > best) {
                best = gain;
                split_dims[level] = (int32_t)column;
                memcpy(nodes, found, n_nodes * sizeof *nodes);
            }
        }
        const float *values = columns + (size_t)split_dims[level] * n_rows;
        for (size_t r = 0; r < n_rows; r++)
            codes[r] = (uint8_t)(2 * codes[r] + (values[r] > nodes[codes[r]]));
    }
    free(block);
    return 0;
}
