"""What a whole network costs on an accelerator, layer by layer.

Energies come only from a metrics.json that `python -m flow synth` or `pnr` measured. What is not
known is null, with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from flow.figures.metrics import Metrics, base_provenance
from flow.studies.bus import BOUNDS, BusSystem
from flow.studies.cycles import share_tiles, tile_cycles
from flow.studies.tile_energy import measured_on, tile_energy
from halut.errors import HalutError
from halut.program import input_format_bits
from halut.workloads import Layer
from rtl_gen.tiled_config import AnyConfig

__all__ = ["system"]


def _check_fits(config: AnyConfig, layer: Layer) -> None:
    """What `halut.tiles.widen` demands of a program."""
    for name in ("n_prototypes", "lut_bits"):
        value = getattr(layer, name)
        if value is not None and value > getattr(config, name):
            raise HalutError(
                f"{name} must be at most the accelerator's {getattr(config, name)}, not {value} "
                f"(layer {layer.name}, configuration {config.name})"
            )
    given = layer.input_format
    if given is None or given == config.input_format:
        return
    whole = given.startswith("int") and config.input_format.startswith("int")
    if not whole or input_format_bits(given) > config.input_bits:
        raise HalutError(
            f"input_format must be the accelerator's {config.input_format} or a narrower integer, "
            f"not {given} (layer {layer.name}, configuration {config.name})"
        )


@dataclass(frozen=True, kw_only=True)
class _Setup:
    """What layers run on; `metrics` are the accelerator's, `exact` a direct engine's."""

    config: AnyConfig
    units: int
    batch: int
    codebook_width: int | None
    clock_ns: float | None
    metrics: Metrics | None
    exact: Metrics | None
    bus: BusSystem | None = None


def _looked_up(setup: _Setup, layer: Layer) -> dict[str, Any]:
    """Figures of one looked-up layer, for a whole batch unless they say otherwise."""
    config, units = setup.config, setup.units
    _check_fits(config, layer)
    n_codebooks = layer.codebooks(setup.codebook_width)
    grid = (-(-n_codebooks // config.n_codebooks), -(-layer.n_outputs // config.n_outputs))
    n_tiles = layer.groups * grid[0] * grid[1]
    rows = math.ceil(layer.rows * setup.batch)

    # Units that would wait for lack of tiles share the rows of a tile instead.
    shared = share_tiles(partial(tile_cycles, config), rows, n_tiles, units, config.rows)
    one, jobs, loading = shared.one, shared.jobs, shared.loading
    elapsed = shared.busiest.total
    words = jobs * one.load
    row_groups = one.stream // config.interval_cycles * jobs
    made = row_groups * config.rows * config.n_codebooks * config.n_outputs
    useful = rows * n_codebooks * layer.n_outputs * layer.groups
    transfers = {
        "input": row_groups * config.n_groups,
        "output": row_groups * config.n_beats,
        "program": words,
    }
    figures: dict[str, Any] = {
        "name": layer.name,
        "kind": layer.kind,
        "groups": layer.groups,
        "rows": rows,
        "n_features": layer.n_features,
        "n_outputs": layer.n_outputs,
        "n_codebooks": n_codebooks,
        "macs": (layer.macs or 0) * setup.batch,
        "tiles": n_tiles,
        "grid": list(grid),
        "row_parts": shared.row_parts,
        "cycles": {**asdict(shared.busiest), "total": elapsed},
        "look_ups": useful,
        "look_ups_made": made,
        "utilisation": useful / (elapsed * units * config.look_ups_per_cycle),
        "streams": {
            name: {
                "transfers": transfers[name],
                "bits": transfers[name] * bits,
                "gbytes_per_s": _rate(transfers[name] * bits, elapsed, setup.clock_ns),
            }
            for name, bits in _ports(config).items()
        },
        "lut": {
            "loaded_bits": jobs * config.lut_total_bits,
            "read_bits": made * config.lut_bits,
        },
    }  # fmt: skip
    if setup.bus is not None:  # one unit; the bus brings words or rows, not both
        figures["bus"] = _on_bus(setup.bus, rows, n_tiles)
        elapsed, loading = figures["bus"]["cycles"]["total"], words
        figures["utilisation"] = useful / (elapsed * config.look_ups_per_cycle)
        for stream in figures["streams"].values():
            stream["gbytes_per_s"] = _rate(stream["bits"], elapsed, setup.clock_ns)
    figures["energy_pj"] = tile_energy(
        setup.metrics, jobs * one.stream, units * elapsed, words, loading
    )
    return figures


def _on_bus(bus: BusSystem, rows: int, n_tiles: int) -> dict[str, Any]:
    cycles, moved = bus.cycles(rows, n_tiles), bus.bytes_moved(rows, n_tiles)
    return {
        "cycles": {**asdict(cycles), "total": cycles.total},
        "bytes": {**moved, "total": sum(moved.values())},
        "bound": bus.bound(rows, cycles),
    }


def _ports(config: AnyConfig) -> dict[str, int]:
    """Bits of a transfer of each stream."""
    return {
        "input": config.rows * config.parallel_codebooks * config.tree_depth * config.input_bits,
        "output": config.output_width * config.result_bits,
        "program": config.program_data_bits,
    }


def _rate(bits: float, cycles: int, clock_ns: float | None) -> float | None:
    """Mean over all cycles, GB/s (bytes per ns)."""
    return None if clock_ns is None or not cycles else bits / 8 / (cycles * clock_ns)


def _reasons(setup: _Setup, unknown: Sequence[str]) -> dict[str, str]:
    """Why figures are null."""
    reasons = {}
    if setup.clock_ns is None:
        reasons["time"] = "no clock: give --metrics, or --clock-ns"
    metrics = setup.metrics
    if metrics is None:
        reasons["energy"] = "not measured: give --metrics FILE (python -m flow synth)"
    else:
        names = measured_on(metrics)
        per_cycle, per_word = names.per_cycle, names.per_word
        if metrics.values.get(per_cycle) is None:
            why = metrics.reasons.get(per_cycle, "not in the file")
            reasons["energy"] = f"not in --metrics: {why}"
        elif metrics.values.get(per_word) is None:
            reasons["energy of loading"] = "the metrics hold no energy of program words"
    if setup.exact is None:
        reasons["energy of exact layers"] = (
            "not measured: give --exact-metrics FILE (metrics.json of a direct engine)"
        )
    if unknown:
        reasons["multiply-accumulates of " + ", ".join(unknown)] = (
            "not in the network.json: export it anew"
        )
    return reasons


def _add(rows: Sequence[dict[str, Any]], *path: str) -> float | None:
    """Sum of one figure over layers; None when a layer does not have it."""
    total = 0
    for row in rows:
        value: Any = row
        for name in path:
            value = value[name]
        if value is None:
            return None
        total += value
    return total


def system(
    name: str,
    layers: Sequence[Layer],
    config: AnyConfig,
    *,
    units: int = 1,
    batch: int = 1,
    codebook_width: int | None = None,
    clock_ns: float | None = None,
    metrics: Metrics | None = None,
    exact: Metrics | None = None,
    bus: BusSystem | None = None,
) -> dict[str, Any]:
    """Figures of a network on an accelerator.

    Parameters
    ----------
    name : str
        Of the network.
    config : AcceleratorConfig or TiledConfig
        Of every unit.
    units : int, default 1
        Accelerators side by side, each with its own tables and streams. They share the tiles of a
        layer, and the rows when there are fewer tiles than units; layers follow one another.
    batch : int, default 1
        Inferences that share one loading of the tables.
    codebook_width : int, optional
        Features of a codebook, for layers that do not say how many they have; by default the area
        of a kernel, 8 where there is none.
    clock_ns : float, optional
        That of `metrics` by default.
    metrics : Metrics, optional
        Measured on `config`.
    exact : Metrics, optional
        Measured on a direct engine.
    bus : BusSystem, optional
        Of `config` as `halut_axi`, one unit: programs, rows and results cross it. Times, rates,
        utilisation and energy are then those with the bus.

    Returns
    -------
    dict
        As docs/system.md describes it; ready for JSON.

    Raises
    ------
    HalutError
        When a layer does not fit, no layer is looked up, metrics are of something else, or
        layers have codebooks and `codebook_width` is given.
    """
    if metrics is not None:
        clock_ns = _check_metrics(config, metrics)
    if exact is not None:
        _check_exact(exact)
    if bus is not None:
        if units != 1:
            raise HalutError(f"units must be 1 behind a bus, not {units}")
        if bus.config.accelerator != config:
            raise HalutError(f"bus must be of {config.slug}, not {bus.config.accelerator.slug}")
    if codebook_width is not None and any(layer.n_codebooks is not None for layer in layers):
        raise HalutError(
            f"--codebook-width must not be given for a network whose layers have codebooks ({name})"
        )
    setup = _Setup(
        config=config, units=units, batch=batch, codebook_width=codebook_width,
        clock_ns=clock_ns, metrics=metrics, exact=exact, bus=bus,
    )  # fmt: skip
    rows = [_looked_up(setup, layer) for layer in layers if not layer.exact]
    if not rows:
        raise HalutError(f"network must have a looked-up layer, not none ({name})")
    per_mac = exact.values["halut__energy__per_mac"] if exact else None
    exact_rows = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "reason": layer.exact,
            "macs": None if layer.macs is None else layer.macs * batch,
            "energy_pj": None
            if per_mac is None or layer.macs is None
            else layer.macs * batch * per_mac,
        }
        for layer in layers
        if layer.exact
    ]
    unknown = [layer.name for layer in layers if layer.exact and layer.macs is None]
    return {
        "version": 1,
        "kind": "halut-system",
        "network": name,
        "configuration": config.to_dict(),
        "slug": config.slug,
        "units": units,
        "batch": batch,
        "clock_ns": clock_ns,
        **({} if bus is None else {"bus": bus.to_dict()}),
        "layers": rows,
        "exact_layers": exact_rows,
        "total": _total(setup, rows, exact_rows),
        "reasons": _reasons(setup, unknown),
        "measured": {
            role: {key: found.provenance.get(key) for key in
                   ("design", "slug", "platform", "corner", "clock_ns", "target_ns", "commit")}
            for role, found in (("accelerator", metrics), ("exact", exact))
            if found is not None
        },
        "energy_measured_on": measured_on(metrics).netlist if metrics else None,
        "provenance": base_provenance(),
    }  # fmt: skip


def _total(
    setup: _Setup, rows: list[dict[str, Any]], exact_rows: list[dict[str, Any]]
) -> dict[str, Any]:
    config, batch, clock = setup.config, setup.batch, setup.clock_ns
    cycles = {
        part: _add(rows, "cycles", part) for part in ("load", "settle", "stream", "drain", "total")
    }
    elapsed = cycles["total"]
    if setup.bus is not None:
        elapsed = _add(rows, "bus", "cycles", "total")
    assert elapsed
    useful, macs = _add(rows, "look_ups"), _add(rows, "macs")
    exact_macs = _add(exact_rows, "macs")
    energy = {
        part: _each(_add(rows, "energy_pj", part), batch)
        for part in ("stream", "other_cycles", "load", "without_load", "total")
    }
    exact_energy = _each(_add(exact_rows, "energy_pj"), batch)
    ours = energy["total"] if energy["total"] is not None else energy["without_load"]
    assert useful is not None and macs is not None
    return {
        "tiles": _add(rows, "tiles"),
        "cycles": cycles,
        **({} if setup.bus is None else {"bus": _bus_total(rows)}),
        "cycles_per_inference": elapsed / batch,
        "utilisation": useful / (elapsed * setup.units * config.look_ups_per_cycle),
        "inferences_per_s": None if clock is None else batch * 1e9 / (elapsed * clock),
        "look_ups_per_inference": useful / batch,
        "macs_per_inference": macs / batch,
        "exact_macs_per_inference": _each(exact_macs, batch),
        "exact_share_of_macs": None if exact_macs is None else exact_macs / (exact_macs + macs),
        "streams": {
            name: {
                "bits": (bits := _add(rows, "streams", name, "bits") or 0),
                "gbytes_per_s": _rate(bits, int(elapsed), clock),
                "port_bits_per_cycle": width,
                "port_gbytes_per_s": None if clock is None else width / 8 / clock,
            }
            for name, width in _ports(config).items()
        },
        "lut": {name: _add(rows, "lut", name) for name in ("loaded_bits", "read_bits")},
        "energy_per_inference_pj": energy,
        "exact_energy_per_inference_pj": exact_energy,
        "exact_share_of_energy": None
        if ours is None or exact_energy is None
        else exact_energy / (exact_energy + ours),
    }


def _bus_total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over layers, and the cycles of the layers that each of `BOUNDS` binds."""
    sums: dict[str, Any] = {
        kind: {part: _add(rows, "bus", kind, part) for part in rows[0]["bus"][kind]}
        for kind in ("cycles", "bytes")
    }
    bound = {
        name: sum(row["bus"]["cycles"]["total"] for row in rows if row["bus"]["bound"] == name)
        for name in BOUNDS
    }
    return {**sums, "cycles_bound_by": {name: count for name, count in bound.items() if count}}


def _each(value: float | None, batch: int) -> float | None:
    return None if value is None else value / batch


def _check_metrics(config: AnyConfig, metrics: Metrics) -> float:
    """Check that they are of this configuration; returns their clock in ns."""
    slug = metrics.provenance.get("slug")
    if slug != config.slug:
        raise HalutError(
            f"--metrics must be of {config.slug} (configuration {config.name}), not {slug}"
        )
    clock = metrics.values.get("synth__timing__clock__period")
    if not clock:
        raise HalutError("--metrics must have a clock period, not null")
    return clock


def _check_exact(metrics: Metrics) -> None:
    if metrics.values.get("halut__design__look_ups_per_cycle") is not None:
        raise HalutError(
            f"--exact-metrics must be of a direct engine, not {metrics.provenance.get('design')}"
        )
    if metrics.values.get("halut__energy__per_mac") is None:
        why = metrics.reasons.get("halut__energy__per_mac", "not in the file")
        raise HalutError(f"--exact-metrics must have an energy per MAC, not null: {why}")
