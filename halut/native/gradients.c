/* The surrogate gradient of looked-up layers: see halut/nn/functional.py for the equations.
 *
 * Pieces of the input are staged again, so that nothing is kept from the forward pass. Products
 * with the tables, the derivatives of the nodes and the sums over positions are done for one tile
 * of positions and one codebook at a time. Floats are added in no stated order.
 */
#include "pieces.h"
#include "format.h"
#include <math.h>

enum {
    NEAR = 256,  /* positions of a piece, about */
    WIDEST = 16, /* floats of a vector, at most */
    DEEPEST = 4,
    LEAVES = 1 << DEEPEST,
    KEPT_BYTES = 1 << 22 /* of tables as floats that are kept from tile to tile, at most */
};

/* A leaf's weight in the softmax falls by this factor for each node that decides against it. */
#define UNLIKELY 0.1353352832366127F

typedef struct {
    void (*unpack)(const int8_t *, size_t, size_t, float *);
    void (*products)(const float *, const float *, size_t, size_t, float *);
    void (*trees)(const float *, const float *, const float *, size_t, float *, float *, float *);
    void (*gather)(const float *, const uint8_t *, size_t, size_t, float *);
    void (*convert)(const Format *, double, double, float *, size_t);
} Gradients;

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)

#define VARIANT portable
#define TARGET
#define LANES 4
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#define BYTES(p) ((V){(p)[0], (p)[1], (p)[2], (p)[3]})
#include "gradients.h"

#ifdef HAS_X86
#define VARIANT avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define MULTIPLY_ADD(a, b, c) ((V)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define BYTES(p) \
    ((V)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))))
#include "gradients.h"

#define VARIANT avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define LANES 16
#define MULTIPLY_ADD(a, b, c) ((V)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define BYTES(p) \
    ((V)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))))
#include "gradients.h"
#endif

static const Gradients *gradients_of(int variant)
{
#ifdef HAS_X86
    __builtin_cpu_init();
    if (variant >= 2)
        return &gradients_avx512;
    if (variant == 1 && __builtin_cpu_supports("fma"))
        return &gradients_avx2;
#endif
    (void)variant;
    return &gradients_portable;
}

/* What is read, and what is added to; shapes as of halut_convolve_backward. */
typedef struct {
    const float *nodes, *slope, *scale, *offset, *table_scale, *upstream;
    const int8_t *tables;
    float *grad_x, *grad_tables;
} Sides;

typedef struct {
    Work w;
    const Gradients *gradients;
    const Format *format;
    float *grad_staged;           /* (channels, plane) */
    float *planes, *rows;         /* upstream of a tile: (M, TILE), times scales, and (TILE, M) */
    int keeps;                    /* all quads, in order; else the one that is worked on */
    float *tables;                /* (quads, 4, M, LEAVES) */
    float *sums;                  /* what is added to their gradient: (quads, 4, LEAVES, M) */
    float *pixels;                /* of a piece */
    float *node_sums, *slope_sums; /* (groups, codebooks, nodes or levels, WIDEST) */
    void *blocks[10];
} Backward;

static size_t quads_of(const Geometry *g)
{
    return ((size_t)g->n_codebooks + 3) / 4;
}

static int open_backward(Backward *b, const Geometry *g, int variant, const Format *format,
                         const float *x, const float *pad, const int32_t *dims)
{
    memset(b, 0, sizeof *b);
    Work *w = &b->w;
    plan_work(w, g, variant, x, pad, NEAR);
    b->gradients = gradients_of(variant);
    b->format = format;
    const size_t trees = (size_t)(g->groups * g->n_codebooks), channels = (size_t)g->channels;
    const size_t n_outputs = (size_t)g->n_outputs;
    const size_t n_nodes = ((size_t)1 << g->depth) - 1, depth = (size_t)g->depth;
    const int failed = open_work(w, dims, &b->blocks[0], &b->blocks[1]);
    b->grad_staged = aligned(channels * w->plane + 2 * TILE, 4, &b->blocks[2]);
    b->planes = aligned(n_outputs * TILE, 4, &b->blocks[3]);
    b->rows = aligned(n_outputs * TILE, 4, &b->blocks[4]);
    b->node_sums = aligned(trees * n_nodes * WIDEST, 4, &b->blocks[5]);
    b->slope_sums = aligned(trees * depth * WIDEST, 4, &b->blocks[6]);
    b->pixels = aligned(rows_read(g, w->piece_rows) * (size_t)g->width * channels, 4,
                        &b->blocks[7]);
    const size_t quad = 4 * n_outputs * LEAVES, n_quads = (size_t)g->groups * quads_of(g);
    b->keeps = n_quads * quad * sizeof(float) <= KEPT_BYTES;
    b->tables = aligned(b->keeps ? n_quads * quad : quad, 4, &b->blocks[8]);
    b->sums = aligned(b->keeps ? n_quads * quad : quad, 4, &b->blocks[9]);
    if (failed || b->tables == NULL || b->sums == NULL || b->grad_staged == NULL ||
        b->planes == NULL || b->rows == NULL ||
        b->node_sums == NULL || b->slope_sums == NULL || b->pixels == NULL)
        return 1;
    memset(b->planes, 0, n_outputs * TILE * 4);
    memset(b->node_sums, 0, trees * n_nodes * WIDEST * 4);
    memset(b->slope_sums, 0, trees * depth * WIDEST * 4);
    return 0;
}

