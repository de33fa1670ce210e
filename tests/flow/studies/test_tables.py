"""The page of the paper's tables."""

from __future__ import annotations

from flow.figures.metrics import METRICS, Metrics
from flow.run.options import RunOptions
from flow.studies.comparison import PUBLISHED
from flow.studies.tables import page
from rtl_gen.config import AcceleratorConfig


def test_page_of_tables() -> None:
    config = AcceleratorConfig(name="small", n_codebooks=4, n_prototypes=4, n_outputs=4)
    metrics = Metrics()
    for name in METRICS:
        metrics.set(name, 2.0)
    metrics.provenance = {
        "slug": "unit_x", "corner": "typ", "voltage": 1.1, "temperature": 25,
        "tools": {"yosys": "x"},
    }  # fmt: skip
    options = RunOptions(clock_ns=1.6, target_ns=1.1, cycles=256)
    units = {"nangate45": {"adder": metrics}}
    text = page(config, units, PUBLISHED, options, "python -m flow tables", ["dense on asap7"])
    assert "Not measured: dense on asap7." in text
    above, below = text.split("### nangate45")
    assert "| published | 43.1 | 5.1 |" in below.split("## Comparison")[1]
    assert "`python -m flow tables`" in above and "no wires" in above
    assert "clock 1.6 ns; netlists made for 1.1 ns" in below and "yosys x" in below
    assert "| adder |" in below and "arXiv 2311.10207" in below
