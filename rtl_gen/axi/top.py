# amaranth: UnusedElaboratable=no
"""The block around an accelerator: registers, bus, descriptors."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from ..front_end import FrontEndConfig, HalutConvolution
from ..tiled import HalutTiled
from ..tiled_config import TiledConfig
from ..top import HalutMatmul
from ..units.unit import Unit, named
from .bus import MasterBus, StreamBus, bus_unit
from .collector import Collector
from .config import AxiConfig
from .engine import Engine
from .feeder import Feeder
from .fifo import Fifo
from .lite import AxiLiteSlave, WishboneSlave, axi_lite_members, wishbone_members
from .register_file import RegisterFile, register_port
from .registers import ERRORS, registers
from .supervisor import Completion, Supervisor
from .wires import connect_members, connect_stream, prefixed

__all__ = ["QUEUE_DEPTH", "HalutAxi", "core_unit"]

QUEUE_DEPTH = 4
"""Doorbells that wait."""


def core_unit(config: AxiConfig) -> HalutMatmul | HalutTiled | HalutConvolution:
    """The accelerator of a configuration."""
    core = config.core
    if isinstance(core, FrontEndConfig):
        return HalutConvolution(core)
    return HalutTiled(core) if isinstance(core, TiledConfig) else HalutMatmul(core)


def _control(config: AxiConfig) -> tuple[str, dict[str, Any]]:
    """Prefix and members of the registers' bus."""
    if config.control == "wishbone":
        return "s_wb", wishbone_members()
    return "s_axil", axi_lite_members()


