"""Netlist simulation: the netlist with the library's functions, a testbench, and the answers.

Every cell becomes its liberty function (gates), a user-defined primitive (flip-flops, latches) or
a clock gate, each output with the rise and fall delay that static timing found for that instance
(the mean over its inputs), in ps. Delays are inertial: a pulse shorter than the gate's delay does
not pass. The clock network has no delay, as in static timing: a clock tree balances it.

State starts at random values, different ones for every seed: a design that needs a register's
initial value gives wrong answers.
"""

from __future__ import annotations

import random
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flow.cells.boolean import Expression, parse
from flow.cells.library import Cell, Library
from flow.designs.design import Stream, Workload
from flow.netlist.netlist import HIGH, LOW, Netlist
from flow.timing.analysis import Timing
from flow.timing.constraints import clock_ps
from flow.tools import Tool, run_tool, tail
from halut.errors import CheckFailed, HalutError
from halut.files import atomic_write
from sim.simulators import plain_folder

__all__ = [
    "NetlistRun",
    "cell_delays",
    "clock_gate_pins",
    "run_netlist",
    "simulation_netlist",
    "testbench",
]

_PRIMITIVES = """\
primitive halut_dff0 (q, c, d);
  output q; reg q; input c, d;
  initial q = 1'b0;
  table
    r 0 : ? : 0; r 1 : ? : 1; (0x) ? : ? : -; (?0) ? : ? : -; (x1) ? : ? : -; ? * : ? : -;
  endtable
endprimitive
primitive halut_dff1 (q, c, d);
  output q; reg q; input c, d;
  initial q = 1'b1;
  table
    r 0 : ? : 0; r 1 : ? : 1; (0x) ? : ? : -; (?0) ? : ? : -; (x1) ? : ? : -; ? * : ? : -;
  endtable
endprimitive
primitive halut_latch0 (q, g, d);
  output q; reg q; input g, d;
  initial q = 1'b0;
  table
    1 0 : ? : 0; 1 1 : ? : 1; 0 ? : ? : -; x ? : ? : -;
  endtable
endprimitive
primitive halut_latch1 (q, g, d);
  output q; reg q; input g, d;
  initial q = 1'b1;
  table
    1 0 : ? : 0; 1 1 : ? : 1; 0 ? : ? : -; x ? : ? : -;
  endtable
endprimitive
"""


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
    netlist : Netlist
    library : Library
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
        out.append(_PRIMITIVES)
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


def _hex(items: list[tuple[int, ...]], widths: list[int]) -> str:
    lines = []
    for item in items:
        word, shift = 0, 0
        for value, width in zip(item, widths, strict=True):
            word |= (int(value) & ((1 << width) - 1)) << shift
            shift += width
        lines.append(f"{word:x}")
    return "\n".join(lines) + "\n"


