"""The accelerator's units, each alone, as designs for the flow.

A unit is its own top: the testbench drives all of its ports in every cycle, at full rate, and
compares its outputs with the exact model. It has no streams; the testbench's have wires beside it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.designs.design import Design, Stream, Workload
from halut import golden
from halut.checks import one_of
from halut.errors import HalutError
from halut.program import Program
from rtl_gen.config import AcceleratorConfig, ceil_log2
from rtl_gen.image import program_image
from rtl_gen.tiled import JoinAdder
from rtl_gen.units.decoder import Decoder, DecoderBlock
from rtl_gen.units.encoder import encoder_unit
from rtl_gen.units.unit import Unit
from rtl_gen.verilog import unit_verilog
from sim.packing import pack

__all__ = ["UNITS", "UnitKind", "unit_design"]


@dataclass(frozen=True, kw_only=True)
class _Core:
    """One unit, and what it is made to do."""

    unit: Unit
    latency: int  #: Clock edges from inputs to outputs.
    interval: int  #: Cycles from one result to the next.
    #: `play(rng, n)` returns the items of loading, those of `n` cycles of work, and the outputs
    #: that each of these gives after `latency` cycles; None where it gives none.
    play: Callable[
        [np.random.Generator, int],
        tuple[list[dict[str, int]], list[dict[str, int]], list[dict[str, int] | None]],
    ]


def _program(config: AcceleratorConfig, rng: np.random.Generator) -> Program:
    c = config
    return golden.random_program(
        rng, c.n_codebooks, c.n_prototypes, c.n_outputs, c.input_format, c.lut_bits
    )


def _field(config: AcceleratorConfig, region: str, name: str, address: int) -> int:
    low, bits = config.address_fields[region][name]
    return address >> low & ((1 << bits) - 1)


def _delayed(words: list[dict[str, int]]) -> list[dict[str, int]]:
    """Words for latches: the data comes a cycle after its address, as from the word register."""
    late = [0, *(word["write_data"] for word in words)]
    idle = {**words[-1], "write_enable": 0}
    return [{**w, "write_data": d} for w, d in zip([*words, idle], late, strict=True)]


def _turning(config: AcceleratorConfig) -> Callable[[int], dict[str, int]]:
    """Ports of an encoder that follow the pipeline, by cycle."""
    c = config
    bits = ceil_log2(c.n_groups)

    def ports(cycle: int) -> dict[str, int]:
        found = {}
        if c.encoder == "interleaved":
            found["phase"] = 1 << cycle % c.tree_depth
        if c.n_groups > 1:
            found["group"] = sum(
                (cycle - c.threshold_stage(level)) % c.n_groups << (level * bits)
                for level in range(c.tree_depth)
            )
        return found

    return ports


def _encoder(config: AcceleratorConfig) -> _Core:
    """The encoder of lane 0: P codes per cycle."""
    c = config
    turning = _turning(c)

    def play(rng: np.random.Generator, n: int) -> Any:
        program = _program(c, rng)
        words = []
        for address, data in program_image(c, program):
            if not _field(c, "thresholds", "region", address):
                continue
            group, lane = divmod(_field(c, "thresholds", "codebook", address), c.parallel_codebooks)
            if lane:
                continue
            word = {"write_enable": 1, "write_data": data}
            if c.n_groups > 1:
                word["write_group"] = group
            if c.threshold_words > 1:
                word["write_word"] = _field(c, "thresholds", "word", address)
            words.append(word)
        if c.memory == "latch":
            words = _delayed(words)
        setup = [word | turning(k) for k, word in enumerate(words)]
        setup.append({**setup[-1], "write_enable": 0})

        n_row_groups = -(-n // c.n_groups)
        rows = golden.random_words(rng, program, n_row_groups * c.rows)
        codes = golden.encode(program, rows)
        lanes = slice(0, None, c.parallel_codebooks)  # the codebooks of lane 0
        steps = rows.reshape(n_row_groups, c.rows, c.n_codebooks, -1)[:, :, lanes]
        inputs = pack(steps.transpose(0, 2, 1, 3).reshape(n_row_groups * c.n_groups, -1),
                      c.input_bits)  # fmt: skip
        results = codes.reshape(n_row_groups, c.rows, c.n_codebooks)[:, :, lanes]
        results = results.transpose(0, 2, 1).reshape(-1, c.rows)
        still = setup[-1] | {"enable": (1 << c.encoder_cycles) - 1}
        work = [still | turning(k) | {"words": value} for k, value in enumerate(inputs)]
        outputs = [{"codes": c.pack_codes(step)} for step in results]
        return setup, work, outputs

    return _Core(unit=encoder_unit(c), latency=c.encoder_cycles, interval=1, play=play)


def _work(config: AcceleratorConfig, still: dict[str, int], rng: np.random.Generator,
          program: Program, n: int, ports: Callable[[int, NDArray[Any]], dict[str, int]],
          outputs: slice, edges: int) -> Any:  # fmt: skip
    """Cycles of looking up and adding, and the sums of `outputs` after `edges` clock edges."""
    c = config
    n_row_groups = -(-n // c.n_groups)
    codes = golden.encode(program, golden.random_words(rng, program, n_row_groups * c.rows))
    sums = golden.accumulate(program, codes, acc_bits=c.accumulator_bits)[:, outputs]
    sums = sums.reshape(n_row_groups, c.rows, -1).transpose(0, 2, 1).reshape(n_row_groups, -1)
    work: list[dict[str, int]] = []
    for k in range(n_row_groups * c.n_groups):
        row_group, group = divmod(k, c.n_groups)
        part = codes[row_group * c.rows : (row_group + 1) * c.rows]
        lanes = part[:, group * c.parallel_codebooks : (group + 1) * c.parallel_codebooks].T
        item = still | {"enable": (1 << edges) - 1} | ports(group, lanes)
        if c.n_groups > 1:
            item["first"] = int((k - edges + 1) % c.n_groups == 0)
        work.append(item)
    packed = pack(sums, c.accumulator_bits)
    given = [
        {"sums": packed[k // c.n_groups]} if k % c.n_groups == c.n_groups - 1 else None
        for k in range(len(work))
    ]
    return work, given


def _decoder(config: AcceleratorConfig) -> _Core:
    """One output column: P * Q look-ups and additions per cycle."""
    c = config
    unit = Decoder(c)
    shared = "group" in unit.ports

    def ports(group: int, lanes: NDArray[Any]) -> dict[str, int]:
        """Lines of all words of a lane and row, or those of a group."""
        width = c.n_prototypes if shared else c.n_groups * c.n_prototypes
        base = 0 if shared else group * c.n_prototypes
        flat = [int(code) for lane in lanes for code in lane]
        select = sum(1 << (base + code + k * width) for k, code in enumerate(flat))
        return {"select": select, **({"group": 1 << group} if shared else {})}

    def play(rng: np.random.Generator, n: int) -> Any:
        program = _program(c, rng)
        entries = program.lut[0].astype(int).reshape(-1) + (1 << (c.lut_bits - 1))
        setup = []
        for word, entry in enumerate(entries.tolist()):
            # The strobe opens the latches, so that the data stays until it has fallen.
            setup += [
                {"write_strobe": 1 << word, "write_data": entry},
                {"write_strobe": 0, "write_data": entry},
            ]
        return setup, *_work(c, setup[-1], rng, program, n, ports, slice(0, 1), 1 + c.sum_stages)

    return _Core(unit=unit, latency=1 + c.sum_stages, interval=c.n_groups, play=play)


def _decoder_block(config: AcceleratorConfig) -> _Core:
    """The columns that a program word spans, with the write strobes and selects they share."""
    c = config

    def ports(group: int, lanes: NDArray[Any]) -> dict[str, int]:
        # The group comes with the codes, or after the clock edge that registers them.
        group = (group - c.block_code_stages) % c.n_groups
        codes = c.pack_codes(lanes.reshape(-1))
        return {"codes": codes, **({"group": 1 << group} if c.n_groups > 1 else {})}

    def play(rng: np.random.Generator, n: int) -> Any:
        program = _program(c, rng)
        words = []
        for address, data in program_image(c, program):
            if _field(c, "lut", "region", address) or _field(c, "lut", "block", address):
                continue
            word = {
                "write_enable": 1,
                "write_prototype": _field(c, "lut", "prototype", address),
                "write_data": data & ((1 << c.decoders_per_word * c.lut_bits) - 1),
            }
            if c.n_codebooks > 1:
                word["write_codebook"] = _field(c, "lut", "codebook", address)
            words.append(word)
        if c.memory == "latch":
            words = _delayed(words)
        setup = [*words, {**words[-1], "write_enable": 0}]
        columns = slice(0, c.decoders_per_word)
        return setup, *_work(c, setup[-1], rng, program, n, ports, columns, c.block_cycles)

    return _Core(unit=DecoderBlock(c), latency=c.block_cycles, interval=c.n_groups, play=play)


def _adder(config: AcceleratorConfig) -> _Core:
    """What joins the partial sums of two units: one result's adder and register."""
    bits = config.accumulator_bits

    def play(rng: np.random.Generator, n: int) -> Any:
        low, high = -(1 << (bits - 1)), 1 << (bits - 1)
        pairs = rng.integers(low, high, (n, 2))
        work = [{"partial": word, "enable": 1} for word in pack(pairs, bits)]
        sums = pack(pairs.sum(axis=1)[:, None], bits + 1)
        return [], work, [{"sums": word} for word in sums]

    unit = JoinAdder(n_terms=2, n_results=1, partial_bits=bits, sum_bits=bits + 1)
    return _Core(unit=unit, latency=1, interval=1, play=play)


