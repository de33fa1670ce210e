"""Words of metrics: complete, and the only names that the flow uses."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import flow
from flow.figures.words import METRICS, STAGES, shown_unit, stage, title
from flow.report.table import Column

FLOW = Path(flow.__file__).parent
# Not a metric of ours: OpenROAD-flow-scripts' rule on it is what a design states.
FOREIGN = {"detailedplace__design__violations"}


def unknown_names(text: str) -> set[str]:
    """Texts of a module that look like names of metrics, and neither are one nor begin one."""
    known = re.compile(rf"(halut|{'|'.join(STAGES)})__\w*[a-z0-9]")
    found = {
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {
        name
        for name in found - set(METRICS) - FOREIGN
        if known.fullmatch(name) and not any(m.startswith(f"{name}_") for m in METRICS)
    }


def test_every_name_in_the_flow_is_known() -> None:
    paths = [path for path in FLOW.rglob("*.py") if "__" in path.read_text()]
    assert len(paths) > 30
    assert {path.name: found for path in paths if (found := unknown_names(path.read_text()))} == {}


def test_an_unknown_name_is_found() -> None:
    assert unknown_names('ROWS = ["halut__energy__per_mca", "synth__power__total"]') == {
        "halut__energy__per_mca"
    }
    with pytest.raises(KeyError, match="halut__energy__per_mca"):
        _ = Column("halut__energy__per_mca").head


def test_names_of_the_model_and_of_pages_are_whole() -> None:
    """Where a beginning would pass the search above."""
    from flow.report import terminal
    from flow.report.html import charts, page
    from flow.search.model import TARGETS
    from flow.search.pareto import AXES

    names = [*TARGETS.values(), *charts.COMPARED, *page.HEADLINES]
    names += [*terminal.ROWS, *terminal.PLACED_ROWS, *terminal.ROUTED_ROWS]
    names += [name for name in page.HEADLINES.values() if name]
    names += [AXES[name].column for name in ("area", "energy", "gates")]
    assert set(names) <= set(METRICS)


def test_words_are_complete() -> None:
    for name, word in METRICS.items():
        assert word.unit and word.title and word.direction in (-1, 0, 1), name
        assert "__" not in word.title
        assert stage(name) in {*STAGES.values(), "by construction"}
    # No two metrics of a stage have the same words.
    assert len({(title(name), stage(name), shown_unit(name)) for name in METRICS}) == len(METRICS)
    assert shown_unit("halut__throughput__gmacs_per_s_per_mm2") == "GMAC/s/mm²"
    assert shown_unit("detailedroute__route__wirelength") == "µm"