static void close_backward(Backward *b)
{
    for (size_t i = 0; i < sizeof b->blocks / sizeof b->blocks[0]; i++)
        free(b->blocks[i]);
}

/* The upstream gradient of n positions, `at` of them into the piece, both ways round; as planes
 * times the scale of every output. */
static void take_upstream(Backward *b, const Sides *s, const Piece *piece, size_t group, size_t at,
                          size_t n)
{
    const float *upstream = s->upstream;
    const Work *w = &b->w;
    const size_t n_outputs = (size_t)w->g->n_outputs, all = n_outputs * (size_t)w->g->groups;
    const size_t item = piece->first / w->out_height, per_item = w->out_height * w->out_width;
    const size_t within = piece->first % w->out_height * w->out_width + at;
    if (w->g->out_by_pixel) {
        const float *from = upstream + (item * per_item + within) * all + group * n_outputs;
        w->transpose(from, all, n, n_outputs, b->planes, TILE);
        for (size_t p = 0; p < n; p++)
            memcpy(b->rows + p * n_outputs, from + p * all, n_outputs * 4);
    } else {
        const float *from = upstream + (item * all + group * n_outputs) * per_item + within;
        for (size_t m = 0; m < n_outputs; m++)
            memcpy(b->planes + m * TILE, from + m * per_item, n * 4);
        w->transpose(b->planes, TILE, n_outputs, TILE, b->rows, n_outputs);
    }
    for (size_t m = 0; m < n_outputs; m++) {
        const float scale = s->table_scale[group * n_outputs + m];
        for (size_t p = 0; p < n; p++)
            b->planes[m * TILE + p] *= scale;
        memset(b->planes + m * TILE + n, 0, (TILE - n) * 4); /* a tile before has left its own */
    }
}

/* Where tables, or sums, of a quad are among those that are there. */
static size_t place_of(const Backward *b, size_t group, size_t quad)
{
    const Geometry *g = b->w.g;
    return b->keeps ? (group * quads_of(g) + quad) * 4 * (size_t)g->n_outputs * LEAVES : 0;
}

static void begin_quad(Backward *b, const Sides *s, size_t group, size_t quad)
{
    const Geometry *g = b->w.g;
    const size_t n_outputs = (size_t)g->n_outputs, stride = quads_of(g) * 256;
    const size_t at = place_of(b, group, quad);
    const int8_t *packed = s->tables + group * (round_up(n_outputs, 4) / 4) * stride + quad * 256;
    b->gradients->unpack(packed, stride, n_outputs, b->tables + at);
    memset(b->sums + at, 0, 4 * n_outputs * LEAVES * sizeof *b->sums);
}

/* Add the sums of a quad to the gradient of its tables. */
static void finish_quad(const Backward *b, size_t group, size_t quad, float *grad_tables)
{
    enum { AT_ONCE = 64 };
    const Geometry *g = b->w.g;
    const size_t n_leaves = (size_t)1 << g->depth, n_outputs = (size_t)g->n_outputs;
    const size_t stride = (size_t)g->n_codebooks * n_leaves;
    const size_t n_codebooks = smaller(4, (size_t)g->n_codebooks - 4 * quad);
    const float *sums = b->sums + place_of(b, group, quad);
    float *to = grad_tables + group * n_outputs * stride + 4 * quad * n_leaves;
    float block[AT_ONCE * 4 * LEAVES];
    for (size_t m = 0; m < n_outputs; m += AT_ONCE) {
        const size_t n = smaller(AT_ONCE, n_outputs - m), width = n_codebooks * n_leaves;
        for (size_t c = 0; c < n_codebooks; c++)
            b->w.transpose(sums + c * LEAVES * n_outputs + m, n_outputs, n_leaves, n,
                           block + c * n_leaves, 4 * LEAVES);
        for (size_t i = 0; i < n; i++, to += stride)
            for (size_t k = 0; k < width; k++)
                to[k] += block[i * 4 * LEAVES + k];
    }
}

