/* Layers that are looked up by the custom function unit; included by layers.c.
 *
 * A layer goes codebook by codebook over all of its pixels, so that thresholds are given to the
 * unit once, and then pixel by pixel over its outputs. */

#if HALUT_CFU_TREE_DEPTH != 4 || HALUT_CFU_N_SUMS > 64
#error "the unit must have trees of 4 levels and at most 64 sums"
#endif

#define IN_WORD (32 / HALUT_CFU_LUT_BITS) /* entries of a word */

#define MOST_CODES 8192   /* pixels times codebooks */

static uint16_t steps[MOST_CODES + 1]; /* bytes from a codebook's first row to that of its code */

/* Keeps GCC from loading later: an instruction of the unit waits for every load before it. */
#define LOADED(a, b, c, d) __asm__("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d))

#define LOADED_2(a, b) __asm__("" : "+r"(a), "+r"(b))

/* Encodes all pixels with one codebook, whose thresholds the unit has; codes as steps in bytes. */
static void encode_pixels(const halut_window *w, const plane *image, const int32_t *offset,
                          uint32_t row_bytes, uint16_t *step, int32_t n_codebooks)
{
    const int32_t across = w->stride_x * w->channels;
    const int32_t down = w->stride_y * image->width * w->channels;
    const int32_t to_second = offset[1] - offset[0], to_third = offset[2] - offset[0];
    const int32_t to_fourth = offset[3] - offset[0];
    const int8_t *line = image->values + offset[0];
    for (int32_t y = 0; y < w->out_height; ++y, line += down) {
        const int8_t *first = line, *second = line + to_second;
        const int8_t *third = line + to_third, *fourth = line + to_fourth;
        for (int32_t x = w->out_width; x != 0; --x) {
            int32_t value_0 = *first, value_1 = *second, value_2 = *third, value_3 = *fourth;
            LOADED(value_0, value_1, value_2, value_3);
            first += across;
            second += across;
            HALUT_CFU_DO(HALUT_CFU_WALK, 0, value_0, value_1);
            const uint32_t code = HALUT_CFU(HALUT_CFU_WALK, 1, value_2, value_3);
            third += across;
            fourth += across;
            *step = (uint16_t)(code * row_bytes);
            step += n_codebooks;
        }
    }
}

static void encode_group(const halut_look_up *layer, const plane *image, int32_t group)
{
    const int32_t first = group * layer->n_codebooks;
    const int16_t *nodes = (const int16_t *)layer->thresholds + first * 15;
    const uint32_t row_bytes = 4U * (uint32_t)layer->row_size;
    for (int32_t c = 0; c < layer->n_codebooks; ++c, nodes += 15) {
        int32_t levels[4];
        find_levels(layer, image, first + c, levels);
        HALUT_CFU_DO(HALUT_CFU_THRESHOLDS, 0, nodes[0], nodes[1]);
        HALUT_CFU_DO(HALUT_CFU_THRESHOLDS, 1, nodes[2], nodes[3]);
        HALUT_CFU_DO(HALUT_CFU_THRESHOLDS, 2, nodes[4], nodes[5]);
        HALUT_CFU_DO(HALUT_CFU_THRESHOLDS, 3, nodes[6], nodes[7]);
        HALUT_CFU_DO(HALUT_CFU_THRESHOLDS, 4, nodes[8], nodes[9]);
        HALUT_CFU_DO(HALUT_CFU_THRESHOLDS, 5, nodes[10], nodes[11]);
        HALUT_CFU_DO(HALUT_CFU_THRESHOLDS, 6, nodes[12], nodes[13]);
        HALUT_CFU_DO(HALUT_CFU_THRESHOLDS, 7, nodes[14], 0);
        encode_pixels(&layer->window, image, levels, row_bytes, steps + c, layer->n_codebooks);
    }
}

#define ADD(bank, first, second) HALUT_CFU_DO(HALUT_CFU_ADD, bank, first, second)
#define START(bank, first, second) HALUT_CFU_DO(HALUT_CFU_START, bank, first, second)
/* Reads first and stores then: the unit waits for stores, too. */
#define READ_4(i)                                                 \
    do {                                                          \
        if (i < n * IN_WORD) {                                    \
            uint32_t r0 = HALUT_CFU(HALUT_CFU_READ, i, 0, 0);     \
            uint32_t r1 = HALUT_CFU(HALUT_CFU_READ, i + 1, 0, 0); \
            uint32_t r2 = HALUT_CFU(HALUT_CFU_READ, i + 2, 0, 0); \
            uint32_t r3 = HALUT_CFU(HALUT_CFU_READ, i + 3, 0, 0); \
            LOADED(r0, r1, r2, r3);                               \
            sums[i] = (int32_t)r0, sums[i + 1] = (int32_t)r1;     \
            sums[i + 2] = (int32_t)r2, sums[i + 3] = (int32_t)r3; \
        }                                                         \
    } while (0)
