/* Steps of networks, and what they do in the vectors of a variant.
 *
 * Between layers, values are planes: of every channel, the rows of all items one after the other,
 * with zeros between the rows, between the items and around them, so that a kernel's features are at
 * fixed distances from a position, also in the padding. One line of neighbouring floats is encoded
 * from the first position of a band to the last one, zeros between the rows included; `slots` then
 * picks the codes of positions that are looked up.
 *
 * A tile is 64 slots. With pooling it has 16 results: slots i, 16 + i, 32 + i and 48 + i are
 * one result's two by two positions.
 */
#include "shuffle.h"

enum { LOAD = 0, CONVOLVE = 1, LARGEST = 2, MULTIPLY = 3 }; /* kinds of steps */

/* Neighbouring results of a tile, `n` of them, at most 16, from `slot` on: where they go, and what is
 * added to them, both counted from an output's plane. */
typedef struct {
    int32_t slot, n, to, from;
} Run;

/* Neighbouring tiles: the line that is encoded for them. */
typedef struct {
    int64_t line, n_line, first_tile, n_tiles;
} Band;

enum { MULTIPLIED = 8 }; /* outputs that MULTIPLY finds together */

/* As halut/native/network.py lays it out. LOAD copies images to planes; LARGEST finds the largest
 * value of every channel of every item; MULTIPLY is a convolution that is not looked up: from 0, the
 * features' products with weights are added one by one, each rounded once, then the offset. */
typedef struct {
    int64_t kind;
    int64_t n_items, channels, height, width;             /* all but CONVOLVE; MULTIPLY: of results */
    int64_t row_step, item_step;                          /* of planes; MULTIPLY: of x */
    int64_t out_row_step, out_item_step;                  /* MULTIPLY */
    int64_t by_pixel;                                     /* LOAD: whether channels are neighbours */
    int64_t in_step, out_step, other_step;                /* from one channel's plane to the next */
    int64_t groups, n_codebooks, depth, n_outputs;        /* codebooks and outputs of a group */
    int64_t n_features;                                   /* MULTIPLY */
    int64_t wrap_bits, relu;                              /* of the sums; 0: none */
    int64_t pool, rectify, rectify_sum;                   /* of the values; `other` is added between */
    int64_t norm_once;                                    /* whether a norm is rounded once */
    int64_t n_bands;
    const float *x;
    float *out;
    const float *other;                                   /* or NULL */
    const int64_t *places; /* (groups, codebooks filled up, depth); MULTIPLY: (features) */
    const float *trees;    /* see halut_make_trees */
    const float *weights;  /* MULTIPLY: (outputs / MULTIPLIED, features, MULTIPLIED) */
    const int8_t *tables;                                 /* see halut_pack */
    const float *scale, *offset;                          /* (groups, outputs) */
    const float *norm_scale, *norm_offset;                /* (groups, outputs) or NULL */
    const Band *bands;
    const int32_t *slots;                                 /* (tiles, TILE): place in the line */
    const int32_t *first_run;                             /* (tiles + 1) */
    const Run *runs;
} Step;

/* Whether greater sums of an output become smaller values. */
INLINE int turns(const Step *s, size_t output)
{
    return (s->scale[output] < 0) != (s->norm_scale != NULL && s->norm_scale[output] < 0);
}

INLINE void finish_in_c(const Step *s, const int32_t *sums, size_t output, size_t n_outputs,
                        const Run *runs, size_t n_runs)
{
    for (size_t k = 0; k < n_outputs; k++, output++) {
        const int32_t *from = sums + k * TILE;
        int32_t pooled[16];
        float values[TILE];
        if (s->pool) {
            for (size_t i = 0; i < 16; i++) {
                pooled[i] = from[i];
                for (size_t j = 16 + i; j < TILE; j += 16)
                    if (turns(s, output) ? from[j] < pooled[i] : from[j] > pooled[i])
                        pooled[i] = from[j];
            }
            from = pooled;
        }
        for (size_t i = 0; i < (s->pool ? 16 : TILE); i++) {
            float value = (float)from[i] * s->scale[output] + s->offset[output];
            if (s->norm_scale != NULL)
                value = s->norm_once
                            ? fmaf(value, s->norm_scale[output], s->norm_offset[output])
                            : value * s->norm_scale[output] + s->norm_offset[output];
            values[i] = s->rectify && value < 0 ? 0 : value;
        }
        float *out = s->out + (int64_t)output * s->out_step;
        const float *other = s->other + (int64_t)output * s->other_step;
        for (size_t r = 0; r < n_runs; r++)
            for (int32_t i = 0; i < runs[r].n; i++) {
                float value = values[runs[r].slot + i];
                if (s->other != NULL)
                    value += other[runs[r].from + i];
                out[runs[r].to + i] = s->rectify_sum && value < 0 ? 0 : value;
            }
    }
}

/* Codes of n tiles, `size` bytes each, to tiles that are `tile_bytes` apart. */
INLINE void pick_in_c(const void *line, const int32_t *slots, size_t n_tiles, char *codes,
                      size_t tile_bytes, const size_t size)
{
    for (size_t t = 0; t < n_tiles; t++, slots += TILE, codes += tile_bytes)
        for (size_t i = 0; i < TILE; i++)
            memcpy(codes + i * size, (const char *)line + (size_t)slots[i] * size, size);
}

