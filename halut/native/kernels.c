/* Encode, look up and accumulate: what halut.golden computes, bit by bit.
 *
 * The kernels are written once, in encode.h and look_up.h, and compiled once per variant. Which of
 * them a processor can run is asked at run time. All variants give the same bits: integers are
 * exact, and floats are added in one stated order, without fused multiplication.
 *
 * Shapes: rows (N, D), any strides; codes (N, C), uint8; tables (M, C, K); results (N, M).
 * Inside, a block's codes are (quads, ROWS, 4): four neighbouring codebooks, a quad, lie together.
 */
#include "common.h"
#include "quads.h"
#include <math.h>

enum {
    ENTRY_BYTES = 64,      /* of the neighbouring outputs, a slice, that a code selects */
    FEW = 4,               /* outputs of a last slice that has no more */
    GROUP = 16,            /* codebooks that are encoded, and looked up, together */
    ROWS = 128,            /* rows in a block, at most */
    BLOCK_BYTES = 1 << 19, /* of a block's rows, in the cache of the second level */
    TOP = 4,               /* levels of trees that are walked without a loop */
    NEAR_ROWS = 8          /* rows that are encoded together, in the cache of the first level */
};

/* Kinds of values, kinds of entries, and layouts of tables; numbered in halut/native, too. */
enum { FLOAT32 = 0, INT8 = 1 };
enum { REALS = 0, BYTES = 1, WORDS = 2 };
enum { FLOATS = 0, INTS = 1, SHORTS = 2, QUADS = 3 };

/* A matrix of FLOAT32 or INT8; strides in values. */
typedef struct {
    const void *values;
    int kind;
    size_t n_rows, n_features;
    ptrdiff_t row_stride, column_stride;
} Rows;

/* Where 16 codebooks find, in a row of bytes, what they look at: byte 16 * level + codebook is byte
 * `where` of the vector of 64 whose mask `from` has its bit. */
typedef struct {
    uint8_t where[64];
    const uint64_t *from; /* of every vector */
    size_t first, end;    /* vectors */
    size_t at_once;       /* vectors from the first on, all in the row; 0: as many as there are */
} Pick;

typedef struct {
    ptrdiff_t row_stride;
    size_t n_features, n_codebooks, padded; /* to a multiple of GROUP */
    size_t depth;
    const int32_t *places;    /* (depth, padded): where a level's value lies in its row */
    const float *by_node;     /* thresholds (2**depth - 1, padded) */
    const float *by_codebook; /* thresholds (n_codebooks, 2**depth - 1) */
    uint32_t place_word;      /* what is added to the codes of every quad */
    uint8_t place[4];         /* the same byte by byte */
    /* What quad_blocks.h reads; NULL where it cannot compute. */
    const float *levels;       /* (padded, QUAD_DEPTH, LEVEL), see quads.h */
    const int8_t *byte_levels; /* the same for bytes, which have integer thresholds */
    const int8_t *byte_nodes;  /* (padded / GROUP, 16, GROUP) */
    const Pick *picks;         /* (padded / GROUP) */
    void *blocks[2];
} Trees;

/* Memory that is read soon: `n_runs` of `bytes` each. */
typedef struct {
    const char *base;
    const int32_t *starts; /* of the runs, in values; NULL: `stride` apart */
    size_t value_bytes;
    ptrdiff_t stride;
    size_t n_runs, bytes;
    size_t run, at; /* what comes next */
    size_t lines;   /* for every eight rows of a pass */
    char *out, *out_end; /* what is written soon */
    size_t out_lines;
} Ahead;

/* What an integer accumulator that is too narrow does after every so many codebooks. */
typedef struct {
    int32_t low, high;
    size_t every; /* 0: nothing */
} Clip;

/* One pass: a slice of outputs and a group of codebooks, for a block of rows. */
typedef struct {
    const void *table;    /* (codebooks of the group, K, slice) */
    size_t table_span;    /* entries of one codebook: K times those of a slice */
    const uint8_t *codes; /* (quads of the group, ROWS, 4) */
    size_t first, end;    /* the group's codebooks */
    size_t n_codebooks;   /* of all groups */
    size_t n_rows;
    size_t n_outputs; /* of the slice */
    const void *sums; /* (rows, slice) of the groups before; not read for the first group */
    void *to;         /* where the sums go to */
    size_t to_stride;
    Clip clip;
    Ahead *ahead;
} Pass;

