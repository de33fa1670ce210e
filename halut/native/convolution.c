/* Looked-up layers, from images to images: pad, encode, look up, add, scale.
 *
 * A linear layer is a convolution of one-pixel kernels over an image that is one pixel wide.
 * Images come, and results leave, plane by plane (NCHW) or pixel by pixel (NHWC). Trees compare
 * float32 values with float32 thresholds; tables hold up to 16 entries of one byte. Sums are exact.
 *
 * Work is cut into bands of positions, which are encoded, then looked up, four outputs at a time,
 * so that tables pass through the cache once for each band.
 */
#include "pieces.h"
#include "terms.h"
#include <math.h>
#include "shuffle.h"

enum {
    BAND = 1024,            /* positions, about */
    STAYING_BYTES = 1 << 19 /* of tables that stay in the cache of the second level */
};

/* What stays the same from band to band. */
typedef struct {
    Work w;
    const Shuffle *shuffle;
    const Terms *terms;
    Compared compared;
    size_t pieces_per_band, n_bands;
    float *thresholds; /* (groups, codebooks filled up, n_nodes): see shuffle.h */
    size_t n_nodes;
    size_t n_quads;
    int by_quads;      /* codes are words of quads */
    uint32_t *line;    /* codes of a staged piece: words of a quad, or bytes of a codebook */
    char *codes;       /* (groups, tiles, ...): see shuffle.h */
    size_t tile_bytes, n_tiles;
    int32_t *sums;     /* (SLICE, TILE) */
    float *values;     /* of a staged piece: sums of features, (QUAD, depth, plane); or NULL */
    void *blocks[7];
} Bands;

static void plan_bands(Bands *b, const Geometry *g, int variant, const float *x, const float *pad)
{
    memset(b, 0, sizeof *b);
    plan_work(&b->w, g, variant, x, pad, BAND);
    b->shuffle = shuffle_of(variant);
    b->terms = terms_of(variant);
    const size_t positions = b->w.piece_rows * b->w.out_width;
    b->pieces_per_band = smaller(positions < BAND ? BAND / positions : 1, b->w.n_pieces);
    b->n_bands = (b->w.n_pieces + b->pieces_per_band - 1) / b->pieces_per_band;
    b->n_quads = ((size_t)g->n_codebooks + QUAD - 1) / QUAD;
    b->by_quads = b->shuffle->encode_quad != NULL && g->depth <= 4;
    b->n_nodes = b->by_quads ? QUAD_DEPTH * LEVEL : (size_t)1 << g->depth;
    b->n_tiles = round_up(b->pieces_per_band * positions, TILE) / TILE;
    b->tile_bytes = b->n_quads * QUAD * TILE;
}

static int open_bands(Bands *b, const int32_t *dims, const float *thresholds,
                      const Compared *compared)
{
    const Geometry *g = b->w.g;
    const size_t groups = (size_t)g->groups, n_codebooks = (size_t)g->n_codebooks;
    const size_t filled_up = b->n_quads * QUAD, n = ((size_t)1 << g->depth) - 1;
    const int failed = open_work(&b->w, dims, &b->blocks[0], &b->blocks[1]);
    b->thresholds = aligned(groups * filled_up * b->n_nodes, 4, &b->blocks[2]);
    b->line = aligned(b->w.plane + 2 * TILE, 4, &b->blocks[3]);
    b->codes = aligned(groups * b->n_tiles, b->tile_bytes, &b->blocks[4]);
    b->sums = aligned(SLICE * TILE, 4, &b->blocks[5]);
    b->compared = *compared;
    if (compared->signs != NULL) {
        b->values = aligned(QUAD * (size_t)g->depth * b->w.plane + 2 * TILE, 4, &b->blocks[6]);
        if (b->values == NULL)
            return 1;
    }
    if (failed || b->thresholds == NULL || b->line == NULL || b->codes == NULL ||
        b->sums == NULL)
        return 1;
    memset(b->codes, 0, groups * b->n_tiles * b->tile_bytes);
    memset(b->thresholds, 0, groups * filled_up * b->n_nodes * 4);
    for (size_t i = 0; i < groups * n_codebooks; i++) {
        float *to = b->thresholds + (i / n_codebooks * filled_up + i % n_codebooks) * b->n_nodes;
        if (b->by_quads)
            make_levels(thresholds + i * n, (size_t)g->depth, to);
        else
            memcpy(to + 1, thresholds + i * n, n * 4);
    }
    return 0;
}

