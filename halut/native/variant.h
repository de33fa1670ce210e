/* The kernels of one variant; included once for each, with the macros of its own header. */

#define MASK NAME(mask)

/* The threshold of the node that a walk has reached; nodes of the first levels are chosen by the
 * decisions so far, those further down are gathered. */
#define REACHED(level)                                                                          \
    ((level) == 0 && BLENDED > 0   ? NODE(0)                                                    \
     : (level) == 1 && BLENDED > 1 ? BLEND(m[0], NODE(1), NODE(2))                              \
     : (level) == 2 && BLENDED > 2                                                              \
         ? BLEND(m[0], BLEND(m[1], NODE(3), NODE(4)), BLEND(m[1], NODE(5), NODE(6)))            \
     : (level) == 3 && BLENDED > 3                                                              \
         ? BLEND(m[0],                                                                          \
                 BLEND(m[1], BLEND(m[2], NODE(7), NODE(8)), BLEND(m[2], NODE(9), NODE(10))),    \
                 BLEND(m[1], BLEND(m[2], NODE(11), NODE(12)),                                   \
                       BLEND(m[2], NODE(13), NODE(14))))                                        \
         : NODE_BELOW(((size_t)1 << (level)) - 1))

#define KIND f
#define TYPE float
#define LOAD_X(p) LOAD_F(p)
#define GATHER_X(base, index) GATHER(base, index)
#define MAY_BE_NAN 1
#include "encode.h"

#define KIND b
#define TYPE int8_t
#define LOAD_X(p) LOAD_B(p)
#define GATHER_X(base, index) GATHER_B(base, index)
#define MAY_BE_NAN 0
#include "encode.h"

/* Sums begin as -0, which changes no float that is added to it. */
#define KIND f
#define TYPE float
#define STEP LANES
#define VECTOR VF
#define LOAD(p) LOAD_F(p)
#define STORE(p, a) STORE_F(p, a)
#define ADD(a, b) ADD_F(a, b)
#define NOTHING ALL_F(-0.0F)
#include "look_up.h"

#define KIND few
#define TYPE float
#define STEP FEW_LANES
#define VECTOR FEW_VF
#define LOAD(p) FEW_LOAD_F(p)
#define STORE(p, a) FEW_STORE_F(p, a)
#define ADD(a, b) FEW_ADD_F(a, b)
#define NOTHING FEW_ALL_F(-0.0F)
#include "look_up.h"

#define KIND i
#define TYPE int32_t
#define STEP LANES
#define VECTOR VI
#define LOAD(p) LOAD_I(p)
#define STORE(p, a) STORE_I(p, a)
#define ADD(a, b) ADD_I(a, b)
#define NOTHING ALL_I(0)
#define CLIPS
#include "look_up.h"

#define KIND h
#define TYPE int16_t
#define STEP (LANES == 1 ? 1 : 2 * LANES)
#define VECTOR VH
#define LOAD(p) LOAD_H(p)
#define STORE(p, a) STORE_H(p, a)
#define ADD(a, b) ADD_H(a, b)
#define NOTHING ALL_H(0)
#include "look_up.h"

TARGET static void NAME(look_up_f)(const Pass *p)
{
    if (p->n_outputs > FEW)
        NAME(tiles_f)(p, ENTRY_BYTES / 4);
    else
        NAME(tiles_few)(p, FEW);
}

TARGET static void NAME(look_up_i)(const Pass *p)
{
    NAME(tiles_i)(p, ENTRY_BYTES / 4);
}

TARGET static void NAME(look_up_h)(const Pass *p)
{
    NAME(tiles_h)(p, ENTRY_BYTES / 2);
}

/* Sums (rows, outputs of a slice) as what leaves. */
TARGET static void NAME(finish_i)(const Stage *stage, const void *sums, size_t n_rows,
                                  size_t first, size_t n, void *out, size_t stride)
{
    finish_ints(stage, sums, n_rows, first, n, out, stride);
}

TARGET static void NAME(finish_h)(const Stage *stage, const void *sums, size_t n_rows,
                                  size_t first, size_t n, void *out, size_t stride)
{
    finish_shorts(stage, sums, n_rows, first, n, out, stride);
}

TARGET static void NAME(add_rows)(const uint8_t *codes, size_t n_rows, const float *rows,
                                  size_t n_targets, size_t n_prototypes, float *few, double *sums,
                                  size_t stride)
{
    switch (n_targets) {
    case 32: add_rows_by_code(codes, n_rows, rows, 32, n_prototypes, few, sums, stride); break;
    case 64: add_rows_by_code(codes, n_rows, rows, 64, n_prototypes, few, sums, stride); break;
    default: add_rows_by_code(codes, n_rows, rows, n_targets, n_prototypes, few, sums, stride);
    }
}

TARGET static void NAME(exchange_entries)(const uint8_t *lost_codes, const float *lost,
                                          const uint8_t *codes, const float *table, size_t n_rows,
                                          size_t n_targets, size_t n_prototypes, float *rows,
                                          float *few, double *sums)
{
    if (n_targets == 32)
        exchange_entries_by_code(lost_codes, lost, codes, table, n_rows, 32, n_prototypes, rows, few,
                                 sums);
    else
        exchange_entries_by_code(lost_codes, lost, codes, table, n_rows, n_targets, n_prototypes,
                                 rows, few, sums);
}

TARGET static void NAME(add_entries)(const uint8_t *codes, size_t n_rows, const float *table,
                                     size_t n_targets, int subtracts, float *rows)
{
    add_entries_by_code(codes, n_rows, table, n_targets, subtracts, rows);
}

/* One row and one slice of float tables, in a stated order; see halut_add_in_order. */
TARGET static void NAME(add_in_order)(const float *table, size_t table_span, const uint8_t *codes,
                                      const int32_t *steps, size_t n_steps, float *stack,
                                      float *sums)
{
    const size_t slice = ENTRY_BYTES / 4;
    float *top = stack;
    for (size_t s = 0; s < n_steps; s++)
        if (steps[s] >= 0) {
            const size_t c = (size_t)steps[s];
            memcpy(top, table + c * table_span + (size_t)codes[c] * slice, ENTRY_BYTES);
            top += slice;
        } else {
            top -= slice;
            for (size_t v = 0; v < slice; v += LANES)
                STORE_F(top - slice + v, ADD_F(LOAD_F(top - slice + v), LOAD_F(top + v)));
        }
    memcpy(sums, stack, ENTRY_BYTES);
}

#undef MASK
#undef REACHED
#undef VARIANT
#undef TARGET
#undef LANES
#undef TILE_ROWS
#undef BLENDED
#undef NO_MASK
#undef EITHER
#undef ANY
#undef VF
#undef VI
#undef VH
#undef LOAD_F
#undef STORE_F
#undef ADD_F
#undef ALL_F
#undef LOAD_B
#undef LOAD_I
#undef STORE_I
#undef ADD_I
#undef OR_I
#undef SHIFT_I
#undef ALL_I
#undef MIN_I
#undef MAX_I
#undef LOAD_H
#undef STORE_H
#undef ADD_H
#undef ALL_H
#undef GATHER
#undef GATHER_B
#undef GREATER
#undef UNORDERED
#undef BLEND
#undef NEXT_NODE
#undef NODE_INDEX
#undef FEW_LANES
#undef FEW_VF
#undef FEW_LOAD_F
#undef FEW_STORE_F
#undef FEW_ADD_F
#undef FEW_ALL_F
#undef STORE_CODES
#undef CODES_FROM_MASKS
#undef CODE_OF_MASKS
#undef STORE_MASKS