/* Rows, `from_step` apart, to rows of planes, which may be the same. */
INLINE void copy_rows(const float *from, size_t from_step, size_t n_rows, size_t width, float *to,
                      size_t row_step, int rectify)
{
    for (size_t y = 0; y < n_rows; y++, from += from_step, to += row_step)
        for (size_t i = 0; i < width; i++)
            to[i] = rectify && from[i] < 0 ? 0 : from[i];
}

INLINE float largest_in_c(const float *x, size_t n_rows, size_t width, size_t row_step)
{
    float largest = x[0];
    for (size_t y = 0; y < n_rows; y++, x += row_step)
        for (size_t i = 0; i < width; i++)
            if (x[i] > largest || x[i] != x[i])
                largest = x[i];
    return largest;
}

#define IN_C(target, name)                                                                       \
    target static void finish_##name(const Step *s, const int32_t *sums, size_t output,          \
                                     size_t n_outputs, const Run *runs, size_t n_runs)           \
    {                                                                                            \
        finish_in_c(s, sums, output, n_outputs, runs, n_runs);                                   \
    }                                                                                            \
    target static void pick_##name(const void *line, const int32_t *slots, size_t n_tiles,       \
                                   char *codes, size_t tile_bytes)                               \
    {                                                                                            \
        pick_in_c(line, slots, n_tiles, codes, tile_bytes, 1);                                   \
    }
#define ROWS_IN_C(target, name)                                                                  \
    target static void copy_rows_##name(const float *from, size_t from_step, size_t n_rows,      \
                                        size_t width, float *to, size_t row_step, int rectify)   \
    {                                                                                            \
        copy_rows(from, from_step, n_rows, width, to, row_step, rectify);                        \
    }                                                                                            \
    target static float largest_##name(const float *x, size_t n_rows, size_t width,              \
                                       size_t row_step)                                          \
    {                                                                                            \
        return largest_in_c(x, n_rows, width, row_step);                                         \
    }

IN_C(NO_TARGET, portable)
ROWS_IN_C(NO_TARGET, portable)

#ifdef HAS_X86
IN_C(TARGET_AVX2, avx2)
ROWS_IN_C(TARGET_AVX2, avx2)

TARGET_QUADS static void pick_vnni(const void *line, const int32_t *slots, size_t n_tiles,
                                   char *codes, size_t tile_bytes)
{
    for (size_t t = 0; t < n_tiles; t++, codes += tile_bytes)
        UNROLL
        for (size_t i = 0; i < TILE; i += 16)
            _mm512_storeu_si512(
                codes + i * 4,
                _mm512_i32gather_epi32(_mm512_loadu_si512(slots + t * TILE + i), line, 4));
}

TARGET_QUADS INLINE __mmask16 first_lanes(size_t n)
{
    return (__mmask16)(0xffffU >> (16 - smaller(16, n)));
}

/* Values of an output after its batch norm, if there is one. */
TARGET_QUADS INLINE __m512 normalised(const Step *s, size_t output, __m512 value)
{
    if (s->norm_scale == NULL)
        return value;
    const __m512 a = _mm512_set1_ps(s->norm_scale[output]);
    const __m512 b = _mm512_set1_ps(s->norm_offset[output]);
    return s->norm_once ? _mm512_fmadd_ps(value, a, b) : _mm512_add_ps(_mm512_mul_ps(value, a), b);
}

TARGET_QUADS static void finish_vnni(const Step *s, const int32_t *sums, size_t output,
                                     size_t n_outputs, const Run *runs, size_t n_runs)
{
    const __m512 none = _mm512_set1_ps(-INFINITY), zero = _mm512_setzero_ps();
    const __m512 least = s->rectify ? zero : none, least_sum = s->rectify_sum ? zero : none;
    const __m512i places = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const size_t n_vectors = s->pool ? 1 : TILE / 16;
    for (size_t k = 0; k < n_outputs; k++, output++, sums += TILE) {
        float values[TILE + 16];
        __m512i sum[TILE / 16];
        UNROLL
        for (size_t i = 0; i < TILE / 16; i++)
            sum[i] = _mm512_loadu_si512(sums + 16 * i);
        if (s->pool)
            sum[0] = turns(s, output) ? _mm512_min_epi32(_mm512_min_epi32(sum[0], sum[1]),
                                                         _mm512_min_epi32(sum[2], sum[3]))
                                      : _mm512_max_epi32(_mm512_max_epi32(sum[0], sum[1]),
                                                         _mm512_max_epi32(sum[2], sum[3]));
        const __m512 scale = _mm512_set1_ps(s->scale[output]);
        const __m512 offset = _mm512_set1_ps(s->offset[output]);
        for (size_t i = 0; i < n_vectors; i++) {
            __m512 value =
                _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum[i]), scale), offset);
            value = normalised(s, output, value);
            _mm512_storeu_ps(values + 16 * i, _mm512_max_ps(least, value));
        }
        float *out = s->out + (int64_t)output * s->out_step;
        const float *other = s->other + (int64_t)output * s->other_step;
        for (size_t r = 0; r < n_runs; r++) {
            const Run run = runs[r];
            const __mmask16 some = first_lanes((size_t)run.n);
            /* Two vectors as they were stored, so that they come from the stores at once. */
            const float *from = values + run.slot / 16 * 16;
            const __m512i at = _mm512_add_epi32(places, _mm512_set1_epi32(run.slot % 16));
            __m512 value =
                _mm512_permutex2var_ps(_mm512_loadu_ps(from), at, _mm512_loadu_ps(from + 16));
            if (s->other != NULL)
                value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(some, other + run.from));
            _mm512_mask_storeu_ps(out + run.to, some, _mm512_max_ps(least_sum, value));
        }
    }
}

