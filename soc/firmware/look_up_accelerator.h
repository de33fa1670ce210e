/* Layers that are looked up by the accelerator behind halut_axi; included by layers.c.
 *
 * The processor gathers what the trees compare. Programs of further outputs follow the first one in a
 * chain, which the block loads and runs by itself; results are words. The next layer's first program is
 * loaded as soon as a layer is done. */
#include "accelerator_image.h"
#include "halut_driver.h"
#include "system.h"

#define POLLS 10000000U
#define TILE_CODEBOOKS ((int32_t)HALUT_AXI_CODEBOOKS)
#define TILE_OUTPUTS ((int32_t)HALUT_AXI_OUTPUTS)
#define MOST_ROW_WORDS 8192
#define MOST_RESULTS 16384
#define MOST_JOBS 64
#define NO_PROGRAM UINT32_MAX

static halut_device accelerator;
static halut_image programs;
static uint32_t next_group; /* of the image */
static uint32_t loaded = NO_PROGRAM;
static uint32_t rows[MOST_ROW_WORDS];
static union { uint32_t words[MOST_RESULTS / 4]; int8_t bytes[MOST_RESULTS]; } results;
static halut_job jobs[MOST_JOBS];
static uint32_t busy_since[ACCELERATOR_GROUPS + 1]; /* cycles before a network's groups, and after each */

uint32_t accelerator_cycles(void)
{
    return *(volatile uint32_t *)(ACCELERATOR + HALUT_AXI_BUSY_CYCLES_OFFSET);
}

int open_accelerator(void)
{
    uint32_t *const image = (uint32_t *)(uintptr_t)TABLES;
    for (uint32_t k = 0; k < sizeof accelerator_image / 4; ++k)
        image[k] = accelerator_image[k];
    return halut_open(&accelerator, ACCELERATOR, POLLS) == HALUT_OK &&
           halut_place(&programs, image, sizeof accelerator_image, TABLES) == HALUT_OK;
}

void begin_network(void)
{
    busy_since[0] = busy_since[next_group]; /* the first program may be loaded by now */
    next_group = 0;
}

int ended_network(void)
{
    return next_group == ACCELERATOR_GROUPS;
}

uint32_t accelerator_group_cycles(uint32_t group)
{
    return group < next_group ? busy_since[group + 1] - busy_since[group] : 0;
}

/* Loads a program, unless it is loaded or on its way. */
static int load(uint32_t program)
{
    if (loaded == program)
        return 1;
    loaded = program;
    return halut_load(&accelerator, &programs, program) == HALUT_OK;
}

/* Stores what one codebook compares for a pixel, and goes on to the next pixel. */
#define GATHER_PIXEL()                                                    \
    do {                                                                  \
        const uint32_t a = *first, b = *second, c = *third, d = *fourth;  \
        first += across, second += across;                                \
        third += across, fourth += across;                                \
        *row = a | b << 8 | c << 16 | d << 24;                            \
        row += TILE_CODEBOOKS;                                            \
    } while (0)

/* Stores what codebooks compare for all pixels: a word of four values each. A
 * function of its own, so that all of it is in registers. */
static __attribute__((noinline)) void gather(const plane *image, const uint16_t (*places)[4],
                                             int32_t n_codebooks, const halut_window *w)
{
    const int32_t across = w->stride_x * w->channels;
    const int32_t to_next_line = w->stride_y * image->width * w->channels - w->out_width * across;
    const int32_t n_pairs = w->out_width / 2, out_width = w->out_width;
    for (int32_t codebook = 0; codebook < n_codebooks; ++codebook) {
        const uint8_t *const line = (const uint8_t *)image->values;
        const uint8_t *first = line + places[codebook][0], *second = line + places[codebook][1];
        const uint8_t *third = line + places[codebook][2], *fourth = line + places[codebook][3];
        uint32_t *row = rows + codebook;
        for (int32_t y = w->out_height; y != 0; --y) {
            for (int32_t x = n_pairs; x != 0; --x) {
                GATHER_PIXEL();
                GATHER_PIXEL();
            }
            if (out_width % 2 != 0)
                GATHER_PIXEL();
            first += to_next_line, second += to_next_line;
            third += to_next_line, fourth += to_next_line;
        }
    }
}

