"""Capacitance of wires, fitted to what extraction says of whole nets."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.studies.wires import fit, main
from halut.errors import HalutError


def test_capacitances_that_are_there_are_found() -> None:
    lengths = {
        "a": {"m2": 900.0, "m3": 100.0},
        "b": {"m2": 300.0, "m3": 1500.0, "m4": 10.0},
        "c": {"m2": 0.0, "m3": 700.0, "m4": 20.0},
        "without": {"m2": 1e6},
    }
    extracted = {"a": 0.1 * 900 + 0.2 * 100, "b": 30.0 + 300.0, "c": 140.0, "other": 5.0}
    found = fit(lengths, extracted)
    assert found.ff_per_um == pytest.approx({"m2": 0.1, "m3": 0.2})
    assert found.lengths == {"m2": 1200.0, "m3": 2300.0, "m4": 30.0}
    assert (found.n_nets, found.extracted) == (3, pytest.approx(580.0))
    assert found.left == pytest.approx(0.0, abs=1e-9)
    extracted["a"] += 30.0
    assert fit(lengths, extracted).left > 1.0


def test_nothing_to_fit() -> None:
    with pytest.raises(HalutError, match="at least 1 mm of wires, not none"):
        fit({"a": {"m2": 999.0}}, {"a": 1.0})


def test_a_run_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(HalutError, match=r"must be a folder with metrics\.json"):
        main([str(tmp_path)])
