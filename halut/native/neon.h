/* 128-bit vectors of 64-bit ARM. */
#define VARIANT neon
#define TARGET
#define LANES 4
#define TILE_ROWS 4
#define BLENDED 4
typedef uint32x4_t mask_neon;
#define NO_MASK vdupq_n_u32(0)
#define EITHER(a, b) vorrq_u32(a, b)
#define ANY(m) (vmaxvq_u32(m) != 0)
#define VF float32x4_t
#define VI int32x4_t
#define LOAD_F(p) vld1q_f32(p)
#define STORE_F(p, a) vst1q_f32(p, a)
#define ADD_F(a, b) vaddq_f32(a, b)
#define ALL_F(x) vdupq_n_f32(x)
#define LOAD_B(p) load_bytes_neon(p)
#define LOAD_I(p) vld1q_s32(p)
#define STORE_I(p, a) vst1q_s32(p, a)
#define ADD_I(a, b) vaddq_s32(a, b)
#define OR_I(a, b) vorrq_s32(a, b)
#define SHIFT_I(a, bits) vshlq_s32(a, vdupq_n_s32(bits))
#define ALL_I(x) vdupq_n_s32(x)
#define MIN_I(a, b) vminq_s32(a, b)
#define MAX_I(a, b) vmaxq_s32(a, b)
#define VH int16x8_t
#define LOAD_H(p) vld1q_s16(p)
#define STORE_H(p, a) vst1q_s16(p, a)
#define ADD_H(a, b) vaddq_s16(a, b)
#define ALL_H(x) vdupq_n_s16(x)
#define GATHER(base, index) gather_neon(base, index)
#define GATHER_B(base, index) gather_bytes_neon(base, index)
#define GREATER(a, b) vcgtq_f32(a, b)
#define UNORDERED(a, b) vmvnq_u32(vandq_u32(vceqq_f32(a, a), vceqq_f32(b, b)))
#define BLEND(m, a, b) vbslq_f32(m, b, a)
#define NEXT_NODE(node, m) vsubq_s32(vaddq_s32(node, node), vreinterpretq_s32_u32(m))
#define NODE_INDEX(node, width) node_index_neon(node, (int32_t)(width))
INLINE float32x4_t load_bytes_neon(const int8_t *p)
{
    const float values[4] = {p[0], p[1], p[2], p[3]};
    return vld1q_f32(values);
}
INLINE float32x4_t gather_neon(const float *base, int32x4_t index)
{
    const float values[4] = {base[vgetq_lane_s32(index, 0)], base[vgetq_lane_s32(index, 1)],
                             base[vgetq_lane_s32(index, 2)], base[vgetq_lane_s32(index, 3)]};
    return vld1q_f32(values);
}
INLINE float32x4_t gather_bytes_neon(const int8_t *base, int32x4_t index)
{
    const float values[4] = {base[vgetq_lane_s32(index, 0)], base[vgetq_lane_s32(index, 1)],
                             base[vgetq_lane_s32(index, 2)], base[vgetq_lane_s32(index, 3)]};
    return vld1q_f32(values);
}
INLINE int32x4_t node_index_neon(int32x4_t node, int32_t width)
{
    static const int32_t lanes[4] = {0, 1, 2, 3};
    return vmlaq_n_s32(vld1q_s32(lanes), node, width);
}
INLINE void store_codes_neon(uint8_t *to, int32x4_t node)
{
    const int16x4_t words = vmovn_s32(node);
    uint8_t codes[8];
    vst1_u8(codes, vreinterpret_u8_s8(vmovn_s16(vcombine_s16(words, words))));
    memcpy(to, codes, 4);
}
#define STORE_CODES(p, node) store_codes_neon(p, node)
#define CODES_FROM_MASKS 0
#define CODE_OF_MASKS(m, depth) ALL_I(0)
#define STORE_MASKS(p, m, depth) ((void)(p))
#define FEW_LANES 4
#define FEW_VF float32x4_t
#define FEW_LOAD_F LOAD_F
#define FEW_STORE_F STORE_F
#define FEW_ADD_F ADD_F
#define FEW_ALL_F ALL_F
#include "variant.h"
