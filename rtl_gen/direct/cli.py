"""``python -m rtl_gen direct``: write the Verilog of an exact engine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from halut.cli import Parser
from halut.errors import HalutError, closest
from rtl_gen.config import AcceleratorConfig
from rtl_gen.flags import add_prefix_flag, wrote

from .config import ENGINES, EngineConfig, StoredMatrixConfig

__all__ = ["main"]


def _cuts(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be none or integers separated by commas, not {text!r}"
        ) from None


_DOT, _SYSTOLIC, _STORED = "dot-product", "systolic", "stored-matrix"
# flag, field, type, engines (all of them when empty), help
_FLAGS: tuple[tuple[str, str, Any, tuple[str, ...], str], ...] = (
    ("--input-bits", "input_bits", int, (), "width of an input in bits (default: 8)"),
    ("--weight-bits", "weight_bits", int, (), "width of a weight in bits (default: 8)"),
    ("--acc-bits", "acc_bits", int, (), "width of a sum in bits (default: cannot overflow)"),
    ("--cuts", "cuts", _cuts, (), "heights of the carry-save tree at which it has pipeline "
     "registers, like 6,2, or none (default: 4; systolic: none)"),
    ("--name", "name", str, (), "label of the configuration (default: custom)"),
    ("--length", "length", int, (_DOT,), "products per column and cycle (default: 16)"),
    ("--columns", "columns", int, (_DOT, _SYSTOLIC), "sums side by side (default: 16)"),
    ("--max-vectors", "max_vectors", int, (_DOT,), "vectors per sum, at most (default: 16)"),
    ("--weights", "weights", str, (_DOT,), "held in: ports, latch, ff (default: ports)"),
    ("--recode", "recode", str, (_DOT,), "Booth-recoded: inputs, weights, or "
     "synthesis to leave it to the tool (default: inputs)"),
    ("--rows", "rows", int, (_SYSTOLIC, _STORED), "inputs side by side: products per sum "
     "(default: 16); rows P of A in parallel (default: 1)"),
    ("--groups", "n_groups", int, (_STORED,), "transfers per row group (default: 16)"),
    ("--group-features", "group_features", int, (_STORED,), "features per transfer (default: 9)"),
    ("--num-m", "n_outputs", int, (_STORED,), "outputs M (default: 8)"),
    ("--outputs-per-cycle", "outputs_per_cycle", int, (_STORED,), "results W per output "
     "transfer (default: fewest that keep up)"),
    ("--memory", "memory", str, (_STORED,), "store: latch, ff (default: latch)"),
    ("--write-word-bits", "write_word_bits", int, (_STORED,), "bound on a program word in bits "
     "(default: 64)"),
)  # fmt: skip


def _config(arguments: argparse.Namespace) -> EngineConfig:
    engine = arguments.engine
    if engine not in ENGINES:
        raise HalutError(
            f"--engine must be one of {', '.join(ENGINES)}, not {engine!r}"
            f"{closest(engine, ENGINES)}"
        )
    values: dict[str, Any] = {}
    for flag, field, _, engines, _ in _FLAGS:
        value = getattr(arguments, field)
        if value is None:
            continue
        if engines and engine not in engines:
            raise HalutError(f"{flag} must be given for {' or '.join(engines)} only, not {engine}")
        values[field] = value
    if arguments.like is None:
        return ENGINES[engine](**values)
    if engine != "stored-matrix":
        raise HalutError(f"--like must be given for stored-matrix only, not {engine}")
    accelerator = AcceleratorConfig.from_yaml(arguments.like)
    return StoredMatrixConfig.of(accelerator, **values)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Parser(
        prog="python -m rtl_gen direct",
        description="Write the Verilog of an exact matrix engine, with multipliers, and its "
        "manifest.",
    )
    parser.add_argument("--engine", required=True, metavar="X", help=f"which: {', '.join(ENGINES)}")
    parser.add_argument(
        "--like",
        metavar="FILE",
        help="stored-matrix: the matrix and the throughput of this accelerator configuration",
    )
    for flag, field, kind, engines, text in _FLAGS:
        where = f"{', '.join(engines)}: " if engines else ""
        parser.add_argument(
            flag,
            dest=field,
            type=kind,
            metavar="X" if kind is str else "N",
            help=f"{where}{text}",
        )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="Verilog file, manifest and timing constraints go beside it; - for standard output "
        "(default: build/<slug>/rtl/<module>.v)",
    )
    add_prefix_flag(parser)
    arguments = parser.parse_args(argv)
    config = _config(arguments)
    from .generate import generate, write

    if arguments.output == "-":
        sys.stdout.write(generate(config, prefix=arguments.prefix).verilog)
        return 0
    path = write(config, arguments.output, prefix=arguments.prefix)
    print(
        f"{config.slug}\n"
        f"  work     {config.macs_per_cycle} MACs per cycle\n"
        f"  timing   latency {config.latency_cycles} cycles\n"
        f"  sums     {config.sums_per_transfer} x {config.accumulator_bits} bits per transfer"
    )
    print(wrote(path))
    return 0
