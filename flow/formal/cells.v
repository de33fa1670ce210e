// Latches and clock gates as they look at clock edges, for proofs with one clock.
//
// A gate's enable is sampled at a rising edge; the latch is open in the high phase that follows it.
// Its data come from a register, so they stand still then. What is read before the next edge is
// the new value.
module halut_clock_gate(input clk_i, input en_i, output gclk_o);
  reg open;
  always @(posedge clk_i) open <= en_i;
  assign gclk_o = open;
endmodule

module halut_latch #(parameter WIDTH = 1) (
  input en_i, input [WIDTH-1:0] d_i, output [WIDTH-1:0] q_o);
  wire [WIDTH-1:0] held;
  assign q_o = en_i ? d_i : held;
  \$ff #(.WIDTH(WIDTH)) store (.D(q_o), .Q(held));
endmodule
