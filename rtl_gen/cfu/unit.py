# amaranth: UnusedElaboratable=no
"""The custom function unit: five instructions behind a processor's port for them."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from rtl_gen.config import ceil_log2
from rtl_gen.units.cells import equals, one_hot, one_hot_select
from rtl_gen.units.unit import Unit, named

from .config import ADD, INPUT_BITS, READ, START, THRESHOLDS, WALK, WORD_BITS, CfuConfig

__all__ = ["CustomFunctionUnit"]


def _decode(
    m: Module, name: str, index: Value, n_lines: int, enable: Value | None = None
) -> Signal:
    """Decode as many bits of an index as `n_lines` lines need."""
    return one_hot(m, name, index[: ceil_log2(n_lines)], n_lines, enable=enable)


class CustomFunctionUnit(Unit):
    """Encodes and accumulates for a processor, one instruction per cycle.

    ========== ====== ================================ ==================================
    function   funct7 operands                         answer
    ========== ====== ================================ ==================================
    THRESHOLDS pair   thresholds 2 * pair and the next 0
    WALK       pair   values of levels 2 * pair and    number of the node so far: after
                      the next; pair 0 begins          the last pair the code
    START      bank   `lanes` entries, each plus half  0
                      its range, first one lowest:
                      the bank's sums become them
    ADD        bank   the same, added to the sums      0
    READ       sum    none                             the sum, signed
    ========== ====== ================================ ==================================

    Thresholds have 9 bits, values 8, both signed; higher bits do not count. A value goes right when
    it is greater than its threshold. An index must be of something that there is. Functions 5 to 7
    answer 0 and change nothing.

    Parameters
    ----------
    config : CfuConfig

    Members
    -------
    cmd : In(stream.Signature(StructLayout(function_id, inputs_0, inputs_1)))
        `function_id`: funct7 in bits 9 to 3, funct3 in bits 2 to 0; `inputs_0`, `inputs_1`: the
        registers rs1 and rs2.
    rsp : Out(stream.Signature(32))
        One answer for every command, in their order.

    Timing
    ------
    An answer comes 1 cycle after its command; one command per cycle while answers are taken.
    A reset forgets the answers that are due; what the unit holds stays.
    """

    def __init__(self, config: CfuConfig) -> None:
        self.config = config
        command = data.StructLayout(
            {"function_id": 10, "inputs_0": WORD_BITS, "inputs_1": WORD_BITS}
        )
        members = {
            "cmd": In(stream.Signature(command)),
            "rsp": Out(stream.Signature(WORD_BITS)),
        }
        super().__init__(members, module_name="halut_cfu", has_reset=True)

    def build(self, m: Module, platform: object) -> None:
        running = self.running(platform)
        answered = Signal(name="answered")
        taken = Signal(name="taken")
        m.d.comb += [
            self.cmd.ready.eq(running & (~answered | self.rsp.ready)),
            taken.eq(self.cmd.valid & self.cmd.ready),
            self.rsp.valid.eq(running & answered),
        ]
        with m.If(self.cmd.ready):
            m.d.sync += answered.eq(self.cmd.valid)
        operands = [self.cmd.payload.inputs_0, self.cmd.payload.inputs_1]
        index = named(m, "index", self.cmd.payload.function_id[3:])
        function = self.cmd.payload.function_id[:3]
        does = [
            named(m, f"do_{name}", taken & equals(function, funct3))
            for funct3, name in enumerate(("thresholds", "walk", "start", "add", "read"))
        ]
        thresholds = self._thresholds(m, does[THRESHOLDS], index, operands)
        code = self._walk(m, does[WALK], index, operands, thresholds)
        total = self._sums(m, does, index, operands)
        answer = Signal(WORD_BITS, name="answer", reset_less=True)
        lines = named(m, "answers", Cat(does[WALK], does[READ]))
        with m.If(taken):
            m.d.sync += answer.eq(one_hot_select(lines, [code, total]))
        m.d.comb += self.rsp.payload.eq(answer)

    def _thresholds(
        self, m: Module, write: Value, index: Value, operands: list[Value]
    ) -> list[Signal]:
        """The K - 1 thresholds of one codebook."""
        c = self.config
        pairs = _decode(m, "pairs", index, c.n_prototypes // 2, enable=write)
        stored = []
        for node in range(c.n_prototypes - 1):
            threshold = Signal(c.threshold_bits, name=f"threshold{node}", reset_less=True)
            with m.If(pairs[node // 2]):
                m.d.sync += threshold.eq(operands[node % 2][: c.threshold_bits])
            stored.append(threshold)
        return stored

    def _walk(
        self,
        m: Module,
        step: Value,
        index: Value,
        operands: list[Value],
        thresholds: list[Signal],
    ) -> Value:
        """The number of the node, within its level, after the two levels of this instruction."""
        depth = self.config.tree_depth
        node = Signal(depth, name="node", reset_less=True)
        n_pairs = (depth + 1) // 2
        lines = _decode(m, "steps", index, n_pairs, enable=step)
        codes = []
        for pair in range(n_pairs):
            reached: Value = node[: 2 * pair]
            for level in range(2 * pair, min(2 * pair + 2, depth)):
                value = operands[level % 2][:INPUT_BITS].as_signed()
                found = thresholds[2**level - 1 : 2 ** (level + 1) - 1]
                threshold = named(
                    m, f"threshold_of_level{level}",
                    one_hot_select(one_hot(m, f"nodes{level}", reached, len(found)), found),
                )  # fmt: skip
                right = named(m, f"right{level}", value > threshold.as_signed())
                reached = Cat(right, reached)
            codes.append(named(m, f"code{pair}", Cat(reached, Const(0, depth - len(reached)))))
        code = named(m, "code", one_hot_select(lines, codes))
        with m.If(step):
            m.d.sync += node.eq(code)
        return code

    def _sums(self, m: Module, does: list[Signal], index: Value, operands: list[Value]) -> Value:
        """The sum of this index, sign-extended; entries begin or join those of a bank."""
        c = self.config
        sums = [Signal(c.acc_bits, name=f"sum{k}", reset_less=True) for k in range(c.n_sums)]
        changes = named(m, "changes", does[START] | does[ADD])
        banks = _decode(m, "banks", index, c.banks, enable=changes)
        joined = _decode(m, "joined", index, c.banks, enable=does[ADD])
        reads = _decode(m, "reads", index, c.n_sums, enable=does[READ])
        # The adders stand still while something else goes on.
        word = named(m, "entries", Cat(*operands) & changes.replicate(2 * WORD_BITS))
        for lane in range(c.lanes):
            biased = word.word_select(lane, c.lut_bits)
            entry = Cat(biased[:-1], ~biased[-1]).as_signed()
            before = one_hot_select(joined, sums[lane :: c.lanes])
            total = Signal(signed(c.acc_bits), name=f"total{lane}")
            m.d.comb += total.eq(before.as_signed() + entry)
            for bank in range(c.banks):
                with m.If(banks[bank]):
                    m.d.sync += sums[bank * c.lanes + lane].eq(total)
        wanted = named(m, "wanted", one_hot_select(reads, sums))
        extended = Signal(signed(WORD_BITS), name="extended")
        m.d.comb += extended.eq(wanted.as_signed())
        return extended.as_unsigned()
