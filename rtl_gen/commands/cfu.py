"""``python -m rtl_gen cfu``: write the Verilog of a custom function unit, and its C header."""

from __future__ import annotations

from collections.abc import Sequence

from halut.cli import Parser

from ..cfu.config import CfuConfig
from ..cfu.generate import generate, write
from ..settings import add_flags, given_settings
from .output import add_output_flags, deliver

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Parser(
        prog="python -m rtl_gen cfu",
        description="Write the Verilog of a custom function unit for VexRiscv's CFU port or "
        "PicoRV32's PCPI, its manifest and the C header of its instructions.",
    )
    configs = {"cfu": CfuConfig}
    add_flags(parser, configs)
    add_output_flags(parser, "halut_cfu.v, or halut_pcpi.v")
    arguments = parser.parse_args(argv)
    config = CfuConfig(**given_settings(arguments, configs))
    summary = (
        f"  encodes  trees of {config.tree_depth} levels, 2 levels per instruction\n"
        f"  adds     {config.lanes} entries of {config.lut_bits} bits per instruction to "
        f"{config.n_sums} sums of {config.acc_bits} bits\n"
        f"  exact    up to {config.most_codebooks:,} codebooks"
    )
    if arguments.output == "-":
        return deliver(generate(config, prefix=arguments.prefix), config.slug, "-", summary)
    path = write(config, arguments.output, prefix=arguments.prefix)
    print(f"{config.slug}\n{summary}")
    names = [path, *(path.with_suffix(end) for end in (".json", ".sdc", ".h"))]
    print(f"wrote {', '.join(map(str, names[:-1]))} and {names[-1]}")
    return 0
