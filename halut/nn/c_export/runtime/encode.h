/* Walks trees; included for every type of inputs, see halut_layers.c. */

/* Finds the rows of the tables of one group for the kernel at (y, x). */
static void JOIN(encode_, VALUE_NAME)(const halut_look_up *layer, const VALUE *input, int32_t y,
                                      int32_t x, int32_t group, uint32_t *rows)
{
    const halut_window *const w = &layer->window;
    const int32_t depth = layer->depth, n_nodes = (1 << depth) - 1;
    const int32_t first = group * layer->n_codebooks;
    const int32_t *offset = layer->offset + first * depth;
    const uint8_t *tap = layer->tap + first * depth;
    const THRESHOLD *nodes = (const THRESHOLD *)layer->thresholds + first * n_nodes;
    const int32_t base = (y * w->width + x) * w->channels;
    const int32_t row_size = layer->row_size;
    int32_t row = -n_nodes;
    uint8_t on[MOST_TAPS];
    if (inside(w, y, x)) {
        const VALUE *const corner = input + base;
        for (int32_t c = 0; c < layer->n_codebooks; ++c, nodes += n_nodes, row += n_nodes + 1) {
            int32_t node = 0;
            for (int32_t level = 0; level < depth; ++level, ++offset)
                node = 2 * node + 1 + (KEY(corner[*offset]) > nodes[node]);
            rows[c] = (uint32_t)((row + node) * row_size);
        }
        return;
    }
    find_taps(w, y, x, on);
    for (int32_t c = 0; c < layer->n_codebooks; ++c, nodes += n_nodes, row += n_nodes + 1) {
        int32_t node = 0;
        for (int32_t level = 0; level < depth; ++level, ++offset, ++tap) {
            const int32_t key =
                on[*tap] ? KEY(input[base + *offset]) : pad_of(layer, *offset, *tap);
            node = 2 * node + 1 + (key > nodes[node]);
        }
        rows[c] = (uint32_t)((row + node) * row_size);
    }
}

/* The same where nodes read a value each. */
static void JOIN(encode_nodes_, VALUE_NAME)(const halut_look_up *layer, const VALUE *input, int32_t y,
                                            int32_t x, int32_t group, uint32_t *rows)
{
    const halut_window *const w = &layer->window;
    const int32_t n_nodes = (1 << layer->depth) - 1, first = group * layer->n_codebooks * n_nodes;
    const int32_t *offset = layer->offset + first;
    const uint8_t *tap = layer->tap + first;
    const THRESHOLD *nodes = (const THRESHOLD *)layer->thresholds + first;
    const int32_t base = (y * w->width + x) * w->channels;
    int32_t row = -n_nodes;
    uint8_t on[MOST_TAPS];
    find_taps(w, y, x, on);
    for (int32_t c = 0; c < layer->n_codebooks; ++c, row += n_nodes + 1) {
        int32_t node = 0;
        while (node < n_nodes) {
            const int32_t key = on[tap[node]] ? KEY(input[base + offset[node]])
                                              : pad_of(layer, offset[node], tap[node]);
            node = 2 * node + 1 + (key > nodes[node]);
        }
        rows[c] = (uint32_t)((row + node) * layer->row_size);
        offset += n_nodes;
        tap += n_nodes;
        nodes += n_nodes;
    }
}
