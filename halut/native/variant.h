/* The kernels of one variant; included once for each, with the macros that kernels.c defines. */

#define MASK NAME(mask)

/* The threshold of the node that a walk has reached; nodes of the first levels are chosen by the
 * decisions so far, those further down are gathered. */
TARGET INLINE VF NAME(reached)(const Trees *trees, size_t c, size_t level, VI node, const MASK *m)
{
    const size_t width = trees->n_codebooks;
    const float *t = trees->thresholds + c;
    (void)m;
#define NODE(n) LOAD_F(t + (n) * width)
    if (BLENDED > 0 && level == 0)
        return NODE(0);
    if (BLENDED > 1 && level == 1)
        return BLEND(m[0], NODE(1), NODE(2));
    if (BLENDED > 2 && level == 2)
        return BLEND(m[0], BLEND(m[1], NODE(3), NODE(4)), BLEND(m[1], NODE(5), NODE(6)));
    if (BLENDED > 3 && level == 3)
        return BLEND(m[0],
                     BLEND(m[1], BLEND(m[2], NODE(7), NODE(8)), BLEND(m[2], NODE(9), NODE(10))),
                     BLEND(m[1], BLEND(m[2], NODE(11), NODE(12)),
                           BLEND(m[2], NODE(13), NODE(14))));
#undef NODE
    return GATHER(t + (((size_t)1 << level) - 1) * width, NODE_INDEX(node, width));
}

TARGET INLINE void NAME(encode_near)(const Trees *trees, const float *rows, size_t n_rows,
                                     uint8_t *restrict codes, size_t depth)
{
    const size_t width = trees->n_codebooks;
    for (size_t c = 0; c < width; c += LANES)
        for (size_t r = 0; r < n_rows; r++) {
            const float *row = rows + (ptrdiff_t)r * trees->row_stride;
            uint8_t *to = codes + c / GROUP * GROUP * ROWS + r * GROUP + c % GROUP;
            MASK m[8];
            VI node = ALL_I(0);
            UNROLL
            for (size_t level = 0; level < depth; level++) {
                const VF x = GATHER(row, LOAD_I(trees->places + level * width + c));
                m[level] = GREATER(x, NAME(reached)(trees, c, level, node, m));
                if (depth > BLENDED || !CODES_FROM_MASKS)
                    node = NEXT_NODE(node, m[level]);
            }
            if (depth > BLENDED || !CODES_FROM_MASKS)
                STORE_CODES(to, node);
            else
                STORE_MASKS(to, m, depth);
        }
}

/* Codes (groups, ROWS, GROUP) of rows. */
TARGET static void NAME(encode)(const Trees *trees, const float *rows, size_t n_rows,
                                uint8_t *codes)
{
    for (size_t r = 0; r < n_rows; r += NEAR_ROWS) {
        const size_t n = n_rows - r < NEAR_ROWS ? n_rows - r : NEAR_ROWS;
        const float *near = rows + (ptrdiff_t)r * trees->row_stride;
        uint8_t *to = codes + r * GROUP;
        switch (trees->depth) {
        case 1: NAME(encode_near)(trees, near, n, to, 1); break;
        case 2: NAME(encode_near)(trees, near, n, to, 2); break;
        case 3: NAME(encode_near)(trees, near, n, to, 3); break;
        case 4: NAME(encode_near)(trees, near, n, to, 4); break;
        case 5: NAME(encode_near)(trees, near, n, to, 5); break;
        case 6: NAME(encode_near)(trees, near, n, to, 6); break;
        case 7: NAME(encode_near)(trees, near, n, to, 7); break;
        default: NAME(encode_near)(trees, near, n, to, 8); break;
        }
    }
}

#define KIND f
#define TYPE float
#define STEP LANES
#define VECTOR VF
#define LOAD(p) LOAD_F(p)
#define STORE(p, a) STORE_F(p, a)
#define ADD(a, b) ADD_F(a, b)
#include "look_up.h"

#define KIND few
#define TYPE float
#define STEP FEW_LANES
#define VECTOR FEW_VF
#define LOAD(p) FEW_LOAD_F(p)
#define STORE(p, a) FEW_STORE_F(p, a)
#define ADD(a, b) FEW_ADD_F(a, b)
#include "look_up.h"

#define KIND i
#define TYPE int32_t
#define STEP LANES
#define VECTOR VI
#define LOAD(p) LOAD_I(p)
#define STORE(p, a) STORE_I(p, a)
#define ADD(a, b) ADD_I(a, b)
#define CLIPS
#include "look_up.h"

TARGET static void NAME(look_up_f)(const Pass *p)
{
    if (p->n_outputs == SLICE)
        NAME(tiles_f)(p, SLICE);
    else
        NAME(tiles_few)(p, FEW);
}

TARGET static void NAME(look_up_i)(const Pass *p)
{
    NAME(tiles_i)(p, SLICE);
}

/* One row and one slice of float tables, in a stated order; see halut_add_in_order. */
TARGET static void NAME(add_in_order)(const float *table, size_t table_span, const uint8_t *codes,
                                      const int32_t *steps, size_t n_steps, float *stack,
                                      float *sums)
{
    float *top = stack;
    for (size_t s = 0; s < n_steps; s++)
        if (steps[s] >= 0) {
            const size_t c = (size_t)steps[s];
            memcpy(top, table + c * table_span + (size_t)codes[c] * SLICE, SLICE * 4);
            top += SLICE;
        } else {
            top -= SLICE;
            for (size_t v = 0; v < SLICE; v += LANES)
                STORE_F(top - SLICE + v, ADD_F(LOAD_F(top - SLICE + v), LOAD_F(top + v)));
        }
    memcpy(sums, stack, SLICE * 4);
}

#undef MASK
#undef VARIANT
#undef TARGET
#undef LANES
#undef TILE_ROWS
#undef BLENDED
#undef VF
#undef VI
#undef LOAD_F
#undef STORE_F
#undef ADD_F
#undef LOAD_I
#undef STORE_I
#undef ADD_I
#undef ALL_I
#undef MIN_I
#undef MAX_I
#undef GATHER
#undef GREATER
#undef BLEND
#undef NEXT_NODE
#undef NODE_INDEX
#undef FEW_LANES
#undef FEW_VF
#undef FEW_LOAD_F
#undef FEW_STORE_F
#undef FEW_ADD_F
#undef STORE_CODES
#undef CODES_FROM_MASKS
#undef STORE_MASKS
