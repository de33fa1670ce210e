# amaranth: UnusedElaboratable=no
"""Decoders: look up, add, accumulate; one column per output, blocks of columns written together.

Integer entries are stored in offset binary (value + 2**(lut_bits-1)), so that all sums are of
unsigned numbers and no sign is extended. The offset of all C entries of a product,
C * 2**(lut_bits-1), is taken off once: as the accumulator's first value, or in the last sum; an
accumulator that saturates takes it off step by step. Half floats are widened to binary32 behind
the look-up and added by IEEE 754 adders, in the order of `halut.golden.accumulate`.
"""

from __future__ import annotations

import itertools
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from halut import golden

from ..config import AcceleratorConfig, ceil_log2
from .cells import clock_gate, one_hot, storage_kind
from .float32 import FloatAdder, HalfToSingle
from .lut_memory import LutMemory, select_members
from .sram_table import SramTable
from .unit import Unit, named

__all__ = ["Decoder", "DecoderBlock"]


def _column_select_members(config: AcceleratorConfig) -> dict[str, int]:
    """Select ports of a whole column: the lanes' `select` side by side, `group` shared."""
    ports = select_members(
        n_groups=config.stored_groups,
        n_prototypes=config.n_prototypes,
        rows=config.rows,
        memory=config.memory,
    )
    return {
        name: bits * (config.parallel_codebooks if name == "select" else 1)
        for name, bits in ports.items()
    }


def _name_suffix(config: AcceleratorConfig) -> str:
    return (
        f"c{config.n_codebooks}_k{config.n_prototypes}_p{config.rows}"
        f"_q{config.parallel_codebooks}_lut{config.entry_name}_acc{config.accumulator_bits}"
        f"_add{config.look_up_adder_levels}_{config.adder_levels_per_stage}_{config.memory}"
        + ("_per_row" if config.ram_per_row else "")
        + (f"_{config.overflow}" if config.overflow else "")
        + ("_double" if config.double_buffer else "")
    )


