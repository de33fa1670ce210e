"""Programs that the flow drives: one finder, one runner."""

from flow.tools.find import (
    find_abc,
    find_openroad,
    find_simulator,
    find_sta,
    find_yosys,
    no_simulator,
)
from flow.tools.tool import Tool, ToolFailed, plain_path, run_tool, tail

__all__ = [
    "Tool",
    "ToolFailed",
    "find_abc",
    "find_openroad",
    "find_simulator",
    "find_sta",
    "find_yosys",
    "no_simulator",
    "plain_path",
    "run_tool",
    "tail",
]
