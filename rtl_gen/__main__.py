"""``python -m rtl_gen``: write the Verilog of one accelerator."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from halut.cli import Parser, run
from halut.errors import HalutError
from halut.golden import OVERFLOWS
from halut.output import OUTPUT_FORMATS
from halut.program import LUT_FORMATS

from .config import ENCODERS, MEMORIES, AcceleratorConfig
from .flags import add_prefix_flag, wrote
from .tiled_config import TILES, AnyConfig, config_from_dict

# flag, field of AcceleratorConfig, type, help
FLAGS: tuple[tuple[str, str, type, str], ...] = (
    ("--num-c", "n_codebooks", int, "codebooks C"),
    ("--num-k", "n_prototypes", int, "prototypes K per codebook, a power of two"),
    ("--num-m", "n_outputs", int, "outputs M, one decoder column each"),
    ("--rows", "rows", int, "rows of A in parallel P"),
    ("--parallel-codebooks", "parallel_codebooks", int, "codebooks per cycle Q, divides C"),
    ("--outputs-per-cycle", "outputs_per_cycle", int, "results W per output transfer"),
    ("--encoder", "encoder", str, f"tree walk: {', '.join(ENCODERS)}"),
    (
        "--input",
        "input_format",
        str,
        "values and thresholds: fp16, bf16, fp8_e4m3, fp8_e5m2, or int2 to int16",
    ),
    ("--lut-bits", "lut_bits", int, "width of a LUT entry in bits"),
    ("--lut-format", "lut_format", str, f"LUT entries: {', '.join(LUT_FORMATS)} (of 16 bits)"),
    ("--acc-bits", "acc_bits", int, "width of an accumulator in bits"),
    (
        "--overflow",
        "overflow",
        str,
        f"what an accumulator narrower than needed does: {', '.join(OVERFLOWS)}",
    ),
    ("--output-format", "output_format", str, f"results: {', '.join(OUTPUT_FORMATS)}"),
    ("--relu", "relu", bool, "results below zero become zero"),
    ("--memory", "memory", str, f"LUT store: {', '.join(MEMORIES)}"),
    ("--write-word-bits", "write_word_bits", int, "bound on a program word in bits"),
    ("--tree-levels", "tree_levels_per_stage", int, "tree levels per stage (pipelined encoder)"),
    ("--look-up-adder-levels", "look_up_adder_levels", int, "adder-tree levels in the look-up"),
    ("--adder-levels", "adder_levels_per_stage", int, "adder-tree levels per later stage"),
    ("--double-buffer", "double_buffer", bool, "store two programs, one loaded while one computes"),
    ("--codebook-width", "codebook_width", int, "columns of A per codebook, to count MACs"),
    ("--name", "name", str, "label of the configuration"),
)
_DERIVED = {
    "acc_bits": "lut bits + ceil(log2 C)",
    "outputs_per_cycle": "fewest that keep up",
    "overflow": "there is none",
}


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--config`` and one flag per field of the configuration."""
    parser.add_argument("--config", metavar="FILE", help="YAML configuration; flags override it")
    defaults = {f.name: f.default for f in dataclasses.fields(AcceleratorConfig)}
    for flag, field, kind, text in FLAGS:
        default = _DERIVED.get(field, defaults[field])
        if kind is bool:
            parser.add_argument(
                flag,
                dest=field,
                action=argparse.BooleanOptionalAction,
                help=f"{text} (default: {'yes' if default else 'no'})",
            )
            continue
        parser.add_argument(
            flag,
            dest=field,
            type=kind,
            metavar="N" if kind is int else "X",
            help=f"{text} (default: {default})",
        )
    for key in TILES:
        parser.add_argument(
            f"--tile-{key}",
            type=int,
            metavar="N",
            help=f"units side by side in {key} (default: a single unit, or 1)",
        )


def config_from_flags(arguments: argparse.Namespace) -> AnyConfig:
    """The configuration that `add_config_flags`' arguments stand for.

    A value that an overridden field made stale (the derived accumulator width or output width of
    the file) is derived anew only if the file did not set it.
    """
    values: dict[str, Any] = {"version": 1}
    where = ""
    if arguments.config is not None:
        values = AcceleratorConfig.read_yaml(arguments.config)
        where = f" ({arguments.config})"
    for _, field, _, _ in FLAGS:
        value = getattr(arguments, field)
        if value is not None:
            values[field] = value
    tiles = {key: getattr(arguments, f"tile_{key}") for key in TILES}
    given = {key: count for key, count in tiles.items() if count is not None}
    if given:
        before = values.get("tiles", {})
        values["tiles"] = {**before, **given} if isinstance(before, dict) else before
    try:
        return config_from_dict(values)
    except HalutError as error:
        raise HalutError(f"{error}{where}") from None


def _summary(config: AnyConfig) -> str:
    c = config
    units = "" if isinstance(c, AcceleratorConfig) else f"  units    {c.n_units}\n"
    return (
        f"{c.slug}\n{units}"
        f"  ports    in {c.rows * c.parallel_codebooks * c.tree_depth * c.input_bits} bits, "
        f"out {c.output_width} x {c.result_bits} bits, "
        f"program {c.program_address_bits} + {c.program_data_bits} bits\n"
        f"  timing   latency {c.latency_cycles} cycles, one group of {c.rows} row(s) every "
        f"{c.interval_cycles} cycle(s)\n"
        f"  work     {c.look_ups_per_cycle:g} look-ups per cycle, {c.macs_per_cycle:g} MACs "
        f"replaced per cycle at codebook width {c.codebook_width}\n"
        f"  memory   {c.lut_total_bits} LUT bits, {c.threshold_total_bits} threshold bits"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["direct"]:
        from .direct.cli import main as direct

        return direct(argv[1:])
    if argv[:1] == ["front-end"]:
        from .front_end_cli import main as front_end

        return front_end(argv[1:])
    if argv[:1] == ["schedule"]:
        from .schedule_cli import main as schedule

        return schedule(argv[1:])
    parser = Parser(
        prog="python -m rtl_gen",
        description="Write the Verilog of a MADDNESS accelerator and its manifest.",
        epilog="python -m rtl_gen front-end --help: behind a front end for 3x3 convolutions. "
        "python -m rtl_gen schedule --help: products of any size on it, tile by tile. "
        "python -m rtl_gen direct --help: the exact engines that it is compared with.",
    )
    add_config_flags(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="Verilog file, manifest and timing constraints go beside it; - for standard output "
        "(default: build/<slug>/rtl/halut_matmul.v, or halut_tiled.v)",
    )
    add_prefix_flag(parser)
    arguments = parser.parse_args(argv)
    config = config_from_flags(arguments)
    from .generate import generate, write

    if arguments.output == "-":
        sys.stdout.write(generate(config, prefix=arguments.prefix).verilog)
        return 0
    path = write(config, arguments.output, prefix=arguments.prefix)
    print(_summary(config))
    print(wrote(path))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
