"""Runs matrices through the top module: the inside of `sim.simulate`.

The environment's ``HALUT_JOB`` is a folder with ``job.json`` (configuration, stall pattern, seed,
number of jobs) and, for each job k, ``program-k.npz`` and ``words-k.npy``; ``outputs-k.npy`` and
``counts.json`` are written there.

With `double_buffer` jobs use the banks in turns: each program is loaded while the rows of the job
before are sent. The last job's program is loaded into the other bank, too, while it runs. Then the
bank that it ran in is filled with other words, and the rows are sent once more; the results must be
the same.
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
from rtl_gen.image import program_image, switch_word
from rtl_gen.tiled_config import TiledConfig, config_from_dict
from sim.accelerator import input_transfers, results
from sim.bench_matmul import TB
from sim.streams import stalls


@cocotb.test()
async def jobs(dut: Any) -> None:
    """For each job: load its program, send every row, collect every result."""
    folder = Path(os.environ["HALUT_JOB"])
    settings = json.loads((folder / "job.json").read_text())
    config = config_from_dict(settings["config"])
    pattern, seed, n_jobs = settings["stall_pattern"], settings["seed"], settings["n_jobs"]
    tb = TB(dut, config)
    await tb.start(stalls(pattern, "sink", seed))
    pause = stalls(pattern, "source", seed)
    order = np.random.default_rng(seed)

    async def load(k: int, bank: int) -> int:
        """Write a job's program in a random order; return the cycles that it took."""
        image = program_image(config, Program.load(folder / f"program-{k}.npz"), bank)
        start = tb.cycle
        await tb.words.send([image[j] for j in order.permutation(len(image))])
        return tb.cycle - start

    counts = []
    unit = config.unit if isinstance(config, TiledConfig) else config
    if not unit.double_buffer:
        for k in range(n_jobs):
            load_cycles = await load(k, 0)
            beats, count = await _rows(tb, folder, k, pause)
            counts.append({**count, "load_cycles": load_cycles})
    else:
        load_cycles = await load(0, 0)
        for turn in range(n_jobs + 1):
            k, following = min(turn, n_jobs - 1), min(turn + 1, n_jobs - 1)
            loading = cocotb.start_soon(load(following, (turn + 1) % 2)) if turn < n_jobs else None
            before = None
            if turn == n_jobs:
                before = beats
                mask = (1 << config.program_data_bits) - 1
                image = program_image(
                    config, Program.load(folder / f"program-{k}.npz"), 1 - turn % 2
                )
                await tb.words.send([(address, data ^ mask) for address, data in image])
            beats, count = await _rows(tb, folder, k, pause)
            if before is None:
                counts.append({**count, "load_cycles": load_cycles})
            else:
                assert beats == before, "both banks must give the same results"
            if loading is not None:
                load_cycles = await loading
                await tb.words.send([switch_word(config, (turn + 1) % 2)])
    (folder / "counts.json").write_text(json.dumps(counts))


async def _rows(
    tb: TB, folder: Path, k: int, pause: Iterator[bool]
) -> tuple[list[tuple[int, ...]], dict[str, int]]:
    """Send a job's rows and save its results; return the output transfers and what was counted."""
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
    # A written word settles for a cycle, which is no stall of the rows.
    await tb.edge
    await tb.edge

    first_transfer: int | None = None

    def on_sent() -> None:
        nonlocal first_transfer
        if first_transfer is None:
            first_transfer = tb.cycle

    sending = cocotb.start_soon(tb.rows.send(transfers, pause, on_sent=on_sent))
    watching = tb.watch(lambda: True)
    while len(beats) < n_beats or not sending.done():
        await tb.edge
    watching.cancel()
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
    return beats, {
        "cycles": last_beat - first_transfer + 1,
        "input_stall_cycles": tb.rows.stall_cycles - stalled[0],
        "output_stall_cycles": tb.results.stall_cycles - stalled[1],
    }
