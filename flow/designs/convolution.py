"""An accelerator behind the front end of a 3x3 convolution, as a design for the flow."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from flow.designs.design import Design, Stream, Workload, accelerator
from halut import golden
from halut.program import Program
from halut.windows import window_columns
from rtl_gen import reference
from rtl_gen.convolution import generate_convolution
from rtl_gen.front_end import TAPS, FrontEndConfig, gather_image
from rtl_gen.image import program_image
from sim.accelerator import expected_beats
from sim.packing import pack

__all__ = ["convolution"]


def _program(config: FrontEndConfig, rng: np.random.Generator) -> Program:
    """A random program whose split dimensions are in a window of pixels."""
    program = reference.random_program(config.accelerator, rng)
    n_features = TAPS * config.channels
    if not config.gathers:
        columns = window_columns(n_features, program.n_codebooks)
        return dataclasses.replace(program, n_features=n_features, split_dims=columns)
    dims = rng.integers(0, config.n_choices, program.split_dims.shape)
    if config.gather == "channel":
        dims += TAPS * np.arange(program.n_codebooks)[:, None]
    return dataclasses.replace(program, n_features=n_features, split_dims=dims.astype(np.int32))


def _windows(images: NDArray[np.integer]) -> NDArray[np.integer]:
    """Every pixel's window, (images * height * width, channels * 9), zeros outside."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return windows.reshape(-1, images.shape[3] * TAPS)


def convolution(config: FrontEndConfig) -> Design:
    """A front end and its accelerator, with a random program and random images.

    Returns
    -------
    Design
        Its transfers in are pixels; `group_transfers` complete the first row group. Look-ups per
        cycle are those of a whole image, over the cycles that it takes.
    """
    a = config.accelerator
    line, place = divmod(a.rows - 1, config.width)
    # The window's corner, which is padding behind a line's end and below the image.
    first_group = (line + 1) * config.width + min(place + 2, config.width)
    core = accelerator(a)
    pixels = config.height * config.width
    look_ups = a.n_codebooks * a.n_outputs
    macs = TAPS * config.channels * a.n_outputs

    def workload(seed: int, n_transfers: int) -> Workload:
        rng = np.random.default_rng(seed)
        program = _program(config, rng)
        n_images = -(-n_transfers // pixels)
        n_words = n_images * pixels * config.channels
        words = golden.random_words(rng, program, -(-n_words // a.n_codebooks))[:, :, 0]
        images = words.reshape(-1)[:n_words].reshape(n_images, config.height, config.width, -1)
        rows = _windows(images)[:, program.split_dims]
        work = core.workload(seed, 1)
        gather = Stream(
            valid="gather_valid",
            ready="gather_ready",
            payload=("gather_address", "gather_data"),
            items=list(gather_image(config, program)),
        )
        return dataclasses.replace(
            work,
            setup=[
                *([gather] if config.gathers else []),
                dataclasses.replace(work.setup[0], items=list(program_image(a, program))),
            ],
            inputs=dataclasses.replace(
                work.inputs,
                items=[(word,) for word in pack(images.reshape(-1, config.channels), a.input_bits)],
            ),
            outputs=dataclasses.replace(
                work.outputs,
                items=[tuple(map(int, beat)) for beat in expected_beats(a, program, rows)],
            ),
            look_ups=look_ups,
            macs=macs,
            description="random program, random images",
        )

    return dataclasses.replace(
        core,
        name=f"{a.name} behind a front end",
        slug=config.slug,
        verilog=generate_convolution(config).verilog,
        top="halut_convolution",
        look_ups_per_cycle=pixels * look_ups / config.image_cycles,
        macs_per_cycle=pixels * macs / config.image_cycles,
        codebook_width=TAPS * config.channels / a.n_codebooks,
        interval_cycles=config.image_cycles,
        group_transfers=min(first_group, pixels),
        config_hash=config.hash,
        configuration=config.to_dict(),
        workload=workload,
        loading=None,
        labels={**core.labels, "halut_front_end": "front end", "halut_convolution": "top"},
    )
