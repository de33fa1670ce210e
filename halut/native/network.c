/* Looked-up convolutions of a network one after the other, and what is between them.
 *
 * Nothing is allocated and nothing is laid out here: who calls has planes, tables and the places of
 * everything (halut/native/network.py).
 */
#include <math.h>
#include "network.h"

/* Floats that a tree is for a variant. */
EXPORT int halut_tree_floats(int variant, size_t depth)
{
    return shuffle_of(variant)->encode_quad != NULL ? QUAD_DEPTH * LEVEL : 1 << depth;
}

/* Thresholds (groups, codebooks, 2**depth - 1), breadth-first, as trees (groups, codebooks filled up
 * to a multiple of four, halut_tree_floats). */
EXPORT int halut_make_trees(int variant, size_t groups, size_t n_codebooks, size_t depth,
                            const float *thresholds, float *trees)
{
    const size_t filled_up = round_up(n_codebooks, QUAD), n = ((size_t)1 << depth) - 1;
    const size_t n_floats = (size_t)halut_tree_floats(variant, depth);
    memset(trees, 0, groups * filled_up * n_floats * sizeof *trees);
    for (size_t i = 0; i < groups * n_codebooks; i++) {
        float *to = trees + (i / n_codebooks * filled_up + i % n_codebooks) * n_floats;
        if (shuffle_of(variant)->encode_quad != NULL)
            make_levels(thresholds + i * n, depth, to);
        else
            memcpy(to + 1, thresholds + i * n, n * sizeof *to);
    }
    return 0;
}

typedef struct {
    const Shuffle *shuffle;
    const Stages *stages;
    size_t n_quads, tile_bytes, n_floats;
    char *line, *codes; /* of a band */
} Tools;

/* Codes of a band and a group. */
static void encode_line(const Step *s, const Tools *tools, const Band *band, size_t group)
{
    const size_t depth = (size_t)s->depth, at_once = tools->shuffle->encode_quad != NULL ? QUAD : 1;
    const size_t filled_up = tools->n_quads * QUAD;
    for (size_t c = 0; c < filled_up; c += at_once) {
        Tree trees[QUAD];
        for (size_t j = 0; j < at_once; j++) {
            const size_t i = group * filled_up + c + j;
            const size_t next = c + at_once < filled_up ? i + at_once : i;
            trees[j].thresholds = s->trees + i * tools->n_floats;
            trees[j].ahead = s->x + band->line + s->places[next * depth];
            for (size_t t = 0; t < depth; t++)
                trees[j].features[t] = s->x + band->line + s->places[i * depth + t];
        }
        if (at_once == QUAD)
            tools->shuffle->encode_quad(trees, depth, (size_t)band->n_line,
                                        (uint32_t *)(void *)tools->line);
        else
            tools->shuffle->walk(trees, depth, (size_t)band->n_line, (uint8_t *)tools->line);
        tools->stages->pick(tools->line, s->slots + band->first_tile * TILE, (size_t)band->n_tiles,
                            tools->codes + c * TILE, tools->tile_bytes);
    }
}

enum { AHEAD = 2 }; /* tiles */

/* Fetch where results of a tile go to, and what is added to them. */
static void expect(const Step *s, size_t output, size_t n_outputs, const int32_t *first_run)
{
    for (size_t k = output; k < output + n_outputs; k++)
        for (int32_t r = first_run[0]; r < first_run[1]; r++) {
            PREFETCH_TO_WRITE(s->out + (int64_t)k * s->out_step + s->runs[r].to);
            if (s->other != NULL)
                PREFETCH(s->other + (int64_t)k * s->other_step + s->runs[r].from);
        }
}

static void look_up_line(const Step *s, const Tools *tools, const Band *band, size_t group)
{
    const size_t n_outputs = (size_t)s->n_outputs;
    const int8_t *tables = s->tables + group * round_up(n_outputs, OUTPUTS) * tools->n_quads * 64;
    int32_t room[OUTPUTS * TILE + 16];
    int32_t *sums = (int32_t *)(void *)(((uintptr_t)room + 63) & ~(uintptr_t)63);
    for (size_t m = 0; m < n_outputs; m += OUTPUTS, tables += tools->n_quads * OUTPUTS * 64) {
        const size_t here = smaller(OUTPUTS, n_outputs - m);
        for (int64_t t = 0; t < band->n_tiles; t++) {
            const int32_t *first = s->first_run + band->first_tile + t;
            if (t + AHEAD < band->n_tiles)
                expect(s, group * n_outputs + m, here, first + AHEAD);
            else if (m + OUTPUTS < n_outputs)
                expect(s, group * n_outputs + m + OUTPUTS, smaller(OUTPUTS, n_outputs - m - OUTPUTS),
                       s->first_run + band->first_tile + (t + AHEAD) % band->n_tiles);
            tools->shuffle->look_up(tools->codes + (size_t)t * tools->tile_bytes, tables,
                                    tools->n_quads, sums);
            finish_sums(s->wrap_bits, s->relu, sums, OUTPUTS * TILE);
            tools->stages->finish(s, sums, group * n_outputs + m, here, s->runs + first[0],
                                  (size_t)(first[1] - first[0]));
        }
    }
}