@dataclass(frozen=True, kw_only=True)
class UnitKind:
    """A kind of unit: what it and an operation of it are, and how it is built."""

    name: str
    what: str
    operation: str
    #: Operations that the unit of a configuration does in a cycle at full rate.
    operations: Callable[[AcceleratorConfig], int]
    build: Callable[[AcceleratorConfig], _Core]
    #: Whether its write ports are not timed; else they are as in the accelerator.
    writes_stand_still: bool = True


UNITS: dict[str, UnitKind] = {
    row.name: row
    for row in (
        UnitKind(
            name="encoder",
            what="pipelined: a tree level per stage, with the thresholds of all codebooks",
            operation="code",
            operations=lambda c: c.rows,
            build=lambda c: _encoder(dataclasses.replace(c, encoder="pipelined")),
        ),
        UnitKind(
            name="encoders",
            what="interleaved: T walkers take turns (the paper's unit of four), with the "
            "thresholds of all codebooks",
            operation="code",
            operations=lambda c: c.rows,
            build=lambda c: _encoder(
                dataclasses.replace(c, encoder="interleaved", tree_levels_per_stage=1)
            ),
        ),
        UnitKind(
            name="decoder",
            what="table, select, adder and accumulator of one output, without write strobes",
            operation="look-up and addition",
            operations=lambda c: c.rows * c.parallel_codebooks,
            build=_decoder,
        ),
        UnitKind(
            name="decoders",
            what="the decoders that a program word spans, with their write strobes and selects",
            operation="look-up and addition",
            operations=lambda c: c.decoders_per_word * c.rows * c.parallel_codebooks,
            build=_decoder_block,
            writes_stand_still=False,
        ),
        UnitKind(
            name="adder",
            what="two accumulators added into a register, which joins two units' partial sums",
            operation="addition",
            operations=lambda _: 1,
            build=_adder,
        ),
    )
}


