"""The direct engines as designs for the flow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flow.designs.design import LOADING_WARM_UP, LOADING_WINDOW, Design, Stream, Workload
from halut.errors import HalutError
from rtl_gen.direct import (
    DotProductConfig,
    EngineConfig,
    StoredMatrixConfig,
    SystolicConfig,
    generate,
)
from sim.direct import Job, make_job, random_factors

__all__ = ["engine"]

_UNITS = {
    "halut_dot_product_array": "control, inputs",
    "halut_dot_product_n": "dot products",
    "halut_operator_dot_product": "dot products",
    "halut_systolic_array": "control",
    "halut_processing_element": "processing elements",
    "halut_stored_matrix": "control, inputs",
    "halut_stored_column": "matrix memory and select",
    "halut_output": "output",
}
# Words in the window of loading, at least: few words hold a matrix, so that several are written.
_LOADING_WORDS = 256
_DESCRIPTIONS = {
    "dot-product": "random inputs, random weights held still",
    "systolic": "random inputs and weights",
    "stored-matrix": "random inputs and matrix",
}


def _job(config: EngineConfig, seed: int, n_transfers: int) -> Job:
    """At least `n_transfers` input transfers with random factors, and what they give."""
    rng = np.random.default_rng(seed)
    lengths = None
    if isinstance(config, DotProductConfig):
        lengths = np.full(-(-n_transfers // config.max_vectors), config.max_vectors)
        inputs = (int(lengths.sum()), config.length)
        weights = (config.columns, config.length)
    elif isinstance(config, SystolicConfig):
        inputs, weights = (n_transfers, config.rows), (config.rows, config.columns)
    else:
        assert isinstance(config, StoredMatrixConfig)
        inputs = (-(-n_transfers // config.n_groups) * config.rows, config.n_features)
        weights = (config.n_features, config.n_outputs)
    x = random_factors(rng, config.input_bits, inputs)
    return make_job(config, x, random_factors(rng, config.weight_bits, weights), lengths)


def _schedule(config: EngineConfig) -> tuple[int, int, int]:
    """`latency_cycles`, `interval_cycles` and `group_transfers` of a `Design`."""
    if isinstance(config, DotProductConfig):
        return config.latency_cycles, config.max_vectors, config.max_vectors
    if isinstance(config, SystolicConfig):
        # The first sums come when the array is full.
        return config.filling_transfers + 1, 1, 1
    assert isinstance(config, StoredMatrixConfig)
    if config.output.n_beats > config.n_groups:
        raise HalutError(
            "outputs_per_cycle must keep up with the input for a measurement, "
            f"not {config.outputs_per_cycle}"
        )
    return config.latency_cycles, config.n_groups, config.n_groups


def engine(config: EngineConfig) -> Design:
    """A direct engine, with random factors at full rate.

    The weights of a dot-product array without its own store stand still.
    """
    latency, interval, group = _schedule(config)
    has_weight_ports = isinstance(config, DotProductConfig) and config.weights == "ports"

    def stream(prefix: str, fields: tuple[str, ...], items: list[tuple[int, ...]]) -> Stream:
        return Stream(
            valid=f"{prefix}_valid",
            ready=f"{prefix}_ready",
            payload=tuple(f"{prefix}_{name}" for name in fields),
            items=items,
        )

    def workload(seed: int, n_transfers: int) -> Workload:
        work = _job(config, seed, n_transfers)
        program = stream("program", work.program_fields, work.program)
        return Workload(
            setup=[program] if work.program else [],
            inputs=stream("i", work.input_fields, work.inputs),
            outputs=stream("o", work.output_fields, work.outputs[work.n_filling :]),
            look_ups=0,
            macs=config.macs_per_cycle,
            description=_DESCRIPTIONS[config.engine],
            seed=seed,
            fixed=work.fixed,
        )

    def loading(seed: int) -> tuple[Workload, int]:
        """One row group through a matrix, then other matrices over it."""
        work = workload(seed, group)
        wanted = max(_LOADING_WORDS, group)
        n_matrices = -(-wanted // config.program_words)
        others = [_job(config, seed + 1 + k, group).program for k in range(n_matrices)]
        window = [word for program in others for word in program][-LOADING_WINDOW:]
        around = window[-LOADING_WARM_UP:], window[:4]
        return replace(
            work,
            setup=[*work.setup, work.inputs],
            inputs=replace(work.setup[0], items=[*around[0], *window, *around[1]]),
            macs=0,
            description="random matrices, one over the other",
        ), len(window)

    return Design(
        name=config.name,
        slug=config.slug,
        verilog=generate(config).verilog,
        top=config.top,
        clock="clk_i",
        reset="rst_ni",
        look_ups_per_cycle=0,
        macs_per_cycle=config.macs_per_cycle,
        codebook_width=None,
        latency_cycles=latency,
        interval_cycles=interval,
        group_transfers=group,
        static=("weights",) if has_weight_ports else (),
        config_hash=config.hash,
        configuration=config.to_dict(),
        workload=workload,
        loading=loading if config.program_words else None,
        labels=_UNITS,
    )
