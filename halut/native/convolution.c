/* Looked-up layers, from images to images: pad, encode, look up, add, scale.
 *
 * A linear layer is a convolution of one-pixel kernels over an image that is one pixel wide.
 * Images come, and results leave, plane by plane (NCHW) or pixel by pixel (NHWC). Trees compare
 * float32 values with float32 thresholds; tables hold up to 16 entries of one byte. Sums are exact.
 *
 * Work is cut into bands of positions, which are encoded, then looked up, four outputs at a time,
 * so that tables pass through the cache once for each band.
 */
#include "common.h"
#include "shuffle.h"

enum {
    BAND = 1024,            /* positions, about */
    STAGED_BYTES = 1 << 20  /* of padded input, about, in the cache of the second level */
};

/* As halut/native/convolution.py lays it out. */
typedef struct {
    int64_t n_items, channels, height, width; /* of the images; channels of all groups */
    int64_t groups, n_codebooks, depth, n_outputs; /* codebooks and outputs of a group */
    int64_t kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x;
    int64_t left, right, above, below; /* padding */
    int64_t in_by_pixel, out_by_pixel;
    int64_t wrap_bits, relu; /* of the sums; 0: none */
} Geometry;

typedef struct {
    void (*walk)(const Tree *, size_t, size_t, uint8_t *);
    void (*encode_quad)(const Tree *, size_t, size_t, uint32_t *); /* or NULL: walk is used */
    void (*look_up)(const void *, const int8_t *, size_t, int32_t *);
    void (*transpose)(const float *, size_t, size_t, size_t, float *, size_t);
    void (*to_plane)(const int32_t *, size_t, float, float, float *);
    void (*to_pixels)(const int32_t *, size_t, size_t, const float *, const float *, float *,
                      size_t);
} Shuffle;

