/* What is done with sums before they leave. */
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
