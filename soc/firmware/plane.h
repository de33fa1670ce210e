/* Images without edges, and what the levels of a codebook read in them; included by layers.c. */

#define MOST_PADDED 16384 /* bytes of an image with its padding */

static union { uint32_t words[MOST_PADDED / 4]; int8_t bytes[MOST_PADDED]; } padded;

/* An image without edges. */
typedef struct {
    const int8_t *values;
    int32_t width; /* pixels in memory */
} plane;

static int by_words(const void *a, const void *b, int32_t n)
{
    return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)n) & 3U) == 0;
}

static void copy(int8_t *to, const int8_t *from, int32_t n)
{
    if (by_words(to, from, n)) {
        uint32_t *target = (uint32_t *)(void *)to;
        const uint32_t *source = (const uint32_t *)(const void *)from;
        for (; n > 0; n -= 4)
            *target++ = *source++;
        return;
    }
    for (; n > 0; --n)
        *to++ = *from++;
}

/* Stores what lies outside of the image, for some pixels that follow one another. */
static void fill(const halut_look_up *layer, int8_t *to, int32_t n_pixels)
{
    const int32_t channels = layer->window.channels;
    int32_t n = n_pixels * channels;
    if (layer->pads != NULL) {
        for (int32_t i = 0; i < n_pixels; ++i)
            for (int32_t channel = 0; channel < channels; ++channel)
                *to++ = (int8_t)layer->pads[channel];
    } else if (by_words(to, to, n)) {
        const uint32_t word = 0x01010101U * (uint8_t)layer->pad;
        for (uint32_t *target = (uint32_t *)(void *)to; n > 0; n -= 4)
            *target++ = word;
    } else {
        for (; n > 0; --n)
            *to++ = (int8_t)layer->pad;
    }
}

/* Copies the image into one with as much padding as windows reach; nothing where none does. */
static int pad_image(const halut_look_up *layer, const int8_t *input, plane *image)
{
    const halut_window *const w = &layer->window;
    const int32_t kernel_height = (w->kernel_height - 1) * w->dilation_y + 1;
    const int32_t kernel_width = (w->kernel_width - 1) * w->dilation_x + 1;
    const int32_t bottom = (w->out_height - 1) * w->stride_y - w->top + kernel_height;
    const int32_t right = (w->out_width - 1) * w->stride_x - w->left + kernel_width;
    image->values = input;
    image->width = w->width;
    if (w->top == 0 && w->left == 0 && bottom <= w->height && right <= w->width)
        return 1;
    const int32_t width = w->left + (right > w->width ? right : w->width);
    const int32_t height = w->top + (bottom > w->height ? bottom : w->height);
    if (height * width * w->channels > MOST_PADDED)
        return 0;
    /* Line by line: what is left of the image, the image, what is right of it. */
    const int32_t behind = width - w->left - w->width, line = width * w->channels;
    int8_t *to = padded.bytes;
    for (int32_t y = -w->top; y < height - w->top; ++y, to += line) {
        if (y < 0 || y >= w->height) {
            fill(layer, to, width);
            continue;
        }
        const int32_t n = w->width * w->channels;
        int8_t *const first = to + w->left * w->channels;
        fill(layer, to, w->left);
        copy(first, input + y * n, n);
        fill(layer, first + n, behind);
    }
    image->values = padded.bytes;
    image->width = width;
    return 1;
}

/* Finds how far the values that the four levels of a codebook read are from a pixel's first value.
 * `number` counts the codebooks of all groups. */
static void find_levels(const halut_look_up *layer, const plane *image, int32_t number, int32_t *found)
{
    const halut_window *const w = &layer->window;
    const int32_t *const offset = layer->offset + number * 4;
    const uint8_t *const tap = layer->tap + number * 4;
    const int32_t wider = (image->width - w->width) * w->channels;
    for (int32_t level = 0; level < 4; ++level) {
        found[level] = offset[level];
        if (wider != 0)
            for (int32_t line = w->kernel_width; line <= tap[level]; line += w->kernel_width)
                found[level] += wider * w->dilation_y;
    }
}
