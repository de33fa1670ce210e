"""``python -m rtl_gen schedule``: how a product of any size runs on an accelerator."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from halut.cli import Parser
from halut.errors import HalutError

from ..settings import add_flags, setting

if TYPE_CHECKING:
    from halut.schedule import Schedule

    from ..tiled_config import AnyConfig

__all__ = ["main", "report"]

_MOST_VISITS = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shape:
    """What flags say of the product besides its sizes."""

    codebook_width: int | None = setting(
        None, "--codebook-width", "columns of A per codebook", derived="the configuration's"
    )
    row_block: int | None = setting(
        None, "--row-block", "rows that stay while all tables are loaded", derived="all"
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rtl_gen schedule",
        description="Map a product of N rows, D columns and M outputs onto an accelerator, in both "
        "orders of its tiles: tables that stay while all rows stream past, or rows that stay while "
        "all tables are loaded. Cycles are those of the Verilog when nothing stalls.",
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="the accelerator, or several units (.yaml)")
    add("--shape", type=int, nargs=3, required=True, metavar=("N", "D", "M"),
        help="rows and columns of A, columns of B")  # fmt: skip
    add_flags(parser, {"": _Shape})
    add("--json", action="store_true", help="print JSON, with every step")
    return parser


def report(config: AnyConfig, plans: dict[str, Schedule], features: int) -> dict[str, Any]:
    """Return what `main` prints as JSON has it, for the schedules by their order."""
    plan = next(iter(plans.values()))
    return {
        "kind": "halut-schedule",
        "configuration": config.to_dict(),
        "n_rows": plan.n_rows,
        "n_features": features,
        "n_outputs": plan.n_outputs,
        "n_codebooks": plan.n_codebooks,
        "tiles": {"codebooks": plan.grid[0], "outputs": plan.grid[1]},
        "fewest_cycles": min(plans, key=lambda order: plans[order].cycles),
        "orders": {
            order: {
                "row_block": plan.row_block,
                "loads": plan.n_loads,
                "load_cycles": plan.load_cycles,
                "row_groups": plan.row_groups,
                "cycles": plan.cycles,
                "utilisation": plan.utilisation,
                "partial_sums": plan.partial_sums,
                "steps": [dataclasses.asdict(step) for step in plan.steps],
            }
            for order, plan in plans.items()
        },
    }


def _table(config: AnyConfig, found: dict[str, Any]) -> str:
    rows = {
        "programs loaded": "loads",
        "cycles of loading": "load_cycles",
        "row groups sent": "row_groups",
        "rows that stay": "row_block",
        "partial sums kept outside": "partial_sums",
        "cycles in all": "cycles",
        "utilisation": "utilisation",
    }
    orders = found["orders"]
    tiles = found["tiles"]
    lines = [
        f"{found['n_rows']} x {found['n_features']} x {found['n_outputs']}: "
        f"{found['n_codebooks']} codebooks, in {tiles['codebooks']} x {tiles['outputs']} tiles "
        f"(codebooks x outputs) of {config.n_codebooks} x {config.n_outputs} on {config.name}",
        "",
        " " * 26 + "".join(f"{order:>16}" for order in orders),
    ]
    for title, name in rows.items():
        cells = [order[name] for order in orders.values()]
        shown = [f"{c:.1%}" if isinstance(c, float) else f"{c:,}" for c in cells]
        lines.append(f"{title:26}" + "".join(f"{text:>16}" for text in shown))
    return "\n".join([*lines, "", f"fewest cycles: {found['fewest_cycles']}"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    from halut.schedule import ORDERS, schedule

    from ..machine import machine
    from ..tiled_config import load_config

    for flag, value in (
        *(("--shape", size) for size in arguments.shape),
        ("--codebook-width", arguments.codebook_width),
        ("--row-block", arguments.row_block),
    ):
        if value is not None and value < 1:
            raise HalutError(f"{flag} must be of integers of at least 1, not {value}")
    config = load_config(arguments.config)
    rows, features, outputs = arguments.shape
    codebooks = -(-features // (arguments.codebook_width or config.codebook_width))
    tiles = -(-codebooks // config.n_codebooks) * -(-outputs // config.n_outputs)
    blocks = -(-rows // (arguments.row_block or rows))
    if tiles * blocks > _MOST_VISITS:
        raise HalutError(
            f"--shape must give at most {_MOST_VISITS} tiles, each counted once per block of rows, "
            f"not {tiles * blocks}"
        )
    plans = {
        order: schedule(
            rows, codebooks, outputs, machine(config), order=order, row_block=arguments.row_block
        )
        for order in ORDERS
        if order != "auto"
    }
    found = report(config, plans, features)
    print(json.dumps(found, indent=2) if arguments.json else _table(config, found))
    return 0
