"""The writer of tables, numbers and conditions."""

from __future__ import annotations

import pytest

from flow.report.conditions import caption, commit, corner, tools
from flow.report.table import Column, fixed, markdown, number, terminal

ROWS = [["", "area", "what"], ["small", "1,234", "a"], ["b", "5", "longer"]]


def test_numbers() -> None:
    assert [number(v) for v in (0.0123456, 12.0, 12345.6, -2000.5, 1234, 0, None)] == [
        "0.01235", "12", "12,346", "-2,000", "1,234", "0", "–",
    ]  # fmt: skip
    assert fixed(1234.56, 1) == "1,234.6" and fixed(2500, 1, 1e-3) == "2.5"
    assert fixed(-0.04, 1) == "0.0" and fixed(-0.06, 1) == "-0.1" and fixed(None, 2) == "–"


def test_tables() -> None:
    assert markdown(ROWS, left=(0, 2)) == (
        "|  | area | what |\n| --- | ---: | --- |\n| small | 1,234 | a |\n| b | 5 | longer |\n"
    )
    assert terminal(ROWS, left=(0, 2)) == (
        "        area  what\nsmall  1,234  a\nb          5  longer"
    )
    assert terminal(ROWS, indent=2).splitlines()[1] == "  small  1,234       a"
    with pytest.raises(ValueError, match="zip"):
        terminal([["a", "b"], ["c"]])


def test_a_column_is_a_metric_in_words() -> None:
    heads = {
        Column("synth__design__instance__area__stdcell"): "area (µm²)",
        Column("halut__area__gate_equivalents", 1, 1e-3, "kGE"): "size (kGE)",
        Column("halut__energy__per_mac", 4): "energy (pJ/MAC)",
        Column("finish__design__instance__count__stdcell"): "cells",
    }
    assert [column.head for column in heads] == list(heads.values())
    column = Column("halut__area__gate_equivalents", 1, 1e-3, "kGE")
    assert column.text({column.name: 2500.0}) == "2.5" and column.text({}) == "–"


def test_conditions() -> None:
    source = {
        "platform": "p", "corner": "typ", "voltage": 1.1, "temperature": 25.0, "clock_ns": 6.0,
        "target_ns": 1.1, "tools": {"a": "1", "b": "2"}, "commit": None, "dirty": None,
    }  # fmt: skip
    assert caption(source) == "p typ (1.1 V, 25 °C), clock 6 ns, made for 1.1 ns"
    assert caption(source | {"corner": None}) == "p, clock 6 ns, made for 1.1 ns"
    assert corner(source) == "typ, 1.1 V, 25 °C" and tools(source) == "a 1, b 2"
    assert commit(source) == "no repository"
    assert commit({"commit": "0", "dirty": True}) == "0, with changes that were not committed"
