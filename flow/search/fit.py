"""``python -m flow fit``: configurations that meet budgets of area, clock, error and energy.

Candidates are learned (the error is exact) and estimated with the analytic model; the best ones
are synthesised, and only those that are then measured within every budget are proposed.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from flow.cells.platform_file import read_platform
from flow.search.cluster import add_cluster, check_cluster, connected
from flow.search.model import shipped_model
from flow.search.points import Row
from flow.search.quantities import AREA, ENERGY, RATE, RATIO, TIME, Quantity
from flow.search.space import BUILD, BUILTIN, Data, Space
from flow.search.sweep import Sweep, quiet_flow
from halut.cli import Parser
from halut.errors import CheckFailed, HalutError
from halut.files import write_text

__all__ = ["Budget", "broken", "candidates", "given_data", "main", "rank"]

log = logging.getLogger(__name__)

GOALS = ("area", "energy", "error", "throughput")
_MAX_CODEBOOKS = 64


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A limit that a configuration must keep."""

    name: str  #: ``area``, ``clock``, ``error``, ``energy`` (per MAC) or ``throughput``.
    limit: float  #: In the unit of `quantity`; the least for throughput, the most for the others.
    quantity: Quantity

    def excess(self, value: float) -> float:
        """By how much of the limit a value breaks it; 0 or less when it does not."""
        ratio = self.limit / value if self.name == "throughput" else value / self.limit
        return ratio - 1


def broken(budgets: Sequence[Budget], values: Mapping[str, float]) -> dict[str, float]:
    """The budgets that values break, and by how much of the limit; infinite when unknown."""
    excess = {
        b.name: b.excess(values[b.name]) if b.name in values else float("inf") for b in budgets
    }
    return {name: share for name, share in excess.items() if share > 0}


def _worst(budgets: Sequence[Budget], values: Mapping[str, float]) -> float:
    return max(broken(budgets, values).values(), default=0.0)


def _cost(values: Mapping[str, float], goal: str) -> float:
    """Smaller is better."""
    return (-1 if goal == "throughput" else 1) * values.get(goal, 0.0)


def rank(rows: Sequence[Row], budgets: Sequence[Budget], goal: str) -> list[Row]:
    """Estimated candidates: those within all budgets first, best by `goal`; then the closest."""

    def order(row: Row) -> tuple[float, float, int]:
        values = row.estimated
        return _worst(budgets, values), _cost(values, goal), row.point.index

    return sorted((row for row in rows if row.estimate is not None), key=order)


def candidates(data: Data, name: str = "fit") -> Space:
    """What is searched without a space: pipelined encoders, INT8 inputs, 8-bit tables.

    C runs over the divisors of the columns of A up to 64, K over 4, 8 and 16, P and Q over powers
    of two.
    """
    n_features = len(data.B)
    C = [c for c in range(2, _MAX_CODEBOOKS + 1) if n_features % c == 0] or [1]
    return Space(
        name=name,
        base={"encoder": "pipelined", "input_format": "int8"},
        axes={
            "n_codebooks": C,
            "n_prototypes": [4, 8, 16],
            "rows": [1, 2, 4, 8],
            "parallel_codebooks": [q for q in (1, 2, 4, 8, 16, 32, 64) if q <= max(C)],
        },
    )


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow fit",
        description="Propose configurations that meet budgets: candidates are learned and "
        "estimated, the best ones synthesised, and those proposed that are measured within every "
        "budget.",
        epilog="Exit status: 0 something fits, 1 nothing does, 2 wrong input or something missing.",
    )
    add = parser.add_argument
    add("--clock", required=True, metavar="PERIOD", help="such as 2ns or 500MHz")
    add("--area", metavar="AREA", help="most cell area, such as 0.5mm2 (default: any)")
    add("--error", metavar="RATIO",
        help="most relative squared error of the product on test rows, such as 0.05 or 5%% "
        "(default: any)")  # fmt: skip
    add("--energy", metavar="ENERGY", help="most energy per MAC, such as 0.05pJ (default: any)")
    add("--throughput", metavar="RATE",
        help="least multiply-accumulates, such as 100GMAC/s (default: any)")  # fmt: skip
    add("--data", metavar="NAME",
        help=f"built-in data: {', '.join(BUILTIN)} (default: --a and --b, or the "
        "space's)")  # fmt: skip
    add("--a", metavar="FILE", help="rows to learn from (.npy; default: --data)")
    add("--b", metavar="FILE", help="matrix to multiply with (.npy; default: --data)")
    add("--test", metavar="FILE", help="rows to judge by (.npy; default: the last fifth of --a)")
    add("--space", metavar="FILE",
        help="space of candidates (.yaml; default: by the data's columns)")  # fmt: skip
    add("--platform", default="nangate45", metavar="NAME", help="a platform with a fitted model")
    add("--goal", default="area", choices=GOALS, metavar="NAME",
        help=f"what is best within the budgets: {', '.join(GOALS)}")  # fmt: skip
    add("--verify", type=int, default=3, metavar="N", help="candidates to synthesise")
    add_cluster(parser)
    add("--build", default=str(BUILD), metavar="DIR",
        help="folder of finished points, shared with sweeps")  # fmt: skip
    add("-o", "--output", default="build/fit", metavar="DIR",
        help="folder of the proposed configurations")  # fmt: skip
    add("-v", "--verbose", action="store_true", help="say more")
    return parser