#define SHUFFLE(name, quad, transposed) \
    {walk_##name, quad, look_up_##name, transpose_##transposed, to_plane_##name, to_pixels_##name}
static const Shuffle portable = SHUFFLE(portable, NULL, portable);
#ifdef HAS_X86
static const Shuffle avx2 = SHUFFLE(avx2, NULL, portable);
static const Shuffle vnni = SHUFFLE(vnni, encode_quad_vnni, vnni);
#endif

/* Variants are numbered as in kernels.c. */
static const Shuffle *shuffle_of(int variant)
{
#ifdef HAS_X86
    __builtin_cpu_init();
    if (variant >= 2 && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vnni"))
        return &vnni;
    if (variant >= 1)
        return &avx2;
#endif
    (void)variant;
    return &portable;
}

/* Everything that stays the same from band to band. */
typedef struct {
    const Geometry *g;
    const Shuffle *shuffle;
    const float *x, *pad;
    size_t out_height, out_width, padded_width;
    size_t piece_rows, pieces_per_item, pieces_per_band; /* a piece: rows of one item */
    size_t n_pieces, n_bands;
    size_t plane;            /* floats of a channel of a staged piece */
    float *staged;           /* (channels, plane) */
    size_t *places;          /* (groups, codebooks, depth): where a feature begins when staged */
    float *thresholds;       /* (groups, codebooks filled up, 16 or more): the root at 1 */
    size_t n_nodes;          /* the last dimension of thresholds */
    size_t n_quads;
    int by_quads;            /* codes are words of quads */
    uint32_t *line;          /* codes of a staged piece: words of a quad, or bytes of a codebook */
    char *codes;             /* (groups, tiles, ...): see shuffle.h */
    size_t tile_bytes, n_tiles;
    int32_t *sums;           /* (SLICE, TILE) */
    void *blocks[6];
} Work;

static size_t output_size(int64_t size, int64_t more, int64_t kernel, int64_t stride,
                          int64_t dilation)
{
    return (size_t)((size + more - dilation * (kernel - 1) - 1) / stride + 1);
}

static void close_work(Work *w)
{
    for (size_t i = 0; i < sizeof w->blocks / sizeof w->blocks[0]; i++)
        free(w->blocks[i]);
}

/* Rows of input that `n` rows of output read. */
static size_t rows_read(const Geometry *g, size_t n)
{
    return (n - 1) * (size_t)g->stride_y + (size_t)(g->dilation_y * (g->kernel_height - 1)) + 1;
}

/* Sizes; nothing is allocated. */
static void plan_work(Work *w, const Geometry *g, int variant)
{
    memset(w, 0, sizeof *w);
    w->g = g;
    w->shuffle = shuffle_of(variant);
    w->out_height =
        output_size(g->height, g->above + g->below, g->kernel_height, g->stride_y, g->dilation_y);
    w->out_width =
        output_size(g->width, g->left + g->right, g->kernel_width, g->stride_x, g->dilation_x);
    w->padded_width = (size_t)(g->width + g->left + g->right);

    size_t rows = STAGED_BYTES / 4 / (size_t)g->channels / w->padded_width;
    const size_t halo = rows_read(g, 1) - 1;
    rows = rows > halo ? (rows - halo) / (size_t)g->stride_y : 0;
    rows = smaller(rows, (BAND + w->out_width - 1) / w->out_width);
    w->piece_rows = smaller(rows ? rows : 1, w->out_height);
    w->pieces_per_item = (w->out_height + w->piece_rows - 1) / w->piece_rows;
    const size_t positions = w->piece_rows * w->out_width;
    w->n_pieces = w->pieces_per_item * (size_t)g->n_items;
    w->pieces_per_band = smaller(positions < BAND ? BAND / positions : 1, w->n_pieces);
    w->n_bands = (w->n_pieces + w->pieces_per_band - 1) / w->pieces_per_band;

    w->plane = round_up(rows_read(g, w->piece_rows) * w->padded_width, 16) + 16;
    w->n_quads = ((size_t)g->n_codebooks + QUAD - 1) / QUAD;
    w->by_quads = w->shuffle->encode_quad != NULL && g->depth <= 4;
    w->n_nodes = g->depth <= 4 ? 32 : (size_t)1 << g->depth; /* one load reads 16 */
    w->n_tiles = round_up(w->pieces_per_band * positions, TILE) / TILE;
    w->tile_bytes = w->n_quads * QUAD * TILE;
}

static int open_work(Work *w, const float *x, const float *pad, const int32_t *dims,
                     const float *thresholds)
{
    const Geometry *g = w->g;
    const size_t channels = (size_t)g->channels, depth = (size_t)g->depth;
    const size_t groups = (size_t)g->groups, n_codebooks = (size_t)g->n_codebooks;
    const size_t filled_up = w->n_quads * QUAD, n_thresholds = ((size_t)1 << depth) - 1;
    w->x = x;
    w->pad = pad;
    w->staged = aligned(channels * w->plane + 2 * TILE, 4, &w->blocks[0]);
    w->places = aligned(groups * n_codebooks * depth, sizeof(size_t), &w->blocks[1]);
    w->thresholds = aligned(groups * filled_up * w->n_nodes, 4, &w->blocks[2]);
    w->line = aligned(w->plane + 2 * TILE, 4, &w->blocks[3]);
    w->codes = aligned(groups * w->n_tiles, w->tile_bytes, &w->blocks[4]);
    w->sums = aligned(SLICE * TILE, 4, &w->blocks[5]);
    if (w->staged == NULL || w->places == NULL || w->thresholds == NULL || w->line == NULL ||
        w->codes == NULL || w->sums == NULL)
        return 1;

    memset(w->codes, 0, groups * w->n_tiles * w->tile_bytes);
    memset(w->thresholds, 0, groups * filled_up * w->n_nodes * 4);
    const size_t area = (size_t)(g->kernel_height * g->kernel_width);
    for (size_t i = 0; i < groups * n_codebooks; i++) {
        const size_t group = i / n_codebooks, c = i % n_codebooks;
        memcpy(w->thresholds + (group * filled_up + c) * w->n_nodes + 1,
               thresholds + i * n_thresholds, n_thresholds * 4);
        for (size_t t = 0; t < depth; t++) {
            const size_t dim = (size_t)dims[i * depth + t];
            const size_t channel = dim / area + group * (channels / groups);
            const size_t row = dim % area / (size_t)g->kernel_width * (size_t)g->dilation_y;
            const size_t column = dim % (size_t)g->kernel_width * (size_t)g->dilation_x;
            w->places[i * depth + t] = channel * w->plane + row * w->padded_width + column;
        }
    }
    return 0;
}

/* Rows of an item: of its output, and what they read of its input. */
typedef struct {
    const float *image;
    size_t first, n_rows; /* of output */
    int64_t top;          /* first row of input, in the padding where it is negative */
    size_t n_read;
} Piece;

static Piece piece_of(const Work *w, size_t number)
{
    const Geometry *g = w->g;
    const size_t item = number / w->pieces_per_item;
    const size_t first = number % w->pieces_per_item * w->piece_rows;
    const size_t n_rows = smaller(w->piece_rows, w->out_height - first);
    const Piece piece = {
        w->x + item * (size_t)(g->channels * g->height * g->width),
        item * w->out_height + first,
        n_rows,
        (int64_t)(first * (size_t)g->stride_y) - g->above,
        rows_read(g, n_rows),
    };
    return piece;
}

/* Stage a piece's pixels, without padding, as planes. */
static void stage_pixels(const Work *w, const Piece *piece)
{
    const Geometry *g = w->g;
    const size_t channels = (size_t)g->channels, width = (size_t)g->width;
    size_t at_once = 1;
    if (w->padded_width == width && piece->top >= 0 &&
        piece->top + (int64_t)piece->n_read <= g->height)
        at_once = piece->n_read; /* nothing between the rows */
    for (size_t r = 0; r < piece->n_read; r += at_once) {
        const int64_t y = piece->top + (int64_t)r;
        if (y >= 0 && y < g->height)
            w->shuffle->transpose(piece->image + (size_t)y * width * channels, channels,
                                  at_once * width, channels,
                                  w->staged + r * w->padded_width + g->left, w->plane);
    }
}

/* Stage a channel of a piece, or what pads it when its pixels are there. */
static void stage_channel(const Work *w, const Piece *piece, size_t channel)
{
    const Geometry *g = w->g;
    const size_t width = (size_t)g->width, left = (size_t)g->left;
    const float *plane = piece->image + channel * (size_t)(g->height * g->width);
    const float fill = w->pad == NULL ? 0.0F : w->pad[channel];
    float *row = w->staged + channel * w->plane;
    for (size_t r = 0; r < piece->n_read; r++, row += w->padded_width) {
        const int64_t y = piece->top + (int64_t)r;
        if (y < 0 || y >= g->height) {
            for (size_t i = 0; i < w->padded_width; i++)
                row[i] = fill;
            continue;
        }
        if (!g->in_by_pixel)
            memcpy(row + left, plane + (size_t)y * width, width * 4);
        if (w->pad != NULL) /* rounds as torch's (x - pad) + pad does */
            for (size_t i = left; i < left + width; i++)
                row[i] = (row[i] - fill) + fill;
        for (size_t i = 0; i < left; i++)
            row[i] = fill;
        for (size_t i = left + width; i < w->padded_width; i++)
            row[i] = fill;
    }
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

/* Encode a piece, to positions of the band. Channels are staged right before the first codebook
 * that reads them, so that they are in the cache of the first level. */
static void encode_piece(const Work *w, const Piece *piece, size_t position)
{
    const Geometry *g = w->g;
    const size_t depth = (size_t)g->depth, n_codebooks = (size_t)g->n_codebooks;
    const size_t step = (size_t)g->stride_x, down = (size_t)g->stride_y * w->padded_width;
    /* With vertical strides, rows are encoded one by one. */
    const size_t at_once = g->stride_y == 1 ? piece->n_rows : 1;
    const size_t n = (at_once - 1) * w->padded_width + (w->out_width - 1) * step + 1;
    const size_t size = w->by_quads ? 4 : 1;
    size_t n_staged = 0;
    if (g->in_by_pixel)
        stage_pixels(w, piece);
    for (size_t i = 0; i < (size_t)g->groups * w->n_quads * QUAD; i += size) {
        const size_t group = i / (w->n_quads * QUAD), c = i % (w->n_quads * QUAD);
        Tree trees[QUAD];
        if (c >= n_codebooks)
            continue;
        char *to = w->codes + group * w->n_tiles * w->tile_bytes + c * TILE;
        for (size_t row = 0; row < piece->n_rows; row += at_once) {
            for (size_t j = 0; j < size; j++) {
                /* What fills up the last quad is encoded, too: its entries are zero. */
                const size_t codebook = group * n_codebooks + smaller(c + j, n_codebooks - 1);
                trees[j].thresholds = w->thresholds + (i + j) * w->n_nodes;
                for (size_t t = 0; t < depth; t++) {
                    const size_t place = w->places[codebook * depth + t];
                    for (; n_staged <= place / w->plane; n_staged++)
                        stage_channel(w, piece, n_staged);
                    trees[j].features[t] = w->staged + place + row * down;
                }
            }
            if (size == 4)
                w->shuffle->encode_quad(trees, depth, n, w->line);
            else
                w->shuffle->walk(trees, depth, n, (uint8_t *)w->line);
            for (size_t k = 0; k < at_once; k++)
                place_codes(to, w->tile_bytes, position + (row + k) * w->out_width,
                            (const char *)w->line + k * w->padded_width * size, step, w->out_width,
                            size);
        }
    }
}

/* Encode a band; return its first position, counted through all items, and how many there are. */
static size_t encode_band(const Work *w, size_t band, size_t *n_positions)
{
    const size_t begin = band * w->pieces_per_band;
    const size_t end = smaller(begin + w->pieces_per_band, w->n_pieces);
    *n_positions = 0;
    for (size_t number = begin; number < end; number++) {
        const Piece piece = piece_of(w, number);
        encode_piece(w, &piece, *n_positions);
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

/* Write a band's codes as (items, groups, codebooks, positions). */
static void write_codes(const Work *w, size_t first, size_t n, uint8_t *out)
{
    const size_t per_item = w->out_height * w->out_width, n_codebooks = (size_t)w->g->n_codebooks;
    const size_t all = (size_t)w->g->groups * n_codebooks;
    for (size_t i = 0; i < all; i++) {
        const size_t group = i / n_codebooks, c = i % n_codebooks;
        for (size_t begin = 0; begin < n; begin += TILE) {
            const char *tile = w->codes + (group * w->n_tiles + begin / TILE) * w->tile_bytes;
            uint8_t codes[TILE];
            if (!w->by_quads) {
                memcpy(codes, tile + c * TILE, TILE);
            } else {
                const uint8_t *words = (const uint8_t *)tile + c / QUAD * QUAD * TILE + c % QUAD;
                for (size_t p = 0; p < TILE; p++)
                    codes[p] = words[p * QUAD] & 15;
            }
            const size_t end = smaller(begin + TILE, n);
            for (size_t p = begin; p < end;) {
                const Run run = run_of(w, first + p, first + end);
                memcpy(out + (run.item * all + i) * per_item + run.within, codes + (p - begin),
                       run.n);
                p += run.n;
            }
        }
    }
}

static void finish_sums(const Geometry *g, int32_t *sums, size_t n)
{
    if (g->wrap_bits) {
        const uint32_t half = (uint32_t)1 << (g->wrap_bits - 1);
        for (size_t i = 0; i < n; i++)
            sums[i] = (int32_t)((((uint32_t)sums[i] + half) & (2 * half - 1)) - half);
    }
    if (g->relu)
        for (size_t i = 0; i < n; i++)
            sums[i] = sums[i] < 0 ? 0 : sums[i];
}

typedef struct {
    const int8_t *tables;         /* (groups, outputs filled up / 4, quads, 4, 64) */
    const float *scale, *offset;  /* (groups, outputs) */
    float *out;
} Outputs;

/* Values of one tile and four outputs, to planes. */
static void store_planes(const Work *w, const Outputs *o, size_t output, size_t n_outputs,
                         size_t first, size_t n)
{
    const size_t per_item = w->out_height * w->out_width;
    const size_t all = (size_t)(w->g->groups * w->g->n_outputs);
    for (size_t p = 0; p < n;) {
        const Run run = run_of(w, first + p, first + n);
        for (size_t k = output; k < output + n_outputs; k++)
            w->shuffle->to_plane(w->sums + (k - output) * TILE + p, run.n, o->scale[k],
                                 o->offset[k], o->out + (run.item * all + k) * per_item + run.within);
        p += run.n;
    }
}

/* Values of one tile and up to 16 outputs, to pixels. */
static void store_pixels(const Work *w, const Outputs *o, size_t output, size_t n_outputs,
                         size_t first, size_t n)
{
    const size_t all = (size_t)(w->g->groups * w->g->n_outputs);
    w->shuffle->to_pixels(w->sums, n, n_outputs, o->scale + output, o->offset + output,
                          o->out + first * all + output, all);
}

/* Fetch where values of one tile and four or 16 outputs go to, while they are looked up. */
static void expect(const Work *w, const Outputs *o, size_t output, size_t n_outputs, size_t first,
                   size_t n)
{
    const size_t per_item = w->out_height * w->out_width;
    const size_t all = (size_t)(w->g->groups * w->g->n_outputs);
    if (w->g->out_by_pixel) {
        for (size_t p = first; p < first + n; p++)
            PREFETCH_TO_WRITE(o->out + p * all + output);
        return;
    }
    const Run run = run_of(w, first, first + n);
    for (size_t k = output; k < output + n_outputs; k++)
        for (size_t i = 0; i < run.n; i += 16)
            PREFETCH_TO_WRITE(o->out + (run.item * all + k) * per_item + run.within + i);
}

static void look_up_band(const Work *w, const Outputs *o, size_t first, size_t n_positions)
{
    const Geometry *g = w->g;
    const size_t n_outputs = (size_t)g->n_outputs, padded = round_up(n_outputs, OUTPUTS);
    const size_t slice = g->out_by_pixel ? SLICE : OUTPUTS;
    const size_t table_bytes = w->n_quads * OUTPUTS * 64;
    for (size_t group = 0; group < (size_t)g->groups; group++) {
        const char *codes = w->codes + group * w->n_tiles * w->tile_bytes;
        const int8_t *tables = o->tables + group * padded / OUTPUTS * table_bytes;
        for (size_t m = 0; m < n_outputs; m += slice) {
            const size_t here = smaller(slice, n_outputs - m);
            for (size_t p = 0; p < n_positions; p += TILE) {
                const size_t n = smaller(TILE, n_positions - p);
                expect(w, o, group * n_outputs + m, here, first + p, n);
                for (size_t k = 0; k < here; k += OUTPUTS)
                    w->shuffle->look_up(codes + p / TILE * w->tile_bytes,
                                        tables + (m + k) / OUTPUTS * table_bytes, w->n_quads,
                                        w->sums + k * TILE);
                finish_sums(g, w->sums, round_up(here, OUTPUTS) * TILE);
                (g->out_by_pixel ? store_pixels : store_planes)(
                    w, o, group * n_outputs + m, here, first + p, n);
            }
        }
    }
}

/* Bands of a product, which threads may share. */
EXPORT int halut_bands(int variant, const Geometry *g)
{
    Work w;
    plan_work(&w, g, variant);
    return (int)w.n_bands;
}

/* Encode, look up and add for some bands. `dims` (groups, codebooks, depth) are features of a
 * group: channel, row, column of the kernel; `thresholds` (groups, codebooks, 2**depth - 1) are
 * breadth-first; `pad` (channels) or NULL: 0. `codes` (items, groups, codebooks, positions) and
 * `out` may be NULL. There is at least one position. */
EXPORT int halut_convolve(int variant, const Geometry *g, const float *x, const float *pad,
                          const int32_t *dims, const float *thresholds, const int8_t *tables,
                          const float *scale, const float *offset, float *out, uint8_t *codes,
                          size_t first_band, size_t last_band)
{
    Work w;
    const Outputs outputs = {tables, scale, offset, out};
    plan_work(&w, g, variant);
    const int failed = open_work(&w, x, pad, dims, thresholds);
    if (!failed)
        for (size_t band = first_band; band < smaller(last_band, w.n_bands); band++) {
            size_t n;
            const size_t first = encode_band(&w, band, &n);
            if (codes != NULL)
                write_codes(&w, first, n, codes);
            if (out != NULL)
                look_up_band(&w, &outputs, first, n);
        }
    close_work(&w);
    return failed;
}
