"""The technology cells of the design, and storage made of them.

Latches, clock gates and SRAMs are instances of named cells, each with a behavioural model in the
emitted Verilog; a synthesis flow maps them to the library's cells and macros. Amaranth's
simulator has no latches: there, and with `memory="ff"`, a word is a register with an enable,
which behaves the same at every clock edge.

A latch word is written like this: the enable is computed in the cycle in which the program word
is accepted, the clock gate lets the next high phase of the clock through, and during that phase
the latches are open on the registered program word. After the accepting edge the new word is
read, as with a flip-flop.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value

from .unit import VerilogTarget

__all__ = [
    "CELL_INPUTS",
    "cell_models",
    "clock_gate",
    "equals",
    "one_hot",
    "one_hot_select",
    "sram_model",
    "storage_kind",
    "store_word",
]

CELL_INPUTS = {
    "halut_latch": ("en_i", "d_i"),
    "halut_clock_gate": ("clk_i", "en_i"),
    "halut_sram": ("clk_i", "we_i", "waddr_i", "d_i", "re_i", "raddr_i"),
}
_CELL_MODELS = """\
// Transparent latch, open while en_i is high. Replace by the library's latch.
/* verilator lint_off DECLFILENAME */
module halut_latch #(
/* verilator lint_on DECLFILENAME */
  parameter WIDTH = 1
) (
  input  wire             en_i,
  input  wire [WIDTH-1:0] d_i,
  output reg  [WIDTH-1:0] q_o
);
  // A latch is what this cell is for.
  /* verilator lint_off LATCH */
  always @*
    if (en_i) q_o = d_i;
  /* verilator lint_on LATCH */
endmodule

// Clock gate: passes the high phases of clk_i that follow a low phase with en_i high.
// Replace by the library's integrated clock-gating cell.
/* verilator lint_off DECLFILENAME */
module halut_clock_gate (
/* verilator lint_on DECLFILENAME */
  input  wire clk_i,
  input  wire en_i,
  output wire gclk_o
);
  reg enable_q;
  /* verilator lint_off LATCH */
  always @*
    if (!clk_i) enable_q = en_i;
  /* verilator lint_on LATCH */
  assign gclk_o = clk_i & enable_q;
endmodule
"""


_SRAM_MODEL = """\
// SRAM: a clock edge with we_i writes a word, one with re_i reads one to q_o, which stays until the
// next read and is undefined after a write. Never both at one edge, so that a macro with one port
// will do, for which we_i chooses the address. Replace by the library's macros.
/* verilator lint_off DECLFILENAME */
module halut_sram #(
/* verilator lint_on DECLFILENAME */
  parameter WORDS = 2,
  parameter WIDTH = 1,
  parameter ADDRESS_BITS = 1
) (
  input  wire                    clk_i,
  input  wire                    we_i,
  input  wire [ADDRESS_BITS-1:0] waddr_i,
  input  wire [WIDTH-1:0]        d_i,
  input  wire                    re_i,
  input  wire [ADDRESS_BITS-1:0] raddr_i,
  output reg  [WIDTH-1:0]        q_o
);
  reg [WIDTH-1:0] words [0:WORDS-1];
  always @(posedge clk_i) begin
    if (we_i) words[waddr_i] <= d_i;
    if (re_i) q_o <= words[raddr_i];
`ifndef SYNTHESIS
    if (we_i) q_o <= {WIDTH{1'bx}};
`endif
  end
endmodule
"""


def sram_model(prefix: str = "") -> str:
    """Verilog of the SRAM, with a prefix to its name."""
    return _SRAM_MODEL.replace("module halut_", f"module {prefix}halut_")


def cell_models(prefix: str = "") -> str:
    """Verilog of latch and clock gate, with a prefix to their names."""
    return _CELL_MODELS.replace("module halut_", f"module {prefix}halut_")


def storage_kind(memory: str, platform: object) -> str:
    """The storage to build for a configuration's `memory`: latches exist in Verilog only."""
    if memory == "latch" and not isinstance(platform, VerilogTarget):
        return "ff"
    return memory


def clock_gate(m: Module, name: str, *, clock: Value, enable: Value) -> Signal:
    """Instantiate a clock gate and return the gated clock, 1 bit."""
    gated = Signal(name=f"{name}_clk")
    m.submodules[name] = Instance("halut_clock_gate", i_clk_i=clock, i_en_i=enable, o_gclk_o=gated)
    return gated


def store_word(m: Module, name: str, kind: str, *, strobe: Value, data: Value) -> Signal:
    """Store `data` when strobed and return the stored word.

    Parameters
    ----------
    kind : {"latch", "ff"}
        For a latch `strobe` is a gated clock, for a flip-flop an enable.
    """
    word = Signal(len(data), name=name, reset_less=True)
    if kind == "latch":
        m.submodules[f"{name}_latch"] = Instance(
            "halut_latch", p_WIDTH=len(data), i_en_i=strobe, i_d_i=data, o_q_o=word
        )
    else:
        with m.If(strobe):
            m.d.sync += word.eq(data)
    return word


def one_hot(
    m: Module, name: str, index: Value, n_lines: int, *, enable: Value | None = None
) -> Signal:
    """Decode `index` to `n_lines` one-hot lines called `name`, all low unless `enable`.

    The two halves of a longer index are decoded first and then combined, line by line.
    """
    lines = Signal(n_lines, name=name)
    half = len(index) // 2
    if n_lines == 1:
        m.d.comb += lines.eq(Const(1, 1) if enable is None else enable)
    elif half == 0:
        both = Cat(~index, index)
        m.d.comb += lines.eq(both if enable is None else both & Cat(enable, enable))
    else:
        low = one_hot(m, f"{name}_low", index[:half], 1 << half)
        high = one_hot(m, f"{name}_high", index[half:], -(-n_lines >> half), enable=enable)
        mask = (1 << half) - 1
        m.d.comb += lines.eq(Cat(low[i & mask] & high[i >> half] for i in range(n_lines)))
    return lines


def equals(value: Value, constant: int) -> Value:
    """Whether `value`, unsigned, is `constant`; True for a value of no bits."""
    bits = [bit if constant >> i & 1 else ~bit for i, bit in enumerate(value)]
    return Cat(bits).all() if bits else Const(1, 1)


def one_hot_select(lines: Value, words: Sequence[Value]) -> Value:
    """Select the word of the high line with an AND-OR network; 0 when no line is high.

    Give all words one width, and lines that are signals: expressions would be built per bit.
    """
    width = max(len(word) for word in words)
    terms = [word & lines[i].replicate(width) for i, word in enumerate(words)]
    while len(terms) > 1:
        pairs = [a | b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + (terms[-1:] if len(terms) % 2 else [])
    return terms[0]
