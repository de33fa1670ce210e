// The output stage sends every transfer once, in order, and obeys the stream rules.
//
// Constants stand still here; what a converter computes is not looked at, only that it stays.
module proof #(
  parameter STAGES = 2, parameter BEATS = 1, parameter BBITS = 1, parameter IN = 8,
  parameter OUT = 8
) (
  input clk, input [7:0] twin, input again,
  input i_valid, input [IN-1:0] i_data, input i_last, input [BBITS-1:0] i_index, input o_ready,
  output bad_ready, output bad_valid, output bad_order, output bad_stable, output bad_busy
);
  reg started = 0;
  always @(posedge clk) started <= 1;
  wire live = started & ~again;

  wire own_ready, own_valid, o_last, busy;
  wire [OUT-1:0] o_data;
  wire [BBITS-1:0] o_index;
  wire i_ready = twin == 1 ? own_ready & o_ready : own_ready;
  wire o_valid = twin == 2 ? own_valid & o_ready : own_valid;
  `DUT dut (
    .clk_i(clk), .rst_ni(live),
    .i_valid(i_valid), .i_ready(own_ready), .i_data(i_data),
    .i_last(twin == 3 ? i_last ^ o_ready : i_last),
`ifdef SEVERAL
    .i_index(i_index), .o_index(o_index),
`endif
`ifdef CONSTANTS
    .busy(busy), .write_enable(1'b0), .write_data(0),
`endif
`ifdef DOUBLE
    .bank(1'b0),
`endif
    .o_valid(own_valid), .o_ready(twin == 4 ? 1'b1 : o_ready), .o_data(o_data), .o_last(o_last));

  // All stages move or none does; the last one holds what is shown.
  reg [STAGES-1:0] full = 0;
  reg [BBITS:0] tag [0:STAGES-1];
  wire move = ~full[STAGES-1] | o_ready;
  genvar s;
  generate for (s = 0; s < STAGES; s = s + 1) begin : stages
    always @(posedge clk)
      if (!live) full[s] <= 0;
      else if (move) begin
        full[s] <= s == 0 ? i_valid : full[s == 0 ? 0 : s-1];
        tag[s] <= s == 0 ? {i_last, i_index} : tag[s == 0 ? 0 : s-1];
      end
  end endgenerate
  assign bad_ready = live & i_ready != move;
  assign bad_valid = live & o_valid != full[STAGES-1];
`ifdef SEVERAL
  wire [BBITS:0] shown_tag = {o_last, o_index};
  wire [BBITS:0] want = tag[STAGES-1];
`else
  wire shown_tag = o_last;
  wire want = tag[STAGES-1][BBITS];
`endif
  assign bad_order = live & full[STAGES-1] & shown_tag != want;
`ifdef CONSTANTS
  assign bad_busy = live & (twin == 5 ? busy & o_ready : busy) != (i_valid | |full);
`else
  assign bad_busy = 0;
`endif
  reg waiting = 0;
  reg [OUT+BBITS:0] shown;
  always @(posedge clk) begin
    waiting <= live & o_valid & ~o_ready;
    shown <= {o_data, shown_tag};
  end
  assign bad_stable = live & waiting & (~o_valid | {o_data, shown_tag} != shown);
endmodule