class Decoder(Unit):
    """One output column: the LUT of one output, look-ups and accumulators of P rows.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    write_strobe : In(C*K), twice as many with `double_buffer`
        One line per word, index codebook * K + prototype; see `LutMemory`.
    write_enable : In(Q), write_index : In(ceil(log2(G*K)))
        ``memory="lutram"`` only, instead of `write_strobe`.
    write_data : In(lut_bits)
        Offset binary, or a half float.
    select, group : In
        See `lut_memory.select_members`; lane q's `select` follows lane q-1's.
    entries : In(ArrayLayout(ArrayLayout(lut_bits, P), Q))
        ``memory="sram"`` only, instead of all these: per lane and row the entry that was read.
    enable : In(1 + sum_stages)
        Bit 0: the look-up registers load; bit s: the registers of sum stage s load.
    first : In(1)
        G > 1 only, with the last enable: a new sum is begun.
    sums : Out(ArrayLayout(signed(acc_bits), P))
        For half floats the bits of binary32s.

    Timing
    ------
    1 + sum_stages clock edges from stable selects to `sums`; one step per cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        c = config
        members: dict[str, Any] = {}
        if c.memory == "sram":
            row = data.ArrayLayout(unsigned(c.lut_bits), c.rows)
            members["entries"] = In(data.ArrayLayout(row, c.parallel_codebooks))
        else:
            members |= {name: In(bits) for name, bits in _column_select_members(c).items()}
            if c.memory == "lutram":
                members["write_enable"] = In(c.parallel_codebooks)
                members["write_index"] = In(ceil_log2(c.stored_groups * c.n_prototypes))
            else:
                members["write_strobe"] = In(c.stored_codebooks * c.n_prototypes)
            members["write_data"] = In(c.lut_bits)
        members["enable"] = In(1 + c.sum_stages)
        if c.n_groups > 1:
            members["first"] = In(1)
        members["sums"] = Out(data.ArrayLayout(signed(c.accumulator_bits), c.rows))
        super().__init__(members, module_name=f"halut_decoder_{_name_suffix(c)}")

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        lanes: list[Any] = [
            self.entries[q] if c.memory == "sram" else self._add_lane(m, platform, q).value
            for q in range(c.parallel_codebooks)
        ]
        for row in range(c.rows):
            values = [lane[row] for lane in lanes]
            if c.lut_format == "fp16":
                values = [
                    self._widen(m, platform, f"row{row}_lane{q}", value)
                    for q, value in enumerate(values)
                ]
            total = self._sum_row(m, platform, row, values)
            m.d.comb += self.sums[row].eq(total)

    def _widen(self, m: Module, platform: object, name: str, half: Value) -> Value:
        unit = HalfToSingle()
        self.add(m, f"{name}_single", unit, platform)
        m.d.comb += unit.half.eq(half)
        return unit.result

    def _add_floats(self, m: Module, platform: object, name: str, a: Value, b: Value) -> Value:
        adder = FloatAdder()
        self.add(m, name, adder, platform)
        m.d.comb += [adder.a.eq(a), adder.b.eq(b)]
        return adder.result

    def _add_lane(self, m: Module, platform: object, q: int) -> LutMemory:
        """The table of lane q: codebooks q, Q + q, 2Q + q, …"""
        c = self.config
        lane = LutMemory(
            n_groups=c.stored_groups,
            n_prototypes=c.n_prototypes,
            width=c.lut_bits,
            rows=c.rows,
            memory=c.memory,
            ram_per_row=c.ram_per_row,
            ram_style=c.table_ram_style,
        )
        self.add(m, f"lane{q}", lane, platform)
        width = len(lane.select)
        m.d.comb += [
            lane.write_data.eq(self.write_data),
            lane.select.eq(self.select[q * width : (q + 1) * width]),
        ]
        if "group" in lane.select_ports:
            m.d.comb += lane.group.eq(self.group)
        if c.memory == "lutram":
            m.d.comb += [
                lane.write_enable.eq(self.write_enable[q]),
                lane.write_index.eq(self.write_index),
            ]
        else:
            k = c.n_prototypes
            codebooks = range(q, c.stored_codebooks, c.parallel_codebooks)
            strobes = Cat(self.write_strobe[cb * k : (cb + 1) * k] for cb in codebooks)
            m.d.comb += lane.write_strobe.eq(strobes)
        return lane

    def _register(self, m: Module, value: Value, *, name: str, enable: Value) -> Signal:
        register = Signal(len(value), name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += register.eq(value)
        return register

    def _sum_row(self, m: Module, platform: object, row: int, values: list[Value]) -> Value:
        """Add up to 2**levels terms per stage; accumulate in the last."""
        c = self.config
        counter = itertools.count()

        def add(a: Value, b: Value) -> Value:
            if c.lut_format == "int":
                return a + b
            return self._add_floats(m, platform, f"row{row}_adder{next(counter)}", a, b)

        width = c.accumulator_bits
        offset = Const(-(c.n_codebooks << (c.lut_bits - 1)) % (1 << width), width)
        terms = values
        for stage in range(1 + c.sum_stages):
            size = 2 ** (c.adder_levels_per_stage if stage else c.look_up_adder_levels)
            terms = [golden.pairwise(terms[i : i + size], add) for i in range(0, len(terms), size)]
            name = f"row{row}_stage{stage}"
            enable = self.enable[stage]
            if stage < c.sum_stages:
                terms = [
                    self._register(m, term, name=f"{name}_term{i}", enable=enable)
                    for i, term in enumerate(terms)
                ]
                continue
            accumulator = Signal(width, name=f"row{row}_accumulator", reset_less=True)
            if c.lut_format == "fp16":
                following = terms[0]
                if c.n_groups > 1:
                    following = Mux(self.first, terms[0], add(accumulator, terms[0]))
            elif c.overflow == "saturate":
                following = self._saturated(m, row, terms[0], accumulator)
            else:
                base = offset if c.n_groups == 1 else Mux(self.first, offset, accumulator)
                following = terms[0] + base
            with m.If(enable):
                m.d.sync += accumulator.eq(following)
        return accumulator

    def _saturated(self, m: Module, row: int, step: Value, accumulator: Signal) -> Value:
        """The accumulator plus a step's unsigned sum less its offset, within the accumulator."""
        c = self.config
        width = c.accumulator_bits
        base: Value = Const(0)
        if c.n_groups > 1:
            base = Mux(self.first, 0, accumulator.as_signed())
        total = Signal(signed(max(len(step), width) + 2), name=f"row{row}_total")
        m.d.comb += total.eq(step - (c.parallel_codebooks << (c.lut_bits - 1)) + base)
        top = total[width - 1 :]
        limit = Cat((~total[-1]).replicate(width - 1), total[-1])
        return Mux(top.any() & ~top.all(), limit, total[:width])


