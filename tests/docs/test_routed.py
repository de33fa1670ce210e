"""Figures of layouts in README and docs are those of the metrics beside the pages of layouts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flow.figures.metrics import Metrics
from flow.studies.equal_accuracy import beside
from flow.studies.layouts import markdown, read_layout
from halut.workloads import Layer, network
from rtl_gen.tiled_config import load_config

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("LAYOUTS*.md"))
EXACT_ENGINE = "dot_product_latch"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_of_layouts_is_what_its_metrics_say(page: Path) -> None:
    """Every figure of the page is that of the files beside it, which are all of its folder."""
    text = page.read_text()
    folder = page.with_suffix("")
    linked = re.findall(rf"; \[all metrics\]\({folder.name}/(\S+)\)$", text, re.M)
    if not linked:
        pytest.skip("the page was written before metrics were kept beside it")
    command = re.search(r"^- command: `(.*)`$", text, re.M)
    assert command
    runs = [read_layout(str(folder / name)) for name in linked]
    assert text == markdown(runs, folder.name, command[1])
    pictures = {path.name for run in runs for path in run.pictures.values()}
    assert {path.name for path in folder.iterdir()} == {*linked, *pictures}


def _rows(page: str, head: str) -> list[list[str]]:
    """Cells of the table that begins with `head`."""
    table = re.search(rf"^\| {head} .*?\n\n", (ROOT / page).read_text(), re.S | re.M)
    assert table
    lines = table[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@cache
def _metrics(page: str, design: str, clock: str = "2") -> Metrics | None:
    """Those of a design beside a page; None where the page keeps none."""
    runs = [read_layout(str(path)) for path in (ROOT / "docs" / page).glob("*.json")]
    found = [
        run.metrics
        for run in runs
        if (run.title, f"{run.metrics.provenance['clock_ns']:g}") == (design, clock)
    ]
    assert len(found) == 1 or not runs
    return found[0] if found else None


def test_figures_of_the_readme() -> None:
    """And how many times less they are than the first row's."""
    first: tuple[float, float] | None = None
    found = []
    for title, link, clock, *cells in _rows("README.md", "design"):
        design, page = re.search(r"\(`(\w+)`\)$", title), re.search(r"\(docs/(\w+)\.md\)", link)
        assert design and page
        metrics = _metrics(page[1], design[1], clock)
        if metrics is None:
            continue
        both = (
            metrics.values["halut__routed__die_area_per_mac_per_cycle"],
            metrics.values["halut__routed__energy_per_mac"],
        )
        assert both[0] and both[1]
        first = first or both
        for cell, value, of_first in zip(cells, both, first, strict=True):
            shown = re.fullmatch(r"([\d,.]+)(?: \(([\d.]+) times less\))?", cell)
            assert shown
            assert shown[1] == f"{value:,.{len(shown[1].partition('.')[2])}f}"
            assert shown[2] is None or shown[2] == f"{of_first / value:.1f}"
        found.append(design[1])
    assert found[0] == EXACT_ENGINE and len(found) >= 5


def _resnet9(width: int) -> tuple[str, tuple[Layer, ...]]:
    name = f"resnet9:in_channels=1,image_size=28,width={width}"
    return name, network(name)


LOOKED_UP = {
    "codebooks of 9 values, 4-bit tables": (16, 9, "dense_p4_q4_m16_lut4"),
    "codebooks of 9 values, 4-bit tables, width 8": (8, 9, "dense_p4_q4_m16_lut4"),
    "codebooks of 9 values, 8-bit tables": (16, 9, "dense_p4_q4_m16"),
    "codebooks of 2 values, 4-bit tables": (16, 2, "dense_p4_q4_m16_lut4"),
    "codebooks of 2 values, 8-bit tables": (16, 2, "dense_p4_q4_m16"),
}
EXACT = (16, 8, 4, 3, 2)  # widths


def _whole(looked_up: tuple[int, int, str], exact: int, batch: int) -> dict[str, dict[str, Any]]:
    """Both sides of `flow ratio`, per inference."""
    width, codebook, design = looked_up
    metrics, direct = _metrics("LAYOUTS_DENSE", design), _metrics("LAYOUTS_DENSE", EXACT_ENGINE)
    assert metrics and direct
    figures = beside(
        _resnet9(width), _resnet9(exact), load_config(ROOT / f"configs/{design}.yaml"),
        metrics=metrics, direct=direct, codebook_width=codebook, batch=batch,
    )  # fmt: skip
    return {side: figures[side]["per_inference"] for side in ("looked_up", "exact")}


def test_figures_of_whole_inferences() -> None:
    """The table under "After wires" in docs/system.md, as `flow ratio` computes it."""
    head = r"network \| accuracy \| look-ups or multiply-accumulates \| engines"
    rows = {row[0]: row[2:] for row in _rows("docs/system.md", head)}
    some = LOOKED_UP["codebooks of 9 values, 4-bit tables"]
    whole = {
        name: [_whole(looked_up, 16, batch)["looked_up"] for batch in (1, 64)]
        for name, looked_up in LOOKED_UP.items()
    } | {
        f"exact, width {width}": [_whole(some, width, batch)["exact"] for batch in (1, 64)]
        for width in EXACT
    }
    base = [side["energy_uj"] for side in whole["exact, width 16"]]
    expected: dict[str, list[str]] = {}
    for name, (one, many) in whole.items():
        made = one["macs_computed"] if name.startswith("exact") else one["look_ups"]
        ratios = [of / side["energy_uj"] for of, side in zip(base, (one, many), strict=True)]
        expected[name] = [
            f"{made:,.0f}",
            f"{one['area_mm2']:.3f}",
            f"{one['time_us']:.1f}, {many['time_us']:.1f}",
            f"{one['energy_uj']:.2f}, {many['energy_uj']:.2f}",
            "1" if name == "exact, width 16" else f"{ratios[0]:.1f} ×, {ratios[1]:.1f} ×",
        ]
    assert rows == expected


def test_figures_of_direct_engines() -> None:
    """The table of layouts in docs/direct_engines.md, and its ratios to the dot-product array."""
    text = (ROOT / "docs" / "direct_engines.md").read_text()
    head = re.search(r"^\| \| `dot_product_latch` .*$", text, re.M)
    assert head
    designs = re.findall(r"`(\w+)`", head[0])
    columns = [_metrics("LAYOUTS_DENSE", design) for design in designs]
    assert len(columns) == 5
    rows = {row[0]: row[1:] for row in _rows("docs/direct_engines.md", r"\| `dot_product_latch`")}
    for name, key, digits in (
        ("die per MAC and cycle (µm²)", "halut__routed__die_area_per_mac_per_cycle", 1),
        ("energy per MAC (pJ)", "halut__routed__energy_per_mac", 4),
    ):
        values = [metrics.values[key] for metrics in columns if metrics]
        assert rows[name] == [f"{value:,.{digits}f}" for value in values]
        ratios = [f"{values[0] / value:.2f} ×" for value in values]
        assert rows[f"**less {name.split()[0]} than the dot-product array**"] == ratios
    for name, key, digits in (
        ("shortest period (ns)", "halut__routed__shortest_period", 2),
        ("hold slack at the worst of all corners (ns)", "halut__routed__corners__hold__ws", 3),
        (
            "results of the routed netlist that equal the model",
            "halut__routed__transfers_checked",
            0,
        ),
    ):
        assert rows[name] == [f"{metrics.values[key]:.{digits}f}" for metrics in columns if metrics]
