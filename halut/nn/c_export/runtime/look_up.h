/* Encodes and looks up; included for every way of encoding, see halut_layers.c. */

#define LOOK_UP(ENTRY_NAME, ENTRY)                                                                   \
    void JOIN(JOIN(JOIN(halut_look_up_, VALUE_NAME), _), ENTRY_NAME)(                                \
        const halut_look_up *layer, const VALUE *input, void *output, uint32_t *rows)                \
    {                                                                                                \
        const halut_window *const w = &layer->window;                                                \
        const int32_t size = (layer->n_codebooks << layer->depth) * layer->row_size;                 \
        int32_t index = 0;                                                                           \
        for (int32_t oy = 0; oy < w->out_height; ++oy)                                               \
            for (int32_t ox = 0; ox < w->out_width; ++ox)                                            \
                for (int32_t group = 0; group < layer->n_groups; ++group) {                          \
                    JOIN(encode_, VALUE_NAME)(layer, input, oy * w->stride_y - w->top,               \
                                              ox * w->stride_x - w->left, group, rows);              \
                    JOIN(add_rows_, ENTRY_NAME)((const ENTRY *)layer->table + group * size, rows,    \
                                                layer->n_codebooks, layer->n_outputs,                \
                                                &layer->stage, group * layer->n_outputs, output,     \
                                                index);                                              \
                    index += layer->n_outputs;                                                       \
                }                                                                                    \
    }

LOOK_UP(i4, uint32_t)
LOOK_UP(packed, uint32_t)
LOOK_UP(i8, int8_t)
LOOK_UP(i16, int16_t)
#undef LOOK_UP
