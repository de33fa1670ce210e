"""Testbenches of the units, one for each kind of `sim.units.UNITS`, against the model.

The environment's ``HALUT_CONFIG`` is the accelerator's configuration as JSON. With
``HALUT_SPOIL=1`` one bit of what the unit is given differs from what the model is given, and the
bench must fail.
"""

from __future__ import annotations

import json
import os
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer

from halut import golden
from rtl_gen import reference
from rtl_gen.config import AcceleratorConfig
from rtl_gen.image import program_image
from sim.packing import pack
from sim.scoreboard import Scoreboard
from sim.stalls import STALL_PATTERNS, stalls
from sim.streams import StreamDriver, StreamMonitor

N_ROW_GROUPS = 24


class UnitTB:
    """A unit whose inputs change at falling edges, so that both clock phases see them stable.

    Parameters
    ----------
    dut : cocotb handle
        The unit; combinational ones have no ``clk_i``.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.config = AcceleratorConfig.from_dict(json.loads(os.environ["HALUT_CONFIG"]))
        self.spoil = os.environ.get("HALUT_SPOIL") == "1"
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)
        self.clocked = hasattr(dut, "clk_i")
        if self.clocked:
            Clock(dut.clk_i, 2, unit="ns").start()
            self._falling = FallingEdge(dut.clk_i)

    def set(self, **values: int) -> None:
        """Set input ports; a negative value is set in two's complement."""
        for name, value in values.items():
            port = getattr(self.dut, name)
            port.value = value & ((1 << len(port)) - 1)

    def get(self, name: str) -> int:
        """Read a port, unsigned."""
        return int(getattr(self.dut, name).value)

    async def step(self, **values: int) -> None:
        """Set input ports and go on to after the next rising edge (or until all is settled)."""
        self.set(**values)
        if self.clocked:
            await self._falling
        else:
            await Timer(1, "ns")

    async def start(self) -> None:
        """Wait for a falling edge and, where there is a reset, apply it."""
        if self.clocked:
            await self._falling
        if hasattr(self.dut, "rst_ni"):
            await self.step(rst_ni=0)
            await self.step(rst_ni=0)
            self.dut.rst_ni.value = 1

    def case(self, corner: bool) -> tuple[Any, Any]:
        """Return a program and input words of `N_ROW_GROUPS` row groups."""
        c = self.config
        program = reference.random_program(c, self.rng, corner)
        words = golden.random_words(self.rng, program, N_ROW_GROUPS * c.rows, corner)
        return program, words


def _field(config: AcceleratorConfig, region: str, name: str, address: int) -> int:
    low, bits = config.address_fields[region][name]
    return address >> low & ((1 << bits) - 1)


def _spoiled_bit(c: AcceleratorConfig) -> int:
    """The bit of a codebook's nodes that is spoiled: of the root's place, or its sign."""
    if c.splits == "node":
        return c.threshold_bits
    return (c.n_prototypes - 1) * c.threshold_bits if c.window else c.threshold_bits - 1


async def _write_thresholds(tb: UnitTB, program: Any, lane: int) -> dict[int, int]:
    """Write a lane's thresholds; return the words {codebook group: K-1 keys as one integer}."""
    c = tb.config
    stored: dict[int, int] = {}
    spoiled = _spoiled_bit(c) if tb.spoil else -1
    for address, word in program_image(c, program):
        if _field(c, "thresholds", "region", address) != 1:
            continue
        group, q = divmod(_field(c, "thresholds", "codebook", address), c.parallel_codebooks)
        if q != lane:
            continue
        position = _field(c, "thresholds", "word", address)
        low = position * c.thresholds_per_word * c.node_bits
        stored[group] = stored.get(group, 0) | word << low
        if low <= spoiled < low + c.thresholds_per_word * c.node_bits:
            word ^= 1 << (spoiled - low)
            spoiled = -1
        ports = {"write_data": word & ((1 << len(tb.dut.write_data)) - 1)}
        if c.n_groups > 1:
            ports["write_group"] = group
        if c.threshold_words > 1:
            ports["write_word"] = position
        await tb.step(write_enable=1, **ports)
    await tb.step(write_enable=0, write_data=0)
    assert len(stored) == c.n_groups
    return stored


