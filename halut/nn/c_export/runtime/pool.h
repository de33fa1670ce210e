/* Max pooling; included for every type of values, see halut_layers.c. */

void JOIN(halut_max_, VALUE_NAME)(const halut_window *w, const VALUE *input, VALUE *output)
{
    for (int32_t oy = 0; oy < w->out_height; ++oy)
        for (int32_t ox = 0; ox < w->out_width; ++ox, output += w->channels) {
            const int32_t y = oy * w->stride_y - w->top, x = ox * w->stride_x - w->left;
            int first = 1;
            for (int32_t dy = 0; dy < w->kernel_height; ++dy)
                for (int32_t dx = 0; dx < w->kernel_width; ++dx) {
                    const int32_t at_y = y + dy * w->dilation_y, at_x = x + dx * w->dilation_x;
                    if (!on_image(w, at_y, at_x))
                        continue;
                    const VALUE *const pixel = input + (at_y * w->width + at_x) * w->channels;
                    for (int32_t channel = 0; channel < w->channels; ++channel)
                        if (first || pixel[channel] > output[channel])
                            output[channel] = pixel[channel];
                    first = 0;
                }
        }
}
