"""The table of memories: sizes, figures of the tables, and where they cross over."""

from __future__ import annotations

import pytest

from flow.figures.metrics import METRICS, Metrics
from flow.studies.memories import Row, crossovers, main, markdown, table_of_words
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig

BASE = AcceleratorConfig(n_codebooks=8, n_prototypes=4, n_outputs=2, parallel_codebooks=2)


def _row(memory: str, words: int, area: float, power: float) -> Row:
    metrics = Metrics()
    for name in METRICS:
        metrics.set(name, 1.0)
    parts = {"internal_mw": power, "switching_mw": 0.0, "leakage_mw": 0.0}
    other = {"internal_mw": 9.0, "switching_mw": 9.0, "leakage_mw": 9.0}
    metrics.breakdown = [
        {"unit": "SRAM" if memory == "sram" else "LUT memory and select", "area": area, **parts},
        {"unit": "encoder", "area": 1e6, **other},
    ]
    metrics.provenance = {"clock_ns": 2.0}
    if memory == "sram":
        metrics.notes["sram"] = "4 macros"
    return Row(config=table_of_words(BASE, words, 1, memory), metrics=metrics)


def test_sizes() -> None:
    config = table_of_words(BASE, 24, 4, "sram")
    assert (config.n_codebooks, config.rows, config.memory) == (12, 4, "sram")
    row = Row(config=config, metrics=Metrics())
    assert row.words == 24
    with pytest.raises(HalutError, match="multiples of n_prototypes = 4, not 26"):
        table_of_words(BASE, 26, 1, "latch")


def test_figures_are_of_the_tables_only() -> None:
    row = _row("latch", 8, 512.0, 3.0)
    # Two lanes of 8 words of two entries of 8 bits.
    assert row.config.lut_total_bits == 256 and row.area_per_bit == 2.0
    assert row.energy_per_look_up == 3.0 * 2.0 / row.config.look_ups_per_cycle


def test_crossover() -> None:
    rows = [
        _row("latch", 4, 100.0, 1.0), _row("sram", 4, 300.0, 2.0),
        _row("latch", 8, 400.0, 1.0), _row("sram", 8, 350.0, 2.0),
        _row("latch", 16, 900.0, 1.0), _row("sram", 16, 500.0, 2.0),
    ]  # fmt: skip
    assert crossovers(rows) == [
        "1 row, area: SRAM takes less from 8 words on (of 4 to 16)",
        "1 row, energy: latches take less (of 4 to 16)",
    ]
    text = markdown(rows)
    assert text.count("\n| sram | 1 |") == 3
    assert "- 1 row, area: SRAM takes less from 8 words on" in text
    assert "- 16 words, 1 row: 4 macros" in text


def test_figures_of_layouts() -> None:
    row = _row("sram", 8, 512.0, 3.0)
    part = {"internal_mw": 6.0, "switching_mw": 1.0, "leakage_mw": 0.0}
    row.metrics.notes["routed_breakdown"] = [{"unit": "SRAM", "area": 1024.0, **part}]
    row.metrics.set("finish__design__die__area", 4321.0)
    assert row.area_per_bit == 4.0
    assert row.energy_per_look_up == 7.0 * 2.0 / row.config.look_ups_per_cycle
    head, _, line = markdown([row], routed=True).splitlines()[:3]
    titles = [cell.strip() for cell in head.split("|")]
    assert line.split("|")[titles.index("die (µm²)")].strip() == "4,321"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--words", "a"], "--words must be whole numbers of at least 1, comma-separated, not a"),
        (["--rows", "0"], "--rows must be whole numbers"),
        (["--memories", "lutram"], "--memories must be among"),
    ],
)
def test_wrong_flags(flags: list[str], message: str) -> None:
    with pytest.raises(HalutError, match=message):
        main(flags)
