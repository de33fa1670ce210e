"""Runs a schedule through the top module: the inside of `sim.simulate_schedule`.

The environment's ``HALUT_JOB`` is a folder with ``job.json`` (configuration, stall pattern, seed,
steps as (kind, tile, first row, last row, bank)), ``tile-T.npz`` and ``words-T.npy`` of every tile;
``outputs-K.npy`` of the K-th "rows" step and ``counts.json`` are written there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import Event

from halut.program import Program
from rtl_gen.image import program_image, switch_word
from rtl_gen.tiled_config import config_from_dict
from sim.accelerator import input_transfers, output_fields, results
from sim.bench_matmul import TB
from sim.streams import stalls


@cocotb.test()
async def steps(dut: Any) -> None:
    """Every step as soon as the one before was taken."""
    folder = Path(os.environ["HALUT_JOB"])
    job = json.loads((folder / "job.json").read_text())
    config = config_from_dict(job["config"])
    tb = TB(dut, config)
    beats: list[tuple[int, ...]] = []
    last_beat = 0

    def receive(item: tuple[int, ...]) -> None:
        nonlocal last_beat
        beats.append(item)
        last_beat = tb.cycle

    tb.results.receive = receive
    await tb.start(stalls(job["stall_pattern"], "sink", job["seed"]))
    pause = stalls(job["stall_pattern"], "source", job["seed"])
    order = np.random.default_rng(job["seed"])
    items: list[list[Any]] = []
    due = []
    for kind, tile, first, last, bank in job["steps"]:
        if kind == "load":
            program = Program.load(folder / f"tile-{tile}.npz")
            image = program_image(config, program, bank)
            items.append([image[j] for j in order.permutation(len(image))])
        elif kind == "switch":
            items.append([switch_word(config, bank)])
        else:
            words = np.load(folder / f"words-{tile}.npy")[first:last]
            items.append(input_transfers(config, words))
            due.append((last - first, -(-(last - first) // config.rows) * config.n_beats))
    kinds = [step[0] for step in job["steps"]]
    ready = "switch" if "switch" in kinds else "load"
    done = [Event() for _ in kinds]

    def last_of(kind: str, k: int) -> list[int]:
        return [j for j in range(k) if kinds[j] == kind][-1:]

    async def write() -> None:
        for k, kind in enumerate(kinds):
            if kind == "rows":
                continue
            if kind == ready:
                for j in last_of("rows", k):
                    await done[j].wait()
            await tb.words.send(items[k], writer_pause)
            done[k].set()

    start = tb.cycle + 1
    writer_pause = stalls(job["stall_pattern"], "source", job["seed"] + 1)
    writing = cocotb.start_soon(write())
    watching = tb.watch(lambda: True)
    for k, kind in enumerate(kinds):
        if kind == "rows":
            for j in last_of(ready, k):
                await done[j].wait()
            await tb.rows.send(items[k], pause)
            done[k].set()
    await writing
    n_beats = sum(count for _, count in due)
    while len(beats) < n_beats:
        await tb.edge
    watching.cancel()
    for _ in range(config.latency_cycles + 8):
        await tb.edge
    assert len(beats) == n_beats, f"{n_beats} output transfers must come, not {len(beats)}"
    last_at = output_fields(config).index("last")
    for j, item in enumerate(beats):
        beat = j % config.n_beats
        assert item[last_at] == int(beat == config.n_beats - 1), f"last of transfer {j} is wrong"
    taken = 0
    for k, (n_rows, count) in enumerate(due):
        data = [item[0] for item in beats[taken : taken + count]]
        np.save(folder / f"outputs-{k}.npy", results(config, data, n_rows))
        taken += count
    (folder / "counts.json").write_text(json.dumps({"cycles": last_beat - start + 1}))
