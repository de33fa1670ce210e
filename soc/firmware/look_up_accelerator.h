/* Layers that are looked up by the accelerator behind halut_axi; included by layers.c.
 *
 * The processor gathers what the trees of a part of the codebooks compare. The programs of that part, one
 * per part of the outputs, are one chain, which the block loads and runs by itself. When all parts are
 * done, the processor adds them up. */
#include "accelerator_image.h"
#include "halut_driver.h"
#include "system.h"

#define POLLS 10000000U
#define TILE_CODEBOOKS ((int32_t)HALUT_AXI_CODEBOOKS)
#define TILE_OUTPUTS ((int32_t)HALUT_AXI_OUTPUTS)
#define MOST_ROW_WORDS 8192
#define MOST_RESULTS 16384
#define MOST_JOBS 64

#if HALUT_AXI_RESULT_ELEMENT_BYTES == 2
typedef int16_t result;
#else
typedef int32_t result;
#endif

static halut_device accelerator;
static halut_image programs;
static uint32_t next_group; /* of the image */
static uint32_t rows[MOST_ROW_WORDS];
static result results[MOST_RESULTS];
static halut_job jobs[MOST_JOBS];

int open_accelerator(void)
{
    return halut_open(&accelerator, ACCELERATOR, POLLS) == HALUT_OK &&
           halut_place(&programs, accelerator_image, sizeof accelerator_image,
                       (uint32_t)(uintptr_t)accelerator_image) == HALUT_OK;
}

void begin_network(void)
{
    next_group = 0;
}

int ended_network(void)
{
    return next_group == ACCELERATOR_GROUPS;
}

uint32_t accelerator_cycles(void)
{
    return *(volatile uint32_t *)(ACCELERATOR + HALUT_AXI_BUSY_CYCLES_OFFSET);
}

/* Submits jobs as one chain, as soon as the block's queue takes it. */
static int submit(uint32_t n_jobs)
{
    for (uint32_t poll = 0; poll < POLLS; ++poll) {
        const halut_status found = halut_chain(&accelerator, &programs, jobs, n_jobs);
        if (found != HALUT_FULL)
            return found == HALUT_OK;
    }
    return 0;
}

/* Stores what one codebook compares for all pixels: a word of four values each, `step` words apart. */
static void gather(const halut_window *w, const plane *image, const int32_t *levels, uint32_t *row,
                   int32_t step)
{
    const int32_t across = w->stride_x * w->channels;
    const int32_t down = w->stride_y * image->width * w->channels;
    const uint8_t *line = (const uint8_t *)image->values;
    for (int32_t y = 0; y < w->out_height; ++y, line += down) {
        const uint8_t *first = line + levels[0], *second = line + levels[1];
        const uint8_t *third = line + levels[2], *fourth = line + levels[3];
        for (int32_t x = w->out_width; x != 0; --x) {
            *row = *first | (uint32_t)*second << 8 | (uint32_t)*third << 16 | (uint32_t)*fourth << 24;
            row += step;
            first += across;
            second += across;
            third += across;
            fourth += across;
        }
    }
}

/* Adds up the parts of one output of all pixels and stores what becomes of them.
 *
 * first     the output's sum of the first pixel in the first part; TILE_OUTPUTS to the next pixel
 * part_size to the next part
 * index     of the first pixel's output; `step` to the next pixel's */
static void finish_output(const halut_look_up *layer, const result *first, int32_t n_parts,
                          int32_t part_size, int32_t n_pixels, int32_t channel, void *output,
                          int32_t index, int32_t step)
{
    const halut_stage *const stage = &layer->stage;
    const int32_t is_word = stage->multiplier != NULL && stage->type == HALUT_I8;
    const int32_t multiplier = is_word ? stage->multiplier[channel] : 0;
    const int64_t addend = is_word ? stage->addend[channel] : 0;
    const uint32_t shift = is_word ? stage->shift[channel] : 0;
    const int32_t low = is_word ? stage->low[channel] : 0;
    for (; n_pixels > 0; --n_pixels, first += TILE_OUTPUTS, index += step) {
        int32_t sum = *first;
        const result *part = first;
        for (int32_t left = n_parts; --left > 0;)
            sum += *(part += part_size);
        if (is_word)
            ((int8_t *)output)[index] = (int8_t)to_word((int64_t)sum * multiplier + addend, shift, low);
        else
            store(stage, &sum, 1, channel, output, index);
    }
}

/* Looks a layer up with the accelerator; 0: it does not fit, or the accelerator failed. */
static int look_up_with_accelerator(const halut_look_up *layer, const plane *image, void *output)
{
    const halut_window *const w = &layer->window;
    const int32_t n_pixels = w->out_height * w->out_width;
    const int32_t n_items = (n_pixels + (int32_t)HALUT_AXI_ROWS - 1) / (int32_t)HALUT_AXI_ROWS;
    const int32_t n_rows = n_items * (int32_t)HALUT_AXI_ROWS;
    for (int32_t group = 0; group < layer->n_groups; ++group) {
        if (next_group >= ACCELERATOR_GROUPS)
            return 0;
        const int32_t n_parts = (int32_t)accelerator_groups[next_group].n_parts;
        const int32_t n_columns = (int32_t)accelerator_groups[next_group].n_columns;
        const uint32_t program = accelerator_groups[next_group].first;
        const int32_t part_words = n_rows * TILE_CODEBOOKS, tile_results = n_rows * TILE_OUTPUTS;
        if (n_parts * part_words > MOST_ROW_WORDS || n_columns > MOST_JOBS ||
            n_parts * n_columns * tile_results > MOST_RESULTS)
            return 0;
        /* A part's rows are gathered while the accelerator has those of the part before. */
        for (int32_t part = 0; part < n_parts; ++part) {
            const int32_t begin = part * TILE_CODEBOOKS, left = layer->n_codebooks - begin;
            const int32_t n = left < TILE_CODEBOOKS ? left : TILE_CODEBOOKS;
            uint32_t *const row = rows + part * part_words;
            for (int32_t c = 0; c < n; ++c) {
                int32_t levels[4];
                find_levels(layer, image, group * layer->n_codebooks + begin + c, levels);
                gather(w, image, levels, row + c, TILE_CODEBOOKS);
            }
            for (int32_t column = 0; column < n_columns; ++column) {
                jobs[column].program = program + (uint32_t)(part * n_columns + column);
                jobs[column].source = (uint32_t)(uintptr_t)row;
                /* Parts of the same outputs lie side by side: they share the data cache. */
                jobs[column].destination =
                    (uint32_t)(uintptr_t)(results + (column * n_parts + part) * tile_results);
                jobs[column].items = (uint32_t)n_items;
            }
            if (!submit((uint32_t)n_columns))
                return 0;
        }
        if (halut_wait(&accelerator) != HALUT_OK)
            return 0;
        const int32_t n_channels = layer->n_groups * layer->n_outputs;
        for (int32_t m = 0; m < layer->n_outputs; ++m) {
            const int32_t channel = group * layer->n_outputs + m;
            finish_output(layer,
                          results + m / TILE_OUTPUTS * n_parts * tile_results + m % TILE_OUTPUTS,
                          n_parts, tile_results, n_pixels, channel, output, channel, n_channels);
        }
        ++next_group;
    }
    return 1;
}
