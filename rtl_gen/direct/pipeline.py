"""Valid bits of a pipeline that stands still while its result is not taken."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value

from rtl_gen.units.unit import named

__all__ = ["Pipeline"]


class Pipeline:
    """Control of `stages` pipeline stages behind an input register.

    Stage 0 is the input register. A vector that is taken moves one stage per cycle; all of them
    stop while a finished result is offered and not taken.

    Parameters
    ----------
    m : Module
    stages : int
        Stages behind the input register.
    i_valid, hold, first, last : Value
        Of the input stream: an item is offered; none may be taken; it begins, it ends a sum.
    o_valid : Signal
        Made here: a sum is finished.
    o_ready : Value
    running : Value
        Low in a cycle of reset, in which nothing is taken.

    Attributes
    ----------
    i_ready : Value
    enable : Signal
        Bit s: stage s loads at the next clock edge.
    first : Value
        `first` of the item in the last stage.
    busy : Value
        An item is on its way, or a sum is not taken.
    """

    def __init__(
        self,
        m: Module,
        *,
        stages: int,
        i_valid: Value,
        hold: Value,
        first: Value,
        last: Value,
        o_valid: Signal,
        o_ready: Value,
        running: Value,
    ) -> None:
        advance = Signal(name="advance")
        valid = Signal(stages, name="stage_valid")  # stages 1 and up
        ready = Signal(name="input_ready")
        taken = named(m, "input_taken", i_valid & ready)
        self.i_ready = ready
        self.enable = Signal(1 + stages, name="stage_enable")
        m.d.comb += [
            advance.eq(~o_valid | o_ready),
            ready.eq(advance & running & ~hold),
            self.enable.eq(Cat(taken, valid & advance.replicate(stages))),
        ]
        for stage in range(stages):
            flags = Signal(2, name=f"stage{stage + 1}_first_last", reset_less=True)
            with m.If(self.enable[stage]):
                m.d.sync += flags.eq(Cat(first, last))
            first, last = flags[0], flags[1]
        self.first = first
        self.busy = valid.any() | o_valid
        with m.If(advance):
            m.d.sync += [valid.eq(Cat(taken, valid)), o_valid.eq(valid[-1] & last)]
