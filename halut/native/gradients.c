/* The surrogate gradient of looked-up layers: see halut/nn/functional.py for the equations.
 *
 * Pieces of the input are staged again, so that nothing is kept from the forward pass. A few tiles
 * of positions, four codebooks (a quad) and a panel of outputs are worked on at a time, in the
 * caches of the first two levels. Floats are added in no stated order.
 */
#include "pieces.h"
#include "terms.h"
#include <math.h>

enum {
    NEAR = 256,     /* positions of a piece, about */
    MOST_TILES = 8, /* that are worked on together */
    PANEL = 64,     /* outputs that are worked on together */
    WIDEST = 16,    /* floats of a vector, at most */
    DEEPEST = 4,
    LEAVES = 1 << DEEPEST,
    QUAD = 4 * LEAVES,   /* entries of four codebooks and one output */
    KEPT_BYTES = 1 << 22 /* of sums that are kept from piece to piece, at most */
};

/* A leaf's weight in the softmax falls by this factor for each node that decides against it. */
#define UNLIKELY 0.1353352832366127F

/* Largest exponents of `shares` below, and of what they are multiplied with: products fit floats,
 * and beyond the latter, derivatives are below 1e-11. */
#define NEAREST 30.0F
#define FARTHEST 57.0F

/* What is known of a tree's nodes: the logistic curve around node n of a level is that of
 * exp(2 slope (x - middle)) * shares[n], so that one exponential serves a level. `apart`: nodes are
 * too far from their middle for that. */
typedef struct {
    float middles[DEEPEST], shares[LEAVES], whole;
    int apart;
} Curves;

/* How far the first feature of a position lies from that of the first one when staged. */
INLINE size_t begin_of(const Work *w, size_t row, size_t column)
{
    return row * (size_t)w->g->stride_y * w->padded_width + column * (size_t)w->g->stride_x;
}

/* How many of n positions are neighbours when staged, from a column of the output on. */
INLINE size_t neighbours(const Work *w, size_t column, size_t n)
{
    return w->whole ? n : smaller(n, w->out_width - column);
}

typedef struct {
    void (*unpack)(const int8_t *, size_t, size_t, const float *, float *);
    void (*products)(const float *, const float *, size_t, size_t, float *);
    void (*take)(const Work *, size_t, size_t, size_t, size_t, float *);
    void (*give)(const Work *, size_t, size_t, size_t, size_t, const float *, float, float *);
    void (*encode)(const float *, size_t, const float *, size_t, uint8_t *);
    void (*trees)(const Curves *, const float *, const float *, const float *, size_t, size_t,
                  float *, float *, float *);
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
#define ALL(a) ((V){(a), (a), (a), (a)})
#define MASK VI
#define GREATER(a, b) ((a) > (b))
#define CHOOSE(mask, yes, no) ((V)(((mask) & (VI)(yes)) | (~(mask) & (VI)(no))))
#define RECIPROCAL(a) (1 / (a))
#include "gradients.h"

#ifdef HAS_X86
#define VARIANT avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#define MULTIPLY_ADD(a, b, c) ((V)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define BYTES(p) \
    ((V)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))))
#define ALL(a) ((V)_mm256_set1_ps(a))
#define MASK VI
#define GREATER(a, b) ((a) > (b))
#define CHOOSE(mask, yes, no) \
    ((V)_mm256_blendv_ps((__m256)(no), (__m256)(yes), (__m256)(mask)))
#define RECIPROCAL(a) NAME(refined)((a), (V)_mm256_rcp_ps((__m256)(a)))
#include "gradients.h"

#define VARIANT avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define LANES 16
#define MULTIPLY_ADD(a, b, c) ((V)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define BYTES(p) \
    ((V)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))))
#define ALL(a) ((V)_mm512_set1_ps(a))
#define MASK __mmask16
#define GREATER(a, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_GT_OQ)
#define CHOOSE(mask, yes, no) ((V)_mm512_mask_blend_ps((mask), (__m512)(no), (__m512)(yes)))
#define RECIPROCAL(a) NAME(refined)((a), (V)_mm512_rcp14_ps((__m512)(a)))
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
    const float *nodes, *slope, *table_scale;
    Compared compared;
    const int8_t *tables;
    float *grad_x, *grad_tables;
} Sides;

