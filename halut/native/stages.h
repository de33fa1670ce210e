/* What every variant compiles for its own vectors as the compiler makes them: what is done with sums
 * before they leave, and sums by code. */
enum { RAW = 0, DEQUANTIZED = 1 };

typedef struct {
    int kind;
    const float *scale, *offset; /* DEQUANTIZED: of every output; sum * scale + offset */
} Stage;

#define FINISH(name, TYPE)                                                                     \
    INLINE void name(const Stage *stage, const void *from, size_t n_rows, size_t first,        \
                     size_t n, void *out, size_t stride)                                       \
    {                                                                                          \
        const size_t slice = ENTRY_BYTES / sizeof(TYPE);                                       \
        const float *scale = stage->scale + first, *offset = stage->offset + first;            \
        for (size_t r = 0; r < n_rows; r++) {                                                  \
            const TYPE *restrict sums = (const TYPE *)from + r * slice;                        \
            if (stage->kind == DEQUANTIZED) {                                                  \
                float *restrict to = (float *)out + r * stride + first;                        \
                for (size_t m = 0; m < n; m++)                                                 \
                    to[m] = (float)sums[m] * scale[m] + offset[m];                             \
            } else {                                                                           \
                int32_t *restrict to = (int32_t *)out + r * stride + first;                    \
                for (size_t m = 0; m < n; m++)                                                 \
                    to[m] = sums[m];                                                           \
            }                                                                                  \
        }                                                                                      \
    }

FINISH(finish_ints, int32_t)
FINISH(finish_shorts, int16_t)

/* Rows (N, R) added up by code in `few` (K, R), which are added to `sums` (K, any). */
INLINE void add_rows_by_code(const uint8_t *codes, size_t n_rows, const float *restrict rows,
                             const size_t n_targets, size_t n_prototypes, float *restrict few,
                             double *restrict sums, size_t stride)
{
    memset(few, 0, n_prototypes * n_targets * sizeof *few);
    for (size_t r = 0; r < n_rows; r++) {
        const float *restrict from = rows + r * n_targets;
        float *restrict to = few + codes[r] * n_targets;
        for (size_t t = 0; t < n_targets; t++)
            to[t] += from[t];
    }
    for (size_t k = 0; k < n_prototypes; k++)
        for (size_t t = 0; t < n_targets; t++)
            sums[k * stride + t] += few[k * n_targets + t];
}

/* Rows (N, R), N small, lose table entries (K, R), are added up by other codes in `few` (K, R), which
 * are added to `sums` (K, R), and get these codes' entries. */
INLINE void exchange_entries_by_code(const uint8_t *lost_codes, const float *restrict lost,
                                     const uint8_t *codes, const float *restrict table,
                                     size_t n_rows, const size_t n_targets, size_t n_prototypes,
                                     float *restrict rows, float *restrict few,
                                     double *restrict sums)
{
    memset(few, 0, n_prototypes * n_targets * sizeof *few);
    for (size_t r = 0; r < n_rows; r++) {
        const float *restrict off = lost + lost_codes[r] * n_targets;
        const float *restrict on = table + codes[r] * n_targets;
        float *restrict row = rows + r * n_targets, *restrict sum = few + codes[r] * n_targets;
        for (size_t t = 0; t < n_targets; t++) {
            const float rest = row[t] - off[t];
            sum[t] += rest;
            row[t] = rest + on[t];
        }
    }
    for (size_t i = 0; i < n_prototypes * n_targets; i++)
        sums[i] += few[i];
}

INLINE void add_entries_by_code(const uint8_t *codes, size_t n_rows, const float *restrict table,
                                size_t n_targets, int subtracts, float *restrict rows)
{
    for (size_t r = 0; r < n_rows; r++) {
        const float *restrict from = table + codes[r] * n_targets;
        float *restrict to = rows + r * n_targets;
        if (subtracts)
            for (size_t t = 0; t < n_targets; t++)
                to[t] -= from[t];
        else
            for (size_t t = 0; t < n_targets; t++)
                to[t] += from[t];
    }
}
