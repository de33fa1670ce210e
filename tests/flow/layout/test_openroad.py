"""Running OpenROAD."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.layout.openroad import run_script
from flow.tools import Tool, ToolFailed


def test_a_failing_openroad_names_its_log(tmp_path: Path) -> None:
    tool = Tool("openroad", ("/bin/sh", "-c", "echo '[ERROR] no such net'; exit 1"), "0")
    with pytest.raises(ToolFailed, match=r"must finish place, not end with 1 \(log: ") as caught:
        run_script(tool, [], tmp_path, "place")
    assert "no such net" in caught.value.tail