@cocotb.test()
async def comparator(dut: Any) -> None:
    """Every pair of corner values, and random ones."""
    tb = UnitTB(dut)
    bits = tb.config.threshold_bits
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    corners = sorted({low, low + 1, -1, 0, 1, high - 1, high})
    pairs = [(a, b) for a in corners for b in corners]
    pairs += tb.rng.integers(low, high + 1, (300, 2)).tolist()
    board = Scoreboard("greater")
    for value, threshold in pairs:
        board.expect([int(value > threshold)])
        flip = tb.spoil and (value, threshold) == (0, 0)
        await tb.step(value=value ^ flip, threshold=threshold)
        board.receive(tb.get("greater"))
    board.finish()


@cocotb.test()
async def threshold_memory(dut: Any) -> None:
    """Every word is where it was written, group by group and level by level."""
    tb = UnitTB(dut)
    c = tb.config
    await tb.start()
    program, _ = tb.case(corner=True)
    stored = await _write_thresholds(tb, program, lane=0)
    board = Scoreboard("thresholds")
    everything = (1 << (c.n_prototypes - 1) * c.node_bits) - 1
    group_bits = (c.n_groups - 1).bit_length()
    for turn in range(2 * c.n_groups + 4):
        groups = tb.rng.integers(0, c.n_groups, c.tree_depth)
        if turn < c.n_groups:
            groups[:] = turn
        expected = 0
        for level, group in enumerate(groups):
            first, last = 2**level - 1, 2 ** (level + 1) - 1
            bits = c.node_bits
            part = ((1 << (last - first) * bits) - 1) << first * bits
            expected |= stored[int(group)] & part
        board.expect([expected & everything])
        ports = {}
        if c.n_groups > 1:
            address = sum(int(group) << (level * group_bits) for level, group in enumerate(groups))
            ports = {"group": address, "enable": (1 << c.tree_depth) - 1}
        await tb.step(**ports)
        board.receive(tb.get("thresholds"))
    board.finish()


class _Pipeline:
    """Transfers moving through stages, pausing at random: what the control unit does."""

    def __init__(self, tb: UnitTB, n_stages: int, n_steps: int) -> None:
        self.tb, self.n_steps = tb, n_steps
        self.stages: list[int | None] = [None] * n_stages
        self.next = 0
        self.advance = False

    def offer(self) -> tuple[int, int | None]:
        """Begin a cycle; return the enables and the step that enters, if one does."""
        self.advance = bool(self.tb.rng.random() < 0.7)
        offered = self.next < self.n_steps and self.tb.rng.random() < 0.7
        self.stages[0] = self.next if self.advance and offered else None
        if self.stages[0] is not None:
            self.next += 1
        enable = sum(
            (self.advance and step is not None) << stage for stage, step in enumerate(self.stages)
        )
        return enable, self.stages[0]

    def move(self) -> int | None:
        """End the cycle; return the step that left the last stage, if one did."""
        if not self.advance:
            return None
        finished = self.stages[-1]
        self.stages = [None, *self.stages[:-1]]
        return finished


