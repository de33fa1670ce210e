"""Runs matrices through the top module: the inside of `sim.simulate`.

The environment's ``HALUT_JOB`` is a folder with ``job.json`` (configuration, stall pattern, seed,
number of jobs) and, for each job k, ``program-k.npz`` and ``words-k.npy``; ``outputs-k.npy`` and
``counts.json`` are written there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from halut.program import Program
from rtl_gen.tiled_config import config_from_dict
from sim.accelerator import input_transfers, results
from sim.bench_matmul import TB
from sim.streams import stalls

_STUCK_CYCLES = 20_000


@cocotb.test()
async def jobs(dut: Any) -> None:
    """For each job: load its program, send every row, collect every result."""
    folder = Path(os.environ["HALUT_JOB"])
    settings = json.loads((folder / "job.json").read_text())
    config = config_from_dict(settings["config"])
    pattern, seed = settings["stall_pattern"], settings["seed"]
    tb = TB(dut, config)
    await tb.start(stalls(pattern, "sink", seed))
    pause = stalls(pattern, "source", seed)
    counts = [await _job(tb, folder, k, pause) for k in range(settings["n_jobs"])]
    (folder / "counts.json").write_text(json.dumps(counts))


async def _job(tb: TB, folder: Path, k: int, pause: Iterator[bool]) -> dict[str, int]:
    config = tb.config
    words = np.load(folder / f"words-{k}.npy")
    transfers = input_transfers(config, words)
    n_beats = len(transfers) // config.n_groups * config.n_beats
    stalled = (tb.rows.stall_cycles, tb.results.stall_cycles)
    beats: list[tuple[int, ...]] = []
    last_beat = 0

    def receive(item: tuple[int, ...]) -> None:
        nonlocal last_beat
        beats.append(item)
        if len(beats) >= n_beats:
            last_beat = tb.cycle

    tb.results.receive = receive
    start = tb.cycle
    await tb.load(Program.load(folder / f"program-{k}.npz"))
    load_cycles = tb.cycle - start
    # A written word settles for a cycle, which is no stall of the rows.
    await tb.edge
    await tb.edge

    first_transfer: int | None = None

    def on_sent() -> None:
        nonlocal first_transfer
        if first_transfer is None:
            first_transfer = tb.cycle

    sending = cocotb.start_soon(tb.rows.send(transfers, pause, on_sent=on_sent))
    # The edges are watched in strides; the streams' own tasks see every one of them.
    seen, idle = -1, 0
    while len(beats) < n_beats or not sending.done():
        await tb.edge
        if len(beats) == seen:
            idle += 1
            assert idle < _STUCK_CYCLES + 100 * config.n_groups, (
                f"{n_beats} results must come out, but after {len(beats)} nothing moved "
                f"for {idle} cycles"
            )
        else:
            seen, idle = len(beats), 0
    for _ in range(config.latency_cycles + 8):
        await tb.edge
    assert len(beats) == n_beats, f"{n_beats} output transfers must come, not {len(beats)}"
    for j, item in enumerate(beats):
        beat = j % config.n_beats
        rest = (beat,) if config.n_beats > 1 else ()
        assert item[1:] == (*rest, int(beat == config.n_beats - 1)), (
            f"output transfer {j} must be beat {beat} of its row group, not {item[1:]}"
        )
    assert first_transfer is not None
    outputs = results(config, [item[0] for item in beats], len(words))
    np.save(folder / f"outputs-{k}.npy", outputs)
    return {
        "cycles": last_beat - first_transfer + 1,
        "load_cycles": load_cycles,
        "input_stall_cycles": tb.rows.stall_cycles - stalled[0],
        "output_stall_cycles": tb.results.stall_cycles - stalled[1],
    }