static void close_bands(Bands *b)
{
    for (size_t i = 0; i < sizeof b->blocks / sizeof b->blocks[0]; i++)
        free(b->blocks[i]);
}

/* Copy codes of `size` bytes, `step` of them apart, to positions of a band. */
static void place_codes(char *to, size_t tile_bytes, size_t position, const char *from, size_t step,
                        size_t n, const size_t size)
{
    while (n) {
        const size_t at = position % TILE, here = smaller(n, TILE - at);
        char *tile = to + position / TILE * tile_bytes + at * size;
        if (step == 1)
            memcpy(tile, from, here * size);
        else if (size == 1)
            for (size_t i = 0; i < here; i++)
                tile[i] = from[i * step];
        else
            for (size_t i = 0; i < here; i++)
                memcpy(tile + i * 4, from + i * step * 4, 4);
        from += here * step * size;
        position += here;
        n -= here;
    }
}

/* Where n neighbouring values of a level are, from `begin` of the staged piece on: those of its
 * feature, or the sums of its terms, which are added up for it. */
static const float *level_values(const Bands *b, const Piece *piece, size_t level, size_t begin,
                                 size_t n, float *sums, size_t *n_staged)
{
    const Work *w = &b->w;
    const Compared *compared = &b->compared;
    const size_t n_terms = (size_t)w->g->terms;
    if (compared->signs != NULL)
        memset(sums, 0, n * 4);
    for (size_t i = level * n_terms; i < (level + 1) * n_terms; i++) {
        const size_t place = w->places[i];
        for (; *n_staged <= place / w->plane; ++*n_staged)
            stage_channel(w, piece, *n_staged);
        if (compared->signs == NULL)
            return w->staged + place + begin;
        if (compared->signs[i])
            b->terms->add(compared->format, compared->scale[level], compared->offset[level],
                          compared->signs[i], w->staged + place + begin, n, sums);
    }
    return sums;
}

/* Encode a piece, to positions of the band. Channels are staged right before the first codebook
 * that reads them, so that they are in the cache of the first level. */
static void encode_piece(const Bands *b, const Piece *piece, size_t position)
{
    const Work *w = &b->w;
    const Geometry *g = w->g;
    const size_t depth = (size_t)g->depth, n_codebooks = (size_t)g->n_codebooks;
    const size_t step = (size_t)g->stride_x, down = (size_t)g->stride_y * w->padded_width;
    /* With vertical strides, rows are encoded one by one. */
    const size_t at_once = g->stride_y == 1 ? piece->n_rows : 1;
    const size_t n = (at_once - 1) * w->padded_width + (w->out_width - 1) * step + 1;
    const size_t size = b->by_quads ? 4 : 1;
    size_t n_staged = 0;
    if (g->in_by_pixel)
        stage_pixels(w, piece);
    for (size_t i = 0; i < (size_t)g->groups * b->n_quads * QUAD; i += size) {
        const size_t group = i / (b->n_quads * QUAD), c = i % (b->n_quads * QUAD);
        Tree trees[QUAD];
        if (c >= n_codebooks)
            continue;
        char *to = b->codes + group * b->n_tiles * b->tile_bytes + c * TILE;
        for (size_t row = 0; row < piece->n_rows; row += at_once) {
            for (size_t j = 0; j < size; j++) {
                /* What fills up the last quad is encoded, too: its entries are zero. */
                const size_t codebook = group * n_codebooks + smaller(c + j, n_codebooks - 1);
                trees[j].thresholds = b->thresholds + (i + j) * b->n_nodes;
                for (size_t t = 0; t < depth; t++) {
                    float *sums = b->values == NULL ? NULL : b->values + (j * depth + t) * w->plane;
                    trees[j].features[t] = level_values(b, piece, codebook * depth + t, row * down,
                                                        n, sums, &n_staged);
                }
                trees[j].ahead = trees[j].features[0];
            }
            if (size == 4)
                b->shuffle->encode_quad(trees, depth, n, b->line);
            else
                b->shuffle->walk(trees, depth, n, (uint8_t *)b->line);
            for (size_t k = 0; k < at_once; k++)
                place_codes(to, b->tile_bytes, position + (row + k) * w->out_width,
                            (const char *)b->line + k * w->padded_width * size, step, w->out_width,
                            size);
        }
    }
}

