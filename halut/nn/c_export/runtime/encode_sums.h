/* As encode.h, for levels that add up words; included for every type of inputs, see halut_layers.c. */

static void JOIN(encode_, VALUE_NAME)(const halut_look_up *layer, const VALUE *input, int32_t y,
                                      int32_t x, int32_t group, uint32_t *rows)
{
    const halut_sums *const sums = (const halut_sums *)layer;
    const halut_window *const w = &layer->window;
    const int32_t depth = layer->depth, n_nodes = (1 << depth) - 1, half = 1 << (sums->bits - 1);
    const int32_t first = group * layer->n_codebooks;
    const int32_t *offset = layer->offset + first * depth * sums->terms;
    const uint8_t *tap = layer->tap + first * depth * sums->terms;
    const int8_t *sign = sums->sign + first * depth * sums->terms;
    const float *scale = sums->scale + first * depth, *shift = sums->offset + first * depth;
    const int32_t *nodes = (const int32_t *)layer->thresholds + first * n_nodes;
    const int32_t base = (y * w->width + x) * w->channels;
    int32_t row = -n_nodes;
    uint8_t on[MOST_TAPS];
    find_taps(w, y, x, on);
    for (int32_t c = 0; c < layer->n_codebooks; ++c, nodes += n_nodes, row += n_nodes + 1) {
        int32_t node = 0;
        for (int32_t level = 0; level < depth; ++level, ++scale, ++shift) {
            int32_t sum = 0;
            for (int32_t term = 0; term < sums->terms; ++term, ++offset, ++tap, ++sign) {
                const float value = on[*tap] ? FLOAT(sums, input[base + *offset]) : 0.0F;
                const double steps = ((double)value - (double)*shift) / (double)*scale;
                if (*sign != 0)
                    sum += *sign > 0 ? word_of(steps, half) : ~word_of(steps, half);
            }
            node = 2 * node + 1 + (sum > nodes[node]);
        }
        rows[c] = (uint32_t)((row + node) * layer->row_size);
    }
}
