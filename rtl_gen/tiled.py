# amaranth: UnusedElaboratable=no
"""Several units as one accelerator: rows, outputs and codebooks side by side.

All units have one configuration and move in lockstep: a row group enters all of them at once and
leaves all of them at once, so one set of handshakes serves them all.
"""

from __future__ import annotations

import itertools

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from halut import golden

from .tiled_config import TiledConfig
from .top import HalutMatmul, ProgramWrite, accelerator_members
from .units.cells import equals
from .units.float32 import FloatAdder
from .units.output_stage import OutputStage, is_region
from .units.unit import Unit, named

__all__ = ["HalutTiled", "JoinAdder"]


class JoinAdder(Unit):
    """Adds the partial sums of units that hold different codebooks, in the order of `pairwise`.

    Parameters
    ----------
    n_terms : int
        Units, at least 2.
    n_results : int
        Results side by side.
    partial_bits, sum_bits : int
        Width of a partial sum and of a sum, both signed.
    is_float : bool, default False
        Both are bits of binary32s.

    Members
    -------
    partial : In(ArrayLayout(ArrayLayout(signed(partial_bits), n_results), n_terms))
    enable : In(1)
        The register loads.
    sums : Out(ArrayLayout(signed(sum_bits), n_results))

    Timing
    ------
    One clock edge.
    """

    def __init__(
        self,
        *,
        n_terms: int,
        n_results: int,
        partial_bits: int,
        sum_bits: int,
        is_float: bool = False,
    ) -> None:
        self.is_float = is_float
        self.n_terms = n_terms
        self.n_results = n_results
        self.sum_bits = sum_bits
        partial = data.ArrayLayout(signed(partial_bits), n_results)
        super().__init__(
            {
                "partial": In(data.ArrayLayout(partial, n_terms)),
                "enable": In(1),
                "sums": Out(data.ArrayLayout(signed(sum_bits), n_results)),
            },
            module_name=f"halut_join_d{n_terms}_n{n_results}_b{partial_bits}_acc{sum_bits}"
            + ("_single" if is_float else ""),
        )

    def build(self, m: Module, platform: object) -> None:
        counter = itertools.count()

        def add(a: Value, b: Value) -> Value:
            if not self.is_float:
                return a + b
            adder = FloatAdder()
            self.add(m, f"adder{next(counter)}", adder, platform)
            m.d.comb += [adder.a.eq(a), adder.b.eq(b)]
            return adder.result

        for j in range(self.n_results):
            terms: list[Value] = [self.partial[d][j] for d in range(self.n_terms)]
            register = Signal(signed(self.sum_bits), name=f"sum{j}", reset_less=True)
            with m.If(self.enable):
                m.d.sync += register.eq(golden.pairwise(terms, add))
            m.d.comb += self.sums[j].eq(register)


