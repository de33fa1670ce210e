// Several units as one accelerator: every beat of every unit leaves once, in order.
//
// A unit is replaced by one that offers beats whenever it likes and keeps the stream rules. Its
// n-th beat holds the number n, so a beat that is lost, doubled or joined with another one shows.
// A unit that is given a transfer which it did not ask for counts wrongly from then on.
module halut_matmul(
  input clk_i, input rst_ni,
  input i_valid, output i_ready, input [`I_BITS-1:0] i_data,
  output o_valid, input o_ready, output [`O_BITS-1:0] o_data, output o_last,
`ifdef SEVERAL
  output [`INDEX_BITS-1:0] o_index,
`endif
`ifdef BUSY
  input output_busy,
`endif
  input program_valid, output program_ready,
  input [`ADDRESS_BITS-1:0] program_address, input [`DATA_BITS-1:0] program_data
);
  (* anyseq *) wire any_valid, any_ready;
  reg waiting = 0, wrong = 0;
  reg [`O_BITS-1:0] number = 0;
  assign o_valid = waiting | any_valid;
  assign i_ready = any_ready;
  assign program_ready = any_ready;
  assign o_data = number ^ wrong;
  assign o_last = number[0];
`ifdef SEVERAL
  assign o_index = number[`INDEX_BITS-1:0];
`endif
  always @(posedge clk_i)
    if (!rst_ni) begin waiting <= 0; number <= 0; wrong <= 0; end
    else begin
      waiting <= o_valid & ~o_ready;
      if (o_valid & o_ready) number <= number + 1;
      wrong <= wrong | (i_valid & ~i_ready);
    end
endmodule

module proof #(
  parameter PARTS = 1,      // row tiles times output tiles
  parameter TERMS = 2,      // units that are joined
  parameter OUT = 3
) (
  input clk, input [7:0] twin, input again,
  input i_valid, input o_ready,
  output bad_data, output bad_stable, output bad_last
);
  reg started = 0;
  always @(posedge clk) started <= 1;
  wire live = started & ~again;
  wire o_valid, o_last;
  wire [PARTS*OUT-1:0] o_data;
  `DUT dut (
    .clk_i(clk), .rst_ni(live), .i_valid(i_valid),
    .o_valid(o_valid), .o_ready(twin == 1 ? 1'b1 : o_ready), .o_data(o_data),
    .o_last(o_last),
    .program_valid(1'b0));
  reg [`O_BITS-1:0] number = 0;
  always @(posedge clk)
    if (!live) number <= 0;
    else if (o_valid & o_ready) number <= number + 1;
  wire signed [31:0] one = $signed(number);
  wire [OUT-1:0] want = TERMS * one;
  wire [PARTS-1:0] wrong;
  genvar p;
  generate for (p = 0; p < PARTS; p = p + 1) begin : parts
    assign wrong[p] = o_data[p*OUT +: OUT] != want;
  end endgenerate
  assign bad_data = live & o_valid & |wrong;
  assign bad_last = live & o_valid & o_last != (number[0] ^ (twin == 2));
  reg waiting = 0;
  reg [PARTS*OUT:0] shown;
  always @(posedge clk) begin
    waiting <= live & o_valid & ~o_ready;
    shown <= {o_last, o_data};
  end
  assign bad_stable = live & waiting & (~o_valid | {o_last, o_data} != shown);
endmodule
