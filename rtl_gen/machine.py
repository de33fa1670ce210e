"""What a schedule has to know of an accelerator, taken from its configuration."""

from __future__ import annotations

from halut.schedule import Machine

from .tiled_config import AnyConfig, TiledConfig

__all__ = ["machine"]


def machine(config: AnyConfig) -> Machine:
    """The accelerator of `config`, one unit or several, as `halut.schedule` sees it."""
    unit = config.unit if isinstance(config, TiledConfig) else config
    lut_words = config.n_codebooks * config.n_prototypes * config.n_blocks
    return Machine(
        n_codebooks=config.n_codebooks,
        n_outputs=config.n_outputs,
        rows=config.rows,
        input_transfers=config.n_groups,
        output_transfers=config.n_beats,
        pipeline_cycles=unit.pipeline_stages,
        output_cycles=config.latency_cycles - unit.pipeline_stages,
        program_words=lut_words
        + config.n_codebooks * config.threshold_words
        + config.n_outputs * config.output_constant_words,
        banks=unit.n_banks,
        drains=bool(unit.output_constants),
    )
