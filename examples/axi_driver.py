"""Rows through an accelerator behind `halut_axi`: the driver in Python, on a board."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from halut.cli import Parser, run
from halut.driver import Device, MappedMemory, MappedRegisters


def multiply(device: Device, image: bytes, rows: bytes) -> bytes:
    """Load an image's first program and let rows pass through it; returns their results."""
    device.place(image)
    device.load(0)
    results = device.multiply(0, rows)
    print(f"{len(rows) // device.layout['item_bytes']} row groups, "
          f"{device.read('BUSY_CYCLES')} cycles")  # fmt: skip
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Read registers through UIO and memory through a file that can be mapped."""
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--description", default="halut_axi.py", help="what `python -m rtl_gen axi` wrote")
    add("--registers", default="/dev/uio0", help="the block")
    add("--memory", default="/dev/udmabuf0", help="memory for the block's bus master")
    add("--address", type=lambda text: int(text, 0), required=True, help="its address on the bus")
    add("--size", type=lambda text: int(text, 0), default=1 << 20, help="its bytes")
    add("image", type=Path, help="what `python -m rtl_gen image` wrote")
    add("rows", type=Path, help="row groups as they lie in memory (docs/axi.md)")
    add("results", type=Path, help="where the results go")
    values = parser.parse_args(arguments)
    memory = MappedMemory(values.memory, values.address, values.size)
    device = Device(values.description, MappedRegisters(values.registers), memory)
    results = multiply(device, values.image.read_bytes(), values.rows.read_bytes())
    values.results.write_bytes(results)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
