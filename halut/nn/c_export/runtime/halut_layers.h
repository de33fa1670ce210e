/* Layers of a network: products that are looked up (MADDNESS), and exact ones beside them.
 *
 * C99, without allocation and without a library. An image is stored row by row, the channels of a
 * pixel one after the other. A constant of a layer may lie in read-only memory. */
#ifndef HALUT_LAYERS_H
#define HALUT_LAYERS_H

#include <stddef.h>
#include <stdint.h>

/* A kernel that moves over an image. */
typedef struct {
    int32_t height, width, channels; /* of the input */
    int32_t out_height, out_width;
    int32_t kernel_height, kernel_width;
    int32_t stride_y, stride_x;
    int32_t dilation_y, dilation_x;
    int32_t top, left; /* padding above and on the left */
} halut_window;

typedef enum { HALUT_F32, HALUT_I32, HALUT_I16, HALUT_I8 } halut_type;

/* What becomes of an integer sum before it is stored.
 *
 * With `multiplier`, it becomes a word, floor((sum * multiplier + addend) / 2^shift), not below
 * `low` and not above 127, stored as it is or, as a float, word * grid[0] + grid[1]. Without, it is
 * stored as it is or, as a float, sum * scale + offset, rounded after each operation. */
typedef struct {
    halut_type type; /* of what is stored */
    int32_t relu;    /* whether sums below 0 become 0 */
    const float *scale, *offset;
    const int32_t *multiplier;
    const uint8_t *shift;
    const int64_t *addend;
    const int8_t *low;
    const float *grid;
} halut_stage;

/* A product that is looked up. G groups of C codebooks; depth T; K = 2^T; M outputs per group.
 *
 * A packed table holds four entries a word, each plus 128, that of the first output in the lowest
 * byte: so a word adds to four sums at once. M is then a multiple of 4. A table of 4 bits (i4) holds
 * eight, each plus 8, for M a multiple of 8 and at most 4096 codebooks. */
typedef struct {
    halut_window window;
    int32_t n_groups, n_codebooks, depth, n_outputs;
    int32_t row_size;       /* values of a row of the table: M, M / 4 or M / 8 */
    const int32_t *offset;  /* (G, C, T): what a level reads, from the kernel's first value on */
    const uint8_t *tap;     /* (G, C, T): position in the kernel of what it reads */
    const void *thresholds; /* (G, C, K - 1), int32_t for floats and for sums, else int16_t */
    int32_t pad;            /* integer outside of the image */
    const int16_t *pads;    /* (channels): or one for each channel; NULL: none */
    const void *table;      /* (G, C, K, row_size), uint32_t (packed, i4), int8_t or int16_t */
    halut_stage stage;
} halut_look_up;

/* A product whose levels compare sums of words, for halut_look_up_sums_...: `layer.offset` and `tap`
 * are (G, C, T, terms), thresholds int32_t. A word of a float is round((value - offset) / scale) in
 * doubles, ties to even, within so many bits; it is added, or its complement, or nothing. */
typedef struct {
    halut_look_up layer;
    int32_t terms, bits;
    const int8_t *sign;          /* (G, C, T, terms): 1, -1 or 0 */
    const float *scale, *offset; /* (G, C, T) */
    double input_scale;          /* of 8-bit inputs: they stand for (input - zero) * scale */
    int32_t input_zero;
} halut_sums;

/* An exact product. G groups; D features and M outputs per group. */
typedef struct {
    halut_window window;
    int32_t n_groups, n_features, n_outputs;
    const void *weights; /* (G, M / 4, D, 4), float or int8_t; M is filled up with zeros */
    const float *bias;   /* (G * M), for floats only; NULL: none */
    int8_t pad;          /* word outside of the image */
    halut_stage stage;   /* for words only */
} halut_product;

/* word = clip(floor((a * multiplier_a + b * multiplier_b + addend) / 2^shift), low, 127) */
typedef struct {
    int32_t multiplier_a, multiplier_b;
    int64_t addend;
    uint8_t shift;
    int8_t low;
} halut_sum;

/* Looks up: the first suffix is the type of inputs, the second that of the table.
 * `rows` holds C numbers while the function runs. */
void halut_look_up_f32_i4(const halut_look_up *, const float *input, void *output,
                          uint32_t *rows);
void halut_look_up_f32_packed(const halut_look_up *, const float *input, void *output,
                              uint32_t *rows);
void halut_look_up_f32_i8(const halut_look_up *, const float *input, void *output,
                          uint32_t *rows);
void halut_look_up_f32_i16(const halut_look_up *, const float *input, void *output,
                           uint32_t *rows);
void halut_look_up_i16_i4(const halut_look_up *, const int16_t *input, void *output,
                          uint32_t *rows);
void halut_look_up_i16_packed(const halut_look_up *, const int16_t *input, void *output,
                              uint32_t *rows);
void halut_look_up_i16_i8(const halut_look_up *, const int16_t *input, void *output,
                          uint32_t *rows);
void halut_look_up_i16_i16(const halut_look_up *, const int16_t *input, void *output,
                           uint32_t *rows);
void halut_look_up_i8_i4(const halut_look_up *, const int8_t *input, void *output,
                         uint32_t *rows);
