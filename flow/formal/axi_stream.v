// The stream of results: words leave once, in order; an offer stays; a packet that was cut is ended.
//
// All inputs are free.
module proof #(parameter DATA = 32, parameter N = 4, parameter BITS = 3) (
  input clk, input [7:0] twin, input again,
  input i_valid, input [DATA-1:0] i_data, input [BITS-1:0] i_bytes, input i_last,
  input tready, input abort,
  output bad_stable, output bad_order, output bad_added, output bad_open, output bad_taken,
  output bad_reset
);
  reg started = 0;
  always @(posedge clk) started <= 1;
  wire live = started & ~again;
  wire own_i_ready, tvalid, tlast, own_idle, done;
  wire [DATA-1:0] tdata;
  wire [N-1:0] tkeep;
  wire i_ready = twin == 5 ? own_i_ready | abort : own_i_ready;
  wire idle = twin == 4 ? own_idle | tready : own_idle;
  `DUT dut (
    .clk_i(clk), .rst_ni(twin == 6 ? started : live),
    .i_valid(i_valid), .i_ready(own_i_ready), .i_data(twin == 2 ? i_data ^ tready : i_data),
    .i_bytes(i_bytes), .i_last(i_last),
    .tdata(tdata), .tkeep(tkeep), .tlast(tlast), .tvalid(tvalid),
    .tready(twin == 1 ? 1'b1 : tready),
    .abort(abort), .idle(own_idle), .done(done)
  );
  wire [N-1:0] keep;
  genvar k;
  generate for (k = 0; k < N; k = k + 1) begin : lanes
    assign keep[k] = i_bytes > k;
  end endgenerate

  reg there = 0, open = 0, aborted = 0, waits = 0;  // a word was taken and has not left
  reg [DATA+N:0] word, before;
  wire taken = i_valid & own_i_ready, moved = tvalid & tready;
  wire added = tvalid & ~there;               // the word that ends a packet which was cut
  always @(posedge clk)
    if (!live) begin
      there <= 0; open <= 0; aborted <= 0; waits <= 0;
    end else begin
      if (taken) begin there <= 1; word <= {keep, i_last, i_data}; end
      else if (moved) there <= 0;
      if (moved) open <= ~tlast;
      aborted <= (aborted & tvalid & ~tready) | abort;
      waits <= tvalid & ~tready; before <= {tkeep, tlast, tdata};
    end
  assign bad_stable = live & waits & (~tvalid | {tkeep, tlast, tdata} != before);
  assign bad_order = live & there & (~tvalid | {tkeep, tlast, tdata} != word);
  assign bad_added = live & added & ~(aborted & open & tlast & tkeep == (twin == 3));
  assign bad_open = live & idle & (open | there);
  assign bad_taken = live & abort & i_ready;
  assign bad_reset = started & ~live & (tvalid | i_ready);
endmodule