/* Submits runs of the programs of a group, the first of which is loaded. */
static int run_programs(uint32_t first, uint32_t n_programs, uint32_t n_items, uint32_t target)
{
    const uint32_t source = (uint32_t)(uintptr_t)rows;
    if (halut_run(&accelerator, &programs, first, source, target, n_items) != HALUT_OK)
        return 0;
    for (uint32_t k = 1; k < n_programs; ++k) {
        target += n_items * HALUT_AXI_RESULT_BYTES;
        jobs[k].program = first + k;
        jobs[k].source = source;
        jobs[k].destination = target;
        jobs[k].items = n_items;
    }
    loaded = first + n_programs - 1;
    return n_programs == 1 ||
           halut_chain(&accelerator, &programs, jobs + 1, n_programs - 1) == HALUT_OK;
}

/* Looks a layer up with the accelerator; 0: it does not fit, or the accelerator failed. */
static int look_up_with_accelerator(const halut_look_up *layer, const int8_t *input, void *output)
{
    const halut_window *const w = &layer->window;
    const int32_t n_pixels = w->out_height * w->out_width, n_outputs = layer->n_outputs;
    const int32_t n_items = (n_pixels + (int32_t)HALUT_AXI_ROWS - 1) / (int32_t)HALUT_AXI_ROWS;
    const int32_t n_rows = n_items * (int32_t)HALUT_AXI_ROWS;
    const int32_t n_channels = layer->n_groups * n_outputs;
    plane image = {NULL, 0};
    if (layer->stage.multiplier == NULL || layer->stage.type != HALUT_I8)
        return 0;
    for (int32_t group = 0; group < layer->n_groups; ++group) {
        if (next_group >= ACCELERATOR_GROUPS)
            return 0;
        const uint32_t first = accelerator_groups[next_group].first;
        const uint32_t n_programs = accelerator_groups[next_group].n_columns;
        const uint16_t(*const places)[4] =
            accelerator_places + accelerator_groups[next_group].first_codebook;
        if (n_rows * TILE_CODEBOOKS > MOST_ROW_WORDS || n_programs > MOST_JOBS ||
            (int32_t)n_programs * n_rows * TILE_OUTPUTS > MOST_RESULTS || !load(first) ||
            (group == 0 && !pad_image(layer, input, &image)))
            return 0;
        gather(&image, places, layer->n_codebooks, w);
        /* Results of all outputs are what the layer stores; else they are copied. */
        const int is_all = n_channels == TILE_OUTPUTS && n_rows == n_pixels;
        int8_t *const target = is_all ? (int8_t *)output : results.bytes;
        if (!run_programs(first, n_programs, (uint32_t)n_items, (uint32_t)(uintptr_t)target) ||
            halut_wait(&accelerator) != HALUT_OK)
            return 0;
        busy_since[++next_group] = accelerator_cycles();
        if (!load(accelerator_groups[next_group % ACCELERATOR_GROUPS].first))
            return 0;
        const int8_t *from = results.bytes;
        for (int32_t m = 0; m < n_outputs && !is_all; m += TILE_OUTPUTS, from += n_rows * TILE_OUTPUTS) {
            int8_t *const to = (int8_t *)output + group * n_outputs + m;
            const int32_t left = n_outputs - m, n = left < TILE_OUTPUTS ? left : TILE_OUTPUTS;
            for (int32_t pixel = 0; pixel < n_pixels; ++pixel)
                copy(to + pixel * n_channels, from + pixel * TILE_OUTPUTS, n);
        }
    }
    return 1;
}
