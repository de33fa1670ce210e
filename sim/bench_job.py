"""Runs one matrix through the top module: the inside of `sim.simulate`.

The environment's ``HALUT_JOB`` is a folder with ``job.json`` (configuration, stall pattern, seed),
``program.npz`` and ``words.npy``; ``beats.npz`` and ``counts.json`` are written there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from halut.program import Program
from rtl_gen.config import AcceleratorConfig
from sim.accelerator import input_transfers, results
from sim.bench_matmul import TB
from sim.streams import stalls

_STUCK_CYCLES = 20_000


@cocotb.test()
async def job(dut: Any) -> None:
    """Load the program, send every row, collect every result."""
    folder = Path(os.environ["HALUT_JOB"])
    settings = json.loads((folder / "job.json").read_text())
    config = AcceleratorConfig.from_dict(settings["config"])
    words = np.load(folder / "words.npy")
    pattern, seed = settings["stall_pattern"], settings["seed"]
    transfers = input_transfers(config, words)
    n_beats = len(transfers) // config.n_groups * config.n_beats

    tb = TB(dut, config)
    beats: list[tuple[int, ...]] = []
    last_beat = 0

    def receive(item: tuple[int, ...]) -> None:
        nonlocal last_beat
        beats.append(item)
        if len(beats) >= n_beats:
            last_beat = tb.cycle

    tb.results.receive = receive
    await tb.start(stalls(pattern, "sink", seed))
    start = tb.cycle
    await tb.load(Program.load(folder / "program.npz"))
    load_cycles = tb.cycle - start
    # A written word settles for a cycle, which is no stall of the rows.
    await tb.edge
    await tb.edge

    first_transfer: int | None = None

    def on_sent() -> None:
        nonlocal first_transfer
        if first_transfer is None:
            first_transfer = tb.cycle

    sending = cocotb.start_soon(
        tb.rows.send(transfers, stalls(pattern, "source", seed), on_sent=on_sent)
    )
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
    for k, item in enumerate(beats):
        beat = k % config.n_beats
        rest = (beat,) if config.n_beats > 1 else ()
        assert item[1:] == (*rest, int(beat == config.n_beats - 1)), (
            f"output transfer {k} must be beat {beat} of its row group, not {item[1:]}"
        )
    assert first_transfer is not None
    outputs = results(config, [item[0] for item in beats], len(words))
    np.save(folder / "outputs.npy", outputs)
    counts = {
        "cycles": last_beat - first_transfer + 1,
        "load_cycles": load_cycles,
        "input_stall_cycles": tb.rows.stall_cycles,
        "output_stall_cycles": tb.results.stall_cycles,
    }
    (folder / "counts.json").write_text(json.dumps(counts))