void halut_look_up_i8_packed(const halut_look_up *, const int8_t *input, void *output,
                             uint32_t *rows);
void halut_look_up_i8_i8(const halut_look_up *, const int8_t *input, void *output,
                         uint32_t *rows);
void halut_look_up_i8_i16(const halut_look_up *, const int8_t *input, void *output,
                          uint32_t *rows);

/* The same for levels that add up words, where the layer is that of a halut_sums. */
void halut_look_up_sums_f32_i4(const halut_look_up *, const float *input, void *output,
                               uint32_t *rows);
void halut_look_up_sums_f32_packed(const halut_look_up *, const float *input, void *output,
                                   uint32_t *rows);
void halut_look_up_sums_f32_i8(const halut_look_up *, const float *input, void *output,
                               uint32_t *rows);
void halut_look_up_sums_f32_i16(const halut_look_up *, const float *input, void *output,
                                uint32_t *rows);
void halut_look_up_sums_i8_i4(const halut_look_up *, const int8_t *input, void *output,
                              uint32_t *rows);
void halut_look_up_sums_i8_packed(const halut_look_up *, const int8_t *input, void *output,
                                  uint32_t *rows);
void halut_look_up_sums_i8_i8(const halut_look_up *, const int8_t *input, void *output,
                              uint32_t *rows);
void halut_look_up_sums_i8_i16(const halut_look_up *, const int8_t *input, void *output,
                               uint32_t *rows);

/* And for trees whose nodes, not levels, read a value each: `offset` and `tap` are (G, C, K - 1). */
void halut_look_up_nodes_f32_i4(const halut_look_up *, const float *input, void *output,
                                uint32_t *rows);
void halut_look_up_nodes_f32_packed(const halut_look_up *, const float *input, void *output,
                                    uint32_t *rows);
void halut_look_up_nodes_f32_i8(const halut_look_up *, const float *input, void *output,
                                uint32_t *rows);
void halut_look_up_nodes_f32_i16(const halut_look_up *, const float *input, void *output,
                                 uint32_t *rows);
void halut_look_up_nodes_i16_i4(const halut_look_up *, const int16_t *input, void *output,
                                uint32_t *rows);
void halut_look_up_nodes_i16_packed(const halut_look_up *, const int16_t *input, void *output,
                                    uint32_t *rows);
void halut_look_up_nodes_i16_i8(const halut_look_up *, const int16_t *input, void *output,
                                uint32_t *rows);
void halut_look_up_nodes_i16_i16(const halut_look_up *, const int16_t *input, void *output,
                                 uint32_t *rows);
void halut_look_up_nodes_i8_i4(const halut_look_up *, const int8_t *input, void *output,
                               uint32_t *rows);
void halut_look_up_nodes_i8_packed(const halut_look_up *, const int8_t *input, void *output,
                                   uint32_t *rows);
void halut_look_up_nodes_i8_i8(const halut_look_up *, const int8_t *input, void *output,
                               uint32_t *rows);
void halut_look_up_nodes_i8_i16(const halut_look_up *, const int8_t *input, void *output,
                                uint32_t *rows);

/* Multiplies; `patch` holds D values while the function runs. Floats are added one after the
 * other: rows of the kernel, columns, channels; then the bias. */
void halut_product_f32(const halut_product *, const float *input, float *output, float *patch);
void halut_product_i8(const halut_product *, const int8_t *input, void *output, int8_t *patch);

/* Largest value under the kernel, channel by channel; what is padded does not count. */
void halut_max_f32(const halut_window *, const float *input, float *output);
void halut_max_i16(const halut_window *, const int16_t *input, int16_t *output);
void halut_max_i32(const halut_window *, const int32_t *input, int32_t *output);
void halut_max_i8(const halut_window *, const int8_t *input, int8_t *output);

/* Mean of the values under the kernel, channel by channel: their sum, divided; without padding. */
void halut_mean_f32(const halut_window *, const float *input, float *output);
void halut_mean_i8(const halut_window *, const halut_stage *, const int8_t *input, void *output);

/* Value by value, in place. value * scale + offset per channel: rounded once; after each operation. */
void halut_affine(float *values, size_t n, int32_t channels, const float *scale, const float *offset);
void halut_scale_and_add(float *values, size_t n, int32_t channels, const float *scale,
                         const float *offset);
void halut_relu(float *values, size_t n);
void halut_clamp(float *values, size_t n, float low, float high);

void halut_add_f32(const float *a, const float *b, float *output, size_t n);
void halut_add_i8(const halut_sum *, const int8_t *a, const int8_t *b, int8_t *output, size_t n);
void halut_copy(const float *input, float *output, size_t n);

/* word = clip(rint(value * inverse) + zero, -128, 127), ties to even */
void halut_quantise(const float *input, int8_t *output, size_t n, float inverse, int32_t zero);

/* Whether all values are finite. */
int halut_finite(const float *values, size_t n);

/* An array of constants, and a check sum (FNV-1a) over several. */
typedef struct {
    const void *values;
    uint32_t n;
    uint8_t bytes; /* of one value: 1, 2, 4 or 8 */
} halut_array;

uint32_t halut_check_sum(const halut_array *arrays, size_t n);

#endif