/* Encode a band; return its first position, counted through all items, and how many there are. */
static size_t encode_band(const Bands *b, size_t band, size_t *n_positions)
{
    const Work *w = &b->w;
    const size_t begin = band * b->pieces_per_band;
    const size_t end = smaller(begin + b->pieces_per_band, w->n_pieces);
    *n_positions = 0;
    for (size_t number = begin; number < end; number++) {
        const Piece piece = piece_of(w, number);
        encode_piece(b, &piece, *n_positions);
        *n_positions += piece.n_rows * w->out_width;
    }
    return piece_of(w, begin).first * w->out_width;
}

/* Where positions of a band lie in (items, codebooks or outputs, positions). */
typedef struct {
    size_t item, within, n;
} Run;

/* The longest run of positions from `at` to `end` in one item. */
static Run run_of(const Work *w, size_t at, size_t end)
{
    const size_t per_item = w->out_height * w->out_width;
    const Run run = {at / per_item, at % per_item, smaller(end - at, per_item - at % per_item)};
    return run;
}

typedef struct {
    const int8_t *tables;         /* (groups, outputs filled up / 4, quads, 4, 64) */
    const float *scale, *offset;  /* (groups, outputs) */
    float *out;
} Outputs;

/* Values of one tile and four outputs, to planes. */
static void store_planes(const Bands *b, const Outputs *o, size_t output, size_t n_outputs,
                         size_t first, size_t n)
{
    const Work *w = &b->w;
    const size_t per_item = w->out_height * w->out_width;
    const size_t all = (size_t)(w->g->groups * w->g->n_outputs);
    for (size_t p = 0; p < n;) {
        const Run run = run_of(w, first + p, first + n);
        for (size_t k = output; k < output + n_outputs; k++)
            b->shuffle->to_plane(b->sums + (k - output) * TILE + p, run.n, o->scale[k],
                                 o->offset[k], o->out + (run.item * all + k) * per_item + run.within);
        p += run.n;
    }
}

/* Values of one tile and up to 16 outputs, to pixels. */
static void store_pixels(const Bands *b, const Outputs *o, size_t output, size_t n_outputs,
                         size_t first, size_t n)
{
    const Work *w = &b->w;
    const size_t all = (size_t)(w->g->groups * w->g->n_outputs);
    b->shuffle->to_pixels(b->sums, n, n_outputs, o->scale + output, o->offset + output,
                          o->out + first * all + output, all);
}

/* Fetch where values of one tile and four outputs go to, while they are looked up. */
static void expect_planes(const Work *w, const Outputs *o, size_t output, size_t n_outputs,
                          size_t first, size_t n)
{
    const size_t per_item = w->out_height * w->out_width;
    const size_t all = (size_t)(w->g->groups * w->g->n_outputs);
    const Run run = run_of(w, first, first + n);
    for (size_t k = output; k < output + n_outputs; k++)
        for (size_t i = 0; i < run.n; i += 16)
            PREFETCH_TO_WRITE(o->out + (run.item * all + k) * per_item + run.within + i);
}

