"""The thresholds of one codebook lane, shared by its rows."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig, ceil_log2
from .cells import clock_gate, equals, one_hot, one_hot_select, storage_kind, store_word
from .unit import Unit, named

__all__ = ["ThresholdMemory"]


class ThresholdMemory(Unit):
    """Memory of `stored_groups` codebooks times K-1 thresholds; a codebook's are read side by side.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    write_enable : In(1)
        A threshold word is written.
    write_group, write_word : In
        Which: codebook group, and word within the codebook; the word holds nodes
        ``write_word * thresholds_per_word`` and up, in breadth-first order. Absent when there is
        one only.
    write_data : In(thresholds_per_word * node_bits)
        Signed comparison keys, each with its node's place above it if it has one. Latches take it a
        cycle later than flip-flops: then it comes from a register that is loaded in the cycle of
        `write_enable`.
    enable : In(T), group : In(ArrayLayout(ceil(log2 G), T))
        G > 1 only: ``enable[l]`` fetches level l's thresholds of codebook group ``group[l]``.
    thresholds : Out(ArrayLayout(node_bits, K-1))
        Breadth-first: node ``2**level - 1 + partial code``.
    signs : Out(T * terms)
        With several terms only: 1 where a term is subtracted, of group ``group[0]``. They are not
        fetched into registers: the sums are.
    places : Out(T * place_bits)
        With places of levels only: the root's in the lowest bits, of group ``group[0]``, not
        fetched either.

    Timing
    ------
    G = 1: thresholds are always there. G > 1: a level's are there from the clock edge that
    enabled it until the next.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        c = config
        self.n_nodes = c.n_prototypes - 1
        self.write_bits = c.thresholds_per_word * c.node_bits
        members = {
            "write_enable": In(1),
            "write_data": In(self.write_bits),
            "thresholds": Out(data.ArrayLayout(unsigned(c.node_bits), self.n_nodes)),
        }
        if c.stored_groups > 1:
            group_bits = ceil_log2(c.stored_groups)
            members["write_group"] = In(group_bits)
            members["enable"] = In(c.tree_depth)
            members["group"] = In(data.ArrayLayout(unsigned(group_bits), c.tree_depth))
        if c.threshold_words > 1:
            members["write_word"] = In(ceil_log2(c.threshold_words))
        if c.terms > 1:
            members["signs"] = Out(c.n_values)
        if c.place_nodes:
            members["places"] = Out(c.tree_depth * c.place_bits)
        super().__init__(
            members,
            module_name=f"halut_threshold_memory_g{c.stored_groups}_k{c.n_prototypes}"
            f"_b{c.node_bits}_n{c.thresholds_per_word}"
            + (f"_s{c.terms}" if c.terms > 1 else "")
            + (f"_v{c.window}" if c.place_nodes else "")
            + f"_{c.constants_memory}",
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        kind = storage_kind(c.constants_memory, platform)
        group_strobes: list[Value] = [self.write_enable]
        if c.stored_groups > 1:
            enable, n_groups = self.write_enable, c.stored_groups
            group_strobes = list(one_hot(m, "groups", self.write_group, n_groups, enable=enable))
        word_index = self.write_word if c.threshold_words > 1 else Signal(0)

        if kind == "lutram":
            levels, behind = self._read_lutram(m, word_index)
        else:
            nodes = []
            for g, group_strobe in enumerate(group_strobes):
                n_words = c.threshold_words
                strobes = one_hot(m, f"g{g}_words", word_index, n_words, enable=group_strobe)
                nodes.append(self._store_codebook(m, kind, f"g{g}", strobes))
            levels = [self._read_level(m, nodes, level) for level in range(c.tree_depth)]
            n_behind = c.threshold_nodes - self.n_nodes
            behind = self._read_nodes(m, nodes, 0, self.n_nodes, n_behind)

        if c.terms > 1:
            m.d.comb += self.signs.eq(Cat(behind))
        if c.place_nodes:
            m.d.comb += self.places.eq(Cat(behind))
        for level, words in enumerate(levels):
            first = 2**level - 1
            for j, word in enumerate(words):
                target = self.thresholds[first + j]
                if c.stored_groups == 1:
                    m.d.comb += target.eq(word)
                    continue
                fetched = Signal(c.node_bits, name=f"node{first + j}", reset_less=True)
                with m.If(self.enable[level]):
                    m.d.sync += fetched.eq(word)
                m.d.comb += target.eq(fetched)

    def _store_codebook(self, m: Module, kind: str, name: str, strobes: Value) -> list[Value]:
        """Storage of one codebook: its K-1 nodes, and what is behind them."""
        c = self.config
        nodes: list[Value] = []
        for w in range(c.threshold_words):
            count = min(c.thresholds_per_word, c.threshold_nodes - len(nodes))
            strobe: Value = strobes[w]
            if kind == "latch":
                strobe = clock_gate(m, f"{name}_w{w}_gate", clock=self.clk_i, enable=strobe)
            word = store_word(
                m,
                f"{name}_w{w}",
                kind,
                strobe=strobe,
                data=self.write_data[: count * c.node_bits],
            )
            nodes += [word[i * c.node_bits : (i + 1) * c.node_bits] for i in range(count)]
        return nodes

    def _read_level(self, m: Module, nodes: list[list[Value]], level: int) -> list[Value]:
        """A level's thresholds in the level's current codebook group."""
        return self._read_nodes(m, nodes, level, 2**level - 1, 2**level)

    def _read_nodes(
        self, m: Module, nodes: list[list[Value]], level: int, first: int, count: int
    ) -> list[Value]:
        """Nodes of the codebook group that a level is at."""
        if self.config.stored_groups == 1 or not count:
            return nodes[0][first : first + count]
        name = f"level{level}"
        if first >= self.n_nodes:
            name = "signs" if self.config.terms > 1 else "places"
        lines = one_hot(m, f"{name}_groups", self.group[level], self.config.stored_groups)
        return [
            one_hot_select(lines, [codebook[first + j] for codebook in nodes]) for j in range(count)
        ]

    def _read_lutram(self, m: Module, word_index: Value) -> tuple[list[list[Value]], list[Value]]:
        """The levels' nodes, and those behind, from one small RAM per node, G words deep."""
        c = self.config
        levels: list[list[Value]] = []
        for level in range(c.tree_depth):
            nodes = range(2**level - 1, 2 ** (level + 1) - 1)
            levels.append([self._node_ram(m, word_index, node, level) for node in nodes])
        behind = range(self.n_nodes, c.threshold_nodes)
        return levels, [self._node_ram(m, word_index, node, 0) for node in behind]

    def _node_ram(self, m: Module, word_index: Value, node: int, level: int) -> Value:
        c = self.config
        w, position = divmod(node, c.thresholds_per_word)
        m.submodules[f"node{node}_ram"] = ram = Memory(
            shape=c.node_bits, depth=c.stored_groups, init=[]
        )
        write, read = ram.write_port(), ram.read_port(domain="comb")
        read.data.name = f"node{node}_word"
        low = position * c.node_bits
        hit = named(m, f"node{node}_enable", self.write_enable & equals(word_index, w))
        m.d.comb += [
            write.en.eq(hit),
            write.data.eq(self.write_data[low : low + c.node_bits]),
        ]
        if c.stored_groups > 1:
            m.d.comb += [
                write.addr.eq(self.write_group),
                read.addr.eq(self.group[level]),
            ]
        return read.data
