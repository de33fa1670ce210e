"""``python -m flow ratio``: an inference looked up beside an exact one, with their accuracies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flow.figures.metrics import read_metrics
from flow.report.table import fixed, terminal
from flow.run.flags import check_counts
from flow.studies.equal_accuracy import Accuracy, beside, read_accuracy
from halut.cli import Parser
from halut.files import write_text
from halut.workloads import NETWORKS, in_file_name, named_network
from rtl_gen.tiled_config import load_config

__all__ = ["main", "summary"]

_NETLISTS = {
    "layout": "routed layouts; areas are those of the dies",
    "synthesis": "synthesised netlists: no wires; areas are those of the cells",
}
_SIDES = {"looked_up": "looked up", "exact": "exact"}
# Row of the table: name in `per_inference`, unit, digits.
_TOTALS = (
    ("area_mm2", "area (mm²)", 3),
    ("time_us", "time per inference (µs)", 2),
    ("energy_uj", "energy per inference (µJ)", 3),
    ("energy_area", "energy x area (µJ mm²)", 3),
    ("time_area", "time x area (µs mm²)", 2),
)
_PARTS = (
    ("stream", "  rows"),
    ("load", "  loading"),
    ("other_cycles", "  leakage in other cycles"),
    ("waiting_engine", "  leakage of the engine that waits"),
    ("without_padding", "energy if padding cost nothing (µJ)"),
)


def summary(figures: dict[str, Any]) -> str:
    """The text that the command prints."""
    sides = {word: figures[name] for name, word in _SIDES.items()}
    clock = figures["clock_ns"]
    lines = [
        f"batch {figures['batch']}, clock {clock:g} ns; measured on "
        f"{_NETLISTS[figures['measured_on']]}"
    ]
    for word, side in sides.items():
        engines = ", ".join(f"{name} {area:,.0f} µm²" for name, area in side["area_um2"].items())
        lines.append(f"{word}: {side['network']} on {engines}; accuracy {_accuracy(side)}")
        lines.append(_layers(side, figures["batch"]))
    lines += [_table(figures), _verdict(figures["accuracy"])]
    sums = " and ".join(fixed(side["per_inference"]["partial_sums"]) for side in sides.values())
    lines.append(
        f"not counted on either side: additions of partial sums outside ({sums} per inference), "
        "memories for inputs, results, tables and weights, activations and pooling"
    )
    return "\n".join(lines)


def _accuracy(side: dict[str, Any]) -> str:
    if side["accuracy"] is None:
        return "not given"
    return f"{side['accuracy']:.2%} of {side['images']:,} test images ({side['arithmetic']})"


def _layers(side: dict[str, Any], batch: int) -> str:
    titles = ["layer", "engine", "rows", "D", "M", "tiles", "cycles", "load", "used", "energy"]
    rows = [titles, ["", "", "", "", "", "", "", "", "", "µJ"]]
    for row in side["layers"]:
        cycles = row["cycles"]
        rows.append(
            [
                row["name"],
                row["engine"],
                fixed(row["rows"]),
                fixed(row["n_features"]),
                fixed(row["n_outputs"]),
                fixed(row["tiles"]),
                fixed(cycles["total"]),
                f"{cycles['load'] / cycles['total']:.1%}",
                f"{row['utilisation']:.1%}",
                fixed(row["energy_pj"]["total"], 4, 1e-6 / batch),
            ]
        )
    return terminal(rows, indent=2)


def _table(figures: dict[str, Any]) -> str:
    mine, theirs = (figures[name]["per_inference"] for name in _SIDES)
    rows = [["whole", *_SIDES.values(), "exact / looked up"]]

    def add(title: str, values: tuple[float, float], digits: int, ratio: bool = False) -> None:
        last = fixed(values[1] / values[0], 2) if ratio else ""
        rows.append([title, *(fixed(value, digits) for value in values), last])

    for name, title, digits in _TOTALS:
        add(title, (mine[name], theirs[name]), digits, ratio=True)
        if name == "energy_uj":
            for part, words in _PARTS:
                add(words, (mine["energy_pj"][part] * 1e-6, theirs["energy_pj"][part] * 1e-6), 3)
            of_exact = mine["energy_of_direct_layers_uj"], theirs["energy_of_direct_layers_uj"]
            add("energy of exact layers (µJ)", of_exact, 3)
    add("look-ups", (mine["look_ups"], theirs["look_ups"]), 0)
    add("multiply-accumulates", (mine["macs_computed"], theirs["macs_computed"]), 0)
    kilobytes = sum(mine["bits"].values()) / 8e3, sum(theirs["bits"].values()) / 8e3
    add("moved over the ports (kB)", kilobytes, 1)
    return terminal(rows, indent=2)


def _verdict(found: dict[str, Any] | None) -> str:
    """Whether the ratios are at equal accuracy, in words."""
    if found is None:
        return "accuracies were not given for both: this is no comparison at equal accuracy"
    points = 100 * found["exact_minus_looked_up"]
    if found["equal"]:
        text = "accuracies are equal"
    else:
        better = "exact" if points > 0 else "looked-up"
        text = (
            f"accuracies differ: the {better} network is {abs(points):.2f} points better "
            f"(standard error of such a difference: {100 * found['standard_error']:.2f} points)"
        )
    if not found["same_arithmetic"]:
        text += "; they were not measured in the same arithmetic"
    return text


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow ratio",
        description="Area, time and energy of an inference, whole: a network looked up, with a "
        "direct engine for its exact layers, beside an exact network on the direct engine. "
        "Loading of tables and weights is counted, and leakage of engines that wait. Accuracies "
        "are printed beside, and how far they are apart.",
    )
    add = parser.add_argument
    known = f"{', '.join(NETWORKS)}, with arguments as in resnet9:width=8,image_size=28"
    add("--network", required=True, metavar="NAME",
        help=f"the looked-up one: {known}; or network.json of "
        "`python -m halut export`")  # fmt: skip
    add("--config", required=True, metavar="FILE",
        help="configuration of the look-up engine (.yaml)")  # fmt: skip
    add("--metrics", required=True, metavar="FILE",
        help="metrics.json of the look-up engine (python -m flow synth, pnr or bench)")  # fmt: skip
    add("--beside", required=True, metavar="NAME",
        help="the exact one, likewise; all of its layers are computed exactly")  # fmt: skip
    add("--direct-metrics", required=True, metavar="FILE",
        help="metrics.json of a direct engine that holds its weights, measured alike "
        "(python -m flow bench --rows dot_product_latch)")  # fmt: skip
    add("--accuracy", metavar="FILE",
        help="of --network: summary.json of `python -m halut train`, or what `python -m halut "
        "evaluate -o` wrote (default: not known)")  # fmt: skip
    add("--beside-accuracy", metavar="FILE", help="of --beside, likewise (default: not known)")
    add("--batch", type=int, default=1, metavar="N",
        help="inferences that share one loading of tables and weights")  # fmt: skip
    add("--units", type=int, default=1, metavar="N", help="look-up engines side by side")
    add("--direct-units", type=int, default=1, metavar="N",
        help="direct engines side by side, of --beside")  # fmt: skip
    add("--codebook-width", type=int, metavar="N",
        help="features of a codebook in looked-up layers, where the network does not say "
        "(default: the area of a kernel; 8 in linear and 1x1 layers)")  # fmt: skip
    add("-o", "--output", default="build/ratio", metavar="DIR",
        help="folder for <network>-<configuration>-beside-<network>-batch<N>.json")  # fmt: skip
    return parser


def _given(flag: str, path: str | None, *, looked_up: bool) -> Accuracy | None:
    return None if path is None else read_accuracy(flag, path, looked_up=looked_up)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    check_counts(arguments, units=4096, direct_units=4096, batch=1 << 20, codebook_width=1 << 20)
    config = load_config(arguments.config)
    looked_up, exact = named_network(arguments.network), named_network(arguments.beside)
    figures = beside(
        looked_up,
        exact,
        config,
        metrics=read_metrics(Path(arguments.metrics)),
        direct=read_metrics(Path(arguments.direct_metrics)),
        accuracies=(
            _given("--accuracy", arguments.accuracy, looked_up=True),
            _given("--beside-accuracy", arguments.beside_accuracy, looked_up=False),
        ),
        batch=arguments.batch,
        units=arguments.units,
        direct_units=arguments.direct_units,
        codebook_width=arguments.codebook_width,
    )
    name = f"{looked_up[0]}-{config.name}-beside-{exact[0]}-batch{arguments.batch}"
    place = Path(arguments.output) / f"{in_file_name(name)}.json"
    write_text(place, json.dumps(figures, indent=2) + "\n")
    print(summary(figures))
    print(f"wrote {place}")
    return 0
