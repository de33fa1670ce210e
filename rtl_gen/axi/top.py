# amaranth: UnusedElaboratable=no
"""The block around an accelerator: registers, bus master, descriptors."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from ..front_end import FrontEndConfig, HalutConvolution
from ..tiled import HalutTiled
from ..tiled_config import TiledConfig
from ..top import HalutMatmul
from ..units.unit import Unit, named
from .collector import Collector
from .config import AxiConfig
from .engine import Engine
from .feeder import Feeder
from .fifo import Fifo
from .lite import AxiLiteSlave, WishboneSlave, axi_lite_members, wishbone_members
from .read_dma import ReadDma, read_members
from .register_file import RegisterFile, register_port
from .registers import registers
from .supervisor import Completion, Supervisor
from .write_dma import WriteDma, write_members

__all__ = ["HalutAxi", "core_unit"]

QUEUE_DEPTH = 4
"""Doorbells that wait."""
_BURST_INCREMENTS = 1
_CACHE = 0b0011  # normal memory, not cached, may be buffered


def core_unit(config: AxiConfig) -> HalutMatmul | HalutTiled | HalutConvolution:
    """The accelerator of a configuration."""
    core = config.core
    if isinstance(core, FrontEndConfig):
        return HalutConvolution(core)
    return HalutTiled(core) if isinstance(core, TiledConfig) else HalutMatmul(core)


def _fixed(config: AxiConfig) -> dict[str, tuple[int, int]]:
    """Width and value of what is the same in every burst."""
    size = config.word_bytes.bit_length() - 1
    return {
        "id": (1, 0), "size": (3, size), "burst": (2, _BURST_INCREMENTS), "lock": (1, 0),
        "cache": (4, _CACHE), "prot": (3, 0), "qos": (4, 0),
    }  # fmt: skip


def _master_members(config: AxiConfig) -> dict[str, Any]:
    """Members of an AXI4 master, by the names of the specification."""
    members: dict[str, Any] = {}
    for channel in ("aw", "ar"):
        fixed = _fixed(config).items()
        members |= {f"{channel}{name}": Out(bits) for name, (bits, _) in fixed}
    return members | {"bid": In(1), "rid": In(1)} | write_members(config) | read_members(config)


def _prefixed(prefix: str, members: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": member for name, member in members.items()}


class HalutAxi(Unit):
    """An accelerator that reads commands, programs and rows from memory and writes results there.

    Parameters
    ----------
    config : AxiConfig

    Members
    -------
    s_axil_* : an AXI4-Lite slave, or s_wb_* : a Wishbone slave
        The registers, see `registers`.
    m_axi_* : an AXI4 master
        One identifier, bursts of whole words that increment, `size` the whole width.
    irq_o : Out(1)
        1 while a bit of IRQ_STATUS is set that IRQ_ENABLE lets through.

    Timing
    ------
    Rows go in, and results come out, as fast as the accelerator and the bus allow: one word of the
    bus per cycle each way.
    """

    def __init__(self, config: AxiConfig) -> None:
        self.config = config
        self.core = core_unit(config)
        if config.control == "wishbone":
            members = _prefixed("s_wb", wishbone_members())
        else:
            members = _prefixed("s_axil", axi_lite_members())
        members |= _prefixed("m_axi", _master_members(config))
        members["irq_o"] = Out(1)
        super().__init__(members, module_name="halut_axi", has_reset=True)

    def _connect(self, m: Module, unit: Unit, prefix: str, names: dict[str, Any]) -> None:
        """Connect members of a unit inside to this one's, which have a prefix."""
        for name, member in names.items():
            own, inner = getattr(self, f"{prefix}_{name}"), getattr(unit, name)
            m.d.comb += own.eq(inner) if member.flow == Out else inner.eq(own)

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        tag = c.hash[:8]
        file = RegisterFile(registers(c), tag)
        supervisor = Supervisor(c)
        completion = Completion()
        engine, feeder, collector = Engine(c, tag), Feeder(c, tag), Collector(c, tag)
        queue = Fifo(width=32, depth=QUEUE_DEPTH)
        reads, writes = ReadDma(c), WriteDma(c)
        jobs = Fifo(width=c.address_bits + 32, depth=QUEUE_DEPTH)
        clear = Signal(name="clear")
        for name, unit in (
            ("registers", file), ("supervisor", supervisor), ("completion", completion),
            ("engine", engine), ("feeder", feeder), ("collector", collector),
            ("queue", queue), ("jobs", jobs), ("reads", reads), ("writes", writes),
        ):  # fmt: skip
            self.add(m, name, unit, platform)
        self.add(m, "core", self.core, platform, reset=clear)
        m.d.comb += clear.eq(supervisor.clear)
        for unit in (completion, engine, feeder, collector, queue, jobs, reads, writes):
            m.d.comb += unit.clear.eq(clear)
        self._control(m, platform, file)
        self._master(m, reads, writes)
        self._commands(m, engine, feeder, collector, queue, jobs, reads, writes)
        self._core(m, feeder, collector)
        stop = supervisor.stop
        busy = named(
            m, "busy",
            ~engine.idle | queue.o.valid | ~completion.drained | supervisor.draining
            | ~reads.idle | ~writes.idle,
        )  # fmt: skip
        moves = [
            reads.arvalid & reads.arready, reads.rvalid & reads.rready,
            writes.awvalid & writes.awready, writes.wvalid & writes.wready,
            writes.bvalid & writes.bready, feeder.rows.valid & feeder.rows.ready,
            feeder.program.valid & feeder.program.ready, collector.i.valid & collector.i.ready,
        ]  # fmt: skip
        m.d.comb += [
            reads.abort.eq(stop),
            writes.abort.eq(stop),
            engine.stop.eq(stop),
            engine.drained.eq(completion.drained),
            completion.i.payload.as_value().eq(engine.completion.payload.as_value()),
            completion.i.valid.eq(engine.completion.valid),
            engine.completion.ready.eq(completion.i.ready),
            completion.written.eq(writes.done),
            completion.zero.eq(supervisor.zero),
            supervisor.raised.eq(Cat(reads.failed, writes.failed, engine.bad, engine.wrong)),
            supervisor.read_address.eq(reads.failed_address),
            supervisor.write_address.eq(writes.failed_address),
            supervisor.descriptor_address.eq(engine.address),
            supervisor.busy.eq(busy),
            supervisor.moved.eq(Cat(moves).any()),
            supervisor.quiet.eq(reads.idle & writes.idle),
        ]
        self._status(m, file, supervisor, completion, queue, collector, busy)
        if c.address_bits > 32:
            m.d.comb += engine.high.eq(file.window_high)

    def _control(self, m: Module, platform: object, file: RegisterFile) -> None:
        """The bus of the registers."""
        if self.config.control == "wishbone":
            slave: Unit = WishboneSlave()
            names, prefix = wishbone_members(), "s_wb"
        else:
            slave, names, prefix = AxiLiteSlave(), axi_lite_members(), "s_axil"
        self.add(m, "control", slave, platform)
        self._connect(m, slave, prefix, names)
        for name, member in register_port().items():
            source, sink = (slave, file) if member.flow == In else (file, slave)
            m.d.comb += getattr(sink, name).eq(getattr(source, name))

    def _master(self, m: Module, reads: ReadDma, writes: WriteDma) -> None:
        """The master's channels; what never changes is constant."""
        c = self.config
        self._connect(m, reads, "m_axi", read_members(c))
        self._connect(m, writes, "m_axi", write_members(c))
        for channel in ("aw", "ar"):
            for name, (_, value) in _fixed(c).items():
                m.d.comb += getattr(self, f"m_axi_{channel}{name}").eq(value)

    def _commands(
        self, m: Module, engine: Engine, feeder: Feeder, collector: Collector,
        queue: Fifo, jobs: Fifo, reads: ReadDma, writes: WriteDma,
    ) -> None:  # fmt: skip
        """From doorbells to transfers."""
        _stream(m, queue.o, engine.doorbell)
        _stream(m, engine.read, reads.command)
        _stream(m, engine.write, jobs.i)
        _stream(m, jobs.o, writes.command)
        _stream(m, engine.job, collector.job)
        _stream(m, collector.o, writes.i)
        for name in ("active", "opcode", "first", "inner", "stride"):
            m.d.comb += getattr(feeder, name).eq(getattr(engine, name))
        word = reads.o
        m.d.comb += [
            engine.done.eq(feeder.done),
            Value.cast(engine.word.payload).eq(Value.cast(word.payload)),
            Value.cast(feeder.i.payload).eq(Value.cast(word.payload)),
            engine.word.valid.eq(word.valid & engine.fetching),
            feeder.i.valid.eq(word.valid & ~engine.fetching),
            word.ready.eq(Mux(engine.fetching, engine.word.ready, feeder.i.ready)),
        ]

    def _core(self, m: Module, feeder: Feeder, collector: Collector) -> None:
        """The accelerator's streams."""
        core = self.core
        _stream(m, feeder.rows, core.i)
        _stream(m, feeder.program, core.program)
        _stream(m, core.o, collector.i)
        if self.config.has_front_end:
            _stream(m, feeder.gather, core.gather)

    def _status(
        self, m: Module, file: RegisterFile, supervisor: Supervisor, completion: Completion,
        queue: Fifo, collector: Collector, busy: Signal,
    ) -> None:  # fmt: skip
        """What registers show, and what they command."""
        c = self.config
        items, cycles = Signal(32, name="groups_done"), Signal(32, name="busy_cycles")
        with m.If(supervisor.zero):
            m.d.sync += [items.eq(0), cycles.eq(0)]
        with m.Else():
            m.d.sync += [items.eq(items + collector.group), cycles.eq(cycles + busy)]
        refused = named(m, "doorbell_refused", ~queue.i.ready | supervisor.stop)
        m.d.comb += [
            supervisor.reset.eq(file.control_written & file.control_reset),
            supervisor.limit.eq(file.watchdog_value),
            queue.i.payload.eq(file.doorbell_value),
            queue.i.valid.eq(file.doorbell_written),
            file.doorbell_refused.eq(refused),
            file.control_refused.eq(0),
            file.status_busy.eq(busy),
            file.status_halted.eq(supervisor.halted),
            file.status_draining.eq(supervisor.draining),
            file.status_full.eq(refused),
            file.completed_value.eq(completion.count),
            file.items_value.eq(items),
            file.tag_tag.eq(completion.tag),
            file.busy_cycles_value.eq(cycles),
            file.error_address_value.eq(supervisor.error_address),
            file.irq_status_done_set.eq(completion.interrupt),
            file.irq_status_error_set.eq(supervisor.error_event),
            self.irq_o.eq(
                (file.irq_status_done & file.irq_enable_done)
                | (file.irq_status_error & file.irq_enable_error)
            ),
        ]
        error = next(r for r in registers(c) if r.name == "ERROR")
        for field in error.fields:
            m.d.comb += getattr(file, f"error_{field.name}").eq(supervisor.errors[field.low])
        if c.address_bits > 32:
            m.d.comb += file.error_address_high_high.eq(supervisor.error_address[32:])


def _stream(m: Module, source: Any, sink: Any) -> None:
    """Connect two streams."""
    payload, taken = Value.cast(source.payload), Value.cast(sink.payload)
    assert len(payload) == len(taken), (len(payload), len(taken))
    m.d.comb += [
        taken.eq(payload),
        sink.valid.eq(source.valid),
        source.ready.eq(sink.ready),
    ]