/* MULTIPLIED outputs of up to 32 neighbouring positions of a row. */
TARGET_QUADS static void multiply_vnni(const Step *s, size_t output, const float *x, size_t n,
                                       float *out)
{
    const float *weights = s->weights + output * (size_t)s->n_features;
    const __m512 least = _mm512_set1_ps(s->rectify ? 0 : -INFINITY);
    __m512 sum[MULTIPLIED][2];
    UNROLL
    for (size_t k = 0; k < MULTIPLIED; k++)
        sum[k][0] = sum[k][1] = _mm512_setzero_ps();
    for (size_t f = 0; f < (size_t)s->n_features; f++, weights += MULTIPLIED) {
        const __m512 low = _mm512_loadu_ps(x + s->places[f]);
        const __m512 high = _mm512_loadu_ps(x + s->places[f] + 16);
        UNROLL
        for (size_t k = 0; k < MULTIPLIED; k++) {
            const __m512 weight = _mm512_set1_ps(weights[k]);
            sum[k][0] = _mm512_fmadd_ps(low, weight, sum[k][0]);
            sum[k][1] = _mm512_fmadd_ps(high, weight, sum[k][1]);
        }
    }
    UNROLL
    for (size_t k = 0; k < MULTIPLIED; k++, output++) {
        if (output >= (size_t)s->n_outputs)
            return;
        for (size_t i = 0; i < n; i += 16) {
            __m512 value = sum[k][i / 16];
            if (s->offset != NULL)
                value = _mm512_add_ps(value, _mm512_set1_ps(s->offset[output]));
            value = normalised(s, output, value);
            _mm512_mask_storeu_ps(out + (int64_t)k * s->out_step + i, first_lanes(n - i),
                                  _mm512_max_ps(least, value));
        }
    }
}

TARGET_QUADS static void copy_rows_vnni(const float *from, size_t from_step, size_t n_rows,
                                        size_t width, float *to, size_t row_step, int rectify)
{
    const __m512 least = _mm512_set1_ps(rectify ? 0 : -INFINITY);
    for (size_t y = 0; y < n_rows; y++, from += from_step, to += row_step)
        for (size_t i = 0; i < width; i += 16) {
            const __mmask16 some = first_lanes(width - i);
            _mm512_mask_storeu_ps(to + i, some,
                                  _mm512_max_ps(least, _mm512_maskz_loadu_ps(some, from + i)));
        }
}

TARGET_QUADS static float largest_vnni(const float *x, size_t n_rows, size_t width,
                                       size_t row_step)
{
    __m512 largest = _mm512_set1_ps(-INFINITY);
    __mmask16 unordered = 0;
    for (size_t y = 0; y < n_rows; y++, x += row_step)
        for (size_t i = 0; i < width; i += 16) {
            const __mmask16 some = first_lanes(width - i);
            const __m512 row = _mm512_mask_loadu_ps(largest, some, x + i);
            unordered |= _mm512_cmp_ps_mask(row, row, _CMP_UNORD_Q);
            largest = _mm512_max_ps(largest, row);
        }
    return unordered ? NAN : _mm512_reduce_max_ps(largest);
}
#endif

/* What a variant computes. */
typedef struct {
    void (*pick)(const void *, const int32_t *, size_t, char *, size_t);
    void (*finish)(const Step *, const int32_t *, size_t, size_t, const Run *, size_t);
    void (*copy_rows)(const float *, size_t, size_t, size_t, float *, size_t, int);
    float (*largest)(const float *, size_t, size_t, size_t);
    void (*multiply)(const Step *, size_t, const float *, size_t, float *); /* or NULL */
} Stages;

#define STAGES(name, multiply) \
    {pick_##name, finish_##name, copy_rows_##name, largest_##name, multiply}
static const Stages stages_portable = STAGES(portable, NULL);
#ifdef HAS_X86
static const Stages stages_avx2 = STAGES(avx2, NULL);
static const Stages stages_vnni = STAGES(vnni, multiply_vnni);
#endif

/* Variants are numbered as in kernels.c. */
static const Stages *stages_of(int variant)
{
#ifdef HAS_X86
    if (variant >= 3)
        return &stages_vnni;
    if (variant >= 1)
        return &stages_avx2;
#endif
    (void)variant;
    return &stages_portable;
}
