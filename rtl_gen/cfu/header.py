"""C header of the custom function unit: its instructions, and the same unit as C."""

from __future__ import annotations

from .config import ADD, INPUT_BITS, READ, START, THRESHOLDS, WALK, CfuConfig

__all__ = ["header"]

_TEXT = """\
/* Instructions of the custom function unit halut_cfu, {slug}.
 * Written by `python -m rtl_gen cfu`; do not edit.
 *
 * They are R-type instructions of opcode custom-0, one per cycle, answered a cycle later. Function
 * and index must be constants. With HALUT_CFU_MODEL defined the unit is C, for machines without. */
#ifndef HALUT_CFU_H
#define HALUT_CFU_H

#include <stdint.h>

#define HALUT_CFU_N_PROTOTYPES {n_prototypes}
#define HALUT_CFU_TREE_DEPTH {tree_depth}
#define HALUT_CFU_LUT_BITS {lut_bits}
#define HALUT_CFU_N_SUMS {n_sums}
#define HALUT_CFU_ACC_BITS {acc_bits}
#define HALUT_CFU_LANES {lanes}           /* entries that one instruction adds */
#define HALUT_CFU_MOST_CODEBOOKS {most_codebooks} /* that add up without overflow */

/* index: pair; operands: thresholds 2 * index and the next one, node by node. Answers 0. */
#define HALUT_CFU_THRESHOLDS {thresholds}
/* index: pair; operands: values of levels 2 * index and the next one. The last pair answers the
 * code. */
#define HALUT_CFU_WALK {walk}
/* index: bank; operands: entries, each plus {bias}, the first in the lowest bits, which sums
 * index * LANES and following become, or which are added to them. Answers 0. */
#define HALUT_CFU_START {start}
#define HALUT_CFU_ADD {add}
/* index: sum. Answers it, signed. */
#define HALUT_CFU_READ {read}

#define HALUT_CFU_NOTHING {nothing:#010x}U /* entries of 0 */

#ifndef HALUT_CFU_MODEL

#define HALUT_CFU_OPERANDS(function, index, first, second) \\
    "r"((uint32_t)(first)), "r"((uint32_t)(second)), "i"(function), "i"(index)

/* Gives an instruction and returns its answer. */
#define HALUT_CFU(function, index, first, second)                            \\
    (__extension__({{                                                         \\
        uint32_t answer_;                                                    \\
        __asm__ volatile(".insn r CUSTOM_0, %3, %4, %0, %1, %2"              \\
                         : "=r"(answer_)                                     \\
                         : HALUT_CFU_OPERANDS(function, index, first, second)); \\
        answer_;                                                             \\
    }}))

/* Gives an instruction whose answer is not needed. */
#define HALUT_CFU_DO(function, index, first, second)    \\
    __asm__ volatile(".insn r CUSTOM_0, %2, %3, x0, %0, %1" \\
                     :                                  \\
                     : HALUT_CFU_OPERANDS(function, index, first, second))

#else

typedef struct {{
    int32_t thresholds[HALUT_CFU_N_PROTOTYPES];
    int32_t sums[HALUT_CFU_N_SUMS];
    uint32_t node;
}} halut_cfu_state;

static halut_cfu_state halut_cfu_unit;

/* The lowest bits of a word, sign-extended. */
static inline int32_t halut_cfu_signed(uint32_t word, int bits)
{{
    const uint32_t sign = 1U << (bits - 1), kept = word & (sign + (sign - 1U));
    return (int32_t)((kept ^ sign) - sign);
}}

static inline uint32_t halut_cfu_model(int function, int index, uint32_t first, uint32_t second)
{{
    halut_cfu_state *const unit = &halut_cfu_unit;
    const uint32_t operands[2] = {{first, second}};
    if (function == HALUT_CFU_THRESHOLDS) {{
        for (int i = 0; i < 2 && 2 * index + i < HALUT_CFU_N_PROTOTYPES - 1; ++i)
            unit->thresholds[2 * index + i] = halut_cfu_signed(operands[i], {threshold_bits});
    }} else if (function == HALUT_CFU_WALK) {{
        uint32_t node = index == 0 ? 0 : unit->node & ((1U << 2 * index) - 1U);
        for (int i = 0; i < 2 && 2 * index + i < HALUT_CFU_TREE_DEPTH; ++i) {{
            const uint32_t root = (1U << (2 * index + i)) - 1U;
            const int32_t value = halut_cfu_signed(operands[i], {input_bits});
            node = 2U * node + (value > unit->thresholds[root + node]);
        }}
        unit->node = node;
        return node;
    }} else if (function == HALUT_CFU_START || function == HALUT_CFU_ADD) {{
        for (int lane = 0; lane < HALUT_CFU_LANES; ++lane) {{
            const int half = HALUT_CFU_LANES / 2;
            const uint32_t word = operands[lane / half] >> (lane % half * HALUT_CFU_LUT_BITS);
            const int32_t entry = (int32_t)(word & {mask:#x}U) - {bias};
            int32_t *const sum = &unit->sums[index * HALUT_CFU_LANES + lane];
            const int32_t before = function == HALUT_CFU_START ? 0 : *sum;
            *sum = halut_cfu_signed((uint32_t)before + (uint32_t)entry, HALUT_CFU_ACC_BITS);
        }}
    }} else if (function == HALUT_CFU_READ) {{
        return (uint32_t)unit->sums[index];
    }}
    return 0;
}}

#define HALUT_CFU(function, index, first, second) \\
    halut_cfu_model(function, index, (uint32_t)(first), (uint32_t)(second))
#define HALUT_CFU_DO(function, index, first, second) (void)HALUT_CFU(function, index, first, second)

#endif

#endif
"""


def header(config: CfuConfig) -> str:
    """Text of ``halut_cfu.h``: constants and instructions of one configuration."""
    bias = 1 << (config.lut_bits - 1)
    return _TEXT.format(
        slug=config.slug,
        n_prototypes=config.n_prototypes,
        tree_depth=config.tree_depth,
        lut_bits=config.lut_bits,
        n_sums=config.n_sums,
        acc_bits=config.acc_bits,
        lanes=config.lanes,
        most_codebooks=config.most_codebooks,
        threshold_bits=config.threshold_bits,
        input_bits=INPUT_BITS,
        thresholds=THRESHOLDS,
        walk=WALK,
        start=START,
        add=ADD,
        read=READ,
        bias=bias,
        mask=(1 << config.lut_bits) - 1,
        nothing=sum(bias << (k * config.lut_bits) for k in range(32 // config.lut_bits)),
    )
