/* See halut_layers.h. */
#include "halut_layers.h"

/* Positions of a kernel */

static int inside(const halut_window *w, int32_t y, int32_t x)
{
    return y >= 0 && x >= 0 && y + (w->kernel_height - 1) * w->dilation_y < w->height &&
           x + (w->kernel_width - 1) * w->dilation_x < w->width;
}

static int on_image(const halut_window *w, int32_t y, int32_t x)
{
    return y >= 0 && y < w->height && x >= 0 && x < w->width;
}

#define MOST_TAPS 256

/* Finds which positions of a kernel at (y, x) are on the image. */
static void find_taps(const halut_window *w, int32_t y, int32_t x, uint8_t *on)
{
    for (int32_t dy = 0; dy < w->kernel_height; ++dy)
        for (int32_t dx = 0; dx < w->kernel_width; ++dx)
            *on++ = (uint8_t)on_image(w, y + dy * w->dilation_y, x + dx * w->dilation_x);
}

/* The channel of a value at an offset from the kernel's first value, of which the tap is known. */
static int32_t channel_of(const halut_window *w, int32_t offset, int32_t tap)
{
    const int32_t down = tap / w->kernel_width * w->dilation_y;
    const int32_t across = tap % w->kernel_width * w->dilation_x;
    return offset - (down * w->width + across) * w->channels;
}

/* The key of a value outside of the image. */
static int32_t pad_of(const halut_look_up *layer, int32_t offset, int32_t tap)
{
    return layer->pads == NULL ? layer->pad : layer->pads[channel_of(&layer->window, offset, tap)];
}

/* Output stage */

static int64_t floor_shift(int64_t value, uint32_t shift)
{
    return value >= 0 ? value >> shift : ~(~value >> shift);
}

static int32_t to_word(int64_t exact, uint32_t shift, int32_t low)
{
    const int64_t word = floor_shift(exact, shift);
    return word < low ? low : word > 127 ? 127 : (int32_t)word;
}

/* Stores words of sums of n outputs that follow one another. */
static void store_words(const halut_stage *stage, const int32_t *sums, int32_t n, int32_t channel,
                        void *output, int32_t index)
{
    const int32_t *const multiplier = stage->multiplier + channel;
    const int64_t *const addend = stage->addend + channel;
    const uint8_t *const shift = stage->shift + channel;
    const int8_t *const low = stage->low + channel;
    int8_t *const words = (int8_t *)output + index;
    if (stage->type == HALUT_I8) {
        for (int32_t i = 0; i < n; ++i)
            words[i] = (int8_t)to_word((int64_t)sums[i] * multiplier[i] + addend[i], shift[i], low[i]);
        return;
    }
    for (int32_t i = 0; i < n; ++i) {
        const int32_t word = to_word((int64_t)sums[i] * multiplier[i] + addend[i], shift[i], low[i]);
        ((float *)output)[index + i] = (float)word * stage->grid[0] + stage->grid[1];
    }
}

/* Stores what becomes of sums of n outputs that follow one another. */
static void store(const halut_stage *stage, const int32_t *sums, int32_t n, int32_t channel,
                  void *output, int32_t index)
{
    if (stage->multiplier != NULL) {
        store_words(stage, sums, n, channel, output, index);
        return;
    }
    for (int32_t i = 0; i < n; ++i) {
        const int32_t sum = stage->relu && sums[i] < 0 ? 0 : sums[i];
        switch (stage->type) {
        case HALUT_F32:
            ((float *)output)[index + i] =
                (float)sum * stage->scale[channel + i] + stage->offset[channel + i];
            break;
        case HALUT_I32:
            ((int32_t *)output)[index + i] = sum;
            break;
        case HALUT_I16:
            ((int16_t *)output)[index + i] = (int16_t)sum;
            break;
        case HALUT_I8:
            ((int8_t *)output)[index + i] = (int8_t)sum;
            break;
        }
    }
}

/* Stores sums of floats, after adding the bias. */
static void store_floats(const float *bias, const float *sums, int32_t n, int32_t channel,
                         float *output, int32_t index)
{
    for (int32_t i = 0; i < n; ++i)
        output[index + i] = bias == NULL ? sums[i] : sums[i] + bias[channel + i];
}