def given_data(arguments: argparse.Namespace, space: Space | None) -> Data | None:
    """The data that flags name, or else the space's."""
    files = (arguments.a, arguments.b)
    if arguments.data is not None and any(files):
        raise HalutError("--data must not be given with --a and --b")
    if any(files) != all(files) or (arguments.test and not all(files)):
        raise HalutError("--a and --b must be given together, and --test only with them")
    if arguments.data is not None:
        return Data.builtin(arguments.data)
    if all(files):
        test = Path(arguments.test) if arguments.test else None
        return Data.from_files(Path(arguments.a), Path(arguments.b), test)
    if space is None:
        raise HalutError("data must be given: --data NAME, --a and --b, or --space with data")
    return space.load_data()


def _space(arguments: argparse.Namespace, clock: float) -> tuple[Space, Data | None]:
    given = Space.from_yaml(arguments.space) if arguments.space else None
    data = given_data(arguments, given)
    if given is not None:
        space = given
    else:
        assert data is not None
        space = candidates(data)
    for name in ("platform", "clock_ns", "target_ns"):
        if name in space.axes:
            raise HalutError(
                f"{name} must not be an axis here: it is an option ({arguments.space})"
            )
    base = {k: v for k, v in space.base.items() if k != "target_ns"}
    base |= {"platform": arguments.platform, "clock_ns": clock}
    return dataclasses.replace(space, base=base), data


def _budgets(arguments: argparse.Namespace) -> list[Budget]:
    kinds = {"clock": TIME, "area": AREA, "error": RATIO, "energy": ENERGY, "throughput": RATE}
    return [
        Budget(name=name, limit=kind.parse(f"--{name}", text), quantity=kind)
        for name, kind in kinds.items()
        if (text := getattr(arguments, name)) is not None
    ]


def _misses(budgets: Sequence[Budget], values: Mapping[str, float]) -> str:
    by_name = {b.name: b for b in budgets}
    return ", ".join(
        f"{name} {by_name[name].quantity.show(values[name])} instead of "
        f"{by_name[name].quantity.show(by_name[name].limit)} ({share:.0%} off)"
        if name in values
        else f"{name} unknown"
        for name, share in broken(budgets, values).items()
    )


def _report(rows: Sequence[Row], budgets: Sequence[Budget]) -> str:
    lines = []
    for row in rows:
        lines.append(row.point.config.slug if row.point.config else "")
        if row.status != "measured":
            lines.append(f"  {row.message}")
            continue
        before, after = row.estimated, row.measured
        for b in budgets:
            modelled = b.name in ("area", "energy", "clock")
            estimate = f", estimated {before[b.name]:.4g}" if modelled else ""
            got = b.quantity.show(after[b.name]) if b.name in after else "not measured"
            verdict = "broken" if b.name in broken(budgets, after) else "kept"
            lines.append(f"  {b.name:<10} {got} of {b.quantity.show(b.limit)}: {verdict}{estimate}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m flow fit``; returns the exit status."""
    arguments = _parser().parse_args(argv)
    check_cluster(arguments)
    if not 1 <= arguments.verify <= 1000:
        raise HalutError(f"--verify must be an integer in [1, 1000], not {arguments.verify}")
    budgets = _budgets(arguments)
    platform = read_platform(arguments.platform)
    if shipped_model(platform.name) is None:
        raise HalutError(
            f"--platform must have a fitted model, unlike {platform.name} "
            f"(python -m flow model fit --platform {platform.name})"
        )
    platform.liberty_files()
    space, data = _space(arguments, budgets[0].limit)
    if data is None and arguments.error is not None:
        raise HalutError("--error must come with data")
    quiet_flow(arguments.verbose)
    sweep = Sweep(space, Path(arguments.build), data)
    with connected(arguments.scheduler, arguments.workers) as client:
        sweep.prepare(client)
        ranked = rank(sweep.rows, budgets, arguments.goal)
        if not ranked:
            raise HalutError("the space must have points that the model can estimate, not none")
        within = sum(not broken(budgets, row.estimated) for row in ranked)
        chosen = ranked[: arguments.verify]
        log.info(
            "%d candidates, %d within the budgets by estimate; synthesising %d",
            len(ranked), within, len(chosen),
        )  # fmt: skip
        sweep.run(client, rows=chosen)
    print(_report(chosen, budgets))
    done = [row for row in chosen if row.status == "measured"]
    fitting = sorted(
        (row for row in done if not broken(budgets, row.measured)),
        key=lambda row: (_cost(row.measured, arguments.goal), row.point.index),
    )
    if not fitting:
        closest = min(done, key=lambda row: _worst(budgets, row.measured), default=None)
        text = "no candidate could be measured"
        if closest is not None and closest.point.config is not None:
            text = f"closest is {closest.point.config.slug}: {_misses(budgets, closest.measured)}"
        raise CheckFailed(
            f"a configuration must keep every budget, but none of the {len(chosen)} best of "
            f"{len(ranked)} candidates does; {text}"
        )
    folder = Path(arguments.output)
    written = []
    for number, row in enumerate(fitting, 1):
        assert row.point.config is not None
        path = folder / f"{space.name}_{number}.yaml"
        write_text(path, yaml.safe_dump(row.point.config.to_dict(), sort_keys=False))
        written.append(str(path))
    print(f"{len(fitting)} of {len(chosen)} fit, best first by {arguments.goal}")
    print(f"wrote {', '.join(written)}")
    return 0
