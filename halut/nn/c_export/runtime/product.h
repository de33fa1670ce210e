/* Exact products; included for every type of values, see halut_layers.c. */

/* Gathers what lies under the kernel at (y, x), channels of one group. */
static void JOIN(gather_, VALUE_NAME)(const halut_product *layer, const VALUE *input, int32_t y,
                                      int32_t x, int32_t group, VALUE *patch)
{
    const halut_window *const w = &layer->window;
    const int32_t n_channels = w->channels / layer->n_groups;
    for (int32_t dy = 0; dy < w->kernel_height; ++dy)
        for (int32_t dx = 0; dx < w->kernel_width; ++dx) {
            const int32_t at_y = y + dy * w->dilation_y, at_x = x + dx * w->dilation_x;
            if (on_image(w, at_y, at_x)) {
                const VALUE *const pixel =
                    input + (at_y * w->width + at_x) * w->channels + group * n_channels;
                for (int32_t channel = 0; channel < n_channels; ++channel)
                    *patch++ = pixel[channel];
            } else {
                for (int32_t channel = 0; channel < n_channels; ++channel)
                    *patch++ = PAD(layer);
            }
        }
}

/* Multiplies gathered values by the weights of one group, four outputs at a time. */
static void JOIN(multiply_, VALUE_NAME)(const halut_product *layer, const VALUE *values, int32_t group,
                                        OUTPUT *output, int32_t index)
{
    const int32_t n_features = layer->n_features, n_outputs = layer->n_outputs;
    const int32_t n_blocks = (n_outputs + 3) / 4, channel = group * n_outputs;
    const VALUE *weights = (const VALUE *)layer->weights + group * n_blocks * 4 * n_features;
    for (int32_t m = 0; m < n_outputs; m += 4) {
        SUM s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        const VALUE *value = values, *const end = values + n_features;
        /* Two features a turn; GCC and Clang keep all of this in registers. */
        for (; value + 2 <= end; value += 2, weights += 8) {
            const SUM first = value[0], second = value[1];
            s0 += first * weights[0];
            s1 += first * weights[1];
            s2 += first * weights[2];
            s3 += first * weights[3];
            s0 += second * weights[4];
            s1 += second * weights[5];
            s2 += second * weights[6];
            s3 += second * weights[7];
        }
        if (value < end) {
            const SUM last = value[0];
            s0 += last * weights[0];
            s1 += last * weights[1];
            s2 += last * weights[2];
            s3 += last * weights[3];
            weights += 4;
        }
        const SUM sums[4] = {s0, s1, s2, s3};
        STORE(layer, sums, n_outputs - m < 4 ? n_outputs - m : 4, channel + m, output, index + m);
    }
}

void JOIN(halut_product_, VALUE_NAME)(const halut_product *layer, const VALUE *input, OUTPUT *output,
                                      VALUE *patch)
{
    const halut_window *const w = &layer->window;
    /* A single pixel, all of its channels: in place. */
    const int whole = w->kernel_height == 1 && w->kernel_width == 1 && layer->n_groups == 1;
    int32_t index = 0;
    for (int32_t oy = 0; oy < w->out_height; ++oy)
        for (int32_t ox = 0; ox < w->out_width; ++ox)
            for (int32_t group = 0; group < layer->n_groups; ++group) {
                const int32_t y = oy * w->stride_y - w->top, x = ox * w->stride_x - w->left;
                const VALUE *values = patch;
                if (whole && on_image(w, y, x))
                    values = input + (y * w->width + x) * w->channels;
                else
                    JOIN(gather_, VALUE_NAME)(layer, input, y, x, group, patch);
                JOIN(multiply_, VALUE_NAME)(layer, values, group, output, index);
                index += layer->n_outputs;
            }
}
