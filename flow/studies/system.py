"""``python -m flow system``: what a whole network costs on an accelerator, layer by layer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flow.figures.metrics import read_metrics
from flow.report.table import fixed, terminal
from flow.run.flags import check_counts, positive_ns
from flow.studies.bus import BusSystem, Memory
from flow.studies.network_cost import system
from halut.cli import Parser
from halut.errors import HalutError
from halut.files import write_text
from halut.workloads import NETWORKS, in_file_name, named_network
from rtl_gen.axi.config import AxiConfig
from rtl_gen.tiled_config import AnyConfig, load_config

__all__ = ["main", "summary"]

_NETLISTS = {"layout": "routed layout", "synthesis": "synthesised netlist, no wires"}


def summary(figures: dict[str, Any]) -> str:
    """The table that the command prints."""
    total = figures["total"]
    clock = figures["clock_ns"]
    head = (
        f"{figures['network']} on {figures['units']} x {figures['configuration']['name']}, "
        f"batch {figures['batch']}, "
        + (f"clock {clock:g} ns" if clock else "no clock")
    )  # fmt: skip
    titles = ["layer", "rows", "C", "M", "tiles", "cycles", "load", "used"]
    units = [""] * len(titles)
    with_bus = "bus" in figures
    titles += ["wait", "moved", "bound by"] if with_bus else ["in", "out", "program"]
    units += ["", "kB", ""] if with_bus else ["GB/s"] * 3
    with_energy = total["energy_per_inference_pj"]["without_load"] is not None
    with_load = total["energy_per_inference_pj"]["total"] is not None
    if with_energy:
        titles.append("energy")
        units.append("µJ")
    lines = [titles, units]
    part = "total" if with_load else "without_load"
    for row in [*figures["layers"], None]:
        source = row or total
        cells = (
            [row["name"], str(row["rows"]), str(row["n_codebooks"]), str(row["n_outputs"])]
            if row
            else ["all", "", "", ""]
        )
        cycles = source["bus"]["cycles"] if with_bus else source["cycles"]
        cells += [
            fixed(source["tiles"]),
            fixed(cycles["total"]),
            f"{cycles['load'] / cycles['total']:.1%}",
            f"{source['utilisation']:.1%}",
        ]
        if with_bus:
            cells += [
                f"{cycles['wait'] / cycles['total']:.1%}",
                fixed(source["bus"]["bytes"]["total"], 1, 1e-3),
                row["bus"]["bound"] if row else "",
            ]
        else:
            cells += [
                fixed(source["streams"][name]["gbytes_per_s"], 3)
                for name in ("input", "output", "program")
            ]
        if with_energy:
            energy = source["energy_pj"] if row else source["energy_per_inference_pj"]
            batch = figures["batch"] if row else 1
            cells.append(fixed(energy[part], 3, 1e-6 / batch))
        lines.append(cells)
    text = [head, terminal(lines, indent=2)]
    if with_bus:
        text.append(_bus_line(figures["bus"], total["bus"]))
    text.append(
        f"inferences/s {fixed(total['inferences_per_s'], 1)}; tables: "
        f"{total['lut']['loaded_bits'] / 8e3:,.1f} kB loaded, "
        f"{total['lut']['read_bits'] / 8e3:,.1f} kB read"
    )
    if with_energy:
        kind = "" if with_load else " without loading the tables"
        netlist = _NETLISTS[figures["energy_measured_on"]]
        text.append(
            f"energy per inference{kind} (measured on the {netlist}): "
            f"{fixed(total['energy_per_inference_pj'][part], 3, 1e-6)} µJ"
        )
    if figures["exact_layers"]:
        names = ", ".join(f"{row['name']} ({row['reason']})" for row in figures["exact_layers"][:4])
        more = len(figures["exact_layers"]) - 4
        text.append(
            f"exact, not on this accelerator: {names}{f' and {more} more' if more > 0 else ''}; "
            + (
                "multiply-accumulates unknown"
                if total["exact_share_of_macs"] is None
                else f"{total['exact_share_of_macs']:.2%} of the multiply-accumulates"
            )
        )
    if total["exact_share_of_energy"] is not None:
        text.append(
            f"energy of the exact layers: "
            f"{fixed(total['exact_energy_per_inference_pj'], 3, 1e-6)} µJ, "
            f"{total['exact_share_of_energy']:.1%} of all"
        )
    text += [f"null: {what}: {why}" for what, why in figures["reasons"].items()]
    return "\n".join(text)


def _bus_line(bus: dict[str, Any], total: dict[str, Any]) -> str:
    """What the bus is, and what binds the network."""
    kind = "shared by reads and writes" if bus["shared"] else "each way"
    whole = total["cycles"]["total"]
    shares = ", ".join(f"{name} {n / whole:.0%}" for name, n in total["cycles_bound_by"].items())
    moved = ", ".join(
        f"{name} {fixed(total['bytes'][name], 1, 1e-3)}"
        for name in ("tables", "rows", "results", "descriptors")
    )
    return (
        f"memory: {bus['bytes_per_cycle']:g} bytes per cycle {kind}, latency "
        f"{bus['latency_cycles']} cycles, {bus['data_bits']} bits; kB moved: {moved}\n"
        f"cycles of layers by what binds them: {shares}"
    )


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flow system",
        description="Cycles, utilisation, bandwidth, table traffic, inferences per second and "
        "energy of a whole network on an accelerator, layer by layer. Layers that stay exact are "
        "listed with their share.",
    )
    add = parser.add_argument
    add("--network", required=True, metavar="NAME",
        help=f"{', '.join(NETWORKS)}, with arguments as in resnet9:width=8,image_size=28; or "
        "network.json of `python -m halut export`")  # fmt: skip
    add("--config", required=True, metavar="FILE", help="configuration of the accelerator (.yaml)")
    add("--metrics", metavar="FILE",
        help="metrics.json of `python -m flow synth` for --config: clock and energy "
        "(default: none, no energy)")  # fmt: skip
    add("--exact-metrics", metavar="FILE",
        help="metrics.json of a direct engine, for the layers that stay exact "
        "(default: none)")  # fmt: skip
    add("--clock-ns", type=float, metavar="NS",
        help="clock period in ns, without --metrics (default: none, no times)")  # fmt: skip
    add("--units", type=int, default=1, metavar="N", help="accelerators side by side")
    add("--batch", type=int, default=1, metavar="N",
        help="inferences that share one loading of the tables")  # fmt: skip
    add("--codebook-width", type=int, metavar="N",
        help="features of a codebook, where the network does not say (default: the area of a "
        "kernel; 8 in linear and 1x1 layers)")  # fmt: skip
    add("--memory-bytes", type=float, metavar="N",
        help="the accelerator is halut_axi: bytes per cycle that its bus and memory move each way "
        "(default: no bus; nothing stalls)")  # fmt: skip
    add("--memory-latency", type=int, metavar="N",
        help="cycles from a burst's address to its first word (default: none, no bus)")  # fmt: skip
    add("--shared-bus", action="store_true",
        help="reads and writes take turns on the bus, one burst at a time")  # fmt: skip
    for flag, text in (
        ("--data-bits", "width of the bus: 32, 64 or 128"),
        ("--burst-beats", "longest burst in words"),
        ("--outstanding", "bursts on their way"),
    ):
        default = getattr(AxiConfig, flag[2:].replace("-", "_"))
        add(flag, type=int, metavar="N", help=f"{text} (default: {default})")
    add("-o", "--output", default="build/system", metavar="DIR",
        help="folder for <network>-<configuration>.json")  # fmt: skip
    return parser


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = _parser().parse_args(argv)
    check_counts(arguments, units=4096, batch=1 << 20, codebook_width=1 << 20)
    positive_ns("--clock-ns", arguments.clock_ns)
    if arguments.clock_ns is not None and arguments.metrics:
        raise HalutError("--clock-ns must not be given with --metrics, which has its clock")
    return arguments


def _bus(arguments: argparse.Namespace, config: AnyConfig) -> BusSystem | None:
    """The bus that the flags describe, if they do."""
    names = ("data_bits", "burst_beats", "outstanding")
    sizes = {name: getattr(arguments, name) for name in names}
    sizes = {name: value for name, value in sizes.items() if value is not None}
    rate, latency = arguments.memory_bytes, arguments.memory_latency
    if rate is None and latency is None:
        if sizes or arguments.shared_bus:
            raise HalutError("--memory-bytes must be given with flags of the bus")
        return None
    if rate is None or latency is None:
        raise HalutError("--memory-bytes and --memory-latency must be given together")
    memory = Memory(bytes_per_cycle=rate, latency_cycles=latency, shared=arguments.shared_bus)
    return BusSystem(AxiConfig(core=config, **sizes), memory)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _arguments(argv)
    config = load_config(arguments.config)
    name, layers = named_network(arguments.network)
    try:
        figures = system(
            name,
            layers,
            config,
            units=arguments.units,
            batch=arguments.batch,
            codebook_width=arguments.codebook_width,
            clock_ns=arguments.clock_ns,
            metrics=read_metrics(Path(arguments.metrics)) if arguments.metrics else None,
            exact=read_metrics(Path(arguments.exact_metrics)) if arguments.exact_metrics else None,
            bus=_bus(arguments, config),
        )
    except HalutError as error:
        files = [file for file in (arguments.metrics, arguments.exact_metrics) if file]
        if "metrics must" in str(error) and files and not str(error).endswith(")"):
            raise HalutError(f"{error} ({', '.join(files)})") from None
        raise
    place = Path(arguments.output) / f"{in_file_name(name)}-{config.name}.json"
    write_text(place, json.dumps(figures, indent=2) + "\n")
    print(summary(figures))
    print(f"wrote {place}")
    return 0
