/* Watches the layers of a network: the linker sends their calls here (--wrap).
 *
 * While `watching`, every layer that ends leaves a check sum of what it stored, and is between two
 * marks of the testbench. */
#include "firmware.h"
#include "halut_layers.h"

int watching;
uint32_t n_layers;
uint32_t check_sums[MOST_LAYERS];

static void begins(void)
{
    if (watching)
        mark(1000U + 2U * n_layers);
}

static void ended(const void *output, int32_t n, uint8_t bytes)
{
    if (!watching)
        return;
    mark(1001U + 2U * n_layers);
    const halut_array array = {output, (uint32_t)n, bytes};
    if (n_layers < MOST_LAYERS)
        check_sums[n_layers] = halut_check_sum(&array, 1);
    ++n_layers;
}

static uint8_t bytes_of(halut_type type)
{
    return type == HALUT_I8 ? 1 : type == HALUT_I16 ? 2 : 4;
}

static int32_t pixels(const halut_window *window)
{
    return window->out_height * window->out_width;
}

#define LOOK_UP(name, VALUE)                                                                         \
    void __real_##name(const halut_look_up *, const VALUE *, void *, uint32_t *);                    \
    void __wrap_##name(const halut_look_up *, const VALUE *, void *, uint32_t *);                    \
    void __wrap_##name(const halut_look_up *layer, const VALUE *input, void *output, uint32_t *rows) \
    {                                                                                                \
        begins();                                                                                    \
        __real_##name(layer, input, output, rows);                                                   \
        ended(output, pixels(&layer->window) * layer->n_groups * layer->n_outputs,                   \
              bytes_of(layer->stage.type));                                                          \
    }

LOOK_UP(halut_look_up_i8_packed, int8_t)
LOOK_UP(halut_look_up_i8_i8, int8_t)
LOOK_UP(halut_look_up_i8_i4, int8_t)
LOOK_UP(halut_look_up_f32_packed, float)
LOOK_UP(halut_look_up_f32_i8, float)
LOOK_UP(halut_look_up_f32_i4, float)

void __real_halut_product_i8(const halut_product *, const int8_t *, void *, int8_t *);
void __wrap_halut_product_i8(const halut_product *, const int8_t *, void *, int8_t *);
void __wrap_halut_product_i8(const halut_product *layer, const int8_t *input, void *output,
                             int8_t *patch)
{
    begins();
    __real_halut_product_i8(layer, input, output, patch);
    ended(output, pixels(&layer->window) * layer->n_groups * layer->n_outputs,
          bytes_of(layer->stage.type));
}

void __real_halut_max_i8(const halut_window *, const int8_t *, int8_t *);
void __wrap_halut_max_i8(const halut_window *, const int8_t *, int8_t *);
void __wrap_halut_max_i8(const halut_window *window, const int8_t *input, int8_t *output)
{
    begins();
    __real_halut_max_i8(window, input, output);
    ended(output, pixels(window) * window->channels, 1);
}

void __real_halut_mean_i8(const halut_window *, const halut_stage *, const int8_t *, void *);
void __wrap_halut_mean_i8(const halut_window *, const halut_stage *, const int8_t *, void *);
void __wrap_halut_mean_i8(const halut_window *window, const halut_stage *stage, const int8_t *input,
                          void *output)
{
    begins();
    __real_halut_mean_i8(window, stage, input, output);
    ended(output, pixels(window) * window->channels, bytes_of(stage->type));
}

void __real_halut_add_i8(const halut_sum *, const int8_t *, const int8_t *, int8_t *, size_t);
void __wrap_halut_add_i8(const halut_sum *, const int8_t *, const int8_t *, int8_t *, size_t);
void __wrap_halut_add_i8(const halut_sum *sum, const int8_t *a, const int8_t *b, int8_t *output,
                         size_t n)
{
    begins();
    __real_halut_add_i8(sum, a, b, output, n);
    ended(output, (int32_t)n, 1);
}

void __real_halut_quantise(const float *, int8_t *, size_t, float, int32_t);
void __wrap_halut_quantise(const float *, int8_t *, size_t, float, int32_t);
void __wrap_halut_quantise(const float *input, int8_t *output, size_t n, float inverse, int32_t zero)
{
    begins();
    __real_halut_quantise(input, output, n, inverse, zero);
    ended(output, (int32_t)n, 1);
}
