"""Testbench of `halut_convolution`: images in, the convolution's sums out, exactly.

The environment's ``HALUT_JOB`` is a folder with ``job.json`` (configuration of the front end),
``program.npz``, ``images.npy`` (words, (images, height, width, channels)) and ``expected.npy``
(sums, (pixels, outputs)).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from halut.program import Program
from rtl_gen.front_end import FrontEndConfig, gather_image
from rtl_gen.image import program_image
from sim.accelerator import output_fields, results
from sim.packing import pack
from sim.stalls import LONGEST_STALL, STALL_PATTERNS, stalls
from sim.streams import StreamDriver, StreamMonitor, watch


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(pattern=STALL_PATTERNS)
async def images_under_stalls(dut: Any, pattern: str) -> None:
    """Every sum of every image, whoever pauses."""
    folder = Path(os.environ["HALUT_JOB"])
    config = FrontEndConfig.from_dict(json.loads((folder / "job.json").read_text()))
    accelerator = config.accelerator
    program = Program.load(folder / "program.npz")
    images, expected = np.load(folder / "images.npy"), np.load(folder / "expected.npy")
    seed = cocotb.RANDOM_SEED
    beats: list[tuple[int, ...]] = []
    fields = ("address", "data")
    pixels = StreamDriver(dut, "i", dut.clk_i)
    tables = StreamDriver(dut, "program", dut.clk_i, fields=fields)
    loads = [(tables, program_image(accelerator, program))]
    if config.gathers:
        gather = StreamDriver(dut, "gather", dut.clk_i, fields=fields)
        loads.append((gather, gather_image(config, program)))
    sums = StreamMonitor(
        dut, "o", dut.clk_i, receive=beats.append, fields=output_fields(accelerator),
        wait=stalls(pattern, "sink", seed),
    )  # fmt: skip
    Clock(dut.clk_i, 2, unit="ns").start()
    edge = RisingEdge(dut.clk_i)
    dut.rst_ni.value = 0
    sums.in_reset = True
    cocotb.start_soon(sums.run())
    for _ in range(3):
        await edge
    dut.rst_ni.value = 1
    sums.in_reset = False
    # Padding at the end of a line and between images: as many row groups without a pixel.
    padding = 2 * config.width + accelerator.rows
    idle = padding * max(accelerator.n_groups, accelerator.n_beats) + accelerator.latency_cycles
    streams = (pixels, *(driver for driver, _ in loads), sums)
    cocotb.start_soon(watch(streams, lambda: True, 2 * (idle + 2 * LONGEST_STALL)))
    pause = stalls(pattern, "source", seed)
    for driver, words in loads:
        await driver.send(words, pause)
    await pixels.send(pack(images.reshape(-1, config.channels), accelerator.input_bits), pause)
    n_beats = len(expected) // accelerator.rows * accelerator.n_beats
    while len(beats) < n_beats:
        await edge
    for _ in range(accelerator.latency_cycles + 20):
        await edge
    assert len(beats) == n_beats > 0, f"{n_beats} transfers must come, not {len(beats)}"
    given = results(accelerator, [beat[0] for beat in beats], len(expected))
    wrong = int((given != expected).sum())
    assert wrong == 0, f"sums must equal the model: {wrong} of {expected.size} differ"
