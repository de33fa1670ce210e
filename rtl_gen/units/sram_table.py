"""The tables of a block of decoders for one codebook lane, in SRAM."""

from __future__ import annotations

from amaranth.hdl import Instance, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..config import ceil_log2
from .unit import Unit, VerilogTarget, named

__all__ = ["SramTable"]


class SramTable(Unit):
    """Words of one program, or two, that P rows read; each word holds an entry per decoder.

    An SRAM reads one word a cycle: every row and every bank has its own, and all rows' of a bank
    hold the same words. In Verilog each is an instance of the technology cell ``halut_sram``.

    Parameters
    ----------
    n_words : int
        Words of a bank.
    width : int
        Bits of a word.
    rows : int
        P, words read at once.
    n_banks : int
        1 or 2.

    Members
    -------
    read : In(1)
        The words at `index` are read; never in the cycle of a write to the bank that `index` names.
    index : In(ArrayLayout(ceil(log2 n_words) + n_banks - 1, P))
        Per row the word, and above it the bank, which is the same for all rows.
    write_enable : In(1), write_index : In(ceil(log2 n_words) + n_banks - 1), write_data : In(width)
        A word is written, at the next clock edge.
    value : Out(ArrayLayout(width, P))
        The words that were read last, until the next read; undefined after a write.

    Timing
    ------
    1 clock edge from `index` to `value`.
    """

    def __init__(self, *, n_words: int, width: int, rows: int, n_banks: int) -> None:
        self.n_words = n_words
        self.width = width
        self.rows = rows
        self.n_banks = n_banks
        self.address_bits = ceil_log2(n_words)
        index_bits = self.address_bits + n_banks - 1
        super().__init__(
            {
                "read": In(1),
                "index": In(data.ArrayLayout(unsigned(index_bits), rows)),
                "write_enable": In(1),
                "write_index": In(index_bits),
                "write_data": In(width),
                "value": Out(data.ArrayLayout(unsigned(width), rows)),
            },
            module_name=f"halut_sram_table_w{n_words}_b{width}_p{rows}"
            + ("_double" if n_banks > 1 else ""),
        )

    def build(self, m: Module, platform: object) -> None:
        bits = self.address_bits
        bank_read = Signal(name="bank_read", reset_less=True)
        words: list[list[Value]] = []
        for bank in range(self.n_banks):
            written: Value = self.write_enable
            read: Value = self.read
            if self.n_banks > 1:
                written = named(
                    m, f"bank{bank}_written", written & (self.write_index[bits] == bank)
                )
                read = named(m, f"bank{bank}_read", read & (self.index[0][bits] == bank))
            words.append(
                [self._add_sram(m, platform, bank, row, written, read) for row in range(self.rows)]
            )
        if self.n_banks == 1:
            m.d.comb += [self.value[row].eq(word) for row, word in enumerate(words[0])]
            return
        with m.If(self.read):
            m.d.sync += bank_read.eq(self.index[0][bits])
        for row, (first, second) in enumerate(zip(*words, strict=True)):
            m.d.comb += self.value[row].eq(Mux(bank_read, second, first))

    def _add_sram(
        self, m: Module, platform: object, bank: int, row: int, written: Value, read: Value
    ) -> Signal:
        """One row's SRAM of one bank; returns the word that it read."""
        name = f"row{row}_sram" if self.n_banks == 1 else f"bank{bank}_row{row}_sram"
        bits = self.address_bits
        word = Signal(self.width, name=f"{name}_word")
        if isinstance(platform, VerilogTarget):
            m.submodules[name] = Instance(
                "halut_sram",
                p_WORDS=self.n_words,
                p_WIDTH=self.width,
                p_ADDRESS_BITS=bits,
                i_clk_i=self.clk_i,
                i_we_i=written,
                i_waddr_i=self.write_index[:bits],
                i_d_i=self.write_data,
                i_re_i=read,
                i_raddr_i=self.index[row][:bits],
                o_q_o=word,
            )
            return word
        m.submodules[name] = memory = Memory(shape=self.width, depth=self.n_words, init=[])
        write, port = memory.write_port(), memory.read_port()
        m.d.comb += [
            write.addr.eq(self.write_index[:bits]),
            write.data.eq(self.write_data),
            write.en.eq(written),
            port.addr.eq(self.index[row][:bits]),
            port.en.eq(read),
            word.eq(port.data),
        ]
        return word
