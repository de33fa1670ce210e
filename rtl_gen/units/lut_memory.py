"""The LUT memory of one decoder column for one codebook lane."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..config import ceil_log2
from .cells import one_hot_select, storage_kind, store_word
from .unit import Unit

__all__ = ["LutMemory", "select_members"]


def select_members(*, n_groups: int, n_prototypes: int, rows: int, memory: str) -> dict[str, int]:
    """How a lane's table is addressed: {port: width}, the same for every decoder column.

    - distributed RAM: per row, a binary index {group, code};
    - one row, or one group: per row, one line per word (`select`), so that only the word that is
      read toggles anything;
    - several rows and groups: one line per group shared by the rows (`group`), and per row one
      line per prototype (`select`), so that a further row costs one K:1 select only.
    """
    if memory == "lutram":
        return {"select": rows * max(1, ceil_log2(n_groups * n_prototypes))}
    if rows == 1 or n_groups == 1:
        return {"select": rows * n_groups * n_prototypes}
    return {"group": n_groups, "select": rows * n_prototypes}


class LutMemory(Unit):
    """Memory of G*K words with one read port per row.

    Parameters
    ----------
    n_groups, n_prototypes : int
        G codebooks and K words each; word index = group * K + prototype.
    width : int
        Bits of a word.
    rows : int
        P, read ports.
    memory : {"latch", "ff", "lutram"}
    ram_per_row : bool, default False
        lutram only: a RAM with one read port for every row, in place of one with P of them, which
        synthesis may not find RAMs for.
    ram_style : {"", "distributed"}
        lutram only: the RAMs' attribute; empty: what synthesis likes.

    Members
    -------
    write_strobe : In(G*K)
        latch: gated clocks, open while high; ff: enables. One-hot or zero.
    write_enable : In(1), write_index : In(ceil(log2(G*K)))
        lutram only, instead of `write_strobe`.
    write_data : In(width)
        latch: must be stable while a strobe is high.
    group, select : In
        Read address, see `select_members`; row p's lines are contiguous.
    value : Out(ArrayLayout(width, P))
        The selected words.

    Timing
    ------
    Reads are combinational. A written word is read after the clock edge that accepts it.
    """

    def __init__(
        self,
        *,
        n_groups: int,
        n_prototypes: int,
        width: int,
        rows: int,
        memory: str,
        ram_per_row: bool = False,
        ram_style: str = "",
    ) -> None:
        self.n_groups = n_groups
        self.n_prototypes = n_prototypes
        self.width = width
        self.rows = rows
        self.memory = memory
        self.ram_per_row = ram_per_row
        self._ram_style = ram_style
        self.n_words = n_groups * n_prototypes
        self.select_ports = select_members(
            n_groups=n_groups, n_prototypes=n_prototypes, rows=rows, memory=memory
        )
        members = {name: In(bits) for name, bits in self.select_ports.items()}
        if memory == "lutram":
            members["write_enable"] = In(1)
            members["write_index"] = In(ceil_log2(self.n_words))
        else:
            members["write_strobe"] = In(self.n_words)
        super().__init__(
            {
                **members,
                "write_data": In(width),
                "value": Out(data.ArrayLayout(unsigned(width), rows)),
            },
            module_name=f"halut_lut_memory_g{n_groups}_k{n_prototypes}_b{width}_p{rows}_{memory}"
            + ("_per_row" if ram_per_row else "")
            + (f"_{ram_style}" if ram_style else ""),
            has_clock=memory != "latch",
        )

    def build(self, m: Module, platform: object) -> None:
        if self.memory == "lutram":
            self._build_lutram(m)
            return
        kind = storage_kind(self.memory, platform)
        words = [
            store_word(m, f"word{i}", kind, strobe=self.write_strobe[i], data=self.write_data)
            for i in range(self.n_words)
        ]
        if "group" in self.select_ports:
            words = self._select_group(m, words)
        n_lines = len(words)
        for row in range(self.rows):
            lines = self.select[row * n_lines : (row + 1) * n_lines]
            m.d.comb += self.value[row].eq(one_hot_select(lines, words))

    def _select_group(self, m: Module, words: list[Signal]) -> list[Signal]:
        """The K words of the selected group."""
        selected = []
        for k in range(self.n_prototypes):
            word = Signal(self.width, name=f"group_word{k}")
            m.d.comb += word.eq(one_hot_select(self.group, words[k :: self.n_prototypes]))
            selected.append(word)
        return selected

    @property
    def ram_style(self) -> str:
        return self._ram_style

    def _build_lutram(self, m: Module) -> None:
        if not self.ram_per_row:
            words = self._add_ram(m, "words")
        bits = len(self.select) // self.rows
        for row in range(self.rows):
            if self.ram_per_row:
                words = self._add_ram(m, f"row{row}_words")
            read = words.read_port(domain="comb")
            read.data.name = f"row{row}_word"
            m.d.comb += [
                read.addr.eq(self.select[row * bits : (row + 1) * bits]),
                self.value[row].eq(read.data),
            ]

    def _add_ram(self, m: Module, name: str) -> Memory:
        """A RAM of all words, with its write port."""
        m.submodules[name] = words = Memory(shape=self.width, depth=self.n_words, init=[])
        write = words.write_port()
        m.d.comb += [
            write.addr.eq(self.write_index),
            write.data.eq(self.write_data),
            write.en.eq(self.write_enable),
        ]
        return words