@cocotb.test()
@cocotb.parametrize(corner=[False, True])
async def encoder(dut: Any, corner: bool) -> None:
    """Codes of the last lane, with pauses, equal the model's."""
    tb = UnitTB(dut)
    c = tb.config
    await tb.start()
    program, words = tb.case(corner)
    codes = golden.encode(program, words)
    lane = c.parallel_codebooks - 1
    await _write_thresholds(tb, program, lane)
    codebooks = np.arange(c.n_groups) * c.parallel_codebooks + lane
    # One step per row group and codebook group: the words of P rows.
    inputs = words.reshape(N_ROW_GROUPS, c.rows, c.n_codebooks, c.n_values)[:, :, codebooks]
    inputs = inputs.transpose(0, 2, 1, 3).reshape(N_ROW_GROUPS * c.n_groups, -1)
    transfers = pack(inputs, c.input_bits)
    outputs = codes.reshape(N_ROW_GROUPS, c.rows, c.n_codebooks)[:, :, codebooks]
    outputs = outputs.transpose(0, 2, 1).reshape(-1, c.rows)
    board = Scoreboard("codes")
    board.expect(c.pack_codes(step) for step in outputs)
    pipeline = _Pipeline(tb, c.encoder_cycles, len(transfers))
    group_bits = (c.n_groups - 1).bit_length()
    phase = 0
    while not board.done:
        enable, entering = pipeline.offer()
        ports = {"enable": enable}
        if entering is not None:
            ports["words"] = transfers[entering]
        if c.encoder == "interleaved":
            ports["phase"] = 1 << phase
        if c.n_groups > 1:
            address = 0
            for level in range(c.tree_depth):
                step = pipeline.stages[c.threshold_stage(level)]
                group = step % c.n_groups if step is not None else 0
                address |= group << (level * group_bits)
            ports["group"] = address
        await tb.step(**ports)
        if pipeline.advance:
            phase = (phase + 1) % c.tree_depth
        if pipeline.move() is not None:
            board.receive(tb.get("codes"))
    board.finish()


def _select_lines(
    config: AcceleratorConfig, group: int, codes: list[int], *, is_flat: bool
) -> tuple[int, int]:
    """Return the read address of one lane's rows, and its width."""
    k = config.n_prototypes
    if config.memory == "lutram":
        bits = max(1, (config.n_groups * k - 1).bit_length())
        lines = [group * k + code for code in codes]
    elif is_flat:
        bits = config.n_groups * k
        lines = [1 << (group * k + code) for code in codes]
    else:
        bits = k
        lines = [1 << code for code in codes]
    return sum(line << (row * bits) for row, line in enumerate(lines)), bits * len(codes)