/* The longest run of positions, `at` of them into the piece, that are neighbours in a row of the
 * output, and where a feature of the first one is staged. */
typedef struct {
    size_t n, first;
} Neighbours;

static Neighbours neighbours(const Work *w, size_t place, size_t at, size_t n)
{
    const size_t row = at / w->out_width, column = at % w->out_width;
    const Neighbours run = {
        w->whole ? n : smaller(n, w->out_width - column),
        place + row * (size_t)w->g->stride_y * w->padded_width + column * (size_t)w->g->stride_x,
    };
    return run;
}

static void take_values(const Work *w, size_t place, size_t at, size_t n, float *values)
{
    const size_t step = (size_t)w->g->stride_x;
    while (n) {
        const Neighbours run = neighbours(w, place, at, n);
        for (size_t i = 0; i < run.n; i++)
            values[i] = w->staged[run.first + i * step];
        values += run.n;
        at += run.n;
        n -= run.n;
    }
}

static void give_values(const Work *w, size_t place, size_t at, size_t n, const float *values,
                        float factor, float *staged)
{
    const size_t step = (size_t)w->g->stride_x;
    while (n) {
        const Neighbours run = neighbours(w, place, at, n);
        for (size_t i = 0; i < run.n; i++)
            staged[run.first + i * step] += values[i] * factor;
        values += run.n;
        at += run.n;
        n -= run.n;
    }
}

static void backward_tile(Backward *b, const Sides *s, size_t group, size_t at, size_t n)
{
    const Work *w = &b->w;
    const size_t depth = (size_t)w->g->depth, n_outputs = (size_t)w->g->n_outputs;
    const size_t n_leaves = (size_t)1 << depth, n_codebooks = (size_t)w->g->n_codebooks;
    float gains[(1 << DEEPEST) * TILE], values[DEEPEST * TILE];
    uint8_t codes[TILE];
    memset(values, 0, sizeof values);
    for (size_t c = 0; c < n_codebooks; c++) {
        const size_t i = group * n_codebooks + c;
        const float *nodes = s->nodes + i * (n_leaves - 1);
        const size_t place = place_of(b, group, c / 4) + c % 4 * n_outputs * LEAVES;
        if (!b->keeps && c % 4 == 0)
            begin_quad(b, s, group, c / 4);
        b->gradients->products(b->tables + place, b->planes, n_leaves, n_outputs, gains);
        for (size_t t = 0; t < depth; t++) {
            take_values(w, w->places[i * depth + t], at, n, values + t * TILE);
            b->gradients->convert(b->format, s->scale[i * depth + t], s->offset[i * depth + t],
                                  values + t * TILE, n);
        }
        for (size_t p = 0; p < n; p++) {
            size_t node = 0;
            for (size_t t = 0; t < depth; t++)
                node = 2 * node + 1 + (values[t * TILE + p] > nodes[node]);
            codes[p] = (uint8_t)(node - (n_leaves - 1));
        }
        b->gradients->gather(b->rows, codes, n, n_outputs, b->sums + place);
        if (!b->keeps && (c % 4 == 3 || c + 1 == n_codebooks))
            finish_quad(b, group, c / 4, s->grad_tables);
        b->gradients->trees(nodes, s->slope + i * depth, gains, depth, values,
                            b->node_sums + i * (n_leaves - 1) * WIDEST,
                            b->slope_sums + i * depth * WIDEST);
        if (s->grad_x != NULL)
            for (size_t t = 0; t < depth; t++)
                give_values(w, w->places[i * depth + t], at, n, values + t * TILE,
                            1 / s->scale[i * depth + t], b->grad_staged);
    }
}

/* Add a piece's gradients to those of the images; what pads them has none. */
static void unstage(const Backward *b, const Piece *piece, float *grad_x)
{
    const Work *w = &b->w;
    const Geometry *g = w->g;
    const size_t channels = (size_t)g->channels, width = (size_t)g->width;
    float *image = grad_x + (piece->image - w->x);
    /* Nothing between the rows. */
    const int at_once = is_inside(w, piece);
    for (size_t r = 0; r < piece->n_read; r++) {
        const int64_t y = piece->top + (int64_t)r;
        if (y < 0 || y >= g->height)
            continue;
        const float *from = b->grad_staged + r * w->padded_width + g->left;
        if (!g->in_by_pixel) {
            for (size_t c = 0; c < channels; c++, from += w->plane) {
                float *to = image + (c * (size_t)g->height + (size_t)y) * width;
                for (size_t i = 0; i < width; i++)
                    to[i] += from[i];
            }
            continue;
        }
        const size_t rows = at_once ? piece->n_read : 1;
        float *to = image + (size_t)y * width * channels;
        w->transpose(from, w->plane, channels, rows * width, b->pixels, channels);
        for (size_t i = 0; i < rows * width * channels; i++)
            to[i] += b->pixels[i];
        r += rows - 1;
    }
}

