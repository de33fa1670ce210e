# amaranth: UnusedElaboratable=no
"""The encoder of one codebook lane for FPGAs: a tree level's thresholds are words of a small RAM.

A row needs one of a level's thresholds, that of the node where it is. The code so far is that
node's address, so a RAM with one read port per row takes the place of flip-flops and of the
multiplexers that select among them; the comparison is the sign of a difference, one carry chain.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig, ceil_log2
from .cells import equals
from .comparator import comparison_key
from .lut_memory import LutMemory
from .unit import Unit, named

__all__ = ["AddressedEncoder"]


class AddressedEncoder(Unit):
    """Tree walks of P rows through one codebook per cycle, one tree level per stage.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    words : In(ArrayLayout(ArrayLayout(input_bits, T), P))
        Per row the values of the codebook's split dimensions, the root's first.
    enable : In(encoder_cycles)
        Bit s: the transfer in pipeline stage s moves on at the next clock edge.
    group : In(ArrayLayout(ceil(log2 stored_groups), T))
        stored_groups > 1 only: per level, the codebook group in the stage that compares.
    write_enable : In(1), write_data : In(threshold_bits)
        A threshold is written, a signed comparison key.
    write_group, write_word : In
        Which: codebook group, and node in breadth-first order. Absent when there is one only.
    codes : Out(ArrayLayout(T, P))
        Per row the code.

    Timing
    ------
    `encoder_cycles` clock edges from a transfer to its codes; one transfer per cycle. A written
    threshold is compared with after the clock edge that accepts it. Those of later stages are
    written one edge after it, just before a transfer may come there, so that no RAM is at the end
    of a long path.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        c = config
        words = data.ArrayLayout(data.ArrayLayout(unsigned(c.input_bits), c.n_values), c.rows)
        members = {
            "write_enable": In(1),
            "write_data": In(c.threshold_bits),
            "words": In(words),
            "enable": In(c.encoder_cycles),
            "codes": Out(data.ArrayLayout(unsigned(c.tree_depth), c.rows)),
        }
        if c.stored_groups > 1:
            group_bits = ceil_log2(c.stored_groups)
            members["group"] = In(data.ArrayLayout(unsigned(group_bits), c.tree_depth))
            members["write_group"] = In(group_bits)
        if c.threshold_words > 1:
            members["write_word"] = In(ceil_log2(c.threshold_words))
        super().__init__(
            members,
            module_name=f"halut_encoder_{c.encoder}_p{c.rows}_g{c.stored_groups}"
            f"_k{c.n_prototypes}_{c.input_format}",
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        keys = [
            {
                t: comparison_key(m, f"row{row}_value{t}", self.words[row][t], c.input_format)
                for t in range(c.tree_depth)
            }
            for row in range(c.rows)
        ]
        if c.captures_input:
            keys = self._moved(m, 0, keys)
        at_once = self._threshold_write
        later = at_once.registered(m)
        codes: list[Value] = [Signal(0)] * c.rows
        for level in range(c.tree_depth):
            stage = c.threshold_stage(level)
            write = later if stage else at_once
            thresholds = self._thresholds(m, platform, level, codes, write)
            bits = [
                self._greater(m, f"row{row}_level{level}", row_keys.pop(level), threshold)
                for row, (row_keys, threshold) in enumerate(zip(keys, thresholds, strict=True))
            ]
            codes = [
                self._register(m, stage, f"row{row}_level{level}_code", Cat(bit, code))
                for row, (bit, code) in enumerate(zip(bits, codes, strict=True))
            ]
            keys = self._moved(m, stage, keys)
        m.d.comb += [self.codes[row].eq(code) for row, code in enumerate(codes)]

    def _register(self, m: Module, stage: int, name: str, value: Value) -> Signal:
        register = Signal(value.shape(), name=name, reset_less=True)
        with m.If(self.enable[stage]):
            m.d.sync += register.eq(value)
        return register

    def _moved(self, m: Module, stage: int, keys: list[dict[int, Value]]) -> list[dict[int, Value]]:
        """Every row's values, by level, behind the registers of a stage."""
        return [
            {
                level: self._register(m, stage, f"row{row}_stage{stage}_value{level}", key)
                for level, key in row_keys.items()
            }
            for row, row_keys in enumerate(keys)
        ]

    def _greater(self, m: Module, name: str, value: Value, threshold: Value) -> Value:
        """Whether value > threshold: the sign of threshold - value, which has a bit more."""
        difference = Signal(signed(self.config.threshold_bits + 1), name=f"{name}_difference")
        m.d.comb += difference.eq(threshold.as_signed() - value)
        return difference[-1]

    @property
    def _threshold_write(self) -> _ThresholdWrite:
        """What the write port says. Counted from 1, node 2**level + j is node j of its level."""
        c = self.config
        from_one: Value = self.write_word + 1 if c.threshold_words > 1 else Const(1)
        from_one = from_one[: c.tree_depth]
        return _ThresholdWrite(
            hits=[self.write_enable & equals(from_one[level:], 1) for level in range(c.tree_depth)],
            node=from_one[:-1],
            group=self.write_group if c.stored_groups > 1 else Const(0, 0),
            data=self.write_data,
        )

    def _thresholds(
        self, m: Module, platform: object, level: int, codes: list[Value], write: _ThresholdWrite
    ) -> list[Value]:
        """Per row the threshold of the node where it is: word {group, code so far} of a RAM."""
        c = self.config
        hit = named(m, f"level{level}_hit", write.hits[level])
        if level == 0 and c.stored_groups == 1:
            root = Signal(c.threshold_bits, name="root", reset_less=True)
            with m.If(hit):
                m.d.sync += root.eq(write.data)
            return [root] * c.rows
        memory = LutMemory(
            n_groups=c.stored_groups,
            n_prototypes=2**level,
            width=c.threshold_bits,
            rows=c.rows,
            memory="lutram",
            ram_per_row=True,
            ram_style="distributed",
        )
        self.add(m, f"level{level}_thresholds", memory, platform)
        groups = [self.group[level]] if c.stored_groups > 1 else []
        m.d.comb += [
            memory.write_enable.eq(hit),
            memory.write_index.eq(Cat(write.node[:level], write.group)),
            memory.write_data.eq(write.data),
            memory.select.eq(Cat(Cat(code, *groups) for code in codes)),
        ]
        return [memory.value[row] for row in range(c.rows)]


@dataclass(frozen=True)
class _ThresholdWrite:
    """A threshold to be written: per level whether it is there; node in its level, group, value."""

    hits: list[Value]
    node: Value
    group: Value
    data: Value

    def registered(self, m: Module) -> _ThresholdWrite:
        """The same a clock edge later."""

        def register(name: str, value: Value) -> Signal:
            later = Signal(len(value), name=f"{name}_later", reset_less=True)
            m.d.sync += later.eq(value)
            return later

        return _ThresholdWrite(
            hits=[register(f"level{level}_hit", hit) for level, hit in enumerate(self.hits)],
            node=register("write_node", self.node),
            group=register("write_group", self.group),
            data=register("write_data", self.data),
        )
