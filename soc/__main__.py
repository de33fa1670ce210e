"""``python -m soc``: a processor runs a network in simulation, in several ways, in one run."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import halut
from halut.checks import integer_in
from halut.cli import Parser, run
from halut.errors import HalutError
from halut.files import write_text
from rtl_gen.cfu.config import CfuConfig
from rtl_gen.config import AcceleratorConfig
from soc.firmware import COMPILER

__all__ = ["main"]

log = logging.getLogger("soc")

# Packages of Debian for the programs that are called.
_PROGRAMS = {
    COMPILER: "gcc-riscv64-unknown-elf",
    COMPILER.replace("gcc", "objcopy"): "binutils-riscv64-unknown-elf",
    "g++": "g++",
    "make": "make",
    "perl": "perl",
}
_CYCLES_PER_IMAGE = 100_000_000  # that no image needs


def check_programs() -> None:
    """Check that the programs are there.

    Raises
    ------
    HalutError
        Otherwise; one line with all packages that are missing.
    """
    absent = sorted({package for name, package in _PROGRAMS.items() if shutil.which(name) is None})
    if absent:
        raise HalutError(f"these packages must be installed: apt install {' '.join(absent)}")


def _parser() -> Parser:
    networks = "build/networks/digits_resnet9_int8"
    parser = Parser(
        prog="python -m soc",
        description="Build a system on a chip with LiteX and VexRiscv in Verilator, and classify "
        "images with a network as C: as plain INT8, looked up in software, with custom "
        "instructions, and with an accelerator on the bus. Every layer's integers are compared "
        "with the model's.",
    )
    add = parser.add_argument
    add("--network", default=f"{networks}/network.pt", metavar="FILE",
        help=f"network with looked-up layers (default: {networks}/network.pt)")  # fmt: skip
    add(
        "--base",
        metavar="FILE",
        help="that network before its layers were replaced (default: base.pt beside it)",
    )
    add("--litex", default="build/soc/venv/bin/python", metavar="PYTHON",
        help="Python with the extra `soc`, which make soc installs (default: "
        "build/soc/venv/bin/python)")  # fmt: skip
    add("--accelerator", default="configs/options/soc.yaml", metavar="FILE",
        help="accelerator on the bus (default: configs/options/soc.yaml)")  # fmt: skip
    add("--images", type=int, metavar="N",
        help="images with custom instructions, and with the accelerator "
        "(default: 100; 10 on a board)")  # fmt: skip
    add("--software-images", type=int, default=10, metavar="N",
        help="images looked up in software (default: 10)")  # fmt: skip
    add("--plain-images", type=int, default=1, metavar="N",
        help="images as plain INT8 (default: 1)")  # fmt: skip
    add("--timed", type=int, default=1, metavar="N",
        help="images of each that are run once more to count cycles (default: 1)")  # fmt: skip
    add("--lut-bits", type=int, default=CfuConfig().lut_bits, metavar="N",
        help="width of the entries that the custom function unit adds, 4 or 8, those of the "
        f"network's tables (default: {CfuConfig().lut_bits})")  # fmt: skip
    add("--n-sums", type=int, default=CfuConfig().n_sums, metavar="N",
        help="sums of the custom function unit, at most 64, a multiple of 64 / lut-bits "
        f"(default: {CfuConfig().n_sums})")  # fmt: skip
    add("--board", metavar="NAME",
        help="a bitstream for this board (python -m flow fpga --help): custom instructions only, "
        "memory on the chip, tables of 4 bits (default: none, but the comparison)")  # fmt: skip
    add("--check", action="store_true", help="only say which programs are missing")
    add("-o", "--output", default="build/soc", metavar="DIR", help="folder for all products")
    return parser


def _checked(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Check what was given; return the two networks."""
    if arguments.images is None:
        arguments.images = 10 if arguments.board else 100
    for name in ("images", "software_images", "plain_images", "timed"):
        integer_in(f"--{name.replace('_', '-')}", getattr(arguments, name), 1, 10_000)
    integer_in("--n-sums", arguments.n_sums, 8, 64)
    network = Path(arguments.network)
    base = Path(arguments.base) if arguments.base else network.with_name("base.pt")
    files = [("--network", network)] + ([] if arguments.board else [("--base", base)])
    for flag, path in files:
        if not path.is_file():
            raise HalutError(f"{flag} must be a network file (make network, or make soc): {path}")
    if not Path(arguments.litex).exists():
        raise HalutError(f"--litex must be a Python with LiteX (make soc): {arguments.litex}")
    return network, base


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    check_programs()
    if arguments.check:
        return 0
    network, base = _checked(arguments)
    config = CfuConfig(n_sums=arguments.n_sums, lut_bits=arguments.lut_bits)
    if arguments.board:
        return _bitstream(arguments, network, config)
    # What imports torch, after what can be wrong without.
    from halut.nn import need_torch
    from soc.accelerator import bus_block, taken, write_image
    from soc.bus_cycles import check_bus_cycles, read_bus_cycles
    from soc.expected import prepare, write_expected
    from soc.firmware import build_firmware
    from soc.report import bus_table, read_ways, table
    from soc.system import RAM_BYTES, ROM_BYTES, TABLES_BYTES, build_system

    need_torch()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    folder = Path(arguments.output)
    block = bus_block(AcceleratorConfig.from_yaml(arguments.accelerator))
    counts = (
        arguments.plain_images,
        arguments.software_images,
        arguments.images,
        arguments.images,
    )
    started = time.monotonic()
    log.info("[1/4] system: LiteX, then Verilator")
    system = build_system(Path(arguments.litex), config, block, folder / config.slug)
    log.info("[2/4] what the layers must give")
    plain = prepare(base, folder / "plain", counts[0])
    looked_up = prepare(network, folder / "looked_up", max(counts))
    write_expected(plain, looked_up, folder / "firmware", counts, arguments.timed)
    steps = taken(looked_up.steps, config.lut_bits)
    write_image(block, steps, folder / "firmware", TABLES_BYTES)
    log.info("[3/4] firmware")
    headers = [system.headers, folder / "firmware"]
    rom = build_firmware(
        plain.folder, looked_up.folder, headers, folder / "firmware", ROM_BYTES, RAM_BYTES
    )
    log.info("[4/4] simulation: %d, %d, %d and %d images", *counts)
    longest = _CYCLES_PER_IMAGE * (sum(counts) + 3 * arguments.timed + 1)
    text = system.run(rom, longest, timeout_s=3600)
    write_text(folder / "run.log", text)
    ways = read_ways(text, plain.layers, looked_up.layers)
    groups = read_bus_cycles(text, block, steps)
    print(_terminal(table(ways)))
    print(_terminal(bus_table(groups)))
    result = {
        "kind": "halut-soc-run",
        "version": 1,
        "halut": halut.__version__,
        "cfu": config.to_dict(),
        "block": block.to_dict(),
        "seconds": round(time.monotonic() - started, 1),
        "ways": [way.to_dict() for way in ways],
        "bus": [group.to_dict() for group in groups],
    }
    write_text(folder / "soc.json", json.dumps(result, indent=2) + "\n")
    print(f"wrote {folder / 'soc.json'}")
    check_bus_cycles(groups)
    return 0


def _bitstream(arguments: argparse.Namespace, network: Path, config: CfuConfig) -> int:
    from flow.fpga.parts import board
    from flow.report.terminal import summary
    from halut.nn import need_torch
    from soc.bitstream import make_bitstream

    place = board(arguments.board)
    need_torch()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    metrics, folder = make_bitstream(
        place, Path(arguments.litex), network, config, arguments.images, Path(arguments.output)
    )
    print(summary(metrics))
    print(f"wrote {folder / 'metrics.json'} and {folder / place.part.family.bitstream}")
    return 0


def _terminal(rows: Sequence[Sequence[str]]) -> str:
    """A table in columns; texts begin at the left, numbers end at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main))
