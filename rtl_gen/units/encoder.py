# amaranth: UnusedElaboratable=no
"""The encoder of one codebook lane: P rows walk the same tree side by side."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig, ceil_log2
from .addressed_encoder import AddressedEncoder
from .cells import one_hot, one_hot_select
from .comparator import Comparator, comparison_key
from .threshold_memory import ThresholdMemory
from .unit import Unit, named

__all__ = ["Encoder", "encoder_unit"]


def encoder_unit(config: AcceleratorConfig) -> Encoder | AddressedEncoder:
    """The encoder of a lane of a configuration."""
    return AddressedEncoder(config) if config.encoder == "addressed" else Encoder(config)


class Encoder(Unit):
    """Tree walks of P rows through one codebook per cycle.

    Interleaved: per row T walkers take turns; each keeps a transfer's T values and walks one
    level per cycle with one comparator (Stella Nera's unit of four encoders, for T = 4).
    Pipelined: every stage has comparators for its tree levels, and values move along.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    words : In(ArrayLayout(ArrayLayout(input_bits, n_values), P))
        Per row the values of the codebook's split dimensions, the root's first; with `terms` the
        words that each level adds up, with `window` all of the codebook's window.
    enable : In(encoder_cycles)
        Bit s: the transfer in pipeline stage s moves on at the next clock edge.
    phase : In(T)
        Interleaved only: one-hot, the walker that takes the transfer in stage 0.
    group : In(ArrayLayout(ceil(log2 stored_groups), T))
        stored_groups > 1 only: per level, the codebook group whose thresholds are fetched.
    write_enable, write_group, write_word, write_data : In
        See `ThresholdMemory`.
    codes : Out(ArrayLayout(K or T, P))
        Per row the code: one line per prototype; binary with `AcceleratorConfig.binary_codes`.

    Timing
    ------
    `encoder_cycles` clock edges from a transfer to its codes; one transfer per cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        c = config
        self.thresholds = ThresholdMemory(config)
        write = {n: m for n, m in self.thresholds.signature.members.items() if n[:5] == "write"}
        members = {
            **write,
            "words": In(
                data.ArrayLayout(data.ArrayLayout(unsigned(c.input_bits), c.n_values), c.rows)
            ),
            "enable": In(c.encoder_cycles),
            "codes": Out(data.ArrayLayout(unsigned(c.code_wires), c.rows)),
        }
        if c.encoder == "interleaved":
            members["phase"] = In(c.tree_depth)
        if c.stored_groups > 1:
            group_bits = unsigned(ceil_log2(c.stored_groups))
            members["group"] = In(data.ArrayLayout(group_bits, c.tree_depth))
        super().__init__(
            members,
            module_name=f"halut_encoder_{c.encoder}_p{c.rows}_g{c.stored_groups}_k{c.n_prototypes}"
            f"_{c.input_format}_n{c.thresholds_per_word}_r{c.tree_levels_per_stage}"
            + (f"_s{c.terms}" if c.terms > 1 else "")
            + (f"_v{c.window}{c.splits}" if c.window else "")
            + f"_{c.memory}",
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        memory = self.thresholds
        self.add(m, "threshold_memory", memory, platform)
        for name in memory.signature.members:
            if name.startswith("write") or name == "group":
                m.d.comb += getattr(memory, name).eq(getattr(self, name))
        if c.stored_groups > 1:
            m.d.comb += [
                memory.enable[level].eq(self.enable[level // c.tree_levels_per_stage])
                for level in range(c.tree_depth)
            ]
        levels = [
            [memory.thresholds[2**level - 1 + j] for j in range(2**level)]
            for level in range(c.tree_depth)
        ]
        places: list[Value] = []
        if c.place_nodes:  # rows share the lines
            places = [
                one_hot(m, f"level{t}_place", place, c.window)
                for t, place in enumerate(_parts(memory.places, c.place_bits))
            ]
        build_row = self._pipelined_row if c.encoder == "pipelined" else self._interleaved_row
        for row in range(c.rows):
            keys = [
                comparison_key(m, f"row{row}_value{t}", self.words[row][t], c.input_format)
                for t in range(c.n_values)
            ]
            if c.terms > 1:
                keys = [self._sum(m, f"row{row}_sum{t}", keys, t) for t in range(c.tree_depth)]
            if c.place_nodes:
                keys = [
                    named(m, f"row{row}_selected{t}", select_word(place, keys))
                    for t, place in enumerate(places)
                ]
            code = build_row(m, platform, row, keys, levels)
            result = Signal(c.code_wires, name=f"row{row}_code", reset_less=True)
            if not c.binary_codes:
                code = one_hot(m, f"row{row}_prototypes", code, c.n_prototypes)
            with m.If(self.enable[-1]):
                m.d.sync += result.eq(code)
            m.d.comb += self.codes[row].eq(result)

    def _sum(self, m: Module, name: str, keys: list[Value], level: int) -> Value:
        """The sum of a level's terms; one that is subtracted is complemented."""
        terms, bits = self.config.terms, self.config.input_bits
        mine = range(level * terms, (level + 1) * terms)
        signs = self.thresholds.signs
        parts: list[Value] = [
            (keys[t].as_unsigned() ^ signs[t].replicate(bits)).as_signed() for t in mine
        ]
        while len(parts) > 1:
            pairs = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = pairs + parts[len(parts) // 2 * 2 :]
        total = Signal(signed(self.config.threshold_bits), name=name)
        m.d.comb += total.eq(parts[0])
        return total

    def _register(self, m: Module, value: Value, *, name: str, enable: Value) -> Signal:
        register = Signal(value.shape(), name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += register.eq(value)
        return register

    def _compare(
        self,
        m: Module,
        platform: object,
        name: str,
        level: int,
        keys: list[Value],
        node: Value,
    ) -> Signal:
        """Whether what a node of a level compares is greater than its threshold."""
        c = self.config
        if c.splits == "level":
            return self._greater(m, platform, name, keys[level], node)
        place = one_hot(m, f"{name}_place", node[c.threshold_bits :], c.window)
        value = named(m, f"{name}_selected", select_word(place, keys))
        return self._greater(m, platform, name, value, node[: c.threshold_bits])

    def _greater(
        self, m: Module, platform: object, name: str, value: Value, threshold: Value
    ) -> Signal:
        comparator = Comparator(width=self.config.threshold_bits)
        self.add(m, name, comparator, platform)
        m.d.comb += [
            comparator.value.eq(value),
            comparator.threshold.eq(threshold),
        ]
        return comparator.greater

    def _pipelined_row(
        self,
        m: Module,
        platform: object,
        row: int,
        keys: list[Value],
        levels: list[list[Value]],
    ) -> Value:
        """Stages of `tree_levels_per_stage` levels; returns the code, valid in the last stage."""
        c = self.config
        if c.captures_input:
            keys = [
                self._register(m, key, name=f"row{row}_value{t}", enable=self.enable[0])
                for t, key in enumerate(keys)
            ]
        code: Value = Signal(0)
        for stage in range(c.tree_stages):
            first = stage * c.tree_levels_per_stage
            end = min(first + c.tree_levels_per_stage, c.tree_depth)
            name = f"row{row}_stage{stage}"
            code = Cat(self._walk(m, platform, name, code, keys, levels, first, end), code)
            if end < c.tree_depth:
                enable = self.enable[stage + int(c.captures_input)]
                code = self._register(m, code, name=f"{name}_code", enable=enable)
                keys = [
                    self._register(m, key, name=f"{name}_value{t}", enable=enable)
                    if t >= end or c.splits == "node"
                    else key
                    for t, key in enumerate(keys)
                ]
        return code

    def _walk(
        self,
        m: Module,
        platform: object,
        name: str,
        code: Value,
        keys: list[Value],
        levels: list[list[Value]],
        first: int,
        end: int,
    ) -> Value:
        """Walk levels `first` to `end` - 1 from node `code`; returns the new bits.

        All nodes below `code` are compared at once, then the walk picks its way through the
        results.
        """
        bits = Signal(end - first, name=f"{name}_bits")
        lines = Signal(0)
        if first and (end - first > 1 or first > 1):
            lines = one_hot(m, f"{name}_nodes", code, 2**first)
        for level in range(first, end):
            below = 2 ** (level - first)  # nodes of this level below one node of level `first`
            greater = Signal(below, name=f"{name}_greater{level}")
            for j in range(below):
                nodes = levels[level][j::below]
                if len(nodes) == 1:
                    threshold = nodes[0]
                elif len(nodes) == 2:
                    threshold = Mux(code, nodes[1], nodes[0])
                else:
                    threshold = one_hot_select(lines, nodes)
                bit = self._compare(m, platform, f"{name}_level{level}_{j}", level, keys, threshold)
                m.d.comb += greater[j].eq(bit)
            # Earlier decisions are more significant: bit `end - 1 - level` of the new bits.
            candidates = list(greater)
            for decision in bits[end - level :]:
                pairs = zip(candidates[::2], candidates[1::2], strict=True)
                candidates = [Mux(decision, right, left) for left, right in pairs]
            m.d.comb += bits[end - 1 - level].eq(candidates[0])
        return bits

    def _interleaved_row(
        self,
        m: Module,
        platform: object,
        row: int,
        keys: list[Value],
        levels: list[list[Value]],
    ) -> Value:
        """T walkers, one comparator each; returns the code of the one that is finishing."""
        depth = self.config.tree_depth
        codes = []
        for walker in range(depth):
            name = f"row{row}_walker{walker}"
            take = named(m, f"{name}_take", self.enable[0] & self.phase[walker])
            values = [
                self._register(m, key, name=f"{name}_value{t}", enable=take)
                for t, key in enumerate(keys)
            ]
            # The walker that took a transfer in phase w works on level l in phase w + l + 1.
            turn = Cat(self.phase[(walker + level + 1) % depth] for level in range(depth))
            partial = Signal(max(depth - 1, 0), name=f"{name}_code", reset_less=True)
            threshold = one_hot_select(
                turn,
                [
                    select_threshold(m, f"{name}_node{level}", partial[:level], levels[level])
                    for level in range(depth)
                ],
            )
            if self.config.splits == "level":
                values = [one_hot_select(turn, [v.as_unsigned() for v in values])]
            bit = self._compare(m, platform, name, 0, values, threshold)
            code = Cat(bit, partial)
            move = Cat(turn[level] & self.enable[level + 1] for level in range(depth - 1))
            with m.If(named(m, f"{name}_move", move.any())):
                m.d.sync += partial.eq(code)
            codes.append(code)
        return one_hot_select(self.phase, codes)


def _parts(value: Value, bits: int) -> list[Value]:
    """A value cut into fields of so many bits, the lowest first."""
    return [value[low : low + bits] for low in range(0, len(value), bits)]


def select_word(lines: Value, keys: list[Value]) -> Value:
    """The signed word of a window at the line that is high."""
    return one_hot_select(lines, [key.as_unsigned() for key in keys]).as_signed()


def select_threshold(m: Module, name: str, partial_code: Value, thresholds: list[Value]) -> Value:
    """The threshold of node `partial_code` of a level with ``len(thresholds)`` nodes."""
    if len(thresholds) == 1:
        return thresholds[0]
    if len(thresholds) == 2:
        return Mux(partial_code, thresholds[1], thresholds[0])
    return one_hot_select(one_hot(m, name, partial_code, len(thresholds)), thresholds)
