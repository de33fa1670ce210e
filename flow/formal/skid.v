// The skid buffer sends every item once, in order, and whether it takes one comes from a register.
module proof #(parameter W = 4) (
  input clk, input [7:0] twin, input again,
  input i_valid, input [W-1:0] i_data, input o_ready,
  output bad_ready, output bad_valid, output bad_data, output bad_stable, output bad_full
);
  reg started = 0;
  always @(posedge clk) started <= 1;
  wire live = started & ~again;

  wire own_ready, own_valid, full_next;
  wire [W-1:0] o_data;
  wire i_ready = twin == 1 ? own_ready | o_ready : own_ready;
  wire o_valid = twin == 2 ? own_valid & o_ready : own_valid;
  `DUT dut (
    .clk_i(clk), .rst_ni(live),
    .i_valid(i_valid), .i_ready(own_ready), .i_data(twin == 3 ? i_data ^ o_ready : i_data),
    .o_valid(own_valid), .o_ready(twin == 4 ? 1'b1 : o_ready), .o_data(o_data),
    .full_next(full_next));

  // What waits: an item that was offered and not taken, at most one.
  reg kept = 0;
  reg [W-1:0] item;
  always @(posedge clk)
    if (!live) kept <= 0;
    else begin
      kept <= (kept | i_valid) & ~o_ready;
      if (!kept) item <= i_data;
    end
  assign bad_ready = live & i_ready != ~kept;
  assign bad_valid = live & o_valid != (kept | i_valid);
  assign bad_data = live & (kept | i_valid) & o_data != (kept ? item : i_data);

  // Said a cycle before.
  reg said = 0;
  always @(posedge clk) said <= live & (twin == 5 ? full_next & i_valid : full_next);
  assign bad_full = live & said == i_ready;

  // The stream's rule, apart from what is sent. The source need not keep what was taken from it.
  reg waiting = 0;
  reg [W-1:0] shown;
  always @(posedge clk) begin
    waiting <= live & o_valid & ~o_ready;
    shown <= o_data;
  end
  assign bad_stable = live & waiting & (~o_valid | o_data != shown);
endmodule