/* What is known of one tile of positions and the codebooks of a quad. */
typedef struct {
    size_t at, n;       /* positions: the first in its piece, how many */
    size_t row, column; /* of the first in the piece's output */
    size_t place;       /* where the piece is staged */
    float values[4 * DEEPEST * TILE + WIDEST]; /* that trees compare; then their gradients */
    uint8_t codes[4][TILE];
    float gains[QUAD * TILE]; /* what every leaf would have contributed */
} Tile;

typedef struct {
    Work w;
    const Gradients *gradients;
    const Terms *terms;
    float *grad_staged; /* as `w.staged` */
    float *rows;        /* upstream of tiles: (MOST_TILES, panels, TILE, PANEL) */
    float *columns;     /* the same, transposed: (MOST_TILES, panels, PANEL, TILE) */
    Curves *curves;     /* (groups, codebooks) */
    Tile *tiles;        /* (MOST_TILES) */
    float *tables;      /* of a quad, times the scales of outputs: (PANEL, QUAD) */
    int keeps;          /* the sums of all pieces; else those of one, of a quad and a panel */
    float *sums;        /* of upstream by code: (groups, quads, panels, QUAD, PANEL) */
    float *pixels;      /* of a piece */
    float *node_sums, *slope_sums; /* (groups, codebooks, nodes or levels, WIDEST) */
    void *blocks[12];
} Backward;

static size_t quads_of(const Geometry *g)
{
    return ((size_t)g->n_codebooks + 3) / 4;
}

static size_t panels_of(const Geometry *g)
{
    return ((size_t)g->n_outputs + PANEL - 1) / PANEL;
}

/* Outputs of a panel. */
static size_t panel_size(const Geometry *g, size_t panel)
{
    return smaller(PANEL, (size_t)g->n_outputs - panel * PANEL);
}

static int open_backward(Backward *b, const Geometry *g, int variant, const float *x,
                         const float *pad, const int32_t *dims)
{
    memset(b, 0, sizeof *b);
    Work *w = &b->w;
    plan_work(w, g, variant, x, pad, NEAR);
    b->gradients = gradients_of(variant);
    b->terms = terms_of(variant);
    const size_t trees = (size_t)(g->groups * g->n_codebooks), channels = (size_t)g->channels;
    const size_t n_nodes = ((size_t)1 << g->depth) - 1, depth = (size_t)g->depth;
    const size_t all_sums = (size_t)g->groups * quads_of(g) * panels_of(g) * QUAD * PANEL;
    b->keeps = all_sums * sizeof(float) <= KEPT_BYTES;
    const size_t n_sums = b->keeps ? all_sums : QUAD * PANEL;
    w->together = smaller(NEAR / smaller(NEAR, w->piece_rows * w->out_width),
                          STAGED_BYTES / 4 / (channels * w->plane));
    w->together = smaller(MOST_TILES, w->together ? w->together : 1);
    const int failed = open_work(w, dims, &b->blocks[0], &b->blocks[1]);
    b->grad_staged = aligned(w->together * channels * w->plane + 2 * TILE, 4, &b->blocks[2]);
    b->rows = aligned(MOST_TILES * panels_of(g) * TILE * PANEL, 4, &b->blocks[3]);
    b->tiles = aligned(MOST_TILES, sizeof(Tile), &b->blocks[4]);
    b->node_sums = aligned(trees * n_nodes * WIDEST, 4, &b->blocks[5]);
    b->slope_sums = aligned(trees * depth * WIDEST, 4, &b->blocks[6]);
    b->pixels = aligned(rows_read(g, w->piece_rows) * (size_t)g->width * channels, 4,
                        &b->blocks[7]);
    b->tables = aligned(PANEL * QUAD, 4, &b->blocks[8]);
    b->sums = aligned(n_sums, 4, &b->blocks[9]);
    b->columns = aligned(MOST_TILES * panels_of(g) * TILE * PANEL, 4, &b->blocks[10]);
    b->curves = aligned(trees, sizeof(Curves), &b->blocks[11]);
    for (size_t i = 2; i < sizeof b->blocks / sizeof b->blocks[0]; i++)
        if (failed || b->blocks[i] == NULL)
            return 1;
    memset(b->sums, 0, n_sums * 4);
    memset(b->node_sums, 0, trees * n_nodes * WIDEST * 4);
    memset(b->slope_sums, 0, trees * depth * WIDEST * 4);
    return 0;
}

