"""What layers cost on a direct engine: whole tiles of weights, each loaded, then used."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import Any

from flow.figures.metrics import Metrics
from flow.studies.cycles import engine_cycles, share_tiles
from flow.studies.tile_energy import tile_energy
from halut.errors import HalutError
from halut.workloads import Layer
from rtl_gen.direct import EngineConfig, StoredMatrixConfig

__all__ = ["direct_layer", "engine_of"]


def engine_of(metrics: Metrics) -> EngineConfig:
    """The direct engine that metrics were measured on.

    Raises
    ------
    HalutError
        When they are of something else, or of an engine whose weights are held outside: nobody
        would count their loading.
    """
    provenance = metrics.provenance
    configuration = provenance.get("configuration")
    if not isinstance(configuration, dict) or "engine" not in configuration:
        design = provenance.get("design")
        if metrics.values.get("halut__design__look_ups_per_cycle") is not None:
            raise HalutError(f"--direct-metrics must be of a direct engine, not {design}")
        raise HalutError(
            f"--direct-metrics must name the engine's configuration, not leave it out: measure "
            f"{design} anew (python -m flow bench)"
        )
    config = EngineConfig.from_dict(configuration)
    if config.slug != provenance.get("slug"):
        raise HalutError(
            f"--direct-metrics must be of one engine, not {config.slug} and "
            f"{provenance.get('slug')}"
        )
    if not config.program_words:
        raise HalutError(
            f"--direct-metrics must be of an engine that holds its weights, as dot_product_latch "
            f"does, not {config.name}: loading would not be counted"
        )
    return config


def direct_layer(
    layer: Layer, config: EngineConfig, metrics: Metrics, units: int = 1, batch: int = 1
) -> dict[str, Any]:
    """Figures of a layer, for a whole batch.

    A group of D features and M outputs is cut into tiles of `held_matrix`; features and outputs
    that a tile has too many are zeros, and cost what others cost. Sums of several tiles are added
    up outside (`partial_sums` additions, not counted in cycles and energy, as those of look-up
    engines are not).

    Parameters
    ----------
    metrics : Metrics
        Measured on `config`.
    units : int, default 1
        Engines side by side. They share tiles, and rows when there are fewer tiles.
    batch : int, default 1
        Inferences that share one loading of the weights; those of a product of two activations
        are loaded for every one.

    Raises
    ------
    HalutError
        When the layer's sizes are not known.
    """
    if not layer.rows:
        raise HalutError(f"sizes must be known, not missing: export it anew (layer {layer.name})")
    features, outputs = config.held_matrix
    grid = (-(-layer.n_features // features), -(-layer.n_outputs // outputs))
    own = batch if layer.kind == "product" else 1
    n_tiles = own * layer.groups * grid[0] * grid[1]
    rows = math.ceil(layer.rows * batch / own)
    parallel = config.rows if isinstance(config, StoredMatrixConfig) else 1
    shared = share_tiles(partial(engine_cycles, config), rows, n_tiles, units, parallel)
    elapsed, streaming = shared.busiest.total, shared.jobs * shared.one.stream
    words = shared.jobs * shared.one.load
    macs = own * rows * layer.n_features * layer.n_outputs * layer.groups
    made = streaming * config.macs_per_cycle
    return {
        "name": layer.name,
        "kind": layer.kind,
        "rows": own * rows,
        "n_features": layer.n_features,
        "n_outputs": layer.n_outputs,
        "groups": layer.groups,
        "macs": macs,
        "tiles": n_tiles,
        "grid": list(grid),
        "row_parts": shared.row_parts,
        "cycles": {**asdict(shared.busiest), "total": elapsed},
        "utilisation": macs / (elapsed * units * config.macs_per_cycle),
        "share_of_made": macs / made,
        "program_words": words,
        "partial_sums": own * (grid[0] - 1) * rows * layer.n_outputs * layer.groups,
        "bits": {
            "input": streaming * _input_bits(config),
            "output": shared.jobs * shared.rows * outputs * config.accumulator_bits,
            "program": words * config.program_data_bits,
        },
        "energy_pj": tile_energy(metrics, streaming, units * elapsed, words, shared.loading),
    }


def _input_bits(config: EngineConfig) -> int:
    """Of an input transfer."""
    if isinstance(config, StoredMatrixConfig):
        return config.rows * config.group_features * config.input_bits
    return config.held_matrix[0] * config.input_bits
