"""Control: handshakes, the valid bits of the pipeline, and the codebook group of each stage."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig, ceil_log2
from .cells import equals, one_hot
from .unit import Unit, named

__all__ = ["Control"]


class Control(Unit):
    """Moves transfers through the pipeline and keeps program writes apart from them.

    The whole pipeline stands still while a finished result is not taken (`sums_valid` without
    `sums_ready`). A program word is taken when the pipeline is empty and no row group has begun;
    while one is offered no row group begins; in the cycle after a write none begins either, so
    that a written latch has two cycles to settle. With `double_buffer` that holds for words to the
    bank in use and for switching; words to the other bank are taken at any time and hold up
    nothing.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i_valid : In(1), i_ready : Out(1)
        Input stream's handshake.
    program_valid : In(1), program_ready : Out(1)
        Program stream's handshake.
    sums_valid : Out(1), sums_ready : In(1)
        Handshake of the decoders' finished sums.
    full_next : In(1)
        With `skid_buffer`, in place of `sums_ready`: that it will be 0 in the next cycle. Whether
        the pipeline stands still, and all enables but the first, come from registers then.
    output_busy : In(1)
        Only where the output stage has constants, which program words change: results wait
        behind the sums.
    enable : Out(pipeline_stages)
        Bit s: the transfer in stage s moves on at the next clock edge.
    phase : Out(T)
        Interleaved encoder only: one-hot, turns with every step of the pipeline.
    program_switch, program_bank : In(1)
        With `double_buffer` only: the word is a command to switch to the bank; it is for the bank.
    active_bank : Out(1)
        With `double_buffer` and constants only: the bank of everything inside.
    group : Out(ArrayLayout(ceil(log2 stored_groups), T))
        stored_groups > 1 only: codebook group in the stage that fetches a level's thresholds.
    lut_group : Out(look_up_group_bits)
        stored_groups > 1 only: codebook group in the stage that addresses the tables.
    first : Out(1)
        G > 1 only: the transfer in the last stage is its row group's first.

    Timing
    ------
    In a cycle of reset both readies are 0. Everything but the valid bits, the input's group
    counter, the phase and the bank in use is without reset.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        c = config
        members = {
            "i_valid": In(1),
            "i_ready": Out(1),
            "program_valid": In(1),
            "program_ready": Out(1),
            "sums_valid": Out(1),
            "full_next" if c.skid_buffer else "sums_ready": In(1),
            "enable": Out(c.pipeline_stages),
        }
        if c.output_constants:
            members["output_busy"] = In(1)
        if c.encoder == "interleaved":
            members["phase"] = Out(c.tree_depth)
        if c.double_buffer:
            members["program_switch"] = In(1)
            members["program_bank"] = In(1)
            if c.output_constants:
                members["active_bank"] = Out(1)
        if c.stored_groups > 1:
            group_bits = ceil_log2(c.stored_groups)
            members["group"] = Out(data.ArrayLayout(unsigned(group_bits), c.tree_depth))
            members["lut_group"] = Out(c.look_up_group_bits)
        if c.n_groups > 1:
            members["first"] = Out(1)
        super().__init__(
            members,
            module_name=f"halut_control_g{c.n_groups}_t{c.tree_depth}_r{c.tree_levels_per_stage}_{c.encoder}"
            f"_s{c.pipeline_stages}"
            + ("_captured" if c.encoder == "addressed" and c.captures_input else "")
            + ("_binary" if c.memory == "lutram" and c.stored_groups > 1 else "")
            + ("_sram" if c.fetch_stages else "")
            + (f"_code{c.code_stages}" if c.code_stages else "")
            + ("_skid" if c.skid_buffer else "")
            + ("_output" if c.output_constants else "")
            + ("_double" if c.double_buffer else ""),
            has_reset=True,
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        stages = c.pipeline_stages
        advance = Signal(init=1)
        valid = Signal(stages - 1, name="stage_valid")  # stages 1 and up
        settling = Signal()
        at_group_start: Value = Const(1)
        group = Signal(ceil_log2(c.n_groups), name="input_group")
        if c.n_groups > 1 and c.threshold_stage(0):
            at_group_start = named(m, "at_group_start", equals(group, 0))
        elif c.n_groups > 1:
            starts = [equals(self.group[0], bank * c.n_groups) for bank in range(c.n_banks)]
            at_group_start = named(
                m, "at_group_start", starts[0] if c.n_banks == 1 else starts[0] | starts[1]
            )
        bank = Signal(name="active_bank")
        is_empty = ~valid.any()
        if c.output_constants:
            is_empty = is_empty & ~self.sums_valid & ~self.output_busy
        is_empty = named(m, "pipeline_empty", is_empty)
        program_ready = at_group_start & is_empty
        held: Value = self.program_valid
        if c.double_buffer:
            aside = Signal(name="program_aside")  # the word goes to the bank that is not used
            m.d.comb += aside.eq(~self.program_switch & (self.program_bank != bank))
            program_ready = program_ready | aside
            held = named(m, "program_held", self.program_valid & ~aside)
            taken = self.program_valid & self.program_ready
            with m.If(named(m, "program_switches", taken & self.program_switch)):
                m.d.sync += bank.eq(self.program_bank)
            if c.output_constants:
                m.d.comb += self.active_bank.eq(bank)

        # Nothing is taken in reset: it would be lost, or a latch would have no time to settle.
        running = self.running(platform)
        taken = named(m, "input_taken", self.i_valid & self.i_ready)
        waits = named(m, "input_waits", at_group_start & (held | settling))
        if not c.skid_buffer:
            m.d.comb += advance.eq(~self.sums_valid | self.sums_ready)
        m.d.comb += [
            self.program_ready.eq(running & program_ready),
            self.i_ready.eq(advance & running & ~waits),
        ]
        m.d.sync += settling.eq(named(m, "program_taken", held & self.program_ready))
        last: Value = Const(1)
        if c.stored_groups > 1:
            last = self._follow_group(m, group, bank)
        finished = named(m, "sums_finished", valid[-1] & last)
        with m.If(advance):
            m.d.sync += [
                valid.eq(Cat(taken, valid)),
                self.sums_valid.eq(finished),
            ]
        behind = valid & advance.replicate(stages - 1)
        if c.skid_buffer:
            # All of it is known a cycle before.
            halts = Mux(advance, finished, self.sums_valid) & self.full_next
            halts = named(m, "halts_next", halts)
            moving = Mux(advance, Cat(taken, valid)[: stages - 1], valid)
            behind = Signal(stages - 1, name="stage_enable")
            m.d.sync += [
                advance.eq(~halts),
                behind.eq(moving & ~halts.replicate(stages - 1)),
            ]
        m.d.comb += self.enable.eq(Cat(taken, behind))
        if c.encoder == "interleaved":
            phase = Signal(c.tree_depth, init=1)
            m.d.comb += self.phase.eq(phase)
            with m.If(advance):
                m.d.sync += phase.eq(Cat(phase[-1], phase[:-1]))

    def _stored(self, m: Module, name: str, group: Value, bank: Value) -> Value:
        """Where a codebook group is in the memories."""
        c = self.config
        if not c.double_buffer:
            return group
        if c.n_groups & (c.n_groups - 1) == 0:
            return Cat(group, bank)
        stored = Signal(ceil_log2(c.stored_groups), name=name)
        m.d.comb += stored.eq(Mux(bank, group + c.n_groups, group))
        return stored

    def _follow_group(self, m: Module, group: Signal, bank: Value) -> Value:
        """Carry the codebook group along the pipeline; returns `last` in the last stage."""
        c = self.config
        at_last_group = named(m, "at_last_group", equals(group, c.n_groups - 1))
        with m.If(self.enable[0]):
            m.d.sync += group.eq(Mux(at_last_group, 0, group + 1))
        # They address the threshold memory and, decoded, the look-up stage.
        groups = [group]
        for stage in range(c.code_cycles - 1):
            following = Signal(group.shape(), name=f"stage{stage + 1}_group", reset_less=True)
            with m.If(self.enable[stage]):
                m.d.sync += following.eq(groups[-1])
            groups.append(following)
        for level in range(c.tree_depth):
            following = groups[c.threshold_stage(level)]
            m.d.comb += self.group[level].eq(self._stored(m, f"level{level}", following, bank))
        lut_group = Signal(len(self.lut_group), name="look_up_group", reset_less=True)
        if c.memory == "sram":
            following = Cat(groups[-1], bank) if c.double_buffer else groups[-1]
        else:
            following = self._stored(m, "last_group", groups[-1], bank)
        if not c.numbered_tables:
            following = one_hot(m, "groups", following, c.stored_groups)
        with m.If(self.enable[c.code_cycles - 1]):
            m.d.sync += lut_group.eq(following)
        m.d.comb += self.lut_group.eq(lut_group)
        if c.n_groups == 1:
            return Const(1)

        def at(group: int) -> Value:
            if c.memory == "sram":
                return equals(lut_group[: ceil_log2(c.n_groups)], group)
            stored = range(group, c.stored_groups, c.n_groups)
            found = [equals(lut_group, g) if c.numbered_tables else lut_group[g] for g in stored]
            return found[0] if len(found) == 1 else found[0] | found[1]

        first, last = at(0), at(c.n_groups - 1)
        for stage in range(c.code_cycles, c.pipeline_stages - 1):
            flags = Signal(2, name=f"stage{stage + 1}_first_last", reset_less=True)
            with m.If(self.enable[stage]):
                m.d.sync += flags.eq(Cat(first, last))
            first, last = flags[0], flags[1]
        m.d.comb += self.first.eq(first)
        return last
