"""The bench: its rows, the page of results, bad input."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import flow.designs.design
import flow.designs.direct
from flow.designs.design import accelerator
from flow.figures.metrics import METRICS, Metrics
from flow.run.options import RunOptions
from flow.studies.bench import ROWS, Measured, page
from rtl_gen.config import AcceleratorConfig


@pytest.fixture
def without_verilog(monkeypatch):
    """Designs without their Verilog, which takes a while for all rows."""
    nothing = types.SimpleNamespace(verilog="")
    for module in (flow.designs.design, flow.designs.direct):
        monkeypatch.setattr(module, "generate", lambda _: nothing)


@pytest.mark.usefixtures("without_verilog")
def test_stored_matrix_matches_stella_nera():
    ours = ROWS["stella_nera"].design()
    exact = ROWS["stored_matrix"].design()
    assert ours.macs_per_cycle == exact.macs_per_cycle == 72
    assert ours.interval_cycles == exact.interval_cycles


def _metrics(area, energy):
    metrics = Metrics()
    for name in METRICS:
        metrics.set(name, 1.0)
    metrics.set("halut__area__per_mac_per_cycle", area)
    metrics.set("halut__energy__per_mac", energy)
    metrics.set("halut__design__look_ups_per_cycle", None, "not a look-up engine")
    metrics.provenance = {
        "commit": "0123", "dirty": True, "corner": "typ", "voltage": 1.1, "temperature": 25,
        "tools": {"yosys": "x"}, "halut_stack": "0", "python": "3", "date": "today", "seed": 1,
        "target_ns": 1.1, "slug": "slug", "verilog_sha256": "f" * 64,
    }  # fmt: skip
    return metrics


def test_page_holds_what_was_measured():
    items = [
        Measured(row=ROWS["dense"], metrics=_metrics(30.0, 0.03)),
        Measured(row=ROWS["dot_product"], metrics=_metrics(300.0, 0.6)),
        Measured(row=ROWS["systolic"], metrics=None, error="no answer"),
    ]
    text = page(items, RunOptions(clock_ns=6.0, target_ns=1.1), "a library", "python -m flow bench")
    above, below = text.split("## Measured")
    assert "What is not modelled" in above and "no wires" in above
    assert "python -m flow bench" in above and "corner typ, 1.1 V, 25 °C" in above
    assert "not committed" in above
    row = next(line for line in below.splitlines() if line.startswith("| dense"))
    assert "| 30.0 |" in row and "| 0.0300 |" in row and "| – |" in row
    assert "| dense | 10.00 | 20.00 | 1.00 |" in below
    assert "Not measured: no answer." in below
    assert "128,816 µm²" in below.split("## Published by others")[1]


@pytest.mark.usefixtures("without_verilog")
def test_rows_have_designs_of_their_own():
    slugs = [row.design().slug for row in ROWS.values()]
    assert len(set(slugs)) == len(slugs)
    assert accelerator(AcceleratorConfig()).slug not in {row.name for row in ROWS.values()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "dens"], 'did you mean "dense"'),
        (["--clock-ns", "0"], "--clock-ns must be a positive number"),
        (["--target-ns", "nan"], "--target-ns must be a positive number"),
        (["--platform", "generic"], "--platform must have a library"),
        (["--platfrm", "x"], 'did you mean "--platform"'),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "flow", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
