"""Programs, inputs and expected results for simulations of `halut_axi`."""

from __future__ import annotations

import numpy as np

from halut import golden
from halut.program import Program
from rtl_gen import reference
from rtl_gen.axi.config import AxiConfig
from rtl_gen.front_end import FrontEndConfig
from tests.rtl_gen.test_front_end import _case as front_end_case
from tests.rtl_gen.test_front_end import _words as gathered_words


def example(config: AxiConfig) -> tuple[Program, np.ndarray, np.ndarray]:
    """A program, what goes in, and what must come out."""
    if isinstance(config.core, FrontEndConfig):
        program, images = front_end_case(config.core, 3)
        return program, images, golden.matmul(program, gathered_words(program, images))
    a = config.accelerator
    rng = np.random.default_rng(1)
    program = reference.random_program(a, rng)
    shape = (12 * a.rows, a.n_codebooks, a.n_values)
    if a.input_format == "fp16":
        words = rng.standard_normal(shape).astype(np.float16).view(np.uint16)
    else:
        most = 1 << (a.input_bits - 1)
        words = rng.integers(-most, most, shape, dtype=np.int16)
    return program, words, reference.results(a, program, words)
