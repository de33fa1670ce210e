"""A netlist as Verilog that any simulator runs: cells with the library's functions.

Every cell becomes its liberty function (gates), a user-defined primitive (flip-flops, latches),
an array of words (SRAM macros) or a clock gate, each output with the rise and fall delay that
static timing found for that instance (the mean over its inputs), in ps. Delays are inertial: a
pulse shorter than the gate's delay does not pass. The clock network has no delay, as in static
timing: a clock tree balances it.

State starts at random values, different ones for every seed: a design that needs a register's
initial value gives wrong answers.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from flow.cells.boolean import Expression, parse
from flow.cells.library import Cell, Library
from flow.netlist.netlist import HIGH, LOW, Netlist
from flow.timing.analysis import Timing
from halut.errors import HalutError

__all__ = ["cell_delays", "clock_gate_pins", "simulation_netlist"]

_PRIMITIVES = Path(__file__).parent / "primitives.v"


def cell_delays(timing: Timing) -> dict[tuple[int, str], tuple[int, int]]:
    """Rise and fall delay of every output, ps, at least 1.

    Returns
    -------
    dict of (instance number, output pin) to (rise, fall)
        Nothing for cells of the clock network: they have no delay.
    """
    nodes = len(timing.port_load) * 2
    total = np.zeros(nodes)
    count = np.zeros(nodes)
    np.add.at(total, timing.arc_out, np.maximum(timing.delay, 0.0))
    np.add.at(count, timing.arc_out, 1)
    if len(timing.launch_out):
        arcs = timing.first_arc[timing.kind[timing.launch_instance]] + timing.launch_local
        load = timing.load.reshape(-1)[timing.launch_out]
        launch = timing.tables(timing.arc_delay[arcs], np.zeros(len(arcs)), load)
        np.add.at(total, timing.launch_out, np.maximum(launch, 0.0))
        np.add.at(count, timing.launch_out, 1)
    mean = np.where(count > 0, total / np.maximum(count, 1), 0.0)
    ps = np.maximum(1, np.rint(mean * 1000)).astype(int).reshape(-1, 2)
    found = {}
    for net, instance, pin in zip(timing.out_net, timing.out_instance, timing.out_pin, strict=True):
        if int(instance) not in timing.clock_cells:
            name = timing.pin_order[timing.names[timing.kind[instance]]][pin]
            found[int(instance), name] = (int(ps[net, 0]), int(ps[net, 1]))
    return found


def simulation_netlist(
    netlist: Netlist,
    library: Library,
    delays: dict[tuple[int, str], tuple[int, int]] | None,
    seed: int,
) -> str:
    """The netlist as Verilog that any simulator can run.

    Parameters
    ----------
    delays : dict or None
        From `cell_delays`; None for a simulation without delays (Verilator), where state is in
        always blocks instead of primitives.
    seed : int
        Of the initial state.

    Returns
    -------
    str
        Nets are called ``n<number>``, by net number, so that a dump is read without a table.
    """
    rng = random.Random(seed)
    timed = delays is not None
    out: list[str] = ["`timescale 1ps/1ps"]
    if timed:
        out.append(_PRIMITIVES.read_text())
    out.append(f"module {netlist.top} ({', '.join(port.name for port in netlist.ports)});")
    for port in netlist.ports:
        span = "" if port.scalar else f" [{len(port.nets) - 1}:0]"
        out.append(f"  {port.direction}{span} {port.name};")
    used = {net for instance in netlist.instances for net in instance.pins.values()}
    used |= {net for port in netlist.ports for net in port.nets}
    gates: dict[str, Expression] = {}
    body: list[str] = []

    def name(net: int) -> str:
        return {LOW: "1'b0", HIGH: "1'b1"}.get(net) or f"n{net}"

    for port in netlist.ports:
        for bit, net in enumerate(port.nets):
            if port.direction == "input":
                body.append(f"  assign n{net} = {port.bit_name(bit)};")
            else:
                body.append(f"  assign {port.bit_name(bit)} = {name(net)};")
    for index, instance in enumerate(netlist.instances):
        cell = library.cells[instance.cell]
        pins = {pin: name(instance.pins.get(pin, LOW)) for pin in cell.inputs}
        state = f"s{index}"

        def after(pin: str, index: int = index) -> str:
            if delays is None or (index, pin) not in delays:
                return ""
            rise, fall = delays[index, pin]
            return f" #({rise},{fall})"

        if cell.kind == "clock_gate":
            gate_clock, enable, output = clock_gate_pins(cell)
            target = instance.pins.get(output)
            if target is None:
                continue
            body.append(f"  reg {state} = 1'b{rng.getrandbits(1)};")
            body.append(f"  always @* if (!{pins[gate_clock]}) {state} = {pins[enable]};")
            body.append(f"  assign n{target} = {pins[gate_clock]} & {state};")
            continue
        if cell.kind == "sram":
            start = rng.getrandbits(sum(pin in instance.pins for pin in cell.outputs))
            body += _sram_model(cell, instance.pins, pins, index, start, after)
            continue
        names = dict(pins)
        if cell.kind in ("ff", "latch"):
            edge = parse(cell.state["clock" if cell.kind == "ff" else "enable"]).verilog(pins)
            data = parse(cell.state["next" if cell.kind == "ff" else "data"]).verilog(pins)
            start = rng.getrandbits(1)
            iq, iqn = cell.state["iq"], cell.state.get("iqn", "")
            wanted = [pin for pin in cell.outputs if pin in instance.pins]
            plain = len(wanted) == 1 and cell.pins[wanted[0]].function.strip() == iq
            if timed:
                primitive = f"halut_{'dff' if cell.kind == 'ff' else 'latch'}{start}"
                held = f"n{instance.pins[wanted[0]]}" if plain else state
                if not plain:
                    body.append(f"  wire {state};")
                delay = after(wanted[0]) if plain else ""
                body.append(f"  {primitive}{delay} g{index} ({held}, {edge}, {data});")
                if plain:
                    continue
            else:
                body.append(f"  reg {state} = 1'b{start};")
                if cell.kind == "ff":
                    signal = edge.strip("()")
                    which = "negedge" if signal.startswith("~") else "posedge"
                    signal = signal.lstrip("~")
                    body.append(f"  always @({which} {signal}) {state} <= {data};")
                else:
                    body.append(f"  always @* if ({edge}) {state} = {data};")
            names[iq] = state
            if iqn:
                names[iqn] = f"(~{state})"
        for pin in cell.outputs:
            target = instance.pins.get(pin)
            if target is None:
                continue
            function = cell.pins[pin].function
            if not function:
                raise HalutError(
                    f"a cell of the netlist must have a function in its library, unlike "
                    f"{instance.cell} pin {pin}"
                )
            expression = parse(function)
            if timed and cell.kind == "gate" and expression.inputs:
                primitive = f"halut_{re.sub(r'[^A-Za-z0-9_]', '_', instance.cell)}_{pin}"
                gates.setdefault(primitive, expression)
                inputs = ", ".join(pins[name] for name in expression.inputs)
                body.append(f"  {primitive}{after(pin)} g{index}{pin} (n{target}, {inputs});")
                continue
            # A constant never changes, and a delayed one would never arrive.
            delay = after(pin) if expression.inputs else ""
            body.append(f"  assign{delay} n{target} = {expression.verilog(names)};")
    out.extend(f"  wire n{net};" for net in sorted(used) if net >= 0)
    out.extend(body)
    out.append("endmodule")
    out += [_primitive(name, expression) for name, expression in gates.items()]
    return "\n".join(out) + "\n"


def _sram_model(
    cell: Cell,
    nets: Mapping[str, int],
    pins: Mapping[str, str],
    index: int,
    start: int,
    after: Callable[[str], str],
) -> list[str]:
    """A macro: an array of words, and the word that was read last, which stays.

    Gates give an unknown value for an unknown input, so that a macro begins with random words, made
    of `start`: before its reset a design may read some.
    """
    roles = cell.state

    def bus(role: str) -> str:
        bits = [pins[pin] for pin in cell.pins if pin.startswith(f"{roles[role]}[")]
        return "{" + ", ".join(reversed(bits)) + "}"

    def active(role: str, signal: str) -> str:
        return f"~{signal}" if role in roles["inverted"].split() else signal

    outputs = [pin for pin in cell.pins if pin.startswith(f"{roles['output']}[")]
    address_bits = sum(pin.startswith(f"{roles['address']}[") for pin in cell.pins)
    word, words, address = f"s{index}", f"m{index}", bus("address")
    written = bus("data")
    if "mask" in roles:
        mask = active("mask", bus("mask"))
        written = f"({written} & {mask}) | ({words}[{address}] & ~{mask})"
    enable, write = (active(role, pins[roles[role]]) for role in ("enable", "write"))
    span = f"[{len(outputs) - 1}:0]"
    lines = [
        f"  reg {span} {word} = {len(outputs)}'h{start:x};",
        f"  reg {span} {words} [0:{(1 << address_bits) - 1}];",
        f"  integer i{index}, r{index} = {start & 0x7FFFFFFF};",
        f"  initial for (i{index} = 0; i{index} < {1 << address_bits}; i{index} = i{index} + 1)",
        f"    {words}[i{index}] = {{{-(-len(outputs) // 32)}{{$random(r{index})}}}};",
        f"  always @(posedge {pins[roles['clock']]}) if ({enable}) begin",
        f"    if ({write}) {words}[{address}] <= {written}; else {word} <= {words}[{address}];",
        "  end",
    ]
    return lines + [
        f"  assign{after(pin)} n{nets[pin]} = {word}[{bit}];" for bit, pin in enumerate(outputs)
    ]


def _primitive(name: str, expression: Expression) -> str:
    """A gate as a user-defined primitive: much faster than an expression in Icarus."""
    inputs = expression.inputs
    rows = [
        f"    {' '.join(str(row >> bit & 1) for bit in range(len(inputs)))} : {int(value)};"
        for row, value in enumerate(expression.table())
    ]
    pins = [f"i{number}" for number in range(len(inputs))]
    return "\n".join(
        [
            f"primitive {name} (o, {', '.join(pins)});",
            f"  output o; input {', '.join(pins)};",
            "  table",
            *rows,
            "  endtable",
            "endprimitive",
        ]
    )


def clock_gate_pins(cell: Cell) -> tuple[str, str, str]:
    """Clock, enable and output of a clock gate; test enables are wired low."""
    clock = next(iter(sorted(cell.clock_pins)))
    enables = [
        pin
        for pin in cell.inputs
        if pin != clock and any(arc.kind.startswith("setup") for arc in cell.pins[pin].arcs)
    ]
    # A scan enable has set-up times too; the functional enable is what is not called so.
    enables.sort(key=lambda pin: pin in ("SE", "TE", "SCE", "TEST"))
    return clock, enables[0], cell.outputs[0]
