"""Verilog that makes memories of a platform's SRAM macros."""

from __future__ import annotations

from collections.abc import Mapping

from flow.cells.sram import Arrangement, SramMacros

__all__ = ["sram_modules"]


def sram_modules(wanted: Mapping[tuple[int, int], Arrangement], sram: SramMacros) -> str:
    """Verilog of ``halut_sram``, in place of its behavioural model.

    Parameters
    ----------
    wanted : mapping of (words, bits of a word) to Arrangement
        Every size of memory in the design.

    Returns
    -------
    str
        The macros as black boxes, a module for each size, and ``halut_sram``.
    """
    cells = {way.cell: (way.words, way.bits) for way in wanted.values()}
    parts = [_black_box(cell, *cells[cell], sram) for cell in sorted(cells)]
    parts += [_memory(*size, wanted[size], sram) for size in sorted(wanted)]
    choices = [
        f"    if (WORDS == {words} && WIDTH == {width}) halut_sram_{words}x{width} memory "
        "(.clk_i(clk_i), .en_i(we_i | re_i), .we_i(we_i), .addr_i(address), .d_i(d_i), .q_o(q_o));"
        for words, width in sorted(wanted)
    ]
    parts.append(
        "module halut_sram #(parameter WORDS = 2, parameter WIDTH = 1, parameter ADDRESS_BITS = 1)"
        " (\n  input clk_i, input we_i, input [ADDRESS_BITS-1:0] waddr_i, input [WIDTH-1:0] d_i,\n"
        "  input re_i, input [ADDRESS_BITS-1:0] raddr_i, output [WIDTH-1:0] q_o);\n"
        "  wire [ADDRESS_BITS-1:0] address = we_i ? waddr_i : raddr_i;\n  generate\n"
        + "\n".join(choices)
        + "\n  endgenerate\nendmodule\n"
    )
    return "\n".join(parts)


def _black_box(cell: str, words: int, bits: int, sram: SramMacros) -> str:
    address = (words - 1).bit_length()
    spans = {"address": address, "data": bits, "mask": bits, "output": bits}
    ports = [
        f"{'output' if role == 'output' else 'input'} "
        + (f"[{spans[role] - 1}:0] " if role in spans else "")
        + pin
        for role, pin in sram.pins.items()
    ]
    return f"(* blackbox *) module {cell} (\n  {', '.join(ports)});\nendmodule\n"


def _memory(words: int, width: int, way: Arrangement, sram: SramMacros) -> str:
    """One size of memory: macros side by side for the bits, and in banks for the words.

    A bank has a clock gate: a macro may take energy at every edge of its clock.
    """
    address, inner = (words - 1).bit_length(), (way.words - 1).bit_length()
    padded = way.across * way.bits
    lines = [
        f"module halut_sram_{words}x{width} (input clk_i, input en_i, input we_i,",
        f"  input [{max(address, 1) - 1}:0] addr_i, input [{width - 1}:0] d_i, "
        f"output [{width - 1}:0] q_o);",
        f"  wire [{max(address, inner) - 1}:0] address = addr_i;",
        f"  wire [{padded - 1}:0] data = d_i;",
    ]
    if way.deep > 1:
        upper = address - inner
        lines += [
            f"  wire [{upper - 1}:0] bank = address[{address - 1}:{inner}];",
            f"  reg [{upper - 1}:0] bank_read;",
            "  always @(posedge clk_i) if (en_i) bank_read <= bank;",
        ]
    outputs = []
    for bank in range(way.deep):
        enable = "en_i" if way.deep == 1 else f"bank{bank}_enable"
        if way.deep > 1:
            lines.append(f"  wire {enable} = en_i & (bank == {bank});")
        lines += [
            f"  wire bank{bank}_clk;",
            f"  halut_clock_gate bank{bank}_gate (.clk_i(clk_i), .en_i({enable}), "
            f".gclk_o(bank{bank}_clk));",
            f"  wire [{padded - 1}:0] bank{bank}_word;",
        ]
        outputs.append(f"bank{bank}_word[{width - 1}:0]")
        for column in range(way.across):
            span = f"[{(column + 1) * way.bits - 1}:{column * way.bits}]"
            signals = {
                "clock": f"bank{bank}_clk",
                "enable": enable,
                "write": "we_i",
                "address": f"address[{inner - 1}:0]",
                "data": f"data{span}",
                "mask": f"{{{way.bits}{{1'b1}}}}",
                "output": f"bank{bank}_word{span}",
            }
            pins = ", ".join(
                f".{pin}({'~' if role in sram.inverted else ''}{signals[role]})"
                for role, pin in sram.pins.items()
            )
            lines.append(f"  {way.cell} bank{bank}_macro{column} ({pins});")
    value = outputs[-1]
    for bank in reversed(range(way.deep - 1)):
        value = f"bank_read == {bank} ? {outputs[bank]} : {value}"
    lines += [f"  assign q_o = {value};", "endmodule\n"]
    return "\n".join(lines)
