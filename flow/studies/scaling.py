"""``python -m flow scale``: measured metrics carried to another technology, labelled as scaled.

From 130 to 7 nm with the factors of DeepScaleTool (S. Sarangi and B. Baas, "DeepScaleTool: A Tool
for the Accurate Estimation of Technology Scaling in the Deep-Submicron Era", ISCAS 2021), at each
node's nominal voltage. Beyond 7 nm with what the foundry announced, at equal speed: N5 against N7
1.84 times the logic density and 30 % less power (TSMC, IEDM 2019, as WikiChip reported in March
2020); N3 against N5 1.7 times the logic density and 25 to 30 % less power, of which 25 are taken
(TSMC Technology Symposium 2020, as AnandTech reported).

What comes out is no metrics file, so that nothing else of the flow reads it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flow.figures.metrics import UNITS, Metrics, base_provenance, read_metrics
from flow.report.table import markdown as table_markdown
from flow.report.table import terminal
from flow.studies.comparison import LEFT, PUBLISHED, Figures, measured_row, synthesised, table
from halut.cli import Parser
from halut.errors import HalutError, closest
from halut.files import write_text

__all__ = ["NODES", "Factors", "factors", "main", "markdown", "scale", "scaled_row"]


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What a value is multiplied by."""

    area: float
    delay: float
    energy: float

    @property
    def power(self) -> float:
        """Of the same work at the scaled clock."""
        return self.energy / self.delay

    def after(self, first: Factors) -> Factors:
        """`first`, then these."""
        return Factors(
            area=first.area * self.area,
            delay=first.delay * self.delay,
            energy=first.energy * self.energy,
        )


# DeepScaleTool: area relative to 45 nm, delay and energy relative to 65 nm.
_DEEPSCALE = {
    130: (8.3, 1.96, 2.52),
    90: (3.94, 1.31, 1.51),
    65: (2.04, 1.0, 1.0),
    45: (1.0, 0.81, 0.63),
    40: (0.75, 0.76, 0.55),
    32: (0.49, 0.70, 0.44),
    28: (0.35, 0.67, 0.37),
    22: (0.22, 0.62, 0.30),
    14: (0.08, 0.60, 0.19),
    10: (0.03, 0.57, 0.15),
    7: (0.011, 0.53, 0.11),
}
# Foundry: node, the node before, factors at equal speed.
_FOUNDRY = {
    5: (7, Factors(area=1 / 1.84, delay=1.0, energy=0.70)),
    3: (5, Factors(area=1 / 1.7, delay=1.0, energy=0.75)),
}
NODES = (*_DEEPSCALE, *_FOUNDRY)
_SOURCES = {
    "DeepScaleTool": "S. Sarangi, B. Baas, DeepScaleTool, ISCAS 2021; nominal voltages",
    "foundry": "TSMC: N5 against N7 (IEDM 2019, WikiChip March 2020), N3 against N5 (Technology "
    "Symposium 2020, AnandTech); equal speed, logic",
}
_PLATFORMS = {"nangate45": 45, "asap7": 7, "sky130hd": 130}

# What is scaled, and how; nothing else is carried over.
_SCALED = {
    "area": (
        "synth__design__instance__area__stdcell",
        "halut__clock_tree__area",
        "halut__area__per_mac_per_cycle",
    ),
    "delay": (
        "synth__timing__clock__period",
        "halut__timing__shortest_period",
    ),
    "energy": (
        "halut__energy__per_cycle",
        "halut__energy__per_look_up",
        "halut__energy__per_mac",
    ),
    "power": ("synth__power__total",),
    "none": (
        "halut__design__macs_per_cycle",
        "halut__design__look_ups_per_cycle",
        "halut__design__codebook_width",
    ),
}


def _check_node(node: int, name: str) -> None:
    if node not in NODES:
        known = ", ".join(map(str, NODES))
        raise HalutError(f"{name} must be one of {known} nm, not {node}")


def factors(source: int, target: int) -> Factors:
    """Factors from one node to another.

    Parameters
    ----------
    source, target : int
        In nm, of `NODES`; nothing leads back from 5 and 3.

    Raises
    ------
    HalutError
        When a node is not known.

    Examples
    --------
    >>> found = factors(45, 14)
    >>> round(found.area, 3), round(found.delay, 3), round(found.energy, 3)
    (0.08, 0.741, 0.302)
    """
    _check_node(source, "source node")
    _check_node(target, "--to")
    if source == target:
        return Factors(area=1.0, delay=1.0, energy=1.0)
    if target in _FOUNDRY:
        before, step = _FOUNDRY[target]
        return step.after(factors(source, before))
    if source in _FOUNDRY:
        raise HalutError(f"source node must be at least 7 nm for {target} nm, not {source}")
    old, new = _DEEPSCALE[source], _DEEPSCALE[target]
    return Factors(area=new[0] / old[0], delay=new[1] / old[1], energy=new[2] / old[2])