class DecoderBlock(Unit):
    """Decoders that one program word spans, with the write strobes they share.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    write_enable : In(1)
        A LUT word of this block is written.
    write_codebook : In(ceil(log2 stored_codebooks)), write_prototype : In(T)
        Which (`write_codebook` is absent for one).
    write_data : In(decoders_per_word * lut_bits)
        Two's complement or half floats, the block's first column in the lowest bits; see
        `ThresholdMemory` for when latches take it. For SRAMs it comes a cycle after the rest.
    codes : In(ArrayLayout(ArrayLayout(K or T, P), Q))
        Per lane and row the code, as `Encoder.codes`.
        With `decode_in_blocks` a clock edge before the rest of their step.
    group : In(look_up_group_bits)
        stored_groups > 1 only: the codebook group, see `AcceleratorConfig.look_up_group_bits`.
    enable, first : In
        See `Decoder`. With SRAM, bit 0 of `enable` is of the stage before: the tables are read;
        with `decode_in_blocks` too: the codes are registered.
    sums : Out(ArrayLayout(ArrayLayout(signed(acc_bits), P), decoders_per_word))

    Timing
    ------
    As `Decoder`, and a clock edge more from codes to sums with SRAM, or `decode_in_blocks`.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        c = config
        members = {
            "write_enable": In(1),
            "write_prototype": In(c.tree_depth),
            "write_data": In(c.decoders_per_word * c.lut_bits),
            "codes": In(
                data.ArrayLayout(
                    data.ArrayLayout(unsigned(c.code_wires), c.rows), c.parallel_codebooks
                )
            ),
            "enable": In(c.block_cycles),
            "sums": Out(
                data.ArrayLayout(
                    data.ArrayLayout(signed(c.accumulator_bits), c.rows), c.decoders_per_word
                )
            ),
        }
        if c.stored_codebooks > 1:
            members["write_codebook"] = In(ceil_log2(c.stored_codebooks))
        if c.stored_groups > 1:
            members["group"] = In(c.look_up_group_bits)
        if c.n_groups > 1:
            members["first"] = In(1)
        super().__init__(
            members,
            module_name=f"halut_decoder_block_u{c.decoders_per_word}_{_name_suffix(c)}"
            + ("_decode" if c.decode_in_blocks else ""),
        )

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        decoders = []
        for u in range(c.decoders_per_word):
            decoder = Decoder(c)
            self.add(m, f"decoder{u}", decoder, platform)
            decoders.append(decoder)
            m.d.comb += [
                decoder.enable.eq(self.enable[c.block_code_stages + c.fetch_stages :]),
                self.sums[u].eq(decoder.sums),
            ]
            if c.n_groups > 1:
                m.d.comb += decoder.first.eq(self.first)
        if c.memory == "sram":
            self._add_srams(m, platform, decoders)
            return
        ports = self._write_ports(m, platform) | self._select(m)
        for decoder, entry in zip(decoders, self._stored_entries, strict=True):
            m.d.comb += [
                *(getattr(decoder, name).eq(value) for name, value in ports.items()),
                decoder.write_data.eq(entry),
            ]

    @property
    def _stored_entries(self) -> list[Value]:
        """The entries of the word that is written, as they are stored."""
        c = self.config
        width = c.lut_bits
        entries = [self.write_data[u * width : (u + 1) * width] for u in range(c.decoders_per_word)]
        if c.lut_format == "fp16":
            return list(entries)
        return [entry ^ (1 << (width - 1)) for entry in entries]

    def _add_srams(self, m: Module, platform: object, decoders: list[Decoder]) -> None:
        """A table of all decoders' entries for every lane, and the addresses that it is read at."""
        c = self.config
        # Without reset: a word that was accepted just before one is written in it.
        ports = self._write_ports(m, platform)
        write = {
            name: Signal(len(value), name=f"late_{name}", reset_less=True)
            for name, value in ports.items()
        }
        m.d.sync += [write[name].eq(value) for name, value in ports.items()]
        group = [self.group] if c.stored_groups > 1 else []
        for q in self._lanes:
            table = SramTable(
                n_words=c.n_groups * c.n_prototypes,
                width=c.decoders_per_word * c.lut_bits,
                rows=c.rows,
                n_banks=c.n_banks,
            )
            self.add(m, f"lane{q}", table, platform)
            m.d.comb += [
                table.read.eq(self.enable[0]),
                table.index.as_value().eq(Cat(Cat(code, *group) for code in self.codes[q])),
                table.write_enable.eq(write["write_enable"][q]),
                table.write_index.eq(write["write_index"]),
                table.write_data.eq(Cat(self._stored_entries)),
            ]
            for u, decoder in enumerate(decoders):
                low = u * c.lut_bits
                m.d.comb += [
                    decoder.entries[q][row].eq(table.value[row][low : low + c.lut_bits])
                    for row in range(c.rows)
                ]

    @property
    def _lanes(self) -> range:
        return range(self.config.parallel_codebooks)

    def _write_ports(self, m: Module, platform: object) -> dict[str, Value]:
        """The decoders' write ports but for the data: strobes, or enable and index."""
        c = self.config
        codebook = self.write_codebook if c.stored_codebooks > 1 else Signal(0)
        codebooks = one_hot(m, "codebooks", codebook, c.stored_codebooks, enable=self.write_enable)
        if c.numbered_tables:
            lanes = [Cat(codebooks[q :: c.parallel_codebooks]).any() for q in self._lanes]
            group = Signal(c.look_up_group_bits, name="write_group")
            for g in range(c.stored_groups):
                first = g * c.parallel_codebooks
                bank, place = divmod(g, c.n_groups)
                if c.memory == "sram":
                    place |= bank << ceil_log2(c.n_groups)
                else:
                    place = g
                with m.If(codebooks[first : first + c.parallel_codebooks].any()):
                    m.d.comb += group.eq(place)
            return {"write_enable": Cat(lanes), "write_index": Cat(self.write_prototype, group)}
        prototypes = one_hot(m, "prototypes", self.write_prototype, c.n_prototypes)
        strobes = Signal(c.stored_codebooks * c.n_prototypes, name="write_strobe")
        for cb in range(c.stored_codebooks):
            for k in range(c.n_prototypes):
                word = cb * c.n_prototypes + k
                strobe: Value = named(m, f"word{word}_enable", codebooks[cb] & prototypes[k])
                if storage_kind(c.memory, platform) == "latch":
                    strobe = clock_gate(m, f"gate{word}", clock=self.clk_i, enable=strobe)
                m.d.comb += strobes[word].eq(strobe)
        return {"write_strobe": strobes}

    def _decoded(self, m: Module, name: str, code: Value) -> Value:
        """A registered code as one line per prototype."""
        register = Signal(len(code), name=f"{name}_code", reset_less=True)
        with m.If(self.enable[0]):
            m.d.sync += register.eq(code)
        return one_hot(m, f"{name}_prototypes", register, self.config.n_prototypes)

    def _select(self, m: Module) -> dict[str, Value]:
        """The decoders' select ports, made once for the block."""
        c = self.config
        ports = _column_select_members(c)
        lines = []
        for q in range(c.parallel_codebooks):
            for row in range(c.rows):
                code = self.codes[q][row]
                if c.decode_in_blocks:
                    code = self._decoded(m, f"lane{q}_row{row}", code)
                if c.memory == "lutram":
                    lines.append(Cat(code, self.group) if c.stored_groups > 1 else code)
                elif c.stored_groups > 1 and "group" not in ports:
                    groups = range(c.stored_groups)
                    lines += [code & self.group[g].replicate(len(code)) for g in groups]
                else:
                    lines.append(code)
        select = Signal(ports["select"], name="select")
        m.d.comb += select.eq(Cat(lines))
        result: dict[str, Value] = {"select": select}
        if "group" in ports:
            result["group"] = self.group
        return result
