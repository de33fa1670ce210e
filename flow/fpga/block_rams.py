"""Block RAMs of an FPGA: which SRAMs of a design become some, and which distributed RAM.

Yosys makes either of a memory, by its size alone. Here the SRAMs with the most words get block RAMs
for as long as the part has some; the others are made of LUTs. A block RAM's output comes late in a
cycle. Where a register follows, it becomes the RAM's own: Yosys leaves it in the fabric, where
nextpnr puts it far from the RAM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.fpga.netlist import readers_of
from halut.checks import read_json
from rtl_gen.config import DISTRIBUTED_WORDS

__all__ = [
    "EXCLUSIVE_PORTS",
    "LIST_MEMORIES",
    "Memory",
    "block_ram_commands",
    "read_memories",
    "use_output_registers",
]

# An SRAM never reads and writes in the same cycle: no logic for a word that is written and read.
EXCLUSIVE_PORTS = "setattr -set no_rw_check 1 *halut_sram/m:*"
_FILE = "memories.json"
LIST_MEMORIES = f"select t:$mem_v2; write_json -selected {_FILE}; select -clear"


@dataclass(frozen=True)
class Memory:
    """A memory in a flattened netlist: its cell's name, its words and their bits."""

    name: str
    words: int
    bits: int
    style: str = ""  #: The attribute ``ram_style``; empty: none.

    @property
    def is_sram(self) -> bool:
        """Whether it is in a ``halut_sram``."""
        return re.search(r"_sram\.words", self.name) is not None

    def block_rams(self, shapes: Iterable[tuple[int, int]]) -> int:
        """Block RAMs that it takes; `shapes` are those of one, words and bits of a word."""
        return min(-(-self.words // words) * -(-self.bits // bits) for words, bits in shapes)


def read_memories(folder: Path) -> list[Memory]:
    """The memories that `LIST_MEMORIES` wrote."""
    modules = read_json(folder / _FILE, "Yosys' memories")["modules"]
    return [
        Memory(
            name,
            int(cell["parameters"]["SIZE"], 2),
            int(cell["parameters"]["WIDTH"], 2),
            cell["attributes"].get("ram_style", ""),
        )
        for module in modules.values()
        for name, cell in module["cells"].items()
    ]


def block_ram_commands(
    memories: Iterable[Memory], n_block_rams: int, shapes: Iterable[tuple[int, int]]
) -> list[str]:
    """Yosys' commands that give the SRAMs among `memories` their ``ram_style``.

    Parameters
    ----------
    memories : iterable of Memory
    n_block_rams : int
        Of the part. Other memories than SRAMs that Yosys may put into some are counted first.
    shapes : iterable of (int, int)
        Words and bits of a word that one can have.
    """
    shapes = tuple(shapes)
    memories = list(memories)
    others = [m for m in memories if not m.is_sram and m.style != "distributed"]
    left = n_block_rams
    left -= sum(m.block_rams(shapes) for m in others if m.words > DISTRIBUTED_WORDS)
    commands = []
    for memory in sorted((m for m in memories if m.is_sram), key=lambda m: (-m.words, m.name)):
        needed = memory.block_rams(shapes)
        style = "block" if needed <= left else "distributed"
        left -= needed if style == "block" else 0
        commands.append(f'setattr -set ram_style "{style}" c:{memory.name}')
    return commands


# A flip-flop that a RAM's output register can stand for: 0 at first, without reset.
_PLAIN = {"CEMUX": "CE", "CLKMUX": "CLK", "REGSET": "RESET", "GSR": "DISABLED"}
_WIDE = 36  #: Bits of a word at which both halves of the output are port B's.


def use_output_registers(module: dict[str, Any]) -> None:
    """Make flip-flops that follow an ECP5's block RAM the RAM's output register.

    All outputs that are read must go to plain flip-flops, of the read port's clock and of one
    enable, and nowhere else.

    Parameters
    ----------
    module : dict
        Of Yosys' netlist, which is changed.
    """
    cells, readers = module["cells"], readers_of(module)
    for ram in [cell for cell in cells.values() if cell["type"] == "DP16KD"]:
        for port, name in _followers(ram, cells, readers).items():
            flip_flop = cells.pop(name)["connections"]
            ram["connections"] |= {
                port: flip_flop["Q"], "OCEA": flip_flop["CE"], "OCEB": flip_flop["CE"]
            }  # fmt: skip
            ram["parameters"] |= {"REGMODE_A": "OUTREG", "REGMODE_B": "OUTREG"}


def _followers(
    ram: dict[str, Any], cells: dict[str, Any], readers: dict[Any, list[tuple[str, str]]]
) -> dict[str, str]:
    """Output ports of a block RAM, each with the flip-flop behind it; none if not all have one."""
    ports, parameters = ram["connections"], ram["parameters"]
    outputs = {
        port: readers[bits[0]]
        for port, bits in ports.items()
        if ram["port_directions"][port] == "output" and bits and readers[bits[0]]
    }
    is_wide = int(parameters["DATA_WIDTH_B"], 2) == _WIDE
    is_plain = parameters["CLKBMUX"] == "CLKB" and parameters["REGMODE_B"] == "NOREG"
    if not is_plain or ports["RSTB"] != ["0"]:
        return {}
    if not is_wide and any(port.startswith("DOA") for port in outputs):
        return {}
    followers, enables = {}, set()
    for port, found in outputs.items():
        if len(found) != 1:
            return {}
        name, input_port = found[0]
        cell = cells.get(name)
        if cell is None or cell["type"] != "TRELLIS_FF" or input_port != "DI":
            return {}
        inputs = cell["connections"]
        if not _PLAIN.items() <= cell["parameters"].items() or inputs["LSR"] != ["0"]:
            return {}
        if inputs["CLK"] != ports["CLKB"]:
            return {}
        enables.add(inputs["CE"][0])
        followers[port] = name
    return followers if len(enables) == 1 else {}
