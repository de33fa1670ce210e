"""``python -m halut learn``: learn a program from matrices."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from halut import golden
from halut.arrays import load_matrix
from halut.costs import DENSE, read_areas
from halut.errors import HalutError
from halut.files import atomic_write
from halut.formats import FLOAT_FORMATS, check_sums
from halut.matmul import ENCODERS, LOSSES, MOST_AREA, HalutMatmul
from halut.memory import check_learning
from halut.output import OUTPUT_FORMATS, byte_grid
from halut.problems import relative_error
from halut.program import LUT_FORMATS
from halut.quantize import INPUT_GRANULARITIES, LUT_GRANULARITIES
from halut.ridge import MEANS
from halut.windows import check_granularity

_log = logging.getLogger(__name__)


def _strength(text: str) -> str | float:
    try:
        return text if text in ("auto", MEANS) else float(text)
    except ValueError:
        message = f'must be "auto", "means" or a number, not {text!r}'
        raise argparse.ArgumentTypeError(message) from None


def add_verb(verbs: Any) -> None:
    """Add ``learn`` to the command line."""
    verb = verbs.add_parser(
        "learn",
        help="learn a program from example rows A and a matrix B",
        description="Learn a program for the product of rows like those of A with B.",
    )
    add = verb.add_argument
    add("--a", required=True, metavar="FILE", help="example rows, n_rows x n_features (.npy)")
    add("--b", required=True, metavar="FILE", help="matrix B, n_features x n_outputs (.npy)")
    add("-o", "--output", required=True, metavar="FILE", help="program to write (.npz)")
    add("--test", metavar="FILE", help="further rows to measure the error on (.npy)")
    add("--num-c", type=int, default=16, metavar="N", help="codebooks C")
    add("--num-k", type=int, default=16, metavar="N",
        help="prototypes K per codebook, a power of two")  # fmt: skip
    add("--input", dest="input_format", default="int8", metavar="X",
        help="values and thresholds: fp16, bf16, fp8_e4m3, fp8_e5m2, int2 to int16")  # fmt: skip
    add("--lut-bits", type=int, default=8, metavar="N",
        help="width of a LUT entry in bits")  # fmt: skip
    add(
        "--lut-format",
        choices=LUT_FORMATS,
        default="int",
        help="LUT entries: integers, or half floats of 16 bits",
    )
    add("--lut-granularity", choices=LUT_GRANULARITIES, default="column",
        help="one LUT scale per output column, or per table")  # fmt: skip
    add("--input-granularity", choices=INPUT_GRANULARITIES, default="codebook",
        help="what shares an integer input scale")  # fmt: skip
    add("--output-format", choices=OUTPUT_FORMATS, default="raw",
        help="results: accumulators, half floats, or bytes whose grid spans the product of A"
        )  # fmt: skip
    add("--relu", action="store_true", help="results below zero become zero")
    add("--loss", choices=LOSSES, default="product",
        help="what trees minimise the error of")  # fmt: skip
    add("--encoder", choices=ENCODERS, default="tree",
        help="what a tree compares: one column per level, sums with signs, columns of its own "
        "group, all of which the accelerator takes, per level (window) or per node, or the best "
        "of these on rows that are held out (default: %(default)s)")  # fmt: skip
    add("--terms", type=int, metavar="N",
        help="columns in a sum, 2 to 16, for --encoder sums (default: 2)")  # fmt: skip
    add("--most-area", type=float, default=MOST_AREA, metavar="X",
        help="for --encoder best: area of the accelerator over that with trees "
        "(default: %(default)s)")  # fmt: skip
    add("--metrics", action="append", metavar="FILE",
        help="for --encoder best: metrics.json of an accelerator, which says what its encoder "
        "takes; given again for each encoder (default: configs/dense.yaml on NanGate45)"
        )  # fmt: skip
    add("--effort", type=int, default=0, metavar="N",
        help="0 to 3: time spent on better trees, which choose among all columns; about 5, 30 "
        "and 120 minutes at most")  # fmt: skip
    add("--refine-passes", type=int, default=3, metavar="N",
        help="passes over all trees at most")  # fmt: skip
    add("--ridge", type=_strength, default="auto", metavar="X",
        help="strength of the ridge regression, or means for none (default: auto, by held-out "
        "rows)")  # fmt: skip
    add("--calibrate", action="store_true",
        help="round LUT entries jointly, by how A uses them; pays from 4 bits down")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N",
        help="seed of the choice of rows")  # fmt: skip
    add("-v", "--verbose", action="store_true", help="say what is being done")
    verb.set_defaults(run=_learn)


def _warn_of_overflow(flag: str, rows: Any, input_format: str) -> None:
    """Warn of values that a floating format does not hold."""
    floating = FLOAT_FORMATS.get(input_format)
    if floating is None or rows is None:
        return
    beyond = sum(
        floating.overflows(rows[first : first + 4096]) for first in range(0, len(rows), 4096)
    )
    if beyond:
        _log.warning(
            "warning: %d of %d values of %s are beyond %s, which ends at %g",
            beyond,
            rows.size,
            flag,
            input_format,
            floating.largest_finite,
        )


def _described(chosen: Mapping[str, Any]) -> str:
    """Return which of the ways of learning was taken, in words."""
    encoder = f"sums of {chosen['terms']}" if "terms" in chosen else str(chosen["encoder"])
    return f"{encoder}, effort {chosen['effort']}, loss {chosen['loss']}"


def _learn(options: argparse.Namespace) -> int:
    learner = HalutMatmul(
        C=options.num_c,
        K=options.num_k,
        loss=options.loss,
        refine_passes=options.refine_passes,
        ridge=options.ridge,
        random_state=options.seed,
        encoder=options.encoder,
        terms=options.terms,
        effort=options.effort,
        most_area=options.most_area,
        areas=read_areas(options.metrics) if options.metrics else DENSE,
        progress=True,
    )
    for terms in learner.terms_to_choose:
        if terms > 1:
            check_sums(terms, options.input_format)
    if learner.takes_windows:
        check_granularity(options.input_granularity, options.input_format)
    check_learning(
        options.a, options.b, options.num_c, options.num_k, regression=options.ridge != MEANS
    )
    A, B = load_matrix("--a", options.a), load_matrix("--b", options.b)
    test = load_matrix("--test", options.test) if options.test else None
    if test is not None and test.shape[1] != len(B):
        raise HalutError(f"--test must have {len(B)} columns, not {test.shape[1]} ({options.test})")
    for flag, rows in (("--a", A), ("--test", test)):
        _warn_of_overflow(flag, rows, options.input_format)
    # Opened first: nobody waits for learning that cannot be saved.
    with atomic_write(options.output) as temporary:
        learner.learn_offline(A, B)
        program = learner.program(
            options.input_format,
            options.lut_bits,
            options.lut_granularity,
            options.input_granularity,
            A if options.calibrate else None,
            options.lut_format,
        )
        grid: dict[str, float] = {}
        if options.output_format == "int8":
            product = golden.dequantize(
                program, golden.matmul(program, program.input_words(A, quiet=True))
            )
            grid = dict(zip(("scale", "offset"), byte_grid(product, options.relu), strict=True))
        program = program.with_output(options.output_format, relu=options.relu, **grid)
        found = learner.quantisation_error(program, **grid)
        held_out = f"{found.error if found.held_out else np.nan:.6g}"
        program = dataclasses.replace(
            program, provenance=program.provenance | {"held_out_error": held_out}
        )
        program.save(temporary)
    if found.notable:
        _log.warning("warning: %s", found)
    stats = learner.stats_
    print(f"rows                 {stats.n_rows}")
    print(f"learned in           {stats.seconds:.1f} s, {stats.refine_passes} refining passes")
    if learner.encoder == "best" or learner.effort:
        print(f"chosen               {_described(learner.chosen_)}")
    print(f"ridge                {stats.ridge:g}")
    kind = "held-out" if found.held_out else "training"
    print(f"{kind + ' error':20} {found.error:.4g} (relative, squared, of the program as written)")
    print(f"{'  of float tables':20} {found.float_error:.4g} (before quantisation)")
    print(
        f"code entropy         {stats.code_entropy.mean():.2f} bits of {program.tree_depth} "
        f"(mean of the codebooks; lowest {stats.code_entropy.min():.2f})"
    )
    if test is not None:
        exact = test.astype(np.float64) @ B.astype(np.float64)
        words = program.input_words(test, quiet=True)
        product = golden.dequantize(program, golden.matmul(program, words))
        print(f"test error, float    {relative_error(learner.matmul_online(test), exact):.4g}")
        print(f"test error, program  {relative_error(product, exact):.4g}")
    print(f"wrote {options.output}")
    return 0