/* Fetch what is due after some rows of a pass. */
INLINE void fetch_ahead(Ahead *a, size_t n_rows)
{
    if (a == NULL)
        return;
    for (size_t n = 0; n < a->out_lines * n_rows && a->out < a->out_end; n += 8, a->out += 64)
        PREFETCH_TO_WRITE(a->out);
    for (size_t n = 0; n < a->lines * n_rows && a->run < a->n_runs; n += 8) {
        const ptrdiff_t start = a->starts ? a->starts[a->run] * (ptrdiff_t)a->value_bytes
                                          : (ptrdiff_t)a->run * a->stride;
        PREFETCH(a->base + start + a->at);
        a->at += 64;
        if (a->at >= a->bytes) {
            a->at = 0;
            a->run++;
        }
    }
}

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define NAME(stem) JOIN(stem, VARIANT)

#include "stages.h"

#include "portable.h"
#ifdef HAS_X86
#include "avx2.h"
#define VARIANT avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#include "avx512.h"
#define VARIANT vnni
#define TARGET TARGET_QUADS
#include "avx512.h"
#include "quad_blocks.h"
#endif
#ifdef HAS_NEON
#include "neon.h"
#endif

enum { PORTABLE, AVX2, AVX512, VNNI, NEON };

#include "layouts.h"

/* ---- choosing a variant */
typedef void LookUp(const Pass *);
typedef void Finish(const Stage *, const void *, size_t, size_t, size_t, void *, size_t);

typedef struct {
    int (*encode[2])(const Trees *, const void *, size_t, uint8_t *); /* FLOAT32, INT8 */
    LookUp *look_up[3];                                               /* FLOATS, INTS, SHORTS */
    Finish *finish[3];
    void (*add_in_order)(const float *, size_t, const uint8_t *, const int32_t *, size_t, float *,
                         float *);
    void (*add_rows)(const uint8_t *, size_t, const float *, size_t, size_t, float *, double *,
                     size_t);
    void (*add_entries)(const uint8_t *, size_t, const float *, size_t, int, float *);
    void (*exchange_entries)(const uint8_t *, const float *, const uint8_t *, const float *, size_t,
                             size_t, size_t, float *, float *, double *);
} Variant;

