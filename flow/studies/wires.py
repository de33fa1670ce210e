"""``python -m flow wires``: capacitance of a platform's layers, fitted to extracted layouts.

Placement and repair take a wire's capacitance as its length times `ff_per_um` of its layer
(``layout.wire.layers`` of the platform file). Extraction knows the neighbours of each wire. The
least-squares fit of its totals by the lengths on each layer says what `ff_per_um` should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flow.cells.platform_file import read_platform
from flow.layout.lefdef import read_lef, read_net_lengths
from flow.netlist.spef import net_capacitances
from flow.report.html.runs import metrics_of
from flow.report.table import fixed, terminal
from halut.cli import Parser
from halut.errors import HalutError

__all__ = ["LEAST_MM", "Fit", "fit", "main"]

LEAST_MM = 1.0
"""Layers with shorter wires in all are not fitted, mm."""


@dataclass(frozen=True)
class Fit:
    """What was found."""

    lengths: dict[str, float]  #: Of all wires on each layer, um.
    ff_per_um: dict[str, float]  #: Of the layers with at least `LEAST_MM`.
    extracted: float  #: All nets, fF.
    left: float  #: Root mean square of what the fit leaves of a net, fF.
    n_nets: int


def fit(lengths: Mapping[str, Mapping[str, float]], extracted: Mapping[str, float]) -> Fit:
    """Fit capacitances per length.

    Parameters
    ----------
    lengths : mapping of str to mapping of str to float
        Of each net on each layer, um.
    extracted : mapping of str to float
        Total capacitance of each net, fF.

    Raises
    ------
    HalutError
        When no layer has wires enough, or no net is in both.
    """
    nets = [name for name in lengths if name in extracted]
    totals: dict[str, float] = {}
    for name in nets:
        for layer, length in lengths[name].items():
            totals[layer] = totals.get(layer, 0.0) + length
    layers = [layer for layer, length in totals.items() if length >= 1000 * LEAST_MM]
    if not layers:
        raise HalutError(f"a layer must have at least {LEAST_MM:g} mm of wires, not none")
    matrix = np.array([[lengths[name].get(layer, 0.0) for layer in layers] for name in nets])
    wanted = np.array([extracted[name] for name in nets])
    found = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    rest = wanted - matrix @ found
    return Fit(
        lengths=totals,
        ff_per_um=dict(zip(layers, found.tolist(), strict=True)),
        extracted=float(wanted.sum()),
        left=float(np.sqrt(np.mean(rest**2))),
        n_nets=len(nets),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = Parser(
        prog="python -m flow wires",
        description="Fit the capacitance of wires on each layer to the extraction of a routed run, "
        "beside what its platform file says: ff_per_um of layout.wire.layers.",
    )
    parser.add_argument("run", metavar="DIR", help="folder of a routed run (with metrics.json)")
    arguments = parser.parse_args(argv)
    metrics, path = metrics_of(arguments.run)
    platform = read_platform(metrics.provenance["platform"])
    folder = path.parent / "pnr"
    if platform.layout is None or not platform.layout.extraction:
        raise HalutError(f"a platform must have extraction rules, not {platform.name} ({path})")
    for name in ("final.def", "final.spef"):
        if not (folder / name).is_file():
            raise HalutError(f"a run must be routed (python -m flow pnr): no {folder / name}")
    lef = read_lef(platform.lef_files())
    lengths = read_net_lengths(folder / "final.def", lef)
    found = fit(lengths, net_capacitances(folder / "final.spef"))
    print(terminal(_table(found, platform.layout.wire.get("layers", {}), list(lef.layers))))
    print(
        f"{found.n_nets:,} nets, {found.extracted / 1e3:,.1f} pF extracted; the fit leaves "
        f"{found.left:.2f} fF of a net (root mean square)"
    )
    return 0


def _table(
    found: Fit, platform: Mapping[str, Mapping[str, float]], layers: Sequence[str]
) -> list[list[str]]:
    rows = [["layer", "wires (mm)", "the platform's (fF/um)", "fitted (fF/um)"]]
    for layer in layers:
        if layer in found.lengths:
            now = platform.get(layer, {}).get("ff_per_um")
            length = found.lengths[layer]
            rows.append([
                layer, fixed(length, 1, 1e-3), fixed(now, 4), fixed(found.ff_per_um.get(layer), 4),
            ])  # fmt: skip
    return rows