/* Sums over vectors become gradients of nodes and slopes. */
static void finish_backward(const Backward *b, const Sides *s, float *grad_nodes,
                            float *grad_slope)
{
    const size_t trees = (size_t)(b->w.g->groups * b->w.g->n_codebooks);
    const size_t depth = (size_t)b->w.g->depth, n_nodes = ((size_t)1 << depth) - 1;
    for (size_t i = 0; i < trees; i++)
        for (size_t t = 0; t < depth; t++) {
            float towards = 0;
            for (size_t v = 0; v < WIDEST; v++)
                towards += b->slope_sums[(i * depth + t) * WIDEST + v];
            for (size_t n = ((size_t)1 << t) - 1; n < ((size_t)2 << t) - 1; n++) {
                float sum = 0;
                for (size_t v = 0; v < WIDEST; v++)
                    sum += b->node_sums[(i * n_nodes + n) * WIDEST + v];
                grad_nodes[i * n_nodes + n] = -sum * s->slope[i * depth + t];
                towards -= sum * s->nodes[i * n_nodes + n];
            }
            grad_slope[i * depth + t] = towards;
        }
}

/* Pieces of a product; those of different items may be worked on at the same time. */
EXPORT int halut_pieces(int variant, const Geometry *g)
{
    Work w;
    plan_work(&w, g, variant, NULL, NULL, NEAR);
    return (int)w.n_pieces;
}

/* Backward for some pieces. Read are the inputs of halut_convolve, `nodes` (trees, K - 1), `slope`,
 * `scale` and `offset` (trees, depth), `tables` as of halut_pack, the scale of every output's
 * (groups, M), and `upstream`, laid out as the output. `grad_x` (as x; or NULL) and `grad_tables`
 * (groups, M, codebooks, K), without that scale, are added to; `grad_nodes` and `grad_slope` are
 * written. */
EXPORT int halut_convolve_backward(int variant, const Geometry *g, const Format *format,
                                   const float *x, const float *pad, const int32_t *dims,
                                   const float *nodes, const float *slope, const float *scale,
                                   const float *offset, const int8_t *tables,
                                   const float *table_scale, const float *upstream, float *grad_x,
                                   float *grad_tables, float *grad_nodes, float *grad_slope,
                                   size_t first_piece, size_t last_piece)
{
    Backward b;
    const Sides sides = {nodes,  slope,  scale,       offset, table_scale, upstream,
                         tables, grad_x, grad_tables};
    const int failed = open_backward(&b, g, variant, format, x, pad, dims);
    if (!failed) {
        const size_t channels = (size_t)g->channels;
        const size_t n_kept = b.keeps ? (size_t)g->groups * quads_of(g) : 0;
        for (size_t i = 0; i < n_kept; i++)
            begin_quad(&b, &sides, i / quads_of(g), i % quads_of(g));
        for (size_t number = first_piece; number < smaller(last_piece, b.w.n_pieces); number++) {
            const Piece piece = piece_of(&b.w, number);
            const size_t n_positions = piece.n_rows * b.w.out_width;
            if (g->in_by_pixel)
                stage_pixels(&b.w, &piece);
            for (size_t c = 0; c < channels; c++)
                stage_channel(&b.w, &piece, c);
            memset(b.grad_staged, 0, channels * b.w.plane * 4);
            for (size_t at = 0; at < n_positions; at += TILE)
                for (size_t group = 0; group < (size_t)g->groups; group++) {
                    const size_t n = smaller(TILE, n_positions - at);
                    take_upstream(&b, &sides, &piece, group, at, n);
                    backward_tile(&b, &sides, group, at, n);
                }
            if (grad_x != NULL)
                unstage(&b, &piece, grad_x);
        }
        for (size_t i = 0; i < n_kept; i++)
            finish_quad(&b, i / quads_of(g), i % quads_of(g), grad_tables);
        finish_backward(&b, &sides, grad_nodes, grad_slope);
    }
    close_backward(&b);
    return failed;
}
