"""Values as Tcl words."""

from __future__ import annotations

import pytest

from flow.tools.tcl import settings
from halut.errors import HalutError


def test_settings_quote_names() -> None:
    text = settings({"port": "i_data[3]", "list": ["a", ["b", 1.5]], "none": "", "flag": True})
    assert "port {i_data[3]}" in text
    assert "list {a {b 1.5}}" in text
    assert "none {}" in text
    assert "flag 1" in text
    with pytest.raises(HalutError, match="must have balanced braces"):
        settings({"port": "a{"})