#define READ_8(i) \
    READ_4(i);    \
    READ_4(i + 4)

static const uint32_t *behind(const uint32_t *column, uint32_t bytes)
{
    return (const uint32_t *)(const void *)((const uint8_t *)column + bytes);
}

/* Adds up the entries of n words, 8, 4, 2 or 1, of one pixel. */
static inline __attribute__((always_inline)) void
add_words(const uint32_t *column, const uint16_t *step, int32_t n_codebooks, int32_t codebook_words,
          const int32_t n, int32_t *sums)
{
    const uint16_t *const end = step + n_codebooks;
    const uint32_t *words = behind(column, *step);
    START(0, words[0], n > 1 ? words[1] : HALUT_CFU_NOTHING);
    if (n > 2)
        START(1, words[2], words[3]);
    if (n > 4) {
        START(2, words[4], words[5]);
        START(3, words[6], words[7]);
    }
    uint32_t next = *++step; /* there is one behind the last, too */
    while (step != end) {
        column += codebook_words;
        words = behind(column, next);
        uint32_t w0 = words[0], w1 = HALUT_CFU_NOTHING, w2 = 0, w3 = 0;
        uint32_t w4 = 0, w5 = 0, w6 = 0, w7 = 0;
        if (n > 1)
            w1 = words[1];
        if (n > 2)
            w2 = words[2], w3 = words[3];
        if (n > 4)
            w4 = words[4], w5 = words[5], w6 = words[6], w7 = words[7];
        next = *++step;
        LOADED(w0, w1, w2, w3);
        LOADED(w4, w5, w6, w7);
        LOADED_2(next, step);
        ADD(0, w0, w1);
        if (n > 2)
            ADD(1, w2, w3);
        if (n > 4) {
            ADD(2, w4, w5);
            ADD(3, w6, w7);
        }
    }
    /* Indices are constants: what is behind the last sum goes away. */
    READ_8(0);
    READ_8(8);
    READ_8(16);
    READ_8(24);
    READ_8(32);
    READ_8(40);
    READ_8(48);
    READ_8(56);
}

static void add_pixel(const halut_look_up *layer, const uint32_t *table, const uint16_t *step,
                      int32_t channel, void *output, int32_t index)
{
    const int32_t n_codebooks = layer->n_codebooks, codebook_words = 16 * layer->row_size;
    int32_t n;
    for (int32_t word = 0; word < layer->row_size; word += n) {
        const uint32_t *const column = table + word;
        const int32_t left = layer->row_size - word, first = word * IN_WORD;
        int32_t sums[8 * IN_WORD];
        if (HALUT_CFU_N_SUMS >= 8 * IN_WORD && left >= 8)
            add_words(column, step, n_codebooks, codebook_words, n = 8, sums);
        else if (HALUT_CFU_N_SUMS >= 4 * IN_WORD && left >= 4)
            add_words(column, step, n_codebooks, codebook_words, n = 4, sums);
        else if (left >= 2)
            add_words(column, step, n_codebooks, codebook_words, n = 2, sums);
        else
            add_words(column, step, n_codebooks, codebook_words, n = 1, sums);
        store(&layer->stage, sums, n * IN_WORD, channel + first, output, index + first);
    }
}

/* Looks a layer up with the unit; 0: it does not take it. */
static int look_up_with_unit(const halut_look_up *layer, const int8_t *input, void *output)
{
    const halut_window *const w = &layer->window;
    const int32_t n_pixels = w->out_height * w->out_width;
    const int32_t channels = layer->n_groups * layer->n_outputs;
    plane image;
    if (layer->n_codebooks > HALUT_CFU_MOST_CODEBOOKS || layer->row_size > 1024 ||
        n_pixels * layer->n_codebooks > MOST_CODES || !pad_image(layer, input, &image))
        return 0;
    for (int32_t group = 0; group < layer->n_groups; ++group) {
        const uint32_t *const table =
            (const uint32_t *)layer->table + group * 16 * layer->n_codebooks * layer->row_size;
        encode_group(layer, &image, group);
        const uint16_t *step = steps;
        int32_t index = group * layer->n_outputs;
        for (int32_t pixel = 0; pixel < n_pixels; ++pixel) {
            add_pixel(layer, table, step, group * layer->n_outputs, output, index);
            index += channels;
            step += layer->n_codebooks;
        }
    }
    return 1;
}
