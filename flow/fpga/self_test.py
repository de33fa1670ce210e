"""A top for boards: it plays a workload to a design, compares the results, and lights LEDs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from flow.designs.design import Design, Stream
from flow.simulation.testbench import hex_words
from halut.errors import HalutError

__all__ = ["TOP", "port_widths", "self_test"]

TOP = "halut_self_test"
_MODULES = Path(__file__).with_suffix(".v")
_WATCHDOG_BITS = 24


def port_widths(design: Design) -> dict[str, int]:
    """Bits of every port of a design's top, from its Verilog."""
    module = re.search(rf"^module {design.top}\(.*?^endmodule", design.verilog, re.M | re.S)
    if module is None:
        raise HalutError(f"the Verilog of a design must hold its top {design.top} ({design.name})")
    found = re.findall(r"^  (?:input|output) (?:\[(\d+):0\] )?(\w+);", module[0], re.M)
    return {name: int(high or 0) + 1 for high, name in found}


def _words(stream: Stream, widths: dict[str, int]) -> str:
    """The transfers of a stream for ``$readmemh``; the first port has the lowest bits."""
    return hex_words(stream.items, [widths[port] for port in stream.payload])


def _parameters(stream: Stream, widths: dict[str, int], file: str) -> str:
    length = len(stream.items)
    return (
        f".WIDTH({sum(widths[port] for port in stream.payload)}), .LENGTH({length}), "
        f'.ADDRESS_BITS({max(1, (length - 1).bit_length())}), .FILE("{file}")'
    )


def _payload(stream: Stream) -> str:
    return "{" + ", ".join(reversed(stream.payload)) + "}"


def self_test(
    design: Design, seed: int, n_transfers: int, leds_active_low: bool = False
) -> tuple[str, dict[str, str]]:
    """A top with a clock and three LEDs around a design.

    After power-on it sends the workload's setup and inputs at full rate and compares all results.
    The first LED blinks while it runs; the second is lit when all results were right and no other
    came within the time limit; the third when one was not, or too few came in 2^24 cycles.

    Parameters
    ----------
    seed, n_transfers : int
        Of the workload.
    leds_active_low : bool, default False
        Whether a LED is lit by 0.

    Returns
    -------
    verilog : str
        The top, to be read with the design's own.
    files : dict of str to str
        Contents for ``$readmemh``, by file name.

    Examples
    --------
    >>> from flow.designs.design import accelerator
    >>> from rtl_gen import AcceleratorConfig
    >>> design = accelerator(AcceleratorConfig(n_codebooks=2, n_outputs=2, memory="lutram"))
    >>> sorted(self_test(design, seed=1, n_transfers=8)[1])
    ['inputs.hex', 'results.hex', 'setup0.hex']
    """
    widths = port_widths(design)
    work = design.workload(seed, n_transfers)
    senders = [(f"setup{number}", stream) for number, stream in enumerate(work.setup)]
    senders.append(("inputs", work.inputs))
    files = {f"{name}.hex": _words(stream, widths) for name, stream in senders}
    files["results.hex"] = _words(work.outputs, widths)
    lines = [
        f"module {TOP}(clk, leds);",
        "  input wire clk;",
        "  output wire [2:0] leds;",
        "  reg [3:0] since_power_on = 0;",
        f"  reg [{_WATCHDOG_BITS - 1}:0] cycle = 0;",
        "  reg late = 0;",
        "  wire running = &since_power_on;",
        f"  wire {design.reset} = running;",
        "  always @(posedge clk) begin",
        "    if (!running) since_power_on <= since_power_on + 1'b1;",
        "    cycle <= cycle + 1'b1;",
        "    if (&cycle) late <= 1'b1;",
        "  end",
        *_senders(senders, widths),
        *_receiver(work.outputs, widths, leds_active_low),
    ]
    lines += [f"  wire [{widths[port] - 1}:0] {port} = {widths[port]}'h{value:x};"
              for port, value in work.fixed.items()]  # fmt: skip
    connections = [f".{port}({port})" for port in widths if port != design.clock]
    lines += [
        f"  {design.top} tested(.{design.clock}(clk), {', '.join(connections)});",
        "endmodule",
    ]
    return f"{_MODULES.read_text()}\n" + "\n".join(lines) + "\n", files


def _senders(senders: Sequence[tuple[str, Stream]], widths: dict[str, int]) -> list[str]:
    """One source per stream; each begins when the one before is done."""
    lines, before = [], "running"
    declared: set[str] = set()
    for name, stream in senders:
        bits = sum(widths[port] for port in stream.payload)
        if declared & set(stream.payload):
            raise HalutError(f"a self-test must send each stream once, not {stream.valid} again")
        declared |= set(stream.payload)
        lines += [f"  wire [{widths[port] - 1}:0] {port};" for port in stream.payload]
        lines += [
            f"  wire {stream.valid}, {stream.ready}, {name}_done;",
            f"  wire [{bits - 1}:0] {name}_word;",
            f"  assign {_payload(stream)} = {name}_word;",
            f"  halut_test_source #({_parameters(stream, widths, f'{name}.hex')}) {name}(",
            f"    .clk(clk), .run({before}), .ready({stream.ready}), .valid({stream.valid}),",
            f"    .payload({name}_word), .done({name}_done)",
            "  );",
        ]
        before = f"{name}_done"
    return lines


def _receiver(stream: Stream, widths: dict[str, int], leds_active_low: bool) -> list[str]:
    bits = sum(widths[port] for port in stream.payload)
    lit = "{failed, passed, running && cycle[21]}"
    return [
        *(f"  wire [{widths[port] - 1}:0] {port};" for port in stream.payload),
        f"  wire {stream.valid}, {stream.ready}, results_done, wrong;",
        f"  wire [{bits - 1}:0] result = {_payload(stream)};",
        f"  halut_test_sink #({_parameters(stream, widths, 'results.hex')}) results(",
        f"    .clk(clk), .run(running), .valid({stream.valid}), .ready({stream.ready}),",
        "    .result(result), .done(results_done), .wrong(wrong)",
        "  );",
        "  wire failed = wrong || (late && !results_done);",
        "  wire passed = late && results_done && !wrong;",
        f"  assign leds = {'~' if leds_active_low else ''}{lit};",
    ]
