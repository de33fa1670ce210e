"""Counts the cycles of a whole layer on `halut_axi`, with a memory of a rate and a latency."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from halut.errors import HalutError
from rtl_gen.axi.config import AxiConfig
from sim import runner
from sim.axi import build_axi, write_random_job

__all__ = ["simulate_layer"]


def simulate_layer(
    config: AxiConfig,
    n_groups: int,
    n_tiles: int,
    *,
    bytes_per_cycle: float,
    latency_cycles: int,
    shared: bool = False,
    simulator: str | None = None,
    wrong_bit: bool = False,
) -> dict[str, int]:
    """Run a chain of tiles, each loaded and run, and count its cycles; results are compared.

    Parameters
    ----------
    config : AxiConfig
        With a bus master and one program, of an accelerator without front end.
    n_groups : int
        Row groups of every tile.
    n_tiles : int
        Loads and runs, all of the same program and rows.
    bytes_per_cycle, latency_cycles, shared
        Of the memory: bytes per cycle in a direction; cycles from a burst's address to its first
        word, and from its last word to the answer of a write; whether reads and writes take turns,
        one burst at a time, each with its latency (at least 2 cycles then).
    simulator : str, optional
    wrong_bit : bool, default False
        Flip a bit of an expected result; the bench must find it.

    Returns
    -------
    dict of str to int
        ``cycles`` from the doorbell until all results are in memory (the register
        ``BUSY_CYCLES``), ``read_bytes`` and ``write_bytes`` that moved on the bus.
    """
    if config.bus != "master" or config.has_front_end or config.double_buffer:
        raise HalutError("config must have a bus master, one program and no front end")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random_job(folder, config, n_groups)
        job: dict[str, Any] = {
            "tiles": n_tiles, "bytes_per_cycle": bytes_per_cycle,
            "latency_cycles": latency_cycles, "shared": shared, "wrong_bit": wrong_bit,
        }  # fmt: skip
        (folder / "timing.json").write_text(json.dumps(job))
        built = build_axi(config, simulator=simulator)
        runner.run(built, "sim.benches.axi_timing", env={"HALUT_JOB": name})
        found: dict[str, int] = json.loads((folder / "cycles.json").read_text())
    return found
