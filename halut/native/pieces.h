/* Pieces of images, padded, as planes in the cache: what is encoded at a time. */
#include "common.h"
#include "transpose.h"

enum { STAGED_BYTES = 3 << 17 /* of padded input, about, in the cache of the second level */ };

/* As halut/native/convolution.py lays it out. */
typedef struct {
    int64_t n_items, channels, height, width; /* of the images; channels of all groups */
    int64_t groups, n_codebooks, depth, n_outputs; /* codebooks and outputs of a group */
    int64_t kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x;
    int64_t left, right, above, below; /* padding */
    int64_t in_by_pixel, out_by_pixel;
    int64_t wrap_bits, relu; /* of the sums; 0: none */
    int64_t terms; /* features that a level compares the sum of; 1: a feature */
} Geometry;

/* What stays the same from piece to piece. */
typedef struct {
    const Geometry *g;
    const float *x, *pad; /* pad (channels), or NULL: 0 */
    Transpose *transpose;
    size_t out_height, out_width, padded_width;
    size_t piece_rows, pieces_per_item, n_pieces; /* a piece: rows of one item */
    int whole;      /* positions lie in a staged channel as they do in the output */
    size_t plane;   /* floats of a channel of a staged piece */
    size_t together; /* pieces that are staged at a time */
    float *staged;  /* (together, channels, plane) */
    size_t *places; /* (groups, codebooks, depth, terms): where a feature begins when staged */
} Work;

static size_t output_size(int64_t size, int64_t more, int64_t kernel, int64_t stride,
                          int64_t dilation)
{
    return (size_t)((size + more - dilation * (kernel - 1) - 1) / stride + 1);
}

/* Rows of input that `n` rows of output read. */
static size_t rows_read(const Geometry *g, size_t n)
{
    return (n - 1) * (size_t)g->stride_y + (size_t)(g->dilation_y * (g->kernel_height - 1)) + 1;
}

/* Sizes for pieces of about so many positions; nothing is allocated. */
static void plan_work(Work *w, const Geometry *g, int variant, const float *x, const float *pad,
                      size_t positions)
{
    memset(w, 0, sizeof *w);
    w->g = g;
    w->x = x;
    w->pad = pad;
    w->transpose = transpose_of(variant);
    w->out_height =
        output_size(g->height, g->above + g->below, g->kernel_height, g->stride_y, g->dilation_y);
    w->out_width =
        output_size(g->width, g->left + g->right, g->kernel_width, g->stride_x, g->dilation_x);
    w->padded_width = (size_t)(g->width + g->left + g->right);
    w->whole = w->padded_width == w->out_width && w->padded_width == (size_t)g->width &&
               g->stride_y == 1 && g->stride_x == 1;
    size_t rows = STAGED_BYTES / 4 / (size_t)g->channels / w->padded_width;
    const size_t halo = rows_read(g, 1) - 1;
    rows = rows > halo ? (rows - halo) / (size_t)g->stride_y : 0;
    rows = smaller(rows, (positions + w->out_width - 1) / w->out_width);
    rows = rows ? rows : 1;
    w->piece_rows = smaller(rows, w->out_height);
    w->pieces_per_item = (w->out_height + w->piece_rows - 1) / w->piece_rows;
    w->n_pieces = w->pieces_per_item * (size_t)g->n_items;
    w->plane = round_up(rows_read(g, w->piece_rows) * w->padded_width, 16) + 16;
    w->together = 1;
}

/* Make room for the pieces that are staged together, and say where features (groups, codebooks,
 * depth, terms) are in the first. */
static int open_work(Work *w, const int32_t *dims, void **staged, void **places)
{
    const Geometry *g = w->g;
    const size_t groups = (size_t)g->groups, n_codebooks = (size_t)g->n_codebooks;
    const size_t of_tree = (size_t)(g->depth * g->terms), channels = (size_t)g->channels;
    const size_t area = (size_t)(g->kernel_height * g->kernel_width);
    w->staged = aligned(w->together * channels * w->plane + 2 * TILE, 4, staged);
    w->places = aligned(groups * n_codebooks * of_tree, sizeof(size_t), places);
    if (w->staged == NULL || w->places == NULL)
        return 1;
    for (size_t i = 0; i < groups * n_codebooks * of_tree; i++) {
        const size_t dim = (size_t)dims[i];
        const size_t channel = dim / area + i / (n_codebooks * of_tree) * (channels / groups);
        const size_t row = dim % area / (size_t)g->kernel_width * (size_t)g->dilation_y;
        const size_t column = dim % (size_t)g->kernel_width * (size_t)g->dilation_x;
        w->places[i] = channel * w->plane + row * w->padded_width + column;
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

/* Whether all that a piece reads lies in the image. */
static int is_inside(const Work *w, const Piece *piece)
{
    return w->padded_width == (size_t)w->g->width && piece->top >= 0 &&
           piece->top + (int64_t)piece->n_read <= w->g->height;
}

/* Stage a piece's pixels, without padding, as planes. */
static void stage_pixels(const Work *w, const Piece *piece)
{
    const Geometry *g = w->g;
    const size_t channels = (size_t)g->channels, width = (size_t)g->width;
    const size_t at_once = is_inside(w, piece) ? piece->n_read : 1; /* nothing between the rows */
    for (size_t r = 0; r < piece->n_read; r += at_once) {
        const int64_t y = piece->top + (int64_t)r;
        if (y >= 0 && y < g->height)
            w->transpose(piece->image + (size_t)y * width * channels, channels,
                                  at_once * width, channels,
                                  w->staged + r * w->padded_width + g->left, w->plane);
    }
}

/* Stage a channel of a piece, or what pads it when its pixels are there. */
static void stage_channel(const Work *w, const Piece *piece, size_t channel)
{
    const Geometry *g = w->g;
    if (g->in_by_pixel && w->pad == NULL && is_inside(w, piece))
        return;
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