static void close_backward(Backward *b)
{
    for (size_t i = 0; i < sizeof b->blocks / sizeof b->blocks[0]; i++)
        free(b->blocks[i]);
}

/* Find where the nodes of every tree lie. */
static void find_curves(const Backward *b, const float *all_nodes, const float *slopes)
{
    const size_t trees = (size_t)(b->w.g->groups * b->w.g->n_codebooks);
    const size_t depth = (size_t)b->w.g->depth, n_nodes = ((size_t)1 << depth) - 1;
    for (size_t i = 0; i < trees; i++) {
        Curves *curves = b->curves + i;
        const float *nodes = all_nodes + i * n_nodes;
        /* A tree's weights add up to (1 + UNLIKELY) ** depth. */
        curves->whole = 1;
        curves->apart = 0;
        for (size_t t = 0; t < depth; t++) {
            const size_t first = ((size_t)1 << t) - 1, end = 2 * first + 1;
            const float twice = 2 * slopes[i * depth + t];
            float least = nodes[first], most = nodes[first];
            for (size_t n = first + 1; n < end; n++) {
                least = fminf(least, nodes[n]);
                most = fmaxf(most, nodes[n]);
            }
            curves->middles[t] = 0.5F * least + 0.5F * most;
            for (size_t n = first; n < end; n++) {
                const float z = (curves->middles[t] - nodes[n]) * twice;
                curves->apart |= !(fabsf(z) <= NEAREST);
                curves->shares[n] = expf(z);
            }
            curves->whole /= 1 + UNLIKELY;
        }
    }
}

/* The upstream gradient of a tile's positions, panel by panel, in both orders; zero where there is
 * none. */
static void take_upstream(const Backward *b, const float *upstream, const Piece *piece,
                          size_t group, const Tile *tile, float *rows, float *columns)
{
    const Work *w = &b->w;
    const size_t n_outputs = (size_t)w->g->n_outputs, all = n_outputs * (size_t)w->g->groups;
    const size_t item = piece->first / w->out_height, per_item = w->out_height * w->out_width;
    const size_t within = piece->first % w->out_height * w->out_width + tile->at, n = tile->n;
    for (size_t panel = 0; panel < panels_of(w->g); panel++) {
        const size_t size = panel_size(w->g, panel), first = group * n_outputs + panel * PANEL;
        if (size < PANEL)
            memset(rows, 0, TILE * PANEL * 4);
        if (n < TILE)
            memset(columns, 0, TILE * PANEL * 4);
        if (w->g->out_by_pixel) {
            const float *from = upstream + (item * per_item + within) * all + first;
            for (size_t p = 0; p < n; p++)
                memcpy(rows + p * PANEL, from + p * all, size * 4);
            w->transpose(from, all, n, size, columns, TILE);
        } else {
            const float *from = upstream + (item * all + first) * per_item + within;
            for (size_t m = 0; m < size; m++)
                memcpy(columns + m * TILE, from + m * per_item, n * 4);
            w->transpose(from, per_item, size, n, rows, PANEL);
        }
        rows += TILE * PANEL;
        columns += TILE * PANEL;
    }
}

/* Where the sums of a quad and a panel are. */
static float *sums_of(const Backward *b, size_t group, size_t quad, size_t panel)
{
    const Geometry *g = b->w.g;
    const size_t at = (group * quads_of(g) + quad) * panels_of(g) + panel;
    return b->sums + (b->keeps ? at * QUAD * PANEL : 0);
}