/* The same of some positions and 16 outputs: not more at a time than are on their way together. */
static void expect_pixels(const Work *w, const Outputs *o, size_t output, size_t first, size_t end)
{
    const size_t all = (size_t)(w->g->groups * w->g->n_outputs);
    for (size_t p = first; p < end; p++)
        PREFETCH_TO_WRITE(o->out + p * all + output);
}

static void look_up_band(const Bands *b, const Outputs *o, size_t first, size_t n_positions)
{
    const Work *w = &b->w;
    const Geometry *g = w->g;
    const size_t n_outputs = (size_t)g->n_outputs, padded = round_up(n_outputs, OUTPUTS);
    const size_t slice = g->out_by_pixel ? SLICE : OUTPUTS;
    const size_t table_bytes = b->n_quads * OUTPUTS * 64;
    /* Tables that stay in the cache may pass by for every tile, so that whole pixels are written. */
    const int stay = g->out_by_pixel && (padded / OUTPUTS) * table_bytes <= STAYING_BYTES;
    const size_t step = stay ? TILE : round_up(n_positions, TILE);
    for (size_t begin = 0; begin < n_positions; begin += step)
        for (size_t group = 0; group < (size_t)g->groups; group++) {
            const char *codes = b->codes + group * b->n_tiles * b->tile_bytes;
            const int8_t *tables = o->tables + group * padded / OUTPUTS * table_bytes;
            for (size_t m = 0; m < n_outputs; m += slice) {
                const size_t here = smaller(slice, n_outputs - m), output = group * n_outputs + m;
                const size_t end = smaller(begin + step, n_positions);
                for (size_t p = begin; p < end; p += TILE) {
                    const size_t n = smaller(TILE, end - p);
                    if (!g->out_by_pixel)
                        expect_planes(w, o, output, here, first + p, n);
                    for (size_t k = 0; k < here; k += OUTPUTS) {
                        if (g->out_by_pixel)
                            expect_pixels(w, o, output, first + p + n * k / here,
                                          first + p + n * (k + OUTPUTS) / here);
                        b->shuffle->look_up(codes + p / TILE * b->tile_bytes,
                                            tables + (m + k) / OUTPUTS * table_bytes, b->n_quads,
                                            b->sums + k * TILE);
                    }
                    finish_sums(g->wrap_bits, g->relu, b->sums, round_up(here, OUTPUTS) * TILE);
                    (g->out_by_pixel ? store_pixels : store_planes)(b, o, output, here,
                                                                    first + p, n);
                }
            }
        }
}

/* Bands of a product, which threads may share. */
EXPORT int halut_bands(int variant, const Geometry *g)
{
    Bands b;
    plan_bands(&b, g, variant, NULL, NULL);
    return (int)b.n_bands;
}

/* Encode, look up and add for some bands. `dims` (groups, codebooks, depth, terms) are features of a
 * group: channel, row, column of the kernel; `thresholds` (groups, codebooks, 2**depth - 1) are
 * breadth-first, of sums in the words of `format`, else of features as they are; `signs`, `scale_in`
 * and `offset_in` are as in `Compared`; `pad` (channels) or NULL: 0. There is
 * at least one position. */
EXPORT int halut_convolve(int variant, const Geometry *g, const float *x, const float *pad,
                          const int32_t *dims, const float *thresholds, const Format *format,
                          const int8_t *signs, const float *scale_in, const float *offset_in,
                          const int8_t *tables, const float *scale, const float *offset,
                          float *out, size_t first_band, size_t last_band)
{
    Bands b;
    const Outputs outputs = {tables, scale, offset, out};
    const Compared compared = {format, signs, scale_in, offset_in};
    plan_bands(&b, g, variant, x, pad);
    const int failed = open_bands(&b, dims, thresholds, &compared);
    if (!failed)
        for (size_t band = first_band; band < smaller(last_band, b.n_bands); band++) {
            size_t n;
            const size_t first = encode_band(&b, band, &n);
            look_up_band(&b, &outputs, first, n);
        }
    close_bands(&b);
    return failed;
}
