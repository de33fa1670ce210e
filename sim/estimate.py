"""What building a simulation, or mapping a netlist, takes, before it starts.

Both grow with the lines of the design when every instance is written out. Nothing here is exact.
"""

from __future__ import annotations

from collections.abc import Collection

from halut.memory import check_available

from .hierarchy import lines_written_out

__all__ = ["check_size", "needed_bytes"]


def needed_bytes(n_lines: int) -> int:
    """Estimate the memory of the largest process, in bytes.

    Within a factor of 2 of what was measured: Verilator and g++ took 0.30, 0.31 and 0.67 GB for
    2, 70 and 254 thousand lines, synthesis (pyosys, ABC) 0.15, 0.26 and 0.28 GB for 2, 70 and 80.
    """
    return 200 * 10**6 + 1700 * n_lines


def check_size(verilog: str, top: str, doing: str, blocks: Collection[str] = ()) -> None:
    """Refuse a design that would not fit this machine's memory.

    Parameters
    ----------
    verilog : str
        Modules, each before those that instantiate it (as `rtl_gen` writes them).
    top : str
    doing : str
        What it is for, such as ``"build its simulation"``.
    blocks : collection of str, default ()
        Modules that count once, however many instances there are.

    Raises
    ------
    HalutError
        When the estimate is more than the memory that is available.
    """
    n_lines = lines_written_out(verilog, top, blocks)
    where = f"{top}: {n_lines} lines with every instance written out"
    check_available(needed_bytes(n_lines), doing, where)
