"""The output stage: a row group's results leave in beats of W."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from ..config import AcceleratorConfig, ceil_log2
from ..tiled_config import AnyConfig
from .cells import equals, one_hot, one_hot_select
from .unit import Unit

__all__ = ["OutputSerializer", "output_payload"]


def output_payload(config: AnyConfig) -> data.StructLayout:
    """Payload of the output stream.

    Fields: `data`, W results: signed accumulators, bits of half floats, or signed bytes; `index`,
    the beat's number (only with several beats); `last`, high on a row group's last beat. Beat b's
    element j is result b*W + j of the row group, counted row by row: row = (b*W + j) // M, output
    m = (b*W + j) % M.
    """
    is_signed = "fp16" not in (config.output_format, config.lut_format)
    shape = signed(config.result_bits) if is_signed else unsigned(config.result_bits)
    fields: dict[str, object] = {"data": data.ArrayLayout(shape, config.output_width)}
    if config.n_beats > 1:
        fields["index"] = ceil_log2(config.n_beats)
    fields["last"] = 1
    return data.StructLayout(fields)


class OutputSerializer(Unit):
    """Takes P*M sums at once and sends them W at a time.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream.Signature(ArrayLayout(signed(acc_bits), P*M)))
        Sums, row by row.
    o_data, o_last, o_valid : Out; o_index : Out, several beats only; o_ready : In
        See `output_payload`; accumulators.

    Timing
    ------
    One beat: combinational. Several: the sums are copied, the first beat follows a cycle later,
    and new sums are taken with the last beat, so that no cycle is lost.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        c = config
        n_results = c.rows * c.n_outputs
        members = {
            "i": In(stream.Signature(data.ArrayLayout(signed(c.accumulator_bits), n_results))),
            "o_valid": Out(1),
            "o_ready": In(1),
            "o_data": Out(data.ArrayLayout(signed(c.accumulator_bits), c.output_width)),
            "o_last": Out(1),
        }
        if c.n_beats > 1:
            members["o_index"] = Out(ceil_log2(c.n_beats))
        super().__init__(
            members,
            module_name=f"halut_output_n{n_results}_w{c.output_width}_acc{c.accumulator_bits}",
            has_clock=c.n_beats > 1,
            has_reset=c.n_beats > 1,
        )

    def build(self, m: Module, platform: object) -> None:  # noqa: ARG002
        c = self.config
        sums = self.i.payload.as_value()
        if c.n_beats == 1:
            m.d.comb += [
                self.o_data.eq(sums),
                self.o_valid.eq(self.i.valid),
                self.o_last.eq(1),
                self.i.ready.eq(self.o_ready),
            ]
            return
        buffer = Signal(len(sums), reset_less=True)
        busy = Signal()
        beat = Signal(ceil_log2(c.n_beats))
        last = Signal()
        beat_bits = c.output_width * c.accumulator_bits
        beats = [buffer[b * beat_bits : (b + 1) * beat_bits] for b in range(c.n_beats)]
        m.d.comb += [
            last.eq(equals(beat, c.n_beats - 1)),
            self.i.ready.eq(~busy | (self.o_ready & last)),
            self.o_valid.eq(busy),
            self.o_data.eq(one_hot_select(one_hot(m, "beats", beat, c.n_beats), beats)),
            self.o_index.eq(beat),
            self.o_last.eq(last),
        ]
        with m.If(self.i.ready):
            m.d.sync += [busy.eq(self.i.valid), beat.eq(0)]
        with m.Elif(self.o_ready):
            m.d.sync += beat.eq(beat + 1)
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += buffer.eq(sums)