/* Look-up */

/* Integers in the order of the floats; not for NaN. */
static int32_t key_of_f32(float value)
{
    union { float value; int32_t bits; } same;
    same.value = value;
    return same.bits >= 0 ? same.bits : same.bits ^ INT32_MAX;
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

#define ENTRY int8_t
#define ENTRY_NAME i8
#include "add_rows.h"
#undef ENTRY
#undef ENTRY_NAME
#define ENTRY int16_t
#define ENTRY_NAME i16
#include "add_rows.h"
#undef ENTRY
#undef ENTRY_NAME

/* Packed tables: words are added up as they are, and bytes 1 and 3 of them, in the halves of a word,
 * once more. That leaves bytes 0 and 2. A half holds as many entries as MOST_ADDED. */
#define MOST_ADDED 256
#define ODD_BYTES(word) ((word) >> 8 & 0x00ff00ffU)

static void unpack(int32_t *sums, uint32_t total, uint32_t odd)
{
    const uint32_t even = total - (odd << 8);
    sums[0] += (int32_t)(even & 0xffffU);
    sums[1] += (int32_t)(odd & 0xffffU);
    sums[2] += (int32_t)(even >> 16);
    sums[3] += (int32_t)(odd >> 16);
}

static void add_4_words(const uint32_t *column, const uint32_t *row, const uint32_t *end, int32_t *sums)
{
    uint32_t total0 = 0, total1 = 0, total2 = 0, total3 = 0, odd0 = 0, odd1 = 0, odd2 = 0, odd3 = 0;
    for (; row != end; ++row) {
        const uint32_t *const words = column + *row;
        total0 += words[0];
        odd0 += ODD_BYTES(words[0]);
        total1 += words[1];
        odd1 += ODD_BYTES(words[1]);
        total2 += words[2];
        odd2 += ODD_BYTES(words[2]);
        total3 += words[3];
        odd3 += ODD_BYTES(words[3]);
    }
    unpack(sums, total0, odd0);
    unpack(sums + 4, total1, odd1);
    unpack(sums + 8, total2, odd2);
    unpack(sums + 12, total3, odd3);
}

static void add_2_words(const uint32_t *column, const uint32_t *row, const uint32_t *end, int32_t *sums)
{
    uint32_t total0 = 0, total1 = 0, odd0 = 0, odd1 = 0;
    for (; row != end; ++row) {
        const uint32_t *const words = column + *row;
        total0 += words[0];
        odd0 += ODD_BYTES(words[0]);
        total1 += words[1];
        odd1 += ODD_BYTES(words[1]);
    }
    unpack(sums, total0, odd0);
    unpack(sums + 4, total1, odd1);
}

static void add_1_word(const uint32_t *column, const uint32_t *row, const uint32_t *end, int32_t *sums)
{
    uint32_t total = 0, odd = 0;
    for (; row != end; ++row) {
        total += column[*row];
        odd += ODD_BYTES(column[*row]);
    }
    unpack(sums, total, odd);
}

static void add_rows_packed(const uint32_t *table, const uint32_t *rows, int32_t n_codebooks,
                            int32_t n_outputs, const halut_stage *stage, int32_t channel, void *output,
                            int32_t index)
{
    int32_t n;
    for (int32_t m = 0; m < n_outputs; m += n) {
        int32_t sums[16];
        n = n_outputs - m >= 16 ? 16 : n_outputs - m >= 8 ? 8 : 4;
        for (int32_t i = 0; i < n; ++i)
            sums[i] = -128 * n_codebooks;
        for (int32_t first = 0; first < n_codebooks; first += MOST_ADDED) {
            const int32_t last = n_codebooks - first < MOST_ADDED ? n_codebooks : first + MOST_ADDED;
            (n == 16 ? add_4_words : n == 8 ? add_2_words : add_1_word)(
                table + m / 4, rows + first, rows + last, sums);
        }
        store(stage, sums, n, channel + m, output, index + m);
    }
}

/* Tables of 4 bits: the same with eight entries a word. A byte holds as many as MOST_IN_BYTE, then
 * bytes are added up in halves of words. */
#define MOST_IN_BYTE 16
#define ODD_NIBBLES(word) ((word) >> 4 & 0x0f0f0f0fU)
#define EVEN_BYTES(word) ((word) & 0x00ff00ffU)

/* Adds to the halves: entries 0 and 4, 2 and 6, 1 and 5, 3 and 7. */
static void widen(uint32_t *halves, uint32_t total, uint32_t odd)
{
    const uint32_t even = total - (odd << 4);
    halves[0] += EVEN_BYTES(even);
    halves[1] += ODD_BYTES(even);
    halves[2] += EVEN_BYTES(odd);
    halves[3] += ODD_BYTES(odd);
}

static void unpack_nibbles(int32_t *sums, const uint32_t *halves)
{
    static const uint8_t first[4] = {0, 2, 1, 3};
    for (int32_t i = 0; i < 4; ++i) {
        sums[first[i]] += (int32_t)(halves[i] & 0xffffU);
        sums[first[i] + 4] += (int32_t)(halves[i] >> 16);
    }
}

static void add_16_nibbles(const uint32_t *column, const uint32_t *row, const uint32_t *end,
                           int32_t *sums)
{
    uint32_t halves[8] = {0};
    while (row != end) {
        const uint32_t *const stop = end - row > MOST_IN_BYTE ? row + MOST_IN_BYTE : end;
        uint32_t total0 = 0, total1 = 0, odd0 = 0, odd1 = 0;
        for (; row != stop; ++row) {
            const uint32_t *const words = column + *row;
            total0 += words[0];
            odd0 += ODD_NIBBLES(words[0]);
            total1 += words[1];
            odd1 += ODD_NIBBLES(words[1]);
        }
        widen(halves, total0, odd0);
        widen(halves + 4, total1, odd1);
    }
    unpack_nibbles(sums, halves);
    unpack_nibbles(sums + 8, halves + 4);
}

static void add_8_nibbles(const uint32_t *column, const uint32_t *row, const uint32_t *end,
                          int32_t *sums)
{
    uint32_t halves[4] = {0};
    while (row != end) {
        const uint32_t *const stop = end - row > MOST_IN_BYTE ? row + MOST_IN_BYTE : end;
        uint32_t total = 0, odd = 0;
        for (; row != stop; ++row) {
            total += column[*row];
            odd += ODD_NIBBLES(column[*row]);
        }
        widen(halves, total, odd);
    }
    unpack_nibbles(sums, halves);
}

static void add_rows_i4(const uint32_t *table, const uint32_t *rows, int32_t n_codebooks,
                        int32_t n_outputs, const halut_stage *stage, int32_t channel, void *output,
                        int32_t index)
{
    int32_t n;
    for (int32_t m = 0; m < n_outputs; m += n) {
        int32_t sums[16];
        n = n_outputs - m >= 16 ? 16 : 8;
        for (int32_t i = 0; i < n; ++i)
            sums[i] = -8 * n_codebooks;
        (n == 16 ? add_16_nibbles : add_8_nibbles)(table + m / 8, rows, rows + n_codebooks, sums);
        store(stage, sums, n, channel + m, output, index + m);
    }
}

#define VALUE float
#define THRESHOLD int32_t
#define KEY(value) key_of_f32(value)
#define VALUE_NAME f32
#include "encode.h"
#include "look_up.h"
#undef VALUE_NAME
#define VALUE_NAME nodes_f32
#include "look_up.h"
#undef VALUE_NAME
#undef VALUE
#undef THRESHOLD
#undef KEY

#define THRESHOLD int16_t
#define KEY(value) (value)
#define VALUE int16_t
#define VALUE_NAME i16
#include "encode.h"
#include "look_up.h"
#undef VALUE_NAME
#define VALUE_NAME nodes_i16
#include "look_up.h"
#undef VALUE_NAME
#undef VALUE
#define VALUE int8_t
#define VALUE_NAME i8
#include "encode.h"
#include "look_up.h"
#undef VALUE_NAME
#define VALUE_NAME nodes_i8
#include "look_up.h"
#undef VALUE_NAME
#undef VALUE
#undef THRESHOLD
#undef KEY

/* The word of a value in steps: the nearest integer, ties to even, which a sum that doubles have no
 * further bits for gives; within [-half, half - 1]. */
static int32_t word_of(double steps, int32_t half)
{
    const double no_more_bits = 6755399441055744.0; /* 1.5 * 2^52 */
    volatile double nearest;
    if (steps <= -half)
        return -half;
    if (steps >= half - 1)
        return half - 1;
    nearest = steps + no_more_bits;
    return (int32_t)(nearest - no_more_bits);
}

#define VALUE float
#define FLOAT(sums, value) (value)
#define VALUE_NAME sums_f32
#include "encode_sums.h"
#include "look_up.h"
#undef VALUE_NAME
#undef FLOAT
#undef VALUE

#define VALUE int8_t
#define FLOAT(sums, value) ((float)((double)((value) - (sums)->input_zero) * (sums)->input_scale))
#define VALUE_NAME sums_i8
#include "encode_sums.h"
#include "look_up.h"
#undef VALUE_NAME
#undef FLOAT
#undef VALUE

/* Exact products */

#define VALUE float
#define SUM float
#define VALUE_NAME f32
#define PAD(layer) 0.0F
#define STORE(layer, sums, n, channel, output, index) \
    store_floats((layer)->bias, sums, n, channel, output, index)
#define OUTPUT float
#include "product.h"
#undef VALUE
#undef SUM
#undef VALUE_NAME
#undef PAD
#undef STORE
#undef OUTPUT

#define VALUE int8_t
#define SUM int32_t
#define VALUE_NAME i8
#define PAD(layer) ((layer)->pad)
#define STORE(layer, sums, n, channel, output, index) \
    store(&(layer)->stage, sums, n, channel, output, index)
#define OUTPUT void
#include "product.h"
#undef VALUE
#undef SUM
#undef VALUE_NAME
#undef PAD
#undef STORE
#undef OUTPUT

/* Pooling */

#define VALUE float
#define VALUE_NAME f32
#include "pool.h"
#undef VALUE
#undef VALUE_NAME
#define VALUE int32_t
#define VALUE_NAME i32
#include "pool.h"
#undef VALUE
#undef VALUE_NAME
#define VALUE int16_t
#define VALUE_NAME i16
#include "pool.h"
#undef VALUE
#undef VALUE_NAME
#define VALUE int8_t
#define VALUE_NAME i8
#include "pool.h"
#undef VALUE
#undef VALUE_NAME

void halut_mean_f32(const halut_window *w, const float *input, float *output)
{
    const float count = (float)(w->kernel_height * w->kernel_width);
    for (int32_t i = 0; i < w->out_height * w->out_width; ++i) {
        const int32_t y = i / w->out_width * w->stride_y, x = i % w->out_width * w->stride_x;
        for (int32_t channel = 0; channel < w->channels; ++channel) {
            float sum = 0.0F;
            for (int32_t dy = 0; dy < w->kernel_height; ++dy)
                for (int32_t dx = 0; dx < w->kernel_width; ++dx)
                    sum += input[((y + dy) * w->width + x + dx) * w->channels + channel];
            output[i * w->channels + channel] = sum / count;
        }
    }
}

void halut_mean_i8(const halut_window *w, const halut_stage *stage, const int8_t *input, void *output)
{
    for (int32_t i = 0; i < w->out_height * w->out_width; ++i) {
        const int32_t y = i / w->out_width * w->stride_y, x = i % w->out_width * w->stride_x;
        for (int32_t channel = 0; channel < w->channels; ++channel) {
            int32_t sum = 0;
            for (int32_t dy = 0; dy < w->kernel_height; ++dy)
                for (int32_t dx = 0; dx < w->kernel_width; ++dx)
                    sum += input[((y + dy) * w->width + x + dx) * w->channels + channel];
            store(stage, &sum, 1, channel, output, i * w->channels + channel);
        }
    }
}

/* Value by value */

/* a * b + c, rounded once.
 *
 * In double the product is exact. The sum, rounded to double and then to float, is right unless it
 * lies just between two floats, where what rounding to double lost decides. */
static float fused(float a, float b, float c)
{
    const uint64_t below_float = 0x1fffffffU, between = 0x10000000U;
    const double product = (double)a * (double)b, addend = (double)c;
    union { double value; uint64_t bits; } total;
    total.value = product + addend;
    const uint32_t exponent = (uint32_t)(total.bits >> 52) & 0x7ffU;
    if ((total.bits & below_float) != between && exponent > 1023U - 126U)
        return (float)total.value;
    const double part = total.value - product;
    const double lost = (product - (total.value - part)) + (addend - part); /* exactly */
    if ((lost < 0.0 || lost > 0.0) && (total.bits & 1U) == 0U) {
        /* To the odd neighbour on the side of what was lost: away from zero when the signs agree. */
        if ((lost > 0.0) == (total.value > 0.0))
            total.bits += 1U;
        else
            total.bits -= 1U;
    }
    return (float)total.value;
}

void halut_affine(float *values, size_t n, int32_t channels, const float *scale, const float *offset)
{
    for (size_t first = 0; first < n; first += (size_t)channels)
        for (int32_t i = 0; i < channels; ++i)
            values[first + (size_t)i] = fused(values[first + (size_t)i], scale[i], offset[i]);
}

void halut_scale_and_add(float *values, size_t n, int32_t channels, const float *scale,
                         const float *offset)
{
    for (size_t first = 0; first < n; first += (size_t)channels)
        for (int32_t i = 0; i < channels; ++i)
            values[first + (size_t)i] = values[first + (size_t)i] * scale[i] + offset[i];
}

void halut_relu(float *values, size_t n)
{
    for (size_t i = 0; i < n; ++i)
        if (values[i] < 0.0F)
            values[i] = 0.0F;
}

void halut_clamp(float *values, size_t n, float low, float high)
{
    for (size_t i = 0; i < n; ++i)
        values[i] = values[i] < low ? low : values[i] > high ? high : values[i];
}

void halut_add_f32(const float *a, const float *b, float *output, size_t n)
{
    for (size_t i = 0; i < n; ++i)
        output[i] = a[i] + b[i];
}

void halut_add_i8(const halut_sum *sum, const int8_t *a, const int8_t *b, int8_t *output, size_t n)
{
    for (size_t i = 0; i < n; ++i) {
        const int64_t exact =
            (int64_t)a[i] * sum->multiplier_a + (int64_t)b[i] * sum->multiplier_b + sum->addend;
        output[i] = (int8_t)to_word(exact, sum->shift, sum->low);
    }
}

void halut_copy(const float *input, float *output, size_t n)
{
    for (size_t i = 0; i < n; ++i)
        output[i] = input[i];
}

void halut_quantise(const float *input, int8_t *output, size_t n, float inverse, int32_t zero)
{
    for (size_t i = 0; i < n; ++i) {
        const float scaled = input[i] * inverse;
        const float limited = scaled < -512.0F ? -512.0F : scaled > 512.0F ? 512.0F : scaled;
        int32_t word = (int32_t)limited; /* towards zero */
        const float rest = limited - (float)word;
        if (rest > 0.5F || (rest >= 0.5F && (word & 1) != 0))
            word += 1;
        else if (rest < -0.5F || (rest <= -0.5F && (word & 1) != 0))
            word -= 1;
        word += zero;
        output[i] = (int8_t)(word < -128 ? -128 : word > 127 ? 127 : word);
    }
}

int halut_finite(const float *values, size_t n)
{
    union { float value; uint32_t bits; } same;
    for (size_t i = 0; i < n; ++i) {
        same.value = values[i];
        if ((same.bits & 0x7f800000U) == 0x7f800000U)
            return 0;
    }
    return 1;
}

/* Check sum, over the bytes of every value from the lowest on, whatever the machine's order. */

static int lowest_byte_first(void)
{
    const uint16_t one = 1;
    return *(const uint8_t *)&one == 1;
}

uint32_t halut_check_sum(const halut_array *arrays, size_t n)
{
    const int in_order = lowest_byte_first();
    uint32_t sum = 2166136261U;
    for (const halut_array *array = arrays; array != arrays + n; ++array) {
        const uint8_t *value = (const uint8_t *)array->values;
        for (uint32_t i = 0; i < array->n; ++i, value += array->bytes)
            for (uint32_t byte = 0; byte < array->bytes; ++byte)
                sum = (sum ^ value[in_order ? byte : array->bytes - 1U - byte]) * 16777619U;
    }
    return sum;
}