/* Write the sums of a quad and a panel to the gradient of its tables, or add them. */
static void finish_sums(const Backward *b, size_t group, size_t quad, size_t panel, int adds,
                        float *grad_tables)
{
    const Geometry *g = b->w.g;
    const size_t n_leaves = (size_t)1 << g->depth, size = panel_size(g, panel);
    const size_t stride = (size_t)g->n_codebooks * n_leaves;
    const size_t n_codebooks = smaller(4, (size_t)g->n_codebooks - 4 * quad);
    const float *sums = sums_of(b, group, quad, panel);
    float *to = grad_tables + (group * (size_t)g->n_outputs + panel * PANEL) * stride +
                4 * quad * n_leaves;
    float block[PANEL * QUAD];
    for (size_t c = 0; c < n_codebooks; c++)
        b->w.transpose(sums + c * LEAVES * PANEL, PANEL, n_leaves, size,
                       adds ? block + c * n_leaves : to + c * n_leaves, adds ? QUAD : stride);
    for (size_t m = 0; adds && m < size; m++)
        for (size_t k = 0; k < n_codebooks * n_leaves; k++)
            to[m * stride + k] += block[m * QUAD + k];
}

/* Add up the terms of a level for a tile's positions; zeros follow. */
static void add_terms(const Backward *b, const Compared *compared, size_t level, const Tile *tile,
                      float *sums)
{
    const Work *w = &b->w;
    const size_t n_terms = (size_t)w->g->terms;
    float x[TILE + WIDEST];
    memset(sums, 0, TILE * 4);
    for (size_t i = level * n_terms; i < (level + 1) * n_terms; i++)
        if (compared->signs[i]) {
            b->gradients->take(w, tile->place + w->places[i], tile->row, tile->column, tile->n, x);
            b->terms->add(compared->format, compared->scale[level], compared->offset[level],
                          compared->signs[i], x, tile->n, sums);
        }
}

/* Hand the gradient of a level's sums, times a factor, to its terms. */
static void give_terms(const Backward *b, const Compared *compared, size_t level, const Tile *tile,
                       const float *values, float factor)
{
    const Work *w = &b->w;
    const size_t n_terms = (size_t)w->g->terms;
    float x[TILE + WIDEST], passed[TILE + WIDEST] = {0};
    for (size_t i = level * n_terms; i < (level + 1) * n_terms; i++)
        if (compared->signs[i]) {
            b->gradients->take(w, tile->place + w->places[i], tile->row, tile->column, tile->n, x);
            b->terms->pass(compared->format, compared->scale[level], compared->offset[level],
                           (float)compared->signs[i] * factor, x, tile->n, values, passed);
            b->gradients->give(w, tile->place + w->places[i], tile->row, tile->column, tile->n,
                               passed, 1, b->grad_staged);
        }
}

/* Walk a tile's positions through a tree, and keep what it compares. */
static void encode_tile(const Backward *b, const Sides *s, size_t tree, Tile *tile, float *values,
                        uint8_t *codes)
{
    const Work *w = &b->w;
    const size_t depth = (size_t)w->g->depth, n_leaves = (size_t)1 << depth;
    const Compared *compared = &s->compared;
    for (size_t t = 0; t < depth; t++) {
        const size_t level = tree * depth + t;
        if (compared->signs != NULL) {
            add_terms(b, compared, level, tile, values + t * TILE);
            continue;
        }
        b->gradients->take(w, tile->place + w->places[level], tile->row, tile->column, tile->n,
                           values + t * TILE);
        b->gradients->convert(compared->format, compared->scale[level], compared->offset[level],
                              values + t * TILE, tile->n);
    }
    b->gradients->encode(s->nodes + tree * (n_leaves - 1), depth, values, tile->n, codes);
}

/* Turn a tile's gains into the gradients of a tree and of what it compares. */
static void follow_tree(Backward *b, const Sides *s, size_t tree, Tile *tile, size_t c)
{
    const Work *w = &b->w;
    const size_t depth = (size_t)w->g->depth, n_nodes = ((size_t)1 << depth) - 1;
    const Curves *curves = b->curves + tree;
    float *values = tile->values + c * DEEPEST * TILE;
    b->gradients->trees(curves, s->nodes + tree * n_nodes, s->slope + tree * depth,
                        tile->gains + c * LEAVES * TILE, depth, tile->n, values,
                        b->node_sums + tree * n_nodes * WIDEST,
                        b->slope_sums + tree * depth * WIDEST);
    for (size_t t = 0; s->grad_x != NULL && t < depth; t++) {
        const size_t level = tree * depth + t;
        const float factor = 4 * curves->whole * s->slope[level] / s->compared.scale[level];
        if (s->compared.signs != NULL)
            give_terms(b, &s->compared, level, tile, values + t * TILE, factor);
        else
            b->gradients->give(w, tile->place + w->places[level], tile->row, tile->column, tile->n,
                               values + t * TILE, factor, b->grad_staged);
    }
}

