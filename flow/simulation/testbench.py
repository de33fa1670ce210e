"""The testbench of a netlist simulation: plays a workload, and its answers are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flow.designs.design import Stream, Workload
from flow.netlist.netlist import Netlist
from halut.errors import CheckFailed

__all__ = ["check_answers", "hex_words", "testbench"]


def hex_words(items: Sequence[tuple[int, ...]], widths: Sequence[int]) -> str:
    """Items for ``$readmemh``, one in a line; an item's first part has the lowest bits."""
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
    files : dict of str to str
        Contents for ``$readmemh``, by file name.
    """
    width = {port.name: len(port.nets) for port in netlist.ports}
    streams = [*workload.setup, workload.inputs]
    if workload.wires:  # What a top without streams or reset lacks.
        wires = workload.wires
        beside = {reset, workload.outputs.ready, *wires, *wires.values()}
        width |= dict.fromkeys(sorted(beside - width.keys()), 1)
    driven = {p.name for p in netlist.ports if p.direction == "output"} | workload.wires.keys()
    files: dict[str, str] = {}
    timeout = 50 + sum(len(s.items) for s in streams) * 8 + 8 * len(workload.outputs.items)
    lines = ["`timescale 1ps/1ps", "module halut_bench;"]
    for name, bits in width.items():
        kind = "wire" if name in driven else "reg"
        span = f" [{bits - 1}:0]" if bits > 1 else ""
        start = " = 0" if kind == "reg" else ""
        lines.append(f"  {kind}{span} {name}{start};")
    lines += [f"  assign {name} = {source};" for name, source in workload.wires.items()]
    connections = ", ".join(f".{port.name}({port.name})" for port in netlist.ports)
    lines.append(f"  {netlist.top} dut ({connections});")
    lines += [
        # Gates are unknown until their inputs have come through: no register may take that.
        f"  initial begin #{64 * period_ps}; forever #{period_ps // 2} {clock} = !{clock}; end",
        "  integer cycle = 0, turn = 0, answers = 0, file, started = -1;",
    ]
    for number, stream in enumerate(streams):
        widths = [width[port] for port in stream.payload]
        files[f"stream{number}.hex"] = hex_words(stream.items, widths)
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
            f"    if (turn == {number} && {stream.valid} && {stream.ready} === 1'b1) begin",
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
            f"    if (cycle > 12 && turn == {number}) begin",
            f"      if (at{number} < {length}) begin",
            f"        {stream.valid} = 1; {target} = items{number}[at{number}];",
            "      end else begin",
            f"        {stream.valid} = 0; turn = turn + 1;",
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
        f"    if ((answers == {len(out.items)} && turn == {len(streams)}) || cycle == {timeout})",
        "    begin",
        '      $fwrite(file, "end %0d %0d\\n", started, cycle); $fclose(file); $finish;',
        "    end",
        "  end",
        "endmodule",
    ]
    return "\n".join(lines) + "\n", files


def check_answers(
    text: str, outputs: Stream, where: Path
) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    """Compare what the bench wrote with what the model says."""
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