def source_node(metrics: Metrics) -> int:
    """Node of the platform that was measured on, in nm."""
    platform = metrics.provenance.get("platform")
    if platform not in _PLATFORMS:
        raise HalutError(
            f"--from must be given for a platform other than {', '.join(_PLATFORMS)}, "
            f"not {platform}"
        )
    return _PLATFORMS[platform]


def scale(metrics: Metrics, target: int, source: int | None = None) -> dict[str, Any]:
    """Carry metrics to another node.

    Parameters
    ----------
    metrics : Metrics
        Measured.
    target : int
        In nm.
    source : int, optional
        By default the platform's.

    Returns
    -------
    dict
        Ready for JSON: ``label`` is ``"scaled"``, with the factors, their sources, and what was
        measured.
    """
    begin = source_node(metrics) if source is None else source
    by = factors(begin, target)
    ratio = {"none": 1.0, "power": by.power, **asdict(by)}
    names = [(name, kind) for kind, group in _SCALED.items() for name in group]
    values = {
        name: None if (value := metrics.values.get(name)) is None else value * ratio[kind]
        for name, kind in names
    }
    used = []
    if begin != max(target, 7):
        used.append("DeepScaleTool")
    if target in _FOUNDRY:
        used.append("foundry")
    return {
        "version": 1,
        "kind": "halut-scaled-metrics",
        "label": "scaled",
        "from_nm": begin,
        "to_nm": target,
        "factors": {**asdict(by), "power": by.power},
        "sources": [_SOURCES[name] for name in used],
        "metrics": values,
        "units": {name: UNITS[name] for name in values},
        "measured": {name: metrics.values.get(name) for name in values},
        "measured_provenance": metrics.provenance,
        "provenance": base_provenance(),
    }


# The comparison table


def scaled_row(scaled: Mapping[str, Any]) -> Figures:
    source = scaled["measured_provenance"]
    technology = f"{source.get('platform')} to {scaled['to_nm']} nm"
    return synthesised(str(source.get("design")), technology, "scaled", scaled["metrics"])


_MEANING = f"""\
- One multiply-accumulate is two operations; a look-up stands for as many as a codebook has columns.
- **measured**: cell area after synthesis and sizing, energy of the simulated netlist, no wires.
- **scaled**: the measured row times published factors, an estimate.
  {_SOURCES["DeepScaleTool"]}.
  Below 7 nm: {_SOURCES["foundry"]}.
- **published**: as its authors give it, with wires, in part at a reduced voltage; – is what they do
  not give.
"""


def markdown(rows: Sequence[Figures]) -> str:
    """The table as Markdown, with what it means below it."""
    return f"{table_markdown(table(rows), LEFT)}\n{_MEANING}"


# The command line


def nodes(text: str) -> list[int]:
    """Nodes of a list like ``14nm,3nm``.

    Examples
    --------
    >>> nodes("14nm, 7")
    [14, 7]
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:nm)?\s*", part)
        if not match:
            hint = closest(part, [f"{node}nm" for node in NODES])
            raise HalutError(f"--to must be nodes like 14nm,7nm, not {part!r}{hint}")
        node = int(match[1])
        _check_node(node, "--to")
        found.append(node)
    return found


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m flow scale",
        description="Carry measured metrics to another technology with published factors "
        "(DeepScaleTool; foundry figures below 7 nm), and put them beside what others published. "
        "Scaled rows are labelled; the files written are no metrics files.",
    )
    add = parser.add_argument
    add("metrics", nargs="+", metavar="METRICS", help="metrics.json of `python -m flow synth`")
    add("--to", required=True, metavar="NODES",
        help=f"nodes like 14nm,7nm; known: {', '.join(map(str, NODES))}")  # fmt: skip
    add("--from", dest="source", type=int, metavar="NM",
        help="node in nm that was measured on (default: the platform's)")  # fmt: skip
    add("-o", "--output", default="build/scaled", metavar="DIR",
        help="folder for one JSON per row and comparison.md")  # fmt: skip
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _arguments(argv)
    targets = nodes(arguments.to)
    rows: list[Figures] = []
    files: dict[str, str] = {}
    for name in arguments.metrics:
        metrics = read_metrics(Path(name))
        rows.append(measured_row(metrics))
        for target in targets:
            try:
                scaled = scale(metrics, target, arguments.source)
            except HalutError as error:
                raise HalutError(f"{error} ({name})") from None
            rows.append(scaled_row(scaled))
            source = metrics.provenance
            stem = f"{source.get('slug')}-{source.get('platform')}-to-{target}nm"
            files[f"{stem}.json"] = json.dumps(scaled, indent=2) + "\n"
    rows += PUBLISHED
    files["comparison.md"] = markdown(rows)
    folder = Path(arguments.output)
    for file, text in files.items():
        write_text(folder / file, text)
    print(terminal(table(rows), LEFT))
    print(f"wrote {', '.join(str(folder / file) for file in files)}")
    return 0