def unit_design(kind: str, config: AcceleratorConfig) -> Design:
    """A unit as a design for the flow.

    Parameters
    ----------
    kind : str
        A name in `UNITS`.
    config : AcceleratorConfig
        Of the accelerator that the unit is of; `memory` must be ``"latch"`` or ``"ff"``.

    Returns
    -------
    Design
        Without multiply-accumulates: its energy is per cycle.
    """
    one_of("unit", kind, UNITS)
    if config.numbered_tables:
        raise HalutError(
            f"memory must be latch or ff for a unit of cells, not {config.memory} "
            f"(configuration {config.name})"
        )
    core = UNITS[kind].build(config)
    unit = core.unit
    outputs = tuple(name for name, port in unit.ports.items() if port.is_output)
    inputs = [name for name in unit.ports if name not in outputs]

    def stream(items: Sequence[dict[str, int]], checked: Sequence[bool]) -> Stream:
        return Stream(
            valid="i_valid",
            ready="i_ready",
            payload=("i_check", *inputs),
            items=[
                (int(check), *(item.get(name, 0) for name in inputs))
                for item, check in zip(items, checked, strict=True)
            ],
        )

    def workload(seed: int, n_transfers: int) -> Workload:
        setup, work, given = core.play(np.random.default_rng(seed), n_transfers)
        # What the work of a cycle gives is looked at `latency` cycles later.
        due = [*([None] * core.latency), *given][: len(work)]
        checked = [item is not None for item in due]
        return Workload(
            setup=[stream(setup, [False] * len(setup))] if setup else [],
            inputs=stream([*work, work[-1]], [*checked, False]),
            outputs=Stream(
                valid="o_valid",
                ready="o_ready",
                payload=outputs,
                items=[tuple(d[name] for name in outputs) for d in due if d is not None],
            ),
            look_ups=0,
            macs=0,
            description="random program, random inputs in every cycle",
            seed=seed,
            wires={"i_ready": "i_valid", "o_valid": "i_check"},
        )

    return Design(
        name=kind,
        slug=f"unit_{unit.module_name}",
        verilog=unit_verilog(unit),
        top=unit.module_name,
        clock="clk_i",
        reset="rst_ni",
        look_ups_per_cycle=0,
        macs_per_cycle=0,
        codebook_width=None,
        latency_cycles=core.latency,
        interval_cycles=core.interval,
        static=tuple(name for name in unit.ports if name.startswith("write_"))
        if UNITS[kind].writes_stand_still
        else (),
        config_hash=config.hash,
        workload=workload,
        workload_key=hashlib.sha256(kind.encode()).hexdigest()[:8],
    )