@cocotb.test()
async def lut_memory(dut: Any) -> None:
    """Every word is read back, by every row."""
    tb = UnitTB(dut)
    c = tb.config
    await tb.start()
    n_words = c.n_groups * c.n_prototypes
    content = [int(word) for word in tb.rng.integers(0, 1 << c.lut_bits, n_words)]
    strobe = "write_enable" if c.memory == "lutram" else "write_strobe"
    tb.set(**{strobe: 0})
    for index, word in enumerate(content):
        data = word ^ (tb.spoil and index == n_words // 2)
        if c.memory == "lutram":
            await tb.step(write_data=data, write_index=index, write_enable=1)
        else:
            # For latches the strobe is a clock pulse within which the data must stand still.
            await tb.step(write_data=data, write_strobe=1 << index)
        await tb.step(**{strobe: 0})
    tb.set(write_data=0)
    has_group = hasattr(dut, "group")
    board = Scoreboard("value")
    for turn in range(n_words + 40):
        group, first = divmod(turn % n_words, c.n_prototypes)
        codes = [(first + row) % c.n_prototypes for row in range(c.rows)]
        if turn >= n_words:
            codes = [int(code) for code in tb.rng.integers(0, c.n_prototypes, c.rows)]
        board.expect(pack(np.array([[content[group * c.n_prototypes + k] for k in codes]]),
                          c.lut_bits))  # fmt: skip
        ports = {"select": _select_lines(c, group, codes, is_flat=not has_group)[0]}
        if has_group:
            ports["group"] = 1 << group
        await tb.step(**ports)
        board.receive(tb.get("value"))
    board.finish()


@cocotb.test()
async def sram_table(dut: Any) -> None:
    """Every word is read back, by every row, a cycle later, and stays until the next read."""
    tb = UnitTB(dut)
    c = tb.config
    await tb.start()
    n_words = c.n_groups * c.n_prototypes
    width = c.decoders_per_word * c.lut_bits
    address_bits = (n_words - 1).bit_length()
    content = [int.from_bytes(tb.rng.bytes(-(-width // 8)), "little") >> -width % 8
               for _ in range(n_words)]  # fmt: skip
    tb.set(read=0, write_enable=0)
    for index, word in enumerate(content):
        data = word ^ (tb.spoil and index == n_words // 2)
        await tb.step(write_data=data, write_index=index, write_enable=1)
    tb.set(write_data=0, write_enable=0)
    board = Scoreboard("value")
    for turn in range(n_words + 40):
        words = [(turn + row) % n_words for row in range(c.rows)]
        if turn >= n_words:
            words = [int(word) for word in tb.rng.integers(0, n_words, c.rows)]
        value = pack(np.array([[content[word] for word in words]], dtype=object), width)
        await tb.step(read=1, index=int(pack(np.array([words]), address_bits)[0]))
        board.expect(value)
        board.receive(tb.get("value"))
        if turn >= n_words:
            other = [int(word) for word in tb.rng.integers(0, n_words, c.rows)]
            await tb.step(read=0, index=int(pack(np.array([other]), address_bits)[0]))
            board.expect(value)
            board.receive(tb.get("value"))
    board.finish()


async def _sum_steps(
    tb: UnitTB, board: Scoreboard, read: str, ports_of: Any, edges: int, ports_behind: Any = None
) -> None:
    """Send every (row group, codebook group) through the sum stages, pausing at random.

    `ports_behind` gives the ports of the step in stage 1.
    """
    c = tb.config
    n_steps = N_ROW_GROUPS * c.n_groups
    pipeline = _Pipeline(tb, edges, n_steps)
    while not board.done:
        enable, entering = pipeline.offer()
        ports = {"enable": enable}
        if entering is not None:
            ports |= ports_of(*divmod(entering, c.n_groups))
        if ports_behind is not None and pipeline.stages[1] is not None:
            ports |= ports_behind(*divmod(pipeline.stages[1], c.n_groups))
        if c.n_groups > 1:
            last = pipeline.stages[-1]
            ports["first"] = int(last is not None and last % c.n_groups == 0)
        await tb.step(**ports)
        finished = pipeline.move()
        if finished is not None and finished % c.n_groups == c.n_groups - 1:
            board.receive(tb.get(read))
    board.finish()


@cocotb.test()
@cocotb.parametrize(corner=[False, True])
async def decoder(dut: Any, corner: bool) -> None:
    """Sums of one column over random and extreme tables equal the model's."""
    tb = UnitTB(dut)
    c = tb.config
    await tb.start()
    program, words = tb.case(corner)
    codes = golden.encode(program, words)
    column = c.n_outputs - 1
    offset = 1 << (c.lut_bits - 1)
    strobe = "write_enable" if c.memory == "lutram" else "write_strobe"
    tb.set(enable=0, **{strobe: 0})
    spoiled = int(codes[-1, 0])
    for codebook in range(c.n_codebooks):
        for prototype in range(c.n_prototypes):
            entry = int(program.lut[column, codebook, prototype]) + offset
            entry ^= tb.spoil and (codebook, prototype) == (0, spoiled)
            if c.memory == "lutram":
                group, lane = divmod(codebook, c.parallel_codebooks)
                await tb.step(write_data=entry, write_enable=1 << lane,
                              write_index=group * c.n_prototypes + prototype)  # fmt: skip
            else:
                line = 1 << (codebook * c.n_prototypes + prototype)
                await tb.step(write_data=entry, write_strobe=line)
            await tb.step(**{strobe: 0})
    sums = golden.accumulate(program, codes, acc_bits=c.accumulator_bits)[:, column]
    board = Scoreboard("sums")
    board.expect(pack(sums.reshape(N_ROW_GROUPS, c.rows), c.accumulator_bits))
    has_group = hasattr(dut, "group")

    def ports_of(row_group: int, group: int) -> dict[str, int]:
        select = bits = 0
        for lane in range(c.parallel_codebooks):
            part = codes[row_group * c.rows : (row_group + 1) * c.rows]
            lane_codes = part[:, group * c.parallel_codebooks + lane].tolist()
            lines, width = _select_lines(c, group, lane_codes, is_flat=not has_group)
            select |= lines << bits
            bits += width
        assert bits == len(dut.select), f"select must have {bits} bits, not {len(dut.select)}"
        return {"select": select, **({"group": 1 << group} if has_group else {})}

    await _sum_steps(tb, board, "sums", ports_of, 1 + c.sum_stages)


@cocotb.test()
@cocotb.parametrize(corner=[False, True])
async def decoder_block(dut: Any, corner: bool) -> None:
    """Words written by codebook and prototype, codes in, sums of every column out."""
    tb = UnitTB(dut)
    c = tb.config
    await tb.start()
    program, words = tb.case(corner)
    codes = golden.encode(program, words)
    columns = slice((c.n_blocks - 1) * c.decoders_per_word, c.n_outputs)
    tb.set(enable=0)
    spoiled = int(codes[-1, 0])
    late, before = c.memory == "sram", 0  # SRAMs take a word's data a cycle later.
    for address, word in program_image(c, program):
        if _field(c, "lut", "region", address):
            continue
        if _field(c, "lut", "block", address) != c.n_blocks - 1:
            continue
        codebook = _field(c, "lut", "codebook", address)
        prototype = _field(c, "lut", "prototype", address)
        word ^= tb.spoil and (codebook, prototype) == (0, spoiled)
        ports = {"write_codebook": codebook} if c.n_codebooks > 1 else {}
        write_data = before if late else word
        await tb.step(write_enable=1, write_prototype=prototype, write_data=write_data, **ports)
        before = word
    await tb.step(write_enable=0, write_data=before if late else 0)
    sums = golden.accumulate(program, codes, acc_bits=c.accumulator_bits)[:, columns]
    sums = sums.reshape(N_ROW_GROUPS, c.rows, -1).transpose(0, 2, 1)  # column by column
    board = Scoreboard("sums")
    board.expect(pack(sums.reshape(N_ROW_GROUPS, -1), c.accumulator_bits))

    def ports_of(row_group: int, group: int) -> dict[str, int]:
        lanes = slice(group * c.parallel_codebooks, (group + 1) * c.parallel_codebooks)
        step = codes[row_group * c.rows : (row_group + 1) * c.rows, lanes].T
        ports = {} if c.block_code_stages else group_of(row_group, group)
        return {"codes": c.pack_codes(step.reshape(-1)), **ports}

    def group_of(_: int, group: int) -> dict[str, int]:
        if c.n_groups == 1:
            return {}
        return {"group": group if c.numbered_tables else 1 << group}

    behind = group_of if c.block_code_stages else None
    await _sum_steps(tb, board, "sums", ports_of, c.block_cycles, behind)


async def _stream_through(
    tb: UnitTB, pattern: str, items: list[int], board: Scoreboard, fields: tuple[str, ...]
) -> None:
    """Send items to stream `i`, with pauses; the scoreboard takes what leaves by stream `o`."""
    dut = tb.dut
    driver = StreamDriver(dut, "i", dut.clk_i)
    monitor = StreamMonitor(
        dut, "o", dut.clk_i, fields=fields, receive=board.receive,
        wait=stalls(pattern, "sink", cocotb.RANDOM_SEED),
    )  # fmt: skip
    await tb.start()
    cocotb.start_soon(monitor.run())
    await driver.send(items, stalls(pattern, "source", cocotb.RANDOM_SEED))
    while not board.done:
        await RisingEdge(dut.clk_i)
    for _ in range(4):
        await RisingEdge(dut.clk_i)
    board.finish()


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(pattern=STALL_PATTERNS)
async def skid_buffer(dut: Any, pattern: str) -> None:
    """What goes in comes out, whoever pauses."""
    tb = UnitTB(dut)
    width = len(dut.i_data)
    items = [int.from_bytes(tb.rng.bytes(-(-width // 8)), "little") >> -width % 8
             for _ in range(100)]  # fmt: skip
    board = Scoreboard("o")
    board.expect(list(items))
    items[3] ^= tb.spoil
    await _stream_through(tb, pattern, items, board, ("data",))


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(pattern=STALL_PATTERNS)
async def output_serializer(dut: Any, pattern: str) -> None:
    """Row groups in, beats out, whoever pauses."""
    tb = UnitTB(dut)
    c = tb.config
    n_results = c.rows * c.n_outputs
    limit = 1 << (c.accumulator_bits - 1)
    sums = tb.rng.integers(-limit, limit, (40, n_results))
    beats = pack(sums.reshape(-1, c.output_width), c.accumulator_bits)
    numbered = [(beat, k % c.n_beats) for k, beat in enumerate(beats)]
    board = Scoreboard("o")
    items = pack(sums, c.accumulator_bits)
    items[3] ^= tb.spoil
    if c.n_beats == 1:
        for item, beat in zip(items, beats, strict=True):
            board.expect([(beat, 1, 1, 0), (beat, 1, 1, 1)])
            for ready in (0, 1):
                await tb.step(i_valid=1, i_data=item, o_ready=ready)
                received = [tb.get(name) for name in ("o_data", "o_last", "o_valid", "i_ready")]
                board.receive(tuple(received))
        board.finish()
        return
    board.expect((*beat, int(beat[1] == c.n_beats - 1)) for beat in numbered)
    await _stream_through(tb, pattern, items, board, ("data", "index", "last"))


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(pattern=STALL_PATTERNS, corner=[False, True])
async def output_stage(dut: Any, pattern: str, corner: bool) -> None:
    """Constants in, then beats of sums in and of results out, whoever pauses."""
    tb = UnitTB(dut)
    c = tb.config
    tb.set(i_valid=0, write_enable=0)
    await tb.start()
    program, _ = tb.case(corner)
    for address, word in program_image(c, program):
        if _field(c, "output", "region", address) != 2:
            continue
        ports = {"write_data": word & ((1 << len(dut.write_data)) - 1)}
        if c.n_outputs > 1:
            ports["write_column"] = _field(c, "output", "column", address)
        if c.output_constant_words > 1:
            ports["write_word"] = _field(c, "output", "word", address)
        await tb.step(write_enable=1, **ports)
    await tb.step(write_enable=0)
    limit = 1 << (c.accumulator_bits - 1)
    sums = tb.rng.integers(-limit, limit, (40 * c.rows, c.n_outputs))
    values = reference.result_words(program.output.apply(sums))
    places = [
        ((k % c.n_beats,) if c.n_beats > 1 else ()) + (int(k % c.n_beats == c.n_beats - 1),)
        for k in range(40 * c.n_beats)
    ]
    fields = ("data", "index", "last") if c.n_beats > 1 else ("data", "last")
    board = Scoreboard("o")
    results = pack(values.reshape(-1, c.output_width), c.result_bits)
    board.expect((beat, *place) for beat, place in zip(results, places, strict=True))
    items = pack((sums ^ -int(tb.spoil)).reshape(-1, c.output_width), c.accumulator_bits)
    driver = StreamDriver(dut, "i", dut.clk_i, fields=fields)
    monitor = StreamMonitor(
        dut, "o", dut.clk_i, fields=fields, receive=board.receive,
        wait=stalls(pattern, "sink", cocotb.RANDOM_SEED),
    )  # fmt: skip
    cocotb.start_soon(monitor.run())
    beats = [(item, *place) for item, place in zip(items, places, strict=True)]
    await driver.send(beats, stalls(pattern, "source", cocotb.RANDOM_SEED))
    while not board.done:
        await RisingEdge(dut.clk_i)
    for _ in range(c.output_stages + 4):
        await RisingEdge(dut.clk_i)
    board.finish()
    assert not tb.get("busy")


@cocotb.test()
async def control(dut: Any) -> None:
    """Every output, cycle by cycle, against the rules that the unit's docstring states."""
    tb = UnitTB(dut)
    c = tb.config
    tb.set(i_valid=0, program_valid=0, **{"full_next" if c.skid_buffer else "sums_ready": 0})
    await tb.start()
    # stages[s]: codebook group of the transfer in stage s, or None; stage 0 is the input.
    stages: list[int | None] = [None] * c.pipeline_stages
    group = phase = finished = settling = 0
    counts = {"transfers": 0, "words": 0, "sums": 0}
    board = Scoreboard("control")
    names = ("i_ready", "program_ready", "sums_valid", "enable")
    i_valid = program_valid = 0
    ready_next = 0
    spoiled = False
    for cycle in range(3000):
        # An offer stands until it is taken.
        i_valid = i_valid or int(tb.rng.random() < 0.8)
        program_valid = program_valid or int(tb.rng.random() < 0.05)
        sums_ready, ready_next = ready_next, int(tb.rng.random() < 0.7)
        if c.skid_buffer:
            tb.set(full_next=1 - ready_next)
        else:
            tb.set(sums_ready=sums_ready)
        advance = not finished or sums_ready
        output_busy = int(bool(c.output_constants) and tb.rng.random() < 0.5)
        begins = group == 0
        i_ready = int(advance and not (begins and (program_valid or settling)))
        program_ready = int(begins and all(stage is None for stage in stages[1:]))
        if c.output_constants:
            program_ready = int(program_ready and not finished and not output_busy)
            tb.set(output_busy=output_busy)
        taken = i_valid and i_ready
        stages[0] = group if taken else None
        enable = sum(bool(advance and s is not None) << k for k, s in enumerate(stages))
        # Inputs change at the falling edge; outputs that depend on them are read before the rise.
        # One offer too many, or too few, in a cycle in which it counts.
        spoil = tb.spoil and not spoiled and cycle >= 1000 and bool(i_ready)
        spoiled = spoiled or spoil
        tb.set(i_valid=i_valid ^ spoil, program_valid=program_valid)
        await Timer(500, "ps")
        board.expect([(i_ready, program_ready, finished, enable)])
        board.receive(tuple(tb.get(name) for name in names))
        if c.encoder == "interleaved":
            board.expect([("phase", 1 << phase)])
            board.receive(("phase", tb.get("phase")))
        if c.n_groups > 1:
            _check_groups(tb, board, stages)
        await tb.step()
        counts["transfers"] += taken
        counts["words"] += program_valid and program_ready
        counts["sums"] += bool(finished and sums_ready)
        settling = program_valid and program_ready
        program_valid = program_valid and not program_ready
        i_valid = i_valid and not i_ready
        if taken:
            group = (group + 1) % c.n_groups
        if advance:
            phase = (phase + 1) % c.tree_depth
            finished = int(stages[-1] is not None and stages[-1] == c.n_groups - 1)
            stages = [None, *stages[:-1]]
    board.finish()
    assert all(count > 20 for count in counts.values()), counts


def _check_groups(tb: UnitTB, board: Scoreboard, stages: list[int | None]) -> None:
    """Compare the codebook group of every stage that holds a transfer."""
    c = tb.config
    group_bits = (c.n_groups - 1).bit_length()
    text = str(tb.dut.group.value)  # fields of empty stages may be unknown
    for level in range(c.tree_depth):
        group = stages[c.threshold_stage(level)]
        if group is not None:
            last = len(text) - level * group_bits
            board.expect([(f"group of level {level}", group)])
            board.receive((f"group of level {level}", int(text[last - group_bits : last], 2)))
    look_up = stages[c.code_cycles]
    if look_up is not None:
        want = look_up if c.numbered_tables else 1 << look_up
        board.expect([("lut_group", want)])
        board.receive(("lut_group", tb.get("lut_group")))
    if stages[-1] is not None:
        board.expect([("first", int(stages[-1] == 0))])
        board.receive(("first", tb.get("first")))
