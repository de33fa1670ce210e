// The write channels of the master: offers stay, bursts keep their limits, words fit their bursts.
//
// Commands, words, readies and abort are free; memory answers only bursts that it has.
module proof #(
  parameter ADDRESS = 32, parameter DATA = 32, parameter SHIFT = 2, parameter BEATS = 4
) (
  input clk, input [7:0] twin, input again,
  input command_valid, input [ADDRESS-1:0] command_address, input [31:0] command_bytes,
  input i_valid, input [DATA-1:0] i_data, input [SHIFT:0] i_bytes, input i_last,
  input awready, input wready, input answers, input [1:0] bresp, input abort,
  output bad_aw_stable, output bad_w_stable, output bad_boundary, output bad_length,
  output bad_aligned, output bad_order, output bad_last, output bad_waits, output bad_abort,
  output bad_reset
);
  reg started = 0;
  always @(posedge clk) started <= 1;
  wire live = started & ~again;
  wire awvalid, wvalid, own_wvalid, own_wlast, bready, i_ready, command_ready, idle, done, failed;
  wire [ADDRESS-1:0] own_awaddr, failed_address;
  wire [7:0] own_awlen;
  wire [DATA-1:0] wdata;
  wire [DATA/8-1:0] wstrb;
  wire [ADDRESS-1:0] awaddr = twin == 3 ? own_awaddr + (1 << SHIFT) : own_awaddr ^ (twin == 5);
  wire [7:0] awlen = twin == 4 ? own_awlen + awready : own_awlen;
  wire wlast = own_wlast ^ (twin == 7);
  assign wvalid = twin == 6 ? own_wvalid | wready : own_wvalid;
  wire b = answers & owed != 0;
  `DUT dut (
    .clk_i(clk), .rst_ni(twin == 10 ? started : live),
    .command_valid(command_valid & command_bytes != 0), .command_ready(command_ready),
    .command_address(command_address), .command_bytes(command_bytes),
    .i_valid(i_valid), .i_ready(i_ready), .i_data(i_data), .i_bytes(i_bytes), .i_last(i_last),
    .awaddr(own_awaddr), .awlen(own_awlen), .awvalid(awvalid),
    .awready(twin == 1 ? 1'b1 : awready),
    .wdata(wdata), .wstrb(wstrb), .wlast(own_wlast), .wvalid(own_wvalid),
    .wready(twin == 2 ? 1'b1 : wready),
    .bresp(bresp), .bvalid(b), .bready(bready),
    .abort(twin == 9 ? 1'b0 : abort), .clear(1'b0), .idle(idle), .done(done),
    .failed(failed), .failed_address(failed_address)
  );
  // A burst whose words are moving; the next begins when its last word moved.
  reg [8:0] left = 0;         // words of it
  reg [3:0] owed = 0;         // bursts that are complete and not answered
  reg aw_waits = 0, w_waits = 0, aborted = 0, offered = 0;
  reg [ADDRESS+7:0] aw_before;
  reg [DATA+DATA/8:0] w_before;
  wire begins = awvalid & ~offered;  // the first cycle of an offer
  wire [8:0] open = begins ? left + awlen + 1 : left;
  wire moved = wvalid & wready;
  always @(posedge clk)
    if (!live) begin
      left <= 0; owed <= 0; aw_waits <= 0; w_waits <= 0; aborted <= 0; offered <= 0;
    end else begin
      left <= open - moved;
      owed <= owed + (moved & wlast) - b;
      offered <= awvalid & ~awready;
      aw_waits <= awvalid & ~awready; aw_before <= {awaddr, awlen};
      w_waits <= wvalid & ~wready; w_before <= {wdata, wstrb, wlast};
      aborted <= abort;
    end
  wire [ADDRESS-1:0] final = awaddr + (awlen << SHIFT);
  assign bad_aw_stable = live & aw_waits & (~awvalid | {awaddr, awlen} != aw_before);
  assign bad_w_stable = live & w_waits & (~wvalid | {wdata, wstrb, wlast} != w_before);
  assign bad_boundary = live & awvalid & (awaddr / (BEATS << SHIFT) != final / (BEATS << SHIFT));
  assign bad_length = live & awvalid & awlen >= BEATS;
  assign bad_aligned = live & awvalid & |awaddr[SHIFT-1:0];
  assign bad_order = live & wvalid & open == 0;
  assign bad_last = live & wvalid & wlast != (open == 1);
  assign bad_waits = live & open != 0 & ~(twin == 8 ? wvalid & wready : wvalid);
  assign bad_abort = live & aborted & begins;
  assign bad_reset = started & ~live & (awvalid | wvalid | i_ready | command_ready);
endmodule