class HalutAxi(Unit):
    """An accelerator that reads commands, programs and rows from memory and writes results there.

    Parameters
    ----------
    config : AxiConfig

    Members
    -------
    s_axil_* : an AXI4-Lite slave, or s_wb_* : a Wishbone slave
        The registers, see `registers`.
    m_axi_* : an AXI4 master, or s_axis_* and m_axis_* : AXI4-Streams
        See `MasterBus` and `StreamBus`.
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
        self.bus = bus_unit(config)
        self._outside = {
            name: member
            for name, member in self.bus.signature.members.items()
            if name.startswith(("m_axi_", "s_axis_", "m_axis_"))
        }
        members = {**prefixed(*_control(config)), **self._outside, "irq_o": Out(1)}
        super().__init__(members, module_name="halut_axi", has_reset=True)

    def build(self, m: Module, platform: object) -> None:
        c = self.config
        tag = c.hash[:8]
        bus = self.bus
        file = RegisterFile(registers(c), tag)
        supervisor = Supervisor(c)
        completion = Completion()
        engine, feeder, collector = Engine(c, tag), Feeder(c, tag), Collector(c, tag)
        clear = Signal(name="clear")
        for name, unit in (
            ("registers", file), ("supervisor", supervisor), ("completion", completion),
            ("engine", engine), ("feeder", feeder), ("collector", collector), ("bus", bus),
        ):  # fmt: skip
            self.add(m, name, unit, platform)
        self.add(m, "core", self.core, platform, reset=clear)
        m.d.comb += clear.eq(supervisor.clear)
        for unit in (completion, engine, feeder, collector, bus):
            m.d.comb += unit.clear.eq(clear)
        for name, member in self._outside.items():
            own, placed = getattr(self, name), getattr(bus, name)
            m.d.comb += own.eq(placed) if member.flow == Out else placed.eq(own)
        self._control(m, platform, file)
        queued = self._doorbell(m, platform, file, engine, supervisor, clear)
        self._streams(m, engine, feeder, collector)
        stop = supervisor.stop
        open_transfers = collector.waiting if c.bus == "stream" else ~bus.quiet
        busy = named(
            m,
            "busy",
            ~engine.idle | queued | ~completion.drained | supervisor.draining | open_transfers,
        )
        moved = [
            port.valid & port.ready for port in (feeder.rows, feeder.program, collector.i)
        ]  # fmt: skip
        m.d.comb += [
            bus.stop.eq(stop),
            bus.data.eq(engine.data),
            engine.stop.eq(stop),
            engine.drained.eq(completion.drained),
            completion.i.payload.as_value().eq(engine.completion.payload.as_value()),
            completion.i.valid.eq(engine.completion.valid),
            engine.completion.ready.eq(completion.i.ready),
            completion.written.eq(bus.written),
            completion.zero.eq(supervisor.zero),
            supervisor.raised.eq(
                Cat(bus.failed[:2], engine.bad, engine.wrong, bus.failed[2] | engine.cut)
            ),
            supervisor.read_address.eq(bus.failed_read),
            supervisor.write_address.eq(bus.failed_write),
            supervisor.descriptor_address.eq(engine.address),
            supervisor.busy.eq(busy),
            supervisor.moved.eq(Cat(*moved, bus.moved).any()),
            supervisor.quiet.eq(bus.quiet),
        ]
        self._status(m, file, supervisor, completion, collector, busy)

    def _control(self, m: Module, platform: object, file: RegisterFile) -> None:
        """The bus of the registers."""
        slave: Unit = WishboneSlave() if self.config.control == "wishbone" else AxiLiteSlave()
        prefix, members = _control(self.config)
        self.add(m, "control", slave, platform)
        connect_members(m, self, prefix, slave, members)
        for name, member in register_port().items():
            source, sink = (slave, file) if member.flow == In else (file, slave)
            m.d.comb += getattr(sink, name).eq(getattr(source, name))

    def _doorbell(
        self, m: Module, platform: object, file: RegisterFile, engine: Engine,
        supervisor: Supervisor, clear: Signal,
    ) -> Value:  # fmt: skip
        """What begins descriptors; returns whether any wait."""
        if self.config.bus == "stream":
            m.d.comb += [
                engine.doorbell.valid.eq(self.bus.waiting),
                engine.ended.eq(self.bus.ended),
            ]
            return self.bus.waiting
        queue = Fifo(width=32, depth=QUEUE_DEPTH)
        self.add(m, "queue", queue, platform)
        connect_stream(m, queue.o, engine.doorbell)
        refused = named(m, "doorbell_refused", ~queue.i.ready | supervisor.stop)
        m.d.comb += [
            queue.clear.eq(clear),
            queue.i.payload.eq(file.doorbell_value),
            queue.i.valid.eq(file.doorbell_written),
            file.doorbell_refused.eq(refused),
            file.status_full.eq(refused),
        ]
        if self.config.address_bits > 32:
            m.d.comb += [
                engine.high.eq(file.window_high),
                file.error_address_high_high.eq(supervisor.error_address[32:]),
            ]
        return queue.o.valid

    def _streams(self, m: Module, engine: Engine, feeder: Feeder, collector: Collector) -> None:
        """From commands to transfers, and through the accelerator."""
        bus: MasterBus | StreamBus = self.bus
        core = self.core
        connect_stream(m, engine.read, bus.read)
        connect_stream(m, engine.write, bus.write)
        connect_stream(m, engine.job, collector.job)
        connect_stream(m, collector.o, bus.result)
        connect_stream(m, feeder.rows, core.i)
        connect_stream(m, feeder.program, core.program)
        connect_stream(m, core.o, collector.i)
        if self.config.gathers:
            connect_stream(m, feeder.gather, core.gather)
        for name in ("active", "opcode", "first", "inner", "stride"):
            m.d.comb += getattr(feeder, name).eq(getattr(engine, name))
        word = bus.word
        m.d.comb += [
            engine.done.eq(feeder.done),
            Value.cast(engine.word.payload).eq(Value.cast(word.payload)),
            Value.cast(feeder.i.payload).eq(Value.cast(word.payload)),
            engine.word.valid.eq(word.valid & engine.fetching),
            feeder.i.valid.eq(word.valid & ~engine.fetching),
            word.ready.eq(Mux(engine.fetching, engine.word.ready, feeder.i.ready)),
        ]

    def _status(
        self, m: Module, file: RegisterFile, supervisor: Supervisor, completion: Completion,
        collector: Collector, busy: Signal,
    ) -> None:  # fmt: skip
        """What registers show, and what they command."""
        items, cycles = Signal(32, name="groups_done"), Signal(32, name="busy_cycles")
        with m.If(supervisor.zero):
            m.d.sync += [items.eq(0), cycles.eq(0)]
        with m.Else():
            m.d.sync += [items.eq(items + collector.group), cycles.eq(cycles + busy)]
        m.d.comb += [
            supervisor.reset.eq(file.control_written & file.control_reset),
            supervisor.limit.eq(file.watchdog_value),
            file.control_refused.eq(0),
            file.status_busy.eq(busy),
            file.status_halted.eq(supervisor.halted),
            file.status_draining.eq(supervisor.draining),
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
        for bit, name in enumerate(ERRORS):
            m.d.comb += getattr(file, f"error_{name}").eq(supervisor.errors[bit])
