"""Block RAMs of an FPGA: which SRAMs of a design become some, and which distributed RAM.

Yosys makes either of a memory, by its size alone. Here the SRAMs with the most words get block RAMs
for as long as the part has some; the others are made of LUTs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from halut.checks import read_json
from rtl_gen.config import DISTRIBUTED_WORDS

__all__ = ["EXCLUSIVE_PORTS", "LIST_MEMORIES", "Memory", "block_ram_commands", "read_memories"]

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
