/* One value at a time; the compiler makes vectors of its own. */
#define VARIANT portable
#define TARGET
#define LANES 1
#define TILE_ROWS 1
#define BLENDED 0
typedef int32_t mask_portable;
#define NO_MASK 0
#define EITHER(a, b) ((a) | (b))
#define ANY(m) (m)
#define VF float
#define VI int32_t
#define LOAD_F(p) (*(p))
#define STORE_F(p, a) (*(p) = (a))
#define ADD_F(a, b) ((a) + (b))
#define ALL_F(x) (x)
#define LOAD_B(p) ((float)*(p))
#define LOAD_I(p) (*(p))
#define STORE_I(p, a) (*(p) = (a))
#define ADD_I(a, b) ((int32_t)((uint32_t)(a) + (uint32_t)(b)))
#define OR_I(a, b) ((a) | (b))
#define SHIFT_I(a, bits) ((int32_t)((uint32_t)(a) << (bits)))
#define ALL_I(x) (x)
#define MIN_I(a, b) ((a) < (b) ? (a) : (b))
#define MAX_I(a, b) ((a) > (b) ? (a) : (b))
#define VH int16_t
#define LOAD_H(p) (*(p))
#define STORE_H(p, a) (*(p) = (a))
#define ADD_H(a, b) ((int16_t)((a) + (b)))
#define ALL_H(x) (x)
#define GATHER(base, index) ((base)[index])
#define GATHER_B(base, index) ((float)(base)[index])
/* Unsigned: gcc 12 takes a signed 0 or 1 for 0 or -1 when it makes a vector of it. */
#define GREATER(a, b) (int32_t)((uint32_t)((a) > (b)) & 1U)
#define UNORDERED(a, b) ((a) != (a) || (b) != (b))
#define BLEND(m, a, b) ((m) ? (b) : (a))
#define NEXT_NODE(node, m) ((int32_t)((uint32_t)(node) << 1 | (uint32_t)(m)))
#define NODE_INDEX(node, width) ((node) * (int32_t)(width))
#define STORE_CODES(p, node) (*(p) = (uint8_t)(node))
#define CODES_FROM_MASKS 0
#define CODE_OF_MASKS(m, depth) 0
#define STORE_MASKS(p, m, depth) ((void)(p))
#define FEW_LANES 1
#define FEW_VF float
#define FEW_LOAD_F LOAD_F
#define FEW_STORE_F STORE_F
#define FEW_ADD_F ADD_F
#define FEW_ALL_F ALL_F
#include "variant.h"