/* Backward of the tiles that are there, for four codebooks. */
static void backward_quad(Backward *b, const Sides *s, size_t group, size_t quad, size_t n_tiles,
                          int adds)
{
    const Geometry *g = b->w.g;
    const size_t n_panels = panels_of(g), n_outputs = (size_t)g->n_outputs;
    const size_t n_codebooks = smaller(4, (size_t)g->n_codebooks - 4 * quad);
    const size_t tree = group * (size_t)g->n_codebooks + 4 * quad, stride = quads_of(g) * 256;
    const int8_t *packed =
        s->tables + group * (round_up(n_outputs, 4) / 4) * stride + quad * 256;
    for (size_t i = 0; i < n_tiles; i++) {
        Tile *tile = b->tiles + i;
        for (size_t c = 0; c < n_codebooks; c++)
            encode_tile(b, s, tree + c, tile, tile->values + c * DEEPEST * TILE,
                        tile->codes[c]);
        memset(tile->gains, 0, sizeof tile->gains);
    }
    for (size_t panel = 0; panel < n_panels; panel++) {
        const size_t size = panel_size(g, panel), first = panel * PANEL;
        float *sums = sums_of(b, group, quad, panel);
        b->gradients->unpack(packed + first / 4 * stride, stride, size,
                             s->table_scale + group * n_outputs + first, b->tables);
        if (!b->keeps)
            memset(sums, 0, QUAD * PANEL * 4);
        for (size_t i = 0; i < n_tiles; i++) {
            Tile *tile = b->tiles + i;
            const size_t at = (i * n_panels + panel) * TILE * PANEL;
            b->gradients->products(b->tables, b->columns + at, size, tile->n, tile->gains);
            for (size_t c = 0; c < n_codebooks; c++)
                b->gradients->gather(b->rows + at, tile->codes[c], tile->n, size,
                                     sums + c * LEAVES * PANEL);
        }
        if (!b->keeps)
            finish_sums(b, group, quad, panel, adds, s->grad_tables);
    }
    for (size_t i = 0; i < n_tiles; i++)
        for (size_t c = 0; c < n_codebooks; c++)
            follow_tree(b, s, tree + c, b->tiles + i, c);
}

/* Add a piece's gradients to those of the images; what pads them has none. */
static void unstage(const Backward *b, const Piece *piece, const float *staged, float *grad_x)
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
        const float *from = staged + r * w->padded_width + g->left;
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

/* Backward of pieces that are staged together; return 1: the gradient of tables was written to. */
static int backward_pieces(Backward *b, const Sides *s, const float *upstream, size_t first,
                           size_t n_pieces, int adds)
{
    const Geometry *g = b->w.g;
    const size_t channels = (size_t)g->channels, staged = channels * b->w.plane;
    const size_t per_tile = panels_of(g) * TILE * PANEL;
    Piece pieces[MOST_TILES], of_tile[MOST_TILES];
    for (size_t i = 0; i < n_pieces; i++) {
        Work here = b->w;
        here.staged += i * staged;
        pieces[i] = piece_of(&here, first + i);
        if (g->in_by_pixel)
            stage_pixels(&here, pieces + i);
        for (size_t c = 0; c < channels; c++)
            stage_channel(&here, pieces + i, c);
    }
    memset(b->grad_staged, 0, n_pieces * staged * 4);
    for (size_t i = 0, at = 0; i < n_pieces; adds = 1) {
        size_t n_tiles = 0;
        while (i < n_pieces && n_tiles < MOST_TILES) {
            const size_t n_positions = pieces[i].n_rows * b->w.out_width;
            Tile *tile = b->tiles + n_tiles;
            tile->at = at;
            tile->n = smaller(TILE, n_positions - at);
            tile->row = at / b->w.out_width;
            tile->column = at % b->w.out_width;
            tile->place = i * staged;
            of_tile[n_tiles++] = pieces[i];
            at += TILE;
            if (at >= n_positions) {
                at = 0;
                i++;
            }
        }
        for (size_t group = 0; group < (size_t)g->groups; group++) {
            for (size_t j = 0; j < n_tiles; j++)
                take_upstream(b, upstream, of_tile + j, group, b->tiles + j,
                              b->rows + j * per_tile, b->columns + j * per_tile);
            for (size_t quad = 0; quad < quads_of(g); quad++)
                backward_quad(b, s, group, quad, n_tiles, adds);
        }
    }
    for (size_t i = 0; s->grad_x != NULL && i < n_pieces; i++)
        unstage(b, pieces + i, b->grad_staged + i * staged, s->grad_x);
    return adds;
}