class HalutTiled(Unit):
    """Units side by side behind one input, one output and one program stream.

    Parameters
    ----------
    config : TiledConfig

    Members
    -------
    i, program
        As of `HalutMatmul` with the numbers of all units together. The program address has
        fields above the unit's, see `TiledConfig.address_fields`; words for units that are not
        there are taken and dropped.
    o : Out(stream.Signature(output_payload(config)))
        Every unit's transfer in a part of its own, see `tiled_config.result_order`; the partial
        sums of units that differ in the codebooks only are added up, and converted after that.

    Timing
    ------
    As `HalutMatmul`; `latency_cycles` is one more where partial sums are joined.
    """

    def __init__(self, config: TiledConfig) -> None:
        self.config = config
        super().__init__(accelerator_members(config), module_name="halut_tiled", has_reset=True)

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        units = {
            (r, o, d): HalutMatmul(c.unit, partial=c.codebook_tiles > 1)
            for r in range(c.row_tiles)
            for o in range(c.output_tiles)
            for d in range(c.codebook_tiles)
        }
        for (r, o, d), unit in units.items():
            self.add(m, f"unit_r{r}_m{o}_d{d}", unit, platform)
            self._connect_program(m, unit, f"unit_r{r}_m{o}_d{d}", o, d)
            for row in range(c.unit.rows):
                for lane in range(c.unit.parallel_codebooks):
                    value = self.i.payload[r * c.unit.rows + row][
                        d * c.unit.parallel_codebooks + lane
                    ]
                    m.d.comb += unit.i.payload[row][lane].eq(value)
        ready = Signal()
        m.d.comb += [
            ready.eq(Cat(unit.i.ready for unit in units.values()).all()),
            self.i.ready.eq(ready),
            *(unit.i.valid.eq(self.i.valid & ready) for unit in units.values()),
            self.program.ready.eq(Cat(unit.program.ready for unit in units.values()).all()),
        ]
        self._connect_output(m, platform, units)

    def _connect_program(
        self, m: Module, unit: HalutMatmul, name: str, output: int, codebook: int
    ) -> None:
        c = self.config
        address = self.program.payload.address

        def field(region: str, part: str) -> Value:
            low, width = c.address_fields[region][part]
            return address[low : low + width]

        region = field("thresholds", "region")
        is_shared = is_region(region, 1) if c.output_constants else region.any()
        hit = equals(field("lut", "codebook_tile"), codebook) & (
            is_shared | equals(field("lut", "output_tile"), output)
        )
        if c.unit.double_buffer:
            hit |= field("switch", "command").any()
        hit = named(m, f"{name}_program_hit", hit)
        m.d.comb += [
            unit.program.valid.eq(self.program.valid & hit),
            unit.program.payload.address.eq(address[: c.unit.program_address_bits]),
            unit.program.payload.data.eq(self.program.payload.data),
        ]

    def _connect_output(
        self, m: Module, platform: object, units: dict[tuple[int, int, int], HalutMatmul]
    ) -> None:
        """Join the outputs; a register holds the sums of partial sums, an output stage follows."""
        c = self.config
        valid, ready = Signal(name="units_valid"), Signal(name="units_ready")
        first = units[0, 0, 0]
        m.d.comb += [
            valid.eq(Cat(unit.o.valid for unit in units.values()).all()),
            *(unit.o.ready.eq(valid & ready) for unit in units.values()),
        ]
        if c.codebook_tiles == 1:
            m.d.comb += [
                ready.eq(self.o.ready),
                self.o.valid.eq(valid),
                self.o.payload.data.eq(
                    Cat(unit.o.payload.data.as_value() for unit in units.values())
                ),
                self.o.payload.last.eq(first.o.payload.last),
            ]
            if c.n_beats > 1:
                m.d.comb += self.o.payload.index.eq(first.o.payload.index)
            return
        held, load = Signal(name="sums_held"), Signal(name="sums_load")
        taken = Signal(name="sums_taken") if c.unit.has_output_stage else self.o.ready
        m.d.comb += [
            ready.eq(~held | taken),
            load.eq(valid & ready),
        ]
        if not c.unit.has_output_stage:
            m.d.comb += self.o.valid.eq(held & self.running(platform))
        m.d.sync += held.eq(Mux(ready, valid, held))
        joined: dict[tuple[int, int], Value] = {}
        for r in range(c.row_tiles):
            for o in range(c.output_tiles):
                adder = JoinAdder(
                    n_terms=c.codebook_tiles,
                    n_results=c.unit.output_width,
                    partial_bits=c.unit.accumulator_bits,
                    sum_bits=c.accumulator_bits,
                    is_float=c.lut_format == "fp16",
                )
                self.add(m, f"join_r{r}_m{o}", adder, platform)
                m.d.comb += [
                    adder.enable.eq(load),
                    *(
                        adder.partial[d].eq(units[r, o, d].o.payload.data)
                        for d in range(c.codebook_tiles)
                    ),
                ]
                joined[r, o] = adder.sums.as_value()
        if not c.unit.has_output_stage:
            m.d.comb += self.o.payload.data.eq(Cat(joined.values()))
        held_fields: dict[str, Value] = {}
        for name in ["last", "index"] if c.n_beats > 1 else ["last"]:
            value = first.o.payload[name]
            register = Signal(len(Value.cast(value)), name=f"held_{name}", reset_less=True)
            with m.If(load):
                m.d.sync += register.eq(value)
            held_fields[name] = register
            if not c.unit.has_output_stage:
                m.d.comb += self.o.payload[name].eq(register)
        if c.unit.has_output_stage:
            stage = self._add_output_stages(m, platform, units, joined, held_fields, held)
            m.d.comb += taken.eq(stage.i_ready)

    def _add_output_stages(
        self,
        m: Module,
        platform: object,
        units: dict[tuple[int, int, int], HalutMatmul],
        joined: dict[tuple[int, int], Value],
        fields: dict[str, Value],
        held: Signal,
    ) -> OutputStage:
        """One behind every join; they move in lockstep, and the first one is returned."""
        c = self.config
        stages = {place: OutputStage(c.joined) for place in joined}
        for (r, o), stage in stages.items():
            self.add(m, f"output_stage_r{r}_m{o}", stage, platform)
            m.d.comb += [
                stage.i_valid.eq(held),
                stage.i_data.as_value().eq(joined[r, o]),
                *(getattr(stage, f"i_{name}").eq(value) for name, value in fields.items()),
                stage.o_ready.eq(self.o.ready),
            ]
        first = stages[0, 0]
        m.d.comb += [
            self.o.valid.eq(first.o_valid & self.running(platform)),
            self.o.payload.data.eq(Cat(stage.o_data.as_value() for stage in stages.values())),
            *(self.o.payload[name].eq(getattr(first, f"o_{name}")) for name in fields),
        ]
        if c.output_constants:
            write = ProgramWrite(m, c.unit, self.program, platform)
            for (_, o), stage in stages.items():
                # Units of codebook tile 0 take the word as well, and let no row group begin.
                place = c.tile_address(o, 0) >> c.unit.program_address_bits
                write.connect_constants(m, stage, equals(write.constants.tile, place))
                if c.unit.double_buffer:
                    m.d.comb += stage.bank.eq(units[0, 0, 0].active_bank)
            m.d.comb += (unit.output_busy.eq(held | first.busy) for unit in units.values())
        return first
