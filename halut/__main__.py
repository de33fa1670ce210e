"""``python -m halut``: learn a program from matrices, look at it, multiply with it, measure."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import halut
from halut import bench, golden
from halut.arrays import load_matrix
from halut.cli import Parser, run
from halut.errors import HalutError
from halut.files import atomic_write
from halut.formats import FLOAT_FORMATS
from halut.matmul import LOSSES, HalutMatmul
from halut.memory import check_learning
from halut.nn import cli_analyse, cli_export, cli_fold, cli_formats, cli_stats, cli_train
from halut.output import OUTPUT_FORMATS, byte_grid
from halut.problems import relative_error
from halut.program import LUT_FORMATS, Program
from halut.quantize import INPUT_GRANULARITIES, LUT_GRANULARITIES

_log = logging.getLogger(__name__)


def _strength(text: str) -> str | float:
    try:
        return text if text == "auto" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'must be "auto" or a number, not {text!r}') from None


def _parser() -> Parser:
    parser = Parser(
        prog="python -m halut",
        description="Learn MADDNESS for a matrix product and run its bit-exact model.",
        epilog="Exit status: 0 done, 1 a check failed, 2 wrong input.",
    )
    parser.add_argument("--version", action="version", version=f"halut {halut.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_learn(verbs)
    _add_info(verbs)
    _add_multiply(verbs)
    _add_bench(verbs)
    cli_export.add_verb(verbs)
    cli_fold.add_verb(verbs)
    cli_formats.add_verb(verbs)
    cli_stats.add_verb(verbs)
    cli_analyse.add_verb(verbs)
    cli_train.add_verb(verbs)
    return parser


def _add_learn(verbs: Any) -> None:
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
    add("--num-c", type=int, default=16, metavar="N", help="codebooks C (default: %(default)s)")
    add("--num-k", type=int, default=16, metavar="N",
        help="prototypes K per codebook, a power of two (default: %(default)s)")  # fmt: skip
    add("--input", dest="input_format", default="int8", metavar="X",
        help="values and thresholds: fp16, bf16, fp8_e4m3, fp8_e5m2, int2 to int16 "
        "(default: %(default)s)")  # fmt: skip
    add("--lut-bits", type=int, default=8, metavar="N",
        help="width of a LUT entry in bits (default: %(default)s)")  # fmt: skip
    add(
        "--lut-format",
        choices=LUT_FORMATS,
        default="int",
        help="LUT entries: integers, or half floats of 16 bits (default: %(default)s)",
    )
    add("--lut-granularity", choices=LUT_GRANULARITIES, default="column",
        help="one LUT scale per output column, or per table (default: %(default)s)")  # fmt: skip
    add("--input-granularity", choices=INPUT_GRANULARITIES, default="codebook",
        help="what shares an integer input scale (default: %(default)s)")  # fmt: skip
    add("--output-format", choices=OUTPUT_FORMATS, default="raw",
        help="results: accumulators, half floats, or bytes whose grid spans the product of A "
        "(default: %(default)s)")  # fmt: skip
    add("--relu", action="store_true", help="results below zero become zero")
    add("--loss", choices=LOSSES, default="product",
        help="what trees minimise the error of (default: %(default)s)")  # fmt: skip
    add("--refine-passes", type=int, default=3, metavar="N",
        help="passes over all trees at most (default: %(default)s)")  # fmt: skip
    add("--ridge", type=_strength, default="auto", metavar="X",
        help="strength of the ridge regression (default: auto, by held-out rows)")  # fmt: skip
    add("--calibrate", action="store_true",
        help="round LUT entries jointly, by how A uses them; pays from 4 bits down")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N",
        help="seed of the choice of rows (default: %(default)s)")  # fmt: skip
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


def _learn(options: argparse.Namespace) -> int:
    learner = HalutMatmul(
        C=options.num_c,
        K=options.num_k,
        loss=options.loss,
        refine_passes=options.refine_passes,
        ridge=options.ridge,
        random_state=options.seed,
    )
    check_learning(options.a, options.b, options.num_c, options.num_k)
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


def _add_info(verbs: Any) -> None:
    verb = verbs.add_parser(
        "info", help="show what a program holds", description="Show what a program holds."
    )
    verb.add_argument("program", metavar="PROGRAM", help="program (.npz)")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    program = Program.load(options.program)
    facts: dict[str, Any] = {
        "n_features": program.n_features,
        "n_codebooks": program.n_codebooks,
        "n_prototypes": program.n_prototypes,
        "n_outputs": program.n_outputs,
        "input_format": program.input_format,
        "lut_bits": program.lut_bits,
        "lut_format": program.lut_format,
        "accumulator_bits": program.accumulator_bits,
        "output_format": program.output_format,
        "relu": program.relu,
        "lut_total_bits": program.lut.size * program.lut_bits,
        "threshold_total_bits": program.thresholds.size * program.input_bits,
        "lut_range": [program.lut.min().item(), program.lut.max().item()],
        "distinct_split_dims": len(np.unique(program.split_dims)),
        "provenance": program.provenance,
    }
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    provenance = facts.pop("provenance")
    for name, value in [*facts.items(), *sorted(provenance.items())]:
        shown = " to ".join(map(str, value)) if isinstance(value, list) else value
        print(f"{name:20} {shown}")
    return 0


def _add_multiply(verbs: Any) -> None:
    verb = verbs.add_parser(
        "multiply",
        help="run rows through the bit-exact model of a program",
        description="Run rows through the bit-exact model of a program.",
    )
    add = verb.add_argument
    add("--program", required=True, metavar="FILE", help="program (.npz)")
    add("--input", required=True, metavar="FILE", help="matrix A, n_rows x n_features (.npy)")
    add("--output", required=True, metavar="FILE", help="where to write the results (.npy)")
    add("--dequantize", action="store_true",
        help="write the product as float32 (default: what leaves the accelerator, after ReLU and "
        "conversion)")  # fmt: skip
    verb.set_defaults(run=_multiply)


def _multiply(options: argparse.Namespace) -> int:
    program = Program.load(options.program)
    words = program.input_words(load_matrix("--input", options.input))
    results: Any = golden.results(program, words)
    if options.dequantize:
        results = golden.dequantize(program, golden.matmul(program, words))
    with atomic_write(options.output) as temporary, open(temporary, "wb") as file:
        np.save(file, results)
    print(f"wrote {options.output}")
    return 0


def _add_bench(verbs: Any) -> None:
    verb = verbs.add_parser(
        "bench",
        help="measure accuracy and speed",
        description="Measure accuracy on fixed problems, learning, the online product beside "
        "A @ B, and PyTorch layers beside the exact ones, each in the same run.",
    )
    add = verb.add_argument
    add(
        "what",
        nargs="*",
        metavar="WHAT",
        default=[],
        help="accuracy, learn, online (default: these three), formats, layers (needs torch)",
    )
    add("--threads", type=int, default=1, metavar="N",
        help="threads of NumPy's BLAS (default: %(default)s)")  # fmt: skip
    add("-o", "--output", metavar="FILE", help="also write what was measured (.json)")
    verb.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    for name in options.what:
        if name not in _REPORTS:
            raise HalutError(
                f"WHAT must be {', '.join(_REPORTS)}, not {name!r}"
                f"{halut.errors.closest(name, _REPORTS)}"
            )
    if not 1 <= options.threads <= 1024:
        raise HalutError(f"--threads must be in [1, 1024], not {options.threads}")
    measured = {}
    for name in options.what or ("accuracy", "learn", "online"):
        result = measured[name] = bench.measured_alone(name, options.threads, {})
        print("\n".join(_REPORTS[name](result)), flush=True)
    if options.output:
        with atomic_write(options.output) as temporary:
            temporary.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
        print(f"wrote {options.output}")
    return 0


def _said(conditions: dict[str, Any]) -> str:
    return (
        f"  {conditions['machine']}, {conditions['threads']} thread(s), "
        f"Python {conditions['python']}, NumPy {conditions['numpy']}, {conditions['blas']}"
    )


def _accuracy_report(result: dict[str, Any]) -> list[str]:
    columns = ("problem", "C", "float", "fp16/8", "int8/8", "int8/4", "k-means", "reference",
               "bolt", "ratio")  # fmt: skip
    lines = [
        "accuracy: |AB - Y|^2 / |AB|^2 on unseen rows, K = 16; inputs/LUT bits as the accelerator",
        "  computes them; reference and bolt as published; ratio = float / reference",
        _said(result["conditions"]),
        "  {:9} {:>3}".format(*columns[:2]) + "".join(f"{name:>10}" for name in columns[2:]),
    ]
    for row in result["rows"]:
        names = ("float", "fp16_lut8", "int8_lut8", "int8_lut4", "k_means", "stella_nera", "bolt")
        values = "".join(f"{row[name]:10.5f}" for name in names)
        lines.append(f"  {row['problem']:9} {row['n_codebooks']:3}{values}{row['ratio']:10.3f}")
    return lines


def _formats_report(result: dict[str, Any]) -> list[str]:
    lines = [
        f"formats: scikit-learn's digits, 64 x 10, C = {result['n_codebooks']}, K = 16, "
        f"{result['n_test_rows']} unseen rows; |AB - Y|^2 / |AB|^2, and digits told rightly",
        _said(result["conditions"]),
        f"  {'inputs':10}{'LUT':8}{'output':8}{'error':>9}{'right':>9}",
        f"  {'exact product':26}{0:9.5f}{result['exact_right']:9.1%}",
    ]
    for row in result["rows"]:
        names = f"{row['input_format'] or 'float':10}{row['lut'] or 'float':8}{row['output']:8}"
        lines.append(f"  {names}{row['error']:9.5f}{row['right']:9.1%}")
    return lines


def _learn_report(result: dict[str, Any]) -> list[str]:
    return [
        "learn: N={n_rows} D={n_features} M={n_outputs} C={n_codebooks} K={n_prototypes}".format(
            **result
        ),
        _said(result["conditions"]),
        f"  processor time {result['cpu_s']:.2f} s, wall clock {result['wall_s']:.2f} s, peak "
        f"memory {result['peak_gb']:.2f} GB (before learning {result['peak_before_gb']:.2f} GB)",
        f"  error on unseen rows (float tables) {result['error']:.4f} after "
        f"{result['refine_passes']} passes",
    ]


def _online_report(result: dict[str, Any]) -> list[str]:
    return [
        "online: N={n_rows} D={n_features} M={n_outputs} C={n_codebooks} K={n_prototypes}, "
        "float32, medians of {repeats} turns".format(**result),
        _said(result["conditions"]),
        f"  A @ B {result['exact_ms']:.2f} ms, matmul_online {result['online_ms']:.2f} ms "
        f"(first call {result['first_ms']:.2f} ms), ratio {result['ratio']:.2f}",
        f"  encode {result['encode_ms']:.2f} ms, decode {result['decode_ms']:.2f} ms",
    ]


def _layers_report(result: dict[str, Any]) -> list[str]:
    conditions = result["conditions"]
    lines = [
        f"layers: forward + backward, medians of {result['repeats']} turns; memory: peak above "
        "what was there before",
        f"{_said(conditions)}, torch {conditions['torch']}",
    ]
    for row in result["rows"]:
        if row["format"] == "exact":
            lines.append(f"  {row['title']}")
        lines.append(
            f"    {row['format']:12} {row['ms']:8.1f} ms ({row['time_ratio']:5.2f} x) "
            f"{row['mb']:8.0f} MB ({row['memory_ratio']:5.2f} x)"
        )
    return lines


_REPORTS = {
    "accuracy": _accuracy_report,
    "formats": _formats_report,
    "learn": _learn_report,
    "online": _online_report,
    "layers": _layers_report,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _parser().parse_args(argv)
    verbose = getattr(options, "verbose", False)
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(run(main))
