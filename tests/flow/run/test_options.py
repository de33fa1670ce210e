"""Options that are refused."""

from __future__ import annotations

import pytest

from flow.run.options import LayoutOptions
from halut.errors import HalutError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"utilisation": 1.2}, "utilisation must be in"),
        ({"aspect": 0.0}, "aspect must be in"),
        ({"margin_um": -1.0}, "margin_um must be in"),
        ({"repair_tns": 101}, "repair_tns must be an integer in"),
        ({"threads": -1}, "threads must be an integer in"),
    ],
)
def test_wrong_options_are_refused(change: dict, message: str) -> None:
    with pytest.raises(HalutError, match=message):
        LayoutOptions(**change)