static void convolve_line(const Step *s, int variant, char *room, size_t line_bytes)
{
    const size_t n_quads = ((size_t)s->n_codebooks + QUAD - 1) / QUAD;
    const Tools tools = {
        shuffle_of(variant), stages_of(variant), n_quads, n_quads * QUAD * TILE,
        (size_t)halut_tree_floats(variant, (size_t)s->depth), room, room + line_bytes,
    };
    for (int64_t b = 0; b < s->n_bands; b++)
        for (size_t group = 0; group < (size_t)s->groups; group++) {
            encode_line(s, &tools, s->bands + b, group);
            look_up_line(s, &tools, s->bands + b, group);
        }
}

static void load_planes(const Step *s, int variant)
{
    const Stages *stages = stages_of(variant);
    const size_t channels = (size_t)s->channels, width = (size_t)s->width;
    const size_t height = (size_t)s->height, row_step = (size_t)s->row_step;
    const size_t at_once = s->by_pixel ? 16 : 1;
    for (size_t item = 0; item < (size_t)s->n_items; item++) {
        const float *image = s->x + item * channels * height * width;
        for (size_t c = 0; c < channels; c += at_once) {
            float *to = s->out + item * (size_t)s->item_step + c * (size_t)s->out_step;
            const size_t here = smaller(at_once, channels - c);
            for (size_t y = 0; s->by_pixel && y < height; y++)
                transpose_of(variant)(image + y * width * channels + c, channels, width, here,
                                      to + y * row_step, (size_t)s->out_step);
            for (size_t i = 0; i < here; i++, to += s->out_step)
                if (!s->by_pixel)
                    stages->copy_rows(image + c * height * width, width, height, width, to,
                                      row_step, (int)s->rectify);
                else if (s->rectify)
                    stages->copy_rows(to, row_step, height, width, to, row_step, 1);
        }
    }
}

static void find_largest(const Step *s, int variant)
{
    const Stages *stages = stages_of(variant);
    for (int64_t c = 0; c < s->channels; c++)
        for (int64_t item = 0; item < s->n_items; item++)
            s->out[item * s->channels + c] =
                stages->largest(s->x + c * s->in_step + item * s->item_step, (size_t)s->height,
                                (size_t)s->width, (size_t)s->row_step);
}

/* Whether a variant has MULTIPLY. */
EXPORT int halut_multiplies(int variant)
{
    return stages_of(variant)->multiply != NULL;
}

static void multiply_rows(const Step *s, int variant)
{
    enum { AT_ONCE = 32 };
    for (size_t row = 0; row < (size_t)(s->n_items * s->height); row++) {
        const int64_t item = (int64_t)row / s->height, y = (int64_t)row % s->height;
        const float *x = s->x + item * s->item_step + y * s->row_step;
        float *out = s->out + item * s->out_item_step + y * s->out_row_step;
        for (size_t i = 0; i < (size_t)s->width; i += AT_ONCE)
            for (size_t m = 0; m < (size_t)s->n_outputs; m += MULTIPLIED)
                stages_of(variant)->multiply(s, m, x + i, smaller(AT_ONCE, (size_t)s->width - i),
                                             out + (int64_t)m * s->out_step + i);
    }
}

/* Do steps. `room` holds a line's codes, `line_bytes`, and those of the largest band; it begins at a
 * multiple of 64, and so does what follows the line. */
EXPORT int halut_network(int variant, const Step *steps, size_t n_steps, char *room,
                         size_t line_bytes)
{
    for (size_t i = 0; i < n_steps; i++)
        switch (steps[i].kind) {
        case LOAD: load_planes(steps + i, variant); break;
        case LARGEST: find_largest(steps + i, variant); break;
        case MULTIPLY: multiply_rows(steps + i, variant); break;
        default: convolve_line(steps + i, variant, room, line_bytes); break;
        }
    return 0;
}
