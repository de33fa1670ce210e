"""What a configuration is made of, by counting: the features of the analytic model."""

from __future__ import annotations

from math import log2

from rtl_gen.config import AcceleratorConfig, ceil_log2

__all__ = ["FEATURES", "structure"]


def structure(config: AcceleratorConfig) -> dict[str, float]:
    """Count what a configuration is made of.

    Returns
    -------
    dict of str to float
        ``latch_bits`` LUT and threshold storage; ``gates`` program words, one clock gate each;
        ``flop_bits`` registers; ``select_bits`` words times bits of AND-OR selects;
        ``adder_bits``; ``compare_bits``; ``lines`` inputs driven by one-hot code lines.
    """
    c = config
    pq, depth, bits = c.rows * c.parallel_codebooks, c.tree_depth, c.threshold_bits
    flat = c.rows == 1 or c.n_groups == 1
    lanes = c.parallel_codebooks * c.n_outputs

    look_up_words = c.n_prototypes * (c.n_groups if flat else 1)
    group_words = 0 if flat else c.n_prototypes * c.n_groups
    threshold_words = 0 if c.n_groups == 1 else (c.n_prototypes - 1) * c.n_groups

    comparators = threshold_selects = value_flops = 0
    if c.encoder == "interleaved":
        comparators = depth
        threshold_selects = depth * (c.n_prototypes - 1 + depth)
        value_flops = depth * depth * bits
    else:
        for first in range(0, depth, c.tree_levels_per_stage):
            end = min(first + c.tree_levels_per_stage, depth)
            comparators += 2 ** (end - first) - 1
            if first:
                threshold_selects += sum(2**level for level in range(first, end))
            value_flops += (depth - end) * bits + (end if end < depth else 0)
        if c.captures_input:
            value_flops += depth * bits
    code_flops = c.n_prototypes * (1 + c.code_stages)
    if c.decode_in_blocks:  # The last stage once in every block.
        code_flops = c.tree_depth * (c.code_stages + c.n_blocks)

    terms, width, adder_bits, sum_flops = c.parallel_codebooks, c.lut_bits, 0, 0
    for stage in range(1 + c.sum_stages):
        levels = c.adder_levels_per_stage if stage else c.look_up_adder_levels
        for _ in range(levels):
            adder_bits += (terms // 2) * (width + 1)
            if terms > 1:
                terms, width = -(-terms // 2), width + 1
        sum_flops += c.accumulator_bits if stage == c.sum_stages else terms * width
    if c.n_groups > 1:
        adder_bits += c.accumulator_bits
    results = c.rows * c.n_outputs
    buffer_flops = results * c.accumulator_bits * ((c.n_beats > 1) + c.skid_buffer)
    threshold_flops = c.parallel_codebooks * (c.n_prototypes - 1) * bits if c.n_groups > 1 else 0

    return {
        "latch_bits": c.lut_total_bits + c.threshold_total_bits,
        "gates": c.n_codebooks * (c.n_prototypes * c.n_blocks + c.threshold_words),
        "flop_bits": pq * (value_flops + code_flops)
        + results * sum_flops
        + buffer_flops
        + threshold_flops
        + c.program_data_bits,
        "select_bits": c.rows * lanes * look_up_words * c.lut_bits
        + lanes * group_words * c.lut_bits
        + c.parallel_codebooks * threshold_words * bits
        + pq * threshold_selects * bits,
        "adder_bits": results * adder_bits + pq * depth * (c.terms - 1) * bits,
        "compare_bits": pq * comparators * bits,
        "lines": pq * look_up_words * c.n_outputs * c.lut_bits / 8,
    }


def activity(config: AcceleratorConfig) -> dict[str, float]:
    """What moves in a cycle at full rate, and what leaks."""
    c = config
    counts = structure(c)
    look_ups = c.rows * c.parallel_codebooks * c.n_outputs
    moving = look_ups * c.lut_bits
    if c.rows > 1 and c.n_groups > 1:
        moving += c.parallel_codebooks * c.n_outputs * c.n_prototypes * c.lut_bits
    return {
        "look_up_bits": moving,
        "flop_bits": counts["flop_bits"],
        "adder_bits": counts["adder_bits"],
        "compare_bits": counts["compare_bits"],
        "latch_bits": counts["latch_bits"],
        "select_bits": counts["select_bits"],
    }


def depth(config: AcceleratorConfig) -> dict[str, float]:
    """Logarithms that make up the longest path."""
    c = config
    words = c.n_prototypes * c.n_groups
    levels = max(
        min(c.look_up_adder_levels, ceil_log2(c.parallel_codebooks)),
        min(c.adder_levels_per_stage, ceil_log2(c.parallel_codebooks)),
    )
    return {
        "constant": 1.0,
        "select": log2(words),
        "fan_out": log2(c.n_outputs * c.lut_bits),
        "shared_words": log2(c.rows),
        "adder_levels": float(levels),
        "compare": log2(c.threshold_bits) + c.tree_levels_per_stage - 1,
    }


FEATURES = {
    "area_um2": structure,
    "energy_pj_per_cycle": activity,
    "period_ns": depth,
}