/* Sums over vectors become gradients of nodes and slopes. */
static void finish_backward(const Backward *b, const Sides *s, float *grad_nodes,
                            float *grad_slope)
{
    const size_t trees = (size_t)(b->w.g->groups * b->w.g->n_codebooks);
    const size_t depth = (size_t)b->w.g->depth, n_nodes = ((size_t)1 << depth) - 1;
    for (size_t i = 0; i < trees; i++)
        for (size_t t = 0; t < depth; t++) {
            /* 4: derivatives are four times those of the logistic curve. */
            const float factor = 4 * b->curves[i].whole;
            float towards = 0;
            for (size_t v = 0; v < WIDEST; v++)
                towards += b->slope_sums[(i * depth + t) * WIDEST + v];
            for (size_t n = ((size_t)1 << t) - 1; n < ((size_t)2 << t) - 1; n++) {
                float sum = 0;
                for (size_t v = 0; v < WIDEST; v++)
                    sum += b->node_sums[(i * n_nodes + n) * WIDEST + v];
                grad_nodes[i * n_nodes + n] = -sum * factor * s->slope[i * depth + t];
                towards -= sum * s->nodes[i * n_nodes + n];
            }
            grad_slope[i * depth + t] = towards * factor;
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
 * `signs`, `scale` and `offset` as in `Compared`, `tables` as of halut_pack, the scale of every output's
 * (groups, M), and `upstream`, laid out as the output. `grad_x` (as x; or NULL) is added to;
 * `grad_tables` (groups, M, codebooks, K), without that scale, `grad_nodes` and `grad_slope` are
 * written. There is at least one piece. */
EXPORT int halut_convolve_backward(int variant, const Geometry *g, const Format *format,
                                   const float *x, const float *pad, const int32_t *dims,
                                   const int8_t *signs, const float *nodes, const float *slope,
                                   const float *scale, const float *offset, const int8_t *tables,
                                   const float *table_scale, const float *upstream, float *grad_x,
                                   float *grad_tables, float *grad_nodes, float *grad_slope,
                                   size_t first_piece, size_t last_piece)
{
    Backward b;
    const Sides sides = {nodes,  slope,  table_scale, {format, signs, scale, offset},
                         tables, grad_x, grad_tables};
    const int failed = open_backward(&b, g, variant, x, pad, dims);
    if (!failed) {
        int adds = 0; /* the gradient of tables was written to */
        find_curves(&b, nodes, slope);
        last_piece = smaller(last_piece, b.w.n_pieces);
        for (size_t first = first_piece; first < last_piece; first += b.w.together)
            adds = backward_pieces(&b, &sides, upstream, first,
                                   smaller(b.w.together, last_piece - first), adds);
        for (size_t i = 0; b.keeps && i < (size_t)g->groups * quads_of(g); i++)
            for (size_t panel = 0; panel < panels_of(g); panel++)
                finish_sums(&b, i / quads_of(g), i % quads_of(g), panel, 0, grad_tables);
        finish_backward(&b, &sides, grad_nodes, grad_slope);
    }
    close_backward(&b);
    return failed;
}