def testbench(
    netlist: Netlist,
    workload: Workload,
    clock: str,
    reset: str,
    period_ps: int,
    warm_up: int,
    window: int,
    dump: bool,
) -> tuple[str, dict[str, str]]:
    """A testbench that plays the workload, and its data files.

    Inputs change 5 % of a period after the clock edge. Outputs are sampled at the edge. The dump
    covers `window` cycles and begins 1 ps before a clock edge, `warm_up` cycles after the first
    input transfer.

    Returns
    -------
    text : str
    files : dict of str to str
        Contents for ``$readmemh``, by file name.
    """
    width = {port.name: len(port.nets) for port in netlist.ports}
    files: dict[str, str] = {}
    streams = [*workload.setup, workload.inputs]
    timeout = 50 + sum(len(s.items) for s in streams) * 8 + 8 * len(workload.outputs.items)
    lines = ["`timescale 1ps/1ps", "module halut_bench;"]
    for port in netlist.ports:
        kind = "reg" if port.direction == "input" else "wire"
        span = f" [{width[port.name] - 1}:0]" if width[port.name] > 1 else ""
        start = " = 0" if kind == "reg" else ""
        lines.append(f"  {kind}{span} {port.name}{start};")
    connections = ", ".join(f".{port.name}({port.name})" for port in netlist.ports)
    lines.append(f"  {netlist.top} dut ({connections});")
    lines += [
        # Gates are unknown until their inputs have come through: no register may take that.
        f"  initial begin #{64 * period_ps}; forever #{period_ps // 2} {clock} = !{clock}; end",
        "  integer cycle = 0, phase = 0, answers = 0, file, started = -1;",
    ]
    for number, stream in enumerate(streams):
        widths = [width[port] for port in stream.payload]
        files[f"stream{number}.hex"] = _hex(stream.items, widths)
        lines += [
            f"  reg [{sum(widths) - 1}:0] items{number} [0:{len(stream.items) - 1}];",
            f"  integer at{number} = 0;",
        ]
    lines.append("  initial begin")
    for number in range(len(streams)):
        lines.append(f'    $readmemh("stream{number}.hex", items{number});')
    lines += ['    file = $fopen("answers.txt", "w");', "  end"]
    out = workload.outputs
    settle = max(1, period_ps // 20)
    lines += [
        f"  always @(posedge {clock}) begin : play",
        "    cycle = cycle + 1;",
        f"    if ({reset} && {out.valid} === 1'b1) begin",
        '      $fwrite(file, "'
        + " ".join("%x" for _ in out.payload)
        + ' %0d\\n", '
        + ", ".join(out.payload)
        + ", cycle);",
        "      answers = answers + 1;",
        "    end",
    ]
    for number, stream in enumerate(streams):
        lines += [
            f"    if (phase == {number} && {stream.valid} && {stream.ready} === 1'b1) begin",
            f"      at{number} = at{number} + 1;",
        ]
        if number == len(streams) - 1:
            lines.append("      if (started < 0) started = cycle;")
            lines.append('      $fwrite(file, "in %0d\\n", cycle);')
        lines.append("    end")
    lines.append(f"    #{settle};")
    lines += [f"    {reset} = cycle > 8;", f"    {out.ready} = 1;"]
    for fixed, value in workload.fixed.items():
        lines.append(f"    {fixed} = {width[fixed]}'h{value:x};")
    for number, stream in enumerate(streams):
        target = "{" + ", ".join(reversed(stream.payload)) + "}"
        length = len(stream.items)
        lines += [
            f"    if (cycle > 12 && phase == {number}) begin",
            f"      if (at{number} < {length}) begin",
            f"        {stream.valid} = 1; {target} = items{number}[at{number}];",
            "      end else begin",
            f"        {stream.valid} = 0; phase = phase + 1;",
            "      end",
            "    end",
        ]
    if dump:
        lines += [
            # Just before the next edge, when everything has settled.
            f"    if (started >= 0 && cycle == started + {warm_up - 1}) begin",
            f"      #{period_ps - settle - 1};",
            '      $dumpfile("activity.vcd"); $dumpvars(1, dut);',
            "    end",
            f"    if (started >= 0 && cycle == started + {warm_up + window}) $dumpoff;",
        ]
    lines += [
        # All answers, and all of the last input stream.
        f"    if ((answers == {len(out.items)} && phase == {len(streams)}) || cycle == {timeout})",
        "    begin",
        '      $fwrite(file, "end %0d %0d\\n", started, cycle); $fclose(file); $finish;',
        "    end",
        "  end",
        "endmodule",
    ]
    return "\n".join(lines) + "\n", files


@dataclass(frozen=True)
class NetlistRun:
    """Outcome of a simulation whose outputs were all right.

    Attributes
    ----------
    answers : int
        Output transfers compared with the exact model.
    cycles : int
    started : int
        Cycle of the first input transfer.
    input_cycles, answer_cycles : tuple of int
        Cycle of every input and output transfer.
    dump : Path or None
    with_delays : bool
    """

    answers: int
    cycles: int
    started: int
    input_cycles: tuple[int, ...]
    answer_cycles: tuple[int, ...]
    dump: Path | None
    with_delays: bool


def check_answers(
    text: str, outputs: Stream, where: Path
) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    """Compare what the bench wrote with what the model says.

    Returns
    -------
    started, cycles : int
    input_cycles, answer_cycles : tuple of int
    """
    lines = text.split("\n")
    ends = [line for line in lines if line.startswith("end ")]
    inputs = tuple(int(line.split()[1]) for line in lines if line.startswith("in "))
    answers = [line.split() for line in lines if line and not line.startswith(("end ", "in "))]
    if not ends:
        raise CheckFailed(f"the netlist simulation must reach its end ({where})")
    for number, (received, expected) in enumerate(zip(answers, outputs.items, strict=False)):
        for port, got, want in zip(outputs.payload, received, expected, strict=False):
            if "x" in got.lower() or "z" in got.lower() or int(got, 16) != want:
                raise CheckFailed(
                    f"the netlist must compute what the model says: {port} of transfer {number} "
                    f"must be 0x{want:x}, not {got} ({where})"
                )
    if len(answers) != len(outputs.items) or not answers:
        raise CheckFailed(
            f"the netlist must give {len(outputs.items)} output transfers, not {len(answers)} "
            f"({where})"
        )
    started, cycles = (int(number) for number in ends[0].split()[1:])
    return started, cycles, inputs, tuple(int(answer[-1]) for answer in answers)


def _compile(simulator: Tool, folder: Path, dump: bool) -> Tool:
    """Compile ``bench.v`` and ``dut.v``; return what runs them."""
    log = folder / "compile.log"
    if simulator.name == "icarus":
        run_tool(simulator, ["-g2005", "-o", "bench.vvp", "bench.v", "dut.v"], log, cwd=folder)
        vvp = str(Path(simulator.command[0]).with_name("vvp"))
        return replace(simulator, name="vvp", command=(vvp, "-n", "bench.vvp"))
    program = folder / "obj"
    shutil.rmtree(program, ignore_errors=True)
    program.mkdir()
    with plain_folder(program) as place:
        for name in ("bench.v", "dut.v"):
            shutil.copy(folder / name, place / name)
        run_tool(
            simulator,
            ["--binary", "--timing", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-O1",
             *(["--trace-vcd"] if dump else []),
             "--top-module", "halut_bench", "-Mdir", ".", "-j", "2",
             "-CFLAGS", "-O0 -std=gnu++20", "bench.v", "dut.v"],
            log, cwd=place,
        )  # fmt: skip
    return Tool("the netlist simulation", (str(program / "Vhalut_bench"),), simulator.version)


def run_netlist(
    simulator: Tool,
    netlist: Netlist,
    library: Library,
    timing: Timing | None,
    workload: Workload,
    folder: Path,
    *,
    clock: str,
    reset: str,
    period_ns: float,
    warm_up: int,
    window: int,
    dump: bool = True,
) -> NetlistRun:
    """Simulate a netlist, check every output, and leave a dump of the window.

    Raises
    ------
    CheckFailed
        When an output differs from the model's, or the simulator fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    timed = simulator.name == "icarus" and timing is not None
    delays = cell_delays(timing) if timed and timing is not None else None
    period_ps = clock_ps(period_ns)
    bench, files = testbench(netlist, workload, clock, reset, period_ps, warm_up, window, dump)
    files["bench.v"] = bench
    files["dut.v"] = simulation_netlist(netlist, library, delays, workload.seed)
    for name in ("answers.txt", "activity.vcd"):
        (folder / name).unlink(missing_ok=True)
    for name, text in files.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text)
    executable = _compile(simulator, folder, dump)
    run_tool(executable, [], folder / "simulate.log", cwd=folder)
    answers = folder / "answers.txt"
    if not answers.is_file():
        raise CheckFailed(
            f"the netlist simulation must write its answers: {tail(folder / 'simulate.log', 4)}"
        )
    started, cycles, inputs, when = check_answers(answers.read_text(), workload.outputs, answers)
    vcd = folder / "activity.vcd"
    return NetlistRun(
        answers=len(when),
        cycles=cycles,
        started=started,
        input_cycles=inputs,
        answer_cycles=when,
        dump=vcd if vcd.is_file() else None,
        with_delays=timed,
    )