#define KERNELS(name, encoder)                                    \
    {                                                             \
        {encode_f_##encoder, encode_b_##encoder},                 \
        {look_up_f_##name, look_up_i_##name, look_up_h_##name},   \
        {NULL, finish_i_##name, finish_h_##name},                 \
        add_in_order_##name,                                      \
        add_rows_##name,                                          \
        add_entries_##name,                                       \
        exchange_entries_##name,                                  \
    }

static const Variant variants[] = {
    [PORTABLE] = KERNELS(portable, portable),
#ifdef HAS_X86
    [AVX2] = KERNELS(avx2, avx2),
    [AVX512] = KERNELS(avx512, avx512),
    [VNNI] = KERNELS(vnni, quads),
#endif
#ifdef HAS_NEON
    [NEON] = KERNELS(neon, neon),
#endif
};

#ifndef HALUT_SOURCES
#define HALUT_SOURCES ""
#endif
/* The fingerprint of the sources, by which a library of older ones is known. */
EXPORT const char *const halut_sources = HALUT_SOURCES;

EXPORT int halut_supports(int variant)
{
    if (variant == PORTABLE)
        return 1;
#ifdef HAS_NEON
    if (variant == NEON)
        return 1;
#endif
#ifdef HAS_X86
    __builtin_cpu_init();
    const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (variant == AVX2)
        return __builtin_cpu_supports("avx2") != 0;
    if (variant == AVX512)
        return avx512;
    if (variant == VNNI)
        return avx512 && __builtin_cpu_supports("avx512vbmi") &&
               __builtin_cpu_supports("avx512vnni");
#endif
    return 0;
}

/* ---- the work on a block of rows */
typedef struct {
    const Variant *variant;
    int layout;
    const char *tables;
    size_t n_codebooks, n_prototypes, n_outputs;
    Clip clip;
    Stage stage;
    void *scratch; /* (ROWS, slice) */
} Product;

/* Shares what is read ahead between the passes over a block. */
static void plan_ahead(Ahead *ahead, size_t n_passes, size_t n_rows)
{
    if (ahead == NULL)
        return;
    const size_t lines = ahead->n_runs * ((ahead->bytes + 63) / 64);
    const size_t shares = n_passes * n_rows / 8 + 1;
    ahead->lines = lines / shares + 1;
    ahead->out_lines = (size_t)(ahead->out_end - ahead->out) / 64 / shares + 1;
}

/* `out` has 4 bytes per result. */
static void look_up_block(const Product *p, const uint8_t *codes, size_t n_rows, void *out,
                          Ahead *ahead)
{
    const size_t slice = slice_of(p->layout);
    const size_t span = p->n_prototypes * ENTRY_BYTES;
    const size_t n_slices = round_up(p->n_outputs, slice) / slice;
#ifdef HAS_X86
    if (p->layout == QUADS) {
        const size_t n_quads = round_up(p->n_codebooks, 4) / 4;
        plan_ahead(ahead, n_slices, round_up(n_rows, QUAD_ROWS));
        for (size_t m = 0; m < p->n_outputs; m += QUAD_SLICE)
            look_up_quads(codes, (const int8_t *)p->tables + m * n_quads * 64, n_quads, n_rows, m,
                          smaller(QUAD_SLICE, p->n_outputs - m), &p->stage, out, p->n_outputs,
                          ahead);
        return;
    }
#endif
    plan_ahead(ahead, n_slices * round_up(p->n_codebooks, GROUP) / GROUP, n_rows);
    for (size_t s = 0; s < n_slices; s++) {
        const size_t left = smaller(p->n_outputs - s * slice, slice);
        const int direct = left == slice && p->layout != SHORTS && p->stage.kind == RAW;
        for (size_t c = 0; c < p->n_codebooks; c += GROUP) {
            const size_t end = smaller(c + GROUP, p->n_codebooks);
            const int leaves = direct && end == p->n_codebooks;
            const Pass pass = {
                p->tables + (s * p->n_codebooks + c) * span,
                p->n_prototypes * slice,
                codes + c * ROWS,
                c,
                end,
                p->n_codebooks,
                n_rows,
                left,
                p->scratch,
                leaves ? (char *)out + s * ENTRY_BYTES : p->scratch,
                leaves ? p->n_outputs : slice,
                p->clip,
                ahead,
            };
            p->variant->look_up[p->layout](&pass);
        }
        if (p->layout == FLOATS && !direct)
            for (size_t r = 0; r < n_rows; r++)
                memcpy((char *)out + (r * p->n_outputs + s * slice) * 4,
                       (const char *)p->scratch + r * ENTRY_BYTES, left * 4);
        else if (!direct)
            p->variant->finish[p->layout](&p->stage, p->scratch, n_rows, s * slice, left, out,
                                          p->n_outputs);
    }
}

/* Codes of the rows from `begin` on; whether a value was NaN. */
static int encode_block(const Variant *variant, const Trees *trees, const Rows *rows, size_t begin,
                        size_t n, char *last_row, uint8_t *codes)
{
    const size_t size = rows->kind == INT8 ? 1 : 4;
    const char *at = (const char *)rows->values +
                     (ptrdiff_t)begin * rows->row_stride * (ptrdiff_t)size;
    int (*const encode)(const Trees *, const void *, size_t, uint8_t *) =
        variant->encode[rows->kind];
    if (rows->kind == FLOAT32 || trees->byte_levels != NULL || rows->row_stride == 1 ||
        begin + n < rows->n_rows)
        return encode(trees, at, n, codes);
    /* What gathers bytes reads three beyond them. */
    memcpy(last_row, at + (ptrdiff_t)(n - 1) * rows->row_stride, rows->n_features);
    return (n > 1 ? encode(trees, at, n - 1, codes) : 0) |
           encode(trees, last_row, 1, codes + (n - 1) * 4);
}

/* Between codes (rows, codebooks) and (quads, ROWS, 4). */
static void group_codes(uint8_t *grouped, const uint8_t *codes, size_t n_rows, size_t n_codebooks,
                        uint32_t place_word)
{
    for (size_t c = 0; c < n_codebooks; c += 4)
        for (size_t r = 0; r < n_rows; r++) {
            uint32_t word = 0;
            memcpy(&word, codes + r * n_codebooks + c, smaller(4, n_codebooks - c));
            word |= place_word;
            memcpy(grouped + (c / 4 * ROWS + r) * 4, &word, 4);
        }
}

static void ungroup_codes(uint8_t *codes, const uint8_t *grouped, size_t n_rows,
                          size_t n_codebooks)
{
    for (size_t c = 0; c < n_codebooks; c += 4)
        for (size_t r = 0; r < n_rows; r++)
            memcpy(codes + r * n_codebooks + c, grouped + (c / 4 * ROWS + r) * 4,
                   smaller(4, n_codebooks - c));
}

/* The places of a quad's codes in its tables. */
static const uint8_t QUAD_PLACES[4] = {0, 16, 32, 48};

static uint32_t place_codes(int layout, uint8_t *place)
{
    uint32_t word = 0;
    memset(place, 0, 4);
    if (layout == QUADS)
        memcpy(place, QUAD_PLACES, 4);
    memcpy(&word, place, 4);
    return word;
}

/* ---- what Python calls; 0: done, 1: not enough memory, 2: done, and a value was NaN */
EXPORT int halut_encode(int variant, const Rows *rows, size_t n_codebooks, size_t depth,
                        const int32_t *dims, const float *thresholds, uint8_t *codes)
{
    Trees trees;
    void *code_block = NULL;
    if (make_trees(&trees, variant, rows, n_codebooks, depth, dims, thresholds))
        return 1;
    trees.place_word = place_codes(INTS, trees.place);
    uint8_t *grouped = aligned((size_t)ROWS * trees.padded + rows->n_features + 4, 1, &code_block);
    int status = grouped == NULL;
    if (grouped != NULL)
        for (size_t begin = 0; begin < rows->n_rows; begin += ROWS) {
            const size_t n = smaller(ROWS, rows->n_rows - begin);
            if (encode_block(&variants[variant], &trees, rows, begin, n,
                             (char *)grouped + ROWS * trees.padded, grouped))
                status = 2;
            ungroup_codes(codes + begin * n_codebooks, grouped, n, n_codebooks);
        }
    free(code_block);
    free_trees(&trees);
    return status;
}

/* Tables of FLOATS: float32 results, sums in the order of the codebooks. Others: int32 results,
 * clipped to [low, high] after every `every` codebooks and after the last, unless `every` is 0
 * (INTS only), or what the stage makes of them. */
EXPORT int halut_look_up(int variant, const uint8_t *codes, size_t n_rows, size_t n_codebooks,
                         size_t n_prototypes, size_t n_outputs, int layout, const void *tables,
                         int32_t low, int32_t high, size_t every, const Stage *stage, void *out)
{
    void *scratch_block, *code_block;
    Product product = {&variants[variant], layout, tables, n_codebooks, n_prototypes, n_outputs,
                       {low, high, every}, *stage, NULL};
    uint8_t place[4];
    const uint32_t place_word = place_codes(layout, place);
    product.scratch = aligned(ROWS, ENTRY_BYTES, &scratch_block);
    uint8_t *grouped = aligned(ROWS * round_up(n_codebooks, 4), 1, &code_block);
    const int failed = product.scratch == NULL || grouped == NULL;
    if (!failed) {
        memset(grouped, 0, ROWS * round_up(n_codebooks, 4));
        for (size_t begin = 0; begin < n_rows; begin += ROWS) {
            const size_t n = smaller(ROWS, n_rows - begin);
            group_codes(grouped, codes + begin * n_codebooks, n, n_codebooks, place_word);
            look_up_block(&product, grouped, n, (char *)out + begin * n_outputs * 4, NULL);
        }
    }
    free(code_block);
    free(scratch_block);
    return failed;
}

/* What is read of the next block: whole rows, or parts of the columns that trees look at. */
static void look_ahead(Ahead *ahead, const Rows *rows, const Trees *trees, size_t begin, size_t n)
{
    const size_t size = rows->kind == INT8 ? 1 : 4;
    memset(ahead, 0, sizeof *ahead);
    ahead->base = (const char *)rows->values +
                  (ptrdiff_t)begin * rows->row_stride * (ptrdiff_t)size;
    ahead->value_bytes = size;
    if (rows->row_stride == 1) {
        ahead->starts = trees->places;
        ahead->n_runs = trees->padded * trees->depth;
        ahead->bytes = n * size;
    } else if (rows->column_stride == 1) {
        ahead->stride = rows->row_stride * (ptrdiff_t)size;
        ahead->n_runs = n;
        ahead->bytes = rows->n_features * size;
        if ((size_t)rows->row_stride == rows->n_features) {
            ahead->n_runs = n != 0;
            ahead->bytes *= n;
        }
    }
}

/* Encode and look up, block by block, while the next block's rows are fetched. */
EXPORT int halut_product(int variant, const Rows *rows, size_t n_codebooks, size_t depth,
                         const int32_t *dims, const float *thresholds, size_t n_outputs,
                         int layout, const void *tables, const Stage *stage, void *out)
{
    Trees trees;
    void *scratch_block = NULL, *code_block = NULL;
    Product product = {&variants[variant], layout, tables, n_codebooks, (size_t)1 << depth,
                       n_outputs, {0, 0, 0}, *stage, NULL};
    uint8_t *codes = NULL;
    int status = make_trees(&trees, variant, rows, n_codebooks, depth, dims, thresholds);
    if (!status) {
        trees.place_word = place_codes(layout, trees.place);
        product.scratch = aligned(ROWS, ENTRY_BYTES, &scratch_block);
        codes = aligned((size_t)ROWS * trees.padded + rows->n_features + 4, 1, &code_block);
        status = product.scratch == NULL || codes == NULL;
    }
    if (!status) {
        const size_t bytes = rows->n_features * (rows->kind == INT8 ? 1 : 4);
        size_t step = BLOCK_BYTES / (bytes + 1) / 4 * 4;
        step = step < 16 ? 16 : smaller(step, ROWS);
        if (rows->row_stride == 1)
            step = ROWS;
        for (size_t begin = 0; begin < rows->n_rows; begin += step) {
            const size_t n = smaller(step, rows->n_rows - begin);
            Ahead ahead;
            if (encode_block(&variants[variant], &trees, rows, begin, n,
                             (char *)codes + ROWS * trees.padded, codes))
                status = 2;
            look_ahead(&ahead, rows, &trees, begin + n, smaller(step, rows->n_rows - begin - n));
            ahead.out = (char *)out + (begin + n) * n_outputs * 4;
            ahead.out_end = ahead.out + smaller(step, rows->n_rows - begin - n) * n_outputs * 4;
            look_up_block(&product, codes, n, (char *)out + begin * n_outputs * 4, &ahead);
        }
    }
    free(code_block);
    free(scratch_block);
    free_trees(&trees);
    return status;
}

/* Tables of FLOATS in any order of additions: `steps` is postfix, a codebook pushes its entries,
 * -1 replaces the last two terms by their sum; there are at most `height` terms at a time. */
EXPORT int halut_add_in_order(int variant, const uint8_t *codes, size_t n_rows, size_t n_codebooks,
                              size_t n_prototypes, size_t n_outputs, const float *tables,
                              const int32_t *steps, size_t n_steps, size_t height, float *out)
{
    const size_t slice = slice_of(FLOATS);
    void *stack_block;
    float *stack = aligned(height, ENTRY_BYTES, &stack_block);
    if (stack != NULL)
        for (size_t m = 0; m < n_outputs; m += slice) {
            const float *table = tables + m * n_codebooks * n_prototypes;
            const size_t n = smaller(slice, n_outputs - m);
            for (size_t r = 0; r < n_rows; r++) {
                float sums[ENTRY_BYTES / 4];
                variants[variant].add_in_order(table, n_prototypes * slice,
                                               codes + r * n_codebooks, steps, n_steps, stack,
                                               sums);
                memcpy(out + r * n_outputs + m, sums, n * 4);
            }
        }
    free(stack_block);
    return stack == NULL;
}

#include "learning.h"
#include "trees.h"
